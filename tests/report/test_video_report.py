"""The page of an evaluation on labelled videos."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from oddsight.drawing.timelines import timeline
from oddsight.errors import OddsightError
from oddsight.evaluation.videos import ClipOutcome, VideoEvaluation
from oddsight.report import videos
from oddsight.report.videos import write_video_report
from stream_frames import event
from tiny_model import tiny_model
from web_pages import Page

HOSTILE = "<script>alert(1)</script>|`*.mp4"


def clip(name="door.mp4", count=600, anomaly=(200, 260), alarms=((20.5, 27.0), (45.0, 45.0))):
    """A minute at ten frames a second, with an anomaly that is found and a false alarm."""
    rng = np.random.default_rng(0)
    times = np.arange(count) / 10
    labels = np.zeros(count, np.int8)
    labels[slice(*anomaly)] = 1
    scores = rng.normal(1, 0.1, count) + labels
    evidence = np.convolve(scores - 0.9, np.ones(20) / 20, mode="same")
    evidence[:20] = np.nan
    events = tuple(
        event("end", id=f"{number}", start=start, end=end, note="a & b") for number, (start, end) in enumerate(alarms)
    )
    return ClipOutcome(name, times, scores, evidence, labels, rng.normal(size=(count, 2)), events)


def page(evaluation, path):
    write_video_report(evaluation, tiny_model(), path)
    return Page(path.read_text())


@pytest.mark.slow
def test_the_page_says_what_was_found_and_draws_every_clip(tmp_path):
    found = page(VideoEvaluation([clip(), clip(HOSTILE, alarms=())], 30.0, 2.0, ["mind the gap"]), tmp_path / "x.html")
    text = " ".join(found.text.split())
    assert "Anomalous stretches found: 1 of 2. False alarms: 1 of 2, in 108.0 s" in text
    assert "consistent with the 30 an hour" in text
    assert "mind the gap" in text and "Time to detection0.5 s" in text.replace(
        "Time to detection ", "Time to detection"
    )
    assert found.count("svg") == 3
    assert found.count("script") == 0 and HOSTILE.partition("|")[0] in text
    assert found.text.count("events") >= 2  # the axes of the timelines


@pytest.mark.slow
def test_what_was_not_measured_is_left_out(tmp_path):
    found = page(VideoEvaluation([clip(anomaly=(0, 0), alarms=())], 1.0, 2.0), tmp_path / "x.html")
    assert (
        "Precision" not in found.text and "AUROC of frames" not in found.text and "There were no events." in found.text
    )


@pytest.mark.slow
def test_a_model_without_footage_has_no_alarms_to_judge(tmp_path):
    one = clip(count=60, anomaly=(20, 30), alarms=())
    found = page(VideoEvaluation([replace(one, evidence=np.full(60, np.nan))], 1.0, 2.0), tmp_path / "x.html")
    assert "so it raises none" in found.text and "stretches found" not in found.text
    assert "Anomalies found" not in found.text and "False alarms an hour" not in found.text


@pytest.mark.slow
def test_many_clips_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(videos, "_CLIPS", 4)
    evaluation = VideoEvaluation([clip(f"{number}.mp4", 30, (5, 10), ()) for number in range(6)], 1.0, 2.0)
    found = page(evaluation, tmp_path / "x.html")
    assert found.count("svg") == 5
    assert "The first 4 of 6 clips are shown." in found.text


@pytest.mark.slow
def test_long_clips_make_small_charts():
    one = clip(count=100_000)
    assert len(timeline(one.name, one.times, one.scores, one.evidence, one.truth, [])) < 100_000


@pytest.mark.slow
def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path):
    with pytest.raises(OddsightError, match="cannot write"):
        write_video_report(VideoEvaluation([clip()], 1.0, 2.0), tiny_model(), tmp_path / "nowhere" / "x.html")
