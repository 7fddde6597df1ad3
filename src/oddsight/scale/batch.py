"""Scoring images by the million: plan once, score what is missing, sum up."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import OddsightError
from oddsight.model.model import Model, load
from oddsight.model.result import WITHIN_CLASSES, check_fdr
from oddsight.runtime.bounds import check_whole
from oddsight.runtime.executor import Executor
from oddsight.runtime.progress import Progress, silent, unheard
from oddsight.runtime.stores import Store, is_uri, open_store
from oddsight.scale.engines import check_engine, use_engine
from oddsight.scale.entries import check_sources, list_entries
from oddsight.scale.estimate import Estimate, estimate
from oddsight.scale.job import JOB, MANIFEST, STATUS, Job, check_same, read_job, write_job
from oddsight.scale.manifest import SHARD_IMAGES, plan_manifest
from oddsight.scale.ray_executor import check_ray
from oddsight.scale.shards import ShardReport, ShardScorer
from oddsight.scale.summary import Summary, stored_summary, summarize

_EVERY = 1.0  # Seconds between two reports of the status


@dataclass(frozen=True)
class Batch:
    """What a run of a job did.

    Attributes:
        job: The job; None after a dry run.
        estimate: What it was expected to take; None if it was planned before.
        summary: What it came to; None after a dry run.
        new: Shards that this run scored.
        seconds: From the first shard to the last.
        start_up: Seconds before the first shard: planning, and the start of the engine.
    """

    job: Job | None
    estimate: Estimate | None
    summary: Summary | None
    new: int = 0
    seconds: float = 0.0
    start_up: float = 0.0


def predict_batch(  # noqa: PLR0913 - one keyword for each option of the command
    model: Model | str | os.PathLike[str],
    sources: Sequence[str],
    out: str | os.PathLike[str],
    *,
    engine: str = "local",
    address: str | None = None,
    workers: int | None = None,
    resume: bool = False,
    dry_run: bool = False,
    price: float | None = None,
    shard_images: int | None = None,
    reading: Reading | None = None,
    fdr: float | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] = unheard,
) -> Batch:
    """Score images into Parquet files, on this machine or on a Ray cluster.

    Images are listed once, into shards; each shard becomes one file under a name that says images, model and columns.
    Whatever engine runs it, and however often it is interrupted, the rows are the same.

    Example:
        >>> from oddsight.scale import predict_batch
        >>> batch = predict_batch("parts.onnx", ["new"], "scores")
        >>> batch.summary.flagged, batch.summary.failed
        (6, 0)

    Args:
        model: The model, or its file.
        sources: Folders, prefixes of object stores, patterns, tar files, or lists: see
            :func:`oddsight.scale.entries.list_entries`.
        out: The folder or prefix for results, which is empty or holds those of the same job.
        engine: See :func:`use_engine`.
        address: See :func:`use_engine`.
        workers: See :func:`use_engine`.
        resume: Score only what is missing.
        dry_run: Only plan and estimate; nothing is written.
        price: Of a core for an hour, for the estimate.
        shard_images: Images of a shard, at most; by default as in the job that is continued, or 1,000.
        reading: Bands and scale of TIFF files, instead of those that the model was trained with.
        fdr: Decide over the whole batch, see :func:`summarize`.
        progress: Called with phase, done and total.
        note: Called with what there is to say.

    Raises:
        OddsightError: Something cannot be used, or the place holds results of another job.
    """
    check_engine(engine, address, workers)
    if shard_images is not None:
        check_whole(shard_images, "--shard-images", 1, 1_000_000)
    if fdr is not None:
        check_fdr(fdr)
    given, start = check_sources(sources), time.monotonic()
    if address is not None:
        _check_whole_paths([os.fspath(out), *given])
    model = model if isinstance(model, Model) else load(model)
    if fdr is not None and model.by_class:
        raise OddsightError(WITHIN_CLASSES)
    reading = reading or AS_DECLARED
    store = open_store(out)
    digest = hashlib.sha256(model.to_bytes()).hexdigest()
    job, expected = read_job(store), None
    shard_images = shard_images or (job.shard_images if job is not None else SHARD_IMAGES)
    asked = Job(given, digest, str(reading), shard_images, by_class=model.by_class)
    if job is not None:
        check_same(job, asked, store.uri)
        if dry_run:
            raise OddsightError(f"{store.uri} holds this job, which was planned before: leave --dry-run out")
        if not resume:
            raise OddsightError(f"{store.uri} already holds this job: continue it with --resume")
    else:
        if engine == "ray" and not dry_run:
            check_ray(address)  # before images are listed, which may take hours
        job, expected = _plan(store, asked, model, reading, price, dry_run, progress, note)
    if dry_run:
        return Batch(None, expected, None)
    missing = sorted(set(range(job.shards)) - job.done(store))
    scorer = ShardScorer(store.uri, job, model, reading)
    watch, begun = _Watch(store, job, job.shards - len(missing), progress), time.monotonic()
    if missing:
        note(f"{len(missing):,} of {job.shards:,} shards are to be scored")
        with ExitStack() as stack:
            executor = stack.enter_context(use_engine(engine, address, workers, group=1))
            begun = time.monotonic()
            _score(executor, scorer, missing, watch)
    seconds = time.monotonic() - begun
    summary = (None if missing else stored_summary(store.uri, fdr)) or summarize(store.uri, fdr=fdr)
    return Batch(job, expected, summary, len(missing), seconds, begun - start)


def _check_whole_paths(places: list[str]) -> None:
    for place in places:
        if not is_uri(place) and not Path(place).is_absolute():
            raise OddsightError(f"{place}: machines of a cluster have other current folders: give a whole path")


def _plan(
    store: Store,
    asked: Job,
    model: Model,
    reading: Reading,
    price: float | None,
    dry_run: bool,
    progress: Progress,
    note: Callable[[str], None],
) -> tuple[Job, Estimate]:
    """List the images, estimate, and take the place for the job."""
    # A run that was killed while it planned leaves a manifest.
    if any(not name.startswith(MANIFEST) for name, _ in store.names()):
        raise OddsightError(f"{store.uri} is not empty, and holds no {JOB} of a job: choose another --out")
    entries = list_entries(asked.sources)
    with plan_manifest(entries, asked.shard_images, lambda count: progress("listing", count, count)) as plan:
        expected = estimate(model, plan, reading, price)
        job = replace(asked, manifest=plan.digest, entries=plan.entries, size=plan.size, shards=plan.shards)
        if dry_run:
            return job, expected
        note(str(expected))
        store.write(job.manifest_name, plan.path)
    held = write_job(store, job)
    check_same(held, asked, store.uri)
    return held, expected


def _score(executor: Executor, scorer: ShardScorer, missing: list[int], watch: _Watch) -> None:
    try:
        for report in executor.map(scorer, missing):
            watch.count(report)
    except BaseException:
        watch.write("interrupted")
        raise
    watch.write("finished")


class _Watch:
    """How far a job is, for whoever looks at the terminal or at ``status.json``."""

    def __init__(self, store: Store, job: Job, before: int, progress: Progress) -> None:
        self._store, self._job, self._progress = store, job, progress
        self._start, self._written = time.monotonic(), 0.0
        self._counts = {"shards": before, "entries": before * job.entries // max(job.shards, 1)}
        self._counts |= {"images": 0, "failed": 0, "flagged": 0}

    def count(self, report: ShardReport) -> None:
        self._counts["shards"] += 1
        for name in ("entries", "images", "failed", "flagged"):
            self._counts[name] += getattr(report, name)
        self._progress("scoring", min(self._counts["entries"], self._job.entries), self._job.entries)
        if time.monotonic() - self._written > _EVERY:
            self.write("running")

    def write(self, state: str) -> None:
        """Replace the file; images, failures and flags are those of this run."""
        self._written = time.monotonic()
        told = {"state": state, **self._counts, "seconds": round(self._written - self._start, 1)}
        told |= {"of_shards": self._job.shards, "of_entries": self._job.entries}
        self._store.write(STATUS, json.dumps({**told, "job": asdict(self._job)}, indent=1).encode() + b"\n")
