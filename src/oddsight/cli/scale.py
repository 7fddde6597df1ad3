"""Millions of images: ``predict --out``, and the command that sums up what it wrote."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oddsight.cli import application as cli

if TYPE_CHECKING:
    from oddsight.model.model import Model
    from oddsight.scale.summary import Summary

Engine = Annotated[
    str | None,
    typer.Option(metavar="local|ray", help="Where the work is done; ray needs oddsight[scale]. [default: local]"),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="With --engine ray: a cluster with a token. [default: Ray is started on this machine]"
    ),
]
Workers = Annotated[int | None, typer.Option(help="With --engine or --out: jobs at once. [default: one a processor]")]


def predict_into_store(
    path: Path,
    images: list[str],
    out: str,
    *,
    false_alarm_rate: float | None,
    threshold: float | None,
    fdr: float | None,
    fail_on_anomaly: bool,
    quiet: bool,
    **options: Any,  # noqa: ANN401 - of predict_batch
) -> None:
    """``oddsight predict --out``."""
    from oddsight.scale.batch import predict_batch
    from oddsight.sinks.terminal import note, progress

    model = load_with(path, false_alarm_rate, threshold)
    with progress(quiet) as watch:
        batch = predict_batch(
            model,
            images,
            out,
            fdr=fdr,
            progress=watch,
            note=partial(note, quiet=quiet),
            **options,
        )
    if batch.summary is None:
        typer.echo(str(batch.estimate))
        return
    _say(batch.summary, out)
    alarms = batch.summary.flagged if fdr is None else batch.summary.alarms
    cli.end_with(batch.summary.failed, alarms if fail_on_anomaly else 0)


def load_with(path: Path, false_alarm_rate: float | None, threshold: float | None) -> Model:
    """The model of a file, with the rate or threshold that was asked for."""
    from oddsight.model.model import load

    model = load(path)
    if false_alarm_rate is None and threshold is None:
        return model
    return model.with_decision(false_alarm_rate=false_alarm_rate, threshold=threshold)


def engine_of(engine: str | None, address: str | None, workers: int | None) -> AbstractContextManager[Any]:
    """What runs the jobs of ``fit``."""
    engine = engine or "local"
    if engine == "local" and address is None and workers is None:
        return nullcontext()
    from oddsight.scale.engines import use_engine

    return use_engine(engine, address, workers)


@cli.app.command()
def summarize(
    place: Annotated[str, typer.Argument(metavar="DIR|URI", help="What 'predict --out' filled.")],
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", help="Write a page of the most anomalous images."),
    ] = None,
    most: Annotated[int, typer.Option(help="How many of the most anomalous images to show.")] = 60,
    fdr: Annotated[
        float | None, typer.Option(help="Bound the share of false alarms among all alarms of the batch.")
    ] = None,
    json: cli.JsonFile = None,
    quiet: cli.Quiet = False,
) -> None:
    """Sum up the results of 'predict --out', and show the most anomalous images."""
    from oddsight.cli.output import give_results
    from oddsight.runtime.bounds import check_whole
    from oddsight.runtime.stores import is_uri
    from oddsight.scale.page import write_summary_page
    from oddsight.scale.summary import summarize as sum_up
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import note

    check_whole(most, "--most", 0, 1000)
    check_outputs({"--json": json, "--report": report}, data={"DIR": None if is_uri(place) else place})
    summary = sum_up(place, fdr=fdr, most=most)
    give_results(summary, json, lambda: _say(summary, place))
    if report is not None:
        write_summary_page(summary, place, report)
        note(f"The report is {report}", quiet=quiet)


def _say(summary: Summary, place: str) -> None:
    unfinished = "" if summary.shards == summary.of_shards else f" ({summary.shards} of {summary.of_shards} shards)"
    typer.echo(
        f"{place}: {summary.scored:,} images scored, {summary.flagged:,} flagged, {summary.failed:,} failed{unfinished}"
    )
    for path, reason in list(summary.failures.items())[:1]:
        typer.echo(f"the first that failed is {path}: {reason}")
    if summary.fdr is not None:
        typer.echo(f"at a false discovery rate of {summary.fdr:g}: {summary.alarms:,} flagged")
