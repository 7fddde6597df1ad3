"""Commands on model files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli.application import ModelPath, Quiet, app


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
