"""evaluate(): the truth, the whole truth, and no test image that was seen before."""

from __future__ import annotations

import inspect
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import oddsight
from oddsight import metrics, report
from oddsight.data.collection import collect, pack
from oddsight.errors import DataError, OddsightError
from oddsight.evaluation import evaluate
from oddsight.evaluation.maps import upscaled
from oddsight.metrics.pixel import pixel_metrics
from oddsight.metrics.trivial import BASELINES
from textures import SIZE, texture, write_textures
from tiny_model import tiny_model


def flat(level, seed, width=24, height=16):
    """An image of about one brightness, different for each seed."""
    noise = np.random.default_rng([level, seed]).integers(-3, 4, (height, width, 3))
    return np.clip(level + noise, 0, 255).astype(np.uint8)


def save(array, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


@pytest.fixture
def mvtec(tmp_path):
    """Six normal images, three with a bright spot and its mask, two that are bright all over and have none."""
    for seed in range(6):
        save(flat(60 + 20 * seed, seed), tmp_path / "test" / "good" / f"{seed}.png")
    for seed in range(3):
        picture, mask = flat(90, 10 + seed), np.zeros((16, 24), np.uint8)
        mask[4:8, 3 * seed : 3 * seed + 9] = 255
        picture[mask > 0] = 170 + 20 * seed
        save(picture, tmp_path / "test" / "spot" / f"{seed}.png")
        save(mask, tmp_path / "ground_truth" / "spot" / f"{seed}_mask.png")
    for seed in range(2):
        save(flat(220, 20 + seed), tmp_path / "test" / "bright" / f"{seed}.png")
    save(flat(60, 0), tmp_path / "train" / "good" / "0.png")  # not looked at
    return tmp_path


@pytest.fixture
def two_folders(mvtec, tmp_path):
    """The same in two folders."""
    shutil.move(mvtec / "test" / "good", tmp_path / "normal")
    return {"normal": tmp_path / "normal", "anomalous": mvtec / "test", "masks": mvtec / "ground_truth"}


def numbers(evaluation):
    content = evaluation.to_json()
    return {key: content[key] for key in ("image", "pixel", "by_type", "baselines", "counts", "warnings", "errors")}


@pytest.mark.slow
def test_a_folder_laid_out_as_mvtec(mvtec):
    model, calls = tiny_model(), []
    found = evaluate(model, mvtec, progress=lambda *call: calls.append(call))
    assert [judged.kind for judged in found.judged] == [None] * 6 + ["bright"] * 2 + ["spot"] * 3
    assert [judged.mask is not None for judged in found.judged] == [False] * 8 + [True] * 3
    for judged in found.judged:
        result = model.predict(judged.path)
        assert (judged.score, judged.p_value, judged.flagged) == (result.score, result.p_value, result.anomalous)
    assert found.counts == {
        "normal": 6,
        "anomalous": 5,
        "flagged_normal": sum(judged.flagged for judged in found.judged if judged.kind is None),
        "flagged_anomalous": sum(judged.flagged for judged in found.judged if judged.kind),
        "masks": 3,
        "empty_masks": 0,
        "pixel_images": 3,
        "without_mask": 2,
        "unmatched_masks": 0,
        "unreadable": 0,
        "ignored": 0,
        "normal_groups": 6,
        "anomalous_groups": 5,
    }
    assert 0 < found.counts["flagged_anomalous"] <= 5
    assert calls == [("evaluating", done, 11) for done in range(1, 12)]
    assert found.errors == ()
    json.dumps(found.to_json(), allow_nan=False)


def test_metrics_are_those_of_the_scores(mvtec):
    found = evaluate(tiny_model(), mvtec)
    normal, anomalous = found.scores(None), np.concatenate([found.scores("bright"), found.scores("spot")])
    flags = [judged.flagged for judged in found.judged]
    assert found.image["auroc"] == metrics.auroc(normal, anomalous)
    assert found.image["average_precision"] == metrics.average_precision(normal, anomalous)
    assert found.image["f1_max"] == metrics.f1_max(normal, anomalous)[0]
    assert found.image["recall"] == np.mean(flags[6:])
    assert found.image["false_alarm_rate"] == np.mean(flags[:6])
    assert found.image["recall_ci"] == metrics.binomial_interval(sum(flags[6:]), 5)
    low, high = found.image["auroc_ci"]
    assert low <= found.image["auroc"] <= high
    assert list(found.by_type) == ["bright", "spot"]
    for kind, flagged in (("bright", flags[6:8]), ("spot", flags[8:])):
        own = found.by_type[kind]
        assert own["images"] == len(flagged) == len(found.scores(kind))
        assert own["auroc"] == metrics.auroc(normal, found.scores(kind))
        assert own["average_precision"] == metrics.average_precision(normal, found.scores(kind))
        assert own["recall"] == np.mean(flagged)
    assert list(found.baselines) == list(BASELINES)


@pytest.mark.slow
def test_intervals_count_groups(mvtec):
    """Six photos of two normal parts say no more about the rate of new parts than two photos do."""
    model = tiny_model()
    alone = evaluate(model, mvtec)
    grouped = evaluate(model, mvtec, groups=lambda path: int(path.rsplit("/", 1)[1][:-4]) // 3)
    assert (grouped.counts["normal_groups"], grouped.counts["anomalous_groups"]) == (2, 1)
    assert grouped.image == alone.image | {
        "false_alarm_rate_ci": metrics.binomial_interval(2 * alone.image["false_alarm_rate"], 2),
        "recall_ci": metrics.binomial_interval(alone.image["recall"], 1),
        "auroc_ci": grouped.image["auroc_ci"],
    }
    (low, high), (wide_low, wide_high) = alone.image["auroc_ci"], grouped.image["auroc_ci"]
    assert high - low < wide_high - wide_low
    assert any("2 normal and 1 anomalous groups of images are few" in warning for warning in grouped.warnings)
    with pytest.raises(DataError, match="finds no group"):
        evaluate(model, mvtec, groups="(part[0-9]+)_")


def test_pixel_metrics_are_those_of_the_maps(mvtec):
    model = tiny_model()
    found = evaluate(model, mvtec, aupro_limit=0.2)

    def images():
        for judged in found.judged:
            if judged.kind in (None, "spot"):  # anomalous images without a mask say nothing about pixels
                result = model.predict(judged.path)
                size = (result.width, result.height)
                mask = np.asarray(Image.open(judged.mask)) > 0 if judged.mask else np.zeros(size[::-1], bool)
                yield upscaled(result.map, size), mask

    expected = pixel_metrics(images, limit=0.2)
    assert found.pixel == {
        "auroc": expected.auroc,
        "average_precision": expected.average_precision,
        "aupro": expected.aupro,
        "aupro_limit": 0.2,
        "f1_max": expected.f1_max,
    }
    # And the pixel AUROC by comparing every pair of pixels.
    pairs = list(images())
    inside = np.concatenate([values[mask] for values, mask in pairs])
    outside = np.concatenate([values[~mask] for values, mask in pairs])
    wins = (inside[:, None] > outside).mean() + 0.5 * (inside[:, None] == outside).mean()
    assert found.pixel["auroc"] == pytest.approx(wins, abs=1e-9)


@pytest.mark.slow
def test_two_folders_give_the_same_as_mvtec(mvtec, two_folders, tmp_path):
    by_folders = evaluate(tiny_model(), **two_folders)
    shutil.move(two_folders["normal"], mvtec / "test" / "good")
    assert numbers(by_folders) == numbers(evaluate(tiny_model(), mvtec))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["image", "pixel", "counts"])
def test_every_number_is_documented_and_every_metric_is_in_the_report(mvtec, kind):
    found = getattr(evaluate(tiny_model(), mvtec), kind)
    entry = re.search(rf"^    {kind}: (.*?)^    \w+: ", inspect.getdoc(oddsight.Evaluation), re.DOTALL | re.MULTILINE)
    assert found.keys() <= {*re.findall(r"\w+", entry[1])}
    template = (Path(report.__file__).parent / "evaluation.md.jinja").read_text(encoding="utf-8")
    assert [name for name in found if kind != "counts" and f"{kind}.{name}" not in template] == []


@pytest.mark.slow
def test_evaluating_twice_gives_the_same(mvtec):
    assert numbers(evaluate(tiny_model(), mvtec)) == numbers(evaluate(tiny_model(), mvtec))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "with_masks"), [({"localises": False}, True), ({}, False)], ids=["no map", "no mask"]
)
def test_without_maps_or_masks_there_are_no_pixel_metrics(mvtec, model, with_masks):
    if not with_masks:
        shutil.rmtree(mvtec / "ground_truth")
    found = evaluate(tiny_model(**model), mvtec)
    assert found.pixel is None
    assert found.counts["masks"] == 3 * with_masks
    assert found.image["auroc"] == evaluate(tiny_model(), mvtec).image["auroc"]


