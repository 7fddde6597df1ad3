"""A workspace: the folder in which a service keeps models, images, answers and jobs."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from oddsight.errors import OddsightError
from oddsight.runtime.files import lock_folder, make_folder, write_bytes
from oddsight.serve.state import Database

_DIGEST = re.compile(r"[0-9a-f]{64}")

_UNASKED = """
SELECT content, bytes, time FROM images
WHERE content NOT IN (SELECT content FROM results WHERE id IN (SELECT id FROM asked)) ORDER BY time
"""


@dataclass(frozen=True)
class Retention:
    """How long images and results are kept.

    Attributes:
        days: After which a result goes, and its image; those with an answer stay.
        bytes: Of all images; the oldest go first.
    """

    days: float = 90.0
    bytes: int = 10 * 2**30

    def start_of_work(self) -> float:
        """Since when sets of images and jobs are kept: a day at least, as somebody may still need them."""
        return time.time() - 86400 * max(self.days, 1.0)


class Workspace:
    """The folder of a service; see :func:`open_workspace`."""

    def __init__(self, folder: Path, retention: Retention) -> None:
        self.folder, self.retention = folder, retention
        self.state = Database(folder / "state.sqlite")

    def place(self, *parts: str) -> Path:
        """A folder inside, which is made."""
        folder = self.folder.joinpath(*parts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def keep(self, content: bytes) -> str | None:
        """Keep an image by its content; None if there is no room for it."""
        digest = hashlib.sha256(content).hexdigest()
        path = self._path(digest)
        if not path.exists():
            if self.bytes_kept() + len(content) > self.retention.bytes:
                self.forget()
                if self.bytes_kept() + len(content) > self.retention.bytes:
                    return None
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, content)
        with self.state.write(durable=False) as change:
            if not path.exists():  # It was forgotten just now
                return None
            change.execute("INSERT OR REPLACE INTO images VALUES (?, ?, ?)", (digest, len(content), time.time()))
        return digest

    def image(self, digest: str) -> bytes | None:
        """An image that is kept."""
        with suppress(FileNotFoundError):
            return self._path(digest).read_bytes() if _DIGEST.fullmatch(digest) else None
        return None

    def path(self, digest: str) -> Path | None:
        """The file of an image that is kept."""
        path = self._path(digest)
        return path if _DIGEST.fullmatch(digest) and path.is_file() else None

    def bytes_kept(self) -> int:
        """Of all images."""
        row = self.state.row("SELECT coalesce(sum(bytes), 0) FROM images")
        return int(row[0]) if row is not None else 0

    def forget(self) -> int:
        """Remove what is older than is to be kept, and more of the oldest images than is too much; how many images.

        What was answered about stays.
        """
        oldest, gone = time.time() - 86400 * self.retention.days, list[str]()
        with self.state.write() as change:
            past = "FROM results WHERE time < ? AND id NOT IN (SELECT id FROM asked)"
            # Those that stay were picked, so nothing from before is drawn any more.
            until = change.execute(f"SELECT coalesce(max(time), 0) {past}", (oldest,)).fetchone()[0]
            change.execute(f"DELETE {past}", (oldest,))
            rows = change.execute(_UNASKED).fetchall()
            left = self.bytes_kept()
            for row in rows:
                if row["time"] >= oldest and left <= 0.9 * self.retention.bytes:
                    break
                gone.append(str(row["content"]))
                left, until = left - row["bytes"], max(until, row["time"])
            change.executemany("DELETE FROM images WHERE content = ?", [(content,) for content in gone])
            change.execute("UPDATE horizon SET time = max(time, ?)", (until,))
            for content in gone:
                self._path(content).unlink(missing_ok=True)
        return len(gone)

    def _path(self, digest: str) -> Path:
        return self.folder / "images" / digest[:2] / digest


@contextmanager
def open_workspace(folder: Path, retention: Retention | None = None) -> Iterator[Workspace]:
    """Open a workspace, which is made if it is missing, for this process alone.

    Raises:
        OddsightError: Another service uses it, it is of a newer version, or it cannot be written.
    """
    make_folder(folder)
    with lock_folder(folder) as free:
        if not free:
            raise OddsightError(f"{folder}: another service uses this workspace: stop it, or name another folder")
        workspace = Workspace(folder, retention or Retention())
        try:
            yield workspace
        finally:
            workspace.state.close()
