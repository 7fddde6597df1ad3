"""What the report of a study of clouds concludes: sentences that follow from its numbers."""

from __future__ import annotations

from collections.abc import Iterator

from oddsight.report import clouds_isolation, clouds_severity
from oddsight.report.clouds_results import found_of, promise
from oddsight.report.clouds_setting import sided
from oddsight.report.comparison import duration
from oddsight.report.documents import Block, Heading, Items, Section, Text
from oddsight.report.pages import area, percent
from oddsight.report.wording import areas, counted, joined, quoted
from oddsight.studies.clouds.conclusions import Found
from oddsight.studies.clouds.protocol import CLEAR, Side

_FEW = 100
_GOOD = 0.99
_STEADY = 0.01
_POOR = 0.9


def warnings(found: Found) -> Iterator[str]:
    """What must be known before all else."""
    study = found.study
    for one in found.beaten():
        if one.verdict == "worse":
            yield (
                f"With {quoted(one.side)} as normal, {one.rival} alone tells {one.anomalous} better (AUROC "
                f"{area(one.area)}) than {study.default} does ({area(one.own)}), by more than chance explains: on "
                "these scenes no method is needed for that, or they differ by an artefact."
            )
        else:
            yield (
                f"With {quoted(one.side)} as normal, {one.rival} alone reaches more on {one.anomalous} (AUROC "
                f"{area(one.area)}) than {study.default} does ({area(one.own)}); chance may explain that."
            )
    if study.data.limit is not None:
        yield f"A short run: at most {study.data.limit:,} pictures of each class were used."
    few = [side.name for side in study.sides if len(found.shipped(side.name).normal) < _FEW]
    if few:
        tested = min(len(found.shipped(name).normal) for name in few)
        yield f"Few test scenes, {tested} normal ones on one side: only large differences can show."
    if study.data.errors:
        yield f"{counted(len(study.data.errors), 'file')} could not be read; they are named below."


def findings(found: Found) -> Iterator[str]:
    """What was found, a few sentences for each side."""
    for side in found.study.sides:
        yield _finding(found, side)
    if len(found.study.seeds) > 1:
        spread = _spread(found)
        yield (
            f"Between the {len(found.study.seeds)} seeds, which draw other scenes to learn from and to test on, the "
            f"AUROC of {found.study.default} on one class differs by {spread:.3f} at most."
        )
    if found.study.isolation is not None:
        yield f"Where the cloud is. {next(iter(clouds_isolation.verdicts(found.study.isolation)))}"
    if found.study.severity is not None:
        yield f"Synthetic. {' '.join(clouds_severity.verdicts(found.study.severity))}"


def _finding(found: Found, side: Side) -> str:
    study, standings = found.study, found.standings[side.name]
    own, file = found.default(side.name), found.shipped(side.name)
    told = [f"{name} ({area(own.mean(name, 'auroc') or 0.0)})" for name in own.classes]
    rank = [one.method for one in standings].index(study.default) + 1
    place = (
        f"the best of {len(standings)} methods"
        if rank == 1
        else f"number {rank} of {len(standings)} methods (the first is {standings[0].method}, {standings[0].area:.4f})"
    )
    kept = promise(found, file)
    seen = [f"{percent(of / all_of)} of {name}" for name, (of, all_of) in found_of(file).items()]
    return (
        f"With {sided(side, study.data.clouds)}, {study.default} tells {joined(told)} by AUROC"
        f"{', means over seeds' if len(study.seeds) > 1 else ''}: {place}. Asked for at most {percent(file.rate)} "
        f"false alarms, its file raises {percent(kept.share)} ({kept.rejected:,} of {kept.images:,}) and finds "
        f"{joined(seen)}."
    )


def _spread(found: Found) -> float:
    """The largest difference between seeds of the AUROC of the default method on any class."""
    spans = [one.span(name) for side in found.study.sides for one in [found.default(side.name)] for name in one.classes]
    return max(high - low for low, high in spans)


