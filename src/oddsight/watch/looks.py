"""From frames to looks: which parts of a frame are scored by which model, and what each zone and crop got."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import DataError, ImageError, without_traceback
from oddsight.model.events import WHOLE, Box, Look
from oddsight.model.model import Model
from oddsight.model.result import Result
from oddsight.runtime.bounds import Real
from oddsight.sources.frame import Frame
from oddsight.sources.source import Source
from oddsight.watch.interest import Proposer, open_roi, window
from oddsight.watch.tracks import Tracker
from oddsight.watch.zones import NO_MAP, Zone, Zones, zone_result

_SLACK = 1e-6
"""Seconds that rounding may take off the time of a frame."""


@dataclass(frozen=True)
class Crop:
    """A part of a frame that is scored as an image of its own.

    Attributes:
        zone: The zone that it belongs to.
        box: Where the object or the zone is, in pixels of the frame.
        window: What is cut out, around it.
        track: The number of the object, if one is followed.
        model: The model file of the zone; None for the model of the frames.
    """

    zone: str
    box: Box
    window: Box
    track: int | None = None
    model: Path | None = None


@dataclass(frozen=True, eq=False)
class View:
    """What there is to score of a frame; it can be pickled.

    Attributes:
        frame: The frame; it holds its pixels, if these were read.
        crops: The regions of interest.
        light_changed: Whether the proposer of these saw the light change suddenly, and therefore nothing else.
    """

    frame: Frame
    crops: tuple[Crop, ...] = ()
    light_changed: bool = False


@dataclass(frozen=True, eq=False)
class Observation:
    """What became of a view.

    Attributes:
        frame: The frame, with its pixels, uint8 ``[H, W, 3]``.
        looks: The scores: of each zone, or of the whole frame if there is none; or of each region of interest.
        light_changed: As in :class:`View`.
    """

    frame: Frame
    looks: tuple[Look, ...]
    light_changed: bool = False


@dataclass(frozen=True, eq=False)
class Scoring:
    """A job: from a view to what is seen in it, on one core. It has no state, so views are scored in any order."""

    model: Model
    zones: Zones
    whole: bool
    models: dict[Path, Model] = field(default_factory=dict)

    def __call__(self, view: View | ImageError) -> Observation | ImageError:
        """Score a view; an image that cannot be read or scored is its own error."""
        if isinstance(view, ImageError):
            return view
        try:
            return self._observe(view)
        except ImageError as error:
            return without_traceback(error)

    def _observe(self, view: View) -> Observation:
        frame = view.frame
        pixels, valid = frame.read_valid(self.model.reading)
        height, width, _ = pixels.shape
        mapped = [zone for zone in self.zones.include if zone.model is None]
        looks = []
        if self.whole and (mapped or not self.zones.include):
            result = self._score(self.model, frame, pixels, valid)
            looks += [
                Look(zone.name, zone_result(result, zone, self.zones, self.model), zone.box(width, height))
                for zone in mapped
            ] or [Look(WHOLE, zone_result(result, None, self.zones, self.model))]
        own = [_crop_of(zone, width, height) for zone in self.zones.include if zone.model is not None]
        for crop in (*own, *view.crops):
            left, top, right, bottom = crop.window
            part = np.ascontiguousarray(pixels[top:bottom, left:right])
            there = None if valid is None else valid[top:bottom, left:right]
            model = self.model if crop.model is None else self.models[crop.model]
            looks.append(Look(crop.zone, self._score(model, frame, part, there), crop.box, crop.track))
        return Observation(replace(frame, image=pixels), tuple(looks), view.light_changed)

    def _score(self, model: Model, frame: Frame, pixels: NDArray[np.uint8], valid: NDArray[np.bool_] | None) -> Result:
        result = model.score(pixels, valid=valid, source=frame.name, one_core=True)
        return replace(result, time=frame.time, index=frame.index)


class Looks:
    """What is looked at in each frame of a source.

    Without regions of interest, the whole frame is scored once, bit for bit as ``predict`` does. A zone's score is then
    the highest value of the anomaly map inside it: one run serves all zones, and what is normal was learned with its
    surroundings. A zone that names a model of its own is cut out and scored by that. With regions of interest, each is
    cut out and scored by the model, which has to be fitted on such crops (:class:`Crops`), and counts for the zone that
    its centre lies in; where nothing is proposed, nothing is scored.

    Frames are prepared in their order, in one thread, and scored in any order:

        >>> from oddsight.runtime.executor import map_jobs
        >>> from oddsight.sources import Files
        >>> from oddsight.watch.looks import Looks
        >>> looks = Looks(oddsight.load("parts.onnx"))
        >>> observations = list(map_jobs(looks.score, map(looks.prepare, Files("new"))))
        >>> observations[0].looks[0].zone
        'frame'

    Attributes:
        zones: The zones.
        score: The job that scores what :meth:`prepare` returns: an :class:`Observation`, or an ``ImageError``.

    Args:
        model: What frames, or regions of interest, are scored by.
        zones: Where to look; everywhere if there are none.
        roi: What proposes regions of interest, or its name, see :func:`oddsight.watch.interest.open_roi`; None if the
            whole frame is scored.

    Raises:
        DataError: The model cannot localise and a zone has no model of its own, or a zone is excluded completely.
        ModelError: The model of a zone cannot be read.
    """

    def __init__(self, model: Model, zones: Zones | None = None, roi: Proposer | str | None = None) -> None:
        self.zones = Zones() if zones is None else zones
        self._interest = None if roi is None else Interest(roi, self.zones)
        if roi is None:
            _check_map(model, self.zones)
        files = {zone.model for zone in self.zones.include if zone.model is not None}
        models = {path: Model.load(path) for path in sorted(files)}
        self.score = Scoring(model, self.zones, roi is None, models)

    @property
    def names(self) -> tuple[str, ...]:
        """The zones that looks may have, in the order of the file; ``frame`` if there are none."""
        return tuple(zone.name for zone in self.zones.include) or (WHOLE,)

    def prepare(self, frame: Frame | ImageError) -> View | ImageError:
        """What there is to score of the next frame of the source. An error stays as it is."""
        if isinstance(frame, ImageError) or self._interest is None:
            return frame if isinstance(frame, ImageError) else View(frame)
        try:
            pixels = frame.read(self.score.model.reading)
            crops = self._interest.crops(pixels)
        except ImageError as error:
            return ImageError(frame.name or error.path, error.reason)
        return View(replace(frame, image=pixels), crops, self._interest.light_changed)


class Interest:
    """The regions of interest of one frame after the other, followed, and each in its zone."""

    def __init__(self, roi: Proposer | str, zones: Zones) -> None:
        self._proposer = open_roi(roi) if isinstance(roi, str) else roi
        # A zone that has a model of its own is one crop, whatever is proposed there.
        self._zones, self._own = zones, {zone.name for zone in zones.include if zone.model is not None}
        self._tracker = Tracker()

    @property
    def light_changed(self) -> bool:
        """See :class:`oddsight.watch.interest.Proposer`."""
        return self._proposer.light_changed

    def crops(self, pixels: NDArray[np.uint8]) -> tuple[Crop, ...]:
        """The crops of the next frame, uint8 ``[H, W, 3]``."""
        height, width, _ = pixels.shape
        boxes = self._proposer.propose(pixels)
        crops = []
        for box, track in zip(boxes, self._tracker.update(boxes), strict=True):
            zone = self._zones.at((box[0] + box[2]) / 2 / width, (box[1] + box[3]) / 2 / height)
            if zone is not None and zone not in self._own:
                shown = window(box, width, height) if self._proposer.follows else box
                crops.append(Crop(zone, box, shown, track))
        return tuple(crops)


class Crops:
    """A source of the crops of another source's frames, for :func:`oddsight.fit` to learn what :class:`Looks` scores.

    Args:
        source: The frames.
        roi: What proposes regions of interest; see :class:`Looks`. Without it, each zone is one crop of each frame.
        zones: Where to look.
        every: Yield the crops of one frame in so many seconds; regions are proposed in all frames.

    Raises:
        DataError: There are neither regions of interest nor zones.
    """

    def __init__(
        self,
        source: Source,
        *,
        roi: Proposer | str | None = None,
        zones: Zones | None = None,
        every: float | None = None,
    ) -> None:
        self._source, self._zones = source, Zones() if zones is None else zones
        self._every = 0.0 if every is None else Real(above=0).read(every, "every")
        self._interest = None if roi is None else Interest(roi, self._zones)
        if roi is None and not self._zones.include:
            raise DataError("crops need regions of interest or zones: give roi or zones")

    def __iter__(self) -> Iterator[Frame | ImageError]:
        """Yield the crops, with the frame's time and index; their names are the frame's with the crop's window."""
        due = 0.0
        for frame in self._source:
            try:
                if isinstance(frame, ImageError):
                    raise frame
                pixels = frame.read()
                crops = self._crops(pixels)
            except ImageError as error:
                yield without_traceback(error)
                continue
            if frame.time is not None and frame.time < due - _SLACK:
                continue
            due = max(due, frame.time or 0.0) + self._every
            for crop in crops:
                left, top, right, bottom = crop.window
                part = np.ascontiguousarray(pixels[top:bottom, left:right])
                name = f"{frame.name or f'frame {frame.index}'}@{left},{top},{right},{bottom}"
                yield Frame(part, name, frame.time, frame.index)

    def _crops(self, pixels: NDArray[np.uint8]) -> tuple[Crop, ...]:
        if self._interest is not None:
            return self._interest.crops(pixels)
        height, width, _ = pixels.shape
        return tuple(_crop_of(zone, width, height) for zone in self._zones.include)


def _crop_of(zone: Zone, width: int, height: int) -> Crop:
    """The crop of a zone that has a model of its own."""
    box = zone.box(width, height)
    return Crop(zone.name, box, box, model=zone.model)


def _check_map(model: Model, zones: Zones) -> None:
    """Refuse zones that the map of a model cannot score."""
    mapped: list[Zone | None] = [zone for zone in zones.include if zone.model is None]
    if not zones.include and zones.exclude:
        mapped = [None]
    if mapped and model.metadata.map_size is None:
        raise DataError(NO_MAP)
    for zone in mapped:
        if not zones.covers(zone, *model.metadata.map_size).any():  # type: ignore[misc]
            what = "the whole frame" if zone is None else f"the zone {zone.name!r}"
            raise DataError(f"{what} is excluded by other zones as a whole, so nothing is left to look at")
