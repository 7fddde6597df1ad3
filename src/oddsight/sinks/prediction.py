"""What ``oddsight predict`` does: many files to a table, JSON Lines and heat maps."""

from __future__ import annotations

import io
import itertools
import json as jsonlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from oddsight.data.decoding import IMAGE_MEMORY, memory_for_images
from oddsight.data.folder import find_images, others_ignored
from oddsight.data.images import read_image
from oddsight.data.memory import parse_bytes, running_memory
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.drawing.explanations import explanation
from oddsight.drawing.overlays import overlay
from oddsight.errors import DataError, ImageError, MemoryBudgetError, OddsightError
from oddsight.model.model import Model, load
from oddsight.model.normals import NormalImages, normals_path
from oddsight.model.result import NONE_OF_THESE, Result, Tiling, control_fdr
from oddsight.runtime.files import atomic_write
from oddsight.runtime.progress import Progress
from oddsight.runtime.result_files import fill_folder, write_result
from oddsight.scenes import SceneSettings, open_image, require_map
from oddsight.scenes.region_files import write_regions
from oddsight.sinks.image_names import distinct_names
from oddsight.sinks.output_paths import check_outputs
from oddsight.sinks.scenes import predict_scenes, promise, shown_image
from oddsight.sinks.terminal import complain, console, note, progress, shown


@dataclass
class Totals:
    """How many images came to what."""

    normal: int = 0
    anomalous: int = 0
    errors: int = 0


def predict_paths(  # noqa: PLR0913 - one keyword for each option of the command
    model: Path,
    paths: Sequence[str],
    *,
    json: Path | None = None,
    maps: Path | None = None,
    explain: Path | None = None,
    regions: Path | None = None,
    scene: SceneSettings | None = None,
    reading: Reading = AS_DECLARED,
    false_alarm_rate: float | None = None,
    threshold: float | None = None,
    fdr: float | None = None,
    memory: str | None = None,
    quiet: bool = False,
) -> Totals:
    """Score files, folders and globs with a model file, and write what was asked for.

    Args:
        model: The model file; small copies of normal images are looked for beside it.
        paths: Files, folders and globs.
        json: Where JSON Lines go; ``-`` is standard output.
        maps: A folder for heat maps.
        explain: A folder for explanations of what is anomalous.
        regions: A folder for outlines and masks of what is anomalous.
        scene: How to cut scenes; by default they are not cut.
        reading: What of TIFF files to take instead of the bands and the scale that the model was trained on.
        false_alarm_rate: Decide anew at this rate.
        threshold: Or at this score.
        fdr: Or over the batch, at this share of false alarms.
        memory: The budget of the whole process; by default what it takes to run, and
            :data:`~oddsight.data.decoding.IMAGE_MEMORY` for images.
        quiet: No progress and no notes.

    Raises:
        OddsightError: If the model, the decision or the outputs will not do, or there are no images.
    """
    folders = {"heat maps": maps, "explanations": explain, "regions": regions}
    check_outputs(
        {"--json": json},
        folders=folders,
        inputs={"MODEL": model, "MODEL's small copies": normals_path(model), "PATH": paths},
    )
    loaded = load(model)
    if false_alarm_rate is not None or threshold is not None:
        loaded = loaded.with_decision(false_alarm_rate=false_alarm_rate, threshold=threshold)
    if fdr is not None and loaded.by_class:
        raise OddsightError(
            "deciding over a batch takes p-values among all images, and this model's are within each class: fit it "
            "without --per-class"
        )
    if fdr is not None and scene is not None and scene.tile is not None:
        raise OddsightError("deciding over a batch counts images, not tiles: leave out either --fdr or --tile")
    found = find_images(*paths)
    if not found.images and not found.problems:
        raise DataError(f"no images in {', '.join(paths)}{others_ignored(found.ignored)}")
    if maps is not None or regions is not None or (scene is not None and scene.tile is not None):
        require_map(loaded)
    _prepare_folders(folders, found.images)
    if regions is not None:
        # Where pixels are missing and where they lie is known only to what reads scenes.
        scene = scene or SceneSettings(tile=None)
    used = loaded.reading.override(reading)
    if loaded.reading.chosen and used != loaded.reading:
        note(f"read with {used}, and the model was trained with {loaded.reading}", quiet=quiet)
    scene = replace(scene, reading=used) if scene is not None else None
    normals = normals_beside(model) if json is not None or explain is not None else None
    to_stdout = json is not None and str(json) == "-"
    with ExitStack() as stack:
        stack.enter_context(memory_for_images(_memory_left(memory, loaded)))
        lines = stack.enter_context(atomic_write(json)) if json is not None and not to_stdout else None
        # Rows that appear on a terminal are progress enough.
        report = stack.enter_context(progress(quiet or (json is None and console.is_terminal)))
        results: Iterable[Result | ImageError] = _counted(loaded, found.images, scene, used, report)
        if fdr is not None:
            results = control_fdr(results, fdr, loaded.calibration_scores)
        for what, folder in folders.items():
            removed = stack.enter_context(fill_folder(folder, what)) if folder is not None else 0
            if removed:
                note(f"removed {removed:,} files of an earlier run from {folder}", quiet=quiet)
        names = distinct_names(found.images)
        sinks = _Sinks(loaded, normals, lines, to_stdout, maps, explain, regions, scene, used, names)
        for outcome in itertools.chain(found.problems, results):
            sinks.take(outcome)
    sinks.finish(quiet)
    return sinks.totals


