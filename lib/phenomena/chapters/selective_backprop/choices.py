"""Which points of a minibatch a step is made of: every method for many minibatches at once.

A point's gradient with respect to the last layer is the outer product of its error e = p - onehot(y) and its last
hidden activations with a one for the bias, (h, 1). Inner products of such gradients are therefore
K_ij = (e_i . e_j)(h_i . h_j + 1), and matching needs K alone. A choice is k rows and k weights: the gradient of the
step is (1/k) sum_j weight_j g_(row_j).

Letters: n minibatches, b points of one, k chosen, c classes, w last hidden units; u = b + 1 random numbers.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from phenomena.science.linalg import matmul

Method = Literal["random", "top", "sb", "norm", "match", "weighted", "full"]
RIDGE = 1e-3  # of the weights' least squares, in units of the mean square length of a gradient


class Points(NamedTuple):
    """Minibatches after the forward pass. cdf: share of recent losses that are no larger than the point's."""

    loss: Float[Tensor, "n b"]
    cdf: Float[Tensor, "n b"]
    errors: Float[Tensor, "n b c"]
    hidden: Float[Tensor, "n b w"]


class Chosen(NamedTuple):
    """Rows of the minibatch that a step uses, and their weights."""

    rows: Int[Tensor, "n k"]
    weights: Float[Tensor, "n k"]


def choose(method: str, points: Points, k: int, noise: Float[Tensor, "n u"], beta: float | None = None) -> Chosen:
    """k points of every minibatch by one of the methods, whose names are those of the functions below.

    noise: uniform on [0, 1), for methods that draw. beta: the exponent of `sb`, by default that with which Jiang et al.
        keep k of b on average, b / k - 1.

    Raises `ValueError` for another method or k outside 1 to b.

    >>> import torch
    >>> loss = torch.tensor([[0.1, 3.0, 2.0, 0.2]])
    >>> points = Points(loss, loss, torch.zeros(1, 4, 2), torch.zeros(1, 4, 3))
    >>> choose("top", points, 2, torch.zeros(1, 5)).rows.tolist()
    [[1, 2]]
    """
    b = points.loss.shape[1]
    if not 1 <= k <= b:
        raise ValueError(f"{k} points of {b}: must be 1 to {b}")
    ways: dict[str, Callable[[], Chosen]] = {
        "random": lambda: random(points, k, noise),
        "top": lambda: top(points, k),
        "sb": lambda: sb(points, k, noise, b / k - 1 if beta is None else beta),
        "norm": lambda: norm(points, k, noise),
        "match": lambda: match(gram(points), k),
        "weighted": lambda: weighted(gram(points), k),
        "full": lambda: top(points, b),
    }
    if method not in ways:
        raise ValueError(f"method {method!r} is not known: one of {', '.join(ways)}")
    return ways[method]()


def random(points: Points, k: int, noise: Float[Tensor, "n u"]) -> Chosen:
    """k points at random, without replacement."""
    return _evenly(noise[:, :-1].topk(k).indices, points)


def top(points: Points, k: int) -> Chosen:
    """The k points of largest loss."""
    return _evenly(points.loss.topk(k).indices, points)


def sb(points: Points, k: int, noise: Float[Tensor, "n u"], beta: float) -> Chosen:
    """Selective-Backprop (Jiang et al. 2019, section 3): a point is kept with a probability of CDF(loss)^beta.

    The CDF is that of recent losses. There the number of points kept varies; here it is k, and the expected counts are
    proportional to CDF^beta (`sample`).
    """
    return _evenly(sample(points.cdf**beta, k, noise), points)


def norm(points: Points, k: int, noise: Float[Tensor, "n u"]) -> Chosen:
    """Importance sampling by the length of the last layer's gradient, unbiased (Katharopoulos and Fleuret 2018).

    A point is drawn with probability q_i = sqrt(K_ii) / sum and counts with weight 1 / (b q_i). The paper
    takes the gradient with respect to the last layer's pre-activations, |e_i|; here it is that by its weights.
    """
    length = points.errors.norm(dim=2) * (points.hidden.square().sum(2) + 1).sqrt()
    q = length.clamp_min(1e-6 * length.mean(1, keepdim=True) + 1e-30)
    q = q / q.sum(1, keepdim=True)
    rows = sample(q, k, noise)
    return Chosen(rows, 1 / (q.shape[1] * q.gather(1, rows)))


def sample(sizes: Float[Tensor, "n b"], k: int, noise: Float[Tensor, "n u"]) -> Int[Tensor, "n k"]:
    """k rows with expected counts k sizes_i / sum sizes, exactly: systematic sampling in a random order.

    Points of size at most sum / k come at most once.

    >>> import torch
    >>> sample(torch.tensor([[1.0, 0.0, 1.0]]), 2, torch.rand(1, 4)).sort().values.tolist()
    [[0, 2]]
    """
    order = noise[:, :-1].argsort(1)
    ends = sizes.gather(1, order).cumsum(1)
    at = (noise[:, -1:] + torch.arange(k)) / k * ends[:, -1:]
    places = torch.searchsorted(ends, at, right=True).clamp_max(sizes.shape[1] - 1)
    return order.gather(1, places)


