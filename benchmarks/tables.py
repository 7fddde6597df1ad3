"""Write the tables in README.md and docs/methods.md from the CSV files: python benchmarks/tables.py."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
METHODS = ("patchcore", "padim", "mahalanobis", "knn")
Row = dict[str, str]


def read(name: str) -> list[Row]:
    """Rows of a CSV file in this folder."""
    with (HERE / name).open() as file:
        return list(csv.DictReader(file))


def mean(rows: list[Row], column: str, digits: int = 3) -> str:
    """The mean over draws, and the range where there are several; empty where there is no value."""
    values = [float(row[column]) for row in rows if row[column]]
    if not values:
        return ""
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def grouped(rows: list[Row], *columns: str) -> dict[tuple[str, ...], list[Row]]:
    """Rows by the values of columns, in order of first appearance."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[column] for column in columns)].append(row)
    return dict(groups)


def markdown(header: list[str], body: list[list[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def summary(rows: list[Row]) -> str:
    """Image AUROC by data set and method; folds only where a split was not chosen by itself."""
    body = []
    for (data,), own in grouped(rows, "data").items():
        cells = [data, f"{own[0]['normal']} + {own[0]['anomalous']}"]
        for method in METHODS:
            chosen = [row for row in own if row["method"] == method]
            kinds = grouped(chosen, "calibration")
            cells.append(mean(next(iter(kinds.values())), "auroc"))
        trivial = max(own, key=lambda row: float(row["best_trivial_auroc"]))
        cells.append(f"{mean([own[0]], 'best_trivial_auroc')} ({trivial['best_trivial']})")
        body.append(cells)
    return markdown(["data", "test images", *METHODS, "best trivial baseline"], body)


def details(rows: list[Row]) -> str:
    """Everything, means over draws."""
    columns = [
        "auroc",
        "fpr95",
        "asked_rate",
        "realised_rate",
        "recall",
        "pixel_auroc",
        "aupro",
        "fit_seconds",
        "megabytes",
    ]
    body = []
    for (data, method, calibration), own in grouped(rows, "data", "method", "calibration").items():
        values = [mean(own, column).split(" (")[0] for column in columns]
        interval = f"{own[0]['auroc_low']} to {own[0]['auroc_high']}"
        body.append([data, method, calibration, str(len(own)), own[0]["fitted"], values[0], interval, *values[1:]])
    header = ["data", "method", "calibration", "draws", "fitted", "AUROC", "95 % interval of draw 0", "FPR95"]
    header += ["rate asked", "rate seen", "recall", "pixel AUROC", "AUPRO", "fit s", "MB"]
    return markdown(header, body)


def coreset(rows: list[Row]) -> str:
    """The ways to a memory bank."""
    body = [[way, mean(own, "auroc"), mean(own, "seconds", 1)] for (way,), own in grouped(rows, "way").items()]
    return markdown(["way", "image AUROC", "seconds"], body)


def put(path: Path, name: str, table: str) -> None:
    """Replace what stands between the markers of that name."""
    before, opening, rest = path.read_text().partition(f"<!-- {name} -->\n")
    _, closing, after = rest.partition(f"<!-- /{name} -->")
    if not (opening and closing):
        raise SystemExit(f"{path} has no markers for {name}")
    path.write_text(f"{before}{opening}{table}\n{closing}{after}")


def main() -> None:
    """Write all tables."""
    root = HERE.parent
    accuracy = read("accuracy.csv")
    put(root / "README.md", "accuracy", summary(accuracy))
    put(root / "docs" / "methods.md", "accuracy", summary(accuracy))
    put(root / "docs" / "methods.md", "details", details(accuracy))
    put(root / "docs" / "methods.md", "coreset", coreset(read("coreset.csv")))


if __name__ == "__main__":
    main()
