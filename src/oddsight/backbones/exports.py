"""Exports of networks, kept in the user's cache folder: made once with PyTorch, used without it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from oddsight.backbones.cache import user_folder
from oddsight.backbones.catalogue import offer
from oddsight.backbones.network_file import NetworkFile, read_network
from oddsight.errors import ModelError, OddsightError
from oddsight.runtime.files import make_folder


def exports_folder() -> Path:
    """Where exports are kept: ``ODDSIGHT_BACKBONES``, or a folder of the user's cache."""
    place, own = os.environ.get("ODDSIGHT_BACKBONES", ""), user_folder()
    if place:
        return Path(place)
    if own is None:
        raise OddsightError(
            "this user has no home folder to keep exported backbones in: set the environment variable "
            "ODDSIGHT_BACKBONES, or export to a file with --output"
        )
    return own / "backbones"


def export_path(name: str) -> Path:
    """The file in which the network of that name is kept."""
    return exports_folder() / f"{re.sub(r'[^A-Za-z0-9._-]', '-', name)}.onnx"


def exported(name: str) -> tuple[Path, NetworkFile]:
    """The export of a network, made now if there is none or it is damaged.

    Raises:
        OddsightError: If there is no such network, or it cannot be exported here.
    """
    offer(name)
    path = export_path(name)
    try:
        return path, _kept(path, name)
    except ModelError:
        # Missing or damaged, which for a cache is the same.
        make_export(name)
    return path, _kept(path, name)


def make_export(
    name: str, path: Path | None = None, *, weights: Path | None = None, size: int | None = None
) -> tuple[Path, NetworkFile]:
    """Export a network with PyTorch, by default to the file from which its name is then read.

    Raises:
        OddsightError: Without the ``train`` extra, or as :func:`oddsight.backbones.exporting.torch_backbone`.
    """
    try:
        from oddsight.backbones.exporting import export, torch_backbone

        network = torch_backbone(name, weights=weights, size=size)
    except ImportError as error:
        raise OddsightError(
            f"{name} is not exported on this machine, and exporting it needs PyTorch: pip install 'oddsight[train]'"
        ) from error
    target = path or export_path(name)
    if path is None:
        make_folder(target.parent)
    export(network, target)
    return target, read_network(target)


def kept_exports() -> Iterator[tuple[str, NetworkFile]]:
    """What is exported and sound, by name."""
    try:
        folder = exports_folder()
    except OddsightError:
        return
    for path in sorted(folder.glob("*.onnx")):
        try:
            found = read_network(path)
        except ModelError:
            continue
        if not found.plain and path == export_path(found.described.name):
            yield found.described.name, found


def _kept(path: Path, name: str) -> NetworkFile:
    found = read_network(path)
    if found.plain or found.described.name != name:
        raise ModelError(f"{path}: not an export of {name}")
    return found
