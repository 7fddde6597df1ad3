"""Labelled images for evaluation: which are normal, which anomalous and how, and where their masks are."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from oddsight.data.folder import Found, empty_folders, find_images, others_ignored
from oddsight.data.masks import MaskFiles, match_masks
from oddsight.errors import DataError, ImageError


@dataclass(frozen=True)
class LabelledFile:
    """The file of an image with the truth about it."""

    path: Path  # The image
    kind: str | None  # The type of anomaly, or None if it is normal
    mask: Path | None = None  # Its mask, or None: a file, or a folder with the parts of one mask


@dataclass(frozen=True)
class LabelledFiles:
    """Files of images to test on, normal ones first, and what was not found."""

    images: tuple[LabelledFile, ...]  # The images
    problems: tuple[ImageError, ...]  # What cannot be looked into, and empty folders
    unmatched: tuple[Path, ...] | None = None  # Mask files that belong to no image; None if there are no masks at all
    ignored: int = 0  # Other files, hidden folders and, in MVTec 3D's layout, what is neither an image nor a mask


Folder = str | os.PathLike[str]

GOOD = ("good", "ok", "normal")  # What the folder of normal images may be called in MVTec AD's layout

MASK_FOLDERS = ("ground_truth", "groundtruth", "gt", "masks", "mask")
"""Names of folders, in lower case, that hold masks rather than images; the first that is there is taken."""

_ANOMALOUS = frozenset({"anomaly", "anomalies", "anomalous", "abnormal"})
_BESIDE_GOOD = frozenset({"bad", "ko", "ng", "defect", "defects", "defective", "faulty"})
_RGB, _GT = "rgb", "gt"


@dataclass(frozen=True)
class Layout:
    """A folder in MVTec AD's layout, or that of MVTec 3D, LOCO or BTAD, which differ a little."""

    test: Path  # The folder of test images
    good: str  # The name of the folders of normal images
    in_rgb: bool  # Whether images lie in folders `rgb` and masks in folders `gt` beside them, as in MVTec 3D
    train: Path | None  # The folder of normal images to train on, or None
    masks: Path | None  # The folder of masks, or None if there are none, or they lie beside the images


def layout_of(folder: Folder) -> Layout | None:
    """How a folder of test images is laid out, or None if it is not as MVTec AD is."""
    root = Path(folder)
    test = _called(root, ("test",))
    goods = [name for name in _folders_in(test) if name.lower() in GOOD] if test is not None else []
    if test is None or not goods:
        return None
    if len(goods) > 1:
        raise DataError(f"{test} holds both {goods[0]} and {goods[1]}: name --normal and --anomalous instead")
    good = goods[0]
    in_rgb = (test / good / _RGB).is_dir()
    train = _called(root, ("train",))
    learned = _called(train, (good.lower(),)) if train is not None else None
    if learned is not None and in_rgb:
        learned = _called(learned, (_RGB,))
    return Layout(test, good, in_rgb, learned, _called(root, MASK_FOLDERS))


def mask_like(kinds: Iterable[str | None]) -> Iterator[str]:
    """What a reader must know of types of anomaly whose folders are called as those of masks are, a sentence each."""
    for kind in sorted({kind for kind in kinds if kind is not None and kind.lower() in MASK_FOLDERS}):
        yield f"the images of {kind} count as anomalous ones: if they are masks, move that folder elsewhere."


def _called(folder: Path, names: Sequence[str]) -> Path | None:
    """The folder in ``folder`` with the first of these names; upper and lower case are the same, unless both exist."""
    there = _folders_in(folder)
    return next(
        (folder / one for name in names for one in (name, *there) if one in there and one.lower() == name), None
    )


