"""Many one-layer transformers of two paths trained at once: attention to the context, and a network of the query alone.

    a = softmax_i(sqrt(d) x_q' M x_i)                                    attention to the items of the context
    logits = (sum_i a_i onehot(y_i)) V  +  relu((x_q, 1) W1) W2 + b2     vote of the context + vote of the weights

With a depth above 1, further hidden layers h <- relu(h W) without biases stand between W1 and W2.

No parameter serves both paths, so that each can be given a learning rate and a decay of its own, and the logits are
their sum. `train` is fast, with gradients written out and memory laid out beforehand; `train_readable` says the same in
plain torch, one network after another; a test holds them together. For ten networks `train` takes a sixth of the time
of a loop over them, and less than a third of that of `torch.func.vmap` (`benchmarks/in_context.py`). A network depends
on its own generator alone, not on its company, to the bit: matrices are multiplied one by one.
Letters: s seeds (networks), b sequences of a batch, n pairs of a context, q = n + 1 places with the query, d features,
e = d + 1 with the one of the bias, l labels, j units of a hidden layer, k = depth - 1 hidden layers after the first.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from phenomena.chapters.in_context_learning.sequences import BLOCK_STEPS, Sequences, Task, draw, stack
from phenomena.science.linalg import matmul
from phenomena.science.optimisers import Optimiser

LANES = 16  # numbers in the widest vector register: Adam rounds what is left over differently
PATHS = ("both", "context", "weights")


@dataclass(frozen=True)
class Training:
    """How networks are trained.

    steps, batch: of Adam, and sequences in each.
    hidden: units of a hidden layer of the weights' path. depth: how many hidden layers it has.
    rate_context, rate_weights: learning rate of either path.
    decay_context, decay_weights: by which share of themselves its parameters shrink at every step.
    paths: "context" or "weights" silences the other one.

    Raises `ValueError` in one line for a value with which there is no training.

    >>> Training(decay_weights=-0.1)
    Traceback (most recent call last):
    ValueError: decay_weights is -0.1: must be 0 or more and below 1
    """

    steps: int = 2500
    batch: int = 64
    hidden: int = 128
    depth: int = 1
    rate_context: float = 0.02
    rate_weights: float = 0.002
    decay_context: float = 0.0
    decay_weights: float = 0.0
    paths: str = "both"

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "hidden", "depth"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: must be 1 or more")
        for name in ("rate_context", "rate_weights"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}: must be above 0 and finite")
        for name in ("decay_context", "decay_weights"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: must be 0 or more and below 1")
        if self.paths not in PATHS:
            raise ValueError(f"paths is {self.paths!r}: must be one of {', '.join(PATHS)}")

    def groups(self) -> list[tuple[float, float]]:
        """Learning rate and AdamW's weight decay of the context's path and of the weights' path."""
        rates = {"context": self.rate_context, "weights": self.rate_weights}
        decays = {"context": self.decay_context, "weights": self.decay_weights}
        return [
            (rates[path], decays[path] / rates[path]) if self.paths in ("both", path) else (0.0, 0.0) for path in rates
        ]


class Networks(NamedTuple):
    """Parameters of s networks; the last row of w1 is the bias of the hidden units."""

    match: Float[Tensor, "s d d"]
    vote: Float[Tensor, "s l l"]
    w1: Float[Tensor, "s e j"]
    inner: Float[Tensor, "s k j j"]
    w2: Float[Tensor, "s j l"]
    b2: Float[Tensor, "s 1 l"]


def initial(task: Task, training: Training, generator: torch.Generator) -> Networks:
    """One network (s = 1): weak matching, random votes, and a weights' path that begins almost silent."""

    def normal(rows: int, columns: int, scale: float) -> Tensor:
        return scale * torch.randn(1, rows, columns, generator=generator)

    d, labels, hidden = task.features, task.labels, training.hidden
    match, vote = normal(d, d, 0.1 / d**0.5), normal(labels, labels, labels**-0.5)
    w1, w2 = normal(d + 1, hidden, 2**0.5), normal(hidden, labels, 0.1 * hidden**-0.5)
    w1[:, -1] = 0
    inner = normal(hidden * (training.depth - 1), hidden, (2 / hidden) ** 0.5).view(1, -1, hidden, hidden)
    if training.paths == "weights":
        vote.zero_()
    if training.paths == "context":
        w2.zero_()
    return Networks(match, vote, w1, inner, w2, torch.zeros(1, 1, labels))


