"""What runs in a process that reads images for another one; see :mod:`oddsight.data.decoder_process`."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import threading
import time
import warnings
from typing import IO

import numpy as np
from numpy.typing import NDArray

from oddsight.data import decoding
from oddsight.data.decoded import DecodedImage
from oddsight.data.decoder_protocol import message_of, receive, send
from oddsight.errors import ImageError

_held: list[DecodedImage] = []
"""The image whose rows the other process asks for."""


def rows(top: int, bottom: int) -> NDArray[np.uint8]:
    """Rows of the image that is held."""
    return _held[0].rows(top, bottom)


def serve() -> None:
    """Read images for the process that started this one, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the other one handles
    warnings.simplefilter("ignore")
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    source, sink = sys.stdin.buffer, sys.stdout.buffer

    def ask_for(size: int, name: str) -> None:
        send(sink, message_of(["reserve", size], []), [])
        if not source.readline():
            os._exit(0)

    decoding.serve_another(ask_for)
    send(sink, b"ready\n", [])
    while (answer := _answer(source)) is not None:
        send(sink, *answer)
        del answer  # until the next request, which may never come


def _answer(source: IO[bytes]) -> tuple[bytes, list[NDArray[np.generic]]] | None:
    """The answer to the next request; None if there is no more."""
    request = receive(source)
    if request is None:
        return None
    module, function, args, options = request
    arrays: list[NDArray[np.generic]] = []
    try:
        value = getattr(importlib.import_module(module), function)(*args, **options)
        if isinstance(value, DecodedImage):
            _held[:] = [value]
            return message_of(["held", [*value.size, value.bytes_held]], []), []
    except ImageError as error:
        return message_of(["error", [error.path, error.reason]], []), []
    return message_of(["value", value], arrays), arrays


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)
