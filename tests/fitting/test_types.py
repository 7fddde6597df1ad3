"""Models of normal images that also name types of anomalies: what they promise, and what they refuse."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image, ImageDraw

import oddsight
from cli_files import run
from labelled_files import SIDE, draw_image, write_images
from oddsight.errors import DataError, ModelError, OddsightError
from oddsight.fitting.types import add_types
from oddsight.graphs.joining import PREFIX
from oddsight.model.metadata import KEY
from oddsight.model.model import Model
from oddsight.report import write_report
from textures import texture

pytestmark = pytest.mark.slow

TYPES, UNKNOWN = ("cloth", "rust"), "moss"
RATE = 0.2
OUTPUTS = ["type_index", "type_probability", "type_score", "type_p_value"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Bark is normal, cloth and rust are labelled anomalies, and moss is an anomaly that nobody labelled."""
    root = tmp_path_factory.mktemp("types")
    write_images(root / "good", "bark", range(40))
    write_images(root / "test" / "good", "bark", range(500, 510))
    for number, kind in enumerate(TYPES):
        write_images(root / "defects" / kind, kind, range(1000 * (number + 1), 1000 * (number + 1) + 24))
        write_images(root / "test" / "bad" / kind, kind, range(1000 * (number + 1) + 500, 1000 * (number + 1) + 508))
    write_images(root / "test" / "bad" / UNKNOWN, UNKNOWN, range(5000, 5008))
    return root


@pytest.fixture(scope="module")
def normal(folder) -> Model:
    return oddsight.fit(folder / "good", method="knn", size=SIDE, false_alarm_rate=0.1)


@pytest.fixture(scope="module")
def named(folder, normal) -> Model:
    return oddsight.fit_classes(
        folder / "defects", normal=normal, size=SIDE, false_alarm_rate=RATE, calibration_fraction=0.25
    )


def test_it_decides_as_the_model_of_normal_images(folder, normal, named):
    images = sorted(str(path) for path in (folder / "test").rglob("*.png"))
    for one, other in zip(normal.predict_many(images), named.predict_many(images), strict=True):
        assert (one.score, one.p_value, one.threshold) == (other.score, other.p_value, other.threshold)
    assert named.calibration_scores.tolist() == normal.calibration_scores.tolist()
    assert named.metadata.decision == normal.metadata.decision
    assert (named.types, named.classes) == (TYPES, ())


def test_a_type_is_named_only_if_the_image_is_anomalous(folder, named):
    for path in sorted((folder / "test").rglob("*.png")):
        result = named.predict(path)
        record = result.to_json()
        assert result.most_like.name in TYPES
        assert result.most_like.known == (result.most_like.score <= named.metadata.types.decision.threshold)
        if result.anomalous:
            assert result.type == (result.most_like.name if result.most_like.known else None)
            assert result.verdict == (result.type or "unknown type")
        else:
            assert (result.type, result.verdict) == (None, "normal")
        assert (record["type"], record["most_like"]["name"]) == (result.type, result.most_like.name)
        assert json.loads(json.dumps(record)) == record


def test_it_names_the_right_types(folder, named):
    for kind in TYPES:
        found = [named.predict(path).type for path in sorted((folder / "test" / "bad" / kind).iterdir())]
        assert found.count(kind) >= 6, found
        assert not set(found) - {kind, None}
    strange = [named.predict(path) for path in sorted((folder / "test" / "bad" / UNKNOWN).iterdir())]
    assert [result.verdict for result in strange].count("unknown type") >= 6


def test_onnx_runtime_alone_gives_the_same(folder, named):
    session = onnxruntime.InferenceSession(named.to_bytes())
    assert [output.name for output in session.get_outputs()][-4:] == OUTPUTS
    result = named.predict(draw_image("rust", 9000))
    index, probability, score, p_value = session.run(OUTPUTS, {"image": draw_image("rust", 9000)[None]})
    assert TYPES[index[0]] == result.most_like.name
    assert (probability[0], score[0]) == (result.most_like.probability, result.most_like.score)
    assert p_value[0] == pytest.approx(result.most_like.p_value)


def test_both_decisions_are_calibrated_and_kept_apart(named):
    types = named.metadata.types
    looser = named.with_decision(false_alarm_rate=0.3)
    assert looser.metadata.types == types
    assert looser.metadata.decision.false_alarm_rate == 0.3
    assert types.decision.false_alarm_rate == RATE
    assert types.calibration.kind == "split"
    assert 0 <= types.flagged <= types.calibration.scores
    rejected = types.decision.threshold
    scores = next(
        onnx.numpy_helper.to_array(tensor)
        for tensor in onnx.load_model_from_string(named.to_bytes()).graph.initializer
        if tensor.name == f"{PREFIX}calibration/scores"
    )
    assert (scores > rejected).sum() <= RATE * (len(scores) + 1)


