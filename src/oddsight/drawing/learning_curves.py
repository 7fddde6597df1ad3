"""Learning curves of an adaptation: as numbers in CSV, or drawn as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from oddsight.drawing.charts import ANOMALOUS, NORMAL
from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch, best
from oddsight.runtime.csv_tables import csv_records
from oddsight.runtime.files import write_bytes

_SUFFIXES = (".csv", ".png")


def check_curves_path(path: Path) -> None:
    """Refuse a file that is neither CSV nor PNG by its name, before long work.

    Raises:
        OddsightError: Naming the file.
    """
    if path.suffix.lower() not in _SUFFIXES:
        raise OddsightError(f"{path}: learning curves are written as .csv or .png")


def write_curves(path: Path, curves: Sequence[Epoch]) -> None:
    """Write learning curves as the file's name says.

    Raises:
        OddsightError: If the file is neither CSV nor PNG by its name, or cannot be written.
    """
    check_curves_path(path)
    write_bytes(path, _table(curves) if path.suffix.lower() == ".csv" else _image(curves))


def _table(curves: Sequence[Epoch]) -> bytes:
    """One row an epoch; no accuracy is an empty field, and each part of the loss has a column."""
    parts = list(curves[0].losses)
    names = [field.name for field in fields(Epoch) if field.name != "losses"]
    return csv_records([*names, *parts], ({**asdict(row), **row.losses} for row in curves))


def _image(curves: Sequence[Epoch]) -> bytes:
    """Losses, with the epoch that was kept, and the accuracy below them if there is one."""
    from matplotlib.figure import Figure

    epochs, kept = [row.epoch for row in curves], best(curves)
    accurate, parts = kept.accuracy is not None, list(kept.losses)
    count = 1 + accurate + bool(parts)
    figure = Figure(figsize=(6.6, 1.4 + 1.6 * count), dpi=150, layout="constrained")
    panels = figure.subplots(count, sharex=True, squeeze=False)[:, 0]
    panels[0].plot(epochs, [row.train_loss for row in curves], "o-", color="grey", markersize=3, label="training")
    panels[0].plot(
        epochs, [row.validation_loss for row in curves], "o-", color=NORMAL, markersize=3, label="validation"
    )
    panels[0].set_ylabel("loss")
    if accurate:
        panels[1].plot(epochs, [row.accuracy for row in curves], "o-", color=NORMAL, markersize=3)
        panels[1].set(ylabel="accuracy", ylim=(-0.02, 1.02))
    for name in parts:
        panels[-1].plot(epochs, [row.losses[name] for row in curves], "o-", markersize=3, label=name)
        panels[-1].set_ylabel("parts of the loss")
    for axes in panels:
        axes.axvline(kept.epoch, color=ANOMALOUS, linewidth=1, linestyle=(0, (4, 2)), label=f"kept: epoch {kept.epoch}")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].legend(frameon=False)
    if parts:
        panels[-1].legend(frameon=False)
    panels[-1].set_xlabel("epoch")
    panels[-1].xaxis.get_major_locator().set_params(integer=True)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
