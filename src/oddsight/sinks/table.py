"""Results as rows on standard output."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from oddsight.errors import ImageError, plain
from oddsight.model.model import Model
from oddsight.model.result import NONE_OF_THESE, UNKNOWN_TYPE, Result
from oddsight.sinks.sink import Prediction, Run, Write
from oddsight.sinks.terminal import console

_ROW = "{}  {:>9}  {:>8}  {}  {}{}"


class Table:
    """A row for each image that was scored, as it comes."""

    @contextmanager
    def open(self, run: Run) -> Iterator[Write]:
        """Print the header."""
        rows = _Rows(run.model)
        rows.write("verdict", "score", "p-value", rows.detail, "by", "image", style="bold")
        yield rows.add


class _Rows:
    """How wide the columns are for a model."""

    def __init__(self, model: Model) -> None:
        described = model.metadata.explanation
        voices = described.voices if described is not None else []
        self.by_width = max(map(len, voices), default=0)
        self.names = bool(model.classes or model.types)
        verdicts = (NONE_OF_THESE, *model.classes) if model.classes else model.verdicts
        verdicts = (*verdicts, UNKNOWN_TYPE, *model.types) if model.types else verdicts
        self.verdict_width = max(len(plain(verdict)) for verdict in ("verdict", *verdicts))
        self.detail, self.detail_width = ("most like", self.verdict_width + 5) if self.names else ("regions", 7)

    def add(self, prediction: Prediction) -> None:
        outcome = prediction.outcome
        if isinstance(outcome, ImageError):
            return
        numbers = f"{outcome.score:.5g}", f"{outcome.p_value:.3g}"
        by = outcome.voices[0].name if outcome.anomalous and outcome.voices else ""
        style = "red" if outcome.anomalous else None
        self.write(outcome.verdict, *numbers, _detail(outcome), by, plain(outcome.source), style=style)

    def write(
        self, verdict: str, score: str, p_value: str, detail: str, by: str, image: str, *, style: str | None
    ) -> None:
        """Print a row; it says what spoke if there are several that can."""
        by = f"{plain(by):<{self.by_width}}  " if self.by_width else ""
        verdict = f"{plain(verdict):<{self.verdict_width}}"
        detail = f"{plain(detail):<{self.detail_width}}" if self.names else f"{detail:>{self.detail_width}}"
        console.print(_ROW.format(verdict, score, p_value, detail, by, image), style=style)


def _detail(outcome: Result) -> str:
    """The class or type that an image is most like, and its probability among them; or the number of regions."""
    if outcome.label is not None:
        return f"{outcome.label} {outcome.label_probability:.0%}"
    if outcome.most_like is not None:
        return f"{outcome.most_like.name} {outcome.most_like.probability:.0%}" if outcome.anomalous else ""
    return str(len(outcome.regions)) if outcome.map is not None and outcome.anomalous else ""
