"""Choices and gradients against slow twins and autograd; unbiased sampling; training; bias and variance; bad input."""

from collections import deque
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from phenomena.chapters.selective_backprop import choices, networks, study, theory
from phenomena.chapters.selective_backprop.choices import Points, choose
from phenomena.chapters.selective_backprop.training import Plan, check, task, train
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store.chapters import Project
from phenomena.science.datasets import Dataset

D, W, C, B, K = 6, 8, 3, 12, 4


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def some_points(n=5, b=B, seed=0, dtype=torch.float64):
    g = generator(seed)
    logits = 2 * torch.randn(n, b, C, generator=g, dtype=dtype)
    onehot = torch.eye(C, dtype=dtype)[torch.randint(C, (n, b), generator=g)]
    loss, errors = networks.errors(logits, onehot)
    hidden = torch.randn(n, b, W, generator=g, dtype=dtype).relu()
    return Points(loss, choices.cdf(loss, loss), errors, hidden)


def last_gradients(points):
    """Gradients by the last layer, written out: (n, b, c (w + 1))."""
    ones = torch.ones(*points.hidden.shape[:2], 1, dtype=points.hidden.dtype)
    return torch.einsum("nbc,nbw->nbcw", points.errors, torch.cat([points.hidden, ones], 2)).flatten(2)


def noise_for(points, seed=1):
    n, b = points.loss.shape
    return torch.rand(n, b + 1, generator=generator(seed), dtype=points.loss.dtype)


# --- choices ----------------------------------------------------------------------------------------------------------


def test_the_gram_matrix_is_that_of_the_gradients_written_out():
    points = some_points()
    g = last_gradients(points)
    assert torch.allclose(choices.gram(points), g @ g.mT)


def slow_match(g, k):
    """One minibatch, by the definition: try every further point."""
    chosen = []
    for _ in range(k):
        off = {i: (g[[*chosen, i]].mean(0) - g.mean(0)).norm().item() for i in range(len(g)) if i not in chosen}
        chosen.append(min(off, key=off.get))
    return chosen


def slow_pursuit(g, k, ridge):
    """One minibatch, by the definition: after every point, ridge regression on all that were chosen."""
    chosen, target = [], g.mean(0)
    added, w = ridge * g.square().sum(1).mean(), g.new_zeros(0)
    for _ in range(k):
        lacking = g @ (target - w @ g[chosen])
        lacking[chosen] = -torch.inf
        chosen.append(lacking.argmax().item())
        part = g[chosen]
        w = torch.linalg.solve(part @ part.T + added * torch.eye(len(chosen), dtype=g.dtype), part @ target)
    return chosen, k * w.clamp_min(0)


@pytest.mark.parametrize("seed", range(B))
def test_greedy_matching_is_its_slow_twin(seed):
    points, k = some_points(seed=seed), seed + 1
    found = choices.match(choices.gram(points), k)
    assert found.rows.tolist() == [slow_match(g, k) for g in last_gradients(points)]
    assert (found.weights == 1).all()


@pytest.mark.parametrize("k", range(1, 7))
@pytest.mark.parametrize("ridge", [1e-3, 0.1])
def test_weighted_matching_is_its_slow_twin(k, ridge):
    points = some_points(seed=k)
    found = choices.weighted(choices.gram(points), k, ridge)
    for rows, weights, g in zip(*found, last_gradients(points), strict=True):
        slow_rows, slow_weights = slow_pursuit(g, k, ridge)
        assert rows.tolist() == slow_rows
        assert torch.allclose(weights, slow_weights, atol=1e-9)


def test_matching_beats_random_subsets_at_what_it_optimises():
    points = some_points(n=50)
    g, noise = last_gradients(points), noise_for(points)

    def off(method):
        rows, weights = choose(method, points, K, noise)
        part = g.gather(1, rows[:, :, None].expand(-1, -1, g.shape[2])) * weights[:, :, None]
        return (part.mean(1) - g.mean(1)).square().sum(1).mean()

    assert off("weighted") < off("match") < off("random") / 2


@pytest.mark.parametrize(("seed", "scale"), [(0, 0.01), (1, 1.0), (2, 100.0)])
def test_matching_does_not_depend_on_order_or_scale(seed, scale):
    inner = choices.gram(some_points(n=1, seed=seed))
    order = torch.randperm(B, generator=generator(seed))
    shuffled = scale * inner[:, order][:, :, order]
    for method in (choices.match, choices.weighted):
        rows, weights = method(inner, K)
        there, same = method(shuffled, K)
        assert order[there].tolist() == rows.tolist()
        assert torch.allclose(weights, same, rtol=1e-6, atol=1e-9)