def test_the_same_images_give_the_same_file(folder, normal, named):
    again = oddsight.fit_classes(
        folder / "defects", normal=normal, size=SIDE, false_alarm_rate=RATE, calibration_fraction=0.25
    )
    assert again.to_bytes() == named.to_bytes()


def test_it_is_saved_and_loaded(tmp_path, named):
    named.save(tmp_path / "named.onnx")
    loaded = oddsight.load(tmp_path / "named.onnx")
    assert loaded.metadata == named.metadata
    assert loaded.metadata.schema_version == 9


def test_evaluation_counts_verdicts_by_type(folder, named):
    found = oddsight.evaluate(named, normal=folder / "test" / "good", anomalous=folder / "test" / "bad")
    assert set(found.named) == {None, *TYPES, UNKNOWN}
    assert sum(found.named["rust"].values()) == 8
    record = found.to_json()
    assert record["by_type"]["rust"]["verdicts"] == found.named["rust"]
    assert record["normal_verdicts"] == found.named[None]
    write_report(found, named, folder / "report.html")
    assert "Names of types" in (folder / "report.html").read_text("utf-8")
    with pytest.raises(DataError, match="used to fit this model"):
        oddsight.evaluate(named, normal=folder / "test" / "good", anomalous=folder / "defects")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"normal": 3}, "a model file is given as a path, not as a int"),
        ({"per_class": True}, "types of anomalies have one threshold together"),
    ],
)
def test_options_that_do_not_fit_are_refused(folder, normal, options, message):
    with pytest.raises(OddsightError, match=message):
        oddsight.fit_classes(folder / "defects", **{"normal": normal, "size": SIDE} | options)


def test_models_that_do_not_fit_are_refused(folder, named):
    classes = oddsight.fit_classes(folder / "defects", size=SIDE, false_alarm_rate=RATE, calibration_fraction=0.25)
    for model, message in ((classes, "the model knows classes"), (named, "names types of anomalies already")):
        with pytest.raises(DataError, match=message):
            oddsight.fit_classes(folder / "defects", normal=model, size=SIDE)


def test_anomalies_that_were_taken_as_normal_are_refused(folder, normal, tmp_path):
    shutil.copytree(folder / "defects", tmp_path / "defects")
    shutil.copy(next((folder / "good").iterdir()), tmp_path / "defects" / "rust" / "good.png")
    with pytest.raises(DataError, match=r"1 of the labelled anomalies, .* were used to fit the model of normal images"):
        oddsight.fit_classes(tmp_path / "defects", normal=normal, size=SIDE)


@pytest.mark.parametrize("name", ["normal", "Unknown type"])
def test_types_that_are_called_like_verdicts_are_refused(folder, normal, tmp_path, name):
    shutil.copytree(folder / "defects", tmp_path / "defects")
    (tmp_path / "defects" / "rust").rename(tmp_path / "defects" / name)
    with pytest.raises(DataError, match="which is another verdict: rename it"):
        oddsight.fit_classes(tmp_path / "defects", normal=normal, size=SIDE)


def test_it_cannot_be_converted_or_updated(folder, named):
    with pytest.raises(OddsightError, match="names types of anomalies: export the model of normal images"):
        oddsight.export(named, "fp16", str(folder / "good"))
    with pytest.raises(OddsightError, match="names types of anomalies, which an update would not keep"):
        oddsight.update(named, str(folder / "test" / "good"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda types: types["decision"].update(threshold=-1.0), "threshold does not follow"),
        (lambda types: types["classes"]["names"].append("more"), "as many types of anomalies as it names"),
        (lambda types: types.update(flagged=10_000), "flags more calibration images"),
    ],
)
def test_files_that_contradict_themselves_are_refused(named, change, message):
    proto = onnx.load_model_from_string(named.to_bytes())
    entry = next(entry for entry in proto.metadata_props if entry.key == KEY)
    content = json.loads(entry.value)
    change(content["types"])
    entry.value = json.dumps(content)
    with pytest.raises(ModelError, match=message):
        Model.from_bytes(proto.SerializeToString())


def test_the_commands_say_what_is_promised(folder, normal, tmp_path):
    normal.save(tmp_path / "parts.onnx")
    (tmp_path / "parts.normals.zip").write_bytes(b"thumbnails")
    options = ("--size", SIDE, "--false-alarm-rate", RATE, "--calibration-fraction", 0.25)
    model = tmp_path / "named.onnx"
    said = run("fit-classes", folder / "defects", "--normal", tmp_path / "parts.onnx", "-o", model, *options)
    assert "names 2 types of anomalies: cloth, rust" in said.err
    assert "says of at most 20% of anomalies of these types that their type is unknown" in said.err
    assert (tmp_path / "named.normals.zip").read_bytes() == b"thumbnails"
    table = run("predict", model, folder / "test" / "bad").out
    assert "unknown type" in table
    assert "rust" in table
    described = json.loads(run("info", model, "--json").out)
    assert described["types"]["classes"]["names"] == list(TYPES)
    assert described["types"]["training"]["images_recognised"] > 0
    shown = run("evaluate", model, "--normal", folder / "test" / "good", "--anomalous", folder / "test" / "bad").out
    assert "unknown type" in shown
    refused = run("fit-classes", folder / "defects", "--normal", tmp_path / "parts.onnx", "-o", tmp_path / "parts.onnx")
    assert refused.code != 0
    assert "--normal" in refused.err


