"""Closed forms of the risk of least squares: with few and many parameters, with a ridge, and along gradient descent.

Labels are y = x . theta + e with noise e of variance sigma² and features x of covariance Sigma. The estimator is
ridge regression, argmin |y - X b|² / n + lambda |b|², or its limit lambda -> 0, the least-norm solution. The risk is
the excess risk, the mean of (x . b - x . theta)² at a fresh x, without the noise of its label.

To use them on a spectrum of one's own: `in_eigenbasis` turns a covariance matrix and coefficients into eigenvalues
and target, and `equivalent` gives bias, variance and effective regularization for any n, noise and ridge.

References:
    Hastie, Montanari, Rosset, Tibshirani, "Surprises in high-dimensional ridgeless least squares interpolation",
        Annals of Statistics 2022.
    Bartlett, Long, Lugosi, Tsigler, "Benign overfitting in linear regression", PNAS 2020.
    Muthukumar, Vodrahalli, Subramanian, Sahai, "Harmless interpolation of noisy data in regression", 2019.
    Dar, Muthukumar, Baraniuk, "A farewell to the bias-variance tradeoff?", 2021.
The formulas are derived in the notebook or here; tests compare them with simulation and with each other.

Letters: n samples, p features, l eigenvalues of Sigma, k frequencies or the index of a tail, t times, N random
features, d inputs of these.
"""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.optimize import brentq

Vector = Float[np.ndarray, " p"]
Array = Any  # what NumPy makes an array of; its shape is checked, and refused in words


# --- isotropic features, exactly --------------------------------------------------------------------------------------


def isotropic_risk(n: int, p: int, *, signal: float = 1.0, noise: float = 0.25, unseen: float = 0.0) -> float:
    """Expected excess risk of least squares on n rows of p standard normal features, exact for every n and p.

    With s² = noise + unseen, E tr (X^T X)^-1 = p / (n - p - 1) below the threshold, E tr (X X^T)^-1 = n / (p - n - 1)
    above it (the mean of the inverse Wishart law), and a projection onto n random directions out of p:

        p <= n - 2:  s² p / (n - p - 1) + unseen
        p >= n + 2:  signal (1 - n / p) + s² n / (p - n - 1) + unseen

    and infinite in between. Derived in the notebook; its limit at fixed p / n is `asymptotic_risk`.

    signal: |theta|² on the features that the model sees.
    noise: sigma².
    unseen: |theta|² on further features of the truth, standard normal too, that the model lacks: misspecification.
    Raises `ValueError` for n or p below 1 and for a negative power.

    >>> isotropic_risk(100, 50), isotropic_risk(100, 100), round(isotropic_risk(100, 200), 4)
    (0.25510204081632654, inf, 0.7525)
    """
    check_counts(n=n, p=p)
    _check_powers(signal=signal, noise=noise, unseen=unseen)
    total = noise + unseen
    if p <= n - 2:
        return total * p / (n - p - 1) + unseen
    if p >= n + 2:
        return signal * (1 - n / p) + total * n / (p - n - 1) + unseen
    return math.inf


def asymptotic_risk(gamma: float, *, signal: float = 1.0, noise: float = 0.25) -> float:
    """The limit of `isotropic_risk` for n and p growing with p / n = gamma (Hastie et al., isotropic features).

    noise gamma / (1 - gamma) for gamma < 1, signal (1 - 1 / gamma) + noise / (gamma - 1) for gamma > 1, infinite at 1.
    Raises `ValueError` for gamma that is not positive and for a negative power.

    >>> asymptotic_risk(0.5), asymptotic_risk(2.0)
    (0.25, 0.75)
    """
    if not gamma > 0:
        raise ValueError(f"gamma is {gamma}: must be positive")
    _check_powers(signal=signal, noise=noise)
    if gamma == 1:
        return math.inf
    return noise * gamma / (1 - gamma) if gamma < 1 else signal * (1 - 1 / gamma) + noise / (gamma - 1)


