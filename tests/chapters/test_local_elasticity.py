"""The equation against SciPy's integrator and its exact law, estimators by inversion, LeNets against PyTorch."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from phenomena.chapters.local_elasticity import neural_collapse
from phenomena.chapters.local_elasticity import theory as elastic
from phenomena.runs.contract import notebook as notebook_side
from phenomena.runs.store.chapters import Project
from phenomena.science import datasets, geomnist, label_noise

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=F64)


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize("r", [0.0, 0.5, 1.0, 1.0 + 1e-9, 1.7])
def test_integrated_power_is_the_integral(r):
    t = torch.linspace(1, 50, 200_001, dtype=F64)
    expected = torch.trapezoid(3 * t**-r, t).item()
    assert elastic.integrated_power(t, r, 3.0)[-1].item() == pytest.approx(expected, rel=1e-7)
    assert elastic.integrated_power(t, r)[0] == 0


@pytest.mark.parametrize("k", [2, 3, 5])
def test_i_model_is_the_integrated_equation(k):
    """With impacts that cross: the closed form holds for any alpha and beta."""
    t = torch.linspace(0, 3, 7, dtype=F64)
    x0 = random(k, 4)
    a, b = 2 * t.sin(), 0.3 * t - 0.2 * t**2
    expected = elastic.integrate(x0, lambda u: 2 * math.cos(u), lambda u: 0.3 - 0.4 * u, t, "I")
    torch.testing.assert_close(elastic.i_model(x0, a, b), expected, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("ratio", [-0.5, 0.0, 0.7, 1.0])
def test_l_model_is_the_integrated_equation_on_any_grid_for_a_constant_ratio(k, ratio):
    t = torch.linspace(0, 4, 5, dtype=F64)
    x0 = random(k, k)
    a = 3 * t.sin()
    expected = elastic.integrate(x0, lambda u: 3 * math.cos(u), lambda u: 3 * ratio * math.cos(u), t, "L")
    torch.testing.assert_close(elastic.l_model(x0, a, ratio * a), expected, rtol=1e-8, atol=1e-8)


def test_l_model_converges_to_the_integrated_equation_for_any_impacts():
    x0 = random(4, 4)
    errors = []
    for count in (51, 101):
        t = torch.linspace(0, 3, count, dtype=F64)
        found = elastic.l_model(x0, 2 * t.sin(), 0.3 * t - 0.2 * t**2)[-1]
        expected = elastic.integrate(x0, lambda u: 2 * math.cos(u), lambda u: 0.3 - 0.4 * u, t, "L")[-1]
        errors.append((found - expected).norm().item() / expected.norm().item())
    assert errors[0] < 2e-3 and errors[1] < 0.3 * errors[0]  # second order


def test_drift_is_the_sum_written_in_the_paper():
    k, x = 3, random(3, 3)
    d = elastic.targets(k)
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
            torch.testing.assert_close(elastic.drift(x, 1.3, -0.4, model)[row], expected)


def test_batches_of_starts_are_single_starts():
    x0, t = random(6, 3, 3), torch.linspace(0, 1, 4, dtype=F64)
    for solve in (elastic.i_model, elastic.l_model):
        together = solve(x0, 2 * t, -t)
        assert together.shape == (6, 4, 3, 3)
        torch.testing.assert_close(together[4], solve(x0[4], 2 * t, -t))


@pytest.mark.parametrize(("ratio", "collapses"), [(-0.5, True), (0.0, False), (0.5, False)])
def test_l_model_ends_in_the_simplex_of_the_labels_exactly_for_negative_beta(ratio, collapses):
    a = torch.linspace(0, 300, 100, dtype=F64)
    for k in (3, 5):
        x0 = random(k, k)
        x0 *= (x0 * elastic.targets(k)).sum().sign()  # a negative mean score ends in the mirrored simplex
        means = elastic.l_model(x0, a, ratio * a)[-1]
        norms, angles = neural_collapse.simplex(means)
        duality = neural_collapse.duality(elastic.targets(k), means)
        assert (duality < 1e-3) == collapses
        # with three classes any triangle of the other mode is equilateral too, only turned away from the labels
        assert (max(norms, angles) < 1e-3) == (collapses or (k == 3 and ratio > 0))


def test_i_model_keeps_its_angles():
    a = torch.linspace(0, 30, 3, dtype=F64)
    _, angles = neural_collapse.simplex(elastic.i_model(random(4, 4), a, -a))
    torch.testing.assert_close(angles, angles[:1].expand(3))


# --- paths ----------------------------------------------------------------------------------------


def test_paths_without_noise_are_the_equation():
    x0, t = random(2, 3, 3), torch.linspace(1, 5, 4001, dtype=F64)
    a, b = elastic.integrated_power(t, 0.5), elastic.integrated_power(t, 1.5, -0.5)
    for model, solve in (("I", elastic.i_model), ("L", elastic.l_model)):
        found = elastic.simulate(x0, a, b, t, 0.0, 5, generator(), model)
        torch.testing.assert_close(found[:, -1], solve(x0, a, b)[:, -1], rtol=1e-3, atol=1e-3)


def test_paths_have_the_variance_of_the_exact_law():
    """Distances of class means: variance sigma²/n (1 - 1/K) integral of exp(2 (G(T) - G(u)))."""
    t = torch.linspace(1, 20, 400, dtype=F64)
    a = elastic.integrated_power(t, 1.0, 1.5)
    means = elastic.simulate(torch.zeros(4000, 3, 2, dtype=F64), a, 0 * a, t, 2.0, 5, generator(), "I")[:, -1]
    rest = means - means.mean(1, keepdim=True)
    g = a / 3
    expected = 4 / 5 * (2 / 3) * torch.trapezoid((2 * (g[-1] - g)).exp(), t).item()
    assert rest.var().item() == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("r", [0.8, 1.0])
def test_stepped_and_exact_separation_agree(r):
    t = torch.linspace(1, 60, 1200, dtype=F64)
    a = elastic.integrated_power(t, r, 1.5)
    x0 = random(2000, 3, 3)
    exact = elastic.exact_separation(a[None], t, x0, 1.0, 6, generator(1)).double().mean().item()
    means = elastic.simulate(x0, a, 0 * a, t, 1.0, 6, generator(2), "I")[:, -1]
    spread = torch.full((2000,), 59**0.5, dtype=F64)
    stepped = elastic.separated(means, spread, 6, generator(3)).double().mean().item()
    assert 0.1 < exact < 0.99  # a comparison that could have failed
    assert abs(stepped - exact) < 4 * (2 * 0.25 / 2000) ** 0.5


def test_exact_separation_obeys_the_theorem_and_does_not_overflow():
    t = torch.logspace(0, 12, 2000, dtype=F64)
    impacts = {r: elastic.integrated_power(t, r) for r in (0.2, 0.8, 1.4)}
    gaps = torch.stack([impacts[0.2], impacts[0.8] - impacts[1.4], impacts[1.4], impacts[0.8] - impacts[0.2]])
    share = elastic.exact_separation(gaps, t, random(200, 3, 3), 1.0, 5, generator()).double().mean(1)
    assert share[0] == 1 and share[1] > 0.98
    assert share[2] < 0.02 and share[3] < 0.02


def test_long_steps_of_the_stochastic_equation_are_refused():
    t = torch.linspace(1, 101, 11, dtype=F64)
    with pytest.raises(ValueError, match=r"multiplies a mode by 1 ± 3\.33, at most 1 ± 1 is accepted: take 7 times"):
        elastic.simulate(random(1, 3, 3), t - 1, 0 * t, t, 1.0, 5, generator(), "I")
    with pytest.raises(ValueError, match="multiplies a mode"):
        elastic.simulate(random(1, 3, 3), 0 * t, t - 1, t, 1.0, 5, generator(), "L")


# --- estimates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("model", ["I", "L"])
def test_estimated_impacts_are_those_put_in(k, model):
    t = torch.linspace(0, 2, 30, dtype=F64)
    a, b = 3 * t, -0.7 * t
    means = {"I": elastic.i_model, "L": elastic.l_model}[model](random(3, k, k), a, b)
    found_a, found_b = elastic.estimate(means, model)
    torch.testing.assert_close(found_a, a.expand(3, -1))
    torch.testing.assert_close(found_b, b.expand(3, -1))


def test_estimator_of_the_i_model_is_the_product_formula():
    """exp(A) = m (X_k - m)^(K-1) / (c_0 c_k^(K-1)), exp(-B) = (c_0 / c_k) (X_k - m) / m, by coordinates."""
    x = random(2, 3, 3).abs().cumsum(0) + torch.eye(3)
    a, b = elastic.estimate(x, "I")
    m, m0 = x[1].mean(0), x[0].mean(0)
    rest, rest0 = x[1] - m, x[0] - m0
    torch.testing.assert_close(a[1], (m * rest**2 / (m0 * rest0**2)).abs().log().mean())
    torch.testing.assert_close(b[1], -((m0 / rest0) * rest / m).abs().log().mean())


def test_estimator_of_the_l_model_is_the_formula_for_three_classes():
    """A = (P + 2 Q) / 3 and B = 2 (Q - P) / 3 with the scores' growth P along their mean and Q across, written out."""
    x = random(2, 3, 3) + 2 * torch.eye(3)
    a, b = elastic.estimate(x, "L")
    z = torch.stack([x[:, k, k] - x[:, k].mean(1) for k in range(3)], 1)  # d_k . X_k
    mean, rest = z.mean(1), z - z.mean(1, keepdim=True)
    p, q = 3 * (mean[1] / mean[0]).abs().log(), 3 * (rest[1] / rest[0]).abs().log().mean()
    torch.testing.assert_close(torch.stack([a[1], b[1]]), torch.stack([(p + 2 * q) / 3, 2 * (q - p) / 3]))


