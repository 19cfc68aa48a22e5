"""Task arithmetic (Ilharco et al. 2023): fine-tuning with frozen heads, and what vectors do to a suite's tasks.

One encoder serves all tasks. A task's head is a fixed matrix of class directions, as CLIP's text embeddings are. Logits
are cos(encoder(x), head) times a scale, which the head's rows carry as their length. Fine-tuning moves the encoder
alone, so that every edit of its weights can be tried on every task.

Letters: n rows, e embedding, c classes, g coefficients, t tasks.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phenomena.chapters.task_arithmetic.task_vectors import State, Tangent, Vector, apply
from phenomena.science.training import make_optimiser, row_batches

Rows = tuple[Tensor, Tensor]  # inputs (n, ...), labels int64 (n,)


@dataclass(frozen=True, eq=False)
class Task:
    """Training, validation and test rows and the frozen head, float (c, e)."""

    train: Rows
    val: Rows
    test: Rows
    head: Tensor


@dataclass(frozen=True, eq=False)
class Suite:
    """A pre-trained encoder, tasks by name, a control task, and squares of tasks for analogies.

    squares: (a, b, c, d), "a is to b as c is to d", names of tasks. untouched: what `edited` has found of the encoder
    as it is; its weights must not change after that. Raises `ValueError` for fewer than two tasks or a square of
    unknown ones.
    """

    encoder: nn.Module
    tasks: dict[str, Task]
    control: Task
    squares: tuple[tuple[str, str, str, str], ...] = ()
    untouched: dict[tuple[Task, str, bool], float] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Checks the names."""
        if len(self.tasks) < 2:
            raise ValueError(f"{len(self.tasks)} task given: 2 or more are needed")
        unknown = {name for square in self.squares for name in square} - self.tasks.keys()
        if unknown:
            raise ValueError(f"analogy over {', '.join(sorted(unknown))}: not a task of {', '.join(self.tasks)}")

    @property
    def state(self) -> Vector:
        """The pre-trained weights themselves: not to be written to."""
        return {name: entry.detach() for name, entry in self.encoder.state_dict().items()}


def logits(embedding: Tensor, head: Tensor) -> Tensor:
    """cos(embedding, class direction) times the direction's length. (n, e), (c, e) -> (n, c)."""
    return F.normalize(embedding, dim=1) @ head.T


# --- training ---------------------------------------------------------------------------------------------------------


def fine_tune(
    encoder: nn.Module,
    tasks: Sequence[Task],
    steps: int,
    generator: torch.Generator,
    *,
    lr: float,
    batch: int = 128,
    weight_decay: float = 0.1,
    ascent: bool = False,
    tangent: bool = False,
) -> Vector:
    """The weights after fine-tuning a copy of the encoder, `steps` for each task, taken in turn.

    AdamW with a cosine to zero, on cross-entropy; several tasks are joint training. ascent: the loss is climbed (the
    control of section 3). tangent: the encoder's linearisation in its weights is trained (Ortiz-Jimenez et al. 2023);
    its weight decay pulls towards the pre-trained weights instead of towards zero. Gradients are clipped to norm 1, as
    in the official code; there is no warm-up. Training is done in evaluation mode: no dropout, fixed statistics.
    Raises `ValueError` for no task.
    """
    if not tasks:
        raise ValueError("no task to train on: 1 or more are needed")
    model = Tangent(encoder) if tangent else _copy(encoder)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimiser = make_optimiser("adam", model, lr, weight_decay)
    total = steps * len(tasks)
    batches = [row_batches(len(task.train[1]), batch, generator) for task in tasks]
    for step in range(total):
        task, rows = tasks[step % len(tasks)], next(batches[step % len(tasks)])
        inputs, labels = task.train[0][rows], task.train[1][rows]
        loss = F.cross_entropy(logits(model(inputs), task.head), labels)
        optimiser.zero_grad()
        (-loss if ascent else loss).backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        for group in optimiser.param_groups:
            # by hand: torch's schedules make an optimiser refer to itself, so that four times the weights linger
            group["lr"] = lr * (1 + math.cos(math.pi * step / total)) / 2
        optimiser.step()
    return model.state() if isinstance(model, Tangent) else {n: e.detach() for n, e in model.state_dict().items()}


def _copy(encoder: nn.Module) -> nn.Module:
    return copy.deepcopy(encoder).eval().requires_grad_(True)


def halves(task: Task) -> tuple[Task, Task]:
    """The task on the rows of its lower and of its upper classes, with the whole head: two sub-populations."""
    middle = len(task.head) // 2

    def part(upper: bool) -> Task:
        rows = [(x[(y >= middle) == upper], y[(y >= middle) == upper]) for x, y in (task.train, task.val, task.test)]
        return Task(rows[0], rows[1], rows[2], task.head)

    return part(False), part(True)


