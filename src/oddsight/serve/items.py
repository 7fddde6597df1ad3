"""Scoring one image of a request: from its bytes to what is answered about it."""

from __future__ import annotations

import base64
import hashlib
import io
import secrets
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.errors import ImageError, plain
from oddsight.model.result import Result
from oddsight.serve.models import ServedModel
from oddsight.serve.workspace import Workspace
from oddsight.sources.encoded import Encoded

_LONGEST_NAME = 300


@dataclass(frozen=True)
class Wishes:
    """What a request wants to know.

    Attributes:
        map: The form of the anomaly map, if it is wanted.
        keep: Whether the image is kept, if there is a workspace.
        threshold: Instead of the model's.
        nearest: Whether to say where the nearest normal image is.
        pixels: The most that an image may have.
    """

    map: Literal["png", "npy"] | None = None
    keep: bool = True
    threshold: float | None = None
    nearest: bool = False
    pixels: int = 2**26


@dataclass(frozen=True)
class Scored:
    """An image of a request.

    Attributes:
        item: What is answered about it.
        result: Its result; None if it could not be read or scored.
    """

    item: dict[str, Any]
    result: Result | None


def score_content(served: ServedModel, content: bytes, max_pixels: int) -> Result:
    """Score an image as the command ``predict`` does, on one core.

    Raises:
        ImageError: It cannot be read or scored.
    """
    outcome = next(iter(served.model.predict_many(Encoded({"it": content}), max_pixels=max_pixels, workers=1)))
    if isinstance(outcome, ImageError):
        raise outcome
    return outcome


def score_item(served: ServedModel, name: str, content: bytes, wishes: Wishes, workspace: Workspace | None) -> Scored:
    """Score an image and say what it wants to know; never fails because of the image."""
    name = plain(name)[:_LONGEST_NAME]
    try:
        result = replace(score_content(served, content, wishes.pixels), source=name)
    except ImageError as error:
        return Scored({"name": name, "error": error.reason}, None)
    if wishes.threshold is not None:
        result = replace(result, threshold=wishes.threshold, false_alarm_rate=None)
    kept = workspace.keep(content) if workspace is not None and wishes.keep else None
    item = {
        **result.to_json(),
        "id": secrets.token_hex(8),
        "name": name,
        "content": kept or hashlib.sha256(content).hexdigest(),
        "width": result.width,
        "height": result.height,
        "kept": kept is not None,
    }
    if wishes.map == "png" and result.map is not None:
        item["map"] = map_as_png(result.map)
    if wishes.nearest and result.nearest is not None and served.normals is not None:
        item["nearest_image"] = f"/api/models/{served.name}/normals/{result.nearest}"
    return Scored(item, result)


def map_as_png(values: NDArray[np.float32]) -> dict[str, Any]:
    """A map on its own grid as an 8-bit grey image, whose black and white are the values of ``scale``."""
    low, high = float(values.min()), float(values.max())
    grey = np.round((values - low) * (255 / (high - low if high > low else 1.0))).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    height, width = values.shape
    png = base64.b64encode(file.getvalue()).decode()
    return {"height": height, "width": width, "scale": [low, high], "png": png}


def map_as_npy(values: NDArray[np.float32]) -> bytes:
    """A map as the content of a ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, values, allow_pickle=False)
    return file.getvalue()
