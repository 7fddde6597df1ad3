"""What people see in the terminal: progress with time left, tables, and paths that cannot break a line."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from oddsight.errors import plain
from oddsight.runtime.progress import Progress as Report
from oddsight.runtime.progress import silent

_PLAIN: Any = {"highlight": False, "emoji": False, "markup": False, "soft_wrap": True}

console = Console(**_PLAIN, width=None if sys.stdout.isatty() else 500)
"""Standard output: results."""

messages = Console(**_PLAIN, stderr=True)
"""Standard error: progress, notes and errors."""

_PATIENCE = 1.0
"""Seconds before progress is shown."""


@contextmanager
def progress(quiet: bool) -> Iterator[Report]:
    """A progress display, or a silent one when ``quiet`` or when nobody watches."""
    if quiet or not sys.stderr.isatty():
        yield silent
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    display = Progress(*columns, console=messages, transient=True)
    started = time.monotonic()
    tasks: dict[str, Any] = {}
    running = False

    def report(phase: str, done: int, total: int) -> None:
        nonlocal running
        if not running and time.monotonic() - started > _PATIENCE:
            display.start()
            running = True
        if phase not in tasks:
            for other in tasks.values():
                display.update(other, visible=False)
            tasks[phase] = display.add_task(phase, total=total)
        display.update(tasks[phase], completed=done, total=total)

    try:
        yield report
    finally:
        if running:
            display.stop()


def note(text: str, *, quiet: bool = False) -> None:
    """Say something beside the results."""
    if not quiet:
        messages.print(plain(text))


def complain(text: object) -> None:
    """Say what went wrong, in one line."""
    messages.print(Text.assemble(("error:", "red"), " ", plain(" ".join(str(text).splitlines()))))


def table(*columns: str, numbers: tuple[str, ...] = ()) -> Table:
    """An empty table; columns in ``numbers`` are aligned to the right."""
    empty = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        empty.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    return empty
