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
    method: Annotated[str | None, typer.Option(help="A name from 'oddsight methods'. [default: auto]")] = None,
    backbone: Annotated[
        str | None,
        typer.Option(help="A name from 'oddsight backbones', timm:NAME or FILE.onnx. [default: efficientnet-lite0]"),
    ] = None,
    layers: Annotated[str | None, typer.Option(help="Stages of the backbone to read, such as stage3,stage5.")] = None,
    size: Annotated[
        int | None, typer.Option(help="Side in pixels to which images are brought. [default: the backbone's]")
    ] = None,
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
    thumbnails: Annotated[
        bool, typer.Option(help="Write small copies of normal images beside the model, for explanations.")
    ] = True,
    quiet: Quiet = False,
) -> None:
    """Learn what is normal from images and write a model file. Exits with 1 if an image could not be read."""
    from oddsight import backbones, methods
    from oddsight.files import check_writable
    from oddsight.fitting import FitPlan
    from oddsight.fitting import fit as learn
    from oddsight.normals import normals_path, write_normals
    from oddsight.output import say_fitted, say_plan
    from oddsight.terminal import complain, progress

    check_writable(output)
    copies = normals_path(output) if thumbnails else None
    if copies is not None:
        check_writable(copies)
    plans: list[FitPlan] = []

    def start(plan: FitPlan) -> None:
        say_plan(plan, quiet)
        plans.append(plan)

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
            on_plan=start,
        )
        model.save(output)
        missing = write_normals(copies, plans[0].training, progress=report) if copies is not None else []
    for error in missing:
        complain(error)
    say_fitted(model, output, copies, quiet)
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
    explain: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a picture of why and where each anomalous image is one there, as PNG."),
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
        model,
        paths,
        json=json,
        maps=maps,
        explain=explain,
        false_alarm_rate=false_alarm_rate,
        threshold=threshold,
        fdr=fdr,
        quiet=quiet,
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
        from oddsight.prediction import normals_beside
        from oddsight.report import write_report

        write_report(found, loaded, report, normals=normals_beside(model))
        note(f"The report is {report}", quiet=quiet)
    if found.errors:
        raise typer.Exit(EXIT_ERROR)


@app.command()
def compare(  # noqa: PLR0913, PLR0917 - options
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="Folders in MVTec AD's layout or of classes; NAME=DIR names one."),
    ],
    methods: Annotated[
        str, typer.Option(help="'all', or names from 'oddsight methods', such as knn,patchcore.")
    ] = "all",
    backbones: Annotated[
        str | None, typer.Option(help="Names from 'oddsight backbones'. [default: efficientnet-lite0]")
    ] = None,
    layers: Annotated[
        list[str] | None,
        typer.Option(
            help="'default', 'each' stage alone, or stages such as stage3,stage5. May be given several times."
        ),
    ] = None,
    size: Annotated[str, typer.Option(help="Sides in pixels, such as 224,320. [default: each backbone's own]")] = "",
    seeds: Annotated[str, typer.Option(help="Of every random choice in fitting, such as 0,1,2.")] = "0",
    normal: Annotated[str | None, typer.Option(metavar="CLASS", help="Of folders of classes, the normal one.")] = None,
    test_share: Annotated[float, typer.Option(help="Share of the normal class that is kept to test on.")] = 0.5,
    split_seed: Annotated[int, typer.Option(help="Of that division.")] = 0,
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(help="Share of normal images that may be flagged. [default: 0.01, or the smallest reachable]"),
    ] = None,
    memory: Annotated[str, typer.Option(help="Budget of the whole process.")] = "1GB",
    jobs: Annotated[
        int | None, typer.Option(help="Fits side by side, if memory allows. [default: one a processor]")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keeps finished fits, to go on from. [default: in the cache]")
    ] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with charts there.")] = None,
    csv: Annotated[Path | None, typer.Option(metavar="FILE.csv", help="Write one row for each fit there.")] = None,
    quiet: Quiet = False,
) -> None:
    """Compare methods on labelled data, with tests of what differs. Exits with 1 if anything failed."""
    from oddsight.backbones import DEFAULT
    from oddsight.comparison import compare as judge
    from oddsight.comparison_output import say_comparison, show_comparison, write_csv
    from oddsight.files import check_writable
    from oddsight.terminal import note, progress

    for output in (report, csv):
        if output is not None:
            check_writable(output)
    with progress(quiet) as watch:
        found = judge(
            *data,
            methods="all" if methods == "all" else _listed(methods),
            backbones=_listed(backbones or DEFAULT),
            layers=[names if "," not in names else _listed(names) for names in layers or ["default"]],
            sizes=_numbers("--size", size),
            seeds=_numbers("--seeds", seeds),
            normal=normal,
            test_share=test_share,
            split_seed=split_seed,
            false_alarm_rate=false_alarm_rate,
            memory=memory,
            jobs=jobs,
            work=work,
            progress=watch,
        )
    show_comparison(found)
    say_comparison(found, quiet)
    if csv is not None:
        write_csv(csv, found)
        note(f"wrote {csv}", quiet=quiet)
    if report is not None:
        from oddsight.report.comparison import write_comparison_report

        write_comparison_report(found, report)
        note(f"The report is {report}", quiet=quiet)
    if any(trial.errors for trial in found.trials) or any(cell.error for cell in found.cells):
        raise typer.Exit(EXIT_ERROR)


