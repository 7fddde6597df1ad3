"""Haze, smoke, dust and thin cloud put over clear images, by the physics of light in air.

A pixel of an image that is taken through air with particles is

    I = J t + A (1 - t),    t = exp(-tau)

(Koschmieder 1924; in this form He, Sun & Tang, CVPR 2009): of the ground's light ``J`` the share ``t`` arrives, and the
rest is replaced by ``A``, the light that the particles themselves send. ``tau``, the optical depth, says how much is in
the way. Light adds up, and the numbers in a file are not light but its sRGB code: an image is decoded, mixed and coded
again. All three channels have one ``tau``; what is coloured is ``A``.

Where there is how much is a pattern of gradient noise (Perlin, SIGGRAPH 1985), fixed by the kind, the seed and the
image's content. Severity only scales it, so that images of one source differ in nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from oddsight.data.images import as_image, content_hash
from oddsight.errors import OddsightError, plain
from oddsight.runtime.bounds import check_number, check_seed

VISIBLE = 0.05
"""An optical depth above this counts as affected: one part in twenty of the ground's light is replaced, the contrast
that meteorologists take for the least that is seen (the WMO's definition of visibility)."""

_Values = NDArray[np.float64]

_FINEST = 512
"""Patterns are made on at most this many cells along the longer side and enlarged: they have nothing finer."""

_LATTICE = 64
_NOISE = 4.0  # brings gradient noise to a standard deviation of about 1
_EDGE = 0.02
_ROWS = 2**20  # values that are mixed at a time


class Synthetic(NamedTuple):
    """An image with something in the air, and the truth about it."""

    image: NDArray[np.uint8]  # uint8 `[H, W, 3]`
    depth: NDArray[np.float32]  # Its optical depth, float32 `[H, W]`, 0 or more
    mask: NDArray[np.uint8]  # uint8 `[H, W]`: 255 where the depth is above `VISIBLE`, else 0


@dataclass(frozen=True)
class Ground:
    """The places of an image, for a pattern to be drawn on."""

    x: _Values  # To the right, `[h, w]`, from the middle, in units of the longer side
    y: _Values  # Downwards, likewise
    cells: int  # How many lie along the longer side

    def turned(self, angle: float) -> Ground:
        """The same places along and across a direction."""
        cos, sin = np.cos(angle), np.sin(angle)
        return Ground(self.x * cos + self.y * sin, self.y * cos - self.x * sin, self.cells)


@dataclass(frozen=True)
class Kind:
    """Something in the air."""

    name: str  # Of the kind
    summary: str  # How it looks from above
    # Its own colour where nothing else is seen, as 8-bit sRGB. Chosen by eye, not measured.
    airlight: tuple[int, int, int]
    pattern: Callable[[Ground, np.random.Generator], _Values]  # Draws it: positive values `[h, w]` on a ground


def synthesize(image: NDArray[Any] | Image.Image, kind: str, severity: float, *, seed: int = 0) -> Synthetic:
    """Put haze, smoke, dust or thin cloud over a clear image. The same arguments give the same result.

    Example:
        >>> from PIL import Image
        >>> hazy = oddsight.synthesize(Image.open("parts/good/0000.png"), "haze", 0.8)
        >>> hazy.image.shape, hazy.mask.shape
        ((96, 96, 3), (96, 96))

    Args:
        image: A clear image in any form that :func:`oddsight.data.images.as_image` takes, or a Pillow image.
        kind: A name in :data:`KINDS`.
        severity: The mean optical depth inside the affected area, which is the same at every severity. 0 changes
            nothing; a depth of 0.1 replaces a tenth of the light, a depth of 1.6 four fifths.
        seed: Seed of the pattern, together with the image's content.

    Raises:
        ImageError: It is not an image.
        OddsightError: The kind is unknown, the severity is not a finite number of 0 or more, or the seed is below 0.
    """
    check_severity(severity)
    pixels = as_image(image)
    return veiled(pixels, pattern(pixels, kind, seed), severity, airlight(pixels, kind))


def kind_by_name(name: str) -> Kind:
    """The kind of that name."""
    if name not in KINDS:
        raise OddsightError(f"no kind of synthesis is called {plain(name)!r}: choose from {', '.join(KINDS)}")
    return KINDS[name]


def check_severity(severity: float) -> None:
    """Refuse what cannot be an optical depth."""
    check_number(severity, "a severity")
    if not 0 <= severity < np.inf:
        raise OddsightError(f"a severity is an optical depth, a finite number of 0 or more, not {severity:g}")


def pattern(image: NDArray[np.uint8], kind: str, seed: int) -> NDArray[np.float32]:
    """Where there is how much: float32 ``[H, W]``, 0 or more, of mean 1 over the area where it is not 0."""
    drawn = kind_by_name(kind).pattern
    check_seed(seed)
    height, width, _ = image.shape
    longer = max(height, width)
    cells = min(longer, _FINEST)
    rows, columns = max(1, round(height * cells / longer)), max(1, round(width * cells / longer))
    across = ((np.arange(columns) + 0.5) / columns - 0.5) * (width / longer)
    down = ((np.arange(rows) + 0.5) / rows - 0.5) * (height / longer)
    x, y = np.meshgrid(across, down)
    lot = hashlib.sha256(f"{kind} {seed} {content_hash(image)}".encode()).digest()
    raw = drawn(Ground(x, y, cells), np.random.default_rng(int.from_bytes(lot)))
    # Ends somewhere, instead of thinning out for ever.
    values = np.maximum(raw / raw.max() - _EDGE, 0).astype(np.float32)
    if values.shape != (height, width):
        values = np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BILINEAR))
    return np.asarray(values / values[values > 0].mean(dtype=np.float64), np.float32)


