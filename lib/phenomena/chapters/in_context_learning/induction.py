"""A transformer of two attention layers on the same sequences, in which items and labels are tokens of their own.

Reading a label then takes two steps, an induction circuit: in the first layer the token of each label attends to the
item before it and takes it over; in the second the query attends to the label whose item is like it. Tokens are
item, label, ..., item, label, query; attention looks back only; positions are learned; a hidden layer reads the answer
off the query.

    h_t = E token_t + position_t,   h += softmax(q k' / sqrt(j), t' <= t) z O,   with q, k = z Q, z K and z = h / rms(h)

Networks of all seeds go through torch together. Letters: s seeds, b sequences, n pairs, q = n + 1 places with the
query, t = 2 n + 1 tokens, d features of an item, j width, l labels.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from phenomena.chapters.in_context_learning.sequences import BLOCK_STEPS, Sequences, Task, draw, stack
from phenomena.science.optimisers import Optimiser

WIDTH, HIDDEN, BATCH, RATE = 32, 64, 32, 0.003  # the smallest with which the circuit formed in trials


class Circuit(NamedTuple):
    """Parameters of s networks."""

    item: Float[Tensor, "s d j"]
    label: Float[Tensor, "s l j"]
    position: Float[Tensor, "s t j"]
    query1: Float[Tensor, "s j j"]
    key1: Float[Tensor, "s j j"]
    out1: Float[Tensor, "s j j"]
    query2: Float[Tensor, "s j j"]
    key2: Float[Tensor, "s j j"]
    out2: Float[Tensor, "s j j"]
    w1: Float[Tensor, "s j h"]
    b1: Float[Tensor, "s 1 h"]
    w2: Float[Tensor, "s h l"]
    b2: Float[Tensor, "s 1 l"]


class Answers(NamedTuple):
    """What networks make of sequences; rows of the first attention are tokens, the second is that of the query."""

    logits: Float[Tensor, "s b l"]
    first: Float[Tensor, "s b t t"]
    second: Float[Tensor, "s b t"]


def initial(task: Task, generator: torch.Generator) -> Circuit:
    """One network (s = 1) with normal parameters; the hidden layer begins almost silent."""

    def normal(rows: int, columns: int, scale: float) -> Tensor:
        return scale * torch.randn(1, rows, columns, generator=generator)

    j, d, labels = WIDTH, task.features, task.labels
    tokens = [normal(d, j, 1.0), normal(labels, j, 1.0), normal(2 * task.context + 1, j, 1.0)]
    layers = [normal(j, j, j**-0.5) for _ in range(6)]
    w1, w2 = normal(j, HIDDEN, (2 / j) ** 0.5), normal(HIDDEN, labels, 0.1 * HIDDEN**-0.5)
    read_out = [w1, torch.zeros(1, 1, HIDDEN), w2, torch.zeros(1, 1, labels)]
    return Circuit(*(tokens + layers + read_out))


def answers(net: Circuit, x: Float[Tensor, "s q b d"], labels: Int[Tensor, "s q b"]) -> Answers:
    """Logits and attention. x: the query, then the items of the context; labels: likewise, the query's is not seen."""
    s, places, b, d = x.shape
    j = net.item.shape[2]
    item = (x.reshape(s, -1, d) @ net.item).view(s, places, b, j)
    label = net.label.gather(1, labels[:, 1:].reshape(s, -1, 1).expand(-1, -1, j)).view(s, places - 1, b, j)
    pairs = torch.stack([item[:, 1:], label], 2).flatten(1, 2)
    h = torch.cat([pairs, item[:, :1]], 1).transpose(1, 2) + net.position[:, None]  # (s, b, t, j)
    later = torch.full((h.shape[2], h.shape[2]), -torch.inf).triu(1)
    z = _scaled(h)
    first = (_times(z, net.query1) @ _times(z, net.key1).mT / math.sqrt(j) + later).softmax(3)
    h = h + _times(first @ z, net.out1)
    z = _scaled(h)
    second = (_times(z[:, :, -1:], net.query2) @ _times(z, net.key2).mT / math.sqrt(j)).softmax(3)
    last = _scaled((h[:, :, -1:] + _times(second @ z, net.out2))[:, :, 0])
    hidden = torch.baddbmm(net.b1, last, net.w1).relu()
    return Answers(torch.baddbmm(net.b2, hidden, net.w2), first, second[:, :, 0])


def _scaled(h: Float[Tensor, "*shape j"]) -> Float[Tensor, "*shape j"]:
    return h * torch.rsqrt(h.square().mean(-1, keepdim=True) + 1e-6)


def _times(h: Float[Tensor, "s b t j"], weight: Float[Tensor, "s j k"]) -> Float[Tensor, "s b t k"]:
    return (h.flatten(1, 2) @ weight).view(*h.shape[:3], -1)


def shuffled(drawn: Sequences, generator: torch.Generator) -> Sequences:
    """The pairs of every context in random order, as positions matter here; the query stays in place 0.

    >>> from phenomena.chapters.in_context_learning.sequences import Task, draw
    >>> generator = torch.Generator().manual_seed(0)
    >>> drawn = draw(Task(), "flipped", 5, generator)
    >>> bool((shuffled(drawn, generator).items.sort(0).values == drawn.items.sort(0).values).all())
    True
    """
    places, m = drawn.items.shape
    order = torch.rand(places - 1, m, generator=generator).argsort(0) + 1
    order = torch.cat([torch.zeros(1, m, dtype=torch.int64), order])
    return Sequences(drawn.items.gather(0, order), drawn.labels.gather(0, order), drawn.own)


def train(
    tables: Float[Tensor, "s r d"], task: Task, generators: Sequence[torch.Generator], at: Sequence[int]
) -> Iterator[tuple[int, Circuit]]:
    """Yields (step, networks) before the first step that is in `at`, and so on; the networks change afterwards.

    tables, generators, at: as for `two_paths.train`. Raises `ValueError` for steps that do not rise.
    """
    if list(at) != sorted(set(at)) or not at or at[0] < 0:
        raise ValueError(f"at is {list(at)}: must be rising steps from 0 on")
    starts = [initial(task, generator) for generator in generators]
    net = Circuit(*(torch.cat(parts).requires_grad_() for parts in zip(*starts, strict=True)))
    optimiser = Optimiser("adam", list(net), lr=RATE)
    for step in range(at[-1] + 1):
        if step in at:
            yield step, Circuit(*(p.detach() for p in net))
        if step == at[-1]:
            return
        if step % BLOCK_STEPS == 0:
            block = stack([shuffled(draw(task, "training", BLOCK_STEPS * BATCH, g), g) for g in generators])
        batch = slice(step % BLOCK_STEPS * BATCH, (step % BLOCK_STEPS + 1) * BATCH)
        labels = block.labels[..., batch]
        x = torch.stack([items[places] for items, places in zip(tables, block.items[..., batch], strict=True)])
        logits = answers(net, x, labels).logits
        for p in net:
            p.grad = None
        (F.cross_entropy(logits.flatten(0, 1), labels[:, 0].flatten(), reduction="sum") / BATCH).backward()
        optimiser.step()
