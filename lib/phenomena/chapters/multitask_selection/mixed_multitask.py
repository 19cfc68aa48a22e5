"""Joint feature selection for squared and logistic losses: problem, certificate, solver, cross-validation, estimator.

Letters: t tasks, n rows (of the longest task), p features, k values of lambda. A coefficient matrix W is (t, p), as
scikit-learn's multi-task models have it, where the paper has (p, t). NumPy, because everything is float64 on small
arrays.

References: H. Cao et al. 2024 (MTLComb, arXiv 2405.09886), objective, weights and rule of cross-validation. Beck and
Teboulle 2009, FISTA. O'Donoghue and Candes 2015, restart. Tibshirani et al. 2012, strong rule. Ndiaye et al. 2015,
duality gap of the group penalty over tasks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, xlogy
from scipy.stats import rankdata
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.utils.validation import check_is_fitted, validate_data

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

KINDS = ("regression", "classification")
WEIGHTS = (2.0, 0.5)  # of the logistic and of the squared loss: Cao et al. 2024


# --- the problem -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Smooth part of the objective of Cao et al. 2024, with an unpenalised intercept b_t a task.

    F(W, b) = sum_c w_c mean log(1 + exp(-y (x.w + b))) + sum_r w_r mean (y - x.w - b)^2
              + alpha ||W G||^2 + beta ||W||^2

    where G takes the mean over tasks away. Penalties as in the paper's formula: the official code has alpha / 2 and
    beta / 2, so its C2 = 0.1 is beta = 0.05 here. Tasks of fewer rows than n are filled up with rows of weight zero.
    x: float (t, n, p); y: float (t, n), labels -1 and 1; weight: float (t, n), the loss weight over the task's number
    of rows; classes: bool (t,), true for classification.
    """

    x: Array
    y: Array
    weight: Array
    classes: Mask
    alpha: float = 0.0
    beta: float = 0.0
    intercept: bool = True

    def columns(self, index: NDArray[np.intp]) -> "Problem":
        """The same problem with only these features."""
        return replace(self, x=np.ascontiguousarray(self.x[:, :, index]))


def make_problem(
    xs: Sequence[Array],
    ys: Sequence[Array],
    classes: Mask,
    weights: tuple[float, float] = WEIGHTS,
    alpha: float = 0.0,
    beta: float = 0.0,
    intercept: bool = True,
) -> Problem:
    """Puts tasks of any numbers of rows into one array.

    xs: float (n_t, p) a task; ys: float (n_t,), labels -1 and 1; weights: of the logistic and of the squared loss.
    Raises `ValueError` for a negative penalty or a weight that is not positive.
    """
    if min(alpha, beta) < 0 or not min(weights) > 0:
        raise ValueError(
            f"alpha {alpha}, beta {beta}, weights {weights}: penalties of 0 or more and weights above 0 are accepted"
        )
    t, n, p = len(xs), max(len(x) for x in xs), xs[0].shape[1]
    x, y, weight = np.zeros((t, n, p)), np.zeros((t, n)), np.zeros((t, n))
    for i, (rows, target) in enumerate(zip(xs, ys, strict=True)):
        m = len(rows)
        x[i, :m], y[i, :m], weight[i, :m] = rows, target, weights[0 if classes[i] else 1] / m
    return Problem(x, y, weight, np.asarray(classes, bool), alpha, beta, intercept)


def scores(problem: Problem, w: Array, b: Array) -> Array:
    """x.w + b for every row. w: (t, p); b: (t,). Returns (t, n)."""
    return np.matmul(problem.x, w[:, :, None])[:, :, 0] + b[:, None]


def loss(problem: Problem, z: Array) -> float:
    """Weighted loss at scores z, float (t, n)."""
    c, r = problem.classes, ~problem.classes
    logistic = problem.weight[c] * np.logaddexp(0, -problem.y[c] * z[c])
    return float(logistic.sum() + (problem.weight[r] * (problem.y[r] - z[r]) ** 2).sum())


def slope(problem: Problem, z: Array) -> Array:
    """Derivative of the loss by the scores, float (t, n)."""
    y, c = problem.y, problem.classes
    out = 2 * (z - y)
    out[c] = -y[c] * expit(-y[c] * z[c])
    return problem.weight * out


def ridge(problem: Problem, w: Array) -> float:
    """alpha ||W G||^2 + beta ||W||^2."""
    return float((w * _q(problem, w)).sum())


def null_intercept(problem: Problem) -> Array:
    """Intercepts of the model without features, float (t,)."""
    return best_intercept(problem, np.zeros_like(problem.y))


