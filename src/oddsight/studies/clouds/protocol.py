"""The protocol of a study: what is normal, and which scenes serve for what. No image serves twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from oddsight.data.collection import ImageFile
from oddsight.errors import DataError, plain
from oddsight.fitting.plan import FEWEST
from oddsight.model.metadata import checked_verdicts
from oddsight.model.result import VERDICTS

CLEAR = "clear"
"""The word for all classes but that of clouds, together."""

_TEST_SHARE = 0.2  # of the normal images of each class
_CALIBRATION_SHARE = 0.25  # of the normal images that are not tested on
_LEAST = 20  # images of a normal class with which learning, calibrating and testing can be kept apart at all


@dataclass(frozen=True)
class Side:
    """What counts as normal."""

    name: str  # `clear`, or the class that is normal
    normal: tuple[str, ...]  # The classes that are normal
    anomalous: tuple[str, ...]  # All others
    verdicts: tuple[str, str]  # Words for a normal and for an anomalous image


@dataclass(frozen=True)
class Split:
    """Which images of a side serve for what, by a seed."""

    side: Side  # What is normal
    seed: int  # Another seed draws other images
    trained: tuple[ImageFile, ...]  # Normal images to train on and to calibrate on; oddsight.fit divides them
    calibration: int  # How many of them to calibrate on
    normal: tuple[ImageFile, ...]  # Test images of the normal classes
    anomalous: Mapping[str, tuple[ImageFile, ...]]  # Test images of each anomalous class, as many as of `normal`

    @property
    def test(self) -> tuple[ImageFile, ...]:
        """All test images: the normal ones, then the classes in order."""
        return (*self.normal, *(image for images in self.anomalous.values() for image in images))

    @property
    def calibration_fraction(self) -> float:
        """As :func:`oddsight.fit` takes it."""
        return self.calibration / len(self.trained)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the contents of all images and what they serve for, hex."""
        parts = [[image.content for image in self.trained], [image.content for image in self.normal]]
        parts += [[name, *(image.content for image in images)] for name, images in self.anomalous.items()]
        return hashlib.sha256(repr((parts, self.calibration)).encode()).hexdigest()


def sides(classes: Sequence[str], clouds: str, wanted: Sequence[str]) -> list[Side]:
    """What is to count as normal, each once, in the order asked for.

    Raises:
        DataError: A name that is no class.
    """
    there = ", ".join(map(plain, classes))
    if clouds == CLEAR:
        raise DataError(f"the folder of clouds cannot be called '{CLEAR}', which stands for all others: rename it")
    if clouds not in classes:
        raise DataError(f"no folder {plain(clouds)!r} of clouds: there are {there}; name it with --clouds")
    unknown = [name for name in wanted if name != CLEAR and name not in classes]
    if unknown:
        raise DataError(
            f"--normal {plain(unknown[0])} is not a class: there are {there}, and '{CLEAR}' for all but {plain(clouds)}"
        )
    return [_side(name, classes, clouds) for name in dict.fromkeys(wanted or (clouds, CLEAR))]


def _side(name: str, classes: Sequence[str], clouds: str) -> Side:
    normal = tuple(one for one in classes if one != clouds) if name == CLEAR else (name,)
    words = (name, clouds if name == CLEAR else CLEAR if name == clouds else f"not {name}")
    try:
        verdicts = checked_verdicts(words)
    except DataError:  # names of classes that cannot be verdicts
        verdicts = VERDICTS
    return Side(name, normal, tuple(one for one in classes if one not in normal), verdicts)


def split(side: Side, classes: Mapping[str, Sequence[ImageFile]], seed: int) -> Split:
    """Draw the images of a side: as many of each normal class, and as many test images of each sort.

    Which images are drawn depends on their contents and the seed, not on names or order.

    Raises:
        DataError: A class with too few images.
    """
    each = min(len(classes[name]) for name in side.normal)
    if each < _LEAST:
        fewest = min(side.normal, key=lambda name: len(classes[name]))
        raise DataError(f"{plain(fewest)} has {each} distinct images, and a normal class needs at least {_LEAST}")
    rarest = min(side.anomalous, key=lambda name: len(classes[name]))
    tested = min(int(_TEST_SHARE * each), len(classes[rarest]) // len(side.normal))
    if tested * len(side.normal) < 2:
        raise DataError(f"{plain(rarest)} has {len(classes[rarest])} distinct images: too few to test on")
    drawn = {name: _drawn(classes[name], seed) for name in side.normal}
    trained = [image for images in drawn.values() for image in images[tested:each]]
    calibration = max(1, int(_CALIBRATION_SHARE * len(trained)))
    if len(trained) - calibration < FEWEST:
        raise DataError(f"{plain(side.name)} leaves {len(trained) - calibration} images to train on: add images")
    return Split(
        side=side,
        seed=seed,
        trained=_ordered(trained),
        calibration=calibration,
        normal=_ordered([image for images in drawn.values() for image in images[:tested]]),
        anomalous={name: _ordered(_drawn(classes[name], seed)[: tested * len(side.normal)]) for name in side.anomalous},
    )


def _drawn(images: Sequence[ImageFile], seed: int) -> list[ImageFile]:
    # Another lot than that by which a fit divides its images.
    return sorted(images, key=lambda image: hashlib.sha256(f"scenes {seed} {image.content}".encode()).hexdigest())


def _ordered(images: Sequence[ImageFile]) -> tuple[ImageFile, ...]:
    return tuple(sorted(images, key=lambda image: image.content))
