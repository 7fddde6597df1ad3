"""Frames that could not be scored."""

from __future__ import annotations


class Unscored:
    """How many frames could not be scored, and what was said of the first.

    Attributes:
        count: How many.
    """

    def __init__(self) -> None:
        self.count, self._first = 0, ""

    def add(self, error: object) -> None:
        """Count a frame."""
        self.count += 1
        self._first = self._first or str(error)

    def __str__(self) -> str:
        more = f" (and {self.count - 1:,} more)" if self.count > 1 else ""
        return f"{self._first}{more}"
