"""Convex models, in which what removing a sample does is known exactly: ridge and softmax regression, in float64.

The loss of softmax regression is (1/n) sum_i w_i CE_i + decay |W|² / 2. Removing a sample sets its weight w_i to zero;
n stays. Letters: n samples, m test samples, d features with a column of ones, c classes, p = d c.
"""

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import cho_factor, cho_solve
from scipy.special import log_softmax, softmax

Array = np.ndarray
GRADIENT = 1e-10  # largest entry at the optimum


def ridge_leave_one_out(
    x: Float[Array, "n d"], y: Float[Array, " n"], decay: float
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Residuals and leave-one-out residuals of ridge regression: e_i and e_i / (1 - h_i), H = X (X'X + decay I)^-1 X'.

    Raises `ValueError` where X'X + decay I is singular, or one sample alone decides a direction (h_i = 1).

    >>> ridge_leave_one_out(np.ones((2, 1)), np.array([0.0, 1.0]), 0.0)[1].tolist()  # each alone gives the other's mean
    [-1.0, 1.0]
    """
    gram = x.T @ x + decay * np.eye(x.shape[1])
    if np.linalg.cond(gram) > 1e12:
        raise ValueError(f"X'X + {decay:g} I is singular: raise decay or take fewer features than samples")
    hat = x @ np.linalg.solve(gram, x.T)
    residual, leverage = y - hat @ y, hat.diagonal()
    if leverage.max() > 1 - 1e-9:
        raise ValueError(f"sample {leverage.argmax()} has leverage 1: no fit without it is determined")
    return residual, residual / (1 - leverage)


def losses(z: Float[Array, "m d"], y: Int[Array, " m"], w: Float[Array, "*k d c"]) -> Float[Array, "*k m"]:
    """Cross-entropy of every sample, for each of the models w."""
    return -np.take_along_axis(log_softmax(z @ w, axis=-1), np.broadcast_to(y, (*w.shape[:-2], len(y)))[..., None], -1)[
        ..., 0
    ]


def slopes(z: Float[Array, "n d"], y: Int[Array, " n"], w: Float[Array, "*k d c"]) -> Float[Array, "*k n c"]:
    """Gradient of the loss of every sample by its logits."""
    return softmax(z @ w, axis=-1) - np.eye(w.shape[-1])[y]


def gradients(z: Float[Array, "n d"], y: Int[Array, " n"], w: Float[Array, "d c"]) -> Float[Array, "n p"]:
    """Gradient of the loss of every sample by W, row by row."""
    return (z[:, :, None] * slopes(z, y, w)[:, None]).reshape(len(z), -1)


def hessian(
    z: Float[Array, "n d"], w: Float[Array, "d c"], decay: float, weights: Float[Array, " n"] | None = None
) -> Float[Array, "p p"]:
    """Hessian of the loss by W, row by row: (1/n) sum_i w_i (z z') x (diag(p) - p p') + decay I."""
    (n, d), c = z.shape, w.shape[1]
    p = softmax(z @ w, axis=-1)
    weighted = z if weights is None else z * weights[:, None]
    h = np.zeros((d, c, d, c))
    for a in range(c):
        for b in range(a + 1):
            h[:, a, :, b] = h[:, b, :, a] = (weighted * (p[:, a] * ((a == b) - p[:, b]))[:, None]).T @ z / n
    return h.reshape(d * c, d * c) + decay * np.eye(d * c)


def fit(
    z: Float[Array, "n d"],
    y: Int[Array, " n"],
    classes: int,
    decay: float,
    weights: Float[Array, " n"] | None = None,
    start: Float[Array, "d c"] | None = None,
    steps: int = 50,
) -> Float[Array, "d c"]:
    """The optimum by Newton's method, halving steps that do not lower the loss.

    Raises `ValueError` for labels of one class, or a decay of 0 or less, without which the Hessian is singular: adding
    one vector to the weights of all classes changes nothing. Raises `ArithmeticError` where the steps do not suffice.
    """
    if not decay > 0:
        raise ValueError(f"decay is {decay:g}: must be positive, as the Hessian alone is singular")
    if len(np.unique(y)) < 2:
        raise ValueError("all labels are of one class: there is nothing to tell apart")
    n = len(z)
    v = np.ones(n) if weights is None else weights
    w = np.zeros((z.shape[1], classes)) if start is None else start

    def value(w: Array) -> float:
        return float(v @ losses(z, y, w) / n + decay * (w * w).sum() / 2)

    for _ in range(steps):
        slope = z.T @ (slopes(z, y, w) * v[:, None]) / n + decay * w
        if np.abs(slope).max() < GRADIENT:
            return w
        step = np.linalg.solve(hessian(z, w, decay, v), slope.reshape(-1)).reshape(w.shape)
        size, here = 1.0, value(w)
        while size > 1e-6 and value(w - size * step) > here * (1 + 1e-12):  # up to rounding
            size /= 2
        w = w - size * step
    raise ArithmeticError(f"Newton's method did not converge in {steps} steps: raise steps or decay")


def leave_one_out(
    z: Float[Array, "n d"],
    y: Int[Array, " n"],
    w: Float[Array, "d c"],
    decay: float,
    rows: Int[Array, " k"] | None = None,
    steps: int = 500,
) -> Float[Array, "k d c"]:
    """The optimum without each of the rows, from the optimum w with all, by Newton's steps with the Hessian kept.

    The kept Hessian is at least that without the sample, up to its change along the way, so steps are cautious and
    converge linearly; all models take them together, and leave when they arrive. Those that do not in so many steps are
    fitted one by one (`fit`).
    """
    rows = np.arange(len(z)) if rows is None else rows
    factor, n, shape = cho_factor(hessian(z, w, decay)), len(z), w.shape
    models = np.repeat(w[None], len(rows), 0)
    open_ = np.arange(len(rows))
    for _ in range(steps):
        s = slopes(z, y, models[open_])
        s[np.arange(len(open_)), rows[open_]] = 0
        slope = np.matmul(z.T, s) / n + decay * models[open_]
        away = np.abs(slope).max((1, 2)) >= GRADIENT
        open_, slope = open_[away], slope[away]
        if not len(open_):
            return models
        models[open_] -= cho_solve(factor, slope.reshape(len(slope), -1).T).T.reshape(-1, *shape)
    for number in open_:
        models[number] = fit(z, y, shape[1], decay, (np.arange(n) != rows[number]).astype(float), w)
    return models


def influence(
    z: Float[Array, "n d"], y: Int[Array, " n"], w: Float[Array, "d c"], decay: float
) -> Float[Array, "n d c"]:
    """By how much W moves when each sample is removed, to first order: H^-1 g_i / n (Cook and Weisberg 1982)."""
    g = gradients(z, y, w)
    return cho_solve(cho_factor(hessian(z, w, decay)), g.T).T.reshape(-1, *w.shape) / len(z)


def newton_step(
    z: Float[Array, "n d"], y: Int[Array, " n"], w: Float[Array, "d c"], decay: float
) -> Float[Array, "n d c"]:
    """One Newton step without each sample from the optimum with all: (H - H_i)^-1 g_i / n, H_i of sample i alone.

    By Woodbury's identity with the leverage of i, c x c, in the place of h_i in ridge regression:
    H^-1 z_i x (I - A_i L_i)^-1 s_i / n, where A_i = diag(p) - p p' and L_i = z_i' H^-1 z_i / n.
    """
    n, (d, c) = len(z), w.shape
    inverse = np.linalg.inv(hessian(z, w, decay)).reshape(d, c, d, c)
    p = softmax(z @ w, axis=-1)
    spread = np.eye(c) * p[:, :, None] - p[:, :, None] * p[:, None]
    leverage = np.einsum("iaeb,ie->iab", np.tensordot(z, inverse, 1), z) / n
    moved = np.linalg.solve(np.eye(c) - spread @ leverage, slopes(z, y, w)[..., None])[..., 0]
    return np.einsum("dceb,ieb->idc", inverse, z[:, :, None] * moved[:, None]) / n