def test_derivative_of_a_parabola_is_exact():
    t = torch.arange(0, 1000, 10, dtype=F64)
    torch.testing.assert_close(elastic.derivative(t**2 / 100, 75, 10), t / 50)


@pytest.mark.parametrize("window", [20, 2000])
def test_window_longer_than_the_record_or_too_short_is_refused(window):
    with pytest.raises(ValueError, match=rf"a window of {window} steps is \d+ values, one every 10: 3 to 100"):
        elastic.derivative(torch.zeros(100, dtype=F64), window, 10)


def test_tail_index_of_a_power():
    t = torch.arange(0, 10001, 50, dtype=F64)
    found = elastic.tail_index(torch.stack([t**0.3, t**0.9]), t, 1000)
    assert found.r.tolist() == pytest.approx([0.7, 0.1]) and not found.marked.any()
    assert found.spread.max() < 1e-12
    with pytest.raises(ValueError, match="a window of 20000 steps is longer than the record of 10000"):
        elastic.tail_index(t, t, 20000)


def test_tail_index_near_zero_is_marked_with_a_finite_spread():
    t = torch.arange(0, 10001, 50, dtype=F64)
    crossing = (t - 9500) / 500  # changes its sign within the window
    small, negative, fine = torch.full_like(t, 0.5), torch.full_like(t, -20.0), torch.full_like(t, 20.0)
    found = elastic.tail_index(torch.stack([crossing, small, negative, fine]), t, 1000)
    assert found.marked.tolist() == [True, True, False, False]
    assert found.r.isfinite().all() and found.spread[0] > 0.02 > found.spread[3]


