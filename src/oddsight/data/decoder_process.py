"""Reading images in processes of their own, which can be ended.

A process serves one request after another: a line of JSON that names a function and its arguments. It asks for the
memory that an image takes, and answers with what the function returns or raises. Arrays follow their line as bytes.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from oddsight.data.decoder_protocol import message_of, receive, send
from oddsight.errors import ImageError
from oddsight.runtime.parallel import stoppable

_SERVER = "oddsight.data.decoder_server"
_START = f"from {_SERVER} import serve; serve()"
_ENDED: tuple[str, Any] = ("ended", None)
_STARTING = 120.0  # Seconds that a process may take to start


class NoProcessError(Exception):
    """No process can be started, or not asked for this."""


def read(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    options: dict[str, Any],
    seconds: float,
    reserve: Callable[[int, str], None],
) -> Any:  # noqa: ANN401
    """What a function of a module returns, if that takes no longer than that."""
    name = str(args[1] or "an image") if isinstance(args[0], bytes) else os.fsdecode(args[0])
    arrays: list[NDArray[np.generic]] = []
    try:
        request = message_of([function.__module__, function.__name__, args, options], arrays)
    except TypeError as error:
        raise NoProcessError from error
    with _borrowed() as decoder:
        return decoder.ask(request, arrays, name, seconds, reserve)


class HeldImage:
    """A :class:`~oddsight.data.decoded.RowImage` that stays in the process that decoded it, which ends with it."""

    def __init__(self, size: tuple[int, int], bytes_held: int, ask: Callable[[bytes], Any]) -> None:
        self.size, self.bytes_held, self._ask = size, bytes_held, ask

    def rows(self, top: int, bottom: int) -> NDArray[np.uint8]:
        """See :class:`~oddsight.data.decoded.RowImage`."""
        return self._ask(message_of([_SERVER, "rows", [top, bottom], {}], []))  # type: ignore[no-any-return]


class _Decoder:
    """A process that reads images."""

    def __init__(self) -> None:
        self.owner, self.holds_image = os.getpid(), False
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

    def ask(
        self,
        message: bytes,
        arrays: list[NDArray[np.generic]],
        name: str,
        seconds: float,
        reserve: Callable[[int, str], None],
    ) -> Any:  # noqa: ANN401
        """See :func:`read`."""
        left = seconds
        while True:
            started = time.monotonic()
            with stoppable(self._process.kill, left):
                try:
                    send(self._to, message, arrays)
                    kind, value = receive(self._from) or _ENDED
                except (OSError, EOFError, ValueError):
                    kind, value = _ENDED
            left -= time.monotonic() - started
            if kind == "ended":
                self.end()
                over = f"reading it takes more than {seconds:g} seconds (--image-timeout)"
                raise ImageError(name, over if left <= 0 else "the process that decodes it broke down")
            if kind == "error":
                raise ImageError(*value)
            if kind == "held":
                return self._hold(value, lambda rows: self.ask(rows, [], name, seconds, reserve))
            if kind == "value":
                return tuple(value) if isinstance(value, list) else value
            try:
                reserve(value, name)
            except BaseException:  # it waits for an answer
                self.end()
                raise
            message, arrays = b"\n", []

    def _hold(self, sizes: list[int], ask: Callable[[bytes], Any]) -> HeldImage:
        self.holds_image = True
        width, height, bytes_held = sizes
        image = HeldImage((width, height), bytes_held, ask)
        weakref.finalize(image, self.end)
        return image

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
        if not decoder.holds_image:
            _idle.append(decoder)


@atexit.register
def _end_all() -> None:
    while _idle:
        decoder = _idle.pop()
        if decoder.alive:
            decoder.end()
