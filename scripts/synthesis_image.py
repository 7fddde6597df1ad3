"""Make docs/images/synthesis.jpg from a scene that ships with Oddsight: python scripts/synthesis_image.py.

A row for each kind: the clear scene, and the same with more and more in the air. Seeds 0 to 3, chosen before anyone
looked.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from oddsight.data.images import read_image
from oddsight.data.synthesis import KINDS, synthesize

ROOT = Path(__file__).parents[1]
SCENES = ("train_Wetlands_01_0416", "val_Shrubland_01_0508")
SEVERITIES = (0.1, 0.2, 0.4, 0.8, 1.6)
SIDE, GAP = 150, 4


def main() -> None:
    """Paste the images side by side."""
    step = SIDE + GAP
    sheet = Image.new("RGB", ((len(SEVERITIES) + 1) * step - GAP, len(KINDS) * step - GAP), "white")
    for row, kind in enumerate(KINDS):
        clear = read_image(ROOT / "examples" / "landsat-clouds" / "images" / f"{SCENES[row % len(SCENES)]}.png")
        veiled = [synthesize(clear, kind, severity, seed=row).image for severity in SEVERITIES]
        for column, pixels in enumerate([clear, *veiled]):
            reduced = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            sheet.paste(reduced, (column * step, row * step))
    sheet.save(ROOT / "docs" / "images" / "synthesis.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    main()
