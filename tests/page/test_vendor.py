"""The JavaScript libraries in the page are those that npm brings, and their licences lie beside them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from browser import NODE

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "src" / "oddsight" / "serve" / "page"
_spec = importlib.util.spec_from_file_location("vendor_page", ROOT / "scripts" / "vendor_page.py")
assert _spec is not None
assert _spec.loader is not None
vendor_page = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(vendor_page)


@pytest.mark.skipif(not (NODE / "preact").is_dir(), reason="run 'npm ci' in tests/node")
def test_vendored_files_are_unchanged():
    for name, source in vendor_page.FILES.items():
        assert (PAGE / "vendor" / name).read_text() == vendor_page.vendored(source)
    assert (PAGE / "vendor" / "LICENSES.txt").read_text() == vendor_page.licences()


def test_every_library_has_its_licence():
    licences = (PAGE / "vendor" / "LICENSES.txt").read_text()
    assert {path.name for path in (PAGE / "vendor").iterdir()} == {*vendor_page.FILES, "LICENSES.txt"}
    for name in {source.split("/")[0] for source in vendor_page.FILES.values()}:
        assert re.search(rf"^{name} [0-9.]+ \((MIT|Apache-2.0)\)$", licences, re.MULTILINE)


def test_the_page_has_no_inline_script_and_names_no_other_host():
    html = (PAGE / "index.html").read_text()
    assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.DOTALL) == [""]
    assert not re.search(r"\s(on\w+|style)=", html)
    for path in PAGE.glob("*.*"):
        addresses = set(re.findall(r"https?://[^\s\"'`)<]+", path.read_text()))
        assert addresses <= {"http://www.w3.org/2000/svg"}, path


def test_modules_import_what_is_there():
    for path in PAGE.rglob("*.js"):
        for name in re.findall(r'(?:from ?|import\()"(\.[^"]+)"', path.read_text()):
            assert (path.parent / name).is_file(), f"{path.name} imports {name}"