def test_classes_below_two_are_refused():
    for call in (
        lambda: elastic.targets(1),
        lambda: elastic.estimate(torch.ones(4, 1, 1), "I"),
        lambda: elastic.i_model(torch.ones(1, 1), torch.zeros(2), torch.zeros(2)),
        lambda: label_noise.corrupt_evenly(torch.zeros(4, dtype=torch.int64), 0.1, 1, generator()),
    ):
        with pytest.raises(ValueError, match="1 classes: 2 or more"):
            call()
    with pytest.raises(ValueError, match="2 features, the L-model needs as many as classes: 3"):
        elastic.l_model(torch.ones(3, 2, dtype=F64), torch.zeros(2, dtype=F64), torch.zeros(2, dtype=F64))
    with pytest.raises(ValueError, match="4 features, expected as many as classes: 3"):
        elastic.estimate(torch.ones(5, 3, 4), "I")


# --- labels and images ----------------------------------------------------------------------------


def test_wrong_labels_are_as_many_as_said_and_spread_evenly():
    labels = torch.arange(3).repeat(500)
    noisy = label_noise.corrupt_evenly(labels, 0.3, 3, generator())
    table = torch.zeros(3, 3).index_put_((labels, noisy), torch.ones(1500), accumulate=True)
    assert table.tolist() == [[350, 75, 75], [75, 350, 75], [75, 75, 350]]
    assert torch.equal(label_noise.corrupt_evenly(labels, 0.0, 3, generator()), labels)


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_shares_outside_their_range_are_refused(p):
    with pytest.raises(ValueError, match="0 or more and below 1"):
        label_noise.corrupt_evenly(torch.arange(3), p, 3, generator())


