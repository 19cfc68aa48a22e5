"""Estimates of influence from gradients, for any module whose outputs are logits.

One sign for all: **positive means that the point helps**. A score (n, m) says how much training sample i raises the
*goal* of test sample t by being in the training set: its margin, or minus its loss. So a positive score foretells that
removing i makes the goal fall.

Letters: n training samples, m test samples, c classes, p parameters, k projections.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vjp, vmap

from phenomena.science.checks import check_labels, check_tensors
from phenomena.science.linalg import matmul

Of = Literal["loss", "margin"]
Curvature = Literal["gauss_newton", "hessian"]


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

    Raises `ValueError` for batch norm in training mode, whose samples have no gradients of their own, and for labels
    that are no classes of the network.

    >>> gradients(nn.Linear(2, 2), torch.zeros(3, 2), torch.tensor([0, 1, 1])).shape
    torch.Size([3, 6])
    """
    parameters = _parameters(network)
    _check_data(network, x, y)

    def value(parameters: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = functional_call(network, parameters, (x[None],))
        return margin(logits, y[None])[0] if of == "margin" else F.cross_entropy(logits, y[None])

    return _flat(vmap(grad(value), (None, 0, 0))(parameters, x, y), 1)


def jacobians(network: nn.Module, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n c p"]:
    """The gradient of every logit of every sample by all parameters."""

    def logits(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(network, parameters, (x[None],))[0]

    return _flat(vmap(jacrev(logits), (None, 0))(_parameters(network), x), 2)


def hessian(network: nn.Module, x: Float[Tensor, "n ..."], y: Int[Tensor, " n"]) -> Float[Tensor, "p p"]:
    """The exact Hessian of the mean loss by all parameters that require a gradient, for `influence_dense`.

    Of a network that is not at a minimum it need not be positive definite. Raises `ValueError` as `gradients` does.

    >>> hessian(nn.Linear(1, 2, bias=False), torch.ones(1, 1), torch.tensor([0])).shape
    torch.Size([2, 2])
    """
    parameters = _parameters(network)
    _check_data(network, x, y)
    flat = _flat({name: p[None] for name, p in parameters.items()}, 1)[0]

    def loss(v: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(network, _split(v, parameters), (x,)), y)

    found: Tensor = jacrev(grad(loss))(flat)
    return found


def _check_data(network: nn.Module, x: Tensor, y: Tensor, of: str = "") -> None:
    """of: what the samples are, for the message."""
    check_tensors(**{f"x{of}": (x, "n ..."), f"y{of}": (y, "n")})
    with torch.no_grad():
        check_labels(y, network(x[:1]).shape[-1], f"y{of}")


def _parameters(network: nn.Module) -> dict[str, Tensor]:
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    if any(isinstance(module, norms) and module.training for module in network.modules()):
        raise ValueError("the network has batch norm in training mode: call eval() first")
    return {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}


def _flat(parts: dict[str, Tensor], lead: int) -> Tensor:
    return torch.cat([part.flatten(lead) if part.dim() > lead else part[..., None] for part in parts.values()], lead)


def _split(v: Float[Tensor, " p"], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `_flat` for one vector."""
    pieces = v.split([p.numel() for p in like.values()])
    return {name: piece.view_as(p) for (name, p), piece in zip(like.items(), pieces, strict=True)}


# --- first order ------------------------------------------------------------------------------------------------------


def gradient_dot(loss: Float[Tensor, "n p"], goal: Float[Tensor, "m p"]) -> Float[Tensor, "n m"]:
    """-g_i . q: a step against the loss of i moves the goal, whose gradient is q, by this (Charpiat et al. 2019).

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
    """-g_i' (H + damping I)^-1 q / n, H the Hessian of the mean training loss (Koh and Liang 2017).

    Raises `ValueError` for a Hessian that, with this damping, is singular or not positive definite.
    """
    check_tensors(loss=(loss, "n p"), goal=(goal, "m p"), hessian=(hessian, "p p"))
    factor = _factor(hessian + damping * torch.eye(len(hessian)).to(hessian))
    if factor is None:
        raise ValueError(f"the Hessian with damping {damping:g} is singular or not positive definite: raise damping")
    return -loss @ torch.cholesky_solve(goal.T, factor) / len(loss)


def _factor(matrix: Float[Tensor, "p p"]) -> Float[Tensor, "p p"] | None:
    """Cholesky's factor, or None where rounding decides whether there is one."""
    factor, failed = torch.linalg.cholesky_ex(matrix)
    least = 10 * len(matrix) * torch.finfo(matrix.dtype).eps * matrix.diagonal().abs().max()
    return None if failed or factor.diagonal().min().square() < least else factor


def influence_cg(
    network: nn.Module,
    x: Float[Tensor, "n ..."],
    y: Int[Tensor, " n"],
    x_test: Float[Tensor, "m ..."],
    y_test: Int[Tensor, " m"],
    damping: float,
    iterations: int = 1000,
    of: Of = "margin",
    curvature: Curvature = "gauss_newton",
) -> Float[Tensor, "n m"]:
    """`influence` for networks whose kernel or Hessian is too large to be held, by conjugate gradients.

    curvature: of the Gauss-Newton matrix, or of the exact Hessian. Products with a vector take a few forward and
    backward passes over the training data, all of them in reverse mode.

    Raises `ValueError` for a damping of 0 or less, labels that are no classes, or an exact Hessian that with this
    damping is not positive in a direction that is met; `ArithmeticError` where the iterations do not suffice.
    """
    _check_damping(damping)
    if curvature not in get_args(Curvature):
        raise ValueError(f"curvature is {curvature!r}: must be one of {', '.join(get_args(Curvature))}")
    parameters, n = _parameters(network), len(x)
    _check_data(network, x, y)
    _check_data(network, x_test, y_test, "_test")

    def logits(parameters: dict[str, Tensor]) -> Tensor:
        found: Tensor = functional_call(network, parameters, (x,))
        return found

    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return F.cross_entropy(logits(parameters), y)

    if curvature == "hessian":
        pull = vjp(grad(loss), parameters)[1]
    else:
        found, back = vjp(logits, parameters)[:2]
        p = found.softmax(1)
        push = vjp(lambda u: back(u)[0], torch.zeros_like(found))[1]  # back is linear: its own pull-back pushes forward

        def pull(v: dict[str, Tensor]) -> tuple[dict[str, Tensor]]:
            moved = push(v)[0]
            pulled: tuple[dict[str, Tensor]] = back(p * (moved - (p * moved).sum(1, keepdim=True)) / n)
            return pulled

    def product(v: Tensor) -> Tensor:
        (curved,) = pull(_split(v, parameters))
        return _flat({name: part[None] for name, part in curved.items()}, 1)[0] + damping * v

    goal = gradients(network, x_test, y_test, of) * (1 if of == "margin" else -1)
    solved = torch.stack([_conjugate(product, q, iterations) for q in goal])
    return -gradients(network, x, y) @ solved.T / n


def _conjugate(product: Callable[[Tensor], Tensor], goal: Tensor, iterations: int) -> Tensor:
    """Solves product(v) = goal to a relative residual of 1e-6."""
    v, residual = torch.zeros_like(goal), goal.clone()
    way, size = residual.clone(), residual @ residual
    stop = 1e-12 * size
    for _ in range(iterations):
        if size <= stop:
            return v
        moved = product(way)
        curve = way @ moved
        if not curve > 0:
            raise ValueError("the damped Hessian has a direction in which it is not positive: raise damping")
        step = size / curve
        v, residual = v + step * way, residual - step * moved
        before, size = size, residual @ residual
        way = residual + size / before * way
    if size <= stop:
        return v
    raise ArithmeticError(f"conjugate gradients did not converge in {iterations} iterations: raise them or the damping")


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
    _check_data(network, x, y)
    _check_data(network, x_test, y_test, "_test")
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
    """-g_i' (B' B + damping I)^-1 q / n, by Woodbury's identity in the r rows of B (Bae et al. 2022, Gauss-Newton).

    Self-influence is g_i' (B' B + damping I)^-1 g_i / n. Raises `ValueError` for a damping of 0 or less, or one that is
    lost in the rounding of the matrix.
    """
    _check_damping(damping)
    n, r = len(found.dot), len(found.kernel)
    kernel = found.kernel.detach().cpu().numpy().copy()  # overwritten by its factor
    lost = damping < np.finfo(kernel.dtype).eps * kernel.diagonal().max()
    kernel[np.diag_indices(r)] += damping
    both = torch.cat([found.rows_losses, found.rows_goals], 1).detach().cpu().numpy()
    try:
        if lost:
            raise LinAlgError
        # its transpose is itself, in the order in which LAPACK overwrites it without another copy
        factor = cholesky(kernel.T, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError:
        raise ValueError(f"damping {damping:g} is lost in the rounding of {found.kernel.dtype}: raise it") from None
    half = solve_triangular(factor, both, lower=True, check_finite=False)
    rows = torch.from_numpy(half).to(found.dot)
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
    train: Float[Tensor, "n k"],
    test: Float[Tensor, "m k"],
    ridge: float = 0.0,
    kernel: bool = False,
    divided: bool = False,
) -> Float[Tensor, "n m"]:
    """phi(t)' (Phi' Phi + ridge I)^-1 phi_i of one model, before `trak_scores` (Park et al. 2023).

    train, test: gradients of the margin, projected or not. kernel: the same by an n x n solve, for whole gradients.
    divided: the inverse over its mean absolute entry, as the official code has it; not with kernel.
    Raises `ValueError` for a matrix that is singular, as with more projections than training samples and no ridge.
    """
    check_tensors(train=(train, "n k"), test=(test, "m k"))
    n, k = train.shape
    if ridge < 0 or (ridge == 0 and k > n and not kernel):
        raise ValueError(f"{k} projections of {n} samples with ridge {ridge:g}: must be at most {n}, or ridge positive")
    if kernel and divided:
        raise ValueError("kernel and divided together: the inverse is not formed, so take one of the two")
    gram = train @ train.T if kernel else train.T @ train
    factor = _factor(gram + ridge * torch.eye(len(gram)).to(gram))
    if factor is None:
        raise ValueError(
            f"the {len(gram)} x {len(gram)} matrix of gradients is singular with ridge {ridge:g}: raise it"
        )
    if kernel:
        return torch.cholesky_solve(train @ test.T, factor)
    size = torch.cholesky_inverse(factor).abs().mean() if divided else 1.0
    return train @ torch.cholesky_solve(test.T, factor) / size


def trak_scores(parts: Sequence[Float[Tensor, "n m"]], doubts: Sequence[Float[Tensor, " n"]]) -> Float[Tensor, "n m"]:
    """The mean over models of `trak`, times the mean of 1 - p of the training labels (Park et al. 2023).

    Raises `ValueError` unless every model has both.
    """
    if not len(parts) == len(doubts) > 0:
        raise ValueError(f"{len(parts)} models have gradients, {len(doubts)} have probabilities: must be one or more")
    return torch.stack(list(parts)).mean(0) * torch.stack(list(doubts)).mean(0)[:, None]
