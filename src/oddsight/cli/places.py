"""The command that helps to draw zones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oddsight.cli import application as cli

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@cli.app.command()
def zones(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A video, a folder of frames, a camera or a stream.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.json",
            help="File of zones: a new one gets a template, an existing one is only drawn.",
        ),
    ],
    image: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Image of the frame to write. [default: beside the zones]")
    ] = None,
    grid: Annotated[int, typer.Option(min=2, max=50, help="Cells of the grid along each side.")] = 10,
    at: Annotated[float, typer.Option(metavar="SECONDS", min=0, help="Time of the frame.")] = 0.0,
    quiet: cli.Quiet = False,
) -> None:
    """Write a template for zones, and a frame with a grid and the zones drawn on it."""
    import io

    from PIL import Image

    from oddsight.drawing.grids import draw_grid
    from oddsight.errors import DataError
    from oddsight.runtime.files import write_bytes
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import note
    from oddsight.watch.zone_files import TEMPLATE, read_zones, write_zones

    image = output.with_suffix(".png") if image is None else image
    if image.suffix.lower() != ".png":
        raise DataError(f"--image {image}: the image is a PNG file: give it the ending .png")
    kept = output.exists()
    written, read = ({}, {"--output": output}) if kept else ({"--output": output}, {})
    file = Path(source) if Path(source).exists() else None
    check_outputs({"--image": image, **written}, inputs={"SOURCE": file, **read})
    drawn = read_zones(output) if kept else TEMPLATE
    shapes = [{zone.name: zone.polygon for zone in part} for part in (drawn.include, drawn.exclude)]
    png = io.BytesIO()
    Image.fromarray(draw_grid(_frame_at(source, at), grid, *shapes)).save(png, format="PNG", compress_level=1)
    if not kept:
        write_zones(output, drawn)
        note(f"wrote {output}: a template; change the zones, then run this again to see them", quiet=quiet)
    write_bytes(image, png.getvalue())
    note(f"wrote {image}: zones to look at: {len(drawn.include)}, excluded: {len(drawn.exclude)}", quiet=quiet)


def _frame_at(source: str, seconds: float) -> NDArray[np.uint8]:
    """The first frame at a time or after it."""
    from oddsight.errors import DataError, ImageError, plain
    from oddsight.sources.live import LiveStream
    from oddsight.sources.opening import open_frames

    opened = open_frames(source)
    last, error = 0.0, None
    try:
        for frame in opened:
            if isinstance(frame, ImageError):
                error = frame
                continue
            last = frame.time or 0.0
            if last >= seconds:
                return frame.read()
    finally:
        if isinstance(opened, LiveStream):
            opened.close()
    if error is not None:
        raise error
    raise DataError(
        f"{plain(source)}: its last frame is at {last:g} s, before --at {seconds:g}: choose an earlier time"
    )
