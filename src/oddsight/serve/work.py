"""What each kind of job is to do, and what becomes of what it made."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from html import escape
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from oddsight.detectors import by_name
from oddsight.errors import DataError
from oddsight.fitting.exporting import with_calibration
from oddsight.model.model import Model, load
from oddsight.model.normals import normals_path
from oddsight.runtime.files import write_bytes
from oddsight.serve import uploads
from oddsight.serve.errors import RequestError
from oddsight.serve.feedback import Sample, sample
from oddsight.serve.job_process import MODEL, REPORT
from oddsight.serve.jobs import Jobs, Task
from oddsight.serve.models import NEW_NAME, ServedModel
from oddsight.serve.service import Service
from oddsight.serve.workspace import Workspace

_COMPARED = 200
"""Kept images on which a preview compares decisions, at most: the newest."""

FEEDBACK = "feedback"


def fit_task(service: Service, workspace: Workspace, options: dict[str, Any]) -> Task:
    """Fit a model on a set of images."""
    name, upload = options["name"], options["upload"]
    if not NEW_NAME.fullmatch(name):
        raise RequestError(422, "a model's name is at most 64 letters, digits, dots, hyphens and underscores")
    order = {**options, "images": str(uploads.folder(workspace, upload))}

    def finish(job: str, said: dict[str, Any]) -> dict[str, Any]:
        path = _jobs(service).folder(job) / MODEL
        try:
            model = load(path)
            needed = None if by_name(model.metadata.method.name).grows else upload
            served = service.models.add(name, model, normals=normals_path(path), upload=needed)
        finally:
            _clear(path)
        return {
            "model": served.name,
            "version": served.version,
            "upload": upload,
            "upload_needed": needed is not None,
            **_translated(workspace, said, upload),
        }

    return Task("fit", options, order, finish)


def check_task(service: Service, workspace: Workspace, options: dict[str, Any]) -> Task:
    """Look for what could spoil a fit on a set of images."""
    upload = options["upload"]
    order = {**options, "images": str(uploads.folder(workspace, upload))}
    return Task("check", options, order, lambda job, said: _translated(workspace, said, upload))


def evaluate_task(service: Service, workspace: Workspace, options: dict[str, Any]) -> Task:
    """Evaluate a model on a set of normal and a set of anomalous images."""
    served, sets = service.models.get(options["model"]), (options["normal"], options["anomalous"])
    if served.model.classes:
        raise RequestError(409, "this model knows classes: evaluate it with the command, on images of every class")
    normal, anomalous = (str(uploads.folder(workspace, upload)) for upload in sets)
    order = _order(options, served, normal=normal, anomalous=anomalous, title=served.name)

    def finish(job: str, said: dict[str, Any]) -> dict[str, Any]:
        known = uploads.names(workspace, *sets)
        report = _jobs(service).folder(job) / REPORT
        names = {key: escape(name) for key, name in known.items()}
        text = uploads.translate(report.read_text("utf-8"), workspace, names, sets[0])
        write_bytes(report, text.encode())
        return {
            "served": {"name": served.name, "version": served.version},
            **uploads.translate(said, workspace, known, sets[0]),
            "report": f"/api/jobs/{job}/report",
        }

    return Task("evaluate", options, order, finish)


def update_task(service: Service, workspace: Workspace, options: dict[str, Any]) -> Task:
    """Have a model learn images: those of a set, or those that were confirmed as normal."""
    served, source, preview = service.models.get(options["model"]), options["from"], options["preview"]
    grows = by_name(served.model.metadata.method.name).grows and not options["replace"]
    old: list[str] = []
    if not grows and not options["replace"]:
        if served.upload is None or not uploads.exists(workspace, served.upload):
            raise RequestError(
                409, f"{served.model.metadata.method.name} learns new images only together with those that it was "
                "fitted on, which are not in this workspace: fit it here, or replace them ('replace': true)"
            )  # fmt: skip
        old = [str(uploads.folder(workspace, served.upload))]
    if source == FEEDBACK:
        new = _confirmed(workspace, served, drawn=not grows)
    else:
        folder = uploads.folder(workspace, source)
        new = [str(path) for path in sorted(folder.iterdir()) if not path.name.startswith(".")]
    if not new:
        raise RequestError(409, "there are no images to learn from")
    order = _order(options, served, new=new, old=old, kept=_kept(workspace, served))

    def finish(job: str, said: dict[str, Any]) -> dict[str, Any]:
        path = _jobs(service).folder(job) / MODEL
        result = _translated(workspace, said, served.upload if source == FEEDBACK else source)
        if not preview:
            copies = normals_path(path)
            if copies is not None and not copies.is_file():
                copies = normals_path(served.path)
            added = service.models.add(served.name, load(path), normals=copies, upload=_upload_of(options))
            result |= {"version": added.version}
        _clear(path)
        return {"model": served.name, "preview": preview, **result}

    return Task("update", options, order, finish)


def _order(options: dict[str, Any], served: ServedModel, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """What the process of a job about a model is told."""
    return {**options, "model": str(served.path), "digest": served.digest, **more}


def _upload_of(options: dict[str, Any]) -> str | None:
    """The set with which the new version could be updated again: only one that is all it learned from."""
    return str(options["from"]) if options["replace"] and options["from"] != FEEDBACK else None


def recalibrate_task(service: Service, workspace: Workspace, options: dict[str, Any]) -> Task:
    """Calibrate a model anew: on the answers to questions, or on a set of normal images that it does not know."""
    served, source = service.models.get(options["model"]), options["from"]
    if served.model.classes:
        raise RequestError(409, "this model knows classes: fit it again instead")
    finished = partial(_finish_recalibration, service, workspace, served, options)
    if source == FEEDBACK:
        known = sample(workspace.state, served.lineage)
        _require_answers(known)
        counts = {"normal": len(known.normal), "anomalous": known.anomalous}
        return Task("recalibrate", options, {}, lambda job, said: finished(known.normal, counts))
    order = _order(options, served, images=str(uploads.folder(workspace, source)))

    def finish(job: str, said: dict[str, Any]) -> dict[str, Any]:
        errors = _translated(workspace, said, source)["errors"]
        return finished(np.array(said["scores"], np.float32), {"errors": errors})

    return Task("recalibrate", options, order, finish)


def _require_answers(known: Sample) -> None:
    if known.open:
        raise RequestError(409, f"{known.open:,} questions are open: answer them first, or the sample is not random")
    if not len(known.normal):
        raise RequestError(409, "no question was answered with 'normal' yet: ask for questions, and answer them")


def _finish_recalibration(
    service: Service,
    workspace: Workspace,
    served: ServedModel,
    options: dict[str, Any],
    scores: NDArray[np.float32],
    more: dict[str, Any],
) -> dict[str, Any]:
    model = recalibrated(served.model, scores, options.get("false_alarm_rate"))
    old, new = served.model.decision, model.decision
    result = {
        "model": served.name,
        "preview": options["preview"],
        "threshold": [old.threshold, new.threshold],
        "false_alarm_rate": [old.false_alarm_rate, new.false_alarm_rate],
        "calibration": [len(served.model.calibration_scores), len(scores)],
        "flips": _flips(workspace, served.lineage, old.threshold, new.threshold),
        **more,
    }
    if not options["preview"]:
        result["version"] = service.models.add(served.name, model, like=served).version
    return result


def recalibrated(model: Model, scores: NDArray[np.float32], rate: float | None = None) -> Model:
    """A model with other calibration scores, and a threshold for a rate: by default its own.

    Raises:
        DataError: The scores are too few for the rate, or there is none.
    """
    rate = model.decision.false_alarm_rate if rate is None else rate
    if rate is None:
        raise DataError("the threshold was set by hand: name a false-alarm rate")
    return with_calibration(model, scores, rate)


def _flips(workspace: Workspace, lineage: str, old: float, new: float) -> dict[str, Any]:
    """Which kept images another threshold decides otherwise, each content once."""
    rows = workspace.state.rows(
        "SELECT content, score FROM results WHERE lineage = ? AND content IN (SELECT content FROM images) "
        "GROUP BY content",
        lineage,
    )
    changed = [(row["content"], row["score"] > new) for row in rows if (row["score"] > old) != (row["score"] > new)]
    return {
        "images": len(rows),
        "now_flagged": [content for content, flagged in changed if flagged],
        "now_normal": [content for content, flagged in changed if not flagged],
    }


def _confirmed(workspace: Workspace, served: ServedModel, *, drawn: bool) -> list[str]:
    """Kept images that were confirmed as normal; of those only what was drawn by lot, where they are calibrated on."""
    rows = workspace.state.rows(
        "SELECT DISTINCT r.content FROM results r JOIN answers a ON a.content = r.content "
        "WHERE r.model = ? AND a.truth = 'normal' "
        "AND (? = 0 OR r.content IN (SELECT content FROM questions WHERE lineage = ? AND usable = 1))",
        served.name, int(drawn), served.lineage,
    )  # fmt: skip
    if drawn:
        _require_answers(sample(workspace.state, served.lineage))
    paths = (workspace.path(row["content"]) for row in rows)
    return sorted(str(path) for path in paths if path is not None)


def _kept(workspace: Workspace, served: ServedModel) -> list[str]:
    rows = workspace.state.rows(
        "SELECT content FROM results WHERE model = ? GROUP BY content ORDER BY max(number) DESC LIMIT ?",
        served.name, _COMPARED,
    )  # fmt: skip
    paths = (workspace.path(row["content"]) for row in rows)
    return [str(path) for path in paths if path is not None]


def _translated(workspace: Workspace, said: dict[str, Any], upload: str | None) -> dict[str, Any]:
    known = {} if upload is None else uploads.names(workspace, upload)
    translated: dict[str, Any] = uploads.translate(said, workspace, known, upload or "")
    return translated


def _clear(path: Path) -> None:
    """Remove the files of a job whose model was added, or was only tried."""
    for one in filter(None, (path, normals_path(path))):
        one.unlink(missing_ok=True)


def _jobs(service: Service) -> Jobs:
    assert service.jobs is not None
    return service.jobs


Kind = Literal["fit", "update", "recalibrate", "evaluate", "check"]

TASKS: dict[Kind, Callable[[Service, Workspace, dict[str, Any]], Task]] = {
    "fit": fit_task,
    "check": check_task,
    "update": update_task,
    "recalibrate": recalibrate_task,
    "evaluate": evaluate_task,
}

__all__ = ["FEEDBACK", "REPORT", "TASKS", "Kind", "recalibrated"]