def second_minimum(signal: float, noise: float) -> tuple[float, float] | None:
    """Place p / n and value of the local minimum of `asymptotic_risk` beyond the threshold; None where there is none.

    With r = sqrt(signal) and s = sqrt(noise): at r / (r - s), of value 2 r s - noise, if r > s. Without noise the
    risk rises from 0 at the threshold, which is the minimum.

    >>> second_minimum(1.0, 0.25)
    (2.0, 0.75)
    """
    _check_powers(signal=signal, noise=noise)
    r, s = math.sqrt(signal), math.sqrt(noise)
    return (r / (r - s), 2 * r * s - noise) if r > s else None


def best_ridge(n: int, p: int, *, signal: float = 1.0, noise: float = 0.25) -> float:
    """The ridge lambda of least risk on isotropic features whose target points anywhere: noise p / (n signal).

    It is the posterior mean under theta ~ N(0, signal / p), so that no other estimator does better on average.
    Raises `ValueError` for counts below 1, a negative noise, a signal that is not positive.

    >>> best_ridge(100, 200)
    0.5
    """
    check_counts(n=n, p=p)
    _check_powers(noise=noise)
    if not signal > 0:
        raise ValueError(f"signal is {signal}: must be positive")
    return noise * p / (n * signal)


# --- any spectrum, any ridge ------------------------------------------------------------------------------------------


class Equivalent(NamedTuple):
    """The deterministic equivalent of the risk of ridge regression.

    kappa: the effective regularization.
    df1, df2: sum of l / (l + kappa) and of its square, the degrees of freedom.
    bias: what is lost without noise. variance: what the noise adds.
    """

    kappa: float
    df1: float
    df2: float
    bias: float
    variance: float

    @property
    def risk(self) -> float:
        """Excess risk: bias + variance."""
        return self.bias + self.variance


def equivalent(eigenvalues: Array, target: Array, n: int, *, noise: float = 0.25, ridge: float = 0.0) -> Equivalent:
    """Excess risk of ridge regression, or of the least-norm solution, for any covariance of the features.

    kappa is the root of n = sum l / (l + kappa) + n ridge / kappa. With df2 = sum (l / (l + kappa))²,

        bias = kappa² sum l theta² / (l + kappa)² / (1 - df2 / n),    variance = noise (df2 / n) / (1 - df2 / n).

    Both are limits for n and the number of large eigenvalues growing together (Hastie et al., theorem on a general
    covariance); for finite n they are off by terms of order 1 / n, more where few directions count.

    eigenvalues: (p,) of the covariance matrix, 0 or more; their order is free.
    target: (p,) coefficients theta in the basis of the eigenvectors (`in_eigenbasis`).
    n: samples. noise: sigma². ridge: lambda of |y - X b|² / n + lambda |b|².

    Without a ridge and with fewer than n eigenvalues above 0, kappa is 0: ordinary least squares. With exactly n of
    them there is no equivalent: the risk is infinite. Raises `ValueError` there, for a count below 1, a negative
    noise or ridge, eigenvalues that are negative, not finite or all 0, and shapes that differ.

    >>> eigenvalues = 1 / np.arange(1, 1001)          # one's own covariance
    >>> target = np.zeros(1000)
    >>> target[:3] = 1                                 # one's own coefficients
    >>> found = equivalent(eigenvalues, target, n=50, noise=0.1)
    >>> round(found.kappa, 4), round(found.bias, 4), round(found.variance, 4), round(found.risk, 4)
    (0.0892, 0.0419, 0.0269, 0.0688)
    """
    lam, theta = _check_spectrum(eigenvalues, target)
    check_counts(n=n)
    _check_powers(noise=noise, ridge=ridge)
    kappa = effective_regularization(lam, n, ridge)
    seen = lam[lam > 0] / (lam[lam > 0] + kappa)
    df1, df2 = float(seen.sum()), float((seen**2).sum())
    left = float((lam * theta**2 * np.where(lam > 0, kappa / np.where(lam > 0, lam + kappa, 1), 0) ** 2).sum())
    return Equivalent(kappa, df1, df2, left / (1 - df2 / n), noise * df2 / n / (1 - df2 / n))


