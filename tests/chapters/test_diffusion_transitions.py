"""Scores and samplers against slow twins and closed forms; critical points, clones, collapse; what is refused."""

import math
import re
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import brentq, minimize_scalar
from scipy.special import logsumexp
from scipy.stats import energy_distance, multivariate_normal

from phenomena.chapters.diffusion_transitions import figures, learned, metrics, study, theory
from phenomena.chapters.diffusion_transitions.mixtures import Mixture, normal, sample, step
from phenomena.science.datasets import Dataset

SCHEDULES = [(0.1, 20.0), (0.5, 12.0), (6.0, 6.0)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some_mixture(k=4, d=3, sigma=0.4, seed=0):
    g = generator(seed)
    weights = torch.rand(k, generator=g, dtype=torch.float64) + 0.2
    return Mixture(torch.randn(k, d, generator=g, dtype=torch.float64), weights / weights.sum(), sigma)


def slow_log_density(mixture, x, a):
    """One point, one component at a time, by scipy's normal law."""
    v = 1 - a * a + (a * mixture.sigma) ** 2
    d = mixture.means.shape[1]
    terms = [
        math.log(w) + multivariate_normal.logpdf(x, a * m, v * np.eye(d))
        for w, m in zip(mixture.weights.tolist(), mixture.means.numpy(), strict=True)
    ]
    return logsumexp(terms)


# --- scores --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("a", [0.05, 0.5, 0.95])
@pytest.mark.parametrize("sigma", [0.0, 0.4])
def test_density_and_score_are_those_of_the_slow_twin(a, sigma):
    mixture = some_mixture(sigma=sigma)
    x = torch.randn(5, 3, generator=generator(1), dtype=torch.float64)
    slow = [slow_log_density(mixture, row, a) for row in x.numpy()]
    assert mixture.log_density(x, a).tolist() == pytest.approx(slow, rel=1e-9)
    steps = 1e-5 * torch.eye(3, dtype=torch.float64)
    sides = [mixture.log_density(x[:, None] + sign * steps, a) for sign in (1, -1)]
    assert torch.allclose(mixture.score(x, a), (sides[0] - sides[1]) / 2e-5, rtol=1e-6, atol=1e-6)


def test_the_density_integrates_to_one_and_far_points_do_not_overflow():
    mixture = study.two_classes(1.0, 0.2, 0.7)

    def density(x, a):
        return mixture.log_density(torch.tensor([[x]], dtype=torch.float64), a).exp().item()

    assert quad(density, -8, 8, args=(0.8,), points=[-0.8, 0.8])[0] == pytest.approx(1.0, rel=1e-7)
    far = torch.tensor([[1e6], [-1e6]], dtype=torch.float64)
    assert mixture.posterior(far, 0.999).tolist() == [[1.0, 0.0], [0.0, 1.0]]
    assert mixture.score(far, 0.999).isfinite().all()


def test_posterior_in_its_limits_and_under_permutation():
    mixture = some_mixture()
    x = torch.randn(6, 3, generator=generator(2), dtype=torch.float64)
    assert torch.allclose(mixture.posterior(x, 1e-9), mixture.weights.expand(6, 4), atol=1e-6)
    order = torch.tensor([2, 0, 3, 1])
    other = Mixture(mixture.means[order], mixture.weights[order], mixture.sigma)
    assert torch.allclose(other.posterior(x, 0.6), mixture.posterior(x, 0.6)[:, order])
    assert torch.allclose(other.score(x, 0.6), mixture.score(x, 0.6))
    near = mixture.means + 0.001
    points = Mixture(mixture.means)
    assert (points.posterior(near, 0.99999).argmax(1) == torch.arange(4)).all()
    assert torch.allclose(points.denoise(near, 0.99999), mixture.means)


def test_drawn_samples_have_mean_and_covariance_of_the_mixture():
    mixture, n, a = some_mixture(), 200_000, 0.7
    x, k = mixture.draw(n, a, generator(3))
    mean = mixture.weights @ mixture.means
    spread = mixture.means - mean
    covariance = (mixture.weights[:, None] * spread).T @ spread + mixture.sigma**2 * torch.eye(3)
    covariance = a * a * covariance + (1 - a * a) * torch.eye(3, dtype=torch.float64)
    assert (x.mean(0) - a * mean).abs().max() < 0.015  # 5 standard errors
    assert (torch.cov(x.T) - covariance).abs().max() < 0.02
    assert (k.bincount() / n - mixture.weights).abs().max() < 0.006


# --- the schedule and critical points --------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_time_and_signal_are_inverse_and_solve_the_equation(schedule):
    for t in (0.01, 0.2, 0.6, 0.99):
        a = theory.signal(t, *schedule)
        assert theory.time_at(a, *schedule) == pytest.approx(t, rel=1e-9)
        low, high = schedule
        slope = (theory.signal(t + 1e-6, *schedule) - theory.signal(t - 1e-6, *schedule)) / 2e-6
        assert slope == pytest.approx(-(low + t * (high - low)) * a / 2, rel=1e-5)
    assert theory.signal(0.0, *schedule) == 1.0


@pytest.mark.parametrize(("separation", "sigma"), [(1.0, 0.0), (2.0, 0.5), (0.6, 0.9), (0.3, 0.1), (4.0, 1.5)])
@pytest.mark.parametrize("dynamics", ["density", "sde", "ode"])
def test_critical_signals_are_zeros_of_the_slope(dynamics, separation, sigma):
    found = theory.critical_signal(dynamics, separation, sigma)
    signals = np.linspace(0.001, 0.999, 4000)
    slopes = np.array([theory.slope(dynamics, a, separation, sigma) for a in signals])
    crossings = np.flatnonzero((slopes[1:] > 0) != (slopes[:-1] > 0))
    if found is None:
        assert not len(crossings)
    else:
        assert len(crossings) == 1
        assert signals[crossings[0]] <= found <= signals[crossings[0] + 1]
        assert theory.slope(dynamics, found, separation, sigma) == pytest.approx(0, abs=1e-9)


def test_the_slope_is_that_of_the_score():
    mixture = study.two_classes(1.3, 0.4)
    for a in (0.2, 0.6, 0.9):
        up, down = mixture.score(torch.tensor([[1e-5], [-1e-5]], dtype=torch.float64), a)[:, 0].tolist()
        assert (up - down) / 2e-5 == pytest.approx(theory.slope("density", a, 1.3, 0.4), rel=1e-6)


def test_two_deltas_have_the_times_of_the_papers():
    density, sde = (theory.critical_signal(kind) for kind in ("density", "sde"))
    assert density**2 == pytest.approx(0.5)
    assert sde**2 == pytest.approx(2**0.5 - 1)
    assert theory.time_at(density) < theory.time_at(sde)  # the drift turns first, seen from noise
    assert theory.critical_signal("ode") is None
    # a Gaussian narrower than the noise contracts at first, also by the ODE
    assert theory.critical_signal("ode", 0.3, 0.1) is not None
    assert theory.coupling(density) == pytest.approx(1)


def test_magnetization_is_the_root_that_bisection_finds():
    for j, h in ((1.001, 0.0), (1.5, 0.0), (1.0, 1e-4), (0.5, 0.3), (3.0, 0.2), (2.0, 1e-12)):
        exact = brentq(lambda m: m - math.tanh(j * m + h), 1e-7, 1, xtol=1e-15)  # noqa: B023
        assert theory.magnetization(j, h) == pytest.approx(exact, rel=1e-6)
    assert theory.magnetization(0.9) == 0
    assert theory.magnetization(50.0) == pytest.approx(1)


def test_free_energy_is_minus_the_log_density_and_its_minimum_the_magnetization():
    a = 0.8
    j = theory.coupling(a)
    m = torch.linspace(-1.5, 1.5, 7, dtype=torch.float64)
    other = -study.two_classes(1.0).log_density(a * m[:, None], a)
    difference = theory.free_energy(m, j) - other
    assert torch.allclose(difference, difference[0].expand(7))
    place = minimize_scalar(
        lambda m: theory.free_energy(torch.tensor(m, dtype=torch.float64), j).item(),
        bounds=(0.1, 1.5), method="bounded", options={"xatol": 1e-9},
    ).x  # fmt: skip
    assert place == pytest.approx(theory.magnetization(j), abs=1e-6)


def test_exponents_of_the_equation_are_mean_field():
    e = np.logspace(-6, -4, 5)
    assert np.polyfit(np.log(e), np.log([theory.magnetization(1 + x) for x in e]), 1)[0] == pytest.approx(0.5, abs=1e-3)
    assert np.polyfit(np.log(e), np.log([theory.magnetization(1, x) for x in e]), 1)[0] == pytest.approx(
        1 / 3, abs=1e-3
    )
    slopes = study.slopes(study.critical_exponents([3, 4])).groupby("quantity")["slope"].mean()
    assert slopes.to_dict() == pytest.approx({"order": 0.5, "field": 1 / 3, "susceptibility": -1}, abs=0.005)


@pytest.mark.parametrize("weight", [0.55, 0.7, 0.9, 0.99])
def test_the_second_well_appears_at_the_spinodal(weight):
    h = math.log(weight / (1 - weight)) / 2
    assert study.second_mode(weight) == pytest.approx(theory.spinodal(h), rel=1e-3)
    j = theory.spinodal(h)
    m = -math.sqrt(1 - 1 / j)  # where the curve m - tanh(J m + h) touches zero
    assert m == pytest.approx(math.tanh(j * m + h), abs=1e-9)


def test_the_spinodal_approaches_the_critical_point():
    assert theory.spinodal(0.0) == 1
    assert theory.spinodal(1e-6) == pytest.approx(1, abs=1e-3)


# --- samplers --------------------------------------------------------------------------------------------------------


def gaussian_step(method: str, a: float, b: float, sigma: float) -> tuple[float, float]:
    """Gain g and added variance w of one step from signal a to b, for data N(mu, sigma²) with their exact denoiser.

    The deviation from the mean, y = x - a mu, becomes g y + sqrt(w) z. With p = a sigma² / v (so that the denoiser
    is mu + p y), S = 1 - a², Q = 1 - b²:
      ddim  g = b p + sqrt(Q / S) (1 - a p),                      w = 0
      ddpm  g = (b (1 - a²/b²) p + a Q / b) / S,                  w = (Q / S) (1 - a²/b²)
      heun  in noise-to-signal ratio, y / a follows dy/du = k(u) y with k = u / (u² + sigma²); two evaluations
    method: "ddim", "ddpm" or "heun".
    """
    p = a * sigma**2 / (1 - a * a + a * a * sigma**2)
    s, q = 1 - a * a, max(1 - b * b, 0.0)
    if method == "ddim":
        return b * p + math.sqrt(q / s) * (1 - a * p), 0.0
    if method == "ddpm":
        kept = a * a / (b * b)
        return (b * (1 - kept) * p + a * q / b) / s, q / s * (1 - kept)
    if method == "heun":
        u, w = math.sqrt(s) / a, math.sqrt(q) / b
        first = u / (u * u + sigma**2)
        second = w / (w * w + sigma**2) if q > 0 else first
        euler = 1 + (w - u) * first
        return (b / a) * (1 + (w - u) * (first + second * euler) / 2 if q > 0 else euler), 0.0
    raise ValueError(f"method is {method!r}: must be one of ddim, ddpm, heun")


@pytest.mark.parametrize("method", ["ddpm", "ddim", "heun"])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_samplers_have_the_exact_mean_and_variance_of_a_gaussian_after_every_step(method, schedule):
    """Two equal means make one Gaussian. The samplers are affine there: their gain is read off two points."""
    mu, sigma = 0.7, 0.5
    one = Mixture(torch.tensor([[mu], [mu]], dtype=torch.float64), sigma=sigma)
    signals = [theory.signal(t, *schedule) for t in study.time_grid(12)]
    for a, b in pairwise(signals):
        gain, noise = gaussian_step(method, a, b, sigma)
        zero = torch.zeros(3, 1, dtype=torch.float64)
        z = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)
        x = a * mu + torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64)
        middle, up, kicked = step(method, one.denoise, x, a, b, z if method == "ddpm" else zero)[:, 0].tolist()
        assert middle == pytest.approx(b * mu, abs=1e-9)
        assert up - middle == pytest.approx(gain, abs=1e-9)
        assert (kicked - middle) ** 2 == pytest.approx(noise, abs=1e-9)


