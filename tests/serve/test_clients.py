"""The clients in the documentation, and the description of what can be asked."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from served import png

ROOT = Path(__file__).parents[2]
EXPECTED = [("normal", 20), ("anomalous", 250)]


def example(language):
    text = (ROOT / "docs" / "serving.md").read_text()
    return re.search(rf"<!-- tested: {language} -->\n```{language}\n(.*?)```", text, re.DOTALL).group(1)


@pytest.fixture
def paths(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"nothing")
    for verdict, value in EXPECTED:
        (tmp_path / f"{verdict}.png").write_bytes(png(value))
    return [tmp_path / f"{name}.png" for name in ("normal", "anomalous", "broken")]


@pytest.mark.slow
@pytest.mark.parametrize(("language", "program"), [("python", sys.executable), ("javascript", shutil.which("node"))])
def test_clients(client, paths, tmp_path, language, program):
    if program is None:
        pytest.skip("needs node")
    script = tmp_path / ("client.py" if language == "python" else "client.js")
    script.write_text(example(language))
    service = str(client.base_url).rstrip("/")
    lines = subprocess.check_output([program, script, service, "parts", *paths], text=True, timeout=120).splitlines()
    assert lines[0].endswith("normal.png normal 1.000") or "normal.png normal" in lines[0]
    assert "anomalous.png anomalous 0.0" in lines[1]
    assert "not an image" in lines[2]


def test_the_description_is_complete(client):
    content = client.get("/openapi.json").json()
    for path, methods in content["paths"].items():
        for method, operation in methods.items():
            assert operation["description"], (method, path)
            assert operation["tags"], (method, path)
            assert {"401", "403", "413", "429"} <= set(operation["responses"])
            if method in ("post", "put", "patch") and path not in ("/api/uploads",):
                assert operation["requestBody"]["content"], (method, path)
    predict = content["paths"]["/api/models/{m}:predict"]["post"]
    assert set(predict["requestBody"]["content"]) == {"application/octet-stream", "image/*", "multipart/form-data"}
    json.dumps(content, allow_nan=False)


def test_the_page_of_the_description_loads_nothing(client):
    page = client.get("/docs")
    assert "/api/models/{m}:predict" in page.text
    assert not re.search(r"<script|<link|<img|src=|url\(", page.text)
    assert "https://" not in page.text


def test_the_documentation_names_every_topic(client):
    text = (ROOT / "docs" / "serving.md").read_text()
    for path in client.get("/openapi.json").json()["paths"]:
        topic = "/".join(path.replace(":", "/").split("/")[:3])
        assert topic.removesuffix("/{m}") in text or path.startswith(("/v2", "/api/status")), path
