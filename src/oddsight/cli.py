"""The command line: one thin function a command."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from oddsight.errors import OddsightError

app = typer.Typer(
    help="Find the images that do not belong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A model file.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes; results and errors only.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write JSON there ('-': to standard output).")
]

EXIT_ERROR, EXIT_ANOMALY, EXIT_INTERRUPTED = 1, 3, 130


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 3 anomalies found, 130 interrupted."""
    import warnings

    # Pillow's remarks on odd files: what matters about a file is said as its error.
    warnings.filterwarnings("ignore", module="PIL")
    # As on Ctrl-C, half-written files must go.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    _settle_streams()
    try:
        try:
            app(prog_name="oddsight", standalone_mode=True)
        finally:
            sys.stdout.flush()
    except OddsightError as error:
        _fail(error)
    except MemoryError:
        _fail("out of memory: use smaller images or fewer at a time")
    except BrokenPipeError:  # such as of ``| head``, who has read enough
        _drop_output()
        sys.exit(EXIT_ERROR)
    except OSError as error:
        _drop_output()
        _fail(f"{error.filename or 'standard output or a temporary file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _settle_streams() -> None:
    """Make streams that were closed or that cannot show every character fit to be written to."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Let what standard output still holds go nowhere, so that Python does not complain of it at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(text: object) -> NoReturn:
    from oddsight.terminal import complain

    complain(text)
    sys.exit(EXIT_ERROR)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"oddsight {version('oddsight')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Find the images that do not belong."""


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder of images.")],
    json: JsonFile = None,
    quiet: Quiet = False,
) -> None:
    """Look over a folder: counts, sizes, unreadable files, duplicates, empty and blurred images."""
    from oddsight.datasets.check import check as look
    from oddsight.files import check_writable
    from oddsight.output import show_check, write_json
    from oddsight.terminal import progress

    if json is not None and str(json) != "-":
        check_writable(json)
    with progress(quiet) as report:
        found = look(folder, progress=lambda done, total: report("checking", done, total))
    if json is not None:
        write_json(json, found.to_json())
    else:
        show_check(found)


