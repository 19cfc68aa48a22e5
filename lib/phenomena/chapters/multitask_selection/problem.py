"""Joint feature selection for squared and logistic losses: the problem, how exact a solution is, the solver.

Letters: t tasks, f fits, n rows (of the longest task), p features, k values of lambda. Fits are of the same rows, with
weights, targets and units of their own: the folds of a cross-validation, solved side by side. Coefficients W are
(t, f, p); those of one fit are (t, p), as in scikit-learn's multi-task models; the paper has (p, t). NumPy, because
everything is float64 on small arrays.

References: H. Cao et al. 2024 (MTLComb, arXiv 2405.09886), objective and weights. Beck and Teboulle 2009, FISTA.
O'Donoghue and Candes 2015, restart. Tibshirani et al. 2012, strong rule. Ndiaye et al. 2015, duality gap of the group
penalty over tasks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

Coefficients = Float[np.ndarray, "t f p"]
Intercepts = Float[np.ndarray, "t f"]
Scores = Float[np.ndarray, "t f n"]
Each = Float[np.ndarray, " f"]

WEIGHTS = (2.0, 0.5)  # of the logistic and of the squared loss: Cao et al. 2024


# --- problem -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Smooth part of the objective of Cao et al. 2024, with an unpenalised intercept b_t for each task; several fits.

    F(W, b) = sum_c w_c mean log(1 + exp(-y (x.w + b))) + sum_r w_r mean (y - x.w - b)^2
              + alpha ||W G||^2 + beta ||W||^2

    where G subtracts the mean over tasks. Penalties as in the paper's formula: the official code has alpha / 2 and
    beta / 2, so its C2 = 0.1 is beta = 0.05 here. Tasks of fewer rows than n are padded with rows of weight zero.

    x: stored feature by feature, so that some features are copied fast. y: labels are -1 and 1.
    weight: the loss weight over the number of rows; zero for rows that a fit does not see.
    classes: true for classification.
    shift, unit: a fit has the features (x - shift) * unit.
    """

    x: Float[np.ndarray, "t p n"]
    y: Scores
    weight: Scores
    classes: Bool[np.ndarray, " t"]
    alpha: float = 0.0
    beta: float = 0.0
    intercept: bool = True
    shift: Coefficients | None = None
    unit: Coefficients | None = None

    def columns(self, index: Int[np.ndarray, " kept"]) -> "Problem":
        """The same problem with only these features."""
        shift, unit = (None if v is None else v[:, :, index] for v in (self.shift, self.unit))
        return replace(self, x=self.x[:, index], shift=shift, unit=unit)

    def fits(self, index: Int[np.ndarray, " some"]) -> "Problem":
        """The same problem with only these fits."""
        if len(index) == self.y.shape[1]:
            return self
        shift, unit = (None if v is None else v[:, index] for v in (self.shift, self.unit))
        return replace(self, y=self.y[:, index], weight=self.weight[:, index], shift=shift, unit=unit)


def make_problem(
    xs: Sequence[Float[np.ndarray, "_ p"]],
    ys: Sequence[Float[np.ndarray, " _"]],
    classes: Bool[np.ndarray, " t"],
    weights: tuple[float, float] = WEIGHTS,
    alpha: float = 0.0,
    beta: float = 0.0,
    intercept: bool = True,
) -> Problem:
    """Puts tasks of any numbers of rows into one array, for one fit.

    ys: labels are -1 and 1.
    weights: of the logistic and of the squared loss.
    Raises `ValueError` for a negative penalty or a weight that is not positive, or either not finite.
    """
    if not all(0 <= v < np.inf for v in (alpha, beta)) or not all(0 < v < np.inf for v in weights):
        raise ValueError(f"alpha {alpha}, beta {beta}, weights {weights}: penalties must be 0 or more, weights above 0")
    t, n, p = len(xs), max(len(x) for x in xs), xs[0].shape[1]
    x, y, weight = np.zeros((t, p, n)), np.zeros((t, 1, n)), np.zeros((t, 1, n))
    for i, (rows, target) in enumerate(zip(xs, ys, strict=True)):
        m = len(rows)
        x[i, :, :m], y[i, 0, :m], weight[i, 0, :m] = rows.T, target, weights[0 if classes[i] else 1] / m
    return Problem(x, y, weight, np.asarray(classes, bool), alpha, beta, intercept)


