"""The state of a workspace: one SQLite file, which survives whatever ends the process."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oddsight.errors import OddsightError

_APPLICATION = 0x0DD516  # Says whose file it is

_MIGRATIONS = (
    """
    CREATE TABLE models (
        name TEXT NOT NULL, digest TEXT NOT NULL, created REAL NOT NULL, place TEXT NOT NULL, lineage TEXT NOT NULL,
        upload TEXT, PRIMARY KEY (name, digest)
    );
    CREATE TABLE results (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time REAL NOT NULL, model TEXT NOT NULL,
        version TEXT NOT NULL, lineage TEXT NOT NULL, name TEXT NOT NULL, content TEXT NOT NULL, score REAL NOT NULL,
        p_value REAL NOT NULL, verdict TEXT NOT NULL, anomalous INTEGER NOT NULL
    );
    CREATE INDEX results_by_model ON results (model, number);
    CREATE INDEX results_by_content ON results (content);
    CREATE INDEX results_by_lineage ON results (lineage, number);
    CREATE TABLE images (content TEXT PRIMARY KEY, bytes INTEGER NOT NULL, time REAL NOT NULL);
    CREATE TABLE feedback (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, time REAL NOT NULL, result_id TEXT NOT NULL,
        truth TEXT NOT NULL, question INTEGER NOT NULL, undone REAL
    );
    CREATE INDEX feedback_by_result ON feedback (result_id);
    CREATE TABLE questions (
        result_id TEXT PRIMARY KEY, lineage TEXT NOT NULL, content TEXT NOT NULL, time REAL NOT NULL,
        population INTEGER NOT NULL, probability REAL NOT NULL, usable INTEGER NOT NULL, UNIQUE (lineage, content)
    );
    CREATE VIEW answers AS  -- the latest that was not undone, by image
        SELECT r.content, f.id, f.time, f.truth, max(f.number) AS number
        FROM feedback f JOIN results r ON r.id = f.result_id WHERE f.undone IS NULL GROUP BY r.content;
    CREATE VIEW asked AS SELECT result_id AS id FROM feedback UNION SELECT result_id FROM questions;
    CREATE TABLE horizon (time REAL NOT NULL);  -- Until when images were forgotten
    INSERT INTO horizon VALUES (0);
    CREATE TABLE uploads (id TEXT PRIMARY KEY, created REAL NOT NULL);
    CREATE TABLE upload_images (
        upload TEXT NOT NULL, file TEXT NOT NULL, name TEXT NOT NULL, bytes INTEGER NOT NULL, PRIMARY KEY (upload, file)
    );
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, options TEXT NOT NULL,
        state TEXT NOT NULL, phase TEXT NOT NULL, done INTEGER NOT NULL, total INTEGER NOT NULL, message TEXT NOT NULL,
        created REAL NOT NULL, started REAL, ended REAL, result TEXT, error TEXT
    );
    """,
)
"""From each version of the schema to the next."""


class Database:
    """The file of a workspace.

    Args:
        path: It is made if it is missing.

    Raises:
        OddsightError: It is damaged, of a newer version, or another program's.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        try:
            # Every statement says itself where a transaction begins.
            self._connection = sqlite3.connect(path, timeout=5, isolation_level=None, check_same_thread=False)
            self._connection.row_factory = sqlite3.Row
            self._migrate(path)
            self._connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.Error as error:
            raise OddsightError(f"{path}: the state of the workspace cannot be used: {error}") from None

    def _migrate(self, path: Path) -> None:
        version = self._value("PRAGMA user_version")
        owner = self._value("PRAGMA application_id")
        empty = not self._value("SELECT count(*) FROM sqlite_master")
        if not empty and owner != _APPLICATION:
            raise OddsightError(f"{path}: not the state of an Oddsight workspace: name another folder (--workspace)")
        if version > len(_MIGRATIONS):
            raise OddsightError(
                f"{path}: the workspace is of a newer Oddsight (version {version}, and this one knows up to "
                f"{len(_MIGRATIONS)}): use that one, or another folder (--workspace)"
            )
        for number, script in enumerate(_MIGRATIONS[version:], version + 1):
            numbers = f"PRAGMA application_id = {_APPLICATION}; PRAGMA user_version = {number};"
            self._connection.executescript(f"BEGIN IMMEDIATE; {script} {numbers} COMMIT;")

    def _value(self, sql: str) -> int:
        return int(self._connection.execute(sql).fetchone()[0])

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """A transaction. A durable one outlives a failure of power, any one the end of the process."""
        with self._lock:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:  # noqa: ANN401 - what SQLite takes
        """The rows of a query, whose values are given in order or as one dictionary."""
        with self._lock:
            return self._connection.execute(
                sql, values[0] if values and isinstance(values[0], dict) else values
            ).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:  # noqa: ANN401 - what SQLite takes
        """The first row of a query, if there is one."""
        return next(iter(self.rows(sql, *values)), None)

    def check(self) -> str:
        """What SQLite says of the file: ``ok``."""
        return str(self.rows("PRAGMA integrity_check")[0][0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
