"""Methods that train a network on pixels: what they promise beside the contract of all methods."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

import cli_files
import oddsight
from cloud_files import write_scenes
from oddsight.detectors import METHODS
from oddsight.detectors.autoencoders import LOSSES, Autoencoder
from oddsight.detectors.student_teacher import StudentTeacher
from oddsight.errors import DataError, MemoryBudgetError, OddsightError
from oddsight.graphs.maps import scaled_map
from oddsight.runtime.sessions import run, session
from oddsight.scenes import predict_scene
from textures import texture, write_textures

pytestmark = pytest.mark.train

BRIEF = {"epochs": 6, "batch_size": 16, "learning_rate": 3e-3, "widths": (8, 16), "code": 8}
FIT = {"groups": "none", "size": 32, "false_alarm_rate": 0.1, "calibration_fraction": 0.3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("normal")
    write_textures(folder, range(40))
    return folder


def fitted(folder, method=None, **options):
    return oddsight.fit(folder, method=method or Autoencoder(**BRIEF), **{**FIT, **options})


def colours(value, noise, count=40):
    """Images of one colour with some noise, ``[n, 32, 32, 3]``."""
    lots = np.random.default_rng(value)
    return np.clip(value + noise * lots.standard_normal((count, 32, 32, 3)), 0, 255).astype(np.uint8)


def waves(seed):
    """A smooth image, ``[32, 32, 3]``, of which structure can be learned."""
    lots = np.random.default_rng(seed)
    rows, columns = np.mgrid[:32, :32] / 32
    height = np.sin(6 * (rows + lots.random())) * np.cos(6 * (columns + lots.random()))
    return (127 + 90 * height[..., None] * lots.uniform(0.5, 1, 3)).astype(np.uint8)


def put(folder, images):
    folder.mkdir()
    for number, pixels in enumerate(images):
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


# Errors of images, and what the file makes of them.


@pytest.mark.parametrize("loss", LOSSES)
def test_the_score_is_the_error_that_was_asked_for(tmp_path, loss):
    import torch

    from oddsight.training.reconstruction import Errors

    lots = np.random.default_rng(0)
    first, second = (lots.random((1, 3, 9, 9)).astype(np.float32) for _ in range(2))
    found = Errors(loss)(torch.from_numpy(first), torch.from_numpy(second)).numpy()
    square, absolute = np.square(first - second).mean(1), np.abs(first - second).mean(1)
    if "ssim" not in loss:
        np.testing.assert_allclose(found[:, 0], square if loss == "mse" else absolute, rtol=1e-5)
        return
    same = Errors(loss)(torch.from_numpy(first), torch.from_numpy(first)).numpy()
    assert np.abs(same).max() < 1e-6
    # In flat images only the means differ, and the definition is short.
    flat = [torch.full((1, 3, 9, 9), value) for value in (0.2, 0.7)]
    expected = (1 - (2 * 0.2 * 0.7 + 1e-4) / (0.2**2 + 0.7**2 + 1e-4)) / 2 + (0.25 if loss == "mse+ssim" else 0)
    np.testing.assert_allclose(Errors(loss)(*flat).numpy(), expected, rtol=1e-4)
    # An image and its negative have a covariance of minus the variance.
    assert Errors("ssim")(torch.from_numpy(first), 1 - torch.from_numpy(first)).mean() > 0.5
    folder = put(tmp_path / "waves", map(waves, range(60)))
    model = fitted(folder, Autoencoder(**{**BRIEF, "epochs": 60}, loss=loss))
    assert model.predict(texture(1, material="bark")).score > model.predict(waves(100)).score


def test_a_scaled_map_has_the_mean_error_as_its_maximum():
    errors = np.random.default_rng(1).random((3, 12, 10)).astype(np.float32)
    errors[2] = 0
    loaded = session(scaled_map(12, 10, 1.0).SerializeToString(), threads=1)
    score, places = run(loaded, {"errors": errors}, "noise")
    np.testing.assert_allclose(score, errors.mean(axis=(1, 2)), rtol=1e-5)
    np.testing.assert_array_equal(score, places.max(axis=(1, 2)))
    by = session(scaled_map(12, 10, 1.0, by="raw").SerializeToString(), threads=1)
    score, more = run(by, {"errors": errors, "raw": np.array([5, 7, 0], np.float32)}, "noise")
    np.testing.assert_allclose(score, [5, 7, 0], rtol=1e-5)
    np.testing.assert_allclose(more[0] / more[0].max(), places[0] / places[0].max(), rtol=1e-5)


def test_the_mean_squared_error_is_that_of_pixels_from_0_to_1(tmp_path):
    """A network that has learned one grey errs by the square of the distance from it."""
    normal = put(tmp_path / "grey", colours(100, 6))
    model = fitted(normal, Autoencoder(**{**BRIEF, "epochs": 60}))
    dark = model.predict(np.full((32, 32, 3), 20, np.uint8)).score
    assert model.predict(np.full((32, 32, 3), 100, np.uint8)).score < 0.01
    assert 0.2 * (80 / 255) ** 2 < dark < 1.5 * (80 / 255) ** 2


# What goes wrong is said.


def test_too_few_images_are_refused(tmp_path):
    write_textures(tmp_path, range(20))
    with pytest.raises(DataError, match=r"a network, which needs at least 16 images .* there are 14: add images, or"):
        fitted(tmp_path, false_alarm_rate=0.2)


def test_a_loss_that_diverges_is_an_error_with_advice(folder):
    from oddsight.detectors.gans import FAnoGAN

    method = FAnoGAN(epochs=40, batch_size=8, learning_rate=1e30, widths=(8, 16), code=8)
    with pytest.raises(OddsightError, match=r"no longer a finite number: choose a learning rate below 1e\+30"):
        fitted(folder, method)


def test_a_network_that_says_the_same_of_all_is_refused(folder):
    method = Autoencoder(epochs=3, batch_size=16, learning_rate=1e-12, widths=(8, 16), code=8)
    with pytest.raises(OddsightError, match=r"autoencoder collapsed: .* of their variation.*train for more epochs"):
        fitted(folder, method)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "efficientnet-lite0"}, "reads pixels .* leave out the backbone efficientnet-lite0"),
        ({"layers": ["stage3"]}, "no layer 'stage3'"),
        ({"size": 40}, "the size for autoencoder must be a multiple of 16, not 40"),
        ({"accelerator": "abacus"}, "no accelerator abacus"),
        ({"memory": "700MB"}, "raise the memory budget"),
    ],
)
def test_options_that_cannot_work_are_refused(folder, options, message):
    with pytest.raises(OddsightError, match=message):
        fitted(folder, **options)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("autoencoder", {"code": 0}, "code must be a whole number"),
        ("autoencoder", {"widths": ()}, "widths must name at least one layer"),
        ("autoencoder", {"widths": (8, 0)}, "width 2 must be a whole number"),
        ("autoencoder", {"loss": "hinge"}, "no loss 'hinge'"),
        ("autoencoder", {"augment": ("fold",)}, "no augmentation 'fold'"),
        ("autoencoder", {"epochs": -1}, "epochs must be a whole number of 0 or more"),
        ("variational-autoencoder", {"beta": 0}, "beta must be above 0"),
        ("denoising-autoencoder", {"noise": -1}, "noise must be above 0"),
        ("ganomaly", {"share": 1.5}, "share must be above 0 and below 1"),
        ("f-anogan", {"widths": (8,) * 5}, "widths must name one layer to 4"),
        ("f-anogan", {"kappa": float("nan")}, "kappa must be 0 or more"),
        ("student-teacher", {"widths": (8,)}, "widths must name three layers"),
        ("student-teacher", {"hard": 0}, "hard must be above 0 and below 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(name, settings, message):
    with pytest.raises(OddsightError, match=message):
        METHODS[name](**settings)


def test_an_image_that_is_halved_too_often_is_refused(folder):
    with pytest.raises(OddsightError, match="6 widths halve an image of 32 pixels too often"):
        fitted(folder, Autoencoder(epochs=1, widths=(4,) * 6))


def test_the_default_budget_is_enough_and_a_gigabyte_is_not(folder):
    assert fitted(folder).metadata.training.curves
    with pytest.raises(MemoryBudgetError):
        fitted(folder, memory="700MB")


# Trainings go on, and leave curves.


def test_an_interrupted_training_goes_on_to_the_same_file(folder, tmp_path):
    def stop(row):
        if row.epoch == 3:
            raise KeyboardInterrupt

    whole = fitted(folder)
    with pytest.raises(KeyboardInterrupt):
        fitted(folder, work=tmp_path, on_epoch=stop)
    epochs = []
    again = fitted(folder, work=tmp_path, on_epoch=lambda row: epochs.append(row.epoch))
    assert epochs == [4, 5, 6]
    assert again.to_bytes() == whole.to_bytes()
    with pytest.raises(OddsightError, match="use the same settings, or name another folder"):
        fitted(folder, Autoencoder(**{**BRIEF, "code": 9}), work=tmp_path)


@pytest.mark.parametrize("name", ["ganomaly", "f-anogan"])
def test_both_sides_of_a_gan_have_curves(folder, name):
    model = fitted(folder, METHODS[name](**{**BRIEF, "epochs": 40, "learning_rate": 1e-3}))
    assert len(model.curves) == 40
    assert all({"generator", "discriminator"} <= row.losses.keys() for row in model.curves)
    assert all(np.isfinite(list(row.losses.values())).all() for row in model.curves)


def test_each_fold_of_a_calibration_has_a_training_of_its_own(folder, tmp_path):
    model = fitted(folder, calibration_fraction=0, work=tmp_path)
    assert model.metadata.calibration.kind == "cross"
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [*(f"fold-{number}-of-5" for number in range(1, 6)), "learning"]


def test_the_student_s_map_is_the_teacher_s_grid(folder):
    model = fitted(folder, StudentTeacher(epochs=4, batch_size=16, widths=(8, 16, 16)), size=64)
    assert model.metadata.map_size == (8, 8)
    assert model.metadata.backbone.name == "pixels"
    assert model.metadata.method.settings["teacher"] == "efficientnet-lite0"


def test_models_of_networks_keep_words_and_decisions(folder):
    model = fitted(folder, verdicts=("cloth", "not cloth"))
    assert model.metadata.schema_version == 7
    assert oddsight.Model.from_bytes(model.to_bytes()).predict(texture(1, material="bark")).verdict == "not cloth"
    plain = model.with_verdicts("normal", "anomalous")
    assert (plain.metadata.schema_version, plain.metadata.verdicts) == (7, None)
    assert plain.with_decision(false_alarm_rate=0.2).curves == model.curves


# The command.


def test_the_command_sets_shows_and_keeps(folder, tmp_path):
    model, table, image = tmp_path / "m.onnx", tmp_path / "curves.csv", tmp_path / "curves.png"
    settings = ["epochs=5", "widths=8,16", "code=8", "loss=l1", "augment=flip,crop", "learning_rate=0.003"]
    chosen = [word for setting in settings for word in ("--set", setting)]
    options = ["--false-alarm-rate", "0.1", "--calibration-fraction", "0.3", "--work", tmp_path / "work"]
    command = ["fit", folder, "-o", model, "--method", "autoencoder", "--size", "32", *chosen, *options]
    outcome = cli_files.run(*command, "--curves", table, "--curves", image)
    assert outcome.code == 0, outcome.err
    assert "epoch 1: training loss" in outcome.err
    kept = oddsight.load(model)
    given = {"widths": [8, 16], "loss": "l1", "epochs": 5, "augment": ["flip", "crop"], "code": 8}
    assert given.items() <= kept.metadata.method.settings.items()
    rows = list(csv.DictReader(table.open()))
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3, 4, 5]
    assert float(rows[2]["train_loss"]) == kept.curves[2].train_loss
    assert Image.open(image).format == "PNG"
    assert cli_files.run("predict", model, folder, "--quiet").code in (0, 3)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs=many", "epochs must be a whole number, not 'many'"),
        ("learning_rate=x", "learning_rate must be a number, not 'x'"),
        ("widths=8,x", "widths must be a whole number, not 'x'"),
        ("depth=3", "has no setting 'depth=3': write NAME=VALUE; there are"),
        ("epochs", "has no setting 'epochs'"),
    ],
)
def test_settings_that_are_none_are_refused_in_a_sentence(folder, tmp_path, setting, message):
    outcome = cli_files.run("fit", folder, "-o", tmp_path / "m.onnx", "--method", "autoencoder", "--set", setting)
    cli_files.assert_failed(outcome, message)


@pytest.mark.parametrize("name", ["autoencoder", "f-anogan", "student-teacher"])
def test_a_scene_is_cut_and_its_blot_is_where_it_is(folder, name):
    """Maps of networks are put together like all others."""
    settings = {"epochs": 40, "batch_size": 16, "learning_rate": 1e-3, "widths": (16, 32, 32), "code": 16}
    method = METHODS[name](**{key: value for key, value in settings.items() if hasattr(METHODS[name](), key)})
    model = fitted(folder, method, size=64)
    pixels = np.tile(texture(2, 96, 96), (2, 3, 1))
    pixels[20:60, 200:240] = 255
    result = predict_scene(model, pixels, tile=96, overlap=16)
    assert (result.width, result.height) == (288, 192)
    row, column = np.unravel_index(np.argmax(result.map), result.map.shape)
    height, width = result.map.shape
    assert 10 <= (row + 0.5) * 192 / height <= 70
    assert 190 <= (column + 0.5) * 288 / width <= 250
    assert result.map.max() == pytest.approx(result.score, rel=1e-5)


def test_the_study_of_clouds_takes_a_network(tmp_path):
    data = write_scenes(tmp_path / "data", {"cloudy": 50, "sand": 40})
    output = tmp_path / "out"
    command = ["study", "clouds", "--data", data, "-o", output, "--methods", "autoencoder,knn", "--seeds", "0"]
    command += [
        "--normal",
        "cloudy",
        "--size",
        "32",
        "--ship",
        "knn",
        "--severity-methods",
        "none",
        "--false-alarm-rate",
        "0.2",
    ]
    outcome = cli_files.run(*command)
    assert outcome.code == 0, outcome.err
    curves = list(csv.DictReader((output / "curves.csv").open()))
    assert {row["method"] for row in curves} == {"autoencoder"}
    ways = list(csv.DictReader((output / "thresholds.csv").open()))
    assert {row["way"] for row in ways if row["method"] == "autoencoder"} == {"by hand", "mean + 3 sd", "conformal"}
    scenes = [row for row in csv.DictReader((output / "scenes.csv").open()) if row["method"] == "autoencoder"]
    assert scenes
    assert not any(row["error"] for row in scenes)
    # What was trained is taken from the folder.
    again = cli_files.run(*command)
    assert again.code == 0
    assert "epoch 1" in outcome.err
    assert "epoch 1" not in again.err
