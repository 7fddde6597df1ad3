"""Write the tables in README.md and docs from the CSV files: python benchmarks/tables.py."""

from __future__ import annotations

import csv
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

HERE = Path(__file__).parent
BRIEF = ("auto", "patchcore", "padim", "mahalanobis", "knn")
Row = dict[str, str]


def read(name: str) -> list[Row]:
    """Rows of a CSV file in this folder; none if it is not there."""
    path = HERE / name
    if not path.exists():
        return []
    with path.open() as file:
        return list(csv.DictReader(file))


def mean(rows: list[Row], column: str, digits: int = 3) -> str:
    """The mean over draws, and the range where there are several; empty where there is no value."""
    values = [float(row[column]) for row in rows if row[column]]
    if not values:
        return ""
    text = f"{statistics.mean(values):.{digits}f}"
    return text if len(values) == 1 else f"{text} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def grouped(rows: Iterable[Row], *columns: str) -> dict[tuple[str, ...], list[Row]]:
    """Rows by the values of columns, in order of first appearance."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[column] for column in columns)].append(row)
    return dict(groups)


def markdown(header: list[str], body: list[list[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def by_data(rows: list[Row], key: str) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Datasets, and AUROC by what ``key`` names and by dataset."""
    values: dict[str, dict[str, float]] = defaultdict(dict)
    for row in rows:
        if row["auroc"]:
            values[row[key]][row["data"]] = float(row["auroc"])
    return [data for (data,) in grouped(rows, "data")], dict(values)


def lines(values: dict[str, dict[str, float]], names: Iterable[str], sets: list[str]) -> list[list[str]]:
    """A line for each name: AUROC on each dataset, and the mean."""
    body = []
    for name in names:
        own = [values[name].get(data) for data in sets]
        known = [value for value in own if value is not None]
        cells = ["" if value is None else f"{value:.3f}" for value in own]
        body.append([name, *cells, f"{statistics.mean(known):.3f}" if len(known) == len(sets) else ""])
    return body


def highest(values: dict[str, dict[str, float]], names: Iterable[str], sets: list[str]) -> list[str]:
    """The highest value on each dataset, and whose it is."""
    best = [max((name for name in names if data in values[name]), key=lambda n: values[n][data]) for data in sets]
    chosen = [values[name][data] for name, data in zip(best, sets, strict=True)]
    cells = [f"{value:.3f} ({name})" for value, name in zip(chosen, best, strict=True)]
    return [*cells, f"{statistics.mean(chosen):.3f}"]


def accuracy(rows: list[Row], only: Iterable[str] | None = None) -> str:
    """AUROC of methods with defaults and of the trivial baselines."""
    sets, methods = by_data([row for row in rows if row["kind"] == "method"], "method")
    _, baselines = by_data([row for row in rows if row["kind"] == "baseline"], "method")
    average = {name: statistics.mean(own.values()) for name, own in methods.items()}
    ordered = sorted(methods, key=lambda name: (name != "auto", -average[name]))
    body = lines(methods, [name for name in ordered if only is None or name in only], sets)
    body.append(["highest of all but auto", *highest(methods, [name for name in ordered if name != "auto"], sets)])
    body.append(["best trivial baseline", *highest(baselines, baselines, sets)])
    counts = {data: own[0] for (data,), own in grouped(rows, "data").items()}
    header = [f"{data} ({counts[data]['normal']} + {counts[data]['anomalous']})" for data in sets]
    return markdown(["method", *header, "mean"], body)


def details(rows: list[Row]) -> str:
    """Everything about each method on each dataset."""
    columns = ["learned", "calibration", "auroc", "auroc_low", "auroc_high", "fpr95", "asked_rate", "false_alarm_rate"]
    columns += ["recall", "pixel_auroc", "aupro", "megabytes"]
    body = []
    for row in rows:
        if row["kind"] == "method":
            values = [row[name] for name in columns]
            body.append([row["data"], row["method"], *(f"{float(v):.3f}" if "." in v else v for v in values)])
    header = ["data", "method", "learned", "calibration", "AUROC", "from", "to", "FPR95", "rate asked", "rate seen"]
    return markdown([*header, "recall", "pixel AUROC", "AUPRO", "MB"], body)


def ablation(rows: list[Row]) -> str:
    """Variants of auto."""
    sets, values = by_data(rows, "variant")
    return markdown(["variant", *sets, "mean"], lines(values, values, sets))