@app.command()
def fit(
    paths: Annotated[list[str], typer.Argument(metavar="DIR...", help="Normal images: folders, files or globs.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="MODEL.onnx", help="Where to write the model.")],
    method: Annotated[str | None, typer.Option(help="A name from 'oddsight methods'. [default: patchcore]")] = None,
    backbone: Annotated[
        str | None, typer.Option(help="A name from 'oddsight backbones'. [default: efficientnet-lite0]")
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Stages of the backbone to read, such as stage3,stage5.")] = None,
    size: Annotated[int | None, typer.Option(help="Side in pixels to which images are brought. [default: 224]")] = None,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(help="Share of normal images that may be flagged. [default: 0.01, or the smallest reachable]"),
    ] = None,
    calibration_fraction: Annotated[
        float | None,
        typer.Option(
            help="Share of the images kept for calibration; 0 calibrates on all by five folds. [default: 0.25 or 0]"
        ),
    ] = None,
    memory: Annotated[str, typer.Option(help="Budget of the whole process.")] = "1GB",
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Learn what is normal from images and write a model file. Exits with 1 if an image could not be read."""
    from oddsight import backbones, methods
    from oddsight.files import check_writable
    from oddsight.fitting import fit as learn
    from oddsight.output import say_fitted, say_plan
    from oddsight.terminal import progress

    check_writable(output)
    with progress(quiet) as report:
        model = learn(
            *paths,
            method=method or methods.DEFAULT,
            backbone=backbone or backbones.DEFAULT,
            layers=[name.strip() for name in layers.split(",")] if layers is not None else None,
            size=size,
            false_alarm_rate=false_alarm_rate,
            calibration_fraction=calibration_fraction,
            memory=memory,
            seed=seed,
            progress=report,
            on_plan=lambda plan: say_plan(plan, quiet),
        )
    model.save(output)
    say_fitted(model, output, quiet)
    if model.metadata.training.unreadable:
        raise typer.Exit(EXIT_ERROR)


@app.command()
def predict(
    model: ModelPath,
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Images: files, folders or globs.")],
    json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write JSON Lines there ('-': to standard output).")
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write heat maps over the images there, as PNG.")
    ] = None,
    false_alarm_rate: Annotated[float | None, typer.Option(help="Decide anew at this rate.")] = None,
    threshold: Annotated[float | None, typer.Option(help="Decide anew at this score.")] = None,
    fdr: Annotated[float | None, typer.Option(help="Decide over the batch: share of alarms that may be false.")] = None,
    fail_on_anomaly: Annotated[
        bool, typer.Option("--fail-on-anomaly", help="Exit with 3 if an image is anomalous.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Score images: a table, JSON Lines, heat maps. Exits with 1 if an image could not be read."""
    from oddsight.prediction import predict_paths

    if sum(option is not None for option in (false_alarm_rate, threshold, fdr)) > 1:
        raise typer.BadParameter("give only one of --false-alarm-rate, --threshold and --fdr")
    totals = predict_paths(
        model, paths, json=json, maps=maps, false_alarm_rate=false_alarm_rate, threshold=threshold, fdr=fdr, quiet=quiet
    )
    if totals.errors:
        raise typer.Exit(EXIT_ERROR)
    if fail_on_anomaly and totals.anomalous:
        raise typer.Exit(EXIT_ANOMALY)


@app.command()
def evaluate(
    model: ModelPath,
    folder: Annotated[Path | None, typer.Argument(metavar="[DIR]", help="A folder in MVTec AD's layout, or:")] = None,
    normal: Annotated[Path | None, typer.Option(metavar="DIR", help="Normal test images.")] = None,
    anomalous: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Anomalous ones; sub-folders are types.")
    ] = None,
    masks: Annotated[Path | None, typer.Option(metavar="DIR", help="Their masks, in the same sub-folders.")] = None,
    aupro_limit: Annotated[float, typer.Option(help="False-positive rate up to which AUPRO is taken.")] = 0.3,
    json: JsonFile = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a report with pictures there.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Compare a model with labelled images it has never seen."""
    from oddsight.evaluation import evaluate as judge
    from oddsight.files import check_writable
    from oddsight.model import load
    from oddsight.output import say_evaluation, show_evaluation, write_json
    from oddsight.terminal import note, progress

    mixed = folder is not None and any(given is not None for given in (normal, anomalous, masks))
    if mixed or (folder is None and (normal is None or anomalous is None)):
        raise typer.BadParameter("name either one folder in MVTec AD's layout, or --normal and --anomalous")
    for output in (json, report):
        if output is not None and str(output) != "-":
            check_writable(output)
    loaded = load(model)
    with progress(quiet) as watch:
        found = judge(
            loaded, folder, normal=normal, anomalous=anomalous, masks=masks, aupro_limit=aupro_limit, progress=watch
        )
    if json is not None:
        write_json(json, found.to_json())
    if json is None or str(json) != "-":
        show_evaluation(found)
    say_evaluation(found, quiet)
    if report is not None:
        from oddsight.report import write_report

        write_report(found, loaded, report)
        note(f"The report is {report}", quiet=quiet)
    if found.errors:
        raise typer.Exit(EXIT_ERROR)


@app.command()
def threshold(
    model: ModelPath,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="NEW.onnx", help="Where to write the new file.")],
    false_alarm_rate: Annotated[float | None, typer.Option(help="The new rate.")] = None,
    score: Annotated[float | None, typer.Option(help="Or: a raw score, set by hand.")] = None,
    quiet: Quiet = False,
) -> None:
    """Change when a model raises an alarm, and nothing else."""
    from oddsight.model import load
    from oddsight.output import say_decision

    if (false_alarm_rate is None) == (score is None):
        raise typer.BadParameter("give either --false-alarm-rate or --score")
    changed = load(model).with_decision(false_alarm_rate=false_alarm_rate, threshold=score)
    changed.save(output)
    say_decision(changed, output, quiet)


@app.command()
def info(model: ModelPath, json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """Say what a model is, how it was made and how it decides. Runs nothing of it."""
    from oddsight.model_file import read_model_file
    from oddsight.output import describe_model, show_model, write_json

    described = describe_model(read_model_file(model))
    if json:
        write_json(Path("-"), described)
    else:
        show_model(described)


class _Registry(StrEnum):
    METHODS = "methods"
    BACKBONES = "backbones"


def _list(registry: _Registry, json: bool) -> None:
    from oddsight import output

    rows: list[dict[str, Any]] = output.method_rows() if registry is _Registry.METHODS else output.backbone_rows()
    if json:
        output.write_json(Path("-"), rows)
    else:
        output.show_rows(rows)


@app.command()
def methods(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the methods: what they read, whether they localise, their papers."""
    _list(_Registry.METHODS, json)


@app.command()
def backbones(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the backbones and their layers."""
    _list(_Registry.BACKBONES, json)


if __name__ == "__main__":
    main()