def _listed(names: str) -> list[str]:
    return [name.strip() for name in names.split(",") if name.strip()]


def _numbers(option: str, text: str) -> list[int]:
    try:
        return [int(number) for number in _listed(text)]
    except ValueError:
        raise typer.BadParameter(f"{option} takes whole numbers separated by commas, not {text!r}") from None


@app.command()
def adapt(  # noqa: PLR0913, PLR0917 - options
    data: Annotated[
        list[str],
        typer.Argument(metavar="DATA...", help="Normal images: folders, files or globs; or folders of classes."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="BACKBONE.onnx", help="Where to write the adapted backbone.")
    ],
    backbone: Annotated[
        str | None, typer.Option(help="The one to start from: a name from 'oddsight backbones'.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its weights, as .safetensors or .pth. [default: ImageNet's]")
    ] = None,
    labelled: Annotated[
        bool | None,
        typer.Option("--labelled/--unlabelled", help="Whether folders are classes. [default: if there are several]"),
    ] = None,
    objective: Annotated[
        str | None, typer.Option(help="classes, rotation or simsiam. [default: classes if labelled, else simsiam]")
    ] = None,
    epochs: Annotated[int, typer.Option(help="How often each image is seen, at most.")] = 20,
    learning_rate: Annotated[float, typer.Option(help="The largest that the backbone gets.")] = 1e-4,
    batch_size: Annotated[int, typer.Option(help="Images a step and a device, at most.")] = 32,
    size: Annotated[
        int | None, typer.Option(help="Side in pixels to which images are brought. [default: the backbone's]")
    ] = None,
    freeze: Annotated[str | None, typer.Option(metavar="STAGE", help="Leave all up to this stage as it is.")] = None,
    augment: Annotated[str, typer.Option(help="Of rotation, flip, crop and colour; or none.")] = "flip,crop,colour",
    patience: Annotated[int, typer.Option(help="Epochs without a lower validation loss before it ends.")] = 5,
    validation: Annotated[float, typer.Option(help="Share of the images to validate on.")] = 0.1,
    precision: Annotated[str, typer.Option(help="32-true, 16-mixed or bf16-mixed.")] = "32-true",
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu, or another of Lightning's.")] = "auto",
    devices: Annotated[str, typer.Option(help="How many, or which (such as 0,1), or auto.")] = "1",
    workers: Annotated[int, typer.Option(help="Processes that read pictures; 0 reads in this one.")] = 0,
    work: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keeps a checkpoint, from which the same command goes on.")
    ] = None,
    curves: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Write learning curves there, .png or .csv. May be given several times."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of every random choice.")] = 0,
    quiet: Quiet = False,
) -> None:
    """Fine-tune a backbone on your own images. Exits with 1 if an image could not be read. Needs PyTorch."""
    from oddsight.adaptation_output import say_adapted, say_adapting, say_epoch
    from oddsight.backbones import DEFAULT
    from oddsight.networks.adapting import adapt as learn
    from oddsight.report.learning_curves import check_curves_path, write_curves
    from oddsight.terminal import note, progress

    for path in curves or []:
        check_curves_path(path)
    with progress(quiet) as report:
        found = learn(
            *data,
            output=output,
            backbone=backbone or DEFAULT,
            weights=weights,
            labelled=labelled,
            objective=objective,
            epochs=epochs,
            learning_rate=learning_rate,
            batch_size=batch_size,
            size=size,
            freeze=freeze,
            augment=[] if augment == "none" else _listed(augment),
            patience=patience,
            validation=validation,
            precision=precision,
            accelerator=accelerator,
            devices=devices,
            workers=workers,
            work=work,
            seed=seed,
            progress=report,
            on_plan=lambda settings, images: say_adapting(settings, images, quiet),
            on_epoch=lambda row: say_epoch(row, epochs, quiet),
        )
    for path in curves or []:
        write_curves(path, found.curves)
        note(f"wrote {path}", quiet=quiet)
    say_adapted(found, quiet)
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


_backbones = typer.Typer(invoke_without_command=True)
app.add_typer(_backbones, name="backbones")


@_backbones.callback()
def backbones(context: typer.Context, json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the backbones and their layers, what is exported and what others need; or export one."""
    if context.invoked_subcommand is None:
        _list(_Registry.BACKBONES, json)


@_backbones.command("export")
def export_backbone(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as resnet50 or timm:convnext_tiny.")],
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .safetensors or .pth file. [default: fetched]")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side in pixels, for networks that take only one size, such as transformers.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.onnx", help="Where to. [default: the folder read by 'fit']"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Export a network to ONNX with PyTorch, once: fitting and predicting then need no PyTorch."""
    from oddsight.backbones.exports import make_export
    from oddsight.output import say_exported

    path, found = make_export(name, output, weights=weights, size=size)
    say_exported(path, found.described, quiet)


if __name__ == "__main__":
    main()
