"""The training loop: many networks at once against one after another, by autograd."""

import math

import pytest
import torch
import torch.nn.functional as F
from conftest import generator
from torch import nn

from phenomena.science import networks, stacked, training

ROWS, CLASSES = 24, 4


def chain(kernel=(3, 3), stride=(2, 2), padding=(1, 1), channels=2):
    """Two convolutions of any geometry and a head with biases."""
    first = nn.Sequential(nn.Conv2d(channels, 4, kernel, stride, padding, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    second = nn.Sequential(nn.Conv2d(4, 6, kernel, stride, padding, bias=False), nn.BatchNorm2d(6), nn.ReLU())
    head = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, CLASSES))
    return nn.Sequential(first, second, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()), head)


def encoder(shape):
    def make(seed):
        size = {"width": 5, "depth": 3, "hidden": 9}
        return networks.encoder_projector("cnn", shape, CLASSES, **size, seed=seed)

    return make


def trained(make, shape, seeds, *, dtype=torch.float64, mixed=False, each=None, steps=12, **options):
    """Networks of these seeds on data of their own, and what every option in `each`, a list by seed, holds for them."""
    draws = [generator(seed) for seed in seeds]
    x = torch.stack([torch.randn(ROWS, *shape, generator=g, dtype=dtype) for g in draws])
    y = torch.stack([torch.randint(CLASSES, (ROWS,), generator=g) for g in draws])
    made = [make(seed).to(dtype) for seed in seeds]

    def loader(index):
        rows = training.own_rows(index, x)
        if not mixed:
            return x[rows], y[rows]
        other = training.own_rows(index.flip(1), x)
        one_hot = F.one_hot(y, CLASSES).to(dtype)
        return torch.lerp(x[other], x[rows], 0.7), torch.lerp(one_hot[other], one_hot[rows], 0.7)

    options |= {name: [values[seed] for seed in seeds] for name, values in (each or {}).items()}
    training.train(made, loader, ROWS, steps, [generator(seed) for seed in seeds], batch=10, **options)
    return [network.state_dict() for network in made]


def equal(one, two):
    return all(torch.equal(one[name], two[name]) for name in one)


def seeded(make):
    def make_one(seed):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return make()

    return make_one


OPTIONS = [
    {},
    {"optimiser": "sgd", "weight_decay": 0.1, "cosine": False},
    {"mixed": True},
    {"mixed": True, "loss": "mse"},
    {"each": {"loss": ["mse", "cross_entropy", "mse"], "lr": [1e-3, 1e-2, 1e-2], "weight_decay": [0.0, 0.0, 0.1]}},
]


@pytest.mark.parametrize("shape", [(1, 40), (1, 8, 8), (3, 9, 7)])
@pytest.mark.parametrize("options", OPTIONS)
def test_together_is_as_one_after_another_along_the_whole_path(shape, options):
    """In double precision: in single precision a sign at zero may fall either way, and the paths part."""
    for steps in (1, 2, 12):
        fast = trained(encoder(shape), shape, range(3), steps=steps, **options)
        readable = trained(encoder(shape), shape, range(3), steps=steps, readable=True, **options)
        for one, two in zip(fast, readable, strict=True):
            torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "shape"),
    [
        ((1, 1), (1, 1), (0, 0), (2, 5, 5)),
        ((3, 3), (1, 1), (1, 1), (2, 5, 6)),
        ((2, 2), (2, 2), (0, 0), (2, 9, 9)),  # a last row that no patch reads
        ((3, 2), (2, 1), (0, 1), (2, 11, 6)),
        ((5, 3), (3, 2), (2, 1), (1, 13, 8)),
        ((7, 4), (2, 3), (3, 2), (3, 9, 14)),
    ],
)
def test_convolutions_of_every_geometry(kernel, stride, padding, shape):
    make = seeded(lambda: chain(kernel, stride, padding, shape[0]))
    fast, readable = (trained(make, shape, range(2), readable=readable, steps=3) for readable in (False, True))
    for one, two in zip(fast, readable, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-11)


