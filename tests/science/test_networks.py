"""Networks and their layers."""

import pytest
import torch

from phenomena.science import networks

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
