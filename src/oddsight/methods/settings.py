"""Settings of methods, checked where they are set."""

from __future__ import annotations

import math
from numbers import Integral, Real

from oddsight.errors import OddsightError


def whole(method: str, *, least: int = 1, **settings: object) -> None:
    """Settings that are whole numbers of ``least`` or more.

    Raises:
        OddsightError: Naming the method and the setting.
    """
    for name, value in settings.items():
        if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
            raise OddsightError(f"{method}: {name} must be a whole number of {least} or more, not {value!r}")


def share(method: str, **settings: object) -> None:
    """Settings above 0 and below 1.

    Raises:
        OddsightError: Naming the method and the setting.
    """
    for name, value in settings.items():
        if not _finite(value) or not 0 < value < 1:  # type: ignore[operator]
            raise OddsightError(f"{method}: {name} must be above 0 and below 1, not {value!r}")


def positive(method: str, *, zero: bool = False, **settings: object) -> None:
    """Settings that are finite and above 0, or also 0 with ``zero``.

    Raises:
        OddsightError: Naming the method and the setting.
    """
    for name, value in settings.items():
        if not _finite(value) or not (value > 0 or (zero and value == 0)):  # type: ignore[operator]
            raise OddsightError(f"{method}: {name} must be {'0 or more' if zero else 'above 0'}, not {value!r}")


def _finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
