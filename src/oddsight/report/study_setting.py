"""What a study's report says of what was done: the approach, the data, the methods, and how to do it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from oddsight import scores
from oddsight.networks.classifier_settings import NETWORKS
from oddsight.report.comparison import duration
from oddsight.report.documents import Block, Code, Facts, Heading, Items, Section, Strips, Table, Text
from oddsight.report.pages import percent
from oddsight.report.wording import counted, joined, quantity
from oddsight.studies.conclusions import Conclusions
from oddsight.studies.results import DataFacts, Run, Study, Unknowns
from oddsight.studies.tables import nearness

MOST_CLASSES = 20
"""Beyond this many classes, tables and pictures show only some of them."""

_USE = {
    "training": "learnt from",
    "validation": "fit the temperature, and follow the training",
    "calibration": "set thresholds",
    "test": "every number of this page",
}


def approach(found: Conclusions) -> Section:
    """What was done and which image served for what."""
    study, file = found.study, found.study.shipped
    counts = {split: sum(each) for split, each in study.data.counts.items()}
    per_class = ", for each class that it names" if file.per_class else ""
    blocks: list[Block] = [
        Text(
            f"A classifier can only choose among its classes. To a picture of anything else it gives one of them too, "
            f"often surely. Here {counted(len(found.standings), 'recipe')} for a classifier of "
            f"{counted(len(study.data.classes), 'class', 'classes')} "
            f"{'is' if len(found.standings) == 1 else 'are'} trained; on top of each, out-of-distribution scores say "
            "how little an image belongs to any class. One run and one score become one file, which names an image's "
            f"class or says \u201cnone of these\u201d. It is built to reject at most {percent(file.rate)} of the "
            f"images of its own classes{per_class}: its threshold is a quantile of the scores of calibration images "
            "that nothing was learnt from (split-conformal calibration). Then that very file is run on every test image"
            f"{' and every unknown one' if study.unknowns else ''}."
        ),
        Table(
            "Which images served for what. No image serves twice.",
            ("Images", "How many", "Used to"),
            tuple((split, f"{count:,}", _USE.get(split, "")) for split, count in counts.items()),
            words=frozenset({2}),
        ),
    ]
    if study.unknowns:
        blocks.append(
            Text(
                "Images of none of the classes only tested: no network, score or threshold has seen any. Near sets "
                "resemble the classes (other things in pictures of the same sort), far sets do not; whoever runs the "
                "study says which is which."
            )
        )
    blocks.append(
        Text(
            "Which run and which score are shipped is a setting of the study, not a result of it. Who now picks others "
            "by the tables below makes a choice on these test images, and should judge it on images that played no "
            "part here.",
            soft=True,
        )
    )
    return Section("approach", "Approach", tuple(blocks))


def data(study: Study) -> Section:
    """The labelled images and the unknown ones."""
    facts = study.data
    blocks: list[Block] = [_counts(facts), Facts(tuple(_facts(facts)))]
    by_class: dict[str, list[Any]] = {}
    for picture in facts.examples:
        by_class.setdefault(picture.caption, []).append(picture.pixels)
    if by_class:
        rows = tuple((name, tuple(pixels)) for name, pixels in list(by_class.items())[:MOST_CLASSES])
        some = f", of {len(rows)} of {len(by_class)} classes" if len(rows) < len(by_class) else ""
        blocks.append(Strips("examples-classes", rows, f"Some of the training pictures{some}."))
    blocks.append(Heading("Images of none of the classes"))
    if not study.unknowns:
        blocks.append(Text("None were given: how well they are told from the classes was not measured."))
        return Section("data", "Data and preprocessing", tuple(blocks))
    sets = sorted(study.unknowns, key=lambda one: not one.near)
    blocks.append(
        Table(
            "Left out are those that are also among the images of the classes.",
            ("Set", "Kind", "Images", "Left out"),
            tuple((one.name, nearness(one.near), f"{one.count:,}", f"{one.shared:,}") for one in sets),
            words=frozenset({1}),
        )
    )
    rows = tuple((_named(one), tuple(picture.pixels for picture in one.examples)) for one in sets if one.examples)
    if rows:
        blocks.append(Strips("examples-unknown", rows, "Some of each set, shown in equal size."))
    return Section("data", "Data and preprocessing", tuple(blocks))


def _named(one: Unknowns) -> str:
    return f"{one.name} ({nearness(one.near)})"


def _counts(facts: DataFacts) -> Table:
    splits = tuple(facts.counts)
    if len(facts.classes) <= MOST_CLASSES:
        rows = [
            (name, *(f"{facts.counts[split][index]:,}" for split in splits)) for index, name in enumerate(facts.classes)
        ]
    else:
        named = (("fewest of a class", min), ("most of a class", max))
        rows = [(name, *(f"{pick(facts.counts[split]):,}" for split in splits)) for name, pick in named]
    total = ("all", *(f"{sum(facts.counts[split]):,}" for split in splits))
    return Table(
        f"Images of {counted(len(facts.classes), 'class', 'classes')}, by what they serve for.",
        ("Class", *splits),
        (*rows, total),
        strong=frozenset({len(rows)}),
    )


def _facts(facts: DataFacts) -> Iterator[tuple[str, str]]:
    size = f"{facts.size[1]} \u00d7 {facts.size[0]} pixels" if facts.size else "differs from picture to picture"
    yield "Size", f"{size}; every network resizes pictures to what it reads"
    yield "Mean", f"{_channels(facts.mean)} of red, green and blue, from 0 to 1, over the training pictures"
    yield "Standard deviation", _channels(facts.std)
    repeated = [f"{count:,} in {split}" for split, count in facts.duplicates.items() if count]
    within = f"{joined(repeated)}: the same picture more than once" if repeated else "none within a split"
    yield "Duplicates", within
    yield (
        "Leaks",
        (
            f"{counted(facts.leaks, 'test picture')} also among those to learn from; left out of the test"
            if facts.leaks
            else "no test picture is among those to learn from"
        ),
    )
    yield "Unreadable", counted(facts.unreadable, "file") if facts.unreadable else "no file"


def _channels(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def methods(study: Study) -> Section:
    """Runs, scores and measures, with their papers."""
    runs = {run.name: run for run in reversed(study.runs)}
    ordered = [runs[name] for name in dict.fromkeys(run.name for run in study.runs)]
    blocks: list[Block] = [
        Heading("Classifiers"),
        Facts(
            tuple(
                (f"{run.title} ({run.name})", f"{run.description} Settings: {_settings(run.settings)}.")
                for run in ordered
            )
        ),
    ]
    papers = _training_papers(ordered)
    if papers:
        blocks += [Text("What they are made of:", soft=True), Items(tuple(papers))]
    names = list(dict.fromkeys(scored.name for run in study.runs for scored in run.scores))
    if names:
        blocks += [
            Heading("Scores"),
            Table(
                "Each is fitted on the embeddings of the training images, and higher for what belongs less to the "
                "classes.",
                ("Score", "What it looks at", "Paper"),
                tuple(_score(name) for name in names),
                words=frozenset({1, 2}),
            ),
        ]
    blocks += [Heading("Measures"), Items(tuple(_measures(bool(study.unknowns))))]
    return Section("methods", "Methods", tuple(blocks))


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in settings.items()) or "none recorded"


def _value(value: Any) -> str:  # noqa: ANN401 - whatever JSON can hold
    if isinstance(value, list | tuple):
        return " + ".join(map(str, value)) or "none"
    if value is None or value == "":
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _score(name: str) -> tuple[str, str, str]:
    if name not in scores.names() and scores.PLUS not in name:
        return name, "", ""
    known = scores.by_name(name)
    return name, known.summary, known.paper


def _training_papers(runs: list[Run]) -> Iterator[str]:
    """Papers of what the recipes' settings switch on."""
    for wanted, paper in (
        (lambda s: str(s.get("network", s.get("backbone", ""))).startswith("efficientnet"),
         "EfficientNet: Tan & Le, Rethinking model scaling for convolutional neural networks, ICML 2019."),
        (lambda s: s.get("optimizer") == "adamw",
         "One cycle of the learning rate: Smith & Topin, Super-convergence, 2019."),
        (lambda s: s.get("optimizer") == "adam",
         "Adam: Kingma & Ba, Adam: A method for stochastic optimization, ICLR 2015."),
        (lambda s: s.get("optimizer") == "adamw",
         "AdamW: Loshchilov & Hutter, Decoupled weight decay regularization, ICLR 2019."),
        (lambda s: s.get("label_smoothing"),
         "Label smoothing: Szegedy et al., Rethinking the Inception architecture for computer vision, CVPR 2016."),
        (lambda s: "cutout" in (s.get("augment") or ()),
         "Cutout: DeVries & Taylor, Improved regularization of convolutional neural networks with cutout, 2017."),
        (lambda s: s.get("averaging"),
         "Averaged weights: Polyak & Juditsky, Acceleration of stochastic approximation by averaging, 1992."),
        (lambda s: s.get("loss") == "logitnorm",
         "LogitNorm: Wei et al., Mitigating neural network overconfidence with logit normalization, ICML 2022."),
        (lambda s: "rotation" in (s.get("extras") or ()),
         "Rotations: Hendrycks et al., Using self-supervised learning can improve model robustness and uncertainty, "
         "NeurIPS 2019."),
        (lambda s: "outliers" in (s.get("extras") or ()),
         "Outliers: Hendrycks et al., Deep anomaly detection with outlier exposure, ICLR 2019; here the outliers are "
         "mixed from training pictures."),
        (lambda s: "average_of" in s,
         "Averages of trained networks: Wortsman et al., Model soups: averaging weights of multiple fine-tuned models "
         "improves accuracy without increasing inference time, ICML 2022."),
    ):  # fmt: skip
        named = [run.name for run in runs if wanted(run.settings)]
        if named:
            yield f"{paper} ({joined(named)})"


