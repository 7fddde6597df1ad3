"""Commands on model files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli import application as cli


@cli.app.command()
def threshold(
    model: cli.ModelPath,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="NEW.onnx", help="New model file to write.")],
    false_alarm_rate: Annotated[float | None, typer.Option(help="New false-alarm rate.")] = None,
    confidence: cli.Confidence = None,
    score: Annotated[float | None, typer.Option(help="Raw score to use as the threshold instead of a rate.")] = None,
    verdicts: cli.Verdicts = None,
    quiet: cli.Quiet = False,
) -> None:
    """Change the threshold or the verdicts of a model."""
    from oddsight.cli.output import say_decision
    from oddsight.model.model import load
    from oddsight.sinks.output_paths import check_outputs, model_files

    given = [option for option in (false_alarm_rate, score) if option is not None]
    if len(given) > 1 or not (given or verdicts is not None):
        raise typer.BadParameter("give --false-alarm-rate or --score, but not both; or only --verdicts")
    if confidence is not None and false_alarm_rate is None:
        raise typer.BadParameter("--confidence needs --false-alarm-rate")
    words = cli.two_words(verdicts) if verdicts is not None else None
    check_outputs({"--output": output}, inputs=model_files(model))
    changed = load(model)
    if given:
        changed = changed.with_decision(false_alarm_rate=false_alarm_rate, threshold=score, confidence=confidence)
    if words is not None:
        changed = changed.with_verdicts(*words)
    changed.save(output)
    say_decision(changed, output, quiet)


@cli.app.command()
def info(model: cli.ModelPath, json: cli.PrintJson = False) -> None:
    """Show how a model was made and how it decides. Does not run the model."""
    from oddsight.cli.output import describe_model, print_or_show, show_model
    from oddsight.model.file import read_model_file

    print_or_show(describe_model(read_model_file(model)), json, show_model)
