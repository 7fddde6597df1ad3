"""How long work reports where it is: one protocol, whoever shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """Called with how far a phase of the work is. Any function of these three arguments will do."""

    def __call__(self, phase: str, done: int, total: int, /) -> None:
        """Take note.

        Args:
            phase: Its name.
            done: How many items are done.
            total: Of how many.
        """


def silent(phase: str, done: int, total: int, /) -> None:
    """Progress that nobody watches."""


def unheard(text: str, /) -> None:
    """A note that nobody reads."""


def track(items: Iterable[Item], phase: str, total: int, progress: Progress) -> Iterator[Item]:
    """The same items, each reported when it has been dealt with."""
    for done, item in enumerate(items, 1):
        yield item
        progress(phase, done, total)
