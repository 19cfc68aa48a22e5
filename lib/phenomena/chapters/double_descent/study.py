"""The chapter's experiments: least squares on drawn features, many draws at once, each a tidy frame with a row a seed.

Every seed has generators of its own, one for each study and number of parameters: what belongs to a seed does not
depend on the other seeds of a call. Risks are excess risks; where the covariance of the features is known they are
computed from the coefficients, without test points.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from phenomena.chapters.double_descent import theory
from phenomena.science.datasets import Dataset
from phenomena.statistics import interval

ISOTROPIC, ORDERS, RIDGES, SPECTRA, FEATURES, IMAGES, EPOCHS, LINE, ALIASES = range(9)  # streams of random numbers
GAP = 2  # |p - n| below which the mean risk is infinite
ISOTROPIC_SIZE = 400  # directions of the isotropic one among the spectra
TOLERANCE = 1e-10  # share of the largest singular value below which a direction of images counts as absent


def validate(
    grids: Mapping[str, tuple[Sequence[int], int]], spectrum_samples: Sequence[int], spectrum_size: int
) -> None:
    """Raises `ValueError` for lists with which the study cannot be run.

    grids: parameter -> its numbers of parameters, and the number of samples that they must surround.
    """
    for name, (grid, threshold) in grids.items():
        if len(set(grid)) < len(grid):
            raise ValueError(f"{name} is {grid}: all must differ")
        if not min(grid) < threshold < max(grid):
            raise ValueError(f"{name} is {grid}: must have numbers below and above {threshold}, that of samples")
    if not max(spectrum_samples) < min(spectrum_size, ISOTROPIC_SIZE):
        raise ValueError(
            f"spectrum_samples is {spectrum_samples}: must be below spectrum_size = {spectrum_size} and "
            f"{ISOTROPIC_SIZE}, the fewest directions"
        )


def least_norm(
    x: Float[np.ndarray, "*b n p"], y: Float[np.ndarray, "*b n k"], ridge: float = 0.0, *, exact: bool = True
) -> Float[np.ndarray, "*b p k"]:
    """Ridge regression, argmin |y - X b|² / n + ridge |b|², or without a ridge the solution of least norm.

    exact: without a ridge, by a QR decomposition of X or X^T, which loses no more digits than X makes it lose; else,
    and with a ridge, by the normal equations, for X far from p = n.
    """
    n, p = x.shape[-2:]
    across = x.swapaxes(-1, -2)
    if ridge == 0 and exact:
        q, r = np.linalg.qr(x if p <= n else across)
        if p <= n:
            return np.linalg.solve(r, q.swapaxes(-1, -2) @ y)
        return q @ np.linalg.solve(r.swapaxes(-1, -2), y)
    if p <= n:
        return np.linalg.solve(across @ x + n * ridge * np.eye(p), across @ y)
    return across @ np.linalg.solve(x @ across + n * ridge * np.eye(n), y)


# --- isotropic features -----------------------------------------------------------------------------------------------


def isotropic(
    n: int,
    parameters: Sequence[int],
    noises: Sequence[float],
    seeds: Sequence[int],
    *,
    signal: float = 1.0,
    draws: int = 50,
) -> pd.DataFrame:
    """Least squares on n rows of p standard normal features, for every p and noise, each seed with `draws` data sets.

    The fit is linear in the labels, so that those of signal and of noise are fitted once for all noise levels.
    Returns the columns p, noise, seed, risk (the mean over draws), median, noiseless (the risk without
    noise), inside and inside_limit (1 where the 95 % interval of the draws covers the exact risk, and the asymptotic
    one; nan where the mean is infinite).
    """
    rows = []
    for p in parameters:
        theory.check_counts(n=n, p=p, draws=draws)
        for seed in seeds:
            g = np.random.default_rng([seed, ISOTROPIC, p])
            bias, cross, variance = _parts(g, n, p, draws, signal)
            for noise in noises:
                risk = bias + 2 * math.sqrt(noise) * cross + noise * variance
                row = {"p": p, "noise": noise, "seed": seed, "risk": risk.mean(), "median": np.median(risk)}
                row["noiseless"] = bias.mean()
                exact = theory.isotropic_risk(n, p, signal=signal, noise=noise)
                limit = theory.asymptotic_risk(p / n, signal=signal, noise=noise)
                rows.append(row | {"inside": _covers(risk, exact), "inside_limit": _covers(risk, limit)})
    return pd.DataFrame(rows)


def _parts(g: np.random.Generator, n: int, p: int, draws: int, signal: float) -> tuple[Any, Any, Any]:
    """Squared error of the fit to the signal, its product with that to the noise, the latter squared; (draws,)."""
    x, theta = g.standard_normal((draws, n, p)), g.standard_normal((draws, p, 1))
    theta *= math.sqrt(signal) / np.linalg.norm(theta, axis=1, keepdims=True)
    fitted = least_norm(x, np.concatenate([x @ theta, g.standard_normal((draws, n, 1))], 2), exact=_near(n, p))
    missed, added = fitted[..., 0] - theta[..., 0], fitted[..., 1]
    return (missed**2).sum(1), (missed * added).sum(1), (added**2).sum(1)


def _near(n: int, p: int) -> bool:
    return n / 1.5 < p < 1.5 * n


def _covers(risk: Float[np.ndarray, " draws"], value: float) -> float:
    if not math.isfinite(value):
        return math.nan
    _, low, high = interval(risk)
    return float(low <= value <= high)


def orders(
    n: int, parameters: Sequence[int], total: int, noise: float, seeds: Sequence[int], *, draws: int = 20
) -> pd.DataFrame:
    """Least squares on p out of `total` standard normal features, whose target falls as theta_j ~ 1 / j, |theta| = 1.

    order: "best first", the p largest coefficients; or "shuffled", any p. What the model lacks adds Gaussian noise.
    Returns the columns order, p, seed, risk and exact, the expected risk by `theory.isotropic_risk`.
    """
    power = 1 / np.arange(1, total + 1.0) ** 2
    power /= power.sum()
    rows = []
    for p in parameters:
        theory.check_counts(n=n, p=p, draws=draws)
        if p > total:
            raise ValueError(f"p is {p}: must be at most total = {total}, the features that there are")
        means = {"best first": float(power[:p].sum()), "shuffled": p / total}
        for seed in seeds:
            g = np.random.default_rng([seed, ORDERS, p])
            x, e = g.standard_normal((draws, n, p)), g.standard_normal((draws, n, 1))
            chosen = g.permuted(np.broadcast_to(power, (draws, total)), axis=1)[:, :p]
            for order, parts in (("best first", np.broadcast_to(power[:p], (draws, p))), ("shuffled", chosen)):
                theta, unseen = np.sqrt(parts)[..., None], np.maximum(1 - parts.sum(1), 0)
                y = x @ theta + e * np.sqrt(noise + unseen)[:, None, None]
                error = ((least_norm(x, y, exact=_near(n, p)) - theta)[..., 0] ** 2).sum(1) + unseen
                row = {"order": order, "p": p, "seed": seed, "risk": error.mean()}
                seen = means[order]
                rows.append(row | {"exact": theory.isotropic_risk(n, p, signal=seen, noise=noise, unseen=1 - seen)})
    return pd.DataFrame(rows)


def ridges(
    n: int, parameters: Sequence[int], factors: Sequence[float], noise: float, seeds: Sequence[int], *, draws: int = 20
) -> pd.DataFrame:
    """Ridge regression on isotropic features with the best ridge (`theory.best_ridge`) times each factor, |theta| = 1.

    Returns the columns factor, p, seed, risk and equivalent.
    """
    rows = []
    for p in parameters:
        lambdas = {factor: factor * theory.best_ridge(n, p, noise=noise) for factor in factors}
        ones = np.ones(p)
        expected = {f: theory.equivalent(ones, ones / math.sqrt(p), n, noise=noise, ridge=lambdas[f]).risk
                    for f in factors if f or p != n}  # fmt: skip
        for seed in seeds:
            g = np.random.default_rng([seed, RIDGES, p])
            x, theta = g.standard_normal((draws, n, p)), g.standard_normal((draws, p, 1))
            theta /= np.linalg.norm(theta, axis=1, keepdims=True)
            y = x @ theta + math.sqrt(noise) * g.standard_normal((draws, n, 1))
            for factor, ridge in lambdas.items():
                error = ((least_norm(x, y, ridge) - theta) ** 2).sum((1, 2))
                row = {"factor": factor, "p": p, "seed": seed, "risk": error.mean()}
                rows.append(row | {"equivalent": expected.get(factor, math.inf)})
    return pd.DataFrame(rows)


# --- any spectrum -----------------------------------------------------------------------------------------------------


def spectra(size: int) -> dict[str, Float[np.ndarray, " p"]]:
    """Six spectra of up to `size` directions: which of them let a least-norm fit absorb noise harmlessly?

    >>> {name: len(values) for name, values in spectra(1000).items()}["spikes and flat tail"]
    1005
    """
    i = np.arange(1, size + 1.0)
    return {
        "spikes and flat tail": np.r_[np.ones(5), np.full(size, 10 / size)],
        "isotropic": np.ones(ISOTROPIC_SIZE),
        "1/i": 1 / i,
        "1/(i log² i)": 1 / (i * np.log(math.e * i) ** 2),
        "exponential and flat tail": np.exp(-(i - 1) / 10) + 2 / size,
        "1/i²": 1 / i**2,
    }


def excess(
    spectrum: str, eigenvalues: Float[np.ndarray, " p"], n: int, noise: float, seeds: Sequence[int], *, draws: int = 5
) -> pd.DataFrame:
    """Risk of the least-norm fit on n Gaussian rows with this spectrum; the target lies evenly on the first five.

    64 draws of the noise for every draw of features, of which the signal's part is known exactly.
    Returns the columns spectrum, n, seed, risk, bias, variance, and of the theory equivalent, equivalent_bias,
    equivalent_variance, bound and k.
    """
    p = len(eigenvalues)
    theta = np.zeros(p)
    theta[:5] = 1 / math.sqrt(5)
    found = theory.equivalent(eigenvalues, theta, n, noise=noise)
    ranks = theory.effective_ranks(eigenvalues, n)
    theirs = {"equivalent": found.risk, "equivalent_bias": found.bias, "equivalent_variance": found.variance,
              "bound": theory.noise_bound(eigenvalues, n, noise=noise),
              "k": math.nan if ranks.k is None else ranks.k}  # fmt: skip
    rows = []
    for seed in seeds:
        g = np.random.default_rng([seed, SPECTRA, n, p])
        parts = []
        for _ in range(draws):
            x = g.standard_normal((n, p)) * np.sqrt(eigenvalues)
            y = np.concatenate([x @ theta[:, None], math.sqrt(noise) * g.standard_normal((n, 64))], 1)
            fitted = least_norm(x, y, exact=False)
            missed, added = fitted[:, :1] - theta[:, None], fitted[:, 1:]
            parts.append([(eigenvalues @ part**2).mean() for part in (missed + added, missed, added)])
        means = dict(zip(("risk", "bias", "variance"), np.mean(parts, 0), strict=True))
        rows.append({"spectrum": spectrum, "n": n, "seed": seed} | means | theirs)
    return pd.DataFrame(rows)


# --- random features --------------------------------------------------------------------------------------------------


def relu_features(
    d: int, n: int, counts: Sequence[int], noise: float, seeds: Sequence[int], *, draws: int = 12
) -> pd.DataFrame:
    """Regression on N random ReLU features of Gaussian inputs, labels linear in these, each seed with its weights.

    Returns the columns d, N, seed, risk (of `draws` data sets, computed from the exact covariance), median, twin (the
    risk with Gaussian features of that covariance, the same best linear function and what it leaves as further noise),
    equivalent (with that covariance) and gaussian (with its Gaussian equivalent).
    """
    rows = []
    for seed in seeds:
        for count in counts:
            theory.check_counts(d=d, n=n, N=count, draws=draws)
            g = np.random.default_rng([seed, FEATURES, d, count])
            w, beta = g.standard_normal((d, count)), g.standard_normal(d)
            w, beta = w / np.linalg.norm(w, axis=0), beta / np.linalg.norm(beta)
            sigma, cross = theory.relu_covariance(w), w.T @ beta / 2
            x = g.standard_normal((draws, n, d))
            y = (x @ beta + math.sqrt(noise) * g.standard_normal((draws, n)))[..., None]
            b = least_norm(np.maximum(x @ w, 0) - 1 / math.sqrt(2 * math.pi), y, exact=_near(n, count))[..., 0]
            risk = np.einsum("si,ij,sj->s", b, sigma, b, optimize=True) - 2 * b @ cross + 1
            theta = np.linalg.solve(sigma, cross)
            normal = g.standard_normal((draws, n, count)) @ np.linalg.cholesky(sigma).T
            rest = math.sqrt(noise + max(1 - cross @ theta, 0)) * g.standard_normal((draws, n))
            b = least_norm(normal, (normal @ theta + rest)[..., None], exact=_near(n, count))[..., 0]
            twin = np.einsum("si,ij,sj->s", b, sigma, b, optimize=True) - 2 * b @ cross + 1
            row = {"d": d, "N": count, "seed": seed, "risk": risk.mean(), "median": np.median(risk)}
            row["twin"] = twin.mean()
            for name, exact in (("equivalent", True), ("gaussian", False)):
                near = abs(count - n) < GAP
                row[name] = math.inf if near else theory.relu_features_risk(w, beta, n, noise=noise, exact=exact)
            rows.append(row)
    return pd.DataFrame(rows)


def images(
    data: Dataset, samples: Sequence[int], counts: Sequence[int], shares: Sequence[float], seeds: Sequence[int]
) -> pd.DataFrame:
    """Regression of one-hot labels on N random ReLU features of images or signals, without and with a tuned ridge.

    shares: of the training labels that are redrawn uniformly over the classes.
    The ridge is that of least generalized cross-validation on the training rows, of 25 values.
    Returns the columns n, N, share, seed, fit ("least norm" or "tuned ridge"), error (share of test rows) and ridge.
    """
    x, xt = (t.flatten(1).double().numpy() for t in (data.x_train, data.x_test))
    center, scale = x.mean(), x.std() * math.sqrt(x.shape[1])
    x, xt = (x - center) / scale, (xt - center) / scale
    labels, truth, hot = data.y_train.numpy(), data.y_test.numpy(), np.eye(data.classes)
    rows = []
    for seed in seeds:
        for n in samples:
            if n > len(x):
                raise ValueError(f"n is {n}: must be at most {len(x)}, the training rows that there are")
            g = np.random.default_rng([seed, IMAGES, n])
            order = g.permutation(len(x))[:n]
            redrawn, uniform = g.uniform(size=n), g.integers(0, data.classes, n)
            ys = [np.where(redrawn < share, uniform, labels[order]) for share in shares]
            y = np.concatenate([hot[one] - 1 / data.classes for one in ys], 1)
            for count in counts:
                theory.check_counts(n=n, N=count)
                w, b = g.standard_normal((x.shape[1], count)), g.uniform(-1, 1, count)
                train, test = (np.maximum(part @ w + b, 0) for part in (x[order], xt))
                for fit, share, error, ridge in _fits(train, test, y, truth, shares):
                    row = {"n": n, "N": count, "share": share, "seed": seed, "fit": fit}
                    rows.append(row | {"error": error, "ridge": ridge})
    return pd.DataFrame(rows)


def _fits(
    train: Float[np.ndarray, "n N"], test: Float[np.ndarray, "m N"], y: Any, truth: Any, shares: Sequence[float]
) -> Iterator[tuple[str, float, float, float]]:
    """Fit, share, test error, ridge: all from one singular value decomposition of the features."""
    n, count = train.shape
    if count > n:  # a square matrix is left to decompose
        q, r = np.linalg.qr(train.T)
        u, s, v = np.linalg.svd(r.T)
        rotated = (test @ q) @ v.T
    else:
        u, s, v = np.linalg.svd(train, full_matrices=False)
        rotated = test @ v.T
    keep = s > TOLERANCE * s[0]
    u, s, rotated = u[:, keep], s[keep], rotated[:, keep]
    lambdas = s[0] ** 2 / n * 10 ** np.linspace(-8, 0, 25)
    for share, part in zip(shares, np.split(u.T @ y, len(shares), 1), strict=True):
        whole = (np.split(y, len(shares), 1)[list(shares).index(share)] ** 2).sum()
        kept = s**2 / (s**2 + n * lambdas[:, None])
        residual = whole - (part**2).sum() + np.einsum("li,ik->l", (1 - kept) ** 2, part**2)
        best = lambdas[np.argmin(residual / (1 - kept.sum(1) / n) ** 2)]
        for fit, ridge in (("least norm", 0.0), ("tuned ridge", float(best))):
            out = rotated @ (part * (s / (s**2 + n * ridge))[:, None])
            yield fit, share, float((out.argmax(1) != truth).mean()), ridge


# --- along gradient descent -------------------------------------------------------------------------------------------


def two_groups(fast: int, slow: int, ratio: float) -> tuple[Float[np.ndarray, " p"], Float[np.ndarray, " p"]]:
    """Eigenvalues and target: `fast` directions of eigenvalue 1 and `slow` ones of `ratio`, half the signal on each.

    >>> eigenvalues, target = two_groups(40, 10, 0.01)
    >>> round(float((eigenvalues * target**2).sum()), 12)
    1.0
    """
    lam = np.r_[np.ones(fast), np.full(slow, ratio)]
    power = np.r_[np.full(fast, 0.5 / fast), np.full(slow, 0.5 / slow)]
    return lam, np.sqrt(power / lam)


def epochs(
    n: int,
    eigenvalues: Float[np.ndarray, " p"],
    target: Float[np.ndarray, " p"],
    noise: float,
    times: Sequence[int],
    seeds: Sequence[int],
    *,
    step: float = 0.2,
    draws: int = 100,
) -> pd.DataFrame:
    """Risk of gradient descent on least squares after each number of steps, run, and by `theory.descent_risk`.

    draws: of the noise of the labels, for the one draw of features that a seed has.
    Returns the columns steps, seed, risk, exact, bias, variance.
    """
    rows = []
    for seed in seeds:
        g = np.random.default_rng([seed, EPOCHS])
        x = g.standard_normal((n, len(eigenvalues))) * np.sqrt(eigenvalues)
        y = (x @ target)[:, None] + math.sqrt(noise) * g.standard_normal((n, draws))
        path = theory.descent_risk(
            x, target, step * np.asarray(times, float), noise=noise, step=step, covariance=np.diag(eigenvalues)
        )
        gram, pull, b, done = step * x.T @ x / n, step * x.T @ y / n, np.zeros((len(target), draws)), 0
        for i, time in enumerate(times):
            for _ in range(time - done):
                b += pull - gram @ b
            done = time
            risk = (eigenvalues @ (b - target[:, None]) ** 2).mean()
            row = {"steps": time, "seed": seed, "risk": risk, "exact": path.risk[i]}
            rows.append(row | {"bias": path.bias[i], "variance": path.variance[i]})
    return pd.DataFrame(rows)


# --- one dimension ----------------------------------------------------------------------------------------------------


def truth(x: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """The function that is fitted, sin 3x on [-1, 1].

    >>> truth(np.zeros(1)).tolist()
    [0.0]
    """
    return np.sin(3 * x)


def cosines(x: Float[np.ndarray, "*shape"], p: int, decay: float = 1.0) -> Float[np.ndarray, "*shape p"]:
    """Features cos(pi k (x + 1) / 2) / (1 + k)^decay for k = 0 ... p - 1, on [-1, 1].

    >>> cosines(np.array([-1.0]), 3).round(3).tolist()
    [[1.0, 0.5, 0.333]]
    """
    k = np.arange(p)
    return np.cos(math.pi / 2 * (x[..., None] + 1) * k) / (1.0 + k) ** decay


def monomials(x: Float[np.ndarray, "*shape"], p: int) -> Float[np.ndarray, "*shape p"]:
    """Features x^k for k = 0 ... p - 1.

    >>> monomials(np.array([2.0]), 3).tolist()
    [[1.0, 2.0, 4.0]]
    """
    return x[..., None] ** np.arange(p)


def line_data(n: int, seeds: Sequence[int]) -> tuple[Float[np.ndarray, "s n"], Float[np.ndarray, "s n"]]:
    """Sorted points, uniform on [-1, 1], and standard normal noise for their labels, each seed on its own.

    >>> line_data(5, [0, 1])[0].shape
    (2, 5)
    """
    drawn = []
    for seed in seeds:
        g = np.random.default_rng([seed, LINE])
        drawn.append((np.sort(g.uniform(-1, 1, n)), g.standard_normal(n)))
    x, e = zip(*drawn, strict=True)
    return np.stack(x), np.stack(e)


def line_fits(
    x: Float[np.ndarray, "s n"], e: Float[np.ndarray, "s n"], p: int, at: Float[np.ndarray, " m"], decay: float = 1.0
) -> Float[np.ndarray, "s m 2"]:
    """Least-norm fits by p cosines at the places `at`: that of the truth, and that of noise of variance 1.

    The fit to labels truth + sigma e is the first plus sigma times the second.
    """
    labels = np.stack([truth(x), e], 2)
    return cosines(at, p, decay) @ least_norm(cosines(x, p, decay), labels)


def line_errors(
    n: int, parameters: Sequence[int], noises: Sequence[float], seeds: Sequence[int], *, decay: float = 1.0
) -> pd.DataFrame:
    """Mean square error on [-1, 1] of the fit by p cosines; noise is the standard deviation here.

    Returns the columns p, sigma, seed and error.
    """
    x, e = line_data(n, seeds)
    at = np.linspace(-1, 1, 401)
    rows = []
    for p in parameters:
        theory.check_counts(n=n, p=p)
        fits = line_fits(x, e, p, at, decay)
        for sigma in noises:
            error = ((fits[..., 0] + sigma * fits[..., 1] - truth(at)) ** 2).mean(1)
            rows.append(pd.DataFrame({"p": p, "sigma": sigma, "seed": list(seeds), "error": error}))
    return pd.concat(rows, ignore_index=True)


CUTS = {"none": 0.0, "NumPy's default": None, "1e-10": 1e-10, "1e-4": 1e-4}
BASES = {"cosines": cosines, "monomials": monomials}


def cut_offs(n: int, parameters: Sequence[int], sigma: float, seeds: Sequence[int]) -> pd.DataFrame:
    """What the cut-off `rcond` of `numpy.linalg.lstsq` makes of the error, for two bases of functions.

    Returns the columns basis, cut, p, seed, error, and rank, the number of directions that the solver keeps.
    """
    x, e = line_data(n, seeds)
    at = np.linspace(-1, 1, 401)
    rows = []
    for basis, features in BASES.items():
        for p in parameters:
            test = features(at, p)
            for seed, points, noise in zip(seeds, x, e, strict=True):
                train, y = features(points, p), truth(points) + sigma * noise
                for cut, rcond in CUTS.items():
                    b, _, rank, _ = np.linalg.lstsq(train, y, rcond=rcond)
                    error = ((test @ b - truth(at)) ** 2).mean()
                    rows.append({"basis": basis, "cut": cut, "p": p, "seed": seed, "error": error, "rank": rank})
    return pd.DataFrame(rows)


def aliases(n: int, copies: int, exponents: Sequence[float]) -> pd.DataFrame:
    """Survival and contamination of a constant on n regular points, fitted by n * copies waves, and by the formulas.

    The weights of the waves fall as (1 + |k|)^-exponent. copies: odd, so that the frequencies are symmetric.
    Returns the columns exponent, survival, contamination, and the same with the ending _formula.
    """
    k = np.arange(n * copies) - n * copies // 2
    rows = []
    for exponent in exponents:
        w = (1.0 + np.abs(k)) ** -exponent
        (survival, contamination), formula = _fit_of_constant(k, w, n), theory.aliasing(k, w, n)
        row = {"exponent": exponent, "survival": survival, "survival_formula": formula.survival}
        rows.append(row | {"contamination": contamination, "contamination_formula": formula.contamination})
    return pd.DataFrame(rows)


def alias_gaps(n: int, copies: int, seeds: Sequence[int]) -> Float[np.ndarray, " s"]:
    """Largest difference between fit and formula, of survival and of contamination, for weights drawn by each seed.

    Weights are uniform on [0.1, 1].
    """
    k = np.arange(n * copies) - n * copies // 2
    gaps = []
    for seed in seeds:
        w = np.random.default_rng([seed, ALIASES]).uniform(0.1, 1, n * copies)
        formula = theory.aliasing(k, w, n)
        gaps.append(max(abs(a - b) for a, b in zip(_fit_of_constant(k, w, n), formula, strict=True)))
    return np.array(gaps)


def _fit_of_constant(k: Any, w: Any, n: int) -> tuple[float, float]:
    """Survival and contamination of the least-norm fit of 1 on n regular points."""
    waves = np.exp(2j * math.pi * np.outer(np.arange(n) / n, k)) * w
    c = w * np.linalg.lstsq(waves, np.ones(n), rcond=None)[0]
    return float(c[k == 0][0].real), math.sqrt((np.abs(c[k != 0]) ** 2).sum())
