"""The result for one image: the one type that everything consumes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.tiff.raster import NO_DATA
from oddsight.errors import DataError, ImageError
from oddsight.model.calibration import p_values
from oddsight.model.regions import Area, Region, describe, find_areas, paint
from oddsight.model.sections import PixelLevels
from oddsight.runtime.bounds import check_number

NONE_OF_THESE = "none of these"
"""The verdict on an image that belongs to none of the classes a model knows."""


UNKNOWN_TYPE = "unknown type"
"""The verdict on an anomaly that is of none of the types a model names."""

VERDICTS = ("normal", "anomalous")
"""What images are called unless a model has words of its own."""


@dataclass(frozen=True)
class Voice:
    """The evidence of one of the detectors inside a method about an image.

    Attributes:
        name: The stage of the backbone that it reads, or ``places``.
        evidence: The weighted evidence in nats; the highest of all voices is the score.
        p_value: Share of normal images expected to get as much evidence from it, in (0, 1], measured on images that its
            detectors were not trained on.
    """

    name: str
    evidence: float
    p_value: float


@dataclass(frozen=True)
class AnomalyType:
    """The type of anomaly that an image is most like.

    Attributes:
        name: The type.
        probability: Of this type among the types that the model names, in (0, 1].
        score: How little the image resembles any of these types; raw.
        p_value: Share of anomalies of these types expected to score at least as high, in (0, 1].
        known: Whether the anomaly counts as one of these types.
    """

    name: str
    probability: float
    score: float
    p_value: float
    known: bool


@dataclass(frozen=True)
class Tiling:
    """The tiles of a scene.

    Attributes:
        count: Number of tiles that were scored.
        size: Side of a tile in pixels.
        overlap: Overlap of neighbouring tiles in pixels.
        per_tile: Whether p-value and false-alarm rate are for a tile instead of the scene.
    """

    count: int
    size: int
    overlap: int
    per_tile: bool


@dataclass(frozen=True, eq=False)
class Result:
    """The result for one image: its score, the decision, and what explains it.

    Attributes:
        source: The image's path or name, or None for an array without a name.
        width: Width of the image in pixels.
        height: Height of the image in pixels.
        score: The raw score; higher is more anomalous.
        p_value: Share of normal images expected to score at least as high, in (0, 1].
        threshold: The threshold for the score, or None if a batch decision flagged nothing.
        false_alarm_rate: The false-alarm rate of the threshold, or None if it was set by hand (or if none can be
            promised for a scene of many tiles; see ``docs/scenes.md``).
        map: The anomaly map, float32 ``[h, w]``, on the model's grid or on the grids of all tiles; None if the method
            cannot localise.
        voices: The evidence of the detectors inside the method, the deciding one first; empty if the method has a
            single detector.
        nearest: The most similar normal training image, as the first 16 hexadecimal digits of the SHA-256 of its
            content; None for models of schema 1.
        label: The predicted class, if the model knows classes.
        label_probability: The probability of the predicted class among the known ones, in (0, 1].
        verdicts: The words for a normal and an anomalous image.
        tiling: The tiles, if the image was scored in tiles.
        time: Seconds since the start of its source, if the source knows.
        index: Its number in its source, from 0, if the source counts.
        levels: Values that pixels of normal images have in the map, if the model knows.
        calibration: Scores of the calibration images ``[n]``, for the p-values of regions.
        most_like: The type of anomaly that the image is most like, anomalous or not, if the model names types.
    """

    source: str | None
    width: int
    height: int
    score: float
    p_value: float
    threshold: float | None
    false_alarm_rate: float | None
    map: NDArray[np.float32] | None
    voices: tuple[Voice, ...] = ()
    nearest: str | None = None
    label: str | None = None
    label_probability: float | None = None
    verdicts: tuple[str, str] = VERDICTS
    tiling: Tiling | None = None
    time: float | None = None
    index: int | None = None
    levels: PixelLevels | None = None
    calibration: NDArray[np.float32] | None = field(default=None, repr=False)
    most_like: AnomalyType | None = None

    @property
    def verdict(self) -> str:
        """``normal`` or ``anomalous``, or the model's words; with known classes, the class or ``none of these``.

        For an anomalous image it is the type of anomaly or ``unknown type``, if the model names types.
        """
        if self.label is not None:
            return NONE_OF_THESE if self.anomalous else self.label
        if self.anomalous and self.most_like is not None:
            return self.type or UNKNOWN_TYPE
        normal, anomalous = self.verdicts
        return anomalous if self.anomalous else normal

    @property
    def anomalous(self) -> bool:
        """Whether the score is above the threshold."""
        return self.threshold is not None and self.score > self.threshold

    @property
    def type(self) -> str | None:
        """The type of anomaly; None if the image is normal, of no known type, or the model names no types."""
        named = self.most_like
        return named.name if self.anomalous and named is not None and named.known else None

    @cached_property
    def regions(self) -> tuple[Region, ...]:
        """Where the image is anomalous, highest peak first, see :mod:`oddsight.model.regions`; none if it is normal."""
        if self.map is None:
            return ()
        size = self.width, self.height
        return tuple(describe(area, self.map, *size, self._p_value(area.peak)) for area in self._areas)

    def mask(self, top: int = 0, bottom: int | None = None) -> NDArray[np.bool_]:
        """Which pixels lie in a region: rows ``top`` to ``bottom`` of the image, by default all, ``[n, width]``."""
        bottom = self.height if bottom is None else bottom
        if self.map is None:
            return np.zeros((bottom - top, self.width), bool)
        return paint(self._areas, self.map, self.width, self.height, top, bottom)

    @cached_property
    def _areas(self) -> list[Area]:
        if self.map is None or self.threshold is None or not self.anomalous:
            return []
        return find_areas(self.map, self.threshold, self.levels)

    def _p_value(self, peak: float) -> float | None:
        if self.calibration is None:
            return None
        chances = 1 if self.tiling is None or self.tiling.per_tile else self.tiling.count
        return min(1.0, chances * float(p_values(self.calibration, np.array([peak], np.float32))[0]))

    def to_json(self) -> dict[str, Any]:
        """As ``predict --json`` writes it."""
        known = {} if self.label is None else {"class": self.label, "class_probability": self.label_probability}
        return {
            "path": self.source,
            "verdict": self.verdict,
            **known,
            **({} if self.most_like is None else {"type": self.type, "most_like": asdict(self.most_like)}),
            "score": self.score,
            "p_value": self.p_value,
            "anomalous": self.anomalous,
            "threshold": self.threshold,
            "false_alarm_rate": self.false_alarm_rate,
            "regions": [region.to_json() for region in self.regions],
            "voices": [asdict(voice) for voice in self.voices],
            "nearest": self.nearest,
            **({} if self.tiling is None else {"tiles": asdict(self.tiling)}),
            **({} if self.time is None else {"time": self.time}),
            **({} if self.index is None else {"index": self.index}),
        }


def shares(valid: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Which share of each cell of a grid holds data, ``[h, w]``."""
    whole = Image.fromarray(valid.astype(np.float32))
    return np.asarray(whole.resize((shape[1], shape[0]), Image.Resampling.BOX))


