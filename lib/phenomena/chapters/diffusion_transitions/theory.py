"""Where a diffusion model commits, in closed form: critical points, the mean-field magnet, clones, collapse.

Noise is added by the variance-preserving process: at signal a in (0, 1) a sample is x = a x_0 + sqrt(1 - a²) z. Two
equal classes are Gaussians of standard deviation sigma whose means lie at +M u and -M u, |u| = 1; two deltas at +1 and
-1 are M = 1, sigma = 0. Along u the noisy classes have the variance v = 1 - a² + a² sigma².

References:
    Raya, Ambrogioni, "Spontaneous Symmetry Breaking in Generative Diffusion Models", NeurIPS 2023.
    Ambrogioni, "The Statistical Thermodynamics of Generative Diffusion Models", Entropy 27(3) 291, 2025.

Where no place is named, a formula is derived here. Letters: a signal (theta in the papers), t time, s seeds, n rows,
k components, d dimension.
"""

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float64
from scipy.optimize import brentq
from torch import Tensor

Dynamics = Literal["density", "sde", "ode"]


# --- the schedule -----------------------------------------------------------------------------------------------------


def check_signal(a: float, name: str = "signal") -> None:
    """Raises `ValueError` unless 0 < a < 1: at 0 there is no signal, and at 1 no noise to divide by.

    >>> check_signal(1.0)
    Traceback (most recent call last):
    ValueError: signal is 1.0: must lie between 0 and 1, both excluded
    """
    if not 0 < a < 1:
        raise ValueError(f"{name} is {a}: must lie between 0 and 1, both excluded")


def signal(t: float, beta_min: float = 0.1, beta_max: float = 20.0) -> float:
    """Signal of the linear schedule, a = exp(-t² (beta_max - beta_min) / 4 - t beta_min / 2).

    It solves da/dt = -beta(t) a / 2 with beta(t) = beta_min + t (beta_max - beta_min).
    t: in [0, 1]. beta_min, beta_max: a rate of noise per unit of time, 0 < beta_min <= beta_max.

    Raises `ValueError` for a t outside [0, 1], and for a schedule that leaves (0, 1) before or at t = 1.

    >>> round(signal(1.0), 4), signal(0.0)
    (0.0066, 1.0)
    """
    if not 0 <= t <= 1:
        raise ValueError(f"t is {t}: must be 0 to 1")
    if not 0 < beta_min <= beta_max:
        raise ValueError(f"beta_min is {beta_min}, beta_max is {beta_max}: must be 0 < beta_min <= beta_max")
    check_signal(math.exp(-(beta_max + beta_min) / 4), f"the signal at t = 1 for beta_max = {beta_max:g}")
    return math.exp(-t * t * (beta_max - beta_min) / 4 - t * beta_min / 2)


def time_at(a: float, beta_min: float = 0.1, beta_max: float = 20.0) -> float:
    """The time t at which `signal` is a: the positive root of a quadratic equation.

    Raises `ValueError` unless 0 < a < 1.

    >>> round(time_at(0.5**0.5), 4), round(time_at((2**0.5 - 1) ** 0.5), 4)
    (0.259, 0.2926)
    """
    check_signal(a)
    quadratic, linear, depth = (beta_max - beta_min) / 4, beta_min / 2, -math.log(a)
    return 2 * depth / (linear + math.sqrt(linear**2 + 4 * quadratic * depth))


# --- three critical points --------------------------------------------------------------------------------------------


def slope(dynamics: Dynamics, a: float, separation: float = 1.0, sigma: float = 0.0) -> float:
    """Slope at the midpoint, along u, of what moves a sample; where it is positive the midpoint repels.

    The score grad log p has the slope h = (a² M² - v) / v². Per unit of beta, the generative SDE drifts with
    x / 2 + score and the probability-flow ODE with (x + score) / 2: their slopes are 1/2 + h and (1 + h) / 2.
    dynamics: "density" for the score itself, "sde" or "ode". separation: M. sigma: standard deviation of a class.

    Raises `ValueError` for a signal outside (0, 1), M <= 0, sigma < 0 or other dynamics.

    >>> round(slope("density", 0.5**0.5), 12), slope("ode", 0.1) > 0
    (0.0, True)
    """
    _check_classes(separation, sigma)
    check_signal(a)
    _check_dynamics(dynamics)
    v = 1 - a * a * (1 - sigma * sigma)
    h = (a * a * separation**2 - v) / v**2
    return {"density": h, "sde": 0.5 + h, "ode": (1 + h) / 2}[dynamics]


