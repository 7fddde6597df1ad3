"""Learning curves of an adaptation: as numbers in CSV, or drawn as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

from oddsight.drawing.class_figures import draw_curves
from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch, best
from oddsight.runtime.csv_tables import csv_records
from oddsight.runtime.files import write_bytes

_SUFFIXES = (".csv", ".png")


def check_curves_path(path: Path) -> None:
    """Refuse a file that is neither CSV nor PNG by its name, before long work."""
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
    from matplotlib.figure import Figure

    figure, file = Figure(figsize=(9.9, 3.6), dpi=150, layout="constrained"), io.BytesIO()
    draw_curves(figure, curves, best(curves).epoch, faint="grey")
    figure.savefig(file, format="png")
    return file.getvalue()
