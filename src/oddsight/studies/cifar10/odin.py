"""ODIN with its input gradient: to evaluate with, as no file can ship what takes a backward pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from oddsight.data.collection import ImageFile
from oddsight.runtime.progress import Progress, silent
from oddsight.training.augmentation import resize
from oddsight.training.classifying import Network
from oddsight.training.image_arrays import gather_arrays

TEMPERATURE = 1000.0
STEP = 0.0014
"""As a share of the range of pixels; both are the paper's for CIFAR-10."""

_BATCH = 250


def odin_scores(
    network: Network, images: Sequence[ImageFile], size: int, *, progress: Progress = silent
) -> NDArray[np.float32]:
    """Minus the confidence of ODIN (Liang et al., Enhancing the reliability of OOD image detection, ICLR 2018).

    Each pixel is moved a small step towards what makes the network surer of the class that it names, which helps images
    of known classes more than others. As the score ``odin`` it is ``-T log(K p)``, which orders images as ``p`` does.
    Images are read at the network's ``size``. Returns float32 ``[n]``; higher is less known.
    """
    network = network.eval().requires_grad_(False)
    found, done = [], 0
    for pixels in _batches(images, size):
        moving = pixels.requires_grad_(True)
        surest = (network(moving) / TEMPERATURE).log_softmax(1).amax(1)
        (gradient,) = torch.autograd.grad(surest.sum(), moving)
        with torch.no_grad():
            moved = (moving + 255 * STEP * gradient.sign()).clamp(0, 255)
            logits = network(moved).double() / TEMPERATURE
            confidence = logits.log_softmax(1).amax(1) + np.log(logits.shape[1])
        found.append((-TEMPERATURE * confidence).float().numpy())
        done += len(pixels)
        progress("perturbing images", done, len(images))
    return np.concatenate(found)


def _batches(images: Sequence[ImageFile], size: int) -> Iterator[torch.Tensor]:
    for at in range(0, len(images), _BATCH):
        some = images[at : at + _BATCH]
        array = gather_arrays(some, np.zeros(len(some), np.int64), size).images
        yield resize(torch.from_numpy(array).permute(0, 3, 1, 2), size)
