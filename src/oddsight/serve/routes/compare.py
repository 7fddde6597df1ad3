"""Two models on the same images."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field

from oddsight.errors import ImageError
from oddsight.serve.errors import RequestError
from oddsight.serve.items import score_content
from oddsight.serve.models import ServedModel
from oddsight.serve.service import Kept, Parts
from oddsight.serve.workspace import Workspace

router = APIRouter(prefix="/api/compare", tags=["scoring"])

_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Content = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Comparison(BaseModel):
    """Two models, and images that are kept."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "example": {"models": ["parts", "parts-new"], "contents": ["9f86d081884c7d659a2feaa0c55ad015" * 2]}
        },
    )

    models: Annotated[list[_Name], Field(min_length=2, max_length=2)]
    contents: Annotated[list[_Content], Field(min_length=1, max_length=1000)]


@router.post("")
async def compare(given: Comparison, request: Request, service: Parts, workspace: Kept) -> dict[str, Any]:
    """Scores and decisions of both models, and whether one flags more than the other (McNemar's exact test)."""
    pair = [service.models.newest(name) for name in given.models]
    contents, items = list(dict.fromkeys(given.contents)), list[dict[str, Any]]()
    for start in range(0, len(contents), service.limits.images):
        work = [
            partial(_both, pair, content, workspace, service.limits.pixels)
            for content in contents[start : start + service.limits.images]
        ]
        items += await service.scoring.run(request, pair[0].name, work)
    both = [item for item in items if "error" not in item]
    if not both:
        raise RequestError(404, "none of these images is kept")
    flips = [item["content"] for item in both if item["anomalous"][0] != item["anomalous"][1]]
    first = sum(item["anomalous"][0] and not item["anomalous"][1] for item in both)
    return {
        "models": [{"name": served.name, "version": served.version} for served in pair],
        "items": items,
        "flips": flips,
        "flagged": [sum(item["anomalous"][index] for item in both) for index in (0, 1)],
        "only_first": first,
        "only_second": len(flips) - first,
        "p_value": mcnemar(first, len(flips) - first),
    }


def _both(pair: list[ServedModel], content: str, workspace: Workspace, pixels: int) -> dict[str, Any]:
    image = workspace.image(content)
    if image is None:
        return {"content": content, "error": "this image is not kept"}
    try:
        results = [score_content(served, image, pixels) for served in pair]
    except ImageError as error:
        return {"content": content, "error": error.reason}
    return {
        "content": content,
        "scores": [result.score for result in results],
        "p_values": [result.p_value for result in results],
        "anomalous": [result.anomalous for result in results],
    }


def mcnemar(first: int, second: int) -> float:
    """The chance of flips as one-sided as these, if neither model flags more: exact, two-sided."""
    from scipy.stats import binomtest

    return float(binomtest(first, first + second).pvalue) if first + second else 1.0
