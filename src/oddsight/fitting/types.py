"""One model of two: one of normal images finds anomalies, one of labelled anomalies names their types."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from oddsight.backbones.extraction import Attention
from oddsight.backbones.folding import share_weights
from oddsight.data.collection import ImageFile, seen
from oddsight.errors import DataError, plain
from oddsight.fitting.assembly import with_metadata
from oddsight.fitting.classifiers import LOOKS
from oddsight.fitting.scoring import score
from oddsight.graphs.joining import join_types, looking
from oddsight.model.model import Model
from oddsight.model.result import UNKNOWN_TYPE
from oddsight.model.sections import TypesInfo
from oddsight.runtime.progress import Progress, silent


def check_normal(normal: Model) -> Model:
    """Refuse a model that cannot be joined with types of anomalies."""
    if normal.classes:
        raise DataError("the model knows classes, so it does not find anomalies: give one that 'oddsight fit' wrote")
    if normal.types:
        raise DataError("the model names types of anomalies already: give the model of normal images it was made of")
    if normal.metadata.explanation is None:
        raise DataError("a model file of schema 1 cannot name types of anomalies: fit the model again")
    if normal.metadata.conversion is not None and normal.metadata.conversion.to == "openvino":
        raise DataError("a model for OpenVINO cannot name types of anomalies: give the model it was made of")
    return normal


def attention_of(normal: Model) -> Attention | None:
    """Where a model of normal images finds anomalies, or None if it does not say where."""
    grid, reads = normal.metadata.map_size, normal.metadata.backbone
    if grid is None:
        return None
    return Attention(looking(onnx.load_model_from_string(normal.to_bytes())), grid, reads.sha256, reads.size)


def check_anomalies(normal: Model, images: Sequence[ImageFile], names: Sequence[str]) -> None:
    """Refuse images that the model of normal images was fitted on, and types that are called like other verdicts."""
    used = seen(normal.images_seen)
    overlap = [image for image in images if used(image.content)]
    if overlap:
        raise DataError(
            f"{len(overlap):,} of the labelled anomalies, such as {overlap[0].path}, were used to fit the model of "
            "normal images: fit it without them"
        )
    verdicts = {word.casefold() for word in (*normal.verdicts, UNKNOWN_TYPE)}
    taken = [name for name in names if name.strip().casefold() in verdicts]
    if taken:
        raise DataError(f"a type of anomaly is called {plain(taken[0])!r}, which is another verdict: rename it")


def add_types(normal: Model, types: Model, calibration: Sequence[ImageFile], progress: Progress = silent) -> Model:
    """The model of normal images, which also names types of anomalies.

    Its score, p-value and decision are those of ``normal``. What the model of types said of ``calibration``, the images
    that it was calibrated on, stays its calibration; in addition it is counted how many of them ``normal`` flags.
    """
    known, grid = types.metadata.classes, normal.metadata.map_size
    assert known is not None
    decisions = score(normal, calibration, progress).decisions(normal)
    proto, naming = (onnx.load_model_from_string(model.to_bytes()) for model in (normal, types))
    graph = join_types(proto, naming, grid if known.head.get(LOOKS) else None)
    share_weights(graph)  # Both often have the same backbone
    info = TypesInfo(
        method=types.metadata.method,
        backbone=types.metadata.backbone,
        training=types.metadata.training,
        calibration=types.metadata.calibration,
        decision=types.metadata.decision,
        classes=known,
        flagged=sum(flagged for flagged, _ in decisions),
    )
    return with_metadata(Model, graph.SerializeToString(), normal.metadata.model_copy(update={"types": info}))