class Passes:
    """Forward and backward pass of s networks on batches of one size, into memory that is laid out once.

    After `forward`, `attention` (s, n, b), `context` and `weights` (s, b, l) are the attention to each pair and the
    logits that either path adds. They are overwritten by the next call.
    """

    def __init__(self, net: Networks, batch: int, pairs: int) -> None:
        """net: their parameters, which may change between calls; pairs: of a context."""
        (s, d, _), (_, hidden, labels), layers = net.match.shape, net.w2.shape, 1 + net.inner.shape[1]
        empty = net.match.new_empty
        self.net = net
        self.query = torch.ones(s, batch, d + 1)  # with the one of the bias
        self.asked, self.product = empty(s, batch, d), empty(s, pairs, batch, d)
        self.read = empty(s, batch, labels)  # attention summed up for each label
        self.hidden = [empty(s, batch, hidden) for _ in range(layers)]
        self.pull, self.other = empty(s, batch, hidden), empty(s, batch, hidden)
        self.context, self.weights = empty(s, batch, labels), empty(s, batch, labels)

    def forward(self, x: Float[Tensor, "s q b d"], labels: Int[Tensor, "s q b"]) -> Float[Tensor, "s b l"]:
        """Logits. x: the query, then the items of the context; labels: likewise, the query's is not looked at."""
        self.x, self.labels = x, labels[:, 1:].transpose(1, 2)
        query, net = x[:, 0], self.net
        self.query[..., :-1] = query
        matmul(query, net.match, out=self.asked)
        scores = torch.mul(x[:, 1:], self.asked[:, None], out=self.product).sum(-1)
        self.attention = scores.mul_(x.shape[-1] ** 0.5).softmax(1)
        self.read.zero_().scatter_add_(2, self.labels, self.attention.transpose(1, 2))
        matmul(self.read, net.vote, out=self.context)
        matmul(self.query, net.w1, out=self.hidden[0]).relu_()
        for k, above in enumerate(self.hidden[1:]):
            matmul(self.hidden[k], net.inner[:, k], out=above).relu_()
        matmul(self.hidden[-1], net.w2, out=self.weights).add_(net.b2)
        return self.context + self.weights

    def backward(self, error: Float[Tensor, "s b l"], slope: Networks) -> None:
        """Writes the gradient into `slope`, of the batch that went through `forward` last.

        error: derivative of the loss by the logits.
        """
        net, pull, other = self.net, self.pull, self.other
        matmul(self.hidden[-1].mT, error, out=slope.w2)
        torch.sum(error, 1, keepdim=True, out=slope.b2)
        matmul(error, net.w2.mT, out=pull)
        for k in reversed(range(len(self.hidden))):
            torch.ops.aten.threshold_backward.grad_input(pull, self.hidden[k], 0, grad_input=pull)
            if k:
                matmul(self.hidden[k - 1].mT, pull, out=slope.inner[:, k - 1])
                pull, other = matmul(pull, net.inner[:, k - 1].mT, out=other), pull
        matmul(self.query.mT, pull, out=slope.w1)
        matmul(self.read.mT, error, out=slope.vote)
        by_label = matmul(error, net.vote.mT)  # derivative by `read`
        by_pair = by_label.gather(2, self.labels).transpose(1, 2)
        scores = self.attention * (by_pair - (self.attention * by_pair).sum(1, keepdim=True))
        torch.mul(self.x[:, 1:], scores.mul_(self.x.shape[-1] ** 0.5)[..., None], out=self.product)
        matmul(self.x[:, 0].mT, torch.sum(self.product, 1, out=self.asked), out=slope.match)


def train(
    tables: Float[Tensor, "s r d"],
    task: Task,
    training: Training,
    generators: Sequence[torch.Generator],
    at: Sequence[int],
) -> Iterator[tuple[int, Networks]]:
    """Yields (step, networks) before the first step that is in `at`, and so on; the networks change afterwards.

    tables: items of each network, as `sequences.table` makes them, float32.
    generators: of each network: for its initial parameters, then for its sequences.
    at: rising numbers of steps, from 0 to `training.steps`; training ends at the last of them.

    Raises `ValueError` for tables that do not fit or steps that do not rise, `FloatingPointError` when one diverges.
    """
    check(tables, task, training, generators, at)
    s, _, d = tables.shape
    starts = [initial(task, training, generator) for generator in generators]
    # The parameters of a path lie in one buffer, so that Adam is one call; net and slope are views of them.
    stacked = Networks(*(torch.cat(tensors) for tensors in zip(*starts, strict=True)))
    paths = [_buffer(stacked[:2]), _buffer(stacked[2:])]
    net, slope = (Networks(*paths[0][i], *paths[1][i]) for i in (1, 2))
    settings = zip(paths, training.groups(), strict=True)
    groups = [{"params": [flat], "lr": lr, "weight_decay": decay} for (flat, *_), (lr, decay) in settings]
    optimiser = Optimiser("adam", groups, lr=0.0)
    passes, rows = Passes(net, training.batch, task.context), tables.reshape(-1, d)
    first = (torch.arange(s) * tables.shape[1]).view(s, 1, 1)
    x, ones = torch.empty(s, task.context + 1, training.batch, d), torch.full((s, training.batch, 1), -1.0)
    for step in range(at[-1] + 1):
        if step in at:
            if not all(tensor.isfinite().all() for tensor in net):
                raise FloatingPointError(f"a network is no longer finite after {step} steps: lower its learning rates")
            yield step, net
        if step == at[-1]:
            return
        if step % BLOCK_STEPS == 0:
            block = training_block(task, training.batch, generators)
        at_step = slice(step % BLOCK_STEPS * training.batch, (step % BLOCK_STEPS + 1) * training.batch)
        labels = block.labels[..., at_step]
        torch.index_select(rows, 0, (block.items[..., at_step] + first).flatten(), out=x.view(-1, d))
        error = passes.forward(x, labels).softmax(2)
        error.scatter_add_(2, labels[:, 0, :, None], ones).div_(training.batch)
        passes.backward(error, slope)
        optimiser.step()


