"""L-BFGS against its two-loop recursion, SciPy's solver and a function with a kink at its minimum."""

import numpy as np
import pytest
from scipy.optimize import minimize

from phenomena.chapters.tempered_overfitting import lbfgs


def two_loops(pairs, slope):
    """The product with the inverse Hessian as in Nocedal and Wright, algorithm 7.4."""
    q, weights = slope.copy(), []
    for s, y in reversed(pairs):
        weights.append(s @ q / (s @ y))
        q -= weights[-1] * y
    s, y = pairs[-1]
    q *= s @ y / (y @ y)
    for (s, y), weight in zip(pairs, reversed(weights), strict=True):
        q += (weight - y @ q / (s @ y)) * s
    return q


@pytest.mark.parametrize("memory", [1, 4, 7])
def test_direction_is_that_of_the_two_loop_recursion(memory):
    """Also after the buffer of four times the memory has been moved to its front, and after a fresh start."""
    generator = np.random.default_rng(0)
    root = generator.normal(size=(12, 12))
    found = lbfgs._Pairs(memory, 12)
    for _ in range(2):
        pairs = []
        for _ in range(30):
            step, slope = generator.normal(size=(2, 12))
            pairs = [*pairs, (step, root @ root.T @ step)][-memory:]
            found.append(*pairs[-1])
            np.testing.assert_allclose(found.inverse_hessian(slope), two_loops(pairs, slope), rtol=1e-6, atol=1e-8)
        found.clear()


def test_finds_the_minimum_that_scipy_finds():
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 10))

    def loss(theta):
        z = rows @ theta
        return np.log1p(np.exp(z)).mean() + theta @ theta / 20, rows.T @ (1 / (1 + np.exp(-z))) / 60 + theta / 10

    theta, value, taken = lbfgs.minimise(loss, np.ones(10), 200, target=-1.0)
    expected = minimize(loss, np.ones(10), jac=True, method="L-BFGS-B", options={"ftol": 0.0, "gtol": 1e-10})
    assert value == pytest.approx(expected.fun, rel=1e-12) and value == loss(theta)[0]
    np.testing.assert_allclose(theta, expected.x, rtol=0, atol=1e-6)
    assert 5 < taken < 60


def test_goes_down_to_a_kink_and_stops_at_the_target_or_the_last_iteration():
    def valley(theta):  # |a| + b² / 100: steepest descent crosses the kink again and again
        return abs(theta[0]) + theta[1] ** 2 / 100, np.array([np.sign(theta[0]), theta[1] / 50])

    start = np.array([0.3, 10.0])
    theta, value, _ = lbfgs.minimise(valley, start, 500, target=1e-3)
    assert value == valley(theta)[0] <= 1e-3
    assert lbfgs.minimise(valley, start, 2, target=1e-3)[2] == 2
    assert lbfgs.minimise(valley, start, 500, target=2.0)[2] == 0


def test_a_search_that_cannot_move_ends():
    flat = np.zeros(3)
    theta, value, taken = lbfgs.minimise(lambda theta: (1.0, np.array([1.0, 0, 0])), flat, 100, target=0.5)
    assert value == 1.0 and taken == 0 and (theta == 0).all()
    theta, value, taken = lbfgs.minimise(lambda theta: (1.0, np.zeros(3)), flat, 100, target=0.5)
    assert value == 1.0 and taken == 0
