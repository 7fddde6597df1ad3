"""The command line: one thin function a command."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from oddsight.cli.application import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_TERMINATED, app
from oddsight.errors import OddsightError

# isort: off
# Each of these registers its commands; help lists them in this order.
from oddsight.cli import folders as folders
from oddsight.cli import fitting as fitting
from oddsight.cli import class_fitting as class_fitting
from oddsight.cli import scoring as scoring
from oddsight.cli import evaluating as evaluating
from oddsight.cli import scale as scale
from oddsight.cli import watching as watching
from oddsight.cli import places as places
from oddsight.cli import serving as serving
from oddsight.cli import comparing as comparing
from oddsight.cli import adapting as adapting
from oddsight.cli import models as models
from oddsight.cli import updating as updating
from oddsight.cli import exporting as exporting
from oddsight.cli import reporting as reporting
from oddsight.cli import registries as registries
# isort: on


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage, 3 anomalies found, 130 or 143 interrupted."""
    import warnings

    # Pillow's remarks on odd files: what matters about a file is said as its error.
    warnings.filterwarnings("ignore", module="PIL")
    # As on Ctrl-C, half-written files must go.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(EXIT_TERMINATED))
    _settle_streams()
    try:
        try:
            app(prog_name="oddsight", standalone_mode=True)
        finally:
            sys.stdout.flush()
    except SystemExit as end:
        _end(end.code)
    except OddsightError as error:
        _fail(error)
    except MemoryError:
        _fail("out of memory: use smaller images or fewer at a time")
    except BrokenPipeError:  # such as of ``| head``, who has read enough
        _drop_output()
        _end(EXIT_ERROR)
    except OSError as error:
        _drop_output()
        if error.errno == errno.EBADF:
            _fail("standard output is closed, so the results cannot be written")
        _fail(f"{error.filename or 'standard output or a temporary file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _end(EXIT_INTERRUPTED)


def _settle_streams() -> None:
    """Make streams that were closed or that cannot show every character fit to be written to."""
    if sys.stdin is None:  # or the first file that is opened would take its place
        sys.stdin = Path(os.devnull).open()  # noqa: SIM115
    if sys.stdout is None:  # results that go nowhere are an error once they are written
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """Let what standard output still holds go nowhere, so that Python does not complain of it at its end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _end(code: str | int | None) -> NoReturn:
    """Exit, whatever threads are still at work."""
    from oddsight.runtime.parallel import settled

    interrupted = code in (EXIT_INTERRUPTED, EXIT_TERMINATED)
    if not (settled(0) if interrupted else settled()):
        # Python would crash if it ended under a library that comes back to it, or wait for it.
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code if isinstance(code, int) else EXIT_ERROR)
    sys.exit(code)


def _fail(text: object) -> NoReturn:
    from oddsight.sinks.terminal import complain

    complain(text)
    _end(EXIT_ERROR)


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