@pytest.mark.parametrize("method", ["ddpm", "ddim", "heun"])
def test_thousands_of_particles_have_the_variance_of_the_recursion(method):
    sigma, n = 0.5, 40_000
    one = Mixture(torch.zeros(2, 1, dtype=torch.float64), sigma=sigma)
    signals = [theory.signal(t) for t in study.time_grid(8)]
    variance = 1.0
    for a, b in pairwise(signals):
        gain, noise = gaussian_step(method, a, b, sigma)
        variance = gain**2 * variance + noise
    start = normal((n, 1), [generator(5)])
    end, _ = sample(method, one.denoise, start, signals, [generator(6)])
    assert end.var().item() == pytest.approx(variance, rel=5 * (2 / n) ** 0.5)


@pytest.mark.parametrize(("method", "order"), [("ddim", 1), ("heun", 2)])
def test_samplers_of_the_ode_converge_at_their_order(method, order):
    """To the exact flow of a Gaussian, whose deviation from the mean stays in proportion to its standard deviation."""

    def spread(a):
        return math.sqrt(1 - a * a + a * a * 0.25)

    a, b = 0.3, 0.9
    errors = []
    for n in (20, 40):
        u = np.linspace(math.sqrt(1 - a * a) / a, math.sqrt(1 - b * b) / b, n + 1)
        signals = (1 / np.sqrt(1 + u * u)).tolist()
        gain = np.prod([gaussian_step(method, s, e, 0.5)[0] for s, e in pairwise(signals)])
        errors.append(abs(gain - spread(b) / spread(a)))
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


