"""Images that are kept."""

from __future__ import annotations

import io
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response
from PIL import Image

from oddsight.errors import ImageError
from oddsight.serve.documentation import BINARY
from oddsight.serve.errors import not_found
from oddsight.serve.service import Kept, Parts
from oddsight.sources.frame import Frame

router = APIRouter(prefix="/api/images", tags=["history"])

Content = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 of the image file.")]

_TYPES = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp", "GIF": "image/gif", "AVIF": "image/avif"}
"""What browsers show as it is."""


@router.get("/{content}", response_class=Response, responses={200: {"content": {"image/*": BINARY}}})
def image(
    content: Content,
    service: Parts,
    workspace: Kept,
    size: Annotated[int | None, Query(ge=16, le=2048, description="Longer side of a small copy, as a JPEG.")] = None,
) -> Response:
    """An image that is kept, as it came or as a small copy."""
    found = workspace.image(content)
    if found is None:
        raise not_found("such image any more")
    headers = {"Cache-Control": "private, max-age=86400, immutable"}
    if size is None:
        kind = _kind(found)
        if kind is None:
            headers["Content-Disposition"] = "attachment"
        return Response(found, media_type=kind or "application/octet-stream", headers=headers)
    try:
        small = Image.fromarray(Frame(found, "image").read(max_pixels=service.limits.pixels))
    except ImageError:
        raise not_found("small copy of that image") from None
    small.thumbnail((size, size), Image.Resampling.LANCZOS, reducing_gap=2)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=85)
    return Response(file.getvalue(), media_type="image/jpeg", headers=headers)


def _kind(content: bytes) -> str | None:
    """The type of an image file, if browsers show it."""
    try:
        with Image.open(io.BytesIO(content), formats=tuple(_TYPES)) as opened:
            return _TYPES.get(str(opened.format))
    except Exception:  # what Pillow raises on damaged files is not documented
        return None
