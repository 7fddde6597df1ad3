"""The training loop, which is Lightning's, and the books that are kept of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import torch
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from oddsight.datasets.collection import Progress
from oddsight.errors import DataError, OddsightError
from oddsight.networks import checkpoints
from oddsight.networks.augmentation import Batch, Order, Pictures, loader, transform
from oddsight.networks.exporting import TorchBackbone
from oddsight.networks.objectives import Objective
from oddsight.networks.settings import Epoch, Settings, best, finished
from oddsight.networks.training_images import TrainingImages

_HEAD_RATE = 10.0
_WEIGHT_DECAY = 0.01
_WARM_UP = 0.05
_COLLAPSED = 0.1


class Adapting(lightning.LightningModule):
    """A backbone, the objective on its deepest stage, and how both learn.

    The backbone stays in evaluation mode. The statistics of its batch normalisation are those of the millions of
    pictures that it was trained on, which some hundred cannot better; their scales and shifts do learn. So what is
    trained is also, bit for bit, the function that is exported.
    """

    def __init__(
        self, network: TorchBackbone, objective: Objective, images: TrainingImages, settings: Settings, workers: int
    ) -> None:
        super().__init__()
        # On processors convolutions are about twice as fast with the channels last.
        self.network, self.objective = network.to(memory_format=torch.channels_last), objective
        self.images, self.settings, self.workers = images, settings, workers
        self.first = 0
        self.optimizer_state: checkpoints.Tensors = {}
        self._stage = list(network.stages)[-1]

    def train(self, mode: bool = True) -> Adapting:
        """Let the head learn, and keep the backbone as it will be used."""
        super().train(mode)
        self.network.eval()
        return self

    def embed(self, pictures: torch.Tensor) -> torch.Tensor:
        """Pictures uint8 ``[N, 3, S, S]`` to means over the deepest stage ``[N, C]``."""
        pixels = pictures.float().contiguous(memory_format=torch.channels_last)
        embeddings: torch.Tensor = self.network(pixels)[self._stage].mean((2, 3))
        return embeddings

    def training_step(self, batch: Batch, index: int) -> dict[str, torch.Tensor]:
        """Loss of a batch.

        Raises:
            OddsightError: If it is not finite.
        """
        found = self._outcome(batch)
        if not torch.isfinite(found["loss"]):
            raise OddsightError(_diverged(self.settings))
        return found

    def validation_step(self, batch: Batch, index: int) -> dict[str, torch.Tensor]:
        """Loss of a batch; nothing is learnt from it."""
        return self._outcome(batch)

    def _outcome(self, batch: Batch) -> dict[str, torch.Tensor]:
        if isinstance(batch, str):
            raise DataError(batch)
        found = self.objective.outcome(self.embed, *batch)
        count = torch.tensor(float(len(batch[0])), device=self.device)
        named = {"loss": found.loss, "accuracy": found.accuracy, "spread": found.spread, "count": count}
        return {name: value for name, value in named.items() if value is not None}

    def configure_optimizers(self) -> Any:  # noqa: ANN401 - Lightning's own type says no more
        """AdamW, after a short warm-up on a cosine to zero; the head learns ten times as fast as the backbone."""
        rate = self.settings.learning_rate
        groups = []
        for part, share in ((self.network, rate), (self.objective, _HEAD_RATE * rate)):
            learning = [parameter for parameter in part.parameters() if parameter.requires_grad]
            # Scales, shifts and biases are left alone: pulling them to zero would undo the normalisation.
            for matrices, decay in ((True, _WEIGHT_DECAY), (False, 0.0)):
                chosen = [parameter for parameter in learning if (parameter.ndim > 1) == matrices]
                groups.append({"params": chosen, "lr": share, "weight_decay": decay})
        optimizer = AdamW(groups)
        if self.optimizer_state:
            _restore(optimizer, self.optimizer_state)
        steps = int(self.trainer.estimated_stepping_batches) // (self.settings.epochs - self.first)
        total, passed = steps * self.settings.epochs, steps * self.first
        schedule = LambdaLR(optimizer, lambda step: _rate(passed + step, total))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches to learn from."""
        pictures = transform(self.settings.size, self.settings.augment)
        return self._loader(Pictures(self.images.training, pictures, self.objective.views, self.settings.seed), True)

    def val_dataloader(self) -> DataLoader[Batch]:
        """Batches to validate on: the same in each epoch, and unchanged unless the objective compares versions."""
        augment = self.settings.augment if self.objective.views > 1 else ()
        pictures = transform(self.settings.size, augment)
        return self._loader(Pictures(self.images.validation, pictures, self.objective.views, self.settings.seed), False)

    def _loader(self, pictures: Pictures, shuffle: bool) -> DataLoader[Batch]:
        trainer = self.trainer
        order = Order(
            pictures, first=self.first, shuffle=shuffle, processes=trainer.world_size, rank=trainer.global_rank
        )
        return loader(order, pictures, self.settings.batch_size, workers=self.workers)


