"""Requests that Schemathesis makes of the OpenAPI description never break the service."""

import subprocess
import sys
from pathlib import Path

import pytest

from served import serving

PROGRAM = Path(sys.executable).with_name("schemathesis")


@pytest.mark.slow
def test_no_request_breaks_the_service(models, tmp_path):
    if not PROGRAM.is_file():
        pytest.skip("needs schemathesis in the environment of the tests")
    with serving(models, tmp_path / "workspace") as client:
        command = [
            PROGRAM, "run", f"{client.base_url}openapi.json", "--url", str(client.base_url).rstrip("/"),
            "--checks", "not_a_server_error", "--phases", "examples,coverage", "--exclude-path-regex", "events",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=1800, check=False)
        assert done.returncode == 0, done.stdout
        statuses = {
            line.split('status="')[1][:3] for line in client.get("/metrics").text.splitlines() if 'status="' in line
        }
    assert not any(status.startswith("5") for status in statuses)
