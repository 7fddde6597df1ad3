"""The command that serves models over HTTP."""

from __future__ import annotations

from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli import application as cli

_NEEDED = ("fastapi", "httptools", "uvicorn", "python_multipart", "prometheus_client")


@cli.app.command("serve")
def serve_models(
    models: Annotated[Path, typer.Argument(metavar="MODELS_DIR", help="A folder of model files, or one model file.")],
    workspace: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where results, images, answers and new models are kept. [default: nowhere]"),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs tokens.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes one that is free.")] = 8000,
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="A name by which clients call the service. May be repeated."),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Tokens that clients need: one a line, with read, score or manage behind."),
    ] = None,
    keep_days: Annotated[float, typer.Option(min=0, help="Days that results and their images are kept.")] = 90.0,
    keep_bytes: Annotated[str, typer.Option(help="Bytes that images may take; the oldest go first.")] = "10GB",
    runtime: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder of the npm package onnxruntime-web, with which the page can score in the browser: images then "
            "do not leave the computer.",
        ),
    ] = None,
    image_timeout: cli.ImageTimeout = 30.0,
    device: cli.Device = "cpu",
    quiet: cli.Quiet = False,
) -> None:
    """Serve models over HTTP: a page for people, and an interface for programs."""
    from oddsight.errors import OddsightError
    from oddsight.sinks.terminal import complain, note

    missing = [module for module in _NEEDED if find_spec(module) is None]
    if missing:
        raise OddsightError(f"the service needs {', '.join(missing)}: pip install 'oddsight[serve]'")

    from oddsight.data.memory import parse_bytes
    from oddsight.serve.access import Access, allowed_names, read_tokens
    from oddsight.serve.models import Models
    from oddsight.serve.server import address, make_server, open_socket
    from oddsight.serve.service import Service
    from oddsight.serve.standalone import find_runtime
    from oddsight.serve.workspace import Retention, open_workspace

    tokens = {} if token_file is None else read_tokens(token_file)
    access = Access(host, allowed_names(name or ()), tokens)
    with ExitStack() as stack:
        kept = None
        if workspace is not None:
            retention = Retention(keep_days, parse_bytes(keep_bytes))
            kept = stack.enter_context(open_workspace(workspace, retention))
        scripts = None if runtime is None else find_runtime(runtime)
        service = Service(Models(models, kept, complain), kept, access=access, runtime=scripts)
        listening = stack.enter_context(open_socket(host, port))
        note(f"serving at {address(listening)}", quiet=quiet)
        make_server(service).run(sockets=[listening])
