"""Haze, smoke, dust and cloud over clear images: the physics, the paired patterns, and the dataset on disk."""

from __future__ import annotations

import csv
import json
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

import oddsight
from cli_files import assert_failed, ordinary_user, run
from oddsight.data.anomaly_folders import from_mvtec
from oddsight.data.images import read_image
from oddsight.data.mask_files import read_mask
from oddsight.data.synthesis import KINDS, VISIBLE, airlight, pattern, synthesize
from oddsight.data.synthetic_sets import write_synthetic
from oddsight.errors import DataError, ImageError, OddsightError
from oddsight.evaluation.compare.trials import read_trials
from textures import texture, write_textures

SIZES = st.sampled_from([(1, 1), (1, 2), (2, 1), (1, 700), (700, 1), (3, 90), (33, 31), (64, 64)])
NAMES = st.sampled_from(sorted(KINDS))
SEEDS = st.integers(0, 2**40)
FEW = settings(max_examples=25)


def picture(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def light(code):
    """From 8-bit sRGB to light, as IEC 61966-2-1 defines it."""
    code = np.asarray(code, np.float64) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


def code(light):
    """Back, not rounded, 0..255."""
    return 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


# physics


@pytest.mark.slow
@FEW
@given(SIZES, NAMES, SEEDS, st.sampled_from([0.05, 0.3, 1.0, 4.0]))
def test_every_pixel_is_the_ground_through_air_and_the_airs_own_light(size, kind, seed, severity):
    clear = picture(size, seed)
    found = synthesize(clear, kind, severity, seed=seed)
    share = np.exp(-found.depth.astype(np.float64))[..., None]
    expected = code(light(clear) * share + light(airlight(clear, kind)) * (1 - share))
    assert np.abs(found.image - expected).max() <= 0.51
    assert (found.image.dtype, found.depth.dtype, found.mask.dtype) == (np.uint8, np.float32, np.uint8)
    assert found.image.shape == clear.shape
    assert found.depth.shape == found.mask.shape == clear.shape[:2]


@pytest.mark.slow
@FEW
@given(SIZES, NAMES, SEEDS, st.floats(0.01, 20))
def test_depth_has_the_mean_that_was_asked_for_and_scales(size, kind, seed, severity):
    clear = picture(size, seed)
    found = synthesize(clear, kind, severity, seed=seed)
    affected = found.depth > 0
    share = np.exp(-found.depth.astype(np.float64))
    assert affected.any()
    assert found.depth.min() >= 0
    assert (share > 0).all()
    assert (share <= 1).all()
    assert found.depth[affected].mean(dtype=np.float64) == pytest.approx(severity, rel=1e-3)
    assert ((found.mask == 255) == (found.depth > VISIBLE)).all()
    assert set(np.unique(found.mask)) <= {0, 255}
    other = synthesize(clear, kind, 2 * severity, seed=seed)
    assert np.allclose(other.depth, 2 * found.depth, rtol=1e-6)
    assert (other.mask >= found.mask).all()


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3))), NAMES)
@FEW
def test_severity_0_changes_nothing(clear, kind):
    found = synthesize(clear, kind, 0)
    assert (found.image == clear).all()
    assert not found.depth.any()
    assert not found.mask.any()


def test_every_code_survives_the_way_to_light_and_back():
    every = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    assert (synthesize(every, "haze", 0).image == every).all()


@pytest.mark.parametrize("kind", KINDS)
def test_so_much_that_nothing_else_is_seen_is_the_airlight(kind):
    clear = picture((40, 40))
    found = synthesize(clear, kind, 1e6)
    thick = found.depth > 100
    assert thick.any()
    assert (found.image[thick] == KINDS[kind].airlight).all()
    assert (found.image[found.depth == 0] == clear[found.depth == 0]).all()


@pytest.mark.slow
def test_large_images_are_made_of_parts_that_fit(monkeypatch):
    """Larger than a pattern's grid, and than the rows that are mixed at a time."""
    monkeypatch.setattr("oddsight.data.synthesis._ROWS", 10_000)
    clear = picture((150, 1100))
    found = synthesize(clear, "smoke", 0.7)
    share = np.exp(-found.depth.astype(np.float64))[..., None]
    expected = code(light(clear) * share + light(KINDS["smoke"].airlight) * (1 - share))
    assert np.abs(found.image - expected).max() <= 0.51
    assert found.depth[found.depth > 0].mean(dtype=np.float64) == pytest.approx(0.7, rel=1e-3)


