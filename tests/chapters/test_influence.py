"""Estimators against other code, brute force and closed forms; networks against autograd; what is refused."""

import itertools
import math
import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr
from sklearn.linear_model import Lasso
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from phenomena.chapters.influence import convex, estimators, figures, networks, retraining, samples, study
from phenomena.chapters.influence.convolutional import Convolutional
from phenomena.chapters.influence.networks import Perceptrons, Training
from phenomena.science.datasets import Dataset


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def toy(n=20, m=6, d=5, classes=3, seed=0, dtype=torch.float32):
    """Training and test samples that a linear model can tell apart in part."""
    g = generator(seed)
    centers = torch.randn(classes, d, generator=g, dtype=dtype)
    y, y_test = (torch.arange(k) % classes for k in (n, m))
    x, x_test = (centers[v] + torch.randn(len(v), d, generator=g, dtype=dtype) for v in (y, y_test))
    return x, y, x_test, y_test


def toy_sample(n=24, m=6, **options):
    x, y, x_test, y_test = toy(n, m, **options)
    return samples.Sample(x, y, np.arange(n) < 3, x_test, y_test, 3)


def stack(sizes=(5, 4, 3), count=3):
    """Networks with biases that are not zero, so that a mistake in them shows."""
    return [
        w + 0.1 * torch.randn(w.shape, generator=generator(8)) for w in networks.initial(count, sizes, generator(7))
    ]


# --- networks in closed form against autograd ----------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(5, 3), (5, 4, 3), (5, 4, 4, 3)])
@pytest.mark.parametrize("of", ["loss", "margin"])
def test_gradients_of_the_stack_are_those_of_torch_func(sizes, of):
    x, y, _, _ = toy()
    layers = stack(sizes)
    ours = networks.gradients(layers, networks.with_ones(x), y, of)
    for number in range(3):
        theirs = estimators.gradients(networks.as_module(layers, number), x, y, of)
        assert torch.allclose(_as_modules_order(theirs, sizes), ours[number], atol=1e-5)


def _as_modules_order(flat, sizes):
    """Gradients by weight (out, in) and bias, module by module, as by (in + 1, out), layer by layer."""
    parts, begin = [], 0
    for a, b in itertools.pairwise(sizes):
        weight = flat[:, begin : begin + a * b].view(-1, b, a).mT.flatten(1)
        parts += [weight, flat[:, begin + a * b : begin + a * b + b]]
        begin += a * b + b
    return torch.cat(parts, 1)


@pytest.mark.parametrize("sizes", [(5, 3), (5, 4, 3), (5, 4, 4, 3)])
def test_products_of_the_stack_are_those_of_any_module(sizes):
    x, y, x_test, y_test = toy()
    one = [w[1:2] for w in stack(sizes)]
    ours = networks.products(one, networks.with_ones(x), y, networks.with_ones(x_test), y_test)
    theirs = estimators.products(networks.as_module(one), x, y, x_test, y_test)
    for name in ours._fields:
        assert torch.allclose(getattr(ours, name), getattr(theirs, name), atol=1e-4), name


def test_training_follows_torchs_sgd_step_by_step():
    x, y, _, _ = toy()
    index = torch.stack([torch.randperm(20, generator=generator(s))[:10] for s in range(3)])
    start, setting = networks.initial(3, (5, 4, 3), generator()), Training((4,), steps=7, rate=0.3, decay=0.01)
    before = [w.clone() for w in start]
    layers, kept = networks.train(x, y, index, start, setting, keep=[2, 7])
    assert all(torch.equal(w, v) for w, v in zip(before, start, strict=True)), "the start is left as it was"
    for number, rows in enumerate(index):
        net = networks.as_module(start, number)
        speeds = [torch.zeros_like(p) for p in net.parameters()]
        for rate in setting.rates():
            net.zero_grad()
            nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            with torch.no_grad():
                for p, v in zip(net.parameters(), speeds, strict=True):
                    v.mul_(0.9).add_(p.grad + 0.01 * p)
                    p.sub_(rate * v)
        ours = networks.as_module(layers, number)
        for p, q in zip(net.parameters(), ours.parameters(), strict=True):
            assert torch.allclose(p, q, atol=1e-5)
    assert [point.step for point in kept] == [2, 7]
    assert all(torch.equal(w, v) for w, v in zip(kept[-1].layers, layers, strict=True))
    assert sum(point.rate for point in kept) == pytest.approx(sum(setting.rates()))


def test_a_network_does_not_depend_on_its_company():
    x, y, _, _ = toy()
    index = torch.stack([torch.randperm(20, generator=generator(s))[:10] for s in range(60)])
    start = networks.initial(60, (5, 4, 3), generator())
    together, _ = networks.train(x, y, index, start, Training((4,), steps=5))
    alone, _ = networks.train(x, y, index[57:58], [w[57:58] for w in start], Training((4,), steps=5))
    assert all(torch.equal(w[57:58], v) for w, v in zip(together, alone, strict=True))


def probable(p, p_test):
    """A stack of one network whose logits are its inputs, and a sample with these probabilities of three classes."""
    layers = [torch.cat([torch.eye(3), torch.zeros(1, 3)])[None]]
    x, x_test = (torch.tensor(rows).log() for rows in (p, p_test))
    return layers, samples.Sample(x, torch.arange(len(x)) % 2, np.zeros(len(x), bool), x_test, torch.tensor([0]), 3)


def test_right_is_what_is_most_likely_not_what_is_likelier_than_all_others_together():
    layers, sample = probable([[0.4, 0.3, 0.3], [0.4, 0.3, 0.3]], [[0.4, 0.3, 0.3]])  # labels 0 and 1; 0
    found = networks.outcomes(layers, sample)
    assert found.hits.tolist() == [[True, False]] and found.hits_test.tolist() == [[True]]
    assert found.goals[0, 0] == pytest.approx(math.log(0.4 / 0.6))


