"""How sentences of a report say numbers and names."""

from __future__ import annotations

from collections.abc import Sequence

from oddsight.report.pages import area, percent


def joined(names: Sequence[str], most: int = 6) -> str:
    """Names as in a sentence, the last after an "and"; of very many only the first."""
    if len(names) > most:
        return f"{', '.join(names[:most])} and {len(names) - most:,} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def counted(number: int, one: str, several: str | None = None) -> str:
    """A number of things."""
    return f"{number:,} {one if number == 1 else several or one + 's'}"


def quoted(name: str) -> str:
    """A name in a sentence."""
    return f"\u201c{name}\u201d"


def numbered(number: int) -> str:
    """A small number as a word."""
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[number] if number < len(words) else f"{number:,}"


def shares(low: float, high: float) -> str:
    """From one share to another."""
    return f"{percent(low)}\u2013{percent(high)}"


def areas(low: float, high: float) -> str:
    """From one area to another."""
    return f"{area(low)}\u2013{area(high)}"


def ranged(values: Sequence[float]) -> str:
    """One share, or the least and the greatest of several."""
    least, most = percent(min(values)), percent(max(values))
    return least if least == most else f"{least} to {most}"


def points(difference: float) -> str:
    """A difference of shares in points of percent."""
    value = f"{100 * abs(difference):.1f}"
    return f"{value} point" if value == "1.0" else f"{value} points"


def quantity(number: int) -> str:
    """A large number in thousands or millions."""
    return f"{number / 1e6:.3g} M" if number >= 1e6 else f"{number / 1e3:.3g} k" if number >= 10_000 else f"{number:,}"
