"""What the report of a study of clouds shows of isolating clouds: areas, outlines, and what trivial measures reach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray
from PIL import Image

from oddsight.report.charts import ANOMALOUS, INK, chart, printable, short
from oddsight.report.documents import Block, Chart, Charts, Heading, Items, Section, Table, Text
from oddsight.report.known_figures import bars
from oddsight.report.pages import area, percent
from oddsight.report.wording import areas, counted, joined, quoted
from oddsight.studies.clouds.isolation import Beaten, Isolation, Judged, Shown
from oddsight.studies.clouds.isolation_maps import MASKS, RATES, RULES, rate_rule
from oddsight.studies.clouds.isolation_measures import ALL, BRIGHT, BRIGHT_ALONE, CONFIDENCE, UNSATURATED
from oddsight.studies.clouds.isolation_scenes import BRIGHT as BRIGHTNESS
from oddsight.studies.clouds.isolation_scenes import SATURATED
from oddsight.studies.clouds.isolation_variants import VARIANTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE = "Results: isolating clouds, pixel by pixel"
_SIDE = 220
_GROUPS = (ALL, BRIGHT, BRIGHT_ALONE, UNSATURATED)


def section(isolation: Isolation) -> Section:
    """The section of a page; the same for HTML and Markdown."""
    blocks: list[Block] = [
        *_approach(isolation),
        Heading("Do methods beat brightness?"),
        Items(tuple(verdicts(isolation))),
        *_bars(isolation),
        *(_areas(isolation, group.name, group.says) for group in isolation.groups),
        *_thresholds(isolation),
        *_scenes(isolation),
        *_pictures(isolation),
        *_failed(isolation),
    ]
    return Section("isolation", _TITLE, tuple(blocks))


def _approach(found: Isolation) -> Iterator[Block]:
    bright = [scene for scene in found.scenes if scene.bright]
    cloudy = [scene for scene in bright if scene.cover > 0]
    white = [scene for scene in found.scenes if scene.saturated]
    yield Text(
        f"{counted(len(found.scenes), 'scene')} with masks of clouds, dealt into {found.folds} parts so that each has "
        "its share of dark and of bright ground. Each part is tested by a model that learnt from clear tiles of the "
        "others, cut out where their masks are empty; no scene is on both sides. Scenes are mapped as a user would, in "
        "overlapping tiles, and compared with their masks at full resolution. Masks say which tiles are clear, and no "
        "method sees more of them."
    )
    yield Text(
        f"Outlines come from three thresholds. Two are conformal: at most {_rates()} of clear tiles hold anything "
        "beyond them (or the smallest rate that the number of clear tiles can promise), and no cloud was needed for "
        "them. The third is that of the highest F1 on the training scenes, mapped by models that did not learn from "
        "them: it uses masks of clouds, which those who have none cannot do. Brightness (the mean of red, green and "
        "blue) and whiteness (the lowest of the three less their span) of single pixels have thresholds found in the "
        "same three ways."
    )
    said = f"Ground is bright if the median of a scene's clear pixels is {BRIGHTNESS} of 255 or more"
    if bright:
        said += (
            f": {joined([scene.name for scene in bright], 8)}. {counted(len(cloudy), 'of them has', 'of them have')} "
            "clouds, so their ground is set against the clouds of all scenes, and against their own alone."
        )
    else:
        said += ": no scene's is."
    if white:
        said += (
            f" In {counted(len(white), 'scene')} ({joined([scene.name for scene in white], 8)}) at least half of the "
            f"pixels are saturated ({SATURATED} or more in every channel): snow and cloud are the same white there, "
            "and nothing can tell them apart by it."
        )
    yield Text(f"{said} Intervals ({percent(CONFIDENCE)}) come from drawing whole scenes anew.", soft=True)


def _rates() -> str:
    return " and ".join(percent(rate) for rate in RATES)


def verdicts(found: Isolation) -> Iterator[str]:
    """What follows, a sentence or two for each group: whether methods beat the best trivial measure there."""
    if found.best is None:
        yield "No method could be run, so nothing can be said."
        return
    for group in found.groups:
        own = [one for one in found.beaten if one.group == group.name]
        best = max(own, key=lambda one: one.auroc)
        yield f"{group.name.capitalize()} ({group.says}): {_verdict(best, own, found)}"
    if len({one.method for one in found.beaten}) > 1:
        counts = Counter(found.chosen).most_common()
        said = joined([f"{quoted(name)} in {count}" for name, count in counts])
        yield (
            "Which method is best was read from the scenes that it is tested on, which flatters it a little. By its "
            f"pixel AUROC on training scenes alone, of {counted(found.folds, 'part')} one would choose {said}."
        )
    composed = [one.name for one in found.judged if one.name in VARIANTS]
    if composed:
        yield (
            f"{joined([quoted(name) for name in composed])}: put together for clouds, and kept from fourteen "
            "compositions that were tried on 29 Landsat scenes. If these are those scenes, the numbers flatter them."
        )


def _verdict(best: Beaten, own: list[Beaten], found: Isolation) -> str:
    by_name = {one.name: one for one in found.judged}
    value = by_name[best.method].groups[best.group].auroc
    trivial = by_name[best.trivial].groups[best.group].auroc
    apart = "" if best.auroc_interval is None else f", difference {_signed(*best.auroc_interval)}"
    numbers = f"an AUROC of {area(value)} against {area(trivial)} of {best.trivial}{apart}"
    surely, lost = sum(one.surely for one in own), sum(one.lost for one in own)
    if best.surely:
        text = f"{quoted(best.method)} beats the best trivial measure, with {numbers}"
        text += f"; so {'does' if surely == 2 else 'do'} {counted(surely - 1, 'other')}." if surely > 1 else "."
    elif best.auroc <= 0:
        text = f"no method beats the best trivial measure: the best, {quoted(best.method)}, has {numbers}"
        text += f"; {lost} of {len(own)} methods are surely worse." if lost else "."
    else:
        sure = "too few scenes say how sure that is" if best.auroc_interval is None else "which may be chance"
        text = f"{quoted(best.method)} does better than the best trivial measure, with {numbers}, {sure}."
    return f"{text} {_by_overlap(own, found)}"


def _by_overlap(own: list[Beaten], found: Isolation) -> str:
    best = max(own, key=lambda one: one.iou)
    by_name = {one.name: one for one in found.judged}
    value = by_name[best.method].groups[best.group].outlined[MASKS].iou
    trivial = by_name[best.overlap].groups[best.group].outlined[MASKS].iou
    apart = "" if best.iou_interval is None else f" (difference {_signed(*best.iou_interval)})"
    return (
        f"Outlined at the threshold from training masks, the best IoU of a method is {area(value)} "
        f"({quoted(best.method)}), that of a trivial measure {area(trivial)} ({best.overlap}){apart}."
    )


def _signed(low: float, high: float) -> str:
    return f"{low:+.3f} to {high:+.3f}".replace("-", "\u2212")


def _bars(found: Isolation) -> Iterator[Block]:
    charts = []
    for group in found.groups:
        if group.name not in (ALL, BRIGHT):
            continue
        ranked = sorted(found.judged, key=lambda one: -one.groups[group.name].auroc)
        svg = bars(
            [_name(one) for one in ranked],
            [one.groups[group.name].auroc for one in ranked],
            [one.groups[group.name].auroc_interval for one in ranked],
            axis=f"pixel AUROC, {group.name}",
            start=0.5,
            end=1.0,
            name=f"isolation-{group.name.replace(' ', '-')}",
        )
        caption = f"{group.says.capitalize()}; bars start at guessing, lines are intervals over scenes."
        charts.append(Chart(f"isolation-{group.name.replace(' ', '-')}", svg, caption))
    yield Charts(tuple(charts))


def _name(one: Judged) -> str:
    return f"{one.name} (trivial)" if one.trivial else one.name


def _areas(found: Isolation, group: str, says: str) -> Table:
    ranked = sorted(found.judged, key=lambda one: -one.groups[group].auroc)
    rows = []
    for one in ranked:
        own = one.groups[group]
        sure = "" if own.auroc_interval is None else f" ({areas(*own.auroc_interval)})"
        rows.append(
            (
                _name(one),
                f"{area(own.auroc)}{sure}",
                area(own.average_precision),
                "" if own.aupro is None else area(own.aupro),
                *(f"{area(own.outlined[rule].iou)} / {area(own.outlined[rule].f1)}" for rule in RULES),
            )
        )
    return Table(
        f"{group.capitalize()}: {says}. AUROC with its interval, average precision, AUPRO up to 30% false alarms; then "
        "IoU / F1 of what is outlined at each threshold. Trivial measures stand out.",
        ("Method", "AUROC", "AP", "AUPRO", *(_rule(rule) for rule in RULES)),
        tuple(rows),
        strong=frozenset(index for index, one in enumerate(ranked) if one.trivial),
    )


def _rule(rule: str) -> str:
    rates = {rate_rule(rate): f"{percent(rate)} of tiles" for rate in RATES}
    return rates.get(rule, "from masks")


def _thresholds(found: Isolation) -> Iterator[Block]:
    """What each threshold finds, and at what price, over all scenes and over bright ground."""
    yield Heading("What thresholds cost")
    hard = any(group.name == BRIGHT for group in found.groups)
    rows = []
    for one in sorted(found.judged, key=lambda one: -one.groups[ALL].auroc):
        for rule in RULES:
            whole = one.groups[ALL].outlined[rule]
            bright = one.groups[BRIGHT].outlined[rule] if hard else None
            kept = one.rates.get(rule)
            rows.append(
                (
                    _name(one),
                    _rule(rule),
                    "" if kept is None else percent(kept),
                    "" if whole.recall is None else percent(whole.recall),
                    "" if whole.false_alarms is None else percent(whole.false_alarms),
                    *(() if bright is None else (percent(bright.false_alarms or 0.0),)),
                )
            )
    yield Table(
        "Pixels outlined at each threshold: of clouds, of clear ground, and of bright ground. The rate kept is that of "
        "clear tiles with anything outlined; for trivial measures it counts the same tiles.",
        ("Method", "Threshold", "Rate kept", "Clouds", "Ground", *(("Bright ground",) if hard else ())),
        tuple(rows),
        words=frozenset({1}),
    )


def _scenes(found: Isolation) -> Iterator[Block]:
    """Every scene, by the best method and by trivial measures."""
    shown = [one for one in found.judged if one.trivial or one.name == found.best]
    rows = []
    for index, scene in enumerate(found.scenes):
        cells = [f"{percent(scene.cover)}", "" if scene.ground is None else f"{scene.ground:.0f}"]
        for one in shown:
            own = one.scenes[index]
            cells += ["" if own.auroc is None else area(own.auroc), area(own.outlined[MASKS].iou)]
        rows.append((scene.name, *cells))
    heads = [head for one in shown for head in (f"{one.name}: AUROC", "IoU")]
    yield Heading("Scene by scene")
    yield Table(
        "Share of clouds, median brightness of the clear ground, AUROC within the scene (none where all is clear or "
        "all is cloud), and IoU at the threshold from training masks (1 if there is no cloud and nothing is outlined). "
        "Scenes with bright ground stand out.",
        ("Scene", "Clouds", "Ground", *heads),
        tuple(rows),
        strong=frozenset(index for index, scene in enumerate(found.scenes) if scene.bright),
    )


def _pictures(found: Isolation) -> Iterator[Block]:
    if not found.shown or found.best is None:
        return
    yield Heading(f"What {quoted(found.best)} outlines")
    caption = (
        "Scene, mask, and map with what is outlined at the threshold from training masks, by the file that did not see "
        "the scene. The middle of a map's colours is the threshold. The same outlines are kept as GeoJSON and as "
        "masks, as oddsight predict --regions writes them."
    )
    yield Charts((Chart("isolation-scenes", outlined_figure(found.shown), caption),))


def outlined_figure(shown: tuple[Shown, ...], *, name: str = "isolation-scenes") -> Markup:
    """Scenes in rows: the picture, the mask, and the map with the outline of what is beyond its threshold.

    Args:
        shown: At least one.
        name: Apart from that of other charts on the page.
    """

    def draw(figure: Figure) -> None:
        rows = figure.subplots(len(shown), 3, squeeze=False)
        for (left, middle, right), one in zip(rows, shown, strict=True):
            left.imshow(_small(one.picture), interpolation="none")
            middle.imshow(_small(_grey(one.clouds)), interpolation="none")
            _map(right, one)
            left.set_title(short(one.scene), loc="left")
            middle.set_title(f"{percent(float(one.clouds.mean()))} cloud", loc="left")
            right.set_title(_outcome(one), loc="left")
            for axes in (left, middle, right):
                axes.set_xticks([])
                axes.set_yticks([])

    said = ", ".join(f"{printable(one.scene)} {_outcome(one)}" for one in shown)
    return chart(name, (6.6, 2.35 * len(shown)), draw, escape(f"Scenes, masks and maps: {said}"))


def _outcome(one: Shown) -> str:
    """IoU, which says nothing where there are no clouds."""
    return f"IoU {area(one.iou)}" if one.clouds.any() else f"{percent(float(one.found.mean()))} outlined"


def _map(axes: Axes, one: Shown) -> None:
    """The map in colours that are tied to the threshold, and the outline."""
    height, width = one.values.shape
    low, high = np.quantile(one.values, [0.01, 0.99])
    # The middle of the colours is the threshold, also where all of the map lies on one side of it.
    reach = max(float(one.threshold - low), float(high - low) / 4, 1e-9)
    levels = np.clip(0.5 + (one.values - one.threshold) / (2 * reach), 0, 1)
    small = Image.fromarray(np.rint(255 * levels).astype(np.uint8))
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    axes.imshow(np.asarray(small), cmap="cividis", vmin=0, vmax=255, interpolation="none", extent=(0, width, height, 0))
    if one.found.any() and not one.found.all():
        across, down = np.arange(width) + 0.5, np.arange(height) + 0.5
        axes.contour(across, down, one.found.astype(float), levels=[0.5], colors=ANOMALOUS, linewidths=1)
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.spines[:].set_color(INK)


def _grey(flags: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.repeat(np.where(flags, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    picture = Image.fromarray(pixels)
    picture.thumbnail((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(picture)


def _failed(found: Isolation) -> Iterator[Block]:
    settings = [f"{one.name}: {one.settings}." for one in found.judged if one.settings]
    if settings:
        yield Heading("Settings of methods")
        yield Items(tuple(settings))
    if found.failed:
        yield Text("Not run:")
        yield Items(tuple(f"{name}: {reason}." for name, reason in found.failed.items()))
