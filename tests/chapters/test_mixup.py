"""Mixup: the closed form against sampling and by hand, laws by their moments, mixing against torchvision, geometry."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from scipy.spatial.distance import cdist
from torchvision.transforms import v2

from phenomena.chapters.mixup import softmax_networks as networks
from phenomena.chapters.mixup import theory as mixup
from phenomena.runs.contract.parameters import VOCABULARY
from phenomena.science import datasets, metrics, training


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def one_hot(*labels):
    return F.one_hot(torch.tensor(labels)).float()


# The law of lambda


@pytest.mark.parametrize("alpha", [1e-4, 1e-2, 0.3, 1.0, 32.0, 1024.0, 1e4])
def test_beta_is_drawn_with_its_moments(alpha):
    lam = mixup.beta_law(alpha).quantile(torch.rand(200_000, generator=generator(), dtype=torch.float64))
    assert ((lam >= 0) & (lam <= 1)).all()
    centred = lam - 0.5
    variance = 1 / (4 * (2 * alpha + 1))
    kurtosis = 3 - 6 / (2 * alpha + 3)
    assert centred.mean().abs() < 5 * (variance / len(lam)) ** 0.5
    assert centred.square().mean().item() == pytest.approx(variance, rel=0.02)
    assert centred.pow(4).mean().item() == pytest.approx(kurtosis * variance**2, rel=0.05)


def test_ratio_of_gamma_draws_collapses_where_ours_does_not():
    """The fault that the inverse of the distribution function avoids: at alpha = 1e-4 almost every draw is 0 or 1."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        ratio = torch.distributions.Beta(1e-4, 1e-4).sample((10_000,))
    ours = mixup.beta_law(1e-4).quantile(torch.rand(10_000, generator=generator(), dtype=torch.float64))
    assert ((ratio - 0.5).abs() < 1e-6).float().mean() > 0.5
    assert ((ours - 0.5).abs() < 0.4).float().mean() < 0.01


@pytest.mark.parametrize("law", [mixup.beta_law(0.2), mixup.beta_law(7.0), mixup.atoms_law([0.8, 0.2], [0.5, 0.5])])
def test_mass_agrees_with_draws(law):
    lam = law.quantile(torch.rand(400_000, generator=generator(), dtype=torch.float64)).numpy()
    for low, high in ((0.0, 1.0), (0.0, 0.3), (0.15, 0.45), (0.6, 1.0)):
        share, first = law.mass(np.array(low), np.array(high))
        inside = (low <= lam) & (lam <= high)
        assert share == pytest.approx(inside.mean(), abs=4e-3)
        assert first == pytest.approx((lam * inside).mean(), abs=4e-3)


def test_laws_refuse_what_they_cannot_be():
    for alpha in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="positive finite"):
            mixup.beta_law(alpha)
    with pytest.raises(ValueError, match="not symmetric"):
        mixup.atoms_law([0.1, 0.5], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"values in \[0, 1\]"):
        mixup.atoms_law([0.5], [0.9])


# The closed form


def sampled(x, targets, query, law, epsilon, draws=1_000_000):
    """The same expectation by drawing pairs and lambda."""
    g = generator(1)
    i, j = (torch.randint(len(x), (draws,), generator=g) for _ in range(2))
    lam = law.quantile(torch.rand(draws, 1, generator=g, dtype=torch.float64))
    inside = (lam * x[i] + (1 - lam) * x[j] - query).norm(dim=1) <= epsilon
    return (lam * targets[i] + (1 - lam) * targets[j])[inside].mean(0)


@pytest.mark.parametrize("law", [mixup.beta_law(1.0), mixup.beta_law(0.3), mixup.beta_law(20.0)])
@pytest.mark.parametrize("features", [1, 2])
def test_optimum_agrees_with_sampling(law, features):
    x = torch.randn(6, features, generator=generator(3), dtype=torch.float64)
    targets = torch.rand(6, 3, generator=generator(4), dtype=torch.float64)
    targets /= targets.sum(1, keepdim=True)
    for query in (x[2], (x[0] + x[1]) / 2):
        found = mixup.optimum(x, targets, query[None], law, 0.3)[0]
        assert torch.allclose(found, sampled(x, targets, query, law, 0.3), atol=0.01)
        assert found.sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("alpha", [0.1, 1.0, 32.0, 1024.0])