def test_choice_of_classes_from_a_data_set():
    part = elastic.choose(datasets.digits(), 3, 40, 20, generator())
    assert part.x_train.shape == (120, 1, 32, 32) and part.x_test.shape == (60, 1, 32, 32)
    assert part.y_train.bincount().tolist() == [40] * 3 and part.classes == 3
    assert part.x_train[:, :, 12:20, 12:20].sum() == part.x_train.sum() > 0  # 8 x 8 in the middle
    with pytest.raises(ValueError, match="11 classes: 2 to 10"):
        elastic.choose(datasets.digits(), 11, 4, 2, generator())
    with pytest.raises(ValueError, match=r"4000 images of class 0 asked for, 1 to \d+ are there"):
        elastic.choose(datasets.digits(), 3, 4000, 2, generator())
    signals = datasets.Dataset(
        torch.zeros(9, 1, 40), torch.arange(9) % 3, torch.zeros(9, 1, 40), torch.arange(9) % 3, 3
    )
    with pytest.raises(ValueError, match="up to 32 x 32"):
        elastic.choose(signals, 3, 4, 2, generator())


# --- networks -------------------------------------------------------------------------------------


def setting(channels=1, classes=3, seeds=3, steps=60, dtype=F64):
    g = generator()
    x, y = geomnist.generate(15, classes, g)
    x = (x * torch.rand(channels, 1, 1, generator=g)).to(dtype)
    labels = torch.stack([label_noise.corrupt_evenly(y, p, classes, g) for p in (0.0, 0.3, 0.6)[:seeds]])
    net = {name: p.to(dtype) for name, p in elastic.lenet(seeds, channels, classes, g).items()}
    return net, x, y, labels, torch.randint(len(x), (seeds, steps), generator=g)


@pytest.mark.parametrize(("channels", "classes"), [(1, 3), (3, 4)])
def test_training_at_once_is_training_one_by_one(channels, classes):
    net, x, _, labels, order = setting(channels, classes)
    before = {name: p.clone() for name, p in net.items()}
    fast, slow = (
        train(net, x, labels, order, lr=0.02, every=25, observed=x[:7])
        for train in (elastic.train, elastic.train_readable)
    )
    assert fast.times.tolist() == slow.times.tolist() == [0, 25, 50, 60]
    assert fast.looks.shape == (3, 4, 7, classes) and fast.seen.shape == (3, 60, classes)
    for a, b in ((fast.seen, slow.seen), (fast.looks, slow.looks), *((fast.net[n], slow.net[n]) for n in net)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    assert all(torch.equal(net[name], before[name]) for name in net), "the start is left as it is"
    assert (fast.net["conv1"] - net["conv1"]).abs().max() > 1e-4  # and something was learned


def test_float32_stays_close_and_a_part_is_the_same_to_the_bit():
    net, x, _, labels, order = setting(dtype=torch.float32)
    labels, order = labels[[0, 1, 2, 0, 1]], order[[0, 1, 2, 2, 0]]
    net = elastic.lenet(5, 1, 3, generator(1))
    settings = {"lr": 0.02, "every": 60, "observed": x[:7]}
    single = elastic.train(net, x, labels, order, **settings)
    double = elastic.train({k: v.double() for k, v in net.items()}, x.double(), labels, order, lr=0.02, every=60,
                           observed=x[:7].double())  # fmt: skip
    torch.testing.assert_close(single.looks.double(), double.looks, rtol=1e-3, atol=1e-5)
    again = elastic.train(net, x, labels, order, **settings)
    assert torch.equal(single.looks, again.looks)
    part = elastic.train({k: v[:2] for k, v in net.items()}, x, labels[:2], order[:2], **settings)
    assert torch.equal(part.looks, single.looks[:2]) and torch.equal(part.seen, single.seen[:2])


def test_logits_are_those_of_a_torch_module():
    net, x, *_ = setting(seeds=2, dtype=torch.float32)
    from torch import nn

    module = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 3),
    )  # fmt: skip
    assert [p.shape for p in module.parameters()] == [p.shape[1:] for p in net.values()]
    for p, own in zip(module.parameters(), net.values(), strict=True):
        if p.dim() > 1:  # torch's law: uniform up to one over the root of the inputs of a unit
            bound = p[0].numel() ** -0.5
            assert 0.95 * bound < own.abs().max() <= bound
            assert own.std() == pytest.approx(bound / 3**0.5, rel=0.1)
        p.data = own[1]
    torch.testing.assert_close(elastic.logits(net, x)[1], module(x))