def training_block(task: Task, batch: int, generators: Sequence[torch.Generator]) -> Sequences:
    """The training sequences of the next `BLOCK_STEPS` steps, one batch after another."""
    return stack([draw(task, "training", BLOCK_STEPS * batch, generator) for generator in generators])


def _buffer(tensors: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """One buffer that holds the tensors, they as views of it, and views of its gradient."""
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    flat = F.pad(flat, (0, -len(flat) % LANES))
    flat.grad = torch.zeros_like(flat)
    sizes = [tensor.numel() for tensor in tensors]
    parts = [buffer[: sum(sizes)].split(sizes) for buffer in (flat, flat.grad)]
    views, slopes = ([p.view(t.shape) for p, t in zip(part, tensors, strict=True)] for part in parts)
    return flat, views, slopes


def train_readable(
    tables: Float[Tensor, "s r d"],
    task: Task,
    training: Training,
    generators: Sequence[torch.Generator],
    at: Sequence[int],
) -> Networks:
    """The readable twin of `train`: same arguments, same random numbers, the same last networks up to rounding."""
    check(tables, task, training, generators, at)
    trained = []
    for items, generator in zip(tables, generators, strict=True):
        net = Networks(*(p.requires_grad_() for p in initial(task, training, generator)))
        groups = [
            {"params": list(part), "lr": lr, "weight_decay": decay}
            for part, (lr, decay) in zip((net[:2], net[2:]), training.groups(), strict=True)
        ]
        optimiser = torch.optim.AdamW(groups)
        for step in range(at[-1]):
            if step % BLOCK_STEPS == 0:
                block = draw(task, "training", BLOCK_STEPS * training.batch, generator)
            at_step = slice(step % BLOCK_STEPS * training.batch, (step % BLOCK_STEPS + 1) * training.batch)
            x, labels = items[block.items[:, at_step]], block.labels[:, at_step]
            optimiser.zero_grad()
            F.cross_entropy(logits_readable(net, x, labels), labels[0]).backward()
            optimiser.step()
        trained.append(Networks(*(p.detach() for p in net)))
    return Networks(*(torch.cat(tensors) for tensors in zip(*trained, strict=True)))


def logits_readable(net: Networks, x: Float[Tensor, "q b d"], labels: Int[Tensor, "q b"]) -> Float[Tensor, "b l"]:
    """Logits of one network (s = 1), in plain torch."""
    match, vote, w1, inner, w2, b2 = (p[0] for p in net)
    query, pairs = x[0], x[1:]
    attention = (torch.einsum("bd,de,nbe->nb", query, match, pairs) * x.shape[-1] ** 0.5).softmax(0)
    read = torch.einsum("nb,nbl->bl", attention, F.one_hot(labels[1:], vote.shape[0]).to(x.dtype))
    hidden = torch.addmm(w1[-1], query, w1[:-1]).relu()
    for weight in inner:
        hidden = (hidden @ weight).relu()
    return read @ vote + hidden @ w2 + b2


def check(
    tables: Float[Tensor, "s r d"],
    task: Task,
    training: Training,
    generators: Sequence[torch.Generator],
    at: Sequence[int],
) -> None:
    """Raises `ValueError` for what does not fit, in one line."""
    if tables.dim() != 3 or tables.shape[1:] != (2 * task.rows, task.features) or len(tables) != len(generators):
        raise ValueError(
            f"tables of shape {tuple(tables.shape)} for {len(generators)} generators: must be "
            f"({len(generators)}, {2 * task.rows}, {task.features}), networks, items and features"
        )
    if list(at) != sorted(set(at)) or not at or at[0] < 0 or at[-1] > training.steps:
        raise ValueError(f"at is {list(at)}: must be rising steps from 0 to {training.steps}")