def test_ddpm_with_many_steps_gives_the_law_of_the_data():
    mixture = study.two_classes(1.0, 0.3, 0.8)
    signals = [theory.signal(t) for t in study.time_grid(200)]
    ends, _ = sample("ddpm", mixture.denoise, normal((20_000, 1), [generator(7)]), signals, [generator(8)])
    data, _ = mixture.draw(20_000, 1.0, generator(9))
    assert energy_distance(ends.flatten().numpy(), data.flatten().numpy()) < 0.04  # 0.01 to 0.02 between draws
    shifted = energy_distance(ends.flatten().numpy() + 0.2, data.flatten().numpy())
    assert shifted > 0.1  # a comparison that could have failed


def test_what_a_seed_gives_depends_on_no_other():
    both = study.clones(study.two_classes(1.0), study.sides, [0.3], [5, 6], paths=30, steps=10)
    alone = study.clones(study.two_classes(1.0), study.sides, [0.3], [6], paths=30, steps=10)
    pd.testing.assert_frame_equal(both[both["seed"] == 6].reset_index(drop=True), alone)
    first, second = (normal((3,), study.generators([1], stream)) for stream in (study.CLONES, study.IMAGES))
    assert not torch.equal(first, second)


def test_ddim_keeps_every_path_on_its_side_and_ddpm_does_not():
    for steps in (1, 3, 50):
        found = study.keeps_side(["ddim", "ddpm"], [0, 1], paths=400, steps=steps).groupby("method")["share"].mean()
        assert found["ddim"] == 1
    assert 0.4 < found["ddpm"] < 0.6


