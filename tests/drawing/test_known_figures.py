"""Figures of a classifier's report: what must be read in them can be, and no name can break a page."""

import base64
import io
import re
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from oddsight.drawing import charts
from oddsight.drawing import class_figures as known_figures
from oddsight.drawing import ood_figures as rejection_figures
from oddsight.drawing.numbers import percent
from oddsight.metrics.classification import reliability
from oddsight.model.curves import Epoch

HOSTILE = '</svg><script>alert("1")</script>'
AWKWARD = "_$x_{&\x07"


def texts(svg):
    """What can be read in a chart, which must be well-formed XML without scripts."""
    root = ElementTree.fromstring(str(svg))
    assert {element.tag.rpartition("}")[2] for element in root.iter()}.isdisjoint({"script", "foreignObject", "a"})
    assert root.get("role") == "img"
    return ["".join(element.itertext()).strip().lstrip("\u200b") for element in root.iter() if "text" in element.tag]


def label(svg):
    return ElementTree.fromstring(str(svg)).get("aria-label")


def scores(seed, count, shift=0.0):
    return np.random.default_rng(seed).normal(shift, 1, count)


def test_confusion_has_its_numbers_and_names():
    table = np.array([[1234, 0, 7], [5, 60, 0], [0, 0, 0]])
    svg = known_figures.confusion_figure(table, ["cat", HOSTILE, AWKWARD])
    read = texts(svg)
    assert {"1,234", "7", "5", "60", "cat", "_$x_{&\ufffd"} <= set(read)
    assert read.count("</svg><script>a\u2026") == 2
    assert "0" not in read
    assert label(svg) == "Confusion matrix of 3 classes: 1,294 of 1,306 images are right"


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 20, 21, 60])
def test_confusion_of_any_number_of_classes(count):
    table = np.arange(count * count).reshape(count, count) + 10_000
    svg = known_figures.confusion_figure(table, [f"a rather long name of a class, number {i}" for i in range(count)])
    numbers = {text for text in texts(svg) if re.fullmatch(r"\d\d,\d\d\d", text)}
    assert len(numbers) == (count * count if count <= known_figures.NAMED_CLASSES else 0)
    assert len(svg) < 400_000
    assert ("image-rendering" in svg) and "data:image/png" in svg


@pytest.mark.slow
def test_confusion_is_coloured_by_row():
    def colours(table):
        svg = known_figures.confusion_figure(np.array(table), ["a", "b"])
        found = re.search(r'data:image/png;base64,([^"]*)"', svg.replace("\n", ""))
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGBA"))

    pixels = colours([[100, 0], [4, 4]])
    assert pixels[0, 0, 3] > pixels[1, 0, 3] > pixels[0, -1, 3] == 0
    assert pixels[0, 0, 2] > pixels[0, 0, 0]  # right is blue
    assert pixels[-1, 0, 0] > pixels[-1, 0, 2]  # wrong is red
    assert (colours([[100, 0], [4, 4]]) == colours([[1, 0], [500, 500]])).all()


@pytest.mark.slow
def test_reliability_says_the_error_of_both():
    before = reliability([[0.9, 0.1]] * 10, [0] * 5 + [1] * 5)
    after = reliability([[0.6, 0.4]] * 10, [0] * 5 + [1] * 5)
    svg = known_figures.reliability_figure(before, after, titles=("as trained", HOSTILE[6:13]))
    assert {"as trained: ECE 0.400", "<script: ECE 0.100", "accuracy"} <= set(texts(svg))
    assert "as trained: ECE 0.400; <script: ECE 0.100" in label(svg)


def epoch(number, accuracy=None, train_accuracy=None):
    return Epoch(number, 2 / number, 2.1 / number, accuracy, 0.1, 1.0, train_accuracy=train_accuracy)


@pytest.mark.slow
def test_curves_show_what_there_is():
    both = known_figures.curves_figure([epoch(1, 0.5, 0.4), epoch(2, 0.75, None)], HOSTILE)
    assert {"loss", "accuracy", "training", "validation", HOSTILE, "1", "2"} <= set(texts(both))
    assert label(both).endswith("after epoch 2 loss 1.05, accuracy 0.750")
    alone = known_figures.curves_figure([epoch(1)], AWKWARD)
    assert "accuracy" not in texts(alone)
    assert len([text for text in texts(alone) if text == "1"]) == 1  # one epoch has one tick


@pytest.mark.slow
def test_bars_say_their_values_and_references():
    svg = known_figures.bars(
        ["energy", HOSTILE, AWKWARD],
        [0.954, 0.87, 0.41],
        [(0.94, 0.96), None, (0.4, 0.42)],
        axis="AUROC <ID, OOD>",
        start=0.5,
        references={"published & known": 0.913},
    )
    assert {"energy", "0.954", HOSTILE, "0.870", "0.410", "published & known 0.913", "AUROC <ID, OOD>"} <= set(
        texts(svg)
    )
    assert label(svg) == f"AUROC <ID, OOD>: energy 0.954, {HOSTILE} 0.870, _$x_{{&\ufffd 0.410"
    shares = known_figures.bars(["one"], [0.931], [None], axis="accuracy", written=percent)
    assert {"93.1%", "100%"} <= set(texts(shares))


