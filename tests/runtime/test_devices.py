"""Where ONNX Runtime runs: the CPU, or what its build supports, and nothing in between."""

from __future__ import annotations

from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

import oddsight
from cli_files import assert_failed, run
from oddsight.backbones.extraction import _maker
from oddsight.errors import OddsightError
from oddsight.runtime import sessions
from tiny_model import tiny_model


@pytest.fixture(autouse=True)
def cpu_again():
    yield
    oddsight.set_device("cpu")


def fake_runtime(*started):
    """ONNX Runtime as a build for CUDA has it; ``started`` are the providers that its sessions get."""
    runtime = mock.MagicMock()
    runtime.get_available_providers.return_value = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    runtime.InferenceSession.return_value = SimpleNamespace(get_providers=lambda: list(started))
    return mock.patch.object(sessions, "import_onnxruntime", return_value=runtime)


def test_the_cpu_is_always_there():
    assert oddsight.available_devices()[0] == "cpu"
    oddsight.set_device("cpu")
    assert tiny_model().predict(np.zeros((8, 8, 3), np.uint8)).score == 0


@pytest.mark.parametrize("name", ["quantum", "", "\x1b[2J"])
def test_an_unknown_device_is_named_beside_those_available(name):
    with pytest.raises(OddsightError, match=r"^the device '.*' is not available: .* supports cpu.*\(--device\)$"):
        oddsight.set_device(name)
    assert sessions.device() == "cpu"


def test_a_device_is_tried_before_the_cpu():
    with fake_runtime("CUDAExecutionProvider", "CPUExecutionProvider") as imported:
        assert oddsight.available_devices() == ("cpu", "cuda")
        oddsight.set_device("cuda")
        sessions.session(b"", threads=1)
        providers = imported.return_value.InferenceSession.call_args.kwargs["providers"]
    assert providers == ["CUDAExecutionProvider", "CPUExecutionProvider"]


def test_a_device_that_does_not_start_is_an_error_and_not_the_cpu():
    with fake_runtime("CPUExecutionProvider"):
        oddsight.set_device("cuda")
        with pytest.raises(OddsightError, match="cannot start the device 'cuda': install its driver"):
            sessions.session(b"", threads=1)


def test_features_of_another_device_are_not_those_of_the_cpu():
    on_cpu = _maker("digest")
    with fake_runtime():
        oddsight.set_device("cuda")
        assert _maker("digest") != on_cpu
    oddsight.set_device("cpu")
    assert _maker("digest") == on_cpu


@pytest.mark.parametrize("command", [("predict", "model.onnx", "."), ("evaluate", "model.onnx", "."), ("fit", ".")])
def test_the_commands_refuse_a_device_that_is_not_there(command):
    output = ("-o", "new.onnx") if command[0] == "fit" else ()
    assert_failed(run(*command, *output, "--device", "quantum"), "'quantum'", "supports cpu")
