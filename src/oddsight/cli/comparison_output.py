"""A comparison for people and spreadsheets: tables on the terminal, and a CSV file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

from oddsight.data.folder import others_ignored
from oddsight.drawing.numbers import p_text
from oddsight.errors import plain
from oddsight.evaluation.compare import Comparison
from oddsight.evaluation.compare.cells import Cell
from oddsight.evaluation.compare.standings import Numbers, Ranking, Standing
from oddsight.report.comparison import standing_cells, standing_text
from oddsight.runtime.csv_tables import csv_records
from oddsight.runtime.files import write_bytes
from oddsight.sinks.terminal import complain, console, note, table

CHOICE = (
    "choosing a method by these numbers is a choice made on the test images: evaluate the chosen method on other "
    "images before you rely on its numbers"
)


def show_comparison(found: Comparison) -> None:
    """Show a table for each dataset, and the ranks over several."""
    for trial in found.trials:
        rows = found.on(trial.name)
        masks = f", {trial.masks:,} of these with a mask that marks anything" if trial.test.coverage is not None else ""
        images = f"{trial.normal:,} normal and {trial.anomalous:,} anomalous test images"
        console.print(f"{plain(trial.name)}: {images}{masks}{others_ignored(trial.ignored)}")
        console.print(_table(rows))
        console.print(plain(standing_text(rows, found.confidence)))
        console.print()
    if found.ranking is not None:
        _show_ranks(found.ranking)


def _table(rows: list[Standing]) -> Any:  # noqa: ANN401 - Rich's table
    heads, lines = standing_cells(rows)
    words = ("Method", "Against the highest")
    shown = table(*heads, numbers=tuple(head for head in heads if head not in words))
    for line in lines:
        shown.add_row(*(plain(cell or "") for cell in line))
    return shown


def _show_ranks(ranked: Ranking) -> None:
    lines = table("mean rank", "method", *map(plain, ranked.data), numbers=("mean rank", *map(plain, ranked.data)))
    for label, mean, own in zip(ranked.labels, ranked.mean_ranks, ranked.table.T, strict=True):
        lines.add_row(f"{mean:.2f}", plain(label), *(f"{rank:g}" for rank in own))
    console.print(lines)
    if ranked.p_value is None:
        return
    text = f"Friedman's test: p = {p_text(ranked.p_value)}; "
    if ranked.critical_difference is None:
        console.print(f"{text}it does not show that the methods differ at all")
    else:
        console.print(f"{text}methods differ where mean ranks are more than {ranked.critical_difference:.2f} apart")


def say_comparison(found: Comparison, quiet: bool) -> None:
    """Say beside the numbers what a reader must know, and what went wrong."""
    total = len(found.cells)
    if found.computed < total:
        note(f"{total - found.computed:,} of {total:,} cells are from an earlier run", quiet=quiet)
    for warning in found.warnings:
        note(f"note: {warning}", quiet=quiet)
    note(f"note: {CHOICE}", quiet=quiet)
    for trial in found.trials:
        for error in trial.errors:
            complain(error)
    for cell in found.cells:
        if cell.error is not None:
            complain(f"{cell.data}, {cell.setting.method}, seed {cell.seed}: {cell.error}")


_NUMBERS = [field.name for field in fields(Numbers) if not field.name.startswith("auroc")]

_COLUMNS = (
    *("data", "learned", "normal", "anomalous", "masks", "kind", "method", "backbone", "layers", "size", "seed"),
    *("auroc", "auroc_low", "auroc_high", *_NUMBERS),
    *("threshold", "calibration", "graph_sha256", "against_highest", "p_value", "error"),
)


def write_csv(path: Path, found: Comparison) -> None:
    """Write one row for each cell and each baseline; what does not apply is empty.

    ``against_highest`` and ``p_value`` are of all seeds of a setting together.
    """
    records: list[dict[str, Any]] = []
    rows = {(row.data, row.setting): row for row in found.standings if row.setting is not None}
    for trial in found.trials:
        data = {
            "data": trial.name,
            "learned": len(trial.training),
            "normal": trial.normal,
            "anomalous": trial.anomalous,
            "masks": trial.masks,
        }
        for cell in found.cells:
            if cell.data == trial.name:
                records.append(data | _cell_row(cell, rows[cell.data, cell.setting]))
        for row in found.on(trial.name):
            if row.setting is None and row.mean is not None:
                records.append(data | {"kind": "baseline", "method": row.label} | _verdict(row) | _columns(row.mean))
    write_bytes(path, csv_records(_COLUMNS, records))


def _cell_row(cell: Cell, row: Standing) -> dict[str, Any]:
    content: dict[str, Any] = {
        "kind": "method",
        "method": cell.setting.method,
        "backbone": cell.setting.backbone,
        "layers": "+".join(cell.setting.layers),
        "size": cell.measured.size if cell.measured is not None else cell.setting.size,
        "seed": cell.seed,
    }
    if cell.measured is None:
        return content | {"error": cell.error}
    details = {name: getattr(cell.measured, name) for name in ("learned", "threshold", "calibration", "graph_sha256")}
    return content | details | _verdict(row) | _columns(row.each[row.seeds.index(cell.seed)])


def _verdict(row: Standing) -> dict[str, Any]:
    return {"against_highest": row.verdict, "p_value": row.p_value}


def _columns(numbers: Numbers) -> dict[str, Any]:
    low, high = numbers.auroc_interval
    values = {name: getattr(numbers, name) for name in _NUMBERS}
    return values | {"auroc": numbers.auroc, "auroc_low": low, "auroc_high": high}