@pytest.mark.parametrize("a", [0.2, 0.65, 0.9])
@pytest.mark.parametrize(("dynamics", "pull"), [("density", 0.0), ("sde", 0.5), ("ode", 1.0)])
def test_the_three_magnets_are_the_zeros_of_what_moves_a_sample(dynamics, pull, a):
    """pull * x + score vanishes at the place that belongs to the magnetization of each coupling."""
    m = theory.magnetization(theory.coupling(a, dynamics))
    at = {"density": a * m, "sde": 2 * a * m / (1 + a * a), "ode": m / a}[dynamics]
    x = torch.tensor([[at]], dtype=torch.float64)
    assert (pull * x + study.two_classes(1.0).score(x, a)).item() == pytest.approx(0, abs=1e-6)
    critical = theory.critical_signal(dynamics)
    assert (m > 0) == (critical is None or a > critical)


# --- clones ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.5, 0.8])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0, 2.5])
def test_agreement_of_clones_is_the_integral_that_quad_finds(ratio, weight):
    def posterior(y):
        return 1 / (1 + (1 - weight) / weight * math.exp(-2 * ratio * y))

    def integrand(y):
        law = weight * math.exp(-((y - ratio) ** 2) / 2) + (1 - weight) * math.exp(-((y + ratio) ** 2) / 2)
        r = posterior(y)
        return law / math.sqrt(2 * math.pi) * (r * r + (1 - r) ** 2)

    assert theory.same_class(ratio, weight) == pytest.approx(quad(integrand, -12, 12, limit=200)[0], abs=1e-9)


def test_agreement_in_its_limits():
    assert theory.same_class(0.0) == pytest.approx(0.5)
    assert theory.same_class(0.0, 0.9) == pytest.approx(0.82)
    assert theory.same_class(40.0) == pytest.approx(1)
    assert theory.same_class(1.0, 0.3) == pytest.approx(theory.same_class(1.0, 0.7))
    assert (np.diff([theory.same_class(r) for r in np.linspace(0, 4, 20)]) > 0).all()


@pytest.mark.parametrize(("separation", "sigma"), [(1.0, 0.0), (4.0, 1.0), (16.0, 0.2)])
def test_the_critical_point_of_the_density_has_the_signal_to_noise_ratio_one(separation, sigma):
    a = theory.critical_signal("density", separation, sigma)
    assert theory.signal_to_noise(a, separation, sigma) == pytest.approx(1)


def test_simulated_clones_in_full_dimension_are_those_of_the_line():
    """Ten dimensions, a random direction: the class is the sign of the projection, as the line of the study has it."""
    u = study.random_direction(10, 3)
    full = Mixture(torch.stack([2 * u, -2 * u]), sigma=0.2)
    frame = study.clones(full, lambda ends: {"same": ends @ u > 0}, [0.3, 0.5], range(4), paths=2000, steps=100)
    for t, part in frame.groupby("t"):
        exact = theory.same_class(theory.signal_to_noise(theory.signal(t), 2.0, 0.2))
        assert part["same"].mean() == pytest.approx(exact, abs=0.02)  # four standard errors, and 100 steps


def test_the_four_classes_are_two_independent_pairs():
    frame = study.clones(study.hierarchy(6.0, 1.0, 0.2), study.quarters, [0.25, 0.6], range(2), paths=2000, steps=100)
    for name, separation in (("coarse", 6.0), ("fine", 1.0)):
        for t, part in frame.groupby("t"):
            exact = theory.same_class(theory.signal_to_noise(theory.signal(t), separation, 0.2))
            assert part[name].mean() == pytest.approx(exact, abs=0.03)


# --- late start and its metrics --------------------------------------------------------------------------------------


