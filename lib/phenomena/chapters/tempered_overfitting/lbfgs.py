"""L-BFGS for losses with kinks, in NumPy: products with the last steps instead of a loop over them.

Letters: k pairs of steps and changes of slope, n parameters.

References:
    Byrd, Nocedal, Schnabel, "Representations of quasi-Newton matrices", Mathematical Programming 63 (1994).
    Lewis, Overton, "Nonsmooth optimization via quasi-Newton methods", Mathematical Programming 141 (2013).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.linalg.lapack import dtrtrs

MEMORY = 50  # pairs of steps and changes of slope that are kept

# theta -> loss and slope there
Objective = Callable[[Float[np.ndarray, " n"]], tuple[float, Float[np.ndarray, " n"]]]


def minimise(
    objective: Objective, theta: Float[np.ndarray, " n"], iterations: int, *, target: float, memory: int = MEMORY
) -> tuple[Float[np.ndarray, " n"], float, int]:
    """Parameters at which the loss is `target` or less, or as low as it came; that loss; iterations taken.

    Each step satisfies the weak Wolfe conditions, found by bisection, which a kink does not disturb (Lewis and Overton
    2013, algorithm 2.6). Where no such step is found, the search starts again without memory; where that was
    so already, it ends.
    """
    pairs = _Pairs(memory, len(theta))
    loss, slope = objective(theta)
    taken = 0
    while loss > target and taken < iterations:
        direction = -(pairs.inverse_hessian(slope) if pairs.count else slope / max(np.linalg.norm(slope), 1e-300))
        found = _line_search(objective, theta, loss, slope, direction)
        if found is None and not pairs.count:
            break
        if found is None:
            pairs.clear()
            continue
        step, loss, new_slope = found
        pairs.append(step, new_slope - slope)
        theta, slope = theta + step, new_slope
        taken += 1
    return theta, loss, taken


def _line_search(objective, theta, loss, slope, direction, tries=40):  # type: ignore[no-untyped-def]
    """A step along the direction with weak Wolfe conditions (1e-4, 0.9), the loss and the slope after it, or None."""
    fall = slope @ direction
    if not fall < 0:
        return None
    low, high, size = 0.0, np.inf, 1.0
    for _ in range(tries):
        step = size * direction
        new_loss, new_slope = objective(theta + step)
        if not new_loss <= loss + 1e-4 * size * fall:
            high = size
        elif new_slope @ direction < 0.9 * fall:
            low = size
        else:
            return step, new_loss, new_slope
        size = (low + high) / 2 if high < np.inf else 2 * low
    return None


class _Pairs:
    """The last pairs of steps S and changes of slope Y, and their products, the oldest first."""

    def __init__(self, memory: int, n: int) -> None:
        self.memory, self.end, self.count = memory, 0, 0
        self.rows = np.empty((2, 4 * memory, n))  # S, Y: appended at the end, moved to the front when full
        self.products = np.empty((2, 4 * memory, 4 * memory))  # S Y', Y Y'

    def clear(self) -> None:
        self.end = self.count = 0

    def append(self, step: Float[np.ndarray, " n"], change: Float[np.ndarray, " n"]) -> None:
        if not step @ change > 0:  # only by rounding: the line search sees to it
            return
        if self.end == self.rows.shape[1]:
            kept = slice(self.end - self.count, self.end)
            self.rows[:, : self.count] = self.rows[:, kept].copy()
            self.products[:, : self.count, : self.count] = self.products[:, kept, kept].copy()
            self.end = self.count
        self.rows[0, self.end], self.rows[1, self.end] = step, change
        self.end += 1
        self.count = min(self.count + 1, self.memory)
        kept = slice(self.end - self.count, self.end)
        self.products[:, kept, self.end - 1] = self.rows[:, kept] @ change
        self.products[1, self.end - 1, kept] = self.products[1, kept, self.end - 1]

    def inverse_hessian(self, slope: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """The product with the approximate inverse Hessian (Byrd, Nocedal and Schnabel 1994, theorem 2.2)."""
        kept = slice(self.end - self.count, self.end)
        steps, changes = self.rows[:, kept]
        sy, yy = self.products[:, kept, kept]  # the upper triangle of S Y' counts
        gamma = sy[-1, -1] / yy[-1, -1]
        a, b = steps @ slope, gamma * (changes @ slope)
        c = dtrtrs(sy, a)[0]
        d = dtrtrs(sy, sy.diagonal() * c + gamma * (yy @ c) - b, trans=1)[0]
        return gamma * slope + d @ steps - gamma * (c @ changes)
