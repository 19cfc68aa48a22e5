"""Fields, flows, gradients, memory and densities against slow twins and closed forms; what is refused."""

import math
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.integrate import solve_ivp
from torchdiffeq import odeint

from phenomena.chapters.neural_ode import figures, study, theory
from phenomena.chapters.neural_ode.fields import Blocks, Classifier, Field, Flow, fit, fixed, losses
from phenomena.science import plots
from phenomena.science.datasets import Dataset

SMALL = study.Settings(points=40, test_points=60, width=8, solver_steps=3, iterations=10)


def generators(*seeds):
    return [torch.Generator().manual_seed(seed) for seed in seeds or (0,)]


def some_field(d=2, width=5, activation="tanh", seeds=(0, 1)):
    return Field(d, width, generators(*seeds), activation).double()


def points(*shape, seed=3):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- fields ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["tanh", "softplus", "relu"])
def test_a_field_is_the_layers_of_its_formula_seed_by_seed(activation):
    field, z, t = some_field(3, 5, activation), points(2, 4, 3), 0.3
    act = {"tanh": torch.tanh, "softplus": torch.nn.functional.softplus, "relu": torch.relu}[activation]
    for s in range(2):
        for row, found in zip(z[s], field(t, z)[s], strict=True):
            h = act(row @ field.w1[s] + t * field.u[s, 0] + field.b1[s, 0])
            h = act(h @ field.w2[s] + field.b2[s, 0])
            assert torch.allclose(found, h @ field.w3[s] + field.b3[s, 0])


@pytest.mark.parametrize("activation", ["tanh", "softplus", "relu"])
@pytest.mark.parametrize("d", [1, 2, 4])
def test_the_divergence_is_the_trace_of_the_jacobian(d, activation):
    field, z = some_field(d, 6, activation), points(2, 3, d)
    velocity, divergence = field.with_divergence(0.7, z)
    assert torch.allclose(velocity, field(0.7, z))
    for s in range(2):
        one = field.of(s)
        for row, found in zip(z[s], divergence[s], strict=True):
            jacobian = torch.autograd.functional.jacobian(lambda x, f=one: f(0.7, x[None, None])[0, 0], row)
            assert found.item() == pytest.approx(jacobian.trace().item(), abs=1e-12)


def test_the_field_of_a_seed_is_that_seed_alone_and_counts_for_itself():
    field, z = some_field(), points(2, 4, 2)
    both = field(0.1, z)
    one = field.of(1)
    assert torch.allclose(one(0.1, z[1:]), both[1:]) and one.evaluations == 1 and field.evaluations == 1
    alone = Field(2, 5, generators(1)).double()
    assert all(torch.equal(p[1:], q) for p, q in zip(field.parameters(), alone.parameters(), strict=True))


def test_one_euler_step_is_a_residual_block_of_the_same_weights():
    field, z = some_field(), points(2, 4, 2)
    blocks = Blocks(1, 2, 5, generators(0, 1)).double()
    blocks.blocks[0].load_state_dict(field.state_dict())
    assert torch.allclose(fixed(field, z, "euler", 1), blocks(z))


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("rk4", 4)])
def test_fixed_solvers_converge_at_their_order_to_scipy_s_flow(solver, order):
    field, z = some_field(seeds=(4,)), points(1, 1, 2)

    def velocity(t, y):
        with torch.no_grad():
            return field(t, torch.from_numpy(y).view(1, 1, 2)).flatten().numpy()

    exact = solve_ivp(velocity, (0, 1), z.flatten().numpy(), method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1]
    with torch.no_grad():
        errors = [np.abs(fixed(field, z, solver, n).flatten().numpy() - exact).max() for n in (4, 8)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.7)
    end, _ = study.solve(field, z, SMALL, 1e-8)
    assert end.flatten().numpy() == pytest.approx(exact, abs=1e-7)


def test_added_dimensions_start_at_zero_and_heads_read_all():
    model = Classifier(Blocks(1, 3, 4, generators()), 3, 2, generators())
    x = torch.ones(1, 2, 2)
    assert model.pad(x)[..., 2].eq(0).all() and model.pad(x)[..., :2].eq(1).all()
    assert torch.allclose(model(x), model.head(model.body(model.pad(x))))


