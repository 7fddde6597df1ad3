"""A model that OpenVINO runs; needs the ``openvino`` extra."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oddsight.errors import OddsightError
from oddsight.model.metadata import KEY
from oddsight.model.model import Model
from oddsight.runtime.files import write_bytes
from oddsight.runtime.parallel import cores, interruptible

_IMPORTING = Lock()


def import_openvino() -> ModuleType:
    """OpenVINO, without its telemetry, and ready for threads: nothing else here imports it."""
    # Without this package it is silent; with it, it sends an event to Google Analytics when it is imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
    except ImportError as error:
        raise OddsightError("OpenVINO is not installed: pip install 'oddsight[openvino]'") from error
    with _IMPORTING:
        # The first array prepares its bindings to NumPy. Two threads that do so at once wait for each other for ever.
        openvino.Tensor(np.zeros(1, np.float32))
    return openvino  # type: ignore[no-any-return]


class OpenvinoModel(Model):
    """A model whose scores come from running its OpenVINO form, an ``.xml`` and a ``.bin`` file.

    Its bytes are those of the ONNX file that it is made of.
    """

    @cached_property
    def files(self) -> tuple[bytes, bytes]:
        """The bytes of the ``.xml`` and of the ``.bin`` file; the metadata is in the first."""
        openvino = import_openvino()
        try:
            model = openvino.Core().read_model(self.to_bytes())
            _keep_antialiasing(model)
            model.set_rt_info(self.metadata.to_json(), [KEY])
            with TemporaryDirectory() as folder:
                structure, weights = Path(folder) / "model.xml", Path(folder) / "model.bin"
                openvino.save_model(model, structure, compress_to_fp16=False)
                return structure.read_bytes(), weights.read_bytes()
        except RuntimeError as error:  # where it failed, and then why
            reason = " ".join(str(error).splitlines()[1:])[:200]
            raise OddsightError(f"OpenVINO cannot convert the graph: {reason}") from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ``.xml`` file, and the ``.bin`` file beside it.

        Raises:
            OddsightError: The name does not end in ``.xml``, or a file cannot be written.
        """
        structure, weights = self.files
        write_bytes(weights_path(path), weights)
        write_bytes(path, structure)

    @cached_property
    def _session(self) -> Any:  # noqa: ANN401 - takes the place of ONNX Runtime's
        return _Session(*self.files, threads=cores())

    @cached_property
    def _session_for_many(self) -> Any:  # noqa: ANN401
        return _Session(*self.files, threads=1)


def weights_path(path: str | os.PathLike[str]) -> Path:
    """The ``.bin`` file that belongs to an ``.xml`` file."""
    if Path(path).suffix.lower() != ".xml":
        raise OddsightError(f"{path}: an OpenVINO model is an .xml and a .bin file: give a name that ends in .xml")
    return Path(path).with_suffix(".bin")


class _Session:
    """OpenVINO behind what :func:`oddsight.runtime.sessions.run` takes of a session of ONNX Runtime."""

    def __init__(self, structure: bytes, weights: bytes, *, threads: int) -> None:
        core = import_openvino().Core()
        # Otherwise it computes in bfloat16 where the processor can.
        options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        model = core.read_model(model=structure, weights=weights)
        self._compiled = interruptible(lambda: core.compile_model(model, "CPU", options))
        self._names = [output.get_any_name() for output in self._compiled.outputs]
        self._idle: list[Any] = []

    def get_outputs(self) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=name) for name in self._names]

    def run(self, names: list[str] | None, feed: dict[str, NDArray[Any]], options: object) -> list[NDArray[Any]]:
        request = self._idle.pop() if self._idle else self._compiled.create_infer_request()
        outputs = request.infer(feed)
        values = [np.array(outputs[name]) for name in names or self._names]
        self._idle.append(request)
        return values


def _keep_antialiasing(model: Any) -> None:  # noqa: ANN401
    """Resize the image as Pillow does, in place: OpenVINO's form of the ONNX operator leaves the antialiasing out."""
    openvino = import_openvino()
    for node in model.get_ordered_ops():
        if node.get_type_name() == "Interpolate" and node.get_attributes()["antialias"]:
            image, size, axes = node.input_values()
            resized = openvino.opset11.interpolate(image, size, "bilinear_pillow", "sizes", axes=axes)
            openvino.utils.replace_node(node, resized)
    model.validate_nodes_and_infer_types()
