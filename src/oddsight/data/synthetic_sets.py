"""A dataset of clear images and of the same with haze, smoke or dust, to measure what a model sees of how much.

``write_synthetic`` writes a folder in MVTec AD's layout:

- ``test/good/NAME.png``: the clear images, decoded as every reader of Oddsight does.
- ``test/KIND-SEVERITY/NAME.png``: the same with something in the air, see :mod:`oddsight.data.synthesis`.
- ``ground_truth/KIND-SEVERITY/NAME_mask.png``: where it is; exact.
- ``train/good/NAME.png``: other clear images, if a share is asked for.
- ``synthesis.csv``: what each image is and how much there is of it; ``synthesis.json``: how all was made;
  ``README.txt``: that it is synthetic.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from oddsight.data.collection import ImageFile, collect, split
from oddsight.data.synthesis import VISIBLE, airlight, check_severity, kind_by_name, pattern, veiled
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.runtime.bounds import check_number, check_seed, check_whole
from oddsight.runtime.csv_tables import csv_records
from oddsight.runtime.files import atomic_folder, write_bytes
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.progress import Progress, silent, track

DEFAULT_KINDS = ("haze", "smoke", "dust")
DEFAULT_SEVERITIES = (0.1, 0.2, 0.4, 0.8, 1.6)

_LONGEST = 100  # letters of a name, so that it fits wherever the source's did

_README = """These images are synthetic.

test/good holds clear images as they were. Every other folder in test holds the same images with haze, smoke, dust
or thin cloud that was computed, not photographed: KIND-SEVERITY, where the severity is the mean optical depth inside
the affected area. ground_truth holds the exact masks: where the optical depth is above {visible}.

A pixel is I = J t + A (1 - t) in linear light, with t = exp(-tau) (Koschmieder 1924; He, Sun & Tang, CVPR 2009).
tau is gradient noise, which is the same at every severity and only scaled. synthesis.csv says what each image is,
synthesis.json how all was made.

