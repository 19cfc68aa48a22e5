"""Networks, alignments, powers and the kernel machine against autograd, closed forms, invariance and limits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import generator
from torch import nn
from torch.func import jacrev, vmap

from phenomena.chapters.feature_learning import figures, kernel_machine, networks, study, theory
from phenomena.chapters.feature_learning.networks import Rule
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store.chapters import Project
from phenomena.science import datasets
from phenomena.science.datasets import Dataset

CHAPTER = Project(Path(__file__).parents[2]).chapter("feature_learning")
SEEDS = [3, 4]


def drawn(sizes=(6, 7, 5, 2), seeds=SEEDS, scale=1.0, rows=9):
    """Weights in float64 and inputs, a network for each seed."""
    weights = [w.double() for w in networks.initial(sizes, scale, study.generators(seeds, "weights"))]
    x = torch.stack([torch.randn(rows, sizes[0], generator=generator(s), dtype=torch.float64) for s in seeds])
    return weights, x


def readable(weights, x, linear=False):
    """f of one network and one row, as the paper writes it."""
    for w in weights[:-1]:
        x = w @ x if linear else torch.relu(w @ x)
    return weights[-1] @ x


# --- networks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("linear", [False, True])
def test_loss_and_gradients_are_those_of_autograd(linear):
    weights, x = drawn()
    y = torch.randn(2, 9, 2, generator=generator(1), dtype=torch.float64)
    loss, slopes = networks.gradients(weights, x, y, linear)
    for s in range(2):
        own = [w[s].clone().requires_grad_() for w in weights]
        twin = sum((readable(own, row, linear) - goal).square().sum() for row, goal in zip(x[s], y[s], strict=True)) / 9
        twin.backward()
        assert loss[s].item() == pytest.approx(twin.item())
        assert all(torch.allclose(slope[s], w.grad) for slope, w in zip(slopes, own, strict=True))


@pytest.mark.parametrize("linear", [False, True])
def test_the_kernel_gives_the_gradient_product_of_every_layer(linear):
    """W^T K W is the mean outer product of df/da, by autograd from the layer's input on."""
    weights, x = drawn()
    for layer in (1, 2):
        kernel = networks.tangent_kernel(weights, x, layer, linear)
        product = theory.gradient_product(weights[layer - 1], kernel)
        _, inputs = networks.forward(weights, x, linear)
        for s in range(2):
            rest = [w[s] for w in weights[layer - 1 :]]
            slopes = vmap(jacrev(lambda a, rest=rest: readable(rest, a, linear)))(inputs[layer - 1][s])
            twin = torch.einsum("nci,ncj->ij", slopes, slopes) / 9
            assert torch.allclose(product[s], twin)


def test_what_belongs_to_a_seed_does_not_depend_on_its_company():
    def learned(seeds):
        data = study.chain(8, 3, 20, seeds)
        return study.learn(data, 10, 2, 0.3, Rule(0.1), [0, 5], seeds)

    alone, beside = learned([4]), learned([3, 4])
    there = beside.aligned[beside.aligned["seed"] == 4].reset_index(drop=True)
    assert alone.aligned.reset_index(drop=True).equals(there)
    assert torch.equal(alone.features[0], beside.features[1])


def test_steps_are_those_of_their_rule():
    weights, x = drawn()
    y = torch.zeros(2, 9, 2, dtype=torch.float64)
    _, slopes = networks.gradients(weights, x, y)

    def step(rule):
        return [w.clone() for w in next(networks.train(weights, x, y, rule, [1]))[1]]

    plain, decayed = step(Rule(0.01)), step(Rule(0.01, decay=2.0))
    limited = step(Rule(0.5, speeds=(1.0, 0.0, 0.2)))
    for w, g, p, d, s, speed in zip(weights, slopes, plain, decayed, limited, (1.0, 0.0, 0.2), strict=True):
        assert torch.allclose(p, w - 0.01 * g)
        assert torch.allclose(d, 0.98 * w - 0.01 * g)
        moved = (s - w).square().sum((1, 2)).sqrt()
        assert moved.tolist() == pytest.approx([0.5 * speed] * 2)
        assert torch.allclose(w - s, 0.5 * speed * g / g.square().sum((1, 2), keepdim=True).sqrt())


