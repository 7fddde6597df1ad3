"""Commands that list what there is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from oddsight.cli.application import Quiet, app


class _Registry(StrEnum):
    METHODS = "methods"
    BACKBONES = "backbones"
    SCORES = "scores"


def _list(registry: _Registry, json: bool) -> None:
    from oddsight.cli import output

    tables = {
        _Registry.METHODS: output.method_rows,
        _Registry.BACKBONES: output.backbone_rows,
        _Registry.SCORES: output.score_rows,
    }
    rows: list[dict[str, Any]] = tables[registry]()
    if json:
        output.write_json(Path("-"), rows)
    else:
        output.show_rows(rows)


@app.command()
def methods(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the methods: what they read, whether they localise, their papers."""
    _list(_Registry.METHODS, json)


@app.command()
def scores(json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the scores by which a model that knows classes says 'none of these'; energy+knn is a sum of two."""
    _list(_Registry.SCORES, json)


_backbones = typer.Typer(invoke_without_command=True)
app.add_typer(_backbones, name="backbones")


@_backbones.callback()
def backbones(context: typer.Context, json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the backbones and their layers, what is exported and what others need; or export one."""
    if context.invoked_subcommand is None:
        _list(_Registry.BACKBONES, json)


@_backbones.command("export")
def export_backbone(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Such as resnet50 or timm:convnext_tiny.")],
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .safetensors or .pth file. [default: fetched]")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side in pixels, for networks that take only one size, such as transformers.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE.onnx", help="Where to. [default: the folder read by 'fit']"),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Export a network to ONNX with PyTorch, once: fitting and predicting then need no PyTorch."""
    from oddsight.backbones.exports import make_export
    from oddsight.cli.output import say_exported
    from oddsight.sinks.output_paths import check_outputs

    check_outputs({"--output": output}, inputs={"--weights": weights})
    path, found = make_export(name, output, weights=weights, size=size)
    say_exported(path, found.described, quiet)
