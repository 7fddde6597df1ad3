"""Charts of a page as inline SVG.

They are drawn with Matplotlib's figure objects (no window system, no global state but the settings held during a
drawing). Their ink is a CSS colour of the page, so that they follow its light or dark scheme.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-ins that Matplotlib takes for colours; the page has a CSS variable in the place of each.
INK, FAINT = "#010203", "#040506"
_VARIABLES = {INK: "var(--ink)", FAINT: "var(--rule)"}
NORMAL, ANOMALOUS = "#3a86b4", "#d4552f"


def printable(text: object) -> str:
    """Text for a page: what cannot be shown (undecodable bytes of a name, control characters) is marked as such."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in str(text))


def short(name: str) -> str:
    """A name for a chart, cut where it is too long."""
    name = printable(name)
    return name if len(name) <= 40 else f"{name[:39]}\u2026"


def square(figure: Figure, across: str, up: str) -> Axes:
    """Axes of two shares."""
    axes = figure.subplots()
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), xlabel=across, ylabel=up, aspect="equal")
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25%", "50%", "75%", "100%"])
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
    # Of the identifiers only those that are referred to (and differ by the salt) may stay: a page has several charts.
    used = set(re.findall(r'#([\w-]+)[")]', svg))
    svg = re.sub(r' id="([^"]*)"', lambda found: found[0] if found[1] in used else "", svg)
    for stand_in, variable in _VARIABLES.items():
        svg = svg.replace(stand_in, variable)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1))  # noqa: S704 - names are escaped
