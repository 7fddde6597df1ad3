"""Scores over HTTP: those of the command, whatever else is in the request."""

import base64
import io
import threading

import numpy as np
import pytest
from PIL import Image

from cli_files import bomb, run
from oddsight.model.model import load
from oddsight.runtime.parallel import cores
from oddsight.serve import items
from oddsight.serve.limits import Limits
from served import form, png, serving
from textures import texture

PREDICT = "/api/models/parts:predict"


def test_scores_are_those_of_the_command_bit_for_bit(world, tmp_path):
    paths = sorted([*world.normal.iterdir(), *(world.anomalous / "blot").iterdir()])
    told = run("predict", world.model, *paths, "--json", "-").lines
    with serving(world.model) as client:
        files = [("images", (str(path), path.read_bytes())) for path in paths]
        answer = client.post(f"/api/models/{world.model.stem}:predict", files=files).json()
        alone = client.post(
            f"/api/models/{world.model.stem}:predict", content=paths[0].read_bytes(), params={"name": str(paths[0])}
        ).json()
    assert len(told) == len(paths)
    for line, item in zip(told, answer["results"], strict=True):
        line["nearest"] = line["nearest"]["content"]  # The command says where that image is, the service does not.
        assert {key: item[key] for key in line} == line
    assert {**alone["results"][0], "id": 0} == {**answer["results"][0], "id": 0}


def test_an_image_that_cannot_be_read_costs_only_its_own_answer(client):
    images = form(good=png(20), text=b"no image", bomb=bomb(60_000, 60_000), empty=b"", bright=png(250))
    answer = client.post(PREDICT, files=images).json()["results"]
    assert [item["name"] for item in answer] == ["good", "text", "bomb", "empty", "bright"]
    assert ["error" in item for item in answer] == [False, True, True, True, False]
    assert [answer[0]["anomalous"], answer[4]["anomalous"]] == [False, True]


def test_maps(client, models):
    pixels = texture(3, 40, 24)
    expected = load(models / "parts.onnx").predict(pixels).map
    item = client.post(PREDICT, content=png(pixels), params={"map": "png"}).json()["results"][0]
    low, high = item["map"]["scale"]
    grey = np.asarray(Image.open(io.BytesIO(base64.b64decode(item["map"]["png"]))), np.float32)
    np.testing.assert_allclose(low + grey * (high - low) / 255, expected, atol=(high - low) / 255)
    raw = client.post(PREDICT, content=png(pixels), params={"map": "npy"})
    np.testing.assert_array_equal(np.load(io.BytesIO(raw.content)), expected)
    assert client.post(PREDICT, files=form(a=png(1), b=png(2)), params={"map": "npy"}).status_code == 422


def test_another_threshold_decides_this_request_only(client):
    first = client.post(PREDICT, content=png(100), params={"threshold": 50}).json()["results"][0]
    second = client.post(PREDICT, content=png(100)).json()["results"][0]
    assert (first["anomalous"], first["threshold"], first["false_alarm_rate"]) == (True, 50, None)
    assert not second["anomalous"]


@pytest.mark.slow
def test_images_are_kept_only_where_they_may_be(client, models):
    kept = client.post(PREDICT, content=png(77)).json()["results"][0]
    assert kept["kept"]
    assert client.get(f"/api/images/{kept['content']}").content == png(77)
    small = client.get(f"/api/images/{kept['content']}", params={"size": 16})
    assert Image.open(io.BytesIO(small.content)).format == "JPEG"
    other = client.post(PREDICT, content=png(78), params={"keep": False}).json()["results"][0]
    assert not other["kept"]
    assert client.get(f"/api/images/{other['content']}").status_code == 404
    with serving(models) as without:
        assert not without.post(PREDICT, content=png(77)).json()["results"][0]["kept"]
        assert without.get("/api/history").status_code == 409


