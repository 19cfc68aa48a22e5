"""What many edits of one encoder answer, with the work that they share done once.

Outputs of a linearised encoder are linear in its weights; so are the first hidden layer's inputs of a perceptron. These
are computed for the pre-trained weights and for each vector, and added up for every edit of them. All other encoders
take each edit as `finetuning.predict` does, which is the readable twin of all three.

Letters: n rows, e embedding, g edits, k vectors, t tasks.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from phenomena.chapters.task_arithmetic import perceptron
from phenomena.chapters.task_arithmetic.finetuning import ROWS, Suite, Task, predict
from phenomena.chapters.task_arithmetic.task_vectors import State, apply, expansion

Answers = Callable[[Sequence[float], Task, str], Int[Tensor, " n"]]


class Evaluations:
    """Accuracies of a suite's edited networks; those of the unedited encoder, the baseline, are measured once."""

    def __init__(self, suite: Suite, tangent: bool = False) -> None:
        """suite: its encoder's weights must not change from here on. tangent: evaluate the encoder's linearisation."""
        self.suite, self.tangent = suite, tangent
        self._start: dict[tuple[Task, str], Tensor] = {}
        self._baseline: dict[tuple[Task, str], float] = {}

    def answers(self, vectors: Sequence[State]) -> Answers:
        """The classes predicted with weights theta_pre + c_1 tau_1 + ... + c_k tau_k, for any c, task and part."""
        if self.tangent:
            return self._linearised(vectors)
        return self._perceptron(vectors) if perceptron.fits(self.suite.encoder) else self._network(vectors)

    def accuracies(
        self, answers: Answers, edits: Sequence[Sequence[float]], tasks: Sequence[Task], part: str = "test"
    ) -> Float[np.ndarray, "g t"]:
        """Accuracies of edits on the tasks. edits: the coefficients of the vectors of `answers`."""

        def found(c: Sequence[float], task: Task) -> float:
            return self._correct(answers(c, task, part), task, part) if any(c) else self.baseline(task, part)

        return np.array([[found(c, task) for task in tasks] for c in edits])

    def curve(
        self, vector: State, grid: Sequence[float], tasks: Sequence[Task], part: str = "test"
    ) -> Float[np.ndarray, "g t"]:
        """Accuracies of theta_pre + c tau on the tasks, for every coefficient of the grid."""
        return self.accuracies(self.answers([vector]), [[c] for c in grid], tasks, part)

    def edited(
        self, vector: State, coefficient: float, tasks: Sequence[Task], part: str = "test"
    ) -> Float[np.ndarray, " t"]:
        """Accuracies of theta_pre + c tau on the tasks."""
        return self.curve(vector, [coefficient], tasks, part)[0]

    def baseline(self, task: Task, part: str = "test") -> float:
        """Accuracy of the pre-trained encoder on a task."""
        if (task, part) not in self._baseline:
            self._baseline[task, part] = self._correct(self.answers([])([], task, part), task, part)
        return self._baseline[task, part]

    @staticmethod
    def _correct(answers: Int[Tensor, " n"], task: Task, part: str) -> float:
        return (answers == getattr(task, part)[1]).double().mean().item()

    def _network(self, vectors: Sequence[State]) -> Answers:
        suite, weights = self.suite, _last(lambda c: apply(self.suite.state, vectors, c))
        return lambda c, task, part: predict(suite.encoder, weights(c), task, part)

    def _sums(
        self, start: Callable[[Tensor], Tensor], slope: Callable[[State, Tensor], Tensor], vectors: Sequence[State]
    ) -> Callable[[Sequence[float], Task, str], Float[Tensor, "n _"]]:
        """start(x) + c_1 slope(tau_1, x) + ...; start, the same for all vectors, is kept from call to call."""
        slopes: dict[tuple[Task, str], list[Tensor]] = {}

        def whole(f: Callable[[Tensor], Tensor], task: Task, part: str) -> Tensor:
            return torch.cat([f(rows) for rows in getattr(task, part)[0].split(ROWS)])

        @torch.no_grad()
        def total(c: Sequence[float], task: Task, part: str) -> Tensor:
            if (task, part) not in self._start:
                self._start[task, part] = whole(start, task, part)
            if (task, part) not in slopes:
                slopes[task, part] = [whole(partial(slope, vector), task, part) for vector in vectors]
            found = self._start[task, part].clone()
            for each, one in zip(c, slopes[task, part], strict=True):
                if each:
                    found.add_(one, alpha=each)
            return found

        return total

    def _linearised(self, vectors: Sequence[State]) -> Answers:
        """Outputs are f(x; theta_pre) + c_1 J tau_1 + ..."""
        encoder = self.suite.encoder.eval()
        outputs = self._sums(encoder, lambda vector, x: expansion(encoder, vector, x)[1], vectors)
        return lambda c, task, part: (outputs(c, task, part) @ task.head.T).argmax(1)

    def _perceptron(self, vectors: Sequence[State]) -> Answers:
        """The first layer's outputs are sums; the last layer is multiplied by the head, which has fewer rows."""
        encoder = self.suite.encoder.eval()
        assert isinstance(encoder, nn.Sequential)
        (_, flatten), (first, _), *_, (last, _) = encoder.named_children()
        middle = encoder[2:-1]
        entry: Callable[[State, Tensor], Tensor] = lambda state, x: F.linear(  # noqa: E731
            flatten(x), state[f"{first}.weight"], state[f"{first}.bias"]
        )
        hidden = self._sums(lambda x: entry(self.suite.state, x), entry, vectors)
        later: Callable[[State], State] = lambda state: {  # noqa: E731
            name: value for name, value in state.items() if not name.startswith(f"{first}.")
        }
        start, steps = later(self.suite.state), [later(vector) for vector in vectors]
        weights = _last(lambda c: apply(start, steps, c))

        @torch.no_grad()
        def answers(c: Sequence[float], task: Task, part: str) -> Tensor:
            state = weights(c)
            inner = {name: value for name, value in state.items() if not name.startswith(f"{last}.")}
            rows, bias = task.head @ state[f"{last}.weight"], task.head @ state[f"{last}.bias"]
            parts = hidden(c, task, part).split(ROWS)
            return torch.cat(
                [F.linear(torch.func.functional_call(middle, inner, (x,)), rows, bias) for x in parts]
            ).argmax(1)

        return answers


def _last(make: Callable[[Sequence[float]], State]) -> Callable[[Sequence[float]], State]:
    """`make`, whose latest result is kept: one edit is evaluated on several tasks, and is as large as the network."""
    kept: dict[tuple[float, ...], State] = {}

    def get(c: Sequence[float]) -> State:
        if tuple(c) not in kept:
            kept.clear()
            kept[tuple(c)] = make(c)
        return kept[tuple(c)]

    return get