def _measures(unknown: bool) -> Iterator[str]:
    yield "Accuracy and other shares have exact binomial intervals: Clopper & Pearson, Biometrika 1934."
    yield ("Precision, recall and F1 of a class count it against all others; macro averages weigh every class alike.")
    yield (
        "NLL is the mean negative log-likelihood in nats. ECE is the mean gap between confidence and accuracy in 15 "
        "bins, and temperature scaling divides logits by one number fitted on the validation images: Guo et al., On "
        "calibration of modern neural networks, ICML 2017. Brier score: Brier, Monthly Weather Review 1950."
    )
    yield (
        "The threshold: Vovk, Gammerman & Shafer, Algorithmic learning in a random world, 2005. For images like those "
        "of calibration, the share rejected is at most the rate asked for, on average over draws of calibration images."
    )
    if not unknown:
        return
    yield (
        "AUROC is the chance that an unknown image scores above one of the classes: 0.5 is guessing, 1 perfect. "
        "Intervals after DeLong, DeLong & Clarke-Pearson, Biometrics 1988."
    )
    yield (
        "FPR95 is the share of test images rejected when at least 95% of the unknown ones are, as OpenOOD v1.5 counts "
        "(Zhang et al., 2023); lower is better. The table of files has the other convention too."
    )
    yield (
        "AUPR is average precision, with the unknown as positives unless said otherwise; it depends on how many images "
        "each side has. OSCR is the area under correct classification against unknowns accepted: Dhamija et al., "
        "Reducing network agnostophobia, NeurIPS 2018."
    )
    yield (
        "Trivial baselines are measures that know nothing, such as mean brightness, each read in whichever direction "
        "works better on these very images, in its favour."
    )


