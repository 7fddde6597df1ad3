"""Modules keep the names under which users were told to import them."""

import importlib
import subprocess
import sys

import pytest

from oddsight.runtime.moved import MOVED


@pytest.mark.parametrize("old", MOVED)
def test_old_names_have_what_the_new_modules_have(old):
    new = importlib.import_module(MOVED[old])
    with pytest.warns(DeprecationWarning) if old not in sys.modules else pytest.MonkeyPatch.context():
        module = importlib.import_module(old)
    for name in vars(new):
        if not name.startswith("_"):
            assert getattr(module, name) is getattr(new, name)
    assert new.__spec__.name == MOVED[old]


@pytest.mark.slow
def test_an_old_name_says_the_new_one():
    script = "from oddsight.images import read_image"
    outcome = subprocess.run(
        [sys.executable, "-W", "default", "-c", script], capture_output=True, text=True, check=True
    )
    assert "DeprecationWarning: oddsight.images is now oddsight.data.images" in outcome.stderr


def test_other_names_are_missing():
    with pytest.raises(ModuleNotFoundError, match="unknown_module"):
        importlib.import_module("oddsight.unknown_module")