@pytest.mark.parametrize("epsilon", [0.05, 0.13, 0.3])
def test_middle_of_three_points_by_hand(alpha, epsilon):
    x, targets = mixup.alternating_line(3, 2)
    found = mixup.optimum(x, targets, x, mixup.beta_law(alpha), epsilon)[:, 0]
    assert found[1].item() == pytest.approx(mixup.middle_of_three(alpha, epsilon), abs=1e-12)
    assert found[0].item() == pytest.approx(found[2].item(), abs=1e-12)


def test_limits_of_alpha():
    """Towards 0 Mixup is ERM; towards infinity the middle of three is 2/3 of the outer class (papers: DER)."""
    x, targets = mixup.alternating_line(3, 2)
    rare = mixup.optimum(x, targets, x, mixup.beta_law(1e-6), 0.1)
    assert torch.allclose(rare, targets.double(), atol=1e-4)
    assert mixup.middle_of_three(1e6, 0.1) == pytest.approx(2 / 3, abs=1e-6)
    half = mixup.optimum(x, targets, x[1:2], mixup.atoms_law([0.5], [1.0]), 0.1)
    assert half[0, 0] == pytest.approx(2 / 3, abs=1e-12)


def test_optimum_does_not_mind_rotation_order_or_scale():
    x = torch.randn(7, 2, generator=generator(5), dtype=torch.float64)
    targets = one_hot(0, 1, 2, 0, 1, 2, 0)
    queries = torch.cat([x[:2], (x[0] + x[3])[None] / 2])
    rotation, _ = torch.linalg.qr(torch.randn(2, 2, generator=generator(6), dtype=torch.float64))
    order = torch.randperm(7, generator=generator(7))
    plain = mixup.optimum(x, targets, queries, mixup.beta_law(2.0), 0.2)
    turned = mixup.optimum(3 * x @ rotation, targets, 3 * queries @ rotation, mixup.beta_law(2.0), 0.6)
    mixed = mixup.optimum(x[order], targets[order], queries, mixup.beta_law(2.0), 0.2)
    assert torch.allclose(plain, turned, atol=1e-9)
    assert torch.allclose(plain, mixed, atol=1e-12)


def test_discontinuity_at_the_crossing():
    """Proposition 2.5: two classes on crossing segments; at the crossing (1/2, 1/2), beside it the segment's class."""
    x = torch.tensor([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]])
    targets = one_hot(0, 0, 1, 1)
    for epsilon in (1e-2, 1e-3, 1e-4):
        queries = torch.tensor([[0.0, 0.0], [0.0, 2 * epsilon], [2 * epsilon, 0.0]])
        found = mixup.optimum(x, targets, queries, mixup.beta_law(1.0), epsilon)
        assert torch.allclose(found[0], torch.tensor([0.5, 0.5], dtype=torch.float64), atol=1e-9)
        assert found[1, 0].item() == pytest.approx(1, abs=1e-9)
        assert found[2, 1].item() == pytest.approx(1, abs=1e-9)


def test_trained_networks_come_near_the_closed_form():
    """A wide network trained on X_3^2 where the optimum is smooth: alpha = 1, at the outer points and between."""
    x, targets = mixup.alternating_line(3, 2)
    law = mixup.beta_law(1.0)
    net = networks.train(x.expand(4, -1, -1), targets.expand(4, -1, -1), range(4), law.quantile, width=128, steps=2500)
    at = torch.tensor([[0.0], [0.5], [1.5], [2.0]])
    mean = networks.logits(net, at.expand(4, -1, -1)).softmax(2).mean(0).double()
    assert (mean - mixup.optimum(x, targets, at, law, 0.13)).abs().max() < 0.12


