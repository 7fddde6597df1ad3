"""Scoring images."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import FiniteFloat
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile

from oddsight.serve.documentation import BINARY
from oddsight.serve.errors import RequestError
from oddsight.serve.history import record
from oddsight.serve.items import Scored, Wishes, map_as_npy, score_item
from oddsight.serve.limits import Limits
from oddsight.serve.models import ServedModel
from oddsight.serve.routes.models import Name, find_model
from oddsight.serve.service import Parts, Service

router = APIRouter(prefix="/api/models", tags=["scoring"])

FORM: dict[str, Any] = {
    "multipart/form-data": {
        "schema": {
            "type": "object",
            "required": ["images"],
            "properties": {"images": {"type": "array", "items": BINARY["schema"]}},
        }
    }
}
"""A form with images, as OpenAPI says it."""

_BODY = {
    "requestBody": {
        "required": True,
        "description": "One image file as it is, or several as a form.",
        "content": {"application/octet-stream": BINARY, "image/*": BINARY, **FORM},
    }
}
_EXAMPLE = {
    "model": "parts",
    "version": "3f1c0a9be2d4",
    "results": [
        {
            "path": "0001.png", "verdict": "anomalous", "score": 31.5, "p_value": 0.01, "anomalous": True,
            "threshold": 27.1, "false_alarm_rate": 0.01, "regions": [], "voices": [], "nearest": "0123456789abcdef",
            "id": "6f0e41c2a7b85d93", "name": "0001.png", "content": "9f86d081884c7d659a2feaa0c55ad015" * 2,
            "width": 900, "height": 900, "kept": True,
        },
        {"name": "0002.png", "error": "not an image in a format that is read"},
    ],
}  # fmt: skip
_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What is said of each image, in order; with `map=npy` the map of the one image as a .npy file.",
        "content": {"application/json": {"example": _EXAMPLE}, "application/x-npy": BINARY},
    }
}


@router.post("/{m}:predict", openapi_extra=_BODY, responses=_ANSWER)
async def predict(
    m: Name,
    request: Request,
    service: Parts,
    map: Annotated[Literal["png", "npy"] | None, Query(description="Send the anomaly map, too.")] = None,
    keep: Annotated[bool, Query(description="Keep the image, if there is a workspace.")] = True,
    threshold: Annotated[FiniteFloat | None, Query(description="Decide by this score.")] = None,
    nearest: Annotated[bool, Query(description="Say where the nearest normal image is.")] = False,
    name: Annotated[str, Query(max_length=1000, description="What to call an image without a form.")] = "image",
    version: Annotated[str | None, Query(description="An older version of the model.")] = None,
) -> Response:
    """Score images: one as the body, or several as a form; an image that cannot be read costs only its own answer."""
    served = await find_model(service, m, version)
    images = await read_images(request, name, service.limits)
    wishes = Wishes(map, keep, threshold, nearest, service.limits.pixels)
    if map == "npy" and len(images) != 1:
        raise RequestError(422, "map=npy goes with one image")
    if map == "npy" and served.model.metadata.map_size is None:
        raise RequestError(422, "this model has no anomaly map")
    scored = await score_images(service, request, served, images, wishes)
    if map == "npy":
        if scored[0].result is None or scored[0].result.map is None:
            raise RequestError(422, scored[0].item.get("error", "there is no map"))
        return Response(map_as_npy(scored[0].result.map), media_type="application/x-npy")
    return JSONResponse({"model": m, "version": served.version, "results": [one.item for one in scored]})


async def score_images(
    service: Service, request: Request, served: ServedModel, images: list[tuple[str, bytes]], wishes: Wishes
) -> list[Scored]:
    """Score the images of a request, count them and note them in the history."""
    work: list[Callable[[], Scored]] = [
        partial(score_item, served, name, content, wishes, service.workspace) for name, content in images
    ]
    scored = await service.scoring.run(request, served.name, work)
    results = [one.result for one in scored if one.result is not None]
    service.metrics.images.labels(served.name).inc(len(results))
    service.metrics.failures.labels(served.name).inc(len(scored) - len(results))
    service.metrics.alarms.labels(served.name).inc(sum(result.anomalous for result in results))
    if service.workspace is not None:
        await run_in_threadpool(record, service.workspace.state, served, scored)
    return scored


async def read_images(request: Request, name: str, limits: Limits) -> list[tuple[str, bytes]]:
    """Names and contents of the images of a request."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/"):
        images = [(name, await request.body())]
    else:
        async with request.form(max_files=limits.images, max_fields=limits.images) as form:
            parts = [part for part in form.getlist("images") if isinstance(part, UploadFile)]
            images = [(part.filename or "image", await part.read()) for part in parts]
    if not images:
        raise RequestError(422, "there are no images in the form: add files as 'images'")
    for called, content in images:
        if len(content) > limits.image_bytes:
            raise RequestError(413, f"{called[:200]}: an image has at most {limits.image_bytes:,} bytes")
    return images
