"""Where a network is trained on pixels, and how. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oddsight.model.curves import Epoch
from oddsight.runtime.progress import Progress, silent


@dataclass(frozen=True)
class Workplace:
    """Where and on what a network is trained, and who reads its progress; nothing that it learns depends on it.

    Attributes:
        folder: Where checkpoints are kept; none by default.
        accelerator: Lightning's: ``auto``, ``cpu``, ``gpu``, ...
        progress: Called with phase, done and total.
        on_epoch: Called with each new row of the learning curves.
        phase: What the training is called.
    """

    folder: Path | None = None
    accelerator: str = "auto"
    progress: Progress = silent
    on_epoch: Callable[[Epoch], None] = lambda row: None
    phase: str = "learning"

    def part(self, phase: str) -> Workplace:
        """The same for one of several trainings, with a folder of its own."""
        folder = self.folder / phase.replace(" ", "-") if self.folder is not None else None
        return replace(self, folder=folder, phase=phase)


@dataclass(frozen=True)
class PixelPlan:
    """How a network is trained on pixels.

    Attributes:
        method: What it is for.
        settings: All of the method's, which a training that goes on must share.
        epochs: How often each image is seen, at most.
        patience: Epochs without a gain after which training ends.
        keep_last: Whether the weights after the last epoch are kept, not those of the best.
        batch_size: Images a step.
        learning_rate: Of Adam.
        augment: Of :data:`AUGMENTATIONS`.
        seed: Of every random choice.
        precision: Lightning's name of it.
    """

    method: str
    settings: dict[str, Any]
    epochs: int
    patience: int
    keep_last: bool
    batch_size: int
    learning_rate: float
    augment: Sequence[str]
    seed: int
    precision: str = "32-true"
