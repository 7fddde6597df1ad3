"""``python -m oddsight.cli`` is the command ``oddsight``."""

from oddsight.cli import main

main()
