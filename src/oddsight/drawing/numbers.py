"""How numbers and names are written, on pages, figures and the terminal."""

from __future__ import annotations

from collections.abc import Callable

from oddsight.errors import plain


def area(value: float) -> str:
    """Three decimals, of which none rounds up to perfection."""
    return ">0.999" if 0.9995 <= value < 1 - 1e-9 else f"{value:.3f}"


def percent(value: float) -> str:
    """Three significant digits; nothing rounds to 0% or 100% that is not."""
    if 0 < value < 1e-4:
        return "<0.01%"
    if 0.9995 <= value < 1:
        return ">99.9%"
    return f"{100 * value:.3g}%"


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


def count(number: int, noun: str, plural: str | None = None) -> str:
    """How many there are: ``1 alarm``, ``2,000 alarms``."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def p_text(value: float) -> str:
    """A p-value with two digits, or that it is tiny."""
    return "<0.001" if value < 0.001 else f"{value:.2g}"


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def short(name: str, longest: int = 40) -> str:
    """A name in plain text, cut where it is too long."""
    name = plain(name)
    return name if len(name) <= longest else f"{name[: longest - 1]}\u2026"
