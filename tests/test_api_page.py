"""The page of the public interface says what the docstrings say, and every public name has one."""

from __future__ import annotations

import inspect
import runpy
from pathlib import Path

import oddsight

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "write_api_reference.py"))


def test_the_page_is_up_to_date():
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    assert page == SCRIPT["page"](), "run 'python scripts/write_api_reference.py'"


def test_every_public_name_is_documented():
    assert [name for name in vars(oddsight)["__all__"] if not inspect.getdoc(getattr(oddsight, name))] == []


def test_a_docstring_becomes_markdown():
    def example():
        """Say it; see :func:`oddsight.fit` and ``x``.

        Args:
            a: One
                line.
            b: Two.

        Returns:
            Nothing.

        Example:
            >>> 1 + 1
            2
        """

    assert SCRIPT["documentation"](example) == (
        "Say it; see `oddsight.fit` and `x`.\n\nParameters:\n\n- `a`: One line.\n- `b`: Two.\n\n"
        "Returns: Nothing.\n\n```pycon\n>>> 1 + 1\n2\n```\n"
    )


def test_a_long_signature_has_a_line_for_each_parameter():
    def example(first, *, second: int = 1, call=print) -> str:
        raise NotImplementedError

    signature = SCRIPT["signature"]
    assert signature("example", example) == "example(first, *, second: int = 1, call = ...) -> str"
    long = signature("example" * 20, example)
    assert long.splitlines()[1:] == ["    first,", "    *,", "    second: int = 1,", "    call = ...,", ") -> str"]
