"""How numbers are written on figures and pages."""

from __future__ import annotations

from collections.abc import Callable


def area(value: float) -> str:
    """Three decimals, of which none rounds up to perfection."""
    return ">0.999" if 0.9995 <= value < 1 - 1e-9 else f"{value:.3f}"


def percent(value: float) -> str:
    """One decimal, or two digits below 1%; nothing rounds to 0% or 100% that is not."""
    if 0 < value < 0.01:
        return f"{100 * value:.2g}%" if value >= 1e-4 else "<0.01%"
    if 0.9995 <= value < 1:
        return ">99.9%"
    return f"{value:.1%}".replace(".0%", "%")


def signed(value: float) -> str:
    """Three decimals with their sign."""
    return f"{value:+.3f}".replace("-", "\u2212")


def span(low: float, high: float, written: Callable[[float], str] = area) -> str:
    """From one value to another; one value if both are written alike."""
    ends = written(low), written(high)
    return ends[0] if ends[0] == ends[1] else f"{ends[0]}\u2013{ends[1]}"


def quantity(number: int) -> str:
    """A large number in thousands or millions."""
    return f"{number / 1e6:.3g} M" if number >= 1e6 else f"{number / 1e3:.3g} k" if number >= 10_000 else f"{number:,}"
