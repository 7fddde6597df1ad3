"""The parts of a running service, which routes get at."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from fastapi import Depends, Request

from oddsight.serve.access import Access
from oddsight.serve.errors import no_workspace
from oddsight.serve.events import Listeners
from oddsight.serve.jobs import Jobs
from oddsight.serve.limits import Limits
from oddsight.serve.metrics import ServiceMetrics
from oddsight.serve.models import Models
from oddsight.serve.scoring import Scoring
from oddsight.serve.workspace import Workspace


@dataclass(frozen=True)
class Service:
    """What a service is made of.

    Attributes:
        models: What it serves.
        workspace: Where it keeps things; None if it keeps nothing.
        limits: What it takes.
        access: Who may do what.
        metrics: What Prometheus may ask for.
        runtime: The folder of ONNX Runtime Web, with which the page can score by itself; None without.
        scoring: What scores.
        jobs: What takes long; None without a workspace.
        listeners: Clients that listen to events.
    """

    models: Models
    workspace: Workspace | None = None
    limits: Limits = field(default_factory=Limits)
    access: Access = field(default_factory=Access)
    metrics: ServiceMetrics = field(default_factory=ServiceMetrics)
    runtime: Path | None = None
    scoring: Scoring = field(init=False)
    jobs: Jobs | None = field(init=False)
    listeners: Listeners = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "scoring", Scoring(self.limits, self.metrics))
        object.__setattr__(self, "listeners", Listeners(self.limits))
        object.__setattr__(self, "jobs", None if self.workspace is None else Jobs(self.workspace))


# Coroutines, as FastAPI has a thread call whatever is none.
async def _service(request: Request) -> Service:
    service = request.app.state.service
    assert isinstance(service, Service)
    return service


Parts = Annotated[Service, Depends(_service)]


async def _workspace(service: Parts) -> Workspace:
    if service.workspace is None:
        raise no_workspace()
    return service.workspace


async def _jobs(service: Parts) -> Jobs:
    if service.jobs is None:
        raise no_workspace()
    return service.jobs


Kept = Annotated[Workspace, Depends(_workspace)]
JobList = Annotated[Jobs, Depends(_jobs)]