def scores(problem: Problem, w: Coefficients, b: Intercepts) -> Scores:
    """x.w + b for every row."""
    if problem.unit is not None:
        w = w * problem.unit
    if problem.shift is not None:
        b = b - np.einsum("tfp,tfp->tf", w, problem.shift)
    return np.matmul(w, problem.x) + b[:, :, None]


def _pull(problem: Problem, u: Scores) -> Coefficients:
    """sum_i u_i x_i: what a change of u_i to every score does to the coefficients' gradient."""
    found = np.matmul(u, problem.x.transpose(0, 2, 1))
    if problem.shift is not None:
        found -= u.sum(-1)[:, :, None] * problem.shift
    if problem.unit is not None:
        found *= problem.unit
    return found


def loss(problem: Problem, z: Scores) -> Each:
    """Weighted loss at scores z."""
    c, r = problem.classes, ~problem.classes
    margin = problem.y[c] * z[c]
    # log(1 + exp(-m)) without overflow; NumPy's logaddexp takes five times as long
    logistic = problem.weight[c] * (np.log1p(np.exp(-np.abs(margin))) - np.minimum(margin, 0))
    return _total(logistic) + _total(problem.weight[r] * (problem.y[r] - z[r]) ** 2)


def slope(problem: Problem, z: Scores) -> Scores:
    """Derivative of the loss with respect to the scores."""
    y, c = problem.y, problem.classes
    out = 2 * (z - y)
    out[c] = -y[c] * _expit(-y[c] * z[c])
    out *= problem.weight
    return out


def _expit(z: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-z)), by the function of NumPy that is computed several numbers at a time."""
    return 0.5 + 0.5 * np.tanh(0.5 * z)


def _total(values: Float[np.ndarray, "t f _"]) -> Each:
    return values.sum(-1).sum(0)


def ridge(problem: Problem, w: Coefficients) -> Each:
    """alpha ||W G||^2 + beta ||W||^2."""
    return _total(w * _q(problem, w))


def null_intercept(problem: Problem) -> Intercepts:
    """Intercepts of the model without features."""
    return best_intercept(problem, np.zeros_like(problem.y))


def _q(problem: Problem, w: Coefficients) -> Coefficients:
    """Half the gradient of the ridge terms."""
    if problem.alpha == 0:
        return problem.beta * w if problem.beta else np.zeros_like(w)
    return problem.alpha * (w - w.mean(0)) + problem.beta * w


def gradient(problem: Problem, w: Coefficients, z: Scores) -> Coefficients:
    """Gradient of F with respect to W at coefficients w with scores z."""
    return _pull(problem, slope(problem, z)) + 2 * _q(problem, w)


def objective(problem: Problem, w: Coefficients, b: Intercepts, lam: float | Each) -> Each:
    """F(W, b) + lambda sum_j ||w_j||, where ||w_j|| is the norm of a feature's coefficients over tasks."""
    return _objective(problem, w, scores(problem, w, b), lam)


def _objective(problem: Problem, w: Coefficients, z: Scores, lam: float | Each) -> Each:
    return loss(problem, z) + ridge(problem, w) + lam * norms(w).sum(-1)


def norms(w: Float[np.ndarray, "t *f p"]) -> Float[np.ndarray, "*f p"]:
    """Euclidean norm over tasks of each feature."""
    return np.sqrt((w**2).sum(0))


def prox(w: Coefficients, threshold: float | Each) -> Coefficients:
    """Proximal map of the L2,1 norm: shrinks every feature's norm by the threshold, but not below zero."""
    size, least = norms(w), np.reshape(threshold, (-1, 1))
    return w * np.where(size > least, 1 - least / np.where(size > 0, size, 1), 0)


def best_intercept(problem: Problem, z: Scores) -> Intercepts:
    """The shift of each task's scores that minimises its loss: the mean residual, or Newton's method."""
    shift = np.zeros(z.shape[:2])
    if not problem.intercept:
        return shift
    c, r = problem.classes, ~problem.classes
    weight, total = problem.weight, problem.weight.sum(-1)
    shift[r] = (weight[r] * (problem.y[r] - z[r])).sum(-1) / total[r]
    y, z, weight, total, move = problem.y[c], z[c], weight[c], total[c], shift[c]
    for _ in range(50):
        s = _expit(-y * (z + move[:, :, None]))
        g = -(weight * y * s).sum(-1)
        # the true curvature where it is a safe step
        h = (weight * s * (1 - s)).sum(-1)
        move -= np.clip(g / np.maximum(h, 1e-3 * total), -1, 1)
        if np.abs(g).max(initial=0) <= 1e-14 * total.max(initial=0):
            break
    shift[c] = move
    return shift


