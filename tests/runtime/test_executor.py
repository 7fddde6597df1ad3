"""Executors: jobs are data, and give the same wherever they run."""

from __future__ import annotations

import pickle
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import numpy as np
import pytest

import oddsight
from oddsight.data.collection import collect
from oddsight.errors import ImageError
from oddsight.runtime.executor import Threads, map_jobs, use_executor
from tiny_model import tiny_model


class Processes:
    """An executor as others would write it: one process, to which jobs are sent as bytes."""

    def __init__(self, pool):
        self.pool, self.jobs = pool, []

    def map(self, job, items, *, workers=None):
        self.jobs.append(job)
        content = pickle.dumps(job)
        waiting = deque()
        for item in items:
            waiting.append(self.pool.submit(_work, content, item))
            if len(waiting) > 2:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_jobs = {}


def _work(content, item):
    if content not in _jobs:
        _jobs[content] = pickle.loads(content)
    return _jobs[content](item)


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


@contextmanager
def elsewhere(pool):
    executor = Processes(pool)
    with use_executor(executor):
        yield executor.jobs


@pytest.fixture(scope="module")
def files(normal_folder):
    return sorted(normal_folder.iterdir())[:12]


@pytest.mark.slow
def test_a_fit_in_other_processes_gives_the_same_bytes(files, pool, monkeypatch):
    options = {"method": "knn", "size": 64, "false_alarm_rate": 0.2}
    monkeypatch.setenv("ODDSIGHT_CACHE", "off")
    here = oddsight.fit(files, **options)
    with elsewhere(pool) as jobs:
        there = oddsight.fit(files, **options)
    assert len(jobs) > 3
    assert there.to_bytes() == here.to_bytes()


@pytest.mark.slow
def test_a_collection_read_in_other_processes_is_the_same(files, pool, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    here = collect(*files, tmp_path)
    with elsewhere(pool) as jobs:
        there = collect(*files, tmp_path)
    assert (there.images, there.fingerprint, len(jobs)) == (here.images, here.fingerprint, 1)
    assert list(map(str, there.errors)) == list(map(str, here.errors))


@pytest.mark.slow
def test_scores_from_other_processes_are_the_same(files, pool, tmp_path):
    model = tiny_model()
    images = [*files, tmp_path / "missing.png", oddsight.Frame(files[0].read_bytes(), "bytes", 2.0, 7)]
    here = list(model.predict_many(images))
    with elsewhere(pool):
        there = list(model.predict_many(images))
    assert isinstance(there[-2], ImageError)
    for one, other in zip(here, there, strict=True):
        if isinstance(one, ImageError):
            assert str(one) == str(other)
        else:
            assert one.to_json() == other.to_json()
            np.testing.assert_array_equal(one.map, other.map)
    assert (there[-1].time, there[-1].index) == (2.0, 7)


def test_a_model_is_sent_as_its_bytes():
    model = tiny_model()
    assert pickle.loads(pickle.dumps(model)).to_bytes() == model.to_bytes()


def test_the_executor_is_put_back_after_an_error(pool):
    with pytest.raises(ZeroDivisionError), elsewhere(pool):
        raise ZeroDivisionError
    assert list(map_jobs(str, [1, 2])) == list(Threads().map(str, [1, 2])) == ["1", "2"]
