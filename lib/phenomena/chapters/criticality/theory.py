"""How the size of a signal changes from layer to layer of a random network, with infinite and with finite width.

Layer l of a multilayer perceptron has the pre-activations z_l = b + W s(z_(l-1)) with W_ij ~ N(0, C_W / n) and
b_i ~ N(0, C_b), n the width. Its kernel K_l = C_b + C_W |s(z_(l-1))|² / n is the variance of a pre-activation given the
layer before.

Reference: Roberts, Yaida, Hanin, "The Principles of Deep Learning Theory", Cambridge University Press 2022
(arXiv 2106.10165). Of it the abstract was read; every formula below is derived here or in the notebook, and tested.

Letters: l layer, L depth, n width, K kernel, s activation, g standard normal.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import brentq
from scipy.special import betaincinv, digamma, gammaln, ndtr, polygamma
from torch import Tensor

Activation = Callable[[Tensor], Tensor]

SLOPE = 0.1  # of the leaky ReLU on the negative side
ACTIVATIONS: dict[str, Activation] = {
    "relu": torch.relu,
    "leaky": lambda z: torch.nn.functional.leaky_relu(z, SLOPE),
    "linear": lambda z: z,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    "sigmoid": torch.sigmoid,
    "softplus": torch.nn.functional.softplus,
}
SLOPES = {"relu": (1.0, 0.0), "leaky": (1.0, SLOPE), "linear": (1.0, 1.0)}  # of those that are lines on either side
LARGEST = 1e8  # of the kernels at which means are computed
ROOTS = 1e4  # of those at which critical points are looked for
SMALLEST = 1e-6


def activation(name: str | Activation) -> Activation:
    """The function of that name, or the function itself. Raises `ValueError` for an unknown name.

    >>> activation("relu")(torch.tensor([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    if callable(name):
        return name
    if name not in ACTIVATIONS:
        raise ValueError(f"activation is {name!r}: must be one of {', '.join(ACTIVATIONS)}, or a function of a tensor")
    return ACTIVATIONS[name]


# --- infinite width ---------------------------------------------------------------------------------------------------


def _nodes() -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, " q"]]:
    """Gauss-Legendre nodes and weights of the standard normal law on (0, 12), in panels that narrow towards 0.

    On either side of 0, so that a kink there costs no accuracy, and with panels as narrow as the widest kernel asks.
    """
    edges = np.r_[0, np.geomspace(1e-4, 0.5, 12), np.arange(1, 12.1, 0.5)]
    x, w = np.polynomial.legendre.leggauss(40)
    half = np.diff(edges)[:, None] / 2
    at = (edges[:-1, None] + half + half * x).ravel()
    return at, (half * w).ravel() * np.exp(-(at**2) / 2) / math.sqrt(2 * math.pi)


_AT, _WEIGHT = _nodes()
_BOTH, _WEIGHTS = np.r_[-_AT[::-1], _AT], np.r_[_WEIGHT[::-1], _WEIGHT]


def mean(function: Callable[[Tensor], Tensor], kernel: float) -> float:
    """Mean of function(z) for z ~ N(0, kernel), by Gauss-Legendre quadrature on either side of 0.

    Exact to nine digits for functions that are smooth but for a kink at 0; for those that oscillate, such as the sine,
    up to kernels of 10,000. Raises `ValueError` for a kernel outside (0, 1e8], and where the mean is made up by values
    more than 12 standard deviations out, as for an exponential at a large kernel.

    >>> round(mean(torch.square, 2.0), 10)
    2.0
    """
    if not 0 < kernel <= LARGEST:
        raise ValueError(f"kernel is {kernel:g}: must be above 0 and at most {LARGEST:g}")
    parts = function(torch.from_numpy(math.sqrt(kernel) * _BOTH)).numpy() * _WEIGHTS
    if not np.abs(parts[[0, -1]]).max() <= 1e-9 * np.abs(parts).max():
        raise ValueError(f"kernel is {kernel:g}: the activation grows too fast for a mean; must be smaller")
    return float(parts.sum())


def second_moment(act: str | Activation, kernel: float) -> float:
    """<s(z)²> for z ~ N(0, kernel): what a wide layer hands on. Raises `ValueError` as `mean`.

    >>> round(second_moment("relu", 3.0), 10)
    1.5
    """
    s = activation(act)
    return mean(lambda z: s(z).square(), kernel)


def susceptibilities(act: str | Activation, kernel: float, c_w: float) -> tuple[float, float]:
    """chi_par and chi_perp: how a layer multiplies a small difference along the input and across it.

        chi_par = C_W d <s²> / dK = C_W <s² (z² - K)> / (2 K²),     chi_perp = C_W <s'²>

    The first form needs no derivative of s. Both are 1 at a critical point. Raises `ValueError` as `mean`, and for
    c_w that is not positive.

    >>> [round(chi, 10) for chi in susceptibilities("relu", 1.0, 2.0)]
    [1.0, 1.0]
    """
    if not c_w > 0:
        raise ValueError(f"c_w is {c_w:g}: must be positive")
    s = activation(act)

    def slope(z: Tensor) -> Tensor:
        z = z.detach().requires_grad_()
        (found,) = torch.autograd.grad(s(z).sum(), z)
        return found.square()

    along = mean(lambda z: s(z).square() * (z.square() - kernel), kernel) / (2 * kernel**2)
    return c_w * along, c_w * mean(slope, kernel)


def recursion(
    act: str | Activation, kernel: float, depth: int, *, c_w: float, c_b: float = 0.0
) -> Float[np.ndarray, " L"]:
    """Kernels of layers 1 to `depth` of an infinitely wide network: K_(l+1) = C_b + C_W <s²>_(K_l).

    kernel: that of layer 1. Raises `ValueError` for a depth below 1, c_w that is not positive, negative c_b, and where
    a kernel leaves the range of `mean`: the line names the layer.

    >>> recursion("relu", 1.0, 4, c_w=1.0).round(6).tolist()
    [1.0, 0.5, 0.25, 0.125]
    """
    check(depth=depth, c_w=c_w, c_b=c_b)
    kernels = [kernel]
    for layer in range(2, depth + 1):
        kernel = c_b + c_w * (kernel * sum(a**2 for a in SLOPES[act]) / 2 if act in SLOPES else _moment(act, kernel))
        if not 0 < kernel <= (1e300 if act in SLOPES else LARGEST):
            raise ValueError(
                f"c_w is {c_w:g}: the kernel is {kernel:.3g} at layer {layer} and leaves the range of numbers; must be "
                "closer to the critical value, or depth smaller"
            )
        kernels.append(kernel)
    return np.array(kernels)


def _moment(act: str | Activation, kernel: float) -> float:
    """<s²>; below the smallest kernel that quadrature resolves well, s is a line through what it is at 0."""
    if kernel >= SMALLEST**2:
        return second_moment(act, kernel)
    return second_moment(act, SMALLEST**2) * kernel / SMALLEST**2


class Critical(NamedTuple):
    """A critical point: weights and biases at which both susceptibilities are 1.

    kernel: the fixed point K*; nan where every kernel is one.
    kind: "scale-invariant" (every kernel is a fixed point), "zero" (K* = 0, reached as a power of depth) or
        "half-stable" (K* > 0, reached from one side).
    """

    c_b: float
    c_w: float
    kernel: float
    kind: str


def critical_point(act: str | Activation) -> Critical:
    """The critical C_b and C_W of an activation, found from its values alone.

    Both susceptibilities are 1 at K* if d <s²> / dK = <s'²>, that is <s s''> = 0; then C_W = 1 / <s'²> and
    C_b = K* - C_W <s²>, which must not be negative. Three cases, in this order:

    - <s²> is proportional to K: C_b = 0 and C_W = K / <s²> at every K.
    - s(0) = 0, and at C_W = 1 / s'(0)² a small kernel shrinks: K* = 0, and K_l -> 1 / (|a| l) with `curvature` a.
    - The smallest root K* of d <s²> / dK - <s'²> in (10^-3, 10^4) at which C_b >= 0, by Brent's method.

    Raises `ValueError` where there is none, as for the sigmoid (K* = 0 would need C_b = -C_W / 4) and softplus
    (s s'' > 0 everywhere).

    >>> critical_point("tanh")[:2], critical_point("relu")[:2]
    ((0.0, 1.0), (0.0, 2.0))
    """
    moments = [second_moment(act, k) / k for k in (0.01, 0.1, 1.0)]
    if np.ptp(moments) < 1e-9 * moments[0]:
        return Critical(0.0, round(1 / moments[0], 9), math.nan, "scale-invariant")
    if abs(activation(act)(torch.zeros(1, dtype=torch.float64)).item()) < 1e-12:
        slope = susceptibilities(act, SMALLEST**2, 1.0)[1]
        if slope > 1e-9 and second_moment(act, 1e-3) < slope * 1e-3:
            return Critical(0.0, round(1 / slope, 9), 0.0, "zero")

    def gap(log: float) -> float:
        try:
            along, across = susceptibilities(act, math.exp(log), 1.0)
        except ValueError:  # it grows too fast there
            return math.nan
        return along - across

    grid = np.linspace(math.log(1e-3), math.log(ROOTS), 120)
    gaps = [gap(log) for log in grid]
    for low, high, left, right in zip(grid, grid[1:], gaps, gaps[1:], strict=False):
        if left * right < 0:
            kernel = math.exp(brentq(gap, low, high, xtol=1e-13, rtol=1e-13))
            c_w = 1 / susceptibilities(act, kernel, 1.0)[1]
            c_b = kernel - c_w * second_moment(act, kernel)
            if c_b >= 0:
                return Critical(c_b, c_w, kernel, "half-stable")
    name = act if isinstance(act, str) else getattr(act, "__name__", "the function")
    raise ValueError(
        f"activation is {name!r}: it has no critical point; must be one that has, such as relu, leaky, linear, tanh, "
        "sin, gelu, silu"
    )


def curvature(act: str | Activation) -> float:
    """The a of K' = K + a K² + ... for an activation with s(0) = 0 at C_W = 1 / s'(0)²: -2 for tanh, -1 for sin.

    With s = s1 z + s2 z² / 2 + s3 z³ / 6 it is 3 s2² / (4 s1²) + s3 / s1, here from the third derivative by autograd.
    At C_W = 1 / s'(0)² the kernel falls as K_l -> 1 / (|a| l) if a < 0, and grows without bound if a > 0.

    >>> round(curvature("tanh"), 9), round(curvature("sin"), 9)
    (-2.0, -1.0)
    """
    z = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    found, order = activation(act)(z) + 0 * z**4, []  # the term keeps a graph where derivatives end
    for _ in range(3):
        (found,) = torch.autograd.grad(found.sum(), z, create_graph=True)
        order.append(found.item())
    first, second, third = order
    return 3 * second**2 / (4 * first**2) + third / first


# --- finite width, exactly --------------------------------------------------------------------------------------------


class LogNorm(NamedTuple):
    """Mean and variance of log (C_W |s(z)|² / n), z n standard normal numbers: the step of log K in one layer."""

    mean: float
    variance: float


def log_norm(act: str, width: int, c_w: float) -> LogNorm:
    """Mean and variance of the step of log K in a layer of `width` units, exact, of a scale-invariant activation.

    With slopes a_+ and a_- the sum of squares is T (a_-² + (a_+² - a_-²) R), T ~ chi²_n independent of R, where R is
    Beta(k / 2, (n - k) / 2) and k ~ Binomial(n, 1/2) units are positive. Hence, with digamma and trigamma,

        linear: mean digamma(n/2) + log(2/n) + log C_W,    variance trigamma(n/2)

    and for the others the same plus mean and variance of log(a_-² + (a_+² - a_-²) R): for ReLU a mixture of log
    chi²_k, given that one unit at least is on (all are off with probability 2^-n); for the leaky ReLU by quadrature
    over the quantiles of R. Derived here.

    Raises `ValueError` for another activation, a width below 1 and c_w that is not positive.

    >>> found = log_norm("linear", 64, 1.0)
    >>> round(found.mean, 6), round(64 * found.variance, 3)
    (-0.015706, 2.032)
    """
    if act not in SLOPES:
        raise ValueError(f"activation is {act!r}: must be one of {', '.join(SLOPES)}, which are lines on either side")
    check(width=width, c_w=c_w)
    n, (plus, minus) = width, SLOPES[act]
    whole = digamma(n / 2) + math.log(2 / n) + math.log(c_w), float(polygamma(1, n / 2))
    if plus == minus:
        return LogNorm(float(whole[0] + math.log(plus**2)), whole[1])
    k = np.arange(n + 1)
    chance = np.exp(gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) - n * math.log(2))
    if minus == 0:
        k, chance = k[1:], chance[1:] / chance[1:].sum()
        first, spread = digamma(k / 2) + math.log(2 / n) + math.log(c_w * plus**2), polygamma(1, k / 2)
    else:
        nodes, weights = np.polynomial.legendre.leggauss(200)
        inner = betaincinv(k[1:-1, None] / 2, (n - k[1:-1, None]) / 2, (nodes + 1) / 2)
        r = np.concatenate([np.zeros((1, 200)), inner, np.ones((1, 200))])
        logs = np.log(minus**2 + (plus**2 - minus**2) * r)
        first, second = logs @ weights / 2, logs**2 @ weights / 2
        first, spread = first + whole[0], second - first**2 + whole[1]
    average = float(chance @ first)
    return LogNorm(average, float(chance @ (spread + (first - average) ** 2)))


