"""The command that writes a model as a page that runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli import application as cli


@cli.app.command()
def report(
    model: cli.ModelPath,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.html", help="HTML file to write.")],
    runtime: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder with ONNX Runtime Web, such as that of the npm package onnxruntime-web."
        ),
    ],
    standalone: Annotated[
        bool, typer.Option("--standalone", help="Write a page in which the model runs; so far the only kind.")
    ] = False,
    quiet: cli.Quiet = False,
) -> None:
    """Write a model as one HTML file that scores images in the browser. No image leaves the computer."""
    from oddsight.serve.standalone import write_standalone
    from oddsight.sinks.output_paths import check_outputs, model_files
    from oddsight.sinks.terminal import note

    if not standalone:
        raise typer.BadParameter("give --standalone; the report of an evaluation is written by 'evaluate --report'")
    check_outputs({"--output": output}, inputs=model_files(model), data={"--runtime": runtime})
    write_standalone(model, output, runtime)
    note(f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB): open it in a browser", quiet=quiet)
