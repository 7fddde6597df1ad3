"""Jobs on this machine: plans, shards, what is refused, and what is said of the results."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from cli_files import run
from oddsight.data.reading import Reading
from oddsight.errors import DataError, OddsightError
from oddsight.model.result import control_fdr
from oddsight.scale import batch as batches
from oddsight.scale import predict_batch, summarize
from oddsight.scale.entries import Entry, find_frame, list_entries
from oddsight.scale.estimate import Estimate
from oddsight.scale.manifest import plan_manifest
from oddsight.scale.shards import COLUMNS
from tiny_model import tiny_model

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """40 images in two folders, one of them twice, a broken one, and a model whose score is brightness."""
    folder = tmp_path_factory.mktemp("scale")
    draw = np.random.default_rng(0)
    for number in range(40):
        path = folder / "in" / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(5 * number, 6 * number + 20, (16, 16, 3), dtype=np.uint8)).save(path)
    shutil.copy(folder / "in" / "a" / "38.png", folder / "in" / "b" / "copy.png")
    (folder / "in" / "b" / "broken.png").write_bytes(b"no image")
    tiny_model().save(folder / "model.onnx")
    return folder


def rows_of(out):
    """All rows, as dictionaries, in the order of the shards."""
    return [row for file in sorted((out / "scores").iterdir()) for row in parquet.ParquetFile(file).read().to_pylist()]


def score(place, out, **options):
    options = {"shard_images": 7, **options}
    return predict_batch(place / "model.onnx", [str(place / "in")], out, **options)


@pytest.mark.slow
def test_rows_are_what_predict_says(place, tmp_path):
    summary = score(place, tmp_path / "out").summary
    rows = rows_of(tmp_path / "out")
    assert list(rows[0]) == list(COLUMNS)
    lines = {one["path"]: one for one in run("predict", place / "model.onnx", place / "in", "--json", "-", "-q").lines
             if "score" in one}  # fmt: skip
    assert {row["path"]: row["score"] for row in rows if row["error"] is None} == {
        path: line["score"] for path, line in lines.items()
    }
    for row in rows:
        if row["error"] is None:
            line = lines[row["path"]]
            assert (row["p_value"], row["verdict"], row["anomalous"]) == (
                line["p_value"], line["verdict"], line["anomalous"],
            )  # fmt: skip
    assert (summary.scored, summary.failed, summary.flagged) == (41, 1, sum(row["anomalous"] or 0 for row in rows))
    assert 0 < summary.flagged < 41


@pytest.mark.slow
def test_a_copy_has_the_same_score_and_a_row_of_its_own(place, tmp_path):
    score(place, tmp_path / "out", shard_images=100)
    rows = [row for row in rows_of(tmp_path / "out") if row["path"].endswith(("38.png", "copy.png"))]
    assert len(rows) == 2 and rows[0]["content"] == rows[1]["content"] and rows[0]["score"] == rows[1]["score"]


@pytest.mark.slow
def test_an_image_that_cannot_be_read_is_a_row_with_an_error(place, tmp_path):
    score(place, tmp_path / "out")
    (row,) = [row for row in rows_of(tmp_path / "out") if row["path"].endswith("broken.png")]
    assert "not an image" in row["error"]
    assert all(row[name] is None for name in COLUMNS if name not in ("path", "error"))


class Backwards:
    """An executor that runs the last item first."""

    def map(self, job, items, *, workers=None):
        yield from [job(item) for item in reversed(list(items))]


@pytest.mark.slow
def test_workers_and_order_change_no_byte(place, tmp_path, monkeypatch):
    for workers in (1, 2, 4):
        score(place, tmp_path / str(workers), workers=workers)

    class Engine:
        def __init__(self, *args, **options): ...
        def __enter__(self):
            return Backwards()

        def __exit__(self, *error): ...

    monkeypatch.setattr(batches, "use_engine", Engine)
    score(place, tmp_path / "backwards")
    files = [
        {file.name: file.read_bytes() for file in (tmp_path / name / "scores").iterdir()}
        for name in ("1", "2", "4", "backwards")
    ]
    assert len(files[0]) == 6 and all(one == files[0] for one in files)


def test_an_estimate_of_a_list_asks_for_sizes(place, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for number in range(6):
            tar.add(tmp_path / "noise.png", f"{number}.png")
    (tmp_path / "list.txt").write_text(f"{tmp_path / 'shard.tar'}\n" * 3)
    batch = predict_batch(place / "model.onnx", [str(tmp_path / "list.txt")], tmp_path / "out", dry_run=True)
    assert batch.estimate.size == 3 * (tmp_path / "shard.tar").stat().st_size
    assert batch.estimate.images == pytest.approx(18, abs=1), "by their bytes"


def test_an_estimate_reads_as_numbers_large_and_small():
    large = Estimate(images=10**9, size=10**14, sample=32, seconds=0.1, core_hours=27_777.8, cost=1111.1)
    assert str(large).startswith("about 1,000,000,000 images, 100,000 GB: 27,778 core-hours, 1,111 at the price given")
    small = Estimate(images=600, size=10**6, sample=32, seconds=0.05, core_hours=0.00833, cost=0.000333)
    assert str(small).startswith("about 600 images, 0.001 GB: 0.00833 core-hours, 0.000333 at the price given")


@pytest.mark.slow
def test_a_rerun_fills_what_is_missing_and_touches_nothing_else(place, tmp_path):
    out = tmp_path / "out"
    before = score(place, out).summary
    files = sorted((out / "scores").iterdir())
    files[2].unlink()
    times = {file: file.stat().st_mtime_ns for file in files if file.exists()}
    again = score(place, out, resume=True)
    assert again.new == 1 and again.summary == before
    assert {file: file.stat().st_mtime_ns for file in times} == times
    done = score(place, out, resume=True)
    assert done.new == 0 and done.summary == before


@pytest.mark.slow
def test_results_of_another_job_are_refused(place, tmp_path):
    out = tmp_path / "out"
    score(place, out)
    with pytest.raises(OddsightError, match="--resume"):
        score(place, out)
    with pytest.raises(OddsightError, match="another job, with another model or threshold"):
        predict_batch(tiny_model(rate=0.5), [str(place / "in")], out, resume=True, shard_images=7)
    with pytest.raises(OddsightError, match="leave --dry-run out"):
        score(place, out, dry_run=True)
    with pytest.raises(OddsightError, match="another list of images"):
        predict_batch(place / "model.onnx", [str(place / "in" / "a")], out, resume=True, shard_images=7)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(OddsightError, match="not empty"):
        score(place, tmp_path / "full")
    (tmp_path / "full" / "job.json").write_text("{}")
    with pytest.raises(OddsightError, match="not Oddsight's"):
        score(place, tmp_path / "full", resume=True)


@pytest.mark.slow
def test_a_run_that_was_killed_while_it_planned_starts_again(place, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "manifest-0123456789abcdef.parquet").write_bytes(b"half of something")
    assert score(place, out, resume=True).summary.scored == 41


def test_a_dry_run_estimates_and_writes_nothing(place, tmp_path):
    batch = score(place, tmp_path / "out", dry_run=True, price=2.0)
    assert not (tmp_path / "out").exists() and batch.summary is None
    assert batch.estimate.images == 42 and batch.estimate.size == sum(
        file.stat().st_size for file in (place / "in").rglob("*.png")
    )
    assert batch.estimate.cost == pytest.approx(2 * batch.estimate.core_hours) and batch.estimate.seconds > 0


@pytest.mark.slow
def test_status_says_how_far_a_job_is(place, tmp_path):
    score(place, tmp_path / "out")
    status = json.loads((tmp_path / "out" / "status.json").read_text())
    assert (status["state"], status["shards"], status["images"], status["failed"]) == ("finished", 6, 42, 1)


def test_lists_name_the_same_images(place, tmp_path):
    paths = [entry.uri for entry in list_entries([str(place / "in")])]
    assert paths == sorted(map(str, (place / "in").rglob("*.png")))
    (tmp_path / "list.txt").write_text("\n".join(paths) + "\n\n")
    pyarrow = pytest.importorskip("pyarrow")
    parquet.write_table(pyarrow.table({"url": paths, "other": range(len(paths))}), tmp_path / "list.parquet")
    for name in ("list.txt", "list.parquet"):
        assert [entry.uri for entry in list_entries([str(tmp_path / name)])] == paths
    assert [entry.uri for entry in list_entries([str(place / "in" / "*" / "*.png")])] == paths
    with pytest.raises(DataError, match="no such file"):
        list(list_entries([str(tmp_path / "nothing")]))
    parquet.write_table(pyarrow.table({"other": [1]}), tmp_path / "wrong.parquet")
    with pytest.raises(DataError, match="no column of images"):
        list(list_entries([str(tmp_path / "wrong.parquet")]))


def test_tar_files_are_read_member_by_member(place, tmp_path):
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        tar.add(place / "in" / "a", "a")
        tar.addfile(tarfile.TarInfo("notes.json"), io.BytesIO(b""))
    (tmp_path / "damaged.tar").write_bytes(b"x" * 2000)
    sources = [str(tmp_path / "shard.tar"), str(tmp_path / "damaged.tar")]
    batch = predict_batch(place / "model.onnx", sources, tmp_path / "out")
    assert (batch.summary.scored, batch.summary.failed) == (20, 1)
    names = {row["path"] for row in rows_of(tmp_path / "out")}
    assert str(tmp_path / "shard.tar" / "a" / "00.png") in names
    same = find_frame(str(tmp_path / "shard.tar" / "a" / "38.png")).read()
    assert np.array_equal(same, np.asarray(Image.open(place / "in" / "a" / "38.png")))


def test_shards_are_stable_and_bounded():
    entries = [Entry(f"{number}.png", 2**28) for number in range(10)]
    with plan_manifest(entries, 1000) as plan:
        assert (plan.entries, plan.shards) == (10, 3)
        first = plan.digest
    with plan_manifest(iter(entries), 1000) as plan:
        assert plan.digest == first
    with plan_manifest(entries, 2) as plan:
        assert plan.shards == 5 and plan.digest != first
    with pytest.raises(DataError, match="not UTF-8"), plan_manifest([Entry(os.fsdecode(b"\xff.png"), 1)]):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.05, 0.3, 0.9])
def test_the_false_discovery_rate_is_that_of_predict(place, tmp_path, rate):
    score(place, tmp_path / "out")
    summary = summarize(str(tmp_path / "out"), fdr=rate)
    model = tiny_model()
    results = control_fdr(model.predict_many(sorted((place / "in").rglob("*.png"))), rate, model.calibration_scores)
    flagged = sum(getattr(result, "anomalous", False) for result in results)
    assert summary.alarms == flagged
    if flagged:
        assert len(parquet.ParquetFile(tmp_path / "out" / "alarms.parquet").read()) == flagged
    assert (rate < 0.2) == (flagged == 0), "the rates are to show both"


def test_the_summary_counts_by_folder(place, tmp_path):
    score(place, tmp_path / "out")
    summary = summarize(str(tmp_path / "out"), most=3)
    rows = rows_of(tmp_path / "out")
    assert set(summary.prefixes) == {str(place / "in" / name) for name in "ab"}
    assert all(sum(one["histogram"]) == one["scored"] for one in summary.prefixes.values())
    best = sorted((row["score"] for row in rows if row["score"] is not None), reverse=True)[:3]
    assert [row.score for row in summary.most_anomalous] == best
    counted = Counter(row["path"].rpartition("/")[0] for row in rows if row["error"] is not None)
    assert {name: one["failed"] for name, one in summary.prefixes.items() if one["failed"]} == counted
    assert summary.failures == {row["path"]: row["error"] for row in rows if row["error"] is not None}


@pytest.mark.slow
def test_the_commands(place, tmp_path):
    out, page = tmp_path / "out", tmp_path / "page.html"
    done = run("predict", place / "model.onnx", place / "in", "--out", out, "--shard-images", 7, "--price", 1)
    assert done.code == 1 and "41 images scored" in done.out and "core-hours" in done.err
    assert "broken.png: not an image" in done.out
    again = run("predict", place / "model.onnx", place / "in", "--out", out, "--resume")
    assert again.code == 1 and "41 images scored" in again.out, "shards are as large as those of the job"
    dry = run("predict", place / "model.onnx", place / "in", "--out", tmp_path / "no", "--dry-run")
    assert "core-hours" in dry.out and "core-hours" not in dry.err
    shown = run("summarize", out, "--report", page, "--most", 5, "--json", "-")
    assert shown.code == 0 and shown.json["scored"] == 41
    text = page.read_text()
    assert text.count("data:image/") == 5 and "38.png" in text and "Not scored" in text and "broken.png" in text
    assert run("summarize", tmp_path).code == 1
    for wrong in (["--resume"], ["--out", out, "--json", "-"], ["--engine", "ray"], ["--out", out, "--tile", "64"]):
        assert run("predict", place / "model.onnx", place / "in", *wrong).code == 2
    failed = run("predict", place / "model.onnx", place / "in", "--out", tmp_path / "x", "--address", "host:1")
    assert failed.code == 1 and "--engine ray" in failed.err


@pytest.mark.slow
def test_the_executor_of_a_fit_changes_no_byte(normal_folder, tmp_path):
    for name, workers in (("one", 1), ("two", 2)):
        options = ["--method", "knn", "--size", 32, "--workers", workers, "--no-thumbnails", "-q"]
        assert run("fit", normal_folder, "-o", tmp_path / name, *options).code == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.slow
def test_alarms_of_an_earlier_rate_do_not_stay(place, tmp_path):
    score(place, tmp_path / "out")
    assert summarize(str(tmp_path / "out"), fdr=0.9).alarms
    assert summarize(str(tmp_path / "out"), fdr=0.001).alarms == 0
    assert len(parquet.ParquetFile(tmp_path / "out" / "alarms.parquet").read()) == 0


def test_scales_that_differ_little_are_two_jobs(place, tmp_path):
    score(place, tmp_path / "out", reading=Reading(scale=(0, 1234567)))
    with pytest.raises(OddsightError, match="another bands or scale"):
        score(place, tmp_path / "out", reading=Reading(scale=(0, 1234568)), resume=True)


def test_a_cluster_needs_whole_paths_and_lists_hold_no_credentials(place, tmp_path):
    with pytest.raises(OddsightError, match="give a whole path"):
        predict_batch(place / "model.onnx", ["in"], tmp_path, engine="ray", address="10.0.0.1:6379")
    (tmp_path / "list.txt").write_text("s3://KEY:SECRET@bucket/x.png\n")
    with pytest.raises(OddsightError, match="holds credentials") as error:
        list(list_entries([str(tmp_path / "list.txt")]))
    assert "SECRET" not in str(error.value)


def test_a_rate_that_is_none_is_refused_before_the_work(place, tmp_path):
    with pytest.raises(DataError, match="between 0 and 1"):
        score(place, tmp_path / "out", fdr=5)
    assert not (tmp_path / "out").exists()


def test_a_name_in_a_tar_file_may_be_any_bytes(place, tmp_path):
    content = (place / "in" / "a" / "00.png").read_bytes()
    with tarfile.open(tmp_path / "images.tar", "w", encoding="utf-8", errors="surrogateescape") as tar:
        member = tarfile.TarInfo("caf\udce9.png")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    batch = predict_batch(place / "model.onnx", [str(tmp_path / "images.tar")], tmp_path / "out")
    assert batch.summary.scored == 1
    assert rows_of(tmp_path / "out")[0]["path"].endswith("caf\\udce9.png")