def test_small_networks_take_their_steps_together(monkeypatch):
    """Else the tests above compare autograd with itself."""
    monkeypatch.setattr(training, "OneByOne", None)
    trained(encoder((1, 40)), (1, 40), range(2), steps=1)
    trained(seeded(chain), (2, 9, 9), range(2), steps=1)


@pytest.mark.parametrize("shape", [(1, 40), (3, 9, 7)])
@pytest.mark.parametrize("options", OPTIONS)
def test_a_network_does_not_depend_on_its_company(shape, options, monkeypatch):
    """To the bit, whoever is trained beside it, in whatever order and in groups of whatever size."""
    options = {"dtype": torch.float32, **options}
    together = trained(encoder(shape), shape, [0, 1, 2], **options)
    for seeds in ([1], [2, 1], [2, 0, 1]):
        found = dict(zip(seeds, trained(encoder(shape), shape, seeds, **options), strict=True))
        assert all(equal(found[seed], together[seed]) for seed in seeds)
    monkeypatch.setattr(stacked, "GROUP_BYTES", 1)
    assert all(map(equal, trained(encoder(shape), shape, [0, 1, 2], **options), together))


def test_company_does_not_matter_one_after_another_either():
    together = trained(encoder((1, 40)), (1, 40), [0, 1], readable=True)
    assert equal(trained(encoder((1, 40)), (1, 40), [1], readable=True)[0], together[1])


def test_gradients_in_single_precision():
    shape, make = (1, 40), encoder((1, 40))
    x, y = torch.randn(3, 20, *shape, generator=generator()), torch.arange(60).view(3, 20) % CLASSES
    stack = stacked.Stacked([make(seed) for seed in range(3)])
    losses = stack.gradients(x, y, ["cross_entropy"] * 3)
    for seed in range(3):
        network = make(seed).double()
        loss = F.cross_entropy(network(x[seed].double()), y[seed])
        loss.backward()
        assert losses[seed].item() == pytest.approx(loss.item(), rel=1e-6)
        size = max(p.grad.abs().max().item() for p in network.parameters())
        norm = math.sqrt(sum(p.grad.square().sum().item() for p in network.parameters()))
        assert stack.slope[seed].norm().item() == pytest.approx(norm, rel=1e-5)
        assert stack.slope[seed].abs().max().item() == pytest.approx(size, rel=1e-5)


def test_what_cannot_be_stacked_or_is_large_goes_one_by_one():
    signals, images = torch.zeros(10, 1, 40), torch.zeros(100, 1, 28, 28)
    fine = [encoder((1, 40))(seed) for seed in range(2)]
    assert stacked.can_stack(fine, signals)
    assert not stacked.can_stack([fine[0], networks.encoder_projector(
        "cnn", (1, 40), CLASSES, width=5, depth=2, hidden=9, seed=0)], signals), "two architectures"  # fmt: skip
    large = networks.encoder_projector("cnn", (1, 28, 28), CLASSES, width=16, depth=4, hidden=9, seed=0)
    assert stacked.can_stack([large], images[:50]) and not stacked.can_stack([large], images)
    residual = networks.encoder_projector("resnet18", (1, 8, 8), CLASSES, width=1, depth=1, hidden=9, seed=0)
    assert not stacked.can_stack([residual], torch.zeros(10, 1, 8, 8))
    for wrong in (
        nn.Sequential(nn.Flatten(), nn.Linear(40, CLASSES)),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, CLASSES)),  # a bias
        nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8, CLASSES)),
        nn.Sequential(nn.Conv2d(1, 2, 1, 2, bias=False), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, CLASSES)),
        nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 2, 3, bias=False), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                      nn.Linear(2, CLASSES)),
    ):  # fmt: skip
        assert not stacked.can_stack([wrong], torch.zeros(10, 1, 8, 8))
    plain = seeded(lambda: nn.Sequential(nn.Flatten(), nn.Linear(40, CLASSES)))
    assert not equal(trained(plain, (1, 40), [0], steps=1)[0], plain(0).double().state_dict())