# patterns


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_neighbours_have_much_the_same_depth(kind, seed):
    amounts = pattern(picture((96, 96), seed), kind, seed)
    for one, other in ((amounts[1:], amounts[:-1]), (amounts[:, 1:], amounts[:, :-1])):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.85
    shuffled = np.random.default_rng(0).permutation(amounts.ravel())
    assert abs(np.corrcoef(shuffled, amounts.ravel())[0, 1]) < 0.1


@pytest.mark.slow
def test_kinds_cover_what_they_say():
    clear = [picture((96, 96), seed) for seed in range(6)]
    cover = {kind: np.mean([(pattern(one, kind, 0) > 0.25).mean() for one in clear]) for kind in KINDS}
    assert cover["haze"] > 0.98
    assert cover["haze"] > cover["dust"] > cover["cloud"]
    assert 0.05 < cover["smoke"] < 0.6


@pytest.mark.slow
def test_dust_and_smoke_have_a_direction():
    """Gradients along the wind are weaker than across it; those of haze and cloud have no such direction."""
    ratio = {}
    for kind in KINDS:
        found = []
        for seed in range(6):
            down, across = np.gradient(pattern(picture((96, 96), seed), kind, 0))
            least, most = np.linalg.eigvalsh(np.cov(np.stack([down.ravel(), across.ravel()])))
            found.append(most / least)
        ratio[kind] = np.median(found)
    assert min(ratio["dust"], ratio["smoke"]) > 1.25 * ratio["cloud"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_arguments_give_the_same(kind):
    clear = picture((40, 50))
    first, again = (synthesize(clear, kind, 0.4, seed=7) for _ in range(2))
    assert all(np.array_equal(one, other) for one, other in zip(first, again, strict=True))
    assert (pattern(clear, kind, 8) != pattern(clear, kind, 7)).any()
    other = clear.copy()
    other[0, 0] ^= 1
    assert not np.allclose(pattern(other, kind, 7), pattern(clear, kind, 7))
    kinds = [pattern(clear, name, 7).tobytes() for name in KINDS]
    assert len(set(kinds)) == len(KINDS)


# forms of images


def test_grey_images_stay_grey():
    grey = picture((20, 30))[..., 0]
    for given_as in (grey, grey[..., None], Image.fromarray(grey), np.repeat(grey[..., None], 3, axis=2)):
        found = synthesize(given_as, "dust", 0.5)
        assert (found.image[..., :2] == found.image[..., 1:]).all()
        assert (found.image == synthesize(grey, "dust", 0.5).image).all()
    red, green, blue = light(KINDS["dust"].airlight)
    [level] = set(airlight(np.repeat(grey[..., None], 3, axis=2), "dust"))
    assert light(level) == pytest.approx(0.2126 * red + 0.7152 * green + 0.0722 * blue, abs=0.005)


def test_alpha_lies_over_white_and_16_bits_are_reduced():
    colour, alpha = picture((9, 9)), np.full((9, 9, 1), 128, np.uint8)
    flat = np.asarray(Image.fromarray(np.full((9, 9, 3), 255, np.uint8)))
    found = synthesize(np.concatenate([colour, 0 * alpha], axis=2), "haze", 0)
    assert (found.image == flat).all()
    deep = colour[..., 0].astype(np.uint16) * 257
    assert (synthesize(deep, "haze", 0.4).image == synthesize(colour[..., 0], "haze", 0.4).image).all()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((picture((4, 4)), "fog", 0.1), OddsightError, "no kind of synthesis is called 'fog': choose from haze, smoke"),
        ((picture((4, 4)), "haze", -0.1), OddsightError, "0 or more, not -0.1"),
        ((picture((4, 4)), "haze", float("nan")), OddsightError, "finite"),
        ((picture((4, 4)), "haze", float("inf")), OddsightError, "finite"),
        ((np.zeros((0, 4, 3), np.uint8), "haze", 0.1), ImageError, "empty"),
        ((np.zeros((4, 4, 3)), "haze", 0.1), ImageError, "float64"),
    ],
)
def test_what_cannot_be_is_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        synthesize(*arguments)
    with pytest.raises(OddsightError, match="seed must be 0 or more"):
        synthesize(picture((4, 4)), "haze", 0.1, seed=-1)


# the dataset


