"""What a job came to, read from its Parquet files: counts, histograms, a false discovery rate, the most anomalous."""

from __future__ import annotations

import heapq
import io
import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import OddsightError
from oddsight.model.result import WITHIN_CLASSES, check_fdr
from oddsight.runtime.stores import Store, open_store
from oddsight.scale.job import ALARMS, SUMMARY, Job, read_job
from oddsight.scale.parquet import import_pyarrow, open_table

BINS = 20
MOST_PREFIXES = 1000
MOST_FAILURES = 20
OTHERS = "(other folders)"


@dataclass(frozen=True)
class Row:
    """A row of the results that has a score."""

    score: float
    path: str
    p_value: float
    verdict: str
    anomalous: bool


@dataclass(frozen=True)
class Summary:
    """What a job came to.

    Attributes:
        scored: Images with a score.
        failed: Images without one.
        flagged: Anomalous images.
        shards: Shards whose results are there.
        of_shards: Shards in all.
        edges: Of the histograms' bins, in scores ``[21]``.
        prefixes: For each folder or prefix: how many were scored, failed and flagged, and its histogram.
        fdr: The false discovery rate that was asked for, or None.
        cut: The highest p-value that it flags; None if it flags nothing.
        alarms: How many images it flags.
        most_anomalous: The rows with the highest scores.
        failures: The first images without a score, 20 at most, and why.
    """

    scored: int
    failed: int
    flagged: int
    shards: int
    of_shards: int
    edges: list[float]
    prefixes: dict[str, dict[str, Any]]
    fdr: float | None = None
    cut: float | None = None
    alarms: int | None = None
    most_anomalous: list[Row] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As it is written beside the results."""
        return asdict(self)


def summarize(place: str, *, fdr: float | None = None, most: int = 0) -> Summary:
    """Read the results of a job twice, file by file: memory does not grow with their number.

    Args:
        place: The folder or URI that ``predict --out`` filled.
        fdr: Decide over all images together, so that at most this share of the alarms is expected to be false, by
            Benjamini and Hochberg's procedure; see :func:`oddsight.model.result.control_fdr`. The images are written
            to ``alarms.parquet`` there.
        most: How many of the most anomalous images to name.

    Raises:
        OddsightError: There are no results, or they are damaged.
    """
    if fdr is not None:
        check_fdr(fdr)
    store = open_store(place)
    job = read_job(store)
    if job is None:
        raise OddsightError(f"{store.uri} holds no results of 'oddsight predict --out': check the name")
    if fdr is not None and job.by_class:
        raise OddsightError(WITHIN_CLASSES)
    numbers = sorted(job.done(store))  # The same in both passes, while a job goes on
    first = _first_pass(store, job, numbers, most)
    cut = None if fdr is None else _cut(first.p_values, fdr)
    summary = _second_pass(store, job, numbers, first, fdr, cut)
    store.write(SUMMARY, json.dumps(summary.to_json(), indent=1).encode() + b"\n")
    return summary


def stored_summary(place: str, fdr: float | None) -> Summary | None:
    """The summary that was written when the job was finished, if it answers the same question."""
    store = open_store(place)
    if store.size(SUMMARY) is None:
        return None
    try:
        told = json.loads(store.read(SUMMARY))
        most = [Row(**row) for row in told.pop("most_anomalous")]
        summary = Summary(**told, most_anomalous=most)
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return summary if summary.fdr == fdr and summary.shards == summary.of_shards else None


@dataclass
class _First:
    """What the first pass finds: range and highest of the scores, how often each p-value occurs, the first failures."""

    low: float = float("inf")
    high: float = float("-inf")
    p_values: Counter[float] = field(default_factory=Counter)
    heap: list[tuple[float, str, float, str, bool]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def _first_pass(store: Store, job: Job, numbers: list[int], most: int) -> _First:
    first = _First()
    for table in _tables(store, job, numbers):
        scores = _numbers(table, "score")
        there = np.isfinite(scores)
        failed = table.select(["path", "error"]).filter(~there).slice(0, MOST_FAILURES - len(first.failures))
        first.failures.update(zip(*failed.to_pydict().values(), strict=True))
        if not there.any():
            continue
        first.low, first.high = min(first.low, float(scores[there].min())), max(first.high, float(scores[there].max()))
        values, counts = np.unique(_numbers(table, "p_value")[there], return_counts=True)
        first.p_values.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
        best = np.argsort(-np.where(there, scores, -np.inf), kind="stable")[: min(most, int(there.sum()))]
        columns = table.select(["path", "p_value", "verdict", "anomalous"]).take(best).to_pylist()
        rows = [(float(scores[at]), *row.values()) for at, row in zip(best, columns, strict=True)]
        first.heap = heapq.nsmallest(most, first.heap + rows, key=lambda row: (-row[0], row[1]))
    return first


def _second_pass(
    store: Store, job: Job, numbers: list[int], first: _First, fdr: float | None, cut: float | None
) -> Summary:
    low, high = (first.low, first.high) if first.low <= first.high else (0.0, 0.0)
    edges = np.linspace(low, high if high > low else low + 1.0, BINS + 1)
    prefixes: dict[str, dict[str, Any]] = {}
    shards, alarms = 0, 0
    with _alarm_file(store, fdr) as write:
        for table in _tables(store, job, numbers):
            shards += 1
            _count(prefixes, table, edges)
            if fdr is not None:
                # Without a p-value it is NaN, which is below nothing.
                flagged = table.filter(_numbers(table, "p_value") <= (-1.0 if cut is None else cut))
                alarms += len(flagged)
                write(flagged)
    shown = {name: {**row, "histogram": row["histogram"].tolist()} for name, row in sorted(prefixes.items())}
    return Summary(
        **{name: sum(row[name] for row in shown.values()) for name in ("scored", "failed", "flagged")},
        shards=shards,
        of_shards=job.shards,
        edges=edges.tolist(),
        prefixes=shown,
        fdr=fdr,
        cut=cut,
        alarms=None if fdr is None else alarms,
        most_anomalous=[Row(*row) for row in first.heap],
        failures=first.failures,
    )


def _count(prefixes: dict[str, dict[str, Any]], table: Any, edges: NDArray[np.float64]) -> None:  # noqa: ANN401
    """Add the rows of a shard to the counts of their folders."""
    folders = np.array([path.rpartition("/")[0] for path in table.column("path").to_pylist()], object)
    scores = _numbers(table, "score")
    flags = np.asarray(table.column("anomalous").fill_null(False).to_numpy(zero_copy_only=False), bool)
    there = np.isfinite(scores)
    for folder in dict.fromkeys(folders.tolist()):
        rows = folders == folder
        name = folder if folder in prefixes or len(prefixes) < MOST_PREFIXES else OTHERS
        known = prefixes.setdefault(
            name, {"scored": 0, "failed": 0, "flagged": 0, "histogram": np.zeros(BINS, np.int64)}
        )
        known["scored"] += int((rows & there).sum())
        known["failed"] += int((rows & ~there).sum())
        known["flagged"] += int((rows & flags).sum())
        known["histogram"] += np.histogram(scores[rows & there], edges)[0]


@contextmanager
def _alarm_file(store: Store, fdr: float | None) -> Iterator[Callable[[Any], None]]:
    """What writes rows to the file of alarms, which is put into the store at the end; nothing without a rate."""
    if fdr is None:
        yield lambda table: None
        return
    import_pyarrow("a summary")
    from pyarrow.parquet import ParquetWriter

    with tempfile.TemporaryDirectory(prefix="oddsight-") as folder, ExitStack() as stack:
        path, writers = Path(folder) / ALARMS, list[Any]()

        def write(table: Any) -> None:  # noqa: ANN401 - pyarrow is imported late
            if not writers:
                writers.append(stack.enter_context(ParquetWriter(path, table.schema, compression="zstd")))
            writers[0].write_table(table)

        yield write
        stack.close()
        if writers:
            store.write(ALARMS, path)


def _cut(p_values: Counter[float], rate: float) -> float | None:
    """The highest p-value that Benjamini and Hochberg's procedure flags at a rate."""
    total, below, cut = sum(p_values.values()), 0, None
    for value in sorted(p_values):
        below += p_values[value]
        # The slack keeps a p-value that equals its bound from missing it by a rounding.
        if value * total <= rate * below * (1 + 1e-9):
            cut = value
    return cut


def _numbers(table: Any, name: str) -> NDArray[np.float64]:  # noqa: ANN401 - pyarrow is imported late
    return np.asarray(table.column(name).to_numpy(zero_copy_only=False), np.float64)


def _tables(store: Store, job: Job, numbers: list[int]) -> Iterator[Any]:
    for number in numbers:
        name = job.part_name(number)
        with open_table(io.BytesIO(store.read(name)), f"{store.uri}/{name}") as file:
            yield file.read()
