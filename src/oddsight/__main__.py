"""The command ``oddsight``, also ``python -m oddsight``: the command line, with the commands of the studies."""

from oddsight.cli import main
from oddsight.cli.application import app
from oddsight.studies import commands

__all__ = ["app", "commands", "main"]

if __name__ == "__main__":
    main()
