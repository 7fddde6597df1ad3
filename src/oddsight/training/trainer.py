"""Lightning's trainer, kept quiet, and interruptible as a command is."""

from __future__ import annotations

import ctypes
import logging
import signal
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import lightning.pytorch as lightning
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher

from oddsight.errors import OddsightError, first_line
from oddsight.training.learner import Learner

# Options of glibc's mallopt().
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT, _PADDING = 2**31 - 1, 2**28  # Bytes


def run(
    learner: Learner, callback: lightning.Callback, *, accelerator: str, devices: int | str, clip: float | None
) -> None:
    """Run what is left of the epochs.

    Raises:
        MemoryError: If the batch is too large for the device.
        OddsightError: If Lightning refuses the hardware.
    """
    keep_freed_memory()
    # Lightning leaves modes as they are, and networks come in evaluation mode.
    learner.train()
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        try:
            trainer = lightning.Trainer(
                accelerator=accelerator,
                devices=int(devices) if str(devices).isdecimal() else devices,
                precision=learner.settings.precision,
                max_epochs=learner.settings.epochs - learner.first,
                callbacks=[callback],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                num_sanity_val_steps=0,
                gradient_clip_val=clip,
                use_distributed_sampler=False,
                default_root_dir=folder,
            )
        except Exception as error:  # Lightning's own exceptions share no public base class
            raise OddsightError(f"no accelerator {accelerator} with devices {devices}: {first_line(error)}") from error
        if isinstance(trainer.strategy.launcher, _MultiProcessingLauncher):
            raise OddsightError("several devices take a script or the command line, not a notebook")
        _fit(trainer, learner)


def _fit(trainer: lightning.Trainer, learner: Learner) -> None:
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(learner)
    except SystemExit as error:
        if not isinstance(error.__context__, KeyboardInterrupt):
            raise
        # Lightning turns an interruption into an exit and makes the process deaf to further ones.
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from error
    except RuntimeError as error:
        if "out of memory" in str(error) or "can't allocate memory" in str(error):
            raise MemoryError from error
        raise
    finally:
        learner.cpu()


def keep_freed_memory() -> None:
    """Make the C library reuse the memory of tensors instead of returning it to the system after each layer.

    Getting it back costs a page fault for every 4 KB, which can take as long as the arithmetic.
    Only glibc knows these settings; another library is left as it is.
    """
    if sys.platform != "linux" or not hasattr(library := ctypes.CDLL(None), "mallopt"):
        return
    for setting, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _KEPT), (_TOP_PAD, _PADDING)):
        library.mallopt(setting, value)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Lightning's notices and advice from what users see."""
    names = ("lightning", "lightning.pytorch", "lightning.fabric", "torch.distributed")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
