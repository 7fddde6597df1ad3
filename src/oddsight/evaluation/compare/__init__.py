"""compare(): many methods, backbones and layers on labelled data, side by side, with tests of what the numbers show.

What is compared is what ships: every cell is fitted by :func:`oddsight.fit`. Features are extracted once for each
backbone and size; test images are scored from them by the model's own graph, and the whole file must agree.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from oddsight import backbones, detectors
from oddsight.backbones import Backbone
from oddsight.backbones.cache import default_cache
from oddsight.data.anomaly_folders import mask_like
from oddsight.data.decoding import memory_for_images
from oddsight.data.grouping import AUTO, Groups
from oddsight.data.memory import RUNNING, MemoryPlan, parse_bytes, plan_memory
from oddsight.data.reading import AS_DECLARED, Reading
from oddsight.detectors import Detector
from oddsight.errors import MemoryBudgetError, OddsightError
from oddsight.evaluation.compare.cells import Cell, Job, Setting, memory_for
from oddsight.evaluation.compare.running import run_jobs
from oddsight.evaluation.compare.standings import LEAST_DATA_SETS, Ranking, Standing, ranking, standings_on
from oddsight.evaluation.compare.trials import Source, Trial, read_trials
from oddsight.metrics.image import check_confidence
from oddsight.model.calibration import check_rate
from oddsight.runtime.bounds import check_seed, check_whole
from oddsight.runtime.files import check_writable, make_folder
from oddsight.runtime.parallel import cores
from oddsight.runtime.progress import Progress, silent

_FEW = 20

_MEANING = {
    "higher": "on these images a method is not needed, or they differ by an artefact.",
    "not distinguishable": "the test does not show that any method is better than that.",
}

Layers = str | Sequence[str]
"""``default``: those that suit the method; ``each``: every stage of the backbone on its own, for methods that read
embeddings; or the names of stages, for methods that read embeddings or patches."""


@dataclass(frozen=True)
class Comparison:
    """The result of :func:`compare`.

    Attributes:
        trials: The datasets.
        cells: Every dataset, setting and seed, in the order asked for.
        standings: Every dataset and setting over its seeds, and the trivial baselines, best first in each dataset.
        ranking: Over several datasets.
        confidence: Confidence of intervals and tests.
        computed: Number of cells that were computed now; the others are from an earlier run.
        warnings: Caveats for the reader, one sentence each.
    """

    trials: tuple[Trial, ...]
    cells: tuple[Cell, ...]
    standings: tuple[Standing, ...]
    ranking: Ranking | None
    confidence: float
    computed: int
    warnings: tuple[str, ...]

    def on(self, data: str) -> list[Standing]:
        """The standings on one dataset."""
        return [one for one in self.standings if one.data == data]

    def highest(self, data: str) -> Standing | None:
        """The setting with the highest mean AUROC on a dataset; the verdicts say whether that is significant."""
        return next((one for one in self.on(data) if one.verdict == "highest"), None)


def compare(  # noqa: PLR0913 - one keyword for each option of the command
    *data: Source,
    methods: str | Sequence[str] = "all",
    backbones: str | Sequence[str] = (backbones.DEFAULT,),
    layers: str | Sequence[Layers] = ("default",),
    sizes: int | Sequence[int] = (),
    seeds: int | Sequence[int] = (0,),
    normal: str | None = None,
    test_share: float = 0.5,
    split_seed: int = 0,
    groups: Groups = AUTO,
    false_alarm_rate: float | None = None,
    reading: Reading = AS_DECLARED,
    memory: str | int = "1GB",
    jobs: int | None = None,
    work: Source | None = None,
    confidence: float = 0.95,
    progress: Progress = silent,
) -> Comparison:
    """Fit and test methods with default settings on every dataset.

    A cell that cannot be computed (too few images, too little memory) becomes a row with its error. Finished cells are
    stored in the work folder, by the content of the data and all settings, and are not computed again.

    Args:
        *data: Folders in MVTec AD's layout, or folders of class folders with ``normal``; ``NAME=FOLDER`` gives one a
            name.
        methods: ``all`` methods that train no network, or names of :data:`oddsight.detectors.METHODS`.
        backbones: One or several names of backbones.
        layers: One or several choices of layers to compare: see :data:`Layers`.
        sizes: As ``size`` of :func:`oddsight.fit`, one or several; by default as it chooses.
        seeds: One or several seeds of every random choice in fitting.
        normal: For class folders, the class that is normal.
        test_share: Share of the normal class that is held out for testing, between 0 and 1.
        split_seed: Seed of that split.
        groups: Which normal images belong together, as for :func:`oddsight.fit`.
        false_alarm_rate: As for :func:`oddsight.fit`.
        reading: As for :func:`oddsight.fit`.
        memory: Memory budget of the whole process, such as ``1GB``.
        jobs: Number of cells that are computed in parallel; by default the number of processors. Memory may allow
            fewer.
        work: Folder for finished cells; by default beside the user's feature cache.
        confidence: Confidence of intervals and tests, between 0 and 1.
        progress: Called with phase, done and total.

    Raises:
        OddsightError: A setting is invalid.
        DataError: A dataset cannot be used for testing.
    """
    settings = _settings(methods, _several(backbones), _several(layers), _several(sizes))
    chosen = tuple(dict.fromkeys(_several(seeds)))
    _check(chosen, false_alarm_rate, jobs, confidence)
    budget = parse_bytes(memory)
    with memory_for_images(budget - RUNNING, final=True):
        trials = read_trials(data, normal, test_share, split_seed, groups, progress, reading=reading)
    wanted = [job for trial in trials for job in _jobs(trial, settings, chosen, false_alarm_rate, budget)]
    with _work_folder(work) as folder, memory_for_images((budget - RUNNING) // 2):
        cells, computed = run_jobs(wanted, folder, budget - RUNNING, jobs or cores(), progress)
    labels = _labels(settings)
    rows = [
        row
        for trial in trials
        for row in standings_on(trial, [cell for cell in cells if cell.data == trial.name], labels, confidence)
    ]
    ranked = ranking([trial.name for trial in trials], rows, confidence)
    warnings = tuple(_warnings(trials, rows, ranked))
    return Comparison(tuple(trials), tuple(cells), tuple(rows), ranked, confidence, computed, warnings)


def _several(given: Any) -> Sequence[Any]:  # noqa: ANN401 - of any setting
    return [given] if isinstance(given, str | int) else given


def _check(seeds: Sequence[int], rate: float | None, jobs: int | None, confidence: float) -> None:
    if not seeds:
        raise OddsightError("name a seed")
    for seed in seeds:
        check_seed(seed)
    if rate is not None:
        check_rate(rate)
    if jobs is not None:
        check_whole(jobs, "the number of jobs", 1, 1024)
    check_confidence(confidence)


def _settings(
    names: str | Sequence[str], networks: Sequence[str], layers: Sequence[Layers], sizes: Sequence[int]
) -> list[Setting]:
    """Every setting once, in the order asked for."""
    every = detectors.quick() if names == "all" else [names] if isinstance(names, str) else list(names)
    if not every or not networks or not layers:
        raise OddsightError("give at least one method, backbone and choice of layers, or leave them out")
    found: dict[Setting, None] = {}
    for name, network_name in product(every, networks):
        cls = detectors.by_name(name)
        network_of_it = backbones.PIXELS.name if cls.reads == "pixels" else network_name
        network = backbones.backbone(network_of_it)
        for choice, size in product(layers, sizes or (None,)):
            for stages in _stages(cls, network, choice):
                network.check_layers(stages)
                network.shapes(stages, cls.size or network.size if size is None else size)
                found[Setting(name, network_of_it, stages, size)] = None
    return list(found)


def _stages(cls: type[Detector], network: Backbone, choice: Layers) -> list[tuple[str, ...]]:
    default = network.default_layers(cls.reads, cls.stride)
    if choice == "default":
        return [default]
    if choice == "each":
        return [(name,) for name in network.stages] if cls.reads == "embedding" else [default]
    if cls.reads not in ("embedding", "patches"):
        return [default]
    return [(choice,) if isinstance(choice, str) else tuple(choice)]


def _jobs(
    trial: Trial, settings: Sequence[Setting], seeds: Sequence[int], rate: float | None, budget: int
) -> list[Job]:
    jobs = []
    for setting in settings:
        network = backbones.backbone(setting.backbone)
        takes = {"activations": network.activations, "weights": network.memory(setting.layers)}
        extractor, detector = setting.extractor(trial.training), detectors.by_name(setting.method)()
        try:
            plan = plan_memory(budget, trial.training, extractor.size, **takes)
        except MemoryBudgetError:
            plan = MemoryPlan(budget, budget, 0)  # nothing left for a method: fit says what is missing
        own = memory_for(budget, plan, detector, extractor.shape, len(trial.training))
        jobs += [Job(trial, setting, seed, rate, own) for seed in seeds]
    return jobs


@contextmanager
def _work_folder(work: Source | None) -> Iterator[Path]:
    """The folder of finished cells; where none is named and the cache takes nothing, one that is gone afterwards."""
    folder = Path(work) if work is not None else _folder_in_cache()
    if folder is not None:
        make_folder(folder)
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="oddsight-", ignore_cleanup_errors=True) as temporary:
        yield Path(temporary)


def _folder_in_cache() -> Path | None:
    """Where finished cells are kept in the user's cache; None if it is off or cannot be written to."""
    cache = default_cache()
    if cache is None:
        return None
    folder = cache.folder / "comparisons"
    try:
        make_folder(folder)
        check_writable(folder / "cells.json")
    except OddsightError:
        return None
    return folder