@pytest.mark.parametrize(
    ("x", "targets", "epsilon", "match"),
    [
        ([[0.0], [1.0]], [[1.0, 0.0], [1.0, 0.0]], 0.1, "one class"),
        ([[0.0], [0.0]], [[1.0, 0.0], [0.0, 1.0]], 0.1, r"rows \[0, 1\] coincide"),
        ([[0.0], [1.0]], [[0.7, 0.0], [0.0, 1.0]], 0.1, "no distributions"),
        ([[0.0], [1.0]], [[1.5, -0.5], [0.0, 1.0]], 0.1, "no distributions"),
        ([[0.0], [1.0]], [[1.0, 0.0], [0.0, 1.0]], 0.0, "positive radius"),
        ([[0.0], [1.0]], [[1.0, 0.0], [0.0, 1.0]], 1e-3, "leaves no mass"),
        ([[0.0], [1.0], [2.0]], [[1.0, 0.0], [0.0, 1.0]], 0.1, "expected"),
    ],
)
def test_closed_form_says_where_it_is_undefined(x, targets, epsilon, match):
    with pytest.raises(ValueError, match=match):
        mixup.optimum(torch.tensor(x), torch.tensor(targets), torch.tensor([[2.0]]), mixup.beta_law(1.0), epsilon)


def test_copies_of_a_row_with_one_label_are_welcome():
    x, targets = torch.tensor([[0.0], [0.0], [1.0]]), one_hot(0, 0, 1)
    assert mixup.optimum(x, targets, x[:1], mixup.beta_law(1.0), 0.1)[0, 0] > 0.9


def test_alternating_line():
    x, targets = mixup.alternating_line(5, 3)
    assert x.flatten().tolist() == [0, 1, 2, 3, 4]
    assert targets.argmax(1).tolist() == [0, 1, 2, 0, 1]
    with pytest.raises(ValueError, match="2 classes or more"):
        mixup.alternating_line(3, 1)
    with pytest.raises(ValueError, match="between 0 and 1/2"):
        mixup.middle_of_three(1.0, 0.6)


# Mixing batches


