"""Exact pixel-level metrics of anomaly maps, streamed: memory grows with the anomalous pixels only."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from oddsight.errors import DataError, OddsightError
from oddsight.runtime.bounds import check_number

Map = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

_BLOCK = 1 << 16  # anomalous scores that the final sums take at a time


@dataclass(frozen=True)
class PixelScores:
    """How well anomaly maps point at the anomalous pixels of a test set."""

    auroc: float  # Chance that an anomalous pixel scores higher than a normal one, ties half; 0 to 1, 0.5 is chance
    average_precision: float  # Precision averaged over the steps of recall, above 0, up to 1
    aupro: float  # Area under the per-region overlap up to `limit`, divided by `limit`; 0 to 1
    f1_max: float  # Highest F1 score that one threshold reaches, above 0, up to 1. It uses the labels: an upper bound.
    # The threshold that reaches it (the highest, of several); a pixel is anomalous if and only if its score is at least
    # the threshold. Never a setting to use.
    f1_max_threshold: float
    limit: float  # The false-positive rate up to which AUPRO integrates
    anomalous_pixels: int  # How many pixels the masks mark
    normal_pixels: int  # How many they do not
    regions: int  # How many 8-connected regions they mark


def pixel_metrics(images: Callable[[], Iterable[tuple[Map, Mask]]], *, limit: float = 0.3) -> PixelScores:
    """Measure anomaly maps against masks, over all distinct thresholds, without binning and without interpolation.

    AUPRO is that of MVTec AD (Bergmann et al., CVPR 2019 and IJCV 2021; the limit of 0.3: CVPR 2020): at each
    threshold the share of each 8-connected region that is found, averaged over the regions, so that a small defect
    counts as much as a large one; against the false-positive rate over the normal pixels of all images. Points of
    the curve are joined by straight lines, also where it crosses the limit.

    The images are read twice: first the scores of the anomalous pixels are collected and sorted, then the normal
    pixels of one image after another are counted between them. Peak memory is about 40 bytes for each anomalous
    pixel (float32 maps with all scores distinct; fewer with ties), plus some 30 bytes for each pixel of the largest
    image and 10 MB, however many normal images there are.

    Args:
        images: Called twice; yields the anomaly map [H, W] (higher is more anomalous; float32, or any real type, kept
            as it is) and the mask [H, W] (boolean, true where anomalous; all false for a normal image) of every test
            image, the same both times. Sizes may differ from image to image.
        limit: False-positive rate up to which AUPRO integrates, above 0, up to 1.
    """
    check_limit(limit)
    anomalous, normal_pixels = _collect_anomalous(images())
    counts = _count_normal(images(), anomalous.thresholds)
    np.cumsum(counts, out=counts)
    if counts[-1] != normal_pixels:
        raise DataError(f"the second reading gave {counts[-1]} normal pixels, the first {normal_pixels}")
    return _summarise(anomalous, counts, limit)


@dataclass(frozen=True)
class _Anomalous:
    """The anomalous pixels of all images, by distinct score."""

    thresholds: Map  # The distinct scores, ascending, shape [K]
    starts: npt.NDArray[np.int64]  # How many anomalous pixels score less than each, shape [K]
    # How much the mean per-region overlap grows where the threshold falls to each, shape [K]; sums to 1
    overlaps: npt.NDArray[np.float64]
    pixels: int  # How many anomalous pixels there are
    regions: int  # How many regions they form


def _collect_anomalous(images: Iterable[tuple[Map, Mask]]) -> tuple[_Anomalous, int]:
    """First reading: the anomalous pixels by score, and the number of normal pixels."""
    from scipy.ndimage import label

    scores, sizes, normal_pixels, regions = [], [], 0, 0
    for values, mask in _checked(images):
        normal_pixels += mask.size - int(mask.sum())
        if not mask.any():
            continue
        labels, found = label(mask, structure=np.ones((3, 3)))
        inside = labels[mask]
        # Each pixel remembers the size of its region: all that its share in the mean overlap needs.
        sizes.append(np.bincount(inside).astype(np.uint32)[inside])
        scores.append(values[mask])
        regions += found
    if not regions:
        raise DataError("no pixel is marked anomalous in any mask: pixel metrics need anomalous regions")
    if not normal_pixels:
        raise DataError("every pixel is marked anomalous in all masks: pixel metrics need normal pixels")
    return _by_score(scores, sizes, regions), normal_pixels


def _by_score(scores: list[Map], sizes: list[npt.NDArray[np.uint32]], regions: int) -> _Anomalous:
    """Sort the pixels of all images; empties both lists, so that nothing is held twice."""
    all_scores = np.concatenate(scores)
    scores.clear()
    all_sizes = np.concatenate(sizes)
    sizes.clear()
    order = np.argsort(all_scores)
    all_scores = all_scores[order]
    all_sizes = all_sizes[order]
    del order
    starts = np.flatnonzero(np.append(True, all_scores[1:] != all_scores[:-1]))
    thresholds = all_scores[starts]
    del all_scores
    overlaps = np.add.reduceat(1 / all_sizes, starts)
    overlaps /= regions
    return _Anomalous(thresholds, starts, overlaps, pixels=all_sizes.size, regions=regions)


def _count_normal(images: Iterable[tuple[Map, Mask]], thresholds: Map) -> npt.NDArray[np.int64]:
    """Second reading: count the normal pixels in and between the K distinct anomalous scores.

    Returns:
        Shape [2 K + 1], ascending: below the first score, equal to it, between it and the second, ..., above the last.
    """
    counts = np.zeros(2 * thresholds.size + 1, dtype=np.int64)
    for values, mask in _checked(images):
        # Sorted, the search walks through memory in order: several times faster over millions of thresholds.
        normal = np.sort(values[~mask])
        bins = np.searchsorted(thresholds, normal, side="left")
        tied = thresholds[np.minimum(bins, thresholds.size - 1)] == normal
        bins *= 2
        bins += tied
        np.add.at(counts, bins, 1)
    return counts


def check_limit(limit: float) -> None:
    """Refuse what is no limit of the false-positive rate."""
    check_number(limit, "the limit of the false-positive rate")
    if not 0 < limit <= 1:
        raise OddsightError(f"the limit of the false-positive rate must be above 0 and at most 1, not {limit}")


def _summarise(anomalous: _Anomalous, counts: npt.NDArray[np.int64], limit: float) -> PixelScores:
    """Sum up all metrics over the distinct anomalous scores, in blocks.

    Every area is a sum over anomalous scores of the area that each adds on its own: a curve of false positives along x
    rises, at a score with `above` higher and `tied` equal normal pixels, in a straight line from above to above + tied.
    """
    pixels, normal_pixels = anomalous.pixels, int(counts[-1])
    end = limit * normal_pixels
    wins, precision, overlap, f1_max, f1_max_threshold = 0, 0.0, 0.0, 0.0, 0.0
    for first in range(0, anomalous.thresholds.size, _BLOCK):
        block = slice(first, first + _BLOCK)
        starts = anomalous.starts[block]
        here = np.diff(np.append(anomalous.starts[first : first + _BLOCK + 1], pixels))[: starts.size]
        below, not_above = counts[:-1:2][block], counts[1::2][block]

        wins += int(here @ (below + not_above))

        found, alarms = pixels - starts, normal_pixels - below
        precision += float(here @ (found / (found + alarms)))
        f1 = 2 * found / (found + alarms + pixels)
        best = f1.size - 1 - int(f1[::-1].argmax())
        if f1[best] >= f1_max:
            f1_max, f1_max_threshold = float(f1[best]), float(anomalous.thresholds[first + best])

        tied = not_above - below
        room = np.maximum(end - (normal_pixels - not_above), 0)
        rising = np.minimum(room, tied)
        overlap += float(anomalous.overlaps[block] @ (rising**2 / (2 * np.maximum(tied, 1)) + room - rising))
    return PixelScores(
        auroc=wins / (2 * pixels * normal_pixels),
        # The shares that are summed are rounded, and a perfect map must not come out above 1.
        average_precision=min(precision / pixels, 1.0),
        aupro=min(overlap / end, 1.0),
        f1_max=f1_max,
        f1_max_threshold=f1_max_threshold,
        limit=limit,
        anomalous_pixels=pixels,
        normal_pixels=normal_pixels,
        regions=anomalous.regions,
    )


def _checked(images: Iterable[tuple[Map, Mask]]) -> Iterator[tuple[Map, Mask]]:
    """The images as they come, each checked."""
    for number, (values, mask) in enumerate(images, start=1):
        if values.ndim != 2 or values.shape != mask.shape:
            raise DataError(f"image {number}: a map of shape {values.shape} does not fit a mask of {mask.shape}")
        if mask.dtype != np.bool_:
            raise DataError(f"image {number}: the mask must be boolean, not {mask.dtype}")
        bad = values.size - int(np.isfinite(values).sum())
        if bad:
            raise DataError(f"image {number}: {bad} of {values.size} scores of the map are not finite")
        yield values, mask
