"""Quick convolutions give what the library's give, and their gradients."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional

from oddsight.backbones.exporting import torch_backbone
from oddsight.training.classifier_settings import classifier_settings
from oddsight.training.classifiers import _resolve_precision
from oddsight.training.convolutions import DepthwiseConvolution, quick_convolutions

pytestmark = [pytest.mark.train, pytest.mark.usefixtures("one_thread")]


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("side", [1, 3, 5, 7])
@pytest.mark.parametrize("shape", [(9, 9), (8, 11)])
def test_depthwise_gradients(side: int, stride: int, shape: tuple[int, int]) -> None:
    lots = torch.Generator().manual_seed(side + stride)
    x, weights, offset = (
        torch.randn(size, generator=lots, dtype=torch.float64).requires_grad_()
        for size in ((2, 4, *shape), (4, 1, side, side), (4,))
    )

    def gradients(result: torch.Tensor) -> tuple[torch.Tensor, ...]:
        factors = torch.arange(result.numel(), dtype=torch.float64).reshape(result.shape)
        return torch.autograd.grad((result * factors.cos()).sum(), (x, weights, offset))

    plain = functional.conv2d(x, weights, offset, stride, groups=4)
    own = DepthwiseConvolution.apply(x, weights, offset, stride)
    assert torch.equal(own, plain)
    for found, expected in zip(gradients(own), gradients(plain), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_network_and_gradients_are_the_same() -> None:
    # In double precision: in single, what is rounded around the kinks of the network differs between processors.
    backbone = torch_backbone("efficientnet-lite0").double()
    pixels = 255 * torch.rand(2, 3, 64, 96, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def run() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        backbone.zero_grad()
        head = backbone(pixels)["head"]
        head.square().mean().backward()
        return head.detach(), {
            name: one.grad.clone() for name, one in backbone.named_parameters() if one.grad is not None
        }

    head, gradients = run()
    with quick_convolutions(backbone.trunk.normalised_convolutions()):
        quick_head, quick_gradients = run()
    torch.testing.assert_close(quick_head, head, rtol=1e-9, atol=1e-9)
    assert quick_gradients.keys() == gradients.keys()
    for name, expected in gradients.items():
        assert (quick_gradients[name] - expected).norm() <= 1e-9 * expected.norm(), name
    again, _ = run()
    assert torch.equal(again, head)  # all is as it was


def test_modules_are_as_before_after_an_error() -> None:
    backbone = torch_backbone("efficientnet-lite0", pretrained=False)
    with (
        pytest.raises(RuntimeError, match="broken"),
        quick_convolutions(backbone.trunk.normalised_convolutions()),
    ):
        raise RuntimeError("broken")
    assert not [module for module in backbone.modules() if "forward" in vars(module)]


def test_precision_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for units in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda units=units: units)
        half = "bf16-mixed" if units else "32-true"
        for network in ("compact", "efficientnet-lite0"):
            assert _resolve_precision(classifier_settings(network)).precision == half
        for network in ("textbook", "timm:resnet18"):
            assert _resolve_precision(classifier_settings(network, precision="auto")).precision == "32-true"
