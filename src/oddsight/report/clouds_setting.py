"""What the report of a study of clouds says of what was done: approach, data, protocol, methods, how to do it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from oddsight.methods import METHODS
from oddsight.report.comparison import duration
from oddsight.report.documents import Block, Code, Facts, Heading, Items, Section, Strips, Table, Text
from oddsight.report.wording import counted, joined, quoted
from oddsight.studies.clouds.conclusions import Found
from oddsight.studies.clouds.protocol import CLEAR, Side
from oddsight.studies.clouds.results import SceneFacts
from oddsight.studies.clouds.rows import Role

_ROLES: tuple[Role, ...] = ("training", "calibration", "normal test", "anomalous test")
_ERRORS_SHOWN = 5


def sided(side: Side, clouds: str) -> str:
    """What is normal on a side, in words."""
    if side.name == CLEAR:
        return f"all but {clouds} as normal"
    return f"{side.name} as normal"


def approach(found: Found) -> Section:
    """What was done."""
    study = found.study
    sides = joined([f"{joined(side.normal)} (against {joined(side.anomalous)})" for side in study.sides])
    blocks: list[Block] = [
        Text(
            "A detector of anomalies is shown normal scenes only and learns what they have in common; whatever it has "
            f"not seen should stand out. Here what is normal is, in turn, {sides}. No method is shown an anomalous "
            "scene before the test."
        ),
        Text(
            f"Every method learns once on every side by every seed ({_seeds(found)}), and its finished file scores all "
            "test scenes. Thresholds come from calibration scenes that it did not learn from: a conformal threshold "
            "flags at most the rate asked for of normal scenes like those, whatever the scores look like. Neither a "
            "threshold nor a setting is chosen by a test scene."
        ),
        Text(
            f"The method that is shipped, {study.default}, is a setting of the study, not a result of it. Who picks "
            "another by the tables below makes a choice on these test scenes, and should judge it on scenes that "
            "played no part here.",
            soft=True,
        ),
    ]
    return Section("approach", "Approach", tuple(blocks))


def _seeds(found: Found) -> str:
    """Which, and the methods that have fewer."""
    every = found.study.seeds
    own: dict[tuple[int, ...], set[str]] = {}
    for standings in found.standings.values():
        for one in standings:
            if len(one.seeds) < len(every):
                own.setdefault(one.seeds, set()).add(one.method)
    fewer = [
        f"{joined(sorted(names), most=len(names))} by {joined([str(seed) for seed in seeds])}"
        for seeds, names in own.items()
    ]
    return "; ".join([joined([str(seed) for seed in every]), *fewer])


def data(found: Found) -> Section:
    """The scenes, and which of them serve for what."""
    facts = found.study.data
    rows = tuple(
        (
            name,
            f"{facts.found[name]:,}",
            f"{facts.duplicates[name]:,}",
            f"{count:,}",
            joined([f"{width} \u00d7 {height}" for width, height in facts.sizes[name]], 3),
        )
        for name, count in facts.classes.items()
    )
    blocks: list[Block] = [
        Table(
            "What there was. The same picture counts once; sizes are those before all were brought to one.",
            ("Class", "Read", "Duplicates", "Distinct", "Size in pixels"),
            rows,
            words=frozenset({4}),
        ),
        Facts(tuple(_facts(facts))),
    ]
    by_class = {
        name: tuple(picture.pixels for picture in facts.examples if picture.caption == name) for name in facts.classes
    }
    shown = tuple((name, pictures) for name, pictures in by_class.items() if pictures)
    if shown:
        blocks.append(Strips("examples-scenes", shown, "Some scenes of each class, as methods see them."))
    blocks += [Heading("What serves for what"), *_protocol(found)]
    if facts.errors:
        left = len(facts.errors) - _ERRORS_SHOWN
        blocks.append(Heading("What could not be read"))
        blocks.append(Items((*facts.errors[:_ERRORS_SHOWN], *((f"and {left:,} more",) if left > 0 else ()))))
    blocks.append(
        Text(f"This run took at most {facts.limit:,} pictures of each class.", soft=True)
        if facts.limit
        else Text("Nothing is augmented for the test, and no test scene was left out.", soft=True)
    )
    return Section("data", "Data and protocol", tuple(blocks))


def _facts(facts: SceneFacts) -> Iterator[tuple[str, str]]:
    yield (
        "Brought to",
        (
            f"{facts.size} \u00d7 {facts.size} pixels of 8-bit RGB, kept without loss; larger pictures by the mean of "
            "the pixels that fall together"
        ),
    )
    common = {name: max(sizes, key=lambda size: sizes[size]) for name, sizes in facts.sizes.items()}
    if len(set(common.values())) > 1:
        named = [f"{name} {width} \u00d7 {height}" for name, (width, height) in common.items()]
        yield "Trap", f"classes come in sizes of their own ({joined(named)}): left as they are, size gives them away"
    repeated = sum(facts.duplicates.values())
    yield (
        "Duplicates",
        (
            f"{counted(repeated, 'picture')} that were there already, by content; used once, so on one side only"
            if repeated
            else "none: no two pictures of a class have the same content"
        ),
    )
    if facts.shared:
        yield "In two classes", f"{counted(facts.shared, 'picture')}, left out of both"
    yield "Unreadable", counted(len(facts.errors), "file") if facts.errors else "no file"


def _protocol(found: Found) -> Iterator[Block]:
    study = found.study
    yield Text(
        "Each normal class gives the same number of scenes; a fifth of them is tested on, a quarter of the others "
        "calibrates, and the rest is learnt from. Of each anomalous class as many scenes are tested on as there are "
        "normal ones to test on. Which scenes these are depends on their contents and the seed: each seed draws "
        "another split, and within a split no scene serves twice."
    )
    rows = []
    for side in study.sides:
        splits = [one for one in study.splits if one.side == side.name]
        first = splits[0]
        parts = (first.training, first.calibration, first.normal, first.anomalous)
        cells = [_part(counts) for counts in parts]
        rows.append((sided(side, study.data.clouds), *cells))
    yield Table(
        f"Scenes by seed {study.seeds[0]}; splits.csv has every class and seed.",
        ("Side", *(role.capitalize() for role in _ROLES)),
        tuple(rows),
        words=frozenset({1, 2, 3, 4}),
    )


def _part(counts: Mapping[str, int]) -> str:
    each = [f"{name} {count:,}" for name, count in counts.items()]
    return f"{sum(counts.values()):,}" + (f" ({', '.join(each)})" if len(each) > 1 else "")


def methods(found: Found) -> Section:
    """The methods that were run, and their papers."""
    study = found.study
    names = list(dict.fromkeys([*(one.method for one in study.measured), *(one.method for one in study.failed)]))
    rows = []
    for name in names:
        cls = METHODS.get(name)
        if cls is not None:
            rows.append((name, cls.summary, str(cls.reads), "yes" if cls.localises else "no", cls.paper))
    trained = [name for name in names if name in METHODS and METHODS[name].needs]
    blocks: list[Block] = [
        Text(
            "All with their defaults. Methods that read an embedding, patches or levels take them from "
            "EfficientNet-Lite0, trained on ImageNet, which stays as it is; methods that read pixels learn all of "
            "their network from the scenes."
        ),
        Table(
            "What ran here; \u201cwhere\u201d: whether a method has a map of where it sees an anomaly.",
            ("Method", "What it scores", "Reads", "Where", "Paper"),
            tuple(rows),
            words=frozenset({1, 2, 3, 4}),
        ),
        Heading("Measures"),
        Items(
            (
                "AUROC is the chance that an anomalous scene scores above a normal one: 0.5 is guessing, 1 perfect. "
                "Intervals after DeLong, DeLong & Clarke-Pearson, Biometrics 1988; of several seeds, the mean of their "
                "intervals.",
                "Whether two methods differ: DeLong\u2019s test on the same scenes; of several seeds twice the mean of "
                "their p-values, which holds however seeds depend on each other (Vovk & Wang, Biometrika 2020); "
                "corrected for the number of rivals after Holm, 1979.",
                "Thresholds: split-conformal (Vovk, Gammerman & Shafer, Algorithmic learning in a random world, 2005). "
                "Shares have exact binomial intervals (Clopper & Pearson, Biometrika 1934).",
                "Precision, recall, F1 and accuracy count an anomalous scene as positive, among as many scenes of each "
                "class as normal ones; with other shares of anomalies precision and accuracy are others.",
                "Trivial baselines know nothing but mean brightness, its contrast, saturation, or the energy of "
                "gradients, each read in whichever direction works better on these very scenes, in its favour.",
            )
        ),
    ]
    if trained:
        blocks.insert(1, Text(f"Trained by gradient, which takes oddsight[train]: {joined(trained, 12)}.", soft=True))
    return Section("methods", "Methods", tuple(blocks))


def not_run(found: Found) -> Iterator[Block]:
    """Methods that could not be run, and why."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in found.study.failed:
        reasons.setdefault((one.method, one.reason), []).append(f"{one.side}, seed {one.seed}")
    if reasons:
        yield Heading("Not run")
        yield Items(tuple(f"{name} ({joined(where, 3)}): {reason}" for (name, reason), where in reasons.items()))


