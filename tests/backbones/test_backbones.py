"""Backbones: the one that ships, exports that are kept, and networks of the user's own. None of it needs PyTorch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

import oddsight
from cli_files import run
from oddsight.backbones import BACKBONES, DEFAULT, Backbone, backbone
from oddsight.backbones.catalogue import CATALOGUE
from oddsight.backbones.description import Description, default_layers, describe
from oddsight.backbones.exports import export_path, exports_folder, kept_exports
from oddsight.backbones.network_file import read_network
from oddsight.backbones.network_shapes import activation_bytes, inferred_shapes
from oddsight.data.memory import plan_memory
from oddsight.errors import ModelError, OddsightError
from oddsight.runtime.sessions import session
from textures import texture, write_textures

LITE0 = BACKBONES[DEFAULT]
RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "first": RANDOM.normal(0, 0.02, (8, 3, 5, 5)).astype(np.float32),
    "second": RANDOM.normal(0, 0.1, (12, 8, 3, 3)).astype(np.float32),
}


def network(
    source="float[N, 3, S, S] pixels",
    outputs=("fine", "coarse"),
    *,
    opset=18,
    body=None,
    before="",
    more="",
) -> onnx.ModelProto:
    """A plain network of two convolutions without borders, strides 4 and 8."""
    fine, coarse = outputs
    name = source.split("]")[1].strip()
    lines = (
        body
        or f"""
        {before or "scaled = Mul (" + name + ", scale)"}
        a = Conv <strides = [4, 4]> (scaled, first)
        {fine} = Relu (a)
        b = Conv <strides = [2, 2]> ({fine}, second)
        {coarse} = Relu (b)
    """
    )
    results = f"float[N, 8, h, w] {fine}, float[N, 12, i, j] {coarse}{more}"
    text = f"""<ir_version: 8, opset_import: ["" : {opset}]>
    own ({source}) => ({results}) <float scale = {{0.01}}> {{ {lines} }}
    """
    model = onnx.parser.parse_model(text)
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, key) for key, value in WEIGHTS.items())
    return model


def saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def exported(path: Path, name: str, *, fixed: bool = False) -> Path:
    """A file as Oddsight exports one."""
    model = network("float[N, 3, 64, 64] pixels" if fixed else "float[N, 3, S, S] pixels")
    stages = {"fine": (4, 8), "coarse": (8, 12)}
    described = Description(
        name=name,
        summary="tiny",
        source="random",
        paper="none",
        stages=stages,
        layers=default_layers(stages),
        size=64,
        multiple=64 if fixed else 8,
        fixed=fixed,
        activations=100,
        graph_sha256="0" * 64,
    )
    describe(model, described)
    path.parent.mkdir(parents=True, exist_ok=True)
    return saved(model, path)


@pytest.fixture
def without_torch(monkeypatch):
    """As if PyTorch were not installed."""
    for name in ("torch", "timm", "oddsight.backbones.exporting", "oddsight.backbones.trunks"):
        monkeypatch.setitem(sys.modules, name, None)


def outputs_of(model: onnx.ModelProto, pixels: np.ndarray) -> list[np.ndarray]:
    return session(model.SerializeToString(), threads=1).run(None, {model.graph.input[0].name: pixels})


def images(count: int, side: int) -> np.ndarray:
    return np.stack([texture(seed, side, side).transpose(2, 0, 1) for seed in range(count)]).astype(np.float32)


# The one that ships


@pytest.mark.parametrize("size", [32, 96, 224, 1024])
def test_shapes_of_the_shipped_network_follow_its_strides(size):
    layers = tuple(LITE0.stages)
    assert LITE0.shapes(layers, size) == {name: (c, size // s, size // s) for name, (s, c) in LITE0.stages.items()}


def test_the_shipped_network_has_the_layers_that_any_network_would_get():
    assert default_layers(LITE0.stages) == dict(LITE0.layers)


def test_the_shipped_network_takes_what_the_budget_counts_for_it():
    layers = LITE0.layers["patches/8"]
    assert LITE0.memory(layers) == 0
    same = plan_memory(10**9, [], 224, activations=LITE0.activations, weights=LITE0.memory(layers))
    assert same == plan_memory(10**9, [], 224)
    # What is inferred of it is what was measured, rounded up.
    assert 0.9 * LITE0.activations < activation_bytes(LITE0.graph(tuple(LITE0.stages)), 224) < 1.1 * LITE0.activations


@pytest.mark.parametrize("size", [0, -32, 100])
def test_sizes_that_do_not_suit_are_refused(size):
    with pytest.raises(OddsightError, match=f"multiple of 32, not {size}"):
        LITE0.shapes(("stage3",), size)


# Layers


@pytest.mark.parametrize(
    ("strides", "patches", "coarse", "embedding"),
    [
        ((2, 4, 8, 16, 32), "cd", "d", "cd"),
        ((4, 8, 16, 32), "bc", "c", "bc"),
        ((1, 2, 4), "c", "c", "c"),
        ((16, 32, 64), "a", "a", "a"),
        ((4, 8, 8, 16, 16, 16), "cf", "ef", "cef"),
        ((14,) * 12, "fi", "fi", "fi"),
        ((16,), "a", "a", "a"),
    ],
)
def test_layers_are_chosen_by_stride(strides, patches, coarse, embedding):
    stages = {name: (stride, 8) for name, stride in zip("abcdefghijkl", strides, strict=False)}
    expected = {"patches/8": tuple(patches), "patches/16": tuple(coarse), "embedding": tuple(embedding)}
    assert default_layers(stages) == expected


# Networks of the user's own


@pytest.mark.slow
def test_a_network_of_ones_own_becomes_one_model_file(tmp_path):
    path = saved(network(), tmp_path / "my net.onnx")
    found = backbone(path)
    assert (found.name, found.size, found.multiple, found.fixed) == ("my net", 224, 1, False)
    assert dict(found.stages) == {"fine": (4, 8), "coarse": (8, 12)}
    assert set(found.layers.values()) == {("fine", "coarse")}
    write_textures(tmp_path / "normal", range(24))
    for method in ("patchcore", "mahalanobis"):
        model = oddsight.fit(tmp_path / "normal", method=method, backbone=str(path), size=61, false_alarm_rate=0.1)
        model.save(tmp_path / f"{method}.onnx")
        assert model.metadata.backbone.sha256 == found.sha256
        assert model.metadata.backbone.layers == ["fine", "coarse"]
    path.unlink()
    for method in ("patchcore", "mahalanobis"):
        model = oddsight.load(tmp_path / f"{method}.onnx")
        normal, other = (model.predict(texture(100, material=m)).score for m in ("cloth", "bark"))
        assert other > normal


@pytest.mark.slow
@pytest.mark.parametrize("opset", [11, 13, 18, 21])
@pytest.mark.parametrize("source", ["float[N, 3, S, S] pixels", "float[1, 3, 64, 64] image", "float[N, 3, 64, 64] x"])
def test_the_adapted_network_computes_the_same(tmp_path, opset, source):
    original = network(source, opset=opset)
    found = backbone(saved(original, tmp_path / "own.onnx"))
    pixels = images(3, 64)
    expected = [np.concatenate(rows) for rows in zip(*(outputs_of(original, p[None]) for p in pixels), strict=True)]
    adapted = found.graph(("coarse", "fine"))
    assert [entry.version for entry in adapted.opset_import] == [18]
    coarse, fine = outputs_of(adapted, pixels)
    np.testing.assert_allclose(fine, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(coarse, expected[1], rtol=1e-5, atol=1e-6)
    assert found.fixed == ("64" in source)


@pytest.mark.parametrize("size", [13, 50, 61, 100, 300])
def test_shapes_are_those_of_a_run(tmp_path, size):
    found = backbone(saved(network(), tmp_path / "own.onnx"))
    shapes = found.shapes(("fine", "coarse"), size)
    assert list(shapes.values()) == [o.shape[1:] for o in outputs_of(network(), images(1, size))]


def test_shapes_that_cannot_be_inferred_are_measured(tmp_path):
    # A crop to 40 pixels by an end that is known only when the image is there.
    body = """
        scaled = Mul (pixels, scale)
        total = ReduceSum <keepdims = 0> (scaled)
        row = Reshape (total, one)
        wrong = IsNaN (row)
        none = Cast <to = 7> (wrong)
        side = Add (none, forty)
        sides = Concat <axis = 0> (side, side)
        crop = Slice (scaled, start, sides, axes)
        a = Conv <strides = [4, 4]> (crop, first)
        fine = Relu (a)
        b = Conv <strides = [2, 2]> (fine, second)
        coarse = Relu (b)
    """
    model = network(body=body)
    constants = {"forty": [40], "start": [0, 0], "axes": [2, 3], "one": [1]}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(np.array(v), k) for k, v in constants.items())
    found = backbone(saved(model, tmp_path / "own.onnx"))
    assert "fine" not in inferred_shapes(found.graph(("fine",)), 64)
    assert found.shapes(("fine", "coarse"), 64) == {"fine": (8, 9, 9), "coarse": (12, 4, 4)}
    with pytest.raises(OddsightError, match="at most 4,096, not 1000000"):
        found.shapes(("fine",), 10**6)


def test_enormous_sizes_cost_nothing_to_refuse(tmp_path):
    found = backbone(saved(network(), tmp_path / "own.onnx"))
    assert found.shapes(("fine",), 10**6) == {"fine": (8, 249_999, 249_999)}


@pytest.mark.parametrize(("size", "layer"), [(4, "fine"), (8, "coarse"), (9, "coarse")])
def test_sizes_too_small_for_the_network_are_refused(tmp_path, size, layer):
    found = backbone(saved(network(), tmp_path / "own.onnx"))
    with pytest.raises(OddsightError, match=f"does not take images of {size} x {size} pixels"):
        found.shapes((layer,), size)


def test_a_network_of_one_size_says_so(tmp_path):
    found = backbone(saved(network("float[N, 3, 64, 64] x"), tmp_path / "own.onnx"))
    assert found.size == 64
    for size in (32, 128, 65):
        with pytest.raises(OddsightError, match=f"own takes only images of 64 pixels a side, not {size}"):
            found.shapes(("fine",), size)


@pytest.mark.slow
@pytest.mark.parametrize("names", [("score", "patches"), ("image", "p_value"), ("a.b", "a_b"), ("_7", "12x")])
def test_any_names_of_outputs_can_be_chained(tmp_path, names):
    model = network()
    for value, name in zip(model.graph.output, names, strict=True):
        old, value.name = value.name, name
        for node in model.graph.node:
            node.input[:] = [name if i == old else i for i in node.input]
            node.output[:] = [name if o == old else o for o in node.output]
    found = backbone(saved(model, tmp_path / "own.onnx"))
    write_textures(tmp_path / "normal", range(12))
    for method in ("patchcore", "knn"):
        fitted = oddsight.fit(tmp_path / "normal", method=method, backbone=str(found.path), size=48)
        assert np.isfinite(fitted.predict(texture(50)).score)


def test_outputs_that_are_no_maps_are_left_out(tmp_path):
    body = """scaled = Mul (pixels, scale) a = Conv <strides = [4, 4]> (scaled, first) fine = Relu (a)
        b = Conv <strides = [2, 2]> (fine, second) coarse = Relu (b) logits = GlobalAveragePool (b)
        classes = Flatten (logits) """
    model = network(body=body, more=", float[N, 12] classes")
    assert list(backbone(saved(model, tmp_path / "own.onnx")).stages) == ["fine", "coarse"]


def changed(change, **options):
    model = network(**options)
    change(model)
    return model


def external(model):
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def not_a_number(model):
    bad = np.full_like(WEIGHTS["second"], np.nan)
    for tensor in model.graph.initializer:
        if tensor.name == "second":
            tensor.CopyFrom(onnx.numpy_helper.from_array(bad, "second"))


def custom(model):
    model.opset_import.add(domain="com.example", version=1)
    model.graph.node[0].domain = "com.example"


def classical(model):
    model.opset_import.add(domain="ai.onnx.ml", version=3)


def flat(model):
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
        value.type.tensor_type.shape.dim.add(dim_param="N")
        value.type.tensor_type.shape.dim.add(dim_value=8)


def second_input(model):
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", 1, [1]))


def other_weights(model):
    for tensor in model.graph.initializer:
        if tensor.name == "second":
            tensor.CopyFrom(onnx.numpy_helper.from_array(WEIGHTS["second"][:, :5], "second"))


ACROSS = "mean = ReduceMean <keepdims = 1> (pixels) apart = Sub (pixels, mean) scaled = Mul (apart, scale)"
NOISE = "noise = RandomNormalLike (pixels) noisy = Add (pixels, noise) scaled = Mul (noisy, scale)"
WRONG = {
    "text": (b"hello", "not an ONNX file"),
    "empty": (b"", "an empty file"),
    "cut": (network().SerializeToString()[:-200], "not an ONNX file|not a valid ONNX graph|cannot be run|refuses"),
    "another model": (lambda: onnx.ModelProto(ir_version=8), "version of the ONNX operators|not a valid"),
    "external data": (lambda: changed(external), "data in another file"),
    "own operators": (lambda: changed(custom), "operators of its own"),
    "classical": (lambda: changed(classical), "classical machine learning"),
    "unknown operator": (lambda: network(before="scaled = Nonsense (pixels)"), "not a valid ONNX graph"),
    "no maps": (lambda: changed(flat), "none of its outputs is a feature map"),
    "two inputs": (lambda: changed(second_input), "it has 2 inputs"),
    "one channel": (lambda: network("float[N, 1, S, S] pixels"), r"its input is float \[\?, 1, \?, \?\]"),
    "channels last": (lambda: network("float[N, 64, 64, 3] pixels"), "takes one image, float32"),
    "not square": (lambda: network("float[N, 3, 64, 32] pixels"), r"\[\?, 3, 64, 32\]"),
    "bytes": (lambda: network("uint8[N, 3, S, S] pixels"), r"its input is uint8"),
    "huge": (lambda: network("float[N, 3, 1000000, 1000000] pixels"), "1,000,000 pixels a side"),
    "too new": (lambda: network(opset=99), "not a valid ONNX graph|cannot be converted to 18"),
    "not finite": (lambda: changed(not_a_number), "coarse is not finite"),
    "other weights": (lambda: changed(other_weights), "not a valid ONNX graph|ONNX Runtime refuses|cannot be run"),
    "neighbours": (lambda: network(before=ACROSS), "depends on more than the image"),
    "random": (lambda: network(before=NOISE), "depends on more than the image"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_files_that_are_no_feature_network_are_refused(tmp_path, kind):
    made, message = WRONG[kind]
    path = tmp_path / "own.onnx"
    path.write_bytes(made if isinstance(made, bytes) else made().SerializeToString())
    with pytest.raises(ModelError, match=message) as error:
        backbone(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_one_at_a_time_is_refused(tmp_path):
    model = network("float[1, 3, 64, 64] pixels", before="s = Mul (pixels, scale) scaled = Reshape (s, one)")
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 3, 64, 64]), "one"))
    with pytest.raises(ModelError, match="two images at once; export it with a dynamic batch axis"):
        backbone(saved(model, tmp_path / "own.onnx"))


@pytest.mark.parametrize("place", ["missing.onnx", "", "/dev/null.onnx", "\0.onnx"])
def test_what_is_no_file_is_refused(tmp_path, place):
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        backbone(tmp_path / place if place else tmp_path / "folder.onnx")


def test_the_command_line_refuses_in_one_line(tmp_path):
    write_textures(tmp_path / "normal", range(10))
    (tmp_path / "own.onnx").write_text("nonsense")
    outcome = run("fit", tmp_path / "normal", "-o", tmp_path / "m.onnx", "--backbone", tmp_path / "own.onnx")
    assert outcome.code == 1
    assert outcome.err.startswith("error: ")
    assert "not an ONNX file" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.slow
def test_damage_is_refused_or_harmless(tmp_path):
    content = exported(tmp_path / "export.onnx", "resnet50").read_bytes()
    random = np.random.default_rng(1)
    path, refused = tmp_path / "own.onnx", 0
    for _ in range(150):
        damaged = bytearray(content)
        damaged[random.integers(len(content))] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        try:
            found = read_network(path)
        except ModelError:
            refused += 1
        else:
            # Outside of the graph, or in the key of the description, so that it is a plain network.
            assert found.plain or found.described.stages == {"fine": (4, 8), "coarse": (8, 12)}
    assert refused > 100


# Exports


def test_an_export_describes_itself(tmp_path):
    found = backbone(exported(tmp_path / "any.onnx", "resnet50"))
    assert (found.name, found.size, found.multiple, found.activations) == ("resnet50", 64, 8, 100)
    assert found.layers["patches/8"] == ("coarse",)
    with pytest.raises(OddsightError, match="multiple of 8, not 60"):
        found.shapes(("fine",), 60)
    with pytest.raises(OddsightError, match="no layer 'head': resnet50 has fine, coarse"):
        found.graph(("head",))
    fixed = backbone(exported(tmp_path / "fixed.onnx", "resnet50", fixed=True))
    with pytest.raises(OddsightError, match="only images of 64 pixels"):
        fixed.shapes(("fine",), 128)


def edited(path: Path, **changes) -> None:
    model = onnx.load(path)
    content = json.loads(model.metadata_props[0].value) | changes
    model.metadata_props[0].value = json.dumps(content)
    path.write_bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": {"fine": [4, 8]}}, "layers that it does not have|not the stages"),
        ({"stages": {"fine": [4, 8], "coarse": [0, 12]}}, "description is wrong at stages.coarse.0"),
        ({"stages": {"a b": [4, 8], "coarse": [8, 12]}}, "description is wrong at stages"),
        ({"layers": {"patches/8": ["head"]}}, "layers that it does not have"),
        ({"layers": {"patches/8": []}}, "description is wrong at layers"),
        ({"size": 10**9}, "description is wrong at size"),
        ({"schema_version": 2}, "description is wrong at schema_version"),
        ({"surprise": 1}, "description is wrong at surprise"),
        ({"graph_sha256": "1" * 64}, "damaged or was edited"),
    ],
)
def test_descriptions_that_cannot_be_true_are_refused(tmp_path, changes, message):
    path = exported(tmp_path / "any.onnx", "resnet50")
    edited(path, **changes)
    with pytest.raises(ModelError, match=message):
        backbone(path)


def test_a_wrong_number_of_channels_is_noticed(tmp_path):
    path = exported(tmp_path / "any.onnx", "resnet50")
    edited(path, stages={"fine": [4, 9], "coarse": [8, 12]})
    with pytest.raises(ModelError, match="fine of resnet50 is not what its description says"):
        backbone(path).shapes(("fine",), 64)


def test_changed_weights_are_noticed(tmp_path):
    path = exported(tmp_path / "any.onnx", "resnet50")
    found = backbone(path)
    model = onnx.load(path)
    model.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(2 * WEIGHTS["first"], "first"))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="damaged or were changed"):
        found.graph(("fine",))
    with pytest.raises(ModelError, match="damaged or was edited"):
        backbone(path)


@pytest.mark.slow
def test_kept_exports_need_no_torch(kept, without_torch, tmp_path):
    exported(export_path("resnet50"), "resnet50")
    exported(export_path("timm:some/net.tag"), "timm:some/net.tag")
    assert exports_folder() == kept
    assert sorted(path.name for path in kept.iterdir()) == ["resnet50.onnx", "timm-some-net.tag.onnx"]
    assert backbone("timm:some/net.tag").name == "timm:some/net.tag"
    write_textures(tmp_path / "normal", range(12))
    model = oddsight.fit(tmp_path / "normal", method="knn", backbone="resnet50")
    assert (model.metadata.backbone.name, model.metadata.backbone.size) == ("resnet50", 64)
    assert model.metadata.backbone.layers == list(backbone("resnet50").layers["embedding"])


@pytest.mark.parametrize("spoil", ["missing", "damaged", "edited", "of another", "plain", "a folder"])
def test_without_torch_and_export_the_error_says_what_to_install(kept, without_torch, spoil):
    path = export_path("resnet50")
    exported(path, "vgg16" if spoil == "of another" else "resnet50")
    if spoil in {"missing", "a folder"}:
        path.unlink()
    if spoil == "a folder":
        path.mkdir()
    if spoil == "damaged":
        path.write_bytes(path.read_bytes()[:-100])
    if spoil == "edited":
        edited(path, size=32, graph_sha256="1" * 64)
    if spoil == "plain":
        saved(network(), path)
    with pytest.raises(OddsightError, match=r"pip install 'oddsight\[train\]'"):
        backbone("resnet50")


def test_unknown_names_are_refused_with_those_known(kept, without_torch):
    for name in ("nonsense", "", "timm:", "RESNET50"):
        with pytest.raises(OddsightError, match=r"efficientnet-lite0, .*resnet50.*timm:NAME.*NAME.onnx"):
            backbone(name)


def test_the_list_says_what_is_there_and_what_is_needed(kept):
    exported(export_path("vgg16"), "vgg16")
    exported(export_path("timm:tiny"), "timm:tiny")
    exported(kept / "copy.onnx", "timm:tiny")
    saved(network(), kept / "own.onnx")
    (kept / "broken.onnx").write_text("broken")
    assert sorted(name for name, _ in kept_exports()) == ["timm:tiny", "vgg16"]
    rows = {row["backbone"]: row for row in run("backbones", "--json").json}
    assert list(rows) == [*BACKBONES, *CATALOGUE, "timm:tiny", "timm:NAME", "FILE.onnx"]
    assert rows[DEFAULT]["status"] == "ships with Oddsight"
    assert rows["vgg16"]["status"] == rows["timm:tiny"]["status"] == "exported"
    assert rows["vgg16"]["layers"] == "fine (8 channels, stride 4), coarse (12 channels, stride 8)"
    assert "oddsight[train]" in rows["resnet50"]["status"]


def test_larger_networks_take_more_of_the_budget(tmp_path):
    def like(weights, activations):
        fields = {name: getattr(LITE0, name) for name in LITE0.__dataclass_fields__}
        return Backbone(**fields | {"weights": weights, "activations": activations})

    layers = ("stage3",)
    large = like(200 * 10**6, 1000)
    assert large.memory(layers) > 400 * 10**6
    plan = plan_memory(10**9, [], 224, activations=large.activations, weights=large.memory(layers))
    assert plan.method < plan_memory(10**9, [], 224).method - 400 * 10**6


@pytest.mark.slow
def test_chaining_keeps_networks_apart(tmp_path):
    """A network whose inner names are those of other pieces."""
    model = network(
        body="resized = Mul (pixels, scale) values = Conv <strides = [4, 4]> (resized, first)"
        " fine = Relu (values) grid = Conv <strides = [2, 2]> (fine, second) coarse = Relu (grid)"
    )
    model.graph.name = "preprocessing"
    found = backbone(saved(model, tmp_path / "own.onnx"))
    write_textures(tmp_path / "normal", range(12))
    fitted = oddsight.fit(tmp_path / "normal", backbone=str(found.path), size=48)
    assert np.isfinite(fitted.predict(texture(60)).score)
