from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

import oddsight
from footage import RATE, clip, watching_model
from oddsight.errors import DataError
from oddsight.evaluation.videos import find_clips, read_labels
from oddsight.sources import VideoFile
from oddsight.watch.evaluation import evaluate_videos
from tiny_model import tiny_model
from video_files import write_video


def write(path, text):
    path.write_text(text)
    return path


def test_labels_are_of_frames_or_of_ranges(tmp_path):
    single = write(tmp_path / "a.csv", "clip,frame,anomalous\nx.mp4,0,0\nx.mp4,1,1\ny.mp4,5,0\n")
    assert read_labels(single) == {"x.mp4": {0: 0, 1: 1}, "y.mp4": {5: 0}}
    ranges = write(tmp_path / "b.csv", "first_frame,last_frame,anomalous,what\n0,2,0,calm\n3,3,1,wild\n")
    assert read_labels(ranges) == {None: {0: 0, 1: 0, 2: 0, 3: 1}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\ufeffClip;Frame;Anomalous\r\nx;0;1\r\n\r\nx;1;FALSE\r\n", {"x": {0: 1, 1: 0}}),
        ("frame, anomalous\n 0, 1\n1 ,0.0\n", {None: {0: 1, 1: 0}}),
        ("clip\tframe\tanomalous\nx.mp4\t3.0\tyes\n", {"x.mp4": {3: 1}}),
        ('clip,frame,anomalous,note\n"a,b.mp4",0,1\n', {"a,b.mp4": {0: 1}}),
        ("first_frame,last_frame,anomalous\n0,3,0\n1,2,1\n", {None: {0: 0, 1: 1, 2: 1, 3: 0}}),
    ],
)
def test_labels_as_programs_and_people_write_them(tmp_path, text, expected):
    assert read_labels(write(tmp_path / "labels.csv", text)) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("frame,anomalous\n1.5,0\n", "line 2"),
        ("clip,frame,anomalous\nx\n", "line 2"),
        ("\n\n", "no columns"),
        ("clip,frame\nx,1\n", "no columns"),
        ("frame,anomalous\n", "has no labels"),
        ("frame,anomalous\n-1,0\n", "line 2"),
        ("frame,anomalous\n1,2\n", "line 2"),
        ("first_frame,last_frame,anomalous\n5,4,0\n", "line 2"),
        ("first_frame,last_frame,anomalous\n5,,0\n", "line 2"),
        ("first_frame,last_frame,anomalous\n0,99999999999,0\n", "line 2"),
        ("first_frame,last_frame,anomalous\n0,999999,0\n5,2000000,0\n", "more than 2,000,000 frames"),
    ],
)
def test_labels_that_are_not_like_that_are_refused(tmp_path, text, words):
    with pytest.raises(DataError, match=words):
        read_labels(write(tmp_path / "labels.csv", text))


def test_clips_are_found_by_name_or_if_there_is_one(tmp_path):
    for name in ("x.mp4", "y.mp4", "._x.mp4"):
        (tmp_path / name).touch()
    named = write(tmp_path / "named.csv", "clip,frame,anomalous\ny.mp4,0,1\n")
    nameless = write(tmp_path / "nameless.csv", "frame,anomalous\n0,1\n")
    gone = write(tmp_path / "gone.csv", "clip,frame,anomalous\nz.mp4,0,1\n")
    assert find_clips(tmp_path, named) == [(tmp_path / "y.mp4", {0: 1})]
    assert find_clips(tmp_path / "x.mp4", nameless) == [(tmp_path / "x.mp4", {0: 1})]
    short = write(tmp_path / "short.csv", "clip,frame,anomalous\ny,0,1\n")
    assert find_clips(tmp_path, short) == [(tmp_path / "y.mp4", {0: 1})]
    with pytest.raises(DataError, match="no such video"):
        find_clips(tmp_path / "none", named)
    with pytest.raises(DataError, match="holds 2 videos"):
        find_clips(tmp_path, nameless)
    with pytest.raises(DataError, match=r"z\.mp4, which is not in"):
        find_clips(tmp_path, gone)
    with pytest.raises(DataError, match=r"no labels of x\.mp4"):
        find_clips(tmp_path / "x.mp4", named)
    with pytest.raises(DataError, match="cannot be read"):
        find_clips(tmp_path, tmp_path / "none.csv")
    (tmp_path / "y.avi").touch()
    with pytest.raises(DataError, match="has several"):
        find_clips(tmp_path, short)


