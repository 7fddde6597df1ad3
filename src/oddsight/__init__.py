"""Oddsight finds the images that do not belong.

>>> import oddsight
>>> model = oddsight.fit("parts/good", false_alarm_rate=0.05)  # doctest: +SKIP
>>> model.save("parts.onnx")  # doctest: +SKIP
>>> oddsight.load("parts.onnx").predict("new.png").anomalous  # doctest: +SKIP
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oddsight.comparison import Comparison as Comparison
    from oddsight.comparison import compare as compare
    from oddsight.datasets.check import check as check
    from oddsight.errors import DataError as DataError
    from oddsight.errors import ImageError as ImageError
    from oddsight.errors import MemoryBudgetError as MemoryBudgetError
    from oddsight.errors import ModelError as ModelError
    from oddsight.errors import OddsightError as OddsightError
    from oddsight.evaluation import Evaluation as Evaluation
    from oddsight.evaluation import evaluate as evaluate
    from oddsight.fitting import fit as fit
    from oddsight.labelled.evaluation import ClassEvaluation as ClassEvaluation
    from oddsight.labelled.evaluation import evaluate_classes as evaluate_classes
    from oddsight.labelled.fitting import fit_classes as fit_classes
    from oddsight.model import Model as Model
    from oddsight.model import load as load
    from oddsight.networks.adapting import Adaptation as Adaptation
    from oddsight.networks.adapting import adapt as adapt
    from oddsight.normals import NormalImages as NormalImages
    from oddsight.normals import normals_path as normals_path
    from oddsight.normals import write_normals as write_normals
    from oddsight.preparing import Preparation as Preparation
    from oddsight.preparing import prepare as prepare
    from oddsight.reading import Reading as Reading
    from oddsight.result import Region as Region
    from oddsight.result import Result as Result
    from oddsight.scenes import predict_scene as predict_scene
    from oddsight.scenes import write_tiles as write_tiles
    from oddsight.synthesis import synthesize as synthesize
    from oddsight.synthesizing import write_synthetic as write_synthetic

_HOMES = {
    "Adaptation": "networks.adapting",
    "adapt": "networks.adapting",
    "check": "datasets.check",
    "Comparison": "comparison",
    "DataError": "errors",
    "Evaluation": "evaluation",
    "ImageError": "errors",
    "MemoryBudgetError": "errors",
    "Model": "model",
    "ModelError": "errors",
    "NormalImages": "normals",
    "OddsightError": "errors",
    "Preparation": "preparing",
    "Reading": "reading",
    "Region": "result",
    "Result": "result",
    "compare": "comparison",
    "evaluate": "evaluation",
    "ClassEvaluation": "labelled.evaluation",
    "evaluate_classes": "labelled.evaluation",
    "fit": "fitting",
    "fit_classes": "labelled.fitting",
    "load": "model",
    "normals_path": "normals",
    "predict_scene": "scenes",
    "prepare": "preparing",
    "synthesize": "synthesis",
    "write_normals": "normals",
    "write_tiles": "scenes",
    "write_synthetic": "synthesizing",
}

__all__ = sorted(_HOMES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import public names when they are first used, so that ``import oddsight`` stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'oddsight' has no attribute {name!r}")
    return getattr(importlib.import_module(f"oddsight.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """The public names."""
    return [*globals(), *_HOMES]
