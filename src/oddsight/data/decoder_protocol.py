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

_ROWS = 64


def message_of(kind: str, value: object, arrays: list[NDArray[np.generic]]) -> bytes:
    """An answer as a line; arrays in it are added to the list."""
    return json.dumps([kind, pack(value, arrays)]).encode() + b"\n"


def write(stream: IO[bytes], message: bytes, arrays: list[NDArray[np.generic]]) -> None:
    """Send a line and the arrays in it."""
    stream.write(message)
    for array in arrays:
        stream.write(array.data)
    stream.flush()


def pack(value: Any, arrays: list[NDArray[np.generic]]) -> Any:  # noqa: ANN401, PLR0911 - one a kind
    """A value as JSON can hold it; arrays are added to the list."""
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
    if hasattr(value, "getpixel"):  # a Pillow image, in RGB
        return {"image": pack(np.asarray(value), arrays)}
    if isinstance(value, dict):
        return {"options": {name: pack(part, arrays) for name, part in value.items()}}
    if isinstance(value, tuple | list):
        return [pack(part, arrays) for part in value]
    kind = type(value)
    if dataclasses.is_dataclass(value) and kind.__module__.startswith("oddsight."):
        parts = {part.name: pack(getattr(value, part.name), arrays) for part in dataclasses.fields(value)}
        return {"module": kind.__module__, "name": kind.__name__, "parts": parts}
    raise TypeError(f"a {kind.__name__} cannot be sent")


def _image(value: dict[str, Any], stream: IO[bytes]) -> Any:  # noqa: ANN401
    """The Pillow image of an array, made some rows at a time, so that it is in memory only once."""
    from PIL import Image

    height, width, _ = value["shape"]
    image = Image.new("RGB", (width, height))
    for top in range(0, height, _ROWS):
        rows = {"array": value["array"], "shape": (min(_ROWS, height - top), width, 3)}
        image.paste(Image.fromarray(unpack(rows, stream)), (0, top))
    return image


def unpack(value: Any, stream: IO[bytes]) -> Any:  # noqa: ANN401, PLR0911
    """What :func:`pack` made of a value, lists as tuples; arrays come from the stream."""
    if isinstance(value, list):
        return tuple(unpack(part, stream) for part in value)
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
    if "image" in value:
        return _image(value["image"], stream)
    if "options" in value:
        return {name: unpack(part, stream) for name, part in value["options"].items()}
    kind = getattr(importlib.import_module(value["module"]), value["name"])
    return kind(**{name: unpack(part, stream) for name, part in value["parts"].items()})
