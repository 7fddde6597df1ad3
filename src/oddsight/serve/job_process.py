"""A job in a process of its own: it can be ended at any time, and what it takes or breaks is its own.

It reads one line of JSON that says what to do, and writes lines: ``{"progress": [phase, done, total]}``, and last
``{"result": ...}`` or ``{"error": "..."}``. When its input ends, so has the service, and it ends, too.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oddsight.errors import DataError, ImageError, OddsightError

if TYPE_CHECKING:
    from oddsight.fitting.plan import FitPlan
    from oddsight.model.model import Model

MODEL, REPORT = "model.onnx", "report.html"
"""Files that a job leaves in its folder."""

_NICENESS = 5

Order = dict[str, Any]


def main() -> None:
    """Do one job."""
    with suppress(OSError, AttributeError):
        os.nice(_NICENESS)  # scoring comes first
    order: Order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_service, daemon=True).start()
    try:
        _say({"result": _WORK[order["kind"]](order)})
    except OddsightError as error:
        _say({"error": str(error)})
    except MemoryError:
        _say({"error": "out of memory: use smaller images or fewer"})
    except OSError as error:
        _say({"error": f"the workspace cannot be written: {error.strerror or error}"})


def _end_with_the_service() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(1)


def _say(line: dict[str, Any]) -> None:
    print(json.dumps(line, allow_nan=False), flush=True)


def _report(phase: str, done: int, total: int, /) -> None:
    _say({"progress": [phase, done, total]})


def _model(order: Order) -> Model:
    """The model of an order, if its file is still the one that the service read."""
    from oddsight.model.model import load

    if hashlib.sha256(Path(order["model"]).read_bytes()).hexdigest() != order["digest"]:
        raise OddsightError("the model's file is another one than when the service started: start the service again")
    return load(order["model"])


def _fit(order: Order) -> dict[str, Any]:
    from oddsight.fitting.normal import fit

    found = _check(order)
    plans: list[FitPlan] = []
    settings = {key: order[key] for key in ("method", "speed", "false_alarm_rate") if order.get(key) is not None}
    model = fit(order["images"], **settings, progress=_report, on_plan=plans.append)
    _leave(order, model, plans)
    return {"summary": summary(model, plans), "check": found}


def _leave(order: Order, model: Model, plans: list[FitPlan]) -> None:
    """Write the model, and small copies of the images that it learned from."""
    from oddsight.model.normals import normals_path, write_normals

    path = Path(order["folder"]) / MODEL
    model.save(path)
    copies = normals_path(path)
    if copies is not None and plans:
        write_normals(copies, plans[0].training, progress=_report)


def summary(model: Model, plans: list[FitPlan]) -> dict[str, Any]:
    """What a fit made of its images."""
    plan = plans[0] if plans else None
    reach = model.true_rate_range
    return {
        "method": model.metadata.method.name,
        "training": model.metadata.training.images,
        "calibration": len(model.calibration_scores),
        "threshold": model.decision.threshold,
        "false_alarm_rate": model.decision.false_alarm_rate,
        "true_rate_range": None if reach is None else list(reach),
        "duplicates": 0 if plan is None else plan.duplicates,
        "errors": [] if plan is None else [{"name": e.path, "error": e.reason} for e in plan.errors],
    }


def _check(order: Order) -> dict[str, Any]:
    from oddsight.data.check import check

    return check(order["images"], progress=lambda done, total: _report("checking", done, total)).to_json()


def _update(order: Order) -> dict[str, Any]:
    from oddsight.fitting.updating import update

    model = _model(order)
    plans: list[FitPlan] = []
    made = update(
        model,
        order["new"],
        replace=order["replace"],
        old=order["old"],
        false_alarm_rate=order.get("false_alarm_rate"),
        progress=_report,
        on_plan=plans.append,
    )
    _leave(order, made.model, plans)
    flips = _flips(model, made.model, order["kept"])
    return {"changes": made.changes.to_json(), "summary": summary(made.model, plans), "flips": flips}


def _flips(before: Model, after: Model, kept: list[str]) -> dict[str, Any]:
    """How decisions on images that are kept differ."""
    images, now_flagged, now_normal = 0, list[str](), list[str]()
    pairs = zip(kept, before.predict_many(kept), after.predict_many(kept), strict=True)
    for number, (path, old, new) in enumerate(pairs, 1):
        _report("comparing", number, len(kept))
        if isinstance(old, ImageError) or isinstance(new, ImageError):
            continue
        images += 1
        if old.anomalous != new.anomalous:
            (now_flagged if new.anomalous else now_normal).append(Path(path).name)
    return {"images": images, "now_flagged": now_flagged, "now_normal": now_normal}


def _recalibrate(order: Order) -> dict[str, Any]:
    """Scores of normal images, each once, which the model did not learn from."""
    from oddsight.data.collection import seen
    from oddsight.sources.collecting import collect_sources

    model = _model(order)
    collection, _ = collect_sources(order["images"], reading=model.reading, progress=_report)
    known = seen(model.metadata.training.images_seen)
    learned = [image for image in collection.images if known(image.content)]
    if learned:
        raise DataError(
            f"{len(learned):,} of {len(collection.images):,} images were used to fit the model, such as "
            f"{learned[0].path}: bring images that it does not know"
        )
    paths, scores = [image.path for image in collection.images], list[float]()
    errors = [{"name": error.path, "error": error.reason} for error in collection.errors]
    for number, outcome in enumerate(model.predict_many(paths), 1):
        _report("scoring", number, len(paths))
        if isinstance(outcome, ImageError):
            errors.append({"name": outcome.path, "error": outcome.reason})
        else:
            scores.append(outcome.score)
    return {"scores": scores, "errors": errors}


def _evaluate(order: Order) -> dict[str, Any]:
    from oddsight.evaluation import evaluate
    from oddsight.evaluation.normal import Evaluation
    from oddsight.model.normals import NormalImages
    from oddsight.report import write_report

    model = _model(order)
    found = evaluate(model, normal=order["normal"], anomalous=order["anomalous"], progress=_report)
    assert isinstance(found, Evaluation)
    normals = NormalImages.beside(order["model"])
    write_report(found, model, Path(order["folder"]) / REPORT, title=order["title"], normals=normals)
    content = found.to_json()
    content.pop("images", None)
    return content


_WORK: dict[str, Callable[[Order], dict[str, Any]]] = {
    "fit": _fit,
    "check": _check,
    "update": _update,
    "recalibrate": _recalibrate,
    "evaluate": _evaluate,
}

if __name__ == "__main__":
    main()
