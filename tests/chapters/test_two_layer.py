"""Two-layer networks in batches: the closed-form gradient, the two trainers, the stopping rule."""

import pytest
import torch
import torch.nn.functional as F

from phenomena.chapters.tempered_overfitting.two_layer import (
    Networks,
    gradient,
    initial,
    logistic_objective,
    outputs,
    train,
    train_lbfgs,
    train_readable,
)


def problem(s=5, n=40, d=6, j=30, bias=True, dtype=torch.float64, scale=1.0):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(s, n, d, generator=generator, dtype=dtype)
    y = torch.where(torch.rand(s, n, generator=generator) < 0.5, -1.0, 1.0).to(dtype)
    return initial(s, d, j, generator, bias=bias, dtype=dtype, scale=scale), x, y


@pytest.mark.parametrize("bias", [True, False])
def test_gradient_equals_autograd(bias):
    net, x, y = problem(bias=bias)
    leaves = Networks(*(None if p is None else p.clone().requires_grad_() for p in net))
    loss = F.softplus(-y * outputs(leaves, x)).mean(1)
    loss.sum().backward()
    slope, value = gradient(net, x, y)
    torch.testing.assert_close(value, loss.detach())
    for mine, leaf in zip(slope, leaves, strict=True):
        if leaf is not None:
            torch.testing.assert_close(mine, leaf.grad)