def test_scores_are_those_of_a_model_of_the_same_classes_whose_weights_are_shared(folder, normal, named):
    alone = oddsight.fit_classes(folder / "defects", size=SIDE, false_alarm_rate=RATE, calibration_fraction=0.25)
    image = draw_image("cloth", 9001)
    joined, own = named.predict(image).most_like, alone.predict(image)
    assert (joined.name, joined.score, joined.p_value) == (own.label, own.score, own.p_value)
    assert np.isclose(joined.probability, own.label_probability)
    both = len(normal.to_bytes()) + len(alone.to_bytes())
    assert len(named.to_bytes()) < both - 0.5 * len(normal.to_bytes())


@pytest.fixture(scope="module")
def small_defects(tmp_path_factory) -> Path:
    """Cloth is normal; dots and scratches on it are labelled anomalies."""
    root = tmp_path_factory.mktemp("small-defects")
    for kind, seeds in (("good", range(40)), ("bad/dot", range(1000, 1012)), ("bad/scratch", range(2000, 2012))):
        (root / kind).mkdir(parents=True)
        for seed in seeds:
            Image.fromarray(draw_defect(Path(kind).name, seed)).save(root / kind / f"{seed}.png")
    return root


def draw_defect(kind: str, seed: int) -> np.ndarray:
    """Cloth, with a small defect of a kind somewhere."""
    image = Image.fromarray(texture(seed, SIDE, SIDE))
    x, y = np.random.default_rng(seed).integers(10, SIDE - 10, 2).tolist()
    if kind == "dot":
        ImageDraw.Draw(image).ellipse((x - 4, y - 4, x + 4, y + 4), fill=(200, 30, 30))
    elif kind == "scratch":
        ImageDraw.Draw(image).line((x - 8, y - 5, x + 8, y + 5), fill=(20, 20, 20), width=2)
    return np.asarray(image)


@pytest.fixture(scope="module")
def localising(small_defects) -> Model:
    return oddsight.fit(small_defects / "good", method="padim", size=SIDE, false_alarm_rate=0.1)


def test_types_are_named_from_where_the_anomaly_is(small_defects, localising, monkeypatch):
    naming = []

    def record(normal, types, *others):
        naming.append(types)
        return add_types(normal, types, *others)

    monkeypatch.setattr("oddsight.fitting.classes.add_types", record)
    options = {"normal": localising, "false_alarm_rate": 0.25, "calibration_fraction": 0.25}
    named = oddsight.fit_classes(small_defects / "bad", **options)
    info = named.metadata.types
    assert info.classes.head["looks_where_anomalous"] is True
    assert (info.backbone.size, info.backbone.layers[-1]) == (SIDE, "stage6")
    for kind in named.types:
        results = [named.predict(draw_defect(kind, seed)).most_like.name for seed in range(5000, 5012)]
        assert results.count(kind) >= 9, results
    # The map is computed once, by the model of normal images, and says what it says to the part that names types.
    graph = onnx.load_model_from_string(named.to_bytes()).graph
    assert [value for node in graph.node for value in node.input].count("anomaly_map") > 0
    assert not [name for node in graph.node for name in node.output if "looking" in name]
    for seed in range(6000, 6006):
        image = draw_defect("dot", seed)
        joined, alone = named.predict(image), naming[0].predict(image)
        assert joined.most_like.name == alone.label
        assert joined.most_like.score == pytest.approx(alone.score, rel=1e-4)
        assert joined.score == localising.predict(image).score


def test_a_model_that_was_converted_says_where_to_look(small_defects, localising):
    converted = oddsight.export(localising, "fp16", str(small_defects / "good")).model
    options = {"normal": converted, "false_alarm_rate": 0.25, "calibration_fraction": 0.25}
    named = oddsight.fit_classes(small_defects / "bad", **options)
    assert named.metadata.types.classes.head["looks_where_anomalous"] is True
    assert named.predict(draw_defect("dot", 7000)).most_like.name == "dot"


def test_size_and_layers_can_be_chosen(small_defects, localising):
    options = {"normal": localising, "false_alarm_rate": 0.25, "calibration_fraction": 0.25}
    named = oddsight.fit_classes(small_defects / "bad", size=96, layers=["stage4"], **options)
    assert (named.metadata.types.backbone.size, named.metadata.types.backbone.layers) == (96, ["stage4"])
