"""The models of a service: those of a folder, and new versions in its workspace."""

from __future__ import annotations

import hashlib
import io
import re
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from oddsight.data.collection import unpacked
from oddsight.errors import DataError, ImageError, ModelError, OddsightError, plain
from oddsight.model.model import Model
from oddsight.model.normals import NormalImages, normals_path
from oddsight.runtime.files import write_bytes
from oddsight.serve.errors import RequestError, no_workspace, not_found
from oddsight.serve.workspace import Workspace

NEW_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names that clients may give to models."""

_OLD_AT_ONCE = 4
"""Old versions that stay in memory."""

_IN_FOLDER, _IN_WORKSPACE = "folder", "workspace"


@dataclass(frozen=True)
class ServedModel:
    """A version of a model.

    Attributes:
        name: What the model is called.
        digest: SHA-256 of the file.
        path: The file.
        created: When it came, in seconds since 1970.
        lineage: The version from which this one differs in its calibration or threshold only, so that both give the
            same scores.
        model: The model.
        upload: The set of images that it was fitted on, if they were uploaded.
    """

    name: str
    digest: str
    path: Path
    created: float
    lineage: str
    model: Model
    upload: str | None = None

    @property
    def version(self) -> str:
        """What the version is called: the first digits of its digest."""
        return self.digest[:12]

    @cached_property
    def normals(self) -> NormalImages | None:
        """Small copies of its normal images, if there are any that can be read."""
        with suppress(DataError):
            return NormalImages.beside(self.path)
        return None

    def small_copy(self, content: str, quality: int) -> bytes | None:
        """The small copy of a normal image as a JPEG, if there is one that can be read."""
        image = None
        if self.normals is not None:
            with suppress(ImageError):
                image = self.normals.thumbnail(content)
        if image is None:
            return None
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return file.getvalue()

    def to_json(self) -> dict[str, Any]:
        """For clients."""
        model, metadata = self.model, self.model.metadata
        scores = model.calibration_scores
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "method": metadata.method.name,
            "localises": metadata.map_size is not None,
            "classes": list(model.classes) or None,
            "verdicts": list(model.verdicts),
            "threshold": model.decision.threshold,
            "false_alarm_rate": model.decision.false_alarm_rate,
            "calibration": {"scores": scores.tolist(), "count": len(scores)},
            "created": self.created,
            "training_images": metadata.training.images,
            "has_normals": self.normals is not None,
            "bytes": len(model.to_bytes()),
            "schema": metadata.schema_version,
        }

    def outputs_json(self) -> dict[str, Any]:
        """The model, and what the outputs of its file count, for those who run it themselves."""
        explanation, classes = self.model.metadata.explanation, self.model.metadata.classes
        return {
            "model": self.to_json(),
            "voices": list(explanation.voices) if explanation is not None else [],
            "normal_ids": unpacked(explanation.normals) if explanation is not None else [],
            "thresholds": classes.thresholds if classes is not None else None,
        }


class Models:
    """The models of a service.

    Args:
        folder: Of model files, or one such file; nothing is ever written there.
        workspace: Where new versions go.
        complain: Called with what is wrong with files that are passed over.
    """

    def __init__(self, folder: Path, workspace: Workspace | None, complain: Callable[[object], None]) -> None:
        self._workspace = workspace
        self._lock = threading.RLock()
        self._newest: dict[str, ServedModel] = {}
        self._old: OrderedDict[tuple[str, str], ServedModel] = OrderedDict()
        self._folder = {path.stem: path for path in _model_files(folder)}
        for name, path in self._folder.items():
            try:
                if not _nameable(name):
                    raise ModelError(f"{path}: a name with ':', '/' or unprintable characters cannot be served")
                self._add_from_folder(name, path)
            except OddsightError as error:
                complain(error)
        if workspace is not None:
            for row in workspace.state.rows("SELECT name, digest FROM models ORDER BY created DESC"):
                if row["name"] not in self._newest:
                    with suppress(RequestError):
                        self._newest[row["name"]] = self._load(row["name"], row["digest"])
        if not self._newest and workspace is None:
            raise ModelError(f"{folder}: there is no model to serve: name a folder of model files, or --workspace DIR")

    def _add_from_folder(self, name: str, path: Path) -> None:
        model = Model.load(path)
        digest = hashlib.sha256(model.to_bytes()).hexdigest()
        served = ServedModel(name, digest, path, path.stat().st_mtime, digest, model)
        if self._workspace is None:
            self._newest[name] = served
        elif not self._workspace.state.rows("SELECT 1 FROM models WHERE name = ? AND digest = ?", name, digest):
            self._record(served, _IN_FOLDER)

    def _record(self, served: ServedModel, place: str) -> None:
        assert self._workspace is not None
        row = (served.name, served.digest, time.time(), place, served.lineage, served.upload)
        with self._workspace.state.write() as change:
            change.execute("INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?, ?, ?)", row)

    def _load(self, name: str, digest: str) -> ServedModel:
        """A version from its file."""
        assert self._workspace is not None
        row = self._workspace.state.row("SELECT * FROM models WHERE name = ? AND digest = ?", name, digest)
        path = None if row is None else self._path(row["place"], name, digest)
        if row is None or path is None or not path.is_file():
            raise not_found("such version of the model any more")
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != digest:
            raise not_found("such version of the model any more")
        model = Model.from_bytes(content)
        return ServedModel(name, digest, path, row["created"], row["lineage"], model, row["upload"])

    def _path(self, place: str, name: str, digest: str) -> Path | None:
        if place == _IN_FOLDER:
            return self._folder.get(name)
        assert self._workspace is not None
        return self._workspace.folder / "models" / name / f"{digest}.onnx"

    def all(self) -> list[ServedModel]:
        """The newest version of each model, by name."""
        with self._lock:
            return sorted(self._newest.values(), key=lambda served: served.name)

    def newest(self, name: str) -> ServedModel:
        """A model; this never waits.

        Raises:
            RequestError: There is none.
        """
        served = self._newest.get(name)
        if served is None:
            raise not_found(f"model {plain(name)[:100]!r}")
        return served

    def get(self, name: str, version: str | None = None) -> ServedModel:
        """A model, or an old version of it, which may have to be read.

        Raises:
            RequestError: There is none.
        """
        served = self.newest(name)
        if version is None or version == served.version:
            return served
        with self._lock:
            known = next((digest for digest, _ in self.versions(name) if digest[:12] == version), None)
            if known is None:
                raise not_found(f"version {plain(version)[:40]!r} of the model {name!r}")
            if (name, known) not in self._old:
                self._old[name, known] = self._load(name, known)
                if len(self._old) > _OLD_AT_ONCE:
                    self._old.popitem(last=False)
            self._old.move_to_end((name, known))
            return self._old[name, known]

    def versions(self, name: str) -> list[tuple[str, float]]:
        """Digests and times of all versions of a model, the newest first."""
        if self._workspace is None:
            served = self.get(name)
            return [(served.digest, served.created)]
        rows = self._workspace.state.rows(
            "SELECT digest, created FROM models WHERE name = ? ORDER BY created DESC", name
        )
        return [(row["digest"], row["created"]) for row in rows]

    def add(
        self,
        name: str,
        model: Model,
        *,
        like: ServedModel | None = None,
        normals: Path | None = None,
        upload: str | None = None,
    ) -> ServedModel:
        """Keep a new version, which is served from now on.

        Args:
            name: Of a model that there is, or a new one.
            model: The version.
            like: A version that gives the same scores.
            normals: Small copies of its normal images.
            upload: The set of images that it was fitted on.

        Raises:
            RequestError: There is no workspace, or the name is not one.
        """
        if self._workspace is None:
            raise no_workspace()
        content = model.to_bytes()
        digest = hashlib.sha256(content).hexdigest()
        with self._lock:
            if name not in self._newest and not NEW_NAME.fullmatch(name):
                raise RequestError(422, "a model's name is at most 64 letters, digits, dots, hyphens and underscores")
            path = self._workspace.place("models", name) / f"{digest}.onnx"
            write_bytes(path, content)
            copies = normals_path(path)
            old = normals if like is None else normals_path(like.path)
            if copies is not None and old is not None and old.is_file():
                shutil.copyfile(old, copies)
            lineage = digest if like is None else like.lineage
            upload = upload if like is None else like.upload
            served = ServedModel(name, digest, path, time.time(), lineage, model, upload)
            self._record(served, _IN_WORKSPACE)
            self._newest[name] = served
            return served


def _model_files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder of models")
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".onnx" and path.is_file())


def _nameable(name: str) -> bool:
    return name.isprintable() and not set(name) & set("/:\\?#%") and len(name) <= 200 and not name.startswith(".")
