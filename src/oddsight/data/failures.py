"""What is said of files that cannot be read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from oddsight.errors import ImageError, OddsightError

_NOT_READ = re.compile(
    "unsupported|not supported|cannot handle|unable to determine|not installed|unknown", re.IGNORECASE
)
"""In what Pillow says of files that are intact, but of a kind that it does not read."""


@contextmanager
def name_failures(name: str, max_pixels: int | None = None) -> Iterator[None]:
    """Have whatever fails in the block leave it as an :class:`ImageError` with that name."""
    try:
        yield
    except OddsightError:
        raise
    # Pillow's decoders raise nearly every built-in exception on damaged files.
    except Exception as error:
        raise ImageError(name, _reason(error, max_pixels)) from error


def _reason(error: Exception, max_pixels: int | None) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, PermissionError):
        return "permission denied"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be read: {error.strerror}"
    if isinstance(error, MemoryError):
        return "not enough memory to decode it"
    if isinstance(error, Image.DecompressionBombError):
        limits = [limit for limit in (max_pixels, 2 * (Image.MAX_IMAGE_PIXELS or 0)) if limit]
        return f"its pixels are more than the limit of {min(limits, default=0):,}"
    message = "".join(letter if letter.isprintable() else " " for letter in str(error))
    message = " ".join(message.split())[:120] or type(error).__name__
    return f"{'of a kind that is not read' if _NOT_READ.search(message) else 'truncated or damaged'}: {message}"