def tiles(found: Found) -> Iterator[tuple[str, str]]:
    """The most important numbers."""
    for side in found.study.sides:
        own, file = found.default(side.name), found.shipped(side.name)
        worst = min(own.classes, key=lambda name: own.mean(name, "auroc") or 0.0)
        what = f"on {worst}, the hardest class" if len(own.classes) > 1 else f"on {worst}"
        named = sided(side, found.study.data.clouds)
        yield area(own.mean(worst, "auroc") or 0.0), f"AUROC {what}, {named}"
        yield (
            percent(promise(found, file).share),
            f"false alarms of {file.file}; at most {percent(file.rate)} asked for",
        )


def judged(found: Found) -> Section:
    """Strengths and limitations."""
    strong = tuple(_strengths(found))
    blocks: list[Block] = [
        Heading("Strengths"),
        Items(strong) if strong else Text("None of what is checked here came out in favour of the method."),
        Heading("Limitations"),
        Items((*_weaknesses(found), *_limits(found))),
    ]
    return Section("judgement", "Strengths and limitations", tuple(blocks))


def _strengths(found: Found) -> Iterator[str]:
    study = found.study
    for side in study.sides:
        own = found.default(side.name)
        good = [name for name in own.classes if (own.mean(name, "auroc") or 0.0) >= _GOOD]
        if good:
            named = joined([f"{name} ({area(own.mean(name, 'auroc') or 0.0)})" for name in good])
            yield f"With {sided(side, study.data.clouds)}, {study.default} has an AUROC of {_GOOD} or more on {named}."
    for file in study.shipped:
        kept = promise(found, file)
        if not kept.broken:
            yield (
                f"The promise of {file.file}, at most {percent(file.rate)} false alarms, is compatible with the "
                f"{percent(kept.share)} seen on {counted(kept.images, 'scene')} that played no part in it."
            )
    beaten = {(one.side, one.anomalous) for one in found.beaten()}
    every = [(side.name, name) for side in study.sides for name in side.anomalous]
    if found.contests and not beaten:
        where = "every class of every side" if len(every) > 1 else "the class"
        yield f"{study.default} is above every trivial baseline on {where}."
    if len(study.seeds) > 1 and _spread(found) < _STEADY:
        yield f"Other splits and seeds change little: AUROCs of {study.default} differ by {_spread(found):.3f} at most."
    each = [found.default(side.name) for side in study.sides]
    seconds = max(one.mean(one.whole, "learn_seconds") or 0.0 for one in each)
    milliseconds = max(one.mean(one.whole, "image_ms") or 0.0 for one in each)
    size = max(file.bytes for file in study.shipped) / 1e6
    yield (
        f"It learns in {duration(seconds)} and is one file of {size:.1f} MB that answers in {milliseconds:.3g} ms on "
        "one core, preprocessing included."
    )


def _weaknesses(found: Found) -> Iterator[str]:
    """What came out badly."""
    study = found.study
    for one in found.beaten():
        yield (
            f"With {quoted(one.side)} as normal, {one.rival} alone reaches {area(one.area)} on {one.anomalous}, "
            f"{study.default} {area(one.own)}."
        )
    for file in study.shipped:
        kept = promise(found, file)
        if kept.broken:
            yield (
                f"The promise of {file.file} did not hold on these scenes: {percent(kept.share)} false alarms where at "
                f"most {percent(file.rate)} were asked for and chance explains up to {percent(kept.most)}."
            )
        poor = {name: of / all_of for name, (of, all_of) in found_of(file).items() if of / all_of < _POOR}
        if poor:
            named = joined([f"{percent(1 - share)} of {name}" for name, share in poor.items()])
            yield f"At its rate of {percent(file.rate)}, {file.file} misses {named}."
    for side in study.sides:
        for name in side.anomalous:
            rival = found.best_rival(side.name, name, trivial=False)
            if rival is not None and rival.verdict == "worse":
                yield (
                    f"With {sided(side, study.data.clouds)}, {rival.rival} is better on {name} ({area(rival.area)} "
                    f"against {area(rival.own)}) by more than chance explains."
                )
    if len(study.seeds) > 1 and _spread(found) >= _STEADY:
        yield f"The draw of scenes matters: between seeds, AUROCs of one class differ by up to {_spread(found):.3f}."


