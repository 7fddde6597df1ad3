"""The examples in docstrings and in the README run and give what they show."""

from __future__ import annotations

import doctest
import importlib
import re
import runpy
from pathlib import Path

import pytest
from PIL import Image

import oddsight
from textures import texture
from video_files import footage, write_video

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PACKAGE = SOURCE / "oddsight" / "__init__.py"
MODULES = [path for path in sorted(SOURCE.rglob("*.py")) if ">>>" in path.read_text(encoding="utf-8")]
SLOW = {PACKAGE: pytest.mark.slow}
"""Learns by the default method at its full size."""


def module_name(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def write_images(folder: Path, first: int, count: int, **options) -> None:
    folder.mkdir(parents=True)
    for number in range(count):
        Image.fromarray(texture(first + number, **options)).save(folder / f"{number:04d}.png")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The images and the model that examples speak of."""
    folder = tmp_path_factory.mktemp("examples")
    write_images(folder / "parts" / "good", 0, 24)
    write_images(folder / "test" / "good", 1000, 6)
    for name in ("test/bad", "masks", "new"):
        write_images(folder / name, 2000, 6, material="bark")
    write_images(folder / "animals" / "cat", 3000, 16)
    write_images(folder / "animals" / "dog", 4000, 16, material="bark")
    write_video(folder / "belt.mp4", footage(120))
    oddsight.fit(folder / "parts" / "good", method="knn", size=64, false_alarm_rate=0.05).save(folder / "parts.onnx")
    return folder


@pytest.fixture(autouse=True)
def here(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "path", [pytest.param(path, id=module_name(path), marks=SLOW.get(path, ())) for path in MODULES]
)
def test_examples_of_docstrings(path):
    module = importlib.import_module(module_name(path))
    examples = doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs={"oddsight": oddsight})
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for example in examples:
        runner.run(example)
    results = runner.summarize(verbose=False)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.slow
def test_the_example_of_the_readme(folder, tmp_path):
    write_images(folder / "parts" / "good" / "more", 100, 380)  # for its smallest rate
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.search(r"The same in Python:\n\n```python\n(.*?)```", text, re.DOTALL).group(1)
    script = tmp_path / "readme.py"
    script.write_text(code, encoding="utf-8")
    runpy.run_path(str(script))
