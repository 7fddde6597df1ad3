"""Jobs: fits on uploaded images, with progress, an end before the end, and what a new start makes of the last."""

import json
import time

import pytest

from oddsight.serve import jobs as jobs_module
from oddsight.serve.jobs import Jobs, Task
from oddsight.serve.workspace import Retention, open_workspace
from served import ended, form, png, serving
from textures import texture


@pytest.fixture(scope="module")
def upload(client):
    """A set of 12 images, with one file that is none."""
    upload = client.post("/api/uploads").json()["upload"]
    images = form(**{f"part {n}.png": png(texture(n, 32, 32)) for n in range(12)}, broken=b"nothing")
    answer = client.post(f"/api/uploads/{upload}/images", files=images).json()
    assert answer["count"] == 12
    assert [entry["name"] for entry in answer["refused"]] == ["broken"]
    return upload


def events(client, job):
    with client.stream("GET", f"/api/jobs/{job}/events") as stream:
        lines = [line for line in stream.iter_lines() if line]
    kinds = [line.removeprefix("event: ") for line in lines if line.startswith("event")]
    return kinds, [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data")]


@pytest.mark.slow
def test_a_model_is_fitted_evaluated_and_updated(client, upload):
    order = {"kind": "fit", "upload": upload, "name": "cloth", "method": "knn", "false_alarm_rate": 0.5}
    kinds, states = events(client, client.post("/api/jobs", json=order).json()["id"])
    assert {"state", "progress"} >= set(kinds)
    job = states[-1]
    assert job["state"] == "done", job
    assert job["result"]["model"] == "cloth"
    assert job["result"]["check"]["images"] == 12
    model = client.get("/api/models/cloth").json()
    assert (model["method"], model["has_normals"], model["false_alarm_rate"]) == ("knn", True, 0.5)
    item = client.post("/api/models/cloth:predict", content=png(texture(1, 32, 32)), params={"nearest": True}).json()
    assert client.get(item["results"][0]["nearest_image"]).headers["Content-Type"] == "image/jpeg"

    sets = {kind: client.post("/api/uploads").json()["upload"] for kind in ("normal", "anomalous")}
    for kind, first in (("normal", 50), ("anomalous", 70)):
        images = {
            f"{kind}-{n}.png": png(texture(first + n, 32, 32, material="cloth" if kind == "normal" else "bark"))
            for n in range(4)
        }
        client.post(f"/api/uploads/{sets[kind]}/images", files=form(**images))
    job = ended(client, client.post("/api/jobs", json={"kind": "evaluate", "model": "cloth", **sets}))
    assert job["state"] == "done", job
    assert job["result"]["image"]["auroc"] == 1.0
    report = client.get(job["result"]["report"])
    assert report.headers["Content-Security-Policy"].startswith("sandbox")
    assert "workspace" not in report.text
    assert "normal-0.png" in report.text or "anomalous-0.png" in report.text

    order = {"kind": "update", "model": "cloth", "from": sets["normal"], "preview": True}
    preview = ended(client, client.post("/api/jobs", json=order))
    assert preview["result"]["changes"]["new"] == 4
    assert client.get("/api/models/cloth").json()["version"] == model["version"]
    done = ended(client, client.post("/api/jobs", json={**order, "preview": False}))
    assert client.get("/api/models/cloth").json()["version"] == done["result"]["version"] != model["version"]

    order = {"kind": "recalibrate", "model": "cloth", "from": upload, "false_alarm_rate": 0.5}
    job = ended(client, client.post("/api/jobs", json=order))
    assert job["state"] == "failed"
    assert "part " in job["error"]
    assert "used to fit" in job["error"]
    assert "/" not in job["error"]


@pytest.mark.slow
def test_a_check_says_what_is_there(client, upload):
    job = ended(client, client.post("/api/jobs", json={"kind": "check", "upload": upload}))
    assert job["result"]["kinds"]["formats"] == {"PNG": 12}


@pytest.mark.parametrize(
    "order",
    [
        {"kind": "fit", "upload": "nothing", "name": "new"},
        {"kind": "check", "upload": "../.."},
        {"kind": "evaluate", "model": "parts", "normal": "x", "anomalous": "y"},
        {"kind": "update", "model": "nothing"},
        {"kind": "recalibrate", "model": "parts", "from": "/etc"},
    ],
)
def test_what_is_not_there_is_said_at_once(client, order):
    assert client.post("/api/jobs", json=order).status_code in (404, 409)


@pytest.mark.parametrize(
    "order",
    [{}, {"kind": "other"}, {"kind": "fit"}, {"kind": "fit", "upload": "x", "name": "x", "speed": "soon"}, [], "fit"],
)
def test_wrong_orders_are_refused(client, order):
    assert client.post("/api/jobs", json=order).status_code == 422


def test_names_of_new_models_are_plain(client, upload):
    for name in ("../up", "a/b", ".hidden", "x" * 65, "a b"):
        order = {"kind": "fit", "upload": upload, "name": name}
        assert client.post("/api/jobs", json=order).status_code == 422


@pytest.mark.slow
def test_a_job_can_be_ended_while_it_runs_and_while_it_waits(client, upload):
    order = {"kind": "fit", "upload": upload, "name": "never", "method": "auto"}
    first, second = (client.post("/api/jobs", json=order).json()["id"] for _ in range(2))
    assert client.delete(f"/api/jobs/{second}").json()["state"] == "cancelled"
    while client.get(f"/api/jobs/{first}").json()["state"] == "queued":
        time.sleep(0.05)
    assert client.delete(f"/api/jobs/{first}").json()["state"] == "cancelled"
    last = ended(client, client.post("/api/jobs", json={"kind": "check", "upload": upload}))
    assert last["state"] == "done"
    assert [client.get(f"/api/jobs/{id}").json()["state"] for id in (first, second)] == ["cancelled"] * 2
    assert client.get("/api/models/never").status_code == 404


def test_jobs_of_a_service_that_ended_are_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs_module.Jobs, "_work", lambda self: None)
    with open_workspace(tmp_path) as workspace:
        job = Jobs(workspace).add(Task("check", {}, {}, lambda id, said: said))
    with open_workspace(tmp_path) as workspace:
        after = Jobs(workspace).get(job.id)
        assert after.state == "interrupted"
        assert "service ended" in after.error


