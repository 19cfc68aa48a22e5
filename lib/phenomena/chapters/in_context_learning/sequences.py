"""Sequences of items with labels, and a query whose label is asked for.

A context of n pairs (item, label) and a query. Items of a class scatter around its mean, by a Gaussian law or as
drawings of a character do (`omniglot`), and the label of a class is its number modulo the number of labels. Where the
context is supported, some of its items are of the query's class: then its label can be read from the context or known
from training.
Letters: s seeds, n pairs of a context, q = n + 1 places with the query, m sequences, r items of a table, d features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from phenomena.chapters.in_context_learning import omniglot

DATASETS = ("gaussian", "omniglot")
KINDS = ("training", "flipped", "copied", "novel", "unsupported")  # of sequences, `draw` says what they are
BLOCK_STEPS = 50  # of training, whose sequences are drawn together


@dataclass(frozen=True)
class Task:
    """What sequences are made of.

    classes: on which a network is trained; as many others are novel.
    labels: their number; class c has the label c modulo labels.
    context: pairs before the query.
    copies: how many of them are of the query's class where a sequence is supported.
    supported: probability that a training sequence is.
    spread: epsilon, of the items of a class around its mean, relative to that of the means; of drawings relative to
        their own, so that 1 leaves them as they are.
    exemplars: items of a class.
    features: d.
    zipf: classes occur with frequencies (c + 1) ** -zipf.
    redrawn: every training sequence draws its labels afresh, so that weights can hold none.
    dataset: "gaussian" draws items by a law, "omniglot" takes them from files.

    Raises `ValueError` in one line for numbers of which no sequences can be made.

    >>> Task(classes=128, labels=8).rows
    2560
    """

    classes: int = 128
    labels: int = 8
    context: int = 4
    copies: int = 1
    supported: float = 0.9
    spread: float = 0.5
    exemplars: int = 20
    features: int = 32
    zipf: float = 0.0
    redrawn: bool = False
    dataset: str = "gaussian"

    def __post_init__(self) -> None:
        for name in ("context", "copies", "exemplars", "features"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: must be 1 or more")
        if self.labels < 2:
            raise ValueError(f"labels is {self.labels}: must be 2 or more, for a label to be flipped")
        if self.classes < self.labels:
            raise ValueError(f"classes is {self.classes}: must be at least labels = {self.labels}, one for each")
        if self.copies > self.context:
            raise ValueError(f"copies is {self.copies}: must be at most context = {self.context}, the pairs there are")
        if not 0 <= self.supported <= 1:
            raise ValueError(f"supported is {self.supported}: must be 0 to 1")
        for name in ("spread", "zipf"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}: must be 0 or more and finite")
        if self.dataset not in DATASETS:
            raise ValueError(f"dataset is {self.dataset!r}: must be one of {', '.join(DATASETS)}")

    @property
    def rows(self) -> int:
        """Items of the trained classes."""
        return self.classes * self.exemplars


class Sequences(NamedTuple):
    """Place 0 along the first axis is the query, the others are the pairs of the context."""

    items: Int[Tensor, "q m"]  # rows of the table
    labels: Int[Tensor, "q m"]  # that of the query is the one the context gives it, if it gives one
    own: Int[Tensor, " m"]  # label of the query's class


def table(task: Task, generator: torch.Generator) -> Float[Tensor, "r d"]:
    """Items of the trained classes, then as many of novel ones, class by class.

        x = (mu_c + epsilon eta) / sqrt(1 + epsilon²),    mu_c, eta ~ N(0, I / d)

    so that every item has the law N(0, I / d), whatever epsilon. With the dataset "omniglot" items are drawings
    (`omniglot.items`); raises `DataError` where their files are missing.

    >>> table(Task(classes=8, exemplars=3), torch.Generator().manual_seed(0)).shape
    torch.Size([48, 32])
    """
    if task.dataset == "omniglot":
        drawn = omniglot.items(task.classes, task.exemplars, task.features, task.spread, generator)
        return drawn.flatten(0, 1)
    means = torch.randn(2 * task.classes, 1, task.features, generator=generator)
    around = torch.randn(2 * task.classes, task.exemplars, task.features, generator=generator)
    items = (means + task.spread * around) / (task.features * (1 + task.spread**2)) ** 0.5
    return items.flatten(0, 1)


def gaussian_spread(task: Task) -> float:
    """The epsilon of Gaussian classes that vary within as much as the task's do, for closed forms.

    >>> gaussian_spread(Task(spread=0.5))
    0.5
    """
    own = omniglot.own_spread(task.exemplars, task.features) if task.dataset == "omniglot" else 1.0
    return task.spread * own


def frequencies(task: Task) -> Float[Tensor, " c"]:
    """How often each class is asked for: (c + 1) ** -zipf, normalised, in float64.

    >>> frequencies(Task(classes=4, labels=2, zipf=1.0)).mul(25).round().tolist()
    [12.0, 6.0, 4.0, 3.0]
    """
    weights = torch.arange(1, task.classes + 1, dtype=torch.float64) ** -task.zipf
    return weights / weights.sum()


def draw(task: Task, kind: str, count: int, generator: torch.Generator) -> Sequences:
    """Sequences of one kind.

    training: as a network is trained: supported with the task's probability, labels those of the classes.
    flipped: supported; all labels of the context drawn afresh, those of the query's class alike and not its own.
    copied: as flipped, and what supports the query is the query itself.
    novel: as flipped, of classes that were not trained.
    unsupported: no item of the query's class in the context, labels those of the classes.

    The other items are of any class but the query's, by its frequency. Raises `ValueError` for another kind.

    >>> task = Task(classes=8, labels=8)
    >>> drawn = draw(task, "flipped", 1000, torch.Generator().manual_seed(0))
    >>> (drawn.labels[0] == drawn.labels[1]).all().item(), (drawn.labels[0] == drawn.own).any().item()
    (True, False)
    """
    if kind not in KINDS:
        raise ValueError(f"sequences of kind {kind!r}: must be one of {', '.join(KINDS)}")
    n = task.context
    classes = _classes(task, count, generator)
    query = classes[:1]
    share = {"training": task.supported, "unsupported": 0.0}.get(kind, 1.0)
    support = torch.rand(1, count, generator=generator) < share
    place = slice(1, 1 + task.copies)  # attention has no positions: any place is as good
    classes[place] = torch.where(support, query, classes[place])
    exemplar = torch.randint(task.exemplars, (n + 1, count), generator=generator)
    if kind == "copied":
        exemplar[place] = exemplar[:1]
    labels = classes % task.labels
    own = labels[0].clone()
    if kind not in ("training", "unsupported") or (kind == "training" and task.redrawn):
        labels[0] = (own + 1 + torch.randint(task.labels - 1, (count,), generator=generator)) % task.labels
        labels[1:] = torch.randint(task.labels, (n, count), generator=generator)
        labels[place] = torch.where(support, labels[:1], labels[place])
    if kind == "novel":
        classes += task.classes
    return Sequences(classes * task.exemplars + exemplar, labels, own)


def _classes(task: Task, count: int, generator: torch.Generator) -> Int[Tensor, "q m"]:
    """A query's class by its frequency, and the others by theirs without that of the query.

    Each class has a part of the unit interval, as long as it is frequent; the query's is cut out for the others.
    """
    n = task.context
    if task.zipf == 0:  # the same in whole numbers, in a third of the time
        query = torch.randint(task.classes, (1, count), generator=generator)
        others = torch.randint(task.classes - 1, (n, count), generator=generator)
        return torch.cat([query, others + (others >= query)])
    p = frequencies(task)
    ends = p.cumsum(0)
    u = torch.rand(n + 1, count, generator=generator, dtype=torch.float64)
    query = torch.bucketize(u[:1], ends[:-1], right=True)  # rounding must not lead beyond the last
    others = u[1:] * (1 - p[query])
    others = torch.where(others < (ends - p)[query], others, others + p[query])
    return torch.cat([query, torch.bucketize(others, ends[:-1], right=True)])


def stack(drawn: Sequence[Sequences]) -> Sequences:
    """One set of sequences a seed, with the seeds along the first axis.

    >>> generators = [torch.Generator().manual_seed(seed) for seed in (0, 1, 2)]
    >>> stack([draw(Task(), "novel", 7, generator) for generator in generators]).items.shape
    torch.Size([3, 5, 7])
    """
    return Sequences(*(torch.stack(parts) for parts in zip(*drawn, strict=True)))
