"""What was scored: results by time, and what they say of the stream that they come from."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.serve.items import Scored
from oddsight.serve.models import ServedModel
from oddsight.serve.state import Database
from oddsight.watch.drift import CHANCE, bet_on

_INSERT = """
INSERT INTO results (id, time, model, version, lineage, name, content, score, p_value, verdict, anomalous)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""

_ANSWER = """
SELECT f.id, f.time, f.truth FROM feedback f JOIN results r ON r.id = f.result_id
WHERE r.content = ? AND f.undone IS NULL ORDER BY f.number DESC LIMIT 1
"""

_PAGE = """
SELECT * FROM results WHERE (:model IS NULL OR model = :model) AND (:before IS NULL OR number < :before)
AND (:flagged IS NULL OR anomalous = :flagged) ORDER BY number DESC LIMIT :limit
"""
_MOST_POINTS = 2000


def record(state: Database, served: ServedModel, scored: Iterable[Scored]) -> None:
    """Add results."""
    now = time.time()
    rows = [
        (
            one.item["id"], now, served.name, served.version, served.lineage, one.item["name"], one.item["content"],
            one.result.score, one.result.p_value, one.result.verdict, int(one.result.anomalous),
        )
        for one in scored
        if one.result is not None
    ]  # fmt: skip
    with state.write(durable=False) as change:
        change.executemany(_INSERT, rows)


def page_of_results(
    state: Database, *, model: str | None, before: int | None, limit: int, flagged: bool | None
) -> dict[str, Any]:
    """Results, the newest first, and where the next page begins."""
    rows = state.rows(_PAGE, {"model": model, "before": before, "flagged": flagged, "limit": limit + 1})
    items = [as_json(state, row) for row in rows[:limit]]
    return {"items": items, "next": rows[limit - 1]["number"] if len(rows) > limit else None}


def as_json(state: Database, row: Any) -> dict[str, Any]:  # noqa: ANN401 - of SQLite
    """A result with its latest answer that was not undone."""
    given = state.row(_ANSWER, row["content"])
    names = ("id", "time", "model", "version", "name", "content", "score", "p_value", "verdict")
    return {
        **{name: row[name] for name in names},
        "anomalous": bool(row["anomalous"]),
        "feedback": None if given is None else dict(given),
    }


def series(state: Database, model: str, bucket: float, since: float) -> dict[str, Any]:
    """Counts and alarms by time, and whether p-values of the newest version still are those of normal images.

    What is older than ``since`` is left out: of it only what was answered about is there.
    """
    rows = state.rows(
        "SELECT cast(time / ? AS INTEGER) AS at, count(*) AS n, sum(anomalous) AS flagged, avg(ln(p_value)) AS logs "
        "FROM results WHERE model = ? AND time >= ? GROUP BY at ORDER BY at DESC LIMIT ?",
        bucket, model, since, _MOST_POINTS,
    )[::-1]  # fmt: skip
    values = state.rows(
        "SELECT time, p_value FROM results WHERE model = ? AND time >= ? AND version = "
        "(SELECT version FROM results WHERE model = ? ORDER BY number DESC LIMIT 1) AND number > "
        "coalesce((SELECT max(number) FROM results WHERE model = ?), 0) - 100000 ORDER BY number",
        model, since, model, model,
    )  # fmt: skip
    capitals = martingale(np.array([row["p_value"] for row in values]))
    times = np.array([row["time"] for row in values])
    reached = np.flatnonzero(capitals >= 1 / CHANCE)
    starts = [row["at"] * bucket for row in rows]
    last = np.searchsorted(times, [start + bucket for start in starts]) - 1
    return {
        "times": starts,
        "counts": [row["n"] for row in rows],
        "flagged": [row["flagged"] for row in rows],
        "mean_log_p": [row["logs"] for row in rows],
        "drift": {
            "martingale": [float(capitals[index]) if index >= 0 else 1.0 for index in last],
            "alarm_at": float(times[reached[0]]) if len(reached) else None,
        },
    }


def martingale(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a stake of 1 becomes that is bet against p-values being uniform: 100 with a chance of at most 1%.

    The Simple Jumper, see :mod:`oddsight.watch.drift`. P-values of a calibration with ties are a little too large,
    and those among one fixed calibration depend on it, so this is a warning, not a test.
    """
    stakes, capitals = np.full(3, 1 / 3), np.empty(len(p_values))
    for index, value in enumerate(p_values):
        stakes = np.clip(bet_on(stakes, value), 1e-300, 1e300)
        capitals[index] = stakes.sum()
    return capitals
