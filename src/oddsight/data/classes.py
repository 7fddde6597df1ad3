"""Reading labelled images in any known form."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from oddsight.data.cifar_files import BINARY_VERSION, PYTHON_VERSION
from oddsight.data.class_folders import (
    is_class_folders,
    is_labelled_by_table,
    read_class_folders,
    read_labelled_by_table,
)
from oddsight.data.class_images import ClassImages, stratified
from oddsight.data.dataset import Dataset
from oddsight.data.folder import as_path
from oddsight.data.parquet_files import is_parquet, read_parquet
from oddsight.data.prepared import is_prepared, read_prepared
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import DataError
from oddsight.runtime.progress import Progress, silent

__all__ = ["FORMS", "ClassImages", "Dataset", "Form", "form_of", "read_classes", "stratified"]


@dataclass(frozen=True)
class Form:
    """One way in which people have labelled images."""

    name: str  # What it is
    layout: str  # What it looks like
    fits: Callable[[Path], bool]  # Whether a folder or file has this form, at a glance
    # The splits by name: those of `train`, `validation` and `test` that are there
    read: Callable[..., dict[str, Dataset]]
    packed: bool = True  # Whether its images are inside files of its own, rather than in image files


FORMS: tuple[Form, ...] = (
    Form("prepared", "a folder written by 'oddsight prepare'", is_prepared, read_prepared),
    Form(
        "CIFAR-10, Python version",
        "cifar-10-python.tar.gz or cifar-10-batches-py",
        PYTHON_VERSION.fits,
        PYTHON_VERSION.read,
    ),
    Form(
        "CIFAR-10, binary version",
        "cifar-10-binary.tar.gz or cifar-10-batches-bin",
        BINARY_VERSION.fits,
        BINARY_VERSION.read,
    ),
    Form("Parquet", "train-*.parquet and test-*.parquet with image and label columns", is_parquet, read_parquet),
    Form("Kaggle", "train/ID.png and trainLabels.csv", is_labelled_by_table, read_labelled_by_table, packed=False),
    Form(
        "class folders",
        "CLASS/*.png or train/CLASS/*.png and test/CLASS/*.png",
        is_class_folders,
        read_class_folders,
        packed=False,
    ),
)
"""All forms, in the order in which they are tried."""


def form_of(path: str | os.PathLike[str]) -> Form:
    """The form of labelled images."""
    where = as_path(path, "a dataset")
    if not where.exists():
        raise DataError(f"{where}: no such file or folder")
    form = packed_form(where) or next((form for form in FORMS if form.fits(where)), None)
    if form is not None:
        return form
    layouts = "; ".join(form.layout for form in FORMS)
    raise DataError(f"{where} holds no labelled images in a known layout: {layouts}")


def packed_form(path: Path) -> Form | None:
    """The form of images that are packed in files, if there are any; class folders beside them are refused."""
    form = next((form for form in FORMS if form.packed and form.fits(path)), None)
    if form is not None and path.is_dir() and is_class_folders(path):
        raise DataError(
            f"{path} holds folders of classes beside labelled images in another form ({form.layout}), and only these "
            "would be read: name their own folder or file, or keep both apart"
        )
    return form


def read_classes(
    path: str | os.PathLike[str], *, reading: Reading = AS_DECLARED, progress: Progress = silent
) -> dict[str, Dataset]:
    """Read labelled images in any of the :data:`FORMS`.

    Args:
        path: A folder, an archive, or a Parquet file.
        reading: Bands and scale of TIFF files.
        progress: Called with phase, done and total.

    Returns:
        The splits by name, in the order ``train``, ``validation``, ``test``, with equal classes; ``train`` is always
        there. Files that cannot be read are errors of their split.

    Raises:
        DataError: The form is unknown, something is missing or damaged, or no image can be read.
        OddsightError: A form needs a package that is missing.
    """
    form = form_of(path)
    if form.packed and reading.chosen:
        raise DataError(f"{path} holds no TIFF files, which bands and a scale are for, but {form.layout}")
    splits = form.read(Path(path), progress) if form.packed else form.read(Path(path), progress, reading)
    if "train" not in splits:
        raise DataError(f"{path} holds no images to train on, only those of {', '.join(splits)}")
    return splits
