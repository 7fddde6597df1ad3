"""compare(): what is compared is what ships, nothing is computed twice, and no winner is called without a test."""

from __future__ import annotations

import csv
import dataclasses
import pickle
import shutil
import threading
import time
from functools import partial
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

import oddsight
from cli_files import run
from oddsight import backbones, detectors
from oddsight.backbones import extraction
from oddsight.backbones.cache import FeatureCache
from oddsight.backbones.extraction import Extractor, Features, extract_together
from oddsight.cli.comparison_output import write_csv
from oddsight.data.collection import collect
from oddsight.data.memory import RUNNING
from oddsight.detectors.knn import KNN
from oddsight.errors import DataError, MemoryBudgetError, OddsightError
from oddsight.evaluation import compare as comparison
from oddsight.evaluation.compare import cells, running
from oddsight.evaluation.compare.standings import Numbers, Standing, ranking
from oddsight.evaluation.compare.trials import read_trials
from oddsight.graphs.building import digest
from oddsight.metrics.significance import Placements
from oddsight.report.comparison import standing_text, write_comparison_report
from oddsight.runtime.parallel import interruptible
from oddsight.runtime.progress import silent
from oddsight.runtime.sessions import run as run_graph
from textures import texture, write_textures
from web_pages import Page

pytestmark = pytest.mark.slow

SIZE = 32
LIBRARY = ["knn", "patchcore"]


