"""The state of a workspace outlives the process, whatever ends it."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import httpx
import pytest

from cli_files import assert_failed, run, start
from oddsight.errors import OddsightError
from oddsight.serve.history import series
from oddsight.serve.models import Models
from oddsight.serve.state import Database
from oddsight.serve.workspace import Retention, open_workspace
from served import png, serving
from tiny_model import tiny_model

PREDICT = "/api/models/parts:predict"


def begin(models, workspace):
    """A service in a process of its own, and a client."""
    process = start("serve", models, "--workspace", workspace, "--port", 0)
    line = process.stderr.readline().decode()
    place = re.search(r"http://\S+", line)
    assert place, line + process.stderr.read().decode()
    return process, httpx.Client(base_url=place[0], timeout=60)


@pytest.mark.slow
@pytest.mark.posix
def test_answers_outlive_kill_9(models, tmp_path):
    ids = set()
    for number in range(4):
        process, client = begin(models, tmp_path)
        try:
            while True:
                try:
                    kept = {entry["id"] for entry in client.get("/api/feedback").json()["items"]}
                    break
                except httpx.ConnectError:
                    time.sleep(0.05)
            assert ids <= kept
            result = client.post(PREDICT, content=png(10 + number)).json()["results"][0]["id"]
            for _ in range(5):
                ids.add(client.post("/api/feedback", json={"result_id": result, "truth": "normal"}).json()["id"])
        finally:
            process.kill()
            process.wait()
            client.close()
    state = Database(tmp_path / "state.sqlite")
    assert state.check() == "ok"
    assert len(state.rows("SELECT 1 FROM feedback")) == len(ids) == 20


@pytest.mark.slow
@pytest.mark.posix
def test_the_command_ends_when_it_is_told_to(models, tmp_path):
    process, client = begin(models, tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    assert b"Traceback" not in process.stderr.read()
    client.close()


def test_a_workspace_is_for_one_service(tmp_path):
    with open_workspace(tmp_path), pytest.raises(OddsightError, match="another service"), open_workspace(tmp_path):
        pass
    with open_workspace(tmp_path):
        pass


def test_states_of_other_versions_and_programs_are_refused(tmp_path):
    with open_workspace(tmp_path):
        pass
    path = tmp_path / "state.sqlite"
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA user_version = 99")
    with pytest.raises(OddsightError, match="newer Oddsight"):
        Database(path)
    with sqlite3.connect(path) as other:
        other.execute("PRAGMA application_id = 1")
    with pytest.raises(OddsightError, match="not the state"):
        Database(path)
    (tmp_path / "other.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(OddsightError, match="cannot be used"):
        Database(tmp_path / "other.sqlite")


def test_a_transaction_that_fails_changes_nothing(tmp_path):
    state = Database(tmp_path / "state.sqlite")

    def fail():
        with state.write() as change:
            change.execute("INSERT INTO uploads VALUES ('x', 1)")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert state.rows("SELECT 1 FROM uploads") == []
    with state.write() as change:
        change.execute("INSERT INTO uploads VALUES ('x', 1)")
    assert len(state.rows("SELECT 1 FROM uploads")) == 1


@pytest.mark.slow
def test_the_oldest_images_go_first_but_not_those_with_an_answer(models, tmp_path):
    size = len(png(1))
    with serving(models, tmp_path, retention=Retention(bytes=5 * size)) as client:
        first = client.post(PREDICT, content=png(1)).json()["results"][0]
        client.post("/api/feedback", json={"result_id": first["id"], "truth": "normal"})
        rest = [client.post(PREDICT, content=png(value)).json()["results"][0] for value in range(2, 9)]
        status = [client.get(f"/api/images/{item['content']}").status_code for item in (first, *rest)]
        assert status[0] == status[-1] == 200
        assert status[1] == 404
        assert sum(code == 200 for code in status) <= 5


@pytest.mark.slow
def test_old_results_go(models, tmp_path):
    with serving(models, tmp_path) as client:
        client.post(PREDICT, content=png(1))
    with open_workspace(tmp_path, Retention(days=0)) as workspace:
        workspace.forget()
        assert workspace.state.rows("SELECT 1 FROM results") == []
        assert workspace.bytes_kept() == 0


@pytest.mark.slow
def test_new_versions_stay_and_a_changed_file_is_one(models, tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "parts.onnx").write_bytes((models / "parts.onnx").read_bytes())
    with serving(folder, tmp_path / "kept") as client:
        changed = client.patch("/api/models/parts/decision", json={"false_alarm_rate": 0.2}).json()
    with serving(folder, tmp_path / "kept") as client:
        assert client.get("/api/models/parts").json()["version"] == changed["version"]
        content = client.get("/api/models/parts/file").content
        assert len(client.get("/api/models/parts").json()["versions"]) == 2
    assert (folder / "parts.onnx").read_bytes() == (models / "parts.onnx").read_bytes()
    (folder / "parts.onnx").write_bytes(content[:100])
    said = []
    with open_workspace(tmp_path / "kept") as workspace:
        kept = Models(folder, workspace, said.append)
        assert kept.get("parts").version == changed["version"]
    assert len(said) == 1


def test_what_the_command_refuses(models, tmp_path, monkeypatch):
    assert_failed(run("serve", tmp_path / "nowhere"), "no such folder")
    (tmp_path / "empty").mkdir()
    assert_failed(run("serve", tmp_path / "empty"), "there is no model to serve")
    assert_failed(run("serve", models, "--host", "0.0.0.0"), "--token-file")
    assert_failed(run("serve", models, "--token-file", tmp_path / "nowhere"), "not a file of tokens")
    assert_failed(run("serve", models, "--name", "http://x"), "no host name")
    assert_failed(run("serve", models, "--host", "10.255.255.1", "--token-file", tokens(tmp_path)), "cannot listen")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert_failed(run("serve", models, "--port", port), f"cannot listen on port {port}", "--port")
    monkeypatch.setattr("oddsight.cli.serving._NEEDED", ("not_installed",))
    assert_failed(run("serve", models), "pip install 'oddsight[serve]'")


def tokens(folder):
    path = folder / "tokens"
    path.write_text("t" * 30)
    return path


def test_the_command_of_a_job_ends_with_the_service():
    process = subprocess.Popen(
        [sys.executable, "-c", "from oddsight.serve.job_process import main; main()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=os.environ,
    )  # fmt: skip
    process.stdin.write(json.dumps({"kind": "check", "images": "/nowhere"}).encode() + b"\n")
    process.stdin.close()
    assert process.wait(60) in (0, 1)


def test_what_was_answered_about_long_ago_is_no_drift(tmp_path):
    with open_workspace(tmp_path, Retention(days=1)) as workspace:
        with workspace.state.write() as change:
            for number in range(60):
                values = (number, str(number), 1.0, "parts", "v", "l", "a.png", str(number), 9.0, 0.001, "anomalous", 1)
                change.execute(f"INSERT INTO results VALUES ({', '.join('?' * len(values))})", values)
        told = series(workspace.state, "parts", 3600, time.time() - 86400)
        assert told["counts"] == []
        assert told["drift"]["alarm_at"] is None
        assert series(workspace.state, "parts", 3600, 0.0)["drift"]["alarm_at"] is not None


@pytest.mark.slow
def test_jobs_refuse_a_model_file_that_was_replaced(models, tmp_path):
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    with serving(folder, tmp_path / "workspace") as client:
        set_of_images = client.post("/api/uploads").json()["upload"]
        files = [("images", (f"{value}.png", png(value))) for value in range(60, 75)]
        client.post(f"/api/uploads/{set_of_images}/images", files=files)
        tiny_model().with_decision(threshold=3).save(folder / "parts.onnx")
        order = {"kind": "recalibrate", "model": "parts", "from": set_of_images, "preview": True}
        job = client.post("/api/jobs", json=order).json()
        while job["state"] in ("queued", "running"):
            time.sleep(0.05)
            job = client.get(f"/api/jobs/{job['id']}").json()
        assert "another one than when the service started" in job["error"]


@pytest.mark.slow
def test_a_broken_file_of_zones_shows_no_place_of_this_machine(models, tmp_path):
    with serving(models, tmp_path / "workspace") as client:
        place = tmp_path / "workspace" / "watch" / "gate"
        place.mkdir(parents=True)
        (place / "zones.json").write_text("no JSON")
        answer = client.get("/api/watch/gate/zones")
        assert answer.status_code == 422
        assert str(tmp_path) not in answer.text
