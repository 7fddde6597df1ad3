"""Isolating clouds: no scene helps to judge itself, numbers are scikit-learn's, and trivial measures may win."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from oddsight.data.images import read_image
from oddsight.data.mask_files import read_mask
from oddsight.errors import DataError, ImageError
from oddsight.evaluation.compare.store import compute_once, key_of, pack, read_cell, unpack, write_cell
from oddsight.model.calibration import smallest_rate
from oddsight.report.markdown import fill_template
from oddsight.scenes import predict_scene
from oddsight.studies.clouds import isolation, isolation_maps
from oddsight.studies.clouds.isolation import isolate
from oddsight.studies.clouds.isolation_maps import MASKS, RULES, SceneMaps
from oddsight.studies.clouds.isolation_measures import BRIGHT, Group, Tally, areas_of, draw_scenes, overlaps_of
from oddsight.studies.clouds.isolation_scenes import Scene, brightness, clear_tiles, deal, whiteness
from oddsight.studies.clouds.page_parts import isolation_values
from oddsight.studies.clouds.variants import Variant
from textures import texture
from tiny_model import tiny_model

pytestmark = pytest.mark.slow
"""The study runs once for all of them, and that takes longer than the rest of the quick suite."""

SIDE = 96
RATED = dict.fromkeys(RULES, 0.05)


def write_scenes(folder, count=9, *, snow=0):
    """Dark ground with bright clouds; ``snow`` more scenes are as bright as clouds and clear."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rng = np.random.default_rng(0)
    for number in range(count + snow):
        pixels, mask = texture(number, SIDE, SIDE) // 2, np.zeros((SIDE, SIDE), np.uint8)
        if number >= count:
            pixels = pixels // 4 + 170
        elif number % 3:
            top, left = rng.integers(0, SIDE - 40, 2)
            mask[top : top + 36, left : left + 36] = 255
            pixels[mask > 0] = rng.integers(130, 190, (int((mask > 0).sum()), 1))
        Image.fromarray(pixels).save(folder / "images" / f"s{number:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"s{number:02d}.png")
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("scenes"))


def run(folder, work, methods=("patchcore",), **options):
    return isolate(folder, work, methods=methods, **{"folds": 3, "tile": 32, **options})


def scene(number, ground=60.0, cover=0.5):
    return Scene(f"s{number}", Path("x"), Path("y"), f"{number:064x}", 8, 8, cover, ground, False)


@given(st.lists(st.one_of(st.none(), st.floats(0, 255)), min_size=6, max_size=40), st.integers(3, 6), st.integers(0, 5))
@settings(max_examples=60)
def test_every_scene_is_in_one_part_and_parts_are_alike(grounds, count, seed):
    scenes = [scene(number, ground) for number, ground in enumerate(grounds)]
    parts = deal(scenes, count, seed)
    assert sorted(index for part in parts for index in part) == list(range(len(scenes)))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    assert parts == deal(scenes, count, seed)
    # Ranks of brightness: of each next ``count`` scenes, every part has one.
    if len(scenes) % count == 0 and len({ground for ground in grounds if ground is not None}) == len(grounds):
        order = sorted(range(len(scenes)), key=lambda index: grounds[index])
        for start in range(0, len(order), count):
            block = set(order[start : start + count])
            assert all(len(block & set(part)) == 1 for part in parts)


def test_no_scene_is_on_both_sides(folder, tmp_path, fits, monkeypatch):
    tested = []

    def watched(model, image, **options):
        tested.append((len(fits.calls), Path(image).stem, options))
        return predict_scene(model, image, **options)

    monkeypatch.setattr(isolation_maps, "predict_scene", watched)
    found = run(folder, tmp_path)
    names = {one.content[:16]: one.name for one in found.scenes}
    assert len(fits.calls) == 3 + 3
    for call, name, options in tested:
        _, files, _ = fits.calls[call - 1]
        assert name not in {names[file.parent.name] for file in files}
        assert options == {"tile": 32, "overlap": 16, "per_tile": True}
    # Once for its test, and in each of the models that thresholds for the other two parts come from.
    assert all(sum(name == one.name for _, name, _ in tested) == 3 for one in found.scenes)
    for _, files, _ in fits.calls:
        for file in files:
            mask = read_mask(folder / "masks" / f"{names[file.parent.name]}.png")
            top, left = (int(part) for part in file.stem.split("_")[1:])
            assert not mask[top : top + 32, left : left + 32].any()


