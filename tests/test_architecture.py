"""A module imports only from its own floor or lower ones, as docs/architecture.md draws them."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "oddsight"


def floors() -> dict[str, int]:
    """Floor of each room, from the table in the document."""
    table = re.findall(r"^\| (\d) \| (.+?) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    return {name: int(floor) for floor, names in table for name in re.findall(r"`(\w+)`", names)}


def imported(path: Path) -> set[str]:
    """Rooms that a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "oddsight":
            rooms = [node.module.split(".")[1]] if "." in node.module else [alias.name for alias in node.names]
            found.update(rooms)
    return found


MODULES = [path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py"]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_point_downwards(path):
    floor = floors()
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert room in floor, f"{room} has no floor in docs/architecture.md"
    for other in imported(path):
        assert floor[other] <= floor[room], f"{path.name} on floor {floor[room]} imports {other} on {floor[other]}"


def test_only_the_command_line_knows_the_studies():
    guests = {path.relative_to(SOURCE).parts[0] for path in MODULES if "studies" in imported(path)}
    assert guests == {"cli", "studies"}
