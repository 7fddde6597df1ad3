"""What object detectors return, by style: boxes in pixels of their input, a score and a class for each.

``yolox``: one output ``[1, N, 5 + classes]``: centre, width and height, how sure it is that there is an object, and
the classes. Grid and strides are not in YOLOX's own exports, so they are applied here unless ``decoded`` says otherwise
(Ge et al., YOLOX, 2021). ``ssd``: boxes ``[1, N, 4]``, scores ``[1, N]`` with classes ``[1, N]``, or scores
``[1, N, classes]`` (Liu et al., SSD, ECCV 2016). ``detr``: boxes ``[1, N, 4]`` as centre, width and height in shares of
the input, and logits ``[1, N, classes]`` (Carion et al., DETR, ECCV 2020).
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from oddsight.watch.tracks import overlaps

Floats = NDArray[np.float64]
Detections = tuple[Floats, Floats, NDArray[np.intp]]
"""Boxes ``[n, 4]`` as left, top, right, bottom in pixels of the input, scores ``[n]`` and classes ``[n]``."""

_Name = Annotated[str, Field(min_length=1, max_length=200)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """A part of a description, which has no other fields than these."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class YoloxOutput(Section):
    """One output; see the module."""

    style: Literal["yolox"]
    boxes: _Name
    decoded: bool = False
    strides: tuple[Annotated[int, Field(ge=1, le=256)], ...] = (8, 16, 32)

    @property
    def names(self) -> list[str]:
        """The outputs of the graph."""
        return [self.boxes]

    def read(self, arrays: list[Floats], width: int, height: int) -> Detections:
        """Detections from the arrays of the outputs, without the axis of the batch."""
        rows = arrays[0]
        places, sizes = rows[:, :2], rows[:, 2:4]
        if not self.decoded:
            cells = [_cells(width // stride, height // stride, stride) for stride in self.strides]
            corners, strides = (np.concatenate(part) for part in zip(*cells, strict=True))
            if len(corners) != len(rows):
                raise ValueError(f"{len(rows)} boxes do not fit the strides {list(self.strides)} of this input size")
            places, sizes = (places + corners) * strides, np.exp(np.minimum(sizes, 20.0)) * strides
        classes = rows[:, 5:].argmax(axis=1)
        return _corners(places, sizes), rows[:, 4] * rows[:, 5:].max(axis=1), classes


class SsdOutput(Section):
    """Two or three outputs; see the module.

    Attributes:
        order: Of the numbers of a box.
        relative: Whether boxes are in shares of the input instead of pixels.
        background: Whether the first of several scores of a box is that of no object. Its classes then begin with the
            second.
    """

    style: Literal["ssd"]
    boxes: _Name
    scores: _Name
    classes: _Name | None = None
    order: Literal["xyxy", "yxyx"] = "yxyx"
    relative: bool = True
    background: bool = False

    @property
    def names(self) -> list[str]:
        """The outputs of the graph."""
        return [self.boxes, self.scores, *([] if self.classes is None else [self.classes])]

    def read(self, arrays: list[Floats], width: int, height: int) -> Detections:
        """Detections from the arrays of the outputs, without the axis of the batch."""
        boxes, scores = arrays[:2]
        boxes = boxes[:, [1, 0, 3, 2]] if self.order == "yxyx" else boxes
        boxes = boxes * np.array([width, height] * 2) if self.relative else boxes
        if self.classes is not None:
            return boxes, scores, np.rint(arrays[2]).astype(np.intp)
        if scores.ndim == 1:
            return boxes, scores, np.zeros(len(scores), np.intp)
        scores = scores[:, 1:] if self.background else scores
        return boxes, scores.max(axis=1), scores.argmax(axis=1)


class DetrOutput(Section):
    """Two outputs; see the module.

    Attributes:
        activation: ``softmax``, where the last class is no object, as DETR has it; or ``sigmoid``, as its successors.
    """

    style: Literal["detr"]
    boxes: _Name
    logits: _Name
    activation: Literal["softmax", "sigmoid"] = "softmax"

    @property
    def names(self) -> list[str]:
        """The outputs of the graph."""
        return [self.boxes, self.logits]

    def read(self, arrays: list[Floats], width: int, height: int) -> Detections:
        """Detections from the arrays of the outputs, without the axis of the batch."""
        boxes, logits = arrays
        if self.activation == "softmax":
            shares = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores = (shares / shares.sum(axis=1, keepdims=True))[:, :-1]
        else:
            scores = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
        scaled = boxes * np.array([width, height] * 2)
        return _corners(scaled[:, :2], scaled[:, 2:]), scores.max(axis=1), scores.argmax(axis=1)


Output = Annotated[YoloxOutput | SsdOutput | DetrOutput, Field(discriminator="style")]


def suppress_overlaps(detections: Detections, overlap: float, most: int) -> Detections:
    """The detections without those that overlap a better one of their class, best first, at most so many."""
    boxes, scores, classes = detections
    order = np.lexsort((*boxes.T, -scores))[: 8 * most]
    boxes, scores, classes = boxes[order], scores[order], classes[order]
    shared = overlaps(boxes.tolist(), boxes.tolist())
    kept: list[int] = []
    for place in range(len(boxes)):
        rivals = [other for other in kept if classes[other] == classes[place]]
        if len(kept) < most and not (shared[place, rivals] > overlap).any():
            kept.append(place)
    return boxes[kept], scores[kept], classes[kept]


def _cells(columns: int, rows: int, stride: int) -> tuple[Floats, Floats]:
    """Column and row of each cell of a grid ``[n, 2]``, and its stride ``[n, 1]``."""
    down, across = np.mgrid[:rows, :columns]
    places = np.stack([across.ravel(), down.ravel()], axis=1).astype(np.float64)
    return places, np.full((len(places), 1), float(stride))


def _corners(centres: Floats, sizes: Floats) -> Floats:
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
