"""Scenes with masks of clouds: which serve together, their clear tiles, and what trivial measures say of each pixel."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import look
from oddsight.data.folder import is_image_file
from oddsight.data.images import content_hash, read_image
from oddsight.data.mask_files import read_mask
from oddsight.data.masks import inspect_mask, match_masks
from oddsight.errors import DataError, ImageError
from oddsight.runtime.progress import Progress, track
from oddsight.scenes import write_tiles

BRIGHT = 128
"""Ground is bright if the median of its clear pixels (mean of red, green and blue) is at least this: half of white."""

SATURATED = 250  # A pixel is saturated if no channel is below this; a scene, if half of its pixels are

FEWEST = 8  # Scenes that can be dealt into four parts of two or more


@dataclass(frozen=True)
class Scene:
    """A scene and its mask."""

    name: str  # Of its file, without ending
    path: Path  # Of the image
    mask: Path  # Of the mask: anything but black is cloud
    content: str  # SHA-256 of both, hex
    width: int  # In pixels
    height: int  # In pixels
    cover: float  # Share of the pixels that are cloud, 0..1
    ground: float | None  # Median brightness of the clear pixels, 0..255; None if there are none
    saturated: bool  # Whether half of the pixels are saturated
    turn: int = 1  # The EXIF orientation to apply to the mask

    @property
    def bright(self) -> bool:
        """Whether its ground is bright."""
        return self.ground is not None and self.ground >= BRIGHT

    def clouds(self) -> NDArray[np.bool_]:
        """Where clouds are, ``[height, width]``."""
        return read_mask(self.mask, (self.width, self.height), turn=self.turn)


def read_scenes_with_masks(root: Path, *, progress: Progress) -> tuple[Scene, ...]:
    """Read ``ROOT/images`` and the masks of the same names in ``ROOT/masks``, in the order of names."""
    if not (root / "images").is_dir() or not (root / "masks").is_dir():
        raise DataError(f"{root} has no folders images and masks: isolating clouds takes scenes with masks")
    paths, masks = (sorted(filter(is_image_file, (root / name).iterdir())) for name in ("images", "masks"))
    matched = match_masks({PurePath(path.name): path for path in paths}, {PurePath(path.name): path for path in masks})
    scenes = []
    for path in track(paths, "reading scenes", len(paths), progress):
        if path not in matched.of_image:
            raise DataError(f"{path} has no mask of its name in {root / 'masks'}: add it, or take the scene out")
        scenes.append(_scene(path, matched.of_image[path]))
    if len(scenes) < FEWEST:
        raise DataError(f"{root / 'images'} holds {len(scenes)} scenes, and isolating clouds needs at least {FEWEST}")
    if not any(scene.cover > 0 for scene in scenes) or not any(scene.cover < 1 for scene in scenes):
        raise DataError(f"the masks in {root / 'masks'} are all empty or all full: there is nothing to distinguish")
    return tuple(scenes)


def _scene(path: Path, mask_path: Path) -> Scene:
    pixels, image = read_image(path), look(path)
    if isinstance(image, ImageError):
        raise image
    turn = inspect_mask(mask_path, path, (image.width, image.height)).turn
    mask = read_mask(mask_path, (image.width, image.height), turn=turn)
    marked = np.repeat(np.where(mask, 255, 0).astype(np.uint8)[..., None], 3, axis=2)
    return Scene(
        name=path.stem,
        path=path,
        mask=mask_path,
        content=hashlib.sha256(f"{image.content} {content_hash(marked)}".encode()).hexdigest(),
        width=image.width,
        height=image.height,
        cover=float(mask.mean()),
        ground=None if mask.all() else float(np.median(pixels.mean(axis=2)[~mask])),
        saturated=bool((pixels.min(axis=2) >= SATURATED).mean() >= 0.5),
        turn=turn,
    )


def deal(scenes: Sequence[Scene], count: int, seed: int) -> tuple[tuple[int, ...], ...]:
    """Deal scenes into parts, so that every part has its share of dark and of bright ground.

    Scenes are sorted by the brightness of their ground, those without any first, and each next ``count`` of them are
    dealt one to a part, by lot. Lots depend on contents and the seed.
    """

    def lot(index: int) -> str:
        return hashlib.sha256(f"isolation {seed} {scenes[index].content}".encode()).hexdigest()

    def brightness(index: int) -> tuple[float, str]:
        ground = scenes[index].ground
        return (-1.0 if ground is None else ground, lot(index))

    order = sorted(range(len(scenes)), key=brightness)
    parts: list[list[int]] = [[] for _ in range(count)]
    for start in range(0, len(order), count):
        for part, index in enumerate(sorted(order[start : start + count], key=lot)):
            parts[part].append(index)
    return tuple(tuple(sorted(part)) for part in parts)


def clear_tiles(scenes: Sequence[Scene], tile: int, work: Path, progress: Progress) -> dict[int, tuple[Path, ...]]:
    """Cut every scene into tiles that do not overlap, and keep those without a cloudy pixel."""
    found = {}
    for index, scene in enumerate(track(scenes, "cutting clear tiles", len(scenes), progress)):
        clouds = scene.clouds()
        # Named by its content, so that tiles of another image of that name are not among them.
        files = write_tiles(scene.path, work / f"tiles-{tile}" / scene.content[:16], tile=tile, overlap=0)
        found[index] = tuple(file for file in files if not clouds[tile_place(file, tile)].any())
    return found


def tile_place(file: Path, tile: int) -> tuple[slice, slice]:
    """Where a tile of :func:`clear_tiles` lies in its scene, which its name says."""
    top, left = (int(number) for number in file.stem.rsplit("_", 2)[1:])
    return slice(top, top + tile), slice(left, left + tile)


def brightness(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The mean of red, green and blue, ``[H, W]``, 0..255."""
    return np.asarray(pixels.mean(axis=2, dtype=np.float32), np.float32)


def whiteness(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Bright without colour, ``[H, W]``: the lowest channel less the span of the three, -255..255."""
    lowest, highest = pixels.min(axis=2).astype(np.float32), pixels.max(axis=2).astype(np.float32)
    return np.asarray(2 * lowest - highest, np.float32)


TRIVIAL = {"brightness": brightness, "whiteness": whiteness}
"""What a method must beat at each pixel, by name; no choice of theirs is made on test scenes."""
