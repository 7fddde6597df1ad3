"""What a user may say of how TIFF files become RGB: which bands, and which values are black and white."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from oddsight.errors import OddsightError
from oddsight.runtime.bounds import check_number, check_whole

_EXAMPLES = {"bands": (4, 3, 2), "scale": (0, 3000)}


@dataclass(frozen=True)
class Reading:
    """How TIFF files are read; by default as the files declare their pixels.

    Attributes:
        bands: Three bands as red, green and blue, or one as grey, counted from 1; None for the file's own colours.
        scale: The values that become 0 and 255; None for the full range of the file's number type.

    Raises:
        OddsightError: The bands or the scale are invalid.
    """

    bands: tuple[int, ...] | None = None
    scale: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for name in ("bands", "scale"):  # lists are welcome, too
            value = getattr(self, name)
            if value is not None and (isinstance(value, str) or not isinstance(value, Iterable)):
                raise OddsightError(f"{name} must be numbers, such as {_EXAMPLES[name]}, not {value!r}")
            object.__setattr__(self, name, tuple(value) if value is not None else None)
        for band in self.bands or ():
            check_whole(band, "a band", None)
        if self.bands is not None and (len(self.bands) not in (1, 3) or min(self.bands) < 1):
            raise OddsightError("name one band or three, counted from 1, as in 4,3,2")
        if self.scale is not None and len(self.scale) != 2:
            raise OddsightError(f"a scale has two values, those that become black and white, not {len(self.scale)}")
        low, high = self.scale or (0.0, 1.0)
        check_number(low, "the value that becomes black")
        check_number(high, "the value that becomes white")
        if not (np.isfinite(low) and np.isfinite(high) and low < high and np.isfinite(high - low)):
            raise OddsightError(
                f"a scale rises from the value that becomes black to white, not from {low:g} to {high:g}"
            )

    @property
    def chosen(self) -> bool:
        """Whether bands or a scale are set."""
        return self.bands is not None or self.scale is not None

    def override(self, other: Reading | None) -> Reading:
        """This reading, overridden by what ``other`` sets."""
        if other is None:
            return self
        given = {name: value for name, value in vars(other).items() if value is not None}
        return replace(self, **given)

    def __str__(self) -> str:
        parts = [f"bands {','.join(map(str, self.bands))}"] if self.bands is not None else []
        ends = [repr(float(end)).removesuffix(".0") for end in self.scale or ()]
        parts += [f"scale {','.join(ends)}"] if ends else []
        return " and ".join(parts) or "the file's own colours"


AS_DECLARED = Reading()
"""Files as they declare their own pixels."""
