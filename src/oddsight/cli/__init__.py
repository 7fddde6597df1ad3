"""The command line: one thin function a command."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from oddsight.cli.application import EXIT_ERROR, EXIT_INTERRUPTED, app
from oddsight.errors import OddsightError

# isort: off
# Each of these registers its commands; help lists them in this order.
from oddsight.cli import folders as folders
from oddsight.cli import fitting as fitting
from oddsight.cli import scoring as scoring
from oddsight.cli import comparing as comparing
from oddsight.cli import adapting as adapting
from oddsight.studies.cifar10 import command as study_cifar10  # noqa: F401
from oddsight.studies.clouds import command as study_clouds  # noqa: F401
from oddsight.cli import models as models
from oddsight.cli import registries as registries
# isort: on


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 3 anomalies found, 130 interrupted."""
    import warnings

    # Pillow's remarks on odd files: what matters about a file is said as its error.
    warnings.filterwarnings("ignore", module="PIL")
    # As on Ctrl-C, half-written files must go.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    _settle_streams()
    try:
        try:
            app(prog_name="oddsight", standalone_mode=True)
        finally:
            sys.stdout.flush()
    except OddsightError as error:
        _fail(error)
    except MemoryError:
        _fail("out of memory: use smaller images or fewer at a time")
    except BrokenPipeError:  # such as of ``| head``, who has read enough
        _drop_output()
        sys.exit(EXIT_ERROR)
    except OSError as error:
        _drop_output()
        _fail(f"{error.filename or 'standard output or a temporary file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _settle_streams() -> None:
    """Make streams that were closed or that cannot show every character fit to be written to."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Let what standard output still holds go nowhere, so that Python does not complain of it at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(text: object) -> NoReturn:
    from oddsight.terminal import complain

    complain(text)
    sys.exit(EXIT_ERROR)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"oddsight {version('oddsight')}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Find the images that do not belong."""