A model that finds this finds what was computed. That tells how much of it a model needs to see, and which of two models
needs less. It is no measurement of real haze, smoke or dust: there are no shadows, no scattered light from beside, no
dependence on wavelength but for the colour, no sensor and no compression, and the colours were chosen by eye.
All images of one source show the same ground, so they are not independent of each other: compare folders with
test/good one by one, and do not read an interval over all of them.
Made by Oddsight {oddsight}.
"""


@dataclass(frozen=True)
class Row:
    """One image that was made."""

    file: str  # In the folder, with forward slashes
    source: str  # The clear image
    kind: str  # A name of `oddsight.data.synthesis.KINDS`
    severity: float  # The mean optical depth that was asked for
    depth: float  # The mean optical depth over the affected area, of the image that was made
    share: float  # Of the pixels that the mask marks, 0..1
    airlight: str  # 8-bit sRGB, hexadecimal
    seed: int  # Of the pattern


@dataclass(frozen=True)
class SyntheticSet:
    """What was written."""

    folder: Path  # Where it is
    rows: tuple[Row, ...]  # One for each synthetic image
    clear: int  # How many clear images are to be tested on
    training: int  # How many others are there to learn from
    duplicates: int  # Images that were there more than once, and are used once
    errors: tuple[ImageError, ...]  # Images that could not be read


def write_synthetic(
    *clear: str | os.PathLike[str],
    output: str | os.PathLike[str],
    kinds: Sequence[str] = DEFAULT_KINDS,
    severities: Sequence[float] = DEFAULT_SEVERITIES,
    limit: int | None = None,
    train_share: float = 0.0,
    seed: int = 0,
    progress: Progress = silent,
) -> SyntheticSet:
    """Put haze, smoke, dust or thin cloud over clear images and write them as a dataset, complete or not at all.

    The same images, settings and seed give the same images, whatever their names and formats.

    Args:
        *clear: Files, folders (searched recursively) and globs of clear images.
        output: A new or an empty folder.
        kinds: Names in :data:`oddsight.data.synthesis.KINDS`.
        severities: Mean optical depths inside the affected area, above 0.
        limit: The largest number of clear images to use, chosen by content and seed.
        train_share: Share of the clear images that is set aside for training, from 0 to below 1, chosen by content and
            seed.
        seed: Seed of every random choice.
        progress: Called with phase, done and total.

    Raises:
        DataError: No image can be read, or the share leaves none to test on.
        OddsightError: A setting is invalid, or the folder is not empty or cannot be written.
    """
    folder = Path(os.path.realpath(output))
    _check_settings(kinds, severities, limit, train_share, seed)
    _check_folder(folder, os.fspath(output))
    with atomic_folder(folder) as temporary:
        collection = collect(*clear, progress=progress)
        chosen = list(collection.images)
        if limit is not None and limit < len(chosen):
            chosen = split(chosen, limit / len(chosen), seed)[1]
        testing, training = split(chosen, train_share, seed) if train_share else (chosen, [])
        if not testing:
            raise DataError(f"a training share of {train_share:g} leaves none of {len(chosen)} images to test on")
        roots, names = [Path(path) for path in clear], _names(chosen)
        _write_clear(temporary / "train" / "good", training, names, progress)
        _write_clear(temporary / "test" / "good", testing, names, progress)
        rows = _write_veiled(temporary, testing, names, roots, kinds, severities, seed, progress)
        found = SyntheticSet(
            Path(output), tuple(rows), len(testing), len(training), len(collection.duplicates), collection.errors
        )
        settings = {"severities": list(severities), "limit": limit, "train_share": train_share, "seed": seed}
        _write_descriptions(temporary, found, settings | {"kinds": _described(kinds)}, roots)
    return found


def _check_settings(
    kinds: Sequence[str], severities: Sequence[float], limit: int | None, train_share: float, seed: int
) -> None:
    if not kinds or not severities:
        raise OddsightError("name at least one kind and one severity")
    for kind in kinds:
        kind_by_name(kind)
    for severity in severities:
        check_severity(severity)
        if not severity:
            raise OddsightError("a severity of 0 changes nothing: the clear images are in test/good anyway")
    if len({f"{severity:g}" for severity in severities}) < len(severities) or len(set(kinds)) < len(kinds):
        raise OddsightError("a kind or a severity is named twice")
    if limit is not None:
        check_whole(limit, "the most images to use")
    check_number(train_share, "the share to learn from")
    if not 0 <= train_share < 1:
        raise OddsightError(f"the share to learn from must be at least 0 and below 1, not {train_share:g}")
    check_seed(seed)


def _check_folder(folder: Path, name: str) -> None:
    """Refuse a folder that is neither new nor empty."""
    try:
        if folder.is_dir() and any(folder.iterdir()):
            raise OddsightError(f"{name} holds other files: name a new or an empty folder")
        if folder.exists() and (not folder.is_dir() or folder.samefile(Path.cwd())):
            raise OddsightError(f"{name} cannot be replaced: name a new folder")
    except OSError as error:
        raise OddsightError(f"cannot write {name}: {error.strerror or error}") from error


def _names(images: Sequence[ImageFile]) -> dict[str, str]:
    """A name for each content: that of its file, with that of its folder or a number where two would share one."""
    names: dict[str, str] = {}
    taken: set[str] = set()
    for image in sorted(images, key=lambda one: (os.fsencode(one.path), one.content)):
        stem, parent = _shortened(image.path.stem), _shortened(image.path.parent.name)
        numbered = (f"{stem}_{number}" for number in itertools.count(2))
        candidates = itertools.chain([stem, f"{parent}_{stem}"], numbered)
        name = next(name for name in candidates if name.casefold() not in taken)
        taken.add(name.casefold())
        names[image.content] = name
    return names


def _shortened(name: str) -> str:
    """A name that is neither hidden, nor too long with another before it, nor that of another image's mask."""
    short = os.fsdecode(os.fsencode(name)[:_LONGEST]).lstrip(".") or "image"
    return f"{short}_" if short.endswith("_mask") else short


