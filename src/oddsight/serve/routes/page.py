"""The page: static files of this package."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from oddsight.serve.errors import not_found
from oddsight.serve.service import Parts
from oddsight.serve.standalone import RUNTIME

router = APIRouter(include_in_schema=False)

_PAGE = Path(__file__).parents[1] / "page"
_FILES = {path.relative_to(_PAGE).as_posix(): path for path in sorted(_PAGE.rglob("*")) if path.is_file()}
"""What there is, looked up once: a request can name nothing else on this machine."""

_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".css": "text/css"}


@router.get("/")
def index() -> Response:
    """The page."""
    return _send(_FILES.get("index.html"))


@router.get("/page/runtime/{name}")
def runtime(name: str, service: Parts) -> Response:
    """A file of ONNX Runtime Web, if the service was started with it."""
    if service.runtime is None:
        return _send(None)
    return _send({Path(file).name: service.runtime / file for file in RUNTIME}.get(name))


@router.get("/page/{name:path}")
def part(name: str) -> Response:
    """A file that the page loads."""
    return _send(_FILES.get(name))


@router.get("/favicon.ico")
def icon() -> Response:
    """No icon of its own beside the page's."""
    return Response(status_code=204)


def _send(path: Path | None) -> Response:
    if path is None:
        raise not_found("such file of the page")
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return FileResponse(path, media_type=kind, headers={"Cache-Control": "no-cache"})
