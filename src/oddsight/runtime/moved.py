"""Modules that users were told to import, under the names that they had before."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "oddsight.datasets": "oddsight.data",
    "oddsight.datasets.classes": "oddsight.data.classes",
    "oddsight.datasets.outliers": "oddsight.data.outliers",
    "oddsight.detectors.ood": "oddsight.detectors.scores",
    "oddsight.detectors.ood.head": "oddsight.detectors.head",
    "oddsight.detectors.ood.summing": "oddsight.detectors.sums",
    "oddsight.explanations": "oddsight.drawing.explanations",
    "oddsight.images": "oddsight.data.images",
    "oddsight.metadata": "oddsight.model.metadata",
    "oddsight.methods": "oddsight.detectors",
    "oddsight.networks": "oddsight.training",
    "oddsight.networks.adapting": "oddsight.training.adapting",
    "oddsight.result": "oddsight.model.result",
    "oddsight.scores": "oddsight.detectors.scores",
    "oddsight.scores.head": "oddsight.detectors.head",
    "oddsight.scores.summing": "oddsight.detectors.sums",
}
"""Old names, and where their contents are now."""


class _Finder(MetaPathFinder, Loader):
    """Answers an old name with a module that has what the new one has."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self, is_package=True) if fullname in MOVED else None

    def exec_module(self, module: ModuleType) -> None:
        old, new = module.__name__, MOVED[module.__name__]
        warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=2)
        contents = importlib.import_module(new)
        vars(module)["__getattr__"] = lambda name: getattr(contents, name)


def keep_old_names() -> None:
    """Let the old names be imported."""
    sys.meta_path.append(_Finder())
