"""How much structure an ONNX file holds, told from its bytes before it is parsed.

Parsing makes an object of a node or an attribute of two bytes, so a file of some megabytes could fill the memory and
take minutes. The bytes of large constants and texts stay what they are, so they do not count.
"""

from __future__ import annotations

import re

from oddsight.errors import ModelError

MOST_STRUCTURE = 2**23
"""Bytes of nodes, names and other small parts that a file may hold: a network of a thousand layers has one megabyte."""

MOST_NUMBERS = 2**26
"""Bytes of numbers that a file may hold other than as raw data: parsing makes eight bytes of one."""

_MOST_STEPS = 2**19
_SMALL = 256  # Messages of fewer bytes are not looked into

_MODEL, _ENTRY, _GRAPH, _NODE, _ATTRIBUTE, _TENSOR = range(6)
_INSIDE = {
    (_MODEL, 7): _GRAPH,
    (_MODEL, 14): _ENTRY,
    (_GRAPH, 1): _NODE,
    (_GRAPH, 5): _TENSOR,
    (_NODE, 5): _ATTRIBUTE,
    (_ATTRIBUTE, 5): _TENSOR,
    (_ATTRIBUTE, 6): _GRAPH,
    (_ATTRIBUTE, 10): _TENSOR,
    (_ATTRIBUTE, 11): _GRAPH,
}
"""The messages inside which there may be large constants, by the message they are in and their number there."""

_BYTES = {(_ENTRY, 2), (_ATTRIBUTE, 4), (_TENSOR, 9)}  # Texts and raw data, which stay what they are

_NUMBERS = {(_ATTRIBUTE, 7), (_ATTRIBUTE, 8), *((_TENSOR, number) for number in (4, 5, 7, 10, 11))}  # Arrays of numbers

_LISTS = re.compile(
    rb"(?:\x3d.{4})++|(?:\x40[\x80-\xff]{0,9}+[\x00-\x7f])++|(?:\x4a[\x00-\x20][A-IK-Z_]{0,32}+)++", re.DOTALL
)
"""The floats, integers or words of an attribute, each with its tag, as ONNX writes those of trees."""


def check_structure(content: bytes) -> None:
    """Refuse a file that would take much to parse."""
    total = steps = numbers = 0
    stack = [(0, len(content), _MODEL)]
    while stack:
        at, end, kind = stack.pop()
        while at < end:
            steps += 1
            found = _LISTS.match(content, at, end) if kind == _ATTRIBUTE else None
            if found is not None:
                at = found.end()
                numbers += at - found.start()
                continue
            start = at
            tag, at = _varint(content, at)
            number, wire = tag >> 3, tag & 7
            if wire == 2:
                length, at = _varint(content, at)
                if (kind, number) in _INSIDE and length >= _SMALL:
                    stack.append((at, min(end, at + length), _INSIDE[kind, number]))
                elif (kind, number) in _NUMBERS:
                    numbers += length
                elif (kind, number) not in _BYTES:
                    total += length
                at += length
            else:
                at = _varint(content, at)[1] if wire == 0 else at + (8 if wire == 1 else 4)
            total += min(at - start, 20)
            if total > MOST_STRUCTURE or steps > _MOST_STEPS:
                raise ModelError("it holds more nodes and names than any model of Oddsight: refused")
    if numbers > MOST_NUMBERS:
        raise ModelError("it holds more numbers that are not raw data than any model of Oddsight: refused")


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = shift = 0
    while shift < 70 and at < len(content):
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ModelError("not an ONNX file, or a damaged one")
