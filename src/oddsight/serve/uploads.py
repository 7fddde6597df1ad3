"""Sets of images that clients bring, under names of ours."""

from __future__ import annotations

import re
import secrets
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

_MOST = 20_000
"""Images of a set."""

_NUMBERING = threading.Lock()

_SUFFIXES = {"JPEG": "jpg", "MPO": "jpg", "TIFF": "tif", "JPEG2000": "jp2"}
_OWN_PLACE = re.compile(r"uploads/(?=[0-9a-f]{16})|images/[0-9a-f]{2}/(?=[0-9a-f]{64})")
_OWN_NAME = re.compile(r"(?:([0-9a-f]{16})/)?(\d{6}\.[a-z0-9]{1,5})")


def create(workspace: Workspace) -> str:
    """A new set."""
    id = secrets.token_hex(8)
    with workspace.state.write() as change:
        change.execute("INSERT INTO uploads VALUES (?, ?)", (id, time.time()))
    return id


def folder(workspace: Workspace, id: str) -> Path:
    """Where the images of a set lie."""
    if workspace.state.row("SELECT 1 FROM uploads WHERE id = ?", id) is None:
        raise not_found("such set of images")
    return workspace.place("uploads", id)


def add(workspace: Workspace, id: str, images: Iterable[tuple[str, bytes]]) -> dict[str, Any]:
    """Add images to a set; those that are none are refused one by one."""
    place, refused = folder(workspace, id), list[dict[str, str]]()
    count, size = _extent(workspace, id)
    for name, content in images:
        if count >= _MOST or size + len(content) > workspace.retention.bytes:
            raise RequestError(413, f"the set is full: it has {count:,} images of {size:,} bytes")
        try:
            file = _write(place, count + len(refused) + 1, content)
        except ImageError as error:
            refused.append({"name": plain(name)[:300], "error": error.reason})
            continue
        with workspace.state.write(durable=False) as change:
            values = (id, file, plain(name)[:300], len(content))
            change.execute("INSERT OR REPLACE INTO upload_images VALUES (?, ?, ?, ?)", values)
        count, size = count + 1, size + len(content)
    return {"count": count, "bytes": size, "refused": refused}


def _extent(workspace: Workspace, id: str) -> tuple[int, int]:
    row = workspace.state.row("SELECT count(*), coalesce(sum(bytes), 0) FROM upload_images WHERE upload = ?", id)
    return (0, 0) if row is None else (row[0], row[1])


def _write(place: Path, number: int, content: bytes) -> str:
    """Write an image under a number that is free, with the ending of its format."""
    part = place / f".{secrets.token_hex(8)}.part"
    write_bytes(part, content)
    try:
        kind = read_header(part).format
        with _NUMBERING:
            while any(place.glob(f"{number:06d}.*")):
                number += 1
            file = f"{number:06d}.{_SUFFIXES.get(kind, kind.lower())}"
            part.rename(place / file)
        return file
    finally:
        part.unlink(missing_ok=True)


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