def _memory_left(memory: str | None, model: Model) -> int:
    """Bytes for images in a budget for the whole process."""
    if memory is None:
        return IMAGE_MEMORY
    running = running_memory(model.metadata.backbone.size, weights=3 * len(model.to_bytes()))
    left = parse_bytes(memory) - running
    if left <= 0:
        raise MemoryBudgetError(f"a budget of {memory} is too small: running this model takes {running / 1e6:,.0f} MB")
    return left


def normals_beside(model: Path) -> NormalImages | None:
    """The small copies of normal images beside a model file; if they are damaged, a complaint and None."""
    try:
        return NormalImages.beside(model)
    except DataError as error:
        complain(error)
        return None


def _counted(
    model: Model, images: Sequence[Path], scene: SceneSettings | None, reading: Reading, report: Progress
) -> Iterator[Result | ImageError]:
    if scene is None:
        outcomes = model.predict_many(images, reading=reading)
    else:
        outcomes = predict_scenes(model, images, scene, report)
    for done, outcome in enumerate(outcomes, 1):
        yield outcome
        report("scoring", done, len(images))


_ROW = "{}  {:>9}  {:>8}  {}  {}{}"


class _Sinks:
    """Where results go, one by one."""

    def __init__(
        self,
        model: Model,
        normals: NormalImages | None,
        lines: BinaryIO | None,
        to_stdout: bool,
        maps: Path | None,
        explain: Path | None,
        regions: Path | None,
        scene: SceneSettings | None,
        reading: Reading,
        names: Mapping[str, str],
    ) -> None:
        self.totals = Totals()
        self.model, self.tilings = model, list[Tiling]()
        if scene is None:
            read: Callable[[Path], NDArray[np.uint8]] = partial(read_image, reading=reading)
        else:
            read = partial(shown_image, settings=scene, model=model)
        self.normals, self.lines, self.to_stdout = normals, lines, to_stdout
        self.maps = _Images(maps, overlay, read, names) if maps is not None else None
        self.explanations = _Images(explain, self._explained, read, names) if explain is not None else None
        self.regions = _Regions(regions, scene, model, names) if regions is not None and scene is not None else None
        self.table = lines is None and not to_stdout
        described = model.metadata.explanation
        voices = described.voices if described is not None else []
        self.by_width = max(map(len, voices), default=0)
        self.knows_classes, self.words = bool(model.classes), model.verdicts
        verdicts = (NONE_OF_THESE, *model.classes) if model.classes else model.verdicts
        self.verdict_width = max(len(shown(verdict)) for verdict in ("verdict", *verdicts))
        self.detail, self.detail_width = ("most like", self.verdict_width + 5) if model.classes else ("regions", 7)
        if self.table:
            self._row("verdict", "score", "p-value", self.detail, "by", "image", style="bold")

    def take(self, outcome: Result | ImageError) -> None:
        """Write one outcome everywhere."""
        if isinstance(outcome, ImageError):
            self.totals.errors += 1
            complain(outcome)
            self._line({"path": outcome.path, "error": outcome.reason})
            return
        if outcome.anomalous:
            self.totals.anomalous += 1
        else:
            self.totals.normal += 1
        content = outcome.to_json() | {"nearest": self._nearest(outcome.nearest)}
        if self.maps or self.explanations or self.regions:
            content["files"] = self._write_files(outcome)
        self._line(content)
        if outcome.tiling is not None:
            self.tilings.append(outcome.tiling)
        if self.table:
            numbers = f"{outcome.score:.5g}", f"{outcome.p_value:.3g}"
            by = outcome.voices[0].name if outcome.anomalous and outcome.voices else ""
            style = "red" if outcome.anomalous else None
            self._row(outcome.verdict, *numbers, _detail(outcome), by, shown(outcome.source), style=style)

    def _write_files(self, outcome: Result) -> dict[str, str]:
        """Write what is drawn of one result; the paths by what they are."""
        files: dict[str, str] = {}
        # A decision over the batch keeps the maps of possible alarms only.
        if self.maps is not None and outcome.map is not None:
            files["map"] = str(self.maps.write(outcome))
        if self.explanations is not None and outcome.anomalous:
            files["explanation"] = str(self.explanations.write(outcome))
        if self.regions is not None and outcome.anomalous:
            kinds = ("outline", "mask", "geotiff")
            files |= zip(kinds, map(str, self.regions.write(outcome)), strict=False)
        return files

    def finish(self, quiet: bool) -> None:
        """Show the sum."""
        totals = self.totals
        unreadable = f", {totals.errors:,} could not be read" if totals.errors else ""
        good, odd = ("of one of them", "of none of the classes") if self.knows_classes else self.words
        note(f"{totals.anomalous:,} {odd}, {totals.normal:,} {good}{unreadable}", quiet=quiet)
        promised = promise(self.model, self.tilings)
        if promised is not None:
            note(promised, quiet=quiet)

    def _row(
        self, verdict: str, score: str, p_value: str, detail: str, by: str, image: str, *, style: str | None
    ) -> None:
        """Of the table; it says what spoke if there are several that can."""
        by = f"{shown(by):<{self.by_width}}  " if self.by_width else ""
        verdict = f"{shown(verdict):<{self.verdict_width}}"
        detail = f"{shown(detail):<{self.detail_width}}" if self.knows_classes else f"{detail:>{self.detail_width}}"
        console.print(_ROW.format(verdict, score, p_value, detail, by, image), style=style)

    def _nearest(self, content: str | None) -> dict[str, str | None] | None:
        if content is None:
            return None
        return {"content": content, "path": self.normals.path(content) if self.normals is not None else None}

    def _explained(self, image: NDArray[np.uint8], result: Result) -> NDArray[np.uint8]:
        return explanation(image, result, self.normals)

    def _line(self, content: dict[str, Any]) -> None:
        line = jsonlib.dumps(content, allow_nan=False) + "\n"
        if self.lines is not None:
            self.lines.write(line.encode())
        elif self.to_stdout:
            console.file.write(line)


