"""Scores of normal footage, kept in a model file: what alarms of ``oddsight watch`` are calibrated on."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import DataError, ModelError
from oddsight.model.sections import FootageInfo

MOST = 400_000
"""Scores that a model file keeps, some 2 MB; of more, every second frame is left out, and so on."""

_COVERED = 0.9
"""Share of a block that has to be there for it to count."""

_GAP = 2.0
"""Seconds until the next frame, at most, for which a frame stands: some cameras write few while little moves."""

_LONGEST = 2**32 / 1000
"""Seconds that 32 bits of milliseconds can count."""


@dataclass(frozen=True, eq=False)
class Footage:
    """Scores of the frames of normal footage that the model did not learn from.

    Attributes:
        times: Seconds, float64 ``[n]``, ascending. Clips follow one another, each from the start of a block.
        scores: By zone, float32 ``[n]``; NaN where a frame has nothing to score there.
        block: Length of the blocks in seconds. Blocks are taken to be exchangeable, the frames within are not.
        places: The zones and regions of interest that were looked at, as text.

    Raises:
        DataError: If it is not as it should be.
    """

    times: NDArray[np.float64]
    scores: Mapping[str, NDArray[np.float32]]
    block: float
    places: str = ""

    def __post_init__(self) -> None:
        if not self.scores or any(scores.shape != self.times.shape for scores in self.scores.values()):
            raise DataError("the scores of the footage are not as many as its frames")
        if (
            len(self.times) < 2
            or (np.diff(self.times) <= 0).any()
            or not 0 <= self.times[0] <= self.times[-1] < _LONGEST
        ):
            raise DataError("the footage has fewer than two frames, or its times do not ascend")
        if any(np.isinf(scores).any() for scores in self.scores.values()):
            raise DataError("a score of the footage is not finite")

    @property
    def interval(self) -> float:
        """Seconds from one frame to the next, the median."""
        return float(np.median(np.diff(self.times)))

    @property
    def numbers(self) -> NDArray[np.int64]:
        """The number of the block that each frame is in, ``[n]``; -1 in a block that is not all there."""
        numbers = np.floor(self.times / self.block + 1e-6).astype(np.int64)
        longest = max(min(_GAP, (1 - _COVERED) * self.block), 1.5 * self.interval)
        gaps = np.diff(self.times, append=self.times[-1] + self.interval)
        _, places = np.unique(numbers, return_inverse=True)
        whole = np.bincount(places, np.minimum(gaps, longest)) >= _COVERED * self.block
        return np.where(whole[places], numbers, -1)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        numbers = self.numbers
        return len(np.unique(numbers[numbers >= 0]))

    @property
    def hours(self) -> float:
        """Hours that they last."""
        return self.blocks * self.block / 3600

    def reduced(self) -> Footage:
        """The same with at most :data:`MOST` scores."""
        step = 1
        while len(self.times[::step]) * len(self.scores) > MOST:
            step *= 2
        return Footage(
            self.times[::step], {zone: s[::step] for zone, s in self.scores.items()}, self.block, self.places
        )

    def to_info(self) -> FootageInfo:
        """As metadata keep it."""
        kept = self.reduced()
        return FootageInfo(
            block=kept.block,
            places=kept.places,
            times=_packed(np.round(kept.times * 1000).astype("<u4")),
            scores={zone: _packed(scores.astype("<f4")) for zone, scores in kept.scores.items()},
        )

    @classmethod
    def from_info(cls, info: FootageInfo) -> Footage:
        """Read what metadata keep.

        Raises:
            ModelError: If it is damaged.
        """
        try:
            times = np.frombuffer(base64.b64decode(info.times), "<u4").astype(np.float64) / 1000
            scores = {zone: np.frombuffer(base64.b64decode(text), "<f4") for zone, text in info.scores.items()}
            return cls(times, scores, info.block, info.places)
        except (ValueError, DataError) as error:
            raise ModelError(f"its footage is damaged: {error}") from error


def _packed(values: NDArray[np.generic]) -> str:
    return base64.b64encode(values.tobytes()).decode()
