"""The command that runs the study of CIFAR-10, and what it prints."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli.application import Quiet, listed, named, numbers_by_name
from oddsight.studies.cifar10.recipes import PROBE, RECIPES

if TYPE_CHECKING:
    from oddsight.studies.cifar10.results import Study


def cifar10(  # noqa: PLR0913, PLR0917 - options
    data: Annotated[
        Path,
        typer.Option(metavar="DIR", help="CIFAR-10 in any form, or other labelled images with a test split."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A folder for all results.")],
    near: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="Images of none of the classes, but similar to them. May be repeated."),
    ] = None,
    far: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=DIR", help="Images of none of the classes, of another kind. May be repeated."),
    ] = None,
    networks: Annotated[
        str | None,
        typer.Option(help=f"One or more of {', '.join(RECIPES)}; name a network after those that it starts from."),
    ] = None,
    seeds: Annotated[
        str, typer.Option(help="Random seeds, such as 0,1,2. A network may have its own: 0;textbook=0,1,2.")
    ] = "0",
    score: Annotated[
        str | None, typer.Option(help="Score of the model file, or a sum such as energy+knn. [default: knn]")
    ] = None,
    ship: Annotated[str | None, typer.Option(help="Network of the model file. [default: the last]")] = None,
    false_alarm_rate: Annotated[
        float, typer.Option(help="Share of images of the known classes that the model may reject.")
    ] = 0.05,
    per_class: Annotated[
        bool, typer.Option("--per-class", help="Guarantee the rate for each predicted class.")
    ] = False,
    epochs: Annotated[int | None, typer.Option(help="Epochs of every training. [default: each network's own]")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Largest number of training images per class, for a short run.")
    ] = None,
    score_images: Annotated[
        int | None,
        typer.Option(min=1, help="Largest number of training images that scores are fitted on, which saves time."),
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Download CIFAR-10 (170 MB) into DIR first.")] = False,
    accelerator: Annotated[str, typer.Option(help="auto, cpu, gpu, ...")] = "auto",
    quiet: Quiet = False,
) -> None:
    """Train classifiers and detect images of none of the classes. Resumes after an interruption."""
    from oddsight.cli.training_output import say_epoch
    from oddsight.data.download import download_cifar10
    from oddsight.detectors import DEFAULTS
    from oddsight.runtime.files import check_writable, make_folder, write_bytes
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import progress
    from oddsight.studies.cifar10.page import write_study
    from oddsight.studies.cifar10.study import DEFAULT_RECIPES, UnknownSource, study_classes

    chosen = listed(networks) if networks is not None else list(DEFAULT_RECIPES)
    probes = [name for name, recipe in RECIPES.items() if recipe.network == PROBE]
    last = next((name for name in reversed(chosen) if name not in probes or len(chosen) == 1), "")
    sources = [
        UnknownSource(*named(text), near=close) for texts, close in ((near, True), (far, False)) for text in texts or []
    ]
    paths = [source.path for source in sources]
    check_outputs({}, folders={"results": output}, data={"--data": data, "--near and --far": paths})
    make_folder(output)
    check_writable(output / "report.html")
    with progress(quiet) as report:
        if download:
            download_cifar10(data, progress=report)
        found, model = study_classes(
            data,
            output,
            unknown=sources,
            seeds={**dict.fromkeys(chosen, (0,)), **numbers_by_name("--seeds", seeds, chosen)},
            ship=(ship or last, DEFAULTS["classes"] if score is None else score),
            rate=false_alarm_rate,
            per_class=per_class,
            epochs=epochs,
            limit=limit,
            score_images=score_images,
            accelerator=accelerator,
            command=shlex.join(["oddsight", *sys.argv[1:]]),
            progress=report,
            on_epoch=lambda row: say_epoch(row, quiet),
        )
    path = output / found.shipped.file
    write_bytes(path, model.to_bytes(), follow_links=False)
    _print_results(found, write_study(found, output), path, quiet)


def _print_results(study: Study, written: Sequence[Path], model: Path, quiet: bool) -> None:
    from oddsight.drawing.numbers import percent
    from oddsight.sinks.terminal import note

    for run in study.runs:
        right = float((run.logits.argmax(1) == run.labels).mean())
        note(f"{run.name}, seed {run.seed}: accuracy {percent(right)}", quiet=quiet)
    note(f"wrote {model} and {', '.join(path.name for path in written)} beside it", quiet=quiet)
