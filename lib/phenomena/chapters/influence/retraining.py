"""Influence from models that were trained on many subsets, and how estimates are judged.

Positive means that the point helps, as in `estimators`. Letters: r retrainings, n training samples, m test samples.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.stats import rankdata
from torch import Tensor

Array = np.ndarray


def subsets(count: int, n: int, size: int, generator: torch.Generator) -> Int[Tensor, "{count} {size}"]:
    """Rows of `count` random subsets of `size` of n samples.

    Raises `ValueError` for subsets that are empty or everything: then no sample is ever in, or ever out.

    >>> subsets(3, 4, 2, torch.Generator()).shape
    torch.Size([3, 2])
    """
    if not 0 < size < n:
        raise ValueError(f"subsets of {size} of {n} samples: must be 1 to {n - 1}, so that every sample is in and out")
    if count < 1:
        raise ValueError(f"{count} subsets: must be 1 or more")
    return torch.rand(count, n, generator=generator).argsort(1)[:, :size]


def membership(index: Int[Tensor, "r b"], n: int) -> Bool[Array, "r n"]:
    """Which samples each subset has.

    >>> membership(torch.tensor([[2, 0]]), 3).tolist()
    [[True, False, True]]
    """
    return torch.zeros(len(index), n, dtype=torch.bool).scatter_(1, index, True).numpy()


def in_less_out(values: Float[Array, "r *k"], there: Bool[Array, "r n"]) -> Float[Array, "n *k"]:
    """Mean of the values where sample i was in the subset, less the mean where it was not; nan if it never was.

    Banzhaf's value by maximum sample reuse (Wang and Jia 2023) for the utility of a model, where a subset holds each
    sample with probability 1/2; with margins on test samples, an estimate of influence. On subsets of one size a sample
    that comes in drives another one out: for a utility that adds up weights w, the result is w_i less the mean of the
    other weights. It has the ranks of w, and is positive for more than the average of the others.

    >>> in_less_out(np.array([1.0, 3.0]), np.array([[True, False], [False, True]])).tolist()
    [-2.0, 2.0]
    """
    inside = there.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = [np.tensordot((w / w.sum(0)), values, (0, 0)) for w in (inside, 1 - inside)]
    return means[0] - means[1]


def memorization(hits: Bool[Array, "r n"], there: Bool[Array, "r n"]) -> Float[Array, " n"]:
    """P(right on i | i in S) - P(right on i | i not in S) (Feldman and Zhang 2020).

    >>> memorization(np.array([[True], [False]]), np.array([[True], [False]])).tolist()
    [1.0]
    """
    inside = there.astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (hits * inside).sum(0) / inside.sum(0) - (hits * (1 - inside)).sum(0) / (1 - inside).sum(0)


def datamodel(there: Bool[Array, "r n"], goals: Float[Array, "r m"], penalty: float) -> Float[Array, "n m"]:
    """Ridge regression of the goal on membership, with intercept (Ilyas et al. 2022, with a square penalty).

    Raises `ValueError` for a penalty of 0 or less, without which fewer retrainings than samples decide nothing.
    """
    if not penalty > 0:
        raise ValueError(f"penalty is {penalty:g}: must be positive")
    x, y = there - there.mean(0), goals - goals.mean(0)
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)


def datamodel_lasso(
    there: Bool[Array, "r n"], goals: Float[Array, "r m"], share: float, sweeps: int = 30
) -> Float[Array, "n m"]:
    """The LASSO of Ilyas et al. 2022: argmin |y - X w|² / 2 + alpha |w|_1, by coordinate descent for all goals at once.

    share: alpha over the smallest one at which all weights of a goal are zero. sweeps: over the samples; tests compare
    with scikit-learn. Raises `ValueError` for a share outside (0, 1].
    """
    if not 0 < share <= 1:
        raise ValueError(f"share is {share:g}: must be above 0 and at most 1")
    x, y = there - there.mean(0), goals - goals.mean(0)
    gram, pull = x.T @ x, x.T @ y
    alpha = share * np.abs(pull).max(0)
    w = np.zeros_like(pull)
    for _ in range(sweeps):
        for i in np.flatnonzero(gram.diagonal()):
            rest = pull[i] - gram[i] @ w + gram[i, i] * w[i]
            w[i] = np.sign(rest) * np.maximum(np.abs(rest) - alpha, 0) / gram[i, i]
    return w


def knn_shapley(
    x: Float[Tensor, "n d"], y: Int[Tensor, " n"], x_test: Float[Tensor, "m d"], y_test: Int[Tensor, " m"], k: int = 5
) -> Float[Tensor, "n m"]:
    """Shapley values of training samples for k-NN's probability of each test label, in closed form (Jia et al. 2019).

    With samples by distance, s_n = [y_n = y] min(k, n) / (k n), and going inwards
    s_i = s_{i+1} + ([y_i = y] - [y_{i+1} = y]) min(k, i) / (k i). They sum to the share of
    the k nearest that have the label.

    Raises `ValueError` for k below 1.

    >>> x, y = torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])
    >>> knn_shapley(x, y, x[:1], y[:1], k=1).tolist()
    [[1.0], [0.0]]
    """
    if k < 1:
        raise ValueError(f"k is {k}: must be 1 or more")
    n = len(x)
    order = torch.cdist(x, x_test).argsort(dim=0, stable=True)
    match = (y[order] == y_test).to(x.dtype)
    number = torch.arange(1, n + 1, dtype=x.dtype)[:, None]
    steps = match.clone()
    steps[:-1] -= match[1:]
    values = (steps * number.clamp(max=k) / (k * number)).flip(0).cumsum(0).flip(0)
    return torch.empty_like(values).scatter_(0, order, values)


# --- how estimates are judged -----------------------------------------------------------------------------------------


def spearman(a: Float[Array, "r m"], b: Float[Array, "r m"]) -> Float[Array, " m"]:
    """Rank correlation of the columns of a with those of b; 0 where one is constant.

    >>> spearman(np.array([[1.0], [2.0], [3.0]]), np.array([[1.0], [4.0], [9.0]])).tolist()
    [1.0]
    """
    x, y = (rankdata(v, axis=0) - (len(v) + 1) / 2 for v in (a, b))
    size = np.sqrt((x * x).sum(0) * (y * y).sum(0))
    return np.divide((x * y).sum(0), size, out=np.zeros(a.shape[1]), where=size > 0)


def ceiling(goals: Float[Array, "r m"], again: Float[Array, "r m"]) -> float:
    """What `lds` would be for scores that foretell the mean goal of every subset: the root of the reliability.

    goals, again: of two independent trainings on the same subsets. Their rank correlation, averaged over test samples,
    is the reliability; noise that adds to what is foretold lowers the correlation with it to its root (Spearman 1904).
    For ranks this holds nearly. 0 where the reliability is negative.

    >>> ceiling(np.arange(4.0)[:, None], np.arange(4.0)[:, None])
    1.0
    """
    return float(np.sqrt(max(0.0, spearman(goals, again).mean())))


def lds(scores: Float[Array, "n m"], there: Bool[Array, "r n"], goals: Float[Array, "r m"]) -> float:
    """Linear datamodeling score (Park et al. 2023): Spearman of sum_{i in S} score_i with the goal of the model of S.

    The mean over test samples, each over the same subsets. Raises `ValueError` for fewer than three subsets.
    """
    if len(there) < 3:
        raise ValueError(f"{len(there)} subsets: a rank correlation needs 3 or more")
    return float(spearman(there.astype(float) @ scores, goals).mean())


def auc(score: Float[Array, " n"], wanted: Bool[Array, " n"]) -> float:
    """Probability that a wanted sample has a larger score than another, ties by half; nan without either.

    >>> auc(np.array([0.1, 0.9, 0.5]), np.array([False, True, False]))
    1.0
    """
    wanted = np.asarray(wanted, bool)
    inside, outside = wanted.sum(), (~wanted).sum()
    if not inside or not outside:
        return float("nan")
    return float((rankdata(score)[wanted].sum() - inside * (inside + 1) / 2) / (inside * outside))


def mean_of(parts: Sequence[Tensor]) -> Array:
    """The mean over models, as an array in float64."""
    return torch.stack(list(parts)).double().mean(0).numpy()
