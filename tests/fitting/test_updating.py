"""update: a model fitted again with its own settings, on new images alone or with the old ones."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import oddsight
from cli_files import assert_failed, run
from oddsight.backbones import backbone, extraction
from oddsight.backbones.cache import FeatureCache
from oddsight.data.collection import ImageFile
from oddsight.detectors import by_name, create
from oddsight.errors import DataError, OddsightError
from oddsight.fitting.normal import NormalLearner
from oddsight.fitting.plan import FitPlan
from oddsight.fitting.settings import settings_of
from oddsight.fitting.sizing import input_size
from oddsight.graphs.preprocessing import sides
from oddsight.runtime import sessions
from textures import texture, write_textures
from tiny_model import tiny_class_model, tiny_model

SIDE = 48
LITE0 = backbone("efficientnet-lite0")
METHOD = create("patchcore", settings=["bank_size=200", "sigma=0.5"])
SETTINGS = {
    "method": METHOD,
    "size": 64,
    "layers": ["stage3"],
    "false_alarm_rate": 0.1,
    "calibration_fraction": 0.5,
    "groups": "none",
    "seed": 3,
    "verdicts": ("clear", "cloudy"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Folders: old (24 images), new (16 others, 2 of them with a blot, and 3 of the old ones)."""
    root = tmp_path_factory.mktemp("updating")
    write_textures(root / "old", range(24), width=SIDE, height=SIDE)
    write_textures(root / "new", range(100, 114), width=SIDE, height=SIDE)
    write_textures(root / "new", range(300, 302), width=SIDE, height=SIDE, blot=True)
    write_textures(root / "new", range(3), width=SIDE, height=SIDE)
    return root


@pytest.fixture(scope="module")
def cache(world):
    return FeatureCache(world / "cache")


@pytest.fixture(scope="module")
def model(world, cache):
    return oddsight.fit(world / "old", cache=cache, **SETTINGS)


@pytest.fixture(scope="module")
def extended(model, world, cache):
    """With the old images; and what passed through the backbone, which was to be new images only."""
    names = set()

    def run(session, feeds, name, *rest):  # a mock would keep the pixels, whose memory others wait for
        names.add(Path(name).name)
        return sessions.run(session, feeds, name, *rest)

    with mock.patch.object(extraction, "run", run):
        found = oddsight.update(model, world / "new", old=[world / "old"], groups="none", cache=cache)
    return found, names


@pytest.fixture(scope="module")
def replaced(model, world, cache):
    return oddsight.update(model, world / "new", replace=True, groups="none", false_alarm_rate=0.2, cache=cache)


# What it makes.


@pytest.mark.slow
def test_with_the_old_images_it_is_what_a_fit_makes_of_all(extended, world, cache):
    both = oddsight.fit(world / "old", world / "new", cache=cache, **SETTINGS)
    assert extended[0].model.to_bytes() == both.to_bytes()


@pytest.mark.slow
def test_without_them_it_is_what_a_fit_makes_of_the_new_ones(replaced, world, cache):
    new = oddsight.fit(world / "new", cache=cache, **(SETTINGS | {"false_alarm_rate": 0.2}))
    assert replaced.model.to_bytes() == new.to_bytes()


def test_only_new_images_pass_through_the_backbone(extended):
    _, extracted = extended
    assert extracted == {f"{seed:05d}.png" for seed in (*range(100, 114), 300, 301)}


@pytest.mark.slow
def test_it_says_what_changed(model, extended, replaced, world):
    new = sorted((world / "new").iterdir())
    fresh = [path for path in new if int(path.stem) >= 100]
    for update, images, forgotten in ((extended[0], 40, 0), (replaced, 19, 21)):
        changes, models = update.changes, (model, update.model)
        assert (changes.images, changes.new, changes.forgotten) == (images, 16, forgotten)
        assert changes.training == tuple(one.metadata.training.images for one in models)
        assert changes.calibration == tuple(len(one.calibration_scores) for one in models)
        assert changes.threshold == tuple(one.decision.threshold for one in models)
        assert changes.false_alarm_rate == tuple(one.decision.false_alarm_rate for one in models)
        flags = [[one.predict(path).anomalous for path in fresh] for one in models]
        assert changes.flagged == tuple(map(sum, flags))
        assert changes.changed == sum(before != after for before, after in zip(*flags, strict=True))