def _q(problem: Problem, w: Array) -> Array:
    """Half the gradient of the ridge terms."""
    if problem.alpha == 0:
        return problem.beta * w
    return problem.alpha * (w - w.mean(0)) + problem.beta * w


def gradient(problem: Problem, w: Array, z: Array) -> Array:
    """Gradient of F by W at coefficients w with scores z. Returns (t, p)."""
    return np.matmul(slope(problem, z)[:, None, :], problem.x)[:, 0] + 2 * _q(problem, w)


def objective(problem: Problem, w: Array, b: Array, lam: float) -> float:
    """F(W, b) + lambda sum_j ||w_j||, the norm of a feature's coefficients over tasks."""
    return loss(problem, scores(problem, w, b)) + ridge(problem, w) + lam * float(norms(w).sum())


def norms(w: Array) -> Array:
    """Euclidean norm over tasks, one a feature. w: (..., t, p)."""
    return np.sqrt((w**2).sum(-2))


def prox(w: Array, threshold: float) -> Array:
    """Shrinks every feature's norm by the threshold, to zero at least: the proximal map of the L2,1 norm."""
    size = norms(w)
    return w * np.where(size > threshold, 1 - threshold / np.where(size > 0, size, 1), 0)


def best_intercept(problem: Problem, z: Array) -> Array:
    """The shift of each task's scores that minimises its loss: the mean residual, or Newton's method. Returns (t,)."""
    shift = np.zeros(len(z))
    if not problem.intercept:
        return shift
    curvature = np.where(problem.classes, 0.25, 2.0)
    total = problem.weight.sum(1)
    for _ in range(50):
        at = z + shift[:, None]
        g = slope(problem, at).sum(1)
        s = expit(at)
        # the true curvature where it is a safe step, its bound elsewhere
        h = np.where(problem.classes, (problem.weight * s * (1 - s)).sum(1), curvature * total)
        step = np.clip(g / np.maximum(h, 1e-3 * total), -1, 1)
        shift -= np.where(problem.classes, step, g / h)
        if np.abs(g).max() <= 1e-14 * total.max():
            break
    return shift


def lambda_max(problem: Problem) -> float:
    """The smallest lambda at which no feature is selected: max_j ||dF/dw_j|| at W = 0 with the best intercepts.

    With centred features and weights 2 and 1/2 this is max_j ||(x_j . y_t / n)_t||, with or without intercept.
    """
    zero = np.zeros_like(problem.y)
    z = zero + best_intercept(problem, zero)[:, None]
    return float(norms(gradient(problem, np.zeros((len(zero), problem.x.shape[2])), z)).max())


