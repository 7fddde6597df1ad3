"""What helps to find bicycles and carts among pedestrians: ideas, chosen on two clips and tested on four others.

    python benchmarks/walkway.py path/to/data work > benchmarks/walkway.csv

DATA holds ``video/walkway`` (UCSD Ped2, Mahadevan et al., CVPR 2010). Each idea learns from the normal frames of clip
01 and scores clip 02, and the other way round; the mean of the two AUROC (``chosen_on``) is what an idea may be chosen
by. Then it learns from the normal frames of both, and scores clips 03 to 06 (``tested_on``, with an interval by blocks
of 5 seconds); ``clip_01`` to ``clip_06`` are each clip alone. ``window`` is how many seconds of scores are averaged, of
the frame and those before it. Trivial scores stand beside them, in the direction that is better on clips 01 and 02.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import oddsight
from oddsight.metrics.image import auroc
from oddsight.metrics.stretches import block_auroc_interval
from oddsight.model.events import Box
from oddsight.model.model import Model
from oddsight.sources import Blocks, VideoFile
from oddsight.sources.frame import Frame
from oddsight.watch.looking import look_at
from oddsight.watch.looks import Crops, Looks
from oddsight.watch.motion import Motion
from video import Part

CHOOSING, TESTING = ("01.mp4", "02.mp4"), ("03.mp4", "04.mp4", "05.mp4", "06.mp4")
RATE, WINDOWS = 10, (0.0, 0.5, 1.0, 2.0)
Scores = dict[str, NDArray[np.float64]]
"""A score for each frame, by clip."""


def as_they_are(frames: Iterable[Frame]) -> Iterator[Frame]:
    """Frames without a change."""
    yield from frames


def time_as_colours(frames: Iterable[Frame]) -> Iterator[Frame]:
    """The grey values of now and of two and four frames before as the three colours: what stands still is grey."""
    before: list[NDArray[np.uint8]] = []
    for frame in frames:
        before = [*before[-4:], np.asarray(Image.fromarray(frame.read()).convert("L"))]
        yield replace(frame, image=np.stack([before[-1], before[max(-3, -len(before))], before[0]], axis=-1))


@dataclass(frozen=True)
class Idea:
    """A way to score frames.

    Attributes:
        options: Of ``oddsight.fit``.
        prepare: What becomes of frames first.
        moving: Whether only those places of the map count where something moves.
        roi: The regions of interest that are scored instead of whole frames, as ``oddsight watch --roi`` names them.
    """

    options: dict[str, object] = field(default_factory=dict)
    prepare: Callable[[Iterable[Frame]], Iterator[Frame]] = as_they_are
    moving: bool = False
    roi: str | None = None


SMALL = {"method": "padim", "size": 128}
IDEAS = {
    "auto": Idea(),
    "padim at 128 pixels": Idea(SMALL),
    "padim at 128 pixels, time as colours": Idea(SMALL, prepare=time_as_colours),
    "padim at 128 pixels where something moves": Idea(SMALL, moving=True),
    "padim at 320 pixels": Idea({"method": "padim", "size": 320}),
    "auto --speed best": Idea({"speed": "best"}),
    "auto at 96 pixels, --roi grid": Idea({"size": 96}, roi="grid"),
    "auto at 96 pixels, --roi motion": Idea({"size": 96}, roi="motion"),
    "knn at 96 pixels, --roi motion": Idea({"method": "knn", "size": 96}, roi="motion"),
}


class Prepared:
    """A source whose frames are changed, of which some are chosen."""

    def __init__(self, source: Iterable[Frame], prepare: Callable[[Iterable[Frame]], Iterator[Frame]]) -> None:
        self._source, self._prepare = source, prepare

    def __iter__(self) -> Iterator[Frame]:
        return self._prepare(self._source)


def labels(folder: Path) -> dict[str, NDArray[np.bool_]]:
    """Which frames of each clip are anomalous."""
    with (folder / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {clip: np.array([r["anomalous"] == "1" for r in rows if r["clip"] == clip]) for clip in CHOOSING + TESTING}


def learn(idea: Idea, folder: Path, clips: tuple[str, ...], truth: dict[str, NDArray[np.bool_]]) -> Model:
    """A model of the normal frames of clips."""
    parts: list[Iterable[Frame]] = []
    for clip in clips:
        normal = set(np.flatnonzero(~truth[clip]).tolist())
        source = Prepared(VideoFile(folder / clip), idea.prepare)
        parts.append(Chosen(source if idea.roi is None else Crops(source, roi=idea.roi), normal))
    blocks = Blocks(*parts, seconds=1)
    return oddsight.fit(blocks, groups=blocks.block_of, calibration_fraction=0.25, **idea.options)


class Chosen(Part):
    """The frames with some numbers."""

    def __init__(self, source: Iterable[Frame], numbers: set[int]) -> None:
        self._source, self._chosen = source, lambda frame: frame.index in numbers


def score(idea: Idea, model: Model, clip: Path) -> NDArray[np.float64]:
    """A score for each frame of a clip; frames without anything to score have the lowest."""
    motion, scores = Motion(), []
    for scored in look_at(Looks(model, roi=idea.roi), Prepared(VideoFile(clip), idea.prepare)):
        looks = scored.outcome.looks
        if idea.moving:
            boxes = motion.propose(scored.outcome.frame.image)
            scores.append(max((highest(looks[0].result, box) for box in boxes), default=np.nan))
        else:
            scores.append(max((look.result.score for look in looks), default=np.nan))
    values = np.array(scores)
    return np.where(np.isnan(values), np.nanmin(values), values)


def highest(result: oddsight.Result, box: Box) -> float:
    """The highest value of the map in a box."""
    height, width = result.map.shape
    left, right = box[0] * width // result.width, -(-box[2] * width // result.width)
    top, bottom = box[1] * height // result.height, -(-box[3] * height // result.height)
    return float(result.map[top:bottom, left:right].max())


def trivial(folder: Path) -> dict[str, Scores]:
    """Scores that know nothing: mean brightness, difference of frames, and the area of the largest moving box."""
    kinds: dict[str, Scores] = {"brightness": {}, "frame difference": {}, "area of the largest moving box": {}}
    for clip in CHOOSING + TESTING:
        motion, before, rows = Motion(), None, []
        for frame in VideoFile(folder / clip):
            grey = np.asarray(Image.fromarray(frame.image).convert("L").reduce(3), np.float32)
            change = 0.0 if before is None else float(np.abs(grey - before).mean())
            boxes = motion.propose(frame.image)
            rows.append((float(grey.mean()), change, max(((b[2] - b[0]) * (b[3] - b[1]) for b in boxes), default=0)))
            before = grey
        for kind, values in zip(kinds.values(), np.array(rows).T, strict=True):
            kind[clip] = values
    return kinds


def averaged(values: NDArray[np.float64], seconds: float) -> NDArray[np.float64]:
    """The mean of each score and those of the seconds before it."""
    count = max(1, round(seconds * RATE))
    sums = np.concatenate([[0.0], np.cumsum(values)])
    first = np.maximum(np.arange(len(values)) - count + 1, 0)
    return (sums[1:] - sums[first]) / (np.arange(len(values)) + 1 - first)


def area(scores: Scores, truth: dict[str, NDArray[np.bool_]], clips: tuple[str, ...]) -> float:
    """AUROC of the frames of clips together."""
    values, flags = (np.concatenate([part[clip] for clip in clips]) for part in (scores, truth))
    return auroc(values[~flags], values[flags])


def rows(name: str, chosen: list[Scores], tested: Scores, truth: dict[str, NDArray[np.bool_]]) -> Iterator[list[str]]:
    """A row for each window. ``chosen`` are scores of clips 01 and 02 by models that do not know them."""
    for window in WINDOWS:
        smooth = [{clip: averaged(values, window) for clip, values in part.items()} for part in (*chosen, tested)]
        choice = float(np.mean([area(part, truth, tuple(part)) for part in smooth[:-1]]))
        values, flags = (np.concatenate([part[clip] for clip in TESTING]) for part in (smooth[-1], truth))
        blocks = [
            number * 1000 + i // (5 * RATE) for number, clip in enumerate(TESTING) for i in range(len(truth[clip]))
        ]
        low, high = block_auroc_interval(values, flags, blocks) or (np.nan, np.nan)
        alone = [area(part, truth, (clip,)) for part in smooth[:-1] for clip in part]
        alone += [area(smooth[-1], truth, (clip,)) for clip in TESTING]
        numbers = [choice, area(smooth[-1], truth, TESTING), low, high, *alone]
        yield [name, f"{window:g}", *(f"{number:.3f}" for number in numbers)]


def scores_of(idea: Idea, folder: Path, truth: dict[str, NDArray[np.bool_]]) -> Scores:
    """Scores of all clips by models that do not know them."""
    scores = {}
    for learned, other in (CHOOSING, CHOOSING[::-1]):
        scores[other] = score(idea, learn(idea, folder, (learned,), truth), folder / other)
    model = learn(idea, folder, CHOOSING, truth)
    return scores | {clip: score(idea, model, folder / clip) for clip in TESTING}


def main() -> None:
    """Try every idea."""
    folder, work = Path(sys.argv[1]) / "video" / "walkway", Path(sys.argv[2])
    work.mkdir(exist_ok=True)
    truth = labels(folder)
    table = csv.writer(sys.stdout, lineterminator="\n")
    table.writerow(
        [
            "idea",
            "window",
            "chosen_on",
            "tested_on",
            "low",
            "high",
            *(f"clip_{clip[:2]}" for clip in CHOOSING + TESTING),
        ]
    )
    for name, scores in trivial(folder).items():
        sign = 1 if np.mean([area({c: scores[c]}, truth, (c,)) for c in CHOOSING]) >= 0.5 else -1
        signed = {clip: sign * values for clip, values in scores.items()}
        what = name if sign > 0 else f"{name}, reversed"
        table.writerows(rows(what, [{clip: signed[clip]} for clip in CHOOSING], signed, truth))
    for name, idea in IDEAS.items():
        kept = work / f"{name}.npz"
        if not kept.exists():
            np.savez(kept, **scores_of(idea, folder, truth))  # type: ignore[arg-type]
        scores = dict(np.load(kept))
        table.writerows(rows(name, [{clip: scores[clip]} for clip in CHOOSING], scores, truth))
        sys.stdout.flush()


if __name__ == "__main__":
    main()