# What would make the numbers mean nothing.


@pytest.mark.slow
def test_images_of_the_fit_are_refused_whatever_their_name(normal_folder, tmp_path):
    model = oddsight.fit(normal_folder, method="knn", size=SIZE, false_alarm_rate=0.05)
    write_textures(tmp_path / "normal", range(500, 520))
    write_textures(tmp_path / "anomalous", range(20), material="bark")
    folders = {"normal": tmp_path / "normal", "anomalous": tmp_path / "anomalous"}
    found = evaluate(model, **folders)
    assert found.image["auroc"] == 1.0
    Image.fromarray(texture(17)).save(tmp_path / "normal" / "under another name.tif")
    with pytest.raises(
        DataError, match=r"1 of 41 test images were used to fit this model, such as .*another name\.tif"
    ):
        evaluate(model, **folders)


@pytest.mark.parametrize("kind", ["normal", "anomalous"])
def test_a_leak_on_either_side_is_refused(two_folders, kind):
    images = collect(two_folders[kind]).images
    model = tiny_model(images_seen=pack(images[:2]))
    with pytest.raises(DataError, match="2 of 11 test images were used"):
        evaluate(model, **two_folders)


def test_a_image_that_is_normal_and_anomalous_is_refused(mvtec):
    Image.open(mvtec / "test" / "good" / "3.png").save(mvtec / "test" / "bright" / "x.tif")
    with pytest.raises(DataError, match=r"x.tif is the same image as .*3.png, which counts as normal"):
        evaluate(tiny_model(), mvtec)


