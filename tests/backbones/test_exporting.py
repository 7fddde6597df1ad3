"""Networks in PyTorch and their exports: the same numbers, the right shapes, and clear errors."""

from __future__ import annotations

import socket
import time

import numpy as np
import onnx
import pytest

import oddsight
from cli_files import run
from oddsight.backbones import BACKBONES, DEFAULT, backbone
from oddsight.backbones.exports import export_path
from oddsight.errors import ModelError, OddsightError
from oddsight.runtime.sessions import session
from textures import texture, write_textures

pytestmark = pytest.mark.train
torch = pytest.importorskip("torch", reason="needs the train extra")

from oddsight.backbones import exporting  # noqa: E402
from oddsight.backbones.exporting import TOLERANCE, export, torch_backbone  # noqa: E402

SMALL = "timm:resnet10t"
"""A network of timm that is quick to export."""


@pytest.fixture
def no_network(monkeypatch):
    """As if names of hosts could not be looked up."""

    def refuse(*args, **options):
        raise socket.gaierror("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def random_network(name, **options):
    torch.manual_seed(0)
    return torch_backbone(name, pretrained=False, **options)


def images(side):
    return np.stack([texture(seed, side, side).transpose(2, 0, 1) for seed in range(3)]).astype(np.float32)


def assert_same(network, path, side):
    """The file gives what the network gives, for several images at once and for each alone, in shapes it knows."""
    found = backbone(path)
    layers = tuple(network.stages)
    graph, pixels = session(found.graph(layers).SerializeToString(), threads=1), images(side)
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels))
    shapes = found.shapes(layers, side)
    alone = graph.run(None, {"pixels": pixels[1:2]})
    for name, output, one in zip(layers, graph.run(None, {"pixels": pixels}), alone, strict=True):
        reference = expected[name].numpy()
        scale = np.abs(reference).max()
        np.testing.assert_allclose(output / scale, reference / scale, atol=TOLERANCE)
        np.testing.assert_allclose(one / scale, output[1:2] / scale, atol=1e-6)
        assert output.shape[1:] == shapes[name]
        assert output.shape[1] == network.stages[name][1]


# Name, a size to compare at, stages with stride and channels (of a transformer the first), layers for patches.
NETWORKS = [
    ("resnet50", 64, "stem 2 64, layer1 4 256, layer2 8 512, layer3 16 1024, layer4 32 2048", "layer2 layer3"),
    (
        "vgg16",
        64,
        "relu1_2 1 64, relu2_2 2 128, relu3_3 4 256, relu4_3 8 512, relu5_3 16 512, pool5 32 512",
        "relu4_3 relu5_3",
    ),
    (
        "inception_v3",
        119,
        "conv2d_2b_3x3 2 64, conv2d_4a_3x3 4 192, mixed_5d 8 288, mixed_6e 16 768, mixed_7c 32 2048",
        "mixed_5d mixed_6e",
    ),
    ("timm:convnext_atto", 64, "stage1 4 40, stage2 8 80, stage3 16 160, stage4 32 320", "stage2 stage3"),
]


@pytest.mark.parametrize(("name", "side", "stages", "layers"), NETWORKS)
def test_exports_equal_the_network(tmp_path, name, side, stages, layers):
    network = random_network(name)
    expected = {n: (int(s), int(c)) for n, s, c in (stage.split() for stage in stages.split(", "))}
    assert list(network.stages.items()) == list(expected.items())
    assert (network.size, network.multiple) == ((299, 1) if name == "inception_v3" else (224, 32))
    # To be quick: a network is compared with its export at this size and at a smaller one.
    network.size = side
    export(network, tmp_path / "net.onnx")
    found = backbone(tmp_path / "net.onnx")
    assert (found.name, found.fixed, found.size, dict(found.stages)) == (name, False, side, expected)
    assert found.layers["patches/8"] == tuple(layers.split())
    assert_same(network, tmp_path / "net.onnx", 2 * side - side % 2)


def test_a_transformer_gives_grids_of_tokens(tmp_path):
    network = random_network("timm:vit_tiny_patch16_224", size=64)
    assert network.stages == {f"block{i}": (16, 192) for i in range(1, 13)}
    export(network, tmp_path / "vit.onnx")
    found = backbone(tmp_path / "vit.onnx")
    assert (found.size, found.fixed) == (64, True)
    assert found.shapes(("block3",), 64) == {"block3": (192, 4, 4)}
    assert found.layers["patches/8"] == ("block6", "block9")
    assert_same(network, tmp_path / "vit.onnx", 64)


def test_a_grid_of_tokens_lies_as_the_image(tmp_path):
    network = random_network("timm:vit_tiny_patch16_224", size=64)
    pixels = np.zeros((1, 3, 64, 64), np.float32)
    with torch.no_grad():
        before = network(torch.from_numpy(pixels))["block1"].numpy()
        pixels[:, :, 32:48, 48:] = 255
        change = np.abs(network(torch.from_numpy(pixels))["block1"].numpy() - before).sum(axis=(0, 1))
    assert np.unravel_index(change.argmax(), change.shape) == (2, 3)


