"""Optimisers against torch's own."""

import pytest
import torch
from conftest import generator

from phenomena.science.optimisers import Optimiser


@pytest.mark.parametrize("name", ["adam", "sgd"])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("maximize", [True, False])
def test_steps_are_those_of_torch(name, fused, maximize):
    """To the bit against its fused kernels, within rounding against the plain ones; groups, rates that change."""
    start = [torch.randn(7, 3, generator=generator()), torch.randn(5, generator=generator(1))]
    mine, theirs = ([t.clone().requires_grad_() for t in start] for _ in range(2))
    kind = {"adam": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    groups = lambda p: [{"params": p[:1], "lr": 0.1, "weight_decay": 0.3}, {"params": p[1:]}]  # noqa: E731
    rest = {"momentum": 0.9} if name == "sgd" else {}
    one = Optimiser(name, groups(mine), 0.02, 0.1)
    two = kind(groups(theirs), 0.02, weight_decay=0.1, fused=fused, **rest)
    for step in range(20):
        for optimiser, parameters in ((one, mine), (two, theirs)):
            for group in optimiser.param_groups:
                group["lr"] *= 0.95
                group["maximize"] = maximize
            for p in parameters:
                p.grad = torch.sin(p.detach() + step)
            optimiser.step()
    for p, q in zip(mine, theirs, strict=True):
        assert torch.equal(p, q) if fused else torch.allclose(p, q, rtol=1e-5)


def test_parameters_without_a_gradient_stay():
    still, moved = torch.ones(2), torch.ones(2)
    moved.grad = torch.ones(2)
    Optimiser("sgd", [still, moved], 0.5).step()
    assert still.tolist() == [1, 1] and moved.tolist() == [0.5, 0.5]


def test_unknown_optimiser():
    with pytest.raises(ValueError, match="optimiser 'lion' is not known: adam or sgd"):
        Optimiser("lion", [torch.ones(2)], 0.1)