class Bookkeeping(lightning.Callback):
    """Learning curves, the best weights, checkpoints, and when to stop.

    Attributes:
        curves: The epochs so far.
        weights: Of the network at the best of them.
    """

    def __init__(
        self,
        settings: Settings,
        work: Path | None,
        identity: Mapping[str, Any],
        progress: Progress,
        on_epoch: Callable[[Epoch], None],
    ) -> None:
        self.settings, self.work, self.identity = settings, work, identity
        self.progress, self.on_epoch = progress, on_epoch
        self.curves: list[Epoch] = []
        self.weights: checkpoints.Tensors = {}
        self._sums: dict[str, torch.Tensor] = {}
        self._started = 0.0

    def resume(self, module: Adapting) -> None:
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
            raise OddsightError(f"{path}: of another version of {module.network.name}: delete it") from error
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
            self.progress("adapting", len(self.curves) * steps + index + 1, self.settings.epochs * steps)

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
        assert isinstance(pl_module, Adapting)
        means = self._means(trainer)
        row = Epoch(
            epoch=len(self.curves) + 1,
            train_loss=means["train loss"],
            validation_loss=means["validation loss"],
            accuracy=means.get("validation accuracy"),
            learning_rate=float(trainer.optimizers[0].param_groups[0]["lr"]),
            seconds=time.monotonic() - self._started,
        )
        if not math.isfinite(row.validation_loss):
            raise OddsightError(_diverged(self.settings))
        if means.get("train spread", 1.0) < _COLLAPSED:
            raise OddsightError(
                f"simsiam collapsed: in epoch {row.epoch} it gave nearly the same for every picture; use stronger "
                "augmentation (crop,colour), a lower learning rate, more varied pictures, or another objective"
            )
        self.curves.append(row)
        if best(self.curves) is row:
            self.weights = {
                name: value.detach().cpu().clone() for name, value in pl_module.network.state_dict().items()
            }
        if trainer.is_global_zero:
            self._save(pl_module, trainer.optimizers[0])
            self.on_epoch(row)
        trainer.should_stop = finished(self.curves, self.settings)

    def _save(self, module: Adapting, optimizer: torch.optim.Optimizer) -> None:
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


def _diverged(settings: Settings) -> str:
    return (
        f"the loss is no longer a finite number: choose a learning rate below {settings.learning_rate:g}"
        f"{', or the precision 32-true' * (settings.precision != '32-true')}"
    )


def _restore(optimizer: torch.optim.Optimizer, tensors: checkpoints.Tensors) -> None:
    """Give an optimizer its moments back; rates come from the schedule."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition("/")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _rate(step: int, total: int) -> float:
    """The learning rate at a step as a share of its maximum."""
    warm = max(1, round(_WARM_UP * total))
    return min(1.0, (step + 1) / warm) * (1 + math.cos(math.pi * min(step, total) / total)) / 2


def freeze(network: TorchBackbone, last: str | None) -> None:
    """Hold on to all parameters up to and including those of a stage.

    Raises:
        OddsightError: If there is no such stage or nothing is left to learn.
    """
    stages = list(network.stages)
    if last is not None and last not in stages:
        raise OddsightError(f"no stage {last!r} to freeze: {network.name} has {', '.join(stages)}")
    learning: Sequence[str] = stages[stages.index(last) + 1 :] if last is not None else stages
    network.requires_grad_(False)
    by_stage = network.parameters_by_stage()
    for name in learning:
        for parameter in by_stage[name]:
            parameter.requires_grad_(True)
    if not any(parameter.requires_grad for parameter in network.parameters()):
        raise OddsightError(f"freezing up to {last} leaves nothing of {network.name} to learn")
