"""A cache of features on disk: limited in size, safe to delete, safe for several processes at once."""

from __future__ import annotations

import io
import math
import os
import re
import threading
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

from oddsight.errors import OddsightError
from oddsight.runtime.files import atomic_write
from oddsight.runtime.records import read_regular

DEFAULT_LIMIT = 4 * 2**30

_HEADER = 2**14  # Bytes that an entry takes beyond its values, at most

_OWN_FOLDER = re.compile("[0-9a-z]{32}")
_OWN_FILE = re.compile(r"[0-9a-f]{64}\.npy|tmp\w+\.part|\.oddsight\.[0-9a-f.]+\.part")


# NumPy reads an array's header as a Python literal, and Python 3.11 may fail when threads do that at once.
_reading_headers = threading.Lock()


class FeatureCache:
    """Arrays by a pair of keys: what computed them, and the image they were computed from.

    Each array is one ``.npy`` file with its CRC-32 behind it, written beside its place and renamed, so that no reader
    sees half of one. Whatever else is in its place (damaged, another kind of file, a pipe) counts as missing and is
    replaced if it can be. The least recently used files go when the limit in bytes is passed.
    """

    def __init__(self, folder: Path, limit: int = DEFAULT_LIMIT) -> None:
        self.folder = folder
        self.limit = limit
        self._added = 0

    def get(self, maker: str, image: str, shape: tuple[int, ...] | None = None) -> NDArray[np.float32] | None:
        """The array, or None; one of another shape than is asked for counts as missing, however large it is."""
        path = self._path(maker, image)
        try:
            content = read_regular(path, self.limit if shape is None else 4 * math.prod(shape) + _HEADER)
            body, check = content[:-4], content[-4:]
            if not body or zlib.crc32(body).to_bytes(4, "big") != check:
                return None
            with _reading_headers:
                array = np.load(io.BytesIO(body), allow_pickle=False)
        except Exception:  # whatever is wrong with an entry, the features can be computed again
            return None
        if not isinstance(array, np.ndarray) or array.dtype != np.float32 or shape not in (None, array.shape):
            return None
        with suppress(OSError):
            os.utime(path)
        return array

    def put(self, maker: str, image: str, array: NDArray[np.float32]) -> None:
        """Keep the array. A cache that cannot be written is no error: the features are computed again."""
        path = self._path(maker, image)
        with suppress(OSError, OddsightError):
            path.parent.mkdir(parents=True, exist_ok=True)
            body = io.BytesIO()
            np.save(body, array, allow_pickle=False)
            # What a failure of power damages counts as missing: not worth waiting for the disk.
            with atomic_write(path, follow_links=False, durable=False) as file:
                file.write(body.getvalue() + zlib.crc32(body.getvalue()).to_bytes(4, "big"))
            self._added += array.nbytes
            if self._added > self.limit // 8:
                self._added = 0
                self.shrink()

    def shrink(self) -> None:
        """Delete the least recently used files until at most nine tenths of the limit are taken."""
        entries = []
        for path in self.folder.glob("*/*"):
            # The folder may be anyone's: only what the cache itself has written may go.
            if _OWN_FOLDER.fullmatch(path.parent.name) and _OWN_FILE.fullmatch(path.name):
                with suppress(OSError):
                    status = path.stat()
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


def user_folder() -> Path | None:
    """Oddsight's folder among the user's caches; None for a user without a home, as containers have them."""
    try:
        folder = platformdirs.user_cache_path("oddsight")
    except (RuntimeError, KeyError):
        return None
    return folder if folder.is_absolute() else None


def default_cache() -> FeatureCache | None:
    """The user's cache, as the environment sets it; None if it is off or the user has no home.

    ``ODDSIGHT_CACHE`` names its folder, or is ``off``; ``ODDSIGHT_CACHE_LIMIT`` is its size in bytes.
    """
    place = os.environ.get("ODDSIGHT_CACHE", "")
    if place.lower() == "off":
        return None
    limit = os.environ.get("ODDSIGHT_CACHE_LIMIT", "")
    own = user_folder()
    if not place and own is None:
        return None
    folder = Path(place) if place or own is None else own / "features"
    return FeatureCache(folder, int(limit) if limit.isdecimal() else DEFAULT_LIMIT)
