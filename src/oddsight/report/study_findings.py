"""What a study's report concludes: sentences that follow from its numbers, and say how far they can be trusted."""

from __future__ import annotations

from collections.abc import Iterator

from oddsight.report.comparison import duration
from oddsight.report.pages import area, percent
from oddsight.report.study_results import detection
from oddsight.report.wording import counted, joined, numbered, points, quoted, shares
from oddsight.studies.conclusions import PICTURE_SIZE, Average, Conclusions, Standing, paired

_TEXTBOOK = "textbook"


def warnings(found: Conclusions) -> Iterator[str]:
    """What must be known before all else."""
    content = [one for one in found.beaten if one.baseline != PICTURE_SIZE]
    for one in sorted(content, key=lambda one: not one.by_all):
        best = f"{one.best.score} of {one.best.run}: {area(one.best.auroc)}"
        yield f"On {one.unknown}, {one.baseline} alone reaches an AUROC of {area(one.area)}, " + (
            f"more than the best of all scores ({best}): on this set no score has shown more than arithmetic could."
            if one.by_all
            else f"more than the shipped score ({area(one.shipped)}), though not more than the best ({best})."
        )
    sizes = [one for one in found.beaten if one.baseline == PICTURE_SIZE]
    if sizes:
        than = "every score does" if all(one.by_all for one in sizes) else "the shipped score does"
        yield (
            f"The size of pictures alone tells {joined([f'{one.unknown} ({area(one.area)})' for one in sizes])} from "
            f"the classes better than {than}. The network sees all in one size, but what enlarging and shrinking leave "
            "behind may be what scores see there."
        )
    if found.promise.broken:
        yield (
            f"The file rejects {percent(found.promise.share)} of the test images where at most "
            f"{percent(found.promise.rate)} were asked for, more than chance explains."
        )


def findings(found: Conclusions) -> Iterator[str]:
    """What was found, a sentence or two each."""
    yield _accuracy(found)
    yield from _gain(found)
    yield _scores(found)
    yield _promise(found)
    yield _found(found)


def tiles(found: Conclusions) -> Iterator[tuple[str, str]]:
    """The most important numbers of the shipped file."""
    right = found.tables.shipped[0]
    if right.share is not None and right.low is not None and right.high is not None:
        yield percent(right.share), f"of test images named rightly by the shipped file, {shares(right.low, right.high)}"
    asked = f"at most {percent(found.promise.rate)} asked for"
    yield percent(found.promise.share), f"of test images rejected, {asked}"
    for near, word in ((True, "near"), (False, "far")):
        if found.sets(near):
            sets = counted(len(found.sets(near)), f"{word} set")
            yield detection(found, near).replace(" to ", "\u2013"), f"of unknown images found, on {sets}"


def _accuracy(found: Conclusions) -> str:
    best, count = found.best, len(found.standings)
    images = found.tables.classification[0].test_images
    rows = [row for row in found.tables.classification if row.run == best.name]
    sure = (
        f"interval {shares(rows[0].accuracy_low, rows[0].accuracy_high)}"
        if len(rows) == 1
        else f"{percent(best.lowest)} to {percent(best.highest)} over {len(rows)} seeds"
    )
    if count == 1:
        of = counted(images, "test image")
        return f"{quoted(best.title)} names {percent(best.accuracy)} of {of} rightly ({sure})."
    second = sorted(found.standings, key=lambda one: -one.accuracy)[1]
    first = (
        f"Of {numbered(count)} recipes, {quoted(best.title)} names the most test images rightly, "
        f"{percent(best.accuracy)} of {images:,} ({sure})"
    )
    if best.accuracy == second.accuracy:
        return f"{first}; {quoted(second.title)} names as many."
    test = paired(*(next(run for run in found.study.runs if run.name == one.name) for one in (best, second)))
    told = (
        "too close for these images to tell them apart"
        if test.p_value >= 1 - found.tables.confidence
        else "a difference that chance in the test images does not explain"
    )
    return f"{first}; {quoted(second.title)} follows with {percent(second.accuracy)}, {told}."