@pytest.fixture(scope="module")
def clear(tmp_path_factory):
    """12 images in several formats, one of them twice, and one that is damaged."""
    folder = tmp_path_factory.mktemp("clear")
    write_textures(folder / "a", range(10), width=40, height=32)
    (folder / "b").mkdir()
    Image.fromarray(texture(50, 32, 32)).save(folder / "b" / "00000.jpg")
    Image.fromarray(texture(51, 32, 32)).save(folder / "b" / "00001_mask.bmp")
    Image.fromarray(texture(0, 40, 32)).save(folder / "b" / "again.bmp")
    (folder / "b" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture(scope="module")
def made(clear, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "set"
    return write_synthetic(clear, output=folder, kinds=["haze", "smoke"], severities=[0.1, 1.6], seed=3)


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_every_image_is_there_with_its_mask_and_its_row(clear, made):
    folder = made.folder
    assert (made.clear, made.training, made.duplicates, len(made.errors)) == (12, 0, 1, 1)
    assert sorted(path.name for path in folder.iterdir()) == [
        *("README.txt", "ground_truth", "synthesis.csv", "synthesis.json", "test")
    ]
    types = [f"{kind}-{severity:g}" for kind in ("haze", "smoke") for severity in (0.1, 1.6)]
    names = [path.name for path in sorted((folder / "test" / "good").iterdir())]
    assert len(names) == 12
    assert {"b_00000.png", "00001_mask_.png"} < set(names)
    assert sorted(path.name for path in (folder / "test").iterdir()) == ["good", *types]
    with (folder / "synthesis.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"test/{kind}/{name}" for kind in types for name in names]
    for row in rows:
        source = read_image(clear / row["source"])
        expected = synthesize(source, row["kind"], float(row["severity"]), seed=int(row["seed"]))
        image = folder / row["file"]
        mask = folder / "ground_truth" / image.parent.name / f"{image.stem}_mask.png"
        assert (read_image(folder / "test" / "good" / image.name) == source).all()
        assert (read_image(image) == expected.image).all()
        assert (read_mask(mask) == (expected.mask > 0)).all()
        assert float(row["depth"]) == pytest.approx(float(row["severity"]), abs=1e-3)
        assert float(row["share"]) == pytest.approx((expected.mask > 0).mean(), rel=1e-4)
        assert row["airlight"] == bytes(KINDS[row["kind"]].airlight).hex()


@pytest.mark.slow
def test_the_folder_says_that_it_is_synthetic_and_nothing_of_this_machine(clear, made):
    told = json.loads((made.folder / "synthesis.json").read_text())
    assert told["synthetic"] is True
    assert (told["seed"], told["severities"], list(told["kinds"])) == (3, [0.1, 1.6], ["haze", "smoke"])
    assert told["images"] == {"clear": 12, "training": 0, "synthetic": 48}
    assert told["unreadable"][0]["name"] == "b/broken.png"
    readme = (made.folder / "README.txt").read_text()
    assert readme.startswith("These images are synthetic.")
    assert "above 0.05" in readme
    for path in ("README.txt", "synthesis.json", "synthesis.csv"):
        assert str(clear.parent) not in (made.folder / path).read_text()


@pytest.mark.slow
def test_evaluate_and_compare_read_it(clear, made, tmp_path):
    found = from_mvtec(made.folder)
    assert len(found.images) == 60
    assert not found.problems
    for image in found.images:
        if image.kind is not None:
            assert image.mask == made.folder / "ground_truth" / image.kind / f"{image.path.stem}_mask.png"
    write_synthetic(clear / "a", output=tmp_path / "set", kinds=["haze"], severities=[1.6], train_share=0.4)
    [trial] = read_trials([str(tmp_path / "set")], normal=None, test_share=0.5, split_seed=0)
    assert (len(trial.training), trial.normal, trial.anomalous) == (4, 6, 6)


@pytest.mark.slow
def test_evaluate_measures_on_it(clear, tmp_path):
    write_textures(tmp_path / "good", range(100, 130), width=40, height=32)
    oddsight.fit(tmp_path / "good", method="knn", size=32, false_alarm_rate=0.1).save(tmp_path / "m.onnx")
    outcome = run("synthesize", clear / "a", "-o", tmp_path / "set", "--kinds", "haze", "--severities", "0.01,3")
    assert outcome.code == 0
    found = run("evaluate", tmp_path / "m.onnx", tmp_path / "set", "--json", "-").json
    assert found["by_type"]["haze-3"]["auroc"] > found["by_type"]["haze-0.01"]["auroc"]
    assert found["by_type"]["haze-3"]["auroc"] > 0.9


@pytest.mark.slow
def test_the_same_images_give_the_same_set_whatever_their_names(clear, made, tmp_path):
    options = {"kinds": ["haze", "smoke"], "severities": [0.1, 1.6], "seed": 3}
    again = write_synthetic(clear, output=tmp_path / "again", **options)
    assert files(again.folder) == files(made.folder)
    (tmp_path / "renamed").mkdir()
    for number, path in enumerate(sorted((clear / "a").iterdir(), reverse=True)):
        Image.open(path).save(tmp_path / "renamed" / f"{number}.bmp")
    other = write_synthetic(tmp_path / "renamed", output=tmp_path / "other", **options)
    images = {content for name, content in files(other.folder).items() if name.startswith("test/")}
    assert images < {content for name, content in files(made.folder).items() if name.startswith("test/")}


@pytest.mark.slow
def test_the_limit_and_the_share_choose_by_content(clear, tmp_path):
    def chosen(name, **options):
        write_synthetic(clear / "a", output=tmp_path / name, kinds=["haze"], severities=[1], **options)
        parts = [tmp_path / name / part / "good" for part in ("train", "test")]
        return [{path.name for path in part.iterdir()} if part.exists() else set() for part in parts]

    (none, four), (_, seven) = chosen("four", limit=4), chosen("seven", limit=7)
    assert (none, len(four), len(seven)) == (set(), 4, 7)
    assert four < seven
    assert chosen("seeded", limit=4, seed=1)[1] != four
    training, testing = chosen("both", limit=7, train_share=0.5)
    assert training | testing == seven
    assert (len(training), len(testing)) == (4, 3)
    with pytest.raises(DataError, match=r"share of 0.99 leaves none of 10 images"):
        chosen("none", train_share=0.99)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kinds": ["mist"]}, "no kind of synthesis is called 'mist'"),
        ({"kinds": []}, "at least one kind"),
        ({"kinds": ["haze", "haze"]}, "named twice"),
        ({"severities": []}, "at least one kind and one severity"),
        ({"severities": [0.1, 0.10000001]}, "named twice"),
        ({"severities": [0.0]}, "a severity of 0 changes nothing"),
        ({"severities": [-1.0]}, "0 or more"),
        ({"limit": 0}, "1 or more, not 0"),
        ({"train_share": 1.0}, "below 1, not 1"),
        ({"seed": -1}, "seed"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_read(tmp_path, options, words):
    with pytest.raises(OddsightError, match=words):
        write_synthetic(tmp_path / "nowhere", output=tmp_path / "set", **options)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_beside_other_things_or_by_halves(clear, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    assert_failed(run("synthesize", clear, "-o", tmp_path / "mine"), "holds other files")
    (tmp_path / "file").write_text("mine")
    assert_failed(run("synthesize", clear, "-o", tmp_path / "file"), "cannot be replaced")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert_failed(run("synthesize", clear, "-o", "."), "cannot be replaced: name a new folder")
    assert_failed(run("synthesize", tmp_path / "nowhere", "-o", tmp_path / "set"), "no such file or folder")

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("oddsight.data.synthetic_sets._write_descriptions", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_synthetic(clear / "a", output=tmp_path / "set", kinds=["haze"], severities=[1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "here", "mine"]
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.posix
def test_an_empty_folder_is_used_through_a_link_too(clear, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write_synthetic(clear / "a", output=tmp_path / "link", kinds=["haze"], severities=[1], limit=1)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "README.txt").is_file()
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.posix
def test_a_folder_that_cannot_be_written_is_one_error(clear, tmp_path):
    tmp_path.chmod(0o500)
    with ordinary_user(), pytest.raises(OddsightError, match=r"cannot write .*set"):
        write_synthetic(clear / "a", output=tmp_path / "set")
    tmp_path.chmod(0o700)


@pytest.mark.slow
def test_the_command_says_what_it_did_and_could_not_read(clear, tmp_path):
    outcome = run(
        *("synthesize", clear, "-o", tmp_path / "deep" / "set", "--kinds", "haze, cloud", "--severities", "0.1,0.8"),
        *("--limit", 3, "--seed", 5),
    )
    assert outcome.code == 1
    assert outcome.err.startswith(f"error: {clear}/b/broken.png: ")
    assert "12 synthetic images of 3 clear ones; README.txt" in outcome.err
    header, *lines = outcome.out.splitlines()
    assert header.split() == ["type", "mean", "depth", "pixels", "marked"]
    assert [line.split()[:2] for line in lines] == [
        *(["haze-0.1", "0.1"], ["haze-0.8", "0.8"], ["cloud-0.1", "0.1"], ["cloud-0.8", "0.8"])
    ]
    wrong = run("synthesize", clear, "-o", tmp_path / "other", "--severities", "much")
    assert (wrong.code, "takes numbers separated by commas" in wrong.err) == (2, True)