def test_losses_are_cross_entropies_of_each_seed():
    logits, labels = points(2, 5, 3).float(), torch.tensor([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0]])
    each = [torch.nn.functional.cross_entropy(a, b).item() for a, b in zip(logits, labels, strict=True)]
    assert losses(logits, labels).tolist() == pytest.approx(each)


def test_training_says_when_it_diverges():
    field, z = Field(2, 4, generators()), torch.randn(1, 5, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(FloatingPointError, match=r"the loss is (nan|inf) after \d+ steps: lower rate \(now 1000\)"):
        fit(
            field.parameters(),
            lambda: fixed(field, z).exp().mean((1, 2)) + fixed(field, z).pow(9).sum((1, 2)),
            50,
            1000,
        )


# --- data ------------------------------------------------------------------------------------------------------------


def test_rings_are_a_disc_and_a_ring_with_a_gap():
    x, y = study.rings(4000, torch.Generator().manual_seed(0))
    radius = x.norm(dim=1)
    assert radius[y == 0].max() <= 0.5 and radius[y == 1].min() >= 1 and radius[y == 1].max() <= 1.5
    assert (radius[y == 0] < 0.25).float().mean() == pytest.approx(0.25, abs=0.05)  # uniform by area
    grid, labels = study.polar_grid(10)
    assert ((grid.norm(dim=1) > 0.75).long() == labels).all() and labels.float().mean() == 0.5


def test_moons_have_the_density_of_the_formula():
    side = torch.linspace(-2.5, 2.5, 126, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    mass = theory.moons_log_density(grid).exp() * 0.04**2
    assert mass.sum().item() == pytest.approx(1, abs=1e-4)
    x, y = study.moons(20_000, torch.Generator().manual_seed(1))
    mean = (mass[:, None] * grid).sum(0)
    assert torch.allclose(x.double().mean(0), mean, atol=0.03)
    assert (mass * grid.square().sum(1)).sum().item() == pytest.approx(x.square().sum(1).mean().item(), rel=0.02)
    assert y.float().mean() == pytest.approx(0.5, abs=0.02)
    finer = theory.moons_log_density(x[:200].double(), nodes=2000)
    assert theory.moons_log_density(x[:200].double()).numpy() == pytest.approx(finer.numpy(), abs=3e-3)


def test_images_are_their_principal_components():
    x, y, x_test, _ = study.draw("digits", replace(SMALL, points=300, components=4), 0)
    assert x.shape == (300, 4) and x_test.shape == (60, 4) and y.max() <= 9
    covariance = torch.cov(x.T.double(), correction=0)
    assert covariance[0, 0].item() == pytest.approx(1, abs=1e-5)
    assert (covariance - covariance.diag().diag()).abs().max() < 1e-5
    assert (covariance.diag().diff() <= 0).all()


# --- solvers and gradients -------------------------------------------------------------------------------------------


def test_evaluations_are_counted_with_rejected_steps():
    field, z = some_field(seeds=(0,)), points(1, 6, 2)
    for weight in (field.w1, field.w2, field.w3):
        weight.data *= 6  # steep, so that steps are rejected
    seen = {"accepted": 0, "rejected": 0}

    class Watched(torch.nn.Module):
        def forward(self, t, y):
            return field(t, y)

        def callback_accept_step(self, *_):
            seen["accepted"] += 1

        def callback_reject_step(self, *_):
            seen["rejected"] += 1

    with torch.no_grad():
        odeint(Watched(), z, study.span(), rtol=1e-5, atol=1e-5, method="dopri5")
    assert seen["rejected"] > 0
    assert field.evaluations == theory.evaluations(seen["accepted"] + seen["rejected"])


def test_the_adjoint_s_gradient_and_the_solver_s_agree_at_a_fine_tolerance():
    learned = study.learn("rings", SMALL, [900])
    field, start, loss = study._one(learned, 0)
    direct, _, none = study.gradient(field, start, loss, 1e-9, adjoint=False)
    adjoint, forward, backward = study.gradient(field, start, loss, 1e-9)
    assert none == 0 and forward > 8 and backward > 8
    assert study.relative(adjoint, direct) < 1e-6
    step, parameter = 1e-5, field.w2
    with torch.no_grad():
        values = []
        for sign in (1, -1):
            parameter[0, 0, 0] += sign * step
            values.append(loss(study.solve(field, start, SMALL, 1e-9)[0]).item())
            parameter[0, 0, 0] -= sign * step
    place = sum(p.numel() for p in (field.w1, field.u, field.b1))
    assert adjoint[place].item() == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-4)


def test_by_tolerance_errors_fall_and_costs_rise():
    learned = study.learn("moons", replace(SMALL, iterations=40), [900, 901])
    frame = study.by_tolerance(learned, SMALL, [1e-2, 1e-6], lsoda=[1e-6]).groupby("tolerance").mean()
    assert frame["error"][1e-6] < frame["error"][1e-2] / 100
    assert frame["off"][1e-6] < 1e-3 and frame["missed"][1e-6] < 1e-3
    assert frame["forward"][1e-6] > frame["forward"][1e-2]
    assert frame["lsoda"].isna().tolist() == [False, True]


def test_the_four_ways_to_the_gradient_agree_at_a_fine_tolerance():
    learned = study.learn("rings", SMALL, [900])
    fine = study.reasons(learned, SMALL, 1e-7)
    assert len(fine) == 4 and fine["off"].max() < 1e-3
    rough = study.reasons(learned, SMALL, 1e-2)
    assert rough["off"].mean() > fine["off"].mean()


def test_a_path_is_interpolated_to_the_fourth_order_and_held_at_its_ends():
    learned = study.learn("rings", SMALL, [900])
    field, start, _ = study._one(learned, 0)
    path, speed = study._path(field, start, SMALL, 32)
    half, _ = study._path(field, start, SMALL, 64)
    assert torch.allclose(study._between(path, speed, 3 / 64), half[3], atol=1e-7)
    assert torch.equal(study._between(path, speed, -5.0), path[0])
    assert torch.allclose(study._between(path, speed, 7.0), path[-1])


def test_a_single_point_never_needs_more_than_it_was_counted_for():
    learned = study.learn("rings", SMALL, [900])
    frame = study.by_input(learned, SMALL, count=3)
    assert (frame["least"] <= frame["most"]).all() and frame["spread"].min() >= 1
    assert ((frame[["least", "most"]] - 2) % 6 == 0).all().all()


# --- memory ----------------------------------------------------------------------------------------------------------


def test_saved_tensors_are_counted_while_they_live():
    x = torch.ones(1000, dtype=torch.float64, requires_grad=True)

    def chain(links):
        def work():
            y = x
            for _ in range(links):
                y = y.exp()
            y.sum().backward()

        return study.peak_saved(work)

    def one_after_another():
        for _ in range(3):
            x.exp().sum().backward()

    assert [chain(n) for n in (1, 2, 5)] == [8000, 16000, 40000]
    assert study.peak_saved(one_after_another) == 8000


def test_memory_is_linear_through_the_solver_and_constant_by_the_adjoint():
    learned = study.learn("moons", SMALL, [900, 901, 902])
    frame = study.memory(learned, [4, 8, 16])
    assert frame["seed"].nunique() == 2
    means = frame.groupby(["method", "steps"])["bytes"].mean()
    step = (means["through the solver", 16] - means["through the solver", 8]) / 8
    assert step == pytest.approx(4 * theory.evaluation_bytes(40, 2, 8), rel=0.01)
    assert means["adjoint"].nunique() == 1 and means["adjoint", 4] < means["through the solver", 4]
    slopes = study.growth(frame, theory.evaluation_bytes(40, 2, 8)).groupby("method").mean()
    assert slopes["slope"]["adjoint"] == 0 and abs(slopes["off"]["through the solver"]) < 0.01


# --- what a flow can do ----------------------------------------------------------------------------------------------


def test_flows_keep_orientation_and_a_fold_is_seen():
    learned = study.learn("rings", SMALL, [900, 901])
    flow = study.folds(learned)
    assert flow["folded"].eq(0).all() and flow["stretch"].min() > 0

    class Fold(torch.nn.Module):
        def forward(self, z):
            return torch.stack([z[..., 0].abs(), 3 * z[..., 1]], -1)

    folded = study.folds(replace(learned, model=Classifier(Fold(), 2, 2, generators(0, 1))), count=10)
    assert folded["folded"].tolist() == [0.5, 0.5]
    assert folded["stretch"].tolist() == pytest.approx([3, 3])
    lifted = study.folds(study.learn("rings", SMALL, [900], extra=1))
    assert lifted["folded"].isna().all() and lifted["stretch"].notna().all()


def test_the_determinant_is_the_exponential_of_the_divergence():
    learned = study.learn("rings", replace(SMALL, solver_steps=40), [900])
    x = study.square_grid(4, 1.0).double()
    log_det = torch.linalg.det(study.jacobians(learned, x))[0].log()
    field = learned.field.of(0)
    with torch.no_grad():
        z = fixed(field, x[None], "rk4", 40)
        gained = study.log_density(field, x[None], "rk4", 40) + (z.square().sum(-1) + 2 * math.log(2 * math.pi)) / 2
    assert log_det.numpy() == pytest.approx(gained[0].numpy(), abs=1e-4)


def test_the_grid_counts_what_is_misclassified():
    learned = study.learn("rings", SMALL, [900])

    class Radius(torch.nn.Module):
        def forward(self, z):
            return torch.stack([z.norm(dim=-1) - 0.75, torch.zeros_like(z[..., 0])], -1)

    model = Classifier(Radius(), 2, 2, generators())
    model.weight.data = torch.tensor([[[-1.0, 1.0], [0.0, 0.0]]])
    model.bias.data.zero_()
    right = study.on_grid(replace(learned, model=model), count=5)
    model.weight.data *= -1
    wrong = study.on_grid(replace(learned, model=model), count=5)
    assert right[["errs", "share"]].values.tolist() == [[0, 0]]
    assert wrong[["errs", "share"]].values.tolist() == [[1, 1]]


def test_training_separates_rings_with_an_added_dimension():
    settings = study.Settings(iterations=60, test_points=200, rate=0.02, solver_steps=4)
    learned = study.learn("rings", settings, [900, 901], extra=1)
    last = learned.frame[learned.frame["step"] == 60]
    assert last["accuracy"].mean() > 0.9 and last["evaluations"].mean() > 20
    before, after = study.motion(learned, False), study.motion(learned)
    assert torch.equal(before.grid[0], after.grid[0]) and not torch.equal(before.grid[-1], after.grid[-1])
    assert ((after.score[-1] > 0).long() == after.labels).float().mean() > 0.8
    pd.testing.assert_frame_equal(study.learn("rings", SMALL, [900]).frame, study.learn("rings", SMALL, [900]).frame)


# --- densities -------------------------------------------------------------------------------------------------------


def test_a_flow_s_density_is_the_noise_s_under_a_linear_field():
    """f = k z for small z by a tanh field of tiny inputs: log p = log N(e^k x) + 2 k."""
    field = some_field(2, 2, seeds=(0,))
    with torch.no_grad():
        for p in field.parameters():
            p.zero_()
        eye = torch.eye(2, dtype=torch.float64)
        field.w1 += 1e-4 * eye
        field.w2 += eye
        field.w3 += 0.5e4 * eye
        x = points(1, 5, 2)
        found = study.log_density(field, x, "rk4", 20)
    scale = math.exp(0.5)
    exact = theory.gaussian_log_density(scale * x[0], torch.zeros(2, dtype=torch.float64), eye) + 1.0
    assert found[0].numpy() == pytest.approx(exact.numpy(), abs=1e-5)


def test_fitted_densities_are_ordered_and_invert():
    settings = replace(SMALL, width=16, rate=0.01)
    fitted = study.density(settings, [900, 901], 200, 40)
    means = fitted.frame.groupby("model")["log_density"].mean()
    assert means["exact"] > means["mixture of 2"] > means["Gaussian"]
    assert means["exact"] > means["flow"] > -4
    frame = study.invertibility(fitted, settings, [1e-2, 1e-6], count=20).groupby("tolerance").mean()
    assert frame["missed"][1e-6] < 1e-4 < frame["missed"][1e-2] + 1e-4
    assert frame["mass"].iloc[0] == pytest.approx(1, abs=0.05)


# --- figures and refusals --------------------------------------------------------------------------------------------


def test_the_third_dimension_is_seen_from_above_and_the_frame_follows():
    sheet = torch.zeros(2, 4, 3)
    sheet[1, :, 2] = 1
    seen = figures._seen(sheet)
    assert (seen[0] == 0).all() and (seen[1, :, 1] > 0).all() and (seen[1, :, 0] == 0).all()
    flat = figures._seen(points(2, 4, 2))
    assert flat.shape == (2, 4, 2)
    plots.start()
    learned = study.learn("rings", SMALL, [900])
    grid, dots, half = figures._views(study.motion(learned, nodes=5, points=7, times=3))
    assert np.abs(np.concatenate([grid, dots], 1)).max() == pytest.approx(1) and (half > 0).all()


GOOD = {"settings": SMALL, "dataset": "moons", "tolerances": [1e-2], "coarse": 1e-3, "depths": [2, 4], "extra": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": 0}, "extra is 0: must be 1 or more"),
        ({"extra": -1}, "extra is -1: must be 1 or more"),
        ({"settings": replace(SMALL, solver_steps=0)}, "solver_steps is 0, depths is [2, 4]: must be 1 or more"),
        ({"depths": [0, 4]}, "depths is [0, 4]: must be 1 or more"),
        ({"depths": [4]}, "depths is [4]: must be two or more that differ"),
        ({"tolerances": [0.0]}, "a tolerance is 0: must be 1e-07 or more"),
        ({"settings": replace(SMALL, tolerance=1e-12)}, "a tolerance is 1e-12: must be 1e-07 or more"),
        ({"tolerances": [1e-2, 1e-2]}, "the first must differ"),
        ({"coarse": 1e-6}, "tolerance be less than coarse"),
        ({"settings": replace(SMALL, components=41)}, "components is 41: there are 40 points"),
        ({"dataset": "digits", "settings": replace(SMALL, test_points=501)}, "test_points is 501: digits has 500"),
        ({"dataset": "digitz"}, "data set 'digitz' is not known"),
    ],
)
def test_values_that_do_not_go_together_are_refused(change, message):
    study.validate(**GOOD)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        study.validate(**GOOD | change)
    assert "\n" not in str(raised.value)


