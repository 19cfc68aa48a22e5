"""What a seed draws, and what a learner returns. A learner has two calls, `retrain` and `models`; see `networks`."""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from phenomena.chapters.influence.estimators import Products
from phenomena.science.datasets import Dataset, subset

LARGEST = 14  # pixels of a side


class Sample(NamedTuple):
    """Training samples, some with wrong labels, and test samples of one seed. Values lie around zero."""

    x: Float[Tensor, "n *sample"]
    y: Int[Tensor, " n"]
    wrong: Bool[np.ndarray, " n"]
    x_test: Float[Tensor, "m *sample"]
    y_test: Int[Tensor, " m"]
    classes: int


class Outcomes(NamedTuple):
    """Of every retraining: margins on test samples, and which training and test samples are classified as labeled.

    Classified is a sample as the class of the largest logit, whatever its probability.
    """

    goals: Float[np.ndarray, "r m"]
    hits: Bool[np.ndarray, "r n"]
    hits_test: Bool[np.ndarray, "r m"]


class Model(NamedTuple):
    """What estimates use of one network trained on all samples.

    loss, margin: gradients of training samples. goal: gradients of the margins of test samples. found: makes the inner
    products for influence functions, which are too large to be held for every network. early: logits at an early
    checkpoint. features: inputs of the last layer, with a one. tracin, tracin_self: over the checkpoints, scores and
    influence of each training sample on itself.
    """

    loss: Float[Tensor, "n p"]
    margin: Float[Tensor, "n p"]
    goal: Float[Tensor, "m p"]
    found: Callable[[], Products]
    logits: Float[Tensor, "n c"]
    early: Float[Tensor, "n c"]
    features: Float[Tensor, "n h"]
    features_test: Float[Tensor, "m h"]
    tracin: Float[Tensor, "n m"]
    tracin_self: Float[Tensor, " n"]


@runtime_checkable
class Learner(Protocol):
    """What the study trains."""

    def retrain(self, sample: Sample, index: Int[Tensor, "r b"], seed: int, fixed: bool = False) -> Outcomes:
        """Trains a network on each subset. fixed: all from one initialization."""

    def models(self, sample: Sample, count: int, seed: int, fixed: bool = False) -> list[Model]:
        """Networks trained on all samples."""


def checkpoints(steps: int) -> list[int]:
    """Steps at which TracIn looks: six, ever further apart, the last one the end.

    >>> checkpoints(150)
    [5, 10, 20, 40, 80, 150]
    """
    return sorted({max(1, round(steps * share)) for share in (1 / 32, 1 / 15.5, 0.13, 0.265, 0.53, 1)})


def draw(data: Dataset, n: int, m: int, share: float, seed: int) -> Sample:
    """n training samples of which a share, round(share n), has a wrong label, any other alike, and m test samples.

    Images of more than 14 pixels are averaged over squares. Raises `ValueError` for counts that the data do not have,
    or training labels of one class.
    """
    generator = torch.Generator().manual_seed(seed)
    few = subset(data, n, m, generator)
    if len(few.y_train.unique()) < 2:
        raise ValueError("all labels are of one class: there is nothing to tell apart")
    y = few.y_train.clone()
    rows = torch.randperm(n, generator=generator)[: round(share * n)]
    y[rows] = (y[rows] + torch.randint(1, data.classes, (len(rows),), generator=generator)) % data.classes
    x, x_test = (_small(rows) for rows in (few.x_train, few.x_test))
    return Sample(x - x.mean(), y, (y != few.y_train).numpy(), x_test - x.mean(), few.y_test, data.classes)


def _small(x: Tensor) -> Tensor:
    by = -(-max(x.shape[2:]) // LARGEST) if x.dim() == 4 else 1
    return F.avg_pool2d(x, by, ceil_mode=True) if by > 1 else x
