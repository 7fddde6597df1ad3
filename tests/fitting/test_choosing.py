"""What fit_classes chooses from the training images where no option says it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import oddsight
from labelled_files import CLASSES, draw_image, write_classes
from oddsight import backbones
from oddsight.data.classes import read_classes
from oddsight.data.dataset import Dataset
from oddsight.detectors import create, names
from oddsight.fitting import choosing, classifiers

pytestmark = pytest.mark.slow

QUICK = {"calibration_fraction": 0.2, "false_alarm_rate": 0.2}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Dataset:
    return read_classes(write_classes(tmp_path_factory.mktemp("classes"), range(20)))["train"]


@pytest.fixture(scope="module")
def model(data):
    return oddsight.fit_classes(data, **QUICK)


def chosen(model):
    return model.metadata.classes.head.get("chosen", {})


def test_size_layers_and_score_are_chosen_and_recorded(model):
    record, backbone = chosen(model), model.metadata.backbone
    accuracy = record["accuracy"]
    assert max(accuracy.values()) == accuracy[f"{backbone.size} {'+'.join(backbone.layers)}"]
    assert len(accuracy) == len(choosing.SIDES) * 3
    assert set(record["auroc"]) == set(choosing.SCORES)
    assert model.metadata.classes.head["penalty"] in choosing.PENALTIES
    best = max(record["auroc"].values())
    assert record["auroc"][model.metadata.method.name] >= best - 0.0101
    for kind in CLASSES:
        assert model.predict(draw_image(kind, 7000)).label == kind


def test_the_same_images_give_the_same_file(data, model):
    assert oddsight.fit_classes(data, **QUICK).to_bytes() == model.to_bytes()


def test_noise_takes_a_large_penalty_and_clear_features_a_small_one(data):
    source = classifiers.Probe(backbones.DEFAULT, None, 64)
    lots = np.random.default_rng(0)
    noise = lots.normal(size=(len(data), 50)).astype(np.float32)
    clear = noise + 10 * np.eye(len(data.classes), 50, dtype=np.float32)[data.labels]
    splits = [choosing._split(data, 0)]
    assert choosing._try(noise, data, source, splits).penalty == max(choosing.PENALTIES)
    tried = choosing._try(clear, data, source, splits)
    assert tried.penalty == min(choosing.PENALTIES)
    assert tried.accuracy > 0.9


def test_an_option_fixes_a_choice(data, monkeypatch):
    options = {"size": 64, "layers": ["stage5"], "score": "energy"}
    monkeypatch.setattr(choosing, "embed_images", None)  # Nothing is looked at
    model = oddsight.fit_classes(data, **QUICK, **options)
    assert (model.metadata.backbone.size, model.metadata.backbone.layers) == (64, ["stage5"])
    assert model.metadata.method.name == "energy"
    assert not chosen(model)


def test_one_option_leaves_the_others_open(data):
    model = oddsight.fit_classes(data, **QUICK, size=64, score="msp")
    assert model.metadata.backbone.size == 64
    assert model.metadata.method.name == "msp"
    assert set(chosen(model)) == {"images", "accuracy"}
    assert all(option.startswith("64 ") for option in chosen(model)["accuracy"])


@pytest.mark.slow
def test_calibration_images_have_no_part_in_it(data, monkeypatch):
    looked_at = []
    plans = []
    embed = classifiers.embed_images

    def note(extractor, images, *rest):
        looked_at.extend(image.content for image in images)
        return embed(extractor, images, *rest)

    monkeypatch.setattr(choosing, "embed_images", note)
    oddsight.fit_classes(data, **QUICK, size=64, on_plan=plans.append)
    parts = plans[0].parts
    assert set(looked_at) <= {image.content for image in parts.training.images}
    assert not set(looked_at) & {
        image.content for part in (parts.validation, parts.calibration) for image in part.images
    }


@pytest.mark.slow
def test_few_images_or_classes_choose_less(data):
    few = data.subset([*range(6), *range(20, 26), *range(40, 46)])
    assert not chosen(oddsight.fit_classes(few, **QUICK | {"false_alarm_rate": None}))
    # Four images of each group, and so five groups of each class.
    options = QUICK | {"false_alarm_rate": None, "groups": lambda path: f"{path[:-8]}{int(path[-8:-4]) // 4}"}
    grouped = oddsight.fit_classes(data, **options)
    assert not chosen(grouped)
    two = data.subset(range(40))
    two = Dataset(two.images, two.labels, two.classes[:2])
    model = oddsight.fit_classes(two, **QUICK, size=64)
    assert "auroc" not in chosen(model)
    assert model.metadata.method.name == "knn"


@pytest.mark.slow
def test_the_images_looked_at_are_bounded(data, monkeypatch):
    monkeypatch.setattr(choosing, "_MOST", 24)
    assert chosen(oddsight.fit_classes(data, **QUICK, size=64))["images"] in range(24, 28)


@pytest.mark.parametrize("name", choosing.SCORES)
def test_candidates_exist_and_take_any_embedding(name):
    assert all(part in names("classes") for part in name.split("+"))
    assert not create(name, "classes").positive


def test_a_class_that_is_one_group_leaves_the_choice_out(data):
    pairs = zip(data.images, data.labels, strict=True)
    grouped = tuple(replace(image, group="one" if label == 0 else image.content) for image, label in pairs)
    images = Dataset(grouped, data.labels, data.classes)
    left = choosing.Open(size=False, layers=True, score=True)
    source = classifiers.Probe(backbones.DEFAULT, None, 64)
    detector = create("knn", "classes")
    choice = left.choose(source, detector, images, seed=0, cache=None, progress=lambda *_: None)
    assert choice.source is source
    assert choice.detector is detector


def test_another_score_than_the_first_must_be_clearly_better():
    areas = dict.fromkeys(choosing.SCORES, 0.8)
    assert choosing.best_score(areas | {"knn": 0.809}) == choosing.SCORES[0]
    assert choosing.best_score(areas | {"knn": 0.82, "vim": 0.825}) == "vim"
