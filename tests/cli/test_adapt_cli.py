"""What of `oddsight adapt` needs no PyTorch: its options and errors, its images, its curves."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from cli_files import assert_failed, run
from oddsight.drawing.class_figures import draw_curves
from oddsight.drawing.learning_curves import write_curves
from oddsight.errors import DataError, OddsightError
from oddsight.model.curves import Epoch, best
from oddsight.training import libraries
from oddsight.training.settings import AdaptationSettings, is_finished
from oddsight.training.training_images import gather, has_class_folders
from textures import texture, write_textures

CURVES = [
    Epoch(1, 1.5, 1.4, 0.25, 1e-4, 2.0),
    Epoch(2, 1.2, 1.1, 0.5, 5e-5, 2.0),
    Epoch(3, 1.0, 1.3, 0.5, 0.0, 2.0),
]


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Two folders of 12 images each."""
    folder = tmp_path_factory.mktemp("classes")
    for material in ("cloth", "bark"):
        write_textures(folder / material, range(12), width=32, height=32, material=material)
    return folder


KNOWN = AdaptationSettings(
    backbone="efficientnet-lite0",
    objective="classes",
    epochs=3,
    learning_rate=1e-4,
    batch_size=8,
    size=32,
    freeze=None,
    augment=("flip", "crop"),
    patience=2,
    validation=0.1,
    precision="32-true",
    seed=0,
)


def test_without_pytorch_the_command_says_what_to_install(classes, tmp_path, monkeypatch):
    monkeypatch.setattr(libraries, "find_spec", lambda name: None)
    outcome = run("adapt", classes, "-o", tmp_path / "own.onnx")
    assert_failed(outcome, "pip install 'oddsight[train]'")
    assert not (tmp_path / "own.onnx").exists()


def test_curves_of_another_kind_are_refused_before_the_work(classes, tmp_path):
    assert_failed(
        run("adapt", classes, "-o", tmp_path / "own.onnx", "--curves", tmp_path / "curves.gif"), ".csv or .png"
    )


@pytest.mark.parametrize(
    "changed, said",
    [
        ({"objective": "jigsaw"}, "no objective 'jigsaw': there are classes, rotation, simsiam"),
        ({"augment": ("noise",)}, "no augmentation 'noise'"),
        ({"precision": "16-true"}, "no precision '16-true'"),
        ({"objective": "rotation", "augment": ("rotation",)}, "leave rotation out"),
        ({"objective": "simsiam", "augment": ("flip",)}, "needs crop or colour"),
        ({"objective": "simsiam", "batch_size": 1}, "batch size of 2 or more"),
        ({"epochs": 0}, "number of epochs must be 1 or more"),
        ({"patience": 0}, "patience must be 1 or more"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"learning_rate": float("nan")}, "learning rate must be above 0"),
        ({"learning_rate": 0.0}, "learning rate must be above 0"),
        ({"validation": 0.0}, "validation share must be above 0"),
        ({"validation": 1.0}, "below 1"),
    ],
)
def test_settings_that_cannot_work(changed, said):
    with pytest.raises(OddsightError, match=said):
        replace(KNOWN, **changed)


def test_classes_are_folders_and_each_has_images_on_both_sides(classes):
    assert has_class_folders([classes])
    images = gather([classes], labelled=True, validation=0.1, seed=0)
    assert images.classes == ("bark", "cloth")
    labelled = zip(images.training.images, images.training.labels.tolist(), strict=True)
    assert {(image.path.parent.name, index) for image, index in labelled} == {("bark", 0), ("cloth", 1)}
    assert sorted(images.validation.labels.tolist()) == [0, 0, 1, 1]
    everything = [image.content for image in (*images.training.images, *images.validation.images)]
    assert len(everything) == len(set(everything)) == 24


def test_the_division_follows_content_not_names(classes, tmp_path):
    renamed = tmp_path / "renamed"
    for number, path in enumerate(sorted(classes.rglob("*.png"), reverse=True)):
        (renamed / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, renamed / path.parent.name / f"{number}.png")
    one, other = (gather([root], labelled=True, validation=0.2, seed=3) for root in (classes, renamed))
    held = [[image.content for image in images.validation.images] for images in (one, other)]
    assert held[0] == held[1]
    assert one.fingerprint == other.fingerprint
    moved = next((renamed / "bark").iterdir())
    moved.rename(renamed / "cloth" / moved.name)
    assert gather([renamed], labelled=True, validation=0.2, seed=3).fingerprint != one.fingerprint
    unlabelled = gather([classes], labelled=False, validation=0.2, seed=3)
    assert unlabelled.classes == () and unlabelled.fingerprint != one.fingerprint


