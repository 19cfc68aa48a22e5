"""Task arithmetic (Ilharco et al. 2023): suites of tasks, fine-tuning with frozen heads, and predictions.

One encoder serves all tasks. A task's head is a fixed matrix of class directions, as CLIP's text embeddings are. Logits
are cos(encoder(x), head) times a scale, which is the length of the head's rows. Fine-tuning moves the encoder alone, so
that every edit of its weights can be tried on every task.

Letters: n rows, e embedding, c classes.
"""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from phenomena.chapters.task_arithmetic import perceptron
from phenomena.chapters.task_arithmetic.perceptron import Perceptron
from phenomena.chapters.task_arithmetic.task_vectors import State, Tangent, Vector
from phenomena.science.optimisers import Optimiser
from phenomena.science.training import row_batches

Rows = tuple[Shaped[Tensor, "_ ..."], Int[Tensor, " _"]]  # inputs, labels
ROWS = 500  # evaluated together


@dataclass(frozen=True, eq=False)
class Task:
    """Training, validation and test rows, and the frozen head."""

    train: Rows
    val: Rows
    test: Rows
    head: Float[Tensor, "c e"]


@dataclass(frozen=True, eq=False)
class Suite:
    """A pre-trained encoder, tasks by name, a control task, and analogies between tasks.

    analogies: (a, b, c, d), "a is to b as c is to d", names of tasks.
    Raises `ValueError` for fewer than two tasks or an analogy over unknown ones.
    """

    encoder: nn.Module
    tasks: dict[str, Task]
    control: Task
    analogies: tuple[tuple[str, str, str, str], ...] = ()

    def __post_init__(self) -> None:
        """Checks the names."""
        if len(self.tasks) < 2:
            raise ValueError(f"{len(self.tasks)} task given: 2 or more are needed")
        unknown = {name for analogy in self.analogies for name in analogy} - self.tasks.keys()
        if unknown:
            raise ValueError(f"analogy over {', '.join(sorted(unknown))}: not a task of {', '.join(self.tasks)}")

    @property
    def state(self) -> Vector:
        """The pre-trained weights themselves, not a copy: do not write to them."""
        return {name: entry.detach() for name, entry in self.encoder.state_dict().items()}

    def first(self, count: int) -> "Suite":
        """The suite with its first tasks alone and without analogies."""
        return dataclasses.replace(self, tasks=dict(list(self.tasks.items())[:count]), analogies=())


def logits(embedding: Float[Tensor, "n e"], head: Float[Tensor, "c e"]) -> Float[Tensor, "n c"]:
    """cos(embedding, class direction) times the direction's length."""
    return F.normalize(embedding, dim=1) @ head.T


class ByAutograd(nn.Module):
    """A copy of any encoder, or its linearisation, to train by `gradient`: the readable twin of `Perceptron`."""

    def __init__(self, encoder: nn.Module, tangent: bool = False) -> None:
        """encoder: its weights are copied."""
        super().__init__()
        self.model = Tangent(encoder) if tangent else copy.deepcopy(encoder).eval().requires_grad_(True)

    def gradient(self, x: Shaped[Tensor, "n ..."], labels: Int[Tensor, " n"], head: Float[Tensor, "c e"]) -> None:
        """Sets the parameters' `grad` to that of the mean cross-entropy."""
        self.zero_grad()
        F.cross_entropy(logits(self.model(x), head), labels).backward()

    def state(self) -> Vector:
        """The weights under the encoder's names."""
        model = self.model
        return model.state() if isinstance(model, Tangent) else {n: e.detach() for n, e in model.state_dict().items()}


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

    AdamW on cross-entropy, its rate falling to zero by a cosine; several tasks are joint training. Gradients are
    clipped to norm 1, as in the official code; there is no warm-up. The encoder trains in evaluation mode: no dropout,
    fixed statistics.
    ascent: climb the loss (the control of section 3).
    tangent: train the encoder's linearisation in its weights (Ortiz-Jimenez et al. 2023); weight decay then pulls
        towards the pre-trained weights instead of towards zero.
    Raises `ValueError` for no task.
    """
    if not tasks:
        raise ValueError("no task to train on: 1 or more are needed")
    model = (Perceptron if perceptron.fits(encoder) else ByAutograd)(encoder, tangent)
    optimiser = Optimiser("adam", model.parameters(), lr, weight_decay)
    total = steps * len(tasks)
    batches = [row_batches(len(task.train[1]), batch, generator) for task in tasks]
    for step in range(total):
        task, rows = tasks[step % len(tasks)], next(batches[step % len(tasks)])
        model.gradient(task.train[0][rows], task.train[1][rows], task.head)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimiser.param_groups:
            # by hand: torch's schedules make an optimiser refer to itself, so that four times the weights linger
            group["lr"] = lr * (1 + math.cos(math.pi * step / total)) / 2
            group["maximize"] = ascent
        optimiser.step()
    return model.state()


def split_classes(task: Task) -> tuple[Task, Task]:
    """The task on the rows of its lower and of its upper classes, with the whole head: two sub-populations."""
    middle = len(task.head) // 2

    def rows(part: Rows, upper: bool) -> Rows:
        x, y = part
        return x[(y >= middle) == upper], y[(y >= middle) == upper]

    lower, upper = (
        Task(rows(task.train, side), rows(task.val, side), rows(task.test, side), task.head) for side in (False, True)
    )
    return lower, upper


@torch.no_grad()
def predict(
    encoder: nn.Module, state: State, task: Task, part: str = "test", tangent: bool = False
) -> Int[Tensor, " n"]:
    """The classes that the encoder with these weights predicts for a task's rows. part: "train", "val" or "test"."""
    x = getattr(task, part)[0]
    if tangent:
        model: Callable[[Tensor], Tensor] = Tangent(encoder).load(state)
    else:
        network = encoder.eval()
        model = lambda rows: torch.func.functional_call(network, dict(state), (rows,))  # noqa: E731
    return torch.cat([logits(model(rows), task.head).argmax(1) for rows in x.split(ROWS)])


def accuracy(encoder: nn.Module, state: State, task: Task, part: str = "test", tangent: bool = False) -> float:
    """The fraction of a task's rows that the encoder with these weights classifies correctly."""
    return (predict(encoder, state, task, part, tangent) == getattr(task, part)[1]).double().mean().item()