def again(found: Conclusions) -> Section:
    """The command, the machine, times and files."""
    study = found.study
    rows = [
        (
            f"{row.title} ({row.run})",
            str(row.seed),
            duration(row.train_seconds) if row.train_seconds else "\u2013",
            duration(row.seconds_with_start),
            duration(sum(scored.seconds for scored in run.scores)) if run.scores else "",
            quantity(row.parameters),
        )
        for row, run in zip(found.tables.classification, study.runs, strict=True)
    ]
    blocks: list[Block] = [
        Code(study.command) if study.command else Text("The command was not recorded."),
        Facts(tuple(study.machine.items())),
        Table(
            "Time of training summed over epochs, and of fitting all scores; reading pictures and computing embeddings "
            "come on top.",
            ("Run", "Seed", "Training", "With what it is made from", "Scores", "Parameters"),
            tuple(rows),
        ),
        Heading("Files beside this page"),
        Facts(FILES),
    ]
    return Section("again", "How to get it again", tuple(blocks))


FILES = (
    ("report.md, figures/", "this page in Markdown, and its figures"),
    ("classification.csv", "a row a run: accuracy, macro averages, likelihood and calibration, size and time"),
    ("per_class.csv", "precision, recall and F1 of each class in each run"),
    ("confusion.csv", "how often each run took each class for each; pairs that do not occur are left out"),
    ("curves.csv", "learning curves, a row an epoch"),
    ("ood.csv", "every score of every run on every set of unknowns, with intervals, and at the study's rate"),
    ("shipped.csv", "what the shipped file itself said"),
    ("baselines.csv", "trivial measures on every set of unknowns"),
)


def pretrained(run: Run) -> bool:
    """Whether a run starts from a network that had learnt from other images."""
    return run.settings.get("network", run.settings.get("backbone")) not in (*NETWORKS, None)
