"""Names of files that are made of images: short, and different wherever the images are."""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from operator import itemgetter
from pathlib import Path

from oddsight.sources.frame import Frame

_UNSAFE = re.compile(r"[^\w .()+,=@~-]")
_LONGEST = 220
"""Bytes of a name, so that an ending fits behind it."""

_WITHIN_LETTERS = bytes(range(0x80, 0xC0))
"""Bytes that no letter of UTF-8 begins with."""


def distinct_names(images: Iterable[Path]) -> dict[str, str]:
    """A name for each image, by its path: that of its file without suffix, or more of its path where several share it.

    Those that share it get as many folders as distinguish them, with the suffix if that alone does, so that every name
    says whose it is: ``good_000`` and ``bent_000``. A name depends on the images, not on their order, and no two are
    the same to a file system that ignores the case of letters.
    """
    groups: dict[str, list[Path]] = {}
    for image in images:
        groups.setdefault(folded_name(image.stem), []).append(image)
    names: dict[str, str] = {}
    taken: set[str] = set()
    # Those that have their name to themselves first: the longer names of others give way.
    for group in sorted(groups.values(), key=len):
        for image, name in zip(group, _short_names(group), strict=True):
            names[str(image)] = _take(name, taken)
    return names


class FileNames:
    """Names of files for the images of a source: those of :func:`distinct_names` where the images are known before.

    Args:
        images: The paths that are known.
    """

    def __init__(self, images: Iterable[Path] = ()) -> None:
        self._known = distinct_names(images)
        self._taken = set(map(folded_name, self._known.values()))

    def of(self, frame: Frame) -> str:
        """A name that no other frame got."""
        if frame.name in self._known:
            return self._known[frame.name]
        last = _UNSAFE.sub("_", Path((frame.name or "image").replace("\\", "/")).stem).strip(". ") or "image"
        return _take(_shortened(last if frame.index is None else f"{last}-{frame.index:06d}"), self._taken)


def _take(name: str, taken: set[str]) -> str:
    """The name, with a number where it is taken."""
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    chosen = next(one for one in itertools.chain([name], numbered) if folded_name(one) not in taken)
    taken.add(folded_name(chosen))
    return chosen


def _short_names(group: Sequence[Path]) -> list[str]:
    """For each path the shortest of its ends, without suffix or with it, that fewest others of a group share."""
    best = [(len(group) + 1, "")] * len(group)
    for depth in range(1, 1 + max(len(image.parts) for image in group)):
        for suffix in (False, True):
            names = [_name(image, depth, suffix) for image in group]
            sharing = Counter(map(folded_name, names))
            found = [(sharing[folded_name(name)], name) for name in names]
            best = [min(pair, key=itemgetter(0)) for pair in zip(best, found, strict=True)]
    return [name for _, name in best]


def _name(image: Path, depth: int, suffix: bool) -> str:
    last = image.name if suffix else image.stem
    parts = [part.strip("/\\:") for part in image.parts[-depth:-1]]
    return _shortened("_".join([*(part for part in parts if part not in ("", ".", "..")), last]))


def _shortened(name: str) -> str:
    """The end of a name that is too long for one of a file."""
    content = os.fsencode(name)
    return name if len(content) <= _LONGEST else os.fsdecode(content[-_LONGEST:].lstrip(_WITHIN_LETTERS))


def folded_name(name: str) -> str:
    """A name in a form that no file system distinguishes further: without case, composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
