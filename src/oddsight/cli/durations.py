"""Durations as people write them: ``0.5s``, ``10min``."""

from __future__ import annotations

import re

import typer

_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0}


def seconds(option: str, text: str) -> float:
    """The value of an option in seconds: a number above 0 with or without ``ms``, ``s``, ``min`` or ``h``."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?(ms|s|min|h)?", text.strip())
    if match is None or not float(match[1]):
        raise typer.BadParameter(f"{option} takes a time above 0, such as 0.5s, 10min or 2h, not {text!r}")
    return float(match[1]) * _UNITS[match[2] or ""]