def test_training_that_cannot_be_is_refused():
    net, x, _, labels, order = setting()
    settings = {"lr": 0.01, "every": 10, "observed": x[:2]}
    for train in (elastic.train, elastic.train_readable):
        with pytest.raises(ValueError, match=r"images of shape \(1, 28, 28\): \(1, 32, 32\) is accepted"):
            train(net, x[:, :, :28, :28], labels, order, **settings)
        with pytest.raises(ValueError, match=r"3 networks need labels \(2, 45\) and order"):
            train(net, x, labels, order[:2], **settings)
        with pytest.raises(ValueError, match="lr -1 must be positive and every 10"):
            train(net, x, labels, order, **(settings | {"lr": -1}))
    with pytest.raises(FloatingPointError, match=r"of 3 networks diverged within 60 steps: lower lr"):
        elastic.train(net, x, labels, order, **(settings | {"lr": 1e9}))
    with pytest.raises(ValueError, match="classes 1 2 or more"):
        elastic.lenet(1, 1, 1, generator())


def test_groups_of_logits():
    looks = torch.arange(24.0).view(1, 2, 4, 3)
    means = elastic.class_means(looks, torch.tensor([0, 1, 2, 2]))
    torch.testing.assert_close(means[0, 1, 2], looks[0, 1, 2:].mean(0))
    with pytest.raises(ValueError, match=r"classes without an observed image: \[1\]"):
        elastic.class_means(looks, torch.tensor([0, 0, 2, 2]))
    seen, labels = random(2, 10, 3), torch.randint(3, (2, 10), generator=generator())
    found = elastic.grouped(seen, labels, 3, 5)
    for s in range(2):
        for window in range(2):
            for k in range(3):
                rows = seen[s, 5 * window : 5 * window + 5][labels[s, 5 * window : 5 * window + 5] == k]
                torch.testing.assert_close(found[s, window, k], rows.mean(0), equal_nan=True)
    with pytest.raises(ValueError, match="a window of 11 steps: 1 to 10"):
        elastic.grouped(seen, labels, 3, 11)


def test_direct_elasticity_is_the_relative_change_by_one_step():
    net, *_ = setting(seeds=2, dtype=torch.float32)
    x, y = geomnist.generate(3, 3, generator(5))
    lr = 0.01
    found = elastic.direct(net, x, y, lr)
    double = {name: p[1:2].double() for name, p in net.items()}
    d, before = elastic.targets(3), elastic.logits(double, x.double())[0]
    sums, counts = torch.zeros(3, 3, dtype=F64), torch.zeros(3, 3, dtype=F64)
    for j in range(len(x)):
        order, looked = torch.tensor([[j]]), x.double()
        after = elastic.train_readable(double, looked, y[None], order, lr=lr, every=1, observed=looked).looks[0, 1]
        moved = (after - before) @ d[y[j]]
        for i in range(len(x)):
            if i != j:
                sums[y[i], y[j]] += moved[i] / moved[j]
                counts[y[i], y[j]] += 1
    torch.testing.assert_close(found[1], sums / counts, rtol=1e-8, atol=1e-8)
    keep = torch.cat([(y == 0).nonzero(), (y == 1).nonzero(), (y == 2).nonzero()[:1]]).squeeze(1)
    with pytest.raises(ValueError, match=r"images a class \[3, 3, 1\]: 2 or more"):
        elastic.direct(net, x[keep], y[keep], lr)


