"""What a running ``watch`` leaves in the workspace."""

import asyncio
import json

import pytest

from oddsight.serve.events import Listeners
from oddsight.serve.limits import Limits
from served import serving

SQUARE = [[0, 0], [0.5, 0], [0.5, 0.5], [0, 0]]


def zones(**properties):
    feature = {
        "type": "Feature",
        "properties": {"name": "gate", **properties},
        "geometry": {"type": "Polygon", "coordinates": [SQUARE]},
    }
    return {"type": "FeatureCollection", "coordinates": "relative", "features": [feature]}


@pytest.fixture(scope="module")
def watched(models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    place = folder / "watch" / "gate"
    (place / "frames").mkdir(parents=True)
    (place / "events.jsonl").write_text('{"id": "1"}\nnot json\n{"id": "2"}\n')
    for name in ("1.jpg", "20260101T000000Z-2.jpg", "20260102T000000Z-2.jpg"):
        (place / "frames" / name).write_bytes(name.encode())
    (place / "frames" / "secret.txt").write_text("no")
    (place / "frames" / "link.jpg").symlink_to("/etc/passwd")
    with serving(models, folder) as client:
        yield client, place


@pytest.mark.slow
def test_streams_and_events(watched):
    client, place = watched
    assert [stream["name"] for stream in client.get("/api/watch").json()["streams"]] == ["gate"]
    told = []
    with client.stream("GET", "/api/watch/gate/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                told.append(json.loads(line.removeprefix("data: "))["id"])
            if told == ["1", "2"]:
                with (place / "events.jsonl").open("a") as file:
                    file.write('{"id": "3"}\n')
                told.append("written")
            if told[-1:] == ["3"]:
                break
    assert told == ["1", "2", "written", "3"]


def test_clients_that_left_before_the_first_event_are_not_counted():
    listeners = Listeners(Limits(streams=1))

    async def lines():
        yield "never sent"

    async def receive():
        return {"type": "http.disconnect"}

    async def send(message):
        await asyncio.sleep(0)

    for _ in range(3):  # one more than may listen at once
        asyncio.run(listeners.stream(lines())({"type": "http"}, receive, send))
    assert listeners.count == 0


def test_key_frames(watched):
    client, _ = watched
    assert client.get("/api/watch/gate/frames/1.jpg").content == b"1.jpg"
    assert client.get("/api/watch/gate/frames/2.jpg").content == b"20260102T000000Z-2.jpg"
    for name in ("secret.txt", "link.jpg", "3.jpg", "..%2fevents.jsonl"):
        assert client.get(f"/api/watch/gate/frames/{name}").status_code in (404, 422)
    assert client.get("/api/watch/other/events").status_code == 404


def test_zones(watched):
    client, place = watched
    assert client.get("/api/watch/gate/zones").status_code == 404
    answer = client.put("/api/watch/gate/zones", json=zones())
    assert answer.status_code == 200, answer.text
    assert client.get("/api/watch/gate/zones").json() == answer.json() != {}
    assert (place / "zones.json").is_file()
    for bad in (zones(model="/etc/passwd"), zones(kind="other"), {"type": "Feature"}, []):
        assert client.put("/api/watch/gate/zones", json=bad).status_code == 422
