"""The command that converts models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli import application as cli
from oddsight.cli.trained_model import check_places

if TYPE_CHECKING:
    from oddsight.fitting.exporting import Export, Parity


@cli.app.command("export")
def export_model(
    model: cli.ModelPath,
    to: Annotated[str, typer.Option(help="int8, int8-weights, fp16 or openvino.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="File to write; for openvino, FILE.xml.")
    ],
    images: Annotated[
        str, typer.Option(metavar="DIR", help="Images like those that the model will score, to compare both models on.")
    ],
    recalibrate: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="Normal images that the model was not fitted on, to calibrate the converted model on."
        ),
    ] = None,
    group_by: cli.GroupBy = "auto",
    limit: Annotated[float, typer.Option(help="Largest share of decisions that may change.")] = 0.05,
    score_limit: Annotated[
        float,
        typer.Option(help="Largest median difference of scores, in standard deviations of the calibration scores."),
    ] = 0.5,
    json: cli.JsonFile = None,
    image_timeout: cli.ImageTimeout = 30.0,
    quiet: cli.Quiet = False,
) -> None:
    """Make a model smaller, or convert it for OpenVINO. Compares both, and fails if they differ too much."""
    from oddsight.cli.output import give_results
    from oddsight.fitting.exporting import export
    from oddsight.model.model import load
    from oddsight.model.openvino import weights_path
    from oddsight.sinks.output_paths import model_files
    from oddsight.sinks.terminal import complain, progress

    files = [output, weights_path(output)] if to == "openvino" else [output]
    check_places(
        {"--output": files, "--json": json},
        inputs={**model_files(model), "--images": images, "--recalibrate": recalibrate},
        named={"--group-by": group_by},
    )
    with progress(quiet) as report:
        found = export(
            load(model),
            to,
            [images],
            recalibrate=None if recalibrate is None else [recalibrate],
            groups=group_by,
            limit=limit,
            score_limit=score_limit,
            progress=report,
        )
    found.model.save(output)
    give_results(found.parity, json, lambda: _show_parity(found.parity))
    _say_exported(found, output, quiet)
    for error in found.errors:
        complain(error)
    cli.end_with(found.errors)


def _show_parity(parity: Parity) -> None:
    from oddsight.sinks.terminal import console, table

    spread = f"{parity.relative_difference:.3g} of the spread of the calibration scores, {parity.spread:.6g}"
    rows = table("on these images", "before", "after", "after / before", numbers=("before", "after", "after / before"))
    for name, unit, (before, after) in (
        ("size", 1e6, parity.bytes),
        ("milliseconds an image, median", 1, parity.milliseconds_p50),
        ("milliseconds an image, 95%", 1, parity.milliseconds_p95),
    ):
        label = f"{name}, MB" if unit != 1 else name
        rows.add_row(label, f"{before / unit:.1f}", f"{after / unit:.1f}", f"{after / before:.2f}")
    console.print(f"{parity.changed:,} of {parity.images:,} decisions changed")
    console.print(f"largest difference of the scores {parity.largest_difference:.6g}")
    console.print(f"median difference of the scores {parity.median_difference:.6g}: {spread}")
    console.print(rows)


def _say_exported(found: Export, output: Path, quiet: bool) -> None:
    from oddsight.cli.output import say_decision
    from oddsight.sinks.terminal import note

    if found.parity.learned:
        note(
            f"{found.parity.learned:,} of the {found.parity.images:,} images were used to fit the model, which may "
            "score new ones differently: compare on others",
            quiet=quiet,
        )
    conversion = found.model.metadata.conversion
    if conversion is not None and conversion.raised is not None:
        note(
            f"the calibration scores are those of the original, raised by {conversion.raised:.6g}, the largest rise "
            "among images that are not flagged: --recalibrate measures them on the converted model",
            quiet=quiet,
        )
    say_decision(found.model, output, quiet)
