"""A student that imitates a pretrained network on normal images, and fails on others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import onnx

from oddsight.backbones import DEFAULT, backbone
from oddsight.detectors.detector import detector
from oddsight.detectors.pixel_detector import PixelDetector
from oddsight.errors import OddsightError
from oddsight.graphs.building import chain, piece
from oddsight.graphs.features import patches
from oddsight.graphs.maps import anomaly_map
from oddsight.runtime.bounds import Each, Share, Sigma, Text, Whole

if TYPE_CHECKING:
    from oddsight.training.pixel_training import PixelNetwork, TrainedPixels


@detector
@dataclass
class StudentTeacher(PixelDetector):
    """Squared error with which a small network imitates the patches of a pretrained one: the smoothed map's largest.

    The student sees normal images only; on others it does not know what the teacher sees. It learns from the largest
    of its errors, so that it does not waste itself on what it knows.

    Attributes:
        teacher: The name of a backbone.
        widths: Channels of the student's three layers that halve the image.
        hard: Share of the errors that is learned from: the largest.
        sigma: Smoothing of the map, in grid cells.
    """

    name: ClassVar[str] = "student-teacher"
    summary: ClassVar[str] = "where a small network that imitates a pretrained one on normal images fails to"
    paper: ClassVar[str] = (
        "Batzner et al., EfficientAD: Accurate Visual Anomaly Detection at Millisecond-Level Latencies, WACV 2024 "
        "(its student and hard feature loss); Wang et al., Student-Teacher Feature Pyramid Matching, BMVC 2021"
    )
    localises: ClassVar[bool] = True
    size: ClassVar[int | None] = 128
    multiple: ClassVar[int] = 32

    teacher: Annotated[str, Text()] = DEFAULT
    widths: Annotated[tuple[int, ...], Each(Whole(), "width")] = (32, 64, 128)
    hard: Share = 0.1
    sigma: Sigma = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.widths) != 3:
            raise OddsightError(f"{self.name}: widths must name three layers, not {len(self.widths)}")

    def network(self, side: int) -> PixelNetwork:
        from oddsight.training.imitation import Student

        teacher, channels, _, _ = self._teaching(side)
        first, second, third = self.widths
        return Student(teacher, channels, (first, second, third), self.hard)

    def scoring(self, found: TrainedPixels, side: int) -> list[onnx.ModelProto]:
        from oddsight.training.imitation import Student

        assert isinstance(found.network, Student)
        teacher, channels, height, width = self._teaching(side)
        mean, scale = found.network.standard()
        shape = f"float[N, {channels}, {height}, {width}]"
        compared = piece(
            f"""
            compared ({shape} patches, {shape} imitation) => (float[N, {height}, {width}] distances)
            <int64[1] channel = {{1}}>
            {{
                centred = Sub (patches, mean)
                standard = Mul (centred, scale)
                error = Sub (standard, imitation)
                square = Mul (error, error)
                distances = ReduceMean <keepdims = 0> (square, channel)
            }}
            """,
            {"mean": mean, "scale": scale},
        )
        return [teacher, compared, anomaly_map(height, width, self.sigma)]

    def _teaching(self, side: int) -> tuple[onnx.ModelProto, int, int, int]:
        """The teacher's graph from ``pixels`` to ``patches``, and the patches' channels, height and width."""
        network = backbone(self.teacher)
        stages = network.layers["patches/8"]
        shapes = network.shapes(stages, side)
        graph = chain([network.graph(stages), patches(shapes)], ["patches"])
        channels, height, width = (dim.dim_value for dim in graph.graph.output[0].type.tensor_type.shape.dim[1:])
        return graph, channels, height, width

    def activations(self) -> int:
        return 1500
