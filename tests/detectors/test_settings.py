"""Every setting of every method and score, through values that cannot work: used, or refused in one clear sentence."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Annotated, ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_files import run
from oddsight.detectors import METHODS, Method, create
from oddsight.detectors.energy import Energy
from oddsight.detectors.knn import KNN
from oddsight.detectors.one_class import OneClass
from oddsight.detectors.scores import SCORES
from oddsight.detectors.sums import Sum
from oddsight.errors import OddsightError
from oddsight.runtime.bounds import (
    Choice,
    Count,
    Each,
    Flag,
    Real,
    Text,
    Whole,
    bounds_of,
    check_settings,
)
from oddsight.training.classifier_settings import ClassifierSettings, classifier_settings
from oddsight.training.settings import AdaptationSettings

NAN, INF = math.nan, math.inf
NEVER = [NAN, INF, -INF, -1, -1e-9, -(10**400), None, [], {}, b"1", object(), np.array([1.0, 2.0]), 1j, True, "", "x"]
"""What no number among the settings may be."""
HUGE = [10**12, 10**400, 2**63]
"""What no count may be."""

SETTINGS = AdaptationSettings(
    backbone="b",
    objective="classes",
    epochs=1,
    learning_rate=0.1,
    batch_size=1,
    size=32,
    freeze=None,
    augment=("flip",),
    patience=1,
    validation=0.1,
)


def sum_of(**changes):
    return Sum((KNNScore(), Energy()), **changes)


def one_class(**changes):
    return OneClass(KNN(), **changes)


KNNScore = SCORES["knn"]
MAKERS = {
    **{f"method {name}": cls for name, cls in METHODS.items()},
    **{f"score {name}": cls for name, cls in SCORES.items()},
    "score sum": sum_of,
    "score one-class": one_class,
    "classifier": lambda network="compact", **changes: classifier_settings(network, **changes),
    "adaptation": lambda **changes: AdaptationSettings(**{**vars(SETTINGS), **changes}),
}
CLASSES = {
    name: {
        "score sum": Sum,
        "score one-class": OneClass,
        "classifier": ClassifierSettings,
        "adaptation": AdaptationSettings,
    }.get(name, made)
    for name, made in MAKERS.items()
}
NOT_NUMBERS = {("score sum", "parts"), ("score one-class", "method"), ("adaptation", "freeze")}
"""Fields that are not settings by themselves, or may be None."""
ALL = [(owner, field.name) for owner, cls in CLASSES.items() for field in fields(cls)]
ALL = [one for one in ALL if one not in NOT_NUMBERS]


def refused(owner, name, value):
    """The sentence by which a value is refused, or None if it is accepted."""
    try:
        MAKERS[owner](**{name: value})
    except OddsightError as error:
        return str(error)
    return None


@pytest.mark.parametrize(("owner", "name"), ALL)
def test_every_setting_has_a_bound_that_its_default_is_within(owner, name):
    bound = bounds_of(CLASSES[owner])[name]
    default = getattr(MAKERS[owner](), name)
    assert bound.read(default, name) == default
    assert type(bound.read(default, name)) is type(default)


@pytest.mark.parametrize(("owner", "name"), ALL)
def test_what_cannot_work_is_refused_when_it_is_set(owner, name):
    bound = bounds_of(CLASSES[owner])[name]
    numeric = isinstance(bound, Whole | Real)
    bad = [*NEVER, *(HUGE if isinstance(bound, Whole) and not name.endswith("seed") else [])] if numeric else NEVER[:5]
    if isinstance(bound, Each):
        bad = [5, "32", [0], [NAN], [None], [-1], [[1]]]
    if isinstance(bound, Flag):
        bad = [*NEVER[:5], 0, 1, "true"]
    for value in bad:
        if value is None and owner == "classifier":
            continue  # which there means the recipe's own
        said = refused(owner, name, value)
        assert said is not None, value
        assert len(said) < 300
        assert said.isprintable()
        if numeric:
            assert " must be " in said
            assert (bound.label or name.replace("_", " ")) in said.replace("_", " ")


@pytest.mark.parametrize(("owner", "name"), ALL)
def test_a_bound_is_where_it_says(owner, name):
    bound = bounds_of(CLASSES[owner])[name]
    if isinstance(bound, Whole):
        assert bound.least is None or refused(owner, name, bound.least - 1)
        assert refused(owner, name, bound.most + 1)
        assert bound.read(bound.least, name) == bound.least
        assert bound.read(bound.most, name) == bound.most
    elif isinstance(bound, Real):
        for limit, inside in ((bound.above, False), (bound.below, False), (bound.least, True), (bound.most, True)):
            if limit is not None:
                assert bool(refused(owner, name, limit)) != inside


@pytest.mark.parametrize(("owner", "name"), ALL)
def test_values_become_plain_python(owner, name):
    """So that metadata can hold them, and the same setting gives the same bytes whatever its type was."""
    bound = bounds_of(CLASSES[owner])[name]
    default = getattr(MAKERS[owner](), name)
    if isinstance(bound, Whole):
        made = MAKERS[owner](**{name: np.int64(default)})
    elif isinstance(bound, Real):
        made = MAKERS[owner](**{name: np.float64(default)})
    elif isinstance(bound, Each):
        made = MAKERS[owner](**{name: list(default)})
    else:
        return
    assert getattr(made, name) == default
    assert type(getattr(made, name)) is type(default)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("lof", {"neighbours": 0}, "lof: neighbours must be a whole number of 1 or more, not 0"),
        ("knn", {"bank_size": 2**31}, "knn: bank_size must be a whole number from 1 to 2147483647, not 2147483648"),
        ("patchcore", {"bank_size": 0}, "patchcore: bank_size must be a whole number of 1 or more, not 0"),
        ("patchcore", {"sigma": -1}, "patchcore: sigma must be above 0 and at most 100, not -1"),
        ("padim", {"sigma": NAN}, "padim: sigma must be above 0 and at most 100, not nan"),
        ("padim", {"shrinkage": -0.5}, "padim: shrinkage must be at least 0 and at most 1000, not -0.5"),
        ("auto", {"images": 7}, "auto: images must be a whole number of 8 or more, not 7"),
        ("autoencoder", {"widths": 8}, "autoencoder: widths must be a list of values, not 8"),
        ("student-teacher", {"teacher": 3}, "student-teacher: teacher must be a name, not 3"),
    ],
)
def test_the_sentence_says_all(name, settings, message):
    with pytest.raises(OddsightError) as error:
        METHODS[name](**settings)
    assert str(error.value) == message


def test_settings_from_the_command_line_are_checked_alike():
    for text in ("bank_size=0", "bank_size=-3", "bank_size=99999999999", "sigma=nan", "sigma=inf", "sigma=0"):
        with pytest.raises(OddsightError, match=f"patchcore: {text.partition('=')[0]} must be"):
            create("patchcore", settings=[text])
    assert create("patchcore", settings=["sigma=2"]).settings() == {"bank_size": 4000, "components": 64, "sigma": 2.0}


def test_a_method_of_another_package_is_checked_by_declaring_bounds():
    @dataclass
    class Other(Method):
        name: ClassVar[str] = "other"
        size_of_bank: Count = 5
        free: object = None

        fit = graph = memory_needed = None  # type: ignore[assignment]

    assert Other(free=NAN).size_of_bank == 5
    with pytest.raises(OddsightError, match="other: size_of_bank must be a whole number of 1 or more, not 0"):
        Other(0)


NO_SCORES = ["", "+", "knn+", "+knn", "knn++energy", "knn+knn", " ", "KNN", "one-class:", "x" * 10**6]


@pytest.mark.parametrize("name", NO_SCORES, ids=range(len(NO_SCORES)))
def test_a_score_that_is_none_is_named(name):
    with pytest.raises(OddsightError) as error:
        create(name, "classes")
    assert len(str(error.value)) <= 2000


@pytest.mark.parametrize("parts", [(), (Energy(),), ("knn", "energy"), None, 5, (Energy(), None)])
def test_a_sum_takes_scores(parts):
    with pytest.raises(OddsightError, match="a sum needs"):
        Sum(parts)
    with pytest.raises(OddsightError, match="takes a method"):
        OneClass(parts)


# The bounds themselves.

anything = st.one_of(
    st.integers(), st.floats(), st.text(max_size=3), st.booleans(), st.none(), st.fractions(), st.lists(st.integers())
)


@pytest.mark.slow
@given(anything, st.integers(-5, 5), st.integers(0, 9))
def test_whole_numbers(value, least, more):
    bound = Whole(least, least + more)
    fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= least + more
    try:
        assert bound.read(value, "it") == value
    except OddsightError:
        assert not fits
    else:
        assert fits


@given(anything, st.floats(-5, 5), st.floats(0, 9))
def test_real_numbers(value, low, more):
    number = isinstance(value, int | float | Fraction) and not isinstance(value, bool) and math.isfinite(value)
    for bound, fits in (
        (Real(above=low, below=low + more), number and low < value < low + more),
        (Real(least=low, most=low + more), number and low <= value <= low + more),
        (Real(), number and abs(value) < 1e300),
    ):
        try:
            assert bound.read(value, "it") == float(value)
        except OddsightError:
            assert not fits


@dataclass(frozen=True)
class Example:
    """For bounds that nothing above has."""

    share: Annotated[float, Real(least=0, below=1, label="share of it")] = 0.5
    names: Annotated[tuple[str, ...], Each(Choice("name", ("a", "b")))] = ()
    flag: Annotated[bool, Flag()] = True
    text: Annotated[str, Text()] = "x"

    def __post_init__(self) -> None:
        check_settings(self, article="the ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"share": 1}, "the share of it must be at least 0 and below 1, not 1"),
        ({"names": ["a", "c"]}, "no name 'c': there are a, b"),
        ({"names": "ab"}, "the names must be a list of values, not 'ab'"),
        ({"flag": 1}, "the flag must be true or false, not 1"),
        ({"text": ""}, "the text must be a name, not ''"),
    ],
)
def test_sentences_with_an_article(changes, message):
    with pytest.raises(OddsightError) as error:
        Example(**changes)
    assert str(error.value) == message


EMPTY = [
    ["fit", "--method", ""],
    ["fit", "--backbone", ""],
    ["fit", "--layers", ""],
    ["fit", "--memory", ""],
    ["fit", "--set", ""],
    ["fit", "--set", "="],
    ["fit", "--set", "bank_size="],
    ["fit-classes", "--score", ""],
    ["fit-classes", "--score", "+"],
    ["fit-classes", "--score", "knn+"],
    ["fit-classes", "--classifier", ""],
    ["fit-classes", "--backbone", ""],
    ["fit-classes", "--memory", ""],
]


@pytest.mark.slow
@pytest.mark.parametrize("words", EMPTY, ids=" ".join)
def test_an_option_that_is_empty_is_an_error_and_not_the_default(words, normal_folder, tmp_path):
    command, *options = words
    outcome = run(command, normal_folder, "-o", tmp_path / "model.onnx", "--quiet", *options)
    assert outcome.code in (1, 2)
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "model.onnx").exists()
    if outcome.code == 1:
        assert len(outcome.err.splitlines()) == 1