# What cannot be read or used is named, and the rest goes on.


@pytest.mark.slow
def test_unreadable_images_are_listed(mvtec):
    clean = evaluate(tiny_model(), mvtec)
    (mvtec / "test" / "good" / "broken.png").write_bytes(b"no image")
    (mvtec / "test" / "spot" / "empty.png").touch()
    found = evaluate(tiny_model(), mvtec)
    assert {error.path.rsplit("/", 1)[1] for error in found.errors} == {"broken.png", "empty.png"}
    assert found.counts == {**clean.counts, "unreadable": 2}
    for part in ("image", "pixel", "by_type", "baselines"):
        assert getattr(found, part) == getattr(clean, part)


@pytest.mark.slow
def test_a_problem_is_listed_once(mvtec):
    (mvtec / "test" / "good" / "gone.png").symlink_to(mvtec / "nowhere.png")
    found = evaluate(tiny_model(), mvtec)
    assert [error.reason for error in found.errors] == ["a link to a file that does not exist"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wrong size", "broken"])
def test_masks_that_cannot_be_used_are_listed(mvtec, kind):
    path = mvtec / "ground_truth" / "spot" / "1_mask.png"
    if kind == "broken":
        path.write_bytes(b"no image")
    else:
        save(np.full((16, 25), 255, np.uint8), path)
    found = evaluate(tiny_model(), mvtec)
    [error] = found.errors
    assert error.path == str(path)
    assert (found.counts["masks"], found.counts["anomalous"]) == (2, 5)
    # As if the image had no mask at all.
    path.unlink()
    without = evaluate(tiny_model(), mvtec)
    assert found.pixel == without.pixel
    assert found.image == without.image


@pytest.mark.slow
@pytest.mark.parametrize("emptied", [1, 3])
def test_empty_masks_are_counted_and_not_used(mvtec, emptied):
    for number in range(emptied):
        save(np.zeros((16, 24), np.uint8), mvtec / "ground_truth" / "spot" / f"{number}_mask.png")
    found = evaluate(tiny_model(), mvtec)
    assert (found.counts["masks"], found.counts["empty_masks"]) == (3, emptied)
    for number in range(emptied):
        (mvtec / "ground_truth" / "spot" / f"{number}_mask.png").unlink()
    if emptied == 3:
        assert found.pixel is None
    else:
        assert found.pixel == evaluate(tiny_model(), mvtec).pixel


@pytest.mark.slow
def test_a_mask_fits_by_the_very_same_name(mvtec):
    shutil.move(mvtec / "test" / "spot" / "0.png", mvtec / "test" / "spot" / "face_mask.png")
    shutil.move(mvtec / "ground_truth" / "spot" / "0_mask.png", mvtec / "ground_truth" / "spot" / "face_mask.png")
    assert evaluate(tiny_model(), mvtec).counts["masks"] == 3


# Arguments and layouts that cannot be.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "name either one folder"),
        ({"folder": "mvtec", "normal": "good"}, "name either one folder"),
        ({"folder": "mvtec", "masks": "masks"}, "name either one folder"),
        ({"normal": "good"}, "name either one folder"),
        ({"folder": "good"}, "not laid out as MVTec AD.* test/good"),
        ({"normal": "empty", "anomalous": "good"}, "no images in .*empty"),
        ({"normal": "good", "anomalous": "missing"}, "no images in .*missing: no such file or folder"),
        ({"normal": "good", "anomalous": "spot", "masks": "missing"}, "not a folder of masks"),
        ({"normal": "good", "anomalous": "spot", "masks": "text"}, "no mask in .* has the sub-folder and name"),
        ({"normal": "good", "anomalous": "text"}, "none of the anomalous images could be read; the first is"),
        ({"normal": "text", "anomalous": "good"}, "none of the normal images could be read; the first is"),
    ],
)
def test_folders_that_cannot_be_evaluated_are_refused(mvtec, arguments, message):
    places = {"mvtec": mvtec, "good": mvtec / "test" / "good", "spot": mvtec / "test" / "bright"}
    for name in ("empty", "text"):
        places[name] = mvtec / name
        places[name].mkdir()
    (mvtec / "text" / "a.png").write_text("text")
    places["masks"] = mvtec / "ground_truth"
    named = {key: places.get(value, mvtec / value) for key, value in arguments.items()}
    with pytest.raises(DataError, match=message) as error:
        evaluate(tiny_model(), **named)
    assert str(error.value).isprintable()


