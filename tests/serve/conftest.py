"""What tests of the service share. They are skipped where the service is not installed; see ``served.py``."""

import pytest

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
    from served import serving

    with serving(models, tmp_path_factory.mktemp("workspace")) as found:
        yield found
