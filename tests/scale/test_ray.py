"""Jobs on a real Ray of this machine: same bytes as with threads, whatever happens to its workers."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import oddsight
from cli_files import run
from cloud_files import write_scenes
from oddsight.errors import DataError, OddsightError
from oddsight.runtime.executor import Threads, use_executor
from oddsight.scale import RayExecutor, predict_batch, ray_executor
from oddsight.scale import batch as batches
from oddsight.scale.ray_executor import check_token, import_ray, ray_cluster
from textures import write_textures
from tiny_model import tiny_model

# Not imported here: Ray reads its token when it is imported.
pytestmark = [
    pytest.mark.scale,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (the scale extra)"),
]


@pytest.fixture(scope="module")
def cluster():
    """A Ray with four workers, which all tests of this file share."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    with mock.patch.dict(os.environ, {"PYTHONPATH": path}), ray_cluster(None, 4) as workers:
        assert workers == 4
        yield workers


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    draw = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(draw.integers(0, 6 * number + 10, (32, 32, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def on_ray(monkeypatch, count):
    """Have jobs run on the shared Ray."""

    class Engine:
        def __init__(self, *args, **options): ...
        def __enter__(self):
            return RayExecutor(count, group=1)

        def __exit__(self, *error): ...

    monkeypatch.setattr(batches, "use_engine", Engine)


class CountingExecutor(RayExecutor):
    """Ray, which counts the lists of jobs that it gets."""

    lists = 0

    def map(self, job, items, *, workers=None):
        self.lists += 1
        return super().map(job, items, workers=workers)


def kill_once(mark, number):
    """A job that ends its process the first time that it gets number 3."""
    if number == 3 and not Path(mark).exists():
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number * number


def wait_for_others(folder, number):
    """A job that ends, as the first, only after two others have ended."""
    while number == 0 and len(list(Path(folder).iterdir())) < 2:
        time.sleep(0.05)
    (Path(folder) / str(number)).touch()
    return number


def span(number):
    """When it began and ended."""
    begun = time.monotonic()
    time.sleep(0.2)
    return begun, time.monotonic()


def refuse(number):
    raise DataError(f"number {number} will not do")


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_same_bytes_as_with_threads(cluster, images, tmp_path, monkeypatch, count):
    predict_batch(tiny_model(), [str(images)], tmp_path / "threads", shard_images=7)
    on_ray(monkeypatch, count)
    summary = predict_batch(tiny_model(), [str(images)], tmp_path / "ray", shard_images=7).summary
    assert (summary.scored, summary.failed) == (40, 1)
    files = [{file.name: file.read_bytes() for file in (tmp_path / name / "scores").iterdir()} for name in
             ("threads", "ray")]  # fmt: skip
    assert files[0] == files[1] and len(files[0]) == 6


@pytest.mark.parametrize("method", ["mahalanobis", "patchcore"])
def test_a_fit_gives_the_same_bytes(cluster, images, method):
    options = {"method": method, "size": 32}
    good = [path for path in sorted(images.iterdir()) if path.name != "broken.png"]
    alone = oddsight.fit(*good, **options).to_bytes()
    for workers in (1, 2, 4):
        with use_executor(RayExecutor(workers, group=3)):
            assert oddsight.fit(*good, **options).to_bytes() == alone


def test_a_comparison_gives_the_same_numbers(cluster, tmp_path):
    for number in range(14):
        write_textures(tmp_path / "data" / "train" / "good", [number], width=48, height=48)
    write_textures(tmp_path / "data" / "test" / "good", range(500, 508), width=48, height=48)
    write_textures(tmp_path / "data" / "test" / "bark", range(700, 708), width=48, height=48, material="bark")
    options = {"methods": ["knn", "patchcore"], "sizes": [32]}
    tables, on_cluster = [], CountingExecutor(2, group=1)
    for name, executor in (("threads", Threads()), ("ray", on_cluster)):
        with use_executor(executor):
            found = oddsight.compare(tmp_path / "data", work=tmp_path / name, **options)
        assert found.computed == 2
        tables.append([replace(one, fit_seconds=None, answer_ms=None) for row in found.standings for one in row.each])
    assert tables[0] == tables[1] and len(tables[0]) > 2 and on_cluster.lists > 2


def test_a_study_gives_the_same_rows(cluster, tmp_path):
    data = write_scenes(tmp_path / "data", {"cloudy": 40, "sand": 30, "sea": 30})
    chosen = ["--methods", "mahalanobis,knn", "--ship", "knn", "--seeds", "0", "--size", 24, "--normal", "cloudy"]
    more = ["--severity-methods", "none", "--false-alarm-rate", 0.1, "-q"]
    tables, on_cluster = [], CountingExecutor(2, group=4)
    for name, executor in (("threads", Threads()), ("ray", on_cluster)):
        with use_executor(executor):
            assert run("study", "clouds", "--data", data, "-o", tmp_path / name, *chosen, *more).code == 0
        rows = csv.DictReader((tmp_path / name / "scenes.csv").open())
        tables.append([{key: row[key] for key in row if key not in ("learn_seconds", "image_ms")} for row in rows])
        tables[-1].append((tmp_path / name / "cloudy.onnx").read_bytes())
    assert tables[0] == tables[1] and len(tables[0]) > 2 and on_cluster.lists > 2


def test_a_task_whose_worker_is_killed_begins_again(cluster, tmp_path):
    job = partial(kill_once, str(tmp_path / "killed"))
    assert list(RayExecutor(2, group=2).map(job, range(10))) == [number * number for number in range(10)]
    assert (tmp_path / "killed").exists()


@pytest.mark.parametrize("count", [1, 3])
def test_no_more_tasks_run_at_once_than_workers(cluster, count):
    spans = list(RayExecutor(count, group=1).map(span, range(5 * count)))
    assert max(sum(begun <= moment < ended for begun, ended in spans) for moment, _ in spans) <= count


def test_outcomes_come_in_the_order_of_the_items_when_the_first_is_late(cluster, tmp_path):
    assert list(RayExecutor(3, group=1).map(partial(wait_for_others, str(tmp_path)), range(12))) == list(range(12))


def test_an_error_of_a_job_is_raised_as_it_was(cluster):
    with pytest.raises(DataError, match=r"^number 0 will not do$"):
        list(RayExecutor(2).map(refuse, range(3)))


def test_others_cannot_connect_without_the_token(cluster):
    address = import_ray().get_runtime_context().gcs_address
    code = f"import ray; ray.init(address={address!r}, logging_level='CRITICAL'); print('connected')"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "RAY_gcs_rpc_server_reconnect_timeout_s": "5"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, timeout=90, text=True, check=False
        )
    except subprocess.TimeoutExpired as waited:
        assert b"connected" not in (waited.stdout or b"")
    else:
        assert done.returncode != 0 and "connected" not in done.stdout


def test_a_cluster_without_a_token_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(OddsightError, match="token authentication only"):
        check_token()
    with pytest.raises(OddsightError, match="token authentication only"), ray_cluster("127.0.0.1:1"):
        pass
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", ray_executor._OWN_TOKEN)
    with pytest.raises(OddsightError, match="token authentication only"):
        check_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    check_token()


@pytest.mark.parametrize("command", ["predict", "fit"])
def test_an_address_where_nobody_answers_is_an_error_at_once(monkeypatch, images, tmp_path, command):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "another")
    tiny_model().save(tmp_path / "model.onnx")
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{bound.getsockname()[1]}"
        for address, said in ((nobody, "nobody answers at --address"), ("cluster", "is no HOST:PORT")):
            options = ["--engine", "ray", "--address", address]
            if command == "predict":
                failed = run("predict", tmp_path / "model.onnx", images, "--out", tmp_path / "out", *options)
            else:
                failed = run("fit", images, "-o", tmp_path / "fitted.onnx", *options)
            assert failed.code == 1 and said in failed.err
    assert not (tmp_path / "out").exists() and not (tmp_path / "fitted.onnx").exists()


def test_old_versions_and_none_are_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(__version__="2.53.1"))
    with pytest.raises(OddsightError, match="CVE-2025-62593"):
        import_ray()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(OddsightError, match=r"oddsight\[scale\]"):
        import_ray()
