"""Figures of the report on known classes that show images, or need the model again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from markupsafe import Markup
from onnx import numpy_helper

from oddsight.drawing.class_figures import bars, reliability_figure
from oddsight.drawing.image_grids import CaptionedImage, image_grid
from oddsight.drawing.numbers import percent
from oddsight.errors import ImageError
from oddsight.evaluation.classes import ClassEvaluation
from oddsight.graphs.naming import TEMPERATURE
from oddsight.metrics.classification import reliability_of
from oddsight.metrics.image import binomial_interval
from oddsight.model.model import Model
from oddsight.runtime.sessions import run, session

_PAIRS = 6
_ACROSS = 5
_RESCORED = 500  # Images whose probabilities are computed again without the temperature
_RANGES = ((0.0, 0.5), (0.5, 0.7), (0.7, 0.9), (0.9, 0.99), (0.99, 1.0))


def confused_pairs(evaluation: ClassEvaluation) -> Markup | None:
    """Images of the pairs of classes that are confused most often, the most confident first; None without mistakes."""
    wrong = np.flatnonzero(~evaluation.right)
    pairs = [(int(evaluation.labels[at]), int(evaluation.predicted[at])) for at in wrong.tolist()]
    common = sorted(set(pairs), key=lambda pair: (-pairs.count(pair), pair))[:_PAIRS]
    rows, names = [], []
    for pair in common:
        own = [at for at, other in zip(wrong.tolist(), pairs, strict=True) if other == pair]
        own.sort(key=lambda at: -(evaluation.known[at].label_probability or 0.0))
        if row := _shown(evaluation, own[:_ACROSS]):
            rows.append(row)
            true, predicted = (evaluation.classes[label] for label in pair)
            names.append(f"{true} → {predicted}")
    return image_grid(rows, names) if rows else None


def _shown(evaluation: ClassEvaluation, indices: Sequence[int]) -> list[CaptionedImage]:
    found = []
    for at in indices:
        result = evaluation.known[at]
        rejected = "\nrejected" * result.anomalous
        try:
            pixels = evaluation.images[at].read()
        except ImageError:
            continue
        found.append(CaptionedImage(pixels, f"{percent(result.label_probability or 0.0)}{rejected}"))
    return found


def rejected_by_probability(evaluation: ClassEvaluation) -> Markup:
    """The share of images that is rejected, in ranges of the probability of the predicted class."""
    probabilities = np.array([result.label_probability or 0.0 for result in evaluation.known])
    names, shares, intervals = [], [], []
    for low, high in _RANGES:
        flags = evaluation.rejected[(probabilities > low) & (probabilities <= high)]
        if len(flags):
            names.append(f"{percent(low)} to {percent(high)}: {len(flags):,} images")
            shares.append(float(flags.mean()))
            intervals.append(binomial_interval(int(flags.sum()), len(flags)))
    axis = "share rejected, by the probability of the predicted class"
    return bars(names, shares, intervals, axis=axis, start=0.0, name="rejected-by-probability")


def reliability(model: Model, evaluation: ClassEvaluation) -> Markup:
    """How far probabilities can be believed, on some of the images also without the temperature."""
    before = _without_temperature(model, evaluation)
    if before is None:
        return reliability_figure(evaluation.reliability, titles=("test images",))
    indices, probabilities = before
    right = evaluation.right[indices]
    after = [evaluation.known[at].label_probability or 0.0 for at in indices]
    panels = reliability_of(probabilities, right), reliability_of(after, right)
    return reliability_figure(*panels, titles=("without temperature", "with it"))


def _without_temperature(model: Model, evaluation: ClassEvaluation) -> tuple[list[int], list[float]] | None:
    """Probabilities of some images as they would be without the temperature; None if the graph keeps it elsewhere."""
    proto = onnx.load_model_from_string(model.to_bytes())
    constants = [tensor for tensor in proto.graph.initializer if tensor.name == TEMPERATURE]
    if len(constants) != 1:
        return None
    constants[0].CopyFrom(numpy_helper.from_array(np.array(1, np.float32), TEMPERATURE))
    loaded = session(proto.SerializeToString(), threads=1)
    step = max(1, len(evaluation.images) // _RESCORED)
    indices, probabilities = [], []
    for at in range(0, len(evaluation.images), step)[:_RESCORED]:
        image = evaluation.images[at]
        try:
            pixels = image.read()
        except ImageError:
            continue
        indices.append(at)
        probabilities.append(float(run(loaded, {"image": pixels[None]}, str(image.path), ["class_probability"])[0][0]))
    return (indices, probabilities) if indices else None
