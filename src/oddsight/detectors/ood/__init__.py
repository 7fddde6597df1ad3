"""Scores that let a classifier say "none of these": a file for each family, registered by :func:`score`.

A score turns what a trained classifier makes of an image, its embedding and its logits, into one number that is higher
the less the image belongs to any known class. It is fitted on the embeddings of the training images and returns a
graph from ``embedding`` or ``logits``, or both, to ``score``. Where a paper gives a confidence, the score is minus it.
"""

from __future__ import annotations

import importlib
import pkgutil

from oddsight.detectors import METHODS
from oddsight.detectors.ood.one_class import PREFIX as PREFIX
from oddsight.detectors.ood.one_class import OneClass
from oddsight.detectors.ood.score import SCORES as SCORES
from oddsight.detectors.ood.score import Score as Score
from oddsight.detectors.ood.score import score as score
from oddsight.detectors.ood.summing import PLUS as PLUS
from oddsight.detectors.ood.summing import Sum
from oddsight.errors import OddsightError

DEFAULT = "knn"
"""The best of the scores that need no training of their own where OpenOOD v1.5 compares them on CIFAR-10."""


def names() -> list[str]:
    """Of all scores: the registered ones, and ``one-class:NAME`` for each method that reads embeddings."""
    return [*SCORES, *(f"{PREFIX}{name}" for name, cls in METHODS.items() if cls.reads == "embedding")]


def by_name(name: str) -> Score:
    """Return the score of that name with default settings; names joined by ``+`` give a sum.

    Raises:
        OddsightError: There is no such score.
    """
    if PLUS in name:
        return Sum(tuple(by_name(one) for one in name.split(PLUS)))
    if name not in names():
        raise OddsightError(f"no score {name!r}: there are {', '.join(names())}")
    return SCORES[name]() if name in SCORES else OneClass(METHODS[name.removeprefix(PREFIX)]())


for _module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