@pytest.mark.parametrize("settings", [{"aupro_limit": 0.0}, {"aupro_limit": 1.5}, {"confidence": 1.0}])
def test_settings_that_cannot_work_are_refused(mvtec, settings):
    with pytest.raises(OddsightError):
        evaluate(tiny_model(), mvtec, **settings)


# Warnings.


def written(tmp_path, normal, anomalous):
    """Flat images of these levels, in two folders."""
    for name, levels in (("normal", normal), ("anomalous", anomalous)):
        for number, level in enumerate(levels):
            save(flat(level, number), tmp_path / name / f"{number}.png")
    return {"normal": tmp_path / "normal", "anomalous": tmp_path / "anomalous"}


def warned(model, folders):
    warnings = evaluate(model, **folders).warnings
    return [word for word in ("baseline", "more than chance", "are few") if any(word in line for line in warnings)]


@pytest.mark.slow
def test_a_model_that_a_trivial_baseline_beats_is_called_that(tmp_path):
    # Brightness separates these perfectly; a model for dark images gets them all wrong.
    folders = written(tmp_path, range(20, 60), range(120, 160))
    found = evaluate(tiny_model(-np.arange(100, 119, dtype=np.float32), sign=-1.0), **folders)
    assert found.baselines["brightness"] == 1.0
    assert found.image["auroc"] == 0.0
    [warning] = [line for line in found.warnings if "baseline" in line]
    assert "'brightness' reaches an AUROC of 1.000" in warning


@pytest.mark.slow
def test_a_model_that_beats_the_baselines_is_not(tmp_path):
    # Normal images have a dark spot, anomalous ones a bright one, on a ground whose brightness varies more than that.
    folders = {"normal": tmp_path / "normal", "anomalous": tmp_path / "anomalous"}
    random = np.random.default_rng(0)
    for number in range(40):
        for name, step in (("normal", -60), ("anomalous", 60)):
            picture = flat(int(random.integers(110, 160)), 2 * number + (step > 0), 64, 64).astype(np.int64)
            top, left = random.integers(0, 48, 2)
            picture[top : top + 12, left : left + 12] += step
            save(picture.astype(np.uint8), tmp_path / name / f"{number}.png")
    found = evaluate(tiny_model(), **folders)
    assert max(found.baselines.values()) < 0.9 < found.image["auroc"]
    assert not any("baseline" in line for line in found.warnings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("normal", "count", "expected"),
    [
        (range(30, 70), 40, []),
        (range(190, 230), 40, ["more than chance"]),
        (range(30, 49), 40, ["are few"]),
        (range(30, 70), 19, ["are few"]),
    ],
)
def test_warnings_of_alarms_and_numbers(tmp_path, normal, count, expected):
    folders = written(tmp_path, normal, [240] * count)
    found = [word for word in warned(tiny_model(), folders) if word != "baseline"]
    assert found == expected
