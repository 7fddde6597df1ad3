"""The application that commands register with, and what they share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Find the images that do not belong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A model file.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes; results and errors only.")]
JsonFile = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write JSON there ('-': to standard output).")
]


def _limit_time(seconds: float) -> float:
    from oddsight.decoding import set_image_limits

    set_image_limits(timeout=seconds)
    return seconds


ImageTimeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        callback=_limit_time,
        help="Longest time to read an image, and to score it; 0 for as long as it takes.",
    ),
]
Verdicts = Annotated[
    str | None,
    typer.Option(
        metavar="NORMAL,ANOMALOUS",
        help="What normal and anomalous images are to be called, such as clear,cloudy. [default: normal,anomalous]",
    ),
]

EXIT_ERROR, EXIT_ANOMALY, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 3, 130, 143


def listed(names: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def two_words(verdicts: str) -> tuple[str, str]:
    """The words of ``--verdicts``."""
    from oddsight.errors import DataError
    from oddsight.metadata import checked_verdicts

    try:
        return checked_verdicts([word.strip() for word in verdicts.split(",")])
    except DataError as error:
        raise typer.BadParameter(f"--verdicts NORMAL,ANOMALOUS: {error}") from None


def numbers(option: str, text: str) -> list[int]:
    """Whole numbers separated by commas."""
    try:
        return [int(number) for number in listed(text)]
    except ValueError:
        raise typer.BadParameter(f"{option} takes whole numbers separated by commas, not {text!r}") from None


def numbers_by_name(option: str, text: str, names: Sequence[str]) -> dict[str, list[int]]:
    """Whole numbers for every name: one list for all, or lists by name, such as ``0,1,2;knn=0``.

    Names that are not mentioned get the list without a name; where there is none, they are left out.
    """
    parts = [part.partition("=") for part in text.split(";")]
    common = [numbers(option, first) for first, equals, _ in parts if not equals]
    if len(common) > 1:
        raise typer.BadParameter(f"{option} has more than one list without a name: {text!r}")
    found = dict.fromkeys(names, common[0]) if common else {}
    for name, equals, own in parts:
        if equals and name.strip() not in names:
            raise typer.BadParameter(f"{option} names {name.strip()!r}, which is not among {', '.join(names)}")
        if equals:
            found[name.strip()] = numbers(option, own)
    return found


def named(text: str) -> tuple[str, Path]:
    """``NAME=PATH``, or a path that is called after its last part."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals else (Path(text).name.partition(".")[0], Path(text))
