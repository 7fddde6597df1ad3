"""Ranges of settings, declared beside their types and checked in one place.

A dataclass says what its fields may be, such as ``bank_size: Count = 1000`` or ``share: Annotated[float, Real(above=0,
most=0.95)] = 0.9``, and calls :func:`check_settings` when it is made: a setting that cannot work is refused before any
work starts.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from numbers import Integral
from numbers import Real as RealNumber
from typing import TYPE_CHECKING, Annotated, get_type_hints

from oddsight.errors import OddsightError, bounded, plain

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

LARGEST = 2**31 - 1
"""The largest count, unless a bound says otherwise."""

LARGEST_SEED = 2**63 - 1


class Bound(ABC):
    """What a setting may be."""

    @abstractmethod
    def read(self, value: object, label: str) -> object:
        """The value, as a plain Python object of the setting's own type."""

    @property
    def label(self) -> str:
        """What the setting is called in sentences; by default as the field."""
        return ""


@dataclass(frozen=True)
class Whole(Bound):
    """A whole number from ``least`` to ``most``; without ``least`` a negative one will do."""

    least: int | None = 1
    most: int = LARGEST
    label: str = ""

    def read(self, value: object, label: str) -> int:
        """See :meth:`Bound.read`."""
        number = int(value) if isinstance(value, Integral) and not isinstance(value, bool) else None
        if number is None and self.least is None:
            raise refused(label, "a whole number", value)
        if number is None or (self.least is not None and number < self.least):
            # What has a label is known to be counted: only where it is no whole number must that be said.
            kind = "a whole number of " if number is None or not self.label else ""
            raise refused(label, f"{kind}{self.least} or more", value)
        if number > self.most:
            low = "at most" if self.least is None else f"a whole number from {self.least} to"
            raise refused(label, f"{low} {self.most}", value)
        return number


@dataclass(frozen=True)
class Real(Bound):
    """A finite number: above ``above`` or from ``least`` on, and below ``below`` or up to ``most``."""

    above: float | None = None
    least: float | None = None
    below: float | None = None
    most: float | None = None
    label: str = ""

    def read(self, value: object, label: str) -> float:
        """See :meth:`Bound.read`."""
        try:
            number = float(value) if isinstance(value, RealNumber) and not isinstance(value, bool) else math.nan
        except OverflowError:
            number = math.inf
        if not math.isfinite(number) or not self._holds(number):
            raise refused(label, self._words, value)
        return number

    def _holds(self, number: float) -> bool:
        return (
            (self.above is None or number > self.above)
            and (self.least is None or number >= self.least)
            and (self.below is None or number < self.below)
            and (self.most is None or number <= self.most)
        )

    @property
    def _words(self) -> str:
        low = f"above {self.above:g}" if self.above is not None else ""
        high = f"below {self.below:g}" if self.below is not None else ""
        if self.most is not None:
            high = f"at most {self.most:g}"
        if self.least is not None:
            low = f"at least {self.least:g}" if high else f"{self.least:g} or more"
        return " and ".join(filter(None, (low, high))) or "a finite number"


@dataclass(frozen=True)
class Choice(Bound):
    """One of some names; ``what`` says of what."""

    what: str
    names: tuple[str, ...]

    def read(self, value: object, label: str) -> str:
        """See :meth:`Bound.read`."""
        if value not in self.names or not isinstance(value, str):
            raise OddsightError(f"no {self.what} {_shown(value)}: there are {', '.join(self.names)}")
        return value


@dataclass(frozen=True)
class Text(Bound):
    """A text that is not empty, such as the name of something that is looked up later."""

    def read(self, value: object, label: str) -> str:
        """See :meth:`Bound.read`."""
        if not isinstance(value, str) or not value:
            raise refused(label, "a name", value)
        return value


@dataclass(frozen=True)
class Flag(Bound):
    """True or false."""

    def read(self, value: object, label: str) -> bool:
        """See :meth:`Bound.read`."""
        if not isinstance(value, bool):
            raise refused(label, "true or false", value)
        return value


@dataclass(frozen=True)
class Each(Bound):
    """Several values, each within a bound; ``one`` is what one of them is called."""

    bound: Bound
    one: str = ""

    def read(self, value: object, label: str) -> tuple[object, ...]:
        """See :meth:`Bound.read`."""
        if not isinstance(value, Iterable) or isinstance(value, str | bytes):
            raise refused(label, "a list of values", value)
        name = self.one or label
        return tuple(self.bound.read(item, f"{name} {number}") for number, item in enumerate(value, 1))


Count = Annotated[int, Whole()]
Positive = Annotated[float, Real(above=0)]
NonNegative = Annotated[float, Real(least=0)]
Share = Annotated[float, Real(above=0, below=1)]
Sigma = Annotated[float, Real(above=0, most=100)]
"""Standard deviation of a Gaussian that smooths a map, in cells or pixels."""


def check_settings(settings: DataclassInstance, *, owner: str = "", article: str = "") -> None:
    """Check every field of a dataclass that has a bound, and give it its own type; it may be frozen.

    In sentences the settings are those of ``owner``, and ``article`` stands before the name of one.
    """
    prefix = f"{owner}: " if owner else ""
    for name, bound in bounds_of(type(settings)).items():
        label = bound.label or (name.replace("_", " ") if article else name)
        try:
            value = bound.read(getattr(settings, name), f"{article}{label}")
        except OddsightError as error:
            raise OddsightError(f"{prefix}{error}") from None
        object.__setattr__(settings, name, value)


@cache
def bounds_of(cls: type[DataclassInstance]) -> dict[str, Bound]:
    """The bounds of a dataclass's fields by name; fields without one are left out."""
    hints = get_type_hints(cls, include_extras=True)
    return {
        field.name: bound
        for field in fields(cls)
        for bound in getattr(hints[field.name], "__metadata__", ())
        if isinstance(bound, Bound)
    }


def check_number(value: object, label: str) -> float:
    """The argument as a plain float; refuse what is no number, before it is compared with anything."""
    if not isinstance(value, RealNumber) or isinstance(value, bool):
        raise refused(label, "a number", value)
    try:
        return float(value)
    except OverflowError:
        raise refused(label, "a number of common size", value) from None


def check_whole(value: object, label: str, least: int | None = 1, most: int = LARGEST) -> int:
    """The argument as a plain int; refuse what is no whole number of a range."""
    return Whole(least, most, label).read(value, label)


def check_seed(seed: object) -> int:
    """The seed as a plain int; refuse what is no whole number from 0 on."""
    return check_whole(seed, "the seed", 0, LARGEST_SEED)


def refused(label: str, allowed: str, value: object) -> OddsightError:
    """The error of a value that is not allowed."""
    return OddsightError(f"{label} must be {allowed}, not {_shown(value)}")


def _shown(value: object) -> str:
    try:
        return bounded(plain(repr(value)), 60)
    except Exception:  # such as of an object that cannot be shown, or a number of too many digits
        return f"a value of type {type(value).__name__}"
