"""Images as the contents of files: of an archive, a request, a database."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from oddsight.sources.frame import Frame


class Encoded:
    """Contents of image files by their names; they are decoded as files are, and never written to any.

    Args:
        contents: PNG, JPEG, TIFF and so on, by what to call each in results.
    """

    def __init__(self, contents: Mapping[str, bytes]) -> None:
        self._contents = contents

    def __len__(self) -> int:
        return len(self._contents)

    def __iter__(self) -> Iterator[Frame]:
        return (Frame(content, name) for name, content in self._contents.items())
