"""What a graph must give for one image. Every score that Oddsight shows, stores or calibrates with passes here."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oddsight.errors import ImageError
from oddsight.model.calibration import p_values

_ROUNDED = 1e-6  # How far float32 may be from what it rounds, relatively

_CLOSE = 1e-4  # How far the highest value of a map may lie from the score that it stands for, relatively


def read_score(values: ArrayLike, image: str) -> float:
    """The score of one image."""
    return float(_one(values, "score", image))


def read_p_value(values: ArrayLike, score: float, calibration: NDArray[np.float32], image: str) -> float:
    """The p-value of one image: a multiple of 1 / (n + 1), of which the graph's float32 is a rounding."""
    given = _probability(_one(values, "p-value", image), "p-value", image)
    expected = float(p_values(calibration, np.array([score], np.float32))[0])
    if not math.isclose(given, expected, rel_tol=_ROUNDED):
        raise ImageError(
            image, f"the model gave a p-value of {given:.7g}, but its calibration scores give {expected:.7g}"
        )
    return expected


def read_probability(values: ArrayLike, what: str, image: str) -> float:
    """A probability of one image, in (0, 1]."""
    return _probability(_one(values, what, image), what, image)


def read_index(values: ArrayLike, count: int, what: str, image: str) -> int:
    """One of ``count`` things, counted from 0."""
    index = int(_one(values, what, image))
    if not 0 <= index < count:
        raise ImageError(image, f"the model gave {what} {index}, but there are {count:,}, counted from 0")
    return index


def read_map(values: ArrayLike, grid: tuple[int, int], score: float, image: str) -> NDArray[np.float32]:
    """The anomaly map of one image, float32 ``[h, w]``, whose highest value is the score."""
    array: NDArray[np.float32] = np.asarray(values, np.float32)
    if array.shape != (1, *grid):
        raise ImageError(
            image, f"the model gave an anomaly map of shape {array.shape}, and one of {(1, *grid)} was expected"
        )
    if not np.isfinite(array).all():
        raise ImageError(image, "the model gave an anomaly map with values that are not finite numbers")
    highest = float(array.max())
    if not math.isclose(highest, score, rel_tol=_CLOSE):
        raise ImageError(
            image, f"the highest value of the model's anomaly map is {highest:.7g}, and its score is {score:.7g}"
        )
    only: NDArray[np.float32] = array[0]
    return only


def read_voices(
    evidence: ArrayLike, p_values: ArrayLike, count: int, score: float, image: str
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The evidence, of which the highest is the score, and the p-value of each voice, float32 ``[count]``."""
    said, shares = np.asarray(evidence, np.float32), np.asarray(p_values, np.float32)
    if said.shape != (1, count) or shares.shape != (1, count):
        raise ImageError(image, f"the model gave evidence of shape {said.shape} for one image and {count} voices")
    if not np.isfinite(said).all():
        raise ImageError(image, "the model gave evidence that is not a finite number")
    highest = float(said.max())
    if not math.isclose(highest, score, rel_tol=_CLOSE):
        raise ImageError(image, f"the model gave evidence of at most {highest:.7g}, but its score is {score:.7g}")
    for share in shares[0].tolist():
        _probability(share, "p-value of a voice", image)
    return said[0], np.minimum(shares[0], 1)


def _one(values: ArrayLike, what: str, image: str) -> float:
    array = np.asarray(values)
    if array.shape != (1,):
        raise ImageError(image, f"the model gave {array.size:,} values as the {what} of one image")
    number = float(array[0])
    if not math.isfinite(number):
        raise ImageError(image, f"the model gave a {what} that is not a finite number ({number:g})")
    return number


def _probability(number: float, what: str, image: str) -> float:
    if not 0 < number <= 1 + _ROUNDED:
        raise ImageError(image, f"the model gave a {what} of {number:g}, which is not above 0 and at most 1")
    return min(number, 1.0)
