"""The list of all images of a job, written once: a Parquet file with one row group a shard."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oddsight.errors import DataError
from oddsight.runtime.stores import open_store
from oddsight.scale.entries import Entry
from oddsight.scale.parquet import import_pyarrow, open_table

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

SHARD_IMAGES = 1000
"""Images of a shard, at most, by default."""

SHARD_BYTES = 2**30
"""Bytes of a shard, at most, unless a single image or tar file has more."""


_reading = threading.Lock()  # An open Parquet file is for one thread at a time


@dataclass(frozen=True)
class Plan:
    """A manifest that was written to a file of this machine."""

    path: Path
    digest: str  # SHA-256 over its entries and where shards begin, hex
    entries: int
    size: int  # Bytes of all images of which they are known
    shards: int


@contextmanager
def plan_manifest(
    entries: Iterable[Entry], shard_images: int = SHARD_IMAGES, note: Callable[[int], None] = lambda count: None
) -> Iterator[Plan]:
    """Write entries to a temporary file, a shard at a time: memory does not grow with their number.

    Raises:
        DataError: There are none.
    """
    pyarrow = import_pyarrow("planning a job")
    from pyarrow import parquet

    schema = pyarrow.schema([("uri", pyarrow.string()), ("bytes", pyarrow.int64())])
    digest, count, total, shards = hashlib.sha256(), 0, 0, 0
    with tempfile.TemporaryDirectory(prefix="oddsight-") as folder:
        path = Path(folder) / "manifest.parquet"
        with parquet.ParquetWriter(path, schema, compression="zstd", write_statistics=False) as writer:
            for shard in _shards(entries, shard_images):
                uris, sizes = [entry.uri for entry in shard], [entry.size for entry in shard]
                digest.update(_encode(shard))
                writer.write_table(pyarrow.table([uris, sizes], schema=schema))
                count, total, shards = count + len(shard), total + sum(sizes), shards + 1
                note(count)
        if not count:
            raise DataError("no images are given")
        yield Plan(path, digest.hexdigest(), count, total, shards)


def _encode(shard: list[Entry]) -> bytes:
    """A shard as the digest reads it; a name that is not UTF-8 would stop the whole job, so it is refused here."""
    lines = "\n".join([f"{entry.size} {entry.uri}" for entry in shard])
    try:
        return f"{len(shard)}\n{lines}\n".encode()
    except UnicodeEncodeError as error:
        line = error.object[error.object.rindex("\n", 0, error.start) + 1 :].partition("\n")[0]
        uri = line.partition(" ")[2]
    raise DataError(f"{uri!r} has a name that is not UTF-8, which Parquet cannot hold: rename it")


def _shards(entries: Iterable[Entry], most: int) -> Iterator[list[Entry]]:
    shard: list[Entry] = []
    size = 0
    for entry in entries:
        if shard and (len(shard) == most or size + entry.size > SHARD_BYTES):
            yield shard
            shard, size = [], 0
        shard.append(entry)
        size += entry.size
    if shard:
        yield shard


def read_shard(store_uri: str, name: str, number: int) -> list[Entry]:
    """The entries of one shard of a manifest in a store."""
    with _reading:
        columns = _manifest(store_uri, name).read_row_group(number).to_pydict()
    return [Entry(uri, size) for uri, size in zip(columns["uri"], columns["bytes"], strict=True)]


@lru_cache(maxsize=1)
def _manifest(store_uri: str, name: str) -> ParquetFile:
    """Opened once in each process: its end names all row groups."""
    table: Any = open_table(open_store(store_uri).open(name), f"{store_uri}/{name}")
    return table