def test_choices_of_many_minibatches_are_those_of_each():
    points = some_points()
    noise = noise_for(points)
    for method in study.METHODS:
        rows, weights = choose(method, points, K, noise)
        for i in range(len(rows)):
            alone = choose(method, Points(*(part[i : i + 1] for part in points)), K, noise[i : i + 1])
            assert alone.rows[0].tolist() == rows[i].tolist(), method
            assert torch.allclose(alone.weights[0], weights[i])


@pytest.mark.parametrize("method", ["random", "top", "sb", "match", "full"])
def test_all_of_a_minibatch_is_every_point_once(method):
    points = some_points()
    rows, weights = choose(method, points, B, noise_for(points), beta=1e-9)
    assert (rows.sort(1).values == torch.arange(B)).all()
    assert (weights == 1).all()


def test_weights_that_are_fitted_to_all_of_a_minibatch_are_one():
    rows, weights = choices.weighted(choices.gram(some_points()), B, ridge=1e-12)
    assert (rows.sort(1).values == torch.arange(B)).all()
    assert torch.allclose(weights, torch.ones_like(weights), atol=1e-5)


@pytest.mark.parametrize(("seed", "k"), [(0, 1), (1, 4), (2, 7), (3, B)])
def test_systematic_sampling_has_the_counts_that_were_asked_for(seed, k):
    sizes = torch.rand(1, B, generator=generator(seed), dtype=torch.float64) ** 3
    order = torch.rand(1, B, generator=generator(seed + 1), dtype=torch.float64)
    grid = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000  # offsets, evenly: an integral, not a sample
    noise = torch.cat([order.expand(2000, B), grid[:, None]], 1)
    rows = choices.sample(sizes.expand(2000, B), k, noise)
    counts = torch.bincount(rows.flatten(), minlength=B) / 2000
    assert torch.allclose(counts.double(), k * sizes[0] / sizes.sum(), atol=2e-3)


def test_sampling_by_norm_is_unbiased_and_by_rank_is_not():
    points = some_points(n=1)
    many = Points(*(part.expand(20_000, *part.shape[1:]) for part in points))
    noise = torch.rand(20_000, B + 1, generator=generator(), dtype=torch.float64)
    g = last_gradients(points)[0]
    for method, bias in (("norm", False), ("random", False), ("sb", True)):
        rows, weights = choose(method, many, K, noise)
        mean = (g[rows] * weights[:, :, None]).mean((0, 1))
        assert ((mean - g.mean(0)).norm() / g.mean(0).norm() > 0.1) == bias, method


def test_selective_backprop_runs_from_random_to_top_loss():
    points = some_points(n=400)
    noise = noise_for(points)
    rank = points.loss.argsort(1).argsort(1).double()
    means = [rank.gather(1, choose("sb", points, K, noise, beta).rows).mean().item() for beta in (1e-9, 1, 3, 60)]
    assert means == sorted(means)
    assert means[0] == pytest.approx((B - 1) / 2, abs=0.3)
    assert means[-1] > B - 1 - K / 2
    expected = [choose("sb", points, K, noise).rows, choose("sb", points, K, noise, B / K - 1).rows]
    assert torch.equal(*expected), "the default keeps k of b on average"


# --- networks ---------------------------------------------------------------------------------------------------------


def test_gradients_are_those_of_autograd():
    g = generator()
    flat = torch.stack([networks.initial(D, W, C, g) for _ in range(3)])
    x, y = torch.randn(3, B, D, generator=g), torch.randint(C, (3, B), generator=g)
    passed = networks.forward(networks.views(flat, D, W, C), x)
    loss, slope = networks.errors(passed.logits, torch.eye(C)[y])
    out = torch.full_like(flat, torch.nan)
    networks.backward(networks.views(flat, D, W, C), x, passed, slope / B, networks.views(out, D, W, C))
    for i in range(3):
        p = flat[i].clone().requires_grad_()
        net = networks.views(p, D, W, C)
        hidden = ((x[i] @ net.w1 + net.b1).relu() @ net.w2 + net.b2).relu()
        value = F.cross_entropy(hidden @ net.w3 + net.b3, y[i])
        value.backward()
        assert torch.allclose(loss[i].mean(), value.detach(), atol=1e-6)
        assert torch.allclose(out[i], p.grad, atol=1e-6)


