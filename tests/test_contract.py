"""What every method promises. A method is in this suite by being registered."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image
from scipy import stats

import oddsight
from image_files import oriented
from oddsight import backbones, metrics
from oddsight.backbones.extraction import Extractor
from oddsight.data.collection import ImageFile, unpacked
from oddsight.data.images import content_hash, read_image
from oddsight.data.memory import plan_memory
from oddsight.detectors import METHODS
from oddsight.errors import DataError, MemoryBudgetError
from oddsight.model.calibration import p_values
from oddsight.model.result import Voice
from oddsight.runtime.parallel import cores
from textures import SIZE, texture, write_textures

RATE, SMALL_RATE = 0.1, 0.05
"""A quarter of 60 images is enough to calibrate the first; for the second, every image is calibrated on in turn."""

CLOSE = 1e-5
"""Relative difference allowed between two ways to run one graph (threads, batches)."""

TRAINED = {name for name, cls in METHODS.items() if cls.needs}
"""Methods that need PyTorch to learn; they are tested where it is."""

RETRAINED = {"feature-autoencoder", "deep-svdd", "patch-autoencoder"} | TRAINED
"""Methods that start from random weights: another seed is another network, whose scores have another scale."""

RESCALED = RETRAINED | {"auto"}
"""And those that measure the scale of scores on held-out images: another seed holds out others."""

SHORT = {
    "feature-autoencoder": {"steps": 150},
    "deep-svdd": {"steps": 150, "width": 64},
    "patch-autoencoder": {"steps": 100},
    **{
        name: {"epochs": 30, "batch_size": 16, "learning_rate": 3e-3, "widths": (8, 16, 16), "code": 16}
        for name in TRAINED - {"student-teacher"}
    },
    "f-anogan": {"epochs": 60, "batch_size": 16, "learning_rate": 5e-4, "widths": (16, 32), "code": 16},
    "dense-autoencoder": {"epochs": 60, "batch_size": 16, "learning_rate": 2e-3, "widths": (64,), "code": 16},
    "student-teacher": {"epochs": 15, "batch_size": 16, "learning_rate": 3e-3, "widths": (8, 16, 16)},
}
"""Settings that keep training short: promises hold however long a network was trained."""

READINGS = {"auto", "mahalanobis", "patchcore", "autoencoder"}
"""One method for each reading: where features come from is nothing that a method knows of."""

SIZES = [(96, 96), (37, 211), (1, 300), (301, 2), (640, 480), (1, 1)]
IMAGES = [texture(1000 + n, *size) for n, size in enumerate(SIZES)] + [
    texture(1100, material="bark"),
    texture(1101, blot=True),
    texture(0),  # which is among the training images
]


LONG = {"feature-autoencoder", "isolation-forest", "patch-autoencoder", "patch-gmm"}
"""Methods that learn for seconds; ``detectors/test_methods.py`` tests them while working, too."""


def marked(name, *marks):
    """A method; those that train a network are marked so."""
    slow = [pytest.mark.slow] if name in LONG else []
    return pytest.param(name, marks=[*marks, *slow, *([pytest.mark.train] if name in TRAINED else [])])


@pytest.fixture(scope="session", params=[marked(name) for name in sorted(METHODS)])
def method(request):
    return request.param


by_reading = pytest.mark.parametrize(
    "method",
    [marked(name, *([] if name in READINGS else [pytest.mark.slow])) for name in sorted(METHODS)],
    indirect=True,
    scope="session",
)
"""For what hardly depends on the method: while working, one of each reading is enough."""


def made(method):
    """The method of that name as this suite runs it."""
    return METHODS[method](**SHORT.get(method, {}))


@pytest.fixture(scope="session")
def model(method, normal_folder):
    return oddsight.fit(normal_folder, method=made(method), size=SIZE, false_alarm_rate=RATE)


@pytest.fixture(scope="session")
def crossed(method, normal_folder):
    return oddsight.fit(normal_folder, method=made(method), size=SIZE, false_alarm_rate=SMALL_RATE)


@pytest.fixture(scope="session")
def alone(model):
    """Each of IMAGES, scored alone."""
    return [model.predict(picture) for picture in IMAGES]


@pytest.fixture(scope="session")
def normal_scores(model):
    return np.array([model.predict(texture(seed)).score for seed in range(2000, 2040)])


def assert_same(result, other, tolerance=CLOSE):
    assert result.score == pytest.approx(other.score, rel=tolerance, abs=0)
    assert result.p_value == other.p_value
    assert (result.width, result.height, result.anomalous) == (other.width, other.height, other.anomalous)
    assert (result.map is None) == (other.map is None)
    if result.map is not None:
        np.testing.assert_allclose(result.map, other.map, rtol=tolerance)
    assert result.nearest == other.nearest
    assert_same_voices(result.voices, other.voices, tolerance)


def assert_same_voices(voices, others, tolerance=CLOSE):
    assert [voice.name for voice in voices] == [voice.name for voice in others]
    for voice, other in zip(voices, others, strict=True):
        assert voice.evidence == pytest.approx(other.evidence, rel=tolerance, abs=tolerance)
        assert voice.p_value == pytest.approx(other.p_value, rel=1e-6)


def plain_runtime(model):
    """The file in ONNX Runtime as anyone would run it."""
    return onnxruntime.InferenceSession(model.to_bytes(), providers=["CPUExecutionProvider"])


# 1. One graph, one score.


@pytest.mark.parametrize(
    "order", [pytest.param(1, marks=pytest.mark.slow, id="in order"), pytest.param(-1, id="reversed")]
)
@pytest.mark.parametrize("workers", [None, pytest.param(1, marks=pytest.mark.slow), 3])
def test_an_image_scores_the_same_among_others(model, alone, order, workers):
    together = list(model.predict_many(IMAGES[::order], workers=workers))
    assert len(together) == len(alone)
    for result, expected in zip(together, alone[::order], strict=True):
        assert_same(result, expected)


def test_few_images_score_the_same(model, alone):
    assert_same(next(iter(model.predict_many(IMAGES[:1]))), alone[0])


@by_reading
def test_an_image_scores_the_same_from_anywhere(model, alone, tmp_path):
    for picture, expected in zip(IMAGES, alone, strict=True):
        image = Image.fromarray(picture)
        image.save(tmp_path / "a.png")
        image.save(tmp_path / "a.tif")
        for source in (tmp_path / "a.png", str(tmp_path / "a.tif"), image, picture[:, ::-1][:, ::-1]):
            assert_same(model.predict(source), expected, 0)


@by_reading
def test_an_image_scores_the_same_after_save_and_load(model, alone, tmp_path):
    model.save(tmp_path / "model.onnx")
    loaded = oddsight.load(tmp_path / "model.onnx")
    assert loaded.to_bytes() == model.to_bytes()
    assert loaded.metadata == model.metadata
    for picture, expected in zip(IMAGES, alone, strict=True):
        assert_same(loaded.predict(picture), expected, 0)


def outputs(model):
    """Names of the outputs, in the documented order."""
    maps = ["anomaly_map"] if METHODS[model.metadata.method.name].localises else []
    voices = ["evidence", "voice_p_values"] if model.metadata.explanation.voices else []
    return ["score", "p_value", *maps, "nearest", *voices]


def assert_documented(model, values, number, result):
    """Values of plain ONNX Runtime, ``[N, ...]`` by name, say of image ``number`` what the result says."""
    assert values["score"][number] == pytest.approx(result.score, rel=CLOSE, abs=0)
    assert values["p_value"][number] == pytest.approx(result.p_value, rel=1e-6)
    if "anomaly_map" in values:
        np.testing.assert_allclose(values["anomaly_map"][number], result.map, rtol=CLOSE)
        assert values["anomaly_map"][number].max() == values["score"][number]
    assert unpacked(model.metadata.explanation.normals)[values["nearest"][number]] == result.nearest
    names = model.metadata.explanation.voices
    if names:
        columns = zip(names, values["evidence"][number], values["voice_p_values"][number], strict=True)
        voices = {name: Voice(name, float(evidence), float(p_value)) for name, evidence, p_value in columns}
        assert_same_voices(result.voices, [voices[voice.name] for voice in result.voices])


def test_plain_onnxruntime_gives_the_documented_outputs(model, alone):
    run = plain_runtime(model)
    assert [(i.name, i.type, len(i.shape)) for i in run.get_inputs()] == [("image", "tensor(uint8)", 4)]
    assert [output.name for output in run.get_outputs()] == outputs(model)
    assert (model.metadata.map_size is not None) == METHODS[model.metadata.method.name].localises
    voices = len(model.metadata.explanation.voices)
    documented = {
        "score": (np.float32, (1,)),
        "p_value": (np.float32, (1,)),
        "anomaly_map": (np.float32, (1, *(model.metadata.map_size or ()))),
        "nearest": (np.int64, (1,)),
        "evidence": (np.float32, (1, voices)),
        "voice_p_values": (np.float32, (1, voices)),
    }
    for picture, result in zip(IMAGES, alone, strict=True):
        values = dict(zip(outputs(model), run.run(None, {"image": picture[None]}), strict=True))
        assert {name: (array.dtype, array.shape) for name, array in values.items()} == {
            name: documented[name] for name in values
        }
        assert_documented(model, values, 0, result)


@by_reading
@pytest.mark.parametrize("size", [(96, 96), (37, 211), (301, 2)], ids=str)
def test_a_batch_in_plain_onnxruntime_scores_as_its_images_alone(model, size):
    batch = np.stack([texture(3000 + n, *size, material=m) for n, m in enumerate(("cloth", "bark", "cloth", "cloth"))])
    values = dict(zip(outputs(model), plain_runtime(model).run(None, {"image": batch}), strict=True))
    assert {len(array) for array in values.values()} == {4}
    for n, picture in enumerate(batch):
        assert_documented(model, values, n, model.predict(picture))


@by_reading
def test_a_normal_image_is_the_nearest_to_itself(model, method, normal_folder):
    normals = [read_image(path) for path in sorted(normal_folder.iterdir())]
    known = unpacked(model.metadata.explanation.normals)
    hashes = [content_hash(pixels)[:16] for pixels in normals]
    assert len(set(known)) == len(known) == model.metadata.training.images == len(set(known) & set(hashes))
    for own, result in zip(hashes, model.predict_many(normals), strict=True):
        assert result.nearest in known
        assert (result.nearest == own) == (own in known)
    names = made(method).voices(model.metadata.backbone.layers)
    assert model.metadata.explanation.voices == names


def test_the_strongest_voice_decides(model, alone):
    """The score is its evidence; for methods that decide as one there is none."""
    names = model.metadata.explanation.voices
    for result in alone:
        assert sorted(voice.name for voice in result.voices) == sorted(names)
        evidence = [voice.evidence for voice in result.voices]
        assert np.isfinite(evidence).all()
        assert evidence == sorted(evidence, reverse=True)
        assert all(0 < voice.p_value <= 1 for voice in result.voices)
        if names:
            assert evidence[0] == pytest.approx(result.score, rel=CLOSE)


def test_the_p_value_is_that_of_the_calibration_scores(model, alone):
    results = [*alone, *model.predict_many([texture(seed) for seed in range(2000, 2008)])]
    scores = np.array([result.score for result in results], np.float32)
    expected = p_values(model.calibration_scores, scores)
    assert [result.p_value for result in results] == pytest.approx(expected.tolist(), rel=1e-6)
    assert len(set(expected)) > 2


def test_the_score_is_the_highest_of_the_map_and_raw(model, alone):
    scores = [result.score for result in alone]
    assert np.isfinite(scores).all()
    assert len(set(scores)) == len(scores)
    for result in alone:
        if result.map is not None:
            assert result.map.max() == np.float32(result.score)
            assert result.map.shape == model.metadata.map_size


# 2. The same images and seed give the same file.


def scattered(folder: Path, to: Path) -> Path:
    """The same images under other names, in another order and in sub-folders."""
    for number, path in enumerate(sorted(folder.iterdir(), reverse=True)):
        place = to / f"part {number % 3}" / f"{number * 7919 % 1000}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return to


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["warm", "off"])
def test_same_images_and_seed_give_the_same_bytes(crossed, method, normal_folder, tmp_path, monkeypatch, cache):
    if cache == "off":
        if method not in READINGS:
            pytest.skip("tested for one method of each reading")
        monkeypatch.setenv("ODDSIGHT_CACHE", "off")
    folder = scattered(normal_folder, tmp_path)
    again = oddsight.fit(folder, method=made(method), size=SIZE, false_alarm_rate=SMALL_RATE)
    assert (crossed.metadata.calibration.kind, crossed.metadata.calibration.images) == ("cross", 60)
    assert again.to_bytes() == crossed.to_bytes()


@pytest.mark.slow
def test_another_seed_changes_only_what_is_random(crossed, method, normal_folder):
    model = crossed
    other = oddsight.fit(normal_folder, method=made(method), size=SIZE, false_alarm_rate=SMALL_RATE, seed=1)
    assert other.metadata.training.seed == 1
    same = {"seed": 0, "curves": model.metadata.training.curves}
    assert other.metadata.training.model_copy(update=same) == model.metadata.training
    assert not np.array_equal(other.calibration_scores, model.calibration_scores)
    if method in RESCALED:
        images = [*IMAGES[:-1], *(texture(seed) for seed in range(2000, 2020))]
        scores, others = ([result.score for result in each.predict_many(images)] for each in (model, other))
        # What stays is the order of images; unrelated orders of 28 would reach 0.8 once in millions, and 0.6, which is
        # asked of networks that were trained for some steps only, once in thousands.
        assert stats.spearmanr(scores, others).statistic > (0.6 if method in TRAINED else 0.8)
        return
    # Other folds, and for some methods another start: calibration moves a little, scores hardly.
    np.testing.assert_allclose(np.median(other.calibration_scores), np.median(model.calibration_scores), rtol=0.1)
    for picture in IMAGES[:-1]:
        assert other.predict(picture).score == pytest.approx(model.predict(picture).score, rel=0.05)


@by_reading
def test_another_decision_changes_no_score(model, alone):
    assert model.with_decision(false_alarm_rate=RATE).to_bytes() == model.to_bytes()
    always = model.with_decision(threshold=0.99 * min(result.score for result in alone))
    for picture, result in zip(IMAGES, alone, strict=True):
        moved = always.predict(picture)
        assert (moved.score, moved.p_value, moved.false_alarm_rate) == (result.score, result.p_value, None)
        assert moved.anomalous
    with pytest.raises(DataError, match="at least 999 calibration images"):
        model.with_decision(false_alarm_rate=0.001)


# 3. The alarm rate is the one asked for.


@pytest.fixture(scope="session")
def calibration_folders(tmp_path_factory):
    """Folders of other normal images, by the seed of their first."""
    folder = tmp_path_factory.mktemp("calibration")
    for start, count in ((4000, 160), (6000, 30), (6100, 30), (6200, 30)):
        write_textures(folder / str(start), range(start, start + count))
    return folder


@pytest.mark.slow
def test_split_calibration_gives_uniform_p_values(method, calibration_folders):
    folder = calibration_folders / "4000"
    model = oddsight.fit(folder, method=made(method), size=SIZE, false_alarm_rate=0.1, calibration_fraction=0.5)
    assert (model.metadata.calibration.kind, model.metadata.calibration.images) == ("split", 80)
    fresh = list(model.predict_many([texture(seed) for seed in range(5000, 5300)]))
    n, m, alarms = 80, len(fresh), sum(result.anomalous for result in fresh)
    # The calibration images are random too: the number of alarms is beta-binomial. One false failure in 1,000.
    k = int(0.1 * (n + 1))
    low, high = stats.betabinom(m, k, n + 1 - k).ppf([0.0005, 0.9995])
    assert low <= alarms <= high
    # And so the distance from the uniform is that of two samples (Kolmogorov and Smirnov), again at 1 in 1,000.
    p = np.array([result.p_value for result in fresh])
    grid = np.arange(1, n + 2) / (n + 1)
    distance = max(abs(float((p <= u + 1e-6).mean()) - u) for u in grid)
    assert distance <= np.sqrt(-np.log(0.001 / 2) / 2 * (n + m) / (n * m)) + 1 / (n + 1)


@pytest.mark.slow
def test_cross_calibration_does_not_alarm_too_often(method, calibration_folders):
    fresh = [texture(seed) for seed in range(7000, 7100)]
    alarms = 0
    # Learning takes long where a network is trained: one calibration has to do.
    starts = (6000,) if method in TRAINED else (6000, 6100, 6200)
    for start in starts:
        model = oddsight.fit(calibration_folders / str(start), method=made(method), size=SIZE, false_alarm_rate=0.1)
        assert (model.metadata.calibration.kind, model.metadata.calibration.images) == ("cross", 30)
        alarms += sum(result.anomalous for result in model.predict_many(fresh))
    # Independent calibrations, each with beta-binomial alarms at k = floor(0.1 * 31); one failure in 1,000.
    simulated = stats.betabinom(100, 3, 28).rvs((len(starts), 20000), random_state=0).sum(axis=0)
    assert alarms <= np.quantile(simulated, 0.999)


@pytest.mark.slow
def test_other_material_scores_higher_than_any_normal_image(model, normal_scores):
    other = [model.predict(texture(seed, material="bark")) for seed in range(20)]
    assert min(result.score for result in other) > normal_scores.max()
    assert all(result.anomalous for result in other)
    smallest = 1 / (len(model.calibration_scores) + 1)
    assert [result.p_value for result in other] == pytest.approx([smallest] * len(other), rel=1e-6)


@pytest.mark.slow
def test_a_blot_is_found(model, normal_scores):
    blotted = np.array([model.predict(texture(seed, blot=True)).score for seed in range(2000, 2040)])
    assert metrics.auroc(normal_scores, blotted) > 0.9


# 4. Regions.


@by_reading
def test_flagged_images_have_regions_and_normal_ones_none(model):
    images = [*IMAGES, *(texture(seed, 120, 80, blot=True) for seed in range(10))]
    # Half of them, whatever the method thinks of blots: that is asked elsewhere.
    model = model.with_decision(threshold=float(np.median([model.predict(picture).score for picture in images])))
    flagged = 0
    for picture in images:
        result = model.predict(picture)
        flagged += result.anomalous
        assert bool(result.regions) == (result.anomalous and METHODS[model.metadata.method.name].localises)
        for region in result.regions:
            left, top, right, bottom = region.bbox
            assert 0 <= left < right <= result.width
            assert 0 <= top < bottom <= result.height
            assert 1 <= region.area <= (right - left) * (bottom - top)
            assert model.decision.threshold < region.peak <= result.score
        if result.regions:
            assert result.regions[0].peak == pytest.approx(result.score, rel=1e-6)
    assert flagged == len(images) // 2


# 5. Any image.

ONE = texture(8000, 60, 40)
GREY = ONE[..., 0]
DEEP = GREY.astype(np.uint16) * 250 + 77
ALPHA = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))
TRANSPARENT = Image.fromarray(np.dstack([ONE, ALPHA]))
PALETTE = Image.fromarray(ONE).quantize(16)
CMYK = Image.fromarray(ONE).convert("CMYK")


def rgb(image):
    return np.asarray(image.convert("RGB"))


# What is saved, its suffix and options, and the pixels that it stands for.
KINDS = {
    "one pixel": (ONE[:1, :1], ".png", {}, ONE[:1, :1]),
    "constant": (np.full((30, 20, 3), 200, np.uint8), ".png", {}, np.full((30, 20, 3), 200, np.uint8)),
    "black": (np.zeros((30, 20, 3), np.uint8), ".png", {}, np.zeros((30, 20, 3), np.uint8)),
    "greyscale": (GREY, ".png", {}, np.dstack([GREY] * 3)),
    "alpha": (
        TRANSPARENT,
        ".png",
        {},
        rgb(Image.alpha_composite(Image.new("RGBA", TRANSPARENT.size, "white"), TRANSPARENT)),
    ),
    "palette": (PALETTE, ".png", {}, rgb(PALETTE)),
    "cmyk": (CMYK, ".tif", {}, rgb(CMYK)),
    "16-bit": (DEEP, ".png", {}, np.dstack([np.round(DEEP / 257).astype(np.uint8)] * 3)),
    "rotated": (ONE, ".png", {"exif": oriented(6)}, np.rot90(ONE, -1)),
    "animated": (
        ONE,
        ".webp",
        {"save_all": True, "append_images": [Image.fromarray(255 - ONE)], "lossless": True},
        ONE,
    ),
}


@by_reading
@pytest.mark.parametrize("kind", KINDS)
def test_any_image_scores_as_its_rgb_pixels(model, tmp_path, kind):
    picture, suffix, options, pixels = KINDS[kind]
    path = tmp_path / f"image{suffix}"
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    result = model.predict(path)
    assert np.isfinite(result.score)
    assert 0 < result.p_value <= 1
    assert_same(result, model.predict(pixels), 0)


# 6. What cannot be learned from is refused, in one line.


def empty(folder):
    pass


def only_text(folder):
    for name in ("a.txt", "b.png", "c.jpg"):
        (folder / name).write_text("not an image")


def all_identical(folder):
    for number in range(20):
        Image.fromarray(ONE).save(folder / f"{number}.png")


def twenty_images(folder):
    write_textures(folder, range(20))


UNFIT = [
    (empty, {}, "no images"),
    (only_text, {}, "none of 2 files could be read"),
    (all_identical, {}, "all 20 images .* identical"),
    (twenty_images, {"false_alarm_rate": 0.01}, "at least 99 calibration images, and there are 20"),
    (
        twenty_images,
        {"false_alarm_rate": 0.1, "calibration_fraction": 0.25},
        "at least 9 calibration images, and there are 5",
    ),
    (twenty_images, {"calibration_fraction": 0.7}, "6 of 20 images are left to train on when 70%.* at least 8"),
    (twenty_images, {"false_alarm_rate": 1.0}, "between 0 and 1"),
    (twenty_images, {"false_alarm_rate": float("nan")}, "between 0 and 1"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("make", "settings", "message"), UNFIT)
def test_what_cannot_be_learned_from_is_refused(method, tmp_path, make, settings, message):
    make(tmp_path)
    with pytest.raises(DataError, match=message) as error:
        oddsight.fit(tmp_path, method=made(method), size=SIZE, **settings)
    assert "\n" not in str(error.value)


# 7. Copies never sit on both sides.


@pytest.mark.slow
def test_copies_stay_on_one_side(model, method, normal_folder, tmp_path):
    for number, path in enumerate(sorted(normal_folder.iterdir())):
        shutil.copy(path, tmp_path / f"{(number + 30) % 60}.png")
        Image.open(path).save(tmp_path / f"again {number}.{('bmp', 'tif', 'webp')[number % 3]}", lossless=True)
    plans = []
    settings = {"method": made(method), "size": SIZE, "false_alarm_rate": RATE, "calibration_fraction": 0.4}
    copied = oddsight.fit(tmp_path, **settings, on_plan=plans.append)
    [plan] = plans
    training, held = ({content_hash(read_image(i.path)) for i in side} for side in (plan.training, plan.calibration))
    assert (len(training), len(held), len(training | held)) == (36, 24, 60)
    assert plan.duplicates == copied.metadata.training.duplicates == 60
    # The copies change nothing at all.
    once = oddsight.fit(normal_folder, **settings)
    assert copied.metadata.graph_sha256 == once.metadata.graph_sha256
    assert copied.metadata.training.fingerprint == model.metadata.training.fingerprint


# 8. Memory, and what is imported.

FIT = """
import json, sys
import oddsight
from oddsight.detectors import METHODS

