"""Fetching CIFAR-10 from its authors' page."""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from pathlib import Path

from oddsight.errors import DataError, OddsightError, plain
from oddsight.runtime.progress import Progress, silent

CIFAR10_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz"
CIFAR10_BYTES = 170_498_071
CIFAR10_MD5 = "c58f30108f718f92721af3b95e74349a"  # As published there
CIFAR10_SHA256 = "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"
"""The checksum of the same file; an MD5 can be forged."""

_BLOCK = 2**18
_PATIENCE = 30.0  # seconds without a byte


def download_cifar10(
    folder: str | os.PathLike[str],
    url: str = CIFAR10_URL,
    *,
    size: int = CIFAR10_BYTES,
    md5: str = CIFAR10_MD5,
    sha256: str = CIFAR10_SHA256,
    progress: Progress = silent,
) -> Path:
    """Fetch the Python version of CIFAR-10 into a folder, unless it is there already.

    Bytes go to a file that ends in ``.part`` until all of them are there and right; a later call goes on where an
    interrupted one ended, if the server can.
    """
    target = Path(folder) / "cifar-10-python.tar.gz"
    part = target.with_name(target.name + ".part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists() and _is_right(target, size, md5, sha256):
            return target
        _fetch(url, part, size, progress)
        if not _is_right(part, size, md5, sha256):
            part.unlink()
            raise DataError(f"the file from {url} is not CIFAR-10, as its size or checksum is wrong: it was removed")
        part.replace(target)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:  # so what is there is no part of it
            part.unlink(missing_ok=True)
        raise OddsightError(f"cannot fetch {url}: the server says {error.code} {plain(str(error.reason))}") from error
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        kept = "; the part that came is kept, and the same command continues" if part.exists() else ""
        raise OddsightError(f"cannot fetch {url}: {_reason(error)}{kept}") from error
    except OSError as error:
        raise OddsightError(f"cannot write {part}: {error.strerror or error}") from error
    return target


def _fetch(url: str, part: Path, size: int, progress: Progress) -> None:
    """Append what is missing. At most one byte too many is taken, which then shows that the file is wrong."""
    have = part.stat().st_size if part.exists() else 0
    if have > size:
        have = 0
    if have == size:
        return
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})  # noqa: S310
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:  # noqa: S310 - the caller's address
        if have and answer.status != http.client.PARTIAL_CONTENT:  # all of it again
            have = 0
        with part.open("ab" if have else "wb") as file:
            while have <= size and (block := answer.read(min(_BLOCK, size + 1 - have))):
                file.write(block)
                have += len(block)
                progress("downloading", have, size)
    if have < size:
        raise ConnectionError(f"the connection ended after {have:,} of {size:,} bytes")


def _is_right(path: Path, size: int, md5: str, sha256: str) -> bool:
    if path.stat().st_size != size:
        return False
    with path.open("rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        file.seek(0)
        return (found, hashlib.file_digest(file, "sha256").hexdigest()) == (md5, sha256)


def _reason(error: Exception) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, TimeoutError):
        return "no answer within half a minute"
    return plain(" ".join(str(getattr(reason, "strerror", None) or reason).split())) or type(error).__name__
