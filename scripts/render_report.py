"""Render report.html of a study again from its report.md and figures: python scripts/render_report.py FOLDER..."""

import sys
from pathlib import Path

from oddsight.report.markdown import read_figure, render_page

for folder in map(Path, sys.argv[1:]):
    text = (folder / "report.md").read_text("utf-8")
    (folder / "report.html").write_text(render_page(text, read_figure(folder)), "utf-8")
