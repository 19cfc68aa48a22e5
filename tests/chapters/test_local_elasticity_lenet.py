"""Many LeNets at once against their readable twin and a PyTorch module, and what is measured on them."""

import pytest
import torch
from conftest import generator
from torch import nn

from phenomena.chapters.local_elasticity import lenet, theory
from phenomena.science import geomnist
from phenomena.science.label_noise import corrupt_evenly

F64 = torch.float64


def setting(channels=1, classes=3, seeds=3, steps=60, dtype=F64):
    g = generator()
    x, y = geomnist.generate(15, classes, g)
    x = (x * torch.rand(channels, 1, 1, generator=g)).to(dtype)
    labels = torch.stack([corrupt_evenly(y, p, classes, g) for p in (0.0, 0.3, 0.6)[:seeds]])
    net = {name: p.to(dtype) for name, p in lenet.initialise(seeds, channels, classes, g).items()}
    return net, x, y, labels, torch.randint(len(x), (seeds, steps), generator=g)


@pytest.mark.parametrize(("channels", "classes"), [(1, 3), (3, 4)])
def test_training_at_once_is_training_one_by_one(channels, classes):
    net, x, _, labels, order = setting(channels, classes)
    before = {name: p.clone() for name, p in net.items()}
    settings = {"lr": 0.02, "every": 25, "observed": x[:7], "keep": [0, 30, 60]}
    fast, slow = (train(net, x, labels, order, **settings) for train in (lenet.train, lenet.train_readable))
    assert fast.times.tolist() == slow.times.tolist() == [0, 25, 50, 60]
    assert fast.observed.shape == (3, 4, 7, classes) and fast.seen.shape == (3, 60, classes)
    for a, b in ((fast.seen, slow.seen), (fast.observed, slow.observed), *((fast.net[n], slow.net[n]) for n in net)):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-11)
    assert all(torch.equal(net[name], before[name]) for name in net), "the start is left as it is"
    for step, kept in fast.kept.items():
        torch.testing.assert_close(kept, slow.kept[step], rtol=1e-9, atol=1e-11)
    assert list(fast.kept) == [0, 30, 60] and torch.equal(fast.kept[0]["fc1"], net["fc1"])
    assert torch.equal(fast.kept[60]["fc1"], fast.net["fc1"]) and not torch.equal(fast.kept[30]["fc1"], net["fc1"])
    assert (fast.net["conv1"] - net["conv1"]).abs().max() > 1e-4  # and something was learned


def test_float32_stays_close_and_a_part_is_the_same_to_the_bit():
    net, x, _, labels, order = setting(dtype=torch.float32)
    labels, order = labels[[0, 1, 2, 0, 1]], order[[0, 1, 2, 2, 0]]
    net = lenet.initialise(5, 1, 3, generator(1))
    settings = {"lr": 0.02, "every": 60, "observed": x[:7]}
    single = lenet.train(net, x, labels, order, **settings)
    double = lenet.train({k: v.double() for k, v in net.items()}, x.double(), labels, order, lr=0.02, every=60,
                           observed=x[:7].double())  # fmt: skip
    torch.testing.assert_close(single.observed.double(), double.observed, rtol=1e-3, atol=1e-5)
    again = lenet.train(net, x, labels, order, **settings)
    assert torch.equal(single.observed, again.observed)
    for rows in (slice(0, 2), slice(3, 4), slice(1, 5)):
        part = lenet.train({k: v[rows] for k, v in net.items()}, x, labels[rows], order[rows], **settings)
        assert torch.equal(part.observed, single.observed[rows]) and torch.equal(part.seen, single.seen[rows])
        assert all(torch.equal(part.net[name], single.net[name][rows]) for name in net)


def test_logits_are_those_of_a_torch_module():
    net, x, *_ = setting(seeds=2, dtype=torch.float32)
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
    torch.testing.assert_close(lenet.logits(net, x)[1], module(x))


def test_training_that_cannot_be_is_refused():
    net, x, _, labels, order = setting()
    settings = {"lr": 0.01, "every": 10, "observed": x[:2]}
    for train in (lenet.train, lenet.train_readable):
        with pytest.raises(ValueError, match=r"images of shape \(1, 28, 28\): must be \(1, 32, 32\)"):
            train(net, x[:, :, :28, :28], labels, order, **settings)
        with pytest.raises(ValueError, match=r"3 networks need labels \(2, 45\) and order"):
            train(net, x, labels, order[:2], **settings)
        with pytest.raises(ValueError, match="lr -1 must be positive and every 10"):
            train(net, x, labels, order, **(settings | {"lr": -1}))
    with pytest.raises(FloatingPointError, match=r"of 3 networks diverged within 60 steps: lower lr"):
        lenet.train(net, x, labels, order, **(settings | {"lr": 1e9}))
    with pytest.raises(ValueError, match="classes 1 2 or more"):
        lenet.initialise(1, 1, 1, generator())


def test_groups_of_logits():
    observed = torch.arange(24.0).view(1, 2, 4, 3)
    means = lenet.class_means(observed, torch.tensor([0, 1, 2, 2]))
    torch.testing.assert_close(means[0, 1, 2], observed[0, 1, 2:].mean(0))
    with pytest.raises(ValueError, match=r"classes without an observed image: \[1\]"):
        lenet.class_means(observed, torch.tensor([0, 0, 2, 2]))
    seen, labels = torch.randn(2, 10, 3, generator=generator(1)), torch.randint(3, (2, 10), generator=generator())
    found = lenet.grouped(seen, labels, 3, 5)
    for s in range(2):
        for window in range(2):
            for k in range(3):
                rows = seen[s, 5 * window : 5 * window + 5][labels[s, 5 * window : 5 * window + 5] == k]
                torch.testing.assert_close(found[s, window, k], rows.mean(0), equal_nan=True)
    with pytest.raises(ValueError, match="a window of 11 steps: must be 1 to 10"):
        lenet.grouped(seen, labels, 3, 11)


def test_direct_elasticity_is_the_relative_change_by_one_step():
    net, *_ = setting(seeds=2, dtype=torch.float32)
    x, y = geomnist.generate(3, 3, generator(5))
    lr = 0.01
    found = lenet.direct_elasticity(net, x, y, lr)
    double = {name: p[1:2].double() for name, p in net.items()}
    d, before = theory.targets(3), lenet.logits(double, x.double())[0]
    sums, counts = torch.zeros(3, 3, dtype=F64), torch.zeros(3, 3, dtype=F64)
    for j in range(len(x)):
        order, looked = torch.tensor([[j]]), x.double()
        after = lenet.train_readable(double, looked, y[None], order, lr=lr, every=1, observed=looked).observed[0, 1]
        moved = (after - before) @ d[y[j]]
        for i in range(len(x)):
            if i != j:
                sums[y[i], y[j]] += moved[i] / moved[j]
                counts[y[i], y[j]] += 1
    torch.testing.assert_close(found[1], sums / counts, rtol=1e-8, atol=1e-8)
    keep = torch.cat([(y == 0).nonzero(), (y == 1).nonzero(), (y == 2).nonzero()[:1]]).squeeze(1)
    with pytest.raises(ValueError, match=r"images a class \[3, 3, 1\]: must be 2 or more"):
        lenet.direct_elasticity(net, x[keep], y[keep], lr)