def test_numbers_are_those_of_scikit_learn(folder, tmp_path, fits):
    found = run(folder, tmp_path)
    masks = [one.clouds() for one in found.scenes]
    truth = np.concatenate([mask.ravel() for mask in masks])
    for name, measure in (("brightness", brightness), ("whiteness", whiteness)):
        values = np.concatenate([measure(read_image(one.path)).ravel() for one in found.scenes])
        (own,) = (one.groups["all scenes"] for one in found.judged if one.name == name)
        assert own.auroc == pytest.approx(roc_auc_score(truth, values), abs=1e-12)
        assert own.average_precision == pytest.approx(average_precision_score(truth, values), abs=1e-12)
        low, high = own.auroc_interval
        assert low <= own.auroc <= high
    rows = {(row["method"], row["group"], row["scene"]): row for row in found.rows()}
    assert len(rows) == 3 * (len(found.groups) + len(found.scenes))
    flat = rows["patchcore", "all scenes", ""]
    assert flat["rate_0.01_kept"] == pytest.approx(smallest_rate(found.judged[2].trained[0]))
    assert flat["rate_0.05_kept"] == pytest.approx(max(0.05, smallest_rate(found.judged[2].trained[0])))
    mixed = rows["brightness", "one scene", "s01"]
    assert mixed["auroc"] == pytest.approx(
        roc_auc_score(masks[1].ravel(), brightness(read_image(found.scenes[1].path)).ravel())
    )
    assert rows["brightness", "one scene", "s00"]["auroc"] is None
    text = io.StringIO()
    csv.DictWriter(text, list(found.rows()[0])).writerows(found.rows())
    assert text.getvalue().count("\n") == len(rows)


