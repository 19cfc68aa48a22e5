"""The chapter's data, reduction, exact interpolators and kernels, against closed forms and slow oracles."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from phenomena.chapters.tempered_overfitting import theory as tempered
from phenomena.chapters.tempered_overfitting.two_layer import Networks, initial, outputs, train, train_lbfgs
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store.chapters import Project
from phenomena.science import label_noise

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def draw_1d(seeds=10, m=20, p=0.3, seed=0):
    g = generator(seed)
    return tempered.interval(seeds, m, g).squeeze(2), label_noise.flipped_signs(seeds, m, p, g, F64)


# --- data ------------------------------------------------------------------------------------------


def test_labels_are_flipped_with_probability_p():
    assert (label_noise.flipped_signs(3, 50, 0.0, generator()) == 1).all()
    y = label_noise.flipped_signs(100, 1000, 0.2, generator())
    assert set(y.unique().tolist()) == {-1.0, 1.0}
    assert (y < 0).double().mean().item() == pytest.approx(0.2, abs=0.005)


@pytest.mark.parametrize("p", [-0.01, 0.51, float("nan")])
def test_noise_outside_its_range_is_refused(p):
    with pytest.raises(ValueError, match=r"0 to 0\.5"):
        label_noise.flipped_signs(1, 1, p, generator())


@pytest.mark.parametrize("counts", [{"d": 0}, {"m": 0}, {"d": -3}, {"seeds": 0}, {"width": 0}])
def test_counts_below_one_are_refused(counts):
    with pytest.raises(ValueError, match="1 or more is accepted"):
        tempered.overfit(**({"d": 2, "m": 3, "p": 0.1, "seeds": 1} | counts), generator=generator())


def test_points_in_their_span_have_the_law_of_points_on_the_sphere():
    """Inner products of uniform points: u² ~ Beta(1/2, (d - 1)/2), so mean 1/d and fourth moment 3 / d (d +
    2).
    """
    d, m = 30, 8
    for x in (
        tempered.sphere_in_span(4000, m, d, generator(), F64),
        tempered.sphere(4000, m, d, generator(), F64),
    ):
        torch.testing.assert_close(x.norm(dim=2), torch.ones(4000, m, dtype=F64))
        inner = (x @ x.transpose(1, 2))[:, *torch.triu_indices(m, m, 1)]
        assert inner.mean().abs() < 4 * inner.std() / inner.numel() ** 0.5
        assert inner.square().mean().item() == pytest.approx(1 / d, rel=0.02)
        assert inner.pow(4).mean().item() == pytest.approx(3 / (d * (d + 2)), rel=0.05)
        # three points at once: E[u12 u23 u13] = 1 / d² for unit vectors
        triple = (
            inner.new_tensor([1.0])
            * (x[:, 0] * x[:, 1]).sum(1)
            * (x[:, 1] * x[:, 2]).sum(1)
            * (x[:, 0] * x[:, 2]).sum(1)
        )
        assert triple.mean().item() == pytest.approx(1 / d**2, abs=5 * triple.std().item() / 4000**0.5)
    assert tempered.sphere_in_span(1, 5, 10**9, generator()).shape == (1, 5, 5)
    assert tempered.sphere_in_span(1, 5, 3, generator()).shape == (1, 5, 3)


def test_fresh_points_have_norm_one_and_the_right_share_in_the_span():
    u, rest = tempered.fresh_points(20000, 4, 20, generator(), F64)
    torch.testing.assert_close(u.square().sum(1) + rest.square(), torch.ones(20000, dtype=F64))
    assert rest.square().mean().item() == pytest.approx(16 / 20, abs=0.005)
    assert u.square().mean(0) == pytest.approx([1 / 20] * 4, abs=0.003)
    u, rest = tempered.fresh_points(10, 3, 3, generator())
    assert (rest == 0).all() and u.shape == (10, 3)


# --- the reduction ---------------------------------------------------------------------------------


def test_training_in_the_span_is_training_in_full():
    """The same draw trained in d dimensions and in its span: equal weights inside, untouched weights
    outside.
    """
    s, m, d, j = 3, 8, 40, 25
    g = generator()
    x, y = tempered.sphere(s, m, d, g, F64), label_noise.flipped_signs(s, m, 0.3, g, F64)
    full = initial(s, d, j, g, dtype=F64)
    basis = torch.linalg.qr(x.transpose(1, 2)).Q  # (s, d, m)
    inside = Networks(basis.transpose(1, 2) @ full.w, full.b, full.v)
    a = train(full, x, y, 200, lr=1.0, momentum=0.9)
    b = train(inside, x @ basis, y, 200, lr=1.0, momentum=0.9)
    torch.testing.assert_close(basis.transpose(1, 2) @ a.net.w, b.net.w, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(a.net.v, b.net.v, rtol=1e-8, atol=1e-10)
    outside = torch.eye(d, dtype=F64) - basis @ basis.transpose(1, 2)
    torch.testing.assert_close(outside @ a.net.w, outside @ full.w, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_reduced_and_direct_clean_error_agree(bias):
    s, m, d, width, p = 300, 12, 60, 20, 0.3
    g = generator()
    reduced = tempered.overfit(d, m, p, s, g, width=width, bias=bias, points=300)
    x, y = tempered.sphere(s, m, d, g), label_noise.flipped_signs(s, m, p, g)
    trained = train(initial(s, d, width, g, bias=bias), x, y, 3000, lr=1.0, momentum=0.9, target=0.01)
    direct = (outputs(trained.net, tempered.sphere(s, 300, d, g)) <= 0).double().mean(1)
    spread = math.hypot(reduced.error.std().item(), direct.std().item()) / s**0.5
    assert abs(reduced.error.mean() - direct.mean()).item() < 4 * spread
    assert 0.02 < direct.mean() < 0.6 and spread < 0.02  # a comparison that could have failed


def test_clean_error_of_known_networks():
    g = generator()
    one = torch.ones(2, 1)
    always = Networks(torch.zeros(2, 3, 1), one, torch.tensor([[1.0], [-1.0]]))  # N = 1 and N = -1
    assert tempered.clean_error(always, 3, 100, g).tolist() == [0.0, 1.0]
    half = Networks(torch.tensor([[[1.0, -1.0], [0.0, 0.0]]]), None, torch.tensor([[1.0, -1.0]]))  # N = x_1
    assert tempered.clean_error(half, 2, 20000, g).item() == pytest.approx(0.5, abs=0.02)


def test_too_narrow_networks_are_counted_not_raised():
    result = tempered.overfit(2, 40, 0.4, 3, generator(), width=1, steps=100, points=10)
    assert not result.interpolates.any() and result.error.shape == (3,)
    on_the_line = tempered.overfit(1, 5, 0.0, 3, generator(), width=50, points=10)
    assert on_the_line.interpolates.all() and (on_the_line.error == 0).all()


def test_limit_without_bias():
    """The two-neuron network of the derivation, by simulation."""
    p, g = 0.2, generator()
    a, b = torch.randn(2, 10**6, generator=g) * torch.tensor([[1 - p], [p]]).sqrt()
    value = a.relu() - b.relu()
    assert (value <= 0).double().mean().item() == pytest.approx(tempered.bias_free_limit(p), abs=0.002)
    ties = ((value < 0).double() + 0.5 * (value == 0).double()).mean().item()
    assert ties == pytest.approx(tempered.bias_free_limit(p, random_ties=True), abs=0.002)
    assert tempered.bias_free_limit(0.0) == 0.5


# --- one dimension ---------------------------------------------------------------------------------


def test_min_norm_network_interpolates_with_margin_one():
    x, y = draw_1d()
    for xi, yi in zip(x, y, strict=True):
        found = tempered.min_norm_1d(xi, yi)
        assert found.converged and found.gap <= 1e-6
        margin = yi * outputs(found.net, xi.view(1, -1, 1))[0]
        assert margin.min() > 1 - 1e-7
        half = sum(q.square().sum() for q in found.net) / 2
        assert half.item() == pytest.approx(found.norm, rel=1e-6)


def test_min_norm_equals_a_dense_linear_programme():
    x, y = draw_1d(4, 6)
    angles = np.linspace(0, 2 * np.pi, 4001)
    for xi, yi in zip(x.numpy(), y.numpy(), strict=True):
        atoms = np.maximum(np.outer(xi, np.cos(angles)) + np.sin(angles), 0)
        signed = yi[:, None] * np.concatenate([atoms, -atoms], 1)
        dense = linprog(np.ones(2 * len(angles)), A_ub=-signed, b_ub=-np.ones(6), method="highs").fun
        exact = tempered.min_norm_1d(torch.from_numpy(xi), torch.from_numpy(yi)).norm
        assert exact <= dense * (1 + 1e-7)
        assert dense == pytest.approx(exact, rel=0.05)


def test_min_norm_of_one_point_is_known():
    """One point x: the neuron along (x, 1), so norm 1 / |(x, 1)|."""
    found = tempered.min_norm_1d(torch.tensor([2.0]), torch.tensor([-1.0]))
    assert found.norm == pytest.approx(5**-0.5, rel=1e-6)


def test_a_solver_out_of_rounds_says_so():
    x, y = draw_1d(1, 20)
    found = tempered.min_norm_1d(x[0], y[0], rounds=1)
    assert not found.converged and found.gap > 1e-6


def test_a_solver_that_fails_says_so(monkeypatch):
    class Failed:
        status = 4

    monkeypatch.setattr(tempered, "linprog", lambda *_, **__: Failed)
    x, y = draw_1d(1, 5)
    found = tempered.min_norm_1d(x[0], y[0])
    assert not found.converged and math.isnan(found.norm) and tempered.negative_share(found.net).isnan().all()


def test_no_trained_network_has_a_smaller_norm():
    x, y = draw_1d(6, 10)
    x = 2 * x - 1
    net = initial(6, 1, 20, generator(), scale=3.0, dtype=F64)
    trained = train_lbfgs(net, x.unsqueeze(2), y, 2000, target=0.01)
    margin = (y * outputs(trained.net, x.unsqueeze(2))).min(1).values
    fits = (margin > 0).nonzero().flatten().tolist()
    assert len(fits) >= 3
    for i in fits:
        one = Networks(*(q[i : i + 1] for q in trained.net))
        least = tempered.min_norm_1d(x[i], y[i]).norm
        assert sum(q.square().sum() for q in one).item() / 2 / margin[i].item() >= least * (1 - 1e-6)
        local, converged = tempered.max_margin_kkt_1d(one, x[i], y[i])
        if converged:
            assert (y[i] * outputs(local, x[i].view(1, -1, 1))[0]).min() > 1 - 1e-5
            assert sum(q.square().sum() for q in local).item() / 2 >= least * (1 - 1e-4)


def test_kkt_points_are_balanced_and_here_of_least_norm():
    """At a stationary point v_j² = w_j² + b_j² for every unit, kinks on data points included."""
    x, y = draw_1d(4, 6)
    x = 2 * x - 1
    trained = train_lbfgs(initial(4, 1, 12, generator(), scale=3.0, dtype=F64), x.unsqueeze(2), y, 1500, target=0.01)
    fits = (y * outputs(trained.net, x.unsqueeze(2)) > 0).all(1).nonzero().flatten().tolist()
    assert len(fits) >= 2
    for i in fits:
        point, converged = tempered.max_margin_kkt_1d(Networks(*(q[i : i + 1] for q in trained.net)), x[i], y[i])
        assert converged
        inner = point.w[:, 0].square() + point.b.square()
        torch.testing.assert_close(inner, point.v.square(), rtol=1e-3, atol=1e-3)
        norm = sum(q.square().sum() for q in point).item() / 2
        assert norm == pytest.approx(tempered.min_norm_1d(x[i], y[i]).norm, rel=1e-4)


def test_kkt_solver_refuses_a_network_that_does_not_interpolate():
    x, y = draw_1d(1, 6)
    net = Networks(torch.ones(1, 1, 2, dtype=F64), torch.ones(1, 2, dtype=F64), torch.zeros(1, 2, dtype=F64))
    with pytest.raises(ValueError, match="does not interpolate"):
        tempered.max_margin_kkt_1d(net, x[0], y[0])


def test_min_norm_classifier_has_the_sign_of_the_nearest_neighbour():
    """Observed, not proven: both cross zero in the middle of every pair of unlike neighbours."""
    x, y = draw_1d(30, 30)
    nearest = tempered.nearest_neighbour_share(x, y)
    for xi, yi, share in zip(x, y, nearest.tolist(), strict=True):
        assert tempered.negative_share(tempered.min_norm_1d(xi, yi).net).item() == pytest.approx(share, abs=1e-6)


def test_negative_share_of_known_networks():
    def net(w, b, v):
        return Networks(*(torch.tensor(q, dtype=F64) for q in ([[w]], [b], [v])))

    assert tempered.negative_share(net([1.0], [-0.3], [1.0])).item() == pytest.approx(0.3)  # relu(x - 0.3) is 0 before
    assert tempered.negative_share(net([1.0], [0.0], [-1.0])).item() == 1.0
    line = net([1.0, 0.0], [0.0, 1.0], [1.0, -0.25])  # x - 1/4
    assert tempered.negative_share(line).item() == pytest.approx(0.25)
    assert tempered.negative_share(line, -1.0, 1.0).item() == pytest.approx(0.625)
    many = initial(5, 1, 40, generator(), dtype=F64)
    grid = torch.linspace(0, 1, 20001, dtype=F64).view(1, -1, 1).expand(5, -1, 1)
    torch.testing.assert_close(
        tempered.negative_share(many), (outputs(many, grid) <= 0).double().mean(1), rtol=0, atol=1e-3
    )


def test_laws_of_one_and_of_two_flips():
    p, m = 0.3, 20
    x, y = draw_1d(20000, m, p)
    one, two = tempered.nearest_neighbour_share(x, y), tempered.two_flips_share(x, y)
    assert one.mean().item() == pytest.approx(p, abs=4 * one.std().item() / 20000**0.5)
    law = tempered.two_flips_law(p, m)
    assert two.mean().item() == pytest.approx(law, abs=4 * two.std().item() / 20000**0.5)
    assert tempered.two_flips_law(p, 10**9) == pytest.approx(p * p)


# --- kernels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kernel", list(tempered.KERNELS))
def test_kernels_are_symmetric_and_positive(kernel):
    x = tempered.sphere(1, 30, 4, generator(), F64)[0]
    gram = tempered.KERNELS[kernel](x, x)
    torch.testing.assert_close(gram, gram.T)
    assert torch.linalg.eigvalsh(gram)[0] > 0


def test_tangent_kernel_is_that_of_a_wide_network():
    """sum over parameters of dN/dtheta(a) dN/dtheta(b), at w, b, v ~ N(0, 1), times 2 / width."""
    g = generator()
    x = torch.randn(3, 2, generator=g, dtype=F64)
    w, b, v = (torch.randn(k, 400000, generator=g, dtype=F64) for k in (2, 1, 1))
    z = x @ w + b
    on, inner = (z > 0) * v, x @ x.T + 1
    kernel = 2 * (z.relu() @ z.relu().T + inner * (on @ on.T)) / z.shape[1]
    torch.testing.assert_close(tempered.relu_ntk(x, x), kernel, rtol=0.02, atol=0.02)


def test_kernel_regression_is_the_linear_solve():
    g = generator()
    x, q = tempered.sphere(1, 40, 3, g, F64)[0], tempered.sphere(1, 10, 3, g, F64)[0]
    y = label_noise.flipped_signs(1, 40, 0.3, g, F64)[0]
    values, residual = tempered.kernel_regression("laplace", x, y, x)
    torch.testing.assert_close(values, y)
    assert residual < 1e-10
    ridged, residual = tempered.kernel_regression("laplace", x, y, q, ridge=0.5)
    alpha = torch.linalg.solve(tempered.laplace(x, x) + 0.5 * torch.eye(40, dtype=F64), y)
    torch.testing.assert_close(ridged, tempered.laplace(q, x) @ alpha)
    assert residual > 0.01
    with pytest.raises(ValueError, match="not known"):
        tempered.kernel_regression("cubic", x, y, q)
    with pytest.raises(ValueError, match="ridge"):
        tempered.kernel_regression("laplace", x, y, q, ridge=-1.0)


def test_a_kernel_that_outruns_the_precision_shows_a_residual():
    g = generator()
    x, y = tempered.sphere(1, 300, 2, g, F64)[0], label_noise.flipped_signs(1, 300, 0.3, g, F64)[0]
    assert tempered.kernel_regression("gaussian", x, y, x[:5])[1] > 0.01


def test_ridgeless_laplace_on_the_circle_is_linear_interpolation():
    g, p = generator(), 0.2
    excess = []
    for _ in range(20):
        x, q = tempered.sphere(1, 300, 2, g, F64)[0], tempered.sphere(1, 500, 2, g, F64)[0]
        y = label_noise.flipped_signs(1, 300, p, g, F64)[0]
        excess.append((tempered.kernel_regression("laplace", x, y, q)[0] - (1 - 2 * p)).square().mean().item())
    assert np.mean(excess) == pytest.approx(tempered.tempered_excess(p, 2), abs=4 * np.std(excess) / 20**0.5)
    assert tempered.tempered_excess(p, 5) == pytest.approx(0.16)


def test_growth_and_its_label():
    sizes = torch.tensor([10, 20, 40, 80, 160, 320])
    excess = torch.stack([7 * sizes.double() ** -0.5, sizes.double() ** 0 * 3, sizes.double() ** 2])
    torch.testing.assert_close(tempered.growth(sizes, excess), torch.tensor([-0.5, 0.0, 2.0], dtype=F64))
    cases = [(-0.6, -0.2), (-0.1, 0.1), (0.2, 3.0), (-0.3, 0.3), (-0.2, 0.0)]
    assert [tempered.label(*c) for c in cases] == ["benign", "tempered", "catastrophic", "unclear", "unclear"]


def test_kkt_points_from_trained_networks():
    clean = tempered.overfit_kkt(6, 0.0, 2, torch.Generator().manual_seed(0), width=12)
    assert clean.interpolates.any()
    assert (clean.error[clean.interpolates] == 0).all()  # without noise nothing is called -1
    noisy = tempered.overfit_kkt(6, 0.3, 4, torch.Generator().manual_seed(0), width=12)
    assert noisy.interpolates.any()
    assert ((noisy.error >= 0) & (noisy.error <= 1)).all()
    with pytest.raises(ValueError, match="m is 0"):
        tempered.overfit_kkt(0, 0.1, 1, torch.Generator())


# --- the notebook ----------------------------------------------------------------------------------

CHAPTER = Project(Path(__file__).parents[2]).chapter("tempered_overfitting")


@pytest.mark.parametrize(
    "changed", [{"samples_levels": [2]}, {"kernel_sizes": [16, 32]}, {"kernel_sizes": [16, 32, 2000]}]
)
def test_sizes_that_no_study_can_use_are_refused_by_their_type(changed):
    with pytest.raises(BadInput, match=next(iter(changed))):
        CHAPTER.resolve("smoke", changed)


@pytest.mark.parametrize("changed", [{"flips": [0.0]}, {"flips": [0.4, 0.5]}, {"kernel_sizes": [16, 16, 32]}])
def test_lists_that_no_study_can_use_are_refused_before_the_data(changed):
    (cell,) = [cell for cell in CHAPTER.source.cells if cell.id == "check-lists"]
    exec(cell.source, CHAPTER.resolve("smoke"))
    with pytest.raises(ValueError, match=f"^{next(iter(changed))} is .* accepted$"):
        exec(cell.source, CHAPTER.resolve("smoke", changed))
