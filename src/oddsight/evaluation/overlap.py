"""Images that a model knows already say nothing about new ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from oddsight.data.collection import ImageFile
from oddsight.errors import DataError


def refuse_overlap(images: Sequence[ImageFile], known: Callable[[str], bool], what: str, why: str) -> None:
    """Refuse images to test on that are known, by their contents; ``why`` says what speaks against them."""
    overlap = [image for image in images if known(image.content)]
    if overlap:
        raise DataError(
            f"{len(overlap):,} of {len(images):,} {what} {why}, such as {overlap[0].path}: remove them, as results on "
            "them mean nothing"
        )