def exact_rate(act: str, width: int, c_w: float, c_b: float = 0.0) -> float:
    """Mean step of log K a layer where it is known, that is for scale-invariant activations without biases; else nan.

    >>> round(exact_rate("linear", 64, 1.0), 6), exact_rate("tanh", 64, 1.0)
    (-0.015706, nan)
    """
    return log_norm(act, width, c_w).mean if act in SLOPES and c_b == 0 else math.nan


def moment_growth(act: str) -> float:
    """The c of E K² / (E K)² = (1 + c / n)^L: 2 for linear, 5 for ReLU, 6 (a_+⁴ + a_-⁴) / (a_+² + a_-²)² - 1.

    >>> moment_growth("linear"), moment_growth("relu")
    (2.0, 5.0)
    """
    if act not in SLOPES:
        raise ValueError(f"activation is {act!r}: must be one of {', '.join(SLOPES)}, which are lines on either side")
    plus, minus = SLOPES[act]
    return 6 * (plus**4 + minus**4) / (plus**2 + minus**2) ** 2 - 1


def second_moment_ratio(act: str, width: int, depth: int) -> float:
    """E K² / (E K)² after `depth` layers, (1 + c / n)^L, exact; the kurtosis of an output is three times that.

    It cannot be measured where depth / width is near 1: see `networks_needed`. Raises `ValueError` for another
    activation, width or depth below 1, and where it leaves the range of numbers.

    >>> round(second_moment_ratio("relu", 64, 64), 1)
    123.3
    """
    check(width=width, depth=depth)
    log = depth * math.log1p(moment_growth(act) / width)
    if log > 700:
        raise ValueError(
            f"width is {width}: at depth {depth} the moment is e^{log:.0f} and leaves the range of numbers; must be "
            f"{math.ceil(moment_growth(act) * depth / 700)} or more"
        )
    return math.exp(log)