def _detail(outcome: Result) -> str:
    """The class that an image is most like, and how probable it is among them; or how many regions are beyond."""
    if outcome.label is not None:
        return f"{outcome.label} {outcome.label_probability:.0%}"
    return str(len(outcome.regions)) if outcome.map is not None and outcome.anomalous else ""


def _prepare_folders(folders: Mapping[str, Path | None], images: Sequence[Path]) -> None:
    """Make the folders of images and regions, each its own, so that none replaces another's files."""
    named = [(what, folder) for what, folder in folders.items() if folder is not None]
    for what, folder in named:
        _prepare_folder(folder, what, images)
    for (what, folder), (other, second) in itertools.combinations(named, 2):
        if folder.samefile(second):
            raise OddsightError(f"{what} and {other} cannot both be written into {folder}: name two folders")


def _prepare_folder(folder: Path, what: str, images: Sequence[Path]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OddsightError(f"cannot write {what} into {folder}: {error.strerror}") from error
    # A link to what is in the folder must not lose it either.
    parents = {image.parent for image in images} | {
        Path(os.path.realpath(image)).parent for image in images if image.is_symlink()
    }
    if any(parent.samefile(folder) for parent in parents):
        raise OddsightError(f"cannot write {what} into {folder}: they could replace the images there")


class _Images:
    """A folder of images that are drawn of results, named after their images."""

    def __init__(
        self,
        folder: Path,
        draw: Callable[[NDArray[np.uint8], Result], NDArray[np.uint8]],
        read: Callable[[Path], NDArray[np.uint8]],
        names: Mapping[str, str],
    ) -> None:
        self.folder, self.draw, self.read, self.names = folder, draw, read, names

    def write(self, result: Result) -> Path:
        """Read the image of a result again and write what is drawn of both."""
        from PIL import Image

        source, file = result.source or "image", io.BytesIO()
        Image.fromarray(self.draw(self.read(Path(source)), result)).save(file, format="PNG")
        path = self.folder / f"{self.names[source]}.png"
        write_result(path, file.getvalue())
        return path


class _Regions:
    """A folder of outlines and masks, named after their images."""

    def __init__(self, folder: Path, scene: SceneSettings, model: Model, names: Mapping[str, str]) -> None:
        self.folder, self.scene, self.model, self.names = folder, scene, model, names

    def write(self, result: Result) -> list[Path]:
        """Read of the image what its result lacks, and write what is beyond the threshold."""
        source = result.source or "image"
        image = open_image(Path(source), self.scene, self.model)
        return write_regions(result, image, self.folder, self.names[source])
