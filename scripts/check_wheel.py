"""Build the source archive and the wheel into ``dist``, and try the wheel as a user would.

The wheel must hold every file of the package. It is installed in an environment of its own, outside the repository, and
runs the demo there:

    python scripts/check_wheel.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DIST = ROOT / "dist"
PACKAGE = ROOT / "src" / "oddsight"
CONSTRAINTS = ROOT / "constraints.txt"


def make_environment(folder: Path, *requirements: str | Path) -> Path:
    """Create an environment, install into it, and return its Python."""
    venv.create(folder, with_pip=True)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    quiet = ["--quiet", "--disable-pip-version-check", "--constraint", str(CONSTRAINTS)]
    run(python, "-m", "pip", "install", *quiet, *requirements)
    return python


def run(python: Path, *arguments: str | Path, cwd: Path | None = None) -> None:
    """Run Python without what this one's environment says about where to import from."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    subprocess.run([python, *arguments], check=True, cwd=cwd, env=environment)


def build(python: Path) -> Path:
    """Build both archives and return the wheel."""
    shutil.rmtree(DIST, ignore_errors=True)
    run(python, "-m", "build", "--outdir", DIST, ROOT)
    (wheel,) = DIST.glob("*.whl")
    return wheel


def check_files(wheel: Path) -> None:
    """Stop if a file of the package is not in the wheel: code, types, templates, weights."""
    ours = {
        path.relative_to(PACKAGE.parent).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    if ours != packed:
        sys.exit(f"error: {wheel.name} lacks {sorted(ours - packed)} and has besides {sorted(packed - ours)}")
    print(f"{wheel.name} holds all {len(ours)} files of the package")


def try_wheel(wheel: Path, folder: Path) -> None:
    """Install the wheel in a new environment and run the demo with it."""
    python = make_environment(folder / "environment", wheel)
    where = "import oddsight; print('running', oddsight.__file__); assert 'site-packages' in oddsight.__file__"
    run(python, "-c", where, cwd=folder)
    run(python, ROOT / "examples" / "demo.py", folder / "demo", cwd=folder)


def main() -> None:
    """Build, check and try."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        wheel = build(make_environment(folder / "build", "build"))
        check_files(wheel)
        try_wheel(wheel, folder)
    print(f"the wheel runs; it lies in {DIST} beside the source archive")


if __name__ == "__main__":
    main()