def small(rows: list[Row]) -> str:
    """Detectors on parts and textures, at their own size and at another one."""
    for own, *others in grouped(rows, "data", "method").values():
        # The first row of a method is at its own size.
        own["label"] = own["method"]
        for other in others:
            other["label"] = f"{other['method']} at about 224 x 224 pixels"
    methods = [row for row in rows if row["kind"] == "method"]
    best = {
        data: max((r for r in own if r["kind"] == "baseline"), key=lambda r: float(r["auroc"]))
        for (data,), own in grouped(rows, "data").items()
    }
    sets, values = by_data(methods, "label")
    shown = {row["data"]: f"{row['data']} ({row['normal']} + {row['anomalous']})" for row in rows}
    header = ["method", *(shown[data] for data in sets), "mean"]
    baseline = [f"{float(best[data]['auroc']):.3f} ({best[data]['method']})" for data in sets]
    average = statistics.mean(float(best[data]["auroc"]) for data in sets)
    return markdown(header, [*lines(values, values, sets), ["best trivial baseline", *baseline, f"{average:.3f}"]])


def coreset(rows: list[Row]) -> str:
    """The ways to a memory bank."""
    body = [[way, mean(own, "auroc"), mean(own, "seconds", 1)] for (way,), own in grouped(rows, "way").items()]
    return markdown(["way", "image AUROC", "seconds"], body)


def classifiers(rows: list[Row]) -> str:
    """What each training of the study of CIFAR-10 names rightly."""
    body = [
        [
            row["title"],
            row["seed"],
            row["size"],
            f"{float(row['accuracy']):.4f} ({float(row['accuracy_low']):.4f} to {float(row['accuracy_high']):.4f})",
            f"{float(row['ece']):.3f}, {float(row['ece_scaled']):.3f}",
            f"{float(row['seconds_with_start']) / 60:.0f}",
        ]
        for row in rows
    ]
    return markdown(["classifier", "seed", "pixels", "accuracy", "ECE before and after temperature", "minutes"], body)


def unknowns(rows: list[Row], runs: list[str]) -> str:
    """AUROC of each score, by run, a table for each set of unknowns; those of one class are left to the CSV file."""
    chosen = [row for row in rows if row["seed"] == "0" and not row["score"].startswith("one-class:")]
    found = {(row["run"], row["score"], row["unknown"]): float(row["auroc"]) for row in chosen}
    tables = []
    for (name,) in grouped(chosen, "unknown"):
        body = []
        for (score,) in grouped(chosen, "score"):
            values = [found.get((run, score, name)) for run in runs]
            body.append([score, *("" if value is None else f"{value:.4f}" for value in values)])
        tables.append(markdown([name, *runs], body))
    return "\n\n".join(tables)


def sums(rows: list[Row]) -> str:
    """What is chosen on half of the classes, and how good it is there and on the other half; means over halves."""
    body = []
    for (size,), own in grouped(rows, "scores").items():
        counts = Counter(row["chosen"] for row in own)
        chosen = ", ".join(f"`{name}` ({count} of {len(own)})" for name, count in counts.most_common(3))
        columns = ("auroc_where_chosen", "auroc_elsewhere", "energy_elsewhere")
        means = [f"{statistics.mean(float(row[column]) for row in own):.4f}" for column in columns]
        body.append([size, *means, chosen])
    return markdown(["scores", "AUROC where chosen", "elsewhere", "`energy` elsewhere", "chosen"], body)


def scenes(rows: list[Row], baselines: list[Row], side: str) -> str:
    """AUROC on one side of the study of clouds, of methods and of trivial baselines; means and ranges over seeds."""
    own = [row for row in rows if row["normal"] == side and not row["error"]]
    kinds = [kind for (kind,) in grouped(own, "anomalous") if kind != "all classes"]
    body = []
    for (method,), of_method in grouped(own, "method").items():
        cells = [mean([row for row in of_method if row["anomalous"] == kind], "auroc") for kind in kinds]
        whole = [row for row in of_method if row["anomalous"] == ("all classes" if len(kinds) > 1 else kinds[0])]
        decided = [mean_share(whole, f"{field}_{rate}") for rate in (1, 5) for field in ("false_alarm_rate", "recall")]
        cost = [f"{statistics.mean(float(row['learn_seconds']) for row in whole):.1f}"]
        area = statistics.mean(float(row["auroc"]) for row in of_method if row["anomalous"] != "all classes")
        body.append((area, [method, *cells, *decided, *cost]))
    trivial = [row for row in baselines if row["normal"] == side]
    lines = [line for _, line in sorted(body, key=lambda pair: -pair[0])]
    for (name,), of_name in grouped(trivial, "baseline").items():
        cells = [mean([row for row in of_name if row["anomalous"] == kind], "auroc") for kind in kinds]
        lines.append([f"({name})", *cells, "", "", "", "", ""])
    header = ["false alarms at 1 %", "found at 1 %", "false alarms at 5 %", "found at 5 %", "seconds to learn"]
    return markdown(["method", *kinds, *header], lines)