def test_history_has_what_was_scored(client):
    client.post(PREDICT, files=form(dark=png(3), light=png(240)))
    newest = client.get("/api/history", params={"limit": 1, "model": "parts"}).json()
    assert [item["name"] for item in newest["items"]] == ["light"]
    older = client.get("/api/history", params={"limit": 1, "before": newest["next"]}).json()
    assert [item["name"] for item in older["items"]] == ["dark"]
    flagged = client.get("/api/history", params={"flagged": True}).json()["items"]
    assert {item["anomalous"] for item in flagged} == {True}
    series = client.get("/api/history/series", params={"model": "parts", "bucket": 60}).json()
    assert sum(series["counts"]) == len(client.get("/api/history", params={"limit": 1000}).json()["items"])


@pytest.mark.slow
def test_too_much_is_refused(models):
    with serving(models, limits=Limits(images=2, image_bytes=1000, body_bytes=10_000)) as client:
        assert client.post(PREDICT, content=b"x" * 1001).status_code == 413
        assert client.post(PREDICT, content=b"x" * 10_001).status_code == 413
        assert client.post(PREDICT, files=form(a=png(1), b=png(2), c=png(3))).status_code == 400
        assert client.post(PREDICT, files=form(a=png(1), b=png(2))).status_code == 200


@pytest.mark.parametrize("body", [b"", b"--x\r\n", b"--x\r\nContent-Disposition: form-data; name=images\r\n\r\n"])
def test_malformed_forms_are_refused(client, body):
    answer = client.post(PREDICT, content=body, headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code in (400, 422)
    assert list(answer.json()) == ["error"]


@pytest.mark.slow
def test_what_does_not_fit_into_the_queue_is_refused(models, monkeypatch):
    go, begun, score = threading.Event(), threading.Semaphore(0), items.score_content

    def slow(*args):
        begun.release()
        go.wait(120)
        return score(*args)

    monkeypatch.setattr(items, "score_content", slow)
    with serving(models, limits=Limits(queue=2)) as client:
        status = []

        def ask():
            status.append(client.post(PREDICT, content=png(1)).status_code)

        workers = cores()
        clients = [threading.Thread(target=ask) for _ in range(workers + 2)]
        for thread in clients:
            thread.start()
        for _ in range(workers):
            begun.acquire()
        while "oddsight_waiting_images 2.0" not in client.get("/metrics").text:
            pass
        refused = client.post(PREDICT, content=png(1))
        assert refused.status_code == 429
        assert int(refused.headers["Retry-After"]) >= 1
        go.set()
        for thread in clients:
            thread.join()
        assert status == [200] * (workers + 2)
        assert client.post(PREDICT, content=png(1)).status_code == 200


@pytest.mark.slow
def test_work_of_clients_that_left_is_skipped(models, monkeypatch):
    go, begun, scored, score = threading.Event(), threading.Semaphore(0), [], items.score_content

    def slow(served, content, pixels):
        begun.release()
        go.wait(120)
        scored.append(content)
        return score(served, content, pixels)

    monkeypatch.setattr(items, "score_content", slow)
    monkeypatch.setattr("oddsight.serve.scoring.cores", lambda: 1)
    with serving(models) as client:
        first = threading.Thread(target=client.post, args=(PREDICT,), kwargs={"content": png(1)})
        first.start()
        begun.acquire()
        with pytest.raises(Exception, match="timed out"):
            client.post(PREDICT, content=png(2), timeout=0.5)
        while "oddsight_waiting_images 0.0" not in client.get("/metrics").text:
            pass
        go.set()
        first.join()
        assert client.post(PREDICT, content=png(3)).status_code == 200
    assert scored == [png(1), png(3)]


@pytest.mark.slow
def test_metrics_count(models):
    with serving(models) as client:
        client.post(PREDICT, files=form(a=png(1), b=png(250), c=b"broken"))
        text = client.get("/metrics").text
    for line in (
        'oddsight_images_total{model="parts"} 2.0',
        'oddsight_failures_total{model="parts"} 1.0',
        'oddsight_alarms_total{model="parts"} 1.0',
        'oddsight_compute_seconds_count{model="parts"} 3.0',
        'oddsight_requests_total{method="POST",route="/api/models/{m}:predict",status="200"} 1.0',
    ):
        assert line in text
