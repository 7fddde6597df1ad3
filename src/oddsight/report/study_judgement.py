"""What a study's report judges: strengths, limitations, and which recipe, score and rate to take."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from oddsight.report.comparison import duration
from oddsight.report.documents import Block, Heading, Items, Section, Table, Text
from oddsight.report.pages import area, percent
from oddsight.report.study_results import mistaken
from oddsight.report.study_setting import pretrained
from oddsight.report.wording import counted, joined, points, quoted
from oddsight.studies.conclusions import Conclusions, Standing, paired
from oddsight.studies.rows import ShippedRow

_SMALL = 0.005
_FEW_IMAGES = 100
_GOOD = 0.9
_STEADY = 0.01


def judged(found: Conclusions) -> Section:
    """Strengths, limitations and what to do."""
    strong = tuple(_strengths(found))
    blocks: list[Block] = [
        Heading("Strengths"),
        Items(strong) if strong else Text("None of what is checked here came out in favour of this file."),
        Heading("Limitations"),
        Items((*_weaknesses(found), *_limits(found))),
    ]
    return Section("judgement", "Strengths and limitations", tuple(blocks))


def _between_seeds(found: Conclusions) -> float | None:
    """The largest difference of accuracy between seeds of one recipe; None if each was trained once."""
    return max((one.highest - one.lowest for one in found.standings if len(one.seeds) > 1), default=None)


def _of_classes(found: Conclusions) -> list[ShippedRow]:
    return [
        row for row in found.tables.shipped if row.measure == "rejected" and row.images_of == "class" and row.images
    ]


def _of_unknowns(found: Conclusions, near: bool) -> list[ShippedRow]:
    of = f"{'near' if near else 'far'} unknowns"
    return [row for row in found.tables.shipped if row.images_of == of]


def _strengths(found: Conclusions) -> Iterator[str]:
    promise, file = found.promise, found.study.shipped
    seen = f"on {counted(promise.images, 'test image')} that played no part in it"
    if promise.share <= promise.rate:
        yield f"The promise of at most {percent(promise.rate)} rejections held {seen}: {percent(promise.share)}."
    elif not promise.broken:
        yield (
            f"The promise of at most {percent(promise.rate)} rejections is compatible with the "
            f"{percent(promise.share)} seen {seen}."
        )
    right, wrong = file.predicted == file.labels, file.predicted != file.labels
    if wrong.any() and right.any():
        of_wrong, of_right = float(file.rejected[wrong].mean()), float(file.rejected[right].mean())
        if of_wrong > 2 * of_right:
            yield (
                f"What it rejects of the classes is mostly what it finds hard: {percent(of_wrong)} of its mistakes, "
                f"but {percent(of_right)} of what it names rightly."
            )
    row = next(row for row in found.tables.classification if (row.run, row.seed) == (found.run.name, found.run.seed))
    if row.ece_scaled < min(row.ece, 0.02):
        yield (
            f"Its probabilities can be believed on images like these: an ECE of {row.ece_scaled:.3f} after temperature "
            f"scaling ({row.ece:.3f} before)."
        )
    easy = [one for near in (True, False) for one in _of_unknowns(found, near) if (one.share or 0.0) >= _GOOD]
    if easy:
        yield (
            f"It finds {percent(_GOOD)} or more of "
            f"{joined([f'{one.name} ({percent(one.share or 0.0)})' for one in easy])}."
        )
    if found.study.unknowns and all(one.baselines for one in found.study.unknowns) and not found.beaten:
        yield "On every set of unknowns its score beats every trivial baseline."
    spread = _between_seeds(found)
    if spread is not None and spread < _STEADY:
        yield f"Trained with other seeds, recipes reach about the same: accuracies differ by {points(spread)} at most."
    yield (
        f"It is one file of {file.bytes / 1e6:.1f} MB that answers in {file.milliseconds:.3g} ms, preprocessing "
        "included."
    )


def _weaknesses(found: Conclusions) -> Iterator[str]:
    """What came out badly."""
    rate = found.study.shipped.rate
    uneven = sorted((row for row in _of_classes(found) if (row.low or 0.0) > rate), key=lambda row: -(row.share or 0.0))
    if uneven:
        named = joined([f"{row.name} ({percent(row.share or 0.0)})" for row in uneven], 5)
        why = (
            "the promise is for images that are taken for a class, not for images of a class"
            if found.study.shipped.per_class
            else "the promise is for all classes together, not for each"
        )
        yield f"Rejections fall unevenly: more than {percent(rate)} are rejected of {named}; {why}."
    spread = _between_seeds(found)
    if spread is not None and spread >= _STEADY:
        yield (
            f"Luck of training matters: between seeds of one recipe accuracies differ by up to {points(spread)}. A "
            "recipe that was trained once may have been lucky or not."
        )
    pairs = mistaken(found)[:3]
    if pairs:
        taken = [f"{one.truth} taken for {one.predicted} ({percent(one.count / one.images)})" for one in pairs]
        yield f"Confused most, as shares of the true class: {joined(taken)}."
    for near, word in ((True, "near"), (False, "far")):
        hard = [row for row in _of_unknowns(found, near) if (row.share or 0.0) < 0.5]
        if hard:
            named = joined([f"{row.name} ({percent(row.share or 0.0)})" for row in hard])
            yield (
                f"Less than half is found, at {percent(rate)} rejections, of {'this' if len(hard) == 1 else 'these'} "
                f"{word} {'set' if len(hard) == 1 else 'sets'}: {named}. What is missed gets the name of a class."
            )
    if found.beaten:
        named = joined([f"{one.unknown} ({one.baseline} {area(one.area)})" for one in found.beaten])
        yield f"A trivial baseline beats the shipped score on {named}."


def _limits(found: Conclusions) -> Iterator[str]:
    """What these numbers do not say."""
    study, promise = found.study, found.promise
    single = [one for one in found.standings if len(one.seeds) == 1]
    if single:
        all_of_them = len(single) == len(found.standings)
        which = "Every recipe" if all_of_them else joined([quoted(one.title) for one in single], 9)
        yield (
            f"{which} {'was' if all_of_them or len(single) == 1 else 'were'} trained once, with one seed. Intervals "
            "cover the draw of test images, not the luck of training: small differences between recipes may turn with "
            "another seed."
        )
    spread = np.sqrt(promise.rate * (1 - promise.rate) / (promise.calibration + 2))
    yield (
        f"{counted(promise.calibration, 'calibration image')} can promise rates in steps of "
        f"{percent(1 / (promise.calibration + 1))} and not below that. The threshold itself is a draw: another "
        f"choice of calibration images would move the true rejection rate by about {points(spread)} either way (one "
        "standard deviation)."
    )
    yield (
        "The promise holds for images like those of calibration. Another camera, compression or resolution is a change "
        "that it does not cover."
    )
    rows = _of_classes(found)
    widest = max(rows, key=lambda row: (row.high or 0.0) - (row.low or 0.0), default=None)
    if widest is not None:
        yield (
            f"By class there are {_spread([row.images for row in rows])} test images: rejections of {widest.name} may "
            f"truly be anywhere from {percent(widest.low or 0.0)} to {percent(widest.high or 0.0)}."
        )
    yield from _limits_of_unknowns(found)
    size = study.data.size
    if size and found.run.size > max(size):
        yield (
            f"Pictures of {size[1]} \u00d7 {size[0]} pixels are enlarged to {found.run.size} before the network: it "
            "sees no more than they hold."
        )
    where = study.machine.get("processor")
    yield (
        f"Times were taken{f' on {where}' if where else ' on one machine'}, and depend on what else ran there. A "
        "recipe might gain by more epochs or other settings than it was given."
    )
    yield from _limits_of_data(found)


def _limits_of_unknowns(found: Conclusions) -> Iterator[str]:
    study = found.study
    if not study.unknowns:
        yield (
            "Without images of other things nothing is known of how well it says that an image is of none of the "
            "classes."
        )
        return
    missing = [word for near, word in ((True, "near"), (False, "far")) if not found.sets(near)]
    if missing:
        yield f"No {missing[0]} set was given: such images were not tested."
    few = [one for one in study.unknowns if one.count < _FEW_IMAGES]
    if few:
        yield (
            f"Fewer than {_FEW_IMAGES} images each: {joined([f'{one.name} ({one.count})' for one in few])}. Mind the "
            "intervals."
        )
    yield "Other sets of unknown images were not tested, and may be harder or easier."
    scores = len(found.own)
    if scores > 1:
        yield (
            f"What is best of {scores} scores here was found by looking at these very sets, which flatters it; and so "
            "does it flatter a shipped score that was chosen after such a look."
        )
    if any(pretrained(run) for run in study.runs):
        yield (
            "Some runs start from a network that had learnt from other images before (ImageNet, for the built-in "
            "ones). Things that are in those images are not unknown to it, even if they are to the classifier."
        )
    shared = [one for one in study.unknowns if one.shared]
    if shared:
        named = joined([f"{one.shared:,} of {one.name}" for one in shared])
        yield (
            f"Some unknown pictures were among those of the known classes and were left out: {named}. Others like them "
            "may remain."
        )


def _limits_of_data(found: Conclusions) -> Iterator[str]:
    facts = found.study.data
    if facts.leaks:
        yield (
            f"{counted(facts.leaks, 'test picture')} {'was' if facts.leaks == 1 else 'were'} also to learn from, and "
            f"{'was' if facts.leaks == 1 else 'were'} left out; near-duplicates, which differ in a few pixels, cannot "
            "be seen this way and flatter every recipe."
        )
    else:
        yield "Only exact copies were looked for between training and test: near-duplicates would flatter every recipe."
    if facts.unreadable:
        yield (
            f"{counted(facts.unreadable, 'file')} could not be read and {'is' if facts.unreadable == 1 else 'are'} in "
            "no number."
        )


def _spread(counts: list[int]) -> str:
    return f"{min(counts):,}" if min(counts) == max(counts) else f"{min(counts):,} to {max(counts):,}"


def recommended(found: Conclusions) -> Section:
    """Which recipe, score and rate."""
    blocks: list[Block] = [Heading("Which recipe"), *_recipes(found)]
    if found.study.unknowns:
        blocks += [Heading("Which score"), *_which_score(found), Heading("Which rate"), *_which_rate(found)]
    return Section("recommendations", "Recommendations", tuple(blocks))


def _recipes(found: Conclusions) -> Iterator[Block]:
    kept = found.frontier()
    if len(found.standings) == 1:
        only = found.standings[0]
        yield Text(
            f"Only {quoted(only.title)} was trained ({duration(only.seconds)}, {percent(only.accuracy)}): there is "
            "nothing to compare it with."
        )
        return
    yield Table(
        "Recipes than which none is both quicker to train and more accurate, on this machine; times with what a recipe "
        "starts from.",
        ("Recipe", "Training", "Accuracy"),
        tuple((one.title, duration(one.seconds), percent(one.accuracy)) for one in kept),
    )
    steps = [_step(found, earlier, later) for earlier, later in pairwise(kept)]
    left = [quoted(one.title) for one in found.standings if one not in kept]
    text = f"{'. '.join(steps)}. " if steps else f"{quoted(kept[0].title)} is both the quickest and the most accurate. "
    text += f"For naming classes alone, nothing here speaks for {joined(left)}." if left else ""
    yield Text(text.strip())


def _step(found: Conclusions, earlier: Standing, later: Standing) -> str:
    test = paired(*(next(run for run in found.study.runs if run.name == one.name) for one in (earlier, later)))
    chance = test.p_value >= 1 - found.tables.confidence
    return (
        f"{quoted(later.title)} costs {duration(later.seconds - earlier.seconds)} more training than "
        f"{quoted(earlier.title)} and gains {points(later.accuracy - earlier.accuracy)}"
        f"{', which chance explains' if chance else ''}"
    )


def _which_score(found: Conclusions) -> Iterator[Block]:
    own = next(one for one in found.own if one.score == found.scored.name)
    items = []
    for near, word in ((True, "near"), (False, "far")):
        best = found.best_score(near)
        if best is None:
            continue
        value, ours = best.of(near) or 0.0, own.of(near) or 0.0
        if best.score == own.score:
            items.append(
                f"On {word} sets no score of this run does better than the shipped {own.score} ({area(ours)})."
            )
        elif value - ours < _SMALL:
            items.append(
                f"On {word} sets {best.score} leads the shipped {own.score} by {value - ours:.4f} of AUROC, which is "
                "no reason to change."
            )
        else:
            items.append(
                f"On {word} sets {best.score} would do better than the shipped {own.score}: a mean AUROC of "
                f"{area(value)} against {area(ours)}. Judge it on other unknown images before changing."
            )
        top = max(found.averages, key=lambda one: one.of(near) or 0.0)
        if (top.run, top.seed) != (found.run.name, found.run.seed) and (top.of(near) or 0.0) - value >= _SMALL:
            items.append(
                f"The highest of all runs on {word} sets is {top.score} on {top.run}, seed {top.seed} "
                f"({area(top.of(near) or 0.0)})."
            )
    yield Items(tuple(items))


def _which_rate(found: Conclusions) -> Iterator[Block]:
    if not found.rates:
        yield Text("There are too few calibration images to compare rates.")
        return
    near, far = bool(found.sets(True)), bool(found.sets(False))
    yield Table(
        f"What a rate costs and finds, by {found.scored.name} with one threshold for all classes; means over sets. The "
        "rate of the file stands out; it can be changed on the finished file.",
        (
            "Rate asked for",
            "Test images rejected",
            *(("Near found",) if near else ()),
            *(("Far found",) if far else ()),
        ),
        tuple(
            (
                percent(one.rate),
                percent(one.realised),
                *(percent(value) for value in (one.near, one.far) if value is not None),
            )
            for one in found.rates
        ),
        strong=frozenset(index for index, one in enumerate(found.rates) if one.rate == found.study.shipped.rate),
    )
    yield from _traded(found, near)


def _traded(found: Conclusions, near: bool) -> Iterator[Block]:
    """What going from the lowest to the highest rate buys."""
    low, high = found.rates[0], found.rates[-1]
    word = "near" if near else "far"
    less, more = (one.near if near else one.far for one in (low, high))
    if less is None or more is None or low is high:
        return
    cost = high.realised - low.realised
    yield Text(
        f"Going from {percent(low.rate)} to {percent(high.rate)} rejects {points(cost)} more of the classes and finds "
        f"{points(more - less)} more of the {word} unknowns. Where a wrong name costs more than a picture looked at by "
        "a person, take the higher rate; where few unknown images come, the lower one."
    )
