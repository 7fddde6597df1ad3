"""What the report of a study of clouds shows of whole scenes: every method on every side, and the shipped files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from oddsight.report.clouds_setting import not_run, sided
from oddsight.report.comparison import duration, p_text
from oddsight.report.documents import Block, Chart, Charts, Facts, Gallery, Heading, Section, Table, Text
from oddsight.report.known_figures import bars, curves_figure
from oddsight.report.pages import area, percent
from oddsight.report.wording import counted, joined, quoted, shares
from oddsight.studies.clouds.conclusions import Contest, Found, Standing
from oddsight.studies.clouds.protocol import Side
from oddsight.studies.clouds.results import Measured, ShippedScenes
from oddsight.studies.clouds.rows import ALL, RATES, BaselineRow
from oddsight.studies.promise import Promise, promised
from oddsight.studies.results import Picture

_DECIDED = ("false_alarm_rate", "precision", "recall", "f1", "accuracy")
_MOST_BARS = 30


def results(found: Found) -> Section:
    """How well every method tells the classes of every side."""
    blocks: list[Block] = []
    for side in found.study.sides:
        blocks += _side(found, side)
    blocks += not_run(found)
    return Section("results", "Results: is the scene cloudy?", tuple(blocks))


def _side(found: Found, side: Side) -> Iterator[Block]:
    clouds = found.study.data.clouds
    yield Heading(sided(side, clouds).capitalize())
    yield _areas(found, side)
    yield Text(_against_methods(found, side))
    yield Text(_against_baselines(found, side))
    standings = found.standings[side.name][:_MOST_BARS]
    if len(standings) > 1:
        yield Charts((_bars(found, side, standings),))
    if _rates(found.standings[side.name]):
        yield _decisions(found, side)
        if len(side.anomalous) > 1:
            yield _by_class(found, side)
    else:
        yield Text("Calibration scenes are too few for a false-alarm rate of 5%, so no decisions are compared.")


def _areas(found: Found, side: Side) -> Table:
    """AUROC of every method and every trivial measure."""
    standings, seeds = found.standings[side.name], len(found.study.seeds)
    rows = []
    for one in standings:
        cells = [_with_interval(one, name) for name in one.classes]
        whole = [f"{one.area:.4f}"] if len(side.anomalous) > 1 else []
        low, high = one.span(one.whole)
        spread = [f"{area(low)} to {area(high)}" if len(one.seeds) > 1 else "one"] if seeds > 1 else []
        cost = (duration(one.mean(one.whole, "learn_seconds") or 0), f"{one.mean(one.whole, 'image_ms'):.3g}")
        size = f"{(one.mean(one.whole, 'file_bytes') or 0) / 1e6:.1f}"
        rows.append((one.method, *cells, *whole, *spread, *cost, size))
    failed = dict.fromkeys(one.method for one in found.study.failed if one.side == side.name)
    width = 1 + len(side.anomalous) + (len(side.anomalous) > 1) + (seeds > 1)
    baselines = _baseline_rows(found, side, width)
    gone = [(name, "not run", *[""] * (width + 1)) for name in failed if name not in {one.method for one in standings}]
    place = next(index for index, one in enumerate(standings) if one.method == found.study.default)
    fewer = " or fewer" if any(len(one.seeds) < seeds for one in standings) else ""
    mean = f"means over {counted(seeds, 'seed')}{fewer}" if seeds > 1 else "one seed"
    span = "Seeds: the lowest and the highest, of all classes together. " if seeds > 1 else ""
    return Table(
        f"AUROC with {percent(found.tables.confidence)} interval, {mean}; best first, trivial baselines in brackets "
        f"below. {span}Learning: wall-clock time with features of the backbone at hand; ms: one image on one core, by "
        "the whole file. The method that is shipped stands out.",
        (
            "Method",
            *side.anomalous,
            *(["Mean"] if len(side.anomalous) > 1 else []),
            *(["Seeds"] if seeds > 1 else []),
            "Learning",
            "ms",
            "MB",
        ),
        (*rows, *baselines, *gone),
        strong=frozenset({place}),
    )


def _with_interval(one: Standing, name: str) -> str:
    low, high, mean = (one.mean(name, field) or 0.0 for field in ("auroc_low", "auroc_high", "auroc"))
    return f"{area(mean)} ({area(low)} to {area(high)})"


def baseline_means(found: Found, side: Side) -> dict[str, dict[str, float]]:
    """AUROC of trivial measures by class, the mean over seeds."""
    rows: dict[str, dict[str, list[BaselineRow]]] = {}
    for row in found.tables.baselines:
        if row.normal == side.name:
            rows.setdefault(row.baseline, {}).setdefault(row.anomalous, []).append(row)
    return {
        name: {kind: sum(row.auroc for row in own) / len(own) for kind, own in kinds.items()}
        for name, kinds in rows.items()
    }


def _baseline_rows(found: Found, side: Side, width: int) -> list[tuple[str, ...]]:
    means = baseline_means(found, side)
    rows = []
    ordered = sorted(means, key=lambda name: -sum(means[name][kind] for kind in side.anomalous))
    for name in ordered:
        cells = [area(means[name][kind]) for kind in side.anomalous]
        if len(side.anomalous) > 1:
            cells.append(f"{sum(means[name][kind] for kind in side.anomalous) / len(side.anomalous):.4f}")
        rows.append((f"({name})", *cells, *[""] * (width - len(cells) - 1), "", "", ""))
    return rows


def _tested(one: Contest) -> str:
    if one.p_value is None:
        return "too few scenes to test"
    words = {
        "better": "more than chance explains",
        "worse": "more than chance explains",
        "not distinguishable": "chance explains the difference",
    }
    return f"{words.get(one.verdict, 'untested')}, p {p_text(one.p_value)}"


def _against_methods(found: Found, side: Side) -> str:
    """The default method against the best other on each class."""
    default, parts = found.study.default, []
    for kind in side.anomalous:
        rival = found.best_rival(side.name, kind, trivial=False)
        if rival is not None:
            parts.append(f"on {kind} {rival.rival} ({area(rival.area)} against {area(rival.own)}: {_tested(rival)})")
    if not parts:
        return f"Only {default} was run on this side."
    return (
        f"The best of the other methods beside {default}: {'; '.join(parts)}. The best of many on these very scenes is "
        "in part luck, for which p-values are corrected."
    )


def _against_baselines(found: Found, side: Side) -> str:
    """Whether arithmetic does as well; it is said where it does."""
    default = found.study.default
    won, tied, lost = list[str](), list[str](), list[str]()
    for kind in side.anomalous:
        best = found.best_rival(side.name, kind, trivial=True)
        if best is None:
            continue
        said = f"{kind} ({best.rival} {area(best.area)}, {default} {area(best.own)})"
        if best.area > best.own:
            lost.append(f"{kind} ({best.rival} {area(best.area)}, {default} {area(best.own)}: {_tested(best)})")
        else:
            (won if best.verdict == "better" else tied).append(said)
    parts = []
    if lost:
        parts.append(
            f"A trivial baseline wins on {joined(lost)}: there, {default} has shown nothing that a line of arithmetic "
            "could not."
        )
    if tied:
        parts.append(f"Not distinguishable from the best trivial baseline, which reaches no more: {joined(tied)}.")
    if won:
        parts.append(f"Above every trivial baseline by more than chance explains: {joined(won)}.")
    return " ".join(parts)


def _bars(found: Found, side: Side, standings: tuple[Standing, ...]) -> Chart:
    """The mean AUROC of every method, with the best trivial baseline as a line."""
    values = [one.area for one in standings]
    intervals = [_mean_interval(one) for one in standings]
    means = baseline_means(found, side)
    trivial = {name: sum(kinds[kind] for kind in side.anomalous) / len(side.anomalous) for name, kinds in means.items()}
    best = max(trivial, key=lambda name: trivial[name])
    name = f"areas-{found.study.sides.index(side) + 1}"
    least = min([*values, trivial[best], *(low for low, _ in intervals)])
    svg = bars(
        [one.method for one in standings],
        values,
        intervals,
        axis="AUROC, mean over anomalous classes",
        start=0.5 if least < 0.9 else 0.9,
        references={f"{best} alone": trivial[best]},
        name=name,
    )
    return Chart(
        name, svg, f"{sided(side, found.study.data.clouds).capitalize()}: AUROC, means over classes and seeds."
    )


def _mean_interval(one: Standing) -> tuple[float, float]:
    lows = [one.mean(name, "auroc_low") or 0.0 for name in one.classes]
    highs = [one.mean(name, "auroc_high") or 0.0 for name in one.classes]
    return sum(lows) / len(lows), sum(highs) / len(highs)


def _decisions(found: Found, side: Side) -> Table:
    """Decisions of every method at both rates, all anomalous classes together."""
    standings = found.standings[side.name]
    rates = _rates(standings)
    place = next(index for index, one in enumerate(standings) if one.method == found.study.default)
    few = "" if len(rates) == len(RATES) else " Calibration scenes are too few for lower rates."
    return Table(
        f"Decisions at conformal thresholds, by the false-alarm rate asked for, means over seeds; on {_what(side)}."
        f"{few}",
        ("Method", *(f"{name}, {rate}%" for rate in rates for name in _HEADINGS)),
        tuple((one.method, *_decided(one, one.whole, rates)) for one in standings),
        strong=frozenset({place}),
    )


def _rates(standings: Sequence[Standing]) -> list[int]:
    """The false-alarm rates in percent that some method can promise."""
    named = [round(100 * rate) for rate in RATES]
    return [
        rate for rate in named if any(one.mean(one.whole, f"false_alarm_rate_{rate}") is not None for one in standings)
    ]


_HEADINGS = ("False alarms", "Precision", "Recall", "F1", "Accuracy")


def _decided(one: Standing, name: str, rates: Sequence[int]) -> list[str]:
    return [_share(one, name, f"{field}_{rate}") for rate in rates for field in _DECIDED]


def _what(side: Side) -> str:
    return "all anomalous scenes together" if len(side.anomalous) > 1 else f"{side.anomalous[0]} scenes"


def _share(one: Standing, name: str, field: str) -> str:
    value = one.mean(name, field)
    return "" if value is None else area(value) if field.startswith("f1") else percent(value)


def _by_class(found: Found, side: Side) -> Table:
    """The default method class by class."""
    one = found.default(side.name)
    rates = _rates([one])
    return Table(
        f"The same of {one.method} alone, class by class; among the scenes of a class and as many normal ones.",
        ("Class", *(f"{name}, {rate}%" for rate in rates for name in _HEADINGS)),
        tuple((name if name != ALL else "all together", *_decided(one, name, rates)) for name in one.rows),
    )


def files(found: Found) -> Section:
    """The files that are shipped, and what they said."""
    blocks: list[Block] = [
        Text(
            "All numbers and pictures here come from running each file itself, as a user would, on the test scenes of "
            f"its split (seed {found.study.shipped[0].seed})."
        )
    ]
    for number, file in enumerate(found.study.shipped, 1):
        blocks += _file(found, file, number)
    return Section("files", "The shipped files, and what they get right and wrong", tuple(blocks))


def promise(found: Found, file: ShippedScenes) -> Promise:
    """The false alarms of a file beside those it promises."""
    flagged = int((file.normal > file.threshold).sum())
    return promised(file.rate, file.calibration, len(file.normal), flagged, found.tables.confidence)


def found_of(file: ShippedScenes) -> dict[str, tuple[int, int]]:
    """Of each anomalous class, scenes found and tested on."""
    return {name: (int((scores > file.threshold).sum()), len(scores)) for name, scores in file.anomalous.items()}


def _file(found: Found, file: ShippedScenes, number: int) -> Iterator[Block]:
    kept = promise(found, file)
    normal, anomalous = file.verdicts
    yield Heading(f"{file.file}: says {quoted(normal)} or {quoted(anomalous)}")
    said = [f"{name} {of:,} of {all_of:,} ({percent(of / all_of)})" for name, (of, all_of) in found_of(file).items()]
    yield Facts(
        (
            ("File", f"{found.study.default}, {file.bytes / 1e6:.1f} MB, ONNX: from pixels to the answer"),
            ("Threshold", f"{file.threshold:.6g}, from {counted(file.calibration, 'calibration scene')}"),
            (
                "False alarms",
                f"at most {percent(file.rate)} asked for; {kept.rejected:,} of {kept.images:,} seen "
                f"({percent(kept.share)}, interval {shares(kept.low, kept.high)}); chance alone, in the draw of "
                f"calibration and test scenes, leaves {shares(kept.least, kept.most)}",
            ),
            ("Found", joined(said)),
            (
                "Same as the tables",
                f"its scores differ from those above by {file.difference:.2g} of their spread at most",
            ),
        )
    )
    for title, name, pictures in (
        (f"Missed: anomalous scenes called {normal}, the lowest scores first", "missed", file.missed),
        (f"False alarms: normal scenes called {anomalous}, the highest scores first", "alarms", file.alarms),
        ("Found: the highest scores of each class", "found", file.caught),
        (f"Called {normal} rightly, around the median score", "passed", file.passed),
    ):
        yield from _gallery(title, f"{name}-{number}", pictures)


def _gallery(title: str, name: str, pictures: tuple[Picture, ...]) -> Iterator[Block]:
    yield Heading(title)
    yield Gallery(name, pictures) if pictures else Text("None.")


def learning_curves(found: Found) -> Section | None:
    """Learning curves of the methods that were trained; None if there are none."""
    first: dict[tuple[str, str], Measured] = {}
    for one in found.study.measured:
        if one.curves:
            first.setdefault((one.method, one.side), one)
    if not first:
        return None
    charts = []
    for number, one in enumerate(first.values(), 1):
        title = f"{one.method}, {one.side} as normal, seed {one.seed}"
        svg = curves_figure(one.curves, title, name=f"curves-{number}")
        charts.append(Chart(f"curves-{number}", svg, f"{title}: loss of scenes learnt from and of those that watch."))
    blocks: list[Block] = [
        Text(
            "Of the first seed; curves.csv has all. A part of the training scenes only watches, and says when to end."
        ),
        Charts(tuple(charts)),
    ]
    return Section("curves", "Learning curves", tuple(blocks))
