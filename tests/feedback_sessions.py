"""Simulated sessions of people who answer questions about a stream that has moved since the calibration."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oddsight.model.calibration import decide
from oddsight.serve.feedback import answer, draw, sample
from oddsight.serve.state import Database

RATE = 0.05
IMAGES, QUESTIONS = 300, 60
ANOMALOUS = 0.1
"""The share of the stream that is."""
MOVED = 0.8
"""Standard deviations by which normal scores have moved, so that the old threshold flags a fifth of them."""


def session(seed: int, held_out: int) -> dict[str, NDArray[np.bool_]]:
    """Which of new normal images are flagged, ``[held_out]``, by the threshold that each way of asking leads to.

    ``old``: the threshold from before. ``drawn``: questions drawn by lot, as the service does. ``flagged``: answers
    about all that was flagged. ``unflagged``: questions about what was not flagged. ``all``: the last two together.
    """
    randoms = np.random.default_rng(seed)
    old = decide(randoms.normal(size=99).astype(np.float32), RATE).threshold
    truths = randoms.random(IMAGES) < ANOMALOUS
    scores = (randoms.normal(MOVED, 1, IMAGES) + 2.5 * truths).astype(np.float32)
    flagged = scores > old
    unflagged = randoms.permutation(np.flatnonzero(~flagged & ~truths))[:QUESTIONS]
    marked = np.flatnonzero(flagged & ~truths)
    calibrations = {
        "drawn": _drawn(scores, truths, flagged, seed),
        "flagged": scores[marked],
        "unflagged": scores[unflagged],
        "all": scores[[*unflagged, *marked]],
    }
    new = randoms.normal(MOVED, 1, held_out).astype(np.float32)
    outcomes = {way: new > decide(known, RATE).threshold for way, known in calibrations.items() if len(known) >= 19}
    return {"old": new > old, **outcomes}


def _drawn(
    scores: NDArray[np.float32], truths: NDArray[np.bool_], flagged: NDArray[np.bool_], seed: int
) -> NDArray[np.float32]:
    """What the service calibrates on, when all false alarms were marked besides."""
    state, lots = Database(Path(":memory:")), random.Random(seed)
    with state.write() as change:
        for number, (score, flag) in enumerate(zip(scores, flagged, strict=True)):
            change.execute(
                "INSERT INTO results (id, time, model, version, lineage, name, content, score, p_value, verdict, "
                "anomalous) VALUES (?, 1, 'm', 'v', 'line', '', ?, ?, 0.5, '', ?)",
                (str(number), str(number), float(score), int(flag)),
            )
            change.execute("INSERT INTO images VALUES (?, 1, 1)", (str(number),))
    for number in np.flatnonzero(flagged).tolist():
        answer(state, str(number), "anomalous" if truths[number] else "normal", question=False)
    while len(state.rows("SELECT 1 FROM questions")) < QUESTIONS:
        for item in draw(state, "line", 5, lots, lambda content: True):
            truth = "anomalous" if truths[int(item["id"])] else "normal"
            answer(state, item["id"], truth, question=True)  # type: ignore[arg-type]
    return sample(state, "line").normal