def test_the_frechet_distance_is_the_formula_with_scipys_root():
    from scipy.linalg import sqrtm

    g = generator(10)
    x = torch.randn(60, 4, generator=g, dtype=torch.float64)
    y = torch.randn(50, 4, generator=g, dtype=torch.float64) @ torch.randn(4, 4, generator=g, dtype=torch.float64) + 1
    a, b = np.cov(x.numpy().T), np.cov(y.numpy().T)
    root = np.real(sqrtm(a @ b))
    exact = ((x.mean(0) - y.mean(0)) ** 2).sum().item() + np.trace(a + b - 2 * root)
    assert metrics.frechet(x, y) == pytest.approx(exact, rel=1e-6)
    assert metrics.frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert metrics.frechet(x, y) == pytest.approx(metrics.frechet(y, x), rel=1e-9)
    turn, _ = torch.linalg.qr(torch.randn(4, 4, generator=g, dtype=torch.float64))
    assert metrics.frechet(x @ turn, y @ turn) == pytest.approx(exact, rel=1e-6)


def test_the_energy_distance_is_the_square_of_scipys_without_its_bias():
    g = generator(11)
    x, y = (
        torch.randn(40, 1, generator=g, dtype=torch.float64),
        torch.randn(30, 1, generator=g, dtype=torch.float64) + 2,
    )
    biased = energy_distance(x.flatten().numpy(), y.flatten().numpy()) ** 2
    within = [torch.pdist(z).mean().item() for z in (x, y)]
    shares = [within[0] / len(x), within[1] / len(y)]  # pairs of a row with itself, which scipy counts
    assert metrics.energy(x, y) == pytest.approx(biased - sum(shares), rel=1e-6)


def test_a_gaussian_sample_is_at_no_frechet_distance_whatever_the_data_look_like():
    g = generator(12)
    two = torch.sign(torch.randn(4000, 1, generator=g, dtype=torch.float64)) * 2
    blur = two.mean() + two.std() * torch.randn(4000, 1, generator=g, dtype=torch.float64)
    assert metrics.frechet(blur, two) < 0.02
    assert metrics.energy(blur, two) > 0.1


def toy_images(n=90):
    g = generator(13)
    x, y = torch.rand(n, 1, 4, 4, generator=g), torch.arange(n) % 3
    x[torch.arange(n), 0, y] += 1
    return Dataset(x.clamp(0, 1), y, x[:10].clamp(0, 1), y[:10], classes=3)


def test_late_starts_have_a_row_for_every_setting_and_two_controls():
    held = study.images(toy_images(), 50, 40, 0.1, seed=0)
    settings = [("ddim", 3, 1.0, "fitted"), ("ddpm", 2, 0.4, "isotropic"), ("heun", 2, 0.5, "noised data")]
    frame = study.late_start(held, 0, settings, samples=30)
    assert frame["method"].tolist() == ["ddim", "ddpm", "heun", "training images", "Gaussian"]
    assert frame[["frechet", "energy", "pixels", "entropy"]].notna().all().all()
    again = study.late_start(held, 0, settings, [("ddpm", 2, 1.0, "fitted")], samples=30)
    pd.testing.assert_frame_equal(frame, again[:-1])


def test_images_of_any_shape_are_drawn():
    data = toy_images()
    for shape in ((1, 4, 4), (2, 2, 4), (2, 8)):
        x = [part.reshape(-1, *shape) for part in (data.x_train, data.x_test)]
        held = study.images(Dataset(x[0], data.y_train, x[1], data.y_test, classes=3), 50, 40, 0.1, seed=0)
        high, wide = shape[1:] if len(shape) == 3 else (1, shape[1])
        assert held.grey(held.mixture.means).shape == (50, high, wide)
        assert torch.allclose(held.grey(held.held_out[:1]).mean(), held.held_out[:1].mean())
        assert study.emerging(held, (1.0, 0.5, 0.0), 3, 0).shape == (3, 3, high, wide)


def test_starts_have_mean_and_covariance_of_noised_data():
    held, a = study.images(toy_images(), 50, 40, 0.1, seed=0), 0.8
    x = study.start_from("fitted", held, 100_000, a, generator(14))[0]
    data = held.mixture.means
    covariance = a * a * (torch.cov(data.T) + 0.01 * torch.eye(16)) + (1 - a * a) * torch.eye(16, dtype=torch.float64)
    assert (x.mean(0) - a * data.mean(0)).abs().max() < 0.02
    assert (torch.cov(x.T) - covariance).abs().max() < 0.03


def test_few_steps_lose_the_rare_class_and_many_do_not():
    settings = [("ddim", n, 1.0, "fitted") for n in (3, 100)]
    frame = study.minority(range(3), settings, separation=4.0, sigma=1.0, weight=0.1, samples=2000)
    share = frame.groupby("n")["share"].mean()
    assert share[3] < 0.06
    assert share[100] == pytest.approx(0.095, abs=0.01)