def test_a_folder_of_frames_is_a_clip(tmp_path):
    for folder in ("Test001", "Test002"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "001.tif").touch()
    (tmp_path / "labels").mkdir()
    named = write(tmp_path / "named.csv", "clip,frame,anomalous\nTest002,0,1\n")
    nameless = write(tmp_path / "nameless.csv", "frame,anomalous\n0,1\n")
    assert find_clips(tmp_path, named) == [(tmp_path / "Test002", {0: 1})]
    assert find_clips(tmp_path / "Test001", nameless) == [(tmp_path / "Test001", {0: 1})]


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """A clip with a blot from 8 to 12 seconds, and its labels."""
    folder = tmp_path_factory.mktemp("labelled")
    frames = [np.asarray(frame.image) for frame in clip(16, seed=5, blots=((8, 12),))]
    write_video(folder / "x.mp4", frames, rate=RATE)
    write(
        folder / "labels.csv", "clip,first_frame,last_frame,anomalous\nx.mp4,0,79,0\nx.mp4,80,119,1\nx.mp4,125,159,0\n"
    )
    return folder


@pytest.mark.slow
def test_a_blot_is_found_and_told_in_numbers(labelled):
    model = watching_model()
    found = evaluate_videos(model, labelled, labelled / "labels.csv", alarms_per_hour=36, window=0.5)
    numbers = found.to_json()
    assert numbers["frames"] == {"normal": 115, "anomalous": 40}
    assert numbers["frame_auroc"] == 1
    assert numbers["events"]["found"] == numbers["events"]["anomalies"] == 1
    assert 0 <= numbers["events"]["median_delay"] < 1
    false = numbers["false_alarms_per_hour"]
    assert false["hours"] == pytest.approx(11.5 / 3600)
    assert false["count"] == numbers["events"]["alarms"] - numbers["events"]["true"]
    assert set(numbers["baselines"]) == {"brightness", "frame difference"}
    (outcome,) = found.clips
    assert outcome.truth == [(8.0, 11.9)]
    assert numbers["events"]["normal_frames_in_alarms"] < 0.2
    assert (outcome.anomalous[120:125] == -1).all()
    assert outcome.evidence[85:119].min() > 1


@pytest.mark.slow
def test_alarms_that_never_end_are_told(labelled):
    model = watching_model()
    assert model.footage is not None
    silent = {zone: np.zeros_like(scores) for zone, scores in model.footage.scores.items()}
    model = model.with_footage(replace(model.footage, scores=silent))
    found = evaluate_videos(model, labelled, labelled / "labels.csv", alarms_per_hour=36, window=0.5)
    assert found.normal_frames_in_alarms > 0.9
    assert "of the normal frames are during alarms" in found.warnings[-1]


@pytest.mark.slow
def test_without_footage_only_frames_are_evaluated(labelled):
    model = watching_model(10).with_footage(None)
    found = evaluate_videos(model, labelled, labelled / "labels.csv")
    assert found.frame_auroc() == 1
    assert found.alarms_per_hour is None
    assert "no normal footage" in found.warnings[0]


def test_frames_of_other_sizes_are_evaluated(tmp_path):
    for number, shape in enumerate([(16, 16, 3), (16, 32, 3), (16, 32, 3)]):
        Image.fromarray(np.full(shape, 40 * number, np.uint8)).save(tmp_path / f"{number}.png")
    labels = write(tmp_path / "labels.csv", "frame,anomalous\n0,0\n1,0\n2,1\n")
    found = evaluate_videos(tiny_model(), tmp_path, labels, rate=1)
    (outcome,) = found.clips
    assert outcome.times.tolist() == [0, 1, 2]
    assert outcome.baselines[:, 1].tolist() == [0, 0, 40]


def test_labels_of_frames_that_are_not_there_are_told(tmp_path):
    write_video(tmp_path / "x.mp4", [np.asarray(frame.image) for frame in clip(2)], rate=RATE)
    labels = write(tmp_path / "labels.csv", "first_frame,last_frame,anomalous\n1,20,0\n")
    found = evaluate_videos(tiny_model(), tmp_path / "x.mp4", labels)
    assert found.warnings[1:] == ["x.mp4 has no frames for 1 of the labels: frames count from 0"]


@pytest.mark.slow
def test_a_few_frames_that_the_model_knows_do_not_count(tmp_path):
    black = [np.zeros((16, 16, 3), np.uint8)]
    frames = [np.asarray(frame.image) for frame in clip(4)]
    write_video(tmp_path / "x.mp4", black + frames, rate=RATE)
    decoded = [frame.image for frame in VideoFile(tmp_path / "x.mp4")]
    labels = write(tmp_path / "labels.csv", f"first_frame,last_frame,anomalous\n0,{len(frames)},0\n")

    def evaluate(known):
        other = [np.asarray(frame.image) for frame in clip(4, seed=9)]
        options = {"method": "knn", "backbone": "pixels", "groups": "none", "size": 16}
        model = oddsight.fit([*decoded[:known], *other], **options)
        return evaluate_videos(model, tmp_path / "x.mp4", labels)

    found = evaluate(1)
    assert found.to_json()["frames"]["normal"] == len(frames)
    assert found.warnings[-1] == "frames that the model was made of were left out: 1"
    with pytest.raises(DataError, match=r"x\.mp4#9 is among the images that the model was made of"):
        evaluate(20)