def test_outcomes_of_many_networks_are_those_of_each():
    sample, layers = toy_sample(), networks.initial(60, (5, 4, 3), generator())
    found = networks.outcomes(layers, sample)
    one = networks.outcomes([w[57:58] for w in layers], sample)
    for a, b in zip(found, one, strict=True):
        assert len(a) == 60 and np.array_equal(a[57:58], b)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_few_steps_have_fewer_checkpoints(steps):
    images = toy_sample()._replace(x=torch.randn(24, 1, 6, 6), x_test=torch.randn(6, 1, 6, 6))
    for learner in (Perceptrons(Training((2, 3), steps=steps)), Convolutional(Training((2, 3), steps=steps))):
        (model,) = learner.models(images, 1, 0)
        assert model.early.shape == (24, 3)
        if steps == 1:  # then the only checkpoint is the end
            assert torch.allclose(model.tracin, 0.2 * estimators.gradient_dot(model.loss, model.goal), atol=1e-6)
            assert torch.allclose(model.tracin_self, 0.2 * model.loss.square().sum(1), atol=1e-6)


def test_tracin_of_the_learner_sums_over_its_checkpoints():
    sample, training = toy_sample(), Training((4,), steps=40)
    learner = Perceptrons(training)
    (model,) = learner.models(sample, 1, 3)
    steps, rates, begin = samples.checkpoints(40), training.rates(), 0
    everything = torch.arange(24)[None]
    _, kept = networks.train(sample.x, sample.y, everything, learner.start(sample, 1, 3), training, steps)
    sums, losses, goals = [], [], []
    for step, point in zip(steps, kept, strict=True):
        net = networks.as_module(point.layers)
        sums.append(sum(rates[begin:step]))
        losses.append(estimators.gradients(net, sample.x, sample.y))
        goals.append(estimators.gradients(net, sample.x_test, sample.y_test, "margin"))
        begin = step
    assert torch.allclose(model.tracin, estimators.tracin(sums, losses, goals), atol=1e-4)
    own = sum(rate * g.square().sum(1) for rate, g in zip(sums, losses, strict=True))
    assert torch.allclose(model.tracin_self, own, atol=1e-4)


# --- influence functions -------------------------------------------------------------------------------------------


def test_three_ways_to_influence_functions_agree():
    x, y, x_test, y_test = toy()
    net = networks.as_module(stack(), 0)
    found = estimators.products(net, x, y, x_test, y_test)
    woodbury = estimators.influence(found, 0.05)
    p, jacobian = net(x).softmax(1).detach(), estimators.jacobians(net, x)
    spread = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    matrix = torch.einsum("ncp,ncd,ndq->pq", jacobian, spread, jacobian) / len(x)
    loss, goal = estimators.gradients(net, x, y), estimators.gradients(net, x_test, y_test, "margin")
    dense = estimators.influence_dense(loss, goal, matrix, 0.05)
    cg = estimators.influence_cg(net, x, y, x_test, y_test, 0.05)
    assert torch.allclose(woodbury.scores, dense, atol=1e-4)
    assert torch.allclose(cg, dense, atol=1e-4)
    own = -estimators.influence_dense(loss, loss, matrix, 0.05).diagonal()
    assert torch.allclose(woodbury.own, own, atol=1e-4)


def test_the_exact_hessian_is_that_of_autograd_and_of_softmax_regression():
    net, z, y, _, _, w = linear_case()
    ours = estimators.hessian(net, z, y).numpy().reshape(3, 6, 3, 6).transpose(1, 0, 3, 2).reshape(18, 18)
    assert np.allclose(ours, convex.hessian(z.numpy(), w, 0.0))
    x, y, _, _ = toy(dtype=torch.float64)
    deep = networks.as_module(stack(), 0).double()
    flat = torch.cat([p.detach().flatten() for p in deep.parameters()])

    def loss(v):
        parts = dict(zip(dict(deep.named_parameters()), v.split([p.numel() for p in deep.parameters()]), strict=True))
        parts = {name: parts[name].view_as(p) for name, p in deep.named_parameters()}
        return flat_loss(deep, parts, (x, y))

    assert torch.allclose(estimators.hessian(deep, x, y), torch.autograd.functional.hessian(loss, flat), atol=1e-10)


def test_conjugate_gradients_solve_with_the_exact_hessian_where_it_is_positive():
    x, y, x_test, y_test = toy(dtype=torch.float64)
    net = networks.as_module(stack(), 0).double()
    matrix = estimators.hessian(net, x, y)
    least = torch.linalg.eigvalsh(matrix)[0].item()
    assert least < -1e-3, "this network is not at a minimum"
    loss, goal = estimators.gradients(net, x, y), estimators.gradients(net, x_test, y_test, "margin")
    cg = partial(estimators.influence_cg, net, x, y, x_test, y_test, curvature="hessian")
    enough = 0.1 - least
    assert torch.allclose(cg(enough), estimators.influence_dense(loss, goal, matrix, enough), atol=1e-6)
    gauss_newton = estimators.influence_cg(net, x, y, x_test, y_test, enough)
    assert not torch.allclose(cg(enough), gauss_newton, atol=1e-3)
    with pytest.raises(ValueError, match="direction in which it is not positive: raise damping"):
        cg(-least / 10)
    with pytest.raises(ArithmeticError, match="did not converge in 2 iterations"):
        cg(enough, iterations=2)


