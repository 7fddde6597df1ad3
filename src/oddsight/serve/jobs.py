"""Jobs that take long: one after the other, each in a process of its own, noted in the state of the workspace."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from oddsight.errors import OddsightError
from oddsight.serve.errors import RequestError, not_found
from oddsight.serve.uploads import translate_error
from oddsight.serve.workspace import Workspace

_MOST_WAITING = 16
_NOTED = 0.5
"""Seconds between two times that progress is noted in the state."""

_START = "from oddsight.serve.job_process import main; main()"
ENDED = ("done", "failed", "cancelled", "interrupted")


@dataclass(frozen=True)
class Job:
    """A job, as clients see it."""

    id: str
    kind: str
    state: str = "queued"
    phase: str = ""
    done: int = 0
    total: int = 0
    message: str = ""
    created: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    result: dict[str, Any] | None = None
    error: str | None = None


@dataclass(frozen=True)
class Task:
    """What a job does.

    Attributes:
        kind: Its kind.
        options: As the client gave them.
        order: What the process is told; see :mod:`oddsight.serve.job_process`.
        finish: Makes the result of what the process says.
    """

    kind: str
    options: dict[str, Any]
    order: dict[str, Any]
    finish: Callable[[str, dict[str, Any]], dict[str, Any]]


class Jobs:
    """The jobs of a workspace. Those that were under way when the service ended are noted as interrupted."""

    def __init__(self, workspace: Workspace) -> None:
        self._state, self._workspace = workspace.state, workspace
        self._lock = threading.RLock()
        self._recent: dict[str, Job] = {}
        self._orders: dict[str, dict[str, Any]] = {}  # Of jobs that have not ended
        self._tasks: SimpleQueue[tuple[Job, Task] | None] = SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        self._running: str | None = None
        with self._state.write() as change:
            change.execute(
                "UPDATE jobs SET state = 'interrupted', ended = ?, error = 'the service ended before the job did' "
                "WHERE state IN ('queued', 'running')",
                (time.time(),),
            )
        threading.Thread(target=self._work, name="oddsight-jobs", daemon=True).start()

    def add(self, task: Task) -> Job:
        """Have something done after what waits already."""
        with self._lock:
            if sum(job.state == "queued" for job in self._recent.values()) >= _MOST_WAITING:
                raise RequestError(429, f"{_MOST_WAITING} jobs are waiting already: try again later", retry_after=60)
            job = Job(secrets.token_hex(8), task.kind)
            with self._state.write() as change:
                change.execute(
                    "INSERT INTO jobs (id, kind, options, state, phase, done, total, message, created) "
                    "VALUES (?, ?, ?, 'queued', '', 0, 0, '', ?)",
                    (job.id, job.kind, json.dumps(task.options), job.created),
                )
            self._recent[job.id] = job
            self._orders[job.id] = task.order
            self._tasks.put((job, task))
            return job

    def uses(self, upload: str) -> bool:
        """Whether a job that has not ended reads a set of images."""
        folder = self._workspace.folder / "uploads" / upload
        with self._lock:
            return any(_names(order, folder) and self.get(id).state not in ENDED for id, order in self._orders.items())

    def get(self, id: str) -> Job:
        """A job."""
        with self._lock:
            if id in self._recent:
                return self._recent[id]
        row = self._state.row("SELECT * FROM jobs WHERE id = ?", id)
        if row is None:
            raise not_found("such job")
        return _of_row(row)

    def all(self, limit: int) -> list[Job]:
        """Jobs, the newest first."""
        rows = self._state.rows("SELECT * FROM jobs ORDER BY number DESC LIMIT ?", limit)
        with self._lock:
            return [self._recent.get(row["id"]) or _of_row(row) for row in rows]

    def cancel(self, id: str) -> Job:
        """End a job, or take it out of the queue; one that has ended stays as it is."""
        with self._lock:
            job = self.get(id)
            if job.state in ENDED:
                return job
            job = self._note(job, state="cancelled", ended=time.time())
            if self._running == id and self._process is not None:
                self._process.kill()
            return job

    def folder(self, id: str) -> Path:
        """What a job leaves."""
        return self._workspace.place("jobs", id)

    def forget(self) -> None:
        """Remove jobs that ended long ago, with what they left."""
        oldest = self._workspace.retention.start_of_work()
        for row in self._state.rows("SELECT id FROM jobs WHERE ended < ?", oldest):
            shutil.rmtree(self.folder(row["id"]), ignore_errors=True)
            with self._state.write() as change:
                change.execute("DELETE FROM jobs WHERE id = ?", (row["id"],))

    def close(self) -> None:
        """End what runs."""
        with self._lock:
            self._tasks.put(None)
            for job in list(self._recent.values()):
                if job.state not in ENDED:
                    self._note(job, state="interrupted", ended=time.time(), error="the service ended")
            if self._process is not None:
                self._process.kill()

    def _note(self, job: Job, *, durable: bool = True, **changes: Any) -> Job:  # noqa: ANN401 - fields of a job
        job = replace(job, **changes)
        result = None if job.result is None else json.dumps(job.result)
        values = (job.state, job.phase, job.done, job.total, job.started, job.ended, result, job.error, job.id)
        with self._lock:
            self._recent[job.id] = job
            if durable:
                with self._state.write() as change:
                    change.execute(
                        "UPDATE jobs SET state = ?, phase = ?, done = ?, total = ?, started = ?, ended = ?, "
                        "result = ?, error = ? WHERE id = ?",
                        values,
                    )
        return job

    def _work(self) -> None:
        while (entry := self._tasks.get()) is not None:
            job, task = entry
            with self._lock:
                if self.get(job.id).state != "queued":
                    self._drop(job.id)
                    continue
                job = self._note(job, state="running", started=time.time())
                self._running = job.id
            try:
                result, error = self._run(job, task), None
            except OddsightError as problem:
                result, error = None, translate_error(str(problem), self._workspace)
            except Exception as problem:  # or no job would run any more
                result, error = None, f"the job broke down ({type(problem).__name__})"
            with self._lock:
                self._running, job = None, self.get(job.id)
                if job.state == "running":
                    state = "done" if error is None else "failed"
                    self._note(job, state=state, ended=time.time(), result=result, error=error)
                self._drop(job.id)

    def _drop(self, id: str) -> None:
        """From now on the state of a job is read."""
        self._recent.pop(id, None)
        self._orders.pop(id, None)

    def _run(self, job: Job, task: Task) -> dict[str, Any]:
        """Do a task, in a process if it has an order."""
        said = {} if not task.order else self._ask(job, task.order)
        if self.get(job.id).state != "running":
            return {}
        return task.finish(job.id, said)

    def _ask(self, job: Job, order: dict[str, Any]) -> dict[str, Any]:
        search = os.pathsep.join(part for part in sys.path if part)
        process = subprocess.Popen(  # noqa: S603 - this very program
            [sys.executable, "-P", "-c", _START],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            env=os.environ | {"PYTHONPATH": search},
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        with self._lock:
            self._process = process
            if self.get(job.id).state != "running":
                process.kill()
        last, noted = dict[str, Any](), 0.0
        with process:
            try:
                process.stdin.write(json.dumps(order | {"folder": str(self.folder(job.id))}) + "\n")
                process.stdin.flush()
            except OSError:
                pass
            for line in process.stdout:
                last = json.loads(line)
                if "progress" not in last:
                    break
                with self._lock:
                    current = self.get(job.id)
                    if current.state == "running":
                        phase, done, total = last["progress"]
                        durable = time.monotonic() - noted > _NOTED
                        noted = time.monotonic() if durable else noted
                        self._note(current, durable=durable, phase=phase, done=done, total=total)
            process.kill()
        with self._lock:
            self._process = None
        if "result" in last:
            return dict(last["result"])
        raise OddsightError(last.get("error", "the process of the job broke down"))


def _names(order: object, folder: Path) -> bool:
    """Whether an order, or a part of it, names a folder or something in it."""
    if isinstance(order, dict):
        order = list(order.values())
    if isinstance(order, list):
        return any(_names(part, folder) for part in order)
    return isinstance(order, str) and Path(order).is_relative_to(folder)


def _of_row(row: Any) -> Job:  # noqa: ANN401 - of SQLite
    values = {name: row[name] for name in Job.__dataclass_fields__}
    return Job(**values | {"result": None if row["result"] is None else json.loads(row["result"])})
