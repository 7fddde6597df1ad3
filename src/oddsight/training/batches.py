"""Batches of images, from memory or from files, in an order that depends on the seed and the epoch only."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from oddsight.data.class_images import ClassImages
from oddsight.errors import ImageError
from oddsight.training.image_arrays import Arrays, read_at_size

Key = tuple[NDArray[np.intp], int]  # The rows of a batch, and a seed for what is random about it

Batch = tuple[torch.Tensor, torch.Tensor, int]
"""Images uint8 ``[N, ..., 3, h, w]``, indices of classes ``[N]``, and a seed for what is random about the batch."""


class Order(Sampler[Key]):
    """The batches of an epoch, at most ``size`` images each; ``processes`` that learn together share each.

    In random order a remainder is left out, and the next epoch leaves out others. ``epoch`` is to be set before each;
    the order, and what is random about the batches, depend on it and the seed only.
    """

    def __init__(self, count: int, size: int, *, shuffle: bool, seed: int, processes: int = 1, rank: int = 0) -> None:
        self.count, self.shuffle, self.seed = count, shuffle, seed
        self.processes, self.rank = processes, rank
        self.size = processes * min(size, max(1, count // processes))
        self.epoch = 0

    def __len__(self) -> int:
        return math.floor(self.count / self.size) if self.shuffle else math.ceil(self.count / self.size)

    def __iter__(self) -> Iterator[Key]:
        lots = np.random.default_rng((self.seed, self.epoch))
        order = lots.permutation(self.count) if self.shuffle else np.arange(self.count)
        # Each process gets as many: some images twice, if need be.
        order = np.resize(order, -(-self.count // self.processes) * self.processes)
        for number in range(len(self)):
            rows = order[number * self.size : (number + 1) * self.size][self.rank :: self.processes]
            # Mapped files are read in order.
            yield np.sort(rows), int(lots.integers(2**31)) + self.rank


class ArrayBatches(Dataset[Batch]):
    """Images of an array, ``[N, 3, h, w]``."""

    def __init__(self, arrays: Arrays) -> None:
        self.arrays = arrays

    def __len__(self) -> int:
        return len(self.arrays)

    def __getitem__(self, key: Key) -> Batch:
        rows, seed = key
        images = torch.from_numpy(self.arrays.images[rows]).permute(0, 3, 1, 2)
        return images, torch.from_numpy(self.arrays.labels[rows]), seed


class FileBatches(Dataset[Batch | str]):
    """Images read from their files one by one and brought to size, ``[N, views, 3, size, size]``.

    With ``crop``, a version is a random part of the image, half to all of its area.
    """

    def __init__(self, data: ClassImages, size: int, *, views: int = 1, crop: bool = False) -> None:
        self.data, self.size, self.views, self.crop = data, size, views, crop

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, key: Key) -> Batch | str:
        """A batch, or what went wrong while it was read: exceptions do not travel well between processes."""
        rows, seed = key
        lots = np.random.default_rng(seed)
        chosen = self.data.subset(rows)
        shape = (self.size, self.size)
        try:
            views = [
                read_at_size(image, shape, [self._box(lots) for _ in range(self.views)]) for image in chosen.images
            ]
        except ImageError as error:
            return str(error)
        return torch.from_numpy(np.array(views)).permute(0, 1, 4, 2, 3), torch.from_numpy(chosen.labels), seed

    def _box(self, lots: np.random.Generator) -> tuple[float, float, float, float] | None:
        """Left, top, right and bottom of a part of an image, as shares of its sides."""
        if not self.crop:
            return None
        area, aspect = lots.uniform(0.5, 1), math.exp(lots.uniform(-1, 1) * math.log(4 / 3))
        width, height = min(1.0, math.sqrt(area * aspect)), min(1.0, math.sqrt(area / aspect))
        left, top = lots.uniform(0, 1 - width), lots.uniform(0, 1 - height)
        return left, top, min(1.0, left + width), min(1.0, top + height)


Images = ArrayBatches | FileBatches


def loader(images: Images, order: Order, workers: int = 0) -> DataLoader[Batch | str]:
    """Batches of images in an order; ``workers`` processes read them, or this one if there are none."""
    return DataLoader(
        images,
        sampler=order,
        batch_size=None,  # The order gives whole batches.
        num_workers=workers,
        persistent_workers=workers > 0,
        # A process with threads, such as ONNX Runtime's, cannot be forked safely.
        multiprocessing_context="spawn" if workers else None,
    )
