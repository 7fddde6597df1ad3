"""Running graphs in ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import ModelError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


def import_onnxruntime() -> ModuleType:
    """ONNX Runtime, without its telemetry unless ``ORT_DISABLE_TELEMETRY`` says so: nothing else here imports it.

    Otherwise some of its builds leave a device id and a queue of events in the user's home.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    return onnxruntime  # type: ignore[no-any-return]


def session(content: bytes, *, threads: int) -> InferenceSession:
    """Load a serialised graph for scoring on the CPU. A session may be run from several threads at once.

    Args:
        content: The model's bytes.
        threads: Processors that one run uses.

    Raises:
        ModelError: If ONNX Runtime refuses the graph.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    # Pictures differ in size from one run to the next: planned and pooled memory would only grow.
    options.enable_mem_pattern = False
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise ModelError(f"ONNX Runtime refuses the graph: {str(error).splitlines()[0][:200]}") from error


def run(
    loaded: InferenceSession, feed: Mapping[str, NDArray[np.generic]], what: str, outputs: list[str] | None = None
) -> list[Any]:
    """Run a graph on what was made of one picture.

    Args:
        loaded: The session.
        feed: Its inputs by name, such as ``image`` uint8 ``[1, H, W, 3]``.
        what: The picture's name, for the error.
        outputs: Names of the outputs wanted; all by default.

    Raises:
        ModelError: If ONNX Runtime fails, such as for want of memory.
    """
    try:
        return list(loaded.run(outputs, dict(feed)))
    except Exception as error:  # ONNX Runtime's exceptions share no public base class
        raise ModelError(f"the graph failed on {what}: {str(error).splitlines()[0][:200]}") from error
