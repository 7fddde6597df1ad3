"""Reading images in processes of their own, which can be ended.

A process serves one request after another: a line of JSON that names a function of :mod:`oddsight.data.images` and its
arguments. It asks for the memory that an image takes, and answers with what the function returns or raises. Arrays
follow their line as bytes.
"""

from __future__ import annotations

import atexit
import dataclasses
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import ImageError
from oddsight.runtime.parallel import stoppable

_START = "from oddsight.data.decoder_process import serve; serve()"
_STARTING = 120.0
"""Seconds that a process may take to start."""

_ROWS = 64


class NoProcessError(Exception):
    """No process can be started, or not asked for this."""


def read(function: str, args: tuple[Any, ...], options: dict[str, Any], seconds: float) -> Any:  # noqa: ANN401
    """What a function of :mod:`oddsight.data.images` returns, if that takes no longer than that.

    Raises:
        ImageError: Of the function, or if it takes longer or if the process ends.
        NoProcessError: If there is no way to ask a process.
    """
    name = str(args[1]) if isinstance(args[0], bytes) else os.fsdecode(args[0])
    arrays: list[NDArray[np.generic]] = []
    try:
        request = json.dumps([function, _packed(list(args), arrays), _packed(options, arrays)])
    except TypeError as error:
        raise NoProcessError from error
    with _borrowed() as decoder:
        return decoder.ask(request, arrays, name, seconds)


class _Decoder:
    """A process that reads images."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        search = os.pathsep.join(part for part in sys.path if part)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-P", "-c", _START],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"PYTHONPATH": search},
            )
        except OSError as error:
            raise NoProcessError from error
        self._to, self._from = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        with stoppable(self._process.kill, _STARTING):
            if not self._from.readline():
                self.end()
                raise NoProcessError

    def ask(self, request: str, arrays: list[NDArray[np.generic]], name: str, seconds: float) -> Any:  # noqa: ANN401
        """See :func:`read`."""
        left = seconds
        message = request.encode() + b"\n"
        while True:
            started = time.monotonic()
            with stoppable(self._process.kill, left):
                try:
                    _write(self._to, message, arrays)
                    answer = json.loads(self._from.readline() or "null")
                    kind, content = answer or ("ended", None)
                    value = _unpacked(content, self._from)
                except (OSError, EOFError):
                    kind, value = "ended", None
            left -= time.monotonic() - started
            if kind == "ended":
                self.end()
                over = f"reading it takes more than {seconds:g} seconds (--image-timeout)"
                raise ImageError(name, over if left <= 0 else "the process that decodes it broke down")
            if kind == "error":
                raise ImageError(*value)
            if kind == "value":
                return value
            try:
                _take(value, name)
            except BaseException:  # it waits for an answer
                self.end()
                raise
            message, arrays = b"\n", []

    def end(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for stream in (self._to, self._from):
            with suppress(OSError):
                stream.close()

    @property
    def alive(self) -> bool:
        """Whether it is this process's, and runs."""
        return self.owner == os.getpid() and self._process.poll() is None


_idle: list[_Decoder] = []


@contextmanager
def _borrowed() -> Iterator[_Decoder]:
    """A process that nobody else asks meanwhile."""
    decoder = None
    while decoder is None or not decoder.alive:
        decoder = _idle.pop() if _idle else _Decoder()
    try:
        yield decoder
    except ImageError:
        if decoder.alive:
            _idle.append(decoder)
        raise
    except BaseException:  # in the middle of a message
        decoder.end()
        raise
    else:
        _idle.append(decoder)


@atexit.register
def _end_all() -> None:
    while _idle:
        decoder = _idle.pop()
        if decoder.alive:
            decoder.end()


def _take(size: int, name: str) -> None:
    from oddsight.data.decoding import reserve_bytes

    reserve_bytes(size, name)


