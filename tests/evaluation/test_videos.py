import numpy as np
import pytest

from footage import RATE, clip, watching_model
from oddsight.errors import DataError
from oddsight.evaluation.videos import find_clips, read_labels
from oddsight.watch.evaluation import evaluate_videos
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
    ("text", "words"),
    [
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
    for name in ("x.mp4", "y.mp4"):
        (tmp_path / name).touch()
    named = write(tmp_path / "named.csv", "clip,frame,anomalous\ny.mp4,0,1\n")
    nameless = write(tmp_path / "nameless.csv", "frame,anomalous\n0,1\n")
    gone = write(tmp_path / "gone.csv", "clip,frame,anomalous\nz.mp4,0,1\n")
    assert find_clips(tmp_path, named) == [(tmp_path / "y.mp4", {0: 1})]
    assert find_clips(tmp_path / "x.mp4", nameless) == [(tmp_path / "x.mp4", {0: 1})]
    with pytest.raises(DataError, match="holds 2 videos"):
        find_clips(tmp_path, nameless)
    with pytest.raises(DataError, match=r"z\.mp4, which is not in"):
        find_clips(tmp_path, gone)
    with pytest.raises(DataError, match=r"no labels of x\.mp4"):
        find_clips(tmp_path / "x.mp4", named)
    with pytest.raises(DataError, match="cannot be read"):
        find_clips(tmp_path, tmp_path / "none.csv")


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
def test_without_footage_only_frames_are_evaluated(labelled):
    model = watching_model(10).with_footage(None)
    found = evaluate_videos(model, labelled, labelled / "labels.csv")
    assert found.frame_auroc() == 1
    assert found.alarms_per_hour is None
    assert "no normal footage" in found.warnings[0]
