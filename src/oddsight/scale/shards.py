"""Scoring one shard: the kernel whose results depend on the images and the model alone, whatever engine runs it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from oddsight.data.decoding import image_timeout, set_image_limits
from oddsight.data.images import content_hash
from oddsight.data.reading import Reading
from oddsight.errors import ImageError
from oddsight.model.model import Model
from oddsight.runtime.parallel import ordered_map
from oddsight.runtime.sessions import device as device_in_use
from oddsight.runtime.sessions import set_device
from oddsight.runtime.stores import is_uri, open_store, read_object
from oddsight.scale.entries import Entry, frames
from oddsight.scale.job import Job
from oddsight.scale.manifest import read_shard
from oddsight.scale.parquet import import_pyarrow, to_bytes
from oddsight.sources.frame import Frame
from oddsight.sources.objects import ObjectFrame

COLUMNS = ("path", "content", "score", "p_value", "verdict", "anomalous", "error")
"""Columns of results. Of an image that could not be read all but ``path`` and ``error`` are empty."""

_READERS = 8
"""Objects that are read ahead of the one that is scored, since a store answers late and many at once."""

Row = tuple[str, str | None, float | None, float | None, str | None, bool | None, str | None]


@dataclass(frozen=True)
class ShardReport:
    """What became of a shard.

    Attributes:
        number: Which.
        entries: Entries of the manifest.
        images: Rows that were written.
        failed: Images that could not be read or scored.
        flagged: Anomalous ones.
        seconds: How long that took.
    """

    number: int
    entries: int
    images: int
    failed: int
    flagged: int
    seconds: float


@dataclass(frozen=True, eq=False)
class ShardScorer:
    """A job of an executor: from the number of a shard to its results in the store, and a report of them."""

    out: str  # Where results go
    job: Job  # What they are of
    model: Model  # Sent to each worker once, as the bytes of its file
    reading: Reading  # Of TIFF files
    timeout: float | None = field(default_factory=image_timeout)  # As whoever starts the job set it
    device: str = field(default_factory=device_in_use)

    def __call__(self, number: int) -> ShardReport:
        """Score a shard and write its file, unless another worker was first."""
        start = time.monotonic()
        if image_timeout() != self.timeout:  # In another process
            set_image_limits(timeout=self.timeout or 0)
        if device_in_use() != self.device:
            set_device(self.device)
        entries = read_shard(self.out, self.job.manifest_name, number)
        rows = list(score_entries(self.model, entries, self.reading))
        open_store(self.out).write(self.job.part_name(number), to_bytes(_table(rows)), new=True)
        failed = sum(row[-1] is not None for row in rows)
        flagged = sum(bool(row[-2]) for row in rows)
        return ShardReport(number, len(entries), len(rows), failed, flagged, time.monotonic() - start)


def score_entries(model: Model, entries: list[Entry], reading: Reading) -> Iterator[Row]:
    """A row of :data:`COLUMNS` for each image, in order. An image that occurs twice is scored once.

    Raises:
        OddsightError: A store fails, which is no fault of an image.
    """
    known: dict[str, Row] = {}
    reading = model.reading.override(reading)
    found = (frame for entry in entries for frame in frames(entry))
    remote = any(is_uri(entry.uri) for entry in entries)
    for frame in ordered_map(_fetched, found, workers=_READERS) if remote else found:
        if isinstance(frame, ImageError):
            yield _failed(frame)
            continue
        try:
            pixels, valid = frame.read_valid(reading)
            content = content_hash(pixels)
            row = known.get(content) if valid is None else None
            if row is None:
                result = model.score(pixels, valid=valid, source=frame.name, one_core=True)
                row = ("", content, result.score, result.p_value, result.verdict, result.anomalous, None)
                if valid is None:  # the same pixels may have data in other places
                    known[content] = row
            yield (_name(frame), *row[1:])
        except ImageError as error:
            yield _failed(ImageError(_name(frame), error.reason))


def _fetched(frame: Frame | ImageError) -> Frame | ImageError:
    """A frame whose content is here; what a store says when it fails is for the whole run."""
    if not isinstance(frame, ObjectFrame):
        return frame
    try:
        return Frame(read_object(str(frame.image)), frame.name)
    except ImageError as error:
        return error


def _name(frame: Frame) -> str:
    return frame.name or "an image"


def _failed(error: ImageError) -> Row:
    return error.path, None, None, None, None, None, error.reason


def _table(rows: list[Row]) -> Any:  # noqa: ANN401 - pyarrow is imported late
    pyarrow = import_pyarrow("writing results")
    text = pyarrow.string()
    types = [text, text, pyarrow.float64(), pyarrow.float64(), text, pyarrow.bool_(), text]
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    arrays = [pyarrow.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return pyarrow.table(arrays, names=list(COLUMNS))
