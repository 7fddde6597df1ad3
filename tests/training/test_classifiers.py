"""Classifiers that are trained: reproducible, interruptible, and exported as what was trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from safetensors.torch import load_file

from labelled_files import write_classes
from oddsight import backbones
from oddsight.backbones.extraction import Extractor
from oddsight.data import decoding
from oddsight.data.collection import ImageFile
from oddsight.errors import OddsightError
from oddsight.fitting import classifiers
from oddsight.fitting.classes import fit_classes
from oddsight.runtime.sessions import session
from oddsight.studies.cifar10.odin import TEMPERATURE, odin_scores
from oddsight.training.augmentation import augment, mix_images, resize, turn_images
from oddsight.training.batches import ArrayBatches, Order
from oddsight.training.classifier_settings import classifier_settings
from oddsight.training.classifiers import average_classifiers, load_network, train_classifier
from oddsight.training.classifying import Network
from oddsight.training.compact import build_network
from oddsight.training.image_arrays import Arrays, gather_arrays
from oddsight.training.settings import AUGMENTATIONS
from oddsight.training.workplace import Workplace

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]
CLASSES = ("dark", "bright")


def arrays(count: int, seed: int, side: int = 32) -> Arrays:
    """Noise, darker in the first class: learned in a few steps."""
    lots = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = lots.integers(0, 120, (count, side, side, 3)) + 120 * labels[:, None, None, None]
    return Arrays(images.astype(np.uint8), labels, f"{seed}")


TRAINING, VALIDATION = arrays(96, 0), arrays(32, 1)
QUICK = {"epochs": 2, "batch_size": 16, "precision": "32-true"}


def trained(folder, network="compact", **changes):
    gentle = {"first_size": 0} if network in ("compact", "wide") else {}
    settings = classifier_settings(network, **{**QUICK, **gentle, **changes})
    return train_classifier(TRAINING, VALIDATION, CLASSES, settings, Workplace(folder))


@pytest.fixture(scope="module")
def compact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compact")
    return folder, trained(folder)


@pytest.mark.parametrize("network", ["compact", "wide", "textbook", "efficientnet-lite0"])
def test_the_exported_network_and_head_say_what_was_trained(network, tmp_path):
    changes = {"efficientnet-lite0": {"size": 64, "first_size": 32}, "textbook": {}}.get(network, {"epochs": 6})
    found = trained(tmp_path, network, **changes)
    extractor = Extractor(backbones.backbone(found.backbone), (found.layer,), found.settings.size, "embedding")
    loaded = session(extractor.graph.SerializeToString(), threads=1)
    embeddings = np.concatenate([loaded.run(None, {"image": one[None]})[0] for one in VALIDATION.images])
    logits = embeddings @ found.weights + found.bias
    accuracy = float((logits.argmax(1) == VALIDATION.labels).mean())
    assert accuracy == pytest.approx(found.curves[-1].accuracy, abs=1 / len(VALIDATION) + 1e-6)
    if network in ("compact", "wide"):
        assert accuracy > 0.9
    assert len(found.curves) == found.settings.epochs
    assert all(row.train_accuracy is not None and np.isfinite(row.train_loss) for row in found.curves)


def test_batch_normalisation_learns_what_its_inputs_are_like(compact):
    folder, _ = compact
    state = load_file(folder / "weights.safetensors")
    means = [value for name, value in state.items() if name.endswith("running_mean")]
    assert len(means) == 6
    assert all(bool((value != 0).all()) for value in means)


@pytest.mark.parametrize("network", ["compact", "efficientnet-lite0"])
def test_mirrored_answers_are_the_mean_of_two(network, tmp_path):
    changes = {"size": 32, "first_size": 0, "epochs": 1}
    plain = trained(tmp_path / "plain", network, mirrored=False, **changes)
    both = trained(tmp_path / "both", network, mirrored=True, **changes)
    # It learns the same.
    assert np.array_equal(plain.weights, both.weights)
    # Its weights are there once.
    assert both.backbone.stat().st_size < 1.1 * plain.backbone.stat().st_size
    stages = [
        Extractor(backbones.backbone(one.backbone), (one.layer,), 32, "embedding").graph.SerializeToString()
        for one in (plain, both)
    ]
    alone, mirrored = (session(graph, threads=1) for graph in stages)
    for image in VALIDATION.images[:4]:
        answers = [alone.run(None, {"image": one[None]})[0] for one in (image, image[:, ::-1].copy())]
        assert not np.allclose(answers[0], answers[1], rtol=1e-3)
        found = mirrored.run(None, {"image": image[None]})[0]
        assert np.allclose(found, np.mean(answers, axis=0), rtol=1e-3, atol=1e-4 * np.abs(found).max())


def test_the_same_settings_give_the_same_weights_and_others_do_not(compact, tmp_path):
    _, first = compact
    again, other = trained(tmp_path / "again"), trained(tmp_path / "other", seed=1)
    assert np.array_equal(first.weights, again.weights)
    assert first.backbone.read_bytes() == again.backbone.read_bytes()
    assert not np.array_equal(first.weights, other.weights)


@pytest.mark.parametrize("extras", [(), ("rotation", "outliers")])
def test_an_interrupted_training_goes_on_to_the_same_weights(extras, tmp_path):
    settings = classifier_settings("compact", **{**QUICK, "epochs": 3, "learning_rate": 2e-3}, extras=extras)
    whole = train_classifier(TRAINING, VALIDATION, CLASSES, settings, Workplace(tmp_path / "whole"))

    def stop(row):
        if row.epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_classifier(TRAINING, VALIDATION, CLASSES, settings, Workplace(tmp_path / "parts", on_epoch=stop))
    epochs = []
    workplace = Workplace(tmp_path / "parts", on_epoch=lambda row: epochs.append(row.epoch))
    rest = train_classifier(TRAINING, VALIDATION, CLASSES, settings, workplace)
    assert epochs == [3]
    assert np.array_equal(whole.weights, rest.weights)
    assert [row.train_loss for row in whole.curves] == [row.train_loss for row in rest.curves]


def test_a_finished_training_is_taken_as_it_is_and_another_is_refused(compact):
    folder, first = compact
    epochs = []
    again = train_classifier(TRAINING, VALIDATION, CLASSES, first.settings, Workplace(folder, on_epoch=epochs.append))
    assert not epochs
    assert np.array_equal(first.weights, again.weights)
    record = json.loads((folder / "training.json").read_text())
    assert record["settings"]["seed"] == 0
    assert len(record["curves"]) == 2
    with pytest.raises(OddsightError, match="has learning rate"):
        train_classifier(TRAINING, VALIDATION, CLASSES, replace(first.settings, learning_rate=0.1), Workplace(folder))


@pytest.mark.parametrize("changes", [{"loss": "logitnorm"}, {"extras": ("rotation",)}, {"extras": ("outliers",)}])
def test_trainings_can_start_from_others(compact, changes, tmp_path):
    folder, first = compact
    settings = classifier_settings("compact", **{**QUICK, "epochs": 1, "learning_rate": 1e-3}, **changes)
    found = train_classifier(TRAINING, VALIDATION, CLASSES, settings, Workplace(tmp_path), start=folder)
    assert np.isfinite(found.curves[-1].validation_loss)
    assert not np.array_equal(first.weights, found.weights)
    with pytest.raises(OddsightError, match="no finished training"):
        train_classifier(TRAINING, VALIDATION, CLASSES, settings, Workplace(tmp_path / "x"), start=tmp_path / "nothing")


def test_outliers_make_the_network_undecided_about_mixtures(compact, tmp_path):
    folder, _ = compact
    pixels = resize(torch.from_numpy(VALIDATION.images).permute(0, 3, 1, 2), 32)
    mixed = mix_images(pixels, torch.from_numpy(VALIDATION.labels), torch.Generator().manual_seed(0))
    surest = {}
    for extras in ((), ("outliers",)):
        settings = classifier_settings(
            "compact",
            **{**QUICK, "epochs": 4, "first_size": 0, "learning_rate": 3e-3, "extra_weight": 2.0},
            extras=extras,
        )
        found = train_classifier(
            TRAINING, VALIDATION, CLASSES, settings, Workplace(tmp_path / f"{len(extras)}"), start=folder
        )
        assert found.curves[-1].accuracy > 0.9
        network = Network(build_network("compact", 32, pixels), 2)
        network.load_state_dict(load_file(found.backbone.parent / "weights.safetensors"))
        with torch.no_grad():
            surest[extras] = float(network.eval()(mixed).softmax(1).amax(1).mean())
    assert surest["outliers",] < surest[()]


def test_a_loss_that_diverges_is_one_sentence(tmp_path):
    with pytest.raises(OddsightError, match="no longer a finite number: choose a learning rate below"):
        trained(tmp_path, learning_rate=1e30, epochs=3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"epochs": 0}, "number of epochs"),
        ({"batch_size": 1}, "batch size"),
        ({"augment": ("blur",)}, "no augmentation 'blur'"),
        ({"extras": ("sleep",)}, "no extra 'sleep'"),
        ({"loss": "mse"}, "no loss 'mse'"),
        ({"label_smoothing": 1.0}, "label smoothing"),
        ({"averaging": -0.1}, "averaging"),
        ({"shift": 0.0}, "shift must be above 0"),
        ({"shift": 0.6}, "at most 0.5, not 0.6"),
        ({"learning_rate": float("nan")}, "learning rate"),
        ({"extra_weight": -1.0}, "weight of the extras"),
    ],
)
def test_settings_that_cannot_work(changes, said):
    with pytest.raises(OddsightError, match=said):
        classifier_settings("compact", **changes)


def test_a_size_that_the_backbone_does_not_take(tmp_path):
    with pytest.raises(OddsightError, match="must be a multiple of 32, not 40"):
        trained(tmp_path, "efficientnet-lite0", size=40, first_size=0)


def test_the_first_half_of_the_epochs_has_small_images():
    settings = classifier_settings("efficientnet-lite0", epochs=4)
    assert [settings.size_in(epoch) for epoch in range(4)] == [64, 64, 96, 96]
    assert [replace(settings, epochs=3).size_in(epoch) for epoch in range(3)] == [64, 96, 96]
    assert [replace(settings, first_size=0).size_in(epoch) for epoch in range(4)] == [96] * 4


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_augmentation_depends_on_its_seed_only_and_keeps_shape_and_range(name):
    pixels = torch.from_numpy(TRAINING.images[:8]).permute(0, 3, 1, 2).float()
    once, again, other = (augment(pixels, [name], torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert once.shape == pixels.shape
    assert once.min() >= 0
    assert once.max() <= 255


@pytest.mark.parametrize(("shift", "margin"), [(0.125, 2), (0.0625, 1), (0.01, 1)])
def test_flips_and_shifts_are_what_they_say(shift, margin):
    pixels = torch.arange(2 * 3 * 16 * 16).reshape(2, 3, 16, 16).float()
    for seed in range(5):
        flipped = augment(pixels, ["flip"], torch.Generator().manual_seed(seed))
        for one, before in zip(flipped, pixels, strict=True):
            assert torch.equal(one, before) or torch.equal(one, before.flip(2))
        shifted = augment(pixels, ["crop"], torch.Generator().manual_seed(seed), shift=shift)
        padded = torch.nn.functional.pad(pixels, (margin,) * 4, mode="reflect")
        for one, before in zip(shifted, padded, strict=True):
            places = [before[:, y : y + 16, x : x + 16] for y in range(2 * margin + 1) for x in range(2 * margin + 1)]
            assert any(torch.equal(one, place) for place in places)


def test_quarter_turns_say_how_far():
    pixels = torch.rand(12, 3, 8, 8)
    turned, turns = turn_images(pixels, torch.Generator().manual_seed(0))
    assert set(turns.tolist()) <= {0, 1, 2, 3}
    for one, before, turn in zip(turned, pixels, turns.tolist(), strict=True):
        assert torch.equal(torch.rot90(one, -turn, (1, 2)), before)


def test_mixtures_are_of_two_classes_and_of_no_image():
    pixels = 255 * torch.rand(64, 3, 16, 16)
    labels = torch.arange(64) % 4
    mixed = mix_images(pixels, labels, torch.Generator().manual_seed(0))
    assert 0 < len(mixed) <= 64
    assert mixed.min() >= 0
    assert mixed.max() <= 255
    assert not any(torch.equal(one, before) for one in mixed for before in pixels)
    assert not len(mix_images(pixels, torch.zeros(64), torch.Generator().manual_seed(0)))


def test_batches_are_all_images_in_another_order_each_epoch():
    images, order = ArrayBatches(arrays(20, 0, 4)), Order(20, 5, shuffle=True, seed=3)
    epochs = []
    for order.epoch in (0, 1, 0):
        found = [images[key] for key in order]
        epochs.append((torch.cat([batch[0] for batch in found]), [batch[2] for batch in found]))
    (first, seeds), (second, others), (again, same) = epochs
    assert torch.equal(first, again)
    assert seeds == same
    assert not torch.equal(first, second)
    assert not set(seeds) & set(others)
    rows = [sorted(map(bytes, epoch.numpy())) for epoch in (first, second)]
    assert rows[0] == rows[1]


def test_a_training_shows_its_images_differently_in_each_epoch(tmp_path, monkeypatch):
    shown = []
    original = Order.__iter__

    def watched(self):
        shown.append([])
        for key in original(self):
            shown[-1].append(key[1])
            yield key

    monkeypatch.setattr(Order, "__iter__", watched)
    trained(tmp_path, epochs=3)
    seeds = [seed for epoch in shown for seed in epoch if len(epoch) == len(TRAINING) // QUICK["batch_size"]]
    assert len(seeds) == len(set(seeds)) == 3 * len(TRAINING) // QUICK["batch_size"]


class Shown(ImageFile):
    """An image of the validation images."""

    def read(self):
        return VALIDATION.images[int(self.path.name)]


def test_odin_moves_images_towards_what_the_network_is_sure_of(compact):
    folder, found = compact
    network = load_network(TRAINING, 2, found.settings, folder)
    images = [Shown(Path(str(number)), f"{number:064d}", 32, 32) for number in range(len(VALIDATION))]
    scores = odin_scores(network, images, 32)
    pixels = resize(torch.from_numpy(VALIDATION.images).permute(0, 3, 1, 2), 32)
    with torch.no_grad():
        log_p = (network(pixels).double() / TEMPERATURE).log_softmax(1).amax(1)
    unmoved = (-TEMPERATURE * (log_p + np.log(2))).numpy()
    assert (scores < unmoved).mean() > 0.9
    assert np.corrcoef(scores, unmoved)[0, 1] > 0.9


def test_resizing_is_that_of_the_graph():
    from oddsight.graphs.preprocessing import preprocessing

    for side, size in ((32, 96), (48, 32)):
        images = arrays(2, 5, side).images
        graph = session(preprocessing(size).SerializeToString(), threads=1)
        expected = graph.run(None, {"image": images})[0]
        found = resize(torch.from_numpy(images).permute(0, 3, 1, 2), size).numpy()
        # Where it makes images smaller, the graph rounds after each of the two directions.
        assert np.abs(found - expected).max() <= (1 if size > side else 4)
        assert np.abs(found - expected).mean() < 1


def test_images_of_one_small_size_are_gathered_as_they_are_and_others_are_resized(tmp_path):
    class Drawn(ImageFile):
        def read(self):
            return np.full((self.height, self.width, 3), 7, np.uint8)

    labels = np.array([0, 1])
    small = [Drawn(tmp_path / str(n), f"{n:064d}", 20, 10) for n in range(2)]
    assert gather_arrays(small, labels, 32).images.shape == (2, 10, 20, 3)
    mixed = [small[0], Drawn(tmp_path / "x", "f" * 64, 40, 40)]
    found = gather_arrays(mixed, labels, 32, file=tmp_path / "images.npy")
    assert found.images.shape == (2, 32, 32, 3)
    assert (found.images == 7).all()
    assert np.load(tmp_path / "images.npy", mmap_mode="r").shape == (2, 32, 32, 3)


TINY = {"network": "efficientnet-lite0", "size": 32, "first_size": 0, "epochs": 1}


def test_an_average_answers_with_the_mean_of_the_weights(tmp_path):
    members = [tmp_path / "first", tmp_path / "second", tmp_path / "third"]
    found = [trained(folder, seed=seed, **TINY) for seed, folder in enumerate(members)]
    states = [load_file(folder / "weights.safetensors") for folder in members]
    settings = found[0].settings
    average = average_classifiers(CLASSES, settings, members, tmp_path / "average")
    assert np.allclose(average.weights, np.mean([one.weights for one in found], axis=0), atol=1e-6)
    assert not np.allclose(average.weights, found[0].weights, atol=1e-4)
    for name, value in load_file(tmp_path / "average" / "weights.safetensors").items():
        if value.is_floating_point():
            mean = torch.stack([state[name].double() for state in states]).mean(0).float()
            assert torch.allclose(value, mean, rtol=1e-6, atol=1e-7), name
    # What is exported is the averaged network.
    network = load_network(TRAINING, 2, settings, tmp_path / "average").eval()
    extractor = Extractor(backbones.backbone(average.backbone), (average.layer,), 32, "embedding")
    loaded = session(extractor.graph.SerializeToString(), threads=1)
    image = VALIDATION.images[0]
    with torch.inference_mode():
        expected = network(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0].numpy()
    logits = loaded.run(None, {"image": image[None]})[0][0] @ average.weights + average.bias
    assert np.allclose(logits, expected, atol=1e-3)
    again = average_classifiers(CLASSES, settings, members, tmp_path / "again")
    assert again.backbone.read_bytes() == average.backbone.read_bytes()


def test_an_average_of_what_cannot_be_averaged_is_refused(compact, tmp_path):
    folder, found = compact
    with pytest.raises(OddsightError, match="at least two trained classifiers, not 1"):
        average_classifiers(CLASSES, found.settings, [folder], tmp_path)
    with pytest.raises(OddsightError, match="weights of compact start at random"):
        average_classifiers(CLASSES, found.settings, [folder, folder], tmp_path)
    lite = replace(found.settings, network="efficientnet-lite0", size=32)
    with pytest.raises(OddsightError, match="compact0 holds no finished training of efficientnet-lite0"):
        average_classifiers(CLASSES, lite, [folder, folder], tmp_path)
    with pytest.raises(OddsightError, match="nothing holds no finished training"):
        average_classifiers(CLASSES, lite, [tmp_path / "nothing", folder], tmp_path)


def test_images_to_train_on_are_read_within_the_budget(tmp_path, monkeypatch):
    """As all other images of a fit are."""
    write_classes(tmp_path, range(10))
    rooms, plans = [], []

    def stop(*args):
        rooms.append(decoding._limits.room.total)
        raise KeyboardInterrupt

    monkeypatch.setattr(classifiers, "train", stop)
    with pytest.raises(KeyboardInterrupt):
        fit_classes(tmp_path, classifier="compact", memory="600MB", on_plan=plans.append)
    assert rooms == [plans[0].memory.images]
    assert 0 < rooms[0] < 300e6
