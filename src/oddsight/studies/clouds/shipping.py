"""The files that a study of clouds ships, and what they say themselves of the test images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from oddsight.data.collection import ImageFile
from oddsight.drawing.image_grids import CaptionedImage
from oddsight.model.model import Model
from oddsight.model.result import Result
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress
from oddsight.studies.clouds.protocol import Split
from oddsight.studies.clouds.results import Measured, ShippedScenes
from oddsight.studies.clouds.variants import feasible_rate

SHOWN = 12
"""Images of each sort, at most."""

_Pair = tuple[ImageFile, str, Result]


def run_file(
    model: Model, split: Split, measured: Measured, rate: float, names: Mapping[str, str], progress: Progress
) -> tuple[ShippedScenes, Model]:
    """Run a file on all test images, as a user would."""
    side, count = split.side, len(split.normal)
    possible = feasible_rate(rate, len(model.calibration_scores))
    model = model.with_decision(false_alarm_rate=possible).with_verdicts(*side.verdicts)
    results = []
    for done, result in enumerate(ordered_map(lambda image: model.score(image.read(), one_core=True), split.test), 1):
        results.append(replace(result, map=None))  # which is large, and not looked at from here on
        progress(f"running {side.name}.onnx", done, len(split.test))
    pairs = [(image, names[image.content], result) for image, result in zip(split.test, results, strict=True)]
    scores = np.array([result.score for result in results], np.float32)
    recorded = np.concatenate([measured.normal, *measured.anomalous.values()]).astype(np.float64)
    ends = np.cumsum([count, *(len(images) for images in split.anomalous.values())])
    normal, *others = np.split(scores, ends[:-1])
    file = ShippedScenes(
        file=f"{side.name}.onnx",
        side=side.name,
        seed=split.seed,
        bytes=len(model.to_bytes()),
        rate=possible,
        threshold=model.decision.threshold,
        verdicts=model.verdicts,
        calibration=len(model.calibration_scores),
        normal=normal,
        anomalous=dict(zip(split.anomalous, others, strict=True)),
        difference=float(np.abs(scores - recorded).max() / (recorded.std() or 1.0)),
        missed=_images(_by_score(pair for pair in pairs[count:] if not pair[2].anomalous)),
        alarms=_images(_by_score(pair for pair in pairs[:count] if pair[2].anomalous)[::-1]),
        caught=_images(_in_turn([pair for pair in pairs[count:] if pair[2].anomalous])),
        passed=_images(_middle([pair for pair in pairs[:count] if not pair[2].anomalous])),
    )
    return file, model


def _images(pairs: Sequence[_Pair]) -> tuple[CaptionedImage, ...]:
    return tuple(
        CaptionedImage(image.read(), f"{name}\nsaid {result.verdict}\np {result.p_value:.2g}")
        for image, name, result in pairs[:SHOWN]
    )


def _by_score(pairs: Iterable[_Pair]) -> list[_Pair]:
    return sorted(pairs, key=lambda pair: pair[2].score)


def _middle(pairs: Sequence[_Pair]) -> list[_Pair]:
    """Those around the median score."""
    ordered = _by_score(pairs)
    start = max(0, (len(ordered) - SHOWN) // 2)
    return ordered[start : start + SHOWN]


def _in_turn(pairs: Sequence[_Pair]) -> list[_Pair]:
    """The highest scores of each class: as many of each as there is room for."""
    classes = dict.fromkeys(name for _, name, _ in pairs)
    each = max(1, SHOWN // max(1, len(classes)))
    ordered = _by_score(pairs)[::-1]
    return [pair for name in classes for pair in [one for one in ordered if one[1] == name][:each]]
