"""Make docs/images/clouds.png from the output of ``make demo``: python scripts/readme_image.py demo-output.

Every sixth of the partly cloudy tiles in the order of their names: chosen before anyone looked at the maps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

SIDE, GAP, ACROSS, DOWN, STEP = 150, 6, 4, 3, 6


def main() -> None:
    """Paste tiles and their heat maps side by side."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path)
    demo: Path = parser.parse_args().demo
    tiles = sorted((demo / "tiles-64" / "partly").iterdir())[::STEP][: ACROSS * DOWN]
    pair = 2 * SIDE + GAP
    sheet = Image.new("RGB", (ACROSS * (pair + 2 * GAP) - 2 * GAP, DOWN * (SIDE + 2 * GAP) - 2 * GAP), "white")
    for number, tile in enumerate(tiles):
        left, top = number % ACROSS * (pair + 2 * GAP), number // ACROSS * (SIDE + 2 * GAP)
        for image, offset in ((tile, 0), (demo / "maps" / tile.name, SIDE + GAP)):
            enlarged = Image.open(image).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
            sheet.paste(enlarged, (left + offset, top))
    output = Path(__file__).parents[1] / "docs" / "images" / "clouds.png"
    output.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(output, optimize=True)


if __name__ == "__main__":
    main()
