"""Joint feature selection for squared and logistic losses: the problem, how exact a solution is, the solver.

Letters: t tasks, n rows (of the longest task), p features, k values of lambda. A coefficient matrix W is (t, p), as in
scikit-learn's multi-task models; the paper has (p, t). NumPy, because everything is float64 on small arrays.

References: H. Cao et al. 2024 (MTLComb, arXiv 2405.09886), objective and weights. Beck and Teboulle 2009, FISTA.
O'Donoghue and Candes 2015, restart. Tibshirani et al. 2012, strong rule. Ndiaye et al. 2015, duality gap of the group
penalty over tasks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import expit, xlogy

Coefficients = Float[np.ndarray, "t p"]
Intercepts = Float[np.ndarray, " t"]
Scores = Float[np.ndarray, "t n"]

WEIGHTS = (2.0, 0.5)  # of the logistic and of the squared loss: Cao et al. 2024


# --- problem -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Smooth part of the objective of Cao et al. 2024, with an unpenalised intercept b_t for each task.

    F(W, b) = sum_c w_c mean log(1 + exp(-y (x.w + b))) + sum_r w_r mean (y - x.w - b)^2
              + alpha ||W G||^2 + beta ||W||^2

    where G subtracts the mean over tasks. Penalties as in the paper's formula: the official code has alpha / 2 and
    beta / 2, so its C2 = 0.1 is beta = 0.05 here. Tasks of fewer rows than n are padded with rows of weight zero.

    y: labels are -1 and 1.
    weight: the loss weight over the task's number of rows.
    classes: true for classification.
    """

    x: Float[np.ndarray, "t n p"]
    y: Scores
    weight: Scores
    classes: Bool[np.ndarray, " t"]
    alpha: float = 0.0
    beta: float = 0.0
    intercept: bool = True

    def columns(self, index: Int[np.ndarray, " kept"]) -> "Problem":
        """The same problem with only these features."""
        return replace(self, x=np.ascontiguousarray(self.x[:, :, index]))


def make_problem(
    xs: Sequence[Float[np.ndarray, "_ p"]],
    ys: Sequence[Float[np.ndarray, " _"]],
    classes: Bool[np.ndarray, " t"],
    weights: tuple[float, float] = WEIGHTS,
    alpha: float = 0.0,
    beta: float = 0.0,
    intercept: bool = True,
) -> Problem:
    """Puts tasks of any numbers of rows into one array.

    ys: labels are -1 and 1.
    weights: of the logistic and of the squared loss.
    Raises `ValueError` for a negative penalty or a weight that is not positive.
    """
    if min(alpha, beta) < 0 or not min(weights) > 0:
        raise ValueError(f"alpha {alpha}, beta {beta}, weights {weights}: penalties must be 0 or more, weights above 0")
    t, n, p = len(xs), max(len(x) for x in xs), xs[0].shape[1]
    x, y, weight = np.zeros((t, n, p)), np.zeros((t, n)), np.zeros((t, n))
    for i, (rows, target) in enumerate(zip(xs, ys, strict=True)):
        m = len(rows)
        x[i, :m], y[i, :m], weight[i, :m] = rows, target, weights[0 if classes[i] else 1] / m
    return Problem(x, y, weight, np.asarray(classes, bool), alpha, beta, intercept)


def scores(problem: Problem, w: Coefficients, b: Intercepts) -> Scores:
    """x.w + b for every row."""
    return np.matmul(problem.x, w[:, :, None])[:, :, 0] + b[:, None]


def loss(problem: Problem, z: Scores) -> float:
    """Weighted loss at scores z."""
    c, r = problem.classes, ~problem.classes
    logistic = problem.weight[c] * np.logaddexp(0, -problem.y[c] * z[c])
    return float(logistic.sum() + (problem.weight[r] * (problem.y[r] - z[r]) ** 2).sum())


def slope(problem: Problem, z: Scores) -> Scores:
    """Derivative of the loss with respect to the scores."""
    y, c = problem.y, problem.classes
    out = 2 * (z - y)
    out[c] = -y[c] * expit(-y[c] * z[c])
    return problem.weight * out