def test_one_folder_and_images_beside_folders_are_no_classes(classes, tmp_path):
    assert not has_class_folders([classes / "bark"])
    assert not has_class_folders([next((classes / "bark").iterdir())])
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "read.txt").write_text("no image")
    shutil.copytree(classes / "bark", tmp_path / "bark")
    assert not has_class_folders([tmp_path])
    shutil.copytree(classes / "cloth", tmp_path / "cloth")
    assert has_class_folders([tmp_path])
    Image.fromarray(texture(1)).save(tmp_path / "beside.png")
    assert not has_class_folders([tmp_path])
    with pytest.raises(DataError, match="in no folder that names its class"):
        gather([tmp_path], labelled=True, validation=0.1, seed=0)


def test_a_folder_with_test_images_is_refused(classes, tmp_path):
    for part in ("train", "test"):
        shutil.copytree(classes, tmp_path / part)
    with pytest.raises(DataError, match="training and test images"):
        gather([tmp_path], labelled=False, validation=0.1, seed=0)


def test_too_few(classes, tmp_path):
    few = write_textures(tmp_path / "few", range(7))
    with pytest.raises(DataError, match="holds 7 distinct images, and adapting a backbone needs at least 8"):
        gather(few, labelled=False, validation=0.1, seed=0)
    shutil.copytree(classes / "bark", tmp_path / "one" / "bark")
    with pytest.raises(DataError, match="one class, bark"):
        gather([tmp_path / "one"], labelled=True, validation=0.1, seed=0)
    write_textures(tmp_path / "one" / "cloth", range(1))
    with pytest.raises(DataError, match=r"class cloth in .* has one distinct image"):
        gather([tmp_path / "one"], labelled=True, validation=0.1, seed=0)
    with pytest.raises(DataError, match="leaves no images to train on"):
        gather([classes], labelled=True, validation=0.99, seed=0)


def test_one_image_in_two_classes(classes, tmp_path):
    shutil.copytree(classes, tmp_path / "both")
    shutil.copy(classes / "bark" / "00003.png", tmp_path / "both" / "cloth" / "copy.png")
    with pytest.raises(DataError, match=r"bark.00003.png and .*copy.png are the same image in different classes|"
                                        r"copy.png and .*00003.png are the same image"):  # fmt: skip
        gather([tmp_path / "both"], labelled=True, validation=0.1, seed=0)


def test_the_best_epoch_and_the_end():
    assert best(CURVES).epoch == 2
    assert not is_finished([], 3, 2)
    assert not is_finished(CURVES[:2], 3, 2)
    assert is_finished(CURVES, 3, 2)
    assert is_finished(CURVES, 9, 1)
    assert not is_finished(CURVES, 9, 2)
    assert not is_finished(CURVES, 9, None)


@pytest.mark.slow
def test_curves_as_numbers_and_as_a_image(tmp_path):
    write_curves(tmp_path / "curves.csv", CURVES)
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [
        "epoch",
        "train_loss",
        "validation_loss",
        "accuracy",
        "learning_rate",
        "seconds",
        "train_accuracy",
    ]
    assert [float(row["validation_loss"]) for row in rows] == [1.4, 1.1, 1.3]
    no_accuracy = [Epoch(1, -0.1, -0.2, None, 1e-4, 1.0)]
    write_curves(tmp_path / "one.csv", no_accuracy)
    assert (tmp_path / "one.csv").read_text().splitlines()[1] == "1,-0.1,-0.2,,0.0001,1.0,"
    for name, curves in (("curves", CURVES), ("one", no_accuracy)):
        write_curves(tmp_path / f"{name}.png", curves)
        image = np.asarray(Image.open(tmp_path / f"{name}.png").convert("RGB"), float)
        # The curve, in its own blue.
        assert (np.abs(image - (0x3A, 0x86, 0xB4)).max(2) < 8).sum() > 20
    panels = []
    for curves in (CURVES, no_accuracy):
        figure = Figure()
        draw_curves(figure, curves)
        panels.append([axes.get_title() for axes in figure.axes])
    assert panels == [["loss", "accuracy"], ["loss"]]
