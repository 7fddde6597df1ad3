"""Which images belong together, such as photos of one part: they are never on both sides of a split."""

from __future__ import annotations

import csv
import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import TypeVar

import numpy as np

from oddsight.data.collection import ImageFile
from oddsight.data.near_copies import near_copies, sketch
from oddsight.errors import DataError
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent, track
from oddsight.runtime.records import read_table

Groups = str | os.PathLike[str] | Mapping[str, Hashable] | Callable[[str], Hashable] | Sequence[Hashable]
"""How images are grouped:

- ``auto``: near copies are found, see :func:`oddsight.data.near_copies.near_copies`;
- ``none``: every image stands alone;
- a regular expression with one pair of brackets, which is searched in the path (with forward slashes): what the
  brackets match is the group, such as ``(part[0-9]+)_shot``;
- the path of a CSV file (``.csv``) with the columns ``path`` (or ``file``) and ``group``;
- a mapping from paths to groups, or a function of the path;
- a sequence or an array with the group of each path, where every path given is that of a file.

Paths in a CSV file or a mapping may be the last parts of the real ones: ``0001.png`` or ``part-7/0001.png``."""

AUTO = "auto"
NONE = "none"

_Image = TypeVar("_Image", bound=ImageFile)
_COLUMNS = ("path", "file")


def group_images(
    images: Sequence[_Image],
    groups: Groups = AUTO,
    *,
    names: Sequence[str] = (),
    progress: Progress = silent,
) -> tuple[_Image, ...]:
    """The same images, each with its group.

    Args:
        images: Distinct ones.
        groups: See :data:`Groups`.
        names: Paths, or names of images in memory, that a sequence of groups belongs to, one by one.
        progress: Called with phase, done and total.
    """
    if isinstance(groups, str) and groups == NONE:
        return tuple(replace(image, group="", sketch=b"") for image in images)
    if isinstance(groups, str) and groups == AUTO:
        return _near(images, progress)
    name_of = _lookup(groups, names)
    return tuple(
        replace(image, group=_text(name_of(posix_name(image.path)), image.path), sketch=b"") for image in images
    )


def _near(images: Sequence[_Image], progress: Progress) -> tuple[_Image, ...]:
    sketches = ordered_map(lambda image: image.sketch or sketch(image.read()), images)
    phase = "looking for near copies"
    labels = near_copies([*track(sketches, phase, len(images), progress)]).tolist()
    sizes = Counter(labels)
    return tuple(
        replace(image, group=images[label].content if sizes[label] > 1 else "", sketch=b"")
        for image, label in zip(images, labels, strict=True)
    )


def _text(group: Hashable, path: Path) -> str:
    if group is None or group == "" or group != group:  # noqa: PLR0124 - NaN, where a table has a gap
        raise DataError(f"{path} has no group: give it one, or leave the image out")
    return str(group)


def posix_name(path: str | os.PathLike[str]) -> str:
    """A path as groups of images are looked up."""
    return PurePath(path).as_posix()


def _lookup(groups: Groups, names: Sequence[str]) -> Callable[[str], Hashable]:
    """From a path with forward slashes to its group, or None."""
    if isinstance(groups, os.PathLike) or (isinstance(groups, str) and groups.lower().endswith(".csv")):
        return _by_ending(_read_csv(Path(groups)), os.fspath(groups))
    if isinstance(groups, str):
        return _by_pattern(groups)
    if isinstance(groups, Mapping):
        return _by_ending({posix_name(path): group for path, group in groups.items()}, "the mapping of groups")
    if callable(groups):
        return groups
    if isinstance(groups, np.ndarray):
        groups = groups.tolist()
    if not isinstance(groups, Sequence):
        raise DataError(f"groups cannot be a {type(groups).__name__}: give a pattern, a mapping, a function or a list")
    if len(groups) != len(names) or any(map(os.path.isdir, names)):
        raise DataError(
            f"a list of groups goes with as many images, not folders: there are {len(groups):,} groups and "
            f"{len(names):,} images"
        )
    known: dict[str, Hashable] = {}
    for name, group in zip(names, groups, strict=True):
        known.setdefault(posix_name(name), group)
    return known.get


def _by_pattern(pattern: str) -> Callable[[str], Hashable]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"the pattern for groups, {pattern!r}, is not a regular expression: {error}") from error
    if compiled.groups != 1:
        raise DataError(
            f"the pattern for groups, {pattern!r}, has {compiled.groups} pairs of brackets: put one around what names "
            "the group, as in '(part[0-9]+)_shot'"
        )

    def find(path: str) -> str:
        match = compiled.search(path)
        if match is None or not match[1]:
            raise DataError(f"the pattern for groups, {pattern!r}, finds no group in {path}")
        return match[1]

    return find


def _by_ending(known: Mapping[str, Hashable], where: str) -> Callable[[str], Hashable]:
    """Find paths by their longest ending that is known; refuse an ending that two images share."""
    used: dict[str, str] = {}

    def find(path: str) -> Hashable:
        parts = PurePath(os.path.abspath(path)).parts  # noqa: PTH100 - without following links
        endings = [path, *(PurePath(*parts[start:]).as_posix() for start in range(len(parts)))]
        ending = next((one for one in endings if one in known), None)
        if ending is None:
            raise DataError(f"{where} has no group for {path}: add it, or leave the image out")
        if used.setdefault(ending, path) != path:
            raise DataError(f"{where}: {ending} may be {used[ending]} or {path}: write more of the path")
        return known[ending]

    return find


def _read_csv(path: Path) -> dict[str, str]:
    """Groups by path."""
    with read_table(path) as file:
        reader = csv.DictReader(file)
        column = next((name for name in _COLUMNS if name in (reader.fieldnames or ())), None)
        if column is None or "group" not in (reader.fieldnames or ()):
            raise DataError(f"{path} has no columns 'path' and 'group': its first line must name them")
        found: dict[str, str] = {}
        for row in reader:
            name, group = posix_name((row[column] or "").strip()), (row["group"] or "").strip()
            if found.setdefault(name, group) != group:
                raise DataError(f"{path} has two groups for {name}: {found[name]} and {group}")
        return found