def test_overlaps_count_pixels_beyond_each_threshold(folder, tmp_path, fits):
    job = []
    original = isolation_maps.map_by_method

    def kept(variant, given):
        job.append(original(variant, given))
        return job[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(isolation, "map_by_method", kept)
        found = run(folder, tmp_path)
    (maps,) = job
    for rule in RULES:
        hits = alarms = clouds = 0
        for index, one in enumerate(found.scenes):
            above, mask = maps.read(index) > maps.thresholds[index][rule], one.clouds()
            assert above.shape == mask.shape == (SIDE, SIDE)
            hits, alarms, clouds = hits + (above & mask).sum(), alarms + (above & ~mask).sum(), clouds + mask.sum()
        own = found.judged[-1].groups["all scenes"].outlined[rule]
        assert own.iou == pytest.approx(hits / (clouds + alarms))
        assert own.f1 == pytest.approx(2 * hits / (hits + alarms + clouds))
        assert own.recall == pytest.approx(hits / clouds)
        assert own.f1_interval[0] <= own.f1 <= own.f1_interval[1]


def test_the_intervals_are_those_of_pixels_of_drawn_scenes():
    rng = np.random.default_rng(3)
    values, masks = rng.integers(0, 12, (6, 50)), rng.random((6, 50)) < 0.4
    masks[4], masks[5] = False, True
    count = [[np.bincount(v[m == side], minlength=12) for v, m in zip(values, masks, strict=True)] for side in (1, 0)]
    over = values > 7
    numbers = [
        [[int((o & (m == side)).sum())] * len(RULES) for o, m in zip(over, masks, strict=True)] for side in (1, 0)
    ]
    tally = Tally(*map(np.array, count), *map(np.array, numbers))
    draws = draw_scenes(6, 0)[:20]
    everything = Group("", "", tuple(range(6)), tuple(range(6)))
    areas, (ious, f1s) = areas_of(tally, everything, draws), overlaps_of(tally, everything, draws, MASKS)
    for drawing, area, iou, f1 in zip(draws, areas, ious, f1s, strict=True):
        chosen = np.repeat(np.arange(6), drawing)
        truth, scores = masks[chosen].ravel(), values[chosen].ravel()
        assert area == pytest.approx(roc_auc_score(truth, scores))
        hits, alarms = (truth & (scores > 7)).sum(), (~truth & (scores > 7)).sum()
        assert iou == pytest.approx(hits / (truth.sum() + alarms))
        assert f1 == pytest.approx(2 * hits / (hits + alarms + truth.sum()))
    alone = Group("", "", (4,), (5,))
    missing = (draws[:, 4] == 0) | (draws[:, 5] == 0)
    assert missing.any()
    np.testing.assert_array_equal(np.isnan(areas_of(tally, alone, draws)), missing)


def test_a_rerun_is_taken_from_the_work_folder(folder, tmp_path, fits):
    first = run(folder, tmp_path)
    fits.calls.clear()
    again = run(folder, tmp_path)
    assert (fits.calls, again.rows()) == ([], first.rows())
    before = {path.name for path in tmp_path.glob("patchcore-*")}
    run(folder, tmp_path, methods=[Variant("patchcore", "patchcore", 32, 8)])
    assert len(fits.calls) == 6
    fits.calls.clear()
    (changed,) = (path for path in tmp_path.glob("patchcore-*") if path.name not in before)
    (changed / "without-1.npz").write_bytes(b"broken")
    run(folder, tmp_path, methods=[Variant("patchcore", "patchcore", 32, 8)])
    assert len(fits.calls) == 1
    fits.calls.clear()
    run(folder, tmp_path, seed=1)
    assert len(fits.calls) == 6


def test_other_masks_make_it_anew(tmp_path, fits):
    folder = write_scenes(tmp_path / "scenes", 8)
    run(folder, tmp_path / "work")
    fits.calls.clear()
    changed = np.zeros((SIDE, SIDE), np.uint8)
    changed[:40] = 255
    Image.fromarray(changed).save(folder / "masks" / "s00.png")
    run(folder, tmp_path / "work")
    assert fits.calls


def test_a_method_that_cannot_be_run_is_named_and_the_others_go_on(folder, tmp_path, fits):
    found = run(folder, tmp_path, methods=["knn", "../no-such-method", "patchcore"])
    assert set(found.failed) == {"knn", "../no-such-method"}
    assert "not where" in found.failed["knn"]
    assert found.best == "patchcore"
    assert [row["sort"][:8] for row in found.rows()][-2:] == ["not run:", "not run:"]
    assert "no-such-method: no method" in section(found)[0]
    alone = run(folder, tmp_path, methods=["knn"])
    assert alone.best is None
    assert "No method could be run." in section(alone)[0]


def section(found):
    """The section of the report, and its figures."""
    figures = {}
    values = isolation_values(found, figures)
    return fill_template("oddsight.studies.clouds", "isolation.md.jinja", v=values), figures


def verdicts(found):
    """The last cell of each row of the verdicts, by group."""
    return {row[0]: row[-1] for row in isolation_values(found, {})["verdicts"]}


def test_the_verdict_says_so_if_brightness_wins(folder, tmp_path, fits):
    found = run(folder, tmp_path)
    # The method is brightness on a coarse grid: brightness itself cannot be beaten by it.
    assert verdicts(found) == {"all scenes": "baseline wins"}


def test_the_verdict_says_so_if_a_method_wins_on_bright_ground(tmp_path, monkeypatch):
    folder = write_scenes(tmp_path / "scenes", 9, snow=3)

    def perfect(variant, job):
        def read(index):
            noise = np.random.default_rng(index).normal(0, 0.3, (SIDE, SIDE))
            return (job.scenes[index].clouds() + noise).astype(np.float32)

        thresholds = (dict.fromkeys(RULES, 0.5),) * len(job.scenes)
        return SceneMaps(
            variant.name, "by the masks", False, read, thresholds, RATED, (1.0,) * 3, (9, 9), lambda index: tiny_model()
        )

    monkeypatch.setattr(isolation, "map_by_method", perfect)
    found = run(folder, tmp_path / "work")
    assert [one.bright for one in found.scenes] == [False] * 9 + [True] * 3
    # The bright scenes have no clouds of their own, so nothing is measured of them alone.
    assert [group.name for group in found.groups] == ["all scenes", BRIGHT]
    # Where few of the scenes drawn are bright, brightness does as well over all of them.
    assert verdicts(found) == {"all scenes": "better, but not significantly", BRIGHT: "beats the baseline"}
    bright = next(one for one in found.judged if one.name == "brightness").groups[BRIGHT]
    assert bright.auroc < 0.5
    assert bright.aupro is None


def test_the_section_is_a_page_and_markdown(folder, tmp_path, fits):
    found = run(folder, tmp_path)
    text, figures = section(found)
    assert "Scene by scene" in text
    assert "oddsight predict --regions" in text
    assert {"isolation-all-scenes", "isolation-scenes"} == set(figures)
    assert {f"figures/{name}.svg" for name in figures} == set(re.findall(r"\]\((.*?)\)", text))
    assert found.files
    assert all(file.is_file() for file in found.files)
    assert {file.suffix for file in found.files} == {".geojson", ".png"}
    assert str(tmp_path) not in text
    for one in found.shown:
        written = read_mask(tmp_path / "regions" / f"{one.scene}-mask.png")
        np.testing.assert_array_equal(written, one.found)
        # The file's own mask is the map above the threshold, apart from rounding at the threshold itself.
        assert (written != (one.values > one.threshold)).mean() < 0.01


def test_a_real_method_finds_clouds(folder, tmp_path):
    fine = Variant("fine", "patchcore", 32, 0, layers=("stage2",), size=32)
    found = run(folder, tmp_path, methods=[fine])
    assert found.failed == {}
    own = found.judged[-1]
    assert own.groups["all scenes"].auroc > 0.8
    assert "layers stage2" in own.settings
    assert own.trained[0] >= 8


def test_tiles_are_whole_clear_and_not_mixed_up(folder, tmp_path, fits):
    found = run(folder, tmp_path)
    tiles = clear_tiles(found.scenes, 32, tmp_path, lambda *_: None)
    assert len(tiles[0]) == 9
    assert all(read_image(file).shape == (32, 32, 3) for files in tiles.values() for file in files)
    assert all(0 < len(tiles[index]) < 9 for index in (1, 2))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda root: (root / "masks" / "s01.png").unlink(), DataError, "no mask of its name"),
        (lambda root: [(root / "images" / f"s0{n}.png").unlink() for n in range(3)], DataError, "holds 5 scenes"),
        (lambda root: (root / "masks").rename(root / "other"), DataError, "no folders images and masks"),
        (lambda root: Image.new("L", (5, 5)).save(root / "masks" / "s01.png"), ImageError, "5"),
        (lambda root: (root / "images" / "s01.png").write_bytes(b"no image"), ImageError, "s01.png"),
        (
            lambda root: [Image.new("L", (SIDE, SIDE)).save(root / "masks" / f"s0{n}.png") for n in range(8)],
            DataError,
            "all empty or all full",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_error(tmp_path, change, error, words):
    folder = write_scenes(tmp_path / "scenes", 8)
    change(folder)
    with pytest.raises(error, match=words):
        run(folder, tmp_path / "work")


def test_a_cell_is_taken_for_the_same_key_only(tmp_path):
    path, arrays, key = (
        tmp_path / "deep" / "one.npz",
        {"values": np.arange(3), "facts": pack({"a": 1.5})},
        key_of("a", 1),
    )
    assert read_cell(path, key) is None
    write_cell(path, key, arrays)
    kept = compute_once(path, key, lambda: pytest.fail("computed again"))
    np.testing.assert_array_equal(kept["values"], arrays["values"])
    assert unpack(kept["facts"]) == {"a": 1.5}
    assert read_cell(path, key_of("a", 2)) is None
    path.write_bytes(path.read_bytes()[:40])
    assert read_cell(path, key) is None
    assert compute_once(path, key, lambda: arrays) is arrays
    assert read_cell(path, key).keys() == arrays.keys()


def test_a_map_may_be_weighed_by_brightness(folder, tmp_path, fits):
    plain = Variant("plain", "patchcore", 32, 16)
    found = run(folder, tmp_path, methods=[plain, replace(plain, name="bright", times="brightness")])
    # Both are of the same models, which were fitted once.
    assert len(fits.calls) == 6
    before, after = found.judged[-2:]
    assert after.groups["all scenes"].auroc != before.groups["all scenes"].auroc
    assert after.rates["rate 0.05"] >= 0.05
    assert len(found.chosen) == 3
    wrong = run(folder, tmp_path, methods=[replace(plain, times="colour")])
    assert "not by colour" in wrong.failed["plain"]


def test_names_of_variants_stand_for_their_settings():
    fine = Variant("fine", "patchcore", layers=("stage1",), size=64)
    assert fine.fitting == {"layers": ("stage1",), "size": 64}
    assert "layers stage1" in fine.says