def test_mixup_agrees_with_torchvision_on_the_same_draws():
    x, labels = torch.rand(6, 3, 8, 10, generator=generator()), torch.arange(6) % 4
    transform = v2.MixUp(num_classes=4, alpha=0.7)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        theirs, their_targets = transform(x, labels)
        torch.manual_seed(3)
        lam = torch.distributions.Beta(torch.tensor([0.7]), torch.tensor([0.7])).sample(())
    targets = F.one_hot(labels, 4).float()
    # there the partner of a row is the row before it, and one lambda serves the batch
    assert torch.allclose(mixup.mix(x, x.roll(1, 0), lam), theirs, atol=1e-6)
    assert torch.allclose(mixup.mix(targets, targets.roll(1, 0), lam), their_targets, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_cutmix_agrees_with_torchvision_on_the_same_draws(seed):
    x, labels = torch.rand(4, 3, 9, 12, generator=generator()), torch.arange(4)
    transform = v2.CutMix(num_classes=4, alpha=1.0)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        theirs, their_targets = transform(x, labels)
        torch.manual_seed(seed)
        lam = torch.distributions.Beta(torch.tensor([1.0]), torch.tensor([1.0])).sample(()).item()
        column, row = int(torch.randint(12, (1,))), int(torch.randint(9, (1,)))
    mixed, left = mixup.cut_mix(x, x.roll(1, 0), lam, [row, column])
    assert torch.equal(mixed, theirs)
    targets = F.one_hot(labels, 4).float()
    assert torch.allclose(mixup.mix(targets, targets.roll(1, 0), torch.tensor([left])), their_targets, atol=1e-6)


def test_cutmix_of_signals_cuts_a_share_of_the_length():
    x, partner = torch.zeros(2, 1, 40), torch.ones(2, 1, 40)
    mixed, left = mixup.cut_mix(x, partner, 0.7, [20])
    assert mixed.mean().item() == pytest.approx(1 - left)
    assert left == pytest.approx(0.7)


def rows(n=60, classes=3):
    """Row i is the number i: mixed rows and their labels can be traced back."""
    return torch.arange(float(n))[:, None, None], torch.arange(n) % classes


@pytest.mark.parametrize("partner", ["any", "other", "batch"])
@pytest.mark.parametrize("lambdas", ["batch", "row"])
def test_draw_mixes_rows_and_labels_alike(partner, lambdas):
    x, labels = rows()
    law = mixup.atoms_law([0.25, 0.75], [0.5, 0.5])
    batch = mixup.draw(x, labels, 3, law, generator(), partner=partner, lambdas=lambdas)
    index = torch.arange(0, 60, 2)
    own = F.one_hot(labels, 3).float()[index]
    shares, partners = [], []
    for _ in range(40):
        inputs, targets = batch(index)
        assert torch.allclose(targets.sum(1), torch.ones(30))
        for lam in (0.25, 0.75):
            other = (inputs[:, 0, 0] - lam * index) / (1 - lam)
            whole = (other - other.round()).abs() < 1e-4
            fits = whole & (other >= -1e-3) & (other < 60)
            guess = other.round().long().clamp(0, 59)
            fits &= torch.isclose(targets, lam * own + (1 - lam) * F.one_hot(labels, 3).float()[guess]).all(1)
            shares.append(fits)
            partners.append((guess, fits))
    explained = torch.stack(shares[0::2]) | torch.stack(shares[1::2])
    assert explained.all(), "every row is a mixture of itself and a row, with one lambda for input and label"
    if lambdas == "batch":
        assert all(a.all() or b.all() for a, b in zip(shares[0::2], shares[1::2], strict=True))
    if partner == "other":
        assert not any(((guess == index) & fits).all() for guess, fits in partners)
    if partner == "batch" and lambdas == "batch":
        for (a, fits_a), (b, fits_b) in zip(partners[0::2], partners[1::2], strict=True):
            chosen = a if fits_a.all() else b
            assert (fits_a.all() or fits_b.all()) and sorted(chosen.tolist()) == index.tolist()


def test_other_never_is_the_row_itself():
    x, labels = rows(n=3)
    batch = mixup.draw(x, labels, 3, mixup.atoms_law([0.5], [1.0]), generator(), partner="other")
    for _ in range(200):
        inputs, _ = batch(torch.arange(3))
        assert (inputs[:, 0, 0] != torch.arange(3.0)).all()


def test_unmixed_labels_are_those_of_the_larger_part():
    x, labels = rows(n=2, classes=2)
    law = mixup.atoms_law([0.1, 0.9], [0.5, 0.5])
    batch = mixup.draw(x, labels, 2, law, generator(), partner="other", mixed_labels=False)
    for _ in range(50):
        inputs, targets = batch(torch.arange(2))
        assert torch.equal(targets.argmax(1), inputs[:, 0, 0].round().long())
        assert targets.max(1).values.eq(1).all()


def test_cutmix_batches_train():
    x, labels = torch.rand(20, 1, 6, 6, generator=generator()), torch.arange(20) % 2
    batch = mixup.draw(x, labels, 2, mixup.beta_law(1.0), generator(), method="cutmix")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(36, 2))
    training.train(net, batch, 20, 30, generator(), batch=10)
    inputs, targets = batch(torch.arange(10))
    assert inputs.shape == (10, 1, 6, 6) and torch.allclose(targets.sum(1), torch.ones(10))


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"partner": "self"}, "'self' is not known: one of any, other, batch"),
        ({"lambdas": "epoch"}, "one of batch, row"),
        ({"method": "cut"}, "one of mixup, cutmix"),
        ({"method": "cutmix", "lambdas": "row"}, "one box a batch"),
    ],
)
def test_draw_refuses_words_it_does_not_know(words, match):
    x, labels = rows()
    with pytest.raises(ValueError, match=match):
        mixup.draw(x, labels, 3, mixup.beta_law(1.0), generator(), **words)
    with pytest.raises(ValueError, match="one class"):
        mixup.draw(x, torch.zeros(60, dtype=torch.long), 3, mixup.beta_law(1.0), generator())


# Distances to mixing segments


