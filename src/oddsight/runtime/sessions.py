"""Running graphs in ONNX Runtime."""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import ImageError, ModelError, OddsightError, first_line, plain
from oddsight.runtime.parallel import interruptible, stoppable

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


CPU = "cpu"

_PROVIDERS = {
    CPU: "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "xnnpack": "XnnpackExecutionProvider",
}
"""What ONNX Runtime calls each device."""

_device = CPU


def import_onnxruntime(module: str = "onnxruntime") -> ModuleType:
    """ONNX Runtime or a module of it, without its telemetry unless ``ORT_DISABLE_TELEMETRY`` says so.

    Nothing else here imports it. Otherwise some of its builds leave a device id and a queue of events in the user's
    home.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime if module == onnxruntime.__name__ else importlib.import_module(module)


def available_devices() -> tuple[str, ...]:
    """The devices that the installed ONNX Runtime supports, ``cpu`` first."""
    available = import_onnxruntime().get_available_providers()
    return tuple(name for name, provider in _PROVIDERS.items() if provider in available)


def device() -> str:
    """The device in use, see :func:`set_device`."""
    return _device


def set_device(name: str) -> None:
    """Choose the device that ONNX Runtime runs graphs on, for the whole process; the CPU by default.

    It holds for models and backbones that have not scored an image yet. Scores on two devices may differ by rounding.

    Example:
        >>> oddsight.set_device("cpu")

    Args:
        name: ``cpu``, ``cuda``, ``tensorrt``, ``migraphx``, ``rocm``, ``directml``, ``coreml``, ``openvino`` or
            ``xnnpack``: each needs a build of ONNX Runtime for it, such as the package ``onnxruntime-gpu``.

    Raises:
        OddsightError: The installed ONNX Runtime does not support the device.
    """
    global _device  # noqa: PLW0603 - one for the process, as its limits on images are
    if name != CPU and name not in available_devices():
        raise OddsightError(
            f"the device {plain(name)!r} is not available: the installed ONNX Runtime supports "
            f"{', '.join(available_devices())}; install a build of it for the device, or choose another one (--device)"
        )
    _device = name


def session(content: bytes, *, threads: int) -> InferenceSession:
    """Load a serialised graph for scoring on the device in use. A session may be run from several threads at once.

    Args:
        content: The model's bytes.
        threads: Processors that one run uses.

    Raises:
        ModelError: If ONNX Runtime refuses the graph.
        OddsightError: If it cannot start the device.
    """
    onnxruntime = import_onnxruntime()
    providers = list(dict.fromkeys((_PROVIDERS[_device], _PROVIDERS[CPU])))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Images differ in size from one run to the next: planned and pooled memory would only grow.
    options.enable_mem_pattern = False
    try:
        # Which may compute for long, as constants are folded.
        loaded = interruptible(lambda: onnxruntime.InferenceSession(content, options, providers=providers))
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise ModelError(f"ONNX Runtime refuses the graph: {first_line(error)}") from error
    if loaded.get_providers()[0] != providers[0]:  # it falls back to the CPU without a word
        raise OddsightError(
            f"ONNX Runtime cannot start the device {_device!r}: install its driver and libraries, or choose another "
            "(--device)"
        )
    return loaded


class Graph:
    """A graph to run. It is loaded where and when it first runs, and pickles as its bytes.

    Args:
        serialize: Gives its bytes, so that they need not be kept beside the session.
        threads: Processors that one run uses.
    """

    def __init__(self, serialize: Callable[[], bytes], *, threads: int = 1) -> None:
        self._serialize, self._threads = serialize, threads
        self._loading = threading.Lock()
        self._session: InferenceSession | None = None

    def __reduce__(self) -> tuple[partial[Graph], tuple[Callable[[], bytes]]]:
        """Made of its bytes."""
        return partial(Graph, threads=self._threads), (partial(bytes, self._serialize()),)

    @property
    def session(self) -> InferenceSession:
        """Its session."""
        with self._loading:  # so that threads that start together load it once
            if self._session is None:
                self._session = session(self._serialize(), threads=self._threads)
            return self._session


def run(
    loaded: InferenceSession,
    feed: Mapping[str, NDArray[np.generic]],
    what: str,
    outputs: list[str] | None = None,
    *,
    seconds: float | None = None,
) -> list[Any]:
    """Run a graph on what was made of one image; Ctrl-C and :func:`oddsight.runtime.parallel.stop_all` end it.

    ``feed`` has its inputs by name, such as ``image`` uint8 ``[1, H, W, 3]``, and ``what`` is the image's name, for the
    error. By default all outputs are given.
    """
    options = import_onnxruntime().RunOptions()
    started = time.monotonic()

    def stop() -> None:
        options.terminate = True

    try:
        with stoppable(stop, seconds):
            return list(interruptible(lambda: loaded.run(outputs, dict(feed), options)))
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        if options.terminate and seconds is not None and time.monotonic() - started > seconds:
            raise ImageError(what, f"scoring it takes more than {seconds:g} seconds (--image-timeout)") from None
        raise ModelError(f"the graph failed on {what}: {first_line(error)}") from error
