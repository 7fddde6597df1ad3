"""A model file with normal footage that was written once, and is watched with by every later version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import oddsight
from footage import clip, watching_model

KEPT = Path(__file__).parents[1] / "files" / "model-schema-8.onnx"
EVENTS = [
    ("anomaly-1", "new", 4.3, 43, 2.186419),
    ("anomaly-1", "end", 4.3, 44, 2.223500),
    ("anomaly-2", "new", 10.0, 100, 30.322627),
    ("anomaly-2", "update", 10.0, 104, 148.955958),
    ("anomaly-2", "end", 10.0, 104, 148.955958),
]
"""Of footage with a blot from 10 to 14 seconds: name, state, start, key frame and evidence."""


def make_kept_file():
    """What made it. Not to be run again: the file stays as it is."""
    watching_model(24).save(KEPT)


def test_it_is_whole_and_has_its_footage():
    model = oddsight.load(KEPT)
    assert KEPT.stat().st_size < 10_000
    assert model.to_bytes() == KEPT.read_bytes()
    assert model.metadata.schema_version == 8
    assert model.footage is not None
    assert (model.footage.blocks, model.footage.block, len(model.footage.times)) == (12, 2.0, 240)
    assert model.footage.interval == pytest.approx(0.1)
    assert model.footage.scores["frame"][:3].tolist() == pytest.approx([256 / 3, 86.0, 254 / 3])
    assert model.predict(np.full((5, 9, 3), 55, np.uint8)).score == pytest.approx(55, rel=1e-5)


@pytest.mark.slow
def test_it_gives_the_recorded_events():
    footage = clip(30, seed=5, blots=((10, 14),))
    events = list(oddsight.watch(oddsight.load(KEPT), footage, alarms_per_hour=200, window=0.5))
    told = [(event.id, event.state, round(event.start, 3), event.index) for event in events]
    assert told == [recorded[:4] for recorded in EVENTS]
    assert [event.score for event in events] == pytest.approx([recorded[4] for recorded in EVENTS], rel=1e-4)
    assert events[-1].end == pytest.approx(14.3)
    assert {event.p_value for event in events} == {1 / 13}