def ridge(problem: Problem, w: Coefficients) -> float:
    """alpha ||W G||^2 + beta ||W||^2."""
    return float((w * _q(problem, w)).sum())


def null_intercept(problem: Problem) -> Intercepts:
    """Intercepts of the model without features."""
    return best_intercept(problem, np.zeros_like(problem.y))


def _q(problem: Problem, w: Coefficients) -> Coefficients:
    """Half the gradient of the ridge terms."""
    if problem.alpha == 0:
        return problem.beta * w
    return problem.alpha * (w - w.mean(0)) + problem.beta * w


def gradient(problem: Problem, w: Coefficients, z: Scores) -> Coefficients:
    """Gradient of F with respect to W at coefficients w with scores z."""
    return np.matmul(slope(problem, z)[:, None, :], problem.x)[:, 0] + 2 * _q(problem, w)


def objective(problem: Problem, w: Coefficients, b: Intercepts, lam: float) -> float:
    """F(W, b) + lambda sum_j ||w_j||, where ||w_j|| is the norm of a feature's coefficients over tasks."""
    return loss(problem, scores(problem, w, b)) + ridge(problem, w) + lam * float(norms(w).sum())


def norms(w: Coefficients) -> Float[np.ndarray, " p"]:
    """Euclidean norm over tasks of each feature."""
    return np.sqrt((w**2).sum(-2))


def prox(w: Coefficients, threshold: float) -> Coefficients:
    """Proximal map of the L2,1 norm: shrinks every feature's norm by the threshold, but not below zero."""
    size = norms(w)
    return w * np.where(size > threshold, 1 - threshold / np.where(size > 0, size, 1), 0)


def best_intercept(problem: Problem, z: Scores) -> Intercepts:
    """The shift of each task's scores that minimises its loss: the mean residual, or Newton's method."""
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


def certificate(problem: Problem, w: Coefficients, b: Intercepts, lam: float) -> Certificate:
    """Duality gap and stationarity of (W, b).

    Dual, from u = -dloss/dz and the ridge terms as further squared rows: for 0 <= s <= 1 with
    s max_j ||(X^T u - 2 Q W)_j|| <= lambda and sum_i u_ti = 0 (with intercept), the minimum is at least
    -sum_t f_t*(-s u_t) - s^2 tr(W Q W^T). For squares -f*(-u) = u y - u^2 / 4 c, for the logistic loss c H(u y / c)
    with the entropy H of (a, 1 - a); c is the row's weight. b must be the best intercept for W, as `solve` gives it.
    """
    z = scores(problem, w, b)
    return _certificate(problem, w, z, gradient(problem, w, z), lam)


def _certificate(problem: Problem, w: Coefficients, z: Scores, g: Coefficients, lam: float) -> Certificate:
    size, push = norms(w), norms(g)
    active = size > 0
    miss = np.maximum(push - lam, 0)
    if active.any():
        miss[active] = norms(g[:, active] + lam * w[:, active] / size[active])
    primal = loss(problem, z) + ridge(problem, w) + lam * float(size.sum())
    s = min(1.0, lam / max(float(push.max()), 1e-300))
    u = -s * slope(problem, z)
    c, r = problem.classes, ~problem.classes
    safe = np.where(problem.weight > 0, problem.weight, 1)  # padding rows have u = 0 as well
    a = np.clip(u[c] * problem.y[c] / safe[c], 0, 1)
    dual = -float((problem.weight[c] * (xlogy(a, a) + xlogy(1 - a, 1 - a))).sum())
    dual += float((u[r] * problem.y[r] - u[r] ** 2 / (4 * safe[r])).sum()) - s**2 * ridge(problem, w)
    return Certificate(primal - dual, float(miss.max()) / lam)


# --- solver -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Solution:
    """Coefficients and intercepts, how exact they are, and how many passes over the data they took."""

    w: Coefficients
    b: Intercepts
    objective: float
    certificate: Certificate
    passes: int