def critical_signal(dynamics: Dynamics, separation: float = 1.0, sigma: float = 0.0) -> float | None:
    """The signal at which the midpoint of two equal classes loses its stability; None where it never does.

    With q = a² and c = 1 - sigma², `slope` is zero at
      density  q = 1 / (M² + c)                          1/2 for two deltas
      sde      q = 1 / (M² + sqrt(M⁴ + c²))              sqrt(2) - 1 for two deltas
      ode      q = (c - M²) / c² if M² < c, else never   never for two deltas
    The last is the time at which a Gaussian narrower than the noise stops to contract; it has nothing to do with
    classes, and data scaled to variance M² + sigma² >= 1 along u have none.

    Raises `ValueError` for M <= 0, sigma < 0 or other dynamics.

    >>> [critical_signal(name) for name in ("density", "sde", "ode")]
    [0.7071067811865476, 0.6435942529055827, None]
    """
    _check_classes(separation, sigma)
    _check_dynamics(dynamics)
    square, c = separation**2, 1 - sigma * sigma
    if dynamics == "density":
        q = 1 / (square + c) if square + c > 0 else math.inf
    elif dynamics == "sde":
        q = 1 / (square + math.hypot(square, c))
    else:
        q = (c - square) / c**2 if square < c else 0.0
    return math.sqrt(q) if 0 < q < 1 else None


def _check_dynamics(dynamics: str) -> None:
    if dynamics not in get_args(Dynamics):
        raise ValueError(f"dynamics is {dynamics!r}: must be one of {', '.join(get_args(Dynamics))}")


def _check_classes(separation: float, sigma: float) -> None:
    if not separation > 0:
        raise ValueError(f"separation is {separation}: must be above 0")
    if not sigma >= 0:
        raise ValueError(f"sigma is {sigma}: must be 0 or more")


# --- the magnet -------------------------------------------------------------------------------------------------------


def coupling(a: float, dynamics: Dynamics = "density") -> float:
    """The coupling J of two deltas: what moves a sample vanishes where m = tanh(J m + h), m the denoiser.

    This is the self-consistency equation of the Curie-Weiss magnet, with J for the inverse temperature and, for the
    score, half the log odds of the two classes for the field h.
      density  J = a² / (1 - a²), at x = a m                     J = 1 at a² = 1/2
      sde      J = 2 a² / (1 - a⁴), at x = 2 a m / (1 + a²)      J = 1 at a² = sqrt(2) - 1
      ode      J = 1 / (1 - a²), at x = m / a                    J > 1 always

    Raises `ValueError` for a signal outside (0, 1) or other dynamics.

    >>> round(coupling(0.5**0.5), 12), round(coupling((2**0.5 - 1) ** 0.5, "sde"), 12), coupling(0.6, "ode")
    (1.0, 1.0, 1.5625)
    """
    check_signal(a)
    _check_dynamics(dynamics)
    q = a * a
    return {"density": q / (1 - q), "sde": 2 * q / (1 - q * q), "ode": 1 / (1 - q)}[dynamics]


def magnetization(j: float, h: float = 0.0) -> float:
    """The largest solution m of m = tanh(J m + h).

    For m > 0 and h >= 0 the difference m - tanh(J m + h) is convex, so that Newton's method from m = 1 falls to the
    largest root without passing it. j: J >= 0. h: 0 or more.

    Raises `ValueError` for a negative J or h.

    >>> magnetization(1.0), round(magnetization(1.5), 4), round(magnetization(0.0, 0.5), 4)
    (0.0, 0.8586, 0.4621)
    """
    if not (j >= 0 and h >= 0):
        raise ValueError(f"J is {j}, h is {h}: both must be 0 or more")
    if h == 0 and j <= 1:
        return 0.0
    m = 1.0
    for _ in range(500):
        t = math.tanh(j * m + h)
        gap, rate = m - t, 1 - j * (1 - t * t)
        if gap <= 1e-16 or rate <= 0:
            break
        m -= gap / rate
    return m