def test_what_the_old_model_flags_strongly_is_named_and_learned_from(model, extended, world):
    changes = extended[0].changes
    assert {str(world / "new" / f"00{seed}.png") for seed in (300, 301)} <= set(changes.suspicious)
    highest, spread = model.calibration_scores[-1], np.std(model.calibration_scores)
    assert all(model.predict(path).score > highest + spread for path in changes.suspicious)
    assert sum(extended[0].changes.calibration[1:]) + changes.training[1] == changes.images


# The guarantee.


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.5, 0.0])
def test_no_calibration_image_is_learned_from(world, cache, fraction):
    learned: dict[int, set[str]] = {}
    scored: dict[str, set[str]] = {}
    fit_part, score_part = NormalLearner._fit, NormalLearner._scores

    def fitting(self, detector, images, *others):
        learned[id(detector)] = {image.content for image in images}
        detectors.append(detector)  # or another could have its id
        return fit_part(self, detector, images, *others)

    def scoring(self, detector, images, phase):
        if phase != "checking":
            contents = {image.content for image in images}
            assert not contents & learned[id(detector)]
            scored.setdefault(phase, set()).update(contents)
        return score_part(self, detector, images, phase)

    detectors: list[object] = []
    plans: list[FitPlan] = []
    chosen = SETTINGS | {"calibration_fraction": fraction, "false_alarm_rate": 0.2}
    old = oddsight.fit(world / "old", cache=cache, **chosen)
    with mock.patch.object(NormalLearner, "_fit", fitting), mock.patch.object(NormalLearner, "_scores", scoring):
        found = oddsight.update(
            old, world / "new", old=[world / "old"], groups="none", cache=cache, on_plan=plans.append
        )
    (plan,) = plans
    assert set.union(*scored.values()) == {image.content for image in plan.calibration}
    assert len(found.model.calibration_scores) == len(plan.calibration) == (20 if fraction else 40)


# Without the old images.


@pytest.fixture(scope="module", params=["knn", "patchcore"])
def growing(request, model, world, cache):
    """A model with a memory bank, before and after new images were added to it."""
    if request.param == "knn":
        chosen = {"method": "knn", "size": 64, "groups": "none", "false_alarm_rate": 0.1, "calibration_fraction": 0.5}
        model = oddsight.fit(world / "old", cache=cache, **chosen)
    return model, oddsight.update(model, world / "new")


@pytest.mark.slow
def test_no_score_rises_where_a_bank_grows(growing, world):
    before, after = growing[0], growing[1].model
    images = [*sorted((world / "old").iterdir()), *sorted((world / "new").iterdir())]
    fresh = [texture(seed, SIDE, SIDE) for seed in range(500, 520)]
    pairs = np.array([[model.predict(image).score for model in (before, after)] for image in (*images, *fresh)])
    assert (pairs[:, 1] <= pairs[:, 0] * (1 + 1e-4) + 1e-5).all()
    assert pairs[-20:, 1].mean() < pairs[-20:, 0].mean()  # and new ones do fall


@pytest.mark.slow
def test_calibration_scores_are_kept_as_upper_bounds(growing, world):
    before, after = growing[0], growing[1].model
    np.testing.assert_array_equal(before.calibration_scores, after.calibration_scores)
    assert after.decision == before.decision
    for path in sorted((world / "old").iterdir()):
        assert after.predict(path).p_value >= before.predict(path).p_value - 1e-6


