"""What a sink of a stream is, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from numpy.typing import NDArray

from oddsight.drawing.frames import Polygon
from oddsight.errors import OddsightError
from oddsight.model.events import WatchedFrame
from oddsight.model.model import Model
from oddsight.runtime.files import atomic_write, is_stream
from oddsight.runtime.progress import unheard
from oddsight.sources.frame import Frame


@dataclass(frozen=True)
class StreamRun:
    """What all frames of a stream have in common.

    Attributes:
        model: What scores them.
        source: What the stream is called, without credentials.
        live: Whether frames come in their own time, and cannot be had again.
        zones: The corners of each zone by its name, in parts of the frame's width and height, 0 to 1.
        excluded: The zones among them in which nothing is looked at.
        note: Called with what there is to say beside the results.
        complain: Called with what went wrong, such as a message that was not delivered.
    """

    model: Model
    source: str
    live: bool = False
    zones: Mapping[str, Polygon] = field(default_factory=dict)
    excluded: frozenset[str] = frozenset()
    note: Callable[[str], None] = unheard
    complain: Callable[[str], None] = unheard

    def pixels(self, frame: Frame) -> NDArray[np.uint8]:
        """A frame to draw on, uint8 ``[H, W, 3]``.

        Raises:
            ImageError: If it cannot be read again.
        """
        return frame.read(self.model.reading)


WriteFrame = Callable[[WatchedFrame], None]
"""Takes the frames of one run."""


class StreamSink(Protocol):
    """Where the results of a stream go.

    It is opened before the first frame and then gets every frame, in order, always in one thread. A live stream waits
    for no sink: what takes long, such as sending, belongs in a thread of the sink's own.

    When the run is interrupted, or whoever asked for its events has seen enough, the context ends with that exception
    (``KeyboardInterrupt``, ``GeneratorExit``), and the sink finishes what it has as at the end of a source.

    Example:
        >>> from contextlib import contextmanager
        >>> class Alarms:
        ...     def __init__(self):
        ...         self.events = []
        ...     @contextmanager
        ...     def open(self, run):
        ...         yield lambda watched: self.events.extend(watched.events)
    """

    def open(self, run: StreamRun) -> AbstractContextManager[WriteFrame]:
        """Get ready for a run.

        Returns:
            A context that gives the function to call with each frame, and puts all in order when it ends.

        Raises:
            OddsightError: If results cannot go there.
        """


def check_new(path: Path, run: StreamRun) -> None:
    """Refuse to replace what an earlier run of a live stream left, as it cannot be watched again.

    Raises:
        OddsightError: If there is such a file.
    """
    if run.live and path.exists() and not is_stream(path):
        raise OddsightError(
            f"cannot write {path}: it is there already, and a live stream replaces no file; name another"
        )


@contextmanager
def finished_file(path: Path, run: StreamRun) -> Iterator[BinaryIO]:
    """A file that takes its place when the block ends or is interrupted, and for a live stream whatever happens."""
    ended: BaseException | None = None
    with atomic_write(path) as file:
        try:
            yield file
        except (KeyboardInterrupt, GeneratorExit, BrokenPipeError) as error:
            ended = error
        except Exception as error:  # whatever it is: a live stream cannot be watched again
            if not run.live:
                raise
            ended = error
    if ended is not None:
        raise ended