def steep():
    """A field of positive weights, whose flow grows by a factor beyond all numbers."""
    field = some_field(seeds=(0,), activation="relu")
    with torch.no_grad():
        for weight in (field.w1, field.w2, field.w3):
            weight.copy_(1e3 * weight.abs())
    return field


ONE_CLASS = Dataset(torch.zeros(60, 4), torch.zeros(60).long(), torch.zeros(60, 4), torch.zeros(60).long(), 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Field(0, 3, generators()), "0 dimensions, width 3, 1 seeds: must each be 1 or more"),
        (lambda: Field(2, 0, generators()), "width 0"),
        (lambda: Flow(some_field(), "rk4", 0), "solver_steps is 0: must be 1 or more"),
        (lambda: study.learn("rings", SMALL, [0], extra=-1), "extra is -1, blocks is 0: must be 0 or more"),
        (lambda: study.check_images(ONE_CLASS, replace(SMALL, components=2), "mine"), "mine has 1 class"),
        (lambda: theory.evaluations(0), "0 attempts of 'dopri5'"),
        (lambda: theory.evaluations(1, "rk4"), "one of dopri5, bosh3, dopri8"),
        (lambda: theory.moons_log_density(points(1, 2), noise=0.0), "noise is 0.0: must be above 0"),
        (lambda: study.solve(steep(), points(1, 3, 2).abs(), SMALL, 1e-3), "the solver gives up at tolerance 0.001"),
    ],
)
def test_bad_values_are_refused_in_one_line(call, message):
    with pytest.raises((ValueError, FloatingPointError), match=re.escape(message)) as raised:
        call()
    assert "\n" not in str(raised.value)
