"""The one rule by which samples of TIFF files become RGB of 8 bits, or why they do not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.reading import Reading
from oddsight.data.tiff.segments import sample_type
from oddsight.data.tiff.tags import (
    ASSOCIATED,
    BLACK_IS_ZERO,
    CIELAB,
    CMYK,
    ICCLAB,
    MASK,
    PALETTE,
    RGB,
    WHITE_IS_ZERO,
    YCBCR,
    Page,
)

_BANDS = (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, MASK)
_COLOURS = {PALETTE: 1, CMYK: 4, YCBCR: 3, CIELAB: 3, ICCLAB: 3}  # Samples of the kinds of pixels that are no bands
_NAMES = {PALETTE: "a palette", CMYK: "CMYK", YCBCR: "YCbCr", CIELAB: "CIELab", ICCLAB: "ICCLab"}
_UNREAD = {10: "ITULab", 32803: "a camera's raw mosaic", 32844: "LogL", 32845: "LogLuv", 34892: "a camera's raw values"}


def reason_not_converted(page: Page) -> str | None:
    """Why samples of a page cannot become RGB however they are read, or None."""
    photometric, bits = page.photometric, page.bits[0]
    known = photometric in _BANDS or photometric in _COLOURS
    named = _NAMES.get(photometric) or _UNREAD.get(photometric, f"of the unknown kind {photometric}")
    usual = {PALETTE: range(1, 17), CMYK: (8, 16)}.get(photometric, (8,))
    signed = photometric in (CIELAB, ICCLAB) and page.kind == "i"
    reasons = {
        f"its pixels are {named}, which is not read": not known,
        "its pixels are complex numbers, which are not read": page.kind == "c",
        f"its pixels are {named} of {page.samples} samples": page.samples < _COLOURS.get(photometric, 1),
        f"its pixels are {named} of {bits} bits or of signed or floating-point numbers, which is not read": (
            photometric in _COLOURS and (bits not in usual or (page.kind != "u" and not signed))
        ),
        "its inks are not cyan, magenta, yellow and black": photometric == CMYK and page.ink_set != 1,
        "its palette has too few colours": photometric == PALETTE and len(page.colour_map) < 3 * 2**bits,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


class Colours:
    """How the samples of a page become RGB.

    Attributes:
        samples: Which samples that takes, from 0: those of colour, then alpha if there is one.
    """

    def __init__(self, page: Page, reading: Reading) -> None:
        self._page, self._reading = page, reading
        self._type = sample_type(page)
        if reading.chosen and page.photometric not in _BANDS:
            raise ValueError(
                f"its pixels are {_NAMES[page.photometric]}, not bands, so bands or a scale cannot be chosen"
            )
        self.colour = self._chosen()
        # Who names bands says what each sample is.
        self.alpha = page.alpha if reading.bands is None else None
        if self.alpha is not None and not self._has_table:
            raise ValueError(f"its alpha of {self._type.newbyteorder('=').name} has no fixed range: say which bands to "
                             "read, as in --bands 1,2,3")  # fmt: skip
        self.samples = self.colour if self.alpha is None else (*self.colour, self.alpha)
        self._table = self._levels() if page.photometric in _BANDS else None

    def rgb(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Convert samples ``[h, w, samples]`` to uint8 ``[h, w, 3]``."""
        colour = values if self.alpha is None else values[..., :-1]
        pixels = self._opaque(colour)
        if self.alpha is not None:
            alpha = _full_range(self._page.bits[0])[values[..., -1]]
            associated = self._page.extra[self.alpha - self._page.samples] == ASSOCIATED
            pixels = _over_white(pixels, alpha, associated)
        return np.broadcast_to(pixels, (*pixels.shape[:2], 3))

    def holds_data(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Which pixels hold something, ``[h, w]``, by the same samples."""
        colour = values[..., : len(self.colour)]
        valid = np.isfinite(colour).all(axis=2)
        if self._page.nodata is not None:
            valid &= ~(colour == self._page.nodata).all(axis=2)
        return np.asarray(valid, bool)

    @property
    def _has_table(self) -> bool:
        """Whether there are few enough values to write down what becomes of each."""
        return self._page.kind == "u" and self._page.bits[0] <= 16

    def _chosen(self) -> tuple[int, ...]:
        page = self._page
        if self._reading.bands is not None:
            for band in self._reading.bands:
                if band > page.samples:
                    raise ValueError(f"has {page.samples} bands, and band {band} was asked for")
            return tuple(band - 1 for band in self._reading.bands)
        if page.photometric in _COLOURS:
            return tuple(range(_COLOURS[page.photometric]))
        first = page.samples - len(page.extra)
        bands = [band for band in range(page.samples) if band < first or page.extra[band - first] not in (1, 2)]
        if len(bands) == 2:
            raise ValueError("has 2 bands: say which one to read, as in --bands 1")
        return tuple(bands[: 3 if len(bands) > 1 else 1])

    def _levels(self) -> NDArray[np.uint8] | None:
        """What becomes of each value of up to 16 bits; None if they are computed."""
        page, scale, bits = self._page, self._reading.scale, self._page.bits[0]
        if scale is None and not self._has_table:
            name = self._type.newbyteorder("=").name
            kind = {"f": "floating-point", "i": f"signed {bits}-bit"}.get(page.kind, f"{bits}-bit")
            advice = "say which values are black and white, as in --scale 0,3000"
            raise ValueError(f"its {kind} pixels have no fixed range ({name}): {advice}")
        if page.kind == "f" or bits > 16:
            return None
        if scale is not None:
            values = np.arange(2**bits, dtype=self._type.newbyteorder("=").str.replace("i", "u"))
            return apply_scale(values.view(self._type.newbyteorder("=")), scale)
        # Three bands of 16 bits keep their high byte, as those of other formats do.
        levels = (np.arange(2**16) >> 8).astype(np.uint8) if bits == 16 and len(self.colour) == 3 else _full_range(bits)
        return levels[::-1] if page.photometric == WHITE_IS_ZERO else levels

    def _opaque(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        page = self._page
        if page.photometric == PALETTE:
            return np.asarray(_palette(page)[values[..., 0]])
        if page.photometric in _COLOURS:
            return _converted(values, page)
        if values.dtype == np.uint8 and page.bits[0] == 8 and self._reading.scale is None:
            return values if page.photometric != WHITE_IS_ZERO else ~values
        if self._table is not None:
            unsigned = values.astype(values.dtype.newbyteorder("="), copy=False)
            return np.asarray(self._table[unsigned.view(f"u{unsigned.dtype.itemsize}")])
        assert self._reading.scale is not None
        return apply_scale(values, self._reading.scale)


def colour_samples(values: NDArray[Any], page: Page) -> NDArray[Any]:
    """The samples of colour or grey, ``[h, w, n]`` of ``[h, w, samples]``, at full depth, with black for zero."""
    if page.photometric == PALETTE:
        return np.asarray(_palette(page)[values[..., 0]])
    if page.photometric in _COLOURS:
        return _converted(values[..., : _COLOURS[page.photometric]], page)
    kept = values[..., [sample for sample in range(page.samples) if sample != page.alpha]]
    if page.photometric == WHITE_IS_ZERO and page.kind == "u":
        return np.asarray(2 ** page.bits[0] - 1 - kept)
    return np.asarray(kept)


def apply_scale(values: NDArray[Any], scale: tuple[float, float]) -> NDArray[np.uint8]:
    """Bring the values of a scale to 0..255, clipped; what is no number becomes 0."""
    low, high = scale
    levels = (values.astype(np.float64) - low) * (255 / (high - low))
    return np.rint(np.clip(np.nan_to_num(levels, nan=0.0), 0, 255)).astype(np.uint8)


def _full_range(bits: int) -> NDArray[np.uint8]:
    return apply_scale(np.arange(2**bits), (0, 2**bits - 1))


def _palette(page: Page) -> NDArray[np.uint8]:
    """The colours of a palette, ``[n, 3]``. Their 16 bits keep the high byte, unless no value has one."""
    whole = page.colour_map[: 3 * 2 ** page.bits[0]].astype(np.int64)
    return ((whole >> 8) if whole.max() > 255 else whole).astype(np.uint8).reshape(3, -1).T


def _converted(values: NDArray[Any], page: Page) -> NDArray[np.uint8]:
    """By Pillow: CMYK and Lab. YCbCr was converted as it was decoded."""
    if page.photometric == YCBCR:
        return values
    if page.kind == "u" and page.bits[0] == 16:
        values = values >> 8
    values = np.ascontiguousarray(values).astype(np.uint8)
    height, width, _ = values.shape
    if page.photometric == CMYK:
        image = Image.frombytes("CMYK", (width, height), values.tobytes())
    else:
        # Pillow takes a and b as CIELab has them, signed; in ICCLab they have an offset.
        offset = np.array([0, 128, 128] if page.photometric == ICCLAB else [0, 0, 0], np.uint8)
        image = Image.frombytes("LAB", (width, height), (values ^ offset).tobytes())
    return np.asarray(image.convert("RGB"), np.uint8)


def _over_white(pixels: NDArray[np.uint8], alpha: NDArray[np.uint8], associated: bool) -> NDArray[np.uint8]:
    if associated:  # colours are multiplied by alpha already
        return np.asarray(np.minimum(pixels + (255 - alpha)[..., None].astype(np.uint16), 255), np.uint8)
    shape = (*alpha.shape, 3)
    whole = np.concatenate([np.broadcast_to(pixels, shape), alpha[..., None]], axis=2)
    return over_white(Image.fromarray(whole))


def over_white(image: Image.Image) -> NDArray[np.uint8]:
    """An RGBA image composited over white, uint8 ``[H, W, 3]``."""
    return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB"))
