"""Model files that are made to fill the memory, or to take for ever."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from oddsight.errors import ModelError
from oddsight.model.file import parse_model, parse_proto
from oddsight.model.onnx_structure import MOST_STRUCTURE, check_structure
from tiny_model import tiny_proto


def varint(value):
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def message(number, content):
    """A field that holds bytes, as protobuf writes it."""
    return varint(number << 3 | 2) + varint(len(content)) + content


GRAPH, NODE, ATTRIBUTE, INITIALIZER, INNER = 7, 1, 5, 5, 6

BOMBS = {
    "empty nodes": message(GRAPH, message(NODE, b"") * MOST_STRUCTURE),
    "empty attributes": message(GRAPH, message(NODE, message(ATTRIBUTE, b"") * MOST_STRUCTURE)),
    "nodes of attributes": message(GRAPH, message(NODE, message(ATTRIBUTE, b"") * 100) * (MOST_STRUCTURE // 100)),
    "empty constants": message(GRAPH, message(INITIALIZER, b"") * MOST_STRUCTURE),
    "integers": message(GRAPH, message(NODE, message(ATTRIBUTE, b"\x40\x01" * (2**25 + 1)))),
    "text": message(2, b"x" * (MOST_STRUCTURE + 1)),
    "an inner graph": message(
        GRAPH, message(NODE, message(ATTRIBUTE, message(INNER, message(NODE, b"") * MOST_STRUCTURE)))
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_file_of_small_parts_is_refused_before_it_is_parsed(content, monkeypatch):
    monkeypatch.setattr("onnx.load_model_from_string", lambda _: pytest.fail("it was parsed"))
    with pytest.raises(ModelError, match="than any model of Oddsight"):
        parse_proto(content)


@pytest.mark.slow
def test_large_constants_are_no_structure():
    proto = tiny_proto()
    proto.graph.initializer.add(name="large", dims=[2**24], data_type=1, raw_data=bytes(2**26))
    check_structure(proto.SerializeToString())


@pytest.mark.slow
def test_many_numbers_of_a_forest_are_no_structure():
    proto = tiny_proto()
    trees = proto.graph.node.add(op_type="TreeEnsembleRegressor", domain="ai.onnx.ml").attribute.add(name="x", type=7)
    trees.ints.extend(range(1_000_000))
    trees.floats.extend(np.arange(1_000_000) / 7)
    trees.strings.extend([b"BRANCH_LEQ", b"LEAF"] * 500_000)
    assert len(proto.SerializeToString()) > MOST_STRUCTURE
    check_structure(proto.SerializeToString())


@pytest.mark.parametrize("depth", [60, 5_000])
def test_deep_nesting_is_refused(depth):
    graph = b""
    for _ in range(depth):
        graph = message(NODE, message(ATTRIBUTE, message(INNER, graph)))
    with pytest.raises(ModelError):
        parse_model(message(GRAPH, graph))


@pytest.mark.parametrize("text", ["[" * 2**20, "[" * (2**25 + 1), '{"a": "' + "x" * 2**25 + '"}'])
def test_large_and_deep_metadata_are_refused(text):
    proto = tiny_proto()
    proto.metadata_props[0].value = text
    with pytest.raises(ModelError, match="metadata"):
        parse_model(proto.SerializeToString())


@pytest.mark.parametrize("content", [b"\x3a", b"\x3a\xff", b"\xff" * 20, b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f"])
def test_damaged_lengths_are_refused(content):
    with pytest.raises(ModelError):
        parse_model(content)


@pytest.mark.slow
def test_refusing_a_bomb_takes_little_memory(tmp_path):
    """A file of 64 MB would become objects of five gigabytes."""
    path = tmp_path / "bomb.onnx"
    path.write_bytes(message(GRAPH, message(NODE, b"") * 2**25))
    script = """
import sys
from oddsight.errors import ModelError
from oddsight.model.file import read_model_file
try:
    read_model_file(sys.argv[1])
except ModelError as error:
    print(error)
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
"""
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    error, kilobytes = done.stdout.splitlines()
    assert "refused" in error
    assert int(kilobytes) < 400_000
