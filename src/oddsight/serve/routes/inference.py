"""The Open Inference Protocol, version 2, which clients of KServe, Triton and OpenVINO Model Server speak."""

from __future__ import annotations

import secrets
from functools import partial
from importlib.metadata import version as version_of
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Request, Response
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool

from oddsight.errors import ImageError
from oddsight.model.result import Result
from oddsight.serve.documentation import BINARY
from oddsight.serve.errors import RequestError
from oddsight.serve.items import score_content
from oddsight.serve.models import ServedModel
from oddsight.serve.routes.models import Name, find_model
from oddsight.serve.service import Parts, Service
from oddsight.serve.tensors import InferRequest, Tensor, read_request, write_answer

router = APIRouter(prefix="/v2", tags=["open inference protocol"])

Version = Annotated[str, Path(max_length=64, description="A version of the model.")]


@router.get("")
def server() -> dict[str, Any]:
    """What this server is."""
    return {"name": "oddsight", "version": version_of("oddsight"), "extensions": ["binary_tensor_data"]}


@router.get("/health/live")
def live() -> dict[str, bool]:
    """Whether the service answers."""
    return {"live": True}


@router.get("/health/ready")
def ready() -> dict[str, bool]:
    """Whether the models can be asked; they are read before the first answer."""
    return {"ready": True}


@router.get("/models/{m}")
@router.get("/models/{m}/versions/{v}")
def model(m: Name, service: Parts, v: str | None = None) -> dict[str, Any]:
    """Inputs and outputs of a model. A request gives one of the inputs."""
    served = service.models.get(m, v)
    return {
        "name": m,
        "versions": [digest[:12] for digest, _ in service.models.versions(m)],
        "platform": "onnxruntime_onnx",
        "inputs": [
            {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
            {"name": "encoded", "datatype": "BYTES", "shape": [-1]},
        ],
        "outputs": [{"name": name, "datatype": kind, "shape": shape} for name, kind, shape in _outputs(served)],
    }


def _outputs(served: ServedModel) -> list[tuple[str, str, list[int]]]:
    outputs = [
        ("score", "FP32", [-1]), ("p_value", "FP32", [-1]), ("anomalous", "BOOL", [-1]), ("verdict", "BYTES", [-1])
    ]  # fmt: skip
    size = served.model.metadata.map_size
    return outputs if size is None else [*outputs, ("anomaly_map", "FP32", [-1, *size])]


@router.get("/models/{m}/ready")
@router.get("/models/{m}/versions/{v}/ready")
def model_ready(m: Name, service: Parts, v: str | None = None) -> dict[str, Any]:
    """Whether a model can be asked."""
    service.models.get(m, v)
    return {"name": m, "ready": True}


_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"type": "object", "required": ["inputs"], "properties": {"inputs": {"type": "array"}}},
                "example": {
                    "inputs": [
                        {"name": "image", "datatype": "UINT8", "shape": [1, 1, 2, 3], "data": [0, 0, 0, 9, 9, 9]}
                    ]
                },
            },
            "application/octet-stream": BINARY,
        },
    }
}


@router.post("/models/{m}/infer", openapi_extra=_BODY)
async def infer(m: Name, request: Request, service: Parts) -> Response:
    """Score images: as the tensor `image`, or as the contents of image files in `encoded`."""
    return await _infer(m, None, request, service)


@router.post("/models/{m}/versions/{v}/infer", openapi_extra=_BODY)
async def infer_version(m: Name, v: Version, request: Request, service: Parts) -> Response:
    """Score images by a version of a model."""
    return await _infer(m, v, request, service)


async def _infer(m: str, v: str | None, request: Request, service: Service) -> Response:
    served = await find_model(service, m, v)
    body = await request.body()
    given = await run_in_threadpool(read_request, body, request.headers.get("inference-header-content-length"))
    known = [name for name, _, _ in _outputs(served)]
    wanted = dict.fromkeys(known, given.binary) if given.outputs is None else given.outputs
    if not set(wanted) <= set(known):
        raise RequestError(400, f"the model has no such output: there are {', '.join(known)}")
    work = [partial(_score, served, image, service.limits.pixels) for image in _images(given, service)]
    results = await service.scoring.run(request, served.name, work)
    service.metrics.images.labels(served.name).inc(len(results))
    service.metrics.alarms.labels(served.name).inc(sum(result.anomalous for result in results))
    head = {"id": given.id or secrets.token_hex(8), "model_name": m, "model_version": served.version}
    content, length = await run_in_threadpool(write_answer, head, _tensors(results, wanted), wanted)
    headers = {} if length is None else {"Inference-Header-Content-Length": str(length)}
    kind = "application/json" if length is None else "application/octet-stream"
    return Response(content, media_type=kind, headers=headers)


def _images(given: InferRequest, service: Service) -> list[NDArray[np.uint8] | bytes]:
    """The images of a request, each an array or the content of a file."""
    if len(given.inputs) != 1 or not set(given.inputs) <= {"image", "encoded"}:
        raise RequestError(400, "a request has one input: image (UINT8) or encoded (BYTES)")
    tensor: Tensor = next(iter(given.inputs.values()))
    files = isinstance(tensor.data, list)
    if files != (tensor.name == "encoded") or len(tensor.shape) != (1 if files else 4):
        raise RequestError(400, "image is UINT8 [n, height, width, 3], and encoded is BYTES [n]")
    if not isinstance(tensor.data, list) and tensor.shape[3] != 3:
        raise RequestError(400, "image is UINT8 [n, height, width, 3]")
    if len(tensor.data) > service.limits.images:
        raise RequestError(413, f"a request has at most {service.limits.images:,} images")
    if not files and tensor.shape[1] * tensor.shape[2] > service.limits.pixels:
        raise RequestError(413, f"an image has at most {service.limits.pixels:,} pixels")
    return list(tensor.data)


def _score(served: ServedModel, image: NDArray[np.uint8] | bytes, pixels: int) -> Result:
    try:
        if isinstance(image, bytes):
            return score_content(served, image, pixels)
        return served.model.score(np.ascontiguousarray(image), source="image", one_core=True)
    except ImageError as error:
        raise RequestError(400, f"an image cannot be scored: {error.reason}") from None


def _tensors(results: list[Result], wanted: dict[str, bool]) -> dict[str, NDArray[Any] | list[str]]:
    tensors: dict[str, NDArray[Any] | list[str]] = {
        "score": np.array([result.score for result in results], np.float32),
        "p_value": np.array([result.p_value for result in results], np.float32),
        "anomalous": np.array([result.anomalous for result in results], np.bool_),
        "verdict": [result.verdict for result in results],
    }
    if "anomaly_map" in wanted:
        tensors["anomaly_map"] = np.stack([result.map for result in results if result.map is not None])
    return {name: tensors[name] for name in wanted}
