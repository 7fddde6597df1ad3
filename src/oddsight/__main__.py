"""``python -m oddsight`` is the command line."""

from oddsight.cli import main

main()
