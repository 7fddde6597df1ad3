"""Images that are decoded already."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.errors import DataError
from oddsight.sources.frame import Frame


class Arrays:
    """Arrays and Pillow images, with names and times if they have any. Their frames are numbered.

    Args:
        images: A list of them, or an array ``[N, H, W, C]``.
        names: What to call each in results.
        times: When each was taken, in seconds.

    Raises:
        DataError: If there are not as many names or times as images.
    """

    def __init__(
        self,
        images: Sequence[NDArray[np.generic] | Image.Image] | NDArray[np.generic],
        *,
        names: Sequence[str] | None = None,
        times: Sequence[float] | None = None,
    ) -> None:
        for what, given in (("names", names), ("times", times)):
            if given is not None and len(given) != len(images):
                raise DataError(f"{len(given):,} {what} do not fit {len(images):,} images: give one for each")
        self._images, self._names, self._times = images, names, times

    def __len__(self) -> int:
        return len(self._images)

    def __iter__(self) -> Iterator[Frame]:
        for index, image in enumerate(self._images):
            name = self._names[index] if self._names is not None else None
            yield Frame(image, name, float(self._times[index]) if self._times is not None else None, index)
