"""Models: what there are, their files, thresholds and normal images."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from starlette.concurrency import run_in_threadpool

from oddsight.model.model import Model
from oddsight.serve.documentation import BINARY
from oddsight.serve.errors import RequestError, not_found
from oddsight.serve.models import ServedModel
from oddsight.serve.service import Kept, Parts, Service

router = APIRouter(prefix="/api/models", tags=["models"])

Name = Annotated[str, Path(max_length=200, description="What the model is called.", examples=["parts"])]


class NewDecision(BaseModel):
    """A rate, or a score set by hand."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": {"false_alarm_rate": 0.05}})

    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    threshold: FiniteFloat | None = None


async def find_model(service: Service, name: str, version: str | None) -> ServedModel:
    """A model, or an older version of it, which a thread reads.

    Raises:
        RequestError: There is none.
    """
    if version is None:
        return service.models.newest(name)
    return await run_in_threadpool(service.models.get, name, version)


@router.get("")
def models(service: Parts) -> dict[str, Any]:
    """All models, each in its newest version."""
    return {"models": [served.to_json() for served in service.models.all()]}


@router.get("/{m}")
def model(m: Name, service: Parts, version: Annotated[str | None, "An older version."] = None) -> dict[str, Any]:
    """A model: how it was made, how it decides, and the scores that it was calibrated on."""
    served = service.models.get(m, version)
    versions = [{"version": digest[:12], "created": created} for digest, created in service.models.versions(m)]
    return {**served.to_json(), "versions": versions}


@router.patch("/{m}/decision")
def decide(m: Name, decision: NewDecision, service: Parts, workspace: Kept) -> dict[str, Any]:
    """Another threshold, as a new version; the old one stays."""
    served = service.models.get(m)
    changed = served.model.with_decision(**decision.model_dump())
    return service.models.add(m, changed, like=served).to_json()


@router.get("/{m}/outputs")
def outputs(m: Name, service: Parts, version: str | None = None) -> dict[str, Any]:
    """What the outputs of the model file count: for those who run the file themselves, as the page can."""
    return service.models.get(m, version).outputs_json()


_ONNX = {"content": {"application/octet-stream": BINARY}}


@router.get("/{m}/file", response_class=Response, responses={200: _ONNX})
def file(m: Name, service: Parts, version: str | None = None) -> Response:
    """The model file."""
    served = service.models.get(m, version)
    name = "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "_" for c in m)
    headers = {"Content-Disposition": f'attachment; filename="{name}.onnx"'}
    return Response(served.model.to_bytes(), media_type="application/octet-stream", headers=headers)


@router.put("/{m}", openapi_extra={"requestBody": {"required": True, **_ONNX}})
async def upload(m: Name, request: Request, service: Parts, workspace: Kept) -> dict[str, Any]:
    """Bring a model file, which is checked as any is; it becomes the newest version."""
    content = await request.body()
    if not content:
        raise RequestError(422, "the body is empty: send a model file")

    def add() -> dict[str, Any]:
        return service.models.add(m, Model.from_bytes(content)).to_json()

    return await run_in_threadpool(add)


@router.get("/{m}/normals/{id}", response_class=Response, responses={200: {"content": {"image/jpeg": BINARY}}})
def normal(m: Name, id: Annotated[str, Path(pattern="^[0-9a-f]{16}$")], service: Parts) -> Response:
    """A small copy of a normal image, by what results call the nearest."""
    content = service.models.get(m).small_copy(id, quality=90)
    if content is None:
        raise not_found("small copy of that image")
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})
