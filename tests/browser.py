"""A real browser, and a real service for it, as a person has them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), "")

NODE = Path(__file__).parent / "node" / "node_modules"
"""What ``npm ci`` brings."""


def missing(*modules: str) -> str:
    """Why tests in a browser cannot run here; empty if they can."""
    if not CHROMIUM:
        return "Chromium is not installed"
    absent = [name for name in ("playwright", *modules) if find_spec(name) is None]
    return f"{', '.join(absent)} not installed" if absent else ""


SERVED = ("fastapi", "httptools", "uvicorn", "python_multipart", "prometheus_client")

needs_browser = pytest.mark.skipif(bool(missing()), reason=missing() or "-")
needs_service = pytest.mark.skipif(bool(missing(*SERVED)), reason=missing(*SERVED) or "-")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        # Its own sandbox needs rights that root in a container does not have.
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if os.name == "posix" else [])
        yield browser
        browser.close()


def await_answer(address: str, seconds: float = 60) -> None:
    """Wait until a service answers: its address is known a little earlier."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urlopen(address, timeout=seconds):
                return
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


@contextmanager
def running_service(models: Path, workspace: Path | None = None, *options: object) -> Iterator[str]:
    """The address of ``oddsight serve``, which ends with the block."""
    kept = [] if workspace is None else ["--workspace", workspace]
    command = [sys.executable, "-m", "oddsight", "serve", models, "--port", "0", *kept, *options]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if "serving at" in line:
                break
        address = line.split()[-1]
        await_answer(f"{address}v2/health/live")
        yield address
    finally:
        process.terminate()
        process.stderr.close()
        process.wait(600)  # a busy machine may take its time
