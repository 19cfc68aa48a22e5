"""Many small ReLU networks at once: training on subsets, margins, gradients and tangent kernels in closed form.

A stack of networks is a list of layers W (s, inputs + 1, outputs), whose last row is the bias. Inputs and activations
carry a last column of ones accordingly. `estimators` has the same gradients for any module, by `torch.func`.

Letters: s networks; b samples of a network's batch; n training samples, m test samples; d features; c classes;
p parameters of a network.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from phenomena.chapters.influence.estimators import Products, gradient_dot, margin, margin_slope
from phenomena.chapters.influence.samples import Model, Outcomes, Sample, checkpoints
from phenomena.science.linalg import matmul

Layers = list[Tensor]
GROUP = 50  # networks whose activations stay in the cache together


@dataclass(frozen=True)
class Training:
    """Gradient descent on the mean cross-entropy of the whole batch plus decay |W|² / 2.

    hidden: units of each hidden layer. rate: at the start; it falls to 0 along half a cosine.

    Raises `ValueError` for settings with which nothing can be trained.

    >>> Training(steps=2).rates()
    [0.2, 0.1]
    """

    hidden: tuple[int, ...] = (16,)
    steps: int = 150
    rate: float = 0.2
    momentum: float = 0.9
    decay: float = 1e-3

    def __post_init__(self) -> None:
        if self.steps < 1 or self.rate <= 0 or self.decay < 0 or min(self.hidden, default=1) < 1:
            raise ValueError(f"{self}: steps, rate and units must be positive, and decay 0 or more")

    def rates(self) -> list[float]:
        """The learning rate of every step."""
        return [self.rate * 0.5 * (1 + math.cos(math.pi * t / self.steps)) for t in range(self.steps)]


class Checkpoint(NamedTuple):
    """Networks after `step` steps, and the sum of the learning rates for which they stand in TracIn."""

    step: int
    rate: float
    layers: Layers


def with_ones(x: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d1"]:
    """Rows with a last column of ones, for the bias.

    >>> with_ones(torch.zeros(1, 2)).tolist()
    [[0.0, 0.0, 1.0]]
    """
    return F.pad(x, (0, 1), value=1.0)


def initial(count: int, sizes: Sequence[int], generator: torch.Generator, fixed: bool = False) -> Layers:
    """He's normal weights and zero biases. sizes: features, units of hidden layers, classes. fixed: one for all.

    >>> [tuple(w.shape) for w in initial(3, (4, 5, 2), torch.Generator())]
    [(3, 5, 5), (3, 6, 2)]
    """
    layers = []
    for a, b in pairwise(sizes):
        w = torch.randn(1 if fixed else count, a, b, generator=generator) * math.sqrt(2 / a)
        layers.append(F.pad(w, (0, 0, 0, 1)).expand(count, -1, -1).contiguous())
    return layers


def forward(layers: Layers, x: Float[Tensor, "*n d1"]) -> tuple[Float[Tensor, "s n c"], list[Tensor]]:
    """Logits, and the input of every layer with its column of ones. x: (n, d + 1) for all, or (s, n, d + 1)."""
    a = x.expand(len(layers[0]), *x.shape[-2:])
    inputs = [a]
    for w in layers[:-1]:
        a = with_ones(matmul(a.contiguous(), w).relu_())
        inputs.append(a)
    return matmul(a.contiguous(), layers[-1]), inputs


def train(
    x: Float[Tensor, "n d"],
    y: Int[Tensor, " n"],
    index: Int[Tensor, "s b"],
    start: Layers,
    training: Training,
    keep: Sequence[int] = (),
) -> tuple[Layers, list[Checkpoint]]:
    """Trains every network on its own rows of the data, all steps of a group of networks before the next group.

    index: rows of x and y for each network. start: initial layers, left as they are. keep: steps after which
    checkpoints are wanted, rising. The rows of a batch are weighted alike.
    """
    ones, goal = with_ones(x), F.one_hot(y, start[-1].shape[-1]).to(x.dtype)
    parts = [
        _train_group(ones[rows], goal[rows], [w[at : at + GROUP] for w in start], training, keep)
        for at, rows in ((at, index[at : at + GROUP]) for at in range(0, len(index), GROUP))
    ]
    layers = [torch.cat(ws) for ws in zip(*(part[-1] for part in parts), strict=True)]
    rates, begin, kept = training.rates(), 0, []
    for number, step in enumerate(keep):
        joined = [torch.cat(ws) for ws in zip(*(part[number] for part in parts), strict=True)]
        kept.append(Checkpoint(step, sum(rates[begin:step]), joined))
        begin = step
    return layers, kept


def _train_group(x: Tensor, goal: Tensor, start: Layers, training: Training, keep: Sequence[int]) -> list[Layers]:
    """The layers at every step of `keep` and at the end. x: (s, b, d + 1)."""
    (s, b), count = x.shape[:2], len(start)
    layers = [w.clone() for w in start]
    slopes, speeds = [torch.empty_like(w) for w in layers], [torch.zeros_like(w) for w in layers]
    inputs = [x, *(x.new_ones(s, b, w.shape[2] + 1) for w in layers[:-1])]
    outputs = [x.new_empty(s, b, w.shape[2]) for w in layers[:-1]]
    # classes before samples: a softmax over the last, short axis would take half of the time of a step
    logits, goal, kept = x.new_empty(s, layers[-1].shape[2], b), goal.mT.contiguous(), []
    for step, rate in enumerate(training.rates(), 1):
        for i, w in enumerate(layers[:-1]):
            matmul(inputs[i], w, out=outputs[i])
            torch.clamp(outputs[i], min=0, out=inputs[i + 1][..., :-1])
        matmul(layers[-1].mT, inputs[-1].mT, out=logits)
        slope = torch.softmax(logits, 1).sub_(goal).div_(b).mT
        for i in range(count - 1, -1, -1):
            matmul(inputs[i].mT, slope, out=slopes[i])
            if i:
                slope = matmul(slope, layers[i][:, :-1].mT).mul_(inputs[i][..., :-1].sign())  # 0 or 1
        for w, g, v in zip(layers, slopes, speeds, strict=True):
            v.mul_(training.momentum).add_(g).add_(w, alpha=training.decay)
            w.sub_(v, alpha=rate)
        if step in keep:
            kept.append([w.clone() for w in layers])
    return [*kept, layers]


def deltas(layers: Layers, inputs: list[Tensor], slope: Float[Tensor, "s n *k c"]) -> list[Float[Tensor, "s n *k o"]]:
    """For every layer, the gradient by its outputs of what has this gradient by the logits; k: further axes."""
    found = [slope]
    for i in range(len(layers) - 1, 0, -1):
        back = torch.einsum("sn...o,sio->sn...i", found[0], layers[i][:, :-1])
        on = inputs[i][..., :-1] > 0
        found.insert(0, back * (on if back.dim() == 3 else on[:, :, None]))
    return found


def gradients(
    layers: Layers, x: Float[Tensor, "n d1"], y: Int[Tensor, " n"], of: str = "loss"
) -> Float[Tensor, "s n p"]:
    """The gradient of every sample's loss or margin by all parameters, layer by layer, the bias last."""
    logits, inputs = forward(layers, x)
    slope = loss_slope(logits, y) if of == "loss" else margin_slope(logits, y.expand(logits.shape[:2]))
    parts = deltas(layers, inputs, slope)
    return torch.cat([torch.einsum("sni,sno->snio", a, d).flatten(2) for a, d in zip(inputs, parts, strict=True)], 2)