# --- measuring --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def predict(encoder: nn.Module, state: State, task: Task, part: str = "test", tangent: bool = False) -> Tensor:
    """Classes that the encoder with these weights gives to a task's rows. Returns int64 (n,)."""
    x = getattr(task, part)[0]
    if tangent:
        model: Callable[[Tensor], Tensor] = Tangent(encoder).load(state)
    else:
        network = encoder.eval()
        model = lambda rows: torch.func.functional_call(network, dict(state), (rows,))  # noqa: E731
    return torch.cat([logits(model(rows), task.head).argmax(1) for rows in x.split(500)])


def accuracy(encoder: nn.Module, state: State, task: Task, part: str = "test", tangent: bool = False) -> float:
    """Share of a task's rows that the encoder with these weights gets right. part: "train", "val" or "test"."""
    return (predict(encoder, state, task, part, tangent) == getattr(task, part)[1]).double().mean().item()


def edited(
    suite: Suite,
    vectors: State | Sequence[State],
    coefficient: float,
    tasks: Sequence[Task],
    part: str = "test",
    tangent: bool = False,
) -> np.ndarray:
    """Accuracies of theta_pre + c (tau_1 + tau_2 + ...) on the tasks, float64 (t,). At c = 0 each is measured once."""
    if coefficient:
        state = apply(suite.state, vectors, coefficient)
        return np.array([accuracy(suite.encoder, state, task, part, tangent) for task in tasks])
    for task in tasks:
        if (task, part, tangent) not in suite.untouched:
            found = accuracy(suite.encoder, suite.state, task, part, tangent)
            suite.untouched[task, part, tangent] = found
    return np.array([suite.untouched[task, part, tangent] for task in tasks])


def curve(
    suite: Suite,
    vectors: State | Sequence[State],
    grid: Sequence[float],
    tasks: Sequence[Task],
    part: str,
    tangent: bool = False,
) -> np.ndarray:
    """`edited` along the coefficient. Returns float64 (g, t)."""
    return np.array([edited(suite, vectors, c, tasks, part, tangent) for c in grid])


def check_grid(grid: Sequence[float]) -> None:
    """Raises `ValueError` for a grid of coefficients without 0, where an edit may always stay away."""
    if 0.0 not in [float(c) for c in grid]:
        raise ValueError(f"coefficients {list(grid)} lack 0: without it a harmful edit could not be declined")


def best(grid: Sequence[float], scores: Sequence[float]) -> float:
    """The coefficient of the highest score, the smallest of equal ones. Raises `ValueError` for a grid without 0."""
    check_grid(grid)
    top = max(scores)
    return min(c for c, score in zip(grid, scores, strict=True) if score == top)


def most_forgetful(
    grid: Sequence[float], target: Sequence[float], control: Sequence[float], keep: float = 0.95
) -> float:
    """The coefficient of least target accuracy whose control accuracy is at least `keep` of that at 0 (section 3).

    The smallest of equal ones. Raises `ValueError` for a grid without 0.
    """
    check_grid(grid)
    floor = keep * control[[float(c) for c in grid].index(0.0)]
    allowed = [(t, c) for c, t, kept in zip(grid, target, control, strict=True) if kept >= floor]
    return min(allowed)[1]


def subsets(count: int, size: int, at_most: int, generator: torch.Generator) -> list[tuple[int, ...]]:
    """All subsets of `size` among `count` tasks, or `at_most` of them drawn without replacement."""
    every = list(combinations(range(count), size))
    chosen = torch.randperm(len(every), generator=generator)[:at_most].sort().values
    return [every[int(i)] for i in chosen]


# --- weight disentanglement -------------------------------------------------------------------------------------------


def disentanglement(
    suite: Suite, pair: Sequence[str], vectors: Sequence[State], grid: Sequence[float], tangent: bool = False
) -> np.ndarray:
    """Error of weight disentanglement on the plane of two coefficients (Ortiz-Jimenez et al. 2023, section 3).

    xi(a_1, a_2) = sum_i E_x~D_i [f(x; theta_0 + a_i tau_i) != f(x; theta_0 + a_1 tau_1 + a_2 tau_2)]: the share of a
    task's test rows on which the other task's vector changes the answer, summed over both tasks. 0 to 2.
    Returns float64 (g, g), first axis a_1.
    """
    start = suite.state
    alone = [
        [predict(suite.encoder, apply(start, vector, a), suite.tasks[name], tangent=tangent) for a in grid]
        for name, vector in zip(pair, vectors, strict=True)
    ]
    error = np.zeros((len(grid), len(grid)))
    for (i, a), (j, b) in _points(grid):
        state = apply(start, list(vectors), [a, b])
        for own, name, other in zip((alone[0][i], alone[1][j]), pair, (b, a), strict=True):
            if other:  # else both are the same weights
                both = predict(suite.encoder, state, suite.tasks[name], tangent=tangent)
                error[i, j] += (both != own).double().mean().item()
    return error


def _points(grid: Sequence[float]) -> Iterator[tuple[tuple[int, float], tuple[int, float]]]:
    return ((first, second) for first in enumerate(grid) for second in enumerate(grid))
