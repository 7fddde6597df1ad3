"""Images as a network learns from them: read one by one, brought to size, changed at random, in a random order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler
from torchvision.transforms import v2

from oddsight.errors import ImageError
from oddsight.training.training_images import Labelled

Key = tuple[int, int]
"""An epoch and the index of an image: all that the randomness of an image depends on, beside the seed."""

Batch = tuple[torch.Tensor, torch.Tensor] | str
"""Images uint8 ``[N, views, 3, S, S]`` and classes ``[N]``; or what went wrong while they were read."""


class QuarterTurn(torch.nn.Module):
    """Turns an image by 0, 90, 180 or 270 degrees: no borders to fill, nothing interpolated."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """An image ``[3, S, S]``, turned."""
        return torch.rot90(image, int(torch.randint(4, ())), (-2, -1))


def transform(size: int, augment: Sequence[str]) -> v2.Compose:
    """From an image uint8 ``[3, H, W]`` to ``[3, size, size]``.

    Resizing is bilinear with antialiasing on 8-bit values, as it is in a model's graph.

    Args:
        size: In pixels.
        augment: Of :data:`oddsight.training.settings.AUGMENTATIONS`.
    """
    steps: list[torch.nn.Module] = []
    if "crop" in augment:
        steps.append(v2.RandomResizedCrop(size, scale=(0.5, 1.0), antialias=True))
    else:
        steps.append(v2.Resize((size, size), antialias=True))
    if "flip" in augment:
        steps.append(v2.RandomHorizontalFlip())
    if "rotation" in augment:
        steps.append(QuarterTurn())
    if "colour" in augment:
        steps.append(v2.ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.05))
    return v2.Compose(steps)


class Images(Dataset[tuple[torch.Tensor, int] | str]):
    """Images by :data:`Key`: the same key gives the same pixels, whichever process asks and whatever came before.

    Args:
        images: With their classes.
        transform: See :func:`transform`.
        views: How many versions of each image.
        seed: Of the randomness.
    """

    def __init__(self, images: Sequence[Labelled], transform: v2.Compose, views: int, seed: int) -> None:
        self.images, self.transform, self.views, self.seed = images, transform, views, seed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, int] | str:
        epoch, index = key
        image, label = self.images[index]
        try:
            pixels = torch.from_numpy(image.read()).permute(2, 0, 1)
        except ImageError as error:
            # As text, since exceptions do not travel well between processes.
            return str(error)
        lot = hashlib.sha256(f"{self.seed} {epoch} {image.content}".encode()).digest()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int.from_bytes(lot[:8], "big") >> 1)
            return torch.stack([self.transform(pixels) for _ in range(self.views)]), label


class Order(DistributedSampler[Key]):
    """Keys of all images in the order of an epoch; each process gets its share.

    The trainer counts its epochs from 0; ``first`` is how many had passed before it started.
    """

    def __init__(self, images: Images, *, first: int, shuffle: bool, processes: int, rank: int) -> None:
        super().__init__(images, processes, rank, shuffle=shuffle, seed=images.seed)
        self.first, self.epoch = first, first

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer."""
        self.epoch = self.first + epoch

    def __iter__(self) -> Iterator[Key]:
        epoch = self.epoch if self.shuffle else -1
        return ((epoch, int(index)) for index in super().__iter__())


def loader(order: Order, images: Images, batch: int, *, workers: int) -> DataLoader[Batch]:
    """Batches of images.

    Args:
        order: Of the images.
        images: Of which images.
        batch: How many a batch, at most. The batches are of one size, so a remainder smaller than the number of
            batches is left out while learning; the next epoch leaves out others.
        workers: Processes that read; 0 reads in this one.
    """
    count = len(order)
    even = count // -(-count // batch) if order.shuffle else batch
    return DataLoader(
        images,
        even,
        sampler=order,
        num_workers=workers,
        drop_last=order.shuffle,
        collate_fn=_collate,
        persistent_workers=workers > 0,
        # A process with threads, such as ONNX Runtime's, cannot be forked safely.
        multiprocessing_context="spawn" if workers else None,
    )


def _collate(items: Sequence[tuple[torch.Tensor, int] | str]) -> Batch:
    for item in items:
        if isinstance(item, str):
            return item
    images, labels = zip(*items, strict=True)
    return torch.stack(images), torch.tensor(labels)