def free_energy(m: Float64[Tensor, "*n"], j: float, h: float = 0.0) -> Float64[Tensor, "*n"]:
    """f(m) = J m² / 2 - log 2 cosh(J m + h), whose stationary points solve m = tanh(J m + h).

    For two deltas it is -log p at x = a m, up to a constant: -log p(x) is x² / 2 v - log cosh(a x / v + h), and there
    x² / v = J m².

    >>> import torch
    >>> round(free_energy(torch.zeros(1, dtype=torch.float64), 1.0).item(), 4)
    -0.6931
    """
    inner = j * m + h
    return j * m * m / 2 - torch.logaddexp(inner, -inner)


def spinodal(h: float) -> float:
    """The coupling J at which a second stable solution, m < 0, of m = tanh(J m + h) appears, for a field h >= 0.

    There m = -sqrt(1 - 1/J), and h = sqrt(J (J - 1)) - artanh(sqrt(1 - 1/J)). For h = 0 it is the critical point J = 1;
    for h > 0 the solution appears at a distance from the one that exists all along, as at a first-order transition.

    Raises `ValueError` for a negative h.

    >>> spinodal(0.0), round(spinodal(math.log(9) / 2), 3)
    (1.0, 2.746)
    """
    if not h >= 0:
        raise ValueError(f"h is {h}: must be 0 or more")
    if h == 0:
        return 1.0

    def excess(j: float) -> float:
        root = math.sqrt(1 - 1 / j)
        return j * root - math.atanh(root) - h

    return float(brentq(excess, 1.0, h + 3 + h * h, xtol=1e-12))


# --- clones -----------------------------------------------------------------------------------------------------------


def signal_to_noise(a: float, separation: float, sigma: float) -> float:
    """a M / sqrt(v): how far apart the two noisy classes are; 1 at the critical point of the density.

    >>> round(signal_to_noise(critical_signal("density", 4.0, 1.0), 4.0, 1.0), 12)
    1.0
    """
    _check_classes(separation, sigma)
    check_signal(a)
    return a * separation / math.sqrt(1 - a * a * (1 - sigma * sigma))


def same_class(ratio: float, weight: float = 0.5) -> float:
    """Probability that two independent paths from a common noisy point end in the same of two classes.

    Given x the paths are independent, and each ends in class + with the posterior r(x): P = E[r² + (1 - r)²]. With
    y = x / sqrt(v) of law N(+-rho, 1), r = sigmoid(2 rho y + log(w / (1 - w))); with equal weights this is
    P = 1/2 + E tanh²(rho (rho + g)) / 2, g normal. The integral over g is a trapezoidal sum, exact to 1e-10.

    ratio: rho = `signal_to_noise`, 0 or more. weight: w of class +, in (0, 1).
    Raises `ValueError` outside these.

    >>> round(same_class(0.0), 6), round(same_class(1.0), 4), round(same_class(0.0, 0.9), 6)
    (0.5, 0.7752, 0.82)
    """
    if not ratio >= 0:
        raise ValueError(f"ratio is {ratio}: must be 0 or more")
    check_signal(weight, "weight")
    g = torch.linspace(-9, 9, 4001, dtype=torch.float64)
    mass = torch.exp(-g * g / 2) * (18 / 4000) / math.sqrt(2 * math.pi)
    odds, total = math.log(weight / (1 - weight)), 0.0
    for sign, share in ((1, weight), (-1, 1 - weight)):
        r = torch.sigmoid(2 * ratio * (sign * ratio + g) + odds)
        total += share * float(mass @ (r * r + (1 - r) ** 2))
    return total


# --- collapse onto the training points --------------------------------------------------------------------------------


def collapse_signal(n: int, d: float) -> float:
    """Signal above which the exact score of n points drawn from N(0, I_d) returns the nearest point: a² = 1 - n^(-2/d).

    At x = a x_i + sqrt(1 - a²) z the own point has the log weight -|z|² / 2, about -d / 2; the n - 1 others sum to n
    times the Gaussian mean of their weights, log n - (d / 2) log(1 + a² / (1 - a²)) - d / 2. Both are equal at
    log n = -(d / 2) log(1 - a²). This is the condensation of Derrida's random-energy model in its annealed form
    (Ambrogioni 2025, section 11, connects the two).

    Raises `ValueError` for fewer than two points or d <= 0.

    >>> round(collapse_signal(1000, 16), 4), round(time_at(collapse_signal(1000, 16)), 3)
    (0.7605, 0.23)
    """
    if n < 2 or not d > 0:
        raise ValueError(f"{n} points in {d} dimensions: must be 2 or more points, and d above 0")
    return math.sqrt(-math.expm1(-2 * math.log(n) / d))