@pytest.mark.slow
def test_what_was_added_is_known(growing, world, tmp_path):
    before, update = growing
    training = update.model.metadata.training
    assert training.images == before.metadata.training.images + 16
    assert (update.changes.images, update.changes.new, update.changes.forgotten) == (19, 16, 0)
    assert update.model.metadata.graph_sha256 != before.metadata.graph_sha256
    with pytest.raises(DataError, match="knows all 19 images"):
        oddsight.update(update.model, world / "new")
    with pytest.raises(OddsightError):  # they are no test images any more
        oddsight.evaluate(update.model, normal=world / "new", anomalous=world / "new")
    update.model.save(tmp_path / "grown.onnx")
    image = texture(999, SIDE, SIDE)
    assert oddsight.load(tmp_path / "grown.onnx").predict(image).score == update.model.predict(image).score


@pytest.mark.slow
def test_an_added_image_is_the_nearest_to_itself(world, cache):
    knn = oddsight.fit(world / "old", method="knn", size=64, groups="none", false_alarm_rate=0.2, cache=cache)
    image = sorted((world / "new").iterdir())[-1]
    assert knn.predict(image).score > 0.01
    assert oddsight.update(knn, image).model.predict(image).score < 1e-3


@pytest.mark.slow
def test_a_bank_grows_to_twice_its_size_at_most(world, cache):
    full = create("knn", settings=["bank_size=15"])
    model = oddsight.fit(world / "old", method=full, size=64, groups="none", false_alarm_rate=0.2, cache=cache)
    with pytest.raises(OddsightError, match=r"would grow to 31 entries.* twice its bank_size of 15 .*--with"):
        oddsight.update(model, world / "new")


@pytest.mark.slow
def test_methods_without_a_bank_are_refused_by_name(world, cache):
    model = oddsight.fit(world / "old", method="mahalanobis", size=64, false_alarm_rate=0.2, cache=cache)
    with pytest.raises(OddsightError, match=r"mahalanobis cannot learn .* the old ones.*--with.*--replace"):
        oddsight.update(model, world / "new")


# Settings.


@pytest.mark.parametrize("method", ["auto", "knn"])
@given(width=st.integers(20, 3000), height=st.integers(20, 3000), size=st.one_of(st.none(), st.integers(1, 30)))
def test_a_size_of_images_of_one_shape_is_the_same_the_next_time(method, width, height, size):
    images, detector = [ImageFile(Path(), "", width, height)], by_name(method)
    first = input_size(images, LITE0, detector, None if size is None else 32 * size)
    assert input_size(images, LITE0, detector, sides(first)) == first


def test_a_size_of_another_shape_has_as_many_pixels():
    assert input_size([ImageFile(Path(), "", 300, 300)], LITE0, by_name("knn"), (128, 352)) == 224
    assert input_size([ImageFile(Path(), "", 300, 300)], LITE0, by_name("knn"), (224, 224)) == 224


@pytest.mark.slow
def test_what_a_fit_chose_by_itself_is_chosen_again(world, cache):
    chosen = {"method": "knn", "size": 64, "groups": "none", "cache": cache}
    smallest = oddsight.fit(world / "old", **chosen)
    assert smallest.decision.false_alarm_rate == pytest.approx(1 / 25)
    settings = settings_of(smallest.metadata)
    assert (settings["false_alarm_rate"], settings["calibration_fraction"]) == (None, None)
    update = oddsight.update(smallest, world / "new", old=[world / "old"], groups="none", cache=cache)
    assert update.model.decision.false_alarm_rate == pytest.approx(1 / 41)
    quarter = oddsight.fit(world / "old", false_alarm_rate=0.2, **chosen)
    assert quarter.metadata.calibration.images == 6
    settings = settings_of(quarter.metadata)
    assert (settings["false_alarm_rate"], settings["calibration_fraction"]) == (0.2, None)
    folds = oddsight.fit(world / "old", false_alarm_rate=0.2, calibration_fraction=0, **chosen)
    assert settings_of(folds.metadata)["calibration_fraction"] == 0


