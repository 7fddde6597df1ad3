"""Sets of images, to fit and evaluate models on."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.concurrency import run_in_threadpool

from oddsight.serve import uploads
from oddsight.serve.routes.predict import FORM, read_images
from oddsight.serve.service import Kept, Parts

router = APIRouter(prefix="/api/uploads", tags=["jobs"])


@router.post("")
def create(workspace: Kept) -> dict[str, str]:
    """Begin a set of images."""
    return {"upload": uploads.create(workspace)}


@router.post("/{u}/images", openapi_extra={"requestBody": {"required": True, "content": FORM}})
async def add(
    u: Annotated[str, Path(max_length=64)], request: Request, service: Parts, workspace: Kept
) -> dict[str, Any]:
    """Add images to a set, some at a time; files that are no images are refused one by one."""
    images = await read_images(request, "image", service.limits)
    return await run_in_threadpool(uploads.add, workspace, u, images)
