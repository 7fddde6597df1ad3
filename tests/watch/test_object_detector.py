"""Object detectors: tiny ones, built here, whose boxes are known; and descriptions that are wrong."""

from __future__ import annotations

import json

import numpy as np
import pytest

from oddsight.errors import DataError, ImageError
from oddsight.graphs.building import piece
from oddsight.watch.interest import open_roi
from oddsight.watch.looks import Looks
from oddsight.watch.object_detector import Description, ObjectDetector
from oddsight.watch.object_outputs import suppress_overlaps
from tiny_model import tiny_model

SIDE, CELL = 64, 8
CELLS = SIDE // CELL
COUNT = CELLS**2
"""Each detector gives one box of 8 x 8 pixels for each cell of its input; the score is how bright it is, and the class
the brightest channel, red, green or blue."""

COLOURS = f"""
    means = AveragePool <kernel_shape = [{CELL}, {CELL}], strides = [{CELL}, {CELL}]> (image)
    rows = Reshape (means, rows_shape)
    raw = Transpose <perm = [0, 2, 1]> (rows)
    colours = Div (raw, most)
"""
CONSTANTS: dict[str, np.ndarray] = {
    "rows_shape": np.array([1, 3, COUNT], np.int64),
    "most": np.array(255, np.float32),
}
CENTRES = np.stack(np.meshgrid(np.arange(CELLS), np.arange(CELLS)), axis=-1).reshape(1, COUNT, 2).astype(np.float32)


def yolox():
    """As YOLOX exports it: places in cells, and logarithms of sizes, before the grid and the stride are applied."""
    places = np.concatenate([np.full((1, COUNT, 2), 0.5), np.zeros((1, COUNT, 2)), np.ones((1, COUNT, 1))], axis=2)
    return piece(
        f"""
        yolox (float[1, 3, {SIDE}, {SIDE}] image) => (float[1, {COUNT}, 8] output)
        {{ {COLOURS} output = Concat <axis = 2> (places, colours) }}
        """,
        {**CONSTANTS, "places": places.astype(np.float32)},
    )


def ssd():
    """Two outputs, boxes relative and y first."""
    x, y = CENTRES[..., 0], CENTRES[..., 1]
    boxes = np.stack([y, x, y + 1, x + 1], axis=-1) / np.float32(CELLS)
    return piece(
        f"""
        ssd (float[1, 3, {SIDE}, {SIDE}] image) => (float[1, {COUNT}, 4] boxes, float[1, {COUNT}, 3] scores)
        {{ {COLOURS} scores = Identity (colours) boxes = Identity (places) }}
        """,
        {**CONSTANTS, "places": boxes},
    )


def detr():
    """Logits with a last class for no object."""
    boxes = np.concatenate([CENTRES + 0.5, np.ones_like(CENTRES)], axis=-1) / np.float32(CELLS)
    return piece(
        f"""
        detr (float[1, 3, {SIDE}, {SIDE}] image) => (float[1, {COUNT}, 4] boxes, float[1, {COUNT}, 4] logits)
        {{ {COLOURS} scaled = Mul (colours, ten) logits = Concat <axis = 2> (scaled, none) boxes = Identity (places) }}
        """,
        {**CONSTANTS, "places": boxes, "ten": np.array(10, np.float32), "none": np.full((1, COUNT, 1), 5, np.float32)},
    )


OUTPUTS = {
    "yolox": (yolox, {"style": "yolox", "boxes": "output", "strides": [CELL]}),
    "ssd": (ssd, {"style": "ssd", "boxes": "boxes", "scores": "scores"}),
    "detr": (detr, {"style": "detr", "boxes": "boxes", "logits": "logits"}),
}
INPUT = {"name": "image", "width": SIDE, "height": SIDE}


def described(style, **changes):
    values = {
        "input": INPUT,
        "output": OUTPUTS[style][1],
        "classes": ["red", "green", "blue"],
        "score": 0.6,
        **changes,
    }
    return Description.model_validate_json(json.dumps(values))


def detector(style="yolox", **changes):
    return ObjectDetector(OUTPUTS[style][0]().SerializeToString(), described(style, **changes))