def test_segment_distances_against_every_pair():
    x = torch.randn(18, 3, generator=generator(2), dtype=torch.float64)
    labels = torch.arange(18) % 4
    fine = torch.linspace(0, 1, 2001, dtype=torch.float64)[:, None]
    for block in (1, 5, 64):
        found = mixup.segment_distances(x, labels, block)
        for q in range(18):
            others = [i for i in range(18) if labels[i] != labels[q]]
            best = min(
                cdist(x[q : q + 1], fine * x[s] + (1 - fine) * x[t]).min() for s in others for t in others if s <= t
            )
            assert found[q].item() == pytest.approx(best, abs=2e-3) and found[q] <= best + 1e-12


def test_segment_distances_in_known_cases():
    x, targets = mixup.alternating_line(3, 2)
    assert mixup.segment_distances(x, targets.argmax(1)).tolist() == [1, 0, 1]  # the middle lies on the segment
    assert mixup.segment_distances(torch.tensor([[0.0], [1.0]]), torch.tensor([0, 0])).tolist() == [torch.inf] * 2
    twins = torch.tensor([[0.0, 1.0], [2.0, 0.0], [2.0, 0.0]])
    assert mixup.segment_distances(twins, torch.tensor([0, 1, 1]))[0].item() == pytest.approx(5**0.5)


# Points from midpoints


@pytest.mark.parametrize(("points", "features", "seed"), [(5, 1, 0), (6, 2, 1), (8, 3, 2), (13, 40, 3), (30, 2, 4)])
def test_points_come_back_from_their_midpoints(points, features, seed):
    x = torch.randn(points, features, generator=generator(seed), dtype=torch.float64)
    i, j = torch.triu_indices(points, points, 1)
    midpoints = ((x[i] + x[j]) / 2)[torch.randperm(len(i), generator=generator(seed))]
    distance = torch.from_numpy(cdist(x, mixup.recover_points(midpoints)))
    assert distance.amin(1).max() < 1e-9
    assert distance.amin(0).max() < 1e-9


def test_no_points_have_these_midpoints():
    with pytest.raises(ValueError, match="no set of 6 points"):
        mixup.recover_points(torch.randn(15, 2, generator=generator(), dtype=torch.float64))
    with pytest.raises(ValueError, match="16 midpoints"):
        mixup.recover_points(torch.zeros(16, 2, dtype=torch.float64))
    with pytest.raises(ValueError, match="m of 5 or more"):
        mixup.recover_points(torch.zeros(6, 2, dtype=torch.float64))


# Two moons and their boundary


@pytest.mark.parametrize("separation", [0.1, 0.5])
def test_moons_lie_on_both_sides_of_the_line(separation):
    x, targets = mixup.two_moons(300, separation, seed=3)
    side = torch.where(targets[:, 0] > 0, 1.0, -1.0)
    assert (x[:, 0] * side).min() >= separation
    assert targets.sum(0).tolist() == [150, 150]
    again, _ = mixup.two_moons(300, separation, seed=3)
    assert torch.equal(x, again)


def test_boundary_of_known_shapes():
    grid = torch.linspace(-2, 2, 401, dtype=torch.float64)
    x = torch.tensor([[1.0, 0.0], [-0.5, 0.3], [0.8, -1.0]])
    correct = torch.tensor([True, True, True])
    straight = mixup.boundary(grid[:, None].expand(-1, 401), 2.0, x, correct)
    assert straight.bent < 0.003 and straight.margin == pytest.approx(0.5, abs=1e-6)
    wrong = mixup.boundary(grid[:, None].expand(-1, 401), 2.0, x, torch.tensor([True, False, True]))
    assert wrong.margin == pytest.approx(-0.5, abs=1e-6)
    diagonal = mixup.boundary(grid[:, None] - grid, 2.0, x, correct)  # x_1 > x_2: half of two quadrants differ
    assert diagonal.bent == pytest.approx(0.25, abs=0.005)
    assert diagonal.margin == pytest.approx(0.8 / 2**0.5, abs=1e-3)
    circle = mixup.boundary(1 - grid[:, None].square() - grid.square(), 2.0, torch.zeros(1, 2), torch.tensor([True]))
    assert circle.margin == pytest.approx(1, abs=1e-3)
    assert np.isnan(mixup.boundary(torch.ones(9, 9), 2.0, x, correct).margin)


