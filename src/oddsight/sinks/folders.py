"""Folders of files about images, one or several for each."""

from __future__ import annotations

import io
import itertools
import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import ImageError, OddsightError
from oddsight.model.result import Result
from oddsight.runtime.result_files import fill_folder, write_result
from oddsight.sinks.sink import Prediction, Run, Write
from oddsight.sources.frame import Frame


class FolderSink(ABC):
    """A folder of files, named after their images. What an earlier run left there is removed first.

    Attributes:
        what: What is written there, in words.
        needs_map: Whether the model must say where.
        folder: The folder.
    """

    what: ClassVar[str]
    needs_map: ClassVar[bool] = False

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    @contextmanager
    def open(self, run: Run) -> Iterator[Write]:
        """Keep the folder to this run."""
        with fill_folder(self.folder, self.what) as removed:
            if removed:
                run.note(f"removed {removed:,} files of an earlier run from {self.folder}")

            def write(prediction: Prediction) -> None:
                outcome, frame = prediction.outcome, prediction.frame
                if isinstance(outcome, ImageError) or frame is None:
                    return
                try:
                    prediction.add_files(self.files(outcome, frame, prediction.file_name, run))
                except ImageError as error:
                    reason = error.reason if error.path == frame.name else str(error)
                    prediction.outcome = ImageError(frame.name or prediction.file_name, reason)

            yield write

    @abstractmethod
    def files(self, result: Result, frame: Frame, name: str, run: Run) -> dict[str, str]:
        """Write the files of an image; their paths by kind."""

    def write_png(self, pixels: NDArray[np.uint8], name: str) -> str:
        """Write an image, and return its path."""
        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(pixels).save(file, format="PNG")
        path = self.folder / f"{name}.png"
        write_result(path, file.getvalue())
        return str(path)


def prepare_folders(sinks: Sequence[FolderSink], images: Sequence[Path]) -> None:
    """Make the folders of sinks, each its own, so that none replaces another's files or an image.

    Raises:
        OddsightError: If that cannot be.
    """
    for sink in sinks:
        _prepare_folder(sink.folder, sink.what, images)
    for sink, other in itertools.combinations(sinks, 2):
        if sink.folder.samefile(other.folder):
            raise OddsightError(
                f"{sink.what} and {other.what} cannot both be written into {sink.folder}: name two folders"
            )


def _prepare_folder(folder: Path, what: str, images: Sequence[Path]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OddsightError(f"cannot write {what} into {folder}: {error.strerror}") from error
    # A link to what is in the folder must not lose it either.
    parents = {image.parent for image in images} | {
        Path(os.path.realpath(image)).parent for image in images if image.is_symlink()
    }
    if any(parent.samefile(folder) for parent in parents):
        raise OddsightError(f"cannot write {what} into {folder}: they could replace the images there")
