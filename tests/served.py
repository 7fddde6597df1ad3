"""A service at work, in a thread of the tests, and clients of it."""

from __future__ import annotations

import io
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from PIL import Image

for _name in ("httpx", "fastapi", "httptools", "uvicorn", "python_multipart", "prometheus_client"):
    pytest.importorskip(_name, reason="the service needs oddsight[serve], and its tests httpx")

import httpx

from oddsight.serve.access import Access
from oddsight.serve.limits import Limits
from oddsight.serve.models import Models
from oddsight.serve.server import address, make_server, open_socket
from oddsight.serve.service import Service
from oddsight.serve.workspace import Retention, open_workspace


@contextmanager
def serving(
    models: Path,
    workspace: Path | None = None,
    *,
    limits: Limits | None = None,
    access: Access | None = None,
    retention: Retention | None = None,
) -> Iterator[httpx.Client]:
    """A client of a service, which ends with the block."""
    with ExitStack() as stack:
        kept = None if workspace is None else stack.enter_context(open_workspace(workspace, retention))
        service = Service(Models(models, kept, refuse), kept, limits or Limits(), access or Access())
        listening = stack.enter_context(open_socket("127.0.0.1", 0))
        server = make_server(service)
        thread = Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            with httpx.Client(base_url=address(listening), timeout=120) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join(60)


def refuse(text: object) -> None:
    raise AssertionError(text)


def png(pixels: np.ndarray | int, side: int = 16) -> bytes:
    """The file of an image, or of one grey value."""
    file = io.BytesIO()
    array = np.full((side, side, 3), pixels, np.uint8) if isinstance(pixels, int) else pixels
    Image.fromarray(array).save(file, "PNG")
    return file.getvalue()


def form(**images: bytes) -> list[tuple[str, tuple[str, bytes]]]:
    """Images by name, as httpx takes them."""
    return [("images", (name, content)) for name, content in images.items()]


def ended(client: httpx.Client, job: httpx.Response) -> dict[str, Any]:
    """A job once it has ended."""
    assert job.status_code == 200, job.text
    while True:
        found: dict[str, Any] = client.get(f"/api/jobs/{job.json()['id']}").json()
        if found["state"] not in ("queued", "running"):
            return found
        time.sleep(0.05)
