"""What ``oddsight predict`` says on standard error: what could not be read, and the sum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oddsight.errors import ImageError
from oddsight.sinks.scenes import TileCounts, promise
from oddsight.sinks.sink import Prediction, Run, Write
from oddsight.sinks.terminal import complain


class Messages:
    """Errors as they come, and once all is written how many images came to what. It is the first sink to open."""

    @contextmanager
    def open(self, run: Run) -> Iterator[Write]:
        """Complain of errors, and say the sum if the run succeeds."""
        tiles = TileCounts()

        def write(prediction: Prediction) -> None:
            if isinstance(prediction.outcome, ImageError):
                complain(prediction.outcome)
            elif prediction.outcome.tiling is not None:
                tiles.add(prediction.outcome.tiling)

        yield write
        totals = run.totals
        unreadable = f", {totals.errors:,} could not be read" if totals.errors else ""
        good, odd = ("of one of them", "of none of the classes") if run.model.classes else run.model.verdicts
        run.note(f"{totals.anomalous:,} {odd}, {totals.normal:,} {good}{unreadable}")
        promised = promise(run.model, tiles)
        if promised is not None:
            run.note(promised)