def lambdas_max(problem: Problem) -> Each:
    """The smallest lambda at which no feature is selected: max_j ||dF/dw_j|| at W = 0 with the best intercepts.

    With centred features and weights 2 and 1/2 this is max_j ||(x_j . y_t / n)_t||, with or without intercept.
    """
    z = np.zeros_like(problem.y) + null_intercept(problem)[:, :, None]
    return norms(_pull(problem, slope(problem, z))).max(-1)


def lambda_max(problem: Problem) -> float:
    """The largest of `lambdas_max`, or the one where there is one fit."""
    return float(lambdas_max(problem).max())


# --- how exact a solution is --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    """How exact a solution is; one number, or one for each fit.

    gap: objective minus a lower bound of its minimum; stationarity: the largest violation of the optimality
    conditions over features, in units of lambda.
    """

    gap: Any
    stationarity: Any


def certificate(problem: Problem, w: Coefficients, b: Intercepts, lam: float | Each) -> Certificate:
    """Duality gap and stationarity of (W, b), for each fit.

    Dual, from u = -dloss/dz and the ridge terms as further squared rows: for 0 <= s <= 1 with
    s max_j ||(X^T u - 2 Q W)_j|| <= lambda and sum_i u_ti = 0 (with intercept), the minimum is at least
    -sum_t f_t*(-s u_t) - s^2 tr(W Q W^T). For squares -f*(-u) = u y - u^2 / 4 c, for the logistic loss c H(u y / c)
    with the entropy H of (a, 1 - a); c is the row's weight. b must be the best intercept for W, as `solve` gives it.
    """
    z = scores(problem, w, b)
    g, u = gradient(problem, w, z), slope(problem, z)
    return Certificate(_gap(problem, w, z, u, norms(g), lam), _stationarity(w, g, lam))


def _gap(
    problem: Problem, w: Coefficients, z: Scores, u: Scores, push: Float[np.ndarray, "f p"], lam: float | Each
) -> Each:
    """The duality gap, from the slopes u at scores z and the norms of the gradient."""
    s = np.minimum(1.0, lam / np.maximum(push.max(-1), 1e-300))
    u = -s[:, None] * u
    c, r = problem.classes, ~problem.classes
    safe = np.where(problem.weight > 0, problem.weight, 1)  # rows of weight zero have u = 0 as well
    a = np.clip(u[c] * problem.y[c] / safe[c], 1e-300, 1)
    rest = np.maximum(1 - a, 1e-300)
    dual = -_total(problem.weight[c] * (a * np.log(a) + rest * np.log(rest)))
    dual += _total(u[r] * problem.y[r] - u[r] ** 2 / (4 * safe[r])) - s**2 * ridge(problem, w)
    return _objective(problem, w, z, lam) - dual


def _stationarity(w: Coefficients, g: Coefficients, lam: float | Each) -> Each:
    size, least = norms(w), np.reshape(lam, (-1, 1))
    away = norms(g + least * w / np.where(size > 0, size, 1))
    return (np.where(size > 0, away, np.maximum(norms(g) - least, 0)) / least).max(-1)


# --- solver -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Solution:
    """Coefficients and intercepts of one fit, how exact they are, and how many passes over the data they took."""

    w: Float[np.ndarray, "t p"]
    b: Float[np.ndarray, " t"]
    objective: float
    certificate: Certificate
    passes: int


@dataclass(frozen=True)
class Solutions:
    """Those of all fits, with scores z, gradients g and duality gaps.

    curvature: of the smooth part, as far as steps have met it. passes: over the data, of the fit that took most.
    """

    w: Coefficients
    b: Intercepts
    z: Scores
    g: Coefficients
    objective: Each
    gap: Each
    curvature: Each
    passes: int

    def only(self, lam: float) -> Solution:
        """The solution where there is one fit."""
        found = Certificate(float(self.gap[0]), float(_stationarity(self.w, self.g, lam)[0]))
        return Solution(self.w[:, 0], self.b[:, 0], float(self.objective[0]), found, self.passes)


def solve(
    problem: Problem,
    lam: float,
    start: tuple[Float[np.ndarray, "t p"], Float[np.ndarray, " t"]] | None = None,
    start_lam: float | None = None,
    tol: float = 1e-6,
    passes: int = 100_000,
) -> Solution:
    """Minimiser of F(W, b) + lambda sum_j ||w_j||, to a duality gap of `tol` times the objective, for one fit.

    Accelerated proximal gradient steps find which features are zero; Newton steps on the others, where the objective
    is smooth, do the rest. It works on few features: those whose gradient norm at the start is at least
    2 lambda - start_lam (the strong rule). Then the optimality conditions of *all* features are checked, violators join
    and the work goes on, until the duality gap of the whole problem is small enough.

    start: (w, b), ideally the solution for another lambda.
    start_lam: that lambda; without it no feature is left out.
    Raises `ValueError` for a lambda that is not positive, `FloatingPointError` when `passes` do not suffice.
    """
    if start is None:
        return _solve(problem, np.array([lam]), *_nothing(problem), tol, passes).only(lam)
    w, b = start[0][:, None], start[1][:, None]
    push = norms(gradient(problem, w, scores(problem, w, b)))
    kept = (norms(w) > 0) | (push >= (0 if start_lam is None else 2 * lam - start_lam))
    return _solve(problem, np.array([lam]), w, b, kept, np.ones(1), tol, passes).only(lam)


def path(problem: Problem, lambdas: Float[np.ndarray, " k"], tol: float = 1e-6) -> Iterator[Solution]:
    """Solutions of one fit for falling lambda in turn."""
    for lam, found in zip(lambdas, paths(problem, lambdas[:, None], tol), strict=True):
        yield found.only(lam)


def paths(problem: Problem, lambdas: Float[np.ndarray, "k f"], tol: float = 1e-6) -> Iterator[Solutions]:
    """Solutions of all fits for falling lambda in turn; each starts on the line through the two before it.

    A step of the solver is taken for all fits at once; those that are exact enough wait for the others.
    """
    last: Solutions | None = None
    before: Solutions | None = None
    for lam in lambdas:
        if last is None:
            start = _nothing(problem)
        else:
            w, b, g = last.w, last.b, last.g
            if before is not None:
                old = norms(before.w) > 0
                w, b, g = np.where(old, 2 * w - before.w, w), 2 * b - before.b, 2 * g - before.g
                w = w * ((w * last.w).sum(0) > 0)  # not through zero
            kept = (norms(w) > 0) | (norms(g) >= lam[:, None])
            start = w, b, kept, last.curvature
        before, last = last, _solve(problem, lam, *start, tol)
        yield last


def grid(largest: float, n_lambdas: int, lambda_min_ratio: float) -> Float[np.ndarray, " k"]:
    """Values from the largest lambda down to `lambda_min_ratio` times it, evenly spaced in the logarithm."""
    return largest * np.logspace(0, np.log10(lambda_min_ratio), n_lambdas)


Kept = Bool[np.ndarray, "f p"]


def _nothing(problem: Problem) -> tuple[Coefficients, Intercepts, Kept, Each]:
    """Where a path starts: no features, and the one kept that enters first."""
    w, b = np.zeros((len(problem.x), problem.y.shape[1], problem.x.shape[1])), null_intercept(problem)
    push = norms(gradient(problem, w, scores(problem, w, b)))
    return w, b, push >= push.max(-1, keepdims=True), np.ones(len(push))


def _solve(
    problem: Problem,
    lam: Each,
    w: Coefficients,
    b: Intercepts,
    kept: Kept,
    curvature: Each,
    tol: float,
    passes: int = 100_000,
) -> Solutions:
    """All fits, from a start and the features that may matter there."""
    if not ((lam > 0) & (lam < np.inf)).all():
        raise ValueError(f"lambda is {lam[~((lam > 0) & (lam < np.inf))][0]}: it must be above 0 and finite")
    if not tol > 0:
        raise ValueError(f"tol is {tol}: it must be above 0")
    some, todo = kept.any(0), np.arange(len(lam))
    w, b, curvature = w.copy(), b.copy(), curvature.copy()
    z, g, gap, value = np.zeros_like(problem.y), np.zeros_like(w), np.zeros_like(lam), np.zeros_like(lam)
    used, burst = 0, 5
    while used < passes:
        rest, aim = problem.fits(todo), lam[todo]
        index = np.flatnonzero(some)
        part = rest.columns(index)
        v, c, at, curvature[todo] = _fista(part, aim, w[:, todo][:, :, index], b[:, todo], curvature[todo], burst)
        live = (v != 0).any((0, 1))
        if live.sum() < 0.8 * len(live):  # a copy of fewer features pays
            index, v, part = index[live], v[:, :, live], rest.columns(index[live])
        v, c, at, inner, moved = _newton(part, aim, v, c, at)
        used += burst + inner
        burst = 5 if moved.all() else min(2 * burst, 200)
        move = best_intercept(part, at)
        at = at + move[:, :, None]
        whole = np.zeros((len(w), len(todo), w.shape[2]))
        whole[:, :, index] = v
        u = slope(rest, at)
        pull = _pull(rest, u) + 2 * _q(rest, whole)
        push = norms(pull)
        w[:, todo], b[:, todo], z[:, todo], g[:, todo] = whole, c + move, at, pull
        gap[todo], value[todo] = _gap(rest, whole, at, u, push, aim), _objective(rest, whole, at, aim)
        far = gap[todo] > tol * value[todo]
        if not far.any():
            return Solutions(w, b, z, g, value, gap, curvature, used)
        some = (whole[:, far] != 0).any((0, 1)) | (push >= aim[:, None])[far].any(0)
        todo = todo[far]
    raise FloatingPointError(f"lambda {lam.min()}: a duality gap of {tol:g} was not reached in {passes} passes")


def _fista(
    problem: Problem, lam: Each, w: Coefficients, b: Intercepts, curvature: Each, steps: int
) -> tuple[Coefficients, Intercepts, Scores, Each]:
    """Accelerated proximal gradient steps; momentum starts again when it points uphill.

    A step is short enough when the smooth part, with the largest curvature that its losses can have, bends no more
    along it than `curvature`, which grows otherwise. Returns (w, b, scores, curvature).
    """
    steepest = problem.weight * np.where(problem.classes, 0.25, 2.0)[:, None, None]
    z = scores(problem, w, b)
    v, c, zv, momentum = w, b, z, np.ones(len(lam))
    for _ in range(steps):
        u = slope(problem, zv)
        gw = _pull(problem, u) + 2 * _q(problem, v)
        gb = u.sum(-1) * problem.intercept
        while True:
            new_w = prox(v - gw / curvature[:, None], lam / curvature)
            new_b = c - gb / curvature
            dw, db = new_w - v, new_b - c
            # scores are linear: those of the points below need no pass over the data
            dz = scores(problem, dw, db)
            bend = _total(steepest * dz**2) + 2 * ridge(problem, dw)
            size = _total(dw**2) + (db**2).sum(0)
            long = bend > curvature * size
            if not long.any():
                break
            steeper = 1.2 * np.maximum(bend / np.where(size > 0, size, 1), curvature)
            curvature = np.where(long, steeper, curvature)
        new_z = zv + dz
        step_w, step_b = new_w - w, new_b - b
        uphill = _total(dw * step_w) + (db * step_b).sum(0) < 0
        momentum = np.where(uphill, 1.0, momentum)
        next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = (momentum - 1) / next_momentum
        v, c, zv = new_w + ahead[:, None] * step_w, new_b + ahead * step_b, new_z + ahead[:, None] * (new_z - z)
        w, b, z, momentum = new_w, new_b, new_z, next_momentum
    return w, b, z, curvature


def _newton(
    problem: Problem, lam: Each, w: Coefficients, b: Intercepts, z: Scores, passes: int = 100, tol: float = 0.1
) -> tuple[Coefficients, Intercepts, Scores, int, Bool[np.ndarray, " f"]]:
    """One Newton step on the features that are not zero, its equations solved by conjugate gradients.

    The penalty's Hessian at a feature with norm r and direction e is (lambda / r) (1 - e e^T) over tasks. With the
    losses' curvature a_t (the columns being about standardised) on the diagonal, its inverse is in closed form
    (Sherman and Morrison): the preconditioner, which leaves only the features' correlation to the iteration. A feature
    whose direction a step would reverse becomes zero. Returns (w, b, scores, passes, whether the objective fell).

    z: the scores of (w, b).
    """
    size = norms(w)
    live = size > 0
    e = w / np.where(live, size, 1)
    # single precision cannot tell bend - bend e e^T from rounding where it is steeper
    bend = live * lam[:, None] / np.maximum(size, 1e-5 * size.max(initial=1e-290))
    curve = 2 * problem.weight
    chance = _expit(z[problem.classes])
    curve[problem.classes] *= chance * (1 - chance) / 2
    total = curve.sum(-1)
    own = total[:, :, None] + 2 * (problem.alpha + problem.beta)
    inverse = live / (own + bend)
    # 1 - bend sum e^2 / (own + bend), without its cancellation at small norms
    tilt = inverse * e * np.sqrt(bend / np.where(live, (e**2 * own * inverse).sum(0), 1))
    u = slope(problem, z)
    r, rb = _pull(problem, u) + 2 * _q(problem, w) + lam[:, None] * e, u.sum(-1) * problem.intercept
    single = replace(problem, **{name: _single(getattr(problem, name)) for name in ("x", "shift", "unit")})
    arrays = (_single(v) for v in (r, rb, curve, bend, np.sqrt(bend) * e, inverse, tilt, total))
    dw, db, used = _conjugate_gradients(single, passes, tol, *arrays)
    before = _objective(problem, w, z, lam)
    length = np.ones(len(lam))
    while True:
        new_w, new_b = w + length[:, None] * dw, b + length * db
        new_w = new_w * ((new_w * w).sum(0) > 0)
        new_z = scores(problem, new_w, new_b)
        fell = _objective(problem, new_w, new_z, lam) < before
        length = np.where(fell, length, length / 2)
        if (fell | (length <= 1e-3)).all():
            break
    by_fit = fell[:, None]
    return np.where(by_fit, new_w, w), np.where(fell, new_b, b), np.where(by_fit, new_z, z), used, fell


Single = Float32[np.ndarray, "t f p"]


def _single(values: Float[np.ndarray, "..."] | None) -> Any:
    return None if values is None else values.astype(np.float32)


def _conjugate_gradients(
    problem: Problem,
    passes: int,
    tol: float,
    r: Single,
    rb: Float32[np.ndarray, "t f"],
    curve: Float32[np.ndarray, "t f n"],
    bend: Float32[np.ndarray, "f p"],
    bent: Single,
    inverse: Single,
    tilt: Single,
    total: Float32[np.ndarray, "t f"],
) -> tuple[Single, Float32[np.ndarray, "t f"], int]:
    """Minus the solution of the Newton equations, in single precision: a direction need not be exact.

    r, rb: the gradient. curve: of the losses.
    bend, bent: the penalty's Hessian is bend - bent bent^T for each feature, over tasks.
    inverse, tilt: the preconditioner is inverse + tilt tilt^T, zero for features that are zero.
    total: what the intercepts' preconditioner divides by.
    """
    dw, db = np.zeros_like(r), np.zeros_like(rb)
    q, qb = inverse * r + tilt * (tilt * r).sum(0), rb / total
    rho = _total(r * q) + (rb * qb).sum(0)
    goal, used = tol**2 * rho, 0
    bend = bend + 2 * (problem.alpha + problem.beta)
    while (far := rho > goal).any() and used < passes:
        change = curve * scores(problem, q, qb)
        h, hb = _pull(problem, change), change.sum(-1) * problem.intercept
        h += bend * q - bent * (bent * q).sum(0)
        if problem.alpha:
            h -= 2 * problem.alpha * q.mean(0)
        step = np.where(far, rho / np.where(far, _total(q * h) + (qb * hb).sum(0), 1), 0)
        dw -= step[:, None] * q
        db -= step * qb
        r -= step[:, None] * h
        rb -= step * hb
        y, yb = inverse * r + tilt * (tilt * r).sum(0), rb / total
        rho, old = np.where(far, _total(r * y) + (rb * yb).sum(0), rho), rho
        turn = np.where(far, rho / np.where(far, old, 1), 0)
        q, qb = y + turn[:, None] * q, yb + turn * qb
        used += 1
    return dw, db, used