# The linear case


def test_max_margin_by_hand_and_against_a_support_vector_machine():
    from sklearn.svm import SVC

    x = torch.tensor([[2.0, 0.0], [5.0, 1.0], [-2.0, 0.0], [-4.0, -3.0]], dtype=torch.float64)
    signs = torch.tensor([1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    assert torch.allclose(metrics.max_margin(x, signs), torch.tensor([0.5, 0.0], dtype=torch.float64))
    x = torch.randn(12, 15, generator=generator(1), dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0] * 6, dtype=torch.float64)
    w = metrics.max_margin(x, signs)
    # a machine without intercept: the kernel of the rows joined with their mirror images
    machine = SVC(kernel="linear", C=1e8, tol=1e-10).fit(torch.cat([x, -x]), torch.cat([signs, -signs]))
    assert mixup.angle(w, torch.tensor(machine.coef_[0])) < 0.01
    assert (signs * (x @ w)).min().item() == pytest.approx(1, abs=1e-9)
    assert metrics.max_margin(x[:, :1], signs) is None, "not separable"


def test_linear_optimum_interpolates_in_high_dimension():
    """Theorem 3.5: far above its bound Mixup, max-margin and the least-norm interpolator share one direction."""
    x = torch.randn(10, 400, generator=generator(2), dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0] * 5, dtype=torch.float64)
    interpolator = torch.linalg.pinv(x) @ signs
    for law in (mixup.beta_law(1.0), mixup.beta_law(32.0)):
        w = mixup.linear_optimum(x, signs, law)
        assert mixup.angle(w, interpolator) < 1e-3
        assert mixup.angle(w, metrics.max_margin(x, signs)) < 1e-3


def test_linear_optimum_has_no_slope():
    x = torch.randn(8, 5, generator=generator(3), dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0] * 4, dtype=torch.float64)
    law, nodes = mixup.beta_law(2.0), 16
    w = mixup.linear_optimum(x, signs, law, nodes).requires_grad_()
    lam = law.quantile((torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes)
    pairs = [(t, i, j) for t in lam for i in range(8) for j in range(8)]
    rows = torch.stack([t * x[i] + (1 - t) * x[j] for t, i, j in pairs])
    targets = torch.stack([(1 + t * signs[i] + (1 - t) * signs[j]) / 2 for t, i, j in pairs])
    F.binary_cross_entropy_with_logits(rows @ w, targets).backward()
    assert w.grad.abs().max() < 1e-6
    with pytest.raises(ValueError, match="one class"):
        mixup.linear_optimum(x, torch.ones(8, dtype=torch.float64), law)


def test_angle():
    a = torch.tensor([1.0, 0.0], dtype=torch.float64)
    assert mixup.angle(a, torch.tensor([0.0, 2.0], dtype=torch.float64)) == pytest.approx(90)
    assert mixup.angle(a, 5 * a) == 0
    assert mixup.angle(a, torch.tensor([1.0, 1e-9], dtype=torch.float64)) == pytest.approx(np.rad2deg(1e-9))


# Calibration


def test_calibration_by_hand():
    p = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.55, 0.45], [0.45, 0.55]])
    error, table = metrics.calibration(p, torch.tensor([0, 1, 0, 1]), bins=5)
    # bin (.8, 1]: confidence .9, accuracy 1/2; bin (.4, .6]: confidence .55, accuracy 1
    assert error == pytest.approx(0.5 * 0.4 + 0.5 * 0.45)
    assert table[4].tolist() == pytest.approx([0.9, 0.5, 0.5])
    assert table[2].tolist() == pytest.approx([0.55, 1.0, 0.5])
    assert table[0].isnan().tolist() == [True, True, False]


def test_calibrated_predictions_have_no_error():
    g = generator()
    p = torch.rand(200_000, 1, generator=g)
    p = torch.cat([p, 1 - p], dim=1)
    labels = (torch.rand(200_000, generator=g) > p[:, 0]).long()
    assert metrics.calibration(p, labels)[0] < 0.01
    assert metrics.accuracy(p.argmax(1), labels) == pytest.approx(0.75, abs=0.01)
    with pytest.raises(ValueError, match="no distributions"):
        metrics.calibration(2 * p, labels)


