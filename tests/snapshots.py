"""What users of Oddsight hold on to, as text that is kept in ``files/snapshots`` and compared by a test.

After a change that is meant, write the snapshots again and look at their difference:

    .venv-test/bin/python tests/snapshots.py
"""

from __future__ import annotations

import csv
import dataclasses
import importlib
import inspect
import json
import os
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest import mock

import typer
from pydantic import BaseModel

import oddsight
from cli_files import run
from fixed_models import fixed_methods, fixed_scores, measure
from textures import write_textures

SNAPSHOTS = Path(__file__).parent / "files" / "snapshots"

HELP_WIDTH = "82"
"""Of the terminal: that of which Click leaves two columns free."""


# Names and signatures.


def public_names() -> str:
    """Every public name with what a caller writes: parameters and defaults, members of classes, fields.

    Public are the names of ``oddsight.__all__`` and of ``[tool.oddsight.public]`` in ``pyproject.toml``.
    """
    lines = []
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    public = {"oddsight": vars(oddsight)["__all__"], **project["tool"]["oddsight"]["public"]}
    for name, names in public.items():
        module = importlib.import_module(name)
        named = names or sorted(vars(module)["__all__"])
        lines += [f"# {name}", *(line for one in named for line in _described(one, getattr(module, one))), ""]
    return "\n".join(lines)


def _described(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield f"class {name}{_bases(value)}"
        yield from sorted(f"  {line}" for line in _members(value))
    elif callable(value):
        yield name + signature(value)
    else:
        yield f"{name}: {type(value).__name__}"


def _bases(cls: type) -> str:
    """What ``except`` catches an error by."""
    if not issubclass(cls, Exception):
        return ""
    return f"({', '.join(base.__name__ for base in cls.__mro__[1:-2])})"


def _members(cls: type) -> Iterator[str]:
    if dataclasses.is_dataclass(cls):
        yield from (f"{field.name}{_default(field)}" for field in dataclasses.fields(cls))
    elif issubclass(cls, BaseModel):
        yield from cls.model_fields
        return
    fields = getattr(cls, "__dataclass_fields__", {})
    members: dict[str, Any] = {}
    for base in reversed([base for base in cls.__mro__ if base.__module__.split(".")[0] == "oddsight"]):
        members |= dict.fromkeys(inspect.get_annotations(base)) | vars(base)
    for name, value in members.items():
        if name.startswith("_") or name in fields:
            continue
        callable_ = isinstance(value, FunctionType | classmethod | staticmethod)
        yield f"{name}{signature(value)}" if callable_ else name


def _default(field: dataclasses.Field[Any]) -> str:
    optional = field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING
    return " = ..." if optional else ""


def signature(function: Any) -> str:
    """Parameters with their kinds and defaults, without types, which are said in other words now and then."""
    function = getattr(function, "__func__", function)
    parameters = [
        one.replace(annotation=one.empty, default=_Shown(one.default) if one.default is not one.empty else one.empty)
        for one in inspect.signature(function).parameters.values()
    ]
    return str(inspect.Signature(parameters))


class _Shown:
    """A default whose text is the same on every machine."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "<function>" if callable(self.value) else repr(self.value)


# Help.


def helps() -> str:
    """The help of every command, as wide as a small terminal."""
    from oddsight.__main__ import app

    return "\n".join(_help([], typer.main.get_command(app)))


def _help(path: list[str], command: Any) -> Iterator[str]:
    with mock.patch.dict(os.environ, {"COLUMNS": HELP_WIDTH}):
        yield f"$ {' '.join(['oddsight', *path, '--help'])}\n{_run(*path, '--help')}"
    for name, sub in getattr(command, "commands", {}).items():
        yield from _help([*path, name], sub)


# Scores.


def method_scores(folder: Path) -> str:
    """Scores of fixed images by every method."""
    return _scores(fixed_methods(folder))


def class_scores(folder: Path) -> str:
    """Scores of fixed images by every score of models that know classes."""
    return _scores(fixed_scores(folder))


def _scores(models: Iterator[tuple[str, Any]]) -> str:
    rows = {name: measure(model) for name, model in models}
    kept = {
        name: {kind: [float(f"{value:.6g}") for value in row[kind]] for kind in ("scores", "p_values")}
        for name, row in rows.items()
    }
    return _json(kept)


# Keys of what commands write.


def output_keys(folder: Path) -> str:
    """Columns and keys, in their order, of the CSV and JSON that commands write."""
    data = _labelled(folder / "data")
    model, table = folder / "model.onnx", folder / "table.csv"
    _run("fit", data / "train", "-o", model, "--method", "patchcore", "--size", "32", "--no-thumbnails")
    _run("compare", data, "--methods", "knn", "--size", "32", "--csv", table, "--work", folder / "work", "--jobs", "1")
    lines = {
        "compare --csv": next(csv.reader(table.open(encoding="utf-8"))),
        "check --json": _keys(json.loads(_run("check", data, "--json", "-"))),
        "info --json": _keys(json.loads(_run("info", model, "--json"))),
        "predict --json": _keys(
            json.loads(_run("predict", model, data / "test" / "blot", "--json", "-").split("\n")[0])
        ),
        "evaluate --json": _keys(json.loads(_run("evaluate", model, data, "--json", "-"))),
        **{
            f"{name} --json": _keys(json.loads(_run(name, "--json"))[:1]) for name in ("methods", "scores", "backbones")
        },
    }
    return _json(lines)


def _labelled(folder: Path) -> Path:
    """A small folder in MVTec AD's layout, with masks."""
    write_textures(folder / "train" / "good", range(14), width=48, height=48)
    write_textures(folder / "test" / "good", range(50, 56), width=48, height=48)
    write_textures(folder / "test" / "blot", range(60, 66), width=48, height=48, blot=True)
    write_textures(folder / "ground_truth" / "blot", range(60, 66), width=48, height=48)
    return folder


def _run(*arguments: object) -> str:
    done = run(*arguments)
    assert done.code == 0, done.err
    return done.out


def _keys(value: Any, path: str = "") -> list[str]:
    """Paths of keys, such as ``classes[].name``."""
    if isinstance(value, dict):
        return [found for name, part in value.items() for found in _keys(part, f"{path}.{name}" if path else name)]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _keys(value[0], f"{path}[]")
    return [path]


def _json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"


def main() -> None:
    """Write every snapshot."""
    with tempfile.TemporaryDirectory() as place, mock.patch.dict(os.environ, {"ODDSIGHT_CACHE": f"{place}/cache"}):
        folder = Path(place)
        texts = {
            "names.txt": public_names(),
            "help.txt": helps(),
            "output_keys.json": output_keys(folder / "outputs"),
            "method_scores.json": method_scores(folder / "methods"),
            "class_scores.json": class_scores(folder / "scores"),
        }
    shutil.rmtree(SNAPSHOTS, ignore_errors=True)
    SNAPSHOTS.mkdir(parents=True)
    for name, text in texts.items():
        (SNAPSHOTS / name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