def test_influence_keeps_the_precision_of_what_it_is_given():
    x, y, x_test, y_test = toy(dtype=torch.float64)
    net = networks.as_module(stack(), 0).double()
    found = estimators.products(net, x, y, x_test, y_test)
    loss, goal = estimators.gradients(net, x, y), estimators.gradients(net, x_test, y_test, "margin")
    jacobian, p = estimators.jacobians(net, x), net(x).softmax(1).detach()
    spread = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    matrix = torch.einsum("ncp,ncd,ndq->pq", jacobian, spread, jacobian) / len(x)
    ours = estimators.influence(found, 1e-5)
    assert ours.scores.dtype == torch.float64
    assert torch.allclose(ours.scores, estimators.influence_dense(loss, goal, matrix, 1e-5), rtol=1e-6, atol=1e-6)
    single = estimators.Products(*(part.float() for part in found))
    assert estimators.influence(single, 0.01).scores.dtype == torch.float32


def test_with_much_damping_influence_is_gradient_dot():
    x, y, x_test, y_test = toy()
    net = networks.as_module(stack(), 0)
    loss, goal = estimators.gradients(net, x, y), estimators.gradients(net, x_test, y_test, "margin")
    scores = estimators.influence(estimators.products(net, x, y, x_test, y_test), 1e5).scores
    assert torch.allclose(scores * 1e5 * len(x), estimators.gradient_dot(loss, goal), rtol=1e-3, atol=1e-4)


def linear_case(decay=0.05):
    """Softmax regression at its optimum as a module without bias, in float64; features with a column of ones."""
    x, y, x_test, y_test = toy(dtype=torch.float64)
    z, z_test = (networks.with_ones(v) for v in (x, x_test))
    w = convex.fit(z.numpy(), y.numpy(), 3, decay)
    net = nn.Linear(6, 3, bias=False).double()
    with torch.no_grad():
        net.weight.copy_(torch.from_numpy(w).T)
    return net, z, y, z_test, y_test, w


def flat_loss(net, parameters, data):
    x, y = data
    return nn.functional.cross_entropy(torch.func.functional_call(net, parameters, x), y)


def one_loss(net, parameters, data):
    x, y = data
    return flat_loss(net, parameters, (x[None], y[None]))