def test_networks_are_up_to_date_at_checkpoints():
    seen, make = {}, encoder((1, 40))
    x, y = torch.randn(ROWS, 1, 40, generator=generator()), torch.arange(ROWS) % CLASSES

    def run(steps, checkpoints=()):
        made = [make(0)]
        training.train(
            made, lambda i: (x[i], y[i]), ROWS, steps, [generator()], batch=10, cosine=False, checkpoints=checkpoints,
            observe=lambda step: seen.update({step: {k: v.clone() for k, v in made[0].state_dict().items()}}),
        )  # fmt: skip
        assert made[0].training
        return made[0].state_dict()

    end = run(10, checkpoints=[4, 7])
    assert list(seen) == [4, 7, 10] and equal(seen[10], end)
    middle = dict(seen[4])
    assert equal(run(4), middle) and not equal(middle, end)


@pytest.mark.parametrize("shape", [(1, 40), (3, 9, 7)])
def test_outputs_are_those_of_each_network_in_evaluation_mode(shape):
    """With running statistics that training has moved, and in batches of whatever size."""
    x, y = torch.randn(3, ROWS, *shape, generator=generator(), dtype=torch.float64), torch.arange(ROWS) % CLASSES
    made = [encoder(shape)(seed).double() for seed in range(3)]
    training.train(
        made, lambda i: (x[training.own_rows(i, x)], y[i]), ROWS, 5, [generator(s) for s in range(3)], batch=10
    )
    found = training.logits(made, x, batch=10)
    torch.testing.assert_close(found, training.logits(made, x, readable=True))
    assert all(network.training for network in made)
    assert torch.equal(found[1:2], training.logits(made[1:2], x[1:2], batch=10)), "a network in other company"
    assert torch.equal(training.predict(made, x), found.argmax(2))


@pytest.mark.parametrize("loss", list(training.LOSSES))
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_training_fits(loss, optimiser):
    labels = torch.arange(20) % 2
    x = torch.randn(20, 1, 40, generator=generator())
    made = [encoder((1, 40))(seed) for seed in range(2)]
    training.train(
        made, lambda i: (x[i], labels[i]), 20, 150, [generator(0), generator(1)],
        batch=20, optimiser=optimiser, lr=0.05, loss=loss,
    )  # fmt: skip
    assert all((found == labels).float().mean() > 0.9 for found in training.predict(made, x.expand(2, *x.shape)))


def test_row_batches_visit_every_row_once_an_epoch():
    batches = training.row_batches(20, 5, generator())
    for _ in range(3):
        epoch = torch.cat([next(batches) for _ in range(4)])
        assert sorted(epoch.tolist()) == list(range(20))
    assert len(next(training.row_batches(3, 100, torch.Generator()))) == 3


@pytest.mark.parametrize("labels", [torch.tensor([0, 1]), torch.eye(2)])
def test_square_loss_by_hand(labels):
    logits = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert training.square_loss(logits, labels).item() == pytest.approx((0 + 0 + 0.25 + 0.25) / 4)


@pytest.mark.parametrize("readable", [False, True])
def test_training_refusals(readable):
    x = torch.zeros(20, 1, 40)

    def run(scale=1.0, **options):
        draw = lambda i: (scale * x[i] + scale, torch.zeros(i.shape, dtype=torch.int64))  # noqa: E731
        training.train([encoder((1, 40))(0)], draw, 20, 5, [generator()], readable=readable, **options)

    for wrong, message in (({"loss": "hinge"}, "loss 'hinge'"), ({"optimiser": "lion"}, "optimiser 'lion'")):
        with pytest.raises(ValueError, match=message):
            run(**wrong)
    with pytest.raises(FloatingPointError, match="after 5 steps: lower lr"):
        run(scale=torch.inf)
