"""What can be read from a layer's features: k-nearest-neighbour and linear probes, and invariance to augmentation."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.manifold import TSNE
from torch import Tensor


def knn_predict(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    queries: Float[Tensor, "m d"],
    k: int = 20,
    leave_one_out: bool = False,
) -> Int[Tensor, " m"]:
    """Majority label among the k nearest rows by cosine similarity; a tie goes to the smallest label.

    k = 20 and uniform votes as in the official code of Anagnostidis et al. (2023).

    labels: 0 or more.
    leave_one_out: the queries are the features themselves and no row is its own neighbour.

    Raises `ValueError` for k outside 1 .. n (n - 1 when leaving one out).
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


def linear_predict(
    features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], queries: Float[Tensor, "m d"], ridge: float = 1e-2
) -> Int[Tensor, " m"]:
    """Class of a ridge regression on one-hot labels, with standardised features and an intercept.

    Solves min_W |XW - Y|^2 + ridge n |W|^2 in float64, in whichever of its primal and dual forms is smaller.
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


def augmentation_distance(first: Float[Tensor, "n d"], second: Float[Tensor, "n d"]) -> float:
    """Distance between two views of a sample relative to that between views of different samples.

    Q = E_x |h(ax) - h(a'x)|^2 / E_{x != x'} |h(ax) - h(a'x')|^2 with features scaled to unit length, as k-NN sees them:
    0 when the features are invariant to the augmentation, 1 when a sample's views are as far apart as those of two
    samples. Our own definition: the normalised invariance of Anagnostidis et al. (2023) is not reproduced here.

    first, second: two views of the same n >= 2 samples in the same order.
    """
    a, b = F.normalize(first, dim=1), F.normalize(second, dim=1)
    n = len(a)
    same = (a - b).square().sum(1).mean()
    total = a.square().sum() / n + b.square().sum() / n - 2 * a.mean(0) @ b.mean(0)  # over all n^2 pairs
    strangers = (total - same / n) * n / (n - 1)
    return (same / strangers.clamp(min=1e-12)).item()


def neighbour_maps(features: Mapping[str, Float[Tensor, "m _"]], k: int = 20) -> dict[str, Float[Tensor, "m 2"]]:
    """Each layer's rows laid out in the plane so that neighbours by cosine similarity stay neighbours: t-SNE.

    Distances between groups mean nothing. The first layer starts from its principal components and every other one
    from the layer before it, so that a row moves little from layer to layer.

    features: layer -> rows, the same ones in every layer.
    k: about how many neighbours count (perplexity), less where there are fewer than 3 k rows.
    Returns layer -> places, scaled to [0, 1] along both axes.

    References: van der Maaten and Hinton 2008, "Visualizing data using t-SNE".
    """
    maps = {}
    start: Any = "pca"
    for layer, rows in features.items():
        unit = F.normalize(rows.double(), dim=1).cpu().numpy()
        tsne = TSNE(perplexity=min(k, len(rows) / 3), metric="cosine", init=start, random_state=0, max_iter=500)
        places = torch.from_numpy(tsne.fit_transform(unit))
        start = (places / places.std(0)[:1] * 1e-4).numpy()  # the spread of scikit-learn's own starts
        least, most = places.aminmax(dim=0)
        maps[layer] = (places - least) / (most - least)
    return maps
