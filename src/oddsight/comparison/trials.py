"""The data sets of a comparison: which images to learn from, and which to test on, with the truth about them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from oddsight.datasets.collection import ImageFile, Progress, collect, silent, split
from oddsight.datasets.folder import find_images
from oddsight.datasets.grouping import AUTO, Groups, group_images
from oddsight.datasets.labelled import LabelledImage, from_mvtec
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.images import content_hash, read_image, read_mask
from oddsight.parallel import ordered_map
from oddsight.trivial import trivial_scores

Source = str | os.PathLike[str]


@dataclass(frozen=True)
class TrialImage:
    """A test image that was read once.

    Attributes:
        image: The file.
        kind: The type of anomaly, or None if it is normal.
        mask: Its mask, if that can be read and marks anything.
        mask_content: SHA-256 of what the mask marks, hex.
        trivial: As :func:`oddsight.trivial.trivial_scores` returns them.
    """

    image: ImageFile
    kind: str | None
    mask: Path | None
    mask_content: str | None
    trivial: tuple[float, ...]


@dataclass(frozen=True)
class Trial:
    """One data set: normal images to learn from and labelled ones to test on, which never mix.

    Attributes:
        name: Of the data set.
        place: Its folder.
        paths: What to learn from, as :func:`oddsight.fit` takes it.
        training: The distinct images there.
        test: Every readable test image, in an order that depends on content only.
        errors: Images and masks that could not be used.
    """

    name: str
    place: Path
    paths: tuple[Path, ...]
    training: tuple[ImageFile, ...]
    test: tuple[TrialImage, ...]
    errors: tuple[ImageError, ...]

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
        return sum(one.mask is not None for one in self.test)

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
        test = [(one.image.content, one.kind is None, one.mask_content) for one in self.test]
        content = json.dumps([[image.content for image in self.training], test])
        return hashlib.sha256(content.encode()).hexdigest()


def read_trials(
    sources: Sequence[Source],
    normal: str | None,
    test_share: float,
    split_seed: int,
    groups: Groups = AUTO,
    progress: Progress = silent,
) -> list[Trial]:
    """Read data sets.

    Args:
        sources: Each a folder, or ``NAME=FOLDER``. A folder with ``test/good`` is laid out as MVTec AD
            (``train/good``, ``test/TYPE``, ``ground_truth/TYPE``); any other holds folders of classes.
        normal: Of class folders, the one that is normal; the images of all others are anomalous.
        test_share: Of the normal class, the share of images that is kept out of learning to test on.
        split_seed: Of the division of the normal class.
        groups: Which normal images belong together and are never divided; see
            :data:`oddsight.datasets.grouping.Groups`.
        progress: Called with phase, done and total.

    Raises:
        DataError: A folder that is missing, laid out otherwise or without images of a sort; two data sets of one name;
            test images to learn from.
    """
    if not sources:
        raise OddsightError("name a data set to compare on")
    if not 0 < test_share < 1:
        raise OddsightError(f"the test share must lie between 0 and 1, not {test_share:g}")
    named = [_named(source) for source in sources]
    names = [name for name, _ in named]
    for name in names:
        if names.count(name) > 1:
            raise DataError(f"two data sets are called {name!r}: name them, as in {name}-2=FOLDER")
    for _, folder in named:
        _check_layout(folder, normal)
    return [_trial(name, folder, normal, test_share, split_seed, groups, progress) for name, folder in named]


def _named(source: Source) -> tuple[str, Path]:
    text = os.fspath(source)
    name, sign, folder = text.partition("=")
    if sign and name and not Path(text).exists():
        return name, Path(folder)
    return Path(os.path.abspath(text)).name, Path(text)  # noqa: PTH100 - without following links


def _is_mvtec(folder: Path) -> bool:
    return (folder / "test" / "good").is_dir()


def _check_layout(folder: Path, normal: str | None) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder} is no folder")
    if _is_mvtec(folder):
        if not (folder / "train" / "good").is_dir():
            raise DataError(f"{folder} is laid out as MVTec AD but has no train/good with normal images to learn from")
        return
    classes = _classes(folder)
    if normal is None:
        raise DataError(
            f"{folder} has no test/good, so it is not laid out as MVTec AD: if it holds folders of classes, say which "
            f"is normal with --normal{f' ({_some(classes)})' if classes else ''}"
        )
    if normal not in classes:
        raise DataError(f"{folder} has no class {normal!r}" + (f": it has {_some(classes)}" if classes else ""))
    if len(classes) == 1:
        raise DataError(f"{folder} holds only the class {normal!r}: there is nothing anomalous to test on")


def _classes(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _trial(
    name: str, folder: Path, normal: str | None, test_share: float, split_seed: int, groups: Groups, progress: Progress
) -> Trial:
    errors: list[ImageError] = []
    if _is_mvtec(folder):
        learnt = folder / "train" / "good"
        collection = collect(learnt, progress=progress)
        labelled = from_mvtec(folder)
        training, paths, images = group_images(collection.images, groups), [learnt], labelled.images
        errors += labelled.problems
    else:
        assert normal is not None
        collection = collect(folder / normal, progress=progress)
        kept, held = split(group_images(collection.images, groups), test_share, split_seed)
        training, paths = tuple(kept), [image.path for image in kept]
        images = tuple(LabelledImage(image.path, None) for image in held)
        for kind in _classes(folder):
            found = find_images(folder / kind)
            if kind != normal:
                images += tuple(LabelledImage(path, kind) for path in found.images)
                errors += found.problems
    errors = [*collection.errors, *errors]
    test = []
    for done, (look, problem) in enumerate(ordered_map(_look, images), 1):
        test += [look] if look is not None else []
        errors += [problem] if problem is not None else []
        progress(f"reading {name}", done, len(images))
    test.sort(key=lambda one: (one.kind is not None, one.image.content, one.mask_content or ""))
    trial = Trial(name, folder, tuple(paths), training, tuple(test), tuple(errors))
    _check(trial)
    return trial


def _look(labelled: LabelledImage) -> tuple[TrialImage | None, ImageError | None]:
    try:
        pixels = read_image(labelled.path)
    except ImageError as error:
        # Without its traceback, which would hold on to the pixels.
        return None, ImageError(error.path, error.reason)
    height, width, _ = pixels.shape
    mask, marked, problem = labelled.mask, None, None
    if mask is not None:
        try:
            inside = read_mask(mask, (width, height))
        except ImageError as error:
            mask, problem = None, ImageError(error.path, error.reason)
        else:
            marked = hashlib.sha256(np.packbits(inside).tobytes()).hexdigest()
            mask = mask if inside.any() else None
    image = ImageFile(labelled.path, content_hash(pixels), width, height)
    return TrialImage(image, labelled.kind, mask, marked, trivial_scores(pixels)), problem


def _check(trial: Trial) -> None:
    """Refuse what cannot be tested on, as evaluation does."""
    for what, count in (("normal", trial.normal), ("anomalous", trial.anomalous)):
        if not count:
            reason = f"; the first error is {trial.errors[0]}" if trial.errors else ""
            raise DataError(f"{trial.name} has no {what} test images that can be read{reason}")
    learnt = {image.content for image in trial.training}
    leaked = [one for one in trial.test if one.image.content in learnt]
    if leaked:
        raise DataError(
            f"{len(leaked)} of {len(trial.test)} test images of {trial.name} are among those to learn from, such as "
            f"{leaked[0].image.path}: take them out, numbers on them would mean nothing"
        )
    normal = {one.image.content: one.image.path for one in trial.test if one.kind is None}
    for one in trial.test:
        if one.kind is not None and one.image.content in normal:
            raise DataError(
                f"{one.image.path} is the same picture as {normal[one.image.content]}, which counts as normal"
            )
