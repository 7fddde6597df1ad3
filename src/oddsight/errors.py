"""The errors that Oddsight raises on purpose: each is one clear sentence for the person who runs it."""

from __future__ import annotations


def plain(text: str) -> str:
    """Text from outside, without line breaks, control characters and undecodable bytes."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


class OddsightError(Exception):
    """Anything a user can put right: bad input, a setting that cannot work, a file that is not what it should be."""


class ImageError(OddsightError):
    """One image could not be read.

    Attributes:
        path: The image's path, or a description of its origin for arrays.
        reason: What is wrong with it, as a short clause.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class DataError(OddsightError):
    """A folder or collection of images cannot serve its purpose: empty, too few, overlapping, all identical."""


class ModelError(OddsightError):
    """A model file is damaged, foreign, or of an unknown version."""


class MemoryBudgetError(OddsightError):
    """The stated memory budget cannot hold what was asked for."""
