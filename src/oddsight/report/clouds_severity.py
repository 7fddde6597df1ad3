"""What the report of a study of clouds shows of haze, smoke and dust: how much a method needs to see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from oddsight.report.charts import ANOMALOUS, FAINT, INK, NORMAL, chart, printable, short
from oddsight.report.documents import Block, Chart, Charts, Heading, Items, Section, Table, Text
from oddsight.report.pages import area, percent
from oddsight.report.wording import counted, joined, quoted, shares
from oddsight.studies.clouds.severity import Seeing, Severity
from oddsight.studies.clouds.severity_curves import CONFIDENCE, Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE = "Results: haze, smoke and dust, by how much of it there is"
_COLOURS = (NORMAL, ANOMALOUS, "#4d9a57", "#a06bc0", "#c3961c", "#7f7f7f")
_DASHES: tuple[object, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
_DRAWN = 6


def section(severity: Severity) -> Section:
    """The section of a page; the same for HTML and Markdown."""
    blocks: list[Block] = [*_approach(severity), Items(tuple(verdicts(severity)))]
    for kind in severity.kinds:
        blocks += [Heading(kind.capitalize()), *_curves(severity, kind), _onsets(severity, kind)]
        blocks += [_detected(severity, kind), _areas(severity, kind), *_pixels(severity, kind)]
    if severity.failed:
        blocks += [Text("Not run:"), Items(tuple(f"{name}: {reason}." for name, reason in severity.failed.items()))]
    return Section("severity", _TITLE, tuple(blocks))


def _approach(found: Severity) -> Iterator[Block]:
    yield Text(
        f"These pictures are synthetic: {joined(found.kinds)} of known amount was computed over clear pictures, by the "
        "model of scattered light in air, and none was photographed. The numbers tell how the chance of an alarm rises "
        "with the amount, and which of two methods needs less; they are no measurement of real smoke or dust."
    )
    rates = sorted({one.rate for one in found.seen})
    kept = percent(found.rate)
    if rates and rates[-1] > found.rate * (1 + 1e-9):
        kept += f" ({percent(rates[-1])} where fewer pictures were calibrated on than that takes)"
    yield Text(
        f"Methods learnt from {counted(found.learnt, 'clear picture')}, with a conformal threshold for at most {kept} "
        f"false alarms, and were shown {counted(found.tested, 'other')}: clear, and at {len(found.depths)} mean "
        "optical depths in the affected area. At a depth of 0.1 a tenth of the ground's light is replaced, at 0.4 a "
        "third, at 1.6 four fifths. The pattern over a picture is the same at every depth, so curves differ in "
        "nothing else. Trivial measures have conformal thresholds from the same clear pictures; whether high or low "
        "values are alarms was chosen by the labels, in their favour."
    )
    yield Text(
        "A method begins to see something at the lowest depth from which on the share detected is surely above false "
        f"alarms: its {percent(CONFIDENCE)} interval lies above the rate and above the share of clear test pictures "
        "that gave an alarm, there and at every greater depth. The depth at which half are detected is read from "
        "straight lines between the depths. Intervals of both come from drawing pictures anew, each with all its "
        "depths.",
        soft=True,
    )


def verdicts(found: Severity) -> Iterator[str]:
    """What follows for each kind: which method needs least, beside the best trivial measure."""
    for kind in found.kinds:
        own = found.of(kind)
        ways = [one for one in own if not one.trivial]
        trivial = min((one for one in own if one.trivial), key=_need)
        if not ways:
            yield f"{kind.capitalize()}: no method could be run."
            continue
        best = min(ways, key=_need)
        text = f"{kind.capitalize()}: {quoted(best.name)} needs least"
        text += f"; half are detected {_half(best)}, and it is {_first(best)}."
        if best.onset.half is None and best.onset.first is None:
            text = f"{kind.capitalize()}: no method surely sees it, up to an optical depth of {found.depths[-1]:g}."
        text += f" The best trivial measure, {trivial.name}, detects half {_half(trivial)}"
        text += ": it needs less than any method." if _need(trivial) < _need(best) else "."
        yield text


def _need(one: Seeing) -> tuple[float, float, float]:
    half, first = one.onset.half, one.onset.first
    most = float("inf")
    return (most if half is None else half, most if first is None else first, -one.curve.points[-1].share)


def _half(one: Seeing) -> str:
    return "at no depth that was tried" if one.onset.half is None else f"at an optical depth of {one.onset.half:.2g}"


def _first(one: Seeing) -> str:
    return "surely seen at none" if one.onset.first is None else f"surely seen from {one.onset.first:g} on"


def _ranked(found: Severity, kind: str) -> list[Seeing]:
    return sorted(found.of(kind), key=_need)


def _drawn(found: Severity, kind: str) -> list[Seeing]:
    """Curves for a chart: the methods and trivial measures that need least, as more could not be told apart."""
    ranked = _ranked(found, kind)
    return [one for one in ranked if not one.trivial][:_DRAWN] + [one for one in ranked if one.trivial][:2]


def _curves(found: Severity, kind: str) -> Iterator[Block]:
    shown = _drawn(found, kind)
    detected = curves_figure(shown, found.depths, "share detected", lambda one: one.share, name=f"severity-{kind}")
    caption = (
        f"Pictures with {kind} that gave an alarm; bands are {percent(CONFIDENCE)} intervals, and the point at the "
        "left is clear pictures. Dashed grey: the rate of false alarms. Trivial measures are dotted."
    )
    charts = [Chart(f"severity-{kind}", detected, caption)]
    ways = [one for one in shown if any(point.pixel_auroc is not None for point in one.curve.points)]
    if ways:
        pixels = curves_figure(
            ways, found.depths, "pixel AUROC", lambda one: one.pixel_auroc, name=f"severity-pixels-{kind}"
        )
        charts.append(Chart(f"severity-pixels-{kind}", pixels, "How well maps point at the affected pixels."))
    yield Charts(tuple(charts))


def curves_figure(
    shown: Sequence[Seeing],
    depths: Sequence[float],
    what: str,
    value: Callable[[Point], float | None],
    *,
    name: str,
) -> Markup:
    """Curves over the optical depth, on a logarithmic axis; shares have their intervals and the clear pictures.

    Args:
        shown: Methods first, then trivial measures.
        depths: Ascending.
        what: Is measured.
        value: Of a point.
        name: Apart from that of other charts on the page.
    """
    share = what == "share detected"
    clear = depths[0] / 2  # stands for 0, which a logarithmic axis does not have

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        greys = cycle((INK, "#7f7f7f"))
        styles = zip(cycle(_COLOURS), [dash for dash in _DASHES for _ in _COLOURS], strict=False)
        for one, (tint, dash) in zip(shown, styles, strict=False):
            line = ":" if one.trivial else dash
            colour = next(greys) if one.trivial else tint
            known = [
                (at, number)
                for at, point in zip(depths, one.curve.points, strict=True)
                if (number := value(point)) is not None
            ]
            if known:
                label = f"{one.name} (trivial)" if one.trivial else one.name
                axes.plot(*zip(*known, strict=True), color=colour, linestyle=line, linewidth=1.6, label=short(label))
            if share:
                _shares(axes, one, depths, clear, colour)
        if share and shown:
            axes.axhline(shown[0].rate, color=FAINT, linewidth=1, linestyle=(0, (4, 2)))
        axes.set_xscale("log")
        axes.set_xticks([clear, *depths] if share else list(depths), [*(["0"] if share else []), *map(_tick, depths)])
        axes.minorticks_off()
        low = 0.0 if share else 0.4
        axes.set(xlabel="optical depth", ylabel=what, ylim=(low, 1.02))
        axes.yaxis.set_major_formatter(lambda number, _: percent(number) if share else f"{number:.1f}")
        axes.legend(loc="upper left", frameon=False, labelcolor=INK, fontsize=7.5)

    said = ", ".join(f"{printable(one.name)} {_last(one, value)}" for one in shown)
    return chart(name, (4.6, 3.5), draw, escape(f"{what} against optical depth; at the greatest: {said}"))


def _shares(axes: Axes, one: Seeing, depths: Sequence[float], clear: float, colour: str) -> None:
    low, high = zip(*(point.interval for point in one.curve.points), strict=True)
    axes.fill_between(depths, low, high, color=colour, alpha=0.1 if one.trivial else 0.16, linewidth=0)
    axes.plot(clear, one.clear.share, "o", color=colour, markersize=3.5, clip_on=False)


def _tick(depth: float) -> str:
    return f"{depth:g}"


def _last(one: Seeing, value: Callable[[Point], float | None]) -> str:
    number = value(one.curve.points[-1])
    return "none" if number is None else area(number)


def _title(one: Seeing) -> str:
    return f"{one.name}, {one.direction} (trivial)" if one.trivial else one.name


def _trivial(ranked: Sequence[Seeing]) -> frozenset[int]:
    return frozenset(index for index, one in enumerate(ranked) if one.trivial)


def _onsets(found: Severity, kind: str) -> Table:
    ranked, most = _ranked(found, kind), found.depths[-1]

    def to(ends: tuple[float | None, float | None]) -> str:
        low, high = (f"{end:.2g}" if end is not None else f"beyond {most:g}" for end in ends)
        return low if low == high else f"{low} to {high}"

    return Table(
        f"The optical depth of {kind} at which half of the pictures are detected, and from which on it is surely seen; "
        "false alarms are clear test pictures at the same threshold. Trivial measures stand out.",
        ("Method", "Half detected", "Interval", "Surely seen from", "Interval", "False alarms"),
        tuple(
            (
                _title(one),
                f"beyond {most:g}" if one.onset.half is None else f"{one.onset.half:.2g}",
                to(one.onset.half_interval),
                f"beyond {most:g}" if one.onset.first is None else f"{one.onset.first:g}",
                to(one.onset.first_interval),
                f"{percent(one.clear.share)} ({shares(*one.clear.interval)})",
            )
            for one in ranked
        ),
        strong=_trivial(ranked),
    )


def _detected(found: Severity, kind: str) -> Table:
    ranked = _ranked(found, kind)
    return Table(
        f"Share of pictures with {kind} that gave an alarm, by optical depth, with {percent(CONFIDENCE)} intervals.",
        ("Method", *map(_tick, found.depths)),
        tuple(
            (_title(one), *(f"{percent(point.share)} ({shares(*point.interval)})" for point in one.curve.points))
            for one in ranked
        ),
        strong=_trivial(ranked),
    )


def _areas(found: Severity, kind: str) -> Table:
    ranked = _ranked(found, kind)
    return Table(
        f"AUROC of pictures with {kind} against the same pictures clear, by optical depth.",
        ("Method", *map(_tick, found.depths)),
        tuple(
            (_title(one), *("" if point.auroc is None else area(point.auroc) for point in one.curve.points))
            for one in ranked
        ),
        strong=_trivial(ranked),
    )


def _pixels(found: Severity, kind: str) -> Iterator[Block]:
    ways = [one for one in _ranked(found, kind) if any(point.pixel_auroc is not None for point in one.curve.points)]
    if not ways:
        return

    def cell(point: Point) -> str:
        first = "" if point.pixel_auroc is None else area(point.pixel_auroc)
        return first if point.iou is None else f"{first} / {area(point.iou)}"

    yield Table(
        "Methods with a map: AUROC of affected pixels (optical depth above 0.05) against all others, those of the "
        "clear pictures included / IoU of what is outlined at the threshold. Empty where no pixel is affected.",
        ("Method", *map(_tick, found.depths)),
        tuple((one.name, *map(cell, one.curve.points)) for one in ways),
    )