def test_speeds_are_limited_to_zero_at_the_end():
    weights, x = drawn()
    rule = Rule(0.1, speeds=(1.0, 1.0, 1.0))
    found = {t: w[0].clone() for t, w in networks.train(weights, x, x[:, :, :2].contiguous(), rule, range(11))}
    sizes = [(found[t + 1] - found[t]).square().sum((1, 2)).sqrt()[0].item() for t in range(10)]
    assert sizes == pytest.approx([0.1 * (1 - t / 10) for t in range(10)])


# --- alignments -------------------------------------------------------------------------------------------------------


def positive(*shape, seed=0):
    a = torch.randn(*shape, shape[-1], generator=generator(seed), dtype=torch.float64)
    return a @ a.transpose(-2, -1)


def test_alignments_do_not_depend_on_the_basis_or_the_size():
    w, kernel = torch.randn(5, 4, generator=generator(), dtype=torch.float64), positive(5)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=generator(1), dtype=torch.float64))[0]
    hidden = torch.linalg.qr(torch.randn(5, 5, generator=generator(2), dtype=torch.float64))[0]
    for alignment in (theory.right_alignment, theory.left_alignment):
        value = alignment(w, kernel)
        assert torch.allclose(alignment(3 * w @ turn, 7 * kernel), value)
        assert torch.allclose(alignment(hidden @ w, hidden @ kernel @ hidden.T), value)
    assert torch.isnan(theory.right_alignment(0 * w, kernel))


def test_a_change_of_rank_one_is_aligned_from_the_right_whatever_the_kernel():
    q, u = torch.randn(6, 1, generator=generator()), torch.randn(1, 4, generator=generator(1))
    for seed in range(3):
        kernel = positive(6, seed=seed).float()
        assert theory.right_alignment(q @ u, kernel).item() == pytest.approx(1, abs=1e-5)
        assert theory.left_alignment(q @ u, kernel) < 0.99


def test_a_kernel_of_the_weights_own_directions_is_aligned():
    w = torch.randn(6, 4, generator=generator(), dtype=torch.float64)
    assert theory.left_alignment(w, w @ w.T).item() == pytest.approx(1)
    assert theory.right_alignment(w, torch.eye(6, dtype=torch.float64)).item() == pytest.approx(1)


def test_chance_from_the_left_is_exact_in_the_mean_over_rotations():
    w, kernel = torch.randn(8, 3, generator=generator(), dtype=torch.float64), positive(8) ** 2
    g, many = generator(5), kernel.expand(20_000, 8, 8)
    turned = theory.rotated(many, g)
    assert torch.allclose(torch.linalg.eigvalsh(turned[0]), torch.linalg.eigvalsh(kernel))
    found = theory.left_alignment(w.expand(20_000, 8, 3), turned)
    assert found.mean().item() == pytest.approx(theory.left_chance(w, kernel).item(), abs=4 * found.std().item() / 141)


@pytest.mark.parametrize(("width", "inputs", "rank"), [(60, 20, 60), (60, 20, 10), (40, 80, 15)])
def test_random_weights_have_the_alignment_of_the_closed_form(width, inputs, rank):
    kernel = torch.diag((torch.arange(width) < rank).double())
    w = torch.randn(400, width, inputs, generator=generator(), dtype=torch.float64)
    found = theory.right_alignment(w, kernel.expand(400, -1, -1)).mean().item()
    assert found == pytest.approx(theory.random_alignment(width, inputs, rank), abs=0.01)


@pytest.mark.parametrize("power", [1 / 4, 1 / 3, 0.41, 1.0])
def test_the_power_is_found(power):
    values = torch.diag(torch.tensor([3.0, 1.5, 0.7, 0.2], dtype=torch.float64))
    turn = torch.linalg.qr(torch.randn(4, 4, generator=generator(), dtype=torch.float64))[0]
    g = turn @ values @ turn.T
    f = turn @ torch.diag(values.diagonal() ** power) @ turn.T
    assert theory.best_power(f, g).item() == pytest.approx(power, rel=1e-3)
    assert theory.power_cosines(f, g, np.array([power])).item() == pytest.approx(1)


