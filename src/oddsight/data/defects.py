"""Small synthetic defects: what a detector of small things ought to see in a copy of a normal image.

They tell whether a detector sees anything that small, not which real anomalies it sees.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_AREAS = (0.004, 0.02)  # Of pasted patches, as shares of the image

DEFECTS = len(_AREAS) + 1  # Kinds of defects

IMAGES_WITH_DEFECTS = 20  # Images of which a detector is shown copies, at most

_NOISE = 12
_LINE, _THICKNESS, _CONTRAST = 0.25, 0.004, (20, 50)


def small_defects(image: NDArray[np.uint8], seed: int) -> Iterator[NDArray[np.uint8]]:
    """Copies of an image with one small defect each: a small and a larger patch from elsewhere in it, and a thin line.

    Pasting patches follows Li et al., CutPaste, CVPR 2021. Images uint8 ``[H, W, 3]`` that are too small are yielded
    unchanged.
    """
    rng = np.random.default_rng(seed)
    for area in _AREAS:
        yield _pasted(image, area, rng)
    yield _scratched(image, rng)


def _pasted(image: NDArray[np.uint8], area: float, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A patch of the image at another place, a little lighter or darker."""
    height, width, _ = image.shape
    side, stretch = np.sqrt(area * height * width), np.exp(rng.uniform(-1.2, 1.2))
    rows = min(max(2, int(side * stretch)), max(1, height // 2))
    columns = min(max(2, int(side / stretch)), max(1, width // 2))
    (top, left), (to_top, to_left) = rng.integers(0, (height - rows + 1, width - columns + 1), (2, 2))
    patch = image[top : top + rows, left : left + columns] + rng.normal(0, _NOISE)
    changed = image.copy()
    changed[to_top : to_top + rows, to_left : to_left + columns] = np.clip(patch, 0, 255)
    return changed


def _scratched(image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """A thin, slightly bent line, lighter or darker than what is under it."""
    height, width, _ = image.shape
    side = np.sqrt(height * width)
    angle, length, thickness = rng.uniform(0, np.pi), _LINE * side, max(1, int(_THICKNESS * side))
    middle = rng.uniform(0.2, 0.8, 2) * (height, width)
    along = np.linspace(-0.5, 0.5, max(2, int(2 * length)))
    bend = 0.01 * side * np.sin(6 * along)
    rows = middle[0] + length * along * np.sin(angle) + bend
    columns = middle[1] + length * along * np.cos(angle)
    marked = np.zeros((height, width), bool)
    for down in range(thickness):
        for right in range(thickness):
            y, x = (rows + down).astype(int), (columns + right).astype(int)
            inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
            marked[y[inside], x[inside]] = True
    changed = image.astype(np.float64)
    changed[marked] += rng.choice([-1, 1]) * rng.uniform(*_CONTRAST)
    return np.asarray(np.clip(changed, 0, 255), np.uint8)