folder, name, settings, size, budget = sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), *map(int, sys.argv[4:6])
plans, method = [], METHODS[name](**settings)
model = oddsight.fit(folder, method=method, size=size, memory=budget, calibration_fraction=0.25, on_plan=plans.append)
model.predict(sys.argv[6])
# Not ru_maxrss: on Linux it starts at the size of the process that started this one.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) * 1024
print(json.dumps({"peak": peak, "modules": sorted(sys.modules)}))
"""

HEAVY = ("torch", "torchvision", "lightning", "timm")


@pytest.fixture(scope="session")
def traps(tmp_path_factory):
    """A folder of packages that stand for the heavy ones, so that importing them would succeed and show."""
    folder = tmp_path_factory.mktemp("traps")
    for name in HEAVY:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("")
    return folder


def run(script, traps, *arguments):
    environment = os.environ | ({"PYTHONPATH": str(traps)} if traps is not None else {})
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="session")
def many_folders(tmp_path_factory):
    """40 images, and 160."""
    folder = tmp_path_factory.mktemp("many")
    return {
        count: (write_textures(folder / str(count), range(9000, 9000 + count)), folder / str(count))[1]
        for count in (40, 160)
    }


def budget_for(method, size, count):
    """The smallest budget that a fit accepts."""
    chosen = made(method)
    network = backbones.backbone(backbones.suited(chosen.reads))
    extractor = Extractor(network, network.default_layers(chosen.reads, chosen.stride), size, chosen.reads)
    needs = {"activations": network.activations, "weights": network.memory(extractor.stages)}
    left = plan_memory(10**12, [ImageFile(Path(), "", 96, 96)], size, **needs).method
    return 10**12 - left + chosen.memory_needed(extractor.shape, count)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_memory_stays_within_the_budget_however_many_images(method, many_folders, traps):
    # Networks take long with many pixels; and what a step frees is kept, in pieces that may not fit the next.
    size, whims = (128, 250e6) if method in TRAINED else (256, 55e6)  # runs of one kind differ by up to 45 MB
    peaks, budgets = {}, {}
    # What 120 more embeddings or small images take is less than the allocator's whims: one count says all.
    counts = [160] if METHODS[method].reads in {"embedding", "pixels"} else [40, 160]
    for count in counts:
        folder = many_folders[count]
        budgets[count] = budget_for(method, size, count)
        settings = json.dumps(SHORT.get(method, {}) | ({"epochs": 12} if method in TRAINED else {}))
        around = None if method in TRAINED else traps
        seen = run(FIT, around, folder, method, settings, size, budgets[count], folder / "09000.png")
        peaks[count] = seen["peak"]
        assert method in TRAINED or not set(HEAVY).intersection(seen["modules"])
    assert all(peaks[count] <= budgets[count] for count in peaks), (peaks, budgets)
    # Four times the images: what the method says it needs more, and the allocator's whims.
    assert 40 not in peaks or peaks[160] <= peaks[40] + (budgets[160] - budgets[40]) + whims, (peaks, budgets)


def test_a_budget_too_small_is_refused_before_the_work(method, normal_folder):
    plans, phases = [], set()
    settings = {"method": made(method), "size": SIZE, "on_plan": plans.append}
    # With less memory than for a network on every core, one runs at a time.
    network = backbones.backbone(backbones.suited(METHODS[method].reads))
    least = budget_for(method, SIZE, 60) - (cores() - 1) * SIZE**2 * network.activations
    for budget, message in (("1MB", "too small"), (least - 1000, "raise the memory budget")):
        with pytest.raises(MemoryBudgetError, match=message):
            oddsight.fit(
                normal_folder, memory=budget, progress=lambda phase, done, total: phases.add(phase), **settings
            )
    assert plans == []
    assert phases == {"reading"}


def test_importing_oddsight_is_light(traps):
    modules = run("import json, sys, oddsight; print(json.dumps(sorted(sys.modules)))", traps)
    light = {*HEAVY, "sklearn", "matplotlib", "scipy", "onnxruntime", "onnx", "pandas"}
    assert not light.intersection(modules)
    assert "oddsight" in modules