def again(found: Found) -> Section:
    """The command, the machine, times and files."""
    study = found.study
    blocks: list[Block] = [
        Code(study.command) if study.command else Text("The command was not recorded."),
        Facts(
            (
                *study.machine.items(),
                *((what, duration(seconds)) for what, seconds in study.seconds.items()),
                ("models", joined([f"{one.file} (seed {one.seed})" for one in study.shipped])),
            )
        ),
        Text(
            f"What it has done it keeps in {quoted('work')} and takes from there when it is run again; other data, "
            "settings or versions make it anew.",
            soft=True,
        ),
        Heading("Files beside this page"),
        Facts(_FILES),
    ]
    return Section("again", "How to get it again", tuple(blocks))


_FILES = (
    ("report.md, figures/", "this page in Markdown, and its figures"),
    ("scenes.csv", "every method, side, seed and class: AUROC with interval, decisions at 1% and 5%, time and size"),
    ("baselines.csv", "trivial measures on the same scenes"),
    ("thresholds.csv", "three ways to a threshold: false alarms, and what is found of each class"),
    ("splits.csv", "how many scenes of each class serve for what"),
    ("curves.csv", "learning curves, a row an epoch"),
    ("isolation.csv", "where the cloud is: methods against masks, if these were given"),
    ("severity.csv", "detection against the amount of synthetic haze, smoke and dust"),
)