def test_weights_in_the_basis_of_their_rows_keep_powers_and_overlaps():
    w, kernel = torch.randn(4, 30, generator=generator(), dtype=torch.float64), positive(4)
    small = theory.reduced(w)
    assert small.shape == (4, 4) and theory.reduced(w.T).shape == (30, 4)
    pairs = [(theory.feature_matrix(v), theory.gradient_product(v, kernel)) for v in (w, small)]
    tried = np.array([0.5, 1.0, 2.0])  # lower ones raise the rounding of eigenvalues that are zero
    cosines, overlaps = zip(
        *((theory.power_cosines(f, g, tried), theory.overlap(f, g, 2)) for f, g in pairs), strict=True
    )
    assert cosines[0] == pytest.approx(cosines[1], rel=1e-6) and torch.allclose(overlaps[0], overlaps[1])


def test_leading_directions_have_by_chance_their_share_in_common():
    f, g = (positive(3000, 10, seed=seed) for seed in (0, 1))
    assert theory.overlap(f, f, 3).mean().item() == pytest.approx(1)
    assert theory.overlap(f, g, 3).mean().item() == pytest.approx(3 / 10, abs=0.01)


# --- what the chapter measures ----------------------------------------------------------------------------------------


def test_subtracting_in_place_changes_the_network_as_the_reproduction_note_says():
    """The two lines of the published script, on a network of torch: its first layer is then W - W0."""
    net = nn.Sequential(nn.Linear(4, 5, bias=False), nn.ReLU(), nn.Linear(5, 1, bias=False))
    first = torch.randn(5, 4, generator=generator()).numpy()
    before, parameter = net[0].weight.detach().clone(), next(iter(net.parameters()))
    array = parameter.data.numpy()
    array -= first
    assert torch.equal(net[0].weight.detach(), before - torch.from_numpy(first))


def test_the_published_check_is_computed_on_the_network_that_is_left():
    first, x = drawn((6, 7, 5, 2))
    weights, _ = drawn((6, 7, 5, 2), seeds=[8, 9])
    for layer in (1, 2):
        kernel = networks.tangent_kernel(weights, x, layer)
        row = study.alignments(weights, first, kernel, layer, study.generators(SEEDS, "rotations"), x)
        for s in range(2):
            change = weights[layer - 1][s] - first[layer - 1][s]
            _, inputs = networks.forward(weights, x)
            products = []
            for w in (change, weights[layer - 1][s]):  # as coded, as trained
                rest = [w, *(later[s] for later in weights[layer:])]
                slopes = vmap(jacrev(lambda a, rest=rest: readable(rest, a)))(inputs[layer - 1][s])
                products.append(torch.einsum("nci,ncj->ij", slopes, slopes))
            for name, product in zip(("coded", "mixed"), products, strict=True):
                assert row[name][s].item() == pytest.approx(theory.cosine(change.T @ change, product).item())


def test_the_chain_has_unit_variance_and_no_linear_part():
    data = study.chain(6, 4, 20_000, [1])
    assert data.y.mean().abs() < 0.03 and data.y.var().item() == pytest.approx(1, abs=0.06)
    assert (data.x[0].T @ data.y[0] / 20_000).abs().max() < 0.03
    assert (data.x[0, 0, :4] * data.x[0, 0, [1, 2, 3, 0]]).sum().item() / 2 == pytest.approx(data.y[0, 0].item())
    noise = study.chain(6, 4, 20_000, [1], random=True)
    assert torch.equal(noise.x, data.x) and torch.equal(noise.y_test, data.y_test)
    assert (noise.y * data.y).mean().abs() < 0.03 and noise.y.var().item() == pytest.approx(1, abs=0.06)


def test_images_are_centered_and_scaled_and_shuffled_labels_are_the_same_labels():
    data = study.images(datasets.digits(), 60, SEEDS)
    assert data.x.mean(1).abs().max() < 1e-5 and data.x.norm(dim=2).mean(1).tolist() == pytest.approx([8, 8])
    shuffled = study.images(datasets.digits(), 60, SEEDS, random=True)
    assert torch.equal(shuffled.x, data.x) and torch.equal(shuffled.y_test, data.y_test)
    assert torch.allclose(shuffled.y.sum(1), data.y.sum(1), atol=1e-4) and not torch.equal(shuffled.y, data.y)
    assert data.y.sum(2).abs().max() < 1e-6


