"""A model that learns new images on top of what it knows, without the old ones: its memory bank grows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from oddsight.backbones.extraction import Extraction
from oddsight.data.collection import ImageFile, merged, pack
from oddsight.detectors import Detector
from oddsight.fitting.assembly import with_metadata
from oddsight.graphs.building import pruned
from oddsight.model.model import Model
from oddsight.runtime.executor import map_jobs
from oddsight.runtime.progress import Progress, track
from oddsight.runtime.sessions import Graph


def grow(model: Model, detector: Detector, images: Sequence[ImageFile], progress: Progress) -> Model:
    """The model with patches or embeddings of more images in its bank; its calibration scores stay.

    A score is a distance to the nearest in the bank, so with more of them no score rises: those of the calibration
    images are upper bounds of what they would be now. P-values and the rate of the threshold therefore stay valid, and
    are a little more careful than they need to be.

    Args:
        model: As fitted.
        detector: Of its kind and settings; see :meth:`Detector.grow`.
        images: New ones; none is used for calibration.
        progress: Called with phase, done and total.

    Raises:
        OddsightError: The bank would become larger than twice what its settings say.
    """
    proto = onnx.load_model_from_string(model.to_bytes())
    tensors = {tensor.name.split("/")[-1]: tensor for tensor in proto.graph.initializer if detector.name in tensor.name}
    constants = {name: numpy_helper.to_array(tensor) for name, tensor in tensors.items()}
    features = _OwnFeatures(model, detector.reads, images, progress)
    share = len(images) / max(1, model.metadata.training.images)
    for name, array in detector.grow(constants, features, share, seed=model.metadata.training.seed).items():
        whole = tensors[name].name
        tensors[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), whole))
    training, contents = model.metadata.training, "".join(image.content for image in images)
    changes = {
        "images": training.images + len(images),
        "images_seen": merged(training.images_seen, pack(images)),
        "fingerprint": hashlib.sha256(f"{training.fingerprint}{contents}".encode()).hexdigest(),
    }
    metadata = model.metadata.model_copy(update={"training": training.model_copy(update=changes)})
    return with_metadata(Model, proto.SerializeToString(deterministic=True), metadata)


class _OwnFeatures:
    """Features of images as the model's own graph computes them; a stream for detectors."""

    def __init__(self, model: Model, reading: str, images: Sequence[ImageFile], progress: Progress) -> None:
        proto = onnx.load_model_from_string(model.to_bytes())
        names = (name for node in proto.graph.node for name in node.output)
        inside = next(name for name in names if name.split("/")[-1] == reading)
        proto.graph.output.append(helper.make_tensor_value_info(inside, onnx.TensorProto.FLOAT, None))
        self.extract = Extraction(Graph(pruned(proto, [inside]).SerializeToString), "", (), None)
        self.images, self.progress = images, progress
        self.shape = self.extract(images[0]).shape

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return track(map_jobs(self.extract, self.images), "learning", len(self.images), self.progress)
