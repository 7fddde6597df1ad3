"""The datasets of a comparison: which images to learn from, and which to test on, with the truth about them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from oddsight.data.anomaly_folders import LabelledImage, LabelledSet, from_mvtec, layout_of
from oddsight.data.collection import ImageFile, collect, split
from oddsight.data.folder import empty_folders, find_images
from oddsight.data.grouping import AUTO, Groups, group_images
from oddsight.data.images import content_hash, read_image
from oddsight.data.masks import MaskCoverage, MaskLook, inspect_mask, settle_turns, summarize_masks
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import DataError, ImageError, OddsightError, some
from oddsight.evaluation.maps import Mapped
from oddsight.metrics.trivial import trivial_scores
from oddsight.runtime.bounds import check_number, check_seed
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class TrialImage:
    """A test image that was read once.

    Attributes:
        image: The file.
        kind: The type of anomaly, or None if it is normal.
        mask: Its mask, if that can be read.
        trivial: As :func:`oddsight.metrics.trivial.trivial_scores` returns them.
    """

    image: ImageFile
    kind: str | None
    mask: MaskLook | None
    trivial: tuple[float, ...]

    @property
    def mapped(self) -> Mapped:
        """What the metrics of its map take."""
        return Mapped((self.image.width, self.image.height), self.kind is not None, self.mask)


@dataclass(frozen=True)
class Trial:
    """One dataset: normal images to learn from and labelled ones to test on, which never mix.

    Attributes:
        name: Of the dataset.
        place: Its folder.
        paths: What to learn from, as :func:`oddsight.fit` takes it.
        training: The distinct images there.
        test: Every readable test image, in an order that depends on content only.
        errors: Images and masks that could not be used.
        coverage: What metrics of pixels rest on, and what is suspicious about the masks; None without any.
        ignored: Other files in the folders of test images.
        reading: How images are read.
    """

    name: str
    place: Path
    paths: tuple[Path, ...]
    training: tuple[ImageFile, ...]
    test: tuple[TrialImage, ...]
    errors: tuple[ImageError, ...]
    coverage: MaskCoverage | None = None
    ignored: int = 0
    reading: Reading = AS_DECLARED

    @property
    def normal(self) -> int:
        """How many test images are normal."""
        return sum(one.kind is None for one in self.test)

    @property
    def anomalous(self) -> int:
        """How many test images are anomalous."""
        return len(self.test) - self.normal

    @property
    def masks(self) -> int:
        """How many test images have a mask that marks something."""
        return sum(one.mapped.marked is not None for one in self.test)

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
        test = [(one.image.content, one.kind is None, one.mask.content if one.mask else None) for one in self.test]
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
    """Read datasets.

    Args:
        sources: Each a folder, or ``NAME=FOLDER``. A folder with ``test/good`` is laid out as MVTec AD
            (``train/good``, ``test/TYPE``, ``ground_truth/TYPE``; see :func:`oddsight.data.anomaly_folders.from_mvtec`
            for those like it); any other holds folders of classes.
        normal: Of class folders, the one that is normal; the images of all others are anomalous.
        test_share: Of the normal class, the share of images that is kept out of learning to test on.
        split_seed: Of the division of the normal class.
        groups: Which normal images belong together and are never divided; see
            :data:`oddsight.data.grouping.Groups`.
        progress: Called with phase, done and total.
        reading: Which bands and values of TIFF files to take.

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
        labelled = from_mvtec(folder)
        training, paths = group_images(collection.images, groups), [layout.train]
    else:
        assert normal is not None
        collection = collect(folder / normal, reading=reading, progress=progress)
        kept, held = split(group_images(collection.images, groups), test_share, split_seed)
        training, paths = tuple(kept), [image.path for image in kept]
        labelled = _class_folders(folder, normal, held)
    errors = [*collection.errors, *labelled.problems]
    test, without = [], []
    for done, (look, problem) in enumerate(ordered_map(partial(_look, reading), labelled.images), 1):
        test += [look] if look is not None else []
        errors += [problem] if problem is not None else []
        if look is not None and labelled.images[done - 1].mask is None and look.kind is not None:
            without.append(str(look.image.path))
        progress(f"reading {name}", done, len(labelled.images))
    settled = settle_turns([one.mask for one in test])
    test = [replace(one, mask=mask) for one, mask in zip(test, settled, strict=True)]
    coverage = None
    if labelled.unmatched is not None:
        coverage = summarize_masks([one.mask for one in test if one.kind is not None], without, labelled.unmatched)
    test.sort(key=lambda one: (one.kind is not None, one.image.content, one.mask.content if one.mask else ""))
    trial = Trial(
        name,
        folder,
        tuple(paths),
        training,
        tuple(test),
        tuple(errors),
        coverage,
        collection.ignored + labelled.ignored,
        reading,
    )
    _check(trial)
    return trial


def _class_folders(folder: Path, normal: str, held: Sequence[ImageFile]) -> LabelledSet:
    """Test images of class folders: those of the normal class that were kept out, and all others."""
    images = [LabelledImage(image.path, None) for image in held]
    problems, ignored = empty_folders(folder), 0
    for kind in _classes(folder):
        if kind != normal:
            found = find_images(folder / kind)
            images += [LabelledImage(path, kind) for path in found.images]
            problems += found.problems
            ignored += found.ignored
    return LabelledSet(tuple(images), tuple(problems), None, ignored)


def _look(reading: Reading, labelled: LabelledImage) -> tuple[TrialImage | None, ImageError | None]:
    try:
        pixels = read_image(labelled.path, reading=reading)
    except ImageError as error:
        # Without its traceback, which would hold on to the pixels.
        return None, ImageError(error.path, error.reason)
    height, width, _ = pixels.shape
    mask, problem = None, None
    if labelled.mask is not None:
        try:
            mask = inspect_mask(labelled.mask, labelled.path, (width, height))
        except ImageError as error:
            problem = ImageError(error.path, error.reason)
    image = ImageFile(labelled.path, content_hash(pixels), width, height, reading=reading)
    return TrialImage(image, labelled.kind, mask, trivial_scores(pixels)), problem


def _check(trial: Trial) -> None:
    """Refuse what cannot be tested on, as evaluation does."""
    for what, count in (("normal", trial.normal), ("anomalous", trial.anomalous)):
        if not count:
            reason = f"; the first error is {trial.errors[0]}" if trial.errors else ""
            raise DataError(f"{trial.name} has no {what} test images that can be read{reason}")
    learned = {image.content for image in trial.training}
    leaked = [one for one in trial.test if one.image.content in learned]
    if leaked:
        raise DataError(
            f"{len(leaked)} of {len(trial.test)} test images of {trial.name} are also training images, such as "
            f"{leaked[0].image.path}: take them out, as results on them mean nothing"
        )
    normal = {one.image.content: one.image.path for one in trial.test if one.kind is None}
    for one in trial.test:
        if one.kind is not None and one.image.content in normal:
            raise DataError(
                f"{one.image.path} is the same image as {normal[one.image.content]}, which counts as normal"
            )