def _limits(found: Found) -> Iterator[str]:
    """What the study cannot tell, whatever came out."""
    study, facts = found.study, found.study.data
    common = {name: max(sizes, key=lambda size: sizes[size]) for name, sizes in facts.sizes.items()}
    alike = [name for name in facts.classes if name != facts.clouds and common[name] == common[facts.clouds]]
    other = [name for name in facts.classes if common[name] != common[facts.clouds]]
    if other:
        fair = f" {joined(alike)} came in the size of {facts.clouds}, which makes it the fairer test." if alike else ""
        yield (
            f"{joined(other)} came in another size than {facts.clouds}. All were brought to one, but traces of "
            f"reducing, or of JPEG at the first size, remain, and a method may live on them.{fair}"
        )
    if any(side.name == CLEAR for side in study.sides):
        grounds = joined([name for name in facts.classes if name != facts.clouds])
        yield (
            f"\u201c{CLEAR}\u201d knows the ground of {grounds} only: snow, cities or fields are as new to it as "
            "clouds are, and may raise alarms. What is normal must be what will be normal in use."
        )
    yield (
        f"The label is of a whole scene of {facts.size} pixels: how much of it must be cloudy to be called that, and "
        "how thin a cloud may be, these data do not say."
    )
    yield (
        "Duplicates are found by content. Scenes that overlap, or were taken minutes apart, may lie on both sides of a "
        "split, and make every method look better than on scenes of another place."
    )
    yield (
        "The false-alarm rate holds for scenes like those of calibration. Another sensor, season or processing is a "
        "new normal, to learn and to calibrate again."
    )


def recommended(found: Found) -> Section:
    """What to do."""
    return Section("recommendations", "Recommendations", (Items(tuple(_recommendations(found))),))


def _recommendations(found: Found) -> Iterator[str]:
    study = found.study
    yield from _which_side(found)
    for side in study.sides:
        better = [
            (name, rival)
            for name in side.anomalous
            if (rival := found.best_rival(side.name, name, trivial=False)) is not None and rival.verdict == "worse"
        ]
        named = joined([f"{rival.rival} for {name}" for name, rival in better])
        if better:
            yield (
                f"With {sided(side, study.data.clouds)}, look at {named}, which did better here than {study.default}; "
                "judge the choice on scenes that played no part in it."
            )
        else:
            yield (
                f"With {sided(side, study.data.clouds)}, take {study.default}: no other method was better on any class "
                "by more than chance explains, and it needs no choice."
            )
    for one in found.beaten():
        yield (
            f"Where {one.anomalous} is all that must be told from {one.side}, try {one.rival} first: it is one line of "
            "arithmetic."
        )
    yield (
        "Set the threshold by a false-alarm rate on calibration scenes, not by hand or by deviations: the section on "
        "thresholds has what these cost here."
    )
    rate = max(file.rate for file in study.shipped)
    fewest = min(file.calibration for file in study.shipped)
    if rate > study.rate:
        yield (
            f"Add normal scenes: {counted(fewest, 'calibration scene')} can promise no less than {percent(rate)}, and "
            f"{percent(study.rate)} was asked for."
        )
    yield (
        "Before use, run the file on scenes of your own sensor that are known to be normal, and compare the share it "
        "flags with the rate asked for."
    )


def _which_side(found: Found) -> Iterator[str]:
    """Which of the two sides finds clouds better, where both were run."""
    study = found.study
    names = [side.name for side in study.sides]
    if CLEAR not in names or study.data.clouds not in names:
        return
    clouds, clear = found.default(study.data.clouds), found.default(CLEAR)
    low, high = clear.mean(clear.whole, "auroc_low") or 0.0, clear.mean(clear.whole, "auroc_high") or 0.0
    worst = min(float(clouds.mean(name, "auroc") or 0.0) for name in clouds.classes)
    yield (
        f"To find clouds over ground that is known, learn from clear scenes ({area(clear.area)}, interval "
        f"{areas(low, high)}): what else appears is found, too. To find usable scenes among cloudy ones of any ground, "
        f"learn from clouds ({area(clouds.area)}; {area(worst)} on the hardest class): then unknown "
        "ground is no false alarm but what is looked for."
    )
