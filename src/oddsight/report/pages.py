"""Templates of pages."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from typing import TYPE_CHECKING

from oddsight.drawing.charts import printable
from oddsight.drawing.numbers import area, percent, span

if TYPE_CHECKING:
    from jinja2 import Template


def template(name: str) -> Template:
    """The template of a page; ``frame.html.jinja`` has what all of them share."""
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = files("oddsight.report")
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(lambda wanted: folder.joinpath(wanted).read_text("utf-8")),
    )
    environment.filters |= FILTERS
    return environment.get_template(name)


FILTERS: dict[str, Callable[..., object]] = {
    "area": area,
    "percent": percent,
    "printable": printable,
    "setting": lambda value: printable("none" if value is None else value),
    "span": lambda low, high, form="area": span(low, high, percent if form == "percent" else area),
    "percent_signed": lambda share: ("\u2212" if share < 0 else "") + percent(abs(share)),
    "comma": lambda number: f"{number:,}",
}
"""What templates write numbers and names by."""
