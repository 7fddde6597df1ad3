"""Sets of images that clients bring, under names of ours."""

from __future__ import annotations

import re
import secrets
import shutil
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from oddsight.data.images import read_header
from oddsight.errors import ImageError, plain
from oddsight.runtime.files import write_bytes
from oddsight.serve.errors import RequestError, not_found
from oddsight.serve.workspace import Workspace

_MOST_SETS = 1_000
_MOST = 100_000
"""Images of all sets together. Their bytes are at most as many as those of the images that are kept besides."""

_CHANGING = threading.Lock()

_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
_OWN_PLACE = re.compile(r"uploads/(?=[0-9a-f]{16})|images/[0-9a-f]{2}/(?=[0-9a-f]{64})")
_OWN_NAME = re.compile(r"(?:([0-9a-f]{16})/)?(\d{6}\.[a-z0-9]{1,5})")


def create(workspace: Workspace) -> str:
    """A new set.

    Raises:
        RequestError: There are too many.
    """
    id = secrets.token_hex(8)
    with workspace.state.write() as change:
        if change.execute("SELECT count(*) FROM uploads").fetchone()[0] >= _MOST_SETS:
            raise RequestError(409, f"there are {_MOST_SETS:,} sets of images: remove some (DELETE /api/uploads/ID)")
        change.execute("INSERT INTO uploads VALUES (?, ?)", (id, time.time()))
    return id


def exists(workspace: Workspace, id: str) -> bool:
    """Whether there is such a set."""
    return workspace.state.row("SELECT 1 FROM uploads WHERE id = ?", id) is not None


def folder(workspace: Workspace, id: str) -> Path:
    """Where the images of a set lie."""
    if not exists(workspace, id):
        raise not_found("such set of images")
    return workspace.place("uploads", id)


def list_sets(workspace: Workspace) -> list[dict[str, Any]]:
    """All sets, the newest first, and which models need them for an update."""
    models: dict[str, list[str]] = {}
    for row in workspace.state.rows("SELECT DISTINCT upload, name FROM models WHERE upload IS NOT NULL ORDER BY name"):
        models.setdefault(row["upload"], []).append(row["name"])
    rows = workspace.state.rows(
        "SELECT u.id, u.created, count(i.file) AS images, coalesce(sum(i.bytes), 0) AS bytes FROM uploads u "
        "LEFT JOIN upload_images i ON i.upload = u.id GROUP BY u.id ORDER BY u.created DESC"
    )
    return [
        {
            "upload": row["id"], "created": row["created"], "count": row["images"], "bytes": row["bytes"],
            "models": models.get(row["id"], []),
        }
        for row in rows
    ]  # fmt: skip


def add(workspace: Workspace, id: str, images: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """Add images to a set; those that are none are refused one by one.

    Raises:
        RequestError: There is no such set, or all sets together are full.
    """
    refused = list[dict[str, str]]()
    for name, content in images:
        try:
            with _CHANGING:
                _add(workspace, id, name, content)
        except ImageError as error:
            refused.append({"name": plain(name)[:300], "error": error.reason})
    count, size = _extent(workspace, id)
    return {"count": count, "bytes": size, "refused": refused}


def _add(workspace: Workspace, id: str, name: str, content: bytes) -> None:
    place = folder(workspace, id)
    count, size = _extent(workspace)
    if count >= _MOST or size + len(content) > workspace.retention.bytes:
        raise RequestError(
            413, f"all sets together have {count:,} images of {size:,} bytes, and there is no room for "
            f"{len(content):,} more: remove a set (DELETE /api/uploads/ID)"
        )  # fmt: skip
    file = _write(place, _extent(workspace, id)[0] + 1, content)
    with workspace.state.write(durable=False) as change:
        values = (id, file, plain(name)[:300], len(content))
        change.execute("INSERT OR REPLACE INTO upload_images VALUES (?, ?, ?, ?)", values)


def _extent(workspace: Workspace, id: str | None = None) -> tuple[int, int]:
    """Number and bytes of the images of a set, or of all."""
    sql = "SELECT count(*), coalesce(sum(bytes), 0) FROM upload_images WHERE :id IS NULL OR upload = :id"
    row = workspace.state.row(sql, {"id": id})
    return (0, 0) if row is None else (row[0], row[1])


def _write(place: Path, number: int, content: bytes) -> str:
    """Write an image under a number that is free, with the ending of its format."""
    part = place / f".{secrets.token_hex(8)}.part"
    write_bytes(part, content)
    try:
        kind = read_header(part).format
        suffix = _SUFFIXES.get(kind, kind.lower())
        while (place / (file := f"{number:06d}.{suffix}")).exists():
            number += 1
        part.rename(place / file)
        return file
    finally:
        part.unlink(missing_ok=True)


def remove(workspace: Workspace, id: str) -> None:
    """Remove a set and its images.

    Raises:
        RequestError: There is no such set.
    """
    place = folder(workspace, id)
    with _CHANGING:
        with workspace.state.write() as change:
            change.execute("DELETE FROM upload_images WHERE upload = ?", (id,))
            change.execute("DELETE FROM uploads WHERE id = ?", (id,))
        shutil.rmtree(place, ignore_errors=True)


def forget(workspace: Workspace) -> None:
    """Remove sets that are older than is to be kept, unless a model needs them for an update."""
    rows = workspace.state.rows(
        "SELECT id FROM uploads WHERE created < ? AND id NOT IN (SELECT upload FROM models WHERE upload IS NOT NULL)",
        workspace.retention.start_of_work(),
    )
    for row in rows:
        remove(workspace, row["id"])


def names(workspace: Workspace, *ids: str) -> dict[str, str]:
    """What clients called the images of sets, by set and our name."""
    return {
        f"{row['upload']}/{row['file']}": row["name"]
        for id in ids
        for row in workspace.state.rows("SELECT upload, file, name FROM upload_images WHERE upload = ?", id)
    }


def translate(value: Any, workspace: Workspace, known: Mapping[str, str], upload: str) -> Any:  # noqa: ANN401 - JSON
    """The same JSON with the names that clients gave to images, and without places on this machine.

    Args:
        value: What a job says.
        workspace: Where it worked.
        known: As :func:`names` gives them.
        upload: The set that names without a set are of.
    """
    if isinstance(value, dict):
        return {key: translate(one, workspace, known, upload) for key, one in value.items()}
    if isinstance(value, list):
        return [translate(one, workspace, known, upload) for one in value]
    if not isinstance(value, str):
        return value
    text = _OWN_PLACE.sub("", value.replace(f"{workspace.folder}/", ""))
    return _OWN_NAME.sub(lambda found: known.get(f"{found[1] or upload}/{found[2]}", found[2]), text)


def translate_error(text: str, workspace: Workspace) -> str:
    """An error with the names that clients gave to images, and without places on this machine."""
    sets = {found[1] for found in _OWN_NAME.finditer(text) if found[1]}
    return str(translate(text, workspace, names(workspace, *sets), ""))