def test_lite0_is_the_one_that_ships(tmp_path):
    network = torch_backbone(DEFAULT)
    shipped = BACKBONES[DEFAULT]
    assert network.stages == dict(shipped.stages)
    assert network.layers == dict(shipped.layers)
    assert (network.size, network.multiple) == (shipped.size, shipped.multiple)
    assert_same(network, shipped.path, 96)


def test_lite1_with_its_weights_from_the_command_line_to_a_model(kept, tmp_path):
    outcome = run("backbones", "export", "efficientnet-lite1")
    assert outcome.code == 0, outcome.err
    assert str(export_path("efficientnet-lite1")) in outcome.err + outcome.out
    rows = {row["backbone"]: row["status"] for row in run("backbones", "--json").json}
    assert (rows["efficientnet-lite1"], rows["efficientnet-lite2"]) != ("exported", "exported")
    assert_same(torch_backbone("efficientnet-lite1"), export_path("efficientnet-lite1"), 64)
    write_textures(tmp_path / "normal", range(24))
    model = oddsight.fit(tmp_path / "normal", backbone="efficientnet-lite1", size=64, false_alarm_rate=0.1)
    normal = max(model.predict(texture(seed)).score for seed in range(100, 110))
    assert min(model.predict(texture(seed, material="bark")).score for seed in range(100, 110)) > normal


def test_the_padding_of_lite_networks_is_that_of_tensorflow():
    """Where sides are even, SAME adds its pixels below and to the right: a constant shift shows in the first stage."""
    network = torch_backbone("efficientnet-lite2")
    pads = {tuple(module.padding) for module in network.modules() if isinstance(module, torch.nn.ZeroPad2d)}
    assert pads == {(0, 1, 0, 1), (1, 1, 1, 1), (1, 2, 1, 2), (2, 2, 2, 2)}
    assert network.stages["stage3"] == (8, 48)


def test_parameters_belong_to_the_first_stage_that_needs_them():
    network = random_network(SMALL)
    groups = network.parameters_by_stage()
    assert list(groups) == list(network.stages)
    every = [parameter for group in groups.values() for parameter in group]
    assert len(every) == len({id(parameter) for parameter in every}) > 20
    last = list(groups)[-1]
    outputs = network(torch.zeros(1, 3, 64, 64))
    outputs[list(groups)[-2]].sum().backward()
    assert all(parameter.grad is None for parameter in groups[last])
    assert all(parameter.grad is not None for name in groups if name != last for parameter in groups[name])


