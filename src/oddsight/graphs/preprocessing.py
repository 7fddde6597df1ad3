"""From an image of any size to what a backbone reads."""

from __future__ import annotations

import onnx

from oddsight.graphs.building import piece

Size = int | tuple[int, int]  # Of what a backbone reads, in pixels: the side of a square, or height and width


def sides(size: Size) -> tuple[int, int]:
    """Height and width."""
    return (size, size) if isinstance(size, int) else size


def size_text(size: Size) -> str:
    """The side of a square, such as ``224``, or width and height, such as ``416x1024``."""
    height, width = sides(size)
    return str(height) if height == width else f"{width}x{height}"


def preprocessing(size: Size) -> onnx.ModelProto:
    """``image`` uint8 ``[N, H, W, 3]`` to ``pixels`` float32 ``[N, 3, height, width]`` with values 0 to 255.

    Bilinear resizing with antialiasing, on 8-bit values as Pillow does it: large images are never held as floats.
    """
    height, width = sides(size)
    return piece(
        f"""
        preprocessing (uint8[N, H, W, 3] image) => (float[N, 3, {height}, {width}] pixels)
        <int64[2] size = {{{height}, {width}}}>
        {{
            resized = Resize <antialias = 1, axes = [1, 2], mode = "linear",
                              coordinate_transformation_mode = "half_pixel"> (image, , , size)
            values = Cast <to = 1> (resized)
            pixels = Transpose <perm = [0, 3, 1, 2]> (values)
        }}
        """
    )
