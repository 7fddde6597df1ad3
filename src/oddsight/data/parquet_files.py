"""Labelled images in Parquet files, laid out as on the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.class_folders import SPLITS
from oddsight.data.class_images import ClassImages
from oddsight.data.images import read_valid_image
from oddsight.data.stored import PixelFile, stored
from oddsight.errors import DataError, ImageError, OddsightError, plain
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

IMAGE_COLUMNS = ("img", "image")
LABEL_COLUMNS = ("label", "labels", "fine_label")

_LARGEST_LABEL = 2**16  # where each number up to it may have to be a class
_ROWS = 256  # whose encoded images are in memory at a time
_GROUP = 1024  # rows that are written together


def is_parquet(path: Path) -> bool:
    """Whether the path is a Parquet file, or a folder with one of a split in it or in one folder of it."""
    return bool(_places(path))


def read_parquet(path: Path, progress: Progress) -> dict[str, ClassImages]:
    """Read splits from files called ``train.parquet`` or ``train-00000-of-00002.parquet``, and so on.

    The image column is a structure of ``bytes`` (an image's file) and ``path``; the label column holds whole numbers.
    Names of classes come from the metadata; without it they are numbers. Images are decoded once, a few rows at a
    time, into a temporary file.
    """
    places = _places(path)
    if len(places) != 1:
        raise DataError(f"{path} has Parquet files in {len(places)} folders: name one of these")
    shards = {split: [_opened(file) for file in files] for split, files in _shards(places[0]).items()}
    tables = [table for files in shards.values() for table in files]
    names = {table.names for table in tables if table.names}
    if len(names) > 1:
        raise DataError(f"the files in {path} name different classes")
    rows = {split: _read(split, files, progress) for split, files in shards.items()}
    most = max(int(labels.max(initial=-1)) for _, labels, _, _ in rows.values())
    classes = names.pop() if names else tuple(str(label) for label in range(most + 1))
    splits = {}
    for split, (pixels, labels, called, errors) in rows.items():
        if not called:
            raise DataError(f"{path} has no image of {split} that can be read" + (f": {errors[0]}" if errors else ""))
        try:
            splits[split] = ClassImages(tuple(stored(pixels.arrays(), called)), labels, classes, tuple(errors))
        except DataError as error:
            raise DataError(f"{path}, {split}: {error}") from None
    return splits


class _Table:
    """One file, opened, and what its columns are called."""

    def __init__(self, path: Path, file: ParquetFile) -> None:
        self.path, self.file = path, file
        schema = file.schema_arrow
        types = {field.name: str(field.type) for field in schema}
        images = [name for name in IMAGE_COLUMNS if re.match(r"struct<.*bytes: (large_)?binary", types.get(name, ""))]
        labels = [name for name in LABEL_COLUMNS if re.fullmatch(r"u?int\d+", types.get(name, ""))]
        if not images or not labels:
            raise DataError(
                f"{path} needs a column of images ({' or '.join(IMAGE_COLUMNS)}: a structure of bytes and path) "
                f"and one of whole numbers ({', '.join(LABEL_COLUMNS)})"
            )
        self.image, self.label = images[0], labels[0]
        self.names = _class_names(schema.metadata or {}, self.label)

    def rows(self) -> Iterator[tuple[dict[str, Any] | None, int]]:
        """Each image, as ``bytes`` and ``path``, and its label."""
        for batch in self.file.iter_batches(_ROWS, columns=[self.image, self.label]):
            columns = batch.to_pydict()
            for cell, label in zip(columns[self.image], columns[self.label], strict=True):
                if label is None:
                    raise DataError(f"{self.path} has an image without a label")
                if abs(label) > _LARGEST_LABEL:
                    raise DataError(f"{self.path} has the label {label}, which is not the index of a class")
                yield cell, label


def _places(path: Path) -> list[Path]:
    """The path if it is a Parquet file or has files of splits in it, or else the folders in it that have."""
    if not path.is_dir():
        return [path] if path.suffix.lower() == ".parquet" else []
    if _shards(path):
        return [path]
    return [folder for folder in sorted(path.iterdir()) if folder.is_dir() and _shards(folder)]


def _shards(path: Path) -> dict[str, list[Path]]:
    if path.is_file():
        return {_split_of(path) or "train": [path]}
    found: dict[str, list[Path]] = {}
    for file in sorted(path.glob("*.parquet")):
        split = _split_of(file)
        if split is not None:
            found.setdefault(split, []).append(file)
    return {split: found[split] for split in SPLITS if split in found}


def _split_of(file: Path) -> str | None:
    start = re.split(r"[-.]", file.name, maxsplit=1)[0]
    return next((split for split, names in SPLITS.items() if start in names), None)


def _opened(path: Path) -> _Table:
    try:
        import pyarrow
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise OddsightError(f"reading {path} needs pyarrow: pip install 'oddsight[parquet]'") from error
    try:
        return _Table(path, ParquetFile(path))
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is not a Parquet file, or is damaged: {_line(error)}") from error


def _class_names(metadata: dict[bytes, bytes], label: str) -> tuple[str, ...]:
    """Names of classes, as the datasets library or a plain list under ``names`` gives them; empty if nothing does."""
    try:
        described = json.loads(metadata.get(b"huggingface", b"{}"))
        names = described.get("info", {}).get("features", {}).get(label, {}).get("names")
        names = names or json.loads(metadata.get(b"names", b"[]"))
    except (ValueError, AttributeError):
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _read(
    split: str, tables: list[_Table], progress: Progress
) -> tuple[PixelFile, NDArray[np.int64], list[str], list[ImageError]]:
    """Images, their labels and names, and what could not be read."""
    import pyarrow

    total = sum(table.file.metadata.num_rows for table in tables)
    pixels, labels, names, errors, done = PixelFile(), list[int](), list[str](), list[ImageError](), 0
    for table in tables:
        at = 0
        try:
            for image, label in ordered_map(_decoded, table.rows()):
                if isinstance(image, ImageError):
                    errors.append(ImageError(f"{table.path}, row {at}", image.reason))
                else:
                    pixels.add(image)
                    labels.append(label)
                    names.append(f"{table.path.name}/{at}")
                at, done = at + 1, done + 1
                progress(f"reading {split}", done, total)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{table.path} is damaged: {_line(error)}") from error
    return pixels, np.array(labels, np.int64), names, errors


def _decoded(row: tuple[dict[str, Any] | None, int]) -> tuple[NDArray[np.uint8] | ImageError, int]:
    cell, label = row
    content = (cell or {}).get("bytes")
    try:
        if content is None:
            raise ImageError("", "the image itself is not in the file")
        return read_valid_image(content, "")[0], label
    except ImageError as error:
        return ImageError("", error.reason), label


def _line(error: Exception) -> str:
    return plain(" ".join(str(error).split()))[:160]


def can_write_parquet() -> bool:
    """Whether pyarrow is there."""
    return importlib.util.find_spec("pyarrow") is not None


def write_parquet(
    file: IO[bytes], images: Iterable[NDArray[np.uint8]], names: Sequence[str], data: ClassImages
) -> None:
    """Write images as PNG beside their labels, as :func:`read_parquet` and the datasets library read them."""
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    features = {"image": {"_type": "Image"}, "label": {"names": list(data.classes), "_type": "ClassLabel"}}
    schema = pyarrow.schema(
        [
            ("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])),
            ("label", pyarrow.int64()),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": features}})},
    )
    # Dictionaries and compression find nothing in PNGs.
    with ParquetWriter(file, schema, compression="none", use_dictionary=False) as writer:
        rows = zip(ordered_map(_as_png, images), names, data.labels.tolist(), strict=True)
        while group := list(islice(rows, _GROUP)):
            cells = [{"bytes": png, "path": name} for png, name, _ in group]
            columns = {"image": cells, "label": [label for _, _, label in group]}
            writer.write_table(pyarrow.Table.from_pydict(columns, schema))


def _as_png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
