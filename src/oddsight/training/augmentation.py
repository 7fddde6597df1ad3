"""Images changed at random, a batch at a time: quick enough for one process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional

from oddsight.training.classifier_settings import SHIFT

_CUTOUT = 4  # A quarter of its side is covered

_TURN = 15.0  # Degrees

_COLOUR = 0.3


def resize(images: torch.Tensor, size: int) -> torch.Tensor:
    """Images ``[N, 3, h, w]`` as float32 ``[N, 3, size, size]``, resized as a model's graph does it."""
    pixels = images.float()
    if pixels.shape[-2:] != (size, size):
        pixels = functional.interpolate(pixels, (size, size), mode="bilinear", antialias=True).round()
    return pixels


def augment(
    pixels: torch.Tensor, changes: Sequence[str], lots: torch.Generator, *, shift: float = SHIFT
) -> torch.Tensor:
    """Images float32 ``[N, 3, h, w]``, each changed at random.

    Args:
        pixels: Values 0 to 255.
        changes: Of :data:`oddsight.training.settings.AUGMENTATIONS`: ``flip`` (left and right), ``crop`` (moved,
            borders mirrored), ``cutout`` (a square is covered), ``rotation`` (by up to 15 degrees), ``colour``
            (brightness, contrast and saturation by up to 30%); or ``quarter turns``.
        lots: Where randomness comes from.
        shift: By how much ``crop`` moves an image at most, as a share of its side; by a pixel at least.
    """
    for name, change in _CHANGES.items():
        if name in changes:
            pixels = change(pixels, lots, shift)
    return pixels


def _flip(pixels: torch.Tensor, lots: torch.Generator, shift: float) -> torch.Tensor:
    chosen = _uniform(len(pixels), lots).to(pixels.device) < 0.5
    return torch.where(chosen[:, None, None, None], pixels.flip(3), pixels)


def _crop(pixels: torch.Tensor, lots: torch.Generator, shift: float) -> torch.Tensor:
    """Cut out of the image with mirrored borders, at a random place."""
    count, _, height, width = pixels.shape
    margin = max(1, int(height * shift)), max(1, int(width * shift))
    padded = functional.pad(pixels, (margin[1], margin[1], margin[0], margin[0]), mode="reflect")
    down = torch.randint(2 * margin[0] + 1, (count,), generator=lots).to(pixels.device)
    across = torch.randint(2 * margin[1] + 1, (count,), generator=lots).to(pixels.device)
    rows = down[:, None] + torch.arange(height, device=pixels.device)
    columns = across[:, None] + torch.arange(width, device=pixels.device)
    number = torch.arange(count, device=pixels.device)
    # Channels last throughout: the index gives [N, h, w, 3].
    found = padded.permute(0, 2, 3, 1)[number[:, None, None], rows[:, :, None], columns[:, None, :]]
    return found.permute(0, 3, 1, 2)


def _cutout(pixels: torch.Tensor, lots: torch.Generator, shift: float) -> torch.Tensor:
    """A grey square over each image (DeVries and Taylor, Cutout, 2017)."""
    count, _, height, width = pixels.shape
    side = max(1, min(height, width) // _CUTOUT)
    middle = (_uniform((2, count, 1), lots) * torch.tensor([height, width])[:, None, None]).to(pixels.device)
    near = [
        (torch.arange(length, device=pixels.device) - middle[axis]).abs() < side / 2
        for axis, length in enumerate((height, width))
    ]
    return torch.where((near[0][:, :, None] & near[1][:, None, :])[:, None], torch.full_like(pixels, 127.5), pixels)


def _rotate(pixels: torch.Tensor, lots: torch.Generator, shift: float) -> torch.Tensor:
    """By a small angle, borders mirrored."""
    angle = torch.deg2rad((2 * _uniform(len(pixels), lots) - 1) * _TURN)
    zero = torch.zeros_like(angle)
    rows = [torch.stack([angle.cos(), -angle.sin(), zero], 1), torch.stack([angle.sin(), angle.cos(), zero], 1)]
    grid = functional.affine_grid(torch.stack(rows, 1).to(pixels.device), list(pixels.shape), align_corners=False)
    return functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)


def _change_colour(pixels: torch.Tensor, lots: torch.Generator, shift: float) -> torch.Tensor:
    """Other brightness, contrast and saturation."""
    factors = 1 + _COLOUR * (2 * _uniform((3, len(pixels), 1, 1, 1), lots).to(pixels.device) - 1)
    pixels = pixels * factors[0]
    mean = pixels.mean((1, 2, 3), keepdim=True)
    pixels = mean + (pixels - mean) * factors[1]
    grey = pixels.mean(1, keepdim=True)
    return (grey + (pixels - grey) * factors[2]).clamp(0, 255)


_CHANGES = {
    "colour": _change_colour,
    "rotation": _rotate,
    "quarter turns": lambda pixels, lots, shift: turn_images(pixels, lots)[0],
    "flip": _flip,
    "crop": _crop,
    "cutout": _cutout,
}
"""In the order in which they are applied."""


def _uniform(shape: int | tuple[int, ...], lots: torch.Generator) -> torch.Tensor:
    return torch.rand(shape, generator=lots)


def turn_images(pixels: torch.Tensor, lots: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Square images turned by 0 to 3 right angles, and by how many, int64 ``[N]``."""
    turns = torch.randint(4, (len(pixels),), generator=lots).to(pixels.device)
    turned = pixels.clone()
    for turn in range(1, 4):
        turned[turns == turn] = torch.rot90(pixels[turns == turn], turn, (2, 3))
    return turned, turns


def mix_images(pixels: torch.Tensor, labels: torch.Tensor, lots: torch.Generator) -> torch.Tensor:
    """Images that belong to no class: each is mixed from images of two or more classes.

    A third are averages, a third have the textures of one and the outlines of another, a third are put together from
    quarters of different images (after Zhang et al., Mixture Outlier Exposure, WACV 2023, and Hendrycks et al.,
    PixMix, CVPR 2022).

    Args:
        pixels: float32 ``[N, 3, S, S]``.
        labels: Of the classes, ``[N]``; instead of a pair of one class another pair is taken again, so that there are
            always as many: memory for tensors of changing sizes is not used again. None if there is one class only.
        lots: Where randomness comes from.
    """
    order = torch.randperm(len(pixels), generator=lots).to(pixels.device)
    other = (labels != labels[order]).nonzero()[:, 0]
    other = other[torch.arange(len(pixels) if len(other) else 0, device=other.device) % max(1, len(other))]
    first, second = pixels[other], pixels[order][other]
    kind = torch.randint(3, (len(first),), generator=lots).to(pixels.device)[:, None, None, None]
    share = (0.35 + 0.3 * _uniform((len(first), 1, 1, 1), lots)).to(pixels.device)
    averaged = share * first + (1 - share) * second
    coarse = functional.avg_pool2d(first, 7, 1, 3, count_include_pad=False)
    fine = second - functional.avg_pool2d(second, 7, 1, 3, count_include_pad=False)
    crossed = (coarse + fine).clamp(0, 255)
    half = pixels.shape[-1] // 2
    pieced = first.clone()
    pieced[:, :, :half, half:] = second[:, :, half : 2 * half, : pieced.shape[-1] - half]
    pieced[:, :, half:, :half] = second.roll(1, 0)[:, :, : pieced.shape[-2] - half, half : 2 * half]
    return torch.where(kind == 0, averaged, torch.where(kind == 1, crossed, pieced))
