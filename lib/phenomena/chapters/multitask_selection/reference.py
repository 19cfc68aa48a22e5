"""A readable solver to check the fast one against. It shares no code with it: formulas are written out task by task.

Reference: Beck and Teboulle 2009, FISTA with constant step size.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import expit

Coefficients = Float[np.ndarray, "t p"]
Intercepts = Float[np.ndarray, " t"]
Tasks = Sequence[Float[np.ndarray, "_ p"]]
Targets = Sequence[Float[np.ndarray, " _"]]


@dataclass(frozen=True)
class Reference:
    """The objective of Cao et al. 2024 as their paper has it, and proximal gradient steps on all features.

    xs, ys: rows and targets of each task, labels -1 and 1.
    weights: of the logistic and of the squared loss.
    alpha, beta: penalties on the distance to the mean over tasks and on the size of coefficients.
    """

    xs: Tasks
    ys: Targets
    classes: Bool[np.ndarray, " t"]
    weights: tuple[float, float] = (2.0, 0.5)
    alpha: float = 0.0
    beta: float = 0.0
    intercept: bool = True

    @property
    def tasks(self) -> list[Any]:
        """Rows, targets and kind of each task."""
        return list(zip(self.xs, self.ys, self.classes, strict=True))

    def objective(self, w: Coefficients, b: Intercepts, lam: float) -> float:
        """Losses, ridge terms, and lambda times the sum of the features' norms over tasks."""
        logistic, squared = self.weights
        value = self.alpha * ((w - w.mean(0)) ** 2).sum() + self.beta * (w**2).sum()
        for (x, y, is_class), v, c in zip(self.tasks, w, b, strict=True):
            z = x @ v + c
            value += logistic * np.log1p(np.exp(-y * z)).mean() if is_class else squared * ((y - z) ** 2).mean()
        return float(value + lam * np.linalg.norm(w, axis=0).sum())

    def gradient(self, w: Coefficients, b: Intercepts) -> tuple[Coefficients, Intercepts]:
        """Of the smooth part, by coefficients and by intercepts."""
        logistic, squared = self.weights
        gw, gb = 2 * self.alpha * (w - w.mean(0)) + 2 * self.beta * w, np.zeros(len(b))
        for t, (x, y, is_class) in enumerate(self.tasks):
            z = x @ w[t] + b[t]
            slope = -logistic * y * expit(-y * z) if is_class else -2 * squared * (y - z)
            gw[t] += x.T @ slope / len(y)
            gb[t] = slope.mean() if self.intercept else 0.0
        return gw, gb

    def curvature(self) -> float:
        """An upper bound of the smooth part's second derivative; one over it is a step that never overshoots."""
        (logistic, squared), bounds = self.weights, []
        for x, _, is_class in self.tasks:
            design = np.column_stack([x, np.ones(len(x))]) if self.intercept else x
            bend = logistic / 4 if is_class else 2 * squared
            bounds.append(bend * np.linalg.norm(design, 2) ** 2 / len(x))
        return float(max(bounds) + 2 * (self.alpha + self.beta))

    def violation(self, w: Coefficients, b: Intercepts, lam: float) -> float:
        """The largest violation of the optimality conditions, in units of lambda.

        The gradient of a selected feature is -lambda times its direction over tasks; that of another has at most the
        norm lambda; that of an intercept is zero.
        """
        gw, gb = self.gradient(w, b)
        found = [float(np.abs(gb).max())]
        for g, v in zip(gw.T, w.T, strict=True):
            push, size = float(np.linalg.norm(g)), float(np.linalg.norm(v))
            found.append(float(np.linalg.norm(g + lam * v / size)) if size > 0 else max(push - lam, 0.0))
        return max(found) / lam

    def steps(
        self, lam: float, start: tuple[Coefficients, Intercepts] | None = None
    ) -> Iterator[tuple[Coefficients, Intercepts]]:
        """Coefficients and intercepts after every accelerated proximal gradient step, without end."""
        w, b = start or (np.zeros((len(self.xs), self.xs[0].shape[1])), np.zeros(len(self.xs)))
        ahead_w, ahead_b, momentum = w, b, 1.0
        step = 1 / self.curvature()
        while True:
            gw, gb = self.gradient(ahead_w, ahead_b)
            moved = ahead_w - step * gw
            size = np.linalg.norm(moved, axis=0)
            new_w = moved * np.maximum(0, 1 - step * lam / np.maximum(size, 1e-300))
            new_b = ahead_b - step * gb
            momentum, old = (1 + np.sqrt(1 + 4 * momentum**2)) / 2, momentum
            ahead_w = new_w + (old - 1) / momentum * (new_w - w)
            ahead_b = new_b + (old - 1) / momentum * (new_b - b)
            w, b = new_w, new_b
            yield w, b

    def solve(
        self,
        lam: float,
        start: tuple[Coefficients, Intercepts] | None = None,
        tol: float = 1e-4,
        max_steps: int = 200_000,
    ) -> tuple[Coefficients, Intercepts]:
        """The first step, of every tenth, whose violation is at most `tol`.

        Raises `FloatingPointError` when `max_steps` do not suffice.
        """
        for k, (w, b) in enumerate(self.steps(lam, start), 1):
            if k % 10 == 0 and self.violation(w, b, lam) <= tol:
                return w, b
            if k >= max_steps:
                break
        raise FloatingPointError(f"lambda {lam}: a violation of {tol:g} was not reached in {max_steps} steps")