def effective_regularization(eigenvalues: Array, n: int, ridge: float = 0.0) -> float:
    """The kappa of `equivalent`, by Brent's method in log kappa between proven ends.

    n - sum l / (l + kappa) - n ridge / kappa rises with kappa. It is at most 0 at kappa = ridge and at l_(n+1) / n,
    since there the n + 1 largest eigenvalues alone sum to n or more; it is at least 0 at ridge + sum(l) / n.
    Raises `ValueError` as `equivalent`.

    >>> round(effective_regularization(np.ones(300), 100), 12)  # p / n - 1
    2.0
    """
    lam, _ = _check_spectrum(eigenvalues, np.zeros(np.shape(eigenvalues)))
    check_counts(n=n)
    _check_powers(ridge=ridge)
    lam = np.sort(lam[lam > 0])[::-1]
    if ridge == 0:
        if len(lam) < n:
            return 0.0
        if len(lam) == n:
            raise ValueError(
                f"eigenvalues: {n} of them are above 0, as many as samples n = {n}, and ridge is 0: the risk is "
                "infinite; must be more or fewer, or ridge above 0"
            )
    low = max(ridge, lam[n] / n if len(lam) > n else 0.0)
    high = ridge + lam.sum() / n
    scale = math.sqrt(low * high)  # so that no square over- or underflows

    def excess(log: float) -> float:
        kappa = scale * math.exp(log)
        return float(n - (lam / (lam + kappa)).sum() - n * ridge / kappa)

    ends = math.log(low / scale) - 1e-9, math.log(high / scale) + 1e-9  # beyond the ends by more than rounding
    return scale * math.exp(brentq(excess, *ends, xtol=1e-14, rtol=1e-14))


