"""From what was learned to one graph, verified, calibrated and described."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.backbones.extraction import Extractor
from oddsight.data.collection import ImageFile, merged, pack
from oddsight.detectors import Detector
from oddsight.errors import OddsightError
from oddsight.fitting.plan import FitPlan
from oddsight.graphs.building import chain, copied, digest
from oddsight.graphs.calibrating import calibrating, calibrating_by_class
from oddsight.graphs.neighbours import most_compared
from oddsight.model.calibration import Decision, decide, decide_by_class
from oddsight.model.curves import Epoch
from oddsight.model.metadata import KEY, Metadata
from oddsight.model.model import Model
from oddsight.model.sections import (
    BackboneInfo,
    CalibrationInfo,
    ClassesInfo,
    CurveInfo,
    DecisionInfo,
    ExplanationInfo,
    MethodInfo,
    PixelLevels,
    ReadingInfo,
    TrainingInfo,
)
from oddsight.runtime.sessions import run, session

CHECKED = 3
"""Images that a finished graph is checked on."""

_RECORDED = ("numpy", "onnx", "onnxruntime", "pillow", "scikit-learn")


@dataclass(frozen=True, eq=False)
class Components:
    """What a learner made of its images.

    Attributes:
        extractor: From an image to features.
        detector: Fitted on these.
        pieces: From features to ``outputs``.
        outputs: Of the graph, ``score`` first.
        scores: Of the calibration images, float32 ``[n]``.
        checked: What the pieces give for the first :data:`CHECKED` calibration images, which is not among ``scores``
            where models of folds gave these.
        classes: What the model knows of classes, if any.
        predicted: Classes of the calibration images, int64 ``[n]``, if each class has a threshold of its own.
        pixels: What pixels of the calibration images have in the map, if there is one.
    """

    extractor: Extractor
    detector: Detector
    pieces: Sequence[onnx.ModelProto]
    outputs: Sequence[str]
    scores: NDArray[np.float32]
    checked: NDArray[np.float32]
    classes: ClassesInfo | None = None
    predicted: NDArray[np.int64] | None = None
    pixels: PixelLevels | None = None


def assemble(components: Components, plan: FitPlan) -> Model:
    """One graph of all pieces, calibrated.

    Raises:
        DataError: Too few calibration images were predicted as a class.
        OddsightError: If the whole graph does not score as its parts do.
    """
    if components.classes is not None and components.predicted is not None:
        calibrated = calibrating_by_class(components.scores, components.predicted, len(components.classes.names))
    else:
        calibrated = calibrating(components.scores)
    outputs = [components.outputs[0], "p_value", *components.outputs[1:]]
    whole = chain([copied(components.extractor.graph), *components.pieces, calibrated], outputs)
    _verify(whole, components, plan.calibration[:CHECKED])
    whole.metadata_props.add(key=KEY, value=_metadata(components, plan, whole).to_json())
    return Model.from_bytes(whole.SerializeToString(deterministic=True))


def _verify(graph: onnx.ModelProto, components: Components, images: Sequence[ImageFile]) -> None:
    """Refuse a whole graph whose scores of some images are not those of its parts, which no user can cause."""
    loaded = session(graph.SerializeToString(), threads=1)
    whole = [run(loaded, {"image": one.read()[None]}, str(one.path), ["score"])[0][0] for one in images]
    if not np.allclose(whole, components.checked, rtol=1e-3, atol=1e-6):
        name = components.detector.name
        raise OddsightError(f"{name} gives other scores in one graph than in parts: its scores are unstable")


def _metadata(components: Components, plan: FitPlan, whole: onnx.ModelProto) -> Metadata:
    detector, extractor, network = components.detector, components.extractor, components.extractor.backbone
    calibration = CalibrationInfo(
        kind=plan.kind,
        images=plan.held,
        folds=plan.folds,
        groups=plan.groups,
    )
    if plan.rate is None:
        decision = Decision(float(components.scores.max()), None)
    else:
        decision = decide(components.scores, plan.rate, plan.request.confidence, what=calibration.what)
    return Metadata.create(
        **versions(),
        graph_sha256=digest(whole),
        method=MethodInfo(name=detector.name, paper=detector.paper, settings=detector.settings()),
        backbone=BackboneInfo(
            name=network.name, sha256=network.sha256, layers=list(extractor.layers), size=extractor.size
        ),
        map_size=_map_size(whole),
        training=TrainingInfo(
            images=len(plan.training),
            duplicates=plan.duplicates,
            unreadable=len(plan.errors),
            fingerprint=plan.fingerprint,
            images_seen=merged(pack(plan.images), plan.adapted_to),
            seed=plan.request.seed,
            curves=[_curve(row) for row in detector.curves_],
        ),
        calibration=calibration,
        decision=DecisionInfo(**asdict(decision)),
        # Training images are in the order of their contents, as packing puts them.
        explanation=ExplanationInfo(
            normals=pack(plan.training[: most_compared(extractor.reading, extractor.shape)]),
            voices=detector.voices(extractor.layers),
        ),
        reading=ReadingInfo.of(plan.training[0].reading),
        classes=_with_thresholds(components, plan, calibration.what),
        pixels=components.pixels,
    )


def _with_thresholds(components: Components, plan: FitPlan, what: str) -> ClassesInfo | None:
    """What the model knows of classes, with a threshold of each if it has one of its own."""
    if components.classes is None or components.predicted is None or plan.rate is None:
        return components.classes
    names, rate = components.classes.names, plan.rate
    thresholds = decide_by_class(
        components.scores, components.predicted, names, rate, plan.request.confidence, what=what
    )
    return components.classes.model_copy(update={"thresholds": list(thresholds)})


def _curve(row: Epoch) -> CurveInfo:
    return CurveInfo(**{name: value for name, value in asdict(row).items() if name != "seconds"})


def _map_size(graph: onnx.ModelProto) -> tuple[int, int] | None:
    """Height and width of the anomaly map, if there is one."""
    for value in graph.graph.output:
        if value.name == "anomaly_map":
            _, height, width = (dim.dim_value for dim in value.type.tensor_type.shape.dim)
            return height, width
    return None


def with_metadata(kind: type[Model], content: bytes, metadata: Metadata) -> Model:
    """A model of a graph, and of metadata but for its digest."""
    proto = onnx.load_model_from_string(content)
    metadata = metadata.model_copy(update={"graph_sha256": digest(proto)}).at_lowest_version()
    del proto.metadata_props[:]
    proto.metadata_props.add(key=KEY, value=metadata.to_json())
    return kind.from_bytes(proto.SerializeToString(deterministic=True))


def versions() -> dict[str, Any]:
    """Versions of Oddsight, and of Python and libraries, as metadata keep them."""
    libraries = {"python": platform.python_version(), **{name: version(name) for name in _RECORDED}}
    return {"oddsight": version("oddsight"), "versions": libraries}
