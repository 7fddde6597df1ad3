"""Test images to show on a page: with their masks outlined, heat maps, and the normal images that they resemble."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.images import read_valid_image
from oddsight.data.mask_files import read_mask
from oddsight.data.reading import Reading
from oddsight.drawing.image_grids import image_uri
from oddsight.drawing.overlays import overlay
from oddsight.errors import ImageError
from oddsight.evaluation.normal import Evaluation, ImageOutcome
from oddsight.model.model import Model
from oddsight.model.normals import NormalImages

EXAMPLES = 8  # Images of each sort, at most

THUMBNAIL = 320  # Pixels on the longer side of an image, at most

_OUTLINE = (0, 229, 255)


@dataclass(frozen=True)
class Example:
    """A test image to show, all images as data URIs."""

    image: str | None  # The image, with the outline of its mask where there is one; None if it could not be read again
    heat: str | None = None  # Its heat map, or None
    outlined: bool = False  # Whether the image carries the outline of a mask
    nearest: str | None = None  # The most similar normal image, or None
    nearest_path: str | None = None  # Where that image was found, or None


def highest_by_type(evaluation: Evaluation) -> list[ImageOutcome]:
    """Flagged anomalies: the highest score of each type, then the second of each, and so on."""
    turns: dict[str | None, int] = {}
    keyed = []
    for outcome in reversed(by_score(evaluation, lambda one: one.kind is not None and one.flagged)):
        turns[outcome.kind] = turns.get(outcome.kind, 0) + 1
        keyed.append((turns[outcome.kind], outcome))
    return [outcome for _, outcome in sorted(keyed, key=lambda pair: pair[0])]


def by_score(evaluation: Evaluation, wanted: Callable[[ImageOutcome], bool]) -> list[ImageOutcome]:
    """Test images of a sort, lowest score first."""
    return sorted(filter(wanted, evaluation.judged), key=lambda outcome: outcome.score)


def draw_example(model: Model, outcome: ImageOutcome, normals: NormalImages | None, reading: Reading) -> Example:
    """A test image with its heat map if the model localises, and the normal image that it resembles."""
    nearest, nearest_path = nearest_image(outcome.nearest, normals)
    try:
        pixels, valid = read_valid_image(outcome.path, reading=reading)
    except ImageError:
        return Example(None, nearest=nearest, nearest_path=nearest_path)
    small, heat = reduced(pixels), None
    if model.metadata.map_size is not None:
        heat = image_uri(overlay(small, model.score(pixels, valid=valid, source=outcome.path)), THUMBNAIL)
    outlined = _outlined(small, outcome, (pixels.shape[1], pixels.shape[0]))
    image = image_uri(small if outlined is None else outlined, THUMBNAIL)
    return Example(image, heat, outlined is not None, nearest, nearest_path)


def reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy as large as images are shown, at most."""
    image = Image.fromarray(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    return np.array(image)


def nearest_image(content: str | None, normals: NormalImages | None) -> tuple[str | None, str | None]:
    """A copy and the path of the most similar normal image, as far as they are known."""
    if normals is None or content is None:
        return None, None
    path = normals.path(content)
    try:
        small = normals.thumbnail(content)
    except ImageError:
        return None, path
    return None if small is None else image_uri(np.asarray(small), THUMBNAIL), path


def _outlined(small: NDArray[np.uint8], outcome: ImageOutcome, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """A thumbnail with a bright line with a dark rim just outside of what the mask marks, or None without a mask."""
    from scipy.ndimage import binary_dilation

    if outcome.mask is None:
        return None
    try:
        marked = Image.fromarray(read_mask(outcome.mask, size, turn=outcome.mask_turn).astype(np.float32))
    except ImageError:
        return None
    # Averages over boxes, so that a mark of one pixel is not lost in the reduction.
    inside = np.asarray(marked.resize(small.shape[1::-1], Image.Resampling.BOX)) > 0
    if not inside.any():
        return None
    drawn = small.copy()
    line, rim = binary_dilation(inside), binary_dilation(inside, iterations=2)
    drawn[rim] = (20, 20, 20)
    drawn[line] = _OUTLINE
    drawn[inside] = small[inside]
    return drawn