def test_small_weights_that_learn_the_chain_align():
    data = study.chain(12, 3, 300, SEEDS)
    learned = study.learn(data, 40, 2, 0.3, Rule(0.2), [0, 1, 150], SEEDS)
    start, end = study.at_step(learned, 0), study.at_step(learned, 150)
    assert (end["uncentered_2"] > start["uncentered_2"] + 0.3).all() and (end["test"] < 0.4).all()
    assert start[["centered_1", "left_2"]].isna().all(axis=None) and (start["moved_1"] == 0).all()
    assert (study.corner(learned.products, 3) > 0.8).all()
    assert (study.at_step(learned, 1)["left_1"] > 3 * study.at_step(learned, 1)["left_rotated_1"]).all()


def test_deep_linear_networks_come_into_balance_with_decay_and_only_then():
    course, cosines = study.deep_linear(3, 1.0, study.LINEAR_DECAY, SEEDS)
    last = course[course["step"] == study.LINEAR_STEPS]
    assert last["power"].tolist() == pytest.approx([1 / 3] * 2, abs=0.01) and (last["root"] > 0.999).all()
    assert (last["imbalance"] / last["flow"]).tolist() == pytest.approx([1, 1], abs=0.1)
    assert cosines["cosine"].max() == pytest.approx(1, abs=1e-3)
    free, _ = study.deep_linear(3, 1.0, 0.0, SEEDS, steps=200)
    assert free["imbalance"].tolist() == pytest.approx([1] * len(free), abs=0.15) and (free["flow"] == 1).all()


# --- the kernel machine -----------------------------------------------------------------------------------------------


def test_the_kernel_machine_interpolates_and_its_gradients_are_those_of_autograd():
    g = generator()
    x = torch.randn(1, 12, 3, generator=g, dtype=torch.float64)
    y = torch.randn(1, 12, 2, generator=g, dtype=torch.float64)
    metric = positive(1, 3)
    fitted = kernel_machine.fit(x, y, metric, 2.0, 0.0)
    assert torch.allclose(kernel_machine.predict(fitted, x, x, metric, 2.0), y)

    def others(point, number):  # a point's own kernel has a kink where it stands
        rest = [k for k in range(12) if k != number]
        apart = ((point - x[0, rest]) @ metric[0] * (point - x[0, rest])).sum(1).sqrt()
        return (-apart / 2.0).exp() @ fitted.coefficients[0, rest]

    slopes = torch.stack([jacrev(others)(x[0, k], k) for k in range(12)])
    twin = torch.einsum("nci,ncj->ij", slopes, slopes) / 12
    assert torch.allclose(kernel_machine.gradient_product(fitted, x, metric, 2.0)[0], twin)


def test_the_recursive_machine_finds_the_inputs_that_matter_and_none_in_noise():
    found, metric = study.recursive_machine(study.chain(10, 3, 200, SEEDS), 3, 2.0, 1e-3, 3, SEEDS)
    last = found[found["round"] == 3]
    assert (last["corner"] > 0.8).all() and (last["test"] < found[found["round"] == 0]["test"].to_numpy()).all()
    assert metric.diagonal(dim1=1, dim2=2).sum(1).tolist() == pytest.approx([10, 10], rel=1e-4)
    noise, _ = study.recursive_machine(study.chain(10, 3, 200, SEEDS, random=True), 3, 2.0, 1e-3, 3, SEEDS)
    assert (noise["corner"] < 0.6).all()


def test_a_metric_of_the_true_inputs_is_better_than_none():
    data = study.chain(10, 3, 200, SEEDS)
    plain, true = torch.eye(10).expand(2, -1, -1), torch.diag((torch.arange(10) < 3).float()).expand(2, -1, -1)
    rows = study.borrowed_metrics(data, {"plain": plain, "true": true}, 2.0, 1e-3, SEEDS)
    means = rows.groupby("metric")["test"].mean()
    assert means["true"] < 0.6 * means["plain"]


# --- figures ----------------------------------------------------------------------------------------------------------


