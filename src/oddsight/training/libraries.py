"""The libraries that training takes. Needs no PyTorch."""

from __future__ import annotations

from importlib.util import find_spec

from oddsight.errors import OddsightError

_FOR_PIXELS = ("torch", "torchvision", "lightning", "safetensors")
_FOR_BACKBONES = (*_FOR_PIXELS, "timm")


def require_training(what: str = "training a network", *, pixels: bool = False, instead: str = "") -> None:
    """Refuse ``what`` without the libraries for it; networks on ``pixels`` start from no backbone, and need fewer.

    Raises:
        OddsightError: Naming those that are missing, and ``instead``, what could be done without them.
    """
    missing = [name for name in (_FOR_PIXELS if pixels else _FOR_BACKBONES) if find_spec(name) is None]
    if missing:
        raise OddsightError(f"{what} needs {', '.join(missing)}: pip install 'oddsight[train]'{instead}")