def test_gradient_is_balanced():
    """N is linear in v_j and in (w_j, b_j): v_j dL/dv_j = w_j . dL/dw_j + b_j dL/db_j."""
    net, x, y = problem()
    slope, _ = gradient(net, x, y)
    torch.testing.assert_close(net.v * slope.v, (net.w * slope.w).sum(1) + net.b * slope.b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("d", [6, 35, 90], ids=["few features", "as many", "more than rows"])
def test_fast_and_readable_version_agree(dtype, bias, momentum, d):
    """With 35 and 90 features for 40 rows the fast one takes its steps in the span of the rows."""
    net, x, y = problem(bias=bias, dtype=dtype, d=d)
    x = x * (6 / d) ** 0.5
    options = {"lr": 0.5 if momentum == 0 else 0.05, "momentum": momentum, "target": 0.2, "every": 7}
    if d > 6:
        options |= {"target": 0.15, "every": 2}
    slow, fast = (f(net, x, y, 100, **options) for f in (train_readable, train))
    assert torch.equal(slow.steps, fast.steps)
    assert len(set(fast.steps.tolist())) > 1, "the networks should stop at different steps"
    close = {"rtol": 1e-3, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(fast.loss, slow.loss, **close)
    torch.testing.assert_close(fast.margin, slow.margin, **close)
    for a, b in zip(fast.net, slow.net, strict=True):
        if a is not None:
            assert a.dtype == dtype
            torch.testing.assert_close(a, b, **close)


@pytest.mark.parametrize("bias", [True, False])
def test_versions_agree_on_the_exponential_loss(bias):
    net, x, y = problem(bias=bias)
    options = {"kind": "exponential", "lr": 0.05, "target": 0.7, "every": 7}
    slow, fast = (f(net, x, y, 100, **options) for f in (train_readable, train))
    assert torch.equal(slow.steps, fast.steps)
    assert len(set(fast.steps.tolist())) > 1, "the networks should stop at different steps"
    torch.testing.assert_close(fast.loss, slow.loss, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(fast.net.w, slow.net.w, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(fast.loss, torch.exp(-y * outputs(fast.net, x)).mean(1))
    with pytest.raises(ValueError, match="loss 'hinge' must be one of logistic, exponential"):
        train(net, x, y, 1, lr=1.0, kind="hinge")


def test_memory_layout_changes_nothing():
    net, x, y = problem()
    whole = train(net, x, y, 60, lr=0.3, momentum=0.5)
    strided = train(net, x.transpose(1, 2).contiguous().transpose(1, 2), y, 60, lr=0.3, momentum=0.5)
    for a, b in zip(whole.net, strided.net, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", ["logistic", "exponential"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("size", [(7, 3, 5), (1, 2, 3), (33, 4, 17), (40, 60, 13), (100, 5, 31), (25, 25, 50)])
def test_a_network_is_the_same_to_the_bit_in_every_company(size, momentum, dtype, kind):
    n, d, j = size
    net, x, y = problem(s=6, n=n, d=d, j=j, dtype=dtype)
    options = {"lr": 0.02, "momentum": momentum, "every": 3, "kind": kind}
    options["target"] = train(net, x, y, 30, **options).loss.median().item()

    def trained(which, group):
        chosen = torch.tensor(which)
        found = train(Networks(*(p[chosen] for p in net)), x[chosen], y[chosen], 60, group=group, **options)
        return [*found.net, found.margin, found.loss, found.steps]

    whole = trained(range(6), None)
    assert len(set(whole[-1].tolist())) > 1 or n == 1, "the networks should leave the group at different steps"
    for which, group in (([3], None), ([5, 3, 1], None), (range(6), 4), ([4, 0, 3, 2, 1], 2)):
        for a, b in zip(trained(which, group), whole, strict=True):
            assert torch.equal(a, b[torch.tensor(which)])


def test_each_network_stops_at_its_own_time_and_the_input_is_kept():
    net, x, y = problem()
    before = [p.clone() for p in net]
    trained = train(net, x, y, 400, lr=0.2, momentum=0.9, target=0.05, every=10)
    assert (trained.loss <= 0.05).all() and (trained.steps % 10 == 0).all() and (trained.steps < 400).all()
    torch.testing.assert_close(trained.loss, F.softplus(-y * outputs(trained.net, x)).mean(1))
    assert all(torch.equal(a, b) for a, b in zip(before, net, strict=True))
    earlier = train(net, x, y, 400, lr=0.2, momentum=0.9, target=0.05, every=1)
    assert (earlier.steps <= trained.steps).all()


def test_no_steps_return_the_initial_networks():
    net, x, y = problem()
    trained = train(net, x, y, 0, lr=0.1)
    assert all(torch.equal(a, b) for a, b in zip(trained.net, net, strict=True))
    torch.testing.assert_close(trained.loss, F.softplus(-y * outputs(net, x)).mean(1))
    assert trained.steps.tolist() == [0] * 5


def test_a_network_that_diverges_is_shown_and_disturbs_no_other():
    net, x, y = problem(s=2)
    wild = x * torch.tensor([1e150, 1.0], dtype=x.dtype).view(2, 1, 1)
    trained = train(net, wild, y, 50, lr=0.1, every=5)
    assert not trained.loss[0].isfinite() and trained.steps[0] == 5
    alone = train(Networks(*(p[1:] for p in net)), x[1:], y[1:], 50, lr=0.1, every=5)
    torch.testing.assert_close(trained.net.w[1:], alone.net.w)


@pytest.mark.parametrize("bias", [True, False])
def test_the_objective_of_lbfgs_is_the_loss_and_its_gradient(bias):
    net, x, y = problem(s=1, bias=bias)
    theta = torch.cat([p.flatten() for p in net if p is not None]).numpy()
    objective = logistic_objective(x[0].numpy(), y[0].numpy(), 30, bias=bias)
    slope, loss = gradient(net, x, y)
    for _ in range(2):  # its buffers carry nothing over
        found_loss, found_slope = objective(theta)
        assert found_loss == pytest.approx(loss.item(), rel=1e-12)
        expected = torch.cat([p.flatten() for p in slope if p is not None])
        torch.testing.assert_close(torch.from_numpy(found_slope), expected)
    assert objective(1e3 * theta)[0] < float("inf")


def test_lbfgs_reaches_the_target_where_descent_does_not():
    """One flipped label at each of eight places; which of the searches arrive depends on rounding."""
    net, _, _ = problem(s=8, d=1, j=60, scale=3.0)
    x = torch.linspace(-1, 1, 10, dtype=torch.float64).view(1, 10, 1).repeat(8, 1, 1)
    y = torch.ones(8, 10, dtype=torch.float64)
    y[torch.arange(8), torch.arange(8) + 1] = -1
    trained = train_lbfgs(net, x, y, 2000, target=0.01)
    arrived = trained.loss <= 0.01
    assert arrived.sum() >= 3 and (trained.steps <= 2000).all()
    torch.testing.assert_close(trained.loss, F.softplus(-y * outputs(trained.net, x)).mean(1))
    # a mean loss of 0.01 over 10 points leaves at most 0.1 to one, and a point on the wrong side has log 2
    assert (y * outputs(trained.net, x) > 0)[arrived].all()
    assert (train(net, x, y, 300, lr=0.1).loss > 0.01).all()


def test_lbfgs_without_bias_and_with_too_few_iterations():
    net, x, y = problem(s=2, bias=False)
    trained = train_lbfgs(net, x, y, 3, target=1e-6)
    assert trained.net.b is None and (trained.steps == 3).all() and (trained.loss > 1e-6).all()


def test_initial_networks_follow_their_laws():
    generator = torch.Generator().manual_seed(0)
    net = initial(20, 10, 500, generator, scale=2.0)
    assert net.w.var().item() == pytest.approx(4 / 10, rel=0.05)
    assert net.v.var().item() == pytest.approx(4 / 500, rel=0.05)
    assert net.b.abs().max().item() == pytest.approx(2 / 10**0.5, rel=0.01)
    seen = initial(20, 10, 500, generator, dimension=1000, bias=False)
    assert seen.b is None and seen.w.var().item() == pytest.approx(1 / 1000, rel=0.05)
    same = (initial(2, 3, 4, torch.Generator().manual_seed(7)).w for _ in range(2))
    assert torch.equal(*same)


@pytest.mark.parametrize("wrong", [{"seeds": 0}, {"features": 0}, {"width": 0}, {"scale": 0.0}])
def test_initial_refuses(wrong):
    given = {"seeds": 1, "features": 1, "width": 1} | wrong
    with pytest.raises(ValueError, match="must be 1 or more"):
        initial(generator=torch.Generator(), **given)


def test_training_refuses_what_does_not_fit():
    net, x, y = problem()
    with pytest.raises(ValueError, match="must be -1 or 1"):
        train(net, x, y * 0, 1, lr=0.1)
    with pytest.raises(ValueError, match="w, b, v"):
        train(net, x[:, :, :-1], y, 1, lr=0.1)
    with pytest.raises(ValueError, match="one type"):
        train(net, x.float(), y, 1, lr=0.1)
    for wrong in ({"lr": 0.0}, {"lr": float("nan")}, {"lr": 0.1, "momentum": 1.0}, {"lr": 0.1, "every": 0}):
        with pytest.raises(ValueError, match="must hold"):
            train(net, x, y, 1, **wrong)
    with pytest.raises(ValueError, match="must hold"):
        train(net, x, y, -1, lr=0.1)
