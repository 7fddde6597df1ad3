"""The command ``oddsight study``, with a command for each study."""

from __future__ import annotations

import typer

from oddsight.cli.application import app
from oddsight.studies.cifar10.command import cifar10
from oddsight.studies.clouds.command import clouds

study_app = typer.Typer(no_args_is_help=True, help="Run a reference study, from a raw dataset to a report.")
app.add_typer(study_app, name="study")
study_app.command("cifar10")(cifar10)
study_app.command("clouds")(clouds)
