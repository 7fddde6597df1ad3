"""Finding images: files, folders and glob patterns become one list in an order that is the same everywhere."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from pathlib import Path

from oddsight.data.formats import IMAGE_SUFFIXES
from oddsight.errors import DataError, ImageError, OddsightError

_IGNORED_FOLDERS = frozenset({"__MACOSX"})


@dataclass(frozen=True)
class Found:
    """What :func:`find_images` came upon."""

    # The images: as the paths were given, and within each folder or pattern by the bytes of their paths
    images: tuple[Path, ...]
    # How many entries of folders and matches of patterns were passed over: files without an image suffix, hidden files,
    # and hidden and `__MACOSX` folders (one each, whatever they hold)
    ignored: int
    # What was named but is not there, matches nothing, or cannot be looked into; of several paths also those that led
    # to no image
    problems: tuple[ImageError, ...]


def find_images(*paths: str | os.PathLike[str]) -> Found:
    """Find the images that paths name.

    Each path may be a file, which counts as an image whatever its suffix; a folder, which is searched with all its
    sub-folders for the suffixes in :data:`~oddsight.data.formats.IMAGE_SUFFIXES`; or, if no file or folder has exactly
    that name, a glob pattern, in which ``**`` stands for any number of folders. Links are followed. A file that is
    named twice and a folder that can be reached twice count once; within a folder that is searched, by the real
    name rather than a link's.

    Files are not opened. Nothing is raised for what cannot be found: it is listed in :attr:`Found.problems`.
    """
    search = _Search()
    for path in paths:
        if not isinstance(path, str | bytes | os.PathLike):
            raise DataError(f"images are given by paths, not by a {type(path).__name__}")
        name = os.fsdecode(path)
        search.folders.clear()
        before = search.reached, len(search.ignored), len(search.problems)
        if os.path.isdir(name):  # noqa: PTH112 - Path("") would be the current folder
            search.walk(name)
        elif os.path.lexists(name):
            search.add(name, explicit=True)
        elif glob.has_magic(name):
            search.expand(name)
        else:
            search.problem(name, "no such file or folder")
        if len(paths) > 1 and (search.reached, len(search.problems)) == (before[0], before[2]):
            search.problem(name, f"no images there{others_ignored(len(search.ignored) - before[1])}")
    return Found(tuple(search.images.values()), len(search.ignored), tuple(search.problems.values()))


def as_path(value: object, what: str) -> Path:
    """A path that was given."""
    if not isinstance(value, str | os.PathLike):
        raise OddsightError(f"{what} is given as a path, not as a {type(value).__name__}")
    return Path(value)


def is_image_file(path: Path) -> bool:
    """Whether a path looks like an image by its name and is no folder; hidden files, as macOS leaves them, do not."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and not path.is_dir()


def is_passed_over(name: str) -> bool:
    """Whether a folder of that name is not searched where it lies in one that is."""
    return name.startswith(".") or name in _IGNORED_FOLDERS


def others_ignored(count: int) -> str:
    """How many other files are ignored, in parentheses after a space; nothing if there are none."""
    return f" ({count:,} other file{' is' if count == 1 else 's are'} ignored)" if count else ""


def empty_folders(folder: Path) -> list[ImageError]:
    """The folders in a folder that hold no file at all, not even in a folder of theirs, each as a problem."""
    entries = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return [ImageError(str(path), "an empty folder") for path in entries if not _holds_anything(path)]


def _holds_anything(folder: Path) -> bool:
    """Whether a file or a link lies in the folder or below it; what cannot be read is not known to be empty."""
    try:
        for place, below, files in os.walk(folder, onerror=_raised):
            if files or any(Path(place, name).is_symlink() for name in below):
                return True
    except OSError:
        return True
    return False


def _raised(error: OSError) -> None:
    raise error


@dataclass
class _Search:
    """A search under way. Dictionaries keep the order; their keys distinguish entries."""

    images: dict[str, Path] = field(default_factory=dict)
    ignored: set[str] = field(default_factory=set)
    problems: dict[str, ImageError] = field(default_factory=dict)
    folders: set[tuple[int, int]] = field(default_factory=set)
    real_parents: dict[str, str] = field(default_factory=dict)
    reached: int = 0  # images that paths led to, those that other paths had led to before included

    def problem(self, name: str, reason: str) -> None:
        self.problems.setdefault(name, ImageError(name, reason))

    def add(self, name: str, *, explicit: bool = False) -> None:
        """Take, pass over or complain of one entry that is not a folder."""
        path = Path(name)
        # A link to a file is an entry of its own; a file in a linked folder is the file in the real one.
        parent = str(path.parent)
        if parent not in self.real_parents:
            self.real_parents[parent] = os.path.realpath(parent)
        identity = os.path.join(self.real_parents[parent], path.name)  # noqa: PTH118
        if not explicit and (path.name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES):
            if identity not in self.images:
                self.ignored.add(identity)
        elif not os.path.exists(name):  # noqa: PTH110 - Path.exists raises on a link to itself
            self.problem(name, "a link to a file that does not exist")
        else:
            self.reached += 1
            self.images.setdefault(identity, path)
            self.ignored.discard(identity)

    def expand(self, pattern: str) -> None:
        """Search all that a glob pattern matches."""
        matches = sorted(glob.glob(pattern, recursive=True), key=_path_bytes)  # noqa: PTH207 - keeps unusual names
        if not matches:
            self.problem(pattern, "no file matches this pattern")
        named = Path(pattern).parts
        for match in matches:
            parts = Path(match).parts
            ignored = [depth for depth, part in enumerate(parts, 1) if part in _IGNORED_FOLDERS and part not in named]
            if ignored:
                self.ignored.add(os.path.realpath(Path(*parts[: ignored[0]])))
            elif os.path.isdir(match):  # noqa: PTH112
                self.walk(match)
            else:
                self.add(match)

    def walk(self, root: str) -> None:
        """Search a folder with all below it: real folders before linked ones, so that real names win."""
        names: list[str] = []
        folders, links = [root], list[str]()
        while folders or links:
            folder = folders.pop() if folders else links.pop(0)
            try:
                status = os.stat(folder)  # noqa: PTH116
                if (status.st_dev, status.st_ino) in self.folders:
                    continue
                self.folders.add((status.st_dev, status.st_ino))
                with os.scandir(folder) as listing:
                    entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
            except OSError as error:
                self.problem(folder, f"the folder cannot be read: {error.strerror}")
                continue
            for entry in entries:
                if not os.path.isdir(entry.path):  # noqa: PTH112 - never raises, unlike entry.is_dir
                    names.append(entry.path)
                elif is_passed_over(entry.name):
                    self.ignored.add(os.path.realpath(entry.path))
                elif entry.is_symlink():
                    links.append(entry.path)
                else:
                    folders.append(entry.path)
        for name in sorted(names, key=_path_bytes):
            self.add(name)


def _path_bytes(name: str) -> bytes:
    return os.fsencode(name.replace(os.sep, "/"))