# --- collapse --------------------------------------------------------------------------------------------------------


def test_the_formula_of_the_collapse_and_its_limits():
    a = theory.collapse_signal(1000, 16)
    assert -8 * math.log(1 - a * a) == pytest.approx(math.log(1000))
    assert theory.collapse_signal(10, 1e6) < 0.01  # few points of many dimensions are told apart at once
    assert theory.collapse_signal(10**9, 1) == pytest.approx(1)


def test_concentration_is_that_of_a_plain_loop_and_rises_as_noise_falls():
    g = generator(15)
    points, noise = (torch.randn(12, 3, generator=g, dtype=torch.float64) for _ in range(2))
    a = 0.7
    total = 0.0
    for i in range(12):
        x = a * points[i] + math.sqrt(1 - a * a) * noise[i]
        w = [math.exp(-((x - a * p) ** 2).sum().item() / (2 * (1 - a * a))) for p in points]
        total += sum((v / sum(w)) ** 2 for v in w) / 12
    assert study.concentration(points, noise, a) == pytest.approx(total, rel=1e-9)
    values = [study.concentration(points, noise, s) for s in (0.001, 0.3, 0.7, 0.95, 0.999)]
    assert (np.diff(values) > 0).all()
    assert values[0] == pytest.approx(1 / 12, rel=1e-2)
    assert values[-1] == pytest.approx(1, abs=0.1)


def test_measured_collapse_is_near_the_formula_and_moves_with_n_and_d():
    frame = study.collapse([(100, 8), (400, 8), (100, 24)], range(3)).groupby(["n", "d"])[["t", "formula"]].mean()
    assert (frame["t"] - frame["formula"]).between(0, 0.03).all()
    assert frame["t"][400, 8] < frame["t"][100, 8] < frame["t"][100, 24]


# --- a learned score -------------------------------------------------------------------------------------------------


def some_sets(sizes=(6, 9), d=4):
    return [torch.randn(n, d, generator=generator(n)) for n in sizes]


def denoised(sets, seeds, marks=(1, 4)):
    """Answers at every mark, on the same noisy samples for every network."""
    x = torch.randn(5, sets[0].shape[1], generator=generator(16), dtype=torch.float64).expand(len(sets), -1, -1)
    starts, noises = ([generator(10 * s + k) for s in seeds] for k in (0, 1))
    return [denoise(x, 0.7) for _, denoise in learned.train(sets, starts, noises, marks)]


def test_networks_learn_as_a_plain_loop_does():
    """One network, torch's autograd and optimizer, averages by hand."""
    (images,), g, noise = some_sets((6,)), generator(30), generator(31)
    net = learned._network([4 + 16, 128, 128, 128, 4], g)
    optimizer, average = torch.optim.AdamW(net.parameters(), lr=0.002), [p.detach().clone() for p in net.parameters()]
    for k in range(1, 5):
        inputs, targets = learned.batch(images, 64, noise, (0.1, 20.0))
        optimizer.zero_grad()
        (net(inputs) - targets).square().mean().backward()
        optimizer.step()
        for mean, p in zip(average, net.parameters(), strict=True):
            mean.lerp_(p.detach(), 1 - k / (k + 9))
    with torch.no_grad():
        for mean, p in zip(average, net.parameters(), strict=True):
            p.copy_(mean)
        x = torch.randn(5, 4, generator=generator(16), dtype=torch.float64)
        slow = net(learned.with_time(x.float(), torch.full((5,), theory.time_at(0.7))))
    assert torch.allclose(denoised([images], [3])[-1][0].float(), slow, atol=1e-4)


def test_a_network_does_not_depend_on_its_company():
    sets = some_sets()
    together, alone = denoised(sets, [1, 2]), denoised(sets[1:], [2])
    for both, one in zip(together, alone, strict=True):
        assert torch.equal(both[1], one[0])
    assert not torch.allclose(together[0], together[1])  # it does learn


def test_a_batch_is_noised_data_with_its_clean_images():
    inputs, clean = learned.batch(torch.full((3, 2), 2.0), 20_000, generator(17), (0.1, 20.0))
    t = torch.atan2(inputs[:, 2], inputs[:, 2 + learned.FREQUENCIES]) / math.pi
    assert (clean == 2).all() and t.min() > 0 and t.max() < 1 and t.mean() == pytest.approx(0.5, abs=0.02)
    a = torch.tensor([theory.signal(min(u, 1.0)) for u in t.tolist()])
    noise = (inputs[:, :2] - 2 * a[:, None]) / (1 - a * a).sqrt()[:, None]
    assert noise.mean().abs() < 0.03 and noise.var().item() == pytest.approx(1, abs=0.04)


