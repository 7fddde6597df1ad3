"""The application: routes, errors, documentation and the page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from oddsight.errors import OddsightError, plain
from oddsight.serve import routes
from oddsight.serve.documentation import describe
from oddsight.serve.errors import RequestError
from oddsight.serve.guard import Guard
from oddsight.serve.service import Service

if TYPE_CHECKING:
    from starlette.types import ASGIApp

PAGE = Path(__file__).parent / "page"


def create_app(service: Service) -> ASGIApp:
    """The application of a service, with its guard around it."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.scoring.close()
        if service.jobs is not None:
            service.jobs.close()

    app = FastAPI(
        title="Oddsight", version=version("oddsight"), docs_url=None, redoc_url=None, lifespan=life,
        redirect_slashes=False,
    )  # fmt: skip
    app.state.service = service
    for router in routes.ROUTERS:
        app.include_router(router)
    app.add_exception_handler(RequestError, _refuse)
    app.add_exception_handler(OddsightError, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse)
    describe(app)
    return Guard(app, service.access, service.limits, service.scoring, service.metrics)


async def _refuse(request: Request, error: Exception) -> JSONResponse:
    """An error as one sentence."""
    status, headers = 422, dict[str, str]()
    if isinstance(error, RequestError):
        status = error.status
        if error.retry_after is not None:
            headers["Retry-After"] = str(error.retry_after)
    elif isinstance(error, HTTPException):
        status, headers = error.status_code, dict(error.headers or {})
    text = error.detail if isinstance(error, HTTPException) else str(error)
    if isinstance(error, RequestValidationError):
        text = "; ".join(map(_sentence, error.errors()[:5]))
    return JSONResponse({"error": plain(text)[:2000]}, status, headers)


def _sentence(problem: dict[str, Any]) -> str:
    """What is wrong with a field of a request."""
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}"
