"""Regions of interest from an object detector: any ONNX file, with a small JSON file beside it that describes it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, ValidationError

from oddsight.errors import DataError, ImageError, ModelError, plain
from oddsight.model.events import Box
from oddsight.model.file import check_safety, parse_proto, read_content
from oddsight.runtime.parallel import cores
from oddsight.runtime.records import read_up_to
from oddsight.runtime.sessions import Graph, run
from oddsight.watch.object_outputs import Detections, Output, Section, Share, suppress_overlaps

_LARGEST = 2**20
_Side = Annotated[int, Field(ge=8, le=4096)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class InputDescription(Section):
    """How a frame becomes the input of a detector.

    Attributes:
        name: The input of the graph.
        width: Of the input, in pixels.
        height: Of the input.
        layout: ``nchw`` or ``nhwc``.
        colours: The order of the channels.
        type: ``float32`` or ``uint8``.
        scale: What the values 0 to 255 are multiplied with.
        mean: Of each channel in this order, which is then taken off.
        std: Of each channel, which is then divided by.
        fit: ``stretch``; ``letterbox``: it keeps its shape, in the upper left corner; ``centred``: in the middle.
        fill: The grey value around it.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    width: _Side
    height: _Side
    layout: Literal["nchw", "nhwc"] = "nchw"
    colours: Literal["rgb", "bgr"] = "rgb"
    type: Literal["float32", "uint8"] = "float32"
    scale: _Positive = 1.0
    mean: tuple[_Finite, _Finite, _Finite] = (0.0, 0.0, 0.0)
    std: tuple[_Positive, _Positive, _Positive] = (1.0, 1.0, 1.0)
    fit: Literal["stretch", "letterbox", "centred"] = "letterbox"
    fill: Annotated[int, Field(ge=0, le=255)] = 114


class Description(Section):
    """What lies beside a detector as JSON.

    Attributes:
        input: How a frame becomes its input.
        output: What its outputs mean; see :mod:`oddsight.watch.object_outputs`.
        classes: Names of its classes in their order; empty if it has none.
        targets: The classes that are regions of interest; all if empty.
        score: The least score of a box.
        overlap: Intersection over union beyond which the worse of two boxes of a class is left out.
        most: Boxes of a frame at most.
    """

    input: InputDescription
    output: Output
    classes: tuple[Annotated[str, Field(max_length=100)], ...] = ()
    targets: tuple[str, ...] = ()
    score: Share = 0.3
    overlap: Share = 0.45
    most: Annotated[int, Field(ge=1, le=64)] = 16


class ObjectDetector:
    """Boxes around the objects that a detector finds.

    Args:
        content: The bytes of its ONNX file.
        description: What is known of it.
        name: What errors call it.

    Raises:
        DataError: The file is no ONNX file, reaches beyond itself, or has other inputs and outputs than described.
    """

    follows: ClassVar[bool] = True
    light_changed = False

    def __init__(self, content: bytes, description: Description, *, name: str = "the detector") -> None:
        self.description, self._name = description, name
        unknown = [word for word in description.targets if word not in description.classes]
        if unknown:
            raise DataError(f"{name}: the target class {plain(unknown[0])!r} is not among its classes")
        self._targets = [description.classes.index(word) for word in description.targets]
        try:
            proto = parse_proto(content)
            check_safety(proto)
        except ModelError as error:
            raise DataError(f"{name}: {error}") from None
        known = {value.name for value in (*proto.graph.input, *proto.graph.output)}
        for wanted in (description.input.name, *description.output.names):
            if wanted not in known:
                raise DataError(f"{name}: it has no input or output {plain(wanted)!r}: correct its description")
        self._graph = Graph(lambda: content, threads=cores())

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> ObjectDetector:
        """Read an ONNX file and its description, which has the same name with the ending ``.json``.

        Raises:
            DataError: A file is missing or wrong; the message says which.
        """
        path = Path(path)
        beside = path.with_suffix(".json")
        try:
            content = read_content(path)
        except ModelError as error:
            raise DataError(str(error)) from None
        try:
            text = read_up_to(beside, _LARGEST)
        except OSError as error:
            raise DataError(
                f"{beside}: the description of the detector {path.name} cannot be read: {error.strerror}"
            ) from None
        try:
            description = Description.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{beside}: wrong{f' at {plain(where)}' * bool(where)}: {plain(first['msg'])}") from None
        return cls(content, description, name=str(path))

    def propose(self, pixels: NDArray[np.uint8]) -> list[Box]:
        """See :class:`oddsight.watch.interest.Proposer`.

        Raises:
            ImageError: The detector fails, or what it returns is not as described.
        """
        asked = self.description.input
        height, width, _ = pixels.shape
        feed, (scale_x, scale_y, left, top) = _as_input(pixels, asked)
        try:
            arrays = run(self._graph.session, {asked.name: feed}, "a frame", self.description.output.names)
            flat = [np.asarray(array, np.float64)[0] for array in arrays]
            boxes, scores, classes = self.description.output.read(flat, asked.width, asked.height)
            found = self._choose((boxes, scores, classes))
        except (ModelError, ValueError, IndexError, TypeError) as error:
            raise ImageError(self._name, f"what the detector returns is not as described: {error}") from None
        placed = (found[0] - [left, top, left, top]) / [scale_x, scale_y, scale_x, scale_y]
        placed = np.clip(np.rint(placed), 0, [width, height, width, height]).astype(int)
        return [(a, b, c, d) for a, b, c, d in placed.tolist() if c > a and d > b]

    def _choose(self, detections: Detections) -> Detections:
        boxes, scores, classes = detections
        good = (scores >= self.description.score) & np.isfinite(boxes).all(axis=1)
        if self._targets:
            good &= np.isin(classes, self._targets)
        return suppress_overlaps(
            (boxes[good], scores[good], classes[good]), self.description.overlap, self.description.most
        )


def _as_input(
    pixels: NDArray[np.uint8], asked: InputDescription
) -> tuple[NDArray[np.generic], tuple[float, float, int, int]]:
    """The input of a detector, and how it lies there: scale in x and y, and where its upper left corner is."""
    height, width, _ = pixels.shape
    scale_x, scale_y = asked.width / width, asked.height / height
    if asked.fit != "stretch":
        scale_x = scale_y = min(scale_x, scale_y)
    size = (min(asked.width, max(1, round(width * scale_x))), min(asked.height, max(1, round(height * scale_y))))
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    left, top = ((asked.width - size[0]) // 2, (asked.height - size[1]) // 2) if asked.fit == "centred" else (0, 0)
    canvas = np.full((asked.height, asked.width, 3), asked.fill, np.uint8)
    canvas[top : top + size[1], left : left + size[0]] = small
    values: NDArray[np.generic] = canvas[..., ::-1] if asked.colours == "bgr" else canvas
    if asked.type == "float32":
        values = (values.astype(np.float32) * np.float32(asked.scale) - np.array(asked.mean, np.float32)) / np.array(
            asked.std, np.float32
        )
    if asked.layout == "nchw":
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(values[None]), (scale_x, scale_y, left, top)
