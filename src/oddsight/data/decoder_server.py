"""What runs in a process that reads images for another one; see :mod:`oddsight.data.decoder_process`."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
import time
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data import decoding
from oddsight.data.decoder_protocol import message_of, unpack, write
from oddsight.data.images import as_image
from oddsight.errors import ImageError


def serve() -> None:
    """Read images for the process that started this one, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the other one handles
    warnings.simplefilter("ignore")
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    source, sink = sys.stdin.buffer, sys.stdout.buffer

    def ask_for(size: int, name: str) -> None:
        write(sink, message_of("reserve", size, []), [])
        if not source.readline():
            os._exit(0)

    decoding.serve_another(ask_for)
    write(sink, b"ready\n", [])
    while line := source.readline():
        module, function, args, options = json.loads(line)
        arrays: list[NDArray[np.generic]] = []
        try:
            read = getattr(importlib.import_module(module), function)
            value = read(*unpack(args, source), **unpack(options, source))
            if isinstance(value, Image.Image):  # of which only what it looks like matters
                value = Image.fromarray(as_image(value))
            message = message_of("value", value, arrays)
            del value
        except ImageError as error:
            message, arrays = message_of("error", (error.path, error.reason), []), []
        write(sink, message, arrays)
        arrays.clear()  # until the next request, which may never come


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)
