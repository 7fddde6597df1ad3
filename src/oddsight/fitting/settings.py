"""From what a model file says about itself to the arguments of the fit that would make such a model again."""

from __future__ import annotations

from math import ceil
from typing import Any

from oddsight import backbones
from oddsight.data.reading import AS_DECLARED
from oddsight.detectors import Detector, by_name
from oddsight.errors import OddsightError, plain
from oddsight.fitting.plan import usual_fraction
from oddsight.graphs.preprocessing import sides
from oddsight.model.calibration import DEFAULT_RATE, smallest_rate
from oddsight.model.metadata import Metadata


def settings_of(metadata: Metadata, backbone: str | None = None) -> dict[str, Any]:
    """Arguments of :func:`oddsight.fit`: all that do not depend on the images, but groups, memory and where it runs.

    What the fit chose by itself (a rate that is the smallest possible, a quarter of the images or folds to calibrate
    on) is left to it again, as other images may ask for something else.

    Args:
        metadata: Of a model that knows no classes.
        backbone: Where the backbone is, if it is a file; see :func:`oddsight.backbones.backbone`.

    Raises:
        OddsightError: The method or its settings are unknown here, or the backbone is not the model's.
    """
    decision = metadata.decision
    smallest = max(DEFAULT_RATE, smallest_rate(metadata.calibration.scores, decision.confidence))
    return {
        "method": _detector(metadata),
        "backbone": _backbone(metadata, backbone),
        "layers": tuple(metadata.backbone.layers),
        "size": sides(metadata.backbone.size),
        "false_alarm_rate": None if decision.false_alarm_rate == smallest else decision.false_alarm_rate,
        "confidence": decision.confidence,
        "calibration_fraction": _fraction(metadata),
        "seed": metadata.training.seed,
        "reading": AS_DECLARED if metadata.reading is None else metadata.reading.to_reading(),
        "verdicts": metadata.verdicts,
    }


def calibration_fraction(metadata: Metadata, units: int) -> float:
    """Which share of ``units`` images or groups a fit held out, to give to :func:`oddsight.data.collection.split`."""
    return metadata.calibration.scores / units if metadata.calibration.kind == "split" else 0.0


def _fraction(metadata: Metadata) -> float | None:
    """The share that was asked for, or None if it is what a fit chooses; groups are not counted in the metadata."""
    info, decision = metadata.calibration, metadata.decision
    if info.groups is not None:
        return None
    held = info.images if info.kind == "split" else 0
    units = metadata.training.images + held
    usual = usual_fraction(units, units, decision.false_alarm_rate, decision.confidence)
    return None if held == ceil(usual * units) else calibration_fraction(metadata, units)


def _detector(metadata: Metadata) -> Detector:
    try:
        cls = by_name(metadata.method.name)
        return cls(**{name: _plain(value) for name, value in metadata.method.settings.items()})
    except (OddsightError, TypeError) as error:
        name = plain(metadata.method.name)
        raise OddsightError(
            f"this Oddsight cannot fit {name} with the model's settings: {plain(str(error))}"
        ) from error


def _plain(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


def _backbone(metadata: Metadata, given: str | None) -> str:
    """The name or file of the model's backbone."""
    info = metadata.backbone
    name = plain(info.name)
    try:
        network = backbones.backbone(info.name if given is None else given)
    except OddsightError as error:
        if given is not None:
            raise
        raise OddsightError(
            f"the model's backbone {name} is not among those known here: name its file (--backbone)"
        ) from error
    if network.sha256 != info.sha256:
        where = "here" if given is None else plain(given)
        raise OddsightError(
            f"the model's backbone {name} has other weights than that {where}: name its file (--backbone)"
        )
    return info.name if given is None else given
