"""What a false-alarm rate means: how far the true one may lie from it, and thresholds that hold with a confidence."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import oddsight
from cli_files import run
from oddsight.errors import DataError, ModelError
from oddsight.metrics.image import check_confidence
from oddsight.model.calibration import (
    advised_rate,
    alarms,
    chance_of_alarms,
    decide,
    decide_by_class,
    images_needed,
    rate_range,
    smallest_rate,
)
from oddsight.model.metadata import KEY
from oddsight.model.model import Model
from oddsight.scenes import decision_for
from textures import SIZE
from tiny_model import CALIBRATION, CLASSES, TAKEN, tiny_class_model, tiny_model, tiny_proto

rates = st.floats(1e-4, 0.9)
confidences = st.floats(0.01, 0.999)


@given(st.integers(1, 5000), rates, confidences)
def test_the_largest_rank_that_beta_allows(n, rate, confidence):
    reached = alarms(n, rate, confidence)
    assert 0 <= reached <= n
    if reached:
        assert stats.beta.cdf(rate, reached, n + 1 - reached) >= confidence - 1e-6
    if reached < n:
        assert stats.beta.cdf(rate, reached + 1, n - reached) < confidence + 1e-6


@given(rates, confidences)
def test_the_images_that_a_confidence_takes(rate, confidence):
    needed = images_needed(rate, confidence)
    assert alarms(needed, rate, confidence) >= 1
    assert needed == 1 or alarms(needed - 1, rate, confidence) == 0
    assert smallest_rate(needed, confidence) <= rate * (1 + 1e-6)
    assert alarms(needed, advised_rate(needed, confidence), confidence) >= 1


@pytest.mark.parametrize(
    ("rate", "confidence", "needed"), [(0.1, 0.95, 29), (0.05, 0.95, 59), (0.01, 0.95, 299), (0.01, 0.99, 459)]
)
def test_known_numbers_of_images(rate, confidence, needed):
    """Those of distribution-free tolerance limits (S. S. Wilks 1941), whose table begins with 59 for 95 % and 95 %."""
    assert images_needed(rate, confidence) == needed


def test_without_a_confidence_nothing_changes():
    assert [alarms(n, 0.01) for n in (98, 99, 199)] == [0, 1, 2]
    assert [images_needed(rate) for rate in (0.5, 0.1, 0.01)] == [1, 9, 99]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "rate", "confidence"), [(100, 0.05, 0.9), (59, 0.05, 0.95), (300, 0.1, 0.95)])
def test_true_rates_of_many_calibration_sets(n, rate, confidence):
    """5,000 sets of normal scores; the share whose true rate is beyond the one asked for is what Beta says."""
    random = np.random.default_rng(0)
    draws = random.normal(size=(5000, n)).astype(np.float32)
    sure = stats.norm.sf([decide(scores, rate, confidence).threshold for scores in draws])
    beyond = stats.beta.sf(rate, alarms(n, rate, confidence), n + 1 - alarms(n, rate, confidence))
    assert beyond <= 1 - confidence
    assert abs(np.mean(sure > rate) - beyond) < 0.015  # three standard errors
    # Without a confidence the rate holds on average, and the range holds 95 of 100 draws.
    plain = stats.norm.sf([decide(scores, rate).threshold for scores in draws])
    assert abs(plain.mean() - alarms(n, rate) / (n + 1)) < 0.002
    low, high = rate_range(n, alarms(n, rate))
    assert abs(np.mean((plain >= low) & (plain <= high)) - 0.95) < 0.01


@pytest.mark.slow
def test_ties_only_lower_the_true_rate():
    random = np.random.default_rng(1)
    draws = random.integers(0, 20, size=(4000, 59)).astype(np.float32)
    true = np.array([(19 - decide(scores, 0.05, 0.95).threshold) / 20 for scores in draws])
    assert np.mean(true > 0.05) <= 0.05


def test_what_cannot_be_promised_is_an_error():
    scores = np.arange(58, dtype=np.float32)
    with pytest.raises(
        DataError, match=r"0\.05 with a confidence of 0\.95 needs at least 59 calibration images, and there"
    ):
        decide(scores, 0.05, 0.95)
    with pytest.raises(DataError, match=r"ask for 0\.0504 or more"):
        decide(scores, 0.05, 0.95)
    assert decide(scores, 0.0504, 0.95).threshold == 57
    with pytest.raises(
        DataError, match=r"with a confidence of 0\.95 needs at least 14 calibration images of each, and 6 "
    ):
        decide_by_class(CALIBRATION, TAKEN, CLASSES, 0.2, 0.95)
    for wrong in (0, 1, -1, 2, float("nan")):
        with pytest.raises(DataError, match="the confidence must lie between 0 and 1"):
            check_confidence(wrong)


def test_a_decision_with_a_confidence_is_kept():
    model = tiny_model().with_decision(false_alarm_rate=0.25, confidence=0.95)
    assert model.decision.confidence == 0.95
    assert model.decision.threshold == 180  # the second highest of 19: P(Bin(19, 0.25) >= 2) = 0.969, for 3 it is 0.889
    assert model.metadata.schema_version == 5
    again = Model.from_bytes(model.to_bytes())
    assert again.decision == model.decision
    assert again.true_rate_range == pytest.approx(tuple(stats.beta.ppf([0.025, 0.975], 2, 18)))
    other = again.with_decision(false_alarm_rate=0.25)
    assert other.decision.confidence is None
    assert other.metadata.schema_version == 2
    by_hand = again.with_decision(threshold=3.0)
    assert (by_hand.decision.confidence, by_hand.true_rate_range) == (None, None)
    with pytest.raises(DataError, match="a threshold set by hand has no confidence"):
        again.with_decision(threshold=3.0, confidence=0.9)


def test_classes_have_thresholds_with_a_confidence():
    model = tiny_class_model().with_decision(false_alarm_rate=0.4, confidence=0.95)
    thresholds = model.metadata.classes.thresholds
    assert thresholds == [CALIBRATION[label == TAKEN].max() for label in range(3)]
    assert Model.from_bytes(model.to_bytes()).metadata.classes.thresholds == thresholds
    assert model.true_rate_range == pytest.approx(tuple(stats.beta.ppf([0.025, 0.975], 1, 6)))


@pytest.mark.parametrize(
    ("decision", "said"),
    [
        ({"confidence": 0.99}, "does not follow from its calibration scores"),
        ({"confidence": 0.999999}, "needs at least"),
        ({"false_alarm_rate": None}, "set by hand, which has no confidence"),
        ({"confidence": 1.0}, "its metadata is wrong at decision.confidence"),
    ],
)
def test_a_model_file_whose_threshold_has_another_confidence_is_refused(decision, said):
    proto = tiny_proto()
    entry = next(entry for entry in proto.metadata_props if entry.key == KEY)
    content = json.loads(entry.value)
    content["schema_version"] = 5
    content["decision"] = {"threshold": 180.0, "false_alarm_rate": 0.25, "confidence": 0.95}
    entry.value = json.dumps(content)
    assert Model.from_bytes(proto.SerializeToString()).decision.confidence == 0.95
    content["decision"] |= decision
    entry.value = json.dumps(content)
    with pytest.raises(ModelError, match=said):
        Model.from_bytes(proto.SerializeToString())


def test_the_warning_about_alarms_knows_the_confidence():
    """As many alarms as the rate says are too many where the threshold was to be surer."""
    assert chance_of_alarms(60, 1000, 0.05, 199) > 0.2
    assert chance_of_alarms(60, 1000, 0.05, 199, 0.95) == pytest.approx(
        stats.betabinom(1000, alarms(199, 0.05, 0.95), 200 - alarms(199, 0.05, 0.95)).sf(59)
    )
    assert chance_of_alarms(60, 1000, 0.05, 199, 0.95) < 0.02


def test_scenes_keep_the_confidence():
    model = tiny_model(np.arange(1000, dtype=np.float32)).with_decision(false_alarm_rate=0.05, confidence=0.9)
    tiles = decision_for(model, 10)
    assert (tiles.false_alarm_rate, tiles.confidence) == (0.05, 0.9)
    assert tiles.threshold == decide(model.calibration_scores, 0.005, 0.9).threshold
    few = decision_for(model, 100)
    assert few.threshold == 999
    assert few.false_alarm_rate == pytest.approx(100 * smallest_rate(1000, 0.9))


@pytest.mark.slow
def test_fit_takes_a_confidence(normal_folder):
    common = {"method": "knn", "size": SIZE}
    model = oddsight.fit(normal_folder, confidence=0.95, **common)
    assert model.decision.confidence == 0.95
    assert model.decision.false_alarm_rate == smallest_rate(60, 0.95)
    assert model.decision.threshold == model.calibration_scores.max()
    with pytest.raises(
        DataError, match=r"0\.01 with a confidence of 0\.95 needs at least 299 calibration images, and there"
    ):
        oddsight.fit(normal_folder, confidence=0.95, false_alarm_rate=0.01, **common)
    with pytest.raises(DataError, match=r"the confidence must lie between 0 and 1, such as 0\.95, not 95"):
        oddsight.fit(normal_folder, confidence=95, **common)


def test_commands_say_what_the_rate_means(tmp_path):
    path, out = tmp_path / "m.onnx", tmp_path / "n.onnx"
    tiny_model().save(path)
    said = run("threshold", path, "-o", out, "--false-alarm-rate", 0.25, "--confidence", 0.95)
    text = " ".join((said.out + said.err).split())
    assert "flags at most 25% of normal images, with a confidence of 95%: scores above 180" in text
    assert "it lies between 1.3% and 26% in 95 of 100 draws" in text
    described = run("info", out, "--json").json
    assert described["decision"]["confidence"] == 0.95
    assert described["decision"]["true_rate_range_95"] == pytest.approx([0.013, 0.260], abs=1e-3)
    assert described["calibration"]["smallest_rate"] == pytest.approx(1 - 0.05 ** (1 / 19))
    for wrong in (["--score", "3"], ["--verdicts", "fine,odd"]):
        assert run("threshold", path, "-o", out, *wrong, "--confidence", 0.9).code == 2
