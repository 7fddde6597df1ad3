"""What tests of the service share."""

import pytest

for _name in ("fastapi", "uvicorn", "python_multipart", "prometheus_client", "httpx"):
    pytest.importorskip(_name, reason="the service needs oddsight[serve], and its tests httpx")

from served import serving
from tiny_model import tiny_model


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """A folder with one tiny model."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model().save(folder / "parts.onnx")
    return folder


@pytest.fixture(scope="module")
def client(models, tmp_path_factory):
    """Of a service with a workspace."""
    with serving(models, tmp_path_factory.mktemp("workspace")) as found:
        yield found
