"""Running the command line in this process or in one of its own, and the files that its tests are about."""

from __future__ import annotations

import io
import json
import os
import signal
import struct
import subprocess
import sys
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import numpy as np
import pytest
import typer
from PIL import Image

from oddsight import __main__ as cli
from textures import texture, write_textures

# Typer builds every command anew at each call, which takes longer than most of what is tested.
typer.main.get_command = cache(typer.main.get_command)

SIDE = 48
"""Of the test images, in pixels."""


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return strict_json(self.out)

    @property
    def lines(self) -> list[Any]:
        return [strict_json(line) for line in self.out.splitlines()]


def strict_json(text: str | bytes) -> Any:
    """JSON without NaN and Infinity, which other languages do not take."""

    def refuse(word: str) -> NoReturn:
        raise AssertionError(f"{word} is not JSON")

    return json.loads(text, parse_constant=refuse)


def json_lines(path: Path) -> list[Any]:
    return [strict_json(line) for line in path.read_text().splitlines()]


def run(*args: object) -> Outcome:
    """Run a command in this process, as the console script does."""
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="") for _ in range(2)]
    before = signal.getsignal(signal.SIGTERM)
    try:
        with (
            mock.patch.object(sys, "argv", ["oddsight", *map(str, args)]),
            mock.patch.object(sys, "stdout", streams[0]),
            mock.patch.object(sys, "stderr", streams[1]),
            warnings.catch_warnings(),
            pytest.raises(SystemExit) as end,
        ):
            cli.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    texts = []
    for stream in streams:
        stream.flush()
        texts.append(stream.buffer.getvalue().decode())
    return Outcome(int(end.value.code or 0), *texts)


def environment(**changes: str) -> dict[str, str]:
    """This environment without what changes how Python and Rich write."""
    unwanted = {"PYTHONUNBUFFERED", "PYTHONIOENCODING", "PYTHONUTF8", "COLUMNS", "NO_COLOR", "LC_ALL", "LC_CTYPE"}
    unwanted |= {"FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "LANG", "PYTHONCOERCECLOCALE"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return kept | {"LANG": "C.UTF-8"} | changes


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "oddsight", *map(str, args)]


def spawn(*args: object, env: dict[str, str] | None = None, **options: Any) -> Outcome:
    """Run a command in a process of its own."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    done = subprocess.run(command(*args), env=env or environment(), timeout=120, check=False, **streams)
    return Outcome(done.returncode, *((text or b"").decode() for text in (done.stdout, done.stderr)))


def start(*args: object, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[bytes]:
    """Start a command in a process of its own that can be interrupted, whatever this one ignores."""
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "preexec_fn": heed_signals}
    streams |= options
    return subprocess.Popen(command(*args), env=env or environment(), **streams)


def heed_signals() -> None:
    """Undo what a shell does to the processes that it starts in the background: they ignore interruptions."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


def assert_failed(outcome: Outcome, *words: object, code: int = 1) -> None:
    """One line that says what is wrong, and nothing else."""
    assert "Traceback" not in outcome.err, outcome.err
    assert outcome.code == code, outcome
    assert outcome.out == ""
    assert outcome.err.startswith("error: ")
    assert outcome.err.count("\n") == 1
    assert outcome.err.endswith("\n")
    for word in words:
        assert str(word) in outcome.err


def error_lines(outcome: Outcome) -> list[str]:
    assert "Traceback" not in outcome.err, outcome.err
    return [line for line in outcome.err.splitlines() if line.startswith("error: ")]


@dataclass(frozen=True)
class World:
    """Folders of images and models fitted on them, made once."""

    root: Path

    @property
    def good(self) -> Path:
        """24 images, which the models were fitted on."""
        return self.root / "good"

    @property
    def normal(self) -> Path:
        """8 others like them."""
        return self.root / "mvtec" / "test" / "good"

    @property
    def anomalous(self) -> Path:
        """4 with a blot, in ``blot``, and 4 of another material, in ``bark``."""
        return self.root / "anomalous"

    @property
    def mvtec(self) -> Path:
        """All these in MVTec AD's layout, with masks for ``blot``."""
        return self.root / "mvtec"

    @property
    def masks(self) -> Path:
        return self.mvtec / "ground_truth"

    @property
    def model(self) -> Path:
        """PatchCore."""
        return self.root / "patchcore.onnx"

    @property
    def knn(self) -> Path:
        """A method that cannot say where."""
        return self.root / "knn.onnx"


def make_world(root: Path) -> World:
    world = World(root)
    write_textures(world.good, range(24), width=SIDE, height=SIDE)
    write_textures(world.normal, range(100, 108), width=SIDE, height=SIDE)
    for parent in (world.anomalous, world.mvtec / "test"):
        write_textures(parent / "blot", range(200, 204), width=SIDE, height=SIDE, blot=True)
        write_textures(parent / "bark", range(300, 304), width=SIDE, height=SIDE, material="bark")
    (world.masks / "blot").mkdir(parents=True)
    for seed in range(200, 204):
        changed = texture(seed, SIDE, SIDE, blot=True) != texture(seed, SIDE, SIDE)
        mask = Image.fromarray(255 * changed.any(axis=2).astype(np.uint8))
        mask.save(world.masks / "blot" / f"{seed:05d}_mask.png")
    for path, method in ((world.model, "patchcore"), (world.knn, "knn")):
        outcome = run("fit", world.good, "-o", path, "--method", method, "--size", 32, "--quiet")
        assert outcome == Outcome(0, "", ""), outcome
    return world


def many_links(folder: Path, image: Path, count: int) -> Path:
    """A folder of many images that takes little space."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:05d}.png").symlink_to(image)
    return folder


def bomb(width: int, height: int) -> bytes:
    """A PNG whose header promises far more pixels than it holds."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@contextmanager
def ordinary_user() -> Iterator[None]:
    """Drop root's right to read and write everything; for anyone else, nothing changes."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


@contextmanager
def public_folder() -> Iterator[Path]:
    """A folder that anyone may look into and write to, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o777)
        yield folder