def mean_share(rows: list[Row], column: str) -> str:
    """The mean of a share in percent; empty where there is none."""
    values = [float(row[column]) for row in rows if row[column]]
    return f"{100 * statistics.mean(values):.1f} %" if values else ""


def ways(rows: list[Row]) -> str:
    """Three ways to a threshold, side by side; means over seeds."""
    body = []
    for (method, side, way), own in grouped(rows, "method", "normal", "way").items():
        found = [f"{kind} {mean_share(of_kind, 'found')}" for (kind,), of_kind in grouped(own, "anomalous").items()]
        body.append(
            [method, side, way, mean(own, "threshold", 4), mean_share(own, "false_alarm_rate"), ", ".join(found)]
        )
    return markdown(["method", "normal", "threshold", "value", "false alarms", "found"], body)


def pixels(rows: list[Row]) -> str:
    """Pixel AUROC and IoU of methods and trivial measures against masks, over groups of scenes."""
    whole = [row for row in rows if not row["scene"] and row["auroc"]]
    groups = [group for (group,) in grouped(whole, "group")]
    body = []
    for (method, sort), own in grouped(whole, "method", "sort").items():
        by_group = {row["group"]: row for row in own}
        areas = [with_interval(by_group[group], "auroc") if group in by_group else "" for group in groups]
        overlap = with_interval(by_group[groups[0]], "training_masks_iou")
        body.append([method if sort == "method" else f"({method})", *areas, overlap])
    header = [f"AUROC, {group}" for group in groups]
    return markdown(["method", *header, f"IoU, {groups[0]}"], body)


def with_interval(row: Row, column: str) -> str:
    """A value and its interval, where it has one."""
    text = f"{float(row[column]):.3f}"
    low, high = row.get(f"{column}_low"), row.get(f"{column}_high")
    return f"{text} ({float(low):.3f} to {float(high):.3f})" if low and high else text


def depths(rows: list[Row]) -> str:
    """The optical depth at which half of the images are detected, by method and kind, or none."""
    kinds = [kind for (kind,) in grouped(rows, "kind")]
    body = []
    for (method, sort), own in grouped(rows, "method", "sort").items():
        half = {row["kind"]: row["half_depth"] for row in own}
        cells = [f"{float(half[kind]):.2f}" if half.get(kind) else "none" for kind in kinds]
        body.append([method if sort == "method" else f"({method})", *cells])
    return markdown(["method", *kinds], body)


def reached(rows: list[Row]) -> str:
    """What regions cover: above the threshold, and as they are cut now."""
    body = []
    for (data, method), own in grouped(rows, "data", "method").items():
        before, now = (next(row for row in own if row["cut"] == cut) for cut in ("threshold", "0.3"))
        pairs = [f"{float(before[name]):.3f}, {float(now[name]):.3f}" for name in ("f1", "iou", "mean_iou")]
        body.append([data, method, f"{now['flagged']} of {now['with_mask']}", *pairs])
    header = ["data", "method", "flagged", "F1 before, now", "IoU before, now", "mean IoU before, now"]
    return markdown(header, body)


def localised(rows: list[Row]) -> str:
    """Pixel metrics of maps."""
    body = []
    for (data, method), own in grouped(rows, "data", "method").items():
        values = [f"{float(own[0][name]):.3f}" for name in ("pixel_auroc", "aupro", "pixel_f1_max")]
        body.append([data, method, own[0]["with_mask"], own[0]["images"], *values])
    return markdown(["data", "method", "images with a mask", "images", "pixel AUROC", "AUPRO", "highest F1"], body)