def test_the_loss_of_the_exact_denoiser_of_a_gaussian_is_its_posterior_variance():
    sigma, n = 0.7, 4000
    one = Mixture(torch.zeros(2, 1, dtype=torch.float64), sigma=sigma)
    clean = sigma * torch.randn(1, n, 1, generator=generator(18), dtype=torch.float64)
    signals = [theory.signal((k + 0.5) / 10) for k in range(10)]
    exact = np.mean([sigma**2 * (1 - a * a) / (1 - a * a + (a * sigma) ** 2) for a in signals])
    assert learned.loss(one.denoise, clean, [generator(19)]).item() == pytest.approx(exact, rel=0.03)


def test_nothing_fits_the_training_images_better_than_their_exact_denoiser():
    images = torch.randn(6, 4, generator=generator(20), dtype=torch.float64)
    exact = Mixture(images).denoise
    seen = images.repeat(100, 1)[None]
    others = [
        lambda x, a: 0.95 * exact(x, a),
        lambda x, a: exact(x, a) + 0.05,
        Mixture(images, sigma=0.2).denoise,
        Mixture(images[:5]).denoise,
    ]
    least = learned.loss(exact, seen, [generator(21)]).item()
    assert all(learned.loss(other, seen, [generator(21)]).item() > least for other in others)


def test_a_copy_is_near_one_image_and_far_from_the_second():
    images = torch.randn(20, 8, generator=generator(22), dtype=torch.float64)
    near = images[:5] + 0.05 * torch.randn(5, 8, generator=generator(23), dtype=torch.float64)
    assert (learned.copies(near, images) < 1 / 3).all()
    assert (learned.copies((images[:5] + images[5:10]) / 2, images) > 1 / 3).all()
    assert torch.allclose(learned.copies(3 * near, 3 * images), learned.copies(near, images))


def test_the_step_of_a_crossing():
    steps, shares = np.array([1.0, 10.0, 100.0]), np.array([0.0, 0.1, 0.4])
    assert learned.crossing(steps, shares) == pytest.approx(10**1.5)
    assert learned.crossing(steps, shares, 0.4 - 1e-12) == pytest.approx(100)
    assert math.isnan(learned.crossing(steps, shares, 0.5)) and math.isnan(
        learned.crossing(steps[1:], shares[1:], 0.05)
    )


@pytest.mark.parametrize("steps", [learned.LONG, learned.LONG - 1])
def test_what_is_recorded_of_networks(steps):
    """Copies pass a quarter half-way between two looks, in log step; with four times the images ten times as late."""
    rows = [
        (0, n, "network", step, share, 0.1, 0.3, 2.0)
        for n, path in ((10, (0.0, 0.5, 0.5)), (40, (0.0, 0.0, 0.5)), (90, (0.0, 0.0, 0.0)))
        for step, share in zip((steps / 100, steps / 10, steps), path, strict=True)
    ]
    names = ["seed", "n", "arm", "step", "copies", "training", "held_out", "frechet"]
    found = learned.ends(pd.DataFrame(rows, columns=names)).set_index("images")
    assert found["copies"].to_dict() == {"fewest": 0.5, "second": 0.5, "most": 0.0}
    assert found["gap"].tolist() == pytest.approx([0.2] * 3)
    if steps < learned.LONG:
        assert found[["memorized", "trained", "crossed", "power"]].isna().all().all()
    else:
        assert found["crossed"]["second"] == pytest.approx(steps / 10**0.5)
        assert found["power"]["second"] == pytest.approx(math.log(10) / math.log(4))
        assert math.isnan(found["crossed"]["most"]) and found["memorized"]["most"] == 0


def test_exact_denoisers_copy_and_short_training_does_not():
    held = [study.images(toy_images(), 50, 40, 0.1, seed=s) for s in (0, 1)]
    frame, pictures = learned.study(held, [0, 1], [4, 8, 16], 30, samples=40)
    shares = frame.groupby("arm")["copies"].mean()
    assert shares["exact"] == 1
    assert shares["network"] < 0.1
    assert shares["held-out images"] < 0.1
    assert frame[frame["arm"] != "held-out images"].notna().all().all()
    assert {n: [tuple(x.shape) for x in pair] for n, pair in pictures.items()} == {
        n: [(8, 4, 4)] * 2 for n in (4, 8, 16)
    }
    exact, network = (frame[frame["arm"] == arm].groupby("n")["training"].mean() for arm in ("exact", "network"))
    assert (exact < network).all()


def test_a_network_of_few_images_comes_to_copy_them():
    held = [study.images(toy_images(), 50, 40, 0.1, seed=0)]
    frame, _ = learned.study(held, [0], [2, 3, 40], 1500, samples=60)
    last = frame[frame["step"] == 1500].set_index("n")["copies"]
    assert last[2] > 0.7
    assert last[40] < last[2] - 0.3


# --- figures and refusals --------------------------------------------------------------------------------------------


