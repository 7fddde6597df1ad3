"""Charts of a page as inline SVG.

They are drawn with Matplotlib's figure objects (no window system, no global state but the settings held during a
drawing). Their ink is a CSS colour of the page, so that they follow its light or dark scheme.
"""

from __future__ import annotations

import base64
import re
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape
from PIL import Image

from oddsight.drawing.image_grids import image_uri
from oddsight.errors import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-ins that Matplotlib takes for colours; the page has a CSS variable in the place of each.
INK, FAINT = "#010203", "#040506"
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--rule)"}
NORMAL, ANOMALOUS = "#3a86b4", "#d4552f"

COLOURS = (NORMAL, ANOMALOUS, "#4d9a57", "#a06bc0", "#c3961c", "#7f7f7f")
DASHES: tuple[object, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))

QUARTERS = (0, 0.25, 0.5, 0.75, 1), ("0", "25%", "50%", "75%", "100%")
"""Ticks of an axis of shares, and their labels."""


def square(figure: Figure, across: str, up: str) -> Axes:
    """Axes of two shares."""
    axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=across, ylabel=up, aspect="equal")
    axes.set_xticks(*QUARTERS)
    axes.set_yticks(*QUARTERS)
    return axes


def logarithmic_x(axes: Axes) -> None:
    """Make the x axis logarithmic, with labels in plain text: a page's charts have no mathematical type."""
    from matplotlib.ticker import LogFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(LogFormatter())
    axes.xaxis.set_minor_formatter(LogFormatter())


def mark(axes: Axes, x: float, y: float) -> None:
    """The operating point."""
    axes.plot(x, y, "o", color=INK, markersize=5, clip_on=False, zorder=5)


def _style(salt: str) -> dict[str, Any]:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "text.parse_math": False,
        "font.size": 8.5,
        "axes.titlesize": 8.5,
        "axes.titlepad": 3,
        "axes.labelcolor": INK,
        "axes.titlecolor": INK,
        "axes.edgecolor": FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": FAINT,
        "ytick.color": FAINT,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
    }


def chart(name: str, inches: tuple[float, float], draw: Callable[[Figure], None], label: str) -> Markup:
    """Draw a figure and return its ``<svg>`` element, with the page's colours in it."""
    import matplotlib
    from matplotlib.figure import Figure

    file = BytesIO()
    style: Any = _style(name)  # newer stubs of Matplotlib list every key, older ones none
    with matplotlib.rc_context(style), warnings.catch_warnings():
        # The page's own fonts set the text: that Matplotlib's lacks a letter does not matter.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=inches, layout="constrained")
        draw(figure)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    text = file.getvalue().decode()
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # A page has several charts: only identifiers that are referred to (and differ by the salt) may stay.
    used = set(re.findall(r'#([\w-]+)[")]', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = _smaller(svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    opened = f'<svg role="img" aria-label="{escape(plain(label))}"'
    return Markup(svg.replace("<svg", opened, 1))  # noqa: S704 - names are escaped


def _smaller(svg: str) -> str:
    """A chart with coordinates to a hundredth of a point, without what is not drawn, and with photographs as JPEG."""

    def rounded(found: re.Match[str]) -> str:
        numbers = re.sub(r"-?\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), found[0])
        return re.sub(r"\s+", " ", numbers)

    svg = re.sub(r' (?:d|x|y|points)="[^"]*"', rounded, svg)
    svg = re.sub(r">\s+<", "><", re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL))
    # The page has fonts of its own, and a file takes any.
    svg = re.sub(
        r"font-family: [^;\"]*|(?<=px )'DejaVu Sans'[^;\"]*", lambda f: f[0].partition("'")[0] + "sans-serif", svg
    )
    svg = re.sub(r' transform="rotate\(-0 [^"]*\)"', "", svg)
    svg = re.sub(r"<g>(<(?:path|use|image)[^>]*/>)</g>", r"\1", svg)
    return re.sub(r"data:image/png;base64,([^\"]+)", lambda found: _photograph(found[0], found[1]), svg)


def _photograph(uri: str, content: str) -> str:
    """The URI of an image that is large and opaque as JPEG, if that is smaller; of another as it is."""
    image = Image.open(BytesIO(base64.b64decode(content))).convert("RGBA")
    if image.getchannel("A").getextrema() != (255, 255):
        return uri
    smaller = image_uri(np.asarray(image.convert("RGB")), max(image.size))
    return smaller if len(smaller) < len(uri) else uri
