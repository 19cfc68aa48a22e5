"""Small networks as an encoder and a projector, built of named blocks so that every layer can be probed."""

from collections import OrderedDict
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


def cnn(width: int, shape: torch.Size | tuple[int, ...], depth: int = 4) -> nn.Sequential:
    """Encoder of `depth` convolutions (batch norm, ReLU) and a mean over all positions.

    Every convolution halves the sides of an image; the first one of a signal (kernel 5, the others 3) keeps its length.
    Channels are width, 2 width, then 4 width. Signals are taken as images one pixel high: in channels-last layout that
    trains 1.4 times as fast on a CPU as one-dimensional convolutions do (batch 100, width 16, one thread).

    shape: of one sample, (c, l) for signals or (c, h, w) for images.

    The encoder's output is (b, channels of the last convolution). Raises `ValueError` for another shape.

    >>> list(dict(cnn(16, shape=(1, 28, 28)).named_children()))
    ['conv1', 'conv2', 'conv3', 'conv4', 'pool']
    """
    if len(shape) not in (2, 3):
        raise ValueError(f"samples of shape {tuple(shape)}: must be (channels, length) or (channels, height, width)")
    signal = len(shape) == 2
    channels = [shape[0]] + [width * min(2**i, 4) for i in range(depth)]
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (c_in, c_out) in enumerate(pairwise(channels)):
        size, stride = (5, 1) if signal and i == 0 else (3, 2)
        kernel, strides = ((1, size), (1, stride)) if signal else ((size, size), (stride, stride))
        padding = (kernel[0] // 2, kernel[1] // 2)
        block = [nn.Conv2d(c_in, c_out, kernel, strides, padding, bias=False), nn.BatchNorm2d(c_out), nn.ReLU()]
        blocks[f"conv{i + 1}"] = nn.Sequential(*([nn.Unflatten(1, (shape[0], 1))] if signal and i == 0 else []), *block)
    blocks["pool"] = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(blocks).to(memory_format=torch.channels_last)


def resnet18_cifar(channels: int = 3) -> nn.Sequential:
    """torchvision's ResNet-18 with a CIFAR stem (3 x 3, stride 1, no max-pool), as an encoder to (b, 512).

    >>> import torch
    >>> tuple(resnet18_cifar().eval()(torch.zeros(1, 3, 32, 32)).shape)
    (1, 512)
    """
    from torchvision.models import resnet18  # a second of import that few runs need

    net = resnet18(weights=None)
    stem = nn.Sequential(nn.Conv2d(channels, 64, 3, 1, 1, bias=False), net.bn1, net.relu)
    stages: OrderedDict[str, nn.Module] = OrderedDict(stem=stem)
    for i in range(1, 5):
        stages[f"stage{i}"] = getattr(net, f"layer{i}")
    stages["pool"] = nn.Sequential(net.avgpool, nn.Flatten())
    return nn.Sequential(stages).to(memory_format=torch.channels_last)


def projector(features: int, hidden: int, classes: int) -> nn.Sequential:
    """Two linear layers without bias and a ReLU between them (Anagnostidis et al. 2023, official code).

    >>> projector(features=64, hidden=128, classes=10)[0][0]
    Linear(in_features=64, out_features=128, bias=False)
    """
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    blocks["hidden"] = nn.Sequential(nn.Linear(features, hidden, bias=False), nn.ReLU())
    blocks["logits"] = nn.Linear(hidden, classes, bias=False)
    return nn.Sequential(blocks)


def encoder_projector(
    kind: str, shape: torch.Size | tuple[int, ...], classes: int, *, width: int, depth: int, hidden: int, seed: int
) -> nn.Sequential:
    """A freshly initialised encoder, "cnn" or "resnet18", with its projector, as one chain of named blocks.

    The global random state is left as it was.

    shape: of one sample, as for `cnn`; the output is (b, classes).
    width, depth: those of `cnn`; ResNet-18 has its own.
    hidden: units between the projector's two layers.

    Raises `ValueError` for another kind, or signals for ResNet-18.

    >>> import torch
    >>> net = encoder_projector("cnn", (1, 40), classes=10, width=8, depth=3, hidden=32, seed=0)
    >>> tuple(net(torch.zeros(5, 1, 40)).shape)
    (5, 10)
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "cnn":
            encoder, features = cnn(width, shape, depth), width * min(2 ** (depth - 1), 4)
        elif kind == "resnet18" and len(shape) == 3:
            encoder, features = resnet18_cifar(shape[0]), 512
        else:
            raise ValueError(f"network {kind!r} for samples of shape {tuple(shape)}: cnn, or resnet18 for images")
        head = projector(features, hidden, classes)
    return nn.Sequential(OrderedDict([*encoder.named_children(), *head.named_children()]))


@torch.no_grad()
def layers(
    network: nn.Sequential, x: Float[Tensor, "n *sample"], batch: int = 1000, largest: int = 4096
) -> dict[str, Float[Tensor, "n _"]]:
    """Input and activation of every named block, in evaluation mode, one row a sample.

    A feature map with more than `largest` entries is mean-pooled in space to fit, so that k-NN on the first layers of a
    large network stays within memory. Returns name -> features, "input" first.

    >>> import torch
    >>> net = encoder_projector("cnn", (1, 40), classes=10, width=8, depth=2, hidden=32, seed=0)
    >>> {name: features.shape[1] for name, features in layers(net, torch.zeros(5, 1, 40)).items()}
    {'input': 40, 'conv1': 320, 'conv2': 320, 'pool': 16, 'hidden': 32, 'logits': 10}
    """
    was_training = network.training
    network.eval()
    chunks: dict[str, list[Tensor]] = {"input": []}
    for part in x.split(batch):
        chunks["input"].append(part.flatten(1))
        for name, block in network.named_children():
            part = block(part)
            chunks.setdefault(name, []).append(_rows(part, largest))
    network.train(was_training)
    return {name: torch.cat(rows) for name, rows in chunks.items()}


def _rows(maps: Tensor, largest: int) -> Tensor:
    if maps[0].numel() > largest and maps.dim() == 4:
        side = max(1, int((largest / maps.shape[1]) ** 0.5))
        maps = F.adaptive_avg_pool2d(maps, side)
    return maps.flatten(1)