def make_set(folder, first, *, train=14, normal=8, anomalous=8):
    """A dataset in MVTec AD's layout; anomalies are squares of another material, more or less clear."""
    write_textures(folder / "train" / "good", range(first, first + train), width=48, height=48)
    write_textures(folder / "test" / "good", range(first + 500, first + 500 + normal), width=48, height=48)
    random = np.random.default_rng(first)
    for number in range(anomalous):
        image, other = (texture(first + 700 + number, 48, 48, material=name) for name in ("cloth", "bark"))
        side, share = random.integers(8, 24), random.uniform(0.1, 0.9)
        mask = np.zeros((48, 48), np.uint8)
        mask[5 : 5 + side, 12 : 12 + side] = 255
        image = np.where(mask[..., None], (1 - share) * image + share * other, image).astype(np.uint8)
        for place, array in (("test", image), ("ground_truth", mask)):
            (folder / place / "square").mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(folder / place / "square" / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_set(tmp_path_factory.mktemp("data") / "parts", 0)


def compared(*folders, work, **options):
    return oddsight.compare(*folders, **{"methods": LIBRARY, "sizes": [SIZE], "work": work} | options)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def found(data, work):
    return compared(data, work=work, seeds=[0, 1])


@pytest.fixture
def extra(registry):
    """Registers methods for one test."""
    return detectors.method


def csv_bytes(found, tmp_path):
    write_csv(tmp_path / "table.csv", found)
    return (tmp_path / "table.csv").read_bytes()


# What is compared is what ships.


@pytest.mark.parametrize("method", LIBRARY)
def test_a_cell_is_what_fit_and_evaluate_give(found, data, method):
    model = oddsight.fit(data / "train" / "good", method=method, size=SIZE, seed=1)
    judged = oddsight.evaluate(model, data)
    cell = next(one for one in found.cells if (one.setting.method, one.seed) == (method, 1))
    assert cell.measured.graph_sha256 == model.metadata.graph_sha256
    assert (cell.measured.threshold, cell.measured.model_bytes) == (model.decision.threshold, len(model.to_bytes()))
    scores = {one.path: one.score for one in judged.judged}
    for image, score in zip(found.trials[0].test.images, cell.measured.scores, strict=True):
        assert score == pytest.approx(scores[str(image.path)], rel=1e-5)
    row = next(one for one in found.standings if one.label == method)
    numbers = row.each[row.seeds.index(1)]
    for name, value in (("auroc", numbers.auroc), ("auroc_ci", numbers.auroc_interval), ("recall", numbers.recall)):
        assert value == pytest.approx(judged.image[name])
    assert numbers.average_precision == pytest.approx(judged.image["average_precision"])
    assert (numbers.fpr95, numbers.false_alarm_rate) == (judged.image["fpr95"], judged.image["false_alarm_rate"])
    pixel: dict[str, float | None] = {"auroc": None, "aupro": None, **(judged.pixel or {})}
    assert numbers.pixel_auroc == (pixel["auroc"] and pytest.approx(pixel["auroc"], rel=1e-5))
    assert numbers.aupro == (pixel["aupro"] and pytest.approx(pixel["aupro"], rel=1e-5))
    assert numbers.answer_ms > 0 < numbers.fit_seconds


def test_baselines_are_those_of_evaluate(found, data):
    model = oddsight.fit(data / "train" / "good", method="knn", size=SIZE)
    expected = oddsight.evaluate(model, data).baselines
    rows = [one for one in found.standings if one.setting is None]
    assert {one.label: one.mean.auroc for one in rows} == pytest.approx(expected)


@pytest.mark.parametrize("method", [*LIBRARY, "auto"])
def test_the_cut_graph_is_the_whole_file_from_the_features_on(data, method, tmp_path):
    model = oddsight.fit(data / "train" / "good", method=method, size=SIZE)
    cls = detectors.METHODS[method]
    layers = tuple(model.metadata.backbone.layers)
    extractor = Extractor(backbones.backbone(backbones.DEFAULT), layers, SIZE, cls.reads)
    images = collect(data / "test").images
    loaded, entry = cells.reading_on(model, cls.reads, extractor.array_shape)
    names = [one.name for one in loaded.get_outputs()]
    assert names[:2] == ["score", "p_value"]
    assert ("anomaly_map" in names) == cls.localises
    for image, array in zip(images, Features(extractor, images), strict=True):
        values = dict(zip(names, loaded.run(None, {entry: array[None]}), strict=True))
        result = model.predict(image.path)
        assert (values["score"][0], values["p_value"][0]) == pytest.approx((result.score, result.p_value), rel=1e-5)
        if cls.localises:
            np.testing.assert_allclose(values["anomaly_map"][0], result.map, rtol=1e-5)


def test_the_time_of_an_answer_is_that_of_the_thread_that_does_the_work(data):
    """The main thread has it done by another one."""

    class Slow:
        def score(self, pixels, *, one_core):
            return interruptible(self.work)

        def work(self):
            end = time.thread_time() + 0.02
            while time.thread_time() < end:
                pass
            return SimpleNamespace(score=1.0)

    images = collect(data / "test").images
    assert cells.whole_file(Slow(), images, np.ones(len(images))) >= 20


def test_a_file_that_scores_otherwise_is_an_error(data, tmp_path, monkeypatch):
    score = oddsight.Model.score
    monkeypatch.setattr(
        oddsight.Model,
        "score",
        lambda *args, **more: dataclasses.replace(r := score(*args, **more), score=1.001 * r.score),
    )
    found = compared(data, work=tmp_path, methods=["knn"])
    assert "the whole file scores" in found.cells[0].error


# Features once.


def extractors():
    network = backbones.backbone(backbones.DEFAULT)
    wanted = [(("stage3", "stage5"), "patches"), (("stage3",), "embedding"), (("stage4", "head"), "embedding")]
    return [Extractor(network, layers, SIZE, reading) for layers, reading in wanted]


@pytest.mark.parametrize("alike", [True, False])
def test_features_come_from_one_run_an_image_bit_by_bit(data, tmp_path, monkeypatch, alike):
    images, cache, runs = collect(data / "test").images, FeatureCache(tmp_path), []

    def counted(loaded, *args):
        runs.append(len(loaded.get_outputs()))
        outputs = run_graph(loaded, *args)
        return outputs if alike or len(outputs) == 1 else [array + 1e-6 for array in outputs]

    monkeypatch.setattr(extraction, "run", counted)
    extract_together(extractors(), images, cache)
    if alike:
        assert sorted(runs) == [1] * 3 + [3] * (len(images) + 1)
    else:
        assert runs.count(1) == 1 + 3 * len(images)  # the first that differs decides
    runs.clear()
    extract_together(extractors(), images, cache)
    assert len(runs) == (4 if alike else 2)  # nothing but the comparison on one image
    monkeypatch.setattr(extraction, "run", run_graph)
    for extractor in extractors():
        for image, array in zip(images, Features(extractor, images), strict=True):
            np.testing.assert_array_equal(cache.get(digest(extractor.graph), image.content), array)


def test_without_the_users_cache_one_is_made_and_emptied(data, tmp_path, monkeypatch):
    monkeypatch.setenv("ODDSIGHT_CACHE", "off")
    seen = []

    def watched(extractors_, images, cache, progress):
        extract_together(extractors_, images, cache, progress)
        seen.append(len(list(cache.folder.glob("*/*.npy"))))

    monkeypatch.setattr(running, "extract_together", watched)
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "mine.txt").write_text("not the cache's")
    found = compared(data, work=tmp_path)
    assert seen == [2 * (14 + 16)]
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["mine.txt"]
    assert all(cell.error is None for cell in found.cells)


