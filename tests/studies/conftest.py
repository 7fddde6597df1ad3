"""What the tests of the study of clouds share."""

from pathlib import Path

import numpy as np
import pytest

from oddsight.data.images import read_image
from tiny_model import tiny_model


class Fits:
    """In place of :func:`oddsight.fit`: a model whose map is brightness on a coarse grid; keeps what it was given."""

    def __init__(self):
        self.calls = []

    def __call__(self, *paths, method, seed, progress, **options):
        self.calls.append((method, tuple(Path(path) for path in paths), options))
        scorer = tiny_model()
        scores = np.array([scorer.score(read_image(path)).score for path in paths], np.float32)
        return tiny_model(scores, rate=options.get("false_alarm_rate", 0.5))


@pytest.fixture
def fits(monkeypatch):
    found = Fits()
    monkeypatch.setattr("oddsight.studies.clouds.variants.fit", found)
    return found
