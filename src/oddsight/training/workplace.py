"""Where a network is trained. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from oddsight.model.curves import Epoch
from oddsight.runtime.progress import Progress, silent


@dataclass(frozen=True)
class Workplace:
    """Where and on what a network is trained, and who reads its progress; nothing that it learns depends on it."""

    folder: Path | None = None  # Where checkpoints are kept; none by default
    accelerator: str = "auto"  # Lightning's: `auto`, `cpu`, `gpu`, ...
    progress: Progress = silent  # Called with phase, done and total
    on_epoch: Callable[[Epoch], None] = lambda row: None  # Called with each new row of the learning curves
    phase: str = "training"  # What the training is called

    def part(self, phase: str) -> Workplace:
        """The same for one of several trainings, with a folder of its own."""
        folder = self.folder / phase.replace(" ", "-") if self.folder is not None else None
        return replace(self, folder=folder, phase=f"training: {phase}")
