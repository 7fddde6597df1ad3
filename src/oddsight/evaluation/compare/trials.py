"""The datasets of a comparison: which images to learn from, and which to test on, with the truth about them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight.data.anomaly_folders import LabelledFile, LabelledFiles, from_mvtec, layout_of
from oddsight.data.anomaly_images import ImageLook, gather_images, look_at
from oddsight.data.collection import ImageFile, collect, split
from oddsight.data.dataset import Dataset
from oddsight.data.folder import empty_folders, find_images
from oddsight.data.grouping import AUTO, Groups, group_images
from oddsight.data.images import read_image
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import DataError, ImageError, OddsightError, some, without_traceback
from oddsight.evaluation.overlap import refuse_overlap
from oddsight.metrics.trivial import trivial_scores
from oddsight.runtime.bounds import check_number, check_seed
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, silent, track

Source = str | os.PathLike[str]


@dataclass(frozen=True, eq=False)
class Trial:
    """One dataset: normal images to learn from and labelled ones to test on, which never mix."""

    name: str  # Of the dataset
    place: Path  # Its folder
    paths: tuple[Path, ...]  # What to learn from, as `oddsight.fit` takes it
    training: tuple[ImageFile, ...]  # The distinct images there
    test: Dataset  # Every readable test image, in an order that depends on content only
    # Of the test images, as `oddsight.metrics.trivial.trivial_scores` returns them, `[n, 5]`
    trivial: NDArray[np.float64]
    errors: tuple[ImageError, ...]  # Images and masks that could not be used
    ignored: int = 0  # Other files in all these folders
    reading: Reading = AS_DECLARED  # How images are read

    @property
    def normal(self) -> int:
        """How many test images are normal."""
        return len(self.test) - self.anomalous

    @property
    def anomalous(self) -> int:
        """How many test images are anomalous."""
        return int(self.test.anomalous.sum())

    @property
    def masks(self) -> int:
        """How many test images have a mask that marks something."""
        return self.test.coverage.used if self.test.coverage is not None else 0

    def group_of(self, path: str) -> str:
        """The group of an image to learn from, by its path with forward slashes, as :func:`oddsight.fit` takes it."""
        return self._groups[path]

    @cached_property
    def _groups(self) -> dict[str, str]:
        return {image.path.as_posix(): image.unit for image in self.training}

    @cached_property
    def groups_fingerprint(self) -> str:
        """SHA-256 over what images to learn from belong together, hex; names of groups do not matter."""
        members: dict[str, list[str]] = {}
        for image in self.training:
            members.setdefault(image.unit, []).append(image.content)
        return hashlib.sha256(json.dumps(sorted(map(sorted, members.values()))).encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the contents of all images and masks and which of them are normal, hex; names do not matter."""
        test = [
            (image.content, kind is None, mask.content if mask else None)
            for image, kind, mask in zip(self.test.images, self.test.kinds, self.test.masks, strict=True)
        ]
        content = json.dumps([[image.content for image in self.training], test])
        return hashlib.sha256(content.encode()).hexdigest()


def read_trials(
    sources: Sequence[Source],
    normal: str | None,
    test_share: float,
    split_seed: int,
    groups: Groups = AUTO,
    progress: Progress = silent,
    *,
    reading: Reading = AS_DECLARED,
) -> list[Trial]:
    """Read datasets, each a folder or ``NAME=FOLDER``; see :func:`oddsight.compare` for the other settings.

    A folder with ``test/good`` is laid out as MVTec AD (``train/good``, ``test/TYPE``, ``ground_truth/TYPE``; see
    :func:`oddsight.data.anomaly_folders.from_mvtec` for those like it); any other holds folders of classes, of which
    one is normal and all others are anomalous.

    Raises:
        DataError: A folder that is missing, laid out otherwise or without images of a sort; two datasets of one name;
            test images to learn from.
    """
    if not sources:
        raise OddsightError("name a dataset to compare on")
    check_seed(split_seed)
    check_number(test_share, "the test share")
    if not 0 < test_share < 1:
        raise OddsightError(f"the test share must lie between 0 and 1, not {test_share:g}")
    named = [_named(source) for source in sources]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"two datasets are called {name!r}: name them, as in {name}-2=FOLDER")
    for _, folder in named:
        _check_layout(folder, normal)
    return [_trial(name, folder, normal, test_share, split_seed, groups, reading, progress) for name, folder in named]


