"""Locally elastic stochastic differential equations (Zhang, Wang and Su 2021), and their impacts estimated from data.

A step of training on a sample of class l moves the features (here: logits) of class k by alpha(t) if k = l and by
beta(t) if not. With X_k the mean of class k, E = alpha on the diagonal and beta off it, and H one of two choices,

    dX_k / dt = (1/K) sum_l E_kl H_l X_l    (LE-ODE),    plus sigma dW for every sample (LE-SDE).

    I-model: H_l = 1.    L-model: H_l = d_l d_l' / |d_l|², d_l = e_l - 1/K: only what identifies class l counts.

A and B are the integrals of alpha and beta. Letters: K classes, s paths, n samples a class, t times, d features.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from scipy.integrate import solve_ivp
from scipy.signal import savgol_filter
from torch import Tensor

Model = Literal["I", "L"]

# --- the equation in closed form --------------------------------------------------------------------------------------


def integrated_power(
    t: Float[Tensor, " t"], r: float | Float[Tensor, "*cells 1"], scale: float = 1.0
) -> Float[Tensor, "*cells t"]:
    """Integral of scale u^-r over u from 1 to t: scale (t^(1-r) - 1) / (1 - r), and scale log t at r = 1."""
    log_t = t.log()
    return scale * log_t * _expm1_ratio((1 - torch.as_tensor(r, dtype=t.dtype)) * log_t)


def _expm1_ratio(x: Tensor) -> Tensor:
    """(e^x - 1) / x, and 1 at 0."""
    return torch.where(x == 0, 1.0, torch.expm1(x) / torch.where(x == 0, 1.0, x))


def targets(classes: int, dtype: torch.dtype = torch.float64) -> Float[Tensor, "K K"]:
    """The vectors d_l = e_l - 1/K of the L-model as rows: corners of a simplex.

    Raises `ValueError` for K < 2.
    """
    if classes < 2:
        raise ValueError(f"{classes} classes: must be 2 or more")
    return torch.eye(classes, dtype=dtype) - 1 / classes


def i_model(
    x0: Float[Tensor, "*batch K d"], a: Float[Tensor, " t"], b: Float[Tensor, " t"]
) -> Float[Tensor, "*batch t K d"]:
    """Class means of the I-model: X_k = c_0 exp((A + (K-1) B) / K) + c_k exp((A - B) / K).

    c_0 is the mean over classes of x0, and c_k the rest; a, b: A(t) and B(t). Raises `ValueError` for K < 2.
    """
    k = len(targets(x0.shape[-2]))
    x0 = x0.unsqueeze(-3)
    common = x0.mean(-2, keepdim=True)
    a, b = a[:, None, None], b[:, None, None]
    return common * ((a + (k - 1) * b) / k).exp() + (x0 - common) * ((a - b) / k).exp()


def l_model(
    x0: Float[Tensor, "*batch K d"], a: Float[Tensor, " t"], b: Float[Tensor, " t"]
) -> Float[Tensor, "*batch t K d"]:
    """Class means of the L-model, exact where beta / alpha is constant within each interval of the grid.

    The scores z_k = d_k . X_k obey an equation of their own: their mean grows as exp((A - B) / K), the rest as
    exp((A + B / (K-1)) / K). Then X_k = x0_k + 1/(K-1) sum_l integral of E_kl z_l, times d_l.

    a, b: A(t) and B(t), starting at 0. Raises `ValueError` for K < 2, or x0 without K features.
    """
    d = targets(x0.shape[-2], x0.dtype)
    k = len(d)
    if x0.shape[-1] != k:
        raise ValueError(f"x0 has {x0.shape[-1]} features, the L-model needs as many as classes: {k}")
    z = (x0 * d).sum(-1).unsqueeze(-2)  # (..., 1, K)
    mean = z.mean(-1, keepdim=True)
    along, across = ((a - b) / k).unsqueeze(1), ((a + b / (k - 1)) / k).unsqueeze(1)  # (t, 1)
    # integral of z over an interval, a step of length 1 in each: z at its start times (e^x - 1) / x
    z = mean * along[:-1].exp() * _expm1_ratio(along.diff(dim=0)) + (z - mean) * across[:-1].exp() * _expm1_ratio(
        across.diff(dim=0)
    )
    own, total = (a - b).diff().unsqueeze(1) * z, b.diff().unsqueeze(1) * z  # (..., t - 1, K)
    moves = (own.unsqueeze(-1) * d + (total @ d).unsqueeze(-2)) / (k - 1)
    return x0.unsqueeze(-3) + F.pad(moves.cumsum(-3), (0, 0, 0, 0, 1, 0))


SOLUTIONS: dict[Model, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"I": i_model, "L": l_model}


def drift(
    x: Float[Tensor, "*batch K d"], alpha: float | Float[Tensor, ""], beta: float | Float[Tensor, ""], model: Model
) -> Float[Tensor, "*batch K d"]:
    """(1/K) sum_l E_kl H_l X_l, the right-hand side."""
    k = x.shape[-2]
    if model == "L":
        d = targets(k, x.dtype)
        x = (x * d).sum(-1, keepdim=True) * d * (k / (k - 1))  # H_l X_l
    return ((alpha - beta) * x + beta * x.sum(-2, keepdim=True)) / k


def integrate(
    x0: Float[Tensor, "K d"],
    alpha: Callable[[float], float],
    beta: Callable[[float], float],
    t: Float[Tensor, " t"],
    model: Model,
) -> Float[Tensor, "t K d"]:
    """The LE-ODE from x0 at t[0] by SciPy's DOP853, for any impacts: what `i_model` and `l_model` have in closed form.

    Computed in double precision. Raises `FloatingPointError` when the integration fails.
    """

    def right(u: float, x: np.ndarray) -> np.ndarray:
        return drift(torch.from_numpy(x).view_as(x0), alpha(u), beta(u), model).flatten().numpy()

    span = float(t[0]), float(t[-1])
    found = solve_ivp(right, span, x0.flatten().numpy(), "DOP853", t.numpy(), rtol=1e-10, atol=1e-12)
    if not found.success:
        raise FloatingPointError(f"the integration of the LE-ODE stopped: {found.message}")
    return torch.from_numpy(found.y.T.copy()).view(len(t), *x0.shape)


# --- the stochastic equation ------------------------------------------------------------------------------------------


def simulate(
    x0: Float[Tensor, "s K d"],
    a: Float[Tensor, " t"],
    b: Float[Tensor, " t"],
    t: Float[Tensor, " t"],
    sigma: float,
    samples: int,
    generator: torch.Generator,
    model: Model,
) -> Float[Tensor, "s K d"]:
    """Class means at the last time along paths of the LE-SDE, all at once (Euler and Maruyama, integrated impacts).

    Every sample has noise of its own; the mean of n of them has sigma / sqrt(n). The samples' distances from their
    mean are Brownian and independent of the means: `separated` adds them at the end.

    a, b: A(t) and B(t) on the grid t. Raises `ValueError` when a step is so long that a mode would more than double or
    change its sign.
    """
    k, size = len(targets(x0.shape[-2])), x0[0].numel()
    da, db = a.diff(), b.diff()
    second = da + (k - 1) * db if model == "I" else da + db / (k - 1)
    largest = float(torch.stack([da - db, second]).abs().max()) / k
    if largest > 1:
        raise ValueError(
            f"a step of the SDE multiplies a mode by 1 ± {largest:.3g}, which must be at most 1 ± 1: "
            f"take {math.ceil(2 * largest)} times as many steps"
        )
    # the drift is linear: what it does to each unit vector is the matrix of a step
    units = torch.eye(size, dtype=a.dtype).view(size, *x0.shape[1:])
    matrices = torch.stack([(units + drift(units, *impacts, model)).flatten(1) for impacts in zip(da, db, strict=True)])
    shock = (sigma * (t.diff() / samples).sqrt()).tolist()
    x = x0.flatten(1)
    for matrix, scale in zip(matrices.to(x), shock, strict=True):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = torch.addmm(noise, x, matrix, beta=scale)
    return x.view_as(x0)


def separated(
    means: Float[Tensor, "*batch K d"],
    spread: float | Float[Tensor, "*batch"],
    samples: int,
    generator: torch.Generator,
) -> Bool[Tensor, "*batch"]:
    """Whether all samples are nearest to the mean of their own class.

    spread: standard deviation of a sample about its class mean. The cloud of n = `samples` is centred, since its mean
    is part of `means`.
    """
    *batch, k, d = means.shape
    cloud = torch.randn(*batch, k, samples, d, generator=generator, dtype=means.dtype)
    cloud -= cloud.mean(-2, keepdim=True)
    spread = torch.as_tensor(spread, dtype=means.dtype)[..., None, None, None]
    points = (means.unsqueeze(-2) + spread * cloud).flatten(-3, -2)  # (..., K n, d)
    nearest = torch.cdist(points, means).argmin(-1).unflatten(-1, (k, samples))
    return (nearest == torch.arange(k)[:, None]).all(-1).all(-1)


def exact_separation(
    gap: Float[Tensor, "cells t"],
    t: Float[Tensor, " t"],
    x0: Float[Tensor, "s K d"],
    sigma: float,
    samples: int,
    generator: torch.Generator,
) -> Bool[Tensor, "cells s"]:
    """Whether paths of the I-model are separated at the last time, drawn from its exact law: no steps, no overflow.

    The class means' distance from their common mean is Gaussian: with G = (A - B) / K, its mean is x0 exp(G(T)) and
    its variance (sigma²/n) integral of exp(2 G(T) - 2 G(u)) du; a sample's variance about its class mean is
    sigma² (T - t_0). All three are divided by the largest, which changes no comparison.

    gap: A - B on the grid t, for each cell.
    """
    g = gap / x0.shape[1]
    g = g[:, -1:] - g
    middle, width = (g[:, 1:] + g[:, :-1]), t.diff().log()  # 2 G at the middle of each interval
    log_shock = 0.5 * torch.logsumexp(middle + width, 1) + math.log(sigma / samples**0.5)
    log_cloud = 0.5 * (t[-1] - t[0]).log() + math.log(sigma)
    logs = torch.stack([g[:, 0], log_shock, log_cloud.expand(len(g))])
    signal, size, cloud = (logs - logs.max(0).values).exp().to(x0)[:, :, None]  # (cells, 1) each
    x0 = x0 - x0.mean(1, keepdim=True)
    shock = torch.randn(len(gap), *x0.shape, generator=generator, dtype=x0.dtype)
    shock -= shock.mean(2, keepdim=True)
    means = signal[..., None, None] * x0 + size[..., None, None] * shock
    return separated(means, cloud.expand(-1, len(x0)), samples, generator)


# --- impacts estimated from a record of class means -------------------------------------------------------------------


def estimate(
    means: Float[Tensor, "*batch t K d"], model: Model
) -> tuple[Float[Tensor, "*batch t"], Float[Tensor, "*batch t"]]:
    """A(t) and B(t) of the model that explains recorded class means; both 0 at the first time.

    I-model: with m the mean over classes and, averaged over classes and features, M = log |m / m(0)| and
    D = log |(X_k - m) / (X_k - m)(0)|: A = M + (K-1) D, B = M - D. L-model: with P = K log of the growth of the mean
    score and Q = K times the average log growth of the scores' distances from it: A = (P + (K-1) Q) / K,
    B = (K-1) (Q - P) / K. Both invert the closed forms above and equal the official code's at K = 3.

    Raises `ValueError` for K < 2, or other than K features.
    """
    d = targets(means.shape[-2], means.dtype)
    k = len(d)
    if means.shape[-1] != k:
        raise ValueError(f"the means have {means.shape[-1]} features, expected as many as classes: {k}")
    if model == "I":
        common = means.mean(-2, keepdim=True)
        m, rest = _growth(common), _growth(means - common)
        return m + (k - 1) * rest, m - rest
    z = (means * d).sum(-1)
    mean = z.mean(-1, keepdim=True)
    p, q = k * _growth(mean.unsqueeze(-1)), k * _growth((z - mean).unsqueeze(-1))
    return (p + (k - 1) * q) / k, (k - 1) * (q - p) / k


def _growth(x: Tensor) -> Tensor:
    """Mean over the last two axes of log |x(t) / x(0)|; a zero, where the sign changes, is kept finite."""
    logs = x.abs().clamp(min=torch.finfo(x.dtype).tiny).log()
    return (logs - logs[..., :1, :, :]).mean((-2, -1))


def derivative(a: Float[Tensor, "*batch t"], window: int, every: int) -> Float[Tensor, "*batch t"]:
    """alpha(t) from A(t): Savitzky and Golay's derivative of order 2, as in the official code.

    a: one value every `every` steps; window: in steps, cut to an odd number of values.
    Raises `ValueError` for a window longer than the record or shorter than three values.
    """
    count = window // every
    count -= 1 - count % 2
    if not 3 <= count <= a.shape[-1]:
        raise ValueError(f"window {window} has {count} values, one every {every} steps: must be 3 to {a.shape[-1]}")
    return torch.from_numpy(savgol_filter(a.numpy(), count, 2, deriv=1, delta=every))


class TailIndex(NamedTuple):
    """The index r, its standard deviation within the window, and where it must not be read as a rate."""

    r: Float[Tensor, "*batch"]
    spread: Float[Tensor, "*batch"]
    marked: Bool[Tensor, "*batch"]


def tail_index(a: Float[Tensor, "*batch t"], t: Float[Tensor, " t"], window: int) -> TailIndex:
    """r = 1 - mean of log |A(t)| / log t over the last `window` steps: A(t) then grows like t^(1-r).

    Near A = 0 the logarithm is meaningless, and below 1 it is negative and makes r > 1 by itself: r is marked where |A|
    is below 1 or A changes its sign within the window. |A| also hides a sign that stays: see A itself.
    Raises `ValueError` when the window is longer than the record.
    """
    inside = t > t[-1] - window
    if window > t[-1] - t[0] or t[inside].min() <= 1:
        span = float(t[-1] - t[0])
        raise ValueError(f"a tail window of {window} steps: must be shorter than the record, {span:g} after step 1")
    a = a[..., inside]
    r = 1 - a.abs().clamp(min=torch.finfo(a.dtype).tiny).log() / t[inside].log()
    near = (a.abs() < 1) | (a.sign() != a[..., -1:].sign())
    return TailIndex(r.mean(-1), r.std(-1, correction=0), near.any(-1))
