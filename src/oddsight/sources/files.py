"""Images that lie in files."""

from __future__ import annotations

import os
from collections.abc import Iterator

from oddsight.data.folder import find_images
from oddsight.errors import ImageError
from oddsight.sources.frame import Frame


class Files:
    """Files, folders and glob patterns, in an order that is the same everywhere; see :func:`oddsight.fit`.

    Attributes:
        paths: What was named.
        images: The files.
        problems: What was named but is not there, which the source yields first.
        ignored: How many other files were passed over.

    Args:
        *paths: The files, folders and patterns. They are looked for at once, and not opened.
    """

    def __init__(self, *paths: str | os.PathLike[str]) -> None:
        self.paths = tuple(map(os.fsdecode, paths))
        found = find_images(*paths)
        self.images, self.problems, self.ignored = found.images, found.problems, found.ignored

    def __len__(self) -> int:
        return len(self.problems) + len(self.images)

    def __iter__(self) -> Iterator[Frame | ImageError]:
        yield from self.problems
        yield from map(Frame, self.images)
