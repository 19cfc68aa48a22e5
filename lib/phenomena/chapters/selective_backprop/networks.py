"""Many networks with two hidden layers at once, with gradients in closed form.

Leading axes are those of the networks and are broadcast: one set of weights serves many minibatches, or one minibatch
many networks. Letters: b rows, d features, w hidden units, c classes, p parameters.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from phenomena.science.linalg import matmul


class Net(NamedTuple):
    """Parameters or gradients as views of one buffer."""

    w1: Float[Tensor, "*n d w"]
    b1: Float[Tensor, "*n 1 w"]
    w2: Float[Tensor, "*n w w"]
    b2: Float[Tensor, "*n 1 w"]
    w3: Float[Tensor, "*n w c"]
    b3: Float[Tensor, "*n 1 c"]


class Pass(NamedTuple):
    """What a forward pass leaves."""

    first: Float[Tensor, "*n b w"]
    second: Float[Tensor, "*n b w"]
    logits: Float[Tensor, "*n b c"]


def shapes(d: int, w: int, c: int) -> list[tuple[int, int]]:
    """Of the matrices of `Net`, in its order."""
    return [(d, w), (1, w), (w, w), (1, w), (w, c), (1, c)]


def parameters(d: int, w: int, c: int) -> int:
    """How many a network has.

    >>> parameters(40, 64, 10)
    7434
    """
    return sum(math.prod(shape) for shape in shapes(d, w, c))


def views(flat: Float[Tensor, "*n p"], d: int, w: int, c: int) -> Net:
    """The buffer's parts as matrices."""
    sizes = shapes(d, w, c)
    parts = flat.split([math.prod(shape) for shape in sizes], dim=-1)
    return Net(*(part.unflatten(-1, shape) for part, shape in zip(parts, sizes, strict=True)))


def initial(d: int, w: int, c: int, generator: torch.Generator) -> Float[Tensor, " p"]:
    """Weights and biases uniform on +-1/sqrt(fan-in), as torch's linear layers have them."""
    parts = [
        (2 * torch.rand(shape, generator=generator) - 1) / math.sqrt(fan)
        for shape, fan in zip(shapes(d, w, c), (d, d, w, w, w, w), strict=True)
    ]
    return torch.cat([part.flatten() for part in parts])


def forward(net: Net, x: Float[Tensor, "*m b d"]) -> Pass:
    """ReLU layers, then logits."""
    first = _product(x, net.w1).add_(net.b1).relu_()
    second = _product(first, net.w2).add_(net.b2).relu_()
    return Pass(first, second, _product(second, net.w3).add_(net.b3))


def backward(net: Net, x: Float[Tensor, "*m b d"], passed: Pass, slope: Float[Tensor, "*n b c"], out: Net) -> None:
    """Writes the gradients with respect to all parameters into `out`, given those with respect to the logits."""
    _product(passed.second.mT, slope, out=out.w3)
    torch.sum(slope, -2, keepdim=True, out=out.b3)
    back = _product(slope, net.w3.mT).mul_(passed.second > 0)
    _product(passed.first.mT, back, out=out.w2)
    torch.sum(back, -2, keepdim=True, out=out.b2)
    back = _product(back, net.w2.mT).mul_(passed.first > 0)
    _product(x.mT, back, out=out.w1)
    torch.sum(back, -2, keepdim=True, out=out.b1)


def errors(logits: Float[Tensor, "*n b c"], onehot: Float[Tensor, "*m b c"]) -> tuple[Tensor, Tensor]:
    """Cross-entropy of every row (*n b), and its gradient with respect to logits (*n b c), probabilities less label."""
    log_p = logits.log_softmax(-1)
    return -(log_p * onehot).sum(-1), log_p.exp().sub_(onehot)


def _product(
    a: Float[Tensor, "*n i j"], b: Float[Tensor, "*m j l"], out: Float[Tensor, "*o i l"] | None = None
) -> Float[Tensor, "*o i l"]:
    """Matrix products with leading axes that are broadcast."""
    lead = torch.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    return matmul(a.expand(*lead, -1, -1), b.expand(*lead, -1, -1), out=out)
