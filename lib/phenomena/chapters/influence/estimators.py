"""Estimates of influence from gradients, for any module whose outputs are logits.

One sign for all: **positive means that the point helps**. A score (n, m) says how much training sample i raises the
*goal* of test sample t by being in the training set: its margin, or minus its loss. So a positive score foretells that
removing i makes the goal fall.

Letters: n training samples, m test samples, c classes, p parameters, k projections.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.linalg import cholesky, solve_triangular
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, jvp, vjp, vmap

from phenomena.science.checks import check_labels, check_tensors
from phenomena.science.linalg import matmul

Of = Literal["loss", "margin"]


def margin(logits: Float[Tensor, "*n c"], y: Int[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """log(p / (1 - p)) of the labeled class: its logit less the log-sum-exp of the others (Park et al. 2023).

    >>> margin(torch.tensor([[2.0, 0.0]]), torch.tensor([0])).tolist()
    [2.0]
    """
    own = logits.gather(-1, y[..., None])
    return own[..., 0] - logits.scatter(-1, y[..., None], -torch.inf).logsumexp(-1)


def margin_slope(logits: Float[Tensor, "*n c"], y: Int[Tensor, "*n"]) -> Float[Tensor, "*n c"]:
    """Gradient of the margin by the logits: the one-hot label less the probabilities among the other classes.

    >>> margin_slope(torch.zeros(1, 3), torch.tensor([0])).tolist()
    [[1.0, -0.5, -0.5]]
    """
    others = logits.scatter(-1, y[..., None], -torch.inf).softmax(-1)
    return F.one_hot(y, logits.shape[-1]).to(logits) - others


# --- gradients of any module ------------------------------------------------------------------------------------------


def gradients(network: nn.Module, x: Float[Tensor, "n ..."], y: Int[Tensor, " n"], of: Of = "loss") -> Tensor:
    """The gradient (n, p) of every sample's loss or margin by all parameters that require one, in their order.

    Raises `ValueError` for batch norm in training mode, whose samples have no gradients of their own.

    >>> gradients(nn.Linear(2, 2), torch.zeros(3, 2), torch.tensor([0, 1, 1])).shape
    torch.Size([3, 6])
    """
    check_tensors(x=(x, "n ..."))
    parameters = _parameters(network)

    def value(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(network, parameters, (x[None],))
        return margin(logits, y[None])[0] if of == "margin" else F.cross_entropy(logits, y[None])

    return _flat(vmap(grad(value), (None, 0, 0))(parameters, x, y), 1)


def jacobians(network: nn.Module, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n c p"]:
    """The gradient of every logit of every sample by all parameters."""

    def logits(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(network, parameters, (x[None],))[0]

    return _flat(vmap(jacrev(logits), (None, 0))(_parameters(network), x), 2)


def _parameters(network: nn.Module) -> dict[str, Tensor]:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if any(isinstance(module, norms) and module.training for module in network.modules()):
        raise ValueError("the network has batch norm in training mode: call eval() first")
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}


def _flat(parts: dict[str, Tensor], lead: int) -> Tensor:
    return torch.cat([part.flatten(lead) if part.dim() > lead else part[..., None] for part in parts.values()], lead)


# --- first order ------------------------------------------------------------------------------------------------------


def gradient_dot(loss: Float[Tensor, "n p"], goal: Float[Tensor, "m p"]) -> Float[Tensor, "n m"]:
    """-g_i . t: a step against the loss of i moves the goal of t by this (Charpiat et al. 2019).

    >>> gradient_dot(torch.tensor([[1.0, 0.0]]), torch.tensor([[-2.0, 5.0]])).tolist()
    [[2.0]]
    """
    check_tensors(loss=(loss, "n p"), goal=(goal, "m p"))
    return -loss @ goal.T


def gradient_cosine(loss: Float[Tensor, "n p"], goal: Float[Tensor, "m p"]) -> Float[Tensor, "n m"]:
    """Minus the cosine of the two gradients (Barshan et al. 2020, Hammoudeh and Lowd 2022).

    >>> gradient_cosine(torch.tensor([[1.0, 0.0]]), torch.tensor([[-2.0, 0.0]])).tolist()
    [[1.0]]
    """
    check_tensors(loss=(loss, "n p"), goal=(goal, "m p"))
    return -F.normalize(loss, dim=1) @ F.normalize(goal, dim=1).T


def tracin(
    rates: Sequence[float], losses: Sequence[Float[Tensor, "n p"]], goals: Sequence[Float[Tensor, "m p"]]
) -> Float[Tensor, "n m"]:
    """Sum over checkpoints of the learning rate times `gradient_dot` (Pruthi et al. 2020, TracInCP).

    Raises `ValueError` unless there is a rate, and gradients, for each checkpoint, and one checkpoint or more.
    """
    if not len(rates) == len(losses) == len(goals) > 0:
        raise ValueError(f"{len(rates)} rates, {len(losses)} and {len(goals)} gradients: must be one a checkpoint")
    parts = [rate * gradient_dot(g, t) for rate, g, t in zip(rates, losses, goals, strict=True)]
    return torch.stack(parts).sum(0)


def representer(
    features: Float[Tensor, "n h"], slopes: Float[Tensor, "n c"], test: Float[Tensor, "m h"], y_test: Int[Tensor, " m"]
) -> Float[Tensor, "n m"]:
    """-dL/dlogit_y(i) f_i . f_t: what sample i adds to the logit of the test label, times decay n (Yeh et al. 2018).

    Exact for a last layer at its optimum with weight decay: W = -sum_i slopes_i f_i' / (decay n).
    """
    check_tensors(features=(features, "n h"), slopes=(slopes, "n c"), test=(test, "m h"))
    check_labels(y_test, slopes.shape[1], "y_test")
    return -slopes[:, y_test] * (features @ test.T)


# --- influence functions ----------------------------------------------------------------------------------------------


def influence_dense(
    loss: Float[Tensor, "n p"], goal: Float[Tensor, "m p"], hessian: Float[Tensor, "p p"], damping: float = 0.0
) -> Float[Tensor, "n m"]:
    """-g_i' (H + damping I)^-1 t / n, H the Hessian of the mean training loss (Koh and Liang 2017).

    Raises `ValueError` for a Hessian that, with this damping, is singular or not positive definite.
    """
    check_tensors(loss=(loss, "n p"), goal=(goal, "m p"), hessian=(hessian, "p p"))
    h = hessian + damping * torch.eye(len(hessian), dtype=hessian.dtype)
    factor, failed = torch.linalg.cholesky_ex(h)
    small = factor.diagonal().min().square() < 10 * len(h) * torch.finfo(h.dtype).eps * h.diagonal().abs().max()
    if failed or small:
        raise ValueError(f"the Hessian with damping {damping:g} is singular or not positive definite: raise damping")
    return -loss @ torch.cholesky_solve(goal.T, factor) / len(loss)


def influence_cg(
    network: nn.Module,
    x: Float[Tensor, "n ..."],
    y: Int[Tensor, " n"],
    x_test: Float[Tensor, "m ..."],
    y_test: Int[Tensor, " m"],
    damping: float,
    iterations: int = 100,
    of: Of = "margin",
) -> Float[Tensor, "n m"]:
    """`influence` for networks whose kernel or Hessian is too large to be held, by conjugate gradients.

    Gauss-Newton's product with a vector takes one forward and one backward pass over the training data.
    Raises `ValueError` for a damping of 0 or less, without which the matrix is singular.
    """
    _check_damping(damping)
    parameters, n = _parameters(network), len(x)

    def logits(parameters: dict[str, Tensor]) -> Tensor:
        found: Tensor = functional_call(network, parameters, (x,))
        return found

    p = logits(parameters).softmax(1)

    def product(v: Tensor) -> Tensor:
        parts, begin = {}, 0
        for name, value in parameters.items():
            parts[name] = v[begin : begin + value.numel()].view_as(value)
            begin += value.numel()
        moved = jvp(logits, (parameters,), (parts,))[1]
        pulled = p * (moved - (p * moved).sum(1, keepdim=True)) / n
        (back,) = vjp(logits, parameters)[1](pulled)
        return _flat({k: part[None] for k, part in back.items()}, 1)[0] + damping * v

    goal = gradients(network, x_test, y_test, of) * (1 if of == "margin" else -1)
    solved = torch.stack([_conjugate(product, t, iterations) for t in goal])
    return -gradients(network, x, y) @ solved.T / n


def _conjugate(product: Callable[[Tensor], Tensor], goal: Tensor, iterations: int) -> Tensor:
    """Solves product(v) = goal to a relative residual of 1e-6, or after so many iterations."""
    v, residual = torch.zeros_like(goal), goal.clone()
    way, size = residual.clone(), residual @ residual
    stop = 1e-12 * size
    for _ in range(iterations):
        if size <= stop:
            break
        moved = product(way)
        step = size / (way @ moved)
        v, residual = v + step * way, residual - step * moved
        before, size = size, residual @ residual
        way = residual + size / before * way
    return v


class Products(NamedTuple):
    """Inner products of gradients from which influence follows, with B' B the Gauss-Newton matrix, B of r rows.

    dot: losses with goals. self_dot: losses with losses. kernel: B B'. rows_losses, rows_goals: B times either.
    """

    dot: Float[Tensor, "n m"]
    self_dot: Float[Tensor, "n n"]
    kernel: Float[Tensor, "r r"]
    rows_losses: Float[Tensor, "r n"]
    rows_goals: Float[Tensor, "r m"]


def products(network: nn.Module, x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor, of: Of = "margin") -> Products:
    """`Products` of any module; holds n c p numbers. B has the rows sqrt(diag(p) - p p') J / sqrt(n) of all samples."""
    with torch.no_grad():
        p = network(x).softmax(1)
    root = torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None]
    rows = torch.einsum("ndc,ndp->ncp", root, jacobians(network, x)).flatten(0, 1) / len(x) ** 0.5
    loss = gradients(network, x, y)
    goal = gradients(network, x_test, y_test, of) * (1 if of == "margin" else -1)
    blocks = ((loss, goal), (loss, loss), (rows, rows), (rows, loss), (rows, goal))
    return Products(*(matmul(a, b.T.contiguous()) for a, b in blocks))


