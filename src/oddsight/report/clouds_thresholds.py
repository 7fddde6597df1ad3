"""What the report of a study of clouds shows of three ways to a threshold, and what goes wrong with two of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from oddsight.methods import METHODS
from oddsight.report.charts import ANOMALOUS, FAINT, INK, NORMAL, chart, logarithmic_x, printable
from oddsight.report.clouds_setting import sided
from oddsight.report.documents import Block, Chart, Charts, Heading, Items, Section, Table, Text
from oddsight.report.pages import percent
from oddsight.report.wording import counted, joined, ranged
from oddsight.studies.clouds.conclusions import Found
from oddsight.studies.clouds.protocol import Side
from oddsight.studies.clouds.results import Measured
from oddsight.studies.clouds.rows import ThresholdRow, Way
from oddsight.studies.clouds.thresholds import Threshold, rule_of_thumb, three_ways
from oddsight.studies.promise import promised

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BINS = 48
_GAUSSIAN = 0.00135
"""The share of a normal distribution beyond its mean and three deviations."""

_WAYS: tuple[Way, ...] = ("by hand", "mean + 3 sd", "conformal")
_DASHES = {"by hand": (0, (1, 2)), "mean + 3 sd": (0, (4, 2)), "conformal": "solid"}


def thresholds(found: Found) -> Section:
    """Three ways side by side, for every method whose thresholds are compared."""
    study = found.study
    blocks: list[Block] = [
        Text(
            f"The same scores, three thresholds: {study.hand:g} set by hand; the mean and three standard deviations of "
            "the scores of the scenes that were learnt from; and the conformal threshold, a quantile of the scores of "
            "calibration scenes. None of them saw a test scene."
        )
    ]
    for method in study.compared:
        for side in study.sides:
            runs = [one for one in study.of(side.name, method) if one.training is not None]
            if runs:
                blocks += _of_method(found, side, runs)
    if len(blocks) == 1:
        blocks.append(Text(f"None of {joined(study.compared)} could be run, so there is nothing to set side by side."))
    return Section("thresholds", "Where to put the threshold", tuple(blocks))


def _of_method(found: Found, side: Side, runs: list[Measured]) -> Iterator[Block]:
    study, first = found.study, runs[0]
    rows = [row for row in found.tables.thresholds if (row.method, row.normal) == (first.method, side.name)]
    yield Heading(f"{first.method}, {sided(side, study.data.clouds)}")
    name = f"thresholds-{study.compared.index(first.method) + 1}-{study.sides.index(side) + 1}"
    ways = list(three_ways(_training(first), first.calibration, study.hand, study.rate))
    yield Charts(
        (
            Chart(
                name,
                histogram(first, ways, name),
                f"Scores of the scenes learnt from, of calibration scenes and of the anomalous test scenes (seed "
                f"{first.seed}), with the three thresholds; an image to the right of one is an alarm.",
            ),
        )
    )
    yield _table(rows, side)
    yield Items(tuple(explained(found, side, runs)))


def _training(one: Measured) -> NDArray[np.float32]:
    assert one.training is not None
    return one.training


def histogram(one: Measured, ways: list[Threshold], name: str) -> Markup:
    """Scores of training, calibration and anomalous scenes below each other, the thresholds through all.

    Args:
        one: The method, with the scores of what it learnt from.
        ways: The thresholds.
        name: Apart from that of other charts on the page.
    """
    groups = [
        ("scenes learnt from", _training(one), FAINT),
        ("calibration scenes", one.calibration, NORMAL),
        ("anomalous test scenes", np.concatenate(list(one.anomalous.values())), ANOMALOUS),
    ]
    everything = np.concatenate([scores for _, scores, _ in groups]).astype(np.float64)
    low, high = float(everything.min()), float(np.quantile(everything, 0.995))
    logarithmic = low > 0 and high > 20 * float(np.median(one.calibration))
    span = high - low or 1.0
    # A threshold far off the scores must not squeeze them into a corner.
    inside = [way for way in ways if low - 0.5 * span <= way.value <= high + 0.5 * span and (way.value > 0 or low <= 0)]
    left, right = min([low, *(way.value for way in inside)]), max([high, *(way.value for way in inside)])
    edges = np.geomspace(left, right, _BINS) if logarithmic and left > 0 else np.linspace(left, right, _BINS)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(groups), sharex=True)
        for axes, (title, scores, colour) in zip(panels, groups, strict=True):
            axes.hist(np.clip(scores, edges[0], edges[-1]), edges, color=colour)
            axes.set_title(f"{title} ({len(scores):,})", loc="left")
            axes.yaxis.get_major_locator().set_params(integer=True, nbins=2)
            for way in inside:
                axes.axvline(way.value, color=INK, linewidth=1.2, linestyle=_DASHES[way.way], label=way.way)
        if logarithmic and left > 0:
            logarithmic_x(panels[0])
        if inside:
            panels[0].legend(frameon=False, labelcolor=INK, loc="upper right")
        away = [f"{way.way} ({way.value:.4g})" for way in ways if way not in inside]
        scale = ", logarithmic" if logarithmic and left > 0 else ""
        panels[-1].set_xlabel(f"score{scale}" + (f"; off the scale: {', '.join(away)}" if away else ""))

    said = ", ".join(f"{way.way} {way.value:.4g}" for way in ways)
    return chart(name, (6.6, 3.4), draw, escape(f"Scores of {printable(one.method)}; thresholds: {said}"))


def _table(rows: list[ThresholdRow], side: Side) -> Table:
    """False alarms and what is found, by way."""
    lines = []
    for way in _WAYS:
        own = [row for row in rows if row.way == way]
        first = [row for row in own if row.anomalous == side.anomalous[0]]
        asked = first[0].asked
        found = [ranged([row.found for row in own if row.anomalous == name]) for name in side.anomalous]
        lines.append(
            (
                way,
                _values([row.threshold for row in first]),
                percent(asked) if asked is not None else "none",
                ranged([row.false_alarm_rate for row in first]),
                *found,
            )
        )
    seeds = len({row.seed for row in rows})
    return Table(
        f"What each threshold did to test scenes: {'from the lowest to the highest of ' if seeds > 1 else ''}"
        f"{counted(seeds, 'seed')}.",
        ("Threshold", "Value", "Rate promised", "False alarms", *(f"{name} found" for name in side.anomalous)),
        tuple(lines),
    )


def _values(values: list[float]) -> str:
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} to {high}"


def explained(found: Found, side: Side, runs: list[Measured]) -> Iterator[str]:
    """What the numbers say of each way, a sentence or two each."""
    rows = [row for row in found.tables.thresholds if (row.method, row.normal) == (runs[0].method, side.name)]
    yield _by_hand(found, side, rows, runs)
    yield _by_rule(rows, runs)
    yield _by_promise(rows, runs, found.tables.confidence)


def _seen(rows: list[ThresholdRow], way: Way) -> tuple[float, float]:
    """False alarms over seeds, and what is found over seeds and classes; means."""
    own = [row for row in rows if row.way == way]
    return float(np.mean([row.false_alarm_rate for row in own])), float(np.mean([row.found for row in own]))


def _by_hand(found: Found, side: Side, rows: list[ThresholdRow], runs: list[Measured]) -> str:
    study, method = found.study, runs[0].method
    alarms, share = _seen(rows, "by hand")
    _, promised = _seen(rows, "conformal")
    calibration = np.concatenate([one.calibration for one in runs])
    place = float((calibration <= study.hand).mean())
    text = (
        f"By hand: {study.hand:g} lies above {percent(place)} of the calibration scores (their median is "
        f"{float(np.median(calibration)):.4g}). It flags {percent(alarms)} of the normal test scenes and finds "
        f"{percent(share)} of the anomalous ones. "
    )
    if alarms > 0.5:
        text += "Most alarms of a day without anomalies would be this threshold\u2019s own. "
    elif promised - share > 0.05:
        text += (
            f"Hardly a false alarm, but it finds less than the conformal threshold ({percent(promised)}): it was put "
            "where no one knew what it would cost. "
        )
    cls = METHODS.get(method)
    if cls is not None and str(cls.reads) != "pixels":
        text += "It was meant for squared errors of pixels; these scores have another unit, so it means nothing here."
    else:
        text += "A number that fits one method, one class and one camera says nothing of the next."
    for other in found.study.sides:
        own = [row for row in found.tables.thresholds if (row.method, row.normal) == (method, other.name)]
        if other is not side and own:
            flagged, _ = _seen(own, "by hand")
            text += (
                f" With {sided(other, study.data.clouds)} the same number flags {percent(flagged)} of normal scenes."
            )
    return text


def _by_rule(rows: list[ThresholdRow], runs: list[Measured]) -> str:
    from scipy.stats import skew

    alarms, share = _seen(rows, "mean + 3 sd")
    calibration = np.concatenate([one.calibration for one in runs]).astype(np.float64)
    learnt = np.concatenate([_training(one) for one in runs]).astype(np.float64)
    text = (
        f"Mean + 3 sd: were scores normally distributed, {percent(_GAUSSIAN)} of normal scenes would be above it; "
        f"{percent(alarms)} are, and it finds {percent(share)} of the anomalous ones."
    )
    if learnt.mean() < 0.97 * calibration.mean():
        own = [float((one.normal > rule_of_thumb(one.calibration)).mean()) for one in runs]
        text += (
            f" Mean and deviation are those of scenes that were learnt from, whose scores are "
            f"{percent(1 - learnt.mean() / calibration.mean())} lower on average than those of new normal scenes"
            f"; taken of calibration scenes, the rule flags {percent(float(np.mean(own)))}."
        )
    crooked = float(skew(calibration))
    if abs(crooked) > 0.5:
        text += (
            f" Scores are skewed (skewness {crooked:.1f}), so a number of deviations stands for no rate that could be "
            "named beforehand."
        )
    return text


def _by_promise(rows: list[ThresholdRow], runs: list[Measured], sure: float) -> str:
    alarms, share = _seen(rows, "conformal")
    own = [row for row in rows if row.way == "conformal"]
    first = [row for row in own if row.anomalous == own[0].anomalous]
    asked = own[0].asked or 0.0
    promises = [
        promised(asked, len(one.calibration), row.normal_images, round(row.false_alarm_rate * row.normal_images), sure)
        for one, row in zip(runs, first, strict=True)
    ]
    broken = sum(one.broken for one in promises)
    kept = (
        f"beyond what chance explains in {broken} of {counted(len(first), 'seed')}"
        if broken
        else "compatible with the promise"
    )
    return (
        f"Conformal: at most {percent(asked)} asked for, {percent(alarms)} seen ({kept}); it finds {percent(share)} of "
        "the anomalous scenes. It is the only one of the three whose false alarms are chosen beforehand."
    )