# --- how exact a solution is --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    """How exact a solution is.

    gap: objective minus a lower bound of its minimum; stationarity: the largest violation of the optimality
    conditions over features, in units of lambda.
    """

    gap: float
    stationarity: float


def certificate(problem: Problem, w: Array, b: Array, lam: float) -> Certificate:
    """Duality gap and stationarity of (W, b).

    Dual, from u = -dloss/dz and the ridge terms as further squared rows: for 0 <= s <= 1 with
    s max_j ||(X^T u - 2 Q W)_j|| <= lambda and sum_i u_ti = 0 (with intercept), the minimum is at least
    -sum_t f_t*(-s u_t) - s^2 tr(W Q W^T). For squares -f*(-u) = u y - u^2 / 4 c, for the logistic loss c H(u y / c)
    with the entropy H of (a, 1 - a); c is the row's weight. b must be the best intercept for W, as `solve` gives it.
    """
    z = scores(problem, w, b)
    return _certificate(problem, w, z, gradient(problem, w, z), lam)


def _certificate(problem: Problem, w: Array, z: Array, g: Array, lam: float) -> Certificate:
    size, push = norms(w), norms(g)
    active = size > 0
    miss = np.maximum(push - lam, 0)
    if active.any():
        miss[active] = norms(g[:, active] + lam * w[:, active] / size[active])
    primal = loss(problem, z) + ridge(problem, w) + lam * float(size.sum())
    s = min(1.0, lam / max(float(push.max()), 1e-300))
    u = -s * slope(problem, z)
    c, r = problem.classes, ~problem.classes
    safe = np.where(problem.weight > 0, problem.weight, 1)  # filling rows have u = 0 as well
    a = np.clip(u[c] * problem.y[c] / safe[c], 0, 1)
    dual = -float((problem.weight[c] * (xlogy(a, a) + xlogy(1 - a, 1 - a))).sum())
    dual += float((u[r] * problem.y[r] - u[r] ** 2 / (4 * safe[r])).sum()) - s**2 * ridge(problem, w)
    return Certificate(primal - dual, float(miss.max()) / lam)


# --- solver -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Solution:
    """w: float (t, p); b: float (t,); how exact they are; and the number of passes over the data they took."""

    w: Array
    b: Array
    objective: float
    certificate: Certificate
    passes: int


def reference_solve(
    problem: Problem, lam: float, start: tuple[Array, Array] | None = None, tol: float = 1e-6, passes: int = 100_000
) -> Solution:
    """The readable twin of `solve`: FISTA with backtracking on all features, nothing else. Arguments as there."""
    w, b = start or (np.zeros((len(problem.y), problem.x.shape[2])), null_intercept(problem))
    v, c, momentum, curvature = w, b, 1.0, 1.0
    for step in range(1, passes + 1):
        z = scores(problem, v, c)
        value = loss(problem, z) + ridge(problem, v)
        gw = gradient(problem, v, z)
        gb = slope(problem, z).sum(1) * problem.intercept
        while True:
            new_w = prox(v - gw / curvature, lam / curvature)
            new_b = c - gb / curvature
            dw, db = new_w - v, new_b - c
            bound = value + (gw * dw).sum() + gb @ db + curvature / 2 * ((dw**2).sum() + db @ db)
            if loss(problem, scores(problem, new_w, new_b)) + ridge(problem, new_w) <= bound + 1e-12 * value:
                break
            curvature *= 2
        next_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = (momentum - 1) / next_momentum
        v, c = new_w + ahead * (new_w - w), new_b + ahead * (new_b - b)
        w, b, momentum = new_w, new_b, next_momentum
        if step % 10 == 0:
            found = _finished(problem, w, b, lam, step)
            if found.certificate.gap <= tol * found.objective:
                return found
    raise FloatingPointError(f"lambda {lam}: a duality gap of {tol:g} was not reached in {passes} passes")


def solve(
    problem: Problem,
    lam: float,
    start: tuple[Array, Array] | None = None,
    start_lam: float | None = None,
    tol: float = 1e-6,
    passes: int = 100_000,
) -> Solution:
    """Minimiser of F(W, b) + lambda sum_j ||w_j||, to a duality gap of `tol` times the objective.

    Accelerated proximal gradient steps find which features are zero; Newton steps on the others, where the objective
    is smooth, do the rest. Work is done on few features: those whose gradient norm at the start is at least
    2 lambda - start_lam (the strong rule); afterwards the optimality conditions of *all* features are looked at,
    violators join and the work goes on, until the duality gap of the whole problem is small enough.
    start: (w, b), best the solution for another lambda, `start_lam`; without the latter no feature is left out.
    Raises `ValueError` for a lambda that is not positive, `FloatingPointError` when `passes` do not suffice.
    """
    if not lam > 0:
        raise ValueError(f"lambda is {lam}: a value above 0 is accepted")
    w, b = start or (np.zeros((len(problem.y), problem.x.shape[2])), null_intercept(problem))
    push = norms(gradient(problem, w, scores(problem, w, b)))
    if start is None:
        start_lam = float(push.max())
    kept = (norms(w) > 0) | (push >= (0 if start_lam is None else 2 * lam - start_lam))
    kept[push.argmax()] = True
    done, inner, curvature = 0, tol / 2, 1.0
    while done < passes:
        index = np.flatnonzero(kept)
        part = problem.columns(index)
        at, b, curvature, used = _solve_part(part, lam, w[:, index], b, curvature, inner, passes - done)
        done += used
        w = np.zeros_like(w)
        w[:, index] = at
        found = _finished(problem, w, b, lam, done)
        if found.certificate.gap <= tol * found.objective:
            return found
        push = norms(gradient(problem, w, scores(problem, w, found.b)))
        if not (kept | (push <= lam)).all():
            kept |= push > lam
        else:
            inner /= 2
    raise FloatingPointError(f"lambda {lam}: a duality gap of {tol:g} was not reached in {passes} passes")


def path(problem: Problem, lambdas: Array, tol: float = 1e-6) -> Iterator[Solution]:
    """Solutions for falling lambda, one after another, each started where the line through the two before it points."""
    last: Solution | None = None
    before: Solution | None = None
    for k, lam in enumerate(lambdas):
        start = None
        if last is not None:
            w, b = last.w, last.b
            if before is not None:
                old = norms(before.w) > 0
                w, b = np.where(old, 2 * w - before.w, w), 2 * b - before.b
                w = w * ((w * last.w).sum(0) > 0)  # not through zero
            start = w, b
        before, last = last, solve(problem, lam, start, float(lambdas[k - 1]) if start else None, tol)
        yield last


def grid(largest: float, count: int, ratio: float) -> Array:
    """`count` values from the largest lambda down to `ratio` times it, evenly spaced in the logarithm."""
    return largest * np.logspace(0, np.log10(ratio), count)


def _finished(problem: Problem, w: Array, b: Array, lam: float, passes: int) -> Solution:
    z = scores(problem, w, b)
    shift = best_intercept(problem, z)
    z = z + shift[:, None]
    value = loss(problem, z) + ridge(problem, w) + lam * float(norms(w).sum())
    return Solution(w, b + shift, value, _certificate(problem, w, z, gradient(problem, w, z), lam), passes)


def _solve_part(
    problem: Problem, lam: float, w: Array, b: Array, curvature: float, tol: float, passes: int
) -> tuple[Array, Array, float, int]:
    """Gradient and Newton steps in turn on the features that were kept. Returns (w, b, curvature, passes)."""
    used, burst = 0, 5
    while True:
        w, b, curvature = _fista(problem, lam, w, b, curvature, burst)
        w, b, inner, moved = _newton(problem, lam, w, b)
        used += burst + inner
        burst = 5 if moved else min(2 * burst, 200)
        found = _finished(problem, w, b, lam, used)
        b = found.b
        if found.certificate.gap <= tol * found.objective or used >= passes:
            return w, b, curvature, used


def _fista(
    problem: Problem, lam: float, w: Array, b: Array, curvature: float, steps: int
) -> tuple[Array, Array, float]:
    """Accelerated proximal gradient with backtracking; momentum starts again when it points uphill."""
    z = scores(problem, w, b)
    v, c, zv, momentum = w, b, z, 1.0
    for _ in range(steps):
        value = loss(problem, zv) + ridge(problem, v)
        gw = gradient(problem, v, zv)
        gb = slope(problem, zv).sum(1) * problem.intercept
        while True:
            new_w = prox(v - gw / curvature, lam / curvature)
            new_b = c - gb / curvature
            dw, db = new_w - v, new_b - c
            new_z = scores(problem, new_w, new_b)
            bound = value + (gw * dw).sum() + gb @ db + curvature / 2 * ((dw**2).sum() + db @ db)
            # rounding: near the minimum both sides agree to the last digits
            if loss(problem, new_z) + ridge(problem, new_w) <= bound + 1e-12 * value:
                break
            curvature *= 2
        if (dw * (new_w - w)).sum() + db @ (new_b - b) < 0:
            momentum = 1.0
        next_momentum = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
        ahead = (momentum - 1) / next_momentum
        # scores are linear: those of the point ahead need no pass over the data
        v, c, zv = new_w + ahead * (new_w - w), new_b + ahead * (new_b - b), new_z + ahead * (new_z - z)
        w, b, z, momentum = new_w, new_b, new_z, next_momentum
    return w, b, curvature


def _newton(
    problem: Problem, lam: float, w: Array, b: Array, passes: int = 100, tol: float = 0.01
) -> tuple[Array, Array, int, bool]:
    """One Newton step on the features that are not zero, its equations solved by conjugate gradients.

    The penalty's Hessian at a feature with norm r and direction e is (lambda / r) (1 - e e^T) over tasks. With the
    losses' curvature a_t (the columns being about standardised) on the diagonal, its inverse is in closed form
    (Sherman and Morrison): the preconditioner, which leaves only the features' correlation to the iteration. A feature
    whose direction a step would turn round becomes zero. Returns (w, b, passes, whether the objective fell).
    """
    size = norms(w)
    live = size > 0
    size = np.where(live, size, 1)
    e, bend = w / size, live * lam / size
    z = scores(problem, w, b)
    chance = expit(z)
    curve = problem.weight * np.where(problem.classes[:, None], chance * (1 - chance), 2.0)
    total = curve.sum(1)

    def hessian(v: Array, c: Array) -> tuple[Array, Array]:
        change = curve * scores(problem, v, c)
        out = np.matmul(change[:, None, :], problem.x)[:, 0] + 2 * _q(problem, v)
        return (out + bend * (v - e * (e * v).sum(0))) * live, change.sum(1) * problem.intercept

    own = total[:, None] + 2 * (problem.alpha + problem.beta)
    inverse = 1 / (own + bend)
    # 1 - bend sum e^2 / (own + bend), without its cancellation at small norms
    scale = bend / np.where(live, (e**2 * own * inverse).sum(0), 1)

    def precondition(v: Array, c: Array) -> tuple[Array, Array]:
        v = inverse * v
        return (v + inverse * e * (scale * (e * v).sum(0))) * live, c / total

    r, rb = (gradient(problem, w, z) + lam * e) * live, slope(problem, z).sum(1) * problem.intercept
    dw, db = np.zeros_like(w), np.zeros_like(b)
    y, yb = precondition(r, rb)
    q, qb, rho = y, yb, (r * y).sum() + rb @ yb
    goal, used = tol**2 * rho, 0
    while rho > goal and used < passes:
        h, hb = hessian(q, qb)
        step = rho / ((q * h).sum() + qb @ hb)
        dw, db, r, rb = dw - step * q, db - step * qb, r - step * h, rb - step * hb
        y, yb = precondition(r, rb)
        rho, old = (r * y).sum() + rb @ yb, rho
        q, qb = y + rho / old * q, yb + rho / old * qb
        used += 1
    before = objective(problem, w, b, lam)
    length = 1.0
    while length > 1e-3:
        new_w = w + length * dw
        new_w = new_w * ((new_w * w).sum(0) > 0)
        if objective(problem, new_w, b + length * db, lam) < before:
            return new_w, b + length * db, used, True
        length /= 2
    return w, b, used, False


# --- tasks as they come -------------------------------------------------------------------------------------------


def check_tasks(
    xs: Sequence[Any], ys: Sequence[Any], kinds: str | Sequence[str]
) -> tuple[list[Array], list[NDArray[Any]], Mask]:
    """Tasks as float arrays, targets as arrays, and which are classification; or an error that names task and column.

    xs: (n_t, p) a task, arrays or data frames; ys: (n_t,) a task; kinds: `regression` or `classification`, one word
    for all tasks or one a task. Raises `ValueError` for unequal numbers of features or rows, values that are not
    finite, a constant feature or target, labels that are not of two classes.
    """
    if len(xs) != len(ys) or not len(xs):
        raise ValueError(f"{len(xs)} feature arrays and {len(ys)} targets: one of each a task is accepted")
    words = [kinds] * len(xs) if isinstance(kinds, str) else list(kinds)
    if len(words) != len(xs) or not set(words) <= set(KINDS):
        raise ValueError(f"kinds {kinds!r}: {' or '.join(KINDS)}, one for all or one for each of {len(xs)} tasks")
    found = [_check_task(i, x, y, word) for i, (x, y, word) in enumerate(zip(xs, ys, words, strict=True))]
    for i, (x, _) in enumerate(found):
        if x.shape[1] != found[0][0].shape[1]:
            raise ValueError(
                f"task {i} has {x.shape[1]} features, task 0 has {found[0][0].shape[1]}: equal numbers are accepted"
            )
    return [x for x, _ in found], [y for _, y in found], np.array([word == "classification" for word in words])


def _check_task(i: int, x: Any, y: Any, kind: str) -> tuple[Array, NDArray[Any]]:
    columns = list(getattr(x, "columns", []))
    x, y = np.asarray(x, float), np.asarray(y)
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y):
        raise ValueError(
            f"task {i}: features {x.shape} and target {y.shape}: (rows, features) and (rows,) are accepted"
        )
    if len(x) < 2 or not x.shape[1]:
        raise ValueError(f"task {i}: n_samples = {len(x)}, n_features = {x.shape[1]}: at least two rows, one feature")
    for j in np.flatnonzero(~np.isfinite(x).all(0)):
        row = np.flatnonzero(~np.isfinite(x[:, j]))[0]
        raise ValueError(f"task {i}, column {_name(columns, j)}: {x[row, j]} in row {row}: finite values are accepted")
    _check_varying(x, f"task {i}", columns)
    if kind == "classification":
        labels = np.unique(y)
        if len(labels) != 2 or (y.dtype.kind == "f" and not np.isfinite(y).all()):
            some = ", ".join(map(str, labels[:5])) + (", ..." if len(labels) > 5 else "")
            raise ValueError(f"task {i}, classification: labels {some}: exactly two classes are accepted")
        return x, y
    y = y.astype(float)
    if not np.isfinite(y).all():
        row = np.flatnonzero(~np.isfinite(y))[0]
        raise ValueError(f"task {i}, target: {y[row]} in row {row}: finite values are accepted")
    if np.ptp(y) == 0:
        raise ValueError(f"task {i}, target: constant ({y[0]:g}): a regression target that varies is accepted")
    return x, y


def _check_varying(x: Array, place: str, columns: Sequence[Any] = ()) -> None:
    """A standard deviation of rounding error alone counts as constant."""
    for j in np.flatnonzero(x.std(0) <= 1e-12 * np.abs(x).max(0)):
        raise ValueError(f"{place}, column {_name(columns, j)}: constant ({x[0, j]:g}): leave it out")


def _name(columns: Sequence[Any], j: Any) -> str:
    return f"{j} ({columns[j]})" if len(columns) else str(j)


@dataclass(frozen=True)
class Scaler:
    """Means and standard deviations of the training rows, float (t, p) for features, (t,) for targets."""

    x_mean: Array
    x_scale: Array
    y_mean: Array
    y_scale: Array

    def x(self, xs: Sequence[Array]) -> list[Array]:
        """Features in the units of the training rows."""
        return [(x - m) / s for x, m, s in zip(xs, self.x_mean, self.x_scale, strict=True)]

    def y(self, ys: Sequence[Array]) -> list[Array]:
        """Targets in the units of the training rows; labels stay -1 and 1."""
        return [(y - m) / s for y, m, s in zip(ys, self.y_mean, self.y_scale, strict=True)]


def fit_scaler(xs: Sequence[Array], ys: Sequence[Array], classes: Mask, features: bool, targets: bool) -> Scaler:
    """Means and standard deviations (divided by n, not n - 1); 0 and 1 where nothing is to be standardised."""
    zero, one = np.zeros((len(xs), xs[0].shape[1])), np.ones((len(xs), xs[0].shape[1]))
    x_mean, x_scale = (np.stack([x.mean(0) for x in xs]), np.stack([x.std(0) for x in xs])) if features else (zero, one)
    move = ~classes & targets
    y_mean = np.array([y.mean() if m else 0.0 for y, m in zip(ys, move, strict=True)])
    y_scale = np.array([y.std() if m else 1.0 for y, m in zip(ys, move, strict=True)])
    return Scaler(x_mean, x_scale, y_mean, y_scale)


# --- cross-validation ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CrossValidation:
    """Held-out mean square error and area under the ROC curve, means over folds and tasks of a kind; float (k,).

    auc holds the accuracy where labels are judged by that. Zero where no task is of that kind. best: the rule's lambda.
    """

    lambdas: Array
    mse: Array
    auc: Array
    best_mse: float
    best_auc: float
    best: float


def cross_validate(
    xs: Sequence[Array],
    ys: Sequence[Array],
    classes: Mask,
    lambdas: Array,
    folds: int,
    seed: int,
    tol: float = 1e-4,
    standardise: tuple[bool, bool] = (True, True),
    patience: int | None = None,
    labels: str = "auc",
    **settings: Any,
) -> CrossValidation:
    """The rule of Cao et al. 2024: lambda = (T_r / T) lambda_mse + (T_c / T) lambda_auc.

    lambda_mse minimises the mean square error over the T_r regression tasks, lambda_auc maximises the area under the
    curve over the T_c classification tasks; of equal values the largest lambda. One grid serves all folds, where the
    official code averages the folds' own grids; folds are stratified by class; features and regression targets are
    standardised on the training rows of each fold. ys: labels -1 and 1; settings: of `make_problem`; patience: the path
    ends where neither mean has improved for so many values of lambda (none: at its end); labels: what classification
    is judged by, `auc` or `accuracy` (as the official code of classification tasks alone does).
    Raises `ValueError` for an unknown measure, a class with fewer rows than folds, a feature constant in a fold.
    """
    if labels not in ("auc", "accuracy"):
        raise ValueError(f"labels {labels!r}: auc or accuracy is accepted")
    splits = [_splits(i, x, y, bool(c), folds, seed) for i, (x, y, c) in enumerate(zip(xs, ys, classes, strict=True))]
    runs = [
        _held_out(xs, ys, classes, f, [s[f] for s in splits], lambdas, tol, standardise, labels, settings)
        for f in range(folds)
    ]
    means: list[Array] = []
    for row in zip(*runs, strict=True):  # for each lambda one pair a fold
        means.append(np.mean(row, axis=0))
        if patience and len(means) > patience:
            curve = np.array(means)
            if (curve[:-patience].min(0) <= curve[-patience:].min(0)).all():
                break
    mse, auc = np.array(means).T * [[1], [-1]]
    lambdas = lambdas[: len(means)]
    share = float(classes.mean())
    best_mse, best_auc = float(lambdas[np.argmin(mse)]), float(lambdas[np.argmax(auc)])
    return CrossValidation(lambdas, mse, auc, best_mse, best_auc, (1 - share) * best_mse + share * best_auc)


def _held_out(
    xs: Sequence[Array],
    ys: Sequence[Array],
    classes: Mask,
    fold: int,
    split: list[tuple[Any, Any]],
    lambdas: Array,
    tol: float,
    standardise: tuple[bool, bool],
    labels: str,
    settings: dict[str, Any],
) -> Iterator[tuple[float, float]]:
    """Mean square error and *minus* the measure of labels on one fold's held-out rows, for each lambda in turn."""
    measure = {"auc": area_under_curve, "accuracy": accuracy}[labels]
    train_x = [x[a] for x, (a, _) in zip(xs, split, strict=True)]
    train_y = [y[a] for y, (a, _) in zip(ys, split, strict=True)]
    for i, x in enumerate(train_x):
        _check_varying(x, f"task {i}, fold {fold}")
    scaler = fit_scaler(train_x, train_y, classes, *standardise)
    test_x = scaler.x([x[a] for x, (_, a) in zip(xs, split, strict=True)])
    test_y = scaler.y([y[a] for y, (_, a) in zip(ys, split, strict=True)])
    problem = make_problem(scaler.x(train_x), scaler.y(train_y), classes, **settings)
    for found in path(problem, lambdas, tol):
        z = [x @ w + b for x, w, b in zip(test_x, found.w, found.b, strict=True)]
        squares = [((a - y) ** 2).mean() for a, y, c in zip(z, test_y, classes, strict=True) if not c]
        good = [measure(a, y > 0) for a, y, c in zip(z, test_y, classes, strict=True) if c]
        yield (float(np.mean(squares)) if squares else 0.0, -float(np.mean(good)) if good else 0.0)