def _labels(settings: Sequence[Setting]) -> dict[Setting, str]:
    """The method, and of its settings what tells it from others."""
    several = {field: len({getattr(one, field) for one in settings}) > 1 for field in ("backbone", "size")}
    ways = Counter((one.method, one.backbone, one.size) for one in settings)
    labels = {}
    for one in settings:
        parts = [one.method]
        parts += [one.backbone] if several["backbone"] else []
        parts += ["+".join(one.layers)] if ways[one.method, one.backbone, one.size] > 1 else []
        parts += [f"{one.size} px"] if several["size"] else []
        labels[one] = ", ".join(parts)
    return labels


def _warnings(trials: Sequence[Trial], rows: Sequence[Standing], ranked: Ranking | None) -> Iterator[str]:
    for trial in trials:
        if trial.test.coverage is not None:
            yield from (f"{trial.name}: {sentence}" for sentence in trial.test.coverage.sentences())
        else:
            yield from (f"{trial.name}: {sentence}" for sentence in mask_like(trial.test.kinds))
        own = [one for one in rows if one.data == trial.name]
        best = next((one for one in own if one.verdict == "highest"), None)
        trivial = next(one for one in own if one.setting is None)
        if best is not None and trivial.verdict in _MEANING:
            assert best.mean is not None and trivial.mean is not None
            yield (
                f"{trial.name}: the trivial baseline '{trivial.label}' has an AUROC of {trivial.mean.auroc:.3f}, and "
                f"the best method, {best.label}, {best.mean.auroc:.3f}: {_MEANING[trivial.verdict]}"
            )
        if min(trial.normal, trial.anomalous) < _FEW:
            yield (
                f"{trial.name}: {trial.normal} normal and {trial.anomalous} anomalous test images are few, so only "
                "large differences can show."
            )
    failed = sum(bool(one.errors) for one in rows)
    if failed:
        yield f"{failed} of {sum(one.setting is not None for one in rows)} rows have errors."
    if ranked is not None and ranked.p_value is None:
        yield f"With fewer than {LEAST_DATA_SETS} datasets the mean ranks are shown but not tested."
