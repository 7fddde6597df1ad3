"""A cache of features on disk: limited in size, safe to delete, safe for several processes at once."""

from __future__ import annotations

import io
import os
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

DEFAULT_LIMIT = 4 * 2**30


class FeatureCache:
    """Arrays by a pair of keys: what computed them, and the image they were computed from.

    Each array is one ``.npy`` file, written beside its place and renamed, so that no reader sees half of one. A file
    that cannot be read counts as missing. The least recently used files go when the limit is passed.

    Args:
        folder: Where; created when needed.
        limit: Bytes.
    """

    def __init__(self, folder: Path, limit: int = DEFAULT_LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self._added = 0

    def get(self, maker: str, image: str) -> NDArray[np.float32] | None:
        """The array, or None."""
        path = self._path(maker, image)
        try:
            content = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        with suppress(ValueError, EOFError, OSError):
            array = np.load(io.BytesIO(content), allow_pickle=False)
            if array.dtype == np.float32:
                return np.asarray(array, np.float32)
        return None

    def put(self, maker: str, image: str, array: NDArray[np.float32]) -> None:
        """Keep the array. A cache that cannot be written is no error: the features are computed again."""
        path = self._path(maker, image)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(suffix=".part", dir=path.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    np.save(file, array, allow_pickle=False)
                os.replace(temporary, path)  # noqa: PTH105
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            self._added += array.nbytes
            if self._added > self.limit // 8:
                self._added = 0
                self.shrink()

    def shrink(self) -> None:
        """Delete the least recently used files until at most nine tenths of the limit are taken."""
        entries = []
        for path in self.folder.rglob("*"):
            with suppress(OSError):
                status = path.stat()
                if path.is_file():
                    entries.append((status.st_mtime_ns, status.st_size, path))
        total = sum(size for _, size, _ in entries)
        if total <= self.limit:
            return
        for _, size, path in sorted(entries):
            if total <= 0.9 * self.limit:
                break
            with suppress(OSError):
                path.unlink()
                total -= size

    def _path(self, maker: str, image: str) -> Path:
        return self.folder / maker[:32] / f"{image}.npy"


def default_cache() -> FeatureCache | None:
    """The user's cache, as the environment sets it.

    ``ODDSIGHT_CACHE`` names its folder, or is ``off``; ``ODDSIGHT_CACHE_LIMIT`` is its size in bytes.
    """
    place = os.environ.get("ODDSIGHT_CACHE", "")
    if place.lower() == "off":
        return None
    limit = os.environ.get("ODDSIGHT_CACHE_LIMIT", "")
    folder = Path(place) if place else platformdirs.user_cache_path("oddsight") / "features"
    return FeatureCache(folder, int(limit) if limit.isdecimal() else DEFAULT_LIMIT)