@pytest.mark.slow
def test_logarithmic_axes_have_plain_labels():
    def draw(figure):
        axes = figure.subplots()
        axes.plot([1e-4, 1], [0, 1])
        charts.logarithmic_x(axes)

    read = texts(charts.chart("powers", (3, 2), draw, "Powers"))
    assert "1e\u221202" in read
    assert not any("$" in text for text in read)


@pytest.mark.slow
def test_histograms_say_what_is_rejected():
    known = np.arange(100.0)
    svg = rejection_figures.score_histograms(known, {HOSTILE: known + 50, AWKWARD: np.array([1e9])}, 94.0)
    read = texts(svg)
    assert {"known classes (100)", f"{HOSTILE} (100)", "_$x_{&\ufffd (1)", "5% rejected", "55% rejected"} <= set(read)
    assert any("threshold 94; the outermost bins hold 1 beyond" in text for text in read)
    assert label(svg) == f"Histograms of scores. Rejected: known classes 5%, {HOSTILE} 55%, _$x_{{&\ufffd 100%"


some = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=1, max_size=20).map(np.array)


@given(some, some, st.floats(-1e6, 1e6))
def test_no_bin_holds_both_decisions(known, others, threshold):
    everything = np.concatenate([known, others])
    edges = rejection_figures._edges(known, everything, threshold)
    assert (np.diff(edges) > 0).all()
    assert edges[0] <= min(threshold, known.max())
    assert edges[-1] > threshold
    for low, high in pairwise(edges):
        held = everything[(everything >= low) & (everything < high)]
        assert len(set((held > threshold).tolist())) <= 1


@pytest.mark.slow
def test_curves_are_named_with_their_areas():
    known, near, far = scores(0, 300), scores(1, 200, 1.0), scores(2, 200) + 100
    right = np.arange(300) < 240
    pairs = {HOSTILE: (known, near), AWKWARD: (known, far)}
    roc, pr = rejection_figures.roc_curves(pairs), rejection_figures.pr_curves(pairs)
    oscr = rejection_figures.oscr_curves({name: (known, right, other) for name, (_, other) in pairs.items()})
    for svg, measure, best in ((roc, "AUROC", "1.000"), (pr, "AUPR", "1.000"), (oscr, "OSCR", "0.800")):
        read = texts(svg)
        assert measure in read
        assert f"_$x_{{&\ufffd {best}" in read
        assert any(text.startswith(HOSTILE) for text in read)
        assert label(svg).startswith(f"{measure}: {HOSTILE} 0.")
    many = rejection_figures.roc_curves({f"score {i}": (known, near + i / 5) for i in range(12)}, name="many")
    assert sum(text.startswith("score ") for text in texts(many)) == 12


@pytest.mark.slow
@given(st.integers(2, 3000), st.integers(0, 9))
@settings(max_examples=25)
def test_a_thinned_curve_looks_the_same(count, seed):
    rng = np.random.default_rng(seed)
    across, up = np.sort(rng.random(count) ** 3), np.sort(rng.random(count))
    thin_across, thin_up = rejection_figures._thinned(across, up)
    assert thin_across.size <= 402
    assert (thin_across[0], thin_up[-1]) == (across[0], up[-1])
    kept = np.searchsorted(across, thin_across)
    for first, last in pairwise(kept):
        # What was left out between two points lies within a rectangle that is too small to be seen, or is one step.
        assert last - first == 1 or np.ptp(across[first:last]) + np.ptp(up[first:last]) <= 2 / 399 + 1e-9


@pytest.mark.slow
def test_charts_of_one_page_share_no_identifier():
    known, other = scores(0, 50), scores(1, 50, 1.0)
    charts = [
        rejection_figures.score_histograms(known, {"far": other}, 1.0, name="one"),
        rejection_figures.score_histograms(known, {"far": other}, 1.0, name="two"),
        rejection_figures.roc_curves({"far": (known, other)}),
        rejection_figures.pr_curves({"far": (known, other)}),
        known_figures.confusion_figure(np.eye(3, dtype=int), "abc"),
        known_figures.curves_figure([epoch(1, 0.5)], "a"),
    ]
    identifiers = [found for svg in charts for found in re.findall(r' id="([^"]*)"', svg)]
    assert identifiers
    assert len(identifiers) == len(set(identifiers))


@pytest.mark.slow
def test_a_chart_is_the_same_every_time():
    def draw():
        return rejection_figures.roc_curves({"far": (scores(0, 80), scores(1, 80, 1.0))})

    assert draw() == draw()
