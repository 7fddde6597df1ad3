"""The errors that Oddsight raises on purpose: each is one clear sentence for the person who runs it."""

from __future__ import annotations


def plain(text: str) -> str:
    """Text from outside, without line breaks, control characters and undecodable bytes."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


_LONGEST = 2000
_END = 250


def bounded(text: str, longest: int = _LONGEST) -> str:
    """Text of at most that many characters: start and end of what is longer, as the end says what to do."""
    if len(text) <= longest:
        return text
    end = min(_END, longest // 2)
    return f"{text[: longest - end - 3]}...{text[len(text) - end :]}"


class OddsightError(Exception):
    """Anything a user can put right: bad input, a setting that cannot work, a file that is not what it should be.

    Its message has at most 2,000 characters, whatever text from outside it quotes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(bounded(message))


class ImageError(OddsightError):
    """One image could not be read, or what a model gave for it is out of range.

    Attributes:
        path: The image's path, or a description of its origin for arrays.
        reason: What is wrong with it, as a short clause.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = bounded(reason)
        super().__init__(f"{path}: {self.reason}")

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        """Made again from both parts, where it is copied or sent to another process."""
        return type(self), (self.path, self.reason)


class DataError(OddsightError):
    """A folder or collection of images cannot serve its purpose: empty, too few, overlapping, all identical."""


class ModelError(OddsightError):
    """A model file is damaged, foreign, or of an unknown version."""


class MemoryBudgetError(OddsightError):
    """The stated memory budget cannot hold what was asked for."""
