"""A small convolutional network as a learner: trained by the loop of `science`, read by `estimators` as any module."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn

from phenomena.chapters.influence import estimators, networks
from phenomena.chapters.influence.networks import Training
from phenomena.chapters.influence.samples import Model, Outcomes, Sample, checkpoints
from phenomena.science import training as loop

TOGETHER = 20  # networks that train at once


@dataclass(frozen=True)
class Convolutional:
    """Two convolutions, ReLU, and a linear layer; `training.hidden` are the channels of the two.

    Raises `ValueError` for a momentum other than that of the loop of `science`, 0.9.
    """

    training: Training

    def __post_init__(self) -> None:
        if self.training.momentum != 0.9:
            raise ValueError(f"momentum is {self.training.momentum:g}: must be 0.9 for convolutional networks")

    def network(self, sample: Sample, seed: int) -> nn.Sequential:
        """One network with PyTorch's initialization; the global random state is left as it was.

        Raises `ValueError` for samples that are no images, or hidden layers that are not two.
        """
        if sample.x.dim() != 4 or len(self.training.hidden) != 2:
            raise ValueError(f"samples {tuple(sample.x.shape)}, hidden {self.training.hidden}: must be images and two")
        first, second = self.training.hidden
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            convolutions = nn.Sequential(
                nn.Conv2d(sample.x.shape[1], first, 3, padding=1, stride=2, bias=False),
                nn.ReLU(),
                nn.Conv2d(first, second, 3, padding=1, stride=2, bias=False),
                nn.ReLU(),
                nn.Flatten(),
            )
            features = convolutions(sample.x[:1]).shape[1]
            return nn.Sequential(*convolutions, nn.Linear(features, sample.classes))

    def train(self, sample: Sample, index: Int[Tensor, "s b"], nets: Sequence[nn.Module], **options: object) -> None:
        """Trains the networks in place, each on its rows, whole batches at a time."""
        rows = torch.arange(len(index))[:, None]
        loop.train(
            nets,
            lambda order: (sample.x[index[rows[: len(order)], order]], sample.y[index[rows[: len(order)], order]]),
            rows=index.shape[1],
            batch=index.shape[1],
            steps=self.training.steps,
            generators=[torch.Generator().manual_seed(0) for _ in nets],
            optimiser="sgd",
            lr=self.training.rate,
            weight_decay=self.training.decay,
            **options,  # type: ignore[arg-type]
        )

    @torch.no_grad()
    def _outcomes(self, net: nn.Module, sample: Sample) -> tuple[Tensor, Tensor, Tensor]:
        logits, test = net(sample.x), net(sample.x_test)
        return (
            estimators.margin(test, sample.y_test),
            logits.argmax(1) == sample.y,
            test.argmax(1) == sample.y_test,
        )

    def retrain(self, sample: Sample, index: Int[Tensor, "r b"], seed: int, fixed: bool = False) -> Outcomes:
        """Trains a network on each subset."""
        found = []
        for at in range(0, len(index), TOGETHER):
            part = index[at : at + TOGETHER]
            nets = [self.network(sample, seed + (0 if fixed else at + i)) for i in range(len(part))]
            self.train(sample, part, nets)
            found += [self._outcomes(net, sample) for net in nets]
        goals, hits, hits_test = (torch.stack(parts) for parts in zip(*found, strict=True))
        return Outcomes(goals.double().numpy(), hits.numpy(), hits_test.numpy())

    def models(self, sample: Sample, count: int, seed: int, fixed: bool = False) -> list[Model]:
        """Networks trained on all samples, with what estimates use of them, by `torch.func`."""
        return [self._model(sample, seed + (0 if fixed else i)) for i in range(count)]

    def _model(self, sample: Sample, seed: int) -> Model:
        net, steps, rates = self.network(sample, seed), checkpoints(self.training.steps), self.training.rates()
        n, m = len(sample.y), len(sample.y_test)
        scores, own = sample.x.new_zeros(n, m), sample.x.new_zeros(n)
        seen: list[Tensor] = []
        last: list[Tensor] = []

        def look(step: int) -> None:
            before = steps[steps.index(step) - 1] if step != steps[0] else 0
            last[:] = [
                estimators.gradients(net, sample.x, sample.y),
                estimators.gradients(net, sample.x_test, sample.y_test, "margin"),
            ]
            networks.add_tracin(scores, own, sum(rates[before:step]), *last)
            with torch.no_grad():
                seen.append(net(sample.x))

        everything = torch.arange(len(sample.y))[None]
        self.train(sample, everything, [net], checkpoints=steps, observe=look)
        with torch.no_grad():
            features, features_test = (networks.with_ones(net[:-1](x)) for x in (sample.x, sample.x_test))
        return Model(
            loss=last[0],
            goal=last[1],
            margin=estimators.gradients(net, sample.x, sample.y, "margin"),
            found=lambda: estimators.products(net, sample.x, sample.y, sample.x_test, sample.y_test),
            logits=seen[-1],
            early=seen[:2][-1],
            features=features,
            features_test=features_test,
            tracin=scores,
            tracin_self=own,
        )