def _source(path: Path, roots: Sequence[Path]) -> str:
    """Where an image comes from, without the folders above what was named, which are of one machine."""
    root = next((root for root in roots if path != root and path.is_relative_to(root)), path.parent)
    return path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()


def _write_clear(folder: Path, images: Sequence[ImageFile], names: Mapping[str, str], progress: Progress) -> None:
    if images:
        folder.mkdir(parents=True)

    def write(image: ImageFile) -> None:
        Image.fromarray(image.read()).save(folder / f"{names[image.content]}.png")

    phase = f"writing {folder.parent.name}/{folder.name}"
    deque(track(ordered_map(write, images), phase, len(images), progress), maxlen=0)


def _write_veiled(
    folder: Path,
    images: Sequence[ImageFile],
    names: Mapping[str, str],
    roots: Sequence[Path],
    kinds: Sequence[str],
    severities: Sequence[float],
    seed: int,
    progress: Progress,
) -> list[Row]:
    """Write every image in every kind and severity, with its mask."""
    types = [(kind, severity, f"{kind}-{severity:g}") for kind in kinds for severity in severities]
    for _, _, name in types:
        for part in ("test", "ground_truth"):
            (folder / part / name).mkdir(parents=True)

    def write(image: ImageFile) -> list[Row]:
        pixels, name = image.read(), names[image.content]
        patterns = {kind: pattern(pixels, kind, seed) for kind in kinds}
        rows = []
        for kind, severity, folder_name in types:
            colour = airlight(pixels, kind)
            made = veiled(pixels, patterns[kind], severity, colour)
            Image.fromarray(made.image).save(folder / "test" / folder_name / f"{name}.png")
            Image.fromarray(made.mask).save(folder / "ground_truth" / folder_name / f"{name}_mask.png")
            depth = float(made.depth[made.depth > 0].mean(dtype=np.float64))
            share = float((made.mask > 0).mean())
            place, source = f"test/{folder_name}/{name}.png", _source(image.path, roots)
            rows.append(Row(place, source, kind, severity, depth, share, bytes(colour).hex(), seed))
        return rows

    found: list[Row] = []
    for rows in track(ordered_map(write, images), "putting things into the air", len(images), progress):
        found += rows
    return sorted(found, key=lambda row: (kinds.index(row.kind), row.severity, row.file))


def _described(kinds: Sequence[str]) -> dict[str, Any]:
    named = [kind_by_name(kind) for kind in kinds]
    return {kind.name: {"looks": kind.summary, "airlight": bytes(kind.airlight).hex()} for kind in named}


def _write_descriptions(folder: Path, found: SyntheticSet, settings: Mapping[str, Any], roots: Sequence[Path]) -> None:
    records = [asdict(row) | {"depth": f"{row.depth:.6g}", "share": f"{row.share:.6g}"} for row in found.rows]
    write_bytes(folder / "synthesis.csv", csv_records([field.name for field in fields(Row)], records))
    own = version("oddsight")
    content = {
        "synthetic": True,
        "model": "I = J t + A (1 - t) with t = exp(-tau), in linear light (sRGB decoded)",
        "severity": "the mean of tau inside the affected area, which is where tau is above 0",
        "mask": f"tau > {VISIBLE:g}",
        **settings,
        "images": {"clear": found.clear, "training": found.training, "synthetic": len(found.rows)},
        "unreadable": [{"name": _source(Path(error.path), roots), "reason": error.reason} for error in found.errors],
        "versions": {"oddsight": own, "numpy": np.__version__, "python": platform.python_version()},
    }
    write_bytes(folder / "synthesis.json", (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())
    write_bytes(folder / "README.txt", _README.format(visible=f"{VISIBLE:g}", oddsight=own).encode())