def score_where(
    result: Result,
    values: NDArray[np.floating],
    there: NDArray[np.bool_],
    threshold: float,
    calibration: NDArray[np.float32],
) -> Result:
    """The result of a map ``[h, w]`` by the cells that hold data, so that no other is ever flagged."""
    if not there.any():
        raise ImageError(result.source or "an array", NO_DATA)
    score = float(values[there].max())
    # Below everything, so that no one who compares with the threshold has to know what is missing.
    floor = threshold if result.levels is None else min(threshold, result.levels.high)
    seen = np.where(there, values, min(float(values[there].min()), floor)).astype(np.float32)
    p_value = float(p_values(calibration, np.array([score], np.float32))[0])
    return replace(result, score=score, p_value=p_value, map=seen)


WITHIN_CLASSES = (
    "deciding over a batch takes p-values among all images, and this model's are within each class: fit it without "
    "--per-class"
)
"""What is said of a model to which :func:`control_fdr` does not apply."""


def control_fdr(
    results: Iterable[Result | ImageError], rate: float, calibration: NDArray[np.float32]
) -> list[Result | ImageError]:
    """Decide over a whole batch, so that at most a share ``rate`` of the alarms are expected to be false.

    Benjamini and Hochberg's procedure on conformal p-values, which is valid for them (Bates et al., Annals of
    Statistics 2023).

    Args:
        results: Of all images of the batch; errors are passed through. Maps of images that cannot be flagged are
            dropped, so memory does not grow with them.
        rate: The false discovery rate, between 0 and 1.
        calibration: The model's calibration scores, ``[n]``, which its p-values are among; so not of a model whose
            p-values are :attr:`oddsight.Model.by_class`.
    """
    from scipy.stats import false_discovery_control

    check_fdr(rate)
    kept = [r if isinstance(r, ImageError) or r.p_value <= rate * (1 + 1e-9) else replace(r, map=None) for r in results]
    p_values = np.array([r.p_value for r in kept if isinstance(r, Result)])
    # The slack keeps a p-value that equals its bound from missing it by a rounding.
    flagged = p_values[false_discovery_control(p_values) <= rate * (1 + 1e-9)] if len(p_values) else p_values
    if not len(flagged):
        return [r if isinstance(r, ImageError) else replace(r, threshold=None, false_alarm_rate=None) for r in kept]
    cut = float(flagged.max())
    alarms = round(cut * (len(calibration) + 1))
    threshold = float(np.sort(calibration)[len(calibration) - alarms])
    return [r if isinstance(r, ImageError) else replace(r, threshold=threshold, false_alarm_rate=cut) for r in kept]


def check_fdr(rate: float) -> None:
    """Refuse a false discovery rate that is none."""
    if not 0 < check_number(rate, "the false discovery rate") < 1:
        raise DataError(f"the false discovery rate must lie between 0 and 1, not {rate:g}")