# --- training ---------------------------------------------------------------------------------------------------------


def some_data(n=400, classes=C, seed=0):
    g = generator(seed)
    centers = 1.5 * torch.randn(classes, D, generator=g)
    y = torch.randint(classes, (n + 100,), generator=g)
    x = centers[y] + torch.randn(n + 100, D, generator=g)
    return Dataset(x[:n], y[:n], x[n:], y[n:], classes)


PLAN = Plan(steps=30, batch=B, keep=K, width=W)


def slow_training(job, s, method, rate, plan):
    """One network by autograd and torch's own optimiser, choosing with `choose` on its own minibatch."""
    from phenomena.chapters.selective_backprop import training

    p = networks.initial(D, W, C, training.generator(job.seeds[s], training.START)).requires_grad_()
    batches, noise = training._draws(job, plan)
    optimiser = torch.optim.SGD([p], rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.steps)
    recent, error = deque(maxlen=training.BUFFER), torch.zeros_like(p)
    for t in range(plan.steps):
        index = batches[t, s].long()
        x, y = job.x[job.rows[s]][index], job.y[s][index]
        net = networks.views(p, D, W, C)
        hidden = ((x @ net.w1 + net.b1).relu() @ net.w2 + net.b2).relu()
        logits = hidden @ net.w3 + net.b3
        losses = F.cross_entropy(logits, y, reduction="none")

        def gradient(losses, p=p):
            return torch.autograd.grad(losses.mean(), p, retain_graph=True)[0]

        recent.append(losses.detach())
        rank = (torch.cat(list(recent))[:, None] <= losses.detach()).float().mean(0)
        errors = logits.detach().softmax(1) - torch.eye(C)[y]
        points = Points(losses.detach()[None], rank[None], errors[None], hidden.detach()[None])
        name = "match" if method in training.CONTROLS else method
        rows, weights = (part[0] for part in choose(name, points, plan.keep, noise[t, s : s + 1]))
        p.grad = gradient(losses[: plan.keep]) if method == "random" else gradient(losses[rows] * weights)
        if method in training.CONTROLS:
            error = 0.95 * error + 0.05 * (p.grad - gradient(losses))
            p.grad = p.grad - error if method == "corrected" else gradient(losses[: plan.keep]) + error
        optimiser.step()
        schedule.step()
    return p.detach()


@pytest.mark.parametrize("method", study.EQUAL_STEPS)
def test_training_is_its_slow_twin(method):
    job = task(some_data(), 200, 0.2, [3, 4])
    found = train(job, [(method, [0.05, 0.1])], PLAN).flat[0, 0]
    for s, rate in enumerate((0.05, 0.1)):
        assert torch.allclose(found[s], slow_training(job, s, method, rate, PLAN), atol=2e-4)


def test_company_changes_nothing_and_seeds_differ():
    job = task(some_data(), 200, 0.0, [3, 4])
    arms = [
        (method, [0.05, 0.05]) for method in ("top", "corrected", "sb", "norm", "match", "weighted", "top", "biased")
    ]
    together = train(job, arms, PLAN, [0, 30])
    for a, arm in enumerate(arms):
        alone = train(job, [arm], PLAN)
        assert torch.allclose(alone.flat[0, 0], together.flat[1, a], atol=1e-6)
        assert alone.accuracy[0, 0].tolist() == together.accuracy[1, a].tolist()
    assert torch.equal(together.flat[1, 0], together.flat[1, 6])
    assert (together.flat[0] == together.flat[0, :1]).all(), "all arms start alike"
    assert not torch.equal(together.flat[1, 0, 0], together.flat[1, 0, 1])
    single = train(task(some_data(), 200, 0.0, [4]), [("match", [0.05])], PLAN)
    assert torch.allclose(single.flat[0, 0, 0], together.flat[1, 4, 1], atol=1e-6)


def test_outside_its_time_every_method_is_random():
    job = task(some_data(), 200, 0.0, [3])
    random = train(job, [("random", [0.05])], PLAN).flat
    late = train(job, [("top", [0.05])], replace(PLAN, begin=0.5), [15, 30]).flat
    early = train(job, [("random", [0.05])], PLAN, [15, 30]).flat
    assert torch.allclose(late[0], early[0], atol=1e-6)
    assert not torch.allclose(late[1], random[0], atol=1e-3)


