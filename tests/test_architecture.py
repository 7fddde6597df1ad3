"""The house: rooms on floors, imports that point strictly downwards between rooms, no cycles inside one.

``python tests/test_architecture.py`` prints the figures in docs/architecture.md.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "oddsight"
ENTRANCES = {"__init__", "__main__"}


@cache
def floors() -> dict[str, int]:
    """The floor of each room, from the table in docs/architecture.md."""
    table = re.findall(r"^\| (\d+) \| (.+?) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    return {room: int(floor) for floor, rooms in table for room in re.findall(r"`(\w+)`", rooms)}


def module_name(path: Path) -> str:
    """``oddsight.data.images`` of its file."""
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(SOURCE.rglob("*.py"))}


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """All statements, however deep; what is within expressions is passed over."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            yield node
            yield from statements(node)


@cache
def imports(path: Path) -> set[str]:
    """The modules of Oddsight that a file imports, wherever in it."""
    modules = set()
    for node in statements(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules.update(alias.name for alias in node.names if alias.name.split(".")[0] == "oddsight")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "oddsight":
            names = (f"{node.module}.{alias.name}" for alias in node.names)
            modules.update(name if name in MODULES else node.module for name in names)
    return modules


def room(module: str) -> str:
    """The part of a module's name that follows the package's."""
    return module.split(".")[1]


def longest_chain() -> list[str]:
    """The longest way from a module along its imports."""
    chains: dict[str, list[str]] = {}
    graph = {name: imports(path) & MODULES.keys() for name, path in MODULES.items()}
    for name in TopologicalSorter(graph).static_order():
        below = max((chains[other] for other in graph[name]), key=len, default=[])
        chains[name] = [name, *below]
    return max(chains.values(), key=len)


INSIDE = {name: path for name, path in MODULES.items() if name != "oddsight" and room(name) not in ENTRANCES}


def test_every_room_has_a_floor_and_every_floor_a_room():
    assert {room(name) for name in INSIDE} == set(floors())


def test_imports_point_to_lower_floors():
    floor = floors()
    between = [(name, to) for name, path in INSIDE.items() for to in imports(path) if to != "oddsight"]
    upwards = [(name, to) for name, to in between if room(to) != room(name) and floor[room(to)] >= floor[room(name)]]
    assert not upwards


def test_no_module_imports_the_public_names():
    assert not [name for name, path in INSIDE.items() if "oddsight" in imports(path)]


@pytest.mark.parametrize("own", sorted({room(name) for name in INSIDE}))
def test_rooms_have_no_cycles(own):
    graph = {
        name: {other for other in imports(path) if other in INSIDE and room(other) == own}
        for name, path in INSIDE.items()
        if room(name) == own
    }
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


if __name__ == "__main__":
    lines = sum(len(path.read_text().splitlines()) for path in MODULES.values())
    between = {(room(name), room(to)) for name, path in INSIDE.items() for to in imports(path) & INSIDE.keys()}
    arrows = sum(one != other for one, other in between)
    print(f"{len(MODULES)} files, {lines:,} lines, {len(floors())} rooms on {len(set(floors().values()))} floors")
    print(f"{arrows} pairs of rooms of which one imports the other; the longest chain of imports:")
    print(" -> ".join(longest_chain()))