def solve(
    problem: Problem,
    lam: float,
    start: tuple[Coefficients, Intercepts] | None = None,
    start_lam: float | None = None,
    tol: float = 1e-6,
    passes: int = 100_000,
) -> Solution:
    """Minimiser of F(W, b) + lambda sum_j ||w_j||, to a duality gap of `tol` times the objective.

    Accelerated proximal gradient steps find which features are zero; Newton steps on the others, where the objective
    is smooth, do the rest. It works on few features: those whose gradient norm at the start is at least
    2 lambda - start_lam (the strong rule). Then the optimality conditions of *all* features are checked, violators join
    and the work goes on, until the duality gap of the whole problem is small enough.

    start: (w, b), ideally the solution for another lambda.
    start_lam: that lambda; without it no feature is left out.
    Raises `ValueError` for a lambda that is not positive, `FloatingPointError` when `passes` do not suffice.
    """
    if not lam > 0:
        raise ValueError(f"lambda is {lam}: it must be above 0")
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


def path(problem: Problem, lambdas: Float[np.ndarray, " k"], tol: float = 1e-6) -> Iterator[Solution]:
    """Solutions for falling lambda in turn; each starts on the line through the two before it."""
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


def grid(largest: float, n_lambdas: int, lambda_min_ratio: float) -> Float[np.ndarray, " k"]:
    """Values from the largest lambda down to `lambda_min_ratio` times it, evenly spaced in the logarithm."""
    return largest * np.logspace(0, np.log10(lambda_min_ratio), n_lambdas)


def _finished(problem: Problem, w: Coefficients, b: Intercepts, lam: float, passes: int) -> Solution:
    z = scores(problem, w, b)
    shift = best_intercept(problem, z)
    z = z + shift[:, None]
    value = loss(problem, z) + ridge(problem, w) + lam * float(norms(w).sum())
    return Solution(w, b + shift, value, _certificate(problem, w, z, gradient(problem, w, z), lam), passes)


def _solve_part(
    problem: Problem,
    lam: float,
    w: Coefficients,
    b: Intercepts,
    curvature: float,
    tol: float,
    passes: int,
) -> tuple[Coefficients, Intercepts, float, int]:
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
    problem: Problem, lam: float, w: Coefficients, b: Intercepts, curvature: float, steps: int
) -> tuple[Coefficients, Intercepts, float]:
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
            # near the minimum both sides agree up to rounding
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
    problem: Problem,
    lam: float,
    w: Coefficients,
    b: Intercepts,
    passes: int = 100,
    tol: float = 0.01,
) -> tuple[Coefficients, Intercepts, int, bool]:
    """One Newton step on the features that are not zero, its equations solved by conjugate gradients.

    The penalty's Hessian at a feature with norm r and direction e is (lambda / r) (1 - e e^T) over tasks. With the
    losses' curvature a_t (the columns being about standardised) on the diagonal, its inverse is in closed form
    (Sherman and Morrison): the preconditioner, which leaves only the features' correlation to the iteration. A feature
    whose direction a step would reverse becomes zero. Returns (w, b, passes, whether the objective fell).
    """
    size = norms(w)
    live = size > 0
    size = np.where(live, size, 1)
    e, bend = w / size, live * lam / size
    z = scores(problem, w, b)
    chance = expit(z)
    curve = problem.weight * np.where(problem.classes[:, None], chance * (1 - chance), 2.0)
    total = curve.sum(1)

    def hessian(v: Coefficients, c: Intercepts) -> tuple[Coefficients, Intercepts]:
        change = curve * scores(problem, v, c)
        out = np.matmul(change[:, None, :], problem.x)[:, 0] + 2 * _q(problem, v)
        return (out + bend * (v - e * (e * v).sum(0))) * live, change.sum(1) * problem.intercept

    own = total[:, None] + 2 * (problem.alpha + problem.beta)
    inverse = 1 / (own + bend)
    # 1 - bend sum e^2 / (own + bend), without its cancellation at small norms
    scale = bend / np.where(live, (e**2 * own * inverse).sum(0), 1)

    def precondition(v: Coefficients, c: Intercepts) -> tuple[Coefficients, Intercepts]:
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
