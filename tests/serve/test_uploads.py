"""Sets of images: what they hold together, and how they go."""

import time

import pytest

from oddsight.serve import uploads
from oddsight.serve.errors import RequestError
from oddsight.serve.jobs import Jobs, Task
from oddsight.serve.workspace import Retention, open_workspace
from served import ended, form, png, serving
from textures import texture


def bring(client, **images):
    """A new set with images."""
    upload = client.post("/api/uploads").json()["upload"]
    answer = client.post(f"/api/uploads/{upload}/images", files=form(**images))
    return upload, answer


def cloths(count):
    return {f"{number}.png": png(texture(number, 32, 32)) for number in range(count)}


@pytest.mark.slow
def test_a_set_is_listed_and_removed_with_its_images(models, tmp_path):
    with serving(models, tmp_path) as client:
        upload, answer = bring(client, a=png(1), b=png(2), c=b"nothing")
        assert (answer.json()["count"], len(answer.json()["refused"])) == (2, 1)
        entry = client.get("/api/uploads").json()["uploads"][0]
        assert (entry["upload"], entry["count"], entry["bytes"]) == (upload, 2, len(png(1)) + len(png(2)))
        assert len(list((tmp_path / "uploads" / upload).iterdir())) == 2
        assert client.delete(f"/api/uploads/{upload}").json() == {"removed": upload}
        assert not (tmp_path / "uploads" / upload).exists()
        assert client.get("/api/uploads").json() == {"uploads": []}
        for gone in (
            client.delete(f"/api/uploads/{upload}"),
            client.post(f"/api/uploads/{upload}/images", files=form(a=png(1))),
            client.post("/api/jobs", json={"kind": "check", "upload": upload}),
        ):
            assert gone.status_code == 404
        assert not (tmp_path / "uploads" / upload).exists()


@pytest.mark.slow
def test_bytes_are_limited_over_all_sets_together(models, tmp_path):
    size = len(png(1))
    with serving(models, tmp_path, retention=Retention(bytes=3 * size)) as client:
        first, _ = bring(client, a=png(1), b=png(2))
        second, answer = bring(client, a=png(3), b=png(4))
        assert answer.status_code == 413
        assert "all sets together have 3 images" in answer.json()["error"]
        assert sum(entry["count"] for entry in client.get("/api/uploads").json()["uploads"]) == 3
        client.delete(f"/api/uploads/{first}")
        assert client.post(f"/api/uploads/{second}/images", files=form(b=png(4))).json()["count"] == 2


def test_numbers_are_limited_over_all_sets_together(tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "_MOST", 3)
    monkeypatch.setattr(uploads, "_MOST_SETS", 2)
    with open_workspace(tmp_path) as workspace:
        first, second = uploads.create(workspace), uploads.create(workspace)
        with pytest.raises(RequestError, match="there are 2 sets"):
            uploads.create(workspace)
        uploads.add(workspace, first, [("a", png(1)), ("b", png(2))])
        with pytest.raises(RequestError, match="all sets together have 3 images"):
            uploads.add(workspace, second, [("a", png(1)), ("b", png(2))])
        uploads.remove(workspace, first)
        assert uploads.add(workspace, second, [("b", png(2))])["count"] == 2
        uploads.create(workspace)


@pytest.mark.slow
def test_a_set_that_a_job_reads_stays_until_it_has_ended(models, tmp_path):
    with serving(models, tmp_path) as client:
        upload, _ = bring(client, **cloths(12))
        other = client.post("/api/uploads").json()["upload"]
        order = {"kind": "fit", "upload": upload, "name": other, "method": "auto"}
        job = client.post("/api/jobs", json=order).json()["id"]
        refused = client.delete(f"/api/uploads/{upload}")
        assert refused.status_code == 409
        assert "a job uses" in refused.json()["error"]
        assert client.delete(f"/api/uploads/{other}").status_code == 200  # that only names a model like it
        client.delete(f"/api/jobs/{job}")
        assert client.delete(f"/api/uploads/{upload}").status_code == 200


@pytest.mark.parametrize(("method", "needed"), [("knn", False), ("mahalanobis", True)])
@pytest.mark.slow
def test_a_fit_says_whether_an_update_needs_its_images(models, tmp_path, method, needed):
    with serving(models, tmp_path) as client:
        upload, _ = bring(client, **cloths(12))
        order = {"kind": "fit", "upload": upload, "name": "cloth", "method": method, "false_alarm_rate": 0.5}
        result = ended(client, client.post("/api/jobs", json=order))["result"]
        assert (result["upload"], result["upload_needed"]) == (upload, needed)
        entry = client.get("/api/uploads").json()["uploads"][0]
        assert entry["models"] == (["cloth"] if needed else [])
        client.delete(f"/api/uploads/{upload}")
        more, _ = bring(client, new=png(texture(99, 32, 32)))
        update = client.post("/api/jobs", json={"kind": "update", "model": "cloth", "from": more, "preview": True})
        if needed:
            assert update.status_code == 409
            assert "'replace': true" in update.json()["error"]
        else:
            assert ended(client, update)["state"] == "done"


def test_jobs_that_ended_long_ago_go_with_what_they_left(tmp_path):
    with open_workspace(tmp_path, Retention(days=0)) as workspace:
        jobs = Jobs(workspace)
        old, new = (jobs.add(Task("check", {}, {}, lambda id, said: said)).id for _ in range(2))
        while jobs.get(new).state != "done":
            time.sleep(0.01)
        (jobs.folder(old) / "report.html").write_text("found")
        with workspace.state.write() as change:
            change.execute("UPDATE jobs SET ended = ? WHERE id = ?", (time.time() - 2 * 86400, old))
        jobs.forget()
        assert [job.id for job in jobs.all(10)] == [new]
        assert not (tmp_path / "jobs" / old).exists()
        jobs.close()


def test_old_sets_go_but_not_those_that_a_model_needs(tmp_path):
    with open_workspace(tmp_path, Retention(days=0)) as workspace:
        old, needed, new = (uploads.create(workspace) for _ in range(3))
        with workspace.state.write() as change:
            change.execute("UPDATE uploads SET created = ? WHERE id != ?", (time.time() - 2 * 86400, new))
            change.execute("INSERT INTO models VALUES ('cloth', 'x', 0, 'workspace', 'x', ?)", (needed,))
        uploads.forget(workspace)
        assert {entry["upload"] for entry in uploads.list_sets(workspace)} == {needed, new}
        assert not uploads.exists(workspace, old)