# --- the notebook at corners of its parameters ----------------------------------------------------


def cells(last, /, **parameters):
    """Runs the notebook's code in this process up to the cell `last`; returns its names, recorded values, figures."""
    project, shown, values = Project(Path(__file__).parents[2]), {}, {}
    chapter = project.chapter("local_elasticity")

    def display(bundle, **_):
        content = bundle[notebook_side.MIME]
        values.update(content.get("values", {}))
        shown.update({content["figure"]["name"]: content["figure"]} if "figure" in content else {})

    namespace = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebook_side, "display", display)
        for cell in (c for c in chapter.source.cells if c.cell_type == "code"):
            exec(cell.source, namespace)
            if "parameters" in cell.metadata.get("tags", []):
                namespace |= chapter.resolve("smoke", parameters)
            if cell.id == last:
                return namespace, values, shown
    raise AssertionError(f"no cell {last}")


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"observed": 11}, "observed 11: up to test_samples, 10, are accepted"),
        ({"every": 30, "window": 90}, "steps 100 and every 30: a multiple of every is accepted"),
        ({"corruption": [0.5, 0.0, 0.501]}, "at least 0.0025 apart are accepted"),
        ({"paths": 5000, "levels": 13}, "cloud 10 need 3.7 GB: up to 1 is accepted"),
        ({"window": 2000}, "a window of 2000 steps is"),
        ({"last": 2000}, "a window of 2000 steps is longer"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused_at_once(parameters, message):
    with pytest.raises(ValueError, match=message):
        cells("refusals", **parameters)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # matplotlib on tensors
def test_claims_on_the_equation_are_measured_where_they_say_on_any_grid():
    names, values, shown = cells("cell-15", classes=2, amplitude=10.0, horizon=120.0)
    t = names["t"]
    assert 0.7 not in names["grid"]
    gap = elastic.integrated_power(t, 0.7, 10.0) - elastic.integrated_power(t, 1.2, 10.0)
    torch.testing.assert_close(names["points"]["separated_alpha"], gap)
    torch.testing.assert_close(names["points"]["slice_above"], 1.7 * t.log())
    assert len(values["slice_half"]) == len(values["separated_early"]) == 2
    assert set(names["slice_data"]["T"]) == {"T = 100", "T = 10000", "T = 120"}
    assert set(names["lines"]["β"]) == {"tail index 0.40", "tail index 1.20", "tail index 1.60", "β = 0"}
    assert "from one to nought" not in shown["slices"]["alt"]
    assert names["sde"]["share"].notna().all()  # no step too long for two classes


@pytest.fixture(scope="module")
def small():
    """Everything at sizes at which windows, batches and looks meet the ends of what there is."""
    corner = {"every": 25, "window": 75, "collapse_classes": 2, "collapse_samples": 5, "collapse_epochs": 2}
    return cells("cell-45", **corner)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # matplotlib on tensors
def test_the_notebook_at_its_smallest(small):
    names, values, _ = small
    assert names["stretch"] == 100 and names["stops"] == [0, 20, 100]
    assert sorted(set(names["curves"]["epoch"]))[-1] == 2 and names["curves"]["fitted"].notna().all()
    assert len(values["constant_pcritical"]) == 2 and len(values["marked_pcritical"]) == 2


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # matplotlib on tensors
def test_marks_and_networks_that_say_one_class_are_counted(small):
    names, _, shown = small
    frame, said = names["frame"], elastic.logits(names["found"].net, names["data"].x_test).argmax(2)
    for letter, integral in (("α", "A"), ("β", "B")):
        assert frame.loc[frame[f"{integral} (I)"] < 0, f"marked {letter} (I)"].all()
    one = (said == said[:, :1]).all(1).numpy()
    assert np.array_equal(frame["constant"].to_numpy()[-len(one) :], one)
    told = shown["transition"]
    assert "Networks that put every test image into one class" in told["caption"] and "rise towards" not in told["alt"]
    assert "gone" not in shown["impacts"]["alt"]
