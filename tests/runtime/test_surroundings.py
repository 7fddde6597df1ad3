"""Users without a home, and what ONNX Runtime does in one."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import oddsight
from cli_files import command, environment
from oddsight.backbones.cache import default_cache, user_folder
from oddsight.backbones.exports import export_path, kept_exports
from oddsight.errors import OddsightError
from oddsight.runtime.sessions import import_onnxruntime
from textures import write_textures
from tiny_model import tiny_model

SOURCE = Path(oddsight.__file__).parent

NOBODY = """
import os, pwd, sys
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
sys.argv[0] = "oddsight"
from oddsight.__main__ import main
main()
"""
"""The command as a user whose number no system knows, as in a container."""


@pytest.fixture
def world(tmp_path):
    write_textures(tmp_path / "images", range(8), width=32, height=32)
    tiny_model().save(tmp_path / "m.onnx")
    return tmp_path


def without(*names, **changes):
    return {name: value for name, value in environment(**changes).items() if name not in names}


@pytest.mark.slow
def test_a_prediction_leaves_nothing_at_home(world):
    home = world / "home"
    home.mkdir()
    # What ONNX Runtime takes for a sign of a machine without people, too.
    surroundings = without("CI", "ORT_DISABLE_TELEMETRY", "GITHUB_ACTIONS", "TF_BUILD", HOME=str(home))
    arguments = command("predict", world / "m.onnx", world / "images", "--quiet")
    for place in (str(home), os.devnull):
        done = subprocess.run(
            arguments, env=surroundings | {"HOME": place}, capture_output=True, check=True, timeout=60
        )
        assert done.stderr == b""
        assert len(done.stdout.splitlines()) == 9
    assert list(home.rglob("*")) == []


def test_what_the_user_set_stays(monkeypatch):
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY")
    import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"


def imports_onnxruntime(tree: ast.AST) -> bool:
    """Whether a module imports it when it runs, rather than for its types."""
    types = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    skipped = {id(node) for one in types for node in ast.walk(one)}
    for node in ast.walk(tree):
        if id(node) not in skipped and isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if any(name.split(".")[0] == "onnxruntime" for name in names):
                return True
    return False


@pytest.mark.slow
def test_it_is_imported_in_one_place():
    found = [path for path in SOURCE.rglob("*.py") if imports_onnxruntime(ast.parse(path.read_text()))]
    assert found == [SOURCE / "runtime" / "sessions.py"]


@pytest.mark.parametrize(
    "home", [None, pytest.param("", marks=pytest.mark.slow), pytest.param("relative", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param("fit images -o new.onnx --size 32 --method knn --quiet", marks=pytest.mark.slow),
        "backbones --json",
        "predict m.onnx images --json lines",
    ],
)
@pytest.mark.slow
def test_a_user_without_a_home(world, home, arguments):
    surroundings = without("HOME", "ODDSIGHT_CACHE", "ODDSIGHT_BACKBONES", "XDG_CACHE_HOME")
    surroundings |= {"HOME": home} if home is not None else {}
    done = subprocess.run(
        [sys.executable, "-c", NOBODY, *arguments.split()],
        env=surroundings | {"PYTHONPATH": str(SOURCE.parent)},
        cwd=world,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert b"error" not in done.stderr
    assert {path.name for path in world.iterdir()} <= {"images", "m.onnx", "new.onnx", "new.normals.zip", "lines"}


@pytest.mark.parametrize("fault", [RuntimeError("no home"), KeyError("uid"), Path("~/.cache/oddsight")])
def test_without_a_home_nothing_is_cached(monkeypatch, fault):
    def place(name):
        if isinstance(fault, Path):
            return fault
        raise fault

    monkeypatch.setattr("platformdirs.user_cache_path", place)
    for name in ("ODDSIGHT_CACHE", "ODDSIGHT_BACKBONES"):
        monkeypatch.delenv(name, raising=False)
    assert user_folder() is None
    assert default_cache() is None
    assert list(kept_exports()) == []
    with pytest.raises(OddsightError, match=r"no home folder .* ODDSIGHT_BACKBONES"):
        export_path("resnet50")
    monkeypatch.setenv("ODDSIGHT_CACHE", "/somewhere")
    monkeypatch.setenv("ODDSIGHT_BACKBONES", "/elsewhere")
    assert default_cache().folder == Path("/somewhere")
    assert export_path("resnet50") == Path("/elsewhere/resnet50.onnx")


def test_the_same_scores_as_ever():
    image = np.full((8, 8, 3), 90, np.uint8)
    assert tiny_model().predict(image).score == 90


def test_only_cores_counts_processors():
    """That a process may not use all that a machine has is known in one place."""
    for path in SOURCE.rglob("*.py"):
        assert path.name == "parallel.py" or "cpu_count" not in path.read_text(), path
