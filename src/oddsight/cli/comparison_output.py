"""A comparison for people and spreadsheets: tables on the terminal, and a CSV file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oddsight.data.folder import others_ignored
from oddsight.drawing.numbers import duration, p_text, percent
from oddsight.errors import plain
from oddsight.evaluation.compare import Comparison
from oddsight.evaluation.compare.cells import Cell
from oddsight.evaluation.compare.standings import Numbers, Ranking, Standing
from oddsight.report.comparison import standing_text
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
    several = any(len(row.seeds) > 1 for row in rows)
    pixels = any(row.mean is not None and row.mean.pixel_auroc is not None for row in rows)
    numbers = ("AUROC", "p", "AP", "FPR95", "recall", "false alarms", "pixel AUROC", "AUPRO", "fit", "answer", "size")
    titles = ["method", "AUROC", "interval", *(["seeds"] if several else []), "p", "against the highest"]
    titles += [title for title in numbers[2:] if pixels or title not in ("pixel AUROC", "AUPRO")]
    lines = table(*titles, numbers=numbers)
    for row in rows:
        name = plain(row.label) if row.setting is not None else f"({plain(row.label)})"
        if row.mean is None:
            lines.add_row(name, "failed")
            continue
        mean = row.mean
        cells = [name, f"{mean.auroc:.4f}", f"{mean.auroc_interval[0]:.4f} to {mean.auroc_interval[1]:.4f}"]
        if several:
            spread = row.spread if len(row.seeds) > 1 else None
            cells.append(f"{spread[0]:.4f} to {spread[1]:.4f}" if spread else "")
        cells += ["" if row.p_value is None else p_text(row.p_value), row.verdict or ""]
        lines.add_row(*cells, *_measured(mean, pixels))
    return lines


def _measured(mean: Numbers, pixels: bool) -> list[str]:
    def written(value: float | None, form: str, unit: str = "") -> str:
        return "" if value is None else f"{value:{form}}{unit}"

    cells = [f"{mean.average_precision:.4f}", f"{mean.fpr95:.4f}"]
    cells += ["" if rate is None else percent(rate) for rate in (mean.recall, mean.false_alarm_rate)]
    cells += [written(mean.pixel_auroc, ".4f"), written(mean.aupro, ".4f")] if pixels else []
    cells.append("" if mean.fit_seconds is None else duration(mean.fit_seconds))
    return [*cells, written(mean.answer_ms, ".3g", " ms"), written(mean.megabytes, ".1f", " MB")]


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


_NUMBERS = (
    *("auroc", "auroc_low", "auroc_high", "average_precision", "fpr95", "recall", "false_alarm_rate", "asked_rate"),
    *("pixel_auroc", "aupro", "fit_seconds", "answer_ms", "megabytes"),
)

_COLUMNS = (
    *(
        "data",
        "learned",
        "normal",
        "anomalous",
        "masks",
        "kind",
        "method",
        "backbone",
        "layers",
        "size",
        "seed",
        *_NUMBERS,
    ),
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
        "size": cell.setting.size,
        "seed": cell.seed,
    }
    if cell.measured is None:
        return content | {"error": cell.error}
    details = {name: getattr(cell.measured, name) for name in ("learned", "threshold", "calibration", "graph_sha256")}
    return content | details | _verdict(row) | _columns(row.each[row.seeds.index(cell.seed)])


def _verdict(row: Standing) -> dict[str, Any]:
    return {"against_highest": row.verdict, "p_value": row.p_value}


def _columns(numbers: Numbers) -> dict[str, Any]:
    values = {name: getattr(numbers, name) for name in _NUMBERS if not name.startswith("auroc_")}
    return values | dict(zip(("auroc_low", "auroc_high"), numbers.auroc_interval, strict=True))
