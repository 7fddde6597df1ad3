"""What all tests share: a cache and backbones of their own, one thread for arithmetic, and models fitted once."""

from __future__ import annotations

import os

# The matrices of tests are small, and two suites run side by side: threads that wait for each other take several times
# as long as one. Must be set before NumPy and PyTorch are imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Some tests import ONNX Runtime themselves, to compare with it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from cli_files import World, make_world
from oddsight.detectors import DETECTORS, names
from textures import write_textures

# Where a change is judged, the same examples each time; elsewhere new ones, to find what those do not.
settings.register_profile("oddsight", derandomize=bool(os.environ.get("CI")), deadline=None)
# Of make test-fast: a fifth of the examples, where a test does not say how many it needs.
settings.register_profile("quick", settings.get_profile("oddsight"), max_examples=20)
settings.load_profile("oddsight")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep features and backbones in folders of this session, so that no test reads or fills the user's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ODDSIGHT_CACHE", str(folder))
        patch.delenv("ODDSIGHT_CACHE_LIMIT", raising=False)
        patch.setenv("ODDSIGHT_BACKBONES", str(tmp_path_factory.mktemp("backbones")))
        yield folder


@pytest.fixture(scope="session")
def normal_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 normal images."""
    folder = tmp_path_factory.mktemp("normal")
    write_textures(folder, range(60))
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """What most tests of the command line are about."""
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of exports."""
    monkeypatch.setenv("ODDSIGHT_BACKBONES", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture
def registry() -> Iterator[dict[Any, dict[str, Any]]]:
    """All detectors by kind and name; what a test registers is removed."""
    before = {kind: dict(known) for kind, known in DETECTORS.items()}
    yield DETECTORS
    for kind, known in before.items():
        DETECTORS[kind].clear()
        DETECTORS[kind].update(known)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: small networks are slower on more, above all where others compute too."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Skip on Windows what it has not."""
    if os.name == "nt" and item.get_closest_marker("posix"):
        item.add_marker(pytest.mark.skip(reason="needs what Windows does not have"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep tests that share fitted models in one process: those of a file, and of the contract those of a method."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file, _, case = nodeid.partition("::")
            if not file.endswith("test_contract.py"):
                return file
            return next((f"{file} {name}" for name in methods if name in case.partition("[")[2]), file)

    methods = sorted(names(), key=len, reverse=True)  # `patch-pca` before `pca`
    return Scheduling(config, log)
