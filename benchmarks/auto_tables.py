"""Write the newer tables of docs/auto.md from the CSV files: python benchmarks/auto_tables.py."""

from __future__ import annotations

from tables import HERE, Row, grouped, markdown, put, read, with_interval


def trials(rows: list[Row]) -> str:
    """Ways to a map, by dataset: pixel AUROC / AUPRO / image AUROC of the map's maximum, and F1 of regions."""
    columns = ("pixel_auroc", "aupro", "auroc", "region_f1")
    sets = [data for (data,) in grouped(rows, "data")]
    body = []
    for (way,), own in grouped(rows, "way").items():
        cells = {r["data"]: " / ".join(f"{float(r[c]):.3f}" for c in columns if r[c]) for r in own}
        body.append([way, *(cells.get(data, "") for data in sets)])
    return markdown(["way", *sets], body)


def costs(rows: list[Row]) -> str:
    """What each speed finds and costs."""
    columns = {"answer_ratio": 1, "answer_ms_p50": 0, "answer_ms_p95": 0, "fit_ratio": 1, "megabytes": 1}
    body = [
        [row["data"], row["speed"], row["size"], row["bank"], with_interval(row, "auroc"),
         f"{float(row['pixel_auroc']):.3f}", f"{float(row['aupro']):.3f}",
         *(f"{float(row[name]):.{digits}f}" for name, digits in columns.items())]
        for row in rows
    ]  # fmt: skip
    header = ["data", "speed", "pixels", "bank", "AUROC", "pixel AUROC", "AUPRO", "answer / bare network"]
    return markdown([*header, "answer, ms", "95%, ms", "fit / extraction", "MB"], body)


def weights(rows: list[Row]) -> str:
    """What the rule for images of one thing gives."""
    header = ["smallest spread", "AUROC without", "AUROC", "AUROC left out"]
    return markdown(["data", *header], [[row["data"], *(f"{float(row[name]):.3f}" for name in header)] for row in rows])


def together(rows: list[Row]) -> str:
    """What detectors of places give together."""
    header = ["rises", "strongest", "together", "left out"]
    body = [[row["data"], row["rises"], *(f"{float(row[name]):.3f}" for name in header[1:])] for row in rows]
    return markdown(["data", "rise", "AUROC of the strongest", "AUROC together", "AUROC left out"], body)


def all_images(rows: list[Row]) -> str:
    """A quarter held out, beside learning from all images."""
    body = [
        [row["data"], row["way"], row["learned"], row["calibrated"], with_interval(row, "auroc"),
         *(f"{float(row[name]):.2f}" for name in ("recall", "false_alarm_rate")),
         f"{float(row['aupro']):.3f}" if row["aupro"] else "", row["fit_seconds"]]
        for row in rows
    ]  # fmt: skip
    header = ["data", "calibration", "learned", "calibrated on", "AUROC", "recall", "false alarms", "AUPRO", "fit, s"]
    return markdown(header, body)


def main() -> None:
    """Write those whose CSV file is there."""
    tables = {"speeds": costs, "map_trials": trials, "voice_weights": weights, "places_together": together}
    tables["folds"] = all_images
    for name, table in tables.items():
        if rows := read(f"{name}.csv"):
            put(HERE.parent / "docs" / "auto.md", name, table(rows))


if __name__ == "__main__":
    main()
