"""What each score is by its definition, in plain NumPy of 64 bits: slow, and with no thought for large numbers.

Each takes training embeddings, their labels, and a head (weights and bias), then the embeddings to score and their
logits, all float64.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats
from scipy.special import logsumexp, softmax
from sklearn.covariance import OAS
from sklearn.neighbors import NearestNeighbors


def energy(x):
    return -logsumexp(x, axis=1)


def without_highest(logits):
    """Softmax of all but the highest, descending, and what they leave to the highest: exact however small they are."""
    descending = -np.sort(-logits, axis=1)
    shares = np.exp(descending - descending[:, :1])
    return shares / shares.sum(axis=1, keepdims=True), shares[:, 1:].sum(axis=1) / shares.sum(axis=1)


def msp(train, labels, head, x, logits):
    return without_highest(logits)[1]


def max_logit(train, labels, head, x, logits):
    return -logits.max(axis=1)


def free_energy(train, labels, head, x, logits):
    return energy(logits)


def entropy(train, labels, head, x, logits):
    p, rest = without_highest(logits)
    products = p[:, 1:] * np.log(np.maximum(p[:, 1:], 1e-300))
    return -products.sum(axis=1) - p[:, 0] * np.log1p(-rest)


def gen(train, labels, head, x, logits, top=100):
    p, rest = without_highest(logits)
    against = np.concatenate([rest[:, None], 1 - p[:, 1:]], axis=1)
    return (p**0.1 * against**0.1)[:, :top].sum(axis=1)


def odin(train, labels, head, x, logits):
    p = softmax(logits / 1000, axis=1)
    return -1000 * np.log(logits.shape[1] * p.max(axis=1))


def _precision(residuals):
    scale = np.maximum(residuals.std(axis=0), 1e-6)
    estimated = OAS(assume_centered=True).fit(residuals / scale)
    return np.linalg.inv(estimated.covariance_) / np.outer(scale, scale)


def _squared(away, precision):
    return np.einsum("...i,ij,...j->...", away, precision, away)


def mahalanobis(train, labels, head, x, logits):
    means = {one: train[labels == one].mean(axis=0) for one in np.unique(labels)}
    precision = _precision(np.stack([row - means[one] for row, one in zip(train, labels, strict=True)]))
    return np.min([_squared(x - mean, precision) for mean in means.values()], axis=0)


def relative_mahalanobis(train, labels, head, x, logits):
    mean = train.mean(axis=0)
    return mahalanobis(train, labels, head, x, logits) - _squared(x - mean, _precision(train - mean))


def _unit(x):
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def knn(train, labels, head, x, logits):
    neighbours = NearestNeighbors(n_neighbors=min(10, len(train)), algorithm="brute").fit(_unit(train))
    index = neighbours.kneighbors(_unit(x), return_distance=False)[:, -1]
    return np.linalg.norm(_unit(x) - _unit(train)[index], axis=1)


def _confidence(logits):
    return -energy(logits - logits.mean(axis=1, keepdims=True))


def nnguide(train, labels, head, x, logits):
    bank = _unit(train) * _confidence(train @ head[0] + head[1])[:, None]
    guidance = np.sort(_unit(x) @ bank.T, axis=1)[:, -10:].mean(axis=1)
    return -_confidence(logits) * guidance


def vim(train, labels, head, x, logits):
    weights, bias = head
    origin = np.linalg.lstsq(weights.T, -bias, rcond=1e-5)[0]
    _, singular, directions = np.linalg.svd(train - origin, full_matrices=True)
    rank, dimensions = int((singular > 1e-5 * singular[0]).sum()), train.shape[1] // 2
    beside = directions[dimensions if dimensions < rank else rank // 2 :].T
    alpha = abs((train @ weights + bias).max(axis=1).mean()) / np.linalg.norm((train - origin) @ beside, axis=1).mean()
    return alpha * np.linalg.norm((x - origin) @ beside, axis=1) + energy(logits)


def react(train, labels, head, x, logits):
    return energy(np.minimum(x, np.percentile(train, 90)) @ head[0] + head[1])


def ash(train, labels, head, x, logits):
    shaped = np.zeros_like(x)
    left = x.shape[1] - int(0.9 * x.shape[1])
    for row, out in zip(np.maximum(x, 0), shaped, strict=True):
        largest = np.argsort(row)[-left:]
        if row[largest].sum() > 0:
            out[largest] = row[largest] * np.exp(row.sum() / row[largest].sum())
    return energy(shaped @ head[0] + head[1])


def dice(train, labels, head, x, logits):
    contributions = train.mean(axis=0)[:, None] * head[0]
    return energy(x @ np.where(contributions > np.percentile(contributions, 90), head[0], 0) + head[1])


def _typical(train, labels, head):
    """Indices of the training images of each class that stand for it."""
    predicted = (train @ head[0] + head[1]).argmax(axis=1)
    for one in range(head[0].shape[1]):
        correct = np.flatnonzero((labels == one) & (predicted == one))
        yield correct if len(correct) else np.flatnonzero(labels == one)


def she(train, labels, head, x, logits):
    means = [train[rows].mean(axis=0) if len(rows) else train.mean(axis=0) for rows in _typical(train, labels, head)]
    return -np.array([row @ means[one] for row, one in zip(x, logits.argmax(axis=1), strict=True)])


def kl_matching(train, labels, head, x, logits):
    of_training = softmax(train @ head[0] + head[1], axis=1)
    predicted = of_training.argmax(axis=1)
    templates = [of_training[predicted == one].mean(axis=0) for one in np.unique(predicted)]
    p = softmax(logits, axis=1)
    log_p = logits - logsumexp(logits, axis=1, keepdims=True)
    return np.min([(p * (log_p - np.log(np.maximum(one, 1e-12)))).sum(axis=1) for one in templates], axis=0)


def _weibull(distances):
    """By the equation that the likeliest shape solves."""
    if len(distances) < 5 or distances.min() <= 0 or np.ptp(distances) < 1e-3 * distances.mean():
        return None
    y = np.log(distances / distances.max())

    def slope(k):
        return (np.exp(k * y) * y).sum() / np.exp(k * y).sum() - 1 / k - y.mean()

    shape = optimize.brentq(slope, 1e-3, 1e6)
    return shape, distances.max() * np.exp(shape * y).mean() ** (1 / shape)


def openmax(train, labels, head, x, logits, tail=5):
    of_training = train @ head[0] + head[1]
    of_training -= of_training.min(axis=1, keepdims=True)
    rows = list(_typical(train, labels, head))
    means = [of_training[one].mean(axis=0) if len(one) else None for one in rows]
    tails = [
        np.sort(np.linalg.norm(of_training[one] - mean, axis=1))[-tail:] if len(one) else np.array([])
        for one, mean in zip(rows, means, strict=True)
    ]
    together = _weibull(np.concatenate(tails)) or (1.0, max(np.concatenate(tails).max(), 1e-6))
    fitted = [_weibull(tail) or together for tail in tails]
    odds = []
    count = min(3, logits.shape[1])
    for row in logits - logits.min(axis=1, keepdims=True):
        known, unknown = row.copy(), 0.0
        for rank, one in enumerate(np.argsort(-row, kind="stable")[:count]):
            if means[one] is not None:
                shape, scale = fitted[one]
                doubt = stats.weibull_min.cdf(np.linalg.norm(row - means[one]), shape, scale=scale)
                lost = row[one] * doubt * (count - rank) / count
                known[one] -= lost
                unknown += lost
        odds.append(unknown - logsumexp(known))
    return np.array(odds)


def fdbd(train, labels, head, x, logits):
    weights = head[0].T
    mean, scores = train.mean(axis=0), []
    for row, own in zip(x, logits, strict=True):
        best = own.argmax()
        distances = [
            (own[best] - own[other]) / np.linalg.norm(weights[best] - weights[other])
            for other in range(len(own))
            if other != best
        ]
        scores.append(-np.mean(distances) / np.linalg.norm(row - mean))
    return np.array(scores)


REFERENCES = {
    "ash": ash,
    "dice": dice,
    "energy": free_energy,
    "entropy": entropy,
    "fdbd": fdbd,
    "gen": gen,
    "kl-matching": kl_matching,
    "knn": knn,
    "mahalanobis": mahalanobis,
    "max-logit": max_logit,
    "msp": msp,
    "nnguide": nnguide,
    "odin": odin,
    "openmax": openmax,
    "react": react,
    "relative-mahalanobis": relative_mahalanobis,
    "she": she,
    "vim": vim,
}
