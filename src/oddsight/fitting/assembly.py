"""From a classifier and a fitted score to one graph, calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile, pack
from oddsight.detectors import Detector
from oddsight.fitting.classifiers import Classifier
from oddsight.fitting.normal import CHECKED, assembled_scores, check_assembled, versions
from oddsight.fitting.parts import Parts
from oddsight.graphs.building import chain, copied, digest
from oddsight.graphs.calibrating import calibrating, calibrating_by_class
from oddsight.graphs.naming import naming
from oddsight.graphs.neighbours import MOST, nearest
from oddsight.model.calibration import decide, decide_by_class
from oddsight.model.metadata import (
    KEY,
    BackboneInfo,
    CalibrationInfo,
    ClassesInfo,
    DecisionInfo,
    ExplanationInfo,
    Metadata,
    MethodInfo,
    TrainingInfo,
)
from oddsight.model.model import Model
from oddsight.model.outputs import read_score
from oddsight.runtime.sessions import run, session


def assembled(
    known: Classifier,
    score: Detector,
    temperature: float,
    training: NDArray[np.float32],
    calibration: NDArray[np.float32],
    parts: Parts,
    rate: float,
    confidence: float | None = None,
    *,
    per_class: bool,
    seed: int,
    unreadable: int = 0,
) -> Model:
    """One graph of a classifier and a fitted score, calibrated.

    Args:
        known: The classifier.
        score: Fitted.
        temperature: The temperature of its probabilities.
        training: Embeddings of the training images ``[n, C]``.
        calibration: Embeddings of the calibration images ``[m, C]``.
        parts: Of the images.
        rate: The false-rejection rate of the decision.
        confidence: With which it is to hold, if that was asked for.
        per_class: Whether for each class.
        seed: Of the fit.
        unreadable: Files that could not be read.

    Raises:
        DataError: Too few calibration images were predicted as a class.
        ImageError: If the score of a calibration image is not one finite number.
        OddsightError: If the whole graph does not score as its parts do.
    """
    extractor, names = known.extractor, known.classes
    neighbours = nearest(extractor.reading, extractor.shape, training[:MOST])
    pieces = [known.head.graph(), naming(len(names), temperature), score.graph(), neighbours]
    outputs = ["score", "class_index", "class_probability", "nearest"]
    tail = chain([copied(one) for one in pieces], outputs)
    values, taken = _scored(tail, calibration, parts.calibration.images)
    calibrated = calibrating_by_class(values, taken, len(names)) if per_class else calibrating(values)
    outputs.insert(1, "p_value")
    whole = chain([copied(extractor.graph), *pieces, calibrated], outputs)
    check_assembled(assembled_scores(whole, parts.calibration.images[:CHECKED]), values[:CHECKED], score.name)
    calibrated_on = CalibrationInfo(kind="split", images=parts.held, folds=1, groups=parts.groups)
    decision = decide(values, rate, confidence, what=calibrated_on.what)
    thresholds = None
    if per_class:
        thresholds = list(decide_by_class(values, taken, names, rate, confidence, what=calibrated_on.what))
    network = extractor.backbone
    metadata = Metadata.create(
        **versions(),
        graph_sha256=digest(whole),
        method=MethodInfo(name=score.name, paper=score.paper, settings=score.settings()),
        backbone=BackboneInfo(
            name=network.name, sha256=network.sha256, layers=list(extractor.layers), size=extractor.size
        ),
        map_size=None,
        training=TrainingInfo(
            images=len(parts.training),
            duplicates=parts.duplicates,
            unreadable=unreadable,
            fingerprint=parts.fingerprint,
            images_seen=pack(parts.images),
            seed=seed,
        ),
        calibration=calibrated_on,
        decision=DecisionInfo(**asdict(decision)),
        explanation=ExplanationInfo(normals=pack(parts.training.images[:MOST]), voices=[]),
        classes=ClassesInfo(names=list(names), head=dict(known.record), temperature=temperature, thresholds=thresholds),
    )
    whole.metadata_props.add(key=KEY, value=metadata.to_json())
    return Model.from_bytes(whole.SerializeToString(deterministic=True))


def _scored(
    graph: onnx.ModelProto, embeddings: NDArray[np.float32], images: Sequence[ImageFile]
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Scores of embeddings of images, and the predicted classes."""
    loaded = session(graph.SerializeToString(), threads=1)
    scores, predicted = [], []
    for embedding, image in zip(embeddings, images, strict=True):
        score, index = run(loaded, {"embedding": embedding[None]}, str(image.path), ["score", "class_index"])
        scores.append(read_score(score, str(image.path)))
        predicted.append(index[0])
    return np.array(scores, np.float32), np.array(predicted, np.int64)