def _named(source: Source) -> tuple[str, Path]:
    text = os.fspath(source)
    name, sign, folder = text.partition("=")
    if sign and name and not Path(text).exists():
        return name, Path(folder)
    return Path(os.path.abspath(text)).name, Path(text)  # noqa: PTH100 - without following links


def _check_layout(folder: Path, normal: str | None) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder} is not a folder")
    layout = layout_of(folder)
    if layout is not None:
        if layout.train is None:
            train = f"train/{layout.good}{'/rgb' if layout.in_rgb else ''}"
            raise DataError(f"{folder} is laid out as MVTec AD but has no {train} with normal images to learn from")
        return
    classes = _classes(folder)
    if normal is None:
        raise DataError(
            f"{folder} has no test/good, so it is not laid out as MVTec AD: if it holds folders of classes, say which "
            f"is normal with --normal{f' ({some(classes, 10)})' if classes else ''}"
        )
    if normal not in classes:
        raise DataError(f"{folder} has no class {normal!r}" + (f": it has {some(classes, 10)}" if classes else ""))
    if len(classes) == 1:
        raise DataError(f"{folder} holds only the class {normal!r}: there is nothing anomalous to test on")


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _trial(
    name: str,
    folder: Path,
    normal: str | None,
    test_share: float,
    split_seed: int,
    groups: Groups,
    reading: Reading,
    progress: Progress,
) -> Trial:
    layout = layout_of(folder)
    if layout is not None and layout.train is not None:
        collection = collect(layout.train, reading=reading, progress=progress)
        files = from_mvtec(folder)
        training, paths = group_images(collection.images, groups), [layout.train]
    else:
        assert normal is not None
        collection = collect(folder / normal, reading=reading, progress=progress)
        kept, held = split(group_images(collection.images, groups), test_share, split_seed)
        training, paths = tuple(kept), [image.path for image in kept]
        files = _class_folders(folder, normal, held)
    looks = map_jobs(partial(_look, reading), files.images)
    looked = sorted(track(looks, f"reading {name}", len(files.images), progress), key=_content)
    test = gather_images(replace(files, images=tuple(file for file, _, _ in looked)), [look for _, look, _ in looked])
    learned = {image.content for image in training}
    refuse_overlap(test.images, learned.__contains__, f"test images of {name}", "are also training images")
    return Trial(
        name,
        folder,
        tuple(paths),
        training,
        test,
        np.array([trivial for _, look, trivial in looked if isinstance(look, ImageLook)]),
        (*collection.errors, *test.errors),
        collection.ignored + files.ignored,
        reading,
    )


def _content(looked: tuple[LabelledFile, ImageLook | ImageError, tuple[float, ...]]) -> tuple[bool, str, str]:
    """What test images are ordered by."""
    file, look, _ = looked
    if isinstance(look, ImageError):
        return file.kind is not None, str(file.path), ""
    return file.kind is not None, look.image.content, look.mask.content if look.mask is not None else ""


def _class_folders(folder: Path, normal: str, held: Sequence[ImageFile]) -> LabelledFiles:
    """Test images of class folders: those of the normal class that were kept out, and all others."""
    images = [LabelledFile(image.path, None) for image in held]
    problems, ignored = empty_folders(folder), 0
    for kind in _classes(folder):
        if kind != normal:
            found = find_images(folder / kind)
            images += [LabelledFile(path, kind) for path in found.images]
            problems += found.problems
            ignored += found.ignored
    return LabelledFiles(tuple(images), tuple(problems), None, ignored)


def _look(reading: Reading, file: LabelledFile) -> tuple[LabelledFile, ImageLook | ImageError, tuple[float, ...]]:
    try:
        pixels = read_image(file.path, reading=reading)
    except ImageError as error:
        return file, without_traceback(error), ()
    return file, look_at(file, pixels, reading), trivial_scores(pixels)
