"""Scores of several detectors added up: ``energy+knn``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from oddsight.detectors.averaging import blocks
from oddsight.detectors.detector import Detector, Labels
from oddsight.detectors.features import Rows, Vectors
from oddsight.detectors.head import Head
from oddsight.detectors.sampling import sample
from oddsight.errors import OddsightError
from oddsight.graphs.building import chain, piece, renamed
from oddsight.runtime.bounds import Count, check_settings
from oddsight.runtime.sessions import run, session

PLUS = "+"


@dataclass
class Sum(Detector):
    """The sum of scores, each standardised by its mean and standard deviation over training images.

    Different scores make different mistakes, and some of these cancel out.

    Attributes:
        parts: The detectors, at least two, each once, that learn from classes; :meth:`fit` fits them itself.
        rows: The largest number of training images for means and deviations; if there are more, they are drawn at
            random.

    Raises:
        OddsightError: There are fewer than two scores, or one occurs twice.
    """

    learns_from = ("classes",)

    parts: tuple[Detector, ...]
    rows: Count = 10000

    def __post_init__(self) -> None:
        if not isinstance(self.parts, list | tuple) or not all(
            isinstance(part, Detector) and "classes" in part.learns_from for part in self.parts
        ):
            raise OddsightError("a sum needs scores, such as oddsight.detectors.create makes of their names")
        self.parts = tuple(self.parts)
        names = [part.name for part in self.parts]
        name = PLUS.join(names)
        if len(names) < 2 or len({*names}) < len(names):
            raise OddsightError(f"a sum needs at least two scores, each once, not {name!r}")
        summary = f"sum of {', '.join(names[:-1])} and {names[-1]}, each in units of its spread"
        # For other detectors these are the same for all of a class.
        vars(self).update(name=name, summary=summary, paper="; ".join(part.paper for part in self.parts))
        check_settings(self, owner="sum")

    def learn_classes(self, embeddings: Vectors, labels: Labels, head: Head, seed: int) -> None:
        """Fit the parts and measure their scores; see :meth:`Detector.fit`."""
        some = sample(Rows(embeddings), self.rows, seed)
        self.means_, self.spreads_ = [], []
        for part in self.parts:
            values = _scores(part.fit(embeddings, labels, head, seed=seed), head, some)
            spread = float(values.std())
            self.means_.append(float(values.mean()))
            # A score that is the same everywhere has nothing to say.
            self.spreads_.append(spread if spread > 1e-6 * abs(self.means_[-1]) else 1.0)

    def graph(self) -> onnx.ModelProto:
        numbers = range(len(self.parts))
        pieces = [renamed(self.parts[n].graph(), f"part{n}", {"score": f"score{n}"}) for n in numbers]
        inputs = ", ".join(f"float[N] score{n}" for n in numbers)
        scaled = "\n".join(f"scaled{n} = Div (score{n}, spread{n})" for n in numbers)
        added = piece(
            f"""
            sum ({inputs}) => (float[N] score)
            {{
                {scaled}
                sum = Sum ({", ".join(f"scaled{n}" for n in numbers)})
                score = Sub (sum, middle)
            }}
            """,
            {
                **{f"spread{n}": np.array(self.spreads_[n], np.float32) for n in numbers},
                "middle": np.array(np.divide(self.means_, self.spreads_).sum(), np.float32),
            },
        )
        return renamed(chain([*pieces, added], ["score"]), "sum", {})

    def settings(self) -> dict[str, Any]:
        """The settings of each part by its name, and :attr:`rows`."""
        return {**{part.name: part.settings() for part in self.parts}, "rows": self.rows}


def _scores(part: Detector, head: Head, embeddings: Vectors) -> NDArray[np.float64]:
    """Scores ``[n]`` of embeddings ``[n, C]``, by the score's own graph."""
    loaded = session(chain([head.graph(), part.graph()], ["score"]).SerializeToString(), threads=1)
    found = [run(loaded, {"embedding": embeddings[rows]}, part.name)[0] for rows in blocks(len(embeddings))]
    return np.concatenate(found).astype(np.float64)
