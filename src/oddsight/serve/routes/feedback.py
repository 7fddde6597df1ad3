"""What people say of results, and what they are asked."""

from __future__ import annotations

import random
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from oddsight.serve.feedback import Truth, answer, draw, not_learned, open_questions, sample, trail, undo
from oddsight.serve.service import Kept, Parts

router = APIRouter(prefix="/api/feedback", tags=["feedback"])


class Answer(BaseModel):
    """What an image is."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"example": {"result_id": "6f0e41c2a7b85d93", "truth": "normal"}}
    )

    result_id: Annotated[str, Field(max_length=64)]
    truth: Truth
    question: bool = False


@router.post("")
def give(given: Answer, workspace: Kept) -> dict[str, Any]:
    """Say what an image is; once this is answered, nothing loses it."""
    return answer(workspace.state, given.result_id, given.truth, question=given.question)


@router.get("")
def given(workspace: Kept, limit: Annotated[int, Query(ge=1, le=10_000)] = 1000) -> dict[str, Any]:
    """All answers, the newest first, with those that were undone."""
    return {"items": trail(workspace.state, limit)}


@router.get("/questions")
def questions(
    request: Request,
    service: Parts,
    workspace: Kept,
    model: Annotated[str, Query(max_length=200)],
    n: Annotated[int, Query(ge=0, le=50)] = 5,
) -> dict[str, Any]:
    """Images drawn by lot among all that were scored, to ask about; and how many answers there are."""
    served = service.models.get(model)
    if "score" in request.scope["state"]["scopes"]:
        lots = random.SystemRandom()
        items = draw(workspace.state, served.lineage, n, lots, not_learned(workspace, served))
    else:  # Who may only look draws nothing
        items = open_questions(workspace.state, served.lineage)[:n]
    known = sample(workspace.state, served.lineage)
    counts = {"normal": len(known.normal), "anomalous": known.anomalous, "open": known.open}
    return {"items": items, "answers": counts}


@router.delete("/{id}")
def take_back(id: Annotated[str, Path(max_length=64)], workspace: Kept) -> dict[str, Any]:
    """Undo an answer; it stays in the trail."""
    return undo(workspace.state, id)
