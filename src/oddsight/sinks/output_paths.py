"""What may be written where: no output replaces an input, or another output."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import combinations
from pathlib import Path

from oddsight.data.folder import is_passed_over
from oddsight.data.formats import IMAGE_SUFFIXES
from oddsight.errors import OddsightError
from oddsight.model.normals import normals_path
from oddsight.runtime.files import check_writable, is_stream
from oddsight.sinks.image_names import folded_name

Place = str | os.PathLike[str]
Inputs = Mapping[str, Place | Sequence[Place] | None]

_Identity = tuple[int, int]
_Targets = Sequence[tuple[str, Path]]

_NOWHERE = (-1, -1)

_IN_FOLDERS = IMAGE_SUFFIXES | {".geojson", ".npz", ".npy", ".safetensors"}
_NAMED_IN_FOLDERS = frozenset({"network.onnx", "training.json"})
"""What commands write into folders of results and of checkpoints."""


def check_outputs(
    files: Mapping[str, Path | Sequence[Path] | None],
    *,
    images: Mapping[str, Path | None] | None = None,
    folders: Mapping[str, Path | None] | None = None,
    inputs: Inputs | None = None,
    data: Inputs | None = None,
) -> None:
    """Find out before any work whether all outputs can be written, and that none replaces an input or another output.

    Files are the same whatever they are called: by links, hard links, ``..`` or, where the file system ignores it, the
    case of letters. Two outputs differ by more than case and Unicode form everywhere, so that results can be copied to
    any system. An output may lie in a folder of inputs, unless it would be read there by the next run.

    Args:
        files: Files to write, by the options that name them; ``-`` is standard output, for ``--json`` only.
        images: Folders to write images into, by what they show.
        folders: Folders to write other files into, by what is written there.
        inputs: What is read, by the arguments that name it: files, folders and globs of images.
        data: What is read, where any file of a folder may be a part of it: labelled images in packed forms.

    Raises:
        OddsightError: If an output is an input or another output, or cannot be written.
    """
    named = [(option, name) for option, given in files.items() for name in _listed(given)]
    for option, name in named:
        if name == "-" and option != "--json":
            raise OddsightError(f"{option} cannot be written to standard output: name a file")
    written = [(option, Path(name)) for option, name in named if name != "-"]
    targets = [(option, path) for option, path in written if not _is_stream(path)]
    image_folders = {what: folder for what, folder in (images or {}).items() if folder is not None}
    places = image_folders | {what: folder for what, folder in (folders or {}).items() if folder is not None}
    _check_apart(targets, places)
    for sources, suffixes in ((inputs or {}, IMAGE_SUFFIXES), (data or {}, None)):
        for name, given in sources.items():
            _check_patterns(image_folders, given)
            for source in _expanded(given):
                _check_folders(places, image_folders, source)
                _check_input(targets, name, source, suffixes)
    for _, path in written:
        if not any(_is_in(path, folder) for folder in places.values()):  # which is made later
            check_writable(path)


def model_files(model: Path) -> Inputs:
    """What is read of a model, as ``inputs`` of :func:`check_outputs`: its file, and the small copies beside it."""
    return {"MODEL": model, "MODEL's small copies": normals_path(model)}


def _is_stream(path: Path) -> bool:
    try:
        return is_stream(path)
    except OSError:  # which check_writable says better
        return False


def _listed(given: Place | Sequence[Place] | None) -> list[str]:
    """The paths of an option or an argument."""
    if given is None:
        return []
    return [os.fsdecode(one) for one in ([given] if isinstance(given, str | os.PathLike) else given)]


def _expanded(given: Place | Sequence[Place] | None) -> Iterator[str]:
    """The paths of an argument, with what patterns match."""
    for name in _listed(given):
        if glob.has_magic(name) and not os.path.lexists(name):
            yield from glob.iglob(name, recursive=True)  # noqa: PTH207 - keeps unusual names
        else:
            yield name


def _check_apart(targets: _Targets, places: Mapping[str, Path]) -> None:
    """Refuse files that are written twice, and those that a folder's own could replace."""
    for (option, path), (other, second) in combinations(targets, 2):
        if _spot(path) == _spot(second) or _same(path, second):
            raise OddsightError(f"{option} and {other} cannot both be written to {path}: name two files")
    for (what, first), (other, last) in combinations(places.items(), 2):
        if _spot(first) == _spot(last) and first.name != last.name and not _same(first, last):
            raise OddsightError(f"{what} and {other} cannot be written to {first} and {last}: name two folders")
    for option, path in targets:
        reserved = path.suffix.lower() in _IN_FOLDERS or path.name in _NAMED_IN_FOLDERS
        for what, folder in places.items():
            if _spot(path) == _spot(folder):
                raise OddsightError(f"{option} and {what} cannot both be written to {path}: name a file and a folder")
            if reserved and _is_in(path, folder):
                raise OddsightError(f"{option} {path} could be replaced by {what} in {folder}: name a file elsewhere")


