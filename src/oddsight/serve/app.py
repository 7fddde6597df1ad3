"""The application: routes, errors, documentation and the page."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from oddsight.errors import OddsightError, plain
from oddsight.serve import routes, uploads
from oddsight.serve.documentation import describe
from oddsight.serve.errors import RequestError
from oddsight.serve.guard import Guard
from oddsight.serve.service import Service

if TYPE_CHECKING:
    from starlette.types import ASGIApp

log = logging.getLogger("oddsight.serve")

_BETWEEN = 3600.0
"""Seconds between two times that what is old is removed."""


def create_app(service: Service) -> ASGIApp:
    """The application of a service, with its guard around it."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        forgetting = asyncio.create_task(_forget(service))
        yield
        forgetting.cancel()
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
    for kind in (RequestError, OddsightError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _refuse)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_exception_handler(Exception, _broken)
    describe(app)
    return Guard(app, service.access, service.limits, service.scoring, service.metrics)


async def _forget(service: Service) -> None:
    """Remove what is older than is to be kept, now and then."""
    while service.workspace is not None and service.jobs is not None:
        try:
            await run_in_threadpool(service.workspace.forget)
            await run_in_threadpool(uploads.forget, service.workspace)
            await run_in_threadpool(service.jobs.forget)
        except Exception:  # or nothing would be forgotten any more
            log.exception("what is old could not be removed")
        await asyncio.sleep(_BETWEEN)


async def _gone(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"error": "the client left"}, 499)


async def _broken(request: Request, error: Exception) -> JSONResponse:
    """The guard logs it: Starlette raises it again."""
    return JSONResponse({"error": "the service failed at this: its log says more"}, 500)


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
    if isinstance(error, OddsightError) and not isinstance(error, RequestError):
        workspace = request.app.state.service.workspace
        if isinstance(error.__cause__, OSError):
            status, text = 507, f"the workspace cannot be written: {error.__cause__.strerror}"
        elif workspace is not None:
            text = uploads.translate_error(text, workspace)
    if isinstance(error, RequestValidationError):
        text = "; ".join(map(_sentence, error.errors()[:5]))
    return JSONResponse({"error": plain(text)[:2000]}, status, headers)


def _sentence(problem: dict[str, Any]) -> str:
    """What is wrong with a field of a request."""
    place = ".".join(str(part) for part in problem["loc"])
    return f"{place}: {problem['msg']}"
