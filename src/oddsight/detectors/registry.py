"""Detectors by name, as they are written on a command line."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import fields

from oddsight.detectors.detector import DETECTORS, Detector, Kind
from oddsight.detectors.one_class import PREFIX, OneClass
from oddsight.detectors.sums import PLUS, Sum
from oddsight.errors import OddsightError, plain

DEFAULTS: dict[Kind, str] = {"normal": "auto", "classes": "knn"}
"""What each task starts with. For classes, the best of those that need no training of their own where OpenOOD v1.5
compares them on CIFAR-10."""

_WORDS: dict[Kind, str] = {"normal": "method", "classes": "score"}  # What users call a detector that learns from it


def quick() -> list[str]:
    """Names of what learns from normal images and trains no network, so that it needs nothing but Oddsight's core."""
    return [name for name, cls in DETECTORS["normal"].items() if not cls.needs]


def names(kind: Kind = "normal") -> list[str]:
    """What learns from it; ``one-class:NAME`` learns from classes what NAME learns from normal embeddings."""
    if kind == "normal":
        return [*DETECTORS["normal"]]
    one_class = (f"{PREFIX}{name}" for name, cls in DETECTORS["normal"].items() if cls.reads == "embedding")
    return [*DETECTORS["classes"], *one_class]


def by_name(name: str, kind: Kind = "normal") -> type[Detector]:
    """The class of that name among those that learn from ``normal`` images, or from ``classes``.

    Raises:
        OddsightError: Naming those that exist.
    """
    if name not in DETECTORS[kind]:
        raise OddsightError(f"no {_WORDS[kind]} {name!r}: there are {', '.join(names(kind))}")
    return DETECTORS[kind][name]


def create(detector: str | Detector, kind: Kind = "normal", settings: Sequence[str] = ()) -> Detector:
    """A detector that is not fitted yet.

    Args:
        detector: A name, for classes also ``one-class:NAME`` and names joined by ``+``; or a detector, of which a copy
            is made.
        kind: What it is to learn from.
        settings: For a name, each ``NAME=VALUE``; a setting that is a list takes values separated by commas. Of a sum
            there are none.

    Raises:
        OddsightError: If there is no such detector or setting, a value is not what the setting takes, or the detector
            learns from something else.
    """
    if isinstance(detector, Detector):
        detector.require_kind(kind)
        return deepcopy(detector)
    if not isinstance(detector, str):
        raise OddsightError(f"a {_WORDS[kind]} is given by its name, not by a {type(detector).__name__}")
    if kind == "classes":
        if PLUS in detector:
            if settings:
                raise OddsightError(f"{detector} is a sum, which has no settings: leave them out")
            return Sum(tuple(create(part, kind) for part in detector.split(PLUS)))
        if detector in names(kind) and detector not in DETECTORS[kind]:
            return OneClass(create(detector.removeprefix(PREFIX), settings=settings))
    cls = by_name(detector, kind)
    return cls(**dict(_assigned(cls, text) for text in settings))


def _assigned(cls: type[Detector], text: str) -> tuple[str, object]:
    """The name and the value of ``NAME=VALUE``."""
    known = {field.name: getattr(cls(), field.name) for field in fields(cls)}  # type: ignore[arg-type]
    setting, equals, value = (part.strip() for part in text.partition("="))
    if not equals or setting not in known:
        there = ", ".join(known) or "no settings"
        raise OddsightError(f"{cls.name} has no setting {plain(text)!r}: write NAME=VALUE; there are {there}")
    return setting, _read(cls.name, setting, value, known[setting])


def _read(owner: str, setting: str, text: str, default: object) -> object:
    """A value of the type of the default."""
    if isinstance(default, tuple):
        kind = type(default[0]) if default else str
        return tuple(_read(owner, setting, one.strip(), kind()) for one in text.split(",") if one.strip())
    if isinstance(default, bool):
        if text.lower() not in ("true", "false"):
            raise OddsightError(f"{owner}: {setting} must be true or false, not {plain(text)!r}")
        return text.lower() == "true"
    try:
        return text if isinstance(default, str) else type(default)(text)  # type: ignore[call-arg]
    except ValueError:
        what = "a whole number" if isinstance(default, int) else "a number"
        raise OddsightError(f"{owner}: {setting} must be {what}, not {plain(text)!r}") from None
