"""Made-up studies: seeded logits and scores, as if classifiers had been trained."""

from dataclasses import replace

import numpy as np

from oddsight.drawing.image_grids import CaptionedImage
from oddsight.model.calibration import decide
from oddsight.model.curves import Epoch
from oddsight.studies.cifar10.results import DataFacts, Run, Scored, Shipped, Study, Unknowns

CALIBRATION = 99


def image(rng, caption, side=8):
    return CaptionedImage(rng.integers(0, 256, (side, side, 3), dtype=np.uint8), caption)


def made_up_run(name, seed, labels, classes, sets, skill, score_names, *, curves=3):
    """Logits with ``skill`` on the true class; scores that are higher for unknown images, more so of far sets."""
    rng = np.random.default_rng([seed, len(name), len(labels), int(10 * skill)])
    logits = rng.normal(0, 1, (len(labels), classes)).astype(np.float32)
    logits[np.arange(len(labels)), labels] += skill
    scored = tuple(
        Scored(
            name=one,
            known=rng.normal(0, 1, len(labels)).astype(np.float32),
            unknown={
                unknown: rng.normal((1.0 if near else 2.5) + 0.2 * place, 1, count).astype(np.float32)
                for unknown, near, count in sets
            },
            calibration=rng.normal(0, 1, CALIBRATION).astype(np.float32),
            seconds=0.5 + place,
        )
        for place, one in enumerate(score_names)
    )
    rows = tuple(Epoch(at, 2 / at, 2.2 / at, 1 - 0.5 / at, 0.1, 7.5, 1 - 0.4 / at) for at in range(1, curves + 1))
    settings = {"network": "compact" if curves else "efficientnet-lite0", "optimizer": "adamw", "extras": ["outliers"]}
    return Run(
        name=name,
        title=f"The {name} network",
        description=f"It is {name}.",
        seed=seed,
        settings=settings,
        curves=rows,
        seconds=7.5 * curves + 1,
        parameters=12_345,
        size=32,
        temperature=1.5,
        labels=labels,
        logits=logits,
        scores=scored,
    )


def made_up_study(
    *,
    names=("cat", "dog", "frog"),
    runs=(("textbook", 0), ("compact", 0), ("compact", 1)),
    sets=(("cars", True, 60), ("noise", False, 80)),
    images=40,
    score_names=("msp", "knn"),
    rate=0.05,
    baseline=0.6,
    curves=3,
):
    """A study of ``images`` test images a class; the last run and score are shipped."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(len(names)), images)
    trained = tuple(
        made_up_run(name, seed, labels, len(names), sets, 1.5 + 0.4 * place, score_names, curves=curves)
        for place, (name, seed) in enumerate(runs)
    )
    last, scored = trained[-1], trained[-1].scores[-1]
    threshold = decide(scored.calibration, rate).threshold
    return Study(
        name="made-up",
        data=DataFacts(
            classes=tuple(names),
            counts={split: (images,) * len(names) for split in ("training", "validation", "calibration", "test")},
            size=(8, 8),
            mean=(0.5, 0.4, 0.3),
            std=(0.2, 0.2, 0.2),
            duplicates={"train": 2, "test": 0},
            leaks=3,
            unreadable=1,
            examples={name: tuple(image(rng, "") for _ in range(2)) for name in names},
        ),
        unknowns=tuple(
            Unknowns(
                name=name,
                near=near,
                count=count,
                shared=0,
                examples=tuple(image(rng, "") for _ in range(3)),
                baselines={"brightness": baseline, "image size": 0.5},
            )
            for name, near, count in sets
        ),
        runs=trained,
        shipped=Shipped(
            file=f"{last.name}-{scored.name}.onnx",
            run=last.name,
            seed=last.seed,
            score=scored.name,
            bytes=3_400_000,
            rate=rate,
            per_class=False,
            thresholds=(threshold,),
            labels=labels,
            predicted=last.logits.argmax(1),
            known=scored.known,
            rejected=scored.known > threshold,
            unknown=scored.unknown,
            found={name: values > threshold for name, values in scored.unknown.items()},
            milliseconds=12.5,
            mistakes=tuple(image(rng, f"{names[0]}, named {names[-1]} (97%)") for _ in range(2)),
            missed=tuple(image(rng, f"{names[0]} (88%), p 0.9") for _ in range(2 if sets else 0)),
            caught=tuple(image(rng, f"{names[0]} (40%), p 0.01") for _ in range(2 if sets else 0)),
            refused=tuple(image(rng, f"{names[0]}, p 0.01") for _ in range(2)),
        ),
        command="oddsight study cifar10 --data DIR -o OUT",
        machine={"processor": "a processor", "cores": "2", "memory": "8 GiB", "versions": "numpy 2"},
    )


def with_shipped(study, **changes):
    """The study with another answer of its file."""
    return replace(study, shipped=replace(study.shipped, **changes))