def outlined(rows: list[Row]) -> str:
    """Ways to outline clouds."""
    body = []
    for row in rows:
        share = f"{100 * float(row['false_alarms_on_bright_ground']):.0f} %"
        pairs = (with_interval(row, "iou"), with_interval(row, "difference"))
        body.append([row["way"], *pairs, f"{float(row['iou_without_saturated_scenes']):.3f}", share])
    header = ["way", "IoU", "difference", "IoU without saturated scenes", "bright ground outlined"]
    return markdown(header, body)


def conversions(rows: list[Row]) -> str:
    """Every row as it is."""
    return markdown(list(rows[0]), [list(row.values()) for row in rows])


def video_alarms(rows: list[Row]) -> str:
    """Alarms on normal footage beside those asked for."""
    body = [
        [row["asked"], f"{float(row['hours']):.1f}", row["count"], f"{float(row['value']):.1f}",
         f"{float(row['low']):.1f} to {float(row['high']):.1f}", f"{float(row['limit']):.1f}"]
        for row in rows
    ]  # fmt: skip
    return markdown(["asked for, an hour", "hours", "alarms", "an hour", "95% interval", "limit"], body)


def video_frames(rows: list[Row]) -> str:
    """AUROC of frames, by dataset and method."""
    body = [
        [row["data"], " ".join(filter(None, (row["method"], row["size"]))), row["count"], f"{float(row['value']):.3f}",
         f"{float(row['low']):.3f} to {float(row['high']):.3f}" if row["low"] else ""]
        for row in rows
    ]  # fmt: skip
    return markdown(["footage", "method", "frames", "AUROC of frames", "95% interval"], body)


def as_it_is(rows: list[Row]) -> str:
    """All columns of a table."""
    return markdown([name.replace("_", " ") for name in rows[0]], [[*row.values()] for row in rows])


def ideas(rows: list[Row]) -> str:
    """What each idea reaches on the clips to choose on and to test on, by frames alone and by the mean of a second."""
    body = []
    for (idea,), own in grouped(rows, "idea").items():
        alone, second = (next(row for row in own if row["window"] == window) for window in ("0", "1"))
        interval = f"{alone['low']} to {alone['high']}"
        body.append([idea, alone["chosen_on"], second["chosen_on"], alone["tested_on"], interval, second["tested_on"]])
    return markdown(["score", "01, 02", "mean of 1 s", "03 to 06", "95% interval", "mean of 1 s"], body)


def stills(rows: list[Row]) -> str:
    """Frames and events of footage made from stills."""
    body = []
    for row in rows:
        low, high = (float(row[f"false_{end}"]) for end in ("low", "high"))
        body.append([
            row["footage"], row["way"], f"{row['normal']}, {row['anomalous']}",
            f"{float(row['auroc']):.2f} ({float(row['auroc_low']):.2f} to {float(row['auroc_high']):.2f})",
            f"{float(row['auroc_brightness']):.2f}, {float(row['auroc_difference']):.2f}",
            f"{row['true']} of {row['alarms']}", f"{row['found']} of {row['anomalies']}", row["median_delay"],
            f"{float(row['false_per_hour']):.0f} ({low:.0f} to {high:.0f})",
            f"{100 * float(row['normal_frames_in_alarms']):.0f}%",
        ])  # fmt: skip
    header = ["footage", "written", "frames", "AUROC", "brightness, difference", "true alarms", "found", "after, s"]
    return markdown([*header, "false an hour", "in alarms"], body)


def few(rows: list[Row]) -> str:
    """AUROC by the number of images, with and without changed copies."""
    counts = [count for (count,) in sorted(grouped(rows, "images"), key=lambda key: int(key[0]))]
    body = []
    for key, own in grouped(rows, "dataset", "method", "copies").items():
        by_count = grouped(own, "images")
        body.append([*key, *(mean(by_count.get((count,), []), "auroc") for count in counts)])
    return markdown(["dataset", "method", "copies", *counts], sorted(body))


def put(path: Path, name: str, table: str) -> None:
    """Replace what stands between the markers of that name."""
    before, opening, rest = path.read_text().partition(f"<!-- {name} -->\n")
    _, closing, after = rest.partition(f"<!-- /{name} -->")
    if not (opening and closing):
        raise SystemExit(f"{path} has no markers for {name}")
    path.write_text(f"{before}{opening}{table}\n{closing}{after}")


