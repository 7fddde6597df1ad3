"""What takes long: fits, updates, calibrations, evaluations and checks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Path, Query, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from oddsight.serve.errors import not_found
from oddsight.serve.events import ALIVE, ANSWER, COMMENT, PAUSE, event
from oddsight.serve.jobs import ENDED, Jobs
from oddsight.serve.service import JobList, Kept, Parts
from oddsight.serve.work import REPORT, TASKS, Kind

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Set = Annotated[str, Field(min_length=1, max_length=64)]
_Rate = Annotated[float, Field(gt=0, lt=1)]
Id = Annotated[str, Path(max_length=64)]


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Fit(_Order):
    """Fit a model on a set of normal images."""

    kind: Literal["fit"]
    upload: _Set
    name: _Name
    method: _Name = "auto"
    false_alarm_rate: _Rate | None = None
    speed: Literal["fast", "balanced", "best"] = "balanced"


class Check(_Order):
    """Look for what could spoil a fit on a set of images."""

    kind: Literal["check"]
    upload: _Set


class Update(_Order):
    """Have a model learn the images of a set, or those that were confirmed as normal."""

    kind: Literal["update"]
    model: _Name
    source: Annotated[_Set, Field(alias="from", description="`feedback`, or a set of images.")] = "feedback"
    replace: bool = False
    false_alarm_rate: _Rate | None = None
    preview: bool = False


class Recalibrate(_Order):
    """Calibrate a model anew, on the answers to questions or on a set of normal images that it does not know."""

    kind: Literal["recalibrate"]
    model: _Name
    source: Annotated[_Set, Field(alias="from", description="`feedback`, or a set of images.")] = "feedback"
    false_alarm_rate: _Rate | None = None
    preview: bool = False


class Evaluate(_Order):
    """Evaluate a model on a set of normal and a set of anomalous images."""

    kind: Literal["evaluate"]
    model: _Name
    normal: _Set
    anomalous: _Set


Order = Annotated[
    Fit | Check | Update | Recalibrate | Evaluate,
    Body(
        discriminator="kind",
        openapi_examples={
            "fit": {"value": {"kind": "fit", "upload": "6f0e41c2a7b85d93", "name": "parts", "method": "auto"}},
            "recalibrate": {
                "value": {"kind": "recalibrate", "model": "parts", "from": "feedback", "false_alarm_rate": 0.05}
            },
        },
    ),
]


@router.post("")
def begin(order: Order, service: Parts, workspace: Kept, jobs: JobList) -> dict[str, Any]:
    """Begin a job, which waits for those before it."""
    kind: Kind = order.kind
    task = TASKS[kind](service, workspace, order.model_dump(by_alias=True))
    return asdict(jobs.add(task))


@router.get("")
def listed(jobs: JobList, limit: Annotated[int, Query(ge=1, le=1000)] = 100) -> dict[str, Any]:
    """Jobs, the newest first."""
    return {"jobs": [asdict(job) for job in jobs.all(limit)]}


@router.get("/{id}")
def one(id: Id, jobs: JobList) -> dict[str, Any]:
    """A job."""
    return asdict(jobs.get(id))


@router.delete("/{id}")
def cancel(id: Id, jobs: JobList) -> dict[str, Any]:
    """End a job, or take it out of the queue."""
    return asdict(jobs.cancel(id))


@router.get("/{id}/events", response_class=StreamingResponse, responses=ANSWER)
async def events(id: Id, service: Parts, jobs: JobList) -> StreamingResponse:
    """The job whenever something about it changes (`progress` or `state`), until it has ended."""
    jobs.get(id)
    return service.listeners.stream(_changes(jobs, id))


async def _changes(jobs: Jobs, id: str) -> AsyncIterator[str]:
    before, said = None, time.monotonic()
    while True:
        job = jobs.get(id)
        if job != before:
            kind = "progress" if before is not None and job.state == before.state else "state"
            before, said = job, time.monotonic()
            yield event(kind, asdict(job))
        if job.state in ENDED:
            return
        if time.monotonic() - said > ALIVE:
            said = time.monotonic()
            yield COMMENT
        await asyncio.sleep(PAUSE)


_SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "img-src data:; frame-ancestors 'self'"
)


@router.get("/{id}/report", response_class=Response, responses={200: {"content": {"text/html": {}}}})
def report(id: Id, jobs: JobList) -> Response:
    """The page that an evaluation made; it can load nothing and reach nothing of this service."""
    job = jobs.get(id)
    path = jobs.folder(job.id) / REPORT
    if not path.is_file():
        raise not_found("report of this job")
    headers = {"Content-Security-Policy": _SANDBOX, "X-Frame-Options": "SAMEORIGIN"}
    return Response(path.read_bytes(), media_type="text/html; charset=utf-8", headers=headers)