def frame(height=SIDE, width=SIDE, **spots):
    """Black, with a square of one cell of each colour: its column and row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    for colour, (left, top, size) in spots.items():
        pixels[top : top + size, left : left + size, ["red", "green", "blue"].index(colour)] = 250
    return pixels


@pytest.mark.parametrize("style", OUTPUTS)
def test_boxes_are_where_the_objects_are(style):
    found = detector(style).propose(frame(red=(16, 40, 8), blue=(48, 8, 8)))
    assert sorted(found) == [(16, 40, 24, 48), (48, 8, 56, 16)]
    assert detector(style).propose(frame()) == []


@pytest.mark.parametrize("style", OUTPUTS)
def test_only_classes_that_are_named(style):
    pixels = frame(red=(16, 40, 8), blue=(48, 8, 8))
    assert detector(style, targets=["blue"]).propose(pixels) == [(48, 8, 56, 16)]
    assert detector(style, targets=["green"]).propose(pixels) == []


@pytest.mark.parametrize(
    ("fit", "box"),
    # The frame of 128 x 64 is halved in both directions, and lies above or in the middle of the input, or is squeezed.
    [("letterbox", (32, 16, 48, 32)), ("centred", (32, 16, 48, 32)), ("stretch", (32, 16, 48, 24))],
)
def test_boxes_are_in_pixels_of_the_frame(fit, box):
    left, top, right, bottom = box
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[top:bottom, left:right, 0] = 250
    assert detector(input={**INPUT, "fit": fit}, score=0.9).propose(pixels) == [box]


def test_colours_layout_and_normalisation():
    pixels = frame(red=(16, 40, 8))
    # Blue first: red is the third channel.
    assert detector(input={**INPUT, "colours": "bgr"}, targets=["blue"]).propose(pixels) == [(16, 40, 24, 48)]
    # Values of 0 to 1, as a graph that divides by 255 once more makes them too dark.
    assert detector(input={**INPUT, "scale": 1 / 255}).propose(pixels) == []
    assert detector(input={**INPUT, "mean": [100, 0, 0]}).propose(pixels) == []
    assert len(detector(input={**INPUT, "std": [1.1, 1, 1]}).propose(pixels)) == 1


def test_of_overlapping_boxes_the_best_of_each_class_stays():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [0, 1, 10, 11], [40, 0, 50, 10]], float)
    scores, classes = np.array([0.8, 0.9, 0.7, 0.5]), np.array([0, 0, 1, 0])
    kept = suppress_overlaps((boxes, scores, classes), 0.45, 16)
    assert kept[1].tolist() == [0.9, 0.7, 0.5]
    assert suppress_overlaps((boxes, scores, classes), 0.45, 1)[1].tolist() == [0.9]
    assert suppress_overlaps((boxes, scores, classes), 1.0, 16)[1].tolist() == [0.9, 0.8, 0.7, 0.5]


def test_a_detector_by_its_file_proposes_what_is_scored(tmp_path):
    path = tmp_path / "colours.onnx"
    path.write_bytes(yolox().SerializeToString())
    path.with_suffix(".json").write_text(described("yolox").model_dump_json())
    looks = Looks(tiny_model(), None, open_roi(str(path)))
    from oddsight.sources.frame import Frame

    seen = looks.score(looks.prepare(Frame(frame(red=(16, 40, 8)))))
    assert [(look.box, look.track) for look in seen.looks] == [((16, 40, 24, 48), 1)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "the description of the detector d.onnx cannot be read"),
        ("{", "d.json: wrong"),
        ("{}", "d.json: wrong at input: Field required"),
        (json.dumps({"input": INPUT, "output": {"style": "rcnn"}}), "d.json: wrong at output"),
        (json.dumps({"input": {**INPUT, "width": 0}, "output": OUTPUTS["ssd"][1]}), "wrong at input.width"),
        (json.dumps({"input": INPUT, "output": OUTPUTS["ssd"][1], "nms": 1}), "wrong at nms"),
        (json.dumps({"input": INPUT, "output": OUTPUTS["ssd"][1]}), "no input or output 'boxes'"),
        (
            json.dumps({"input": INPUT, "output": OUTPUTS["yolox"][1], "targets": ["dog"]}),
            "the target class 'dog' is not among its classes",
        ),
        (" " * (2**20 + 1), "larger than 1,048,576 bytes"),
    ],
)
def test_a_wrong_description_is_one_sentence(tmp_path, text, words):
    path = tmp_path / "d.onnx"
    path.write_bytes(yolox().SerializeToString())
    if text is not None:
        path.with_suffix(".json").write_text(text)
    with pytest.raises(DataError, match=words) as raised:
        ObjectDetector.read(path)
    assert "\n" not in str(raised.value)


def test_what_is_no_detector(tmp_path):
    path = tmp_path / "d.onnx"
    path.with_suffix(".json").write_text(described("yolox").model_dump_json())
    with pytest.raises(DataError, match=r"d.onnx: cannot be read"):
        ObjectDetector.read(path)
    path.write_bytes(b"no graph")
    with pytest.raises(DataError, match=r"d.onnx: not an ONNX file"):
        ObjectDetector.read(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"input": {**INPUT, "width": 32}},  # not what the graph takes
        {"output": {"style": "yolox", "boxes": "output"}},  # other strides than it has
        {"output": {"style": "detr", "boxes": "output", "logits": "output"}},
    ],
)
def test_outputs_that_are_not_as_described_are_an_error_of_the_frame(changes):
    with pytest.raises(ImageError, match="not as described"):
        detector(**changes).propose(frame(red=(16, 40, 8)))