@pytest.mark.filterwarnings("ignore")
def test_influence_functions_and_tracin_agree_with_dattri():
    from dattri.algorithm.influence_function import IFAttributorExplicit
    from dattri.algorithm.tracin import TracInAttributor
    from dattri.task import AttributionTask

    net, z, y, z_test, y_test, w = linear_case()
    net, z, z_test = net.float(), z.float(), z_test.float()
    train, test = (DataLoader(TensorDataset(a, b), batch_size=len(a)) for a, b in ((z, y), (z_test, y_test)))
    task = AttributionTask(loss_func=partial(flat_loss, net), model=net, checkpoints=net.state_dict())
    attributor = IFAttributorExplicit(task=task, regularization=0.05)
    attributor.cache(train)
    theirs = attributor.attribute(train, test)
    loss, other = estimators.gradients(net, z, y), estimators.gradients(net, z_test, y_test)
    # the same module, whose parameters are (c, d): the Hessian of `convex` in that order
    hessian = convex.hessian(z.double().numpy(), w, 0.05).reshape(6, 3, 6, 3).transpose(1, 0, 3, 2).reshape(18, 18)
    ours = estimators.influence_dense(loss.double(), -other.double(), torch.from_numpy(hessian))
    # theirs has no 1 / n, and its goal is the loss: loss up on removal is positive, as here
    assert torch.allclose(theirs.double() / len(z), ours, rtol=1e-3, atol=1e-5)
    cg = estimators.influence_cg(net, z, y, z_test, y_test, 0.05, of="loss")
    assert torch.allclose(cg.double(), ours, rtol=1e-3, atol=1e-5)

    later = {name: 2 * p for name, p in net.state_dict().items()}
    task = AttributionTask(loss_func=partial(one_loss, net), model=net, checkpoints=[net.state_dict(), later])
    tracin = TracInAttributor(task=task, weight_list=torch.tensor([0.3, 0.1]), normalized_grad=False)
    tracin.projector_kwargs = None
    doubled = nn.Linear(6, 3, bias=False)
    doubled.weight = nn.Parameter(later["weight"])
    net.load_state_dict({"weight": later["weight"] / 2})  # the task loads its checkpoints into the module
    losses = [estimators.gradients(v, z, y) for v in (net, doubled)]
    goals = [-estimators.gradients(v, z_test, y_test) for v in (net, doubled)]
    assert torch.allclose(tracin.attribute(train, test), estimators.tracin([0.3, 0.1], losses, goals), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_trak_agrees_with_dattri_on_its_own_projections():
    from dattri.algorithm.trak import TRAKAttributor
    from dattri.func.projection import random_project
    from dattri.task import AttributionTask

    x, y, x_test, y_test = toy(n=40)
    net = networks.as_module(stack(), 0)
    train, test = (DataLoader(TensorDataset(a, b), batch_size=len(a)) for a, b in ((x, y), (x_test, y_test)))

    def one_margin(parameters, data):
        image, label = data
        return estimators.margin(torch.func.functional_call(net, parameters, image[None]), label[None])[0]

    def right(parameters, data):
        image, label = data
        return torch.func.functional_call(net, parameters, image[None]).softmax(1)[0].gather(0, label[None])[0]

    options = {"proj_dim": 16, "proj_max_batch_size": 40, "proj_seed": 0, "device": "cpu"}
    task = AttributionTask(loss_func=one_margin, model=net, checkpoints=net.state_dict())
    theirs = TRAKAttributor(task=task, correct_probability_func=right, projector_kwargs=options)
    scores = theirs.attribute(test_dataloader=test, train_dataloader=train)
    # theirs divides gradients by the root of the number of parameters, which the inverse undoes
    found = [estimators.gradients(net, a, b, "margin") for a, b in ((x, y), (x_test, y_test))]
    projected = [random_project(g, len(g), **options)(g, ensemble_id=0) for g in found]
    doubt = 1 - net(x).softmax(1).detach().gather(1, y[:, None])[:, 0]
    ours = estimators.trak_scores([estimators.trak(*projected)], [doubt])
    assert torch.allclose(scores, ours, rtol=1e-2, atol=1e-3 * ours.abs().max().item())


def test_trak_by_samples_is_trak_by_parameters():
    train, test = (torch.randn(k, 30, generator=generator(k), dtype=torch.float64) for k in (8, 3))
    assert torch.allclose(estimators.trak(train, test, 0.5), estimators.trak(train, test, 0.5, kernel=True))
    once = estimators.trak(train[:, :5], test[:, :5])
    divided = estimators.trak(train[:, :5], test[:, :5], divided=True)
    size = torch.linalg.inv(train[:, :5].T @ train[:, :5]).abs().mean()
    assert torch.allclose(divided, once / size), "one factor for the model, which no rank sees"
    g = torch.randn(200, 500, generator=generator(), dtype=torch.float64)
    inner = estimators.project(g, 400, 0) @ estimators.project(g, 400, 0).T
    assert (inner - g @ g.T).abs().mean() < 0.06 * 500  # a twentieth, 1 / sqrt(400)


def test_representer_points_are_exact_for_a_last_layer_at_its_optimum():
    net, z, y, z_test, y_test, w = linear_case(decay=0.05)
    slope = torch.from_numpy(convex.slopes(z.numpy(), y.numpy(), w))
    parts = estimators.representer(z, slope, z_test, y_test) / (0.05 * len(z))
    logits = net(z_test).detach().gather(1, y_test[:, None])[:, 0]
    assert torch.allclose(parts.sum(0), logits, atol=1e-8)


def test_every_estimator_has_one_sign():
    """A copy of the test sample with its label helps, with another label it harms."""
    x, y, x_test, y_test = toy(n=30)
    x, y = torch.cat([x, x_test[:1], x_test[:1]]), torch.cat([y, y_test[:1], (y_test[:1] + 1) % 3])
    sample = samples.Sample(x, y, np.zeros(32, bool), x_test, y_test, 3)
    learner = Perceptrons(Training((8,), steps=60, decay=0.01))
    plan = study.Plan(200, 0.5, 2, 0.02, 20)
    found = study.scores(study.trained(sample, learner, plan, 0), plan, 0)
    for method, value in found.scores.items():
        assert value.shape == (32, 6)
        if method != "random":
            assert value[30, 0] > 0 > value[31, 0], method


# --- convex --------------------------------------------------------------------------------------------------------


def test_leave_one_out_by_a_kept_hessian_is_a_fit_from_scratch():
    _, z, y, _, _, w = linear_case()
    z, y = z.numpy(), y.numpy()
    without = convex.leave_one_out(z, y, w, 0.05)
    for i in (0, 7, 19):
        weights = np.ones(len(z))
        weights[i] = 0
        assert np.allclose(without[i], convex.fit(z, y, 3, 0.05, weights), atol=1e-7)
    assert np.allclose(convex.leave_one_out(z, y, w, 0.05, steps=1), without, atol=1e-7), "those that do not arrive"


def test_gradient_and_hessian_are_those_of_the_loss():
    _, z, y, _, _, w = linear_case()

    def loss(flat):
        logits = z @ flat.view(6, 3)
        return nn.functional.cross_entropy(logits, y) + 0.025 * flat.square().sum()

    flat = torch.from_numpy(w).reshape(-1) + 0.1
    matrix = torch.autograd.functional.hessian(loss, flat).numpy()
    assert np.allclose(matrix, convex.hessian(z.numpy(), w + 0.1, 0.05))
    slope = torch.func.grad(loss)(flat).numpy()
    ours = convex.gradients(z.numpy(), y.numpy(), w + 0.1).mean(0) + 0.05 * (w + 0.1).reshape(-1)
    assert np.allclose(slope, ours)


def test_newtons_method_says_when_it_has_not_converged():
    _, z, y, _, _, w = linear_case()
    with pytest.raises(ArithmeticError, match="did not converge in 1 steps"):
        convex.fit(z.numpy(), y.numpy(), 3, 0.05, steps=1)
    assert np.array_equal(convex.fit(z.numpy(), y.numpy(), 3, 0.05, start=w, steps=1), w)


def test_one_newton_step_is_that_of_the_full_hessian_without_the_sample():
    _, z, y, _, _, w = linear_case()
    z, y = z.numpy(), y.numpy()
    moved = convex.newton_step(z, y, w, 0.05)
    for i in (0, 11):
        weights = np.ones(len(z))
        weights[i] = 0
        slope = z.T @ (convex.slopes(z, y, w) * weights[:, None]) / len(z) + 0.05 * w
        step = np.linalg.solve(convex.hessian(z, w, 0.05, weights), slope.reshape(-1)).reshape(w.shape)
        assert np.allclose(moved[i], -step)


def test_influence_is_the_derivative_by_the_weight_of_a_sample():
    _, z, y, _, _, w = linear_case()
    z, y = z.numpy(), y.numpy()
    weights = np.ones(len(z))
    weights[4] = 1 - 1e-4
    assert np.allclose((convex.fit(z, y, 3, 0.05, weights) - w) / 1e-4, convex.influence(z, y, w, 0.05)[4], atol=1e-4)


def test_ridge_without_refitting_and_with_much_decay():
    frame = study.ridge_case([900])
    assert np.allclose(frame["closed"], frame["refitted"], atol=1e-10)
    x, y = np.random.default_rng(0).normal(size=(2, 9))
    residual, closed = convex.ridge_leave_one_out(x[:, None], y, 1e9)
    assert np.allclose(residual, closed) and np.allclose(residual, y, atol=1e-6)


# --- retraining ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 8, 11])
def test_knn_shapley_is_that_of_all_subsets(k):
    x, y, x_test, y_test = toy(n=8, m=2, dtype=torch.float64)
    ours = retraining.knn_shapley(x, y, x_test, y_test, k)
    for t in range(2):
        order = torch.cdist(x, x_test[t : t + 1])[:, 0].argsort().tolist()

        def utility(members, t=t, order=order):
            nearest = [i for i in order if i in members][:k]
            return sum(y[i].item() == y_test[t].item() for i in nearest) / k

        for i in range(8):
            rest = [j for j in range(8) if j != i]
            total = 0.0
            for size in range(8):
                gains = [utility({*s, i}) - utility(set(s)) for s in itertools.combinations(rest, size)]
                total += sum(gains) / len(gains) / 8
            assert ours[i, t].item() == pytest.approx(total, abs=1e-12)


def test_banzhaf_by_reuse_is_banzhaf_over_all_subsets():
    weights = np.array([1.0, -2.0, 0.5])
    there = np.array(list(itertools.product([False, True], repeat=3)))
    assert np.allclose(retraining.in_less_out(there @ weights, there), weights)
    assert np.allclose(retraining.in_less_out((there @ weights)[:, None], there)[:, 0], weights)


def test_banzhaf_on_subsets_of_one_size_is_relative_to_the_mean_of_the_others():
    weights = np.array([1.0, -2.0, 0.5, 3.0])
    there = np.array([[i in chosen for i in range(4)] for chosen in itertools.combinations(range(4), 2)])
    shifted = weights - (weights.sum() - weights) / 3
    assert np.allclose(retraining.in_less_out(there @ weights, there), shifted)
    assert weights[2] > 0 > shifted[2]


def test_the_ceiling_is_what_scores_reach_that_know_the_mean():
    rng = np.random.default_rng(0)
    there = rng.random((2000, 30)) < 0.5
    weights = rng.normal(size=(30, 4))
    noise = [2 * rng.normal(size=(2000, 4)) for _ in range(2)]
    goals, again = (there @ weights + part for part in noise)
    top = retraining.ceiling(goals, again)
    assert 0.5 < top < 0.9 and retraining.lds(weights, there, goals) == pytest.approx(top, abs=0.02)
    assert retraining.ceiling(goals, goals) == 1 and retraining.ceiling(goals, -goals) == 0
    assert retraining.ceiling(*noise) < 0.2


def test_datamodels_find_what_is_additive_and_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    there = rng.random((300, 20)) < 0.5
    weights = rng.normal(size=(20, 3)) * (rng.random((20, 3)) < 0.3)
    goals = there @ weights + 0.1 * rng.normal(size=(300, 3))
    assert np.allclose(retraining.datamodel(there, goals, 1e-6), weights, atol=0.1)
    share = 0.05
    ours = retraining.datamodel_lasso(there, goals, share, sweeps=200)
    x, y = there - there.mean(0), goals - goals.mean(0)
    for k in range(3):
        alpha = share * np.abs(x.T @ y[:, k]).max() / len(x)
        assert np.allclose(ours[:, k], Lasso(alpha, tol=1e-10).fit(x, y[:, k]).coef_, atol=1e-6)
    assert np.allclose(retraining.datamodel_lasso(there, goals, 1.0), 0)
    assert retraining.lds(weights, there, goals) > 0.95


def test_memorization_of_a_sample_that_is_right_only_when_it_is_in():
    there = np.array([[True, False], [False, True], [True, True], [False, False]])
    assert retraining.memorization(there, there).tolist() == [1.0, 1.0]
    assert retraining.memorization(np.ones_like(there), there).tolist() == [0.0, 0.0]


def test_auc_and_spearman_in_their_limits():
    wanted = np.array([True, False, True, False])
    assert retraining.auc(np.ones(4), wanted) == 0.5
    assert retraining.auc(-np.arange(4.0), wanted) == 1 - retraining.auc(np.arange(4.0), wanted)
    assert math.isnan(retraining.auc(np.ones(4), np.ones(4, bool)))
    assert retraining.spearman(np.ones((4, 1)), np.arange(4.0)[:, None]).tolist() == [0.0]


# --- the study -----------------------------------------------------------------------------------------------------


LEARNER, PLAN = Perceptrons(Training((4,), steps=10)), study.Plan(40, 0.5, 2, 0.02, 10)


def equal(first, second):
    pd.testing.assert_frame_equal(first.reset_index(drop=True), second.reset_index(drop=True))


def test_judges_are_not_fitted_and_side_studies_change_nothing():
    sample = toy_sample()
    whole, _ = study.investigate(sample, LEARNER, PLAN, 5, side=True)
    torch.manual_seed(3)
    np.random.seed(3)
    alone, _ = study.investigate(sample, LEARNER, PLAN, 5, side=False)
    equal(whole.judged, alone.judged)
    assert alone.damped.empty and not whole.judged.equals(study.investigate(sample, LEARNER, PLAN, 6, False)[0].judged)
    t = study.trained(sample, LEARNER, PLAN, 5)
    moved = t._replace(goals=np.concatenate([t.goals[:30], -t.goals[30:]]))
    for method, value in study.from_retrainings(t).items():
        assert np.array_equal(study.from_retrainings(moved)[method], value), method


def test_a_seed_does_not_depend_on_its_company():
    several, seeds, training = [toy_sample(seed=k) for k in (0, 1)], [900, 901], Training((4,), steps=10)
    cases = [study.convex_case(sample, 3) for sample in several]
    for whole, alone in (
        (study.fragile(several, seeds, training, PLAN, [1, 2]),
         study.fragile(several[1:], seeds[1:], training, PLAN, [1, 2])),
        (study.warm_or_cold(several, seeds, training, 0.02),
         study.warm_or_cold(several[1:], seeds[1:], training, 0.02)),
        (study.convex_judged(cases, seeds), study.convex_judged(cases[1:], seeds[1:])),
        (study.groups(cases, seeds), study.groups(cases[1:], seeds[1:])),
        (study.ridge_case(seeds), study.ridge_case(seeds[1:])),
    ):  # fmt: skip
        equal(whole[whole["seed"] == 901], alone)
        assert set(whole["seed"]) == set(seeds)


def test_no_two_uses_of_chance_share_a_stream(monkeypatch):
    sample, used = toy_sample(), []
    t = study.trained(sample, LEARNER, PLAN, 5)
    monkeypatch.setattr(estimators, "project", lambda g, k, seed: used.append(seed) or g[:, :k])
    for seed in (5, 6):
        study.trak(t.models, sample, 4, seed)
    assert used[::2] == used[1::2] and len(set(used)) == 4  # training and test gradients alike; two models, two seeds
    names = [
        name for name in dir(study) if name.isupper() and isinstance(getattr(study, name), int) and name != "LEFT_OUT"
    ]
    assert len({study.stream(5, getattr(study, name)) for name in names}) == len(names) == 12


def test_side_studies_agree_with_the_main_study_where_they_meet():
    sample = toy_sample()
    t = study.trained(sample, LEARNER, PLAN, 5)
    found = study.scores(t, PLAN, 5)
    lds = study.judged(t, found, 5).query("kind == 'lds'").set_index("method")["value"]
    damped = study.damped(t, [PLAN.damping, 100.0], 5)["value"]
    assert damped[0] == lds["influence, one model"] and damped[1] != damped[0]
    costs = study.costs(t, found.single, 5).set_index(["method", "trainings"])["value"]
    assert costs["influence", 2] == lds["influence"] and costs["influence", 1] == lds["influence, one model"]
    assert costs["TRAK, ridge", 2] == lds["TRAK, ridge"]
    for method in ("datamodel, ridge", "datamodel, LASSO"):
        assert costs[method, 30] == lds[method]
    starts = study.starts(t, LEARNER, PLAN, 5).set_index(["start", "method"])["value"]
    assert starts["random", "influence"] == lds["influence, one model"]
    begun = study.stream(5, study.FIXED)
    outcomes = LEARNER.retrain(sample, t.rows[30:], begun, fixed=True)
    again = LEARNER.retrain(sample, t.rows[30:], begun, fixed=True)
    assert np.array_equal(outcomes.goals, again.goals), "with one start nothing is left to chance"
    (model,) = LEARNER.models(sample, 1, begun, fixed=True)
    score = estimators.influence(model.found(), PLAN.damping).scores.double().numpy()
    assert starts["fixed", "influence"] == retraining.lds(score, t.there[30:], outcomes.goals)


def test_the_ceiling_is_of_other_starts_on_the_same_subsets():
    sample = toy_sample()
    t = study.trained(sample, LEARNER, PLAN, 5)
    assert t.again.shape == (10, 6) and not np.array_equal(t.again, t.goals[30:])
    assert t.ceiling() == retraining.ceiling(t.goals[30:], t.again)
    again = LEARNER.retrain(sample, t.rows[30:], study.stream(5, study.AGAIN)).goals
    assert np.array_equal(t.again, again)
    row = study.judged(t, study.scores(t, PLAN, 5), 5).query("kind == 'ceiling'")
    assert row["value"].tolist() == [t.ceiling()]


def test_deep_networks_have_their_ceilings_and_what_is_kept_under_them():
    deep = study.fragile([toy_sample()], [900], Training((4,), steps=40), PLAN, [1, 2])
    table = deep.pivot(index=["depth", "decay"], columns="method", values="value")
    assert table.shape == (4, 4) and (table["ceiling"] > 0).all()
    assert np.allclose(table["kept"], table["influence"] / table["ceiling"])
    few = study.Plan(10, 0.5, 2, 0.02 - 1e-3 + 0.01, 10)
    t = study.trained(toy_sample(), Perceptrons(Training((4, 4), steps=40, decay=0.01)), few, 900, all_judge=True)
    mean = retraining.mean_of([estimators.influence(m.found(), few.damping).scores for m in t.models])
    assert t.judged == 10 and table.loc[(2, 0.01), "influence"] == t.lds(mean)


def test_further_training_of_a_model_with_decay_does_what_influence_functions_say():
    sample = toy_sample(60)
    ends = study.warm_or_cold([sample], [900], Training((), steps=2000, decay=0.05), 0.05).set_index("retraining")
    assert ends.index.tolist() == ["warm", "cold", "elsewhere"]
    assert ends.loc["warm", "value"] > 0.98, "the model is convex: Gauss-Newton and decay are its Hessian"
    assert np.allclose(ends["size"], ends.loc["warm", "size"], rtol=0.01), "there is one optimum, whatever the start"
    deep = study.warm_or_cold([sample], [900], Training((8,), steps=600, rate=0.1, decay=0.1), 0.1).set_index(
        "retraining"
    )
    assert deep.loc["warm", "value"] > 0.9
    assert deep.loc["elsewhere", "size"] > deep.loc["cold", "size"]


# --- the convex study ----------------------------------------------------------------------------------------------


def small_case():
    return study.convex_case(toy_sample(30, dtype=torch.float64), 3, 0.05)


def test_convex_scores_are_judged_by_exact_leave_one_out():
    case = small_case()
    found = study.convex_scores(case, 900, 0.05)
    frame = study.convex_judged([case], [900], 0.05).set_index("method")
    assert frame.loc["influence", "spearman"] > 0.95 and frame.loc["one Newton step", "spearman"] > 0.95
    assert abs(frame.loc["one Newton step", "slope"] - 1) < abs(frame.loc["influence", "slope"] - 1)
    assert frame["slope"].notna().sum() == len(study.SIZED)
    ranks = [spearmanr(found["dot"][:, k], case.removed[:, k]).statistic for k in range(6)]
    assert frame.loc["dot", "spearman"] == pytest.approx(np.mean(ranks)), "over training samples, for each test sample"
    perfect = study.convex_judged([case._replace(removed=2 * found["influence"])], [900], 0.05).set_index("method")
    assert perfect.loc["influence"].tolist() == pytest.approx([900, 1.0, 2.0])
    weights = np.ones(30)
    weights[4] = 0
    without = convex.fit(case.z, case.y, 3, 0.05, weights)
    change = convex.losses(case.z_test, case.y_test, without) - convex.losses(case.z_test, case.y_test, case.w)
    assert np.allclose(case.removed[4], change, atol=1e-7)


def test_a_group_of_one_is_its_member_and_a_copied_point_is_dispensable():
    case = small_case()
    ratios = study.group_ratios(study.groups([case], [900], 0.05, size=1))
    assert np.allclose(ratios["ratio"], 1, atol=1e-5) and ratios["rank"].min() > 0.95
    frame = study.groups([case], [900], 0.05, size=8)
    ratio = study.group_ratios(frame).set_index("kind")["ratio"]
    assert ratio["one class"] > ratio["random"]
    one = frame[(frame["kind"] == "one class") & (frame["group"] == 2)]
    rows = np.random.default_rng(study.stream(900, study.GROUPS))
    chosen = [rows.permutation(np.flatnonzero(case.y == label))[:8] for label in range(3)][2]
    assert np.allclose(one["summed"], case.removed[chosen].sum(0))


# --- the convolutional learner, data and figures -------------------------------------------------------------------


def test_the_convolutional_learner_returns_what_the_other_does():
    g = generator()
    x, x_test = torch.randn(12, 1, 6, 6, generator=g), torch.randn(4, 1, 6, 6, generator=g)
    sample = samples.Sample(x, torch.arange(12) % 3, np.zeros(12, bool), x_test, torch.arange(4) % 3, 3)
    plan = study.Plan(12, 0.5, 2, 0.02, 6)
    learner = Convolutional(Training((2, 3), steps=4))
    t = study.trained(sample, learner, plan, 0)
    assert t.goals.shape == (12, 4) and t.hits.shape == (12, 12) and t.hits_test.shape == (12, 4)
    assert all(np.isfinite(v).all() for v in study.scores(t, plan, 0).scores.values())
    alike = learner.retrain(sample, torch.arange(6).expand(2, -1), 3, fixed=True)
    assert np.allclose(alike.goals[0], alike.goals[1], atol=1e-5)
    net = learner.network(sample, 3)
    learner.train(sample, torch.arange(6)[None], [net])
    assert (net(sample.x).argmax(1) == sample.y).tolist() == alike.hits[0].tolist()
    assert (net(sample.x_test).argmax(1) == sample.y_test).tolist() == alike.hits_test[0].tolist()


def test_images_are_reduced_and_labels_are_wrong_as_often_as_asked():
    x = torch.rand(60, 1, 28, 28, generator=generator())
    data = Dataset(x, torch.arange(60) % 3, x[:20], torch.arange(20) % 3, 3)
    sample = samples.draw(data, 50, 10, 0.2, 900)
    assert sample.x.shape == (50, 1, 14, 14) and sample.wrong.sum() == 10
    assert abs(sample.x.mean().item()) < 1e-6
    assert samples.draw(data, 50, 10, 0.0, 900).wrong.sum() == 0


def test_the_key_figure_is_small_and_its_boundaries_are_on_the_plane():
    sample, plan = toy_sample(), study.Plan(24, 0.5, 1, 0.02, 10)
    found = study.scores(study.trained(sample, Perceptrons(Training((4,), steps=5)), plan, 0), plan, 0)
    image = sample._replace(x=sample.x.view(24, 1, 1, 5), x_test=sample.x_test.view(6, 1, 1, 5))
    shown = figures.boundaries(study.plane(900), study.strips(found, image, ["influence", "dot"], 3), image)
    assert len(shown["interactive"].to_json()) < 300_000
    plane = study.plane(900)
    for piece in figures._contour(plane.w):
        assert np.abs(study.quadratic(piece) @ (plane.w[:, 1] - plane.w[:, 0])).max() < 0.1


def test_without_wrong_labels_the_figure_says_so():
    sample = toy_sample()._replace(wrong=np.zeros(24, bool))
    frame = study.investigate(sample, LEARNER, PLAN, 5, side=False)[0].judged
    alt = figures.wrong(frame)["alt"]
    assert alt.startswith("No label is wrong") and "nan" not in alt
    frame = study.investigate(toy_sample(), LEARNER, PLAN, 5, side=False)[0].judged
    assert "finds wrong labels with AUC" in figures.wrong(frame)["alt"]


# --- what is refused -----------------------------------------------------------------------------------------------

two = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
LABELS = torch.tensor([0, 1])
GOOD = {"samples": 20, "subset": 0.5, "retrainings": 24, "projections": 10, "dims": 3, "depths": [1, 2], "models": 2,
        "hidden": [4, 4], "test_samples": 5}  # fmt: skip
SINGULAR = estimators.Products(two, two, torch.ones(2, 2), two, two)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimators.influence_dense(two, two, two * 0), "the Hessian with damping 0 is singular"),
        (lambda: estimators.influence_dense(two, two, -two), "not positive definite: raise damping"),
        (lambda: estimators.influence_cg(nn.Linear(2, 2), two, torch.tensor([0, 1]), two, torch.tensor([0, 1]), 0.0),
         "damping is 0: must be positive"),
        (lambda: estimators.influence(estimators.Products(two, two, two, two, two), -1.0), "damping is -1: must be"),
        (lambda: estimators.trak(torch.ones(2, 3), torch.ones(1, 3)), "3 projections of 2 samples with ridge 0"),
        (lambda: estimators.trak(torch.ones(3, 2), torch.ones(1, 2)), "2 x 2 matrix of gradients is sing"),
        (lambda: estimators.trak(torch.ones(3, 4), torch.ones(1, 4), kernel=True), "3 x 3 matrix of gradients is"),
        (lambda: estimators.trak(two, two, 1.0, kernel=True, divided=True), "kernel and divided together"),
        (lambda: estimators.influence(SINGULAR, 1e-30), "damping 1e-30 is lost in the rounding of torch.float32"),
        (lambda: estimators.influence(SINGULAR._replace(kernel=-torch.eye(2)), 0.5), "damping 0.5 is lost"),
        (lambda: estimators.influence(SINGULAR._replace(kernel=1e6 * torch.eye(2)), 1e-3), "damping 0.001 is lost"),
        (lambda: estimators.gradients(nn.Linear(2, 2), two, LABELS + 1), "y from 1 to 2: must be 0 to 1"),
        (lambda: estimators.hessian(nn.Linear(2, 2), two, LABELS - 1), "y from -1 to 0: must be 0 to 1"),
        (lambda: estimators.products(nn.Linear(2, 2), two, LABELS, two, LABELS + 1), "y_test from 1 to 2: must be"),
        (lambda: estimators.influence_cg(nn.Linear(2, 2), two, LABELS, two, LABELS + 1, 1.0), "y_test from 1 to 2"),
        (lambda: estimators.trak_scores([], []), "must be one or more"),
        (lambda: estimators.tracin([0.1], [], []), "must be one a checkpoint"),
        (lambda: estimators.gradients(nn.BatchNorm1d(2), two, torch.tensor([0, 1])), "call eval() first"),
        (lambda: retraining.subsets(3, 4, 0, generator()), "subsets of 0 of 4 samples: must be 1 to 3"),
        (lambda: retraining.subsets(3, 4, 4, generator()), "subsets of 4 of 4 samples: must be 1 to 3"),
        (lambda: retraining.subsets(0, 4, 2, generator()), "0 subsets: must be 1 or more"),
        (lambda: retraining.datamodel(np.eye(2) > 0, np.eye(2), 0.0), "penalty is 0: must be positive"),
        (lambda: retraining.datamodel_lasso(np.eye(2) > 0, np.eye(2), 2.0), "share is 2: must be"),
        (lambda: retraining.knn_shapley(two, torch.tensor([0, 1]), two, torch.tensor([0, 1]), 0), "k is 0: must be"),
        (lambda: retraining.lds(np.eye(2), np.eye(2) > 0, np.eye(2)), "a rank correlation needs 3 or more"),
        (lambda: convex.fit(np.eye(3), np.zeros(3, int), 2, 0.1), "all labels are of one class"),
        (lambda: convex.fit(np.eye(3), np.array([0, 1, 1]), 2, 0.0), "decay is 0: must be positive"),
        (lambda: convex.ridge_leave_one_out(np.ones((3, 2)), np.ones(3), 0.0), "is singular: raise decay"),
        (lambda: convex.ridge_leave_one_out(np.eye(2), np.ones(2), 0.0), "sample 0 has leverage 1"),
        (lambda: Training(rate=0.0), "steps, rate and units must be positive"),
        (lambda: Convolutional(Training((4,))).network(toy_sample(), 0), "must be images and two"),
        (lambda: samples.draw(Dataset(two, torch.zeros(2).long(), two, torch.zeros(2).long(), 2), 2, 1, 0.0, 0),
         "all labels are of one class"),
        (lambda: study.validate(**GOOD | {"subset": 0.0}), "subsets of 0 of 20 samples: must be 1 to 19"),
        (lambda: study.validate(**GOOD | {"subset": 1.0}), "subsets of 20 of 20 samples: must be 1 to 19"),
        (lambda: study.validate(**GOOD | {"projections": 30}), "30 projections of 20 samples: must be at most 20"),
        (lambda: study.validate(**GOOD | {"retrainings": 8}), "8 retrainings: a quarter of them judges"),
        (lambda: study.validate(**GOOD | {"depths": [2, 2]}), "depths is [2, 2]: must be two or more that differ"),
        (lambda: study.validate(**GOOD | {"dims": 0}), "0 principal components: must be 1 or more"),
        (lambda: Convolutional(Training((2, 2), momentum=0.5)), "momentum is 0.5: must be 0.9"),
        (lambda: study.validate(**GOOD | {"retrainings": 600_000}), "retrainings times samples is 12000000: must be"),
        (lambda: study.validate(**GOOD | {"test_samples": 500_000}), "retrainings times samples is 12000000: must be"),
        (lambda: study.validate(**GOOD | {"models": 2000}), "hidden units is 320000: must be at most 200000"),
        (lambda: study.validate(**GOOD | {"depths": [1, 2000]}), "hidden units is 320000: must be at most 200000"),
        (lambda: study.validate(**GOOD | {"hidden": [300, 200]}, convolutional=True), "channels is 10000: must be"),
        (lambda: study.check_classes(1000, 11), "1000 samples of 11 classes: their product must be at most 10000"),
        (lambda: study.validate(**GOOD, enough_seeds=False), "side_seeds is larger than seeds"),
    ],
)  # fmt: skip
def test_bad_values_are_refused_in_one_line(call, message):
    study.validate(**GOOD)
    study.validate(**GOOD, convolutional=True)
    study.check_classes(1000, 10)
    with pytest.raises(ValueError, match=re.escape(message)) as raised:
        call()
    assert "\n" not in str(raised.value)
