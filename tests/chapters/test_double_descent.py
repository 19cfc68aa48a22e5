"""Closed forms of the risk against simulation, slow oracles and each other; the study; what is refused."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from phenomena.chapters.double_descent import study, theory
from phenomena.science.datasets import Dataset


def rng(seed=0):
    return np.random.default_rng(seed)


# --- isotropic features --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 10, 25, 40, 45, 80])
@pytest.mark.parametrize("unseen", [0.0, 0.7])
def test_the_finite_formula_is_that_of_many_simulations(p, unseen):
    """4,000 draws of `numpy.linalg.pinv`; the largest |p - n| that is left out is 5, so that the mean has a spread."""
    n, noise, signal = 30, 0.25, 2.0
    g = rng(p)
    x, e = g.standard_normal((4000, n, p)), g.standard_normal((4000, n))
    theta = math.sqrt(signal) * np.eye(p)[0]  # any direction is like any other
    y = x @ theta + math.sqrt(noise + unseen) * e
    risk = (((np.linalg.pinv(x) @ y[..., None])[..., 0] - theta) ** 2).sum(1) + unseen
    exact = theory.isotropic_risk(n, p, signal=signal, noise=noise, unseen=unseen)
    assert abs(risk.mean() - exact) < 5 * risk.std() / 4000**0.5
    assert risk.std() / 4000**0.5 < 0.05 * exact  # a comparison that could have failed


def test_the_finite_formula_in_its_limits():
    for gamma in (0.1, 0.5, 0.9, 1.1, 2.0, 10.0):
        exact = theory.isotropic_risk(10**6, round(gamma * 10**6), signal=3.0, noise=0.5)
        assert exact == pytest.approx(theory.asymptotic_risk(gamma, signal=3.0, noise=0.5), rel=1e-4)
    assert all(math.isinf(theory.isotropic_risk(50, p)) for p in (49, 50, 51))
    assert all(math.isfinite(theory.isotropic_risk(50, p)) for p in (48, 52))
    assert math.isinf(theory.asymptotic_risk(1.0))
    assert theory.isotropic_risk(50, 20, noise=0.0) == 0  # no noise: least squares finds the truth
    assert theory.isotropic_risk(50, 10**9, signal=3.0) == pytest.approx(3.0, rel=1e-6)  # the null model
    # near the threshold the limit is too low: that is where the difference is largest
    assert theory.isotropic_risk(100, 95) > 1.2 * theory.asymptotic_risk(0.95)


@pytest.mark.parametrize(("signal", "noise"), [(1.0, 0.25), (4.0, 0.1), (1.0, 0.9)])
def test_the_second_minimum_is_where_a_search_finds_it(signal, noise):
    place, value = theory.second_minimum(signal, noise)
    found = minimize_scalar(
        lambda gamma: theory.asymptotic_risk(gamma, signal=signal, noise=noise),
        bounds=(1.0001, 200),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert found.x == pytest.approx(place, rel=1e-3)
    assert found.fun == pytest.approx(value, rel=1e-9)
    assert value < signal  # below the null model, at which the risk ends


def test_there_is_no_second_minimum_with_more_noise_than_signal():
    assert theory.second_minimum(0.2, 0.25) is None
    gammas = np.linspace(1.01, 50, 200)
    assert (np.diff([theory.asymptotic_risk(g, signal=0.2, noise=0.25) for g in gammas]) < 0).all()


# --- any spectrum --------------------------------------------------------------------------------------------------


def bisected(eigenvalues, n, ridge):
    """The effective regularization by plain bisection."""
    low, high = 1e-30, 1e30
    for _ in range(2000):
        middle = math.sqrt(low * high)
        if n - (eigenvalues / (eigenvalues + middle)).sum() - n * ridge / middle < 0:
            low = middle
        else:
            high = middle
    return middle


@pytest.mark.parametrize("ridge", [0.0, 1e-8, 0.1, 100.0])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_effective_regularization_is_that_of_bisection(ridge, scale):
    for eigenvalues in [*study.spectra(500).values(), np.r_[np.ones(101), np.zeros(40)]]:
        found = theory.effective_regularization(scale * eigenvalues, 100, scale * ridge)
        assert found == pytest.approx(scale * bisected(eigenvalues, 100, ridge), rel=1e-9)


def test_effective_regularization_in_closed_form():
    assert theory.effective_regularization(np.ones(250), 100) == pytest.approx(1.5, rel=1e-12)
    assert theory.effective_regularization(np.ones(50), 100) == 0
    # isotropic with a ridge: k² + k (1 - p/n - ridge) - ridge = 0
    p, n, ridge = 130, 100, 0.3
    b = 1 - p / n - ridge
    assert theory.effective_regularization(np.ones(p), n, ridge) == pytest.approx(
        (-b + math.sqrt(b * b + 4 * ridge)) / 2, rel=1e-12
    )
    many = study.spectra(500)["1/i"]
    assert theory.effective_regularization(many, 100, 1e9) == pytest.approx(1e9, rel=1e-6)  # ridge is all


@pytest.mark.parametrize("p", [40, 99, 101, 300])
def test_without_a_ridge_the_isotropic_equivalent_is_the_limit(p):
    found = theory.equivalent(np.ones(p), np.full(p, p**-0.5), 100, noise=0.25)
    assert found.risk == pytest.approx(theory.asymptotic_risk(p / 100, noise=0.25), rel=1e-9)
    assert found.df1 == pytest.approx(min(p, 100))


def test_the_equivalent_is_what_it_is_in_the_limit_of_no_ridge():
    """With fewer directions than samples kappa goes to 0 with the ridge, and the risk to that of least squares."""
    lam, theta = np.r_[np.linspace(1, 3, 60), np.zeros(30)], np.ones(90)
    without = theory.equivalent(lam, theta, 100)
    assert without.kappa == 0 and without.bias == 0
    assert without.variance == pytest.approx(0.25 * 0.6 / 0.4)
    assert theory.equivalent(lam, theta, 100, ridge=1e-9).risk == pytest.approx(without.risk, rel=1e-6)
    lam = study.spectra(300)["1/i"]
    more = theory.equivalent(lam, np.ones(300), 100, ridge=1e-9)
    assert more.risk == pytest.approx(theory.equivalent(lam, np.ones(300), 100).risk, rel=1e-6)


def test_the_equivalent_of_a_huge_ridge_is_the_null_model():
    lam, theta = 1 / np.arange(1, 51.0), np.arange(50.0)
    found = theory.equivalent(lam, theta, 30, ridge=1e12)
    assert found.bias == pytest.approx((lam * theta**2).sum(), rel=1e-6)
    assert found.variance < 1e-12


def test_the_equivalent_does_not_depend_on_order_units_and_dead_directions():
    g = rng()
    lam, theta = g.gamma(0.5, size=80), g.standard_normal(80)
    found = theory.equivalent(lam, theta, 50, ridge=0.01)
    order = g.permutation(80)
    shuffled = theory.equivalent(lam[order], theta[order], 50, ridge=0.01)
    scaled = theory.equivalent(9 * lam, theta / 3, 50, ridge=0.09)  # features in other units
    dead = theory.equivalent(np.r_[lam, np.zeros(7)], np.r_[theta, np.ones(7)], 50, ridge=0.01)
    for other in (shuffled, scaled, dead):
        assert other.risk == pytest.approx(found.risk, rel=1e-9)
    assert scaled.kappa == pytest.approx(9 * found.kappa, rel=1e-9)


def test_the_equivalent_is_near_the_simulated_risk_for_any_spectrum_and_ridge():
    g, n = rng(1), 150
    lam = g.permutation(1 / np.arange(1, 301.0))
    basis = np.linalg.qr(g.standard_normal((300, 300)))[0]
    coefficients = basis @ np.where(lam > 0.1, 1.0, 0)
    covariance = basis @ (lam[:, None] * basis.T)
    root = basis * np.sqrt(lam)
    for ridge in (0.0, 0.01):
        x = g.standard_normal((60, n, 300)) @ root.T
        y = x @ coefficients[:, None] + 0.5 * g.standard_normal((60, n, 1))
        missed = study.least_norm(x, y, ridge)[..., 0] - coefficients
        risk = np.einsum("si,ij,sj->s", missed, covariance, missed, optimize=True).mean()
        found = theory.equivalent(*theory.in_eigenbasis(covariance, coefficients), n, noise=0.25, ridge=ridge)
        assert risk == pytest.approx(found.risk, rel=0.08)


@pytest.mark.parametrize("p", [30, 100, 250])
def test_the_best_ridge_is_where_a_search_finds_it(p):
    def risk(log):
        return theory.equivalent(np.ones(p), np.full(p, p**-0.5), 100, noise=0.25, ridge=math.exp(log)).risk

    found = minimize_scalar(risk, bounds=(-8, 4), method="bounded", options={"xatol": 1e-8})
    assert math.exp(found.x) == pytest.approx(theory.best_ridge(100, p, noise=0.25), rel=1e-3)


def test_with_the_best_ridge_the_risk_rises_steadily():
    risks = [
        theory.equivalent(np.ones(p), np.full(p, p**-0.5), 100, ridge=theory.best_ridge(100, p)).risk
        for p in range(5, 1000, 5)
    ]
    assert (np.diff(risks) > 0).all() and risks[-1] < 1


def test_eigenbasis_gives_back_the_covariance():
    g = rng()
    a = g.standard_normal((6, 4))
    lam, _ = theory.in_eigenbasis(a @ a.T, g.standard_normal(6))
    assert (np.diff(lam) <= 0).all() and (lam >= 0).all() and lam[4:].tolist() == [0, 0] and lam[3] > 0
    assert lam.sum() == pytest.approx((a**2).sum())
    assert theory.in_eigenbasis(np.diag([1.0, 5.0]), np.array([2.0, -3.0]))[1] == pytest.approx([-3, 2])


def test_effective_ranks_are_their_sums():
    for lam in study.spectra(200).values():
        ranks = theory.effective_ranks(rng().permutation(lam), 40)
        lam = np.sort(lam)[::-1]
        for k in (0, 1, 5, 17, len(lam) - 1):
            assert ranks.r[k] == pytest.approx(lam[k:].sum() / lam[k])
            assert ranks.R[k] == pytest.approx(lam[k:].sum() ** 2 / (lam[k:] ** 2).sum())
        assert (ranks.r <= ranks.R * (1 + 1e-12)).all() and (ranks.r**2 * (1 + 1e-12) >= ranks.R).all()
        if ranks.k is not None:
            assert ranks.r[ranks.k] >= 40 and (ranks.r[: ranks.k] < 40).all()
    assert theory.effective_ranks(np.ones(30), 100).k is None
    assert math.isinf(theory.noise_bound(np.ones(30), 100))
    assert theory.noise_bound(np.ones(200), 100, noise=0.25) == pytest.approx(0.125)


# --- random features -----------------------------------------------------------------------------------------------


def test_relu_covariance_is_that_of_many_inputs():
    g = rng()
    w = g.standard_normal((3, 5))
    w /= np.linalg.norm(w, axis=0)
    features = np.maximum(g.standard_normal((400_000, 3)) @ w, 0)
    np.testing.assert_allclose(theory.relu_covariance(w), np.cov(features.T), atol=0.004)
    twice = theory.relu_covariance(w[:, [0, 0]])
    np.testing.assert_allclose(twice, 0.5 - 0.5 / math.pi, atol=1e-7)
    opposite = theory.relu_covariance(np.c_[w[:, 0], -w[:, 0]])[0, 1]
    assert opposite == pytest.approx(-0.5 / math.pi, abs=1e-7)


def test_both_covariances_agree_where_weights_are_orthogonal_and_in_high_dimension():
    np.testing.assert_allclose(theory.relu_covariance(np.eye(4)), theory.relu_covariance(np.eye(4), exact=False))
    w = rng().standard_normal((20_000, 10))
    w /= np.linalg.norm(w, axis=0)
    np.testing.assert_allclose(theory.relu_covariance(w), theory.relu_covariance(w, exact=False), atol=1e-4)


def test_stein_gives_the_covariance_of_feature_and_target():
    """E relu(z) z = 1/2, by quadrature."""
    density = lambda z: max(z, 0) * z * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    assert quad(density, -10, 10)[0] == pytest.approx(0.5)


def test_the_equivalent_of_random_features_is_near_the_measured_risk():
    frame = study.relu_features(50, 150, [60, 400], 0.1, range(6)).groupby("N").mean()
    for features in ("risk", "twin"):
        assert frame[features].to_numpy() == pytest.approx(frame["equivalent"].to_numpy(), rel=0.1)


def test_the_risk_of_random_features_is_that_of_test_points():
    """The study computes it from the exact covariance."""
    g, d, n, count = rng(5), 6, 40, 12
    w = g.standard_normal((d, count))
    w /= np.linalg.norm(w, axis=0)
    beta, x, fresh = np.eye(d)[0], g.standard_normal((n, d)), g.standard_normal((300_000, d))
    mean = 1 / math.sqrt(2 * math.pi)
    b = np.linalg.lstsq(np.maximum(x @ w, 0) - mean, x @ beta, rcond=None)[0]
    direct = (((np.maximum(fresh @ w, 0) - mean) @ b - fresh @ beta) ** 2).mean()
    assert b @ theory.relu_covariance(w) @ b - 2 * b @ (w.T @ beta) / 2 + 1 == pytest.approx(direct, rel=0.02)


# --- aliasing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize(("n", "copies"), [(15, 9), (8, 3), (1, 5)])
def test_aliasing_is_that_of_the_fit(exponent, n, copies):
    (row,) = study.aliases(n, copies, [exponent]).to_dict("records")
    assert row["survival"] == pytest.approx(row["survival_formula"], abs=1e-9)
    assert row["contamination"] == pytest.approx(row["contamination_formula"], abs=1e-9)


def test_aliasing_in_its_limits():
    k = np.arange(-67, 68)
    assert theory.aliasing(k, (k == 0) * 1.0, 15) == (1.0, 0.0)
    assert theory.aliasing(np.arange(-3, 4), np.ones(7), 15) == (1.0, 0.0)  # no alias among the features
    assert theory.aliasing(k, np.ones(135), 15).survival == pytest.approx(1 / 9)
    w = rng().uniform(0.1, 1, 135)
    assert theory.aliasing(k, w, 15) == pytest.approx(theory.aliasing(k, 7 * w, 15))


# --- gradient descent ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [7, 40])
def test_descent_risk_is_that_of_the_steps(p):
    """The mean over the noise by its law: 2 n points with its covariance average a square exactly."""
    g, n, step, noise = rng(), 20, 0.05, 0.3
    x, theta, root = g.standard_normal((n, p)), g.standard_normal(p), g.uniform(0.5, 2, p)
    times = [0, 1, 7, 60]
    signs = math.sqrt(noise * n) * np.concatenate([np.eye(n), -np.eye(n)])  # their covariance is noise times I
    y, b, risks = x @ theta + signs, np.zeros((2 * n, p)), []
    for i in range(max(times) + 1):
        if i in times:
            risks.append(((b - theta) ** 2 @ root).mean())
        b = b + step * (y - b @ x.T) @ x / n
    path = theory.descent_risk(x, theta, step * np.array(times), noise=noise, step=step, covariance=np.diag(root))
    assert path.risk == pytest.approx(risks, rel=1e-9)


def test_small_steps_are_gradient_flow_and_the_end_is_the_least_norm():
    g = rng()
    x, theta, times = g.standard_normal((20, 30)), g.standard_normal(30), np.array([0.0, 0.5, 3.0])
    flow = theory.descent_risk(x, theta, times)
    steps = theory.descent_risk(x, theta, times, step=1e-4)
    assert steps.risk == pytest.approx(flow.risk, rel=1e-3)
    assert (flow.bias[0], flow.variance[0]) == pytest.approx((theta @ theta, 0))
    end = theory.descent_risk(x, theta, np.array([1e6]), noise=0.25)
    inverse = np.linalg.pinv(x)
    assert end.bias[0] == pytest.approx((((inverse @ x - np.eye(30)) @ theta) ** 2).sum())
    assert end.variance[0] == pytest.approx(0.25 * (inverse**2).sum())


def test_epochs_run_what_the_formula_says():
    lam, theta = study.two_groups(20, 5, 0.01)
    frame = study.epochs(60, lam, theta, 0.25, [0, 3, 30, 300], range(3), draws=400)
    assert frame["risk"].to_numpy() == pytest.approx(frame["exact"].to_numpy(), rel=0.06)
    assert frame[frame["steps"] == 0]["risk"].to_numpy() == pytest.approx([1.0] * 3)


# --- the study -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(12, 5), (12, 12), (12, 30)])
@pytest.mark.parametrize("ridge", [0.0, 0.2])
def test_least_norm_is_that_of_lstsq(shape, ridge):
    g = rng()
    n, p = shape
    x, y = g.standard_normal((3, n, p)), g.standard_normal((3, n, 2))
    for a, b, found in zip(x, y, study.least_norm(x, y, ridge), strict=True):
        rows = np.r_[a, math.sqrt(n * ridge) * np.eye(p)] if ridge else a
        slow = np.linalg.lstsq(rows, np.r_[b, np.zeros((p, 2))] if ridge else b, rcond=0)[0]
        np.testing.assert_allclose(found, slow, rtol=1e-6, atol=1e-8)
    if p != n:
        np.testing.assert_allclose(study.least_norm(x, y, exact=False), study.least_norm(x, y), rtol=1e-6, atol=1e-8)


def test_the_sweep_of_parameters_follows_the_exact_curve():
    frame = study.isotropic(40, [10, 30, 40, 55, 200], [0.25], range(20), draws=20)
    means = frame.groupby("p")["risk"].mean()
    for p in (10, 30, 55, 200):
        assert means[p] == pytest.approx(theory.isotropic_risk(40, p), rel=0.12)
    assert frame.groupby("p")["median"].mean().idxmax() == 40
    assert frame[frame["p"] == 40]["inside"].isna().all()
    assert frame["inside"].mean() > 0.8


def test_fits_for_several_noises_are_those_of_each():
    both = study.isotropic(20, [10, 30], [0.1, 0.5], [3], draws=5)
    for noise in (0.1, 0.5):
        one = study.isotropic(20, [10, 30], [noise], [3], draws=5)
        pd.testing.assert_frame_equal(both[both["noise"] == noise].reset_index(drop=True), one)


def test_orders_follow_the_exact_curve():
    frame = study.orders(40, [5, 30, 60, 120], 120, 0.25, range(30), draws=30)
    means = frame.groupby(["order", "p"]).mean()
    assert means["risk"].to_numpy() == pytest.approx(means["exact"].to_numpy(), rel=0.12)
    last = frame[frame["p"] == 120].groupby("order")["exact"].mean()
    assert last["best first"] == pytest.approx(last["shuffled"])  # all features: no order is left


def test_ridges_follow_the_equivalent():
    frame = study.ridges(60, [20, 60, 150], [0.0, 1.0, 5.0], 0.25, range(10), draws=10)
    means = frame[frame["equivalent"] < 10].groupby(["factor", "p"]).mean()
    assert means["risk"].to_numpy() == pytest.approx(means["equivalent"].to_numpy(), rel=0.15)


def test_excess_of_the_spectra_follows_the_equivalent():
    for name, lam in study.spectra(1000).items():
        frame = study.excess(name, lam, 80, 0.25, range(8), draws=3)
        assert frame["risk"].mean() == pytest.approx(frame["equivalent"].mean(), rel=0.12), name


EXPERIMENTS = {
    "isotropic": lambda seeds: study.isotropic(10, [5, 20], [0.1], seeds, draws=3),
    "orders": lambda seeds: study.orders(10, [5, 20], 30, 0.1, seeds, draws=3),
    "ridges": lambda seeds: study.ridges(10, [5, 20], [1.0], 0.1, seeds, draws=3),
    "excess": lambda seeds: study.excess("1/i", 1 / np.arange(1, 40.0), 10, 0.1, seeds, draws=2),
    "relu_features": lambda seeds: study.relu_features(4, 10, [5, 20], 0.1, seeds, draws=2),
    "epochs": lambda seeds: study.epochs(10, np.ones(4), np.ones(4), 0.1, [0, 2], seeds, draws=3),
    "line_errors": lambda seeds: study.line_errors(6, [3, 9], [0.0, 0.1], seeds),
    "cut_offs": lambda seeds: study.cut_offs(6, [3, 9], 0.1, seeds),
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_seed_alone_decides_its_row(name):
    whole, some = EXPERIMENTS[name](range(3)), EXPERIMENTS[name]([7, 1])
    shared = [frame[frame["seed"] == 1].reset_index(drop=True) for frame in (whole, some)]
    numbers = [frame.select_dtypes("number") for frame in shared]
    assert len(numbers[0]) and (numbers[0].dtypes == numbers[1].dtypes).all()
    pd.testing.assert_frame_equal(*shared, rtol=1e-9)
    other = whole[whole["seed"] == 2].reset_index(drop=True)
    assert not shared[0].drop(columns="seed").equals(other.drop(columns="seed"))


def two_blobs():
    g = torch.Generator().manual_seed(0)
    y = torch.arange(240) % 2
    x = torch.randn(240, 1, 9, generator=g) + 1.5 * y[:, None, None]
    return Dataset(x[:160], y[:160], x[160:], y[160:], classes=2)


def test_images_peak_where_features_meet_samples_and_a_ridge_removes_it():
    frame = study.images(two_blobs(), [40], [5, 40, 400], [0.2], range(8))
    error = frame.groupby(["fit", "N"])["error"].mean()
    assert error["least norm", 40] > error["least norm", 400] + 0.03
    assert error["tuned ridge", 40] < error["least norm", 40] - 0.05
    assert (frame[frame["fit"] == "least norm"]["ridge"] == 0).all()


def test_fits_of_images_are_those_of_direct_solutions():
    g = rng()
    for n, count in ((30, 12), (30, 70)):
        train, test, y = g.standard_normal((n, count)), g.standard_normal((9, count)), g.standard_normal((n, 6))
        wrong = np.zeros(9, int)
        for fit, share, error, ridge in study._fits(train, test, y, wrong, [0.0, 0.2]):
            part = y[:, :3] if share == 0 else y[:, 3:]
            b = study.least_norm(train[None], part[None], ridge)[0]
            assert error == ((test @ b).argmax(1) != wrong).mean()
            assert (ridge > 0) == (fit == "tuned ridge")


def test_the_fit_to_noisy_labels_is_that_of_truth_plus_that_of_noise():
    x, e = study.line_data(8, [4])
    at = np.linspace(-1, 1, 11)
    for p in (3, 20):
        fits = study.line_fits(x, e, p, at)[0]
        b = np.linalg.lstsq(study.cosines(x[0], p), study.truth(x[0]) + 0.3 * e[0], rcond=1e-14)[0]
        np.testing.assert_allclose(fits[:, 0] + 0.3 * fits[:, 1], study.cosines(at, p) @ b, rtol=1e-6, atol=1e-8)


def test_beyond_the_threshold_the_line_is_interpolated():
    x, e = study.line_data(8, range(3))
    for s in range(3):
        fits = study.line_fits(x[s : s + 1], e[s : s + 1], 60, x[s])[0]
        np.testing.assert_allclose(fits, np.stack([study.truth(x[s]), e[s]], 1), atol=1e-8)


def test_a_coarse_cut_off_lowers_the_peak():
    frame = study.cut_offs(15, [15], 0.2, range(10))
    log = np.log10(frame.pivot_table(index="seed", columns=["basis", "cut"], values="error"))
    for basis in study.BASES:
        assert log[basis]["1e-4"].median() < log[basis]["none"].median() - 1
    assert (frame["rank"] <= 15).all()


# --- what is refused -----------------------------------------------------------------------------------------------

ONES = np.ones(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: theory.isotropic_risk(0, 3), "n is 0: must be a whole number, 1 or more"),
        (lambda: theory.isotropic_risk(3, 0), "p is 0: must be"),
        (lambda: theory.isotropic_risk(3, -2), "p is -2: must be"),
        (lambda: theory.isotropic_risk(3, 9, noise=-0.1), "noise is -0.1: must be 0 or more"),
        (lambda: theory.isotropic_risk(3, 9, signal=math.nan), "signal is nan: must be"),
        (lambda: theory.asymptotic_risk(0.0), "gamma is 0.0: must be positive"),
        (lambda: theory.best_ridge(3, 4, signal=0), "signal is 0: must be positive"),
        (lambda: theory.equivalent(ONES, ONES, 2, ridge=-1.0), "ridge is -1.0: must be 0 or more, and finite"),
        (lambda: theory.equivalent(ONES, ONES, 0), "n is 0: must be"),
        (lambda: theory.equivalent(ONES, ONES, 4), "4 of them are above 0, as many as samples n = 4, and ridge is 0"),
        (lambda: theory.equivalent(np.r_[ONES, 0, 0], np.ones(6), 4), "4 of them are above 0"),
        (lambda: theory.equivalent(-ONES, ONES, 2), "eigenvalues from -1 to -1: must be 0 or more, and one above 0"),
        (lambda: theory.equivalent(0 * ONES, ONES, 2), "eigenvalues from 0 to 0: must be"),
        (lambda: theory.equivalent(ONES, np.ones(3), 2), r"have shapes \(4,\) and \(3,\): must be \(p,\)"),
        (lambda: theory.equivalent(np.array([1, math.inf]), np.ones(2), 1), "nan or infinity"),
        (lambda: theory.in_eigenbasis(np.ones((2, 3)), np.ones(2)), r"covariance has shape \(2, 3\): must be"),
        (lambda: theory.in_eigenbasis(-np.eye(2), np.ones(2)), "eigenvalues -1 to -1"),
        (lambda: theory.in_eigenbasis(np.eye(2), np.ones(3)), r"coefficients has shape \(3,\)"),
        (lambda: theory.effective_ranks(ONES, 3, b=0), "b is 0: must be positive"),
        (lambda: theory.relu_covariance(np.ones((2, 3))), "columns of norm 1"),
        (lambda: theory.relu_covariance(np.ones(3)), r"weights has shape \(3,\)"),
        (lambda: theory.relu_features_risk(np.eye(2), np.ones(3), 5), r"beta has shape \(3,\)"),
        (lambda: theory.aliasing(np.arange(3), np.ones(3), 0), "n is 0"),
        (lambda: theory.aliasing(np.arange(1, 4), np.ones(3), 2), "with 0 among them"),
        (lambda: theory.aliasing(np.arange(3), np.ones(2), 2), "weights has shape"),
        (lambda: theory.aliasing(np.arange(3), np.zeros(3), 2), "are all 0"),
        (lambda: theory.descent_risk(np.eye(2), np.ones(2), np.ones(1), step=9.0), "step is 9: must be at most 4"),
        (lambda: theory.descent_risk(np.eye(2), np.ones(2), -np.ones(1)), "times from -1: must be 0 or more"),
        (lambda: theory.descent_risk(np.eye(2), np.ones(3), np.ones(1)), r"must be \(n, p\), \(p,\), \(t,\)"),
        (lambda: study.isotropic(5, [3, 0], [0.1], [1]), "p is 0: must be a whole number, 1 or more"),
        (lambda: study.orders(5, [9], 8, 0.1, [1]), "p is 9: must be at most total = 8"),
        (lambda: study.ridges(5, [0], [1.0], 0.1, [1]), "p is 0: must be"),
        (lambda: study.excess("1/i", np.ones(9), 0, 0.1, [1]), "n is 0: must be"),
        (lambda: study.relu_features(3, 5, [0], 0.1, [1]), "N is 0: must be"),
        (lambda: study.images(two_blobs(), [40], [0], [0.0], [1]), "N is 0: must be"),
        (lambda: study.images(two_blobs(), [161], [9], [0.0], [1]), "n is 161: must be at most 160"),
        (lambda: study.line_errors(5, [0], [0.1], [1]), "p is 0: must be"),
        (lambda: study.validate({"counts": ([5, 20, 5], 10)}, [9], 99), r"counts is \[5, 20, 5\]: all must differ"),
        (
            lambda: study.validate({"counts": ([5, 9], 10)}, [9], 99),
            "counts is .*: must have numbers below",
        ),
        (lambda: study.validate({}, [9, 99], 99), r"spectrum_samples is \[9, 99\]: must be below spectrum_size = 99"),
        (lambda: study.validate({}, [400], 999), "must be below spectrum_size = 999 and 400"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)