class Influence(NamedTuple):
    """Scores, and for every training sample minus its influence on its own loss (Mem(z), positive)."""

    scores: Float[Tensor, "n m"]
    own: Float[Tensor, " n"]


def influence(found: Products, damping: float) -> Influence:
    """-g_i' (B' B + damping I)^-1 t / n, by Woodbury's identity in the r rows of B (Bae et al. 2022, Gauss-Newton).

    Self-influence is g_i' (B' B + damping I)^-1 g_i / n. Raises `ValueError` for a damping of 0 or less.
    """
    _check_damping(damping)
    n, r = len(found.dot), len(found.kernel)
    kernel = found.kernel.numpy().astype(np.float32)
    kernel[np.diag_indices(r)] += damping
    factor = cholesky(kernel, lower=True, overwrite_a=True, check_finite=False)
    both = torch.cat([found.rows_losses, found.rows_goals], 1).numpy().astype(np.float32)
    half = solve_triangular(factor, both, lower=True, check_finite=False)
    rows = torch.from_numpy(half)
    dot = found.dot - rows[:, :n].T @ rows[:, n:]
    own = found.self_dot.diagonal() - rows[:, :n].square().sum(0)
    return Influence(-dot / (damping * n), own / (damping * n))


def _check_damping(damping: float) -> None:
    if not damping > 0:
        raise ValueError(f"damping is {damping:g}: must be positive, as the Gauss-Newton matrix alone is singular")


