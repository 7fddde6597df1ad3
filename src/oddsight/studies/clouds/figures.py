"""Charts of the report on clouds: scores with thresholds, outlined scenes, and detection by optical depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from oddsight.drawing.charts import ANOMALOUS, COLOURS, DASHES, FAINT, INK, NORMAL, chart, logarithmic_x
from oddsight.drawing.numbers import area, percent, short
from oddsight.errors import plain
from oddsight.studies.clouds.isolation import Shown
from oddsight.studies.clouds.results import Measurement
from oddsight.studies.clouds.severity import Point, Visibility

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WAY_DASHES = {"by hand": (0, (1, 2)), "mean + 3 sd": (0, (4, 2)), "conformal": "solid"}
_BINS = 48
_SIDE = 220


def threshold_histogram(one: Measurement, ways: Mapping[str, tuple[float, float | None]], name: str) -> Markup:
    """Scores of training, calibration and anomalous scenes below each other, with the thresholds through all."""
    assert one.training is not None
    groups = [
        ("training scenes", one.training, FAINT),
        ("calibration scenes", one.calibration, NORMAL),
        ("anomalous test scenes", np.concatenate(list(one.anomalous.values())), ANOMALOUS),
    ]
    everything = np.concatenate([scores for _, scores, _ in groups]).astype(np.float64)
    low, high = float(everything.min()), float(np.quantile(everything, 0.995))
    logarithmic = low > 0 and high > 20 * float(np.median(one.calibration))
    span = high - low or 1.0
    # A threshold far off the scores must not squeeze them into a corner.
    values = {way: value for way, (value, _) in ways.items()}
    near = (low - 0.5 * span, high + 0.5 * span)
    inside = {way: at for way, at in values.items() if near[0] <= at <= near[1] and (at > 0 or low <= 0)}
    left, right = min([low, *inside.values()]), max([high, *inside.values()])
    logarithmic = logarithmic and left > 0
    edges = np.geomspace(left, right, _BINS) if logarithmic else np.linspace(left, right, _BINS)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(len(groups), sharex=True)
        for axes, (title, scores, colour) in zip(panels, groups, strict=True):
            axes.hist(np.clip(scores, edges[0], edges[-1]), edges, color=colour)
            axes.set_title(f"{title} ({len(scores):,})", loc="left")
            axes.yaxis.get_major_locator().set_params(integer=True, nbins=2)
            for way, value in inside.items():
                axes.axvline(value, color=INK, linewidth=1.2, linestyle=_WAY_DASHES[way], label=way)
        if logarithmic:
            logarithmic_x(panels[0])
        if inside:
            panels[0].legend(frameon=False, labelcolor=INK, loc="upper right")
        away = [f"{way} ({value:.4g})" for way, value in values.items() if way not in inside]
        scale = ", logarithmic" if logarithmic else ""
        panels[-1].set_xlabel(f"score{scale}" + (f"; off the scale: {', '.join(away)}" if away else ""))

    named = ", ".join(f"{way} {value:.4g}" for way, value in values.items())
    return chart(name, (6.6, 3.4), draw, escape(f"Scores of {plain(one.method)}; thresholds: {named}"))


def outlined_scenes(shown: Sequence[Shown]) -> Markup:
    """Scenes in rows: the image, the mask, and the map with the outline of what is above its threshold."""

    def draw(figure: Figure) -> None:
        rows = figure.subplots(len(shown), 3, squeeze=False)
        for (left, middle, right), one in zip(rows, shown, strict=True):
            left.imshow(_reduced(one.image), interpolation="none")
            mask = np.where(one.clouds, 255, 0).astype(np.uint8)
            middle.imshow(_reduced(np.repeat(mask[..., None], 3, axis=2)), interpolation="none")
            _draw_map(right, one)
            left.set_title(short(one.scene), loc="left")
            middle.set_title(f"{percent(float(one.clouds.mean()))} cloud", loc="left")
            right.set_title(_outcome(one), loc="left")
            for axes in (left, middle, right):
                axes.set_xticks([])
                axes.set_yticks([])

    outcomes = ", ".join(f"{plain(one.scene)} {_outcome(one)}" for one in shown)
    return chart("isolation-scenes", (6.6, 2.35 * len(shown)), draw, escape(f"Scenes, masks and maps: {outcomes}"))


def _outcome(one: Shown) -> str:
    """IoU, which means nothing where there are no clouds."""
    return f"IoU {area(one.iou)}" if one.clouds.any() else f"{percent(float(one.found.mean()))} outlined"


def _draw_map(axes: Axes, one: Shown) -> None:
    """The map in colours that are tied to the threshold, and the outline."""
    height, width = one.values.shape
    low, high = np.quantile(one.values, [0.01, 0.99])
    # The middle of the colours is the threshold, also where all of the map lies on one side of it.
    reach = max(float(one.threshold - low), float(high - low) / 4, 1e-9)
    levels = np.rint(255 * np.clip(0.5 + (one.values - one.threshold) / (2 * reach), 0, 1)).astype(np.uint8)
    extent = (0, width, height, 0)
    axes.imshow(_reduced(levels), cmap="cividis", vmin=0, vmax=255, interpolation="none", extent=extent)
    if one.found.any() and not one.found.all():
        step = max(1, max(height, width) // (2 * _SIDE))  # a finer outline could not be seen
        across, down = np.arange(0, width, step) + 0.5, np.arange(0, height, step) + 0.5
        values = one.found[::step, ::step].astype(float)
        axes.contour(across, down, values, levels=[0.5], colors=ANOMALOUS, linewidths=1)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.spines[:].set_color(INK)


def _reduced(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(image)


def depth_curves(shown: Sequence[Visibility], depths: Sequence[float], *, share: bool, name: str) -> Markup:
    """The share detected or the pixel AUROC over the optical depth; shares have their intervals and the clear images.

    The axis of depths is logarithmic.
    """
    what = "share detected" if share else "pixel AUROC"
    clear = depths[0] / 2  # stands for 0, which a logarithmic axis does not have

    def value(point: Point) -> float | None:
        return point.share if share else point.pixel_auroc

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        greys = cycle((INK, "#7f7f7f"))
        styles = zip(cycle(COLOURS), [dash for dash in DASHES for _ in COLOURS], strict=False)
        for one, (tint, dash) in zip(shown, styles, strict=False):
            colour = next(greys) if one.trivial else tint
            pairs = zip(depths, map(value, one.points), strict=True)
            known = [(depth, number) for depth, number in pairs if number is not None]
            if known:
                label = short(f"{one.name} (trivial)" if one.trivial else one.name)
                line = ":" if one.trivial else dash
                axes.plot(*zip(*known, strict=True), color=colour, linestyle=line, linewidth=1.6, label=label)
            if share:
                low, high = zip(*(point.interval for point in one.points), strict=True)
                axes.fill_between(depths, low, high, color=colour, alpha=0.1 if one.trivial else 0.16, linewidth=0)
                axes.plot(clear, one.false_alarms.share, "o", color=colour, markersize=3.5, clip_on=False)
        if share and shown:
            axes.axhline(shown[0].rate, color=FAINT, linewidth=1, linestyle=(0, (4, 2)))
        axes.set_xscale("log")
        ticks = [clear, *depths] if share else list(depths)
        axes.set_xticks(ticks, [*(["0"] if share else []), *(f"{depth:g}" for depth in depths)])
        axes.minorticks_off()
        axes.set(xlabel="optical depth", ylabel=what, ylim=(0.0 if share else 0.4, 1.02))
        axes.yaxis.set_major_formatter(lambda number, _: percent(number) if share else f"{number:.1f}")
        axes.legend(loc="upper left", frameon=False, labelcolor=INK, fontsize=7.5)

    last = [(one.name, value(one.points[-1])) for one in shown]
    ends = ", ".join(f"{plain(called)} {'none' if number is None else area(number)}" for called, number in last)
    return chart(name, (4.6, 3.5), draw, escape(f"{what} against optical depth; at the greatest: {ends}"))
