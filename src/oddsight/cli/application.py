"""The application that commands register with, and the options they share."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from oddsight.data.reading import Reading


class Commands(TyperGroup):
    """The commands, and one that was called otherwise before."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - of Typer's own copy of Click
        """Take ``fit --labelled`` as ``fit-classes``."""
        if args[:1] == ["fit"] and "--labelled" in args:
            typer.echo("note: 'fit --labelled' is now 'fit-classes'", err=True)
            args = ["fit-classes", *(arg for arg in args[1:] if arg != "--labelled")]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Commands,
    help="Find the images that do not belong.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ModelPath = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="A model file.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show only results and errors, no progress and no notes.")]
PrintJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
JsonFile = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write JSON to this file ('-' for standard output).")
]


def _limit_time(seconds: float) -> float:
    from oddsight.data.decoding import set_image_limits

    set_image_limits(timeout=seconds)
    return seconds


ImageTimeout = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        callback=_limit_time,
        help="Time limit for reading an image, and for scoring it; 0 for no limit.",
    ),
]


def _choose_device(name: str) -> str:
    from oddsight.runtime.sessions import set_device

    set_device(name)
    return name


Device = Annotated[
    str,
    typer.Option(
        callback=_choose_device, help="Where ONNX Runtime runs: cpu, or cuda and others where its build supports them."
    ),
]
Verdicts = Annotated[
    str | None,
    typer.Option(
        metavar="NORMAL,ANOMALOUS",
        help="Words for normal and anomalous images, such as clear,cloudy. [default: normal,anomalous]",
    ),
]

ModelOutput = Annotated[Path, typer.Option("--output", "-o", metavar="MODEL.onnx", help="Model file to write.")]
Backbone = Annotated[
    str | None,
    typer.Option(
        help="A name from 'oddsight backbones', timm:NAME or FILE.onnx. [default: efficientnet-lite0; none for "
        "methods that read pixels]"
    ),
]
Layers = Annotated[
    str | None,
    typer.Option(help="Stages of the backbone to read, such as stage3,stage5. [default: those that suit the method]"),
]
Size = Annotated[
    int | None,
    typer.Option(
        help="Side in pixels of the square to which images are resized. If most images have another shape, they keep "
        "it, with as many pixels. [default: the method's or the backbone's; for auto and patchcore, see --speed]"
    ),
]
Seed = Annotated[int, typer.Option(help="Random seed.")]
FalseAlarmRate = Annotated[
    float | None,
    typer.Option(help="Share of normal images that may be flagged. [default: 0.01, or the smallest possible]"),
]
Report = Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write an HTML report.")]
Curves = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        help="When a network is trained: write learning curves to a .png or .csv file. May be repeated.",
    ),
]
Thumbnails = Annotated[bool, typer.Option(help="Write thumbnails of normal images beside the model, for explanations.")]
Work = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="When a network is trained: keep checkpoints in this folder, to resume from."),
]
Accelerator = Annotated[str | None, typer.Option(help="When a network is trained: auto, cpu, gpu, ... [default: auto]")]
GroupBy = Annotated[
    str,
    typer.Option(
        metavar="PATTERN|FILE.csv|none",
        help="Images that belong together, such as photos of one part: a regular expression over paths with one pair "
        "of brackets, such as '(part[0-9]+)_'; a CSV file with the columns path and group; or none. "
        "[default: near copies are grouped]",
        show_default=False,
    ),
]
Confidence = Annotated[
    float | None,
    typer.Option(
        help="Confidence that the true rate is at most the requested one, such as 0.95. [default: it holds on average]"
    ),
]
Bands = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        help="Bands to read from TIFF files, counted from 1: red, green and blue, or one as grey.",
    ),
]
Scale = Annotated[
    str | None, typer.Option(metavar="LOW,HIGH", help="Values in TIFF files that become black and white.")
]

EXIT_ERROR, EXIT_ANOMALY, EXIT_INTERRUPTED, EXIT_TERMINATED = 1, 3, 130, 143


def end_with(errors: object, anomalies: object = 0) -> None:
    """Exit with 1 if there were errors, or else with 3 if there are anomalies that count."""
    if errors:
        raise typer.Exit(EXIT_ERROR)
    if anomalies:
        raise typer.Exit(EXIT_ANOMALY)


def refuse(options: Mapping[str, object], why: str) -> None:
    """Refuse the first of these options that was given."""
    for option, value in options.items():
        if value is not None and value != []:
            raise typer.BadParameter(f"{option} {why}")


def listed(names: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in names.split(",") if name.strip()]


def two_words(verdicts: str) -> tuple[str, str]:
    """The words of ``--verdicts``."""
    from oddsight.errors import DataError
    from oddsight.model.metadata import checked_verdicts

    try:
        return checked_verdicts([word.strip() for word in verdicts.split(",")])
    except DataError as error:
        raise typer.BadParameter(f"--verdicts NORMAL,ANOMALOUS: {error}") from None


def reading_of(bands: str | None, scale: str | None) -> Reading:
    """The value of ``--bands`` and ``--scale``."""
    from oddsight.data.reading import Reading

    return Reading(
        tuple(numbers("--bands", bands)) if bands is not None else None,
        _low_and_high(scale) if scale is not None else None,
    )


def _low_and_high(scale: str) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in scale.split(","))
    except ValueError:
        raise typer.BadParameter(f"--scale takes two numbers separated by a comma, not {scale!r}") from None
    return low, high


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


_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}


def seconds(option: str, text: str) -> float:
    """The value of an option in seconds: a number above 0 with or without ``ms``, ``s``, ``min`` or ``h``."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?(ms|s|min|h)?", text.strip())
    if match is None or not float(match[1]):
        raise typer.BadParameter(f"{option} takes a time above 0, such as 0.5s, 10min or 2h, not {text!r}")
    return float(match[1]) * _UNITS[match[2] or ""]


def existing_file(name: str | None) -> Path | None:
    """The file that an option names, if it does not name an entry of a registry."""
    return Path(name) if name is not None and Path(name).is_file() else None


def named(text: str) -> tuple[str, Path]:
    """``NAME=PATH``, or a path, which is named after its last part."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals else (Path(text).name.partition(".")[0], Path(text))
