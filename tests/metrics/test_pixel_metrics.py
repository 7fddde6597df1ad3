import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import label
from sklearn.metrics import average_precision_score, roc_auc_score

from oddsight.errors import DataError, OddsightError
from oddsight.metrics import pixel as module
from oddsight.metrics.image import f1_max
from oddsight.metrics.pixel import pixel_metrics


@st.composite
def images(draw):
    shapes = draw(st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=4))
    few_values = st.integers(-2, 3).map(float)
    many_values = st.floats(-100, 100, width=32)
    values = draw(st.sampled_from([few_values, many_values]))
    made = [
        (draw(arrays(np.float32, shape, elements=values)), draw(arrays(bool, shape, elements=st.booleans())))
        for shape in shapes
    ]
    made.append((np.float32([[0.0, 2.5]]), np.array([[False, True]])))
    return made


def joined(made):
    normal = np.concatenate([values[~mask] for values, mask in made])
    anomalous = np.concatenate([values[mask] for values, mask in made])
    return normal, anomalous


def slow_aupro(made, limit):
    """The definition, word by word: every distinct threshold, every region, trapezoids, a line across the limit."""
    normal, anomalous = joined(made)
    regions = []
    for values, mask in made:
        labels, count = label(mask, structure=np.ones((3, 3)))
        regions += [values[labels == i] for i in range(1, count + 1)]
    curve = [(0.0, 0.0)]
    for threshold in sorted({*normal, *anomalous}, reverse=True):
        curve.append((np.mean(normal >= threshold), np.mean([np.mean(region >= threshold) for region in regions])))
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(curve):
        if x1 <= limit:
            area += (x1 - x0) * (y0 + y1) / 2
        elif x0 < limit:
            y_limit = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (limit - x0) * (y0 + y_limit) / 2
    return area / limit, len(regions)


@pytest.mark.slow
@given(images(), st.sampled_from([0.01, 0.05, 0.3, 0.5, 1.0]), st.sampled_from([1, 3, 1 << 18]))
@settings(max_examples=150)
def test_all_metrics_agree_with_slow_and_with_scikit_learn(made, limit, block):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK", block)
        result = pixel_metrics(lambda: iter(made), limit=limit)
    normal, anomalous = joined(made)
    labels, scores = np.repeat([0, 1], [normal.size, anomalous.size]), np.concatenate([normal, anomalous])
    aupro, regions = slow_aupro(made, limit)
    assert result.aupro == pytest.approx(aupro, abs=1e-12)
    assert result.auroc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert result.average_precision == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert (result.f1_max, result.f1_max_threshold) == f1_max(normal, anomalous)
    assert (result.anomalous_pixels, result.normal_pixels) == (anomalous.size, normal.size)
    assert (result.regions, result.limit) == (regions, limit)


@pytest.mark.slow
@given(images(), st.randoms(use_true_random=False))
@settings(max_examples=40)
def test_metrics_depend_on_ranks_only_and_not_on_the_order_of_images(made, random):
    first = pixel_metrics(lambda: made)
    # float64, because float32 would tie what the transform squeezes together
    turned = [(np.arctan(np.float64(values) / 50), mask) for values, mask in made]
    random.shuffle(turned)
    second = pixel_metrics(lambda: turned)
    for name in ("auroc", "average_precision", "aupro", "f1_max", "regions", "normal_pixels"):
        assert getattr(second, name) == pytest.approx(getattr(first, name), abs=1e-12)
    assert second.f1_max_threshold == np.arctan(first.f1_max_threshold / 50)


def test_each_region_counts_equally_and_corners_connect():
    mask = np.zeros((20, 20), dtype=bool)
    mask[:8, :8] = True
    mask[8, 8] = True  # touches the large region by a corner
    mask[19, 19] = True
    values = np.zeros((20, 20), dtype=np.float32)
    values[19, 19] = 1.0
    result = pixel_metrics(lambda: [(values, mask)], limit=0.3)
    assert result.regions == 2
    assert result.auroc == pytest.approx(0.5 + 0.5 / 66)
    # one region found, the other rising in a straight line from 0 to 1 over all false positives
    assert result.aupro == pytest.approx(0.5 + 0.5 * 0.15)


