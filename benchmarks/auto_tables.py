"""Write the newer tables of docs/auto.md and that of docs/types.md: python benchmarks/auto_tables.py."""

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


def kinds(rows: list[Row]) -> str:
    """Each class of CIFAR-10 as the normal one."""
    body = []
    for name in ("auto", "kinds as things", "never one thing", "the deepest depth alone"):
        values = [float(row[name]) for row in rows]
        body.append([name, *(f"{value:.3f}" for value in (*values, sum(values) / len(values)))])
    return markdown(["", *(row["data"].removeprefix("cifar10-") for row in rows), "mean"], body)


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


def type_names(rows: list[Row]) -> str:
    """How anomalies are named: from the whole image, from where a model finds them, and with nothing held out."""
    body = []
    for (data,), own in grouped(rows, "data").items():
        by = grouped(own, "way")
        ways = [by[way,] for way in ("everywhere", "held out", "folds")]
        whole = [row for row in _known(ways[-1]) if row["seed"] == "0" and row["left_out"] == "none"]
        line = [data, str(len({row["images_of"] for row in whole})), str(sum(int(row["number"]) for row in whole))]
        line.append(_share(_known(ways[-1]), "flagged", "number"))
        for number, of, chosen in (
            ("right_type", "flagged", _known),
            ("wrong_type", "flagged", _known),
            ("unknown_type", "flagged", _known),
            ("unknown_type", "flagged", _left_out),
            ("right_of_all", "number", _known),
        ):
            line.append(", ".join(_share(chosen(way), number, of) for way in ways))
        body.append(line)
    header = ["data", "types", "test images", "flagged", "of these named rightly", "wrongly", "called unknown"]
    return markdown([*header, "of a type left out, called unknown", "most likely type right, of all"], body)


def temperatures(rows: list[Row]) -> str:
    """A probe with images held out for its temperature, beside one whose temperature is cross-validated."""
    body = []
    for (data, share), own in grouped(rows, "data", "share").items():
        ways = grouped(own, "way").values()
        line = [data, f"{float(share):.0%}"]
        for column, digits in (("learned", 0), ("accuracy", 3), ("nll", 2), ("ece", 3)):
            means = [sum(float(row[column]) for row in some) / len(some) for some in ways]
            line.append(", ".join(f"{value:.{digits}f}" for value in means))
        body.append(line)
    header = ["images", "share held out", "learned from", "accuracy", "negative log-likelihood", "ECE"]
    return markdown(header, body)


def class_folds(rows: list[Row]) -> str:
    """Few labelled images: a tenth or a quarter held out, beside learning from and calibrating on all."""
    body = []
    for (data, count), own in grouped(rows, "data", "of_each_class").items():
        ways = grouped(own, "share", "asked")
        usual = [ways[share, ""] for share in ("0.1", "0.25", "")]
        asked = [ways[share, "0.2"] for share in ("0.25", "")]
        promised = [100 * sum(float(row["promised"]) for row in some) / len(some) for some in usual]
        line = [data, count]
        line.append(", ".join(_share(some, "right", "known") for some in usual))
        line.append(", ".join(f"{value:.1f}%" for value in promised))
        line.append(", ".join(_share(some, "rejected", "known") for some in usual))
        for number, of in (("rejected", "known"), ("unknown_rejected", "unknown")):
            line.append(", ".join(_share(some, number, of) for some in asked))
        body.append(line)
    header = ["images", "of each class", "named rightly", "promised", "rejected"]
    return markdown([*header, "rejected, 20% asked", "unknown ones rejected"], body)


def networks(rows: list[Row]) -> str:
    """``auto`` with another backbone, beside its own."""
    usual = [row for row in read("small_defects.csv") if row["method"] == "auto"]
    pairs = list(zip(
        [own[0] for own in grouped(usual, "data").values()],  # At its own size
        [row for row in rows if row["method"] == "auto"],
        strict=True,
    ))  # fmt: skip
    body = []
    for pair in pairs:
        shares = [[f"{float(one[name]):.2f}" for one in pair if one[name]] for name in ("recall", "false_alarm_rate")]
        overlap = [f"{float(one['aupro']):.3f}" for one in pair if one["aupro"]]
        body.append(
            [pair[0]["data"], *(with_interval(one, "auroc") for one in pair), *map(", ".join, [*shares, overlap])]
        )
    means = [f"{sum(float(one['auroc']) for one in own) / len(own):.3f}" for own in zip(*pairs, strict=True)]
    header = ["data", "Lite0", "Lite2", "recall, Lite0 and Lite2", "false alarms", "AUPRO"]
    return markdown(header, [*body, ["mean", *means, "", "", ""]])


def _known(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["images_of"] not in ("normal", row["left_out"])]


def _left_out(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["images_of"] == row["left_out"]]


def _share(rows: list[Row], number: str, of: str) -> str:
    return f"{100 * sum(int(row[number]) for row in rows) / sum(int(row[of]) for row in rows):.0f}%"


def main() -> None:
    """Write those whose CSV file is there."""
    tables = {"speeds": costs, "map_trials": trials, "voice_weights": weights, "places_together": together}
    tables |= {"folds": all_images, "kinds": kinds, "type_names": type_names, "small_defects_lite2": networks}
    tables |= {"temperatures": temperatures, "class_folds": class_folds}
    pages = {"type_names": "types.md", "temperatures": "known-classes.md", "class_folds": "known-classes.md"}
    for name, table in tables.items():
        if rows := read(f"{name}.csv"):
            put(HERE.parent / "docs" / pages.get(name, "auto.md"), name, table(rows))


if __name__ == "__main__":
    main()
