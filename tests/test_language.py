"""Code, help and documentation use the field's words, one for one thing."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What is not written, what is written instead, and how often it is still there: a number that only goes down.
WORDS = {
    r"pictures?": ("image", 0),
    r"learnt": ("learned", 0),
    r"taken for|(?:take|takes|took) (?:it|them) for": ("predicted as", 0),
    r"(?:told|tells?|telling) (?:\w+ )?apart": ("distinguish", 0),
    r"(?:people are|who is) told": ("say who reads it", 0),
    r"data sets?": ("dataset", 1),  # in the title of a paper
}


@cache
def texts():
    """Text of the package and its documentation, but pages that are made from other text."""
    paths = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")]
    paths.remove(ROOT / "docs" / "api.md")
    paths += [path for path in (ROOT / "src").rglob("*") if path.suffix in {".py", ".pyi", ".jinja", ".toml"}]
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(paths)}


def places(pattern):
    """Files and lines that match, as an editor takes them."""
    found = re.compile(rf"\b(?:{pattern})\b", re.IGNORECASE)
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in texts().items()
        for number, line in enumerate(text.splitlines(), 1)
        for _ in found.finditer(line)
    ]


@pytest.mark.parametrize("pattern", WORDS)
def test_words_that_are_not_used(pattern):
    instead, allowed = WORDS[pattern]
    found = places(pattern)
    assert len(found) <= allowed, f"write {instead!r} in\n" + "\n".join(found)


def test_words_are_found_in_any_case_and_only_whole():
    found = re.compile(rf"\b(?:{next(iter(WORDS))})\b", re.IGNORECASE)
    assert [bool(found.search(text)) for text in ("A Picture.", "pictures", "picture_files", "image")] == [1, 1, 0, 0]