def test_directions_that_both_matrices_hold_come_first_and_have_one_sign():
    turn = torch.linalg.qr(torch.randn(16, 16, generator=generator(), dtype=torch.float64))[0]
    f = turn[:, :3] @ torch.diag(torch.tensor([3.0, 2.0, 1.0]).double()) @ turn[:, :3].T
    g = turn[:, [0, 1, 5]] @ torch.diag(torch.tensor([1.0, 3.0, 2.0]).double()) @ turn[:, [0, 1, 5]].T
    left, right = figures._directions((f, g), (1, 4, 4))
    cosines = [float((a * b).sum()) for a, b in zip(left, right, strict=True)]
    assert cosines == pytest.approx([1, 1, 0], abs=1e-6) and left[0].shape == (4, 4)
    assert figures._directions((f, g), (1, 16))[0][0].shape == (1, 16)


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Rule(0.0), "rate is 0.0: must be above 0 and finite"),
        (lambda: Rule(0.5, decay=2.0), "decay is 2.0: must be 0 or more and below 1 / rate = 2"),
        (lambda: Rule(0.5, speeds=(0.0, 0.0)), r"speeds are \(0.0, 0.0\): must be 0 or more, and one of them above 0"),
        (lambda: networks.initial([3, 1], 1.0, []), r"sizes are \[3, 1\]: must be three or more, for two layers"),
        (lambda: networks.tangent_kernel(*drawn(), 3), "layer 3 of 3: must be 1 to 2, the hidden ones"),
        (lambda: study.chain(4, 5, 10, [0]), "monomials is 5: must be 3 to dimension = 4, an input for each"),
        (lambda: study.chain(4, 3, 0, [0]), "samples is 0: must be 1 or more"),
        (lambda: theory.random_alignment(5, 3, 6.0), "rank is 6.0: must be 1 to width = 5"),
        (lambda: theory.overlap(torch.eye(3), torch.eye(3), 4), "count is 4: must be 1 to 3, the eigenvectors there"),
        (
            lambda: kernel_machine.fit(*[torch.zeros(1, 3, 3)] * 3, 0.0, 0.1),
            "bandwidth 0.0 and ridge 0.1: must be above 0",
        ),
    ],
)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_training_that_cannot_be_measured_or_diverges_is_refused_in_one_line():
    data = study.chain(6, 3, 20, [0])
    with pytest.raises(ValueError, match=r"^depth is 1: must be 2 or more hidden layers"):
        study.learn(data, 5, 1, 0.3, Rule(0.1), [0], [0])
    with pytest.raises(ValueError, match=r"^2 speeds for 3 layers: must be one for each$"):
        study.learn(data, 5, 2, 0.3, Rule(0.1, speeds=(1.0, 1.0)), [0, 1], [0])
    with pytest.raises(ValueError, match=r"^training diverged by step \d+: .*lower the rate$"):
        study.learn(data, 5, 2, 3.0, Rule(50.0), [0, 60], [0])
    learned = study.learn(data, 5, 2, 0.3, Rule(0.1), [0, 1], [0])
    with pytest.raises(ValueError, match=r"^step is 7: must be one of \[0, 1\]$"):
        study.at_step(learned, 7)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.rand(6, 1, 4), torch.zeros(6), "all 5 training samples of seed 0 are of one class: must be of two"),
        (torch.ones(6, 1, 4), torch.arange(6) % 2, "all 5 training samples of seed 0 are the same: must differ"),
    ],
)
def test_data_with_nothing_to_learn_are_refused_in_one_line(x, y, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        study.images(Dataset(x, y.long(), x, y.long(), 2), 5, [0])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"monomials": 40}, "every product needs an input of its own"),
        ({"depth": 1}, "depth"),
        ({"side_seeds": 11}, "side studies are held against the main one"),
        ({"small": 2.0}, "the small weights are compared with the usual ones"),
        ({"decay": 30.0}, "a step would take more than the weights"),
        ({"image_samples": 1500}, "the digits have 1,297 training images"),
        ({"dataset": "mnist1d", "image_samples": 5000}, "MNIST-1D has 4,000 training signals"),
    ],
)
def test_parameters_that_do_not_fit_are_refused_before_a_run(given, message):
    with pytest.raises(BadInput, match=message):
        CHAPTER.resolve("default", given)