def test_perfect_and_worst_maps():
    mask = np.random.default_rng(0).random((60, 60)) < 0.2
    noise = np.random.default_rng(1).random((60, 60), dtype=np.float32)
    best = pixel_metrics(lambda: [(noise + 2 * mask.astype(np.float32), mask)])
    assert (best.auroc, best.f1_max) == (1.0, 1.0)
    assert best.aupro == pytest.approx(1.0, abs=1e-12)
    assert best.average_precision == pytest.approx(1.0, abs=1e-12)
    assert max(best.aupro, best.average_precision) <= 1
    worst = pixel_metrics(lambda: [(noise - 2 * mask.astype(np.float32), mask)])
    assert (worst.auroc, worst.aupro) == (0.0, 0.0)


def test_f1_threshold_reproduces_the_flags_on_the_float32_map():
    generator = np.random.default_rng(4)
    mask = generator.random((50, 50)) < 0.1
    values = generator.normal(size=(50, 50)).astype(np.float32) + mask
    result = pixel_metrics(lambda: [(values, mask)])
    flagged = values >= result.f1_max_threshold
    assert result.f1_max == pytest.approx(2 * (flagged & mask).sum() / (flagged.sum() + mask.sum()), abs=1e-15)


def stream(normal_images, anomalous_images=2, size=128):
    def read():
        generator = np.random.default_rng(0)
        for i in range(normal_images + anomalous_images):
            values = generator.standard_normal((size, size), dtype=np.float32)
            mask = np.zeros((size, size), dtype=bool)
            mask[: size // 4] = i < anomalous_images
            yield values, mask

    return read


def peak_memory(read):
    tracemalloc.start()
    try:
        result = pixel_metrics(read)
        return tracemalloc.get_traced_memory()[1], result
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_normal_pixels():
    pixel_metrics(stream(1))  # loads what is loaded once
    few, small = peak_memory(stream(10))
    many, large = peak_memory(stream(100))
    assert large.normal_pixels > 8 * small.normal_pixels
    assert many <= few + 50_000  # one image's scores alone are 65,536 bytes


@pytest.mark.slow
def test_memory_per_anomalous_pixel_is_as_documented():
    pixel_metrics(stream(1))
    few, small = peak_memory(stream(1, 10, size=256))
    many, large = peak_memory(stream(1, 40, size=256))
    assert (many - few) / (large.anomalous_pixels - small.anomalous_pixels) <= 40


MAP, MASK = np.zeros((2, 3), dtype=np.float32), np.eye(2, 3, dtype=bool)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ([], "no pixel is marked"),
        ([(MAP, ~MASK & MASK)], "no pixel is marked"),
        ([(MAP, MASK | ~MASK)], "every pixel is marked"),
        ([(MAP, MASK), (MAP, MASK.T)], r"image 2: a map of shape \(2, 3\) does not fit a mask of \(3, 2\)"),
        ([(MAP[None], MASK[None])], "does not fit"),
        ([(MAP, MASK.astype(np.uint8))], "must be boolean, not uint8"),
        ([(MAP + np.float32([0, np.nan, np.inf]), MASK)], "image 1: 4 of 6 scores of the map are not finite"),
    ],
)
def test_bad_images_are_refused(made, message):
    with pytest.raises(DataError, match=message):
        pixel_metrics(lambda: made)


def test_an_iterator_that_can_be_read_only_once_is_refused():
    once = iter([(MAP, MASK)])
    with pytest.raises(DataError, match="the second reading gave 0 normal pixels, the first 4"):
        pixel_metrics(lambda: once)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, float("nan")])
def test_bad_limits_are_refused(limit):
    with pytest.raises(OddsightError, match="limit"):
        pixel_metrics(lambda: [(MAP, MASK)], limit=limit)
