"""What people say of results, and which of it may set a threshold.

People answer where they look, and they look at what was flagged. Scores of images that were picked by their scores say
nothing of how often normal images are flagged, so a threshold is set by questions only: images that were drawn by lot
among *all* that were scored and kept, flagged or not, whatever is known about them. Whoever answers them all gives
scores of a random sample of normal images that the model did not learn from. Such scores are exchangeable with those
of the normal images to come, which is all that conformal calibration needs (:mod:`oddsight.model.calibration`).

- The population are the images scored by versions that give the same scores, since images were last forgotten, each
  content once. A lot does not depend on score, verdict or earlier answers, and its probability is kept.
- While a question is open, nothing is calibrated: leaving out hard ones would be picking again.
- An image that the model learned from is drawn, too, but does not count.
- After a model has learned images (``update``), other scores and a population of their own begin, without the images
  that an earlier version scored: of these, those that were answered about were learned, and they were picked.
"""

from __future__ import annotations

import random
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from oddsight.data.collection import seen
from oddsight.data.images import content_hash, read_image
from oddsight.errors import ImageError
from oddsight.serve.errors import RequestError, not_found
from oddsight.serve.history import as_json
from oddsight.serve.models import ServedModel
from oddsight.serve.state import Database
from oddsight.serve.workspace import Workspace

Truth = Literal["normal", "anomalous"]

_DRAWING = threading.Lock()

_POPULATION = """
SELECT min(number) AS number, id, content FROM results AS r
WHERE lineage = :lineage AND time > (SELECT max(time) FROM horizon) AND content IN (SELECT content FROM images)
AND content NOT IN (SELECT content FROM questions WHERE lineage = :lineage)
AND NOT EXISTS (
    SELECT 1 FROM results AS o WHERE o.content = r.content AND o.model = r.model AND o.lineage <> :lineage
    AND o.number < (SELECT min(number) FROM results WHERE lineage = :lineage)
) GROUP BY content
"""

_TRAIL = """
SELECT f.*, r.name, r.content FROM feedback f LEFT JOIN results r ON r.id = f.result_id
ORDER BY f.number DESC LIMIT ?
"""

_QUESTIONS = """
SELECT q.result_id, q.probability, q.usable, r.score, a.truth
FROM questions q JOIN results r ON r.id = q.result_id LEFT JOIN answers a ON a.content = q.content
WHERE q.lineage = ? ORDER BY q.time
"""


def answer(state: Database, result_id: str, truth: Truth, *, question: bool) -> dict[str, Any]:
    """Note what an image is.

    Raises:
        RequestError: There is no such result, or it was not asked about.
    """
    if state.row("SELECT 1 FROM results WHERE id = ?", result_id) is None:
        raise not_found("such result any more")
    if question and state.row("SELECT 1 FROM questions WHERE result_id = ?", result_id) is None:
        raise RequestError(422, "this result was not asked about: leave 'question' out")
    row = (secrets.token_hex(8), time.time(), result_id, truth, int(question))
    with state.write() as change:
        change.execute("INSERT INTO feedback (id, time, result_id, truth, question) VALUES (?, ?, ?, ?, ?)", row)
    return {"id": row[0], "time": row[1], "result_id": result_id, "truth": truth, "undone": False}


def undo(state: Database, id: str) -> dict[str, Any]:
    """Take an answer back; it stays in the trail."""
    with state.write() as change:
        change.execute("UPDATE feedback SET undone = coalesce(undone, ?) WHERE id = ?", (time.time(), id))
    row = state.row("SELECT id, time, result_id, truth, question, undone FROM feedback WHERE id = ?", id)
    if row is None:
        raise not_found("such answer")
    return _answer(row)


def trail(state: Database, limit: int) -> list[dict[str, Any]]:
    """All answers, also those that were undone, the newest first."""
    return [{**_answer(row), "name": row["name"], "content": row["content"]} for row in state.rows(_TRAIL, limit)]


def _answer(row: Any) -> dict[str, Any]:  # noqa: ANN401 - of SQLite
    given = {name: row[name] for name in ("id", "time", "result_id", "truth")}
    return {**given, "question": bool(row["question"]), "undone": row["undone"] is not None}


def draw(
    state: Database, lineage: str, count: int, lots: random.Random, usable: Callable[[str], bool]
) -> list[dict[str, Any]]:
    """Questions that are open, and new ones by lot until there are ``count``.

    Args:
        state: Of the workspace.
        lineage: Of the versions that give the same scores.
        count: How many are wanted.
        lots: Draws.
        usable: Whether the model did not learn from an image, by its content.
    """
    with _DRAWING:
        rows = state.rows(_QUESTIONS, lineage)
        missing = count - sum(row["usable"] and row["truth"] is None for row in rows)
        left = state.rows(_POPULATION, {"lineage": lineage}) if missing > 0 else []
        population, drawn = len(rows) + len(left), len(rows)
        lots.shuffle(left)
        for row in left:
            if missing <= 0:
                break
            drawn += 1
            counts = usable(row["content"])  # Reads the image, so no transaction waits for it
            values = (row["id"], lineage, row["content"], time.time(), population, drawn / population, int(counts))
            with state.write() as change:
                change.execute("INSERT INTO questions VALUES (?, ?, ?, ?, ?, ?, ?)", values)
                known = change.execute("SELECT 1 FROM answers WHERE content = ?", (row["content"],)).fetchone()
            missing -= int(counts and known is None)
    return open_questions(state, lineage)[:count]


def open_questions(state: Database, lineage: str) -> list[dict[str, Any]]:
    """Questions without an answer, with their results."""
    questions = []
    for row in state.rows(_QUESTIONS, lineage):
        if row["usable"] and row["truth"] is None:
            result = state.row("SELECT * FROM results WHERE id = ?", row["result_id"])
            questions.append({**as_json(state, result), "probability": row["probability"]})
    return questions


@dataclass(frozen=True)
class Sample:
    """What is known of the images that were drawn.

    Attributes:
        normal: Scores of the normal ones, float32 ``[n]``.
        anomalous: How many are not.
        open: How many questions have no answer.
    """

    normal: NDArray[np.float32]
    anomalous: int
    open: int


def sample(state: Database, lineage: str) -> Sample:
    """The random sample of a lineage."""
    rows = [row for row in state.rows(_QUESTIONS, lineage) if row["usable"]]
    truths = [row["truth"] for row in rows]
    scores = np.array([row["score"] for row in rows if row["truth"] == "normal"], np.float32)
    return Sample(scores, truths.count("anomalous"), truths.count(None))


def not_learned(workspace: Workspace, served: ServedModel) -> Callable[[str], bool]:
    """A test whether a model did not learn from an image that is kept, and it can still be read."""
    learned = seen(served.model.metadata.training.images_seen)

    def usable(content: str) -> bool:
        path = workspace.path(content)
        try:
            return path is not None and not learned(content_hash(read_image(path, reading=served.model.reading)))
        except ImageError:
            return False

    return usable
