"""The errors that Oddsight raises on purpose: each is one clear sentence for the person who runs it."""

from __future__ import annotations

from collections.abc import Sequence


def plain(text: object) -> str:
    """Text from outside, without line breaks, control characters and undecodable bytes."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def first_line(error: Exception) -> str:
    """What another library says is wrong, in one line of at most 200 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return plain(lines[0])[:200]


def some(names: Sequence[object], most: int = 6, *, separator: str = ", ") -> str:
    """Names from outside, one after the other; of many only the first."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return separator.join(map(plain, names[:most])) + more


_LONGEST = 2000
_END = 250


def bounded(text: str, longest: int = _LONGEST) -> str:
    """Text of at most that many characters: start and end of what is longer, as the end says what to do."""
    if len(text) <= longest:
        return text
    end = min(_END, longest // 2)
    return f"{text[: longest - end - 3]}...{text[len(text) - end :]}"


class OddsightError(Exception):
    """An error that the user can fix: bad input, an invalid setting, or a wrong file.

    Its message has at most 2,000 characters, whatever it quotes.
    """

    def __init__(self, message: str) -> None:
        super().__init__(bounded(message))


class ImageError(OddsightError):
    """An image could not be read, or the model's output for it is out of range.

    Attributes:
        path: The image's path, or a description of its origin for arrays.
        reason: What is wrong, as a short clause.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = bounded(reason)
        super().__init__(f"{path}: {self.reason}")

    def __reduce__(self) -> tuple[type[ImageError], tuple[str, str]]:
        """Made again from both parts, where it is copied or sent to another process."""
        return type(self), (self.path, self.reason)


def without_traceback(error: ImageError) -> ImageError:
    """The same error to keep: its traceback would hold on to the pixels."""
    return ImageError(error.path, error.reason)


class DataError(OddsightError):
    """A folder or dataset cannot be used: empty, too small, overlapping with another one, or all images identical."""


class ModelError(OddsightError):
    """A model file is damaged, not Oddsight's, or of an unknown version."""


class MemoryBudgetError(OddsightError):
    """The memory budget is too small for what was requested."""