def test_the_potential_of_the_figure_is_that_of_the_density():
    x, a = np.linspace(-2, 2, 9), 0.8
    mixture = study.two_classes(1.0)
    log = mixture.log_density(torch.from_numpy(x)[:, None], a).numpy()
    middle = mixture.log_density(torch.zeros(1, 1, dtype=torch.float64), a).item()
    assert figures.potential(x, a) == pytest.approx((1 - a * a) * (middle - log), abs=1e-9)
    assert figures.potential(np.array([0.0, 1.0]), 1.0) == pytest.approx([0.0, -0.5], abs=1e-6)


def test_sheets_of_images_stay_small_and_in_order():
    images = np.stack([np.full((8, 8), value) for value in np.linspace(-1, 1, 16)])
    sheet = figures._sheet(images)
    assert sheet.shape == (35, 35)
    assert [sheet[4, 9 * i + 4] for i in range(4)] == [0, 16, 32, 48]
    assert sheet[4, 8] == 255 and sheet[30, 30] == 240
    for side in (28, 56, 224):
        large = figures._sheet(np.zeros((16, side, side)))
        assert large.shape == (57, 57)
    assert (figures._sheet(images[:5])[10:17, 10:] == 255).all()  # fewer than fit leave white


GOOD = {"schedule": (0.1, 20.0), "weights": [0.9, 0.1], "coarse": 8.0, "fine": 1.0, "late_starts": [1.0, 0.4]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": (20.0, 0.1)}, "beta_min is 20.0, beta_max is 0.1: beta_min <= beta_max, and 12 or more together"),
        ({"schedule": (0.1, 3.0)}, "beta_min is 0.1, beta_max is 3.0: beta_min <= beta_max, and 12 or more together"),
        ({"weights": [0.9, 0.2]}, "weights is [0.9, 0.2]: must be two that sum to 1"),
        ({"coarse": 1.0}, "coarse is 1.0, fine is 1.0: coarse must be the larger"),
        ({"late_starts": [1.0, 0.4, 0.4]}, "late_starts is [1.0, 0.4, 0.4]: all must differ, and 1 be the largest"),
        ({"late_starts": [0.5, 0.4]}, "late_starts is [0.5, 0.4]: all must differ, and 1 be the largest"),
    ],
)
def test_values_that_do_not_go_together_are_refused(change, message):
    study.validate(**GOOD)
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        study.validate(**GOOD | change)


two = torch.tensor([[-1.0], [1.0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Mixture(two[:1]), "a data set of one point leaves nothing to decide"),
        (lambda: Mixture(two, torch.tensor([0.9, 0.2], dtype=torch.float64)), "weights sum to 1.1: must be positive"),
        (lambda: Mixture(two, torch.tensor([1.0, 0.0], dtype=torch.float64)), "must be positive and sum to 1"),
        (lambda: Mixture(two, sigma=-1.0), "sigma is -1.0: must be 0 or more"),
        (lambda: Mixture(two * math.nan), "means holds nan or infinity"),
        (lambda: Mixture(two).score(two, 1.0), "signal is 1.0: must lie between 0 and 1, both excluded"),
        (lambda: theory.signal(1.5), "t is 1.5: must be 0 to 1"),
        (lambda: theory.signal(0.5, 2.0, 1.0), "must be 0 < beta_min <= beta_max"),
        (lambda: theory.signal(0.5, 0.1, 1e4), "the signal at t = 1 for beta_max = 10000 is 0.0"),
        (lambda: theory.same_class(-1.0), "ratio is -1.0: must be 0 or more"),
        (lambda: theory.collapse_signal(1, 4), "1 points in 4 dimensions: must be 2 or more points"),
        (lambda: theory.magnetization(-1.0), "both must be 0 or more"),
        (lambda: study.time_grid(0), "steps is 0: must be 1 or more"),
        (lambda: study.time_grid(5, [1.0]), "must lie in"),
        (lambda: step("ddpm", Mixture(two).denoise, two, 0.5, 0.6), "ddpm needs noise"),
        (lambda: step("ddim", Mixture(two).denoise, two, 0.6, 0.5), "must rise, to 1 at most"),
        (lambda: sample("ddim", Mixture(two).denoise, two[None], [0.5]), "which makes zero steps"),
        (lambda: normal((2,), []), "generators is empty"),
        (lambda: metrics.frechet(two[:1], two), "a covariance needs 2 or more"),
        (lambda: study.images(toy_images(), 80, 40, 0.1, 0), "the data have 100 images"),
        (lambda: learned.copies(two, two[:1]), "1 images: a second nearest needs 2 or more"),
        (
            lambda: learned.validate([10, 10, 20], 50),
            "learned_points is [10, 10, 20]: must be three or more that differ",
        ),
        (lambda: learned.validate([10, 20, 60], 50), "learned_points is [10, 20, 60]: 50 training images are there"),
    ],
)
def test_bad_values_are_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        call()
    assert "\n" not in str(raised.value)