def loss_slope(logits: Float[Tensor, "*s n c"], y: Int[Tensor, " n"]) -> Float[Tensor, "*s n c"]:
    """Gradient of the cross-entropy of each row by its logits: probabilities less the one-hot label.

    >>> loss_slope(torch.zeros(1, 2), torch.tensor([0])).tolist()
    [[-0.5, 0.5]]
    """
    return logits.softmax(-1) - F.one_hot(y, logits.shape[-1]).to(logits)


def products(
    layers: Layers, x: Float[Tensor, "n d1"], y: Int[Tensor, " n"], x_test: Tensor, y_test: Tensor
) -> Products:
    """What `estimators.influence` needs of one network (s = 1), without forming a Jacobian.

    The tangent kernel of a layer is (a a' + 1) times the inner product of the gradients by its outputs, where a are its
    inputs. So the Gram matrix of all n c rows of the Jacobian costs as many products as there are units.
    """
    n, c = len(x), layers[-1].shape[2]
    logits, inputs = forward(layers, x)
    logits_test, inputs_test = forward(layers, x_test)
    p = logits[0].softmax(1)
    root = torch.diag_embed(p.sqrt()) - p[:, :, None] * p.sqrt()[:, None]  # its square is diag(p) - p p'
    rows = deltas(layers, inputs, root.mT[None].contiguous() / math.sqrt(n))  # (1, n, c, o)
    losses = deltas(layers, inputs, loss_slope(logits, y))
    goals = deltas(layers, inputs_test, margin_slope(logits_test, y_test[None]))
    dot, self_dot = (x.new_zeros(n, k) for k in (len(x_test), n))
    kernel, rows_losses, rows_goals = (x.new_zeros(n * c, k) for k in (n * c, n, len(x_test)))
    for a, t, row, loss, goal in zip(inputs, inputs_test, rows, losses, goals, strict=True):
        flat, near, far = row[0].reshape(n * c, -1), matmul(a[0], a[0].T), matmul(a[0], t[0].T.contiguous())
        dot += far * matmul(loss[0], goal[0].T)
        self_dot += near * matmul(loss[0], loss[0].T)
        kernel += matmul(flat, flat.T).view(n, c, n, c).mul_(near[:, None, :, None]).view(n * c, n * c)
        rows_losses += (matmul(flat, loss[0].T).view(n, c, n) * near[:, None]).view(n * c, n)
        rows_goals += (matmul(flat, goal[0].T).view(n, c, -1) * far[:, None]).view(n * c, -1)
    return Products(dot, self_dot, kernel, rows_losses, rows_goals)


