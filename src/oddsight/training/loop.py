"""The one loop in which all networks are trained: learning curves, checkpoints, and an end in time."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import lightning.pytorch as lightning
import torch
from torch.optim import Optimizer

from oddsight.errors import OddsightError
from oddsight.model.curves import Epoch, best
from oddsight.runtime.files import check_writable, make_folder
from oddsight.training import checkpoints
from oddsight.training.learner import Learner, Outcome, divergence
from oddsight.training.settings import is_finished
from oddsight.training.trainer import run
from oddsight.training.workplace import Workplace

_IN_COLUMNS = ("loss", "accuracy", "spread", "count")  # What of an outcome is no part of the loss


def train(
    learner: Learner,
    identity: Mapping[str, Any],
    workplace: Workplace,
    *,
    patience: int | None = None,
    keep_last: bool = False,
    devices: int | str = 1,
    clip: float | None = 1.0,
) -> tuple[Epoch, ...]:
    """Train a network, or go on with a training that was interrupted; its kept part then has the weights to keep.

    Args:
        learner: What is trained, and how.
        identity: What the training is: settings and images, as JSON can hold them.
        workplace: Where and on what.
        patience: Epochs without a lower validation loss after which training ends; by default all pass.
        keep_last: Whether the weights after the last epoch are kept, not those of the lowest validation loss.
        devices: How many, or which (``0,1``), or ``auto``.
        clip: The longest a gradient may be, or None.

    Returns:
        The learning curves, one row an epoch.

    Raises:
        MemoryError: If the batch is too large for the device.
        OddsightError: If Lightning refuses the hardware, the checkpoint is of another training, or the loss diverged.
    """
    if workplace.folder is not None:
        make_folder(workplace.folder)
        check_writable(workplace.folder / checkpoints.FILE)
    books = _Books(learner, identity, workplace, patience, keep_last=keep_last)
    if not books.finished:
        run(learner, books, accelerator=workplace.accelerator, devices=devices, clip=clip)
    learner.kept().load_state_dict(books.weights)
    return tuple(books.curves)


class _Books(lightning.Callback):
    """The books of a training: learning curves, the weights to keep, checkpoints, and when to stop."""

    def __init__(
        self,
        learner: Learner,
        identity: Mapping[str, Any],
        workplace: Workplace,
        patience: int | None,
        *,
        keep_last: bool,
    ) -> None:
        self.identity, self.workplace = identity, workplace
        self.epochs, self.patience, self.keep_last = learner.settings.epochs, patience, keep_last
        self.path = workplace.folder / checkpoints.FILE if workplace.folder is not None else None
        self.curves: list[Epoch] = []
        self.weights: checkpoints.Tensors = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._started = 0.0
        found = checkpoints.load(self.path, identity) if self.path is not None else None
        if found is not None:
            self._resume(learner, *found)

    @property
    def finished(self) -> bool:
        return is_finished(self.curves, self.epochs, self.patience)

    def _resume(self, learner: Learner, curves: list[Epoch], parts: Mapping[str, checkpoints.Tensors]) -> None:
        try:
            learner.load_state_dict(parts["now"])
            self.weights, learner.optimizer_state = parts["best"], parts["optimizer"]
        except (KeyError, RuntimeError) as error:
            raise OddsightError(f"{self.path}: a checkpoint of another network: delete it") from error
        self.curves, learner.first = curves, len(curves)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        self._sums, self._started = {}, time.monotonic()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Outcome,
        batch: object,
        index: int,
    ) -> None:
        self._add("train", outputs)
        steps = int(trainer.num_training_batches)
        if trainer.is_global_zero:
            self.workplace.progress(self.workplace.phase, len(self.curves) * steps + index + 1, self.epochs * steps)

    def on_validation_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Outcome, *batch: object
    ) -> None:
        self._add("validation", outputs)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Finish the row, keep the weights if they are the best, write the checkpoint, and decide whether to go on."""
        assert isinstance(pl_module, Learner)
        means, validated = self._means(trainer, "train"), self._means(trainer, "validation")
        row = Epoch(
            epoch=len(self.curves) + 1,
            train_loss=means["loss"],
            validation_loss=validated["loss"],
            accuracy=validated.get("accuracy"),
            train_accuracy=means.get("accuracy"),
            learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            seconds=time.monotonic() - self._started,
            losses={name: value for name, value in means.items() if name not in _IN_COLUMNS},
        )
        if not math.isfinite(row.validation_loss):
            raise OddsightError(divergence(pl_module.settings))
        pl_module.check(means)
        self.curves.append(row)
        if self.keep_last or best(self.curves) is row:
            self.weights = {name: value.detach().cpu().clone() for name, value in pl_module.kept().state_dict().items()}
        if trainer.is_global_zero:
            self._save(pl_module, trainer.optimizers[0])
            self.workplace.on_epoch(row)
        trainer.should_stop = self.finished

    def _save(self, learner: Learner, optimizer: Optimizer) -> None:
        if self.path is not None:
            state = {
                f"{index}/{name}": value
                for index, entries in optimizer.state_dict()["state"].items()
                for name, value in entries.items()
            }
            parts = {"now": dict(learner.state_dict()), "best": self.weights, "optimizer": state}
            checkpoints.save(self.path, self.identity, self.curves, parts)

    def _add(self, phase: str, outcome: Outcome) -> None:
        count = outcome["count"]
        for name, value in outcome.items():
            key = f"{phase} {name}"
            added = (value.detach() * (1 if name == "count" else count)).double().cpu()
            self._sums[key] = self._sums[key] + added if key in self._sums else added

    def _means(self, trainer: lightning.Trainer, phase: str) -> dict[str, float]:
        """Means over the epoch and over all processes."""
        device = trainer.strategy.root_device
        sums = {
            name.removeprefix(f"{phase} "): float(trainer.strategy.reduce(value.float().to(device), reduce_op="sum"))
            for name, value in self._sums.items()
            if name.startswith(f"{phase} ")
        }
        return {name: value / sums["count"] for name, value in sums.items()}