def test_a_process_that_breaks_down_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs_module, "_START", "raise SystemExit(3)")
    with open_workspace(tmp_path, Retention()) as workspace:
        jobs = Jobs(workspace)
        job = jobs.add(Task("check", {}, {"kind": "check"}, lambda id, said: said))
        while jobs.get(job.id).state not in ("failed", "done"):
            time.sleep(0.05)
        assert jobs.get(job.id).error == "the process of the job broke down"
        jobs.close()


def test_models_are_brought_and_taken(client, models):
    content = (models / "parts.onnx").read_bytes()
    assert client.put("/api/models/brought", content=content).json()["name"] == "brought"
    assert client.get("/api/models/brought/file").content == content
    for bad in (b"", b"no model", content[:-100]):
        assert client.put("/api/models/bad", content=bad).status_code == 422
    assert client.put("/api/models/a%20b", content=content).status_code == 422


def test_models_are_compared(client, models):
    client.put("/api/models/other", content=(models / "parts.onnx").read_bytes())
    client.patch("/api/models/other/decision", json={"threshold": 100})
    images = form(**{f"{value}": png(value) for value in (50, 120, 150, 200)})
    contents = [item["content"] for item in client.post("/api/models/parts:predict", files=images).json()["results"]]
    order = {"models": ["parts", "other"], "contents": [*contents, "0" * 64]}
    answer = client.post("/api/compare", json=order).json()
    assert answer["flips"] == contents[1:3]
    assert (answer["flagged"], answer["only_first"], answer["only_second"]) == ([1, 3], 0, 2)
    assert answer["p_value"] == 0.5
    assert "error" in answer["items"][-1]


def test_without_a_workspace_there_are_no_jobs(models):
    with serving(models) as client:
        for path in ("/api/jobs", "/api/feedback", "/api/watch"):
            answer = client.get(path)
            assert answer.status_code == 409
            assert "--workspace" in answer.json()["error"]
        assert client.patch("/api/models/parts/decision", json={"threshold": 1}).status_code == 409
