"""Sets of images, to fit and evaluate models on."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool

from oddsight.serve import uploads
from oddsight.serve.errors import RequestError
from oddsight.serve.routes.predict import FORM, read_images
from oddsight.serve.service import JobList, Kept, Parts

router = APIRouter(prefix="/api/uploads", tags=["jobs"])

Set = Annotated[str, Path(max_length=64, description="What the set is called.", examples=["6f0e41c2a7b85d93"])]


def _example(content: Any) -> dict[int | str, dict[str, Any]]:  # noqa: ANN401 - JSON
    return {200: {"content": {"application/json": {"example": content}}}}


@router.post("", responses=_example({"upload": "6f0e41c2a7b85d93"}))
def create(workspace: Kept) -> dict[str, str]:
    """Begin a set of images."""
    return {"upload": uploads.create(workspace)}


_LIST = {
    "uploads": [
        {"upload": "6f0e41c2a7b85d93", "created": 1790000000.0, "count": 120, "bytes": 98304000, "models": ["parts"]}
    ]
}


@router.get("", responses=_example(_LIST))
def sets(workspace: Kept) -> dict[str, Any]:
    """The sets that are there, the newest first, and the models that need them for an update."""
    return {"uploads": uploads.list_sets(workspace)}


_ADDED = {
    "count": 16, "bytes": 13107200,
    "refused": [{"name": "notes.txt", "error": "not an image in a format that is read"}],
}  # fmt: skip


@router.post(
    "/{u}/images", openapi_extra={"requestBody": {"required": True, "content": FORM}}, responses=_example(_ADDED)
)
async def add(u: Set, request: Request, service: Parts, workspace: Kept) -> dict[str, Any]:
    """Add images to a set, some at a time; files that are no images are refused one by one."""
    images = await read_images(request, "image", service.limits)
    return await run_in_threadpool(uploads.add, workspace, u, images)


@router.delete("/{u}", responses=_example({"removed": "6f0e41c2a7b85d93"}))
def remove(u: Set, workspace: Kept, jobs: JobList) -> dict[str, str]:
    """Remove a set and its images. A model that needs them for an update can then only be fitted again."""
    if jobs.uses(u):
        raise RequestError(409, "a job uses this set of images: let it end, or end it first (DELETE /api/jobs/ID)")
    uploads.remove(workspace, u)
    return {"removed": u}
