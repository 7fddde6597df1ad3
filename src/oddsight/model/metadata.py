"""What a model file says about itself: JSON under one key of its ``metadata_props``, checked on reading."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, Self

from pydantic import ValidationError, model_validator

from oddsight.errors import DataError, ModelError, bounded, plain
from oddsight.model.sections import (
    BackboneInfo,
    CalibrationInfo,
    ClassesInfo,
    ConversionInfo,
    DecisionInfo,
    Digest,
    ExplanationInfo,
    FootageInfo,
    MethodInfo,
    PixelLevels,
    Positive,
    ReadingInfo,
    Section,
    Text,
    TrainingInfo,
    TypesInfo,
)

__all__ = ["KEY", "Metadata", "PixelLevels", "checked_verdicts"]

KEY = "oddsight"
SCHEMA_VERSION: Literal[2] = 2
"""The schema of models that know no classes."""

CLASSES_VERSION: Literal[3] = 3
"""The schema of models that do, or that have words of their own for verdicts; they alone have it, so older versions
read all others."""

NETWORKS_VERSION: Literal[4] = 4
"""The schema of models whose method trained a network, with its learning curves; they alone have it."""

EXTENDED_VERSION: Literal[5] = 5
"""The schema of models that say how files were read, in how many groups their calibration images came or with which
confidence their rate holds; such models may also have what schemas 3 and 4 have."""

CONVERTED_VERSION: Literal[6] = 6
"""Of models that were converted to smaller numbers or another form; such models may also have what schema 5 has."""

LEVELS_VERSION: Literal[7] = 7
"""Of models that say what values normal pixels have in the map; such models may also have what schema 6 has."""

FOOTAGE_VERSION: Literal[8] = 8
"""Of models that keep scores of normal footage; such models may also have what schema 7 has."""

TYPES_VERSION: Literal[9] = 9
"""Of models that name types of anomalies; such models may also have what schema 8 has."""

_LONGEST_VERDICT = 40


class Metadata(Section):
    """Everything a model file says about itself; ``docs/model-format.md`` specifies it."""

    schema_version: Literal[1, 2, 3, 4, 5, 6, 7, 8, 9]
    oddsight: Text
    versions: dict[Text, Text]
    graph_sha256: Digest
    method: MethodInfo
    backbone: BackboneInfo
    map_size: tuple[Positive, Positive] | None
    training: TrainingInfo
    calibration: CalibrationInfo
    decision: DecisionInfo
    explanation: ExplanationInfo | None = None
    """Never in schema 1, always there later."""
    classes: ClassesInfo | None = None
    """Only from schema 3 on, but not in schema 4."""
    verdicts: tuple[Text, Text] | None = None
    """What a normal and an anomalous image are called, if not that. Only from schema 3 on, and not beside classes."""
    reading: ReadingInfo | None = None
    """Only from schema 5 on."""
    conversion: ConversionInfo | None = None
    """Only from schema 6 on."""
    pixels: PixelLevels | None = None
    """Only from schema 7 on, of models with a map."""
    footage: FootageInfo | None = None
    """Always in schema 8, and perhaps in 9."""
    types: TypesInfo | None = None
    """Always in schema 9, and only there; not beside classes."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        lowest = self._lowest_version()
        if self.schema_version != lowest or (self.explanation is None) != (lowest == 1):
            raise ValueError(f"the fields and the schema version do not fit together: these are of version {lowest}")
        if self.types is not None and self.classes is not None:
            raise ValueError("there are types of anomalies beside classes")
        if self.classes is not None and self.schema_version == NETWORKS_VERSION:
            raise ValueError("there are learning curves of a method beside classes")
        if self.pixels is not None and self.map_size is None:
            raise ValueError("there are levels of pixels, and no map")
        if self.verdicts is not None:
            self._check_verdicts()
        thresholds = self.classes.thresholds if self.classes is not None else None
        if self.classes is not None and thresholds is not None and len(thresholds) != len(self.classes.names):
            raise ValueError("there are not as many thresholds as classes")
        if self.classes is not None and len(set(self.classes.names)) != len(self.classes.names):
            raise ValueError("two classes share a name")
        return self

    @property
    def extended(self) -> bool:
        """Whether it has fields that only schemas from 5 on have."""
        return any(value is not None for value in (self.reading, self.calibration.groups, self.decision.confidence))

    def at_lowest_version(self) -> Metadata:
        """The same metadata with the lowest schema version that has all its fields."""
        return self.model_copy(update={"schema_version": self._lowest_version()})

    @classmethod
    def create(cls, **fields: Any) -> Metadata:  # noqa: ANN401 - as the sections' types
        """Metadata of a new model, with the lowest schema version that has all the fields."""
        version = cls.model_construct(None, **fields)._lowest_version()
        return cls(schema_version=version, **fields)

    def _lowest_version(self) -> Literal[1, 2, 3, 4, 5, 6, 7, 8, 9]:
        versions: list[tuple[Literal[3, 4, 5, 6, 7, 8, 9], bool]] = [
            (TYPES_VERSION, self.types is not None),
            (FOOTAGE_VERSION, self.footage is not None),
            (LEVELS_VERSION, self.pixels is not None),
            (CONVERTED_VERSION, self.conversion is not None),
            (EXTENDED_VERSION, self.extended),
            (NETWORKS_VERSION, bool(self.training.curves)),
            (CLASSES_VERSION, self.classes is not None or self.verdicts is not None),
        ]
        plain_version: Literal[1, 2] = SCHEMA_VERSION if self.explanation is not None else 1
        return next((version for version, needed in versions if needed), plain_version)

    def _check_verdicts(self) -> None:
        if self.classes is not None:
            raise ValueError("there are words for verdicts beside classes, which are verdicts already")
        try:
            checked_verdicts(self.verdicts or ())
        except DataError as error:
            raise ValueError(str(error)) from error

    def to_json(self) -> str:
        """Compact JSON."""
        later = {
            name
            for name in ("explanation", "classes", "verdicts", "reading", "conversion", "pixels", "footage", "types")
            if getattr(self, name) is None
        }
        excluded: dict[str, Any] = dict.fromkeys(later, True) | _unused(self)
        if self.types is not None and (unused := _unused(self.types)):
            excluded["types"] = unused
        return self.model_dump_json(exclude=excluded)

    @classmethod
    def from_json(cls, text: str) -> Metadata:
        """Read and check.

        Raises:
            ModelError: A field is wrong, or the version is unknown; the message says which.
        """
        try:
            content: Any = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ModelError("its metadata is not valid JSON") from error
        version = content.get("schema_version") if isinstance(content, dict) else None
        if isinstance(version, bool | float) or version not in range(1, TYPES_VERSION + 1):
            given = bounded(plain(repr(version)), 40)
            raise ModelError(
                f"its schema version is {given}, and this Oddsight reads versions 1 to {TYPES_VERSION}: "
                "use the Oddsight that wrote it, or a newer one"
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            reason = plain(first["msg"].removeprefix("Value error, "))
            raise ModelError(f"its metadata is wrong{f' at {plain(where)}' * bool(where)}: {reason}") from error


def _unused(content: Metadata | TypesInfo) -> dict[str, Any]:
    """Fields of later schemas that it does not use, by section."""
    excluded: dict[str, Any] = {}
    if not content.training.curves:
        excluded["training"] = {"curves"}
    if content.calibration.groups is None:
        excluded["calibration"] = {"groups"}
    if content.decision.confidence is None:
        excluded["decision"] = {"confidence"}
    return excluded


def checked_verdicts(words: Sequence[str]) -> tuple[str, str]:
    """Check the words for a normal and for an anomalous image: different, and printable."""
    if isinstance(words, str) or len(words) != 2:
        raise DataError("verdicts take two words: one for normal images, and then one for anomalous ones")
    for word in words:
        if not word.strip() or len(word) > _LONGEST_VERDICT or not word.isprintable():
            raise DataError(
                f"{plain(word)[:_LONGEST_VERDICT]!r} is not a word for a verdict: use 1 to {_LONGEST_VERDICT} "
                "printable characters"
            )
    normal, anomalous = words
    if normal.strip().casefold() == anomalous.strip().casefold():
        raise DataError(f"both verdicts are {anomalous!r}: give two different words")
    return normal, anomalous