def airlight(image: NDArray[np.uint8], kind: str) -> tuple[int, int, int]:
    """The kind's own colour as 8-bit sRGB; grey of the same luminance over an image that is grey everywhere.

    Otherwise any colour at all would tell a changed grey image from a clear one.
    """
    red, green, blue = kind_by_name(kind).airlight
    if (image[..., :2] != image[..., 1:]).any():
        return red, green, blue
    grey = int(_coded(np.array([_LINEAR[[red, green, blue]] @ _LUMINANCE]))[0])
    return grey, grey, grey


def veiled(
    image: NDArray[np.uint8], amounts: NDArray[np.float32], severity: float, colour: tuple[int, int, int]
) -> Synthetic:
    """An image through particles of a colour, spread as :func:`pattern` says and scaled to a severity."""
    depth = amounts * np.float32(severity)
    light = _LINEAR[list(colour)]
    changed = np.empty_like(image)
    step = max(1, _ROWS // max(1, image.shape[1]))
    for top in range(0, len(image), step):
        rows = slice(top, top + step)
        share = np.exp(-depth[rows])[..., None]
        changed[rows] = _coded(_LINEAR[image[rows]] * share + light * (1 - share))
    return Synthetic(changed, depth, np.where(depth > VISIBLE, 255, 0).astype(np.uint8))


def _decoded(code: _Values) -> _Values:
    """From sRGB, 0..1, to light (IEC 61966-2-1)."""
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4)


_LINEAR: NDArray[np.float32] = _decoded(np.arange(256) / 255).astype(np.float32)  # The light of each 8-bit code

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], np.float32)


def _coded(light: NDArray[np.float32]) -> NDArray[np.uint8]:
    """From light to 8-bit sRGB."""
    code = np.where(light <= 0.0031308, light * 12.92, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(np.clip(code, 0, 1) * 255), np.uint8)


def _noise(x: _Values, y: _Values, rng: np.random.Generator) -> _Values:
    """One octave of gradient noise: smooth, of mean 0, with features as large as a unit of the coordinates."""
    angles = rng.uniform(0, 2 * np.pi, (_LATTICE, _LATTICE))
    cos, sin = np.cos(angles), np.sin(angles)
    x, y = x + rng.uniform(0, _LATTICE), y + rng.uniform(0, _LATTICE)
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    x, y = x - left, y - top

    def corner(right: int, below: int) -> _Values:
        place = (top + below) % _LATTICE, (left + right) % _LATTICE
        return np.asarray(cos[place] * (x - right) + sin[place] * (y - below))

    across, down = (side**3 * (side * (side * 6 - 15) + 10) for side in (x, y))
    above = corner(0, 0) + across * (corner(1, 0) - corner(0, 0))
    under = corner(0, 1) + across * (corner(1, 1) - corner(0, 1))
    return np.asarray(_NOISE * (above + down * (under - above)))