def peers(rows: list[Row]) -> str:
    """Oddsight beside anomalib."""
    columns = {"auroc": 3, "pixel_auroc": 3, "aupro": 3, "fit_seconds": 1, "fit_peak_mb": 0, "answer_ms": 1,
               "onnx_ms": 1, "openvino_ms": 1, "cold_seconds": 1, "cold_peak_mb": 0}  # fmt: skip
    body = [
        [row["method"], row["program"], *(f"{float(row[c]):.{n}f}" if row[c] else "" for c, n in columns.items())]
        for row in rows
    ]
    header = ["method", "program", "AUROC", "pixel AUROC", "AUPRO", "fit, s", "fit, MB", "answer, ms", "ONNX, ms"]
    return markdown([*header, "OpenVINO, ms", "cold, s", "cold, MB"], body)


def main() -> None:
    """Write all tables."""
    docs = HERE.parent / "docs"
    rows = read("accuracy.csv")
    put(HERE.parent / "README.md", "accuracy", accuracy(rows, BRIEF))
    put(docs / "methods.md", "accuracy", accuracy(rows))
    put(docs / "methods.md", "details", details(rows))
    put(docs / "methods.md", "coreset", coreset(read("coreset.csv")))
    put(HERE / "README.md", "peers", peers(read("peers/peers.csv")))
    variants = read("ablation.csv")
    if rows := read("small_defects.csv"):
        put(docs / "auto.md", "small", small(rows))
    if rows := read("localisation.csv"):
        put(docs / "explaining.md", "regions", reached(rows))
        put(docs / "explaining.md", "localisation", localised(rows))
    put(docs / "auto.md", "ablation", ablation(variants))
    if runs := read("../docs/studies/cifar10/classification.csv"):
        put(docs / "known-classes.md", "classifiers", classifiers(runs))
        names = [name for (name,) in grouped(runs, "run") if name not in ("textbook", "probe")]
        put(docs / "known-classes.md", "unknowns", unknowns(read("../docs/studies/cifar10/ood.csv"), names))
    if rows := read("exporting.csv"):
        put(docs / "exporting.md", "exporting", conversions(rows))
    if rows := read("video.csv"):
        kinds = grouped(rows, "what")
        put(docs / "video.md", "video_alarms", video_alarms(kinds["alarms on normal footage",]))
        put(docs / "video.md", "video_frames", video_frames(kinds["frame AUROC",]))
        speeds = [
            [row["footage"], row["step"], *(f"{float(row[c]):.0f}" for c in ("by_clock", "by_processors"))]
            for row in read("video_speed.csv")
        ]
        put(
            docs / "video.md", "video_speed", markdown(["footage", "what", "by the clock", "by processor time"], speeds)
        )
    if rows := read("video_profile.csv"):
        steps = [[row["footage"], row["step"], f"{float(row['ms']):.1f}"] for row in rows]
        put(docs / "video.md", "video_profile", markdown(["footage", "step", "milliseconds"], steps))
    for name in ("live", "live_rtsp", "crops"):
        if rows := read(f"{name}.csv"):
            put(docs / "video.md", name, as_it_is(rows))
    if rows := read("walkway.csv"):
        put(docs / "video.md", "walkway", ideas(rows))
    if rows := read("stills.csv"):
        put(docs / "video.md", "stills", stills(rows))
    if rows := read("few_images.csv"):
        put(docs / "few-images.md", "few", few(rows))
    put(docs / "scores.md", "sums", sums(read("score_sums.csv")))
    if rows := read("../docs/studies/clouds/scenes.csv"):
        baselines = read("../docs/studies/clouds/baselines.csv")
        put(docs / "clouds.md", "cloudy", scenes(rows, baselines, "cloudy"))
        put(docs / "clouds.md", "clear", scenes(rows, baselines, "clear"))
        put(docs / "clouds.md", "thresholds", ways(read("../docs/studies/clouds/thresholds.csv")))
        put(docs / "clouds.md", "pixels", pixels(read("../docs/studies/clouds/isolation.csv")))
        put(docs / "clouds.md", "outlines", outlined(read("cloud_outlines.csv")))
        put(docs / "clouds.md", "depths", depths(read("../docs/studies/clouds/severity.csv")))


if __name__ == "__main__":
    main()
