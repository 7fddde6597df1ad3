"""Masks of images: which file belongs to which image, how it lies over it, and what is suspicious about it."""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path, PurePath
from typing import Any, Literal

import numpy as np

from oddsight.data.mask_files import read_mask_pixels, read_orientation
from oddsight.data.mask_values import MaskValues
from oddsight.errors import DataError, some
from oddsight.runtime.records import as_json

ENDINGS = ("_mask", "_gt", "-mask", "-gt")  # What may follow an image's name in the name of its mask

_NAMED = 3

Fit = Literal["plain", "upright", "stored", "unsure"]


@dataclass(frozen=True)
class MaskFiles:
    """Which masks belong to which images."""

    of_image: Mapping[Path, Path]  # By the image's file, its mask: a file, or a folder that holds the parts of one mask
    unmatched: tuple[Path, ...]  # Mask files that belong to no image


def match_masks(images: Mapping[PurePath, Path], masks: Mapping[PurePath, Path]) -> MaskFiles:
    """Find the mask of each image by its place, that is its sub-folder and name, such as ``scratch/007.png``.

    Suffixes of files do not count, unless two names differ in nothing else. The mask's name may have one of the
    :data:`ENDINGS`. Instead of a file there may be a folder of the image's name with several, which together are its
    mask (as in MVTec LOCO). Names match as they are; those left over as Unicode has them (composed and decomposed
    letters are the same); and those left over then with upper and lower case the same.

    Raises:
        DataError: Two masks match one image, or two images one mask, equally well.
    """
    left, files, of_image = dict(images), dict(masks), dict[Path, Path]()
    # From the closest likeness to the loosest; what is matched takes no part in the next.
    for form, names in product(_FORMS, (_full_names, _names, _names_without_ending)):
        keys: dict[str, list[PurePath]] = defaultdict(list)
        for place in left:
            keys[form(str(place if names is _full_names else place.with_suffix("")))].append(place)
        for place, options in _options(keys, files, form, names).items():
            readable = sorted(set(options.values()))
            if len(readable) > 1:
                raise DataError(f"{readable[0]} and {readable[1]} could both be the mask of {left[place]}: rename one")
            of_image[left.pop(place)] = readable[0]
            for used in options:
                del files[used]
    return MaskFiles(of_image, tuple(sorted(files.values())))


def _options(
    keys: Mapping[str, Sequence[PurePath]],
    files: Mapping[PurePath, Path],
    form: Callable[[str], str],
    names: Callable[[PurePath, Path], list[tuple[str, Path]]],
) -> dict[PurePath, dict[PurePath, Path]]:
    """For each image the places of mask files like it, and what to read for each: the file or its folder."""
    found: dict[PurePath, dict[PurePath, Path]] = defaultdict(dict)
    for place, file in files.items():
        for name, readable in names(place, file):
            alike = keys.get(form(name), [])
            if len(alike) > 1:
                raise DataError(f"{readable} could be the mask of both {alike[0]} and {alike[1]}: rename one image")
            if alike:
                found[alike[0]][place] = readable
    return found


def _full_names(place: PurePath, file: Path) -> list[tuple[str, Path]]:
    return [(str(place), file)]


def _names(place: PurePath, file: Path) -> list[tuple[str, Path]]:
    """The name of a mask file without its suffix, and that of its folder, of which it may be a part."""
    folder = [(str(place.parent), file.parent)] if place.parent.name else []
    return [(str(place.with_suffix("")), file), *folder]


def _names_without_ending(place: PurePath, file: Path) -> list[tuple[str, Path]]:
    return [
        (name[: -len(ending)], readable)
        for name, readable in _names(place, file)
        for ending in ENDINGS
        if name.lower().endswith(ending)
    ]