# The notebook's cells

CELLS = {
    cell["id"]: "".join(cell["source"])
    for cell in json.loads((Path(__file__).parents[2] / "notebooks" / "mixup.ipynb").read_text())["cells"]
}


def cells(*names, given=None, **changed):
    """Names after these cells of the notebook, at its default parameters but for what is changed."""
    space = dict(VOCABULARY) | {"datasets": datasets, "torch": torch, "np": np, "pd": pd, "math": math, "mixup": mixup}
    exec(CELLS["cell-03"], space)
    space |= changed | (given or {})
    for name in names:
        exec(CELLS[name], space)
    return space


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"long_points": 3, "long_classes": [4, 5]}, r"long_classes is \[4, 5\]: one of 3 \(long_points\) or fewer"),
        ({"condition_samples": 1298}, "condition_samples is 1298: digits has 1297"),
        ({"samples": 4001}, "samples is 4001: mnist1d has 4000"),
        ({"dataset": "digits", "test_samples": 501}, "test_samples is 501: digits has 500"),
        ({"network": "resnet18", "dataset": "digits", "test_samples": 500}, "mnist1d .* holds no images"),
    ],
)
def test_parameters_that_cannot_go_together_are_refused_before_anything_is_trained(changed, match):
    with pytest.raises(ValueError, match=match):
        cells("parameters-together", "cell-08", **changed)


def test_entries_given_twice_count_once():
    space = cells("parameters-together", moons_alphas=[1.0, 1.0], condition_sets=["digits", "digits"])
    assert space["moons_alphas"] == [1.0] and space["condition_sets"] == ["digits"]


def test_memory_of_wrong_labels_is_measured_on_those_alone():
    """A network that knows every true label gives none of the wrong ones back."""

    def fit(s, draw, rows, data, observe, every):
        knows = SimpleNamespace(eval=lambda: lambda part: torch.zeros(len(part), data.classes))
        predict = {data.x_train: data.y_train, data.x_test: data.y_test}
        space["training"].predict = lambda net, x: predict[x]
        observe(None, 0)
        looks.append(every)
        return knows

    looks = []
    space = {
        "fit": fit,
        "training": SimpleNamespace(predict=lambda net, x: 0),
        "batches": lambda *rest, **options: None,
    }
    space = cells(
        "cell-08",
        "study-measures",
        "cell-39",
        given=space | {"probes": SimpleNamespace(accuracy=share_right)},
        samples=200,
    )
    noisy, clean = space["study"](0, 0.0, 0.5), space["study"](0, 0.0)
    assert noisy["wrong"] == 0 and 0.45 < noisy["train"] < 0.65 and np.isnan(clean["wrong"])
    assert looks == [8, 0], "looks at the test points are for the best epoch under noise"


def share_right(predicted, labels):
    return (predicted == labels).float().mean().item() if torch.is_tensor(predicted) else 0.0


@pytest.mark.parametrize("side_seeds", [2, 5])
def test_arms_hold_the_weak_alpha_and_variants_the_seeds_of_the_arms(side_seeds):
    def study(s, a, **options):
        return {"seed": s, "alpha": a, "train": a, "last": a, "ece": a}

    found = {}
    given = {"study": study, "track": lambda jobs, name: jobs, "record": found.update}
    space = cells("cell-40", given=given, alphas=[0.1], data_range=range(10, 13))
    assert found["last_weak"].tolist() == [0.4] * 3 and found["train_strong"].tolist() == [1024.0] * 3
    named = space["sweep"].assign(arm=space["sweep"]["alpha"].map(lambda a: f"{a:g}" if a else "ERM"))
    space |= {"named": named, "side_seeds": side_seeds, "data_seeds": 3}
    for name in ("cell-46", "ways-record"):
        exec(CELLS[name], space)
    assert {len(found[name]) for name in ("ece_unmixed", "ece_mixed", "no_self_strong", "side_row")} == {
        min(side_seeds, 3)
    }
