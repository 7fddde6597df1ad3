"""What a sink is, and what it is told."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from oddsight.data.reading import Reading
from oddsight.drawing.overlays import MAX_SIDE
from oddsight.errors import ImageError
from oddsight.model.model import Model
from oddsight.model.result import Result
from oddsight.scenes import SceneSettings, open_image
from oddsight.scenes.scene_image import SceneImage
from oddsight.sources.frame import Frame


@dataclass
class Totals:
    """How many images came to what."""

    normal: int = 0
    anomalous: int = 0
    errors: int = 0

    def count(self, outcome: Result | ImageError) -> None:
        """Take one more in."""
        if isinstance(outcome, ImageError):
            self.errors += 1
        elif outcome.anomalous:
            self.anomalous += 1
        else:
            self.normal += 1


@dataclass(frozen=True)
class Run:
    """What all images of a run have in common.

    Attributes:
        model: What scores them, with its decision.
        reading: Bands and scale of TIFF files that were asked for instead of the model's.
        scene: How scenes are cut, or None where images are read whole.
        note: Called with what there is to say beside the results.
        totals: Of the images so far.
    """

    model: Model
    reading: Reading
    scene: SceneSettings | None
    note: Callable[[str], None]
    totals: Totals = field(default_factory=Totals)

    def pixels(self, frame: Frame) -> NDArray[np.uint8]:
        """An image to draw on, uint8 ``[H, W, 3]``; of a scene a copy that is as large as heat maps are.

        Raises:
            ImageError: If it cannot be read again.
        """
        if self.scene is not None:
            return self.open(frame).reduced(MAX_SIDE)
        return frame.read(self.model.reading.override(self.reading))

    def open(self, frame: Frame) -> SceneImage:
        """An image to read by rows, with the pixels that hold no data and its place on Earth."""
        return open_image(frame, self.scene or SceneSettings(tile=None, reading=self.reading), self.model)


@dataclass
class Prediction:
    """One image with what became of it.

    Attributes:
        outcome: Its result, or why it has none.
        frame: The image, or None where the source had only an error to give.
        file_name: A name for files about it, without suffix, which no other image of the run has.
        files: What sinks wrote of it so far, paths by kind; None if none of them writes files.
    """

    outcome: Result | ImageError
    frame: Frame | None
    file_name: str
    files: dict[str, str] | None = None

    def add_files(self, files: dict[str, str]) -> None:
        """Note what was written, for the sinks that follow."""
        self.files = {**(self.files or {}), **files}


Write = Callable[[Prediction], None]
"""Takes the predictions of one run."""


class Sink(Protocol):
    """Where results go.

    It is opened before the first image and then gets the result of every image, in order, always in one thread.

    A run that fails or is interrupted ends the context with that exception, so that what a sink writes within a
    ``with`` statement of its own is discarded there.

    Example:
        >>> from contextlib import contextmanager
        >>> class Scores:
        ...     def __init__(self):
        ...         self.scores = []
        ...     @contextmanager
        ...     def open(self, run):
        ...         yield lambda prediction: self.scores.append(prediction.outcome.score)
        >>> scores = Scores()
        >>> oddsight.predict("parts.onnx", "new/0001.png", sinks=[scores]).anomalous
        1
        >>> len(scores.scores)
        1
    """

    def open(self, run: Run) -> AbstractContextManager[Write]:
        """Get ready for a run.

        Returns:
            A context that gives the function to call with each prediction, and puts all in order when it ends.

        Raises:
            OddsightError: If results cannot go there.
        """
