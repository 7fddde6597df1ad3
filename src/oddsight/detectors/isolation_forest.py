"""Isolation forest on whole-image embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from oddsight.detectors.detector import Detector, Reading, detector
from oddsight.detectors.features import FeatureStream
from oddsight.detectors.sampling import sample, sample_bytes, sample_count
from oddsight.graphs.building import IR_VERSION, OPSET, chain, piece
from oddsight.runtime.bounds import Count, Whole

if TYPE_CHECKING:
    from sklearn.tree import ExtraTreeRegressor

_TREES_OPSET = 3  # The version of the operators for classical models, `ai.onnx.ml`


@detector
@dataclass
class IsolationForest(Detector):
    """How few random cuts single an embedding out: ``2 ** (-mean path / expected path)``, between 0 and 1.

    Trees cut single channels at values within the normal range, so scales do not matter, and all that lies beyond the
    range of the normal images is equally odd however far. An embedding that lies within rounding of a cut may fall on
    either side of it.

    Attributes:
        trees: In the forest.
        tree_size: Embeddings that each tree is grown on, at most.
        sample_size: Embeddings that trees draw from, at most; beyond that, as many drawn at random.
    """

    name: ClassVar[str] = "isolation-forest"
    summary: ClassVar[str] = "how few random cuts separate the embedding from normal ones"
    paper: ClassVar[str] = "Liu et al., Isolation Forest, ICDM 2008"
    reads: ClassVar[Reading] = "embedding"

    trees: Count = 200
    tree_size: Annotated[int, Whole(2)] = 256
    sample_size: Annotated[int, Whole(2)] = 10000

    def learn(self, features: FeatureStream, *, memory: int, seed: int) -> None:
        """Grow the trees; see :meth:`Detector.fit`."""
        from sklearn import ensemble

        embeddings = sample(features, self.sample_size, seed)
        size = min(self.tree_size, len(embeddings))
        self.estimator_ = ensemble.IsolationForest(n_estimators=self.trees, max_samples=size, random_state=seed % 2**32)
        self.estimator_.fit(embeddings)

    def graph(self) -> onnx.ModelProto:
        channels = self.estimator_.n_features_in_
        expected = float(_expected_path(np.array([self.estimator_.max_samples_]))[0])
        forest = helper.make_node(
            "TreeEnsembleRegressor",
            ["embedding"],
            ["paths"],
            domain="ai.onnx.ml",
            n_targets=1,
            **_ensemble(self.estimator_.estimators_, 1 / (len(self.estimator_) * expected)),
        )
        inputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["N", channels])]
        outputs = [helper.make_tensor_value_info("paths", TensorProto.FLOAT, ["N", 1])]
        trees = helper.make_model(
            helper.make_graph([forest], "forest", inputs, outputs),
            ir_version=IR_VERSION,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", _TREES_OPSET)],
        )
        oddness = piece(
            """
            isolation (float[N, 1] paths) => (float[N] score) <int64[1] last = {1}, float two = {2}>
            {
                path = Squeeze (paths, last)
                negative = Neg (path)
                score = Pow (two, negative)
            }
            """
        )
        return chain([trees, oddness], ["score"])

    def memory_needed(self, shape: tuple[int, ...], count: int) -> int:
        """See :meth:`Detector.memory_needed`; stops growing at ``sample_size`` images."""
        rows, channels = sample_count(shape, count, self.sample_size), shape[0]
        nodes = self.trees * 2 * min(self.tree_size, rows)
        return sample_bytes(shape, count, self.sample_size) + 8 * rows * (channels + self.trees) + 500 * nodes


def _ensemble(trees: Sequence[ExtraTreeRegressor], share: float) -> dict[str, Any]:
    """Attributes of one ensemble of scikit-learn's trees that adds up ``share`` of each tree's path."""
    nodes: dict[str, list[NDArray[Any]]] = {}
    for number, tree in enumerate(one.tree_ for one in trees):
        leaf = tree.children_left < 0
        ids = np.arange(tree.node_count)
        parts = {
            "nodes_treeids": np.full(tree.node_count, number),
            "nodes_nodeids": ids,
            "nodes_featureids": np.where(leaf, 0, tree.feature),
            "nodes_values": np.where(leaf, 0, _rounded_down(tree.threshold)),
            "nodes_modes": np.where(leaf, "LEAF", "BRANCH_LEQ"),
            "nodes_truenodeids": np.where(leaf, 0, tree.children_left),
            "nodes_falsenodeids": np.where(leaf, 0, tree.children_right),
            "target_treeids": np.full(leaf.sum(), number),
            "target_nodeids": ids[leaf],
            "target_ids": np.zeros(leaf.sum(), np.int64),
            "target_weights": share
            * (_depths(tree.children_left, tree.children_right) + _expected_path(tree.n_node_samples))[leaf],
        }
        for name, values in parts.items():
            nodes.setdefault(name, []).append(values)
    return {name: np.concatenate(values).tolist() for name, values in nodes.items()}


def _rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """The float32 below or at each, which leaves every float32 on the side where it was."""
    nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _depths(left: NDArray[np.intp], right: NDArray[np.intp]) -> NDArray[np.float64]:
    """How many cuts lead to each node of a tree, whose children come after their parents."""
    depths = np.zeros(len(left))
    for node in np.flatnonzero(left >= 0):
        depths[[left[node], right[node]]] = depths[node] + 1
    return depths


def _expected_path(counts: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Cuts that single out one of so many points on average, as the paper gives it."""
    n = np.maximum(counts, 3).astype(np.float64)
    path = 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n
    return np.where(counts <= 1, 0.0, np.where(counts == 2, 1.0, path))
