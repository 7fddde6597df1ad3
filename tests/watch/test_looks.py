"""Looks: whole frames as ``predict`` scores them, zones by map or by a model of their own, and crops of what moves."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

import oddsight
from oddsight.errors import DataError, ImageError
from oddsight.model.events import WHOLE
from oddsight.runtime.executor import map_jobs
from oddsight.sources import Arrays, Files
from oddsight.sources.frame import Frame
from oddsight.watch.interest import Grid
from oddsight.watch.looks import Crops, Looks, Observation
from oddsight.watch.zones import Zone, Zones
from tiny_model import tiny_model

LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
RIGHT = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
TOP = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.25), (0.0, 0.25))


class Spots:
    """Proposes the same boxes in each frame."""

    follows = True
    light_changed = False

    def __init__(self, *boxes):
        self.boxes = list(boxes)

    def propose(self, pixels):
        return self.boxes


def frames(count=4, height=48, width=64):
    random = np.random.default_rng(0)
    return Arrays(
        [random.integers(0, 200, (height, width, 3), dtype=np.uint8) for _ in range(count)],
        times=[0.1 * number for number in range(count)],
    )


def watch(looks, source, workers=2):
    return list(map_jobs(looks.score, map(looks.prepare, source), workers=workers))


def test_a_whole_frame_is_scored_bit_for_bit_as_predict_does():
    model = tiny_model()
    seen = watch(Looks(model), frames())
    for one, frame in zip(seen, frames(), strict=True):
        (look,) = one.looks
        expected = model.predict(frame)
        assert (look.zone, look.box, look.track) == (WHOLE, None, None)
        assert (look.result.score, look.result.p_value) == (expected.score, expected.p_value)
        np.testing.assert_array_equal(look.result.map, expected.map)
        assert (look.result.time, look.result.index) == (one.frame.time, one.frame.index) == (frame.time, frame.index)
        np.testing.assert_array_equal(one.frame.image, frame.image)


@pytest.mark.parametrize("roi", [None, Grid(2, 2)])
def test_the_number_of_workers_changes_nothing(roi):
    zones = Zones([Zone("left", LEFT), Zone("top", TOP, kind="exclude")])
    one, two = (
        [
            [(look.zone, look.box, look.track, look.result.score, look.result.p_value) for look in seen.looks]
            for seen in watch(Looks(tiny_model(), zones, roi), frames(), workers)
        ]
        for workers in (1, 2)
    )
    assert one == two
    assert all(one)


def test_zones_share_one_run_of_the_map():
    model = tiny_model()
    zones = Zones([Zone("left", LEFT), Zone("right", RIGHT)])
    looks = Looks(model, zones)
    assert looks.names == ("left", "right")
    for seen, frame in zip(watch(looks, frames()), frames(), strict=True):
        whole = model.predict(frame)
        assert [look.zone for look in seen.looks] == ["left", "right"]
        assert [look.box for look in seen.looks] == [(0, 0, 32, 48), (32, 0, 64, 48)]
        assert max(look.result.score for look in seen.looks) == whole.score
        assert seen.looks[0].result.score == whole.map[:, :4].max()


def test_a_zone_with_a_model_of_its_own_is_a_crop(tmp_path):
    own = tiny_model(sign=-1.0, calibration=-np.arange(10, 200, 10, dtype=np.float32)[::-1])
    own.save(tmp_path / "right.onnx")
    zones = Zones([Zone("left", LEFT), Zone("right", RIGHT, model=tmp_path / "right.onnx")])
    for seen, frame in zip(watch(Looks(tiny_model(), zones), frames()), frames(), strict=True):
        by_name = {look.zone: look for look in seen.looks}
        crop = own.predict(np.ascontiguousarray(frame.image[:, 32:]))
        assert by_name["right"].result.score == crop.score < 0
        assert by_name["right"].box == (32, 0, 64, 48)
        assert by_name["left"].result.score > 0


def test_the_frame_is_not_scored_where_every_zone_has_a_model_of_its_own(tmp_path):
    tiny_model().save(tmp_path / "gate.onnx")
    zones = Zones([Zone("gate", LEFT, model=tmp_path / "gate.onnx")])
    # A model without a map will do, as it has nothing to say here.
    (seen,) = watch(Looks(tiny_model(localises=False), zones), frames(1))
    assert [look.zone for look in seen.looks] == ["gate"]


def test_regions_of_interest_are_cut_out_followed_and_in_zones():
    model = tiny_model(localises=False)
    zones = Zones([Zone("left", LEFT), Zone("top", TOP, kind="exclude")])
    boxes = [(4, 20, 20, 36), (40, 20, 50, 30), (4, 0, 20, 10)]
    seen = watch(Looks(model, zones, Spots(*boxes)), frames())
    for one, frame in zip(seen, frames(), strict=True):
        (look,) = one.looks  # the others are in no zone, or excluded
        assert (look.zone, look.box, look.track) == ("left", boxes[0], 1)
        # The window of 32 pixels around it, inside the frame.
        crop = np.ascontiguousarray(frame.image[12:44, 0:32])
        assert look.result.score == model.predict(crop).score
        assert (look.result.width, look.result.height) == (32, 32)


def test_tiles_of_a_grid_are_cut_out_as_they_are():
    (seen,) = watch(Looks(tiny_model(), None, Grid(2, 1)), frames(1))
    assert [(look.box, look.result.width) for look in seen.looks] == [((0, 0, 32, 48), 32), ((32, 0, 64, 48), 32)]
    assert {look.zone for look in seen.looks} == {WHOLE}


def test_a_frame_without_regions_has_no_looks():
    (seen,) = watch(Looks(tiny_model(), None, Spots()), frames(1))
    assert seen.looks == ()


@pytest.mark.parametrize("roi", [None, Grid(2, 2)])
def test_what_cannot_be_read_is_an_error_in_its_place(roi, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    source = [Frame(tmp_path / "broken.png"), ImageError("camera", "away"), *frames(1)]
    first, second, third = watch(Looks(tiny_model(), None, roi), source)
    assert isinstance(first, ImageError)
    assert first.path.endswith("broken.png")
    assert (second.path, second.reason) == ("camera", "away")
    assert isinstance(third, Observation)


def test_views_and_the_job_can_be_sent():
    looks = Looks(tiny_model(), Zones([Zone("left", LEFT)]), Grid(2, 2))
    (frame,) = frames(1)
    job, view = pickle.loads(pickle.dumps((looks.score, looks.prepare(frame))))
    assert [look.result.score for look in job(view).looks] == [look.result.score for look in looks.score(view).looks]


def test_a_model_without_a_map_cannot_score_zones():
    model = tiny_model(localises=False)
    for zones in ([Zone("left", LEFT)], [Zone("top", TOP, kind="exclude")]):
        with pytest.raises(DataError, match="has no anomaly map"):
            Looks(model, Zones(zones))


def test_a_zone_that_is_excluded_completely_is_refused():
    zones = Zones([Zone("left", LEFT), Zone("no", LEFT, kind="exclude")])
    with pytest.raises(DataError, match="the zone 'left' is excluded by other zones"):
        Looks(tiny_model(), zones)
    everything = ((0, 0), (1, 0), (1, 1), (0, 1))
    with pytest.raises(DataError, match="the whole frame is excluded"):
        Looks(tiny_model(), Zones([Zone("no", everything, kind="exclude")]))


def test_the_model_of_a_zone_has_to_be_there(tmp_path):
    with pytest.raises(oddsight.ModelError, match=r"gate.onnx"):
        Looks(tiny_model(), Zones([Zone("gate", LEFT, model=tmp_path / "gate.onnx")]))


def test_crops_are_what_is_looked_at():
    zones = Zones([Zone("left", LEFT)])
    for roi in (Grid(2, 2), Spots((4, 20, 20, 36), (40, 20, 50, 30))):
        model = tiny_model()
        looked = [look.result.score for seen in watch(Looks(model, zones, roi), frames()) for look in seen.looks]
        assert [model.predict(crop).score for crop in Crops(frames(), roi=roi, zones=zones)] == looked
    crops = list(Crops(frames(), zones=zones))
    assert [(crop.time, crop.index, crop.image.shape) for crop in crops] == [
        (frame.time, frame.index, (48, 32, 3)) for frame in frames()
    ]
    assert crops[1].name == "frame 1@0,0,32,48"
    few = Crops(frames(), roi=Grid(2, 1), every=0.2)
    assert [crop.index for crop in few] == [0, 0, 2, 2]


def test_crops_pass_errors_on_and_need_a_place(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert [type(crop) for crop in Crops(Files(tmp_path / "broken.png"), roi=Grid(1, 1))] == [ImageError]
    with pytest.raises(DataError, match="give roi or zones"):
        Crops(frames())


@pytest.mark.slow
def test_a_model_learns_from_crops():
    zones = Zones([Zone("left", LEFT)])
    model = oddsight.fit(Crops(frames(24), zones=zones), method="knn", size=32, false_alarm_rate=0.2)
    assert model.metadata.training.images + model.metadata.calibration.images == 24
