"""Many small softmax networks at once: the fast version against the readable twin, seeds, bad input."""

import pytest
import torch
from torch.func import functional_call

from phenomena.chapters.mixup import softmax_networks as networks
from phenomena.chapters.mixup import theory

LAW = theory.beta_law(0.5).quantile


def problem(seeds=3, rows=7, features=2, classes=3):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(seeds, rows, features, generator=generator)
    targets = torch.rand(seeds, rows, classes, generator=generator)
    return x, targets / targets.sum(2, keepdim=True)


def close(first, second, tolerance=1e-4):
    return all(torch.allclose(a, b, atol=tolerance) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("quantile", [None, LAW])
@pytest.mark.parametrize("accumulate", [False, True])
def test_fast_and_readable_train_the_same_networks(quantile, accumulate):
    x, targets = problem()
    settings = {"width": 9, "steps": 60, "lr": 1e-2, "accumulate": accumulate}
    fast = networks.train(x, targets, [4, 5, 6], quantile, **settings)
    assert close(fast, networks.train_readable(x, targets, [4, 5, 6], quantile, **settings))
    start = networks.train(x, targets, [4, 5, 6], quantile, **settings | {"steps": 0})
    assert not close(fast, start, 1e-2), "it moved"


def test_mixing_goes_on_beyond_a_block(monkeypatch):
    monkeypatch.setattr(networks, "BLOCK_STEPS", 8)
    x, targets = problem()
    settings = {"width": 5, "steps": 20, "lr": 1e-2}
    fast = networks.train(x, targets, [1, 2, 3], LAW, **settings)
    assert close(fast, networks.train_readable(x, targets, [1, 2, 3], LAW, **settings))


def test_a_network_does_not_depend_on_its_company(monkeypatch):
    x, targets = problem()
    settings = {"width": 8, "steps": 30}
    together = networks.train(x, targets, [1, 2, 3], LAW, **settings)
    alone = networks.train(x[1:2], targets[1:2], [2], LAW, **settings)
    assert close([t[1:2] for t in together], alone, 1e-5)
    monkeypatch.setattr(networks, "CACHE_BYTES", 1)  # one network at a time
    assert close(together, networks.train(x, targets, [1, 2, 3], LAW, **settings), 1e-5)


def test_accumulated_gradients_are_the_sum_of_all_steps():
    """With one step there is nothing to add up; with two the second uses both gradients."""
    x, targets = problem(seeds=1)
    one = [networks.train(x, targets, [0], width=6, steps=1, accumulate=flag) for flag in (False, True)]
    assert close(*one, 0)
    two = [networks.train(x, targets, [0], width=6, steps=2, accumulate=flag) for flag in (False, True)]
    assert not close(*two, 1e-6)


def test_logits_are_those_of_a_module():
    net = networks.initial(2, 5, 3, torch.Generator().manual_seed(0))
    module = torch.nn.Sequential(torch.nn.Linear(2, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
    state = {"0.weight": net.w1[0].T, "0.bias": net.b1[0, 0], "2.weight": net.w2[0], "2.bias": net.b2[0, 0]}
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(networks.logits(net, x[None])[0], functional_call(module, state, x), atol=1e-6)


def test_initial_weights_are_within_the_bounds_of_linear_layers():
    net = networks.initial(4, 2000, 3, torch.Generator().manual_seed(0))
    for tensor, fan_in in zip(net, (4, 4, 2000, 2000), strict=True):
        assert tensor.abs().max() <= fan_in**-0.5
    assert net.w1.std().item() == pytest.approx((1 / 4 / 3) ** 0.5, rel=0.05)  # uniform: bound / sqrt(3)


def test_bad_input_is_refused():
    x, targets = problem()
    with pytest.raises(ValueError, match="as many seeds expected"):
        networks.train(x, targets, [1, 2])
    with pytest.raises(ValueError, match="not distributions"):
        networks.train(x, 2 * targets, [1, 2, 3])
    with pytest.raises(FloatingPointError, match="lower lr"):
        networks.train(1e30 * x, targets, [1, 2, 3], width=4, steps=5, lr=1e9)
