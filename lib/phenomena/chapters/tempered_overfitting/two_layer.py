"""Many small two-layer ReLU networks trained at once, each on its own data.

    N(x) = sum_j v_j relu(w_j . x + b_j),    loss = mean_i log(1 + exp(-y_i N(x_i))),    y_i = -1 or 1

or the exponential loss mean_i exp(-y_i N(x_i)).

`train` is fast, `train_readable` says the same in a few lines of autograd; a test holds them together and
`benchmarks/two_layer.py` times them.

Letters: s seeds (networks), n rows, d features, j hidden units.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from phenomena.chapters.tempered_overfitting import lbfgs
from phenomena.science import linalg

# Hidden activations trained together, in bytes. Measured on one Zen 4 core: up to here larger groups of
# networks are faster (fewer calls); beyond about 4 MB they are slower than one network at a time (the
# activations leave the cache).
CACHE_BYTES = 2 * 2**20

# Rows to a feature up to which steps are taken in the span of the rows. The products are equally large at 2; the
# other passes are over (n, j) numbers instead of (d, j).
SPAN = 1.5

# name -> the loss of a point and the size of its slope, as functions of -y_i N(x_i); the slope in place
LOSSES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "logistic": (F.softplus, torch.sigmoid_),
    "exponential": (torch.exp, torch.exp_),
}


class Networks(NamedTuple):
    """Parameters of s networks; b is None for networks without bias."""

    w: Float[Tensor, "s d j"]
    b: Float[Tensor, "s j"] | None
    v: Float[Tensor, "s j"]


class Trained(NamedTuple):
    """Networks after training.

    margin: the smallest y_i N(x_i); the network interpolates where it is positive.
    loss: the one reached; not finite: diverged.
    steps: how many it took.
    """

    net: Networks
    margin: Float[Tensor, " s"]
    loss: Float[Tensor, " s"]
    steps: Int[Tensor, " s"]


def initial(
    seeds: int,
    features: int,
    width: int,
    generator: torch.Generator,
    *,
    scale: float = 1.0,
    bias: bool = True,
    dimension: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Networks:
    """Random networks: w ~ N(0, scale² / d), b ~ uniform(-1, 1) scale / sqrt(d), v ~ N(0, scale² / j).

    On inputs of norm 1 the biases then spread the kinks over the data in every dimension.
    dimension: the d of these laws where it is not the number of features: networks seen within a subspace
    (`data.sphere_in_span`).
    Raises `ValueError` for a count below 1 or a scale that is not positive.
    """
    if min(seeds, features, width) < 1 or scale <= 0:
        raise ValueError(f"seeds {seeds}, features {features}, width {width} must be 1 or more, scale {scale} positive")
    kind = {"generator": generator, "dtype": dtype, "device": generator.device}
    inner = scale / (dimension or features) ** 0.5
    w = inner * torch.randn(seeds, features, width, **kind)  # type: ignore[call-overload]
    b = inner * (2 * torch.rand(seeds, width, **kind) - 1) if bias else None  # type: ignore[call-overload]
    v = scale / width**0.5 * torch.randn(seeds, width, **kind)  # type: ignore[call-overload]
    return Networks(w, b, v)


def outputs(net: Networks, x: Float[Tensor, "s n d"]) -> Float[Tensor, "s n"]:
    """N(x) of each network on its own rows."""
    hidden = x @ net.w if net.b is None else torch.baddbmm(net.b.unsqueeze(1), x, net.w)
    return (hidden.relu_() @ net.v.unsqueeze(2)).squeeze(2)


def gradient(net: Networks, x: Float[Tensor, "s n d"], y: Float[Tensor, "s n"]) -> tuple[Networks, Float[Tensor, " s"]]:
    """Closed-form gradient of the mean logistic loss of each network, and that loss.

    With a_i = -y_i sigmoid(-y_i N(x_i)) / n and M_ij = 1[w_j . x_i + b_j > 0]:
    dL/dv_j = sum_i a_i relu(w_j . x_i + b_j), dL/dw_j = v_j sum_i a_i M_ij x_i, dL/db_j = v_j sum_i a_i M_ij.
    """
    hidden = (x @ net.w + (0 if net.b is None else net.b.unsqueeze(1))).relu()
    margin = y * (hidden @ net.v.unsqueeze(2)).squeeze(2)
    a = -y * torch.sigmoid(-margin) / x.shape[1]
    active = a.unsqueeze(2) * (hidden > 0) * net.v.unsqueeze(1)  # (s, n, j)
    b = None if net.b is None else active.sum(1)
    v = torch.einsum("sn,snj->sj", a, hidden)
    return Networks(x.transpose(1, 2) @ active, b, v), F.softplus(-margin).mean(1)


def train_lbfgs(
    net: Networks, x: Float[Tensor, "s n d"], y: Float[Tensor, "s n"], iterations: int, *, target: float
) -> Trained:
    """Trains one network after another by L-BFGS on the logistic loss, down to `target` or less, in float64.

    For few rows in low dimension, where gradient descent does not interpolate within reasonable time. A network that no
    longer moves, or has not reached the target after `iterations`, keeps its larger loss: the caller has to look at it.
    Raises `ValueError` as `train`.
    """
    _check(net, x, y, iterations, 1.0, 0.0, 1, "logistic")
    ends, margins, losses, taken = [], [], [], []
    for i in range(len(x)):
        start = Networks(*(None if p is None else p[i : i + 1] for p in net))  # type: ignore[arg-type]
        xs, ys = x[i].double().numpy(), y[i].double().numpy()
        objective = logistic_objective(xs, ys, net.v.shape[1], bias=net.b is not None)
        theta, loss, steps = lbfgs.minimise(objective, _pack(start), iterations, target=target)
        ends.append(_unpack(theta, start))
        margins.append((y[i] * outputs(ends[-1], x[i : i + 1].clone())).min())
        losses.append(loss)
        taken.append(steps)
    w, b, v = (None if p[0] is None else torch.cat(p) for p in zip(*ends, strict=True))
    end = Networks(w, b, v)  # type: ignore[arg-type]
    return Trained(end, torch.stack(margins), x.new_tensor(losses), torch.tensor(taken))


def logistic_objective(x: np.ndarray, y: np.ndarray, width: int, *, bias: bool) -> lbfgs.Objective:
    """What `gradient` says of one network, as a function of its packed parameters, for thousands of calls."""
    if bias:
        x = np.hstack([x, np.ones((len(x), 1))])
    n, d = x.shape
    hidden = torch.empty(n, width, dtype=torch.float64)
    h = hidden.numpy()  # torch's relu and comparison are 3 times as fast as NumPy's

    def objective(theta: np.ndarray) -> tuple[float, np.ndarray]:
        w, v = theta[:-width].reshape(d, width), theta[-width:]
        np.matmul(x, w, out=h)
        hidden.relu_()
        q = -y * (h @ v)
        e = np.exp(-np.abs(q))  # never overflows
        a = -y * np.where(q > 0, 1, e) / (1 + e) / n
        hidden.gt_(0)
        sums = (a[:, None] * x).T @ h
        slope = np.concatenate([(sums * v).ravel(), (w * sums).sum(0)])  # as in `train`
        return float((np.maximum(q, 0) + np.log1p(e)).mean()), slope

    return objective


def _pack(net: Networks) -> np.ndarray:
    return torch.cat([p.flatten() for p in net if p is not None]).double().numpy()


def _unpack(theta: np.ndarray, like: Networks) -> Networks:
    flat = torch.as_tensor(theta).to(like.w).split([p.numel() for p in like if p is not None])
    w, *b, v = (part.view_as(p) for part, p in zip(flat, (p for p in like if p is not None), strict=True))
    return Networks(w, b[0] if b else None, v)


def train_readable(
    net: Networks,
    x: Float[Tensor, "s n d"],
    y: Float[Tensor, "s n"],
    steps: int,
    *,
    lr: float,
    momentum: float = 0.0,
    target: float = 0.0,
    every: int = 50,
    kind: str = "logistic",
) -> Trained:
    """What `train` computes, one network after another, by autograd and `torch.optim.SGD`."""
    _check(net, x, y, steps, lr, momentum, every, kind)
    results = []
    for i in range(len(x)):
        parameters = [p[i : i + 1].clone().requires_grad_() for p in net if p is not None]
        w, *b, v = parameters
        one = Networks(w, b[0] if b else None, v)
        optimiser = torch.optim.SGD(parameters, lr, momentum=momentum)
        for step in range(steps + 1):
            loss = LOSSES[kind][0](-y[i] * outputs(one, x[i : i + 1])).mean()
            finished = step and step % every == 0 and (loss <= target or not loss.isfinite())
            if finished or step == steps:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        margin = (y[i] * outputs(one, x[i : i + 1])).min()
        results.append(([p.detach() for p in parameters], margin.detach(), loss.detach(), step))
    w, *b, v = (torch.cat(p) for p in zip(*(p for p, *_ in results), strict=True))
    margin, loss = torch.stack([m for _, m, _, _ in results]), torch.stack([loss for _, _, loss, _ in results])
    taken = torch.tensor([step for *_, step in results], device=x.device)
    return Trained(Networks(w, b[0] if b else None, v), margin, loss, taken)


@torch.no_grad()
def train(
    net: Networks,
    x: Float[Tensor, "s n d"],
    y: Float[Tensor, "s n"],
    steps: int,
    *,
    lr: float,
    momentum: float = 0.0,
    target: float = 0.0,
    every: int = 50,
    kind: str = "logistic",
    group: int | None = None,
) -> Trained:
    """Full-batch gradient descent with heavy-ball momentum (as `torch.optim.SGD`), all networks at once.

    A network stops at the first multiple of `every` steps at which its loss is `target` or less, or no longer finite.
    What becomes of it is the same to the bit whatever other networks are trained with it.
    net: of the dtype and on the device of x; it is left as it is.
    y: -1 or 1.
    kind: of loss, "logistic" or "exponential".
    group: networks trained together; by default as many as the cache holds (`CACHE_BYTES`), off the CPU all.

    With the biases as the weights of a constant feature, q_i = y_i N(x_i), r_i = y_i sigmoid(-q_i) / n (exponential
    loss: y_i exp(-q_i) / n), M_ij = 1[w_j . x_i > 0] and A = (r x)^T M, shape (d, j), the descent directions are

        -dL/dw_j = v_j A_j,    -dL/dv_j = sum_i r_i relu(w_j . x_i) = w_j . A_j,

    the latter because relu(z) = z 1[z > 0]. So only three passes over the (n, j) activations lie between the
    two matrix products: relu, the sum over v, the mask.

    All steps lie in the span of the rows, w = w(0) + x^T c, so that x w = x w(0) + K c with K = x x^T, shape (n, n),
    and c_ij moves by r_i M_ij v_j. Unless there are clearly fewer features than rows this takes one product with
    K in place of both with x.

    Raises `ValueError` for shapes or types that do not fit, labels other than -1 and 1, and steps, lr or
    momentum out of range.
    """
    _check(net, x, y, steps, lr, momentum, every, kind)
    v = net.v.unsqueeze(1).clone()  # (s, 1, j)
    if net.b is None:
        w = net.w.clone()
    else:
        w = torch.cat([net.w, net.b.unsqueeze(1)], 1)  # (s, d + 1, j)
        x = torch.cat([x, x.new_ones(*x.shape[:2], 1)], 2)
    s, n, d = x.shape
    if group is None:
        group = max(1, CACHE_BYTES // (n * w.shape[2] * x.element_size())) if x.is_cpu else s
    margin, loss = x.new_empty(s), x.new_empty(s)
    taken = torch.empty(s, dtype=torch.int64, device=x.device)
    for part in torch.arange(s, device=x.device).split(group):
        rows = x[part]
        across = rows.transpose(1, 2)
        if in_span := n <= SPAN * d:
            fixed = linalg.matmul(rows, w[part])
            state = [linalg.matmul(rows, across), fixed, torch.zeros_like(fixed)]
        else:
            state = [rows, w.new_zeros(len(part), 0), w[part]]
        state += [y[part].unsqueeze(1), v[part]]
        with np.errstate(over="ignore", invalid="ignore"):  # a network that diverges shows it in its loss
            for index, moved, v_end, q, loss_end, step in _descend(state, steps, lr, momentum, target, every, kind):
                there = part[index]
                w[there] = w[there] + linalg.matmul(across[index], moved) if in_span else moved
                v[there], margin[there], loss[there], taken[there] = v_end, -q.amax((1, 2)), loss_end, step
    b = None if net.b is None else w[:, -1].clone()
    return Trained(Networks(w[:, : net.w.shape[1]].contiguous(), b, v.squeeze(1)), margin, loss, taken)


def _descend(state: list[Tensor], steps: int, lr: float, momentum: float, target: float, every: int, kind: str):  # type: ignore[no-untyped-def]
    """Yields (which networks, w, v, -y N(x), loss, step) as they finish.

    state: x (s, n, d), nothing (s, 0), w (s, d, j), y (s, 1, n), v (s, 1, j); or for steps in the span of the
    rows K (s, n, n), x w(0) (s, n, j), c = 0 (s, n, j) and the same y and v.
    """
    value, slope_ = LOSSES[kind]
    state += [torch.zeros_like(state[2]), torch.zeros_like(state[4])]  # velocities
    left = torch.arange(len(state[0]), device=state[0].device)
    start = 0
    while len(left):
        x, fixed, w, y, v, w_velocity, v_velocity = state
        in_span = fixed.numel() > 0
        (s, n, _), j = x.shape, w.shape[2]
        hidden, product, weighted, v_step = x.new_empty(s, n, j), torch.empty_like(w), torch.empty_like(x), v * 0
        sums = hidden if in_span else torch.empty_like(w)
        # torch's sigmoid and its like round the last numbers of a tensor, short of a whole vector, in another way:
        # with zeros behind them no network's numbers are the last
        padded = x.new_zeros(s * n + -(s * n) % 64)
        q = padded[: s * n].view(s, 1, n)
        minus_y = -y
        labels = y * (lr / n)  # the step length is in here, once for all steps
        labelled = x * labels.transpose(1, 2)
        for step in range(start, steps + 1):
            linalg.matmul(x, w, hidden)
            if in_span:
                hidden.add_(fixed)
            hidden.relu_()
            # -q_i; the row v on the left: as a column on the right it is 8x slower
            linalg.matmul(v, hidden.transpose(1, 2), q).mul_(minus_y)
            if (step % every == 0 and step > start) or step == steps:
                loss = value(padded)[: s * n].view(s, 1, n).mean((1, 2))
                done = (loss <= target) | ~loss.isfinite() | (step == steps)
                if done.any():
                    yield left[done], w[done], v[done], q[done], loss[done], step
                    left, start = left[~done], step
                    state = [t[~done] for t in state]
                    break  # to smaller buffers
            slope_(padded)
            if in_span:
                q.mul_(labels)  # lr r
                linalg.matmul(q, hidden, v_step)
                hidden.gt_(0).mul_(q.transpose(1, 2))
            else:
                torch.mul(labelled, q.transpose(1, 2), out=weighted)
                linalg.matmul(weighted.transpose(1, 2), hidden.gt_(0), sums)  # lr A
                torch.sum(torch.mul(w, sums, out=product), 1, keepdim=True, out=v_step)
            if momentum:
                w.add_(w_velocity.mul_(momentum).addcmul_(sums, v))
                v.add_(v_velocity.mul_(momentum).add_(v_step))
            else:
                w.addcmul_(sums, v)
                v.add_(v_step)


def _check(net: Networks, x: Tensor, y: Tensor, steps: int, lr: float, momentum: float, every: int, kind: str) -> None:
    if x.dim() != 3 or y.shape != x.shape[:2]:
        raise ValueError(f"x must have shape (s, n, d) and y (s, n): they have {tuple(x.shape)} and {tuple(y.shape)}")
    s, _, d = x.shape
    j = net.v.shape[-1]
    shapes = [None if p is None else tuple(p.shape) for p in net]
    if shapes not in ([(s, d, j), (s, j), (s, j)], [(s, d, j), None, (s, j)]):
        raise ValueError(f"the networks' w, b, v have shapes {shapes}, expected {[(s, d, j), (s, j), (s, j)]}")
    if any(p is not None and (p.dtype != x.dtype or p.device != x.device) for p in (*net, y)):
        raise ValueError(f"networks, x and y must share one type and device, here x has {x.dtype} on {x.device}")
    if not bool((y.abs() == 1).all()):
        raise ValueError("the labels y must be -1 or 1")
    if kind not in LOSSES:
        raise ValueError(f"loss {kind!r} must be one of {', '.join(LOSSES)}")
    if steps < 0 or every < 1 or not lr > 0 or not 0 <= momentum < 1:
        raise ValueError(
            f"steps {steps} >= 0, every {every} >= 1, lr {lr} > 0 and 0 <= momentum {momentum} < 1 must hold"
        )