def in_eigenbasis(covariance: Array, coefficients: Array) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Eigenvalues of a covariance matrix, largest first, and coefficients in the basis of its eigenvectors.

    What `equivalent` takes. Eigenvalues that are 0 but for rounding, below p times the machine precision times the
    largest, are set to 0.
    Raises `ValueError` for a matrix that is not square, symmetric and positive semi-definite, or shapes that differ.

    >>> eigenvalues, target = in_eigenbasis(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([1.0, 1.0]))
    >>> eigenvalues.round(12).tolist(), np.abs(target).round(4).tolist()
    ([3.0, 1.0], [1.4142, 0.0])
    """
    sigma, theta = np.asarray(covariance, float), np.asarray(coefficients, float)
    if sigma.ndim != 2 or sigma.shape[0] != sigma.shape[1] or not np.allclose(sigma, sigma.T):
        raise ValueError(f"covariance has shape {sigma.shape}: must be a symmetric matrix (p, p)")
    if theta.shape != sigma.shape[:1]:
        raise ValueError(f"coefficients has shape {theta.shape}: must be {sigma.shape[:1]} as covariance")
    lam, vectors = np.linalg.eigh(sigma)
    if lam[0] < -1e-9 * max(lam[-1], 0) or lam[-1] <= 0:
        raise ValueError(
            f"covariance has the eigenvalues {lam[0]:g} to {lam[-1]:g}: must be 0 or more, the largest above"
        )
    dead = lam <= len(lam) * np.finfo(float).eps * lam[-1]
    return np.where(dead, 0, lam)[::-1], (vectors.T @ theta)[::-1]


# --- effective ranks --------------------------------------------------------------------------------------------------


class Ranks(NamedTuple):
    """Effective ranks of the tails of a spectrum, and where the tail begins that fits the noise.

    r: r_k = sum_(i > k) l_i / l_(k+1), R: R_k = (sum_(i > k) l_i)² / sum_(i > k) l_i², for k = 0 ... p - 1.
    k: k* = min {k : r_k >= b n}; None where there is none.
    """

    r: Float[np.ndarray, " p"]
    R: Float[np.ndarray, " p"]
    k: int | None


def effective_ranks(eigenvalues: Array, n: int, b: float = 1.0) -> Ranks:
    """Effective ranks r_k and R_k (Bartlett et al., definition of effective ranks), and k*.

    r_k <= R_k <= r_k²; of p equal eigenvalues r_k = R_k = p - k.
    eigenvalues: (p,), 0 or more; they are sorted, and those that are 0 left out.
    Raises `ValueError` for n below 1, b that is not positive and a spectrum that `equivalent` refuses.

    >>> ranks = effective_ranks(np.r_[np.ones(5), np.full(1000, 1e-3)], n=100)
    >>> ranks.k, round(ranks.r[5]), round(ranks.R[5])
    (5, 1000, 1000)
    """
    lam, _ = _check_spectrum(eigenvalues, np.zeros(np.shape(eigenvalues)))
    check_counts(n=n)
    if not b > 0:
        raise ValueError(f"b is {b}: must be positive")
    lam = np.sort(lam[lam > 0])[::-1]
    sums, squares = (np.cumsum(part[::-1])[::-1] for part in (lam, (lam / lam[0]) ** 2))
    r = sums / lam
    return Ranks(r, (sums / lam[0]) ** 2 / squares, int(np.argmax(r >= b * n)) if (r >= b * n).any() else None)


def noise_bound(eigenvalues: Array, n: int, *, noise: float = 0.25, b: float = 1.0) -> float:
    """What noise adds to the risk of the interpolator up to constants, noise (k* / n + n / R_k*) (Bartlett et al.).

    Infinite where no tail has an effective rank of b n: the bound then says nothing. Raises `ValueError` as
    `effective_ranks`, and for negative noise.

    >>> round(noise_bound(np.r_[np.ones(5), np.full(10_000, 1e-3)], n=100), 4)
    0.015
    """
    _check_powers(noise=noise)
    _, R, k = effective_ranks(eigenvalues, n, b)
    return math.inf if k is None else noise * (k / n + n / float(R[k]))


# --- random ReLU features ---------------------------------------------------------------------------------------------


def relu_covariance(weights: Array, *, exact: bool = True) -> Float[np.ndarray, "N N"]:
    """Covariance of the random features relu(w_j . x), x standard normal, |w_j| = 1, without the features' means.

    exact: (sin a + (pi - a) cos a) / 2 pi - 1 / 2 pi with a the angle of two weights (the arc-cosine kernel). Else its
    Gaussian equivalent W^T W / 4 + (1/4 - 1 / 2 pi) I, which keeps the linear part of relu and takes the rest for noise
    that is independent from feature to feature.

    weights: unit columns. Raises `ValueError` for weights that are not.

    >>> relu_covariance(np.eye(2)).round(3).tolist()  # orthogonal weights: 1/2 - 1 / 2 pi, and nothing off the diagonal
    [[0.341, 0.0], [0.0, 0.341]]
    """
    w = _check_columns(weights)
    cosine = np.clip(w.T @ w, -1, 1)
    if not exact:
        return cosine / 4 + (0.25 - 0.5 / math.pi) * np.eye(len(cosine))
    angle = np.arccos(cosine)
    return (np.sqrt(1 - cosine**2) + (math.pi - angle) * cosine - 1) / (2 * math.pi)


def relu_features_risk(
    weights: Array,
    beta: Array,
    n: int,
    *,
    noise: float = 0.1,
    ridge: float = 0.0,
    exact: bool = True,
) -> float:
    """Excess risk of regression on random ReLU features, labels x . beta + noise, for weights that are given.

    The best linear function of the features has Sigma theta = C with C = W^T beta / 2, by Stein's identity. What it
    cannot express, |beta|² - C . theta, acts as further noise. `equivalent` does the rest with the covariance
    Sigma of `relu_covariance`, exact or that of the Gaussian equivalent.

    weights: (d, N), unit columns. beta: (d,).
    Raises `ValueError` for weights that are no unit columns, a beta that does not fit, and as `equivalent`.

    >>> w = np.eye(30)
    >>> round(relu_features_risk(w, w[0], 150), 3)  # one feature of thirty sees a part of the target
    0.358
    """
    w, b = _check_columns(weights), np.asarray(beta, float)
    if b.shape != w.shape[:1]:
        raise ValueError(f"beta has shape {b.shape}: must be {w.shape[:1]} as the rows of weights")
    sigma, cross = relu_covariance(w, exact=exact), w.T @ b / 2
    lam, vectors = np.linalg.eigh(sigma)
    keep = lam > 1e-10 * lam[-1]
    target = np.where(keep, vectors.T @ cross / np.where(keep, lam, 1), 0)
    unexplained = max(float(b @ b - (lam * target**2).sum()), 0.0)
    found = equivalent(np.where(keep, lam, 0), target, n, noise=noise + unexplained, ridge=ridge)
    return found.risk + unexplained


# --- aliasing on a regular grid ---------------------------------------------------------------------------------------


class Aliasing(NamedTuple):
    """What the least-norm fit makes of a constant signal on a regular grid.

    survival: share of the constant that is kept. contamination: root of the power that goes to its aliases.
    """

    survival: float
    contamination: float


def aliasing(frequencies: Array, weights: Array, n: int) -> Aliasing:
    """Survival and contamination of the constant function, fitted through n regular points of the circle.

    Features w_k exp(2 pi i k x). On the grid, frequencies that differ by a multiple of n are the same: the least-norm
    fit spreads the constant over k = 0 and its aliases A = {k : n divides k} in proportion to w_k²,

        survival = w_0² / sum_A w_k²,    contamination = sqrt(sum_(A without 0) w_k⁴) / sum_A w_k²

    (Muthukumar et al., on signal bleed and contamination; derived in the notebook).

    frequencies: whole numbers, 0 among them, no two alike. weights: (k,) finite.
    Raises `ValueError` for anything else, for n below 1, and where all aliases have weight 0.

    >>> found = aliasing(np.arange(-67, 68), np.ones(135), 15)  # nine aliases of equal weight
    >>> round(found.survival, 4), round(found.contamination, 4)
    (0.1111, 0.3143)
    """
    check_counts(n=n)
    k, w = np.asarray(frequencies), np.asarray(weights, float)
    if k.ndim != 1 or k.dtype.kind != "i" or (k == 0).sum() != 1 or len(set(k.tolist())) < len(k):
        raise ValueError("frequencies must be whole numbers in one row, no two alike, with 0 among them")
    if w.shape != k.shape or not np.isfinite(w).all():
        raise ValueError(f"weights has shape {w.shape}: must be {k.shape} as frequencies, and finite")
    power = w[k % n == 0] ** 2
    if not power.sum() > 0:
        raise ValueError(f"weights: those of 0 and of the multiples of n = {n} are all 0; one must not be")
    rest = w[(k % n == 0) & (k != 0)] ** 2
    return Aliasing(float(w[k == 0][0] ** 2 / power.sum()), float(np.sqrt((rest**2).sum()) / power.sum()))


# --- along gradient descent -------------------------------------------------------------------------------------------


class Path(NamedTuple):
    """Bias and variance of the excess risk along gradient descent, at every time."""

    bias: Float[np.ndarray, " t"]
    variance: Float[np.ndarray, " t"]

    @property
    def risk(self) -> Float[np.ndarray, " t"]:
        """Excess risk: bias + variance."""
        return self.bias + self.variance


def descent_risk(
    x: Array,
    target: Array,
    times: Array,
    *,
    noise: float = 0.25,
    step: float = 0.0,
    covariance: Array = None,
) -> Path:
    """Excess risk of gradient descent on |y - X b|² / 2n from 0, averaged over the noise of the labels, exact for X.

    With S = X^T X / n = V diag(s) V^T and q_i the share of eigendirection i that is not learned yet, exp(-t s_i) for
    gradient flow and (1 - step s_i)^(t / step) for descent, the solution is b = V (1 - q) V^T theta + noise, so

        bias = a^T G a with a_i = q_i (V^T theta)_i,    variance = noise / n sum_i G_ii (1 - q_i)² / s_i,

    where G = V^T Sigma V is the covariance of fresh features in the basis V. Derived here.

    times: t, 0 or more: steps times step length for descent.
    step: step length of gradient descent; 0 for gradient flow.
    covariance: Sigma (p, p), by default the identity.
    Raises `ValueError` for shapes that do not fit, negative times, noise or step, and a step at which descent diverges.

    >>> path = descent_risk(np.eye(2), np.array([1.0, 0.0]), np.array([0.0, 1e3]), noise=0.5)
    >>> path.bias.round(6).tolist(), path.variance.round(6).tolist()
    ([1.0, 0.0], [0.0, 1.0])
    """
    x, theta, t = np.asarray(x, float), np.asarray(target, float), np.asarray(times, float)
    if x.ndim != 2 or theta.shape != x.shape[1:] or t.ndim != 1:
        raise ValueError(
            f"x, target, times have shapes {x.shape}, {theta.shape}, {t.shape}: must be (n, p), (p,), (t,)"
        )
    _check_powers(noise=noise, step=step)
    if not (t >= 0).all():
        raise ValueError(f"times from {t.min():g}: must be 0 or more")
    n, p = x.shape
    _, root, vectors = np.linalg.svd(x / math.sqrt(n), full_matrices=True)
    s = np.zeros(p)
    s[: len(root)] = root**2
    if step * s[0] > 2:
        raise ValueError(f"step is {step:g}: must be at most {2 / s[0]:.3g}, beyond which descent diverges")
    if step:
        rate = np.abs(1 - step * s)[None] ** (t / step)[:, None]
        q = rate * np.where(1 - step * s < 0, -1.0, 1.0) ** np.round(t / step)[:, None]
    else:
        q = np.exp(-t[:, None] * s)
    fresh = vectors @ vectors.T if covariance is None else vectors @ covariance @ vectors.T
    a = q * (vectors @ theta)
    learned = np.where(s > 1e-14 * s[0], (1 - q) ** 2 / np.where(s > 1e-14 * s[0], s, 1), 0)
    return Path(np.einsum("ti,ij,tj->t", a, fresh, a), noise / n * learned @ np.diag(fresh))


# --- what is refused --------------------------------------------------------------------------------------------------


def check_counts(**counts: int) -> None:
    """Raises `ValueError` for a count that is no whole number or below 1.

    >>> check_counts(n=3, p=0)
    Traceback (most recent call last):
    ValueError: p is 0: must be a whole number, 1 or more
    """
    for name, count in counts.items():
        if not count >= 1 or count != int(count):
            raise ValueError(f"{name} is {count}: must be a whole number, 1 or more")


def _check_powers(**powers: float) -> None:
    for name, power in powers.items():
        if not 0 <= power < math.inf:
            raise ValueError(f"{name} is {power}: must be 0 or more, and finite")


def _check_spectrum(eigenvalues: Array, target: Array) -> tuple[Vector, Vector]:
    lam, theta = np.asarray(eigenvalues, float), np.asarray(target, float)
    if lam.ndim != 1 or not len(lam) or theta.shape != lam.shape:
        raise ValueError(
            f"eigenvalues and target have shapes {lam.shape} and {theta.shape}: must be (p,), p of 1 or more"
        )
    if not (np.isfinite(lam).all() and np.isfinite(theta).all()):
        raise ValueError("eigenvalues and target must be finite: they hold nan or infinity")
    if lam.min() < 0 or lam.max() == 0:
        raise ValueError(f"eigenvalues from {lam.min():g} to {lam.max():g}: must be 0 or more, and one above 0")
    return lam, theta


def _check_columns(weights: Array) -> Float[np.ndarray, "d N"]:
    w = np.asarray(weights, float)
    if w.ndim != 2 or not w.size:
        raise ValueError(f"weights has shape {w.shape}: must be (d, N), N of 1 or more")
    if not np.allclose(np.linalg.norm(w, axis=0), 1):
        raise ValueError("weights must have columns of norm 1: divide each by its norm")
    return w
