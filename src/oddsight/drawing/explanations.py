"""One image that explains an alarm: the image, where it is anomalous, and what it should have looked like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from oddsight.drawing.overlays import overlay
from oddsight.errors import ImageError
from oddsight.model.result import Result

if TYPE_CHECKING:
    from oddsight.model.normals import NormalImages

PANEL = 384  # Side of each image in pixels

_GAP, _LINE, _FONT, _LETTERS = 12, 22, 15, 200
_PAPER, _INK, _SOFT, _EMPTY = (253, 252, 250), (29, 33, 38), (93, 100, 109), (228, 227, 223)


def explanation(image: NDArray[np.uint8], result: Result, normals: NormalImages | None = None) -> NDArray[np.uint8]:
    """Draw the image, its heat map if there is one, and the most similar normal image if it is known, side by side.

    Args:
        image: The image that was scored, uint8 ``[H, W, 3]``.
        result: Its result.
        normals: Small copies of normal images, see :meth:`oddsight.NormalImages.beside`.

    Returns:
        uint8 ``[h, w, 3]``; each image is resized to fit :data:`PANEL`.
    """
    fitted = _fitted(Image.fromarray(image))
    limit = "a batch decision" if result.threshold is None else f"threshold {result.threshold:.5g}"
    lines = [result.source or "image", f"score {result.score:.5g}, {limit}", f"p-value {result.p_value:.3g}"]
    panels = [_panel(fitted, lines)]
    if result.map is not None:
        where = Image.fromarray(overlay(np.asarray(fitted), result))
        boxes = "boxes: regions" if result.anomalous else "nothing is beyond the threshold"
        panels.append(_panel(where, ["Where it is most anomalous", boxes, *_decisive(result)]))
    elif result.voices:
        panels[0] = _panel(fitted, [*lines[:2], ", ".join([lines[2], *_decisive(result)])])
    if result.nearest is not None:
        panels.append(_nearest(result.nearest, normals))
    return np.concatenate([np.asarray(panel) for panel in panels], axis=1)


def _decisive(result: Result) -> list[str]:
    """Which detector spoke, if there are several."""
    if not result.voices:
        return []
    first = result.voices[0]
    return [f"decided by {first.name}, its own p-value {first.p_value:.3g}"]


def _nearest(content: str, normals: NormalImages | None) -> Image.Image:
    title, path, small = "The most similar normal image", None, None
    missing = "no small copy"
    if normals is not None:
        path = normals.path(content)
        try:
            small = normals.thumbnail(content)
        except ImageError:
            missing = "its small copy is damaged"
    return _panel(None if small is None else _fitted(small), [title, path or f"content {content}"], missing)


def _fitted(image: Image.Image) -> Image.Image:
    """Brought to the size of a panel, small ones enlarged: a tile of 32 pixels could not be judged as it is."""
    scale = PANEL / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2)


def _panel(image: Image.Image | None, lines: Sequence[str], missing: str = "") -> Image.Image:
    """An image over three lines of text, the first of them a title."""
    panel = Image.new("RGB", (PANEL + 2 * _GAP, PANEL + 2 * _GAP + 3 * _LINE + _GAP // 2), _PAPER)
    draw, font = ImageDraw.Draw(panel), ImageFont.load_default(_FONT)
    if image is None:
        draw.rectangle((_GAP, _GAP, _GAP + PANEL - 1, _GAP + PANEL - 1), fill=_EMPTY)
        draw.text((_GAP + PANEL / 2, _GAP + PANEL / 2), missing, _SOFT, font, anchor="mm")
    else:
        panel.paste(image, (_GAP + (PANEL - image.width) // 2, _GAP + (PANEL - image.height) // 2))
    for number, line in enumerate(lines):
        place = (_GAP, PANEL + 2 * _GAP + number * _LINE)
        draw.text(place, _short(line, font), _INK if number == 0 else _SOFT, font)
    return panel


def _short(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Text that fits under an image, of which the end says most; letters that the font lacks are marked as such."""
    known = text[-_LETTERS:].encode("latin-1", "replace").decode("latin-1")
    text = "".join(letter if letter.isprintable() else "?" for letter in known)
    if font.getlength(text) <= PANEL:
        return text
    kept = next(start for start in range(1, len(text) + 1) if font.getlength("..." + text[start:]) <= PANEL)
    return "..." + text[kept:]
