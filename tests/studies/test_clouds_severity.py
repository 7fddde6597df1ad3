"""Haze, smoke and dust by their amount: paired over depths, measured as scikit-learn does, resumed, honest in words."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import roc_auc_score

from oddsight.data.collection import look
from oddsight.data.images import read_image
from oddsight.data.synthesis import synthesize
from oddsight.errors import DataError, OddsightError
from oddsight.evaluation.maps import upscaled
from oddsight.metrics.image import binomial_interval
from oddsight.model.calibration import smallest_rate
from oddsight.report.markdown import fill_template
from oddsight.studies.clouds.page_parts import severity_values
from oddsight.studies.clouds.severity import first_depth, half_depth, onset, severity_curves
from oddsight.studies.clouds.severity_scores import MEASURES, Answers
from textures import texture
from tiny_model import tiny_model

pytestmark = pytest.mark.slow
"""The study runs once for all of them, and that takes longer than the rest of the quick suite."""

DEPTHS = (0.05, 0.4, 3.0)


@pytest.fixture(scope="module")
def clear(tmp_path_factory):
    """40 dark images."""
    folder = tmp_path_factory.mktemp("clear")
    for seed in range(40):
        Image.fromarray(texture(seed, 32, 32) // 2).save(folder / f"{seed:02d}.png")
    return sorted(folder.iterdir())


def run(clear, work, **options):
    images = [look(path) for path in clear]
    return severity_curves(images, work, **{"methods": ["patchcore"], "kinds": ["haze"], "depths": DEPTHS, **options})


def test_more_of_it_is_seen_better(clear, tmp_path, fits):
    found = run(clear, tmp_path)
    assert (found.trained, found.tested) == (28, 12)
    rows = [row for row in found.rows() if row["method"] == "patchcore"]
    assert [row["depth"] for row in rows] == [0.0, *DEPTHS]
    shares, areas = [row["share"] for row in rows], [row["auroc"] for row in rows[1:]]
    assert shares == sorted(shares)
    assert areas == sorted(areas)
    # Haze is brighter than anything in these images.
    assert (shares[-1], areas[-1]) == (1, 1)
    assert rows[0]["auroc"] is None
    assert all(row["rate"] == pytest.approx(smallest_rate(28)) for row in rows)
    for row in rows:
        assert (row["share_low"], row["share_high"]) == binomial_interval(row["detected"], row["images"])
    own = found.of("haze")[0].onset
    assert 0 < own.half < DEPTHS[-1]
    assert own.half_interval[0] <= own.half <= own.half_interval[1]
    assert own.first in DEPTHS


def test_images_are_paired_and_numbers_are_those_of_scikit_learn(clear, tmp_path, fits):
    found = run(clear, tmp_path, kinds=["smoke"])
    ((_, files, options),) = fits.calls
    assert options == {"false_alarm_rate": pytest.approx(smallest_rate(28)), "groups": "none"}
    tested = [read_image(path) for path in clear if path not in files]
    assert len(tested) == found.tested
    scores = np.array([tiny_model().score(read_image(path)).score for path in files], np.float32)
    model = tiny_model(scores, rate=smallest_rate(28))
    before = [model.score(pixels) for pixels in tested]
    for depth, point in zip(DEPTHS, found.of("smoke")[0].points, strict=True):
        made = [synthesize(pixels, "smoke", depth) for pixels in tested]
        after = [model.score(one.image) for one in made]
        assert point.detected == sum(result.anomalous for result in after)
        truth = [0] * len(before) + [1] * len(after)
        assert point.auroc == pytest.approx(roc_auc_score(truth, [result.score for result in (*before, *after)]))
        assert point.auroc_interval[0] <= point.auroc <= point.auroc_interval[1]
        maps = np.array([upscaled(result.map, (32, 32)) for result in (*before, *after)])
        masks = np.array([np.zeros((32, 32), bool)] * len(before) + [one.mask > 0 for one in made])
        if not masks.any():
            assert point.pixel_auroc is None
            continue
        assert point.pixel_auroc == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()))
        over = maps[len(before) :] > model.decision.threshold
        either = (over | masks[len(before) :]).sum()
        assert point.iou == pytest.approx((over & masks[len(before) :]).sum() / either)


def test_trivial_measures_read_the_way_that_suits_them(clear, tmp_path, fits):
    found = run(clear, tmp_path, kinds=["haze", "smoke"])
    trivial = {(one.name, one.kind): one for one in found.seen if one.trivial}
    assert {name for name, _ in trivial} == set(MEASURES)
    assert trivial["brightness", "haze"].direction == "higher"
    assert trivial["contrast", "haze"].direction == "lower"
    assert all(one.points[-1].auroc >= 0.5 for one in trivial.values())
    assert all(one.points[-1].pixel_auroc is None for one in trivial.values())
    assert trivial["brightness", "haze"].points[-1].share == 1


def test_a_rerun_is_taken_from_the_work_folder(clear, tmp_path, fits):
    first = run(clear, tmp_path)
    again = run(clear, tmp_path)
    assert len(fits.calls) == 1
    assert again.rows() == first.rows()
    # Another kind takes the same model; other images do not.
    run(clear, tmp_path, kinds=["haze", "dust"])
    assert len(fits.calls) == 1
    run(clear[:-1], tmp_path)
    assert len(fits.calls) == 2


def test_a_method_that_cannot_be_run_is_named_and_the_others_go_on(clear, tmp_path, fits, monkeypatch):
    def fit(*paths, method, **options):
        if method == "knn":
            raise OddsightError("it takes what is not there")
        return fits(*paths, method=method, **options)

    monkeypatch.setattr("oddsight.studies.clouds.variants.fit", fit)
    found = run(clear, tmp_path, methods=["knn", "patchcore"])
    assert found.failed == {"knn": "it takes what is not there"}
    assert "- knn: it takes what is not there." in section(found)[0]
    assert found.rows()[-1]["sort"] == "not run: it takes what is not there"
    bright = run(clear, tmp_path, methods=["patchcore-fine-bright"])
    assert "multiplied by brightness" in bright.failed["patchcore-fine-bright"]
    alone = run(clear, tmp_path, methods=["knn"])
    assert verdicts(alone)["haze"][-1] == "no method could be run"


def section(found):
    """The section of the report, and its figures."""
    figures = {}
    values = severity_values(found, figures)
    return fill_template("oddsight.studies.clouds", "severity.md.jinja", v=values), figures


def verdicts(found):
    """The cells of each row of the verdicts, by kind."""
    return {kind: cells for kind, *cells in severity_values(found, {})["verdicts"]}


def test_the_section_says_that_it_is_synthetic_and_who_needs_least(clear, tmp_path, fits):
    found = run(clear, tmp_path, kinds=["haze", "dust"])
    text, figures = section(found)
    assert "synthetic" in text
    assert "None was photographed" in text
    assert set(figures) == {f"severity-{part}{kind}" for part in ("", "pixels-") for kind in ("haze", "dust")}
    assert {f"figures/{name}.svg" for name in figures} == set(re.findall(r"\]\((.*?)\)", text))
    assert verdicts(found).keys() == {"haze", "dust"}
    assert str(tmp_path) not in text


def test_the_verdict_says_so_if_nothing_is_seen_and_if_a_trivial_measure_needs_no_more(clear, tmp_path, fits):
    faint = run(clear, tmp_path / "faint", depths=[0.001])
    assert verdicts(faint)["haze"][1:3] == ["beyond 0.001", "beyond 0.001"]
    assert verdicts(faint)["haze"][-1] == "not detected by any method"
    found = run(clear, tmp_path / "all")
    best = min(one.onset.half for one in found.seen if one.trivial and one.onset.half is not None)
    wins = best < found.of("haze")[0].onset.half
    assert verdicts(found)["haze"][-1] == ("baseline needs less" if wins else "method needs less")


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8))
@settings(max_examples=100)
def test_half_are_detected_where_straight_lines_say_so(shares):
    depths = [0.1 * 2**place for place in range(len(shares) - 1)]
    found = half_depth(np.array(shares), depths)
    if max(shares) < 0.5:
        assert found == np.inf
        return
    assert np.interp(found, [0, *depths], shares) == pytest.approx(max(0.5, shares[0]) if found == 0 else 0.5)
    before = [share for at, share in zip([0, *depths], shares, strict=True) if at < found]
    assert all(share < 0.5 for share in before)


def test_what_is_surely_seen_lies_above_the_rate_and_the_false_alarms_from_there_on():
    depths = (0.1, 0.2, 0.4)
    assert first_depth(np.array([1, 2, 40, 90]), 100, depths, 0.01) == 0.2
    assert first_depth(np.array([1, 20, 3, 90]), 100, depths, 0.01) == 0.4
    assert first_depth(np.array([30, 35, 39, 90]), 100, depths, 0.01) == 0.4
    assert first_depth(np.array([1, 90, 90, 1]), 100, depths, 0.01) == np.inf


def test_intervals_of_the_depth_may_end_beyond_the_greatest():
    rng = np.random.default_rng(0)
    veiled = np.stack([rng.random(20) * 0.4, rng.random(20)], axis=1)
    nothing = np.full(2, np.nan)
    found = onset(Answers("a", False, "haze", 0.05, 0.5, np.zeros(20), veiled, nothing, nothing), (0.1, 0.2), 0)
    assert found.half_interval[1] is None
    assert found.first == 0.2
    assert found.first_interval == (0.2, 0.2)


def test_images_that_are_too_few(clear, tmp_path):
    with pytest.raises(DataError, match="too few"):
        run(clear[:5], tmp_path)
