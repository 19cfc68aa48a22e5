"""Many small softmax networks at once: the fast version against the readable twin, seeds, bad input."""

import pytest
import torch
from torch.func import functional_call

from phenomena.chapters.mixup import softmax_networks as networks
from phenomena.chapters.mixup import theory

LAW, OTHER_LAW = (theory.beta_law(alpha).quantile for alpha in (0.5, 8.0))


def problem(seeds=3, rows=7, features=2, classes=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(seeds, rows, features, generator=generator)
    targets = torch.rand(seeds, rows, classes, generator=generator)
    return x, targets / targets.sum(2, keepdim=True)


def close(first, second, tolerance=1e-4):
    return all(torch.allclose(a, b, atol=tolerance) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("laws", [[None] * 3, [LAW] * 3, [LAW, None, OTHER_LAW]])
@pytest.mark.parametrize("accumulate", [False, True])
def test_fast_and_readable_train_the_same_networks(laws, accumulate):
    x, targets = problem()
    settings = {"width": 9, "steps": 60, "lr": 1e-2, "accumulate": accumulate}
    fast = networks.train(x, targets, [4, 5, 6], laws, **settings)
    assert close(fast, networks.train_readable(x, targets, [4, 5, 6], laws, **settings))
    start = networks.train(x, targets, [4, 5, 6], laws, **settings | {"steps": 0})
    assert not close(fast, start, 1e-2), "it moved"


def test_fast_and_readable_agree_step_by_step_at_the_size_of_the_chapter():
    """On the line of three points, and on one with as many classes as points."""
    for points, classes in ((3, 2), (10, 10)):
        x, targets = (t.expand(2, -1, -1) for t in theory.alternating_line(points, classes))
        for steps in (1, 10, 100):
            fast = networks.train(x, targets, [0, 1], [None, LAW], width=512, steps=steps)
            readable = networks.train_readable(x, targets, [0, 1], [None, LAW], width=512, steps=steps)
            assert close(fast, readable, 2e-5), (points, steps)


def test_mixing_goes_on_beyond_a_block(monkeypatch):
    monkeypatch.setattr(networks, "BLOCK_STEPS", 8)
    x, targets = problem()
    settings = {"width": 5, "steps": 20, "lr": 1e-2}
    fast = networks.train(x, targets, [1, 2, 3], [LAW] * 3, **settings)
    assert close(fast, networks.train_readable(x, targets, [1, 2, 3], [LAW] * 3, **settings))


@pytest.mark.parametrize(
    ("rows", "features", "classes", "width"),
    [(3, 1, 2, 512), (10, 1, 10, 512), (4, 2, 2, 512), (300, 2, 2, 500), (7, 2, 3, 9), (5, 1, 2, 1), (1, 3, 4, 33)],
)
@pytest.mark.parametrize("accumulate", [False, True])
def test_a_network_depends_on_its_seed_alone(rows, features, classes, width, accumulate, monkeypatch):
    """To the bit, whatever networks are trained with it, and however they are divided into groups."""
    x, targets = problem(7, rows, features, classes)
    seeds, laws = [3, 1, 4, 1, 5, 9, 2], [LAW, None, OTHER_LAW, LAW, None, LAW, OTHER_LAW]
    settings = {"width": width, "steps": 25, "accumulate": accumulate}
    together = networks.train(x, targets, seeds, laws, **settings)
    queries = torch.randn(7, 600, features, generator=torch.Generator().manual_seed(1))
    scores = networks.logits(together, queries)
    for group in (1, 2, 3, 5):
        monkeypatch.setattr(networks, "CACHE_BYTES", group * 4 * rows * width)
        apart = networks.train(x, targets, seeds, laws, **settings)
        assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True)), group
    for i in (0, 3, 6):
        one = slice(i, i + 1)
        alone = networks.train(x[one], targets[one], seeds[one], laws[one], **settings)
        assert all(torch.equal(a[one], b) for a, b in zip(together, alone, strict=True))
        assert torch.equal(scores[one], networks.logits(alone, queries[one]))


def test_accumulated_gradients_are_the_sum_of_all_steps():
    """With one step there is nothing to add up; with two the second uses both gradients."""
    x, targets = problem(seeds=1)
    one = [networks.train(x, targets, [0], [None], width=6, steps=1, accumulate=flag) for flag in (False, True)]
    assert close(*one, 0)
    two = [networks.train(x, targets, [0], [None], width=6, steps=2, accumulate=flag) for flag in (False, True)]
    assert not close(*two, 1e-6)


def test_logits_are_those_of_a_module(monkeypatch):
    net = networks.initial(2, 5, 3, torch.Generator().manual_seed(0))
    module = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    state = {"0.weight": net.w1[0, :2].T, "0.bias": net.w1[0, 2], "2.weight": net.w2[0], "2.bias": net.b2[0, :, 0]}
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    for rows in (512, 3):  # all at once, and in two parts
        monkeypatch.setattr(networks, "ROWS", rows)
        assert torch.allclose(networks.logits(net, x[None])[0], functional_call(module, state, x), atol=1e-6)


def test_initial_weights_are_within_the_bounds_of_linear_layers():
    net = networks.initial(4, 2000, 3, torch.Generator().manual_seed(0))
    for tensor, fan_in in zip(net, (4, 2000, 2000), strict=True):
        assert tensor.abs().max() <= fan_in**-0.5
    assert net.w1.std().item() == pytest.approx((1 / 4 / 3) ** 0.5, rel=0.05)  # uniform: bound / sqrt(3)


def test_bad_input_is_refused():
    x, targets = problem()
    with pytest.raises(ValueError, match="a seed and a law for each network expected"):
        networks.train(x, targets, [1, 2], [None] * 3)
    with pytest.raises(ValueError, match="3 seeds and 2 laws"):
        networks.train(x, targets, [1, 2, 3], [None] * 2)
    with pytest.raises(ValueError, match="not distributions"):
        networks.train(x, 2 * targets, [1, 2, 3], [None] * 3)
    with pytest.raises(FloatingPointError, match="lower lr"):
        networks.train(1e30 * x, targets, [1, 2, 3], [None] * 3, width=4, steps=5, lr=1e9)
