"""Evaluations on the terminal."""

from __future__ import annotations

from typing import Any

from oddsight.data.folder import others_ignored
from oddsight.drawing.numbers import count, duration, percent
from oddsight.errors import plain
from oddsight.evaluation.classes import ClassEvaluation
from oddsight.evaluation.normal import Evaluation
from oddsight.evaluation.videos import VideoEvaluation
from oddsight.sinks.terminal import complain, console, note, table


def show_evaluation(found: Evaluation | ClassEvaluation) -> None:
    """Show the numbers of an evaluation."""
    if isinstance(found, Evaluation):
        _show_normal(found)
    else:
        _show_classes(found)


def say_evaluation(found: Evaluation | ClassEvaluation, quiet: bool) -> None:
    """Say beside the numbers what a reader must know, and what could not be used."""
    for warning in found.warnings:
        note(f"note: {warning}", quiet=quiet)
    for error in found.errors:
        complain(error)


def _show_normal(found: Evaluation) -> None:
    image, pixel, counts = found.image, found.pixel, found.counts
    masks = f", {counts['masks']:,} of these with a mask" if found.masks is not None else ""
    normal, anomalous = f"{counts['normal']:,} normal", f"{counts['anomalous']:,} anomalous images"
    console.print(f"{normal} and {anomalous}{masks}{others_ignored(counts['ignored'])}")
    if (counts["normal_groups"], counts["anomalous_groups"]) != (counts["normal"], counts["anomalous"]):
        groups = f"{counts['normal_groups']:,} normal and {counts['anomalous_groups']:,} anomalous groups"
        console.print(f"intervals count {groups}, not images")
    rows = [
        ("AUROC", image["auroc"], image["auroc_ci"]),
        ("average precision", image["average_precision"], None),
        ("FPR at 95% of anomalies found", image["fpr95"], None),
        ("anomalies passed at 95% of normal passed", image["fpr95_normal_positive"], None),
        ("anomalies found (recall)", image["recall"], image["recall_ci"]),
        ("false-alarm rate", image["false_alarm_rate"], image["false_alarm_rate_ci"]),
        ("precision", image["precision"], None),
        ("F1", image["f1"], None),
        ("F1 at the best threshold (uses the labels)", image["f1_max"], None),
    ]
    if pixel is not None:
        rows += [
            ("pixel AUROC", pixel["auroc"], None),
            (f"AUPRO up to {pixel['aupro_limit']:g}", pixel["aupro"], None),
            ("pixel F1 at the best threshold (uses the labels)", pixel["f1_max"], None),
        ]
    _show_metrics(rows, found.confidence)
    if pixel is not None:
        console.print(
            f"pixel metrics: on {counts['pixel_images']:,} of {anomalous}, those with a mask that marks anything, "
            f"and {normal}"
        )
    types = table("type", "images", "AUROC", "found", numbers=("images", "AUROC", "found"))
    for kind, values in found.by_type.items():
        types.add_row(plain(kind), f"{values['images']:,}", f"{values['auroc']:.4f}", percent(values["recall"]))
    console.print(types)
    if found.named:
        verdicts = table("images", "verdicts")
        for name, counts in found.named.items():
            said = ", ".join(f"{count:,} {plain(verdict)}" for verdict, count in counts.items())
            verdicts.add_row("normal" if name is None else plain(name), said)
        console.print(verdicts)


def _show_classes(found: ClassEvaluation) -> None:
    numbers = found.to_json()
    console.print(f"{numbers['images']:,} images of {len(found.classes)} classes")
    rows = [
        ("accuracy", numbers["accuracy"], numbers["accuracy_ci"]),
        ("known images rejected", numbers["false_rejection_rate"], numbers["false_rejection_rate_ci"]),
        ("accuracy of the accepted", numbers["accuracy_of_accepted"], None),
        ("macro F1", numbers["macro_f1"], None),
        ("expected calibration error", numbers["expected_calibration_error"], None),
    ]
    _show_metrics(rows, 0.95)
    columns = ("images", "precision", "recall", "F1", "rejected")
    classes = table("class", *columns, numbers=columns)
    for name, row in numbers["classes"].items():
        rejected = percent(row["rejected"]) if row["rejected"] is not None else ""
        shares = (f"{row[key]:.4f}" for key in ("precision", "recall", "f1"))
        classes.add_row(plain(name), f"{row['images']:,}", *shares, rejected)
    console.print(classes)
    if numbers["unknown"]:
        unknown = table(
            "none of these", "images", "AUROC", "95% interval", "rejected", numbers=("images", "AUROC", "rejected")
        )
        for name, row in numbers["unknown"].items():
            ends = (f"{row['auroc']:.4f}", _interval(row["auroc_ci"]), percent(row["rejected"]))
            unknown.add_row(plain(name), f"{row['images']:,}", *ends)
        console.print(unknown)


def _show_metrics(rows: list[Any], confidence: float) -> None:
    """Name, value and interval of each metric; what could not be measured is left out."""
    lines = table("metric", "value", f"{percent(confidence)} interval", numbers=("value",))
    for name, value, interval in rows:
        if value is not None:
            lines.add_row(name, f"{value:.4f}", _interval(interval) if interval is not None else "")
    console.print(lines)


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.4f} to {interval[1]:.4f}"


def show_videos(found: VideoEvaluation) -> None:
    """Show the numbers of an evaluation on videos."""
    numbers = found.to_json()
    frames, events, false = numbers["frames"], numbers["events"], numbers["false_alarms_per_hour"]
    clips = count(len(numbers["clips"]), "video")
    console.print(f"{clips}: {frames['normal']:,} normal and {frames['anomalous']:,} anomalous frames")
    rows = [("frame AUROC", numbers["frame_auroc"], numbers["frame_auroc_ci"])]
    rows += [(f"frame AUROC of the {name} alone", value, None) for name, value in numbers["baselines"].items()]
    if found.alarms_per_hour is not None:
        rows += [
            ("anomalies found (recall)", events["recall"], None),
            ("alarms that are true (precision)", events["precision"], None),
            ("normal frames during alarms", events["normal_frames_in_alarms"], None),
            ("seconds to the alarm, median", events["median_delay"], None),
            ("false alarms an hour", false["rate"], false["rate_ci"] if false["hours"] else None),
        ]
    _show_metrics(rows, 0.95)
    if found.alarms_per_hour is not None:
        console.print(
            f"{count(events['alarms'], 'alarm')} for {count(events['anomalies'], 'anomaly', 'anomalies')}; "
            f"false alarms: {false['count']:,} in {duration(3600 * false['hours'])} of normal footage, "
            f"with at most {false['asked']:g} an hour allowed"
        )