def test_a_task_has_as_many_wrong_labels_as_asked_and_no_test_row_among_held_out_ones():
    data = some_data(n=1000)
    job = task(data, 600, 0.4, [0, 1])
    assert job.wrong.float().mean(1).tolist() == pytest.approx([0.4, 0.4], abs=0.01)
    assert (job.wrong == (job.y != data.y_train[job.rows])).all()
    assert torch.equal(job.y_test, data.y_test)
    held = task(data, 600, 0.0, [0, 1], hold_out=True)
    assert held.rows.max() < 600 and len(held.y_test) == 400
    assert torch.equal(held.x_test, held.x[600:])


# --- bias and variance ------------------------------------------------------------------------------------------------


def test_variance_of_a_random_subset_is_that_of_a_point_over_k():
    job = task(some_data(), 200, 0.0, [3])
    flat = study.learn(job, {"random": 0.05}, PLAN).flat["random"]
    frame = study.estimators(job, flat, PLAN, 4000).set_index(["place", "method"])
    middle = flat[1, 0]
    net, x, y = networks.views(middle, D, W, C), job.x[job.rows[0]], job.y[0]
    each = torch.stack([gradient(net, x[i : i + 1], y[i : i + 1], middle) for i in range(200)])
    size = each.mean(0).square().sum()
    variance = ((each - each.mean(0)).square().sum(1).mean() / size).item()
    middle = frame.loc["middle"]
    assert middle.loc["random", "variance"] == pytest.approx(variance / K, rel=0.05)
    assert middle.loc["full", "variance"] == pytest.approx(variance / B, rel=0.05)
    for method in ("random", "norm", "full"):
        assert abs(middle.loc[method, "bias2"]) < 0.02
        assert middle.loc[method, "along"] == pytest.approx(1, abs=0.05)
        assert abs(middle.loc[method, "across2"]) < 0.02
    assert middle.loc["full", "last"] == 0
    assert middle.loc["top", "along"] > 1.5
    split = (1 - middle["along"]) ** 2 + middle["across2"]
    assert np.allclose(split, middle["bias2"], atol=0.01)


def test_errors_of_few_draws_are_those_of_many_on_average():
    """What finitely many draws add to the squared length of their mean is taken off, along the gradient and across."""
    g, whole = generator(), torch.tensor([2.0, 0.0, 0.0, 0.0])
    center, spread = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([2.0, 1.0, 1.0, 0.0])
    found = np.array([study._errors(center + spread * torch.randn(4, 4, generator=g), whole) for _ in range(20_000)])
    bias2, variance, along, across2 = (1 + 1) / 4, (4 + 1 + 1) / 4, 1 / 2, 1 / 4
    mean, error = found.mean(0), found.std(0) / len(found) ** 0.5
    assert (np.abs(mean - [bias2, variance, along, across2]) < 4 * error).all()
    assert (10 * error[[0, 3]] < [variance / 4, 2 / 16]).all(), "what would be added is seen"


def gradient(net, x, y, flat):
    passed = networks.forward(net, x)
    slope = networks.errors(passed.logits, torch.eye(C)[y])[1] / len(x)
    out = torch.empty_like(flat)
    networks.backward(net, x, passed, slope, networks.views(out, D, W, C))
    return out


def test_averages_of_the_key_figure_come_home_or_stay_off():
    job = task(some_data(), 200, 0.0, [3])
    flat = study.learn(job, {"random": 0.05}, PLAN).flat["random"]
    found = study.minibatch(job, flat, PLAN, 1000)
    off = found.averages.set_index(["method", "n"])
    assert off.loc[("random", 1000), "off"] < off.loc[("random", 1), "off"] / 5
    assert off.loc[("random", 1000), "off"] < off.loc[("match", 1000), "off"]
    seen = (off["along"] - 1) ** 2 + off["across"] ** 2
    assert (seen <= off["off"] ** 2 * (1 + 1e-4) + 1e-6).all(), "a plane shows no more than there is"
    assert seen["match", 1000] == pytest.approx(off.loc[("match", 1000), "off"] ** 2, rel=1e-4), (
        "where matching errs is in it"
    )
    assert np.linalg.norm(found.mean) <= 1 + 1e-9  # the mean has length 1, its shadow in the plane at most that
    assert len(set(found.order)) == K