def accuracy(values: Array, positive: Mask) -> float:
    """Share of labels that the sign of the score tells right, zero counting as positive, as in the official code."""
    return float(((values >= 0) == positive).mean())


def area_under_curve(values: Array, positive: Mask) -> float:
    """Area under the ROC curve by ranks, ties counting a half. values: (n,); positive: bool (n,)."""
    m = int(positive.sum())
    return float((rankdata(values)[positive].sum() - m * (m + 1) / 2) / (m * (len(positive) - m)))


def _splits(i: int, x: Array, y: Array, is_class: bool, folds: int, seed: int) -> list[tuple[Any, Any]]:
    if is_class:
        labels, counts = np.unique(y, return_counts=True)
        if counts.min() < folds:
            label, count = labels[counts.argmin()], counts.min()
            raise ValueError(f"task {i}: class {label:g} has {count} rows for {folds} folds: one a fold is accepted")
        return list(StratifiedKFold(folds, shuffle=True, random_state=seed).split(x, y))
    if len(y) < 2 * folds:
        raise ValueError(f"task {i}: {len(y)} rows for {folds} folds: two a fold or more are accepted")
    return list(KFold(folds, shuffle=True, random_state=seed).split(x))


# --- estimators ---------------------------------------------------------------------------------------------------


class MixedMultiTask(RegressorMixin, BaseEstimator):
    """Linear models of several tasks, regression and classification, that select their features together.

    Minimises the objective of `Problem` plus lam times the sum of the features' norms over tasks. `fit`, `predict`
    and `score` take a list with one array a task, of any numbers of rows, or one array for a single task. Features
    and regression targets are standardised on the training rows (`standardise`); intercepts are never penalised.

    lam: above 0; kinds: as in `check_tasks`; weights: of the logistic and the squared loss; alpha, beta: pull towards
    the mean over tasks and towards zero; tol: duality gap over objective.
    Fitted: coef_ (t, p) and intercept_ (t,) for features as they came, strength_ (p,) norms over tasks in standard
    units, selected_ bool (p,), certificate_, classes_ a list (None for regression).
    """

    def __init__(  # noqa: D107
        self,
        lam: float = 0.1,
        kinds: str | Sequence[str] = "regression",
        weights: tuple[float, float] = WEIGHTS,
        alpha: float = 0.0,
        beta: float = 0.0,
        intercept: bool = True,
        standardise: bool = True,
        tol: float = 1e-6,
    ) -> None:
        self.lam = lam
        self.kinds = kinds
        self.weights = weights
        self.alpha = alpha
        self.beta = beta
        self.intercept = intercept
        self.standardise = standardise
        self.tol = tol

    def fit(self, X: Any, y: Any) -> Self:
        """X: list of (n_t, p) a task and y: list of (n_t,), or one of each. Raises `ValueError` as `check_tasks`."""
        self._several = _is_several(X)
        if not self._several:
            X, y = validate_data(self, X, y, y_numeric=self.kinds == "regression", dtype=float)
            X, y = [X], [y]
        xs, ys, classes = check_tasks(X, y, self.kinds)
        self.n_features_in_ = xs[0].shape[1]
        self.classes_ = [np.unique(v) if c else None for v, c in zip(ys, classes, strict=True)]
        signs = [
            v if known is None else np.where(v == known[1], 1.0, -1.0)
            for v, known in zip(ys, self.classes_, strict=True)
        ]
        scaler = fit_scaler(xs, signs, classes, self.standardise, self.standardise)
        problem = make_problem(scaler.x(xs), scaler.y(signs), classes, **self._settings())
        lam = self._choose(xs, signs, classes, problem)
        # down from where nothing is selected: a few warm starts cost less than one cold one
        top = max(lambda_max(problem), lam)
        *_, found = path(problem, grid(top, 10, lam / top) if lam < top else np.array([lam]), self.tol)
        self.lam_ = lam
        self.coef_ = found.w / scaler.x_scale * scaler.y_scale[:, None]
        self.intercept_ = found.b * scaler.y_scale + scaler.y_mean - (self.coef_ * scaler.x_mean).sum(1)
        self.strength_ = norms(found.w)
        self.selected_ = self.strength_ > 0
        self.certificate_ = found.certificate
        return self

    def predict_score(self, X: Any) -> Any:
        """Scores x.w + b: a regression task's prediction; above zero for the second class of a classification task."""
        check_is_fitted(self)
        if not self._several:
            X = [validate_data(self, X, reset=False, dtype=float)]
        elif not _is_several(X) or len(X) != len(self.coef_):
            raise ValueError(f"{len(X)} arrays: one (rows, {self.n_features_in_}) for each of {len(self.coef_)} tasks")
        for i, x in enumerate(X):
            if np.shape(x)[1] != self.n_features_in_:
                raise ValueError(f"task {i} has {np.shape(x)[1]} features, fitted were {self.n_features_in_}")
        found = [np.asarray(x, float) @ w + b for x, w, b in zip(X, self.coef_, self.intercept_, strict=True)]
        return found if self._several else found[0]

    def predict(self, X: Any) -> Any:
        """Values for regression tasks, labels for classification tasks."""
        found = self.predict_score(X)
        parts = found if self._several else [found]
        labels = [
            z if known is None else known[(z > 0).astype(int)] for z, known in zip(parts, self.classes_, strict=True)
        ]
        return labels if self._several else labels[0]

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Mean over tasks of R^2 (regression) and accuracy (classification)."""
        if sample_weight is not None:
            raise ValueError("sample_weight is not supported")
        found = self.predict(X)
        pairs = zip(y, found, self.classes_, strict=True) if self._several else [(y, found, self.classes_[0])]
        return float(np.mean([(r2_score if k is None else accuracy_score)(a, b) for a, b, k in pairs]))

    def _settings(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("weights", "alpha", "beta", "intercept")}

    def _choose(self, xs: list[Array], ys: list[Array], classes: Mask, problem: Problem) -> float:
        if not self.lam > 0:
            raise ValueError(f"lam is {self.lam}: a value above 0 is accepted")
        return float(self.lam)


class MixedMultiTaskCV(MixedMultiTask):
    """`MixedMultiTask` with lambda by cross-validation (`cross_validate`); beside its attributes lam_ and cv_.

    lambdas: how many on the path from lambda_max to `ratio` times it; folds; seed: of the folds. The folds' paths are
    solved to a gap of 1e-4, what is fitted in the end to `tol`.
    """

    def __init__(  # noqa: D107
        self,
        kinds: str | Sequence[str] = "regression",
        weights: tuple[float, float] = WEIGHTS,
        alpha: float = 0.0,
        beta: float = 0.0,
        intercept: bool = True,
        standardise: bool = True,
        tol: float = 1e-6,
        lambdas: int = 100,
        ratio: float = 0.01,
        folds: int = 5,
        seed: int = 0,
        patience: int | None = None,
        labels: str = "auc",
    ) -> None:
        super().__init__(0.1, kinds, weights, alpha, beta, intercept, standardise, tol)
        self.lambdas = lambdas
        self.ratio = ratio
        self.folds = folds
        self.seed = seed
        self.patience = patience
        self.labels = labels

    def _choose(self, xs: list[Array], ys: list[Array], classes: Mask, problem: Problem) -> float:
        lambdas = grid(lambda_max(problem), self.lambdas, self.ratio)
        both = (self.standardise, self.standardise)
        self.cv_ = cross_validate(
            xs,
            ys,
            classes,
            lambdas,
            self.folds,
            self.seed,
            max(self.tol, 1e-4),
            both,
            self.patience,
            self.labels,
            **self._settings(),
        )
        return self.cv_.best


def _is_several(X: Any) -> bool:
    """Whether it is a list of tasks: a list or tuple of things with rows and columns."""
    return isinstance(X, list | tuple) and len(X) > 0 and np.ndim(X[0]) == 2
