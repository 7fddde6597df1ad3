"""Labelled images for evaluation: which are normal, which anomalous and how, and where their masks are."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from oddsight.datasets.folder import find_images
from oddsight.errors import DataError, ImageError
from oddsight.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class LabelledImage:
    """One image with the truth about it.

    Attributes:
        path: The image.
        kind: The type of anomaly, or None if it is normal.
        mask: Its mask, or None.
    """

    path: Path
    kind: str | None
    mask: Path | None = None


@dataclass(frozen=True)
class LabelledSet:
    """Images to evaluate on, normal ones first, and what was not found."""

    images: tuple[LabelledImage, ...]
    problems: tuple[ImageError, ...]


Folder = str | os.PathLike[str]


def from_folders(normal: Folder, anomalous: Folder, masks: Folder | None = None) -> LabelledSet:
    """Images of two folders. Sub-folders of ``anomalous`` are the types of anomaly.

    A mask is found in ``masks`` under the image's sub-folder and name, with ``_mask`` or without, with any suffix.

    Raises:
        DataError: If a folder holds no image, or no mask fits any image.
    """
    return _labelled(Path(normal), Path(anomalous), Path(masks) if masks is not None else None, without=None)


def from_mvtec(folder: Folder) -> LabelledSet:
    """The test images of a folder laid out as MVTec AD: ``test/good``, ``test/TYPE``, ``ground_truth/TYPE``.

    Raises:
        DataError: If it is not laid out like that.
    """
    root = Path(folder)
    if not (root / "test" / "good").is_dir():
        raise DataError(
            f"{root} is not laid out as MVTec AD: it has no test/good; name --normal and --anomalous instead"
        )
    masks = root / "ground_truth"
    return _labelled(root / "test" / "good", root / "test", masks if masks.is_dir() else None, without="good")


def _labelled(normal: Path, anomalous: Path, masks: Path | None, *, without: str | None) -> LabelledSet:
    problems: list[ImageError] = []
    index = _mask_index(masks) if masks is not None else {}
    images = [LabelledImage(path, None) for path in _images(normal, problems)]
    for path in _images(anomalous, problems):
        inside = path.relative_to(anomalous) if path.is_relative_to(anomalous) else Path(path.name)
        kind = inside.parts[0] if len(inside.parts) > 1 else "anomalous"
        if kind != without:
            images.append(LabelledImage(path, kind, index.get(str(inside.with_suffix("")))))
    if not any(image.kind is not None for image in images):
        raise DataError(f"no anomalous images in {anomalous}")
    if masks is not None and not any(image.mask for image in images):
        raise DataError(f"no mask in {masks} has the sub-folder and name of an image in {anomalous}")
    once = {problem.path: problem for problem in problems}
    return LabelledSet(tuple(images), tuple(once.values()))


def _images(folder: Path, problems: list[ImageError]) -> Iterable[Path]:
    found = find_images(folder)
    problems.extend(found.problems)
    if not found.images:
        raise DataError(f"no images in {folder}" + (f": {found.problems[0].reason}" if found.problems else ""))
    return found.images


def _mask_index(masks: Path) -> dict[str, Path]:
    """Masks by sub-folder and name without suffix; the full name goes before the name without ``_mask``."""
    if not masks.is_dir():
        raise DataError(f"{masks} is no folder of masks")
    found = [path for path in sorted(masks.rglob("*")) if path.suffix.lower() in IMAGE_SUFFIXES]
    names = [str(path.relative_to(masks).with_suffix("")) for path in found]
    shortened = {name.removesuffix("_mask"): path for name, path in zip(names, found, strict=True)}
    return shortened | dict(zip(names, found, strict=True))