def _fractal(
    ground: Ground, rng: np.random.Generator, features: float, octaves: int, *, stretch: float = 1.0, gain: float = 0.5
) -> _Values:
    """Noise of several octaves, each twice as fine and ``gain`` times as strong; standard deviation about 1.

    Args:
        ground: The places.
        rng: What the noise depends on.
        features: Along the longer side, of the first octave.
        octaves: At most; those that are finer than three cells are left out, as they would be no pattern any more.
        stretch: By how much features are longer in the direction of x.
        gain: Strength of an octave relative to the one before.
    """
    total, power = np.zeros_like(ground.x), 0.0
    for octave in range(octaves):
        frequency = features * 2**octave
        turned = ground if octave % 2 == 0 or stretch > 1 else ground.turned(0.6)  # hides the lattice
        if octave and frequency * 3 > ground.cells:
            break
        total += gain**octave * _noise(turned.x * frequency / stretch, turned.y * frequency, rng)
        power += gain ** (2 * octave)
    return np.asarray(total / np.sqrt(power))


def _step(values: _Values) -> _Values:
    """From 0 to 1, smoothly; never quite 0, so that some of every pattern lies on every image."""
    return np.asarray(1 / (1 + np.exp(np.clip(-values, -50, 50))))


def _haze(ground: Ground, rng: np.random.Generator) -> _Values:
    """Smooth and nearly everywhere, thicker towards one side."""
    slope = ground.turned(rng.uniform(0, 2 * np.pi)).x
    return np.asarray(np.exp(0.33 * _fractal(ground, rng, 1.5, 4, gain=0.36) + 0.7 * slope))


def _smoke(ground: Ground, rng: np.random.Generator) -> _Values:
    """Plumes of one to three fires in one wind: narrow and thick at the fire, then wider, thinner and torn."""
    angle = rng.uniform(0, 2 * np.pi)
    wind = ground.turned(angle)
    swirl = 0.030 * _fractal(wind, rng, 6, 4, gain=0.6)
    total = np.zeros_like(ground.x)
    for _ in range(rng.integers(1, 4)):
        # Upwind of the middle, so that the plume lies over the image.
        along, across = wind.x + rng.uniform(0.05, 0.4), wind.y + rng.uniform(-0.3, 0.3)
        far = np.maximum(along, 0)
        width = 0.012 + 0.16 * far**0.85
        meander = 0.06 * far * _noise(along * 2.5, np.zeros_like(along), rng)
        aside = (across + meander + swirl * np.minimum(1, far / 0.15)) / width
        puffs = np.exp(0.55 * _fractal(Ground(along, across, ground.cells), rng, 7, 5, stretch=2, gain=0.65))
        total += rng.uniform(0.5, 1) * (0.012 / width) ** 0.6 * np.exp(-(aside**2) / 2) * _step(along / 0.006) * puffs
    return total


def _dust(ground: Ground, rng: np.random.Generator) -> _Values:
    """Broad bands along the wind, with a front and fine streaks."""
    wind = ground.turned(rng.uniform(0, 2 * np.pi))
    bent = Ground(wind.x, wind.y + 0.05 * _fractal(wind, rng, 1.2, 2), wind.cells)
    bands = _fractal(bent, rng, 2.2, 4, stretch=2.2, gain=0.5)
    streaks = _fractal(bent, rng, 10, 3, stretch=5, gain=0.7)
    billows = _fractal(ground, rng, 6, 4, gain=0.5)
    return np.asarray(_step((bands + 0.15 * billows + 0.35) / 0.6) * np.exp(0.12 * streaks + 0.1 * billows))


def _cloud(ground: Ground, rng: np.random.Generator) -> _Values:
    """White patches with ragged edges."""
    patches = _fractal(ground, rng, 4, 6, gain=0.55)
    return np.asarray(_step((patches - 0.4) / 0.22) * np.exp(0.25 * patches))


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("haze", "whitish blue, smooth, over nearly all", (196, 208, 222), _haze),
        Kind("smoke", "grey-brown plumes of one to three fires", (158, 151, 143), _smoke),
        Kind("dust", "yellow-brown, in broad bands along the wind", (202, 176, 134), _dust),
        Kind("cloud", "white, thin, in patches", (244, 246, 248), _cloud),
    )
}
"""What can be put over an image, by name."""
