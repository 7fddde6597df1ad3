"""How the service is."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request, Response

from oddsight.serve.access import SCOPES
from oddsight.serve.service import Parts

router = APIRouter(tags=["service"])


@router.get("/api/status")
def status(request: Request, service: Parts) -> dict[str, Any]:
    """What this service is, what you may do, and what it takes."""
    allowed = request.scope["state"]["scopes"]
    return {
        "version": version("oddsight"),
        "workspace": service.workspace is not None,
        "browser": service.runtime is not None,
        "scopes": [scope for scope in SCOPES if scope in allowed],
        "limits": service.limits.to_json(),
    }


@router.get("/metrics", response_class=Response)
def metrics(service: Parts) -> Response:
    """Counters and times for Prometheus."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")