def _gain(found: Conclusions) -> Iterator[str]:
    """How much the best recipe gains on the simplest, or on the first."""
    if len(found.standings) < 2:
        return
    simple = next((one for one in found.standings if one.name == _TEXTBOOK), found.standings[0])
    best = found.best
    if simple is best:
        yield f"{quoted(simple.title)} is not outdone by any other recipe."
        return
    yield (
        f"Against {quoted(simple.title)} ({percent(simple.accuracy)}) that is a gain of "
        f"{points(best.accuracy - simple.accuracy)}, {_fewer(simple, best)}, for {duration(best.seconds)} of training "
        f"instead of {duration(simple.seconds)}."
    )


def _fewer(simple: Standing, best: Standing) -> str:
    wrong, left = 1 - simple.accuracy, 1 - best.accuracy
    return f"{1 - left / wrong:.0%} fewer mistakes" if left else "and no mistakes are left"


def _scores(found: Conclusions) -> str:
    if not found.study.unknowns:
        return (
            "No images of other things were given, so how well any score tells them from the classes was not measured."
        )
    best = [one for near in (True, False) if (one := found.best_score(near)) is not None]
    sides = [near for near in (True, False) if found.sets(near)]
    clauses = [_where(found, one, near) for one, near in zip(best, sides, strict=True)]
    names = [f"the shipped {one.score}" if one.score == found.scored.name else one.score for one in best]
    if len(found.own) == 1:
        return f"The only score on the shipped run, {found.scored.name}, was measured {joined(clauses)}."
    first = f"Of {numbered(len(found.own))} scores on the shipped run, {names[0]} tells unknown images best"
    if len(set(names)) == 1:
        return f"{first} {'both ' if len(clauses) > 1 else ''}{joined(clauses)}."
    return f"{first} {clauses[0]}, {names[1]} {clauses[1]}."


def _where(found: Conclusions, best: Average, near: bool) -> str:
    """Near or far, with the area of the best score there, and of the shipped one if that is another."""
    sets = len(found.sets(near))
    value = area(best.of(near) or 0.0)
    over = f"mean AUROC {value} over {numbered(sets)} sets" if sets > 1 else f"AUROC {value}"
    own = next(one for one in found.own if one.score == found.scored.name)
    beside = "" if best.score == own.score else f", against {area(own.of(near) or 0.0)} of the shipped {own.score}"
    return f"{'near' if near else 'far from'} the classes ({over}{beside})"


def _promise(found: Conclusions) -> str:
    promise = found.promise
    per_class = " in each class that it names" if found.study.shipped.per_class else ""
    seen = (
        f"The shipped file was asked to reject at most {percent(promise.rate)} of the images of its classes{per_class} "
        f"and rejects {percent(promise.share)} of {counted(promise.images, 'test image')} (interval "
        f"{shares(promise.low, promise.high)})"
    )
    chance = (
        f"with {counted(promise.calibration, 'calibration image')}, chance alone leaves "
        f"{shares(promise.least, promise.most)}"
    )
    if promise.broken:
        return f"{seen}, more than was promised and more than chance explains: {chance}."
    if promise.generous:
        return f"{seen}, which keeps the promise with more room than chance explains: {chance}."
    return f"{seen}. That is compatible with the promise: {chance}."


def _found(found: Conclusions) -> str:
    """What is found at that price, and what it does to accuracy."""
    sets = [(near, word) for near, word in ((True, "near"), (False, "far")) if found.sets(near)]
    right, accepted = found.tables.shipped[:2]
    gain = ""
    if right.share is not None and accepted.share is not None:
        gain = (
            f"Of the test images that it accepts it names {percent(accepted.share)} rightly, against "
            f"{percent(right.share)} of all."
        )
    if not sets:
        return gain or "It accepts no test image."
    parts = [
        f"{detection(found, near)} of the unknown images of {numbered(len(found.sets(near)))} {word} "
        f"{'set' if len(found.sets(near)) == 1 else 'sets'}"
        for near, word in sets
    ]
    return f"At that price it finds {joined(parts)}. {gain}".strip()
