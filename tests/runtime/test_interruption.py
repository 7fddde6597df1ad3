"""What runs for ever ends: on Ctrl-C, on SIGTERM, and when the time for an image is over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import onnx
import pytest

import oddsight
from cli_files import environment, json_lines, run
from image_files import save
from oddsight.data.decoding import IMAGE_TIMEOUT, set_image_limits
from oddsight.errors import ImageError
from oddsight.graphs.building import chain, renamed
from oddsight.graphs.calibrating import calibrating
from oddsight.graphs.preprocessing import preprocessing
from oddsight.model.calibration import decide
from oddsight.model.metadata import KEY, Metadata
from oddsight.model.sections import DecisionInfo
from oddsight.runtime import parallel
from oddsight.runtime.parallel import ordered_map, stoppable
from tiny_model import CALIBRATION, GRID, _described, _mean, _neighbours

_LOOP = """
<ir_version: 10, opset_import: ["": 17]>
endless (float[N] whole) => (float[N] score) <int64 often = {4611686018427387904}, bool yes = {1}>
{
    score = Loop (often, yes, whole) <body = inner (int64 i, bool go, float[N] a) => (bool again, float[N] b)
    {
        again = Identity (go)
        one = Constant <value_float = 1.0> ()
        b = Add (a, one)
    }>
}
"""


@pytest.fixture(scope="module")
def endless(tmp_path_factory):
    """A model file that is sound in every way, but computes for ever."""
    mean = renamed(_mean(1.0), "mean", {"score": "whole"})
    loop = onnx.parser.parse_model(_LOOP)
    loop.opset_import[0].version, loop.ir_version = mean.opset_import[0].version, mean.ir_version
    parts = [preprocessing(GRID), mean, loop, calibrating(CALIBRATION), _neighbours()]
    proto = chain(parts, ["score", "p_value", "anomaly_map", "nearest"])
    metadata = Metadata(
        schema_version=2,
        map_size=(GRID, GRID),
        decision=DecisionInfo(threshold=decide(CALIBRATION, 0.1).threshold, false_alarm_rate=0.1),
        **_described(proto, CALIBRATION, ""),
    )
    proto.metadata_props.add(key=KEY, value=metadata.to_json())
    path = tmp_path_factory.mktemp("endless") / "model.onnx"
    path.write_bytes(proto.SerializeToString(deterministic=True))
    return path


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(5):
        save(np.full((20, 30, 3), 20 * number, np.uint8), folder / f"{number}.png")
    return folder


@pytest.fixture(autouse=True)
def usual_limits():
    yield
    set_image_limits(timeout=IMAGE_TIMEOUT)


def start_python(script, *args):
    """A process that handles Ctrl-C, whatever this one does with it."""
    first = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    return subprocess.Popen(
        [sys.executable, "-c", first + script, *map(str, args)], stderr=subprocess.PIPE, env=environment()
    )


_COMMAND = """
import sys, threading, os
from oddsight.runtime import sessions as running
from oddsight import __main__ as cli
from oddsight.runtime import parallel
before = parallel.stoppable
def told(*args):
    os.write(2, b"running ")
    return before(*args)
running.stoppable = told
cli.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize(("sign", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_command_ends_while_a_graph_runs(endless, images, tmp_path, sign, code, many):
    path = images if many else images / "1.png"
    lines = tmp_path / "out" / "lines"
    lines.parent.mkdir()
    process = start_python(_COMMAND, "predict", endless, path, "--json", lines, "--image-timeout", "0")
    assert process.stderr.read(7) == b"running"
    process.send_signal(sign)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"Traceback" not in err
    assert list(lines.parent.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("call", ["predict(sys.argv[2])", "predict_many(list(sys.argv[2:]) * 100).__next__()"])
def test_ctrl_c_reaches_python_while_a_graph_runs(endless, images, call):
    script = f"""
import os, sys, threading
import oddsight
oddsight.set_image_limits(timeout=0)
model = oddsight.load(sys.argv[1])
model._session, model._session_for_many
threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    model.{call}
except KeyboardInterrupt:
    sys.exit(42)
"""
    process = start_python(script, endless, images / "1.png")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (42, b"")


@pytest.mark.slow
def test_python_ends_while_nobody_waits_for_the_graphs_that_run(endless, images):
    script = """
import sys, time
import oddsight
from oddsight.runtime import parallel
oddsight.set_image_limits(timeout=0)
model = oddsight.load(sys.argv[1])
outcomes = parallel.ordered_map(lambda path: path and model.predict(path), ["", *sys.argv[2:]] * 9, workers=2)
next(outcomes)
while not parallel._stops:
    time.sleep(0.01)
sys.exit(42)
"""
    process = start_python(script, endless, images / "1.png")
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (42, b"")


@pytest.mark.slow
def test_scoring_that_takes_too_long_is_the_images_error(endless, images):
    set_image_limits(timeout=0.5)
    model = oddsight.load(endless)
    with pytest.raises(ImageError, match=r"more than 0\.5 seconds"):
        model.predict(images / "1.png")
    outcomes = list(model.predict_many(images.iterdir()))
    assert [type(outcome) for outcome in outcomes] == [ImageError] * 5


@pytest.mark.slow
def test_the_command_goes_on_after_each_image(endless, images, tmp_path):
    outcome = run("predict", endless, images, "--json", tmp_path / "lines", "--image-timeout", "0.5")
    assert outcome.code == 1
    assert ["--image-timeout" in line["error"] for line in json_lines(tmp_path / "lines")] == [True] * 5


def test_an_interrupted_map_stops_what_can_be_stopped():
    stopped = threading.Event()

    def work(number):
        if number == 0:
            raise KeyboardInterrupt
        with stoppable(stopped.set):
            assert stopped.wait(60)

    with pytest.raises(KeyboardInterrupt):
        list(ordered_map(work, range(4), workers=4))
    assert stopped.is_set()
    assert not parallel._running


def test_a_thread_counts_as_at_work_before_it_begins(monkeypatch):
    threads, start = [], threading.Thread.start

    def interrupted(thread):
        threads.append(thread)
        raise KeyboardInterrupt

    monkeypatch.setattr(parallel, "_PATIENCE", 0)
    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        parallel.interruptible(list)
    assert parallel._running
    start(threads[0])
    threads[0].join()
    assert not parallel._running


def test_what_is_late_is_stopped():
    stopped = threading.Event()
    with stoppable(stopped.set, 0.05):
        assert stopped.wait(60)


def test_what_is_in_time_is_not_stopped():
    with stoppable(lambda: pytest.fail("it was stopped"), 3600):
        os.sched_yield()
