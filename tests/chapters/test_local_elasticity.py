"""The equation against SciPy's integrator and its exact law, and estimators by inversion."""

import math

import pytest
import torch
from conftest import generator

from phenomena.chapters.local_elasticity import neural_collapse, theory

F64 = torch.float64


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=F64)


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0.0, 0.5, 1.0, 1.0 + 1e-9, 1.7])
def test_integrated_power_is_the_integral(r):
    t = torch.linspace(1, 50, 200_001, dtype=F64)
    expected = torch.trapezoid(3 * t**-r, t).item()
    assert theory.integrated_power(t, r, 3.0)[-1].item() == pytest.approx(expected, rel=1e-7)
    assert theory.integrated_power(t, r)[0] == 0


@pytest.mark.parametrize("k", [2, 3, 5])
def test_i_model_is_the_integrated_equation(k):
    """With impacts that cross: the closed form holds for any alpha and beta."""
    t = torch.linspace(0, 3, 7, dtype=F64)
    x0 = random(k, 4)
    a, b = 2 * t.sin(), 0.3 * t - 0.2 * t**2
    expected = theory.integrate(x0, lambda u: 2 * math.cos(u), lambda u: 0.3 - 0.4 * u, t, "I")
    torch.testing.assert_close(theory.i_model(x0, a, b), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("ratio", [-0.5, 0.0, 0.7, 1.0])
def test_l_model_is_the_integrated_equation_on_any_grid_for_a_constant_ratio(k, ratio):
    t = torch.linspace(0, 4, 5, dtype=F64)
    x0 = random(k, k)
    a = 3 * t.sin()
    expected = theory.integrate(x0, lambda u: 3 * math.cos(u), lambda u: 3 * ratio * math.cos(u), t, "L")
    torch.testing.assert_close(theory.l_model(x0, a, ratio * a), expected, rtol=1e-8, atol=1e-8)


def test_l_model_converges_to_the_integrated_equation_for_any_impacts():
    x0 = random(4, 4)
    errors = []
    for count in (51, 101):
        t = torch.linspace(0, 3, count, dtype=F64)
        found = theory.l_model(x0, 2 * t.sin(), 0.3 * t - 0.2 * t**2)[-1]
        expected = theory.integrate(x0, lambda u: 2 * math.cos(u), lambda u: 0.3 - 0.4 * u, t, "L")[-1]
        errors.append((found - expected).norm().item() / expected.norm().item())
    assert errors[0] < 2e-3 and errors[1] < 0.3 * errors[0]  # second order


def test_drift_is_the_sum_written_in_the_paper():
    k, x = 3, random(3, 3)
    d = theory.targets(k)
    for model in ("I", "L"):
        for row in range(k):
            expected = torch.zeros(k, dtype=F64)
            for column in range(k):
                h = (
                    torch.eye(k, dtype=F64)
                    if model == "I"
                    else torch.outer(d[column], d[column]) / d[column].norm() ** 2
                )
                expected += (1.3 if row == column else -0.4) * h @ x[column] / k
            torch.testing.assert_close(theory.drift(x, 1.3, -0.4, model)[row], expected)


def test_batches_of_starts_are_single_starts():
    x0, t = random(6, 3, 3), torch.linspace(0, 1, 4, dtype=F64)
    for solve in (theory.i_model, theory.l_model):
        together = solve(x0, 2 * t, -t)
        assert together.shape == (6, 4, 3, 3)
        torch.testing.assert_close(together[4], solve(x0[4], 2 * t, -t))


@pytest.mark.parametrize(("ratio", "collapses"), [(-0.5, True), (0.0, False), (0.5, False)])
def test_l_model_ends_in_the_simplex_of_the_labels_exactly_for_negative_beta(ratio, collapses):
    a = torch.linspace(0, 300, 100, dtype=F64)
    for k in (3, 5):
        x0 = random(k, k)
        x0 *= (x0 * theory.targets(k)).sum().sign()  # a negative mean score ends in the mirrored simplex
        means = theory.l_model(x0, a, ratio * a)[-1]
        norms, angles = neural_collapse.simplex(means)
        duality = neural_collapse.duality(theory.targets(k), means)
        assert (duality < 1e-3) == collapses
        # with three classes any triangle of the other mode is equilateral too, only turned away from the labels
        assert (max(norms, angles) < 1e-3) == (collapses or (k == 3 and ratio > 0))


def test_i_model_keeps_its_angles():
    a = torch.linspace(0, 30, 3, dtype=F64)
    _, angles = neural_collapse.simplex(theory.i_model(random(4, 4), a, -a))
    torch.testing.assert_close(angles, angles[:1].expand(3))


# --- paths ----------------------------------------------------------------------------------------


def test_paths_without_noise_are_the_equation():
    x0, t = random(2, 3, 3), torch.linspace(1, 5, 4001, dtype=F64)
    a, b = theory.integrated_power(t, 0.5), theory.integrated_power(t, 1.5, -0.5)
    for model, solve in (("I", theory.i_model), ("L", theory.l_model)):
        found = theory.simulate(x0, a, b, t, 0.0, 5, generator(), model)
        torch.testing.assert_close(found, solve(x0, a, b)[:, -1], rtol=1e-3, atol=1e-3)


def test_paths_have_the_variance_of_the_exact_law():
    """Distances of class means: variance sigma²/n (1 - 1/K) integral of exp(2 (G(T) - G(u)))."""
    t = torch.linspace(1, 20, 400, dtype=F64)
    a = theory.integrated_power(t, 1.0, 1.5)
    means = theory.simulate(torch.zeros(4000, 3, 2, dtype=F64), a, 0 * a, t, 2.0, 5, generator(), "I")
    rest = means - means.mean(1, keepdim=True)
    g = a / 3
    expected = 4 / 5 * (2 / 3) * torch.trapezoid((2 * (g[-1] - g)).exp(), t).item()
    assert rest.var().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("r", [0.8, 1.0])
def test_stepped_and_exact_separation_agree(r):
    t = torch.linspace(1, 60, 1200, dtype=F64)
    a = theory.integrated_power(t, r, 1.5)
    x0 = random(2000, 3, 3)
    exact = theory.exact_separation(a[None], t, x0, 1.0, 6, generator(1)).double().mean().item()
    means = theory.simulate(x0, a, 0 * a, t, 1.0, 6, generator(2), "I")
    spread = torch.full((2000,), 59**0.5, dtype=F64)
    stepped = theory.separated(means, spread, 6, generator(3)).double().mean().item()
    assert 0.1 < exact < 0.99  # a comparison that could have failed
    assert abs(stepped - exact) < 4 * (2 * 0.25 / 2000) ** 0.5


def test_exact_separation_obeys_the_theorem_and_does_not_overflow():
    t = torch.logspace(0, 12, 2000, dtype=F64)
    impacts = {r: theory.integrated_power(t, r) for r in (0.2, 0.8, 1.4)}
    gaps = torch.stack([impacts[0.2], impacts[0.8] - impacts[1.4], impacts[1.4], impacts[0.8] - impacts[0.2]])
    fraction = theory.exact_separation(gaps, t, random(200, 3, 3), 1.0, 5, generator()).double().mean(1)
    assert fraction[0] == 1 and fraction[1] > 0.98
    assert fraction[2] < 0.02 and fraction[3] < 0.02


def test_long_steps_of_the_stochastic_equation_are_refused():
    t = torch.linspace(1, 101, 11, dtype=F64)
    with pytest.raises(ValueError, match=r"multiplies a mode by 1 ± 3\.33, which must be at most 1 ± 1: take 7 times"):
        theory.simulate(random(1, 3, 3), t - 1, 0 * t, t, 1.0, 5, generator(), "I")
    with pytest.raises(ValueError, match="multiplies a mode"):
        theory.simulate(random(1, 3, 3), 0 * t, t - 1, t, 1.0, 5, generator(), "L")


# --- estimates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("model", ["I", "L"])
def test_estimated_impacts_are_those_put_in(k, model):
    t = torch.linspace(0, 2, 30, dtype=F64)
    a, b = 3 * t, -0.7 * t
    means = {"I": theory.i_model, "L": theory.l_model}[model](random(3, k, k), a, b)
    found_a, found_b = theory.estimate(means, model)
    torch.testing.assert_close(found_a, a.expand(3, -1))
    torch.testing.assert_close(found_b, b.expand(3, -1))


def test_estimator_of_the_i_model_is_the_product_formula():
    """exp(A) = m (X_k - m)^(K-1) / (c_0 c_k^(K-1)), exp(-B) = (c_0 / c_k) (X_k - m) / m, by coordinates."""
    x = random(2, 3, 3).abs().cumsum(0) + torch.eye(3)
    a, b = theory.estimate(x, "I")
    m, m0 = x[1].mean(0), x[0].mean(0)
    rest, rest0 = x[1] - m, x[0] - m0
    torch.testing.assert_close(a[1], (m * rest**2 / (m0 * rest0**2)).abs().log().mean())
    torch.testing.assert_close(b[1], -((m0 / rest0) * rest / m).abs().log().mean())


def test_estimator_of_the_l_model_is_the_formula_for_three_classes():
    """A = (P + 2 Q) / 3 and B = 2 (Q - P) / 3 with the scores' growth P along their mean and Q across, written out."""
    x = random(2, 3, 3) + 2 * torch.eye(3)
    a, b = theory.estimate(x, "L")
    z = torch.stack([x[:, k, k] - x[:, k].mean(1) for k in range(3)], 1)  # d_k . X_k
    mean, rest = z.mean(1), z - z.mean(1, keepdim=True)
    p, q = 3 * (mean[1] / mean[0]).abs().log(), 3 * (rest[1] / rest[0]).abs().log().mean()
    torch.testing.assert_close(torch.stack([a[1], b[1]]), torch.stack([(p + 2 * q) / 3, 2 * (q - p) / 3]))


def test_derivative_of_a_parabola_is_exact():
    t = torch.arange(0, 1000, 10, dtype=F64)
    torch.testing.assert_close(theory.derivative(t**2 / 100, 75, 10), t / 50)


@pytest.mark.parametrize("window", [20, 2000])
def test_window_longer_than_the_record_or_too_short_is_refused(window):
    with pytest.raises(ValueError, match=rf"window {window} has \d+ values, one every 10 steps: must be 3 to 100"):
        theory.derivative(torch.zeros(100, dtype=F64), window, 10)


def test_tail_index_of_a_power():
    t = torch.arange(0, 10001, 50, dtype=F64)
    found = theory.tail_index(torch.stack([t**0.3, t**0.9]), t, 1000)
    assert found.r.tolist() == pytest.approx([0.7, 0.1]) and not found.marked.any()
    assert found.spread.max() < 1e-12
    with pytest.raises(ValueError, match="a tail window of 20000 steps: must be shorter than the record, 10000"):
        theory.tail_index(t, t, 20000)


def test_tail_index_near_zero_is_marked_with_a_finite_spread():
    t = torch.arange(0, 10001, 50, dtype=F64)
    crossing = (t - 9500) / 500  # changes its sign within the window
    small, negative, fine = torch.full_like(t, 0.5), torch.full_like(t, -20.0), torch.full_like(t, 20.0)
    found = theory.tail_index(torch.stack([crossing, small, negative, fine]), t, 1000)
    assert found.marked.tolist() == [True, True, False, False]
    assert found.r.isfinite().all() and found.spread[0] > 0.02 > found.spread[3]


def test_classes_below_two_are_refused():
    for call in (
        lambda: theory.targets(1),
        lambda: theory.estimate(torch.ones(4, 1, 1), "I"),
        lambda: theory.i_model(torch.ones(1, 1), torch.zeros(2), torch.zeros(2)),
    ):
        with pytest.raises(ValueError, match="1 classes: must be 2 or more"):
            call()
    with pytest.raises(ValueError, match="2 features, the L-model needs as many as classes: 3"):
        theory.l_model(torch.ones(3, 2, dtype=F64), torch.zeros(2, dtype=F64), torch.zeros(2, dtype=F64))
    with pytest.raises(ValueError, match="4 features, expected as many as classes: 3"):
        theory.estimate(torch.ones(5, 3, 4), "I")