# Weights from files


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of the small network as timm keeps them, and what they give."""
    import timm
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(7)
    state = timm.create_model(SMALL.removeprefix("timm:"), num_classes=5).state_dict()
    state = {name: value + 0.01 * torch.rand(value.shape) * value.is_floating_point() for name, value in state.items()}
    state = {name: value.contiguous() for name, value in state.items()}
    torch.save(state, folder / "plain.pth")
    torch.save({"state_dict": {f"module.{name}": value for name, value in state.items()}}, folder / "nested.pth")
    save_file({name: value for name, value in state.items() if not name.startswith("fc.")}, folder / "w.safetensors")
    return folder, state


@pytest.mark.parametrize("file", ["plain.pth", "nested.pth", "w.safetensors"])
def test_weights_from_a_file(weights, file):
    folder, state = weights
    network = torch_backbone(SMALL, weights=folder / file)
    own = network.trunk.network.state_dict()
    names = {name for name in own if not name.endswith("num_batches_tracked")}
    assert all(torch.equal(own[name], state[name]) for name in names)
    assert network.source == f"weights from the file {file}"


def test_weights_from_a_file_to_predictions_by_the_command_line(weights, kept, tmp_path, no_network):
    folder, _ = weights
    outcome = run("backbones", "export", SMALL, "--weights", folder / "w.safetensors")
    assert outcome.code == 0, outcome.err
    assert_same(torch_backbone(SMALL, weights=folder / "plain.pth"), export_path(SMALL), 96)
    write_textures(tmp_path / "normal", range(12))
    model = tmp_path / "model.onnx"
    outcome = run("fit", tmp_path / "normal", "-o", model, "--backbone", SMALL, "--size", 64, "--method", "knn")
    assert outcome.code == 0, outcome.err
    export_path(SMALL).unlink()
    assert run("predict", model, tmp_path / "normal").code == 0


class Evil:
    def __reduce__(self):
        return print, ("run",)


def missing_one(state):
    return {name: value for name, value in state.items() if name != "layer3.0.conv1.weight"}


def another_shape(state):
    return state | {"layer3.0.conv1.weight": torch.zeros(3)}


def not_finite(state):
    return state | {"layer3.0.conv1.weight": state["layer3.0.conv1.weight"] * float("nan")}


def without_statistics(state):
    return {name: value for name, value in state.items() if "running_var" not in name}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (missing_one, "1 of .* are missing, such as layer3.0.conv1.weight"),
        (without_statistics, "are missing, such as .*running_var"),
        (another_shape, "layer3.0.conv1.weight has another shape"),
        (not_finite, "not finite"),
        (lambda state: {"a": Evil()}, "not a file of weights"),
        (lambda state: {"a": 1}, "must hold tensors by name"),
        (lambda state: [1, 2], "not a file of weights|must hold tensors"),
    ],
)
def test_wrong_weights_are_refused(weights, tmp_path, make, message, capsys):
    path = tmp_path / "wrong.pth"
    torch.save(make(dict(weights[1])), path)
    with pytest.raises(OddsightError, match=message) as error:
        torch_backbone(SMALL, weights=path)
    assert str(path) in str(error.value)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors", "w.pt"])
def test_files_that_hold_no_weights_are_refused(tmp_path, name):
    path = tmp_path / name
    with pytest.raises(OddsightError, match="no such file"):
        torch_backbone(SMALL, weights=path)
    for content in (b"", b"nonsense" * 40):
        path.write_bytes(content)
        with pytest.raises(OddsightError, match="not a file of weights"):
            torch_backbone(SMALL, weights=path)


# What cannot be had


@pytest.mark.parametrize("name", ["resnet50", "timm:resnet18"])
def test_without_a_network_the_error_comes_soon_and_says_what_to_do(kept, no_network, monkeypatch, tmp_path, name):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    start = time.monotonic()
    with pytest.raises(OddsightError, match=r"cannot be reached; fetch .*model.safetensors .*--weights"):
        backbone(name)
    assert time.monotonic() - start < 120
    assert not list(kept.glob("*.onnx"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("timm:nonsense", "timm has no network 'nonsense'"),
        ("timm:resnet18.nonsense", "timm has no network"),
        ("timm:../../etc", "timm has no network"),
        ("nonsense", "no backbone 'nonsense'"),
    ],
)
def test_unknown_networks_are_refused(kept, no_network, name, message):
    with pytest.raises(OddsightError, match=message):
        torch_backbone(name)


def test_a_size_is_for_networks_of_one_size(kept):
    with pytest.raises(OddsightError, match="takes images of many sizes"):
        random_network(SMALL, size=64)


# Exporting


def test_a_damaged_export_is_made_again(kept, monkeypatch):
    made = []

    def small(name, **options):
        made.append(name)
        return random_network(name)

    monkeypatch.setattr(exporting, "torch_backbone", small)
    first = backbone(SMALL)
    assert backbone(SMALL).sha256 == first.sha256
    assert made == [SMALL]
    content = first.path.read_bytes()
    first.path.write_bytes(content[:-1000] + bytes(1000))
    assert backbone(SMALL).sha256 == first.sha256
    assert made == [SMALL, SMALL]
    assert [path.name for path in kept.iterdir()] == ["timm-resnet10t.onnx"]


def test_an_export_that_disagrees_is_not_kept(tmp_path, monkeypatch):
    converted = exporting._converted

    def spoiled(network, *, fixed):
        proto = converted(network, fixed=fixed)
        tensor = next(t for t in proto.graph.initializer if len(t.dims) == 4)
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 1.01, tensor.name))
        return proto

    monkeypatch.setattr(exporting, "_converted", spoiled)
    with pytest.raises(ModelError, match="cannot be exported: in ONNX Runtime it differs by"):
        export(random_network(SMALL), tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())


def test_a_network_that_turns_out_to_have_its_size_built_in_is_exported_for_that_size(tmp_path):
    network = random_network("timm:mobilevit_xxs")
    assert not network.fixed
    network.size = 64
    export(network, tmp_path / "net.onnx")
    found = backbone(tmp_path / "net.onnx")
    assert (found.fixed, found.size) == (True, 64)
    assert_same(network, tmp_path / "net.onnx", 64)


def test_a_network_that_remembers_a_run_can_be_exported(tmp_path):
    network = random_network("timm:levit_128s", size=64)
    export(network, tmp_path / "net.onnx")
    assert_same(network, tmp_path / "net.onnx", 64)


def test_exporting_leaves_the_network_as_it_was_and_no_traces(tmp_path):
    network = random_network(SMALL).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    export(network, tmp_path / "net.onnx")
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    content = (tmp_path / "net.onnx").read_bytes()
    for trace in (b"site-packages", b".py", b"/home", b"/tmp"):
        assert trace not in content
    with pytest.raises(OddsightError, match="cannot write"):
        export(network, tmp_path / "missing" / "net.onnx")


def test_a_trained_network_is_exported_with_its_own_name(tmp_path):
    network = random_network(SMALL)
    network.name, network.source = "mine", "trained here"
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.01)
    export(network, tmp_path / "mine.onnx")
    found = backbone(tmp_path / "mine.onnx")
    assert (found.name, found.source) == ("mine", "trained here")
    assert_same(network, tmp_path / "mine.onnx", 64)
