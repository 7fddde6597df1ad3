"""Scoring the images of a source into sinks: what ``oddsight predict`` does, and :func:`oddsight.predict`."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace

from oddsight.data.decoding import IMAGE_MEMORY, memory_for_images
from oddsight.data.folder import others_ignored
from oddsight.data.memory import parse_bytes, running_memory
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.errors import DataError, ImageError, MemoryBudgetError, OddsightError
from oddsight.model.model import Model, load
from oddsight.model.result import WITHIN_CLASSES, Result, control_fdr
from oddsight.runtime.progress import Progress, silent, unheard
from oddsight.scenes import SceneSettings, require_map
from oddsight.sinks.folders import FolderSink, prepare_folders
from oddsight.sinks.image_names import FileNames
from oddsight.sinks.regions import Regions
from oddsight.sinks.scenes import predict_scenes
from oddsight.sinks.sink import Prediction, Run, Sink, Totals
from oddsight.sources.files import Files
from oddsight.sources.frame import Frame
from oddsight.sources.source import ImagesLike, as_source, known_length

_USUAL_BUDGET = 2_090_000_000
"""Bytes that a process on two cores may take, without a budget, by :func:`running_memory`: 2 GB, since scoring loads
fewer libraries than that counts. A network beyond all measure still leaves a quarter of the usual memory for images."""


def predict(
    model: Model | str | os.PathLike[str],
    source: ImagesLike,
    *,
    sinks: Sequence[Sink] = (),
    tile: int | None = None,
    overlap: int | None = None,
    per_tile: bool = False,
    reading: Reading | None = None,
    fdr: float | None = None,
    memory: str | int | None = None,
    progress: Progress = silent,
    note: Callable[[str], None] = unheard,
) -> Totals:
    """Score the images of a source, and give every result to every sink.

    Images are read and scored on every core, in order and in bounded memory; one that cannot be read is counted and
    handed on as an error. If the run fails or is interrupted, no sink leaves a file half-written.

    Example:
        >>> from oddsight.sinks import Explanations, JsonLines
        >>> totals = oddsight.predict("parts.onnx", "new", sinks=[Explanations("why"), JsonLines("scores.jsonl")])
        >>> totals.anomalous, totals.errors
        (6, 0)

    Args:
        model: The model, or its file.
        source: A source such as :class:`oddsight.sources.Files`; a path or a list of paths, which may name folders or
            be glob patterns; or what else :meth:`oddsight.Model.predict_many` takes.
        sinks: Where results go, in this order: those that write files stand before those that name them.
        tile: Cut larger images into tiles of that many pixels; see :func:`oddsight.predict_scene`.
        overlap: Of tiles, in pixels.
        per_tile: Let the false-alarm rate and the p-value be of a tile instead of the image.
        reading: Bands and scale of TIFF files, instead of those that the model was trained with.
        fdr: Decide over the batch, so that at most this share of the alarms is expected to be false.
        memory: The budget of the whole process, such as ``2GB``.
        progress: Called with phase, done and total.
        note: Called with what there is to say beside the results.

    Returns:
        How many images came to what.

    Raises:
        OddsightError: If the model, the decision or a sink will not do, or there are no images.
    """
    model = model if isinstance(model, Model) else load(model)
    if tile is None and (overlap is not None or per_tile):
        raise OddsightError("overlap and per_tile are for images that are cut: give a tile, too")
    scene = None if tile is None else SceneSettings(tile, overlap, per_tile)
    if fdr is not None:
        _check_batch_decision(model, scene)
    frames = _found(source)
    run = _prepared(model, frames, sinks, scene, reading or AS_DECLARED, note)
    names = FileNames(frames.images if isinstance(frames, Files) else ())
    with ExitStack() as stack:
        stack.enter_context(memory_for_images(_memory_left(memory, model)))
        read = deque[Frame | ImageError]()
        outcomes: Iterable[Result | ImageError] = _counted(run, _Remembered(frames, read), progress)
        writers = [stack.enter_context(sink.open(run)) for sink in sinks]
        if fdr is not None:
            outcomes = control_fdr(outcomes, fdr, model.calibration_scores)
        for outcome in outcomes:
            frame = read.popleft()
            known = None if isinstance(frame, ImageError) else frame
            prediction = Prediction(outcome, known, names.of(known) if known is not None else "")
            for write in writers:
                write(prediction)
            run.totals.count(prediction.outcome)
    return run.totals


def _check_batch_decision(model: Model, scene: SceneSettings | None) -> None:
    if model.by_class:
        raise OddsightError(WITHIN_CLASSES)
    if scene is not None:
        raise OddsightError("deciding over a batch counts images, not tiles: leave out either --fdr or --tile")


def _found(source: ImagesLike) -> Iterable[Frame | ImageError]:
    """The frames of a source; paths alone are searched for images."""
    paths = [source] if isinstance(source, str | os.PathLike) else source
    if isinstance(paths, list | tuple) and not paths:
        raise DataError("no images are given: the list is empty")
    if isinstance(paths, list | tuple) and all(isinstance(path, str | os.PathLike) for path in paths):
        source = Files(*paths)
    if not isinstance(source, Files):
        return as_source(source)
    if not len(source):
        raise DataError(f"no images in {', '.join(source.paths)}{others_ignored(source.ignored)}")
    return source


def _prepared(
    model: Model,
    frames: Iterable[Frame | ImageError],
    sinks: Sequence[Sink],
    scene: SceneSettings | None,
    reading: Reading,
    note: Callable[[str], None],
) -> Run:
    """Check that model and sinks go together before any of them is opened."""
    folders = [sink for sink in sinks if isinstance(sink, FolderSink)]
    if scene is not None or any(sink.needs_map for sink in folders):
        require_map(model)
    prepare_folders(folders, frames.images if isinstance(frames, Files) else ())
    if any(isinstance(sink, Regions) for sink in sinks):
        # Where pixels are missing and where they lie is known only to what reads scenes.
        scene = scene or SceneSettings(tile=None)
    used = model.reading.override(reading)
    if model.reading.chosen and used != model.reading:
        note(f"read with {used}, and the model was trained with {model.reading}")
    return Run(model, reading, replace(scene, reading=reading) if scene is not None else None, note)


def _memory_left(memory: str | int | None, model: Model) -> int:
    """Bytes for images in a budget for the whole process."""
    size, weights = model.metadata.backbone.size, 3 * len(model.to_bytes())
    if memory is None:
        left = _USUAL_BUDGET - running_memory(size, weights=weights, workers=2)
        return min(IMAGE_MEMORY, max(left, IMAGE_MEMORY // 4))
    running = running_memory(size, weights=weights)
    left = parse_bytes(memory) - running
    if left <= 0:
        raise MemoryBudgetError(f"a budget of {memory} is too small: running this model takes {running / 1e6:,.0f} MB")
    return left


class _Remembered:
    """A source whose frames are kept until their outcomes are there."""

    def __init__(self, frames: Iterable[Frame | ImageError], read: deque[Frame | ImageError]) -> None:
        self._frames, self._read = frames, read

    def __length_hint__(self) -> int:
        length = known_length(self._frames)
        return length if length is not None else NotImplemented

    def __iter__(self) -> Iterator[Frame | ImageError]:
        for frame in self._frames:
            self._read.append(frame)
            yield frame


def _counted(run: Run, source: _Remembered, progress: Progress) -> Iterator[Result | ImageError]:
    if run.scene is None:
        outcomes = run.model.predict_many(source, reading=run.reading)
    else:
        outcomes = predict_scenes(run.model, source, run.scene, progress)
    total = known_length(source)
    for done, outcome in enumerate(outcomes, 1):
        yield outcome
        progress("scoring", done, total or done)