def test_distances_in_the_key_figure_are_those_of_gradients_written_out():
    points = some_points(n=1)
    g, rows = last_gradients(points)[0], torch.tensor([3, 0, 7])
    slow = [(g[rows[:m]].mean(0) - g.mean(0)).norm() / g.mean(0).norm() for m in (1, 2, 3)]
    assert study.distances(choices.gram(points)[0], rows) == pytest.approx(np.array(slow))


def test_the_average_closed_form_and_its_crossing():
    n = theory.crossing(0.3, 3.0, 8.0)
    assert theory.averaged(0.3, 3.0, n) == pytest.approx(theory.averaged(0.0, 8.0, n))
    assert theory.crossing(0.0, 3.0, 8.0) == float("inf")
    assert theory.crossing(0.3, 9.0, 8.0) == 0


def test_equal_work_is_equal():
    for b, k in ((64, 16), (128, 32), (64, 64), (10, 1)):
        choosing = 1000 * theory.work("sb", b, k)
        for arm, method in study.LONGER.items():
            plan = Plan(1000, b, k, W)
            assert study.length(arm, plan) * theory.work(method, b, k) == pytest.approx(choosing, rel=0.001)
            assert study.work("sb", plan, 1000) == choosing
    late = Plan(1000, 64, 16, W, begin=0.5, end=0.75)
    assert study.work("sb", late, 1000) == 250 * (64 + 2 * 16) + 750 * 3 * 16
    assert study.work("sb", late, 500) == study.work("random", late, 500) == 500 * 3 * 16
    assert study.length("random_work", late) == 1250


def test_arms_of_equal_work_may_be_shorter_than_they_are_looked_at():
    job = task(some_data(), 200, 0.0, [0])
    found = study.learn(job, {"full_work": 0.05, "sb": 0.05}, replace(PLAN, steps=8), looks=10)
    assert found.frame.groupby("arm")["step"].max().to_dict() == {"sb": 8, "full_work": 4}
    assert {arm: len(flat) for arm, flat in found.flat.items()} == {"full_work": 4, "sb": 4}


def test_rates_are_those_of_highest_accuracy_and_arms_are_all_there():
    job = task(some_data(), 200, 0.0, [0, 1], hold_out=True)
    tuned = study.tune(job, study.ALL_ARMS, [1e-5, 0.05], PLAN)
    assert study.best(tuned) == dict.fromkeys(study.ALL_ARMS, 0.05)
    learned = study.learn(job, study.best(tuned), PLAN, looks=3).frame
    assert set(learned["arm"]) == set(study.ALL_ARMS)
    assert learned.groupby("arm")["step"].max()["random_work"] == study.length("random_work", PLAN)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, -0.1, 1.01, 0.01])
def test_a_kept_share_outside_its_range_is_refused(share):
    with pytest.raises(ValueError, match="must be"):
        theory.kept(64, share)
    assert theory.kept(64, 1.0) == 64


def test_bad_input_is_refused_in_one_line():
    points = some_points()
    for k in (0, B + 1):
        with pytest.raises(ValueError, match=f"{k} points of {B}: must be 1 to {B}"):
            choose("top", points, k, noise_for(points))
    with pytest.raises(ValueError, match="is not known: one of random, top"):
        choose("best", points, K, noise_for(points))
    data = some_data()
    with pytest.raises(ValueError, match="labels are of one class"):
        check(replace(data, y_train=torch.zeros_like(data.y_train)), 100)
    for count in (0, 301):
        with pytest.raises(ValueError, match="training points of 400"):
            task(data, count, 0.0, [0])
    with pytest.raises(ValueError, match="trained by themselves"):
        train(task(data, 200, 0.0, [0]), [("random", [0.1]), ("top", [0.1])], PLAN)
    for at in ([2, 1], [1, 1], [-1], [31]):
        with pytest.raises(ValueError, match="must increase, from 0 to 30"):
            train(task(data, 200, 0.0, [0]), [("random", [0.1])], PLAN, at)


@pytest.mark.parametrize(
    ("name", "value"),
    [("keep", 0.0), ("keep", 1.5), ("keep", 0.001), ("noise", 0.95), ("begin", 1.0), ("end", 0.0),
     ("rates", [0.1, 0.1]), ("second", "mnist1d"), ("side_seeds", 11), ("batch", 1)],
)  # fmt: skip
def test_parameters_that_do_not_fit_are_refused_before_a_run(name, value):
    (chapter,) = [c for c in Project(Path(__file__).parents[2]).chapters() if c.name == "selective_backprop"]
    with pytest.raises(BadInput):
        chapter.resolve("default", {name: value})