def margins(layers: Layers, x: Float[Tensor, "n d1"], y: Int[Tensor, " n"]) -> Float[Tensor, "s n"]:
    """The margin of every network on every sample."""
    logits, _ = forward(layers, x)
    return margin(logits, y.expand(logits.shape[:2]))


def as_module(layers: Layers, number: int = 0) -> nn.Sequential:
    """One network of the stack as a module, for `estimators`."""
    chain: list[nn.Module] = []
    for w in layers:
        linear = nn.utils.skip_init(nn.Linear, w.shape[1] - 1, w.shape[2])
        with torch.no_grad():
            linear.weight.copy_(w[number, :-1].T)
            linear.bias.copy_(w[number, -1])
        chain += [linear, nn.ReLU()]
    return nn.Sequential(*chain[:-1])


# --- a learner, as the study uses it ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Perceptrons:
    """Networks of this module behind the two calls of a learner: `retrain` and `models`."""

    training: Training

    def start(self, sample: Sample, count: int, seed: int, fixed: bool = False) -> Layers:
        """Initial networks; the first of them are the same for any count. fixed: one for all."""
        sizes = (sample.x[0].numel(), *self.training.hidden, sample.classes)
        return initial(count, sizes, torch.Generator().manual_seed(seed), fixed)

    def retrain(self, sample: Sample, index: Int[Tensor, "r b"], seed: int, fixed: bool = False) -> Outcomes:
        """Trains a network on each subset."""
        x = sample.x.flatten(1)
        layers, _ = train(x, sample.y, index, self.start(sample, len(index), seed, fixed), self.training)
        return outcomes(layers, sample)

    def models(self, sample: Sample, count: int, seed: int, fixed: bool = False) -> list[Model]:
        """Networks trained on all samples, with what estimates use of them."""
        x, x_test = (with_ones(rows.flatten(1)) for rows in (sample.x, sample.x_test))
        everything = torch.arange(len(x)).expand(count, -1)
        steps = checkpoints(self.training.steps)
        start = self.start(sample, count, seed, fixed)
        layers, kept = train(sample.x.flatten(1), sample.y, everything, start, self.training, steps)
        found = []
        for number in range(count):
            one = [w[number : number + 1] for w in layers]
            scores, own = x.new_zeros(len(x), len(x_test)), x.new_zeros(len(x))
            for point in kept:
                then = [w[number : number + 1] for w in point.layers]
                loss = gradients(then, x, sample.y)[0]
                goal = gradients(then, x_test, sample.y_test, "margin")[0]
                add_tracin(scores, own, point.rate, loss, goal)
            logits, inputs = forward(one, x)
            early, _ = forward([w[number : number + 1] for w in kept[:2][-1].layers], x)
            found.append(
                Model(
                    loss=loss,
                    goal=goal,
                    margin=gradients(one, x, sample.y, "margin")[0],
                    found=partial(products, one, x, sample.y, x_test, sample.y_test),
                    logits=logits[0],
                    early=early[0],
                    features=inputs[-1][0],
                    features_test=forward(one, x_test)[1][-1][0],
                    tracin=scores,
                    tracin_self=own,
                )
            )
        return found


def add_tracin(scores: Tensor, own: Tensor, rate: float, loss: Tensor, goal: Tensor) -> None:
    """Adds a checkpoint to scores (n, m) and self-influence (n,) in place, as `estimators.tracin` sums them."""
    scores.add_(gradient_dot(loss, goal), alpha=rate)
    own.add_(loss.square().sum(1), alpha=rate)


def outcomes(layers: Layers, sample: Sample) -> Outcomes:
    """Margins on test samples, and which training and test samples have their label as the most likely class."""
    x, x_test = (with_ones(rows.flatten(1)) for rows in (sample.x, sample.x_test))
    goals, hits, hits_test = [], [], []
    for at in range(0, len(layers[0]), GROUP):
        part = [w[at : at + GROUP] for w in layers]
        test, _ = forward(part, x_test)
        goals.append(margin(test, sample.y_test.expand(test.shape[:2])))
        hits.append(forward(part, x)[0].argmax(2) == sample.y)
        hits_test.append(test.argmax(2) == sample.y_test)
    return Outcomes(torch.cat(goals).double().numpy(), torch.cat(hits).numpy(), torch.cat(hits_test).numpy())
