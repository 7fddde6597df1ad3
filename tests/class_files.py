"""Tiny labelled images in every form that is read."""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import struct
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("airplane", "cat", "truck")


def random_images(count: int, *, seed: int = 0, side: int = 32) -> np.ndarray:
    return np.random.default_rng([seed, side]).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def labels_of(count: int, *, classes: int = len(CLASSES)) -> list[int]:
    return [number % classes for number in range(count)]


def rows_of(images: np.ndarray) -> np.ndarray:
    """As CIFAR-10 has them: ``[N, 3072]``, red first."""
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)).reshape(len(images), -1)


def parts(images: np.ndarray, labels: Sequence[int]) -> dict[str, tuple[np.ndarray, Sequence[int]]]:
    """CIFAR-10's six batches: the last fifth or so is the test batch. Needs 6 images."""
    bounds = np.linspace(0, len(images), 7).astype(int)
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    return {name: (images[a:b], labels[a:b]) for name, a, b in zip(names, bounds[:-1], bounds[1:], strict=True)}


def python_files(
    images: np.ndarray, labels: Sequence[int], classes: Sequence[str] = CLASSES, *, protocol: int = 2
) -> dict[str, bytes]:
    files = {
        name: pickle.dumps(
            {b"data": rows_of(some), b"labels": list(map(int, those)), b"batch_label": b"batch", b"filenames": []},
            protocol,
        )
        for name, (some, those) in parts(images, labels).items()
    }
    names = [name.encode() for name in classes]
    return files | {"batches.meta": pickle.dumps({b"label_names": names, b"num_vis": 3072}, protocol)}


def binary_files(images: np.ndarray, labels: Sequence[int], classes: Sequence[str] = CLASSES) -> dict[str, bytes]:
    files = {
        f"{name}.bin": np.hstack([np.array(those, np.uint8)[:, None], rows_of(some)]).tobytes()
        for name, (some, those) in parts(images, labels).items()
    }
    return files | {"batches.meta.txt": ("\n".join(classes) + "\n\n").encode()}


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_archive(path: Path, files: dict[str, bytes], folder: str = "cifar-10-batches") -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_class_folders(
    folder: Path, images: Iterable[np.ndarray], labels: Iterable[int], classes: Sequence[str] = CLASSES
) -> Path:
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / classes[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / classes[label] / f"{number:03d}.png")
    return folder


def write_kaggle(folder: Path, images: np.ndarray, labels: Sequence[int], classes: Sequence[str] = CLASSES) -> Path:
    (folder / "train").mkdir(parents=True)
    for number, image in enumerate(images, 1):
        Image.fromarray(image).save(folder / "train" / f"{number}.png")
    with (folder / "trainLabels.csv").open("w", newline="") as file:
        rows: list[list[object]] = [
            ["id", "label"],
            *([number, classes[label]] for number, label in enumerate(labels, 1)),
        ]
        csv.writer(file).writerows(rows)
    return folder


def png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def write_parquet_file(
    path: Path,
    images: Iterable[np.ndarray],
    labels: Sequence[int | None],
    classes: Sequence[str] = CLASSES,
    *,
    image: str = "img",
    label: str = "label",
    metadata: str | None = "huggingface",
    contents: Sequence[bytes | None] | None = None,
) -> Path:
    import pyarrow
    from pyarrow.parquet import write_table

    contents = contents or [png(some) for some in images]
    described = {
        "huggingface": {"huggingface": json.dumps({"info": {"features": {label: {"names": list(classes)}}}})},
        "names": {"names": json.dumps(list(classes))},
        None: None,
    }[metadata]
    table = pyarrow.table({image: [{"bytes": content, "path": None} for content in contents], label: labels})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(table.replace_schema_metadata(described), path, row_group_size=2)
    return path


def write_idx(path: Path, grey: np.ndarray, *, zipped: bool = False) -> Path:
    content = struct.pack(">BBBB", 0, 0, 8, grey.ndim) + struct.pack(f">{grey.ndim}I", *grey.shape) + grey.tobytes()
    path.write_bytes(gzip.compress(content) if zipped else content)
    return path
