"""Galleries of test images as HTML, each image with what was said of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from oddsight.drawing.examples import Example
from oddsight.drawing.overlays import SCALE
from oddsight.report.markdown import fill_html


@dataclass(frozen=True)
class Card:
    """A test image, and what is said below it: lines, the verdict as a tag, and whether that is an alarm."""

    example: Example
    path: str
    lines: Sequence[str]
    tag: str
    flagged: bool

    @property
    def name(self) -> str:
        """The name of the image and of its folder."""
        return brief(self.path)

    @property
    def nearest_name(self) -> str:
        """The same of the training image that it resembles."""
        return brief(self.example.nearest_path or "")


@dataclass(frozen=True)
class Gallery:
    """Images of one sort, or what to say when there are none."""

    name: str  # Of its figure, in the template
    heading: str  # What they have in common
    note: str  # Which of all these are shown
    empty: str  # What to say when there are none
    total: int  # How many there are
    cards: Sequence[Card]  # Those that are shown

    def draw(self, nearest: str) -> Markup:
        """The cards; ``nearest`` is what the most similar training images are called."""
        across = max(
            [sum(uri is not None for uri in (c.example.image, c.example.heat, c.example.nearest)) for c in self.cards],
            default=1,
        )
        return fill_html("gallery.html.jinja", cards=self.cards, across=max(across, 1), nearest=nearest)


def draw_key(galleries: Sequence[Gallery], *, masked: bool) -> Markup:
    """What the colours and outlines in galleries mean; empty if there are none."""
    examples = [card.example for gallery in galleries for card in gallery.cards]
    shown = {
        "mapped": any(example.heat for example in examples),
        "masked": masked,
        "compared": any(example.nearest for example in examples),
    }
    start, end = SCALE[0][0], SCALE[-1][0]
    stops = (
        f"rgb({red} {green} {blue} / {opacity}) {100 * (value - start) / (end - start):.1f}%"
        for value, (red, green, blue), opacity in SCALE
    )
    return fill_html("key.html.jinja", colours=", ".join(stops), **shown) if any(shown.values()) else Markup("")


def brief(path: str) -> str:
    """The last two parts of a path."""
    return "/".join(Path(path).parts[-2:])
