"""A video over time: scores, evidence beside the threshold, events beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from oddsight.drawing.charts import ANOMALOUS, FAINT, INK, NORMAL, chart
from oddsight.drawing.frames import clock

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Stretch = tuple[float, float]
"""Start and end in seconds."""

_POINTS = 800
"""Columns of a curve: of more frames, the highest and the lowest of each column are drawn."""
_SHORTEST = 0.004
"""Of the length of a video, how long an event is drawn at least."""


def timeline(name: str, *data: Any) -> Markup:  # noqa: ANN401 - those of draw_timeline
    """As :func:`draw_timeline`, as an ``<svg>`` element; ``name`` is that of the video."""
    return chart(f"timeline {name}", (7.2, 2.9), lambda figure: draw_timeline(figure, *data), f"Timeline of {name}")


def draw_timeline(
    figure: Figure,
    times: NDArray[np.float64],
    scores: NDArray[np.float64],
    evidence: NDArray[np.float64],
    truth: Sequence[Stretch],
    events: Sequence[Stretch],
) -> None:
    """Draw a video over time.

    Args:
        figure: An empty figure.
        times: Of its frames, in seconds, ascending, ``[n]``.
        scores: Of its frames, ``[n]``.
        evidence: Of the time before each frame as a share of the threshold, ``[n]``; NaN where it does not count.
        truth: When it is anomalous, by the labels.
        events: When there were alarms.
    """
    above, below, strip = figure.subplots(3, 1, sharex=True, height_ratios=[4, 4, 1.6])
    _curve(above, times, scores)
    above.set_ylabel("score")
    _curve(below, times, evidence)
    below.axhline(1.0, color=INK, linewidth=1, linestyle="--")
    below.set_ylabel("evidence")
    below.set_ylim(bottom=0.0)
    for axes in (above, below):
        for start, end in truth:
            axes.axvspan(start, _end(start, end, times), color=ANOMALOUS, alpha=0.16, linewidth=0)
    _strip(strip, times, truth, events)


def _curve(axes: Axes, times: NDArray[np.float64], values: NDArray[np.float64]) -> None:
    counted = np.isfinite(values)
    parts = np.array_split(np.flatnonzero(counted), min(_POINTS, max(1, int(counted.sum()))))
    extremes = [sorted({part[np.argmin(values[part])], part[np.argmax(values[part])]}) for part in parts if len(part)]
    chosen = np.array([index for pair in extremes for index in pair], np.intp)
    axes.plot(times[chosen], values[chosen], color=NORMAL, linewidth=1)


def _strip(axes: Axes, times: NDArray[np.float64], truth: Sequence[Stretch], events: Sequence[Stretch]) -> None:
    """Labels above, events below."""
    for row, stretches, colour in ((1, truth, ANOMALOUS), (0, events, INK)):
        bars = [(start, _end(start, end, times) - start) for start, end in stretches]
        axes.broken_barh(bars, (row - 0.32, 0.64), color=colour, linewidth=0)
    axes.set(ylim=(-0.6, 1.6), xlim=(times[0], max(times[-1], times[0] + 1e-3)))
    axes.set_yticks([0, 1], ["events", "labels"])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda seconds, _: clock(seconds).removesuffix(".0"))
    axes.spines["left"].set_color(FAINT)


def _end(start: float, end: float, times: NDArray[np.float64]) -> float:
    return max(end, start + _SHORTEST * float(times[-1] - times[0]))
