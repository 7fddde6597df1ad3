"""Write ``docs/api.md`` from the docstrings of the public names.

Public are the names of ``oddsight.__all__`` and of ``[tool.oddsight.public]`` in ``pyproject.toml``:

    python scripts/write_api_reference.py

A test holds the page up to date.
"""

from __future__ import annotations

import importlib
import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import oddsight
from oddsight.detectors import Detector

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "api.md"

OPENING = """# Python interface

Everything that users may import: what is not on this page may change at any time. Made from the docstrings by
`python scripts/write_api_reference.py`.

An image is a path, a Pillow image, or an array, uint8 `[H, W, 3]` (or grey, or with alpha). Every error that a user can
meet is an `OddsightError`.
"""

SECTIONS = {"Args": "Parameters", "Attributes": "Attributes", "Raises": "Errors"}
"""Sections of docstrings that list names, and what the page calls them."""

WIDTH = 110


def page() -> str:
    """The whole page."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    public = {"oddsight": oddsight.__all__, **project["tool"]["oddsight"]["public"]}
    parts = [OPENING, *(part for name, names in public.items() for part in module_parts(name, names))]
    return "\n".join(parts)


def module_parts(name: str, names: list[str]) -> Iterator[str]:
    """A module's heading, its first sentences, and its names."""
    module = importlib.import_module(name)
    yield f"## {name}\n"
    if name != "oddsight":
        yield paragraph(inspect.getdoc(module) or "").split("\n\n")[0] + "\n"
    for each in names or sorted(module.__all__):
        yield from described(each, getattr(module, each))


def described(name: str, value: Any) -> Iterator[str]:  # noqa: ANN401
    """One public name."""
    yield f"### {name}\n"
    if getattr(value, "__name__", name) != name:
        yield f"Another name of `{value.__name__}`.\n"
    elif inspect.isclass(value):
        yield documentation(value)
        if issubclass(value, Detector) and value is not Detector:
            yield "A `Detector`, with all that this has.\n"
        for member, found in members(value):
            yield f"#### {name}.{member}\n"
            yield from code_and_text(member, found)
    elif callable(value):
        yield from code_and_text(name, value)
    else:
        yield f"A constant, `{type(value).__name__}`.\n"


def code_and_text(name: str, value: Any) -> Iterator[str]:  # noqa: ANN401
    """The signature of a function, and its docstring."""
    function = getattr(value, "__func__", value)
    if isinstance(function, FunctionType):
        yield f"```python\n{signature(name, function)}\n```\n"
    yield documentation(value)


def members(cls: type) -> list[tuple[str, Any]]:
    """Public methods and properties that a class of ours or its bases of ours define, with docstrings.

    What a detector has in common with all others is said once.
    """
    found: dict[str, Any] = {}
    said = Detector.__mro__ if cls is not Detector else ()
    for base in reversed([base for base in cls.__mro__ if base.__module__.split(".")[0] == "oddsight"]):
        found |= vars(base) if base not in said else {}
    kinds = (FunctionType, classmethod, staticmethod, property)
    return [(name, value) for name, value in found.items() if not name.startswith("_") and isinstance(value, kinds)]


def signature(name: str, function: FunctionType) -> str:
    """How a function is called, on one line or one parameter a line."""
    described = inspect.signature(function)
    shown = [parameter(one) for one in described.parameters.values() if one.name not in {"self", "cls"}]
    kinds = [one.kind for one in described.parameters.values() if one.name not in {"self", "cls"}]
    if inspect.Parameter.KEYWORD_ONLY in kinds and inspect.Parameter.VAR_POSITIONAL not in kinds:
        shown.insert(kinds.index(inspect.Parameter.KEYWORD_ONLY), "*")
    result = described.return_annotation
    arrow = "" if result is described.empty else f" -> {result}"
    line = f"{name}({', '.join(shown)}){arrow}"
    if len(line) <= WIDTH:
        return line
    return "\n".join([f"{name}(", *(f"    {one}," for one in shown), f"){arrow}"])


def parameter(one: inspect.Parameter) -> str:
    """One parameter as it is written."""
    stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(one.kind, "")
    text = f"{stars}{one.name}"
    if one.annotation is not one.empty:
        text += f": {one.annotation}"
    if one.default is not one.empty:
        # Functions have no text that is the same every time.
        text += " = ..." if callable(one.default) else f" = {one.default!r}"
    return text


def documentation(value: Any) -> str:  # noqa: ANN401
    """A docstring in Google's style as Markdown."""
    blocks = re.split(r"^(Args|Attributes|Raises|Returns|Yields|Example):\n", inspect.getdoc(value) or "", flags=re.M)
    parts = [paragraph(blocks[0])]
    for title, body in zip(blocks[1::2], blocks[2::2], strict=True):
        section, *after = re.split(r"\n\n(?=\S)", body, maxsplit=1)
        text = textwrap.dedent(section).strip()
        if title == "Example":
            parts.append(f"```pycon\n{text}\n```")
        elif title in SECTIONS:
            items = [item for item in re.split(r"\n(?=\S)", text) if item.strip()]
            listed = "\n".join(f"- {paragraph(entry(item))}" for item in items)
            parts.append(f"{SECTIONS[title]}:\n\n{listed}")
        else:
            parts.append(f"{title}: {paragraph(text)}")
        parts += map(paragraph, after)
    return "\n\n".join(parts) + "\n"


def entry(item: str) -> str:
    """An item of a list, whose name becomes code."""
    name, _, text = item.partition(": ")
    return f"`{name}`: {' '.join(text.split())}"


def paragraph(text: str) -> str:
    """Text whose references and literals are Markdown's."""
    text = re.sub(r":\w+:`~?\.?([^`]+)`", r"`\1`", text.strip())
    return re.sub(r"``([^`]+)``", r"`\1`", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
