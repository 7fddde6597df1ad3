"""Commands that list methods, scores and backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oddsight.cli import application as cli


@cli.app.command()
def methods(json: cli.PrintJson = False) -> None:
    """List the methods, what they read and their papers."""
    from oddsight.cli.output import method_rows, print_or_show, show_rows

    print_or_show(method_rows(), json, show_rows)


@cli.app.command()
def scores(json: cli.PrintJson = False) -> None:
    """List the scores for known classes. Names joined by + are sums, such as energy+knn."""
    from oddsight.cli.output import print_or_show, score_rows, show_rows

    print_or_show(score_rows(), json, show_rows)


_backbones = typer.Typer(invoke_without_command=True)
cli.app.add_typer(_backbones, name="backbones")


@_backbones.callback()
def backbones(context: typer.Context, json: cli.PrintJson = False) -> None:
    """List the backbones and their layers, or export one."""
    from oddsight.cli.output import backbone_rows, print_or_show, show_rows

    if context.invoked_subcommand is None:
        print_or_show(backbone_rows(), json, show_rows)


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
    quiet: cli.Quiet = False,
) -> None:
    """Export a network to ONNX. Needs PyTorch; using the exported file does not."""
    from oddsight.backbones.exports import make_export
    from oddsight.sinks.output_paths import check_outputs
    from oddsight.sinks.terminal import note

    check_outputs({"--output": output}, inputs={"--weights": weights})
    path, found = make_export(name, output, weights=weights, size=size)
    note(f"wrote {path}: {found.described.name} with {', '.join(found.described.stages)}", quiet=quiet)