def _folders_in(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted; none if it is not there or cannot be looked into."""
    try:
        return sorted(path.name for path in folder.iterdir() if path.is_dir())
    except OSError:
        return []


def require_normal_folders(paths: Iterable[object]) -> None:
    """Refuse folders and patterns from which no one would train on purpose: they hold masks or test images as well.

    That is any with a folder below that is called like one of masks or anomalies; ``bad``, ``defect`` and the like
    beside ``good``; or ``test`` beside ``train`` or with ``good`` in it. A folder that is named itself is taken as it
    is, and so is what is not a path.
    """
    for path in paths:
        if not isinstance(path, str | os.PathLike):
            continue
        name = os.fsdecode(path)
        below = filter(_is_not_for_training, _folders_below(name))
        odd = next((folder for folder in below if find_images(folder).images), None)
        if odd is not None:
            layout = layout_of(name)
            train = f", {layout.train}" if layout is not None and layout.train is not None else ""
            raise DataError(
                f"{name} holds {odd}, which is not for training: name the folder of normal images to train on{train}"
            )


def _is_not_for_training(folder: Path) -> bool:
    name = folder.name.lower()
    if name == "test":
        return (folder.parent / "train").is_dir() or layout_of(folder.parent) is not None
    if name in _BESIDE_GOOD:
        return any(path.name.lower() in GOOD for path in folder.parent.iterdir())
    return name in _ANOMALOUS or name in MASK_FOLDERS


def _folders_below(name: str) -> Iterator[Path]:
    """The folders in a folder, or those that a pattern leads through without naming them."""
    if os.path.isdir(name) or not glob.has_magic(name):  # noqa: PTH112 - Path("") would be the current folder
        for place, below, _ in os.walk(name):
            below[:] = [folder for folder in below if not folder.startswith(".")]
            yield from (Path(place, folder) for folder in below)
        return
    for match in map(Path, glob.iglob(name, recursive=True)):  # noqa: PTH207 - as the images are found
        folders = [match, *match.parents] if match.is_dir() else match.parents
        yield from (folder for folder in folders if folder.name not in Path(name).parts)
        if match.is_dir():
            yield from _folders_below(str(match))


def from_folders(normal: Folder, anomalous: Folder, masks: Folder | None = None) -> LabelledFiles:
    """Images of two folders. Sub-folders of ``anomalous`` are the types of anomaly.

    A mask is found in ``masks`` under the image's sub-folder and name, as
    :func:`~oddsight.data.masks.match_masks` says.

    Raises:
        DataError: If a folder holds no image, no mask fits any image, or one fits as well as another.
    """
    good, bad = _found(Path(normal)), _found(Path(anomalous))
    problems = [*good.problems, *bad.problems, *empty_folders(Path(anomalous))]
    images = _places(bad.images, Path(anomalous))
    ignored = good.ignored + bad.ignored
    if masks is None:
        return _labelled(good.images, images, None, problems, ignored)
    if not Path(masks).is_dir():
        raise DataError(f"{masks} is not a folder of masks")
    found = find_images(masks)
    matched = match_masks(images, _places(found.images, Path(masks)))
    if not matched.of_image:
        raise DataError(f"no mask in {masks} has the sub-folder and name of an image in {anomalous}")
    return _labelled(good.images, images, matched, [*problems, *found.problems], ignored)


def from_mvtec(folder: Folder) -> LabelledFiles:
    """The test images of a folder laid out as MVTec AD: ``test/good``, ``test/TYPE``, ``ground_truth/TYPE``.

    ``good`` may also be called ``ok`` or ``normal``, as in BTAD. A mask may be a folder with several files, as in MVTec
    LOCO. In the layout of MVTec 3D images are those in ``test/TYPE/rgb``, masks those in ``test/TYPE/gt``; other
    folders beside them, such as ``xyz``, are ignored and counted.

    Raises:
        DataError: If it is not laid out like that, or as for :func:`from_folders`.
    """
    layout = layout_of(folder)
    if layout is None:
        raise DataError(
            f"{folder} is not laid out as MVTec AD: it has no test/good; name --normal and --anomalous instead"
        )
    found = _found(layout.test)
    problems, ignored = [*found.problems, *empty_folders(layout.test)], found.ignored
    places = _places(found.images, layout.test)
    masks: dict[PurePath, Path] | None = None
    if layout.in_rgb:
        places, masks = _beneath(places, _RGB), _beneath(places, _GT)
        ignored += len(found.images) - len(places) - len(masks)
        masks = masks or None
    elif layout.masks is not None:
        files = find_images(layout.masks)
        problems += files.problems
        masks = _places(files.images, layout.masks)
    good = [path for place, path in places.items() if place.parts[0] == layout.good]
    bad = {place: path for place, path in places.items() if place.parts[0] != layout.good}
    if masks is None:
        return _labelled(good, bad, None, problems, ignored)
    # Some datasets have black masks of the normal images, too.
    matched = match_masks(bad, {place: path for place, path in masks.items() if place.parts[0] != layout.good})
    if bad and not matched.of_image:
        where = layout.masks or layout.test
        raise DataError(f"no mask in {where} has the sub-folder and name of an image in {layout.test}")
    return _labelled(good, bad, matched, problems, ignored)


def _found(folder: Path) -> Found:
    found = find_images(folder)
    if not found.images:
        reason = f": {found.problems[0].reason}" if found.problems else ""
        raise DataError(f"no images in {folder}{others_ignored(found.ignored)}{reason}")
    return found


def _places(paths: Iterable[Path], root: Path) -> dict[PurePath, Path]:
    """Paths by where they are in a folder."""
    return {(path.relative_to(root) if path.is_relative_to(root) else PurePath(path.name)): path for path in paths}


def _beneath(places: Mapping[PurePath, Path], folder: str) -> dict[PurePath, Path]:
    """What lies in ``TYPE/FOLDER``, by its place without that folder."""
    return {
        PurePath(place.parts[0], *place.parts[2:]): path
        for place, path in places.items()
        if len(place.parts) > 2 and place.parts[1] == folder
    }


def _labelled(
    normal: Iterable[Path],
    anomalous: Mapping[PurePath, Path],
    masks: MaskFiles | None,
    problems: Iterable[ImageError],
    ignored: int,
) -> LabelledFiles:
    images = [LabelledFile(path, None) for path in normal]
    for place, path in anomalous.items():
        kind = place.parts[0] if len(place.parts) > 1 else "anomalous"
        images.append(LabelledFile(path, kind, masks.of_image.get(path) if masks is not None else None))
    if not anomalous:
        raise DataError("there are no anomalous images beside the normal ones")
    once = {problem.path: problem for problem in problems}
    unmatched = masks.unmatched if masks is not None else None
    return LabelledFiles(tuple(images), tuple(once.values()), unmatched, ignored)
