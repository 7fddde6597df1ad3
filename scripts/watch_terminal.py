"""Make docs/images/watch-terminal.svg, what a terminal shows of a video: python scripts/watch_terminal.py FOLDER.

FOLDER is that of scripts/watch_image.py, which has been run: its model watches its video again, and the rows of events
and the live view as it is at the end are drawn by Rich.
"""

from __future__ import annotations

import argparse
import io
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from oddsight.sinks.streams import live_view
from oddsight.sinks.streams.sink import StreamRun, WriteFrame
from oddsight.watch.watching import watch_frames
from watch_image import ALARMS_PER_HOUR, WINDOW


class LastView:
    """Prints the live view when the run ends."""

    def __init__(self, screen: Console) -> None:
        self._screen = screen

    @contextmanager
    def open(self, run: StreamRun) -> Iterator[WriteFrame]:
        """Follow the run."""
        view = live_view._View(run, time.monotonic)
        yield view.add
        self._screen.print(view.render())


def main() -> None:
    """Watch, and draw what is shown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    screen = Console(record=True, force_terminal=True, width=100, file=io.StringIO(), highlight=False)
    screen.print(
        f"$ oddsight watch orbit.onnx orbit.mp4 --alarms-per-hour {ALARMS_PER_HOUR} --window {WINDOW:g}s", style="bold"
    )
    live_view.console = screen
    sinks = [LastView(screen), live_view.EventTable()]
    video = folder / "orbit.mp4"
    for _ in watch_frames(folder / "orbit.onnx", video, alarms_per_hour=ALARMS_PER_HOUR, window=WINDOW, sinks=sinks):
        pass
    drawn = screen.export_svg(title="oddsight watch").replace(f"{folder}/", "")
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)  # which a browser would load from elsewhere
    target = Path(__file__).parents[1] / "docs" / "images" / "watch-terminal.svg"
    target.write_text("\n".join(line.rstrip() for line in drawn.splitlines() if line.strip()) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
