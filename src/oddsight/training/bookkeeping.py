"""The books that are kept of a training: learning curves, the weights to keep, checkpoints, and when to stop."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import lightning.pytorch as lightning
import torch
from torch import nn

from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch, best
from oddsight.runtime.progress import Progress
from oddsight.training import checkpoints
from oddsight.training.settings import Bounds, finished

_COLLAPSED = 0.1
_OWN = ("loss", "accuracy", "spread", "count")
"""What of a batch's outcome has a place of its own; all else is a part of the loss."""


class Plan(Bounds, Protocol):
    """What of a training's settings the books have to know."""

    @property
    def learning_rate(self) -> float:
        """The largest."""

    @property
    def precision(self) -> str:
        """Lightning's name of it."""


class Learner(lightning.LightningModule):
    """What is trained.

    Attributes:
        first: Epochs that had passed before the training (re)started.
        optimizer_state: The optimizer's from then.
    """

    first: int
    optimizer_state: checkpoints.Tensors

    @abstractmethod
    def kept(self) -> nn.Module:
        """What of it is kept when the training has ended."""


class Bookkeeping(lightning.Callback):
    """Learning curves, the best weights, checkpoints, and when to stop.

    Attributes:
        curves: The epochs so far.
        weights: Of what is kept, at the best of them or, with ``keep_last``, after the last.
    """

    def __init__(
        self,
        settings: Plan,
        work: Path | None,
        identity: Mapping[str, Any],
        progress: Progress,
        on_epoch: Callable[[Epoch], None],
        *,
        phase: str,
        keep_last: bool = False,
    ) -> None:
        self.settings, self.work, self.identity = settings, work, identity
        self.progress, self.on_epoch = progress, on_epoch
        self.phase, self.keep_last = phase, keep_last
        self.curves: list[Epoch] = []
        self.weights: checkpoints.Tensors = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._started = 0.0

    def resume(self, module: Learner) -> None:
        """Go on where the checkpoint in the folder stands, if there is one."""
        path = self.work / checkpoints.FILE if self.work is not None else None
        found = checkpoints.load(path, self.identity) if path is not None else None
        if found is None:
            return
        self.curves, parts = found
        try:
            module.load_state_dict(parts["now"])
            self.weights, module.optimizer_state = parts["best"], parts["optimizer"]
        except (KeyError, RuntimeError) as error:
            raise OddsightError(f"{path}: a checkpoint of another network: delete it") from error
        module.first = len(self.curves)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin a row."""
        self._sums, self._started = {}, time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Mapping[str, torch.Tensor],
        batch: object,
        index: int,
    ) -> None:
        """Count a batch."""
        self._add("train", outputs)
        steps = int(trainer.num_training_batches)
        if trainer.is_global_zero:
            self.progress(self.phase, len(self.curves) * steps + index + 1, self.settings.epochs * steps)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Mapping[str, torch.Tensor],
        *batch: object,
    ) -> None:
        """Count a batch."""
        self._add("validation", outputs)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Finish the row, keep the weights if they are the best, write the checkpoint, and decide whether to go on.

        Raises:
            OddsightError: If it diverged or collapsed.
        """
        assert isinstance(pl_module, Learner)
        means = self._means(trainer)
        row = Epoch(
            epoch=len(self.curves) + 1,
            train_loss=means["train loss"],
            validation_loss=means["validation loss"],
            accuracy=means.get("validation accuracy"),
            train_accuracy=means.get("train accuracy"),
            learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            seconds=time.monotonic() - self._started,
            losses={
                name.removeprefix("train "): value
                for name, value in means.items()
                if name.startswith("train ") and name.removeprefix("train ") not in _OWN
            },
        )
        if not math.isfinite(row.validation_loss):
            raise OddsightError(diverged(self.settings))
        if means.get("train spread", 1.0) < _COLLAPSED:
            raise OddsightError(
                f"simsiam collapsed: in epoch {row.epoch} it gave nearly the same for every image; use stronger "
                "augmentation (crop,colour), a lower learning rate, more varied images, or another objective"
            )
        self.curves.append(row)
        if self.keep_last or best(self.curves) is row:
            self.weights = {name: value.detach().cpu().clone() for name, value in pl_module.kept().state_dict().items()}
        if trainer.is_global_zero:
            self._save(pl_module, trainer.optimizers[0])
            self.on_epoch(row)
        trainer.should_stop = finished(self.curves, self.settings)

    def _save(self, module: Learner, optimizer: torch.optim.Optimizer) -> None:
        if self.work is not None:
            state = {
                f"{index}/{name}": value
                for index, entries in optimizer.state_dict()["state"].items()
                for name, value in entries.items()
            }
            parts = {"now": dict(module.state_dict()), "best": self.weights, "optimizer": state}
            checkpoints.save(self.work / checkpoints.FILE, self.identity, self.curves, parts)

    def _add(self, phase: str, outputs: Mapping[str, torch.Tensor]) -> None:
        count = outputs["count"]
        for name, value in outputs.items():
            key = f"{phase} {name}"
            added = (value.detach() * (1 if name == "count" else count)).double().cpu()
            self._sums[key] = self._sums[key] + added if key in self._sums else added

    def _means(self, trainer: lightning.Trainer) -> dict[str, float]:
        """Means over the epoch and over all processes."""
        device = trainer.strategy.root_device
        sums = {
            name: float(trainer.strategy.reduce(value.float().to(device), reduce_op="sum"))
            for name, value in self._sums.items()
        }
        return {name: value / sums[f"{name.split()[0]} count"] for name, value in sums.items()}


def diverged(settings: Plan) -> str:
    """What to say of a loss that is not finite."""
    return (
        f"the loss is no longer a finite number: choose a learning rate below {settings.learning_rate:g}"
        f"{', or the precision 32-true' * (settings.precision != '32-true')}"
    )


def restore(optimizer: torch.optim.Optimizer, tensors: checkpoints.Tensors) -> None:
    """Give an optimizer its moments back; rates come from the schedule."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
