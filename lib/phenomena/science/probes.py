"""What a layer's features know: k-nearest-neighbour and linear probes, and invariance to augmentation."""

import torch
import torch.nn.functional as F
from torch import Tensor


def knn_predict(features: Tensor, labels: Tensor, queries: Tensor, k: int = 20, leave_one_out: bool = False) -> Tensor:
    """Majority label among the k nearest rows by cosine similarity; a tie goes to the smallest label.

    features: float (n, d); labels: int64 (n,), values >= 0; queries: float (m, d). Returns int64 (m,).
    leave_one_out: the queries are the features themselves and no row is its own neighbour.
    K = 20 and uniform votes as in Anagnostidis et al. (2023), official code. Raises `ValueError` for k outside
    1 .. n (n - 1 when leaving one out).
    """
    rows = len(features) - leave_one_out
    if not 1 <= k <= rows:
        raise ValueError(f"k is {k}: 1 to {rows} neighbours are there")
    reference = F.normalize(features, dim=1)
    classes = int(labels.max()) + 1
    predictions = []
    for start in range(0, len(queries), 1000):  # a chunk of similarities at a time bounds the memory
        similarity = F.normalize(queries[start : start + 1000], dim=1) @ reference.T
        if leave_one_out:
            similarity.diagonal(start).fill_(-torch.inf)
        nearest = labels[similarity.topk(k, dim=1).indices]  # (m, k)
        predictions.append(F.one_hot(nearest, classes).sum(1).argmax(1))
    return torch.cat(predictions)


def linear_predict(features: Tensor, labels: Tensor, queries: Tensor, ridge: float = 1e-2) -> Tensor:
    """Class of a ridge regression on one-hot labels, with standardised features and an intercept.

    features: float (n, d); labels: int64 (n,); queries: float (m, d). Returns int64 (m,). Solves
    min_W |XW - Y|^2 + ridge n |W|^2, in whichever of its primal and dual form is smaller.
    """
    mean, std = features.mean(0), features.std(0, correction=0).clamp(min=1e-6)
    x, q = ((t - mean).div(std).double() for t in (features, queries))
    y = F.one_hot(labels).double()
    offset = y.mean(0)
    n, d = x.shape
    penalty = ridge * n
    if d <= n:
        weights = torch.linalg.solve(x.T @ x + penalty * torch.eye(d).to(x), x.T @ (y - offset))
    else:
        weights = x.T @ torch.linalg.solve(x @ x.T + penalty * torch.eye(n).to(x), y - offset)
    return (q @ weights + offset).argmax(1)


def augmentation_distance(first: Tensor, second: Tensor) -> float:
    """Distance between two views of a sample relative to that between views of different samples.

    Q = E_x |h(ax) - h(a'x)|^2 / E_{x != x'} |h(ax) - h(a'x')|^2 with features scaled to unit length, as k-NN sees them:
    0 when the features do not see the augmentation, 1 when a sample's views are as far apart as strangers.
    Our own definition: the normalised invariance of Anagnostidis et al. (2023) is not reproduced here.

    first, second: float (n, d), two views of the same n samples in the same order, n >= 2.
    """
    a, b = F.normalize(first, dim=1), F.normalize(second, dim=1)
    n = len(a)
    same = (a - b).square().sum(1).mean()
    total = a.square().sum() / n + b.square().sum() / n - 2 * a.mean(0) @ b.mean(0)  # over all n^2 pairs
    strangers = (total - same / n) * n / (n - 1)
    return (same / strangers.clamp(min=1e-12)).item()
