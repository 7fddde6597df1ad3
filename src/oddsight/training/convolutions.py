"""Convolutions of EfficientNet-Lite that learn quickly on processors.

While a network is fine-tuned its batch statistics stay as they are, so a normalisation is a factor and an offset for
each channel: both go into the convolution before it, and a pass over all values is saved. The gradients of depthwise
convolutions are put together from those that the library computes quickly.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_FAST = 3  # The side of the depthwise kernels whose gradient by the weights is computed quickly


@contextmanager
def quick_convolutions(pairs: Iterable[tuple[nn.Conv2d, nn.BatchNorm2d]]) -> Iterator[None]:
    """While it lasts, convolutions do the work of the normalisations after them; the results are the same.

    Args:
        pairs: Each convolution, which pads its input as EfficientNet-Lite's do, and the normalisation, in evaluation
            mode, that alone reads its output.
    """
    changed = list(pairs)
    for convolution, norm in changed:
        convolution.forward, norm.forward = partial(_convolve, convolution, norm), _pass
    try:
        yield
    finally:
        for convolution, norm in changed:
            del convolution.forward, norm.forward


def _pass(x: torch.Tensor) -> torch.Tensor:
    return x


def _convolve(convolution: Any, norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:  # noqa: ANN401 - it pads, too
    """The normalised output of a convolution without a bias."""
    assert norm.running_mean is not None and norm.running_var is not None
    factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weights, offset = convolution.weight * factor[:, None, None, None], norm.bias - norm.running_mean * factor
    x = convolution.static_padding(x)
    if torch.is_autocast_enabled(x.device.type):
        half = torch.get_autocast_dtype(x.device.type)
        x, weights, offset = x.to(half), weights.to(half), offset.to(half)
    stride, groups = convolution.stride[0], convolution.groups
    if groups == 1 or (stride == 1 and weights.shape[2] == _FAST):
        return functional.conv2d(x, weights, offset, stride, groups=groups)
    result: torch.Tensor = DepthwiseConvolution.apply(x, weights, offset, stride)
    return result


class DepthwiseConvolution(torch.autograd.Function):
    """A depthwise convolution without padding, whose gradients are quick on processors as well.

    The gradient by the input is, for a stride above 1, a convolution of the gradient with zeros between its values; the
    gradient by a 5 x 5 kernel is put together from four by a 3 x 3 one. The library has no quick way to either.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weights: torch.Tensor, offset: torch.Tensor, stride: int) -> torch.Tensor:  # noqa: ANN401 - autograd's own
        """``x [N, C, h, w]``, ``weights [C, 1, k, k]`` with an odd ``k`` and ``offset [C]`` to ``[N, C, h', w']``."""
        ctx.save_for_backward(x, weights)
        ctx.stride = stride
        return functional.conv2d(x, weights, offset, stride, groups=len(weights))

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # noqa: ANN401 - autograd's own
        """Gradients by all that :meth:`forward` takes."""
        x, weights = ctx.saved_tensors
        by_x, by_weights, by_offset, _ = ctx.needs_input_grad
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        return (
            _by_input(gradient, x, weights, ctx.stride) if by_x else None,
            _by_weights(gradient, x, weights, ctx.stride) if by_weights else None,
            gradient.sum((0, 2, 3)) if by_offset else None,
            None,
        )


def _by_input(gradient: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, stride: int) -> torch.Tensor:
    if stride == 1:
        return _library(gradient, x, weights, stride, 0)
    (count, channels, height, width), (_, _, tall, wide) = gradient.shape, x.shape
    margin = weights.shape[2] - 1
    spread = torch.empty(
        (count, channels, tall + margin, wide + margin),
        dtype=gradient.dtype,
        device=gradient.device,
        memory_format=torch.channels_last,
    ).zero_()
    spread[
        :, :, margin : margin + stride * (height - 1) + 1 : stride, margin : margin + stride * (width - 1) + 1 : stride
    ] = gradient
    return functional.conv2d(spread, weights.flip(2, 3), groups=channels)


def _by_weights(gradient: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, stride: int) -> torch.Tensor:
    side = weights.shape[2]
    if side <= _FAST:
        return _library(gradient, x, weights, stride, 1)
    height, width = (stride * (length - 1) + _FAST for length in gradient.shape[2:])
    window = weights[:, :, :_FAST, :_FAST].contiguous()
    result = torch.empty_like(weights)
    starts = sorted({*range(0, side - _FAST, _FAST), side - _FAST})
    for down in starts:
        for across in starts:
            part = x[:, :, down : down + height, across : across + width]
            found = _library(gradient, part.contiguous(memory_format=torch.channels_last), window, stride, 1)
            result[:, :, down : down + _FAST, across : across + _FAST] = found
    return result


def _library(gradient: torch.Tensor, x: torch.Tensor, weights: torch.Tensor, stride: int, wanted: int) -> torch.Tensor:
    """The library's gradient by the input (0) or by the weights (1)."""
    mask = [wanted == 0, wanted == 1, False]
    found: torch.Tensor = torch.ops.aten.convolution_backward(
        gradient, x, weights, None, [stride] * 2, [0, 0], [1, 1], False, [0, 0], len(weights), mask
    )[wanted]
    return found
