"""Finding images that look nearly the same, by a hash of 64 bits each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_TILE = 2048


def dhash(image: NDArray[np.uint8] | Image.Image) -> int:
    """The difference hash of an image: 64 bits that hardly change when it is resized or compressed.

    Bit by bit, row by row, it says where the grey image, reduced to 9 x 8 pixels, grows brighter from left to right.
    (N. Krawetz, "Kind of like that", 2013.) Of nearly constant images it says nothing.
    """
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX))
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def near_groups(hashes: NDArray[np.uint64], distance: int) -> list[list[int]]:
    """Group hashes so that each is within a Hamming distance of at least one other of its group.

    Every pair is compared, in square tiles, as a product of matrices of signs: some seconds for 50,000 hashes, in
    memory that grows with their number and not its square.

    Args:
        hashes: 64-bit hashes, ``[N]``.
        distance: Bits, 0..64.

    Returns:
        The positions in each group of two or more, both in rising order (groups by their first position).
    """
    if len(hashes) == 0:
        return []
    distinct, positions = np.unique(hashes, return_inverse=True)
    signs = np.unpackbits(distinct.view(np.uint8).reshape(-1, 8), axis=1).astype(np.float32) * 2 - 1
    least_agreement = 64 - 2 * distance  # each bit that differs turns a +1 of the product into a -1
    labels = np.arange(len(distinct))
    for top in range(0, len(distinct), _TILE):
        for left in range(top, len(distinct), _TILE):
            agreement = signs[top : top + _TILE] @ signs[left : left + _TILE].T
            # Most tiles hold no pair at all, and np.nonzero takes fifty times as long to find that out.
            rows, columns = np.divmod(np.flatnonzero(agreement >= least_agreement), agreement.shape[1])
            labels = _joined(labels, labels[rows + top], labels[columns + left])
    members: dict[int, list[int]] = {}
    for position, label in enumerate(labels[positions].tolist()):
        members.setdefault(label, []).append(position)
    return [group for group in members.values() if len(group) > 1]


def _joined(labels: NDArray[np.intp], ones: NDArray[np.intp], others: NDArray[np.intp]) -> NDArray[np.intp]:
    """Relabel so that each of the labels ``ones`` becomes the same as its partner in ``others``."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    apart = ones != others
    if not apart.any():
        return labels
    links = np.ones(int(apart.sum()), dtype=np.int8)
    graph = coo_array((links, (ones[apart], others[apart])), shape=(len(labels), len(labels)))
    relabelled: NDArray[np.intp] = connected_components(graph, directed=False)[1].astype(np.intp)
    return relabelled[labels]
