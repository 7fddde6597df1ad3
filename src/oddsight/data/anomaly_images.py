"""Normal and anomalous images to test on, each read once with its mask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from oddsight.data.anomaly_folders import LabelledFile, LabelledFiles
from oddsight.data.collection import ImageFile
from oddsight.data.dataset import NORMAL, Dataset
from oddsight.data.images import content_hash
from oddsight.data.masks import MaskLook, inspect_mask, settle_turns, summarize_masks
from oddsight.data.reading import Reading
from oddsight.errors import DataError, ImageError, without_traceback


@dataclass(frozen=True)
class ImageLook:
    """An image that was read, and its mask, or what is wrong with that."""

    image: ImageFile
    mask: MaskLook | None
    mask_error: ImageError | None


def look_at(file: LabelledFile, pixels: NDArray[np.uint8], reading: Reading) -> ImageLook:
    """Take down what is to be known of an image with pixels uint8 ``[H, W, 3]``, and read its mask."""
    height, width, _ = pixels.shape
    mask, problem = None, None
    if file.mask is not None:
        try:
            mask = inspect_mask(file.mask, file.path, (width, height))
        except ImageError as error:
            problem = without_traceback(error)
    return ImageLook(ImageFile(file.path, content_hash(pixels), width, height, reading=reading), mask, problem)


def gather_images(files: LabelledFiles, looks: Sequence[ImageLook | ImageError]) -> Dataset:
    """Make a dataset of what was read: one look, or error, for each file.

    Raises:
        DataError: No normal or no anomalous image could be read, or an image is both.
    """
    read = [(file, look) for file, look in zip(files.images, looks, strict=True) if isinstance(look, ImageLook)]
    classes = (NORMAL, *sorted({file.kind for file, _ in read if file.kind is not None}))
    errors = [look for look in looks if isinstance(look, ImageError)]
    for what, there in (("normal", any(not file.kind for file, _ in read)), ("anomalous", len(classes) > 1)):
        if not there:
            reason = f"; the first is {errors[0]}" if errors else ""
            raise DataError(f"none of the {what} images could be read{reason}")
    normal = {look.image.content: file.path for file, look in read if file.kind is None}
    for file, look in read:
        if file.kind is not None and look.image.content in normal:
            raise DataError(f"{file.path} is the same image as {normal[look.image.content]}, which counts as normal")
    masks, coverage = settle_turns([look.mask for _, look in read]), None
    if files.unmatched is not None:
        without = [str(file.path) for file, _ in read if file.kind is not None and file.mask is None]
        anomalous = [mask for mask, (file, _) in zip(masks, read, strict=True) if file.kind is not None]
        coverage = summarize_masks(anomalous, without, files.unmatched)
    mask_errors = (look.mask_error for _, look in read if look.mask_error is not None)
    return Dataset(
        images=tuple(look.image for _, look in read),
        labels=np.array([classes.index(file.kind or NORMAL) for file, _ in read], np.int64),
        classes=classes,
        errors=(*files.problems, *errors, *mask_errors),
        masks=tuple(masks),
        coverage=coverage,
        ignored=files.ignored,
    )
