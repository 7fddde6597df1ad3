"""What goes between a process and the one that reads images for it: lines of JSON, and arrays as bytes behind them."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray


def message_of(content: list[Any], arrays: list[NDArray[np.generic]]) -> bytes:
    """A line that holds the content; arrays in it are added to the list."""

    def encode(value: object) -> dict[str, Any]:
        if isinstance(value, os.PathLike):
            return {"path": os.fsdecode(value)}
        if isinstance(value, bytes):
            arrays.append(np.frombuffer(value, np.uint8))
            return {"bytes": len(value)}
        if isinstance(value, np.ndarray):
            array = np.ascontiguousarray(value)
            arrays.append(array)
            return {"array": array.dtype.str, "shape": array.shape}
        kind = type(value)
        if dataclasses.is_dataclass(value) and kind.__module__.startswith("oddsight."):
            return {"module": kind.__module__, "name": kind.__name__, "parts": list(vars(value).values())}
        raise TypeError(f"a {kind.__name__} cannot be sent")

    return json.dumps(content, default=encode).encode() + b"\n"


def send(stream: IO[bytes], message: bytes, arrays: list[NDArray[np.generic]]) -> None:
    """Send a line and the arrays in it."""
    stream.write(message)
    for array in arrays:
        stream.write(array.data)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:  # noqa: ANN401
    """What :func:`message_of` was given, with lists in place of tuples; None at the end of the stream."""

    def decode(value: dict[str, Any]) -> Any:  # noqa: ANN401
        if "path" in value:
            return Path(value["path"])
        if "bytes" in value:
            return stream.read(value["bytes"])
        if "array" in value:
            return _array(stream, value["array"], value["shape"])
        if "module" in value:
            return getattr(importlib.import_module(value["module"]), value["name"])(*value["parts"])
        return value

    # Parts that are followed by bytes hold no others, so they are decoded in the order of these bytes.
    return json.loads(stream.readline() or b"null", object_hook=decode)


def _array(stream: IO[bytes], kind: str, shape: list[int]) -> NDArray[Any]:
    array = np.empty(shape, kind)
    if stream.readinto(array.reshape(-1).view(np.uint8).data) < array.nbytes:  # type: ignore[attr-defined]
        raise EOFError
    return array
