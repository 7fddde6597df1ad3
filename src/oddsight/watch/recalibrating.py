"""Normal footage -> scores that alarms are calibrated on."""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import chain, combinations
from pathlib import Path

import numpy as np

from oddsight.data.reading import AS_DECLARED
from oddsight.errors import DataError, ImageError, plain
from oddsight.model.footage import Footage
from oddsight.model.model import Model
from oddsight.runtime.bounds import Real
from oddsight.runtime.progress import Progress, silent, unheard
from oddsight.sources.blocks import block_name
from oddsight.sources.frame import Frame
from oddsight.sources.source import Source, known_length
from oddsight.watch.interest import Proposer
from oddsight.watch.known_frames import KnownFrames
from oddsight.watch.looking import look_at
from oddsight.watch.looks import Looks
from oddsight.watch.unscored import Unscored
from oddsight.watch.zones import Zones

BLOCK = 60.0
"""Seconds of a block of footage, by default."""

_BLOCK = Real(above=0, most=86_400)


def recalibrate(
    model: Model,
    *footage: Source,
    zones: Zones | None = None,
    roi: Proposer | str | None = None,
    block: float = BLOCK,
    workers: int | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] = unheard,
) -> Model:
    """The same model with alarms calibrated on other normal footage; its graph, scores and threshold stay the same.

    Args:
        model: The model.
        *footage: Sources of frames that were accepted as normal and that it did not learn from, such as
            :class:`oddsight.sources.VideoFile`. Each counts from the start of a block.
        zones: Where :func:`oddsight.watch` will look.
        roi: What will propose regions of interest there.
        block: Seconds of the blocks whose maxima are counted. What happens in one is taken to say nothing about others.
        workers: Number of frames that are scored in parallel; by default the number of processors.
        progress: Called with phase, done and total.
        note: Called with what there is to say of frames that were left out.

    Raises:
        DataError: The footage is empty, or the model learned from it.
    """
    known = KnownFrames(model, "give other footage")

    def unknown(_: int, frame: Frame) -> bool:
        reading = model.reading if isinstance(frame.image, str | os.PathLike | bytes) else AS_DECLARED
        try:
            return not known(frame.read(reading), frame.name)
        except ImageError:
            return True  # Scoring says so

    looks = Looks(model, zones, roi)
    measured = measure_footage(
        looks, footage, roi=roi, block=block, keep=unknown, workers=workers, progress=progress, note=note
    )
    if known.count:
        note(str(known))
    return model.with_footage(measured)


def measure_footage(
    looks: Looks,
    footage: Sequence[Source],
    *,
    roi: Proposer | str | None,
    block: float,
    keep: Callable[[int, Frame], bool] = lambda number, frame: True,
    workers: int | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] = unheard,
) -> Footage:
    """Score the frames of footage.

    Args:
        looks: Where to look.
        footage: Sources of frames; each counts from the start of a block.
        roi: What proposes regions of interest in ``looks``.
        block: Seconds of a block.
        keep: Which frames count, by the number of their source, from 1, and themselves.
        workers: As for :func:`recalibrate`.
        progress: Called with phase, done and total.
        note: As for :func:`recalibrate`.
    """
    refuse_repeated(footage)
    unscored = Unscored()
    block = _BLOCK.read(block, "the length of a block")
    times, scores, start = list[float](), {zone: list[float]() for zone in looks.names}, 0.0
    lengths = [known_length(source) for source in footage]
    total, done = sum(length or 0 for length in lengths), 0
    for number, source in enumerate(footage, 1):
        last = -1.0
        for scored in look_at(looks, source, keep=partial(keep, number), workers=workers):
            done += 1
            progress("scoring footage", done, max(total, done))
            if isinstance(scored.outcome, ImageError):
                unscored.add(scored.outcome)
                continue
            if (time := scored.outcome.frame.time or 0.0) <= last:
                continue
            last = time
            times.append(start + time)
            best = dict.fromkeys(scores, float("nan"))
            for look in scored.outcome.looks:
                best[look.zone] = float(np.fmax(best[look.zone], look.result.score))
            for zone, value in best.items():
                scores[zone].append(value)
        start += (int(max(last, 0.0) / block) + 1) * block
    progress("scoring footage", done, done)  # of frames that do not count, nobody knew how many there are
    if len(times) < 2:
        why = f": {unscored}" if unscored.count else " that the model does not know"
        raise DataError(f"the footage has no frames to calibrate on{why}")
    if unscored.count:
        note(f"frames that could not be scored were left out: {unscored}")
    by_zone = {zone: np.array(values, np.float32) for zone, values in scores.items()}
    return Footage(np.array(times), by_zone, block, places_of(looks.zones, roi))


def refuse_repeated(footage: Sequence[Source]) -> None:
    """Refuse a file or folder that is given twice, or a copy of a file.

    Its blocks would count twice, and some that are held out would be copies of those that a model learned from.
    """
    paths = [Path(path) for source in footage if (path := getattr(source, "path", None)) is not None]
    twice = [place for place, count in Counter(map(os.path.realpath, paths)).items() if count > 1]
    if twice:
        raise DataError(f"{plain(twice[0])}: is given twice as footage: its blocks would count twice")
    by_size: dict[int, list[Path]] = {}
    for path in filter(Path.is_file, paths):
        by_size.setdefault(path.stat().st_size, []).append(path)
    for first, second in chain.from_iterable(combinations(alike, 2) for alike in by_size.values()):
        if filecmp.cmp(first, second, shallow=False):
            raise DataError(f"{plain(second)}: is a copy of {plain(first)}: its blocks would count twice")


def with_held_out(
    model: Model,
    footage: Sequence[Source],
    learned: Collection[str],
    *,
    zones: Zones | None = None,
    roi: Proposer | str | None = None,
    block: float = BLOCK,
    progress: Progress = silent,
    note: Callable[[str], None] = unheard,
) -> Model:
    """A model that was fitted on footage, with the blocks of it that it did not learn from.

    Args:
        model: The model.
        footage: What it was fitted on, with all frames.
        learned: The blocks that it learned from, as :class:`oddsight.sources.Blocks` calls them.
        zones: As for :func:`recalibrate`, and so are the others.
        roi: What proposes regions of interest.
        block: Seconds of a block.
        progress: Called with phase, done and total.
        note: As for :func:`recalibrate`.

    Raises:
        DataError: It learned from all blocks.
    """

    def unknown(number: int, frame: Frame) -> bool:
        return block_name(number, frame.time or 0.0, block) not in learned

    looks = Looks(model, zones, roi)
    return model.with_footage(
        measure_footage(looks, footage, roi=roi, block=block, keep=unknown, progress=progress, note=note)
    )


def places_of(zones: Zones, roi: Proposer | str | None) -> str:
    """Zones and regions of interest as text: scores of some say nothing about others."""
    # The name of a zone's model only: its folder may be written in several ways, or be moved.
    described = [[z.name, z.kind, z.polygon, "" if z.model is None else z.model.name] for z in zones]
    interest = roi if isinstance(roi, str | None) else type(roi).__name__
    return hashlib.sha256(json.dumps([described, interest]).encode()).hexdigest()[:16]