def serve() -> None:
    """Read images for the process that started this one, until it ends."""
    import warnings

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the other one handles
    warnings.simplefilter("ignore")
    from oddsight.data import decoding, images

    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    source, sink = sys.stdin.buffer, sys.stdout.buffer

    def ask_for(size: int, name: str) -> None:
        _write(sink, _message("reserve", size, []), [])
        if not source.readline():
            os._exit(0)

    decoding.serve_another(ask_for)
    _write(sink, b"ready\n", [])
    while line := source.readline():
        function, args, options = json.loads(line)
        arrays: list[NDArray[np.generic]] = []
        try:
            value = getattr(images, function)(*_unpacked(args, source), **_unpacked(options, source))
            message = _message("value", value, arrays)
            del value
        except ImageError as error:
            message, arrays = _message("error", (error.path, error.reason), []), []
        _write(sink, message, arrays)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _message(kind: str, value: object, arrays: list[NDArray[np.generic]]) -> bytes:
    return json.dumps([kind, _packed(value, arrays)]).encode() + b"\n"


def _write(stream: IO[bytes], message: bytes, arrays: list[NDArray[np.generic]]) -> None:
    stream.write(message)
    for array in arrays:
        stream.write(array.data)
    stream.flush()


def _packed(value: Any, arrays: list[NDArray[np.generic]]) -> Any:  # noqa: ANN401, PLR0911 - one a kind
    """A value as JSON can hold it; arrays are added to the list.

    Raises:
        TypeError: If it cannot.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, os.PathLike):
        return {"path": os.fsdecode(value)}
    if isinstance(value, bytes):
        arrays.append(np.frombuffer(value, np.uint8))
        return {"bytes": len(value)}
    if isinstance(value, np.ndarray):
        arrays.append(np.ascontiguousarray(value))
        return {"array": value.dtype.str, "shape": value.shape}
    if hasattr(value, "getpixel"):  # a Pillow image, of which only what it looks like matters
        from oddsight.data.images import as_image

        return {"picture": _packed(as_image(value), arrays)}
    if isinstance(value, dict):
        return {"options": {name: _packed(part, arrays) for name, part in value.items()}}
    if isinstance(value, tuple | list):
        return [_packed(part, arrays) for part in value]
    kind = type(value)
    if dataclasses.is_dataclass(value) and kind.__module__.startswith("oddsight."):
        parts = {part.name: _packed(getattr(value, part.name), arrays) for part in dataclasses.fields(value)}
        return {"module": kind.__module__, "name": kind.__name__, "parts": parts}
    raise TypeError(f"a {kind.__name__} cannot be sent")


def _picture(value: dict[str, Any], stream: IO[bytes]) -> Any:  # noqa: ANN401
    """The Pillow image of an array, made some rows at a time, so that it is in memory only once."""
    from PIL import Image

    height, width, _ = value["shape"]
    picture = Image.new("RGB", (width, height))
    for top in range(0, height, _ROWS):
        rows = {"array": value["array"], "shape": (min(_ROWS, height - top), width, 3)}
        picture.paste(Image.fromarray(_unpacked(rows, stream)), (0, top))
    return picture


def _unpacked(value: Any, stream: IO[bytes]) -> Any:  # noqa: ANN401, PLR0911
    """What :func:`_packed` made of a value, lists as tuples; arrays come from the stream."""
    if isinstance(value, list):
        return tuple(_unpacked(part, stream) for part in value)
    if not isinstance(value, dict):
        return value
    if "path" in value:
        return Path(value["path"])
    if "bytes" in value:
        return stream.read(value["bytes"])
    if "array" in value:
        array = np.empty(value["shape"], value["array"])
        if stream.readinto(array.reshape(-1).view(np.uint8).data) < array.nbytes:  # type: ignore[attr-defined]
            raise EOFError
        return array
    if "picture" in value:
        return _picture(value["picture"], stream)
    if "options" in value:
        return {name: _unpacked(part, stream) for name, part in value["options"].items()}
    kind = getattr(importlib.import_module(value["module"]), value["name"])
    return kind(**{name: _unpacked(part, stream) for name, part in value["parts"].items()})