def _check_folders(places: Mapping[str, Path], images: Mapping[str, Path], source: str) -> None:
    """Refuse a folder of outputs that is an input, and one of images that the next run would find in it."""
    for what, folder in places.items():
        if _same(folder, source):
            reason = "they could replace the images there" if os.path.isdir(source) else "it is an input"  # noqa: PTH112
            raise OddsightError(f"cannot write {what} into {folder}: {reason}")
    for what, folder in images.items():
        if os.path.isdir(source) and _is_found_in(folder, source):  # noqa: PTH112
            raise OddsightError(
                f"cannot write {what} into {folder}: it lies in {source}, where they would be read as images the next "
                "time; name a folder elsewhere"
            )


def _check_patterns(images: Mapping[str, Path], given: Place | Sequence[Place] | None) -> None:
    """Refuse a folder of images that a pattern among the inputs would match the next time."""
    for pattern in filter(glob.has_magic, _listed(given)):
        matches = [] if os.path.lexists(pattern) else glob.glob(pattern, recursive=True)  # noqa: PTH207
        names = {f"{Path(match).stem}.png" for match in matches if not os.path.isdir(match)}  # noqa: PTH112
        for what, folder in images.items():
            if any(_matches(_parts(folder / name), _parts(Path(pattern))) for name in names):
                raise OddsightError(
                    f"cannot write {what} into {folder}: {pattern} would match them, so that they would be read as "
                    "images the next time; name a folder elsewhere"
                )


def _parts(path: Path) -> tuple[str, ...]:
    return Path(os.path.abspath(path)).parts  # noqa: PTH100 - without following links


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...]) -> bool:
    """Whether a path matches a pattern, in which ``**`` stands for any number of folders that are not hidden."""
    if not parts or not pattern:
        return not parts and set(pattern) <= {"**"}
    if pattern[0] == "**":
        return _matches(parts, pattern[1:]) or (not parts[0].startswith(".") and _matches(parts[1:], pattern))
    return fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _is_found_in(folder: Path, source: str) -> bool:
    """Whether a folder is, or would be, one that is searched where ``source`` is, however deep."""
    real = Path(os.path.realpath(folder))
    above = next((parent for parent in real.parents if _same(parent, source)), None)
    return above is not None and not any(is_passed_over(part) for part in real.relative_to(above).parts)


def _check_input(targets: _Targets, name: str, source: str, suffixes: frozenset[str] | None) -> None:
    """Refuse outputs that are an input, or one of the files that are read in a folder, those with these suffixes."""
    there = {identity: target for target in targets if (identity := _identity(target[1])) is not None}
    images = {_spot(target[1])[0]: target for target in targets if target[1].suffix.lower() in IMAGE_SUFFIXES}
    if not os.path.isdir(source):  # noqa: PTH112
        _refuse(there.get(_identity(source) or _NOWHERE), name, source)
    elif there or images:
        for folder, files in _folders_below(source):
            for identity in files.keys() & there.keys():
                file = files[identity]
                if suffixes is None or os.path.splitext(file)[1].lower() in suffixes:  # noqa: PTH122
                    _refuse(there[identity], name, file)
            if folder in images:
                option, path = images[folder]
                raise OddsightError(
                    f"{option} {path} lies among the images of {name} {source}, where it would be read as one: "
                    "name a file elsewhere"
                )


def _refuse(target: tuple[str, Path] | None, name: str, source: str) -> None:
    if target is not None:
        option, path = target
        raise OddsightError(f"{option} {path} would replace an input, {name} {source}: name another file")


def _folders_below(root: str) -> Iterator[tuple[_Identity, dict[_Identity, str]]]:
    """A folder and all below it, links followed, with the files in each; what cannot be looked into is left out."""
    waiting, seen = [root], set[_Identity]()
    while waiting:
        folder = waiting.pop()
        own = _identity(folder)
        if own is None or own in seen:
            continue
        seen.add(own)
        files: dict[_Identity, str] = {}
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir():
                        waiting.append(entry.path)
                    elif entry.is_symlink():
                        files[_identity(entry.path) or _NOWHERE] = entry.path
                    else:
                        files[own[0], entry.inode()] = entry.path
        except OSError:
            pass
        yield own, files


def _spot(path: Place) -> tuple[object, str]:
    """Where a file is or would be: its folder, and its name in a form that no file system distinguishes further."""
    folder, name = os.path.split(os.path.realpath(path))
    return _identity(folder) or folder, folded_name(name)


def _is_in(path: Path, folder: Path) -> bool:
    """Whether a file is, or would be, directly in a folder."""
    return _spot(path)[0] == (_identity(folder) or os.path.realpath(folder))


def _same(path: Place, other: Place) -> bool:
    identity = _identity(path)
    return identity is not None and identity == _identity(other)


def _identity(path: Place) -> _Identity | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
