"""Templates of pages."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from oddsight.drawing.numbers import area, percent, span
from oddsight.errors import plain

if TYPE_CHECKING:
    from jinja2 import Environment, Template


def environment(package: str, finalize: Callable[[object], object] | None = None) -> Environment:
    """Where the templates that lie in a package are filled: every value is escaped, and none may be missing."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=PackageLoader(package, ""),
        finalize=finalize,
    )
    made.filters |= FILTERS
    return made


def template(name: str) -> Template:
    """The template of a page; ``frame.html.jinja`` has what all of them share."""
    return environment("oddsight.report").get_template(name)


FILTERS: dict[str, Callable[..., object]] = {
    "area": area,
    "percent": percent,
    "plain": plain,
    "setting": lambda value: plain("none" if value is None else value),
    "span": lambda low, high, form="area": span(low, high, percent if form == "percent" else area),
    "percent_signed": lambda share: ("\u2212" if share < 0 else "") + percent(abs(share)),
    "comma": lambda number: f"{number:,}",
}
"""What templates write numbers and names by."""
