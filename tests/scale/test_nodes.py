"""A cluster of several Ray nodes on this machine, with a token: what `--address` is for."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from oddsight.scale import predict_batch
from tiny_model import tiny_model

pytestmark = [
    pytest.mark.scale,
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # The start is tried several times, and Ray takes its time to see that a node is lost
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed (the scale extra)"),
]

STARTS = 4
PATIENCE = 400  # Seconds for one of them, with all that follows
SLOW = "timed out during startup"  # Ray's words for a machine that is too busy

JOB = """
import time
from oddsight.scale.ray_executor import import_ray

def where(number):
    time.sleep(0.1)
    return import_ray().get_runtime_context().get_node_id()
"""

# Run in a process of its own, since Ray reads the token when it is imported. A node is lost after the first shard.
CODE = """
import json, sys
from ray.cluster_utils import Cluster
from oddsight.runtime.executor import map_jobs
from oddsight.scale import predict_batch, use_engine
from oddsight.scale.ray_executor import import_ray
from place import where

def lose_one(phase, done, total):
    if phase == "scoring" and len(nodes) == 2:
        cluster.remove_node(nodes.pop(), allow_graceful=False)

model, images, out = sys.argv[1:]
import_ray()
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
cluster.wait_for_nodes()
with use_engine("ray", cluster.address, group=1) as executor:
    places = set(map_jobs(where, range(40)))
options = {"shard_images": 2, "engine": "ray", "address": cluster.address}
summary = predict_batch(model, [images], out, progress=lose_one, **options).summary
print(json.dumps([executor.workers, len(places), len(nodes), summary.scored, summary.failed]))
"""


def test_nodes_share_the_work_and_one_may_be_lost(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    draw = np.random.default_rng(0)
    for number in range(40):
        Image.fromarray(draw.integers(0, 6 * number + 10, (32, 32, 3), dtype=np.uint8)).save(images / f"{number}.png")
    tiny_model().save(tmp_path / "model.onnx")
    told = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_worker_niceness": "0"}
    script = tmp_path / "cluster.py"
    script.write_text(CODE)
    (tmp_path / "place.py").write_text(JOB)  # a job is sent by its name, so workers must be able to import it
    told["PYTHONPATH"] = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    for _ in range(STARTS):
        done = subprocess.run(
            [sys.executable, script, tmp_path / "model.onnx", images, tmp_path / "ray"],
            env=os.environ | told | {"RAY_USAGE_STATS_ENABLED": "0"},
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        if SLOW not in done.stderr:
            break
    if SLOW in done.stderr:
        pytest.skip(f"no node of Ray starts within Ray's half a minute here, tried {STARTS} times")
    assert done.returncode == 0, done.stderr[-2000:]
    workers, places, left, scored, failed = json.loads(done.stdout.splitlines()[-1])
    assert (workers, left) == (2, 1), "three nodes of one processor, one of which is left to Ray; one node is lost"
    assert places > 1, "tasks run on more than one node"
    assert (scored, failed) == (40, 0)
    predict_batch(tiny_model(), [str(images)], tmp_path / "threads", shard_images=2)
    files = [{file.name: file.read_bytes() for file in (tmp_path / name / "scores").iterdir()} for name in
             ("threads", "ray")]  # fmt: skip
    assert files[0] == files[1] and len(files[0]) == 20
