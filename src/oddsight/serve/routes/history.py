"""What was scored."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query

from oddsight.serve.history import page_of_results, series
from oddsight.serve.service import Kept

router = APIRouter(prefix="/api/history", tags=["history"])


@router.get("")
def results(
    workspace: Kept,
    model: Annotated[str | None, Query(max_length=200)] = None,
    before: Annotated[int | None, Query(ge=0, le=2**62, description="The `next` of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    flagged: bool | None = None,
) -> dict[str, Any]:
    """Results, the newest first."""
    return page_of_results(workspace.state, model=model, before=before, limit=limit, flagged=flagged)


@router.get("/series")
def by_time(
    workspace: Kept,
    model: Annotated[str, Query(max_length=200)],
    bucket: Annotated[float, Query(ge=1, le=1e7, description="Seconds that are counted together.")] = 3600,
) -> dict[str, Any]:
    """Counts and alarms by time, and whether the images still are like those that the model was calibrated on."""
    return series(workspace.state, model, bucket, time.time() - 86400 * workspace.retention.days)
