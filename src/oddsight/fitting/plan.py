"""What is asked of a fit, and what it is about to do, known before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from oddsight.backbones import BACKBONES, Backbone
from oddsight.backbones.extraction import Extractor
from oddsight.data.collection import Collection, ImageFile, count_groups, folds, one_of_each, seen, split
from oddsight.data.grouping import AUTO, Groups
from oddsight.data.memory import MemoryPlan, parse_bytes, plan_memory
from oddsight.errors import DataError, ImageError
from oddsight.metrics.image import check_confidence
from oddsight.model.calibration import (
    DEFAULT_RATE,
    advised_rate,
    check_rate,
    describe_rate,
    images_needed,
    smallest_rate,
)
from oddsight.runtime.bounds import check_number, check_seed
from oddsight.sources.blocks import Blocks

FEWEST = 8
"""The fewest distinct images that are left to learn from where a share is held out.

Of fewer, changed copies are learned from, too; see :mod:`oddsight.data.copies`.
"""

_LEFT = 1
"""And that any of its folds leaves to learn from."""

FRACTION = 0.25
"""Share of the images that is held out for calibration by default, if that is enough."""

FOLDS = 5

_COPIES = 4
"""How often what says where to look is in memory: alone, in a longer graph, serialised, and in a session."""

NOTHING_TO_READ = MemoryPlan(0, 0, 0)
"""Of a plan whose features are known."""


class Request:
    """What is asked of a fit, whatever it learns; see :func:`oddsight.fit`.

    Attributes:
        rate: The false-alarm rate, or None.
        confidence: With which it is to hold, or None.
        fraction: Share of the images for calibration, or None.
        groups: Which images belong together.
        budget: Of memory, in bytes.
        seed: Of every random choice.

    Raises:
        OddsightError: If something cannot be.
    """

    def __init__(
        self,
        *,
        rate: float | None = None,
        confidence: float | None = None,
        fraction: float | None = None,
        groups: Groups = AUTO,
        memory: str | int = "1GB",
        seed: int = 0,
    ) -> None:
        self.seed = check_seed(seed)
        self.rate = None if rate is None else check_rate(rate)
        self.confidence = None if confidence is None else check_confidence(confidence)
        self.fraction = None if fraction is None else check_number(fraction, "the calibration fraction")
        self.groups = groups
        self.budget = parse_bytes(memory)

    @property
    def near_copies(self) -> bool:
        """Whether near copies form groups, instead of what someone names."""
        return isinstance(self.groups, str) and self.groups == AUTO

    @property
    def of_footage(self) -> bool:
        """Whether blocks of footage are the groups."""
        return isinstance(getattr(self.groups, "__self__", None), Blocks)

    @property
    def hint(self) -> str:
        """What to do about too few groups, where someone did not name them; empty, or the end of a sentence."""
        if self.near_copies:
            return "; groups are of near copies, and --group-by none counts images"
        if self.of_footage:
            return "; groups are blocks of footage: give more of it, or shorter blocks (--block)"
        return ""

    def memory_plan(
        self, images: Sequence[ImageFile], extractor: Extractor, *, largest: int | None = None
    ) -> MemoryPlan:
        """Divide the budget for the features of images; see :func:`oddsight.data.memory.plan_memory`."""
        network, attention = extractor.backbone, extractor.attention
        return plan_memory(
            self.budget,
            images,
            extractor.size,
            activations=network.activations,
            weights=network.memory(extractor.stages)
            + (0 if attention is None else _COPIES * attention.graph.ByteSize()),
            largest=largest,
        )

    def choose_rate(self, count: int, what: str, more: str, *, promised: int | None = None, hint: str = "") -> float:
        """The rate asked for, or 1%, or the smallest that ``promised`` images promise, by default all.

        Raises:
            DataError: ``count`` of ``what`` are too few for the rate asked for.
        """
        if self.rate is None:
            return max(DEFAULT_RATE, smallest_rate(count if promised is None else promised, self.confidence))
        needed = images_needed(self.rate, self.confidence)
        if count < needed:
            raise DataError(
                f"{describe_rate(self.rate, self.confidence)} needs at least {needed:,} {what}, and there are "
                f"{count:,}: add {more} or ask for {advised_rate(max(1, count), self.confidence):.3g} or more{hint}"
            )
        return self.rate


@dataclass(frozen=True, kw_only=True)
class FitPlan:
    """What a fit is about to do, known before it starts.

    Attributes:
        images: All of them, each once.
        training: Those it learns from, in the order of their contents.
        calibration: Those it is calibrated on: of those kept out of training, or of all if ``kind`` is ``cross``, one
            of each group.
        held: How many images these groups hold, ``calibration`` among them.
        kind: ``split`` or ``cross``, see :class:`oddsight.model.sections.CalibrationInfo`.
        duplicates: How many images occurred again, and are left out.
        errors: Files that could not be read.
        fingerprint: SHA-256 over the contents of all images, and their classes if they have any, hex.
        rate: The false-alarm rate of the decision; None if no image is left to calibrate on.
        request: What was asked.
        memory: How the budget is divided.
        adapted_to: The images that the backbone was adapted to, packed; empty if it was not.
    """

    images: Sequence[ImageFile]
    training: Sequence[ImageFile]
    calibration: Sequence[ImageFile]
    held: int
    kind: Literal["split", "cross"] = "split"
    duplicates: int
    errors: Sequence[ImageError] = ()
    fingerprint: str
    rate: float | None
    request: Request
    memory: MemoryPlan = NOTHING_TO_READ
    adapted_to: str = ""

    @property
    def groups(self) -> int | None:
        """In how many groups the calibration images come; None if each stands alone."""
        return len(self.calibration) if self.held > len(self.calibration) else None

    @property
    def folds(self) -> int:
        """Into how many parts the images are divided, each scored by what learned from the others; 1 if into none."""
        return min(FOLDS, len(self.calibration)) if self.kind == "cross" else 1

    @property
    def copied(self) -> bool:
        """Whether the images are so few that changed copies of them are learned from, too."""
        return len(self.training) < FEWEST

    @property
    def adapted(self) -> int:
        """How many of the calibration images the backbone was adapted to.

        On them it may do better than on new ones, and the false-alarm rate is then not guaranteed.
        """
        return sum(map(seen(self.adapted_to), (image.content for image in self.calibration)))


def make_plan(collection: Collection, request: Request, memory: MemoryPlan, network: Backbone) -> FitPlan:
    """Divide normal images for learning and calibration, as :func:`oddsight.fit` describes.

    Raises:
        DataError: If the images or groups are too few.
    """
    images = collection.images
    if len(images) == 1:
        _check_nothing_asked(request)
    fraction = _fraction(images, request)
    training, held = split(images, fraction, request.seed) if fraction else (list(images), list(images))
    if fraction and len(training) < FEWEST:
        raise DataError(_too_few(len(training), len(images), fraction, request))
    if not fraction:
        _check_folds(training, request.seed, request.hint)
    calibration = one_of_each(held, request.seed)
    rate: float | None = None
    if len(held) > len(calibration):
        whose = ("groups of calibration images", "normal images of other groups")
        rate = request.choose_rate(len(calibration), *whose, hint=request.hint)
    elif len(images) > 1:
        rate = request.choose_rate(len(calibration), "calibration images", "normal images")
    return FitPlan(
        images=images,
        training=training,
        calibration=calibration,
        held=len(held),
        kind="split" if fraction else "cross",
        duplicates=len(collection.duplicates),
        errors=collection.errors,
        fingerprint=collection.fingerprint,
        rate=rate,
        request=request,
        memory=memory,
        adapted_to=images_adapted_to(network),
    )


def _too_few(left: int, count: int, fraction: float, request: Request) -> str:
    """What to do where a share that is held out, whoever chose it, leaves too few images to learn from."""
    why = f"{left} of {count} images are left to train on when {100 * fraction:.3g}% are held out for calibration, and "
    instead = (
        "give more footage, or shorter blocks (--block), which are held out as a whole"
        if request.of_footage
        else f"add images, or choose a smaller calibration fraction (0 uses all, in five folds){request.hint}"
    )
    return f"{why}training needs at least {FEWEST}: {instead}"


def _check_nothing_asked(request: Request) -> None:
    """Refuse to promise a rate by one image, which is learned from."""
    if request.rate is not None or request.confidence is not None:
        raise DataError(
            "one image leaves none to calibrate on, so no false-alarm rate can be promised: add normal images, or ask "
            "for no rate and no confidence"
        )


def images_adapted_to(network: Backbone) -> str:
    """The images that a backbone was adapted to, packed; empty if it was not."""
    if network.name in BACKBONES:
        return ""
    from oddsight.training.adapting import read_adaptation

    return str((read_adaptation(network.path) or {}).get("images_seen", ""))


def _fraction(images: Sequence[ImageFile], request: Request) -> float:
    """The share asked for, or the usual one."""
    if request.fraction is not None:
        return request.fraction
    return usual_fraction(len(images), count_groups(images), request.rate, request.confidence)


def usual_fraction(images: int, units: int, rate: float | None, confidence: float | None) -> float:
    """A quarter of the units (images or groups) if that is enough for the rate and for learning; otherwise 0: folds."""
    held = int(np.ceil(FRACTION * units))
    enough = held >= images_needed(DEFAULT_RATE if rate is None else rate, confidence)
    return FRACTION if enough and images - held >= FEWEST else 0.0


def _check_folds(images: Sequence[ImageFile], seed: int, hint: str) -> None:
    """Refuse folds that would leave next to nothing to learn from, which only few or very unequal groups cause."""
    groups = count_groups(images)
    if groups < len(images):
        parts = folds(images, min(FOLDS, groups), seed)
        left = len(images) - max(map(len, parts))
        if left < _LEFT:
            raise DataError(
                f"{len(images):,} images form {groups:,} group{'s' * (groups != 1)}: without one fold of them {left:,} "
                f"images are left to train on, which needs at least {_LEFT}: add images of other groups{hint}"
            )