def _caseless(name: str) -> str:
    """A canonical caseless form (Unicode, section 3.13, D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


_FORMS: tuple[Callable[[str], str], ...] = (str, partial(unicodedata.normalize, "NFC"), _caseless)


@dataclass(frozen=True)
class MaskLook:
    """What was seen of a mask over its image."""

    path: Path  # The mask
    share: float  # Of the image's pixels that it marks, 0..1
    values: MaskValues  # What it holds, see `oddsight.data.mask_files.read_mask`
    content: str  # SHA-256 of what it marks, hex
    # How it lies over an image with an EXIF orientation: `upright`, as the image is shown; `stored`, as its pixels are
    # stored; `unsure`, where both have one size. `plain` where the image has no orientation or the mask has its own.
    fit: Fit
    turn: int  # The orientation to apply to it, 1..8
    image_turn: int  # The image's orientation, 1..8


def inspect_mask(mask: Path, image: Path, size: tuple[int, int]) -> MaskLook:
    """Read a mask, a file or a folder with parts of one, and find how it lies over its image.

    A mask with an orientation of its own is turned by that one. One without is taken to be drawn on the image as it is
    shown, which has the width and height ``size``, unless it has the size of the image as it is stored, and not the
    other.

    Raises:
        ImageError: The mask cannot be read, or has neither size.
    """
    image_turn = read_orientation(image)
    fit: Fit = "plain"
    if image_turn != 1 and read_orientation(mask) == 1:
        if image_turn < 5 or size[0] == size[1]:
            fit = "unsure"
        else:
            fit = "stored" if read_mask_pixels(mask).marked.shape == size else "upright"
    return _look(mask, size, fit, image_turn)


def _look(mask: Path, size: tuple[int, int] | None, fit: Fit, image_turn: int) -> MaskLook:
    turn = image_turn if fit == "stored" else 1
    pixels = read_mask_pixels(mask, size, turn=turn)
    content = hashlib.sha256(np.packbits(pixels.marked).tobytes()).hexdigest()
    return MaskLook(mask, float(pixels.marked.mean()), pixels.values, content, fit, turn, image_turn)


def settle_turns(looks: Sequence[MaskLook | None]) -> list[MaskLook | None]:
    """Decide about masks whose sizes do not tell by those of the same dataset whose sizes do.

    If every mask whose size tells is drawn on the image as it is stored, the others are taken to be so, too, and are
    read again. Otherwise they stay as they are shown, and ``unsure``.

    Raises:
        ImageError: A mask cannot be read again.
    """
    if {look.fit for look in looks if look is not None} & {"upright", "stored"} != {"stored"}:
        return list(looks)
    return [
        _look(look.path, None, "stored", look.image_turn) if look is not None and look.fit == "unsure" else look
        for look in looks
    ]


@dataclass(frozen=True)
class MaskCoverage:
    """How many images the metrics of pixels rest on, and what is suspicious about their masks. Lists hold paths."""

    anomalous: int  # Anomalous images that could be read
    used: int  # Those of them with a mask that can be read and marks anything: what metrics of pixels rest on
    without: tuple[str, ...]  # Those of them that no mask matches
    unmatched: tuple[str, ...]  # Mask files that belong to no image
    empty: tuple[str, ...]  # Masks that mark nothing
    covering_all: tuple[str, ...]  # Masks that mark all of their image
    covering_most: tuple[str, ...]  # Other masks that mark more than half of it
    grey: tuple[str, ...]  # Masks with shades of grey, of which at least half the maximum counts
    labels: tuple[str, ...]  # Masks with several values, of which all but zero count
    turned: tuple[str, ...]  # Masks that were turned as their images are
    # Masks of turned images of which sizes do not tell whether they are to be turned; they are not
    unsure: tuple[str, ...]

    def remarks(self) -> list[tuple[str, tuple[str, ...], str]]:
        """What a reader must know: what there is, the files, and what follows. Nothing about masks like any other."""
        remarks = (
            (
                "Anomalous images without a mask",
                self.without,
                f"pixel metrics rest on {self.used:,} of {self.anomalous:,} anomalous images.",
            ),
            ("Mask files that belong to no image", self.unmatched, "compare their names."),
            ("Masks that mark nothing", self.empty, "their images are left out of the pixel metrics."),
            ("Masks that mark all of the image", self.covering_all, "are they masks?"),
            ("Masks that mark more than half of the image", self.covering_most, "inverted? White marks the anomaly."),
            (
                "Masks with grey values (JPEG compression, soft edges)",
                self.grey,
                "pixels of at least half the maximum count as anomalous.",
            ),
            (
                "Masks with more than two values (labels)",
                self.labels,
                "every pixel that is not zero counts as anomalous.",
            ),
            (
                "Masks turned by the EXIF orientation of the image",
                self.turned,
                "their size shows that they were drawn before it was applied.",
            ),
            (
                "Masks of images with an EXIF orientation, which may or may not be applied to them",
                self.unsure,
                "read as drawn on the image as shown, so pixel metrics may be wrong; store both without one.",
            ),
        )
        return [remark for remark in remarks if remark[1]]

    def sentences(self) -> list[str]:
        """The remarks, a sentence each."""
        return [f"{what}: {len(paths):,} ({some(paths, _NAMED)}); {then}" for what, paths, then in self.remarks()]

    def to_json(self) -> dict[str, Any]:
        """As ``evaluate --json`` writes it."""
        return as_json(self)


def summarize_masks(
    looks: Sequence[MaskLook | None], without: Sequence[str], unmatched: Sequence[Path]
) -> MaskCoverage:
    """Say on what metrics of pixels rest.

    ``looks`` are the masks of the anomalous images that could be read, None where one is missing or cannot be used;
    ``without`` those images that no mask matches, and ``unmatched`` mask files that belong to no image.
    """
    masks = [look for look in looks if look is not None]

    def those(test: Callable[[MaskLook], bool]) -> tuple[str, ...]:
        return tuple(str(look.path) for look in masks if test(look))

    return MaskCoverage(
        anomalous=len(looks),
        used=len(those(lambda look: look.share > 0)),
        without=tuple(without),
        unmatched=tuple(map(str, unmatched)),
        empty=those(lambda look: look.share == 0),
        covering_all=those(lambda look: look.share == 1),
        covering_most=those(lambda look: 0.5 < look.share < 1),
        grey=those(lambda look: look.values == "shades"),
        labels=those(lambda look: look.values == "labels"),
        turned=those(lambda look: look.fit == "stored"),
        unsure=those(lambda look: look.fit == "unsure"),
    )