def networks_needed(variance: float) -> float:
    """How many networks it takes until one of them is as large as those that make up E K².

    If log K is normal with this variance v, the mean of K² is that of networks whose log K lies 2 v above the middle,
    2 sqrt(v) standard deviations: one in 1 / P(g > 2 sqrt(v)). Derived here.

    >>> round(networks_needed(0.25)), round(networks_needed(5.3), -3)
    (6, 483000.0)
    """
    if not 0 <= variance < 300:
        raise ValueError(f"variance is {variance:g}: must be 0 to 300")
    return float(1 / ndtr(-2 * math.sqrt(variance)))


def check(**given: float) -> None:
    """Raises `ValueError` naming what is out of range: width and depth below 1, c_w not positive, c_b negative.

    >>> check(width=0)
    Traceback (most recent call last):
    ValueError: width is 0: must be a whole number, 1 or more
    """
    for name, value in given.items():
        if name in ("width", "depth", "networks") and not (value >= 1 and value == int(value)):
            raise ValueError(f"{name} is {value}: must be a whole number, 1 or more")
        if name == "c_w" and not 0 < value < math.inf:
            raise ValueError(f"c_w is {value:g}: must be positive and finite")
        if name == "c_b" and not 0 <= value < math.inf:
            raise ValueError(f"c_b is {value:g}: must be 0 or more, and finite")
