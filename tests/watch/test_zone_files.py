"""Files of zones: what is written is read again, and whatever is wrong is one sentence."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli_files import strict_json
from oddsight.errors import DataError, OddsightError
from oddsight.watch import zone_files
from oddsight.watch.zone_files import parse_zones, read_zones, write_zones, zones_json
from oddsight.watch.zones import Zone, Zones

SQUARE = [[0.1, 0.1], [0.5, 0.1], [0.5, 0.5], [0.1, 0.5], [0.1, 0.1]]


def collection(geometry=None, **properties):
    geometry = geometry or {"type": "Polygon", "coordinates": [SQUARE]}
    feature = {"type": "Feature", "properties": {"name": "gate", **properties}, "geometry": geometry}
    return {"type": "FeatureCollection", "features": [feature]}


def parse(content):
    return [*parse_zones(content if isinstance(content, bytes) else json.dumps(content).encode())]


names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20).filter(lambda name: name != "frame")
numbers = st.none() | st.floats(0.01, 100)


@pytest.mark.slow
@given(st.dictionaries(names, st.tuples(numbers, st.floats(0, 100), st.booleans()), max_size=4))
def test_what_is_written_is_read_again(described):
    polygon = tuple((x, y) for x, y in SQUARE[:-1])
    zones = [
        Zone(name, polygon, model=Path("models/gate.onnx") if own else None, alarms_per_hour=rate, dwell=dwell)
        for name, (rate, dwell, own) in described.items()
    ]
    zones.append(Zone("no entry", polygon, kind="exclude"))
    assert parse(zones_json(Zones(zones))) == zones


def test_models_are_relative_to_the_file(tmp_path):
    path = tmp_path / "zones.json"
    path.write_text(json.dumps(collection(model="models/gate.onnx")))
    zones = read_zones(path)
    assert zones.include[0].model == tmp_path / "models" / "gate.onnx"
    write_zones(path, zones)
    assert strict_json(path.read_text())["features"][0]["properties"]["model"] == "models/gate.onnx"
    assert [*read_zones(path)] == [*zones]


def test_frigates_strings_are_imported(tmp_path):
    flat = "0.1,0.2,0.5,0.2,0.5,0.9"
    triangle = ((0.1, 0.2), (0.5, 0.2), (0.5, 0.9))
    expected = [Zone("door", triangle)]
    assert parse({"door": flat}) == expected
    assert parse({"door": flat.split(",")}) == expected
    assert parse({"door": {"coordinates": flat}}) == expected
    (tmp_path / "door.txt").write_text(f"{flat}\n")
    assert [*read_zones(tmp_path / "door.txt")] == expected
    assert parse({"door": flat, "gate": flat}) == [*expected, Zone("gate", triangle)]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"type": NaN}', "not JSON"),
        ([], "zones are a GeoJSON FeatureCollection"),
        ({"type": "Feature"}, "with a list of features"),
        ({"type": "FeatureCollection", "features": [1]}, "feature 1 is not a GeoJSON Feature"),
        ({"type": "FeatureCollection", "features": [{"type": "Feature"}]}, "feature 1 has no name"),
        (collection(name=None), "feature 1 has no name"),
        (collection(colour="red"), "unknown property colour"),
        (collection(kind="both"), "include or exclude"),
        (collection(model=3), "the model of the zone 'gate' is the path of a file"),
        (collection(dwell="2 s"), "dwell of the zone 'gate' must be a number"),
        (collection({"type": "Point", "coordinates": [0, 0]}), "is not a Polygon"),
        (collection({"type": "Polygon", "coordinates": []}), "is empty"),
        (collection({"type": "Polygon", "coordinates": [SQUARE, SQUARE]}), "has a hole"),
        (collection({"type": "Polygon", "coordinates": [[[0, 0, 0]]]}), "not \\[x, y\\]"),
        (collection({"type": "Polygon", "coordinates": [[["a", 0], [1, 0], [1, 1]]]}), "not numbers"),
        (collection({"type": "Polygon", "coordinates": [[[0, 0], [640, 0], [640, 480]]]}), "outside the frame"),
        (collection({"type": "Polygon", "coordinates": [[[0, 0], [10**400, 0], [1, 1]]]}), "common size"),
        ({"gate": "0.1,0.2,0.3"}, "odd count"),
        ({"gate": "0.1,b"}, "not a flat string"),
        ({"gate": None}, "not a flat string"),
        ({"gate": {"coordinates": "0,0,1,0,1,1", "objects": "dog"}}, "unknown property objects"),
        (b"1,2,3", "odd count"),
        (b"0,0,1e999,0,1,1", "outside the frame"),
    ],
)
def test_what_is_wrong_is_one_sentence(content, words):
    with pytest.raises(OddsightError, match=words) as raised:
        parse(content)
    assert "\n" not in str(raised.value)


@given(st.binary(max_size=40) | st.text(' 0123456789.,e-[]{}":a', max_size=30))
def test_no_content_ends_in_a_traceback(content):
    with suppress(OddsightError):
        parse_zones(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))


def test_too_many_zones_are_refused_before_they_are_looked_at(monkeypatch):
    monkeypatch.setattr(zone_files, "Zone", None)
    strings = {f"z{number}": "0,0,1,0,1,1" for number in range(101)}
    for content in (strings, {"type": "FeatureCollection", "features": [{}] * 101}):
        with pytest.raises(DataError, match="there are 101 zones"):
            parse_zones(json.dumps(content).encode())


def test_errors_name_the_file(tmp_path):
    with pytest.raises(DataError, match=r"missing.json: the zones cannot be read"):
        read_zones(tmp_path / "missing.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_zones(tmp_path)
    path = tmp_path / "zones.json"
    path.write_text("{")
    with pytest.raises(DataError, match=r"zones.json: not JSON"):
        read_zones(path)
    path.write_bytes(b" " * (2**20 + 1))
    with pytest.raises(DataError, match="larger than 1,048,576 bytes"):
        read_zones(path)
