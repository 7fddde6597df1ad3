"""Commands that list methods, scores and backbones."""

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
def methods(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the methods, what they read and their papers."""
    _list(_Registry.METHODS, json)


@app.command()
def scores(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the scores for known classes. Names joined by + are sums, such as energy+knn."""
    _list(_Registry.SCORES, json)


_backbones = typer.Typer(invoke_without_command=True)
app.add_typer(_backbones, name="backbones")


@_backbones.callback()
def backbones(
    context: typer.Context, json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """List the backbones and their layers, or export one."""
    if context.invoked_subcommand is None:
        _list(_Registry.BACKBONES, json)


@_backbones.command("export")
def export_backbone(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A backbone, such as resnet50 or timm:convnext_tiny.")],
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A .safetensors or .pth file. [default: downloaded]")
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Side in pixels, for networks with a fixed input size, such as transformers.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FILE.onnx", help="File to write. [default: in the folder that 'fit' reads]"
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Export a network to ONNX. Needs PyTorch once; fitting and predicting then do not."""
    from oddsight.backbones.exports import make_export
    from oddsight.cli.output import say_exported
    from oddsight.sinks.output_paths import check_outputs

    check_outputs({"--output": output}, inputs={"--weights": weights})
    path, found = make_export(name, output, weights=weights, size=size)
    say_exported(path, found.described, quiet)
