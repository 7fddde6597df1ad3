"""How long work says how far it is: one protocol, whoever shows it."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told how far a phase of the work is. Any function of these three arguments is one."""

    def __call__(self, phase: str, done: int, total: int, /) -> None:
        """Take note.

        Args:
            phase: Its name.
            done: How many items are done.
            total: Of how many.
        """


def silent(phase: str, done: int, total: int, /) -> None:
    """Progress that nobody watches."""
