"""Tensors of the Open Inference Protocol, version 2, in JSON and in its binary extension."""

from __future__ import annotations

import base64
import binascii
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.serve.errors import RequestError

_TYPES = {"UINT8": "|u1", "INT64": "<i8", "FP32": "<f4", "BOOL": "|b1"}
_MOST_AXES = 4


@dataclass(frozen=True)
class Tensor:
    """A tensor of a request.

    Attributes:
        name: Of the input.
        shape: Of the data.
        data: An array of that shape; for ``BYTES`` a list of contents.
    """

    name: str
    shape: tuple[int, ...]
    data: NDArray[Any] | list[bytes]


@dataclass(frozen=True)
class InferRequest:
    """A request to infer.

    Attributes:
        id: As the client calls it.
        inputs: Tensors by name.
        outputs: Names of what is wanted, and whether each in binary; None if all is.
        binary: Whether outputs are binary that do not say otherwise.
    """

    id: str | None
    inputs: dict[str, Tensor]
    outputs: dict[str, bool] | None
    binary: bool


def read_request(body: bytes, header_length: str | None) -> InferRequest:
    """Read a request.

    Args:
        body: JSON, with binary tensors behind it if there is a length.
        header_length: Of the JSON: the header ``Inference-Header-Content-Length``.

    Raises:
        RequestError: It is not by the protocol.
    """
    length = len(body)
    if header_length is not None:
        if not header_length.isdecimal() or len(header_length) > 12 or int(header_length) > length:
            raise RequestError(400, "Inference-Header-Content-Length is not the length of a JSON header")
        length = int(header_length)
    try:
        content = json.loads(body[:length])
    except (ValueError, RecursionError):
        raise RequestError(400, "the request is not JSON") from None
    if not isinstance(content, dict) or not isinstance(content.get("inputs"), list):
        raise RequestError(400, "a request to infer is an object with a list of inputs")
    rest, tensors = body[length:], dict[str, Tensor]()
    for given in content["inputs"]:
        tensor, rest = _read_tensor(given, rest)
        tensors[tensor.name] = tensor
    if rest:
        raise RequestError(400, f"{len(rest):,} bytes behind the tensors belong to none")
    id = content.get("id")
    binary = _parameters(content).get("binary_data_output") is True
    return InferRequest(id if isinstance(id, str) else None, tensors, _wanted(content, binary), binary)


def _wanted(content: Mapping[str, Any], binary: bool) -> dict[str, bool] | None:
    outputs = content.get("outputs")
    if not outputs:
        return None
    if not isinstance(outputs, list) or not all(
        isinstance(o, dict) and isinstance(o.get("name"), str) for o in outputs
    ):
        raise RequestError(400, "outputs are a list of objects with names")
    return {output["name"]: _parameters(output).get("binary_data", binary) is True for output in outputs}


def _parameters(content: Mapping[str, Any]) -> Mapping[str, Any]:
    parameters = content.get("parameters")
    return parameters if isinstance(parameters, dict) else {}


def _read_tensor(given: Any, rest: bytes) -> tuple[Tensor, bytes]:  # noqa: ANN401 - JSON
    """A tensor, and what of the binary data is not its own."""
    if not isinstance(given, dict) or not isinstance(given.get("name"), str):
        raise RequestError(400, "an input is an object with a name, a datatype, a shape and data")
    name, kind, shape = given["name"][:100], given.get("datatype"), given.get("shape")
    sides: list[int] = shape if isinstance(shape, list) else []
    if not 0 < len(sides) <= _MOST_AXES or not all(type(side) is int and 0 < side < 2**31 for side in sides):
        raise RequestError(400, f"the input {name!r} has no shape of one to four positive numbers")
    size = _parameters(given).get("binary_data_size")
    raw = None
    if size is not None:
        if type(size) is not int or not 0 <= size <= len(rest):
            raise RequestError(400, f"the input {name!r} has another number of bytes than it says")
        raw, rest = rest[:size], rest[size:]
    if kind == "BYTES":
        contents = _split(raw, name) if raw is not None else _decoded(given.get("data"), name)
        if len(contents) != prod(sides):
            raise RequestError(400, f"the input {name!r} has {len(contents):,} elements, not as many as its shape")
        return Tensor(name, tuple(sides), contents), rest
    if kind != "UINT8":
        raise RequestError(400, f"the input {name!r} is neither UINT8 nor BYTES")
    return Tensor(name, tuple(sides), _array(raw, given.get("data"), sides, name)), rest


def _array(raw: bytes | None, data: Any, shape: Sequence[int], name: str) -> NDArray[np.uint8]:  # noqa: ANN401 - JSON
    try:
        values = np.frombuffer(raw, np.uint8) if raw is not None else _whole(np.array(data))
        return values.reshape(shape)
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise RequestError(400, f"the input {name!r} has not the values 0 to 255 of its shape") from None


def _whole(values: NDArray[Any]) -> NDArray[np.uint8]:
    if values.dtype.kind not in "iu" or values.size == 0 or values.min() < 0 or values.max() > 255:
        raise ValueError
    return values.astype(np.uint8)


def _split(raw: bytes, name: str) -> list[bytes]:
    """Elements with four bytes of length before each."""
    contents, place = list[bytes](), 0
    while place < len(raw):
        length = int.from_bytes(raw[place : place + 4], "little")
        place += 4 + length
        if place > len(raw):
            raise RequestError(400, f"the input {name!r} ends in the middle of an element")
        contents.append(raw[place - length : place])
    return contents


def _decoded(data: Any, name: str) -> list[bytes]:  # noqa: ANN401 - JSON
    try:
        return [base64.b64decode(text, validate=True) for text in data]
    except (TypeError, ValueError, binascii.Error):
        raise RequestError(400, f"the input {name!r} is not a list of texts in base64") from None


def write_answer(
    head: dict[str, Any], outputs: Mapping[str, NDArray[Any] | list[str]], binary: Mapping[str, bool]
) -> tuple[bytes, int | None]:
    """An answer: its bytes, and the length of the JSON in them if tensors follow."""
    described, parts = [], list[bytes]()
    for name, values in outputs.items():
        kind = "BYTES" if isinstance(values, list) else _kind(values)
        shape = [len(values)] if isinstance(values, list) else list(values.shape)
        entry: dict[str, Any] = {"name": name, "datatype": kind, "shape": shape}
        if binary.get(name):
            part = _joined(values) if isinstance(values, list) else values.astype(_TYPES[kind], copy=False).tobytes()
            entry["parameters"] = {"binary_data_size": len(part)}
            parts.append(part)
        else:
            entry["data"] = values if isinstance(values, list) else values.ravel().tolist()
        described.append(entry)
    text = json.dumps({**head, "outputs": described}, allow_nan=False).encode()
    return text + b"".join(parts), len(text) if parts else None


def _kind(values: NDArray[Any]) -> str:
    return next(kind for kind, dtype in _TYPES.items() if np.dtype(dtype) == values.dtype)


def _joined(texts: Iterable[str]) -> bytes:
    return b"".join(struct.pack("<I", len(text.encode())) + text.encode() for text in texts)
