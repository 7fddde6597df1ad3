"""The command that the commands of studies register with."""

from __future__ import annotations

import typer

from oddsight.cli.application import app

study_app = typer.Typer(no_args_is_help=True, help="Run a reference study, from a raw dataset to a report.")
app.add_typer(study_app, name="study")


@study_app.callback()
def study() -> None:
    """Run a reference study, from a raw dataset to a report."""
