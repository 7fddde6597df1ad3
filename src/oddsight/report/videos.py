"""What the report of an evaluation on labelled videos says."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
from markupsafe import Markup

from oddsight.drawing.frames import clock
from oddsight.drawing.numbers import count, duration, p_text
from oddsight.drawing.timelines import timeline
from oddsight.evaluation.videos import VideoEvaluation
from oddsight.metrics.stretches import match
from oddsight.model.model import Model
from oddsight.report.evaluation import agreement, baseline_bars
from oddsight.report.markdown import fill_template, table, write_page

_CLIPS = 40
"""Clips that are drawn."""
_EVENTS = 100
"""Events that are listed."""


def write_video_report(evaluation: VideoEvaluation, model: Model, path: str | os.PathLike[str]) -> None:
    """Write an evaluation on labelled videos as an HTML page with a timeline of each clip, all at once or not at all.

    Args:
        evaluation: The result of :func:`oddsight.watch.evaluation.evaluate_videos`.
        model: The evaluated model.
        path: The file to write.

    Raises:
        OddsightError: The page cannot be written.
    """
    found = evaluation.to_json()
    shown = evaluation.clips[:_CLIPS]
    figures = {
        f"timeline-{number}": timeline(clip.name, clip.times, clip.scores, clip.evidence, clip.truth, clip.alarms)
        for number, clip in enumerate(shown)
    }
    if found["frame_auroc"] is not None:
        figures["baselines"] = baseline_bars(
            found["frame_auroc"], found["frame_auroc_ci"], found["baselines"], axis="AUROC of frames"
        )
    text = fill_template(
        "oddsight.report",
        "videos.md.jinja",
        title=f"{model.metadata.method.name} on {count(len(evaluation.clips), 'video')}",
        meta=model.metadata,
        found=found,
        warnings=evaluation.warnings,
        alarmed=any(np.isfinite(clip.evidence).any() for clip in evaluation.clips),
        agreement=agreement(found["false_alarms_per_hour"]["asked"], *found["false_alarms_per_hour"]["rate_ci"]),
        clips=shown,
        total=len(evaluation.clips),
        by_clip=_clip_table(evaluation),
        events=_event_table(evaluation),
        normal=duration(3600 * evaluation.hours),
    )
    write_page(text, figures, path)


def _clip_table(evaluation: VideoEvaluation) -> Markup:
    columns = ("Clip", "Length", "Anomalies", "Found", "Alarms", "False")
    rows = []
    for clip in evaluation.clips:
        found = match(clip.alarms, clip.truth, evaluation.window)
        length = clock(float(clip.times[-1] - clip.times[0]))
        rows.append((clip.name, length, found.stretches, len(found.delays), found.alarms, found.alarms - found.true))
    return table(columns, rows)


def _event_table(evaluation: VideoEvaluation) -> Markup | None:
    rows = list(_event_rows(evaluation))
    columns = ("Clip", "Event", "Kind", "Zone", "Start", "End", "p-value", "Label", "Note")
    return table(columns, rows[:_EVENTS], words={1, 2, 3, 7, 8}) if rows else None


def _event_rows(evaluation: VideoEvaluation) -> Iterator[tuple[object, ...]]:
    for clip in evaluation.clips:
        for event in clip.events:
            end = event.start if event.end is None else event.end
            label = None
            if event.kind == "anomaly":
                label = "anomalous" if match([(event.start, end)], clip.truth, evaluation.window).true else "normal"
            p_value = None if event.p_value is None else p_text(event.p_value)
            yield (
                clip.name, event.id, event.kind, event.zone, clock(event.start), clock(end), p_value, label, event.note,
            )  # fmt: skip
