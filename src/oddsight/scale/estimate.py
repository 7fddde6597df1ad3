"""What a job will take, measured on a few of its images before it starts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

from oddsight.data.reading import Reading
from oddsight.model.model import Model
from oddsight.runtime.stores import Folder, object_size
from oddsight.scale.entries import Entry, frames
from oddsight.scale.manifest import Plan, read_shard
from oddsight.scale.shards import score_entries
from oddsight.sources.frame import Frame

SAMPLE = 32  # Images that are scored to measure how long one takes


@dataclass(frozen=True)
class Estimate:
    """What a job takes, as far as can be said beforehand.

    Attributes:
        images: How many; of tar files estimated by their bytes.
        size: Bytes that are read; of lists estimated by the images that were measured.
        sample: Images that were measured.
        seconds: Of one core for one image, reading included, on this machine, one after the other.
        core_hours: Of all images, of cores such as these.
        cost: At the price given, or None.
    """

    images: int
    size: int
    sample: int
    seconds: float
    core_hours: float
    cost: float | None

    def __str__(self) -> str:
        size = f", {_rounded(self.size / 1e9)} GB" if self.size else ""
        cost = f", {_rounded(self.cost)} at the price given" if self.cost is not None else ""
        return (
            f"about {self.images:,} images{size}: {_rounded(self.core_hours)} core-hours{cost} "
            f"({1000 * self.seconds:,.1f} ms an image, measured on {self.sample} of them here)"
        )


def estimate(model: Model, plan: Plan, reading: Reading, price: float | None = None) -> Estimate:
    """Score a few images of a plan, spread over all of it, and extrapolate.

    Args:
        model: The model.
        plan: What is to be scored.
        reading: Of TIFF files.
        price: Of a core for an hour.
    """
    sample = _sample(plan)
    list(score_entries(model, sample[:1], reading))  # loads the model
    start = time.monotonic()
    scored = sum(
        1 for entry in sample for _ in islice(score_entries(model, [entry], reading), SAMPLE // len(sample) or 1)
    )
    seconds = (time.monotonic() - start) / max(scored, 1)
    size = plan.size
    if not all(entry.size for entry in sample):  # lists do not say it
        sample = [replace(entry, size=entry.size or object_size(entry.uri)) for entry in sample]
        size = round(plan.entries * sum(entry.size for entry in sample) / len(sample))
    images = _images(plan, sample, size)
    hours = images * seconds / 3600
    return Estimate(images, size, scored, seconds, hours, None if price is None else hours * price)


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _sample(plan: Plan) -> list[Entry]:
    store = Folder(plan.path.parent)
    count = min(SAMPLE, plan.entries)
    numbers = sorted({at * plan.shards // count for at in range(count)})
    taken: list[Entry] = []
    for number in numbers:
        shard = read_shard(store.uri, plan.path.name, number)
        share = -(-count // len(numbers))
        taken += [shard[at * len(shard) // share] for at in range(min(share, len(shard)))]
    return taken[:count]


def _images(plan: Plan, sample: list[Entry], size: int) -> int:
    """How many images there are: each entry is one, unless it is a tar file."""
    tars = [entry for entry in sample if entry.is_tar and entry.size]
    if not tars:
        return plan.entries
    sizes = [len(frame.image) for frame in islice(_members(tars), SAMPLE) if isinstance(frame.image, bytes)]
    tar_share = sum(entry.size for entry in tars) / max(sum(entry.size for entry in sample), 1)
    in_tars = tar_share * size / (sum(sizes) / len(sizes)) if sizes else 0
    return round(in_tars + plan.entries * (1 - len(tars) / len(sample)))


def _members(tars: list[Entry]) -> Iterator[Frame]:
    return (frame for entry in tars for frame in islice(frames(entry), 8) if isinstance(frame, Frame))