# --- TRAK -------------------------------------------------------------------------------------------------------------


def project(gradients: Float[Tensor, "n p"], k: int, seed: int) -> Float[Tensor, "n k"]:
    """Gradients times a normal matrix (p, k) over sqrt(k), which keeps inner products on average (Park et al. 2023).

    The same seed projects training and test gradients alike.
    """
    generator = torch.Generator().manual_seed(seed)
    return gradients @ torch.randn(gradients.shape[1], k, generator=generator).to(gradients) / k**0.5


def trak(
    train: Float[Tensor, "n k"], test: Float[Tensor, "m k"], ridge: float = 0.0, kernel: bool = False
) -> Float[Tensor, "n m"]:
    """phi(t)' (Phi' Phi + ridge I)^-1 phi_i of one model, before `trak_scores` (Park et al. 2023).

    train, test: gradients of the margin, projected or not. kernel: the same by an n x n solve, for whole gradients.
    Raises `ValueError` for more projections than training samples without ridge, where the matrix is singular.
    """
    check_tensors(train=(train, "n k"), test=(test, "m k"))
    n, k = train.shape
    if ridge < 0 or (ridge == 0 and k > n):
        raise ValueError(f"{k} projections of {n} samples with ridge {ridge:g}: must be at most {n}, or ridge positive")
    if kernel:
        return torch.linalg.solve(train @ train.T + ridge * torch.eye(n, dtype=train.dtype), train @ test.T)
    return train @ torch.linalg.solve(train.T @ train + ridge * torch.eye(k, dtype=train.dtype), test.T)


def trak_scores(parts: Sequence[Float[Tensor, "n m"]], doubts: Sequence[Float[Tensor, " n"]]) -> Float[Tensor, "n m"]:
    """The mean over models of `trak`, times the mean of 1 - p of the training labels (Park et al. 2023).

    Raises `ValueError` unless every model has both.
    """
    if not len(parts) == len(doubts) > 0:
        raise ValueError(f"{len(parts)} models have gradients, {len(doubts)} have probabilities: must be one or more")
    return torch.stack(list(parts)).mean(0) * torch.stack(list(doubts)).mean(0)[:, None]
