"""Networks, layers and the training loop."""

import pytest
import torch

from phenomena.science import networks, training

SIGNALS = torch.randn(20, 1, 40, generator=torch.Generator().manual_seed(0))


def small(kind="cnn", shape=(1, 40), seed=0):
    return networks.encoder_projector(kind, shape, 10, width=4, depth=3, hidden=32, seed=seed)


def test_signal_convolutions_are_one_dimensional():
    encoder = networks.cnn(4, (1, 40))
    x = SIGNALS
    for i, block in enumerate(b for name, b in encoder.named_children() if name.startswith("conv")):
        conv = next(m for m in block if isinstance(m, torch.nn.Conv2d))
        flat = x if x.dim() == 3 else x.squeeze(2)
        expected = torch.nn.functional.conv1d(
            flat, conv.weight.squeeze(2), stride=1 if i == 0 else 2, padding=conv.padding[1]
        )
        torch.testing.assert_close(conv(flat.unsqueeze(2)).squeeze(2), expected, atol=1e-5, rtol=1e-5)
        x = block(x)


@pytest.mark.parametrize("shape", [(1, 40), (1, 28, 28), (3, 32, 32)])
def test_layers_follow_the_forward_pass(shape):
    network = small(shape=shape)
    x = torch.randn(5, *shape)
    found = networks.layers(network, x, batch=2)
    assert list(found) == ["input", "conv1", "conv2", "conv3", "pool", "hidden", "logits"]
    network.eval()
    torch.testing.assert_close(found["logits"], network(x))
    assert torch.equal(found["input"], x.flatten(1))
    assert all(len(rows) == 5 for rows in found.values())


def test_large_maps_are_pooled_to_the_limit():
    found = networks.layers(small(shape=(1, 28, 28)), torch.randn(3, 1, 28, 28), largest=150)
    assert found["conv1"].shape == (3, 4 * 6 * 6)


def test_resnet18_keeps_the_resolution_of_its_stem():
    network = networks.encoder_projector("resnet18", (3, 32, 32), 10, width=0, depth=0, hidden=16, seed=0)
    assert network.stem(torch.zeros(2, 3, 32, 32)).shape == (2, 64, 32, 32)
    assert list(networks.layers(network, torch.zeros(2, 3, 32, 32)))[1:] == [
        "stem", "stage1", "stage2", "stage3", "stage4", "pool", "hidden", "logits",
    ]  # fmt: skip


def test_seed_decides_the_weights_and_nothing_global_changes():
    before = torch.random.get_rng_state()
    first, again, other = small(seed=1), small(seed=1), small(seed=2)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.hidden[0].weight, again.hidden[0].weight)
    assert not torch.equal(first.hidden[0].weight, other.hidden[0].weight)


def test_network_refusals():
    with pytest.raises(ValueError, match="resnet18 for images"):
        small("resnet18")
    with pytest.raises(ValueError, match="must be"):
        networks.cnn(4, (40,))


def test_row_batches_visit_every_row_once_an_epoch():
    batches = training.row_batches(20, 5, torch.Generator().manual_seed(0))
    for _ in range(3):
        epoch = torch.cat([next(batches) for _ in range(4)])
        assert sorted(epoch.tolist()) == list(range(20))
    assert len(next(training.row_batches(3, 100, torch.Generator()))) == 3


def test_square_loss_by_hand():
    logits = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    assert training.square_loss(logits, torch.tensor([0, 1])).item() == pytest.approx((0 + 0 + 0.25 + 0.25) / 4)


@pytest.mark.parametrize("loss", list(training.LOSSES))
@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_training_fits_and_repeats_to_the_bit(loss, optimiser):
    labels = torch.arange(20) % 2

    def run():
        network, seen = small(), []
        training.train(
            network, lambda i: (SIGNALS[i], labels[i]), 20, 150, torch.Generator().manual_seed(0), batch=20,
            optimiser=optimiser, lr=0.05, loss=loss, every=60, observe=lambda _, step: seen.append(step),
        )  # fmt: skip
        return training.predict(network, SIGNALS), network.logits.weight.detach(), seen

    predicted, weights, seen = run()
    assert (predicted == labels).float().mean() > 0.9
    assert seen == [60, 120, 150]
    assert torch.equal(weights, run()[1])


def test_training_refusals():
    draw = lambda i: (SIGNALS[i], torch.zeros(len(i), dtype=torch.int64))  # noqa: E731
    for wrong, message in (({"loss": "hinge"}, "loss 'hinge'"), ({"optimiser": "lion"}, "optimiser 'lion'")):
        with pytest.raises(ValueError, match=message):
            training.train(small(), draw, 20, 1, torch.Generator(), **wrong)
    blow_up = lambda i: (SIGNALS[i] * torch.inf, torch.zeros(len(i), dtype=torch.int64))  # noqa: E731
    with pytest.raises(FloatingPointError, match="lower lr"):
        training.train(small(), blow_up, 20, 5, torch.Generator(), every=1)