def test_settings_that_were_asked_for_stay(model):
    settings = settings_of(model.metadata)
    method = settings.pop("method")
    assert (method.name, method.settings()) == ("patchcore", METHOD.settings())
    assert settings == {
        "backbone": "efficientnet-lite0",
        "layers": ("stage3",),
        "size": (64, 64),
        "false_alarm_rate": 0.1,
        "confidence": None,
        "calibration_fraction": 0.5,
        "seed": 3,
        "reading": oddsight.Reading(),
        "verdicts": ("clear", "cloudy"),
    }


# What is refused.


@pytest.mark.slow
def test_what_cannot_be_updated(model, world):
    new, old = world / "new", [world / "old"]
    with pytest.raises(DataError, match=r"the model knows all 24 images in .*old already"):
        oddsight.update(model, *old)
    with pytest.raises(OddsightError, match="exclude each other"):
        oddsight.update(model, new, replace=True, old=old)
    with pytest.raises(OddsightError, match="knows classes"):
        oddsight.update(tiny_class_model(), new, replace=True)
    with pytest.raises(OddsightError, match="cannot fit brightest with the model's settings"):
        oddsight.update(tiny_model(), new, replace=True)
    converted = oddsight.export(model, "fp16", new).model
    with pytest.raises(OddsightError, match="converted to fp16: update the model that it was made of"):
        oddsight.update(converted, new, old=old)
    with pytest.raises(DataError, match=r"needs at least 99 .*, and there are 10: add"):
        oddsight.update(model, new, replace=True, false_alarm_rate=0.01, groups="none")


def test_a_backbone_with_other_weights_is_refused(model, world):
    info = model.metadata.backbone
    for change, message in (
        ({"name": "my-network"}, r"backbone my-network is not among those known here: name its file \(--backbone\)"),
        ({"sha256": "0" * 64}, "has other weights than that here"),
    ):
        metadata = model.metadata.model_copy(update={"backbone": info.model_copy(update=change)})
        with pytest.raises(OddsightError, match=message):
            settings_of(metadata)


# The command.


@pytest.mark.slow
def test_the_command_writes_the_model_and_says_what_changed(model, extended, world, tmp_path, monkeypatch):
    monkeypatch.setenv("ODDSIGHT_CACHE", str(world / "cache"))
    path, target, changes = tmp_path / "model.onnx", tmp_path / "new.onnx", tmp_path / "changes.json"
    model.save(path)
    options = ("--with", world / "old", "--group-by", "none")
    outcome = run("update", path, world / "new", "-o", target, *options)
    assert outcome.code == 0, outcome.err
    assert target.read_bytes() == extended[0].model.to_bytes()
    assert "16 of 40 images are new, 0 old ones are forgotten" in outcome.out
    assert "make sure that they are normal" in outcome.out
    assert "00300.png" in outcome.out.replace("\n", "")
    outcome = run("update", path, world / "new", "-o", target, *options, "--json", changes, "--no-thumbnails")
    assert outcome.code == 0, outcome.err
    assert json.loads(changes.read_text()) == extended[0].changes.to_json()


def test_the_command_refuses_what_cannot_work(model, world, tmp_path):
    path = tmp_path / "model.onnx"
    model.save(path)
    assert_failed(run("update", path, world / "new", "-o", path, "--replace"), "would replace an input")
    assert_failed(
        run("update", path, world / "new", "-o", tmp_path / "new.onnx", "--replace", "--with", world / "old"),
        "exclude each other",
    )
    assert not (tmp_path / "new.onnx").exists()


def test_an_update_repeats_every_setting_of_a_fit(model):
    where_or_how = {"images", "groups", "memory", "work", "accelerator", "cache", "progress", "on_plan", "on_epoch"}
    in_others = {"speed"}  # It is in the size and in the settings of the method.
    arguments = inspect.signature(oddsight.fit).parameters.keys() - where_or_how - in_others
    assert arguments == settings_of(model.metadata).keys()