def gram(points: Points) -> Float[Tensor, "n b b"]:
    """K_ij = (e_i . e_j)(h_i . h_j + 1), inner products of the last layer's gradients."""
    e, h = points.errors, points.hidden
    return matmul(e, e.mT).mul_(matmul(h, h.mT).add_(1))


def match(inner: Float[Tensor, "n b b"], k: int) -> Chosen:
    """Greedy matching: every further point brings the mean of the chosen as near as it can to that of the minibatch.

    With S the sum of m - 1 chosen gradients, |(S + g_i)/m - mean|^2 is (2 S.g_i + K_ii)/m^2 - 2 c_i/m and a constant,
    where c_i is the mean of row i of K.

    inner: K of `gram`.

    >>> import torch
    >>> g = torch.tensor([[3.0], [1.0], [-1.0], [0.0]])  # on a line, with mean 0.75
    >>> match((g @ g.T)[None], 2).rows.tolist()
    [[1, 3]]
    """
    target, size = inner.mean(2), inner.diagonal(dim1=1, dim2=2)
    minibatch = torch.arange(len(inner))
    sums, taken = torch.zeros_like(target), torch.zeros_like(target)
    rows = torch.empty(len(inner), k, dtype=torch.int64)
    for j in range(k):
        m = j + 1
        score = (
            torch.add(sums, size, alpha=0.5).sub_(target, alpha=m).add_(taken)
        )  # times 2 / m^2: the order is the same
        rows[:, j] = pick = score.argmin(1)
        sums += inner[minibatch, pick]
        taken[minibatch, pick] = torch.inf
    return Chosen(rows, torch.ones(rows.shape, dtype=inner.dtype))


def weighted(inner: Float[Tensor, "n b b"], k: int, ridge: float = RIDGE) -> Chosen:
    """Orthogonal matching pursuit, as in GRAD-MATCH (Killamsetty et al. 2021, algorithm 2): k points and their weights.

    Every further point is that of largest inner product with what the weighted sum of the chosen still lacks; then all
    weights are those of ridge regression again. Points enter as columns of a Cholesky factor of K plus ridge, so that
    all least squares together cost b k^2 / 2 multiplications. A point enters by its signed product, since weights are
    not to be negative; those that are nevertheless are set to 0 at the end, without another regression.

    inner: K of `gram`. ridge: in units of the mean of K_ii.

    >>> import torch
    >>> g = torch.tensor([[3.0], [1.0], [-1.0], [0.0]])
    >>> chosen = weighted((g @ g.T)[None], 1, ridge=0.0)
    >>> chosen.rows.tolist(), chosen.weights.tolist()  # a quarter of the first is the mean
    ([[0]], [[0.25]])
    """
    n, b, _ = inner.shape
    target, size = inner.mean(2), inner.diagonal(dim1=1, dim2=2)
    added = ridge * size.mean(1) + torch.finfo(inner.dtype).tiny
    left, lacking = size + added[:, None], target.clone()  # squared lengths across the chosen; products with the rest
    minibatch, taken = torch.arange(n), torch.zeros_like(target)
    factor, goal = inner.new_zeros(n, b, k), inner.new_zeros(n, k, 1)
    rows = torch.empty(n, k, dtype=torch.int64)
    for j in range(k):
        rows[:, j] = pick = (lacking + taken).argmax(1)
        pivot = left[minibatch, pick].clamp_min(added).sqrt()
        column = inner[minibatch, pick]
        column[minibatch, pick] += added
        if j:
            column = column - matmul(factor[:, :, :j], factor[minibatch, pick, :j, None])[:, :, 0]
        column = column / pivot[:, None]
        factor[:, :, j] = column
        goal[:, j, 0] = lacking[minibatch, pick] / pivot
        lacking = lacking - column * goal[:, j]
        left = left - column.square()
        taken[minibatch, pick] = -torch.inf
    lower = factor.gather(1, rows[:, :, None].expand(n, k, k)).tril()
    weights = torch.linalg.solve_triangular(lower.mT, goal, upper=True)[:, :, 0]
    return Chosen(rows, k * weights.clamp_min(0))


def cdf(recent: Float[Tensor, "n r"], loss: Float[Tensor, "n b"]) -> Float[Tensor, "n b"]:
    """Share of the recent losses that are no larger.

    >>> import torch
    >>> cdf(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[0.5, 3.0]])).tolist()
    [[0.0, 0.75]]
    """
    return torch.searchsorted(recent.sort(1).values, loss, right=True).to(loss) / recent.shape[1]


def _evenly(rows: Int[Tensor, "n k"], points: Points) -> Chosen:
    return Chosen(rows, torch.ones(rows.shape, dtype=points.loss.dtype))