def test_with_the_cache_off_and_no_work_folder_nothing_is_left(data, tmp_path, monkeypatch):
    monkeypatch.setenv("ODDSIGHT_CACHE", "off")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert compared(data, work=None, methods=["knn"]).computed == 1
    assert list(tmp_path.iterdir()) == []


# Resuming.


def test_the_second_time_nothing_is_computed_and_the_table_is_the_same(found, data, work, tmp_path, monkeypatch):
    monkeypatch.setattr(running, "measure", None)
    monkeypatch.setattr(running, "extract_together", None)
    again = compared(data, work=work, seeds=[0, 1])
    assert (found.computed, again.computed) == (4, 0)
    assert csv_bytes(again, tmp_path) == csv_bytes(found, tmp_path)
    pages = [tmp_path / "1.html", tmp_path / "2.html"]
    for one, page in zip((found, again), pages, strict=True):
        write_comparison_report(one, page)
    assert pages[0].read_bytes() == pages[1].read_bytes()


def test_data_are_known_by_content(found, data, work, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(data, moved)
    (moved / "test" / "square").rename(moved / "test" / "mark")
    (moved / "ground_truth" / "square").rename(moved / "ground_truth" / "mark")
    for number, path in enumerate(sorted((moved / "test" / "mark").iterdir(), reverse=True)):
        path.rename(path.with_name(f"z{number}.png"))
        (moved / "ground_truth" / "mark" / path.name).rename(moved / "ground_truth" / "mark" / f"z{number}.png")
    assert compared(moved, work=work, seeds=[1]).computed == 0
    assert compared(moved, work=work, seeds=[1], false_alarm_rate=0.2, methods=["knn"]).computed == 1
    Image.fromarray(np.full((48, 48), 255, np.uint8)).save(moved / "ground_truth" / "mark" / "z0.png")
    assert compared(moved, work=work, seeds=[1], methods=["knn"]).computed == 1


def test_the_same_seeds_give_the_same_scores_elsewhere(found, data, tmp_path):
    again = compared(data, work=tmp_path, seeds=[0, 1], jobs=1)
    assert again.computed == 4
    for one, other in zip(again.cells, found.cells, strict=True):
        assert (one.measured.scores, one.measured.graph_sha256) == (other.measured.scores, other.measured.graph_sha256)


def test_an_interruption_keeps_what_is_finished(data, tmp_path):
    def interrupt(phase, done, total):
        if phase == "comparing" and done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compared(data, work=tmp_path, seeds=range(2), jobs=1, progress=interrupt)
    kept = len(list((tmp_path / "cells").iterdir()))
    assert 1 <= kept < 4
    assert compared(data, work=tmp_path, seeds=range(2)).computed == 4 - kept


def test_cells_under_way_end_when_nobody_waits(data, tmp_path, monkeypatch):
    reached, ended = threading.Event(), []

    def endless(job, cache, progress):
        reached.set()
        try:
            while True:
                progress("learning", 0, 1)
                time.sleep(0.1)
        except BaseException as error:
            ended.append(type(error).__name__)
            raise

    def interrupt(phase, done, total):
        if phase == "comparing":
            assert reached.wait(120)
            raise KeyboardInterrupt

    measure = running.measure  # type: ignore[attr-defined]
    monkeypatch.setattr(running, "measure", lambda job, *more: (endless if job.seed else measure)(job, *more))
    with pytest.raises(KeyboardInterrupt):
        compared(data, work=tmp_path, methods=["knn"], seeds=range(3), jobs=2, progress=interrupt)
    for _ in range(12_000):
        if not ended:
            time.sleep(0.01)
    assert set(ended) == {"_Stopped"}
    assert len(list((tmp_path / "cells").iterdir())) == 1


def test_an_edited_digit_in_a_cell_is_noticed(found, data, work, tmp_path):
    shutil.copytree(work, tmp_path / "work")
    victim = min((tmp_path / "work" / "cells").iterdir())
    with np.load(victim) as file:
        whole = dict(file)
    edited = whole | {"scores": whole["scores"] + np.eye(1, whole["scores"].size)[0]}
    np.savez(victim, **edited)
    again = compared(data, work=tmp_path / "work", seeds=[0, 1])
    assert again.computed == 1
    assert [cell.measured.scores for cell in again.cells] == [cell.measured.scores for cell in found.cells]
    # Nor is a cell without a digest believed, or one under another key.
    for missing in ("sha256", "key"):
        np.savez(victim, **{name: array for name, array in whole.items() if name != missing})
        assert compared(data, work=tmp_path / "work", seeds=[0, 1]).computed == 1


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", None])
def test_a_damaged_cell_is_computed_again(found, data, work, tmp_path, damage):
    shutil.copytree(work, tmp_path / "work")
    victim = min((tmp_path / "work" / "cells").iterdir())
    victim.write_bytes(victim.read_bytes()[:-30] if damage is None else damage)
    again = compared(data, work=tmp_path / "work", seeds=[0, 1])
    assert again.computed == 1
    assert [cell.measured.scores for cell in again.cells] == [cell.measured.scores for cell in found.cells]


# Cells that fail.


def failing(error):
    @dataclasses.dataclass
    class Failing(KNN):
        name: ClassVar[str] = "failing"

        def fit(self, *arguments, **settings):
            raise error

    return Failing


@pytest.mark.parametrize(
    ("error", "text", "kept"),
    [
        (DataError("too few images"), "too few images", True),
        (MemoryBudgetError("does not fit"), "does not fit", True),
        (ZeroDivisionError("oh"), "unexpected ZeroDivisionError: oh", False),
        (MemoryError(), "unexpected MemoryError", False),
    ],
)
def test_a_cell_that_fails_is_a_row_with_its_error(data, tmp_path, extra, error, text, kept):
    extra(failing(error))
    found = compared(data, work=tmp_path, methods=["failing", "knn"])
    bad, good = found.cells
    assert text in bad.error and bad.measured is None
    assert good.error is None
    row = found.standings[-1]
    assert (row.label, row.mean, row.verdict) == ("failing", None, None) and text in row.errors[0]
    assert found.highest("parts").label == "knn"
    assert b"," + text.encode() in csv_bytes(found, tmp_path)
    assert compared(data, work=tmp_path, methods=["failing", "knn"]).computed == (0 if kept else 1)


def test_if_everything_fails_the_page_says_so(data, tmp_path, extra):
    extra(failing(DataError("too few <images>")))
    found = compared(data, work=tmp_path, methods=["failing"])
    write_comparison_report(found, tmp_path / "page.html")
    page = Page((tmp_path / "page.html").read_text("utf-8"))
    assert "No method could be fitted." in page.text and "too few <images>" in page.text
    assert found.highest("parts") is None


def test_a_budget_that_is_too_small_is_said_for_each_cell(data, tmp_path):
    found = compared(data, work=tmp_path, memory="310MB")
    assert all("budget" in cell.error for cell in found.cells)
    assert compared(data, work=tmp_path, memory="1GB").computed == 2


# Memory.


def job_of(data, seed=0):
    [trial] = read_trials([data], None, 0.5, 0)
    setting = cells.Setting("knn", backbones.DEFAULT, ("stage3",), SIZE)
    return comparison._jobs(trial, [setting], [seed], None, 10**9)[0]


def test_cells_run_side_by_side_only_as_far_as_memory_allows(data, tmp_path, monkeypatch):
    job = job_of(data)
    taken = cells.room_taken(job.memory)
    assert 0 < taken < 10**9 - RUNNING

    def most_at_once(room):
        now, most, lock = 0, 0, threading.Lock()

        def measured(job, cache, progress):
            nonlocal now, most
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.05)
            with lock:
                now -= 1
            raise MemoryError

        monkeypatch.setattr(running, "measure", measured)
        monkeypatch.setattr(running, "extract_together", lambda *_: None)
        found, computed = running.run_jobs([job] * 6, tmp_path, room, 3, silent)
        assert len(found) == computed == 6
        return most

    assert [most_at_once(room) for room in (taken // 2, taken, 2 * taken, 9 * taken)] == [1, 1, 2, 3]


def test_jobs_are_data(data, tmp_path):
    compute = partial(running.compute_cell, tmp_path, FeatureCache(tmp_path), running.Interruption())
    compute, job = pickle.loads(pickle.dumps((compute, job_of(data))))
    cell = compute(job)
    assert cell.error is None
    assert pickle.loads(pickle.dumps(cell)) == cells.stored(tmp_path, job_of(data))


# Datasets.


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    write_textures(folder / "cloth", range(30), width=32, height=32)
    write_textures(folder / "bark", range(40, 46), width=32, height=32, material="bark")
    write_textures(folder / "spots", range(50, 55), width=32, height=32, blot=True)
    return folder


def test_folders_of_classes_are_divided_by_content(classes, tmp_path):
    [trial] = read_trials([f"stuff={classes}"], "cloth", 0.4, 0)
    assert (trial.name, len(trial.training), trial.normal, trial.anomalous) == ("stuff", 18, 12, 11)
    learned = {image.content for image in trial.training}
    assert not learned & {image.content for image in trial.test.images}
    assert set(trial.test.kinds) == {None, "bark", "spots"}
    shutil.copytree(classes, tmp_path / "copy")
    for number, path in enumerate(sorted((tmp_path / "copy" / "cloth").iterdir())):
        path.rename(path.with_name(f"{number * 7 % 30}-x.png"))
    assert read_trials([tmp_path / "copy"], "cloth", 0.4, 0)[0].fingerprint == trial.fingerprint
    assert read_trials([classes], "cloth", 0.4, 1)[0].fingerprint != trial.fingerprint
    found = compared(classes, work=tmp_path / "work", normal="cloth", methods=["knn"])
    assert found.cells[0].measured.learned == 15


def test_data_sets_that_cannot_serve_are_refused(data, classes, tmp_path):
    def refused(match, *folders, **options):
        with pytest.raises(OddsightError, match=match):
            compared(*folders, work=tmp_path / "work", **options)

    refused("name a dataset")
    refused("is not a folder", tmp_path / "nothing")
    refused("say which is normal with --normal .bark, cloth, spots.", classes)
    refused("no class 'silk': it has bark, cloth, spots", classes, normal="silk")
    refused("two datasets are called 'parts'", data, f"parts={classes}", normal="cloth")
    refused("test share must lie between 0 and 1", data, test_share=1.0)
    shutil.copytree(classes / "cloth", tmp_path / "one" / "cloth")
    refused("nothing anomalous", tmp_path / "one", normal="cloth")
    shutil.copytree(data, tmp_path / "leak")
    shutil.copy(data / "train" / "good" / "00003.png", tmp_path / "leak" / "test" / "good" / "new.png")
    refused("1 of 17 test images of leak are also training images", tmp_path / "leak")
    shutil.rmtree(tmp_path / "leak" / "train")
    refused("has no train/good", tmp_path / "leak")
    shutil.copytree(data, tmp_path / "twin")
    shutil.copy(data / "test" / "good" / "00500.png", tmp_path / "twin" / "test" / "square" / "twin.png")
    refused("same image as .*counts as normal", tmp_path / "twin")


def test_settings_that_cannot_work_are_refused_at_once(data, tmp_path):
    for match, options in (
        ("no method 'magic'", {"methods": ["knn", "magic"]}),
        ("no backbone", {"backbones": ["resnet-0"]}),
        ("no layer 'stage9'", {"layers": ["stage9"]}),
        ("multiple of 32", {"sizes": [33]}),
        ("seed must be 0 or more", {"seeds": [-1]}),
        ("name a seed", {"seeds": []}),
        ("give at least one method", {"methods": []}),
        ("false-alarm rate", {"false_alarm_rate": 2.0}),
        ("number of jobs must be 1 or more", {"jobs": 0}),
        ("confidence", {"confidence": 1.0}),
        ("not an amount of memory", {"memory": "much"}),
    ):
        with pytest.raises(OddsightError, match=match):
            compared(data, work=tmp_path, **options)
    (tmp_path / "file").touch()
    with pytest.raises(OddsightError, match="cannot make the folder"):
        compared(data, work=tmp_path / "file")


def test_files_that_cannot_be_read_are_named_and_the_rest_goes_on(data, tmp_path):
    shutil.copytree(data, tmp_path / "data")
    for place in ("train/good", "test/good", "test/square"):
        (tmp_path / "data" / place / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "data" / "ground_truth" / "square" / "0.png").write_bytes(b"no image")
    found = compared(tmp_path / "data", work=tmp_path / "work", methods=["knn"])
    assert len(found.trials[0].errors) == 4
    assert (len(found.trials[0].test), found.trials[0].masks) == (16, 7)
    assert found.cells[0].error is None


# Layers.


def test_choices_of_layers(data):
    def chosen(method, *layers):
        return [one.layers for one in comparison._settings([method], [backbones.DEFAULT], layers, [SIZE])]

    network = backbones.backbone(backbones.DEFAULT)
    assert chosen("knn", "default") == [network.layers["embedding"]]
    assert chosen("knn", "each") == [(name,) for name in network.stages]
    assert chosen("patchcore", "each", "default") == [network.layers["patches/8"]]
    assert chosen("patchcore", "stage4", ["stage3", "stage5"]) == [("stage4",), ("stage3", "stage5")]
    assert chosen("knn", "stage4", ["stage4"]) == [("stage4",)]


def test_one_of_each_needs_no_list(data, tmp_path):
    given = {"methods": "knn", "backbones": "efficientnet-lite0", "layers": "each", "sizes": SIZE, "seeds": 1}
    one = compared(data, work=tmp_path, **given)
    several = compared(data, work=tmp_path, **{name: [value] for name, value in given.items()})
    assert one.computed == len(one.cells) > 1 and several.computed == 0


def test_labels_say_what_differs(data):
    def labels(*args):
        return list(comparison._labels(comparison._settings(*args)).values())

    one = [backbones.DEFAULT]
    assert labels(["knn", "patchcore"], one, ["default"], []) == ["knn", "patchcore"]
    assert labels(["knn"], one, ["stage3", "stage4"], [32, 64])[:2] == ["knn, stage3, 32 px", "knn, stage3, 64 px"]


# Standings and ranks.


def test_seeds_are_averaged_and_their_spread_is_shown(found):
    for row in found.standings:
        if row.setting is not None:
            areas = [one.auroc for one in row.each]
            assert row.seeds == (0, 1)
            assert row.mean.auroc == pytest.approx(np.mean(areas)) == pytest.approx(row.placements.auroc)
            assert row.spread == (min(areas), max(areas))


def named(label, area, verdict, data="a", p_value=None):
    """A standing with nothing but what the sentences use."""
    placed = Placements(np.full(2, area), np.full(2, area)) if area is not None else None
    mean = Numbers(area, (area, area), 0.5, 0.5) if area is not None else None
    setting = cells.Setting(label, "b", ("s",), 32)
    return Standing(data, label, setting, (0,), (), mean, None, placed, verdict, None, p_value, ())


def test_no_winner_is_called_that_the_tests_do_not_support():
    best = named("best", 0.9, "highest")
    clear = standing_text([best, named("b", 0.5, "lower"), named("c", 0.4, "lower")], 0.95)
    assert (
        clear == "best has the highest AUROC, 0.900, and the tests distinguish it from every other method "
        "(95% confidence for all)."
    )
    unclear = standing_text([best, named("b", 0.89, "not distinguishable"), named("c", 0.4, "lower")], 0.95)
    assert "1 of the 2 others cannot be distinguished from it on these images: b." in unclear
    assert "support no winner" in standing_text([best, named("b", 0.89, "not distinguishable")], 0.95)
    assert "too few to test" in standing_text([best, named("b", 0.1, "untested")], 0.95)
    assert "no other method" in standing_text([best], 0.95)


def test_ranks_are_tested_from_three_data_sets_on():
    areas = {"a": [0.9, 0.8, 0.7], "b": [0.9, 0.7, 0.8], "c": [0.8, 0.7, 0.6]}
    rows = [named(f"m{k}", area, None, data) for data, own in areas.items() for k, area in enumerate(own)]
    rows.append(named("gone", None, None, "b"))
    two = ranking(["a", "b"], rows, 0.95)
    assert (two.labels, two.p_value, two.groups, two.left_out) == (("m0", "m1", "m2"), None, (), ("gone",))
    three = ranking(["a", "b", "c"], rows, 0.95)
    np.testing.assert_array_equal(three.table, [[1, 2, 3], [1, 3, 2], [1, 2, 3]])
    assert three.p_value == pytest.approx(0.0970, abs=1e-4)
    assert (three.critical_difference, three.groups) == (None, ())
    assert ranking(["a"], rows, 0.95) is None
    wide = [named(f"m{k}", 0.9 - 0.1 * k, None, f"d{n}") for n in range(8) for k in range(4)]
    shown = ranking([f"d{n}" for n in range(8)], wide, 0.95)
    assert shown.p_value < 0.001
    assert shown.groups == ((0, 1), (1, 2), (2, 3))


# The command.


@pytest.fixture(scope="module")
def told(data, tmp_path_factory):
    root = tmp_path_factory.mktemp("command")
    folders = [data] + [
        make_set(root / name, start, train=10, normal=4, anomalous=4) for name, start in (("b", 1000), ("<c>", 2000))
    ]
    outcome = run(
        *("compare", *folders, "--methods", "knn,patchcore", "--layers", "stage3,stage4"),
        *("--size", SIZE, "--seeds", "0,1", "--false-alarm-rate", "0.2", "--work", root / "work"),
        *("--csv", root / "table.csv", "--report", root / "page.html"),
    )
    return outcome, root


def test_the_command_shows_tables_and_writes_csv_and_page(told):
    outcome, root = told
    assert outcome.code == 0, outcome.err
    for text in (
        "parts: 8 normal and 8 anomalous",
        "patchcore",
        "saturation (trivial)",
        "mean rank",
        "Friedman",
    ):
        assert text in outcome.out
    assert "is a choice made on the test images" in outcome.err
    rows = list(csv.DictReader((root / "table.csv").open()))
    assert len(rows) == 3 * (2 * 2 + 5)
    assert {row["kind"] for row in rows} == {"method", "baseline"}
    assert all(0 <= float(row["auroc"]) <= 1 and float(row["auroc_low"]) <= float(row["auroc"]) for row in rows)
    assert {row["layers"] for row in rows} == {"stage3+stage4", ""}
    assert {row["seed"] for row in rows} == {"0", "1", ""}


def test_the_page_has_every_part_and_loads_nothing(told):
    html = (told[1] / "page.html").read_text("utf-8")
    page = Page(html)
    assert page.count("svg") == 3 * 3 + 1
    assert {"parts", "b", "c", "over-all-datasets", "how-this-was-done", "glossary"} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "c")
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert "Choosing a method by these numbers is itself a choice made on the test images" in page.text
    assert "<c>" in page.text


def test_the_command_goes_on_where_it_was(told, data):
    outcome = run(
        "compare",
        data,
        "--methods",
        "knn",
        "--layers",
        "stage3,stage4",
        "--size",
        SIZE,
        "--false-alarm-rate",
        "0.2",
        "--work",
        told[1] / "work",
    )
    assert outcome.code == 0
    assert "1 of 1 cells are from an earlier run" in outcome.err


def test_the_command_fails_plainly(data, classes, tmp_path):
    for options, code, text in (
        ([classes], 1, "--normal"),
        ([data, "--seeds", "x"], 2, "whole numbers"),
        ([data, "--report", tmp_path / "no" / "page.html"], 1, "cannot write"),
    ):
        outcome = run("compare", *options, "--work", tmp_path / "work")
        assert (outcome.code, outcome.out) == (code, "")
        assert text in outcome.err and "Traceback" not in outcome.err


def test_the_command_exits_with_1_if_a_cell_failed(data, tmp_path, extra):
    extra(failing(DataError("too few images")))
    outcome = run("compare", data, "--methods", "knn,failing", "--size", SIZE, "--work", tmp_path)
    assert outcome.code == 1
    assert "error: parts, failing, seed 0: too few images" in outcome.err
    assert "knn" in outcome.out


def test_finished_cells_without_a_cache_that_can_be_written(tmp_path, monkeypatch):
    """A home that cannot be written to, as in containers, is as good as none."""
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", "off"):
        monkeypatch.setenv("ODDSIGHT_CACHE", str(place))
        with comparison._work_folder(None) as folder:
            (folder / "cell.json").write_text("x")
        assert not folder.exists()
    monkeypatch.setenv("ODDSIGHT_CACHE", str(tmp_path / "cache"))
    with comparison._work_folder(None) as folder:
        assert folder == tmp_path / "cache" / "comparisons"
    with pytest.raises(OddsightError, match="cannot make the folder"), comparison._work_folder(tmp_path / "file"):
        pass
