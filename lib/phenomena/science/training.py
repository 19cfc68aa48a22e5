"""One loop that trains networks on whole tensors: many at once where they are small, or one after another."""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from phenomena.science.optimisers import Optimiser
from phenomena.science.stacked import Stacked, can_stack

# row numbers of every network -> inputs, and targets as the loss takes them: labels or distributions over the classes
Loader = Callable[[Int[Tensor, "s b"]], tuple[Float[Tensor, "s b *sample"], Shaped[Tensor, "s b *target"]]]


def cross_entropy(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"] | Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Mean cross-entropy to labels, or to distributions over the classes.

    >>> import torch
    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([1])).item() == torch.tensor(2.0).log().item()
    True
    """
    return F.cross_entropy(logits, labels)


def square_loss(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"] | Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Mean square distance to the one-hot labels or to distributions, over rows and classes.

    >>> import torch
    >>> square_loss(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).item()
    0.5
    """
    goal = labels if labels.dim() == 2 else F.one_hot(labels, logits.shape[1])
    return F.mse_loss(logits, goal.to(logits.dtype))


LOSSES = {"cross_entropy": cross_entropy, "mse": square_loss}


def row_batches(rows: int, batch: int, generator: torch.Generator) -> Iterator[Int[Tensor, " b"]]:
    """Row numbers of one batch after another, without end: each epoch a fresh permutation, its remainder dropped.

    A batch larger than the data is cut to the data.

    >>> import torch
    >>> g = torch.Generator().manual_seed(0)
    >>> batches = row_batches(rows=5, batch=2, generator=g)
    >>> [len(next(batches)) for _ in range(3)]  # the fifth row waits for another epoch
    [2, 2, 2]
    """
    batch = min(batch, rows)
    while True:
        order = torch.randperm(rows, generator=generator)
        yield from order[: rows - rows % batch].view(-1, batch)


def own_rows(index: Int[Tensor, "s b"], like: Tensor) -> tuple[Int[Tensor, "s 1"], Int[Tensor, "s b"]]:
    """What picks the rows of every network from its own data, `like[own_rows(index, like)]`, on that device.

    >>> import torch
    >>> x = torch.arange(6).view(2, 3)
    >>> x[own_rows(torch.tensor([[0], [2]]), x)].tolist()
    [[0], [5]]
    """
    return torch.arange(len(index), device=like.device)[:, None], index.to(like.device)


class OneByOne:
    """Networks whose gradients come from autograd, one network after another: the readable twin of `Stacked`.

    >>> import torch
    >>> nets = [torch.nn.Linear(4, 2) for _ in range(3)]
    >>> tuple(OneByOne(nets).outputs(torch.zeros(3, 5, 4)).shape)
    (3, 5, 2)
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        """Trains the networks in place."""
        self.networks = networks

    def parameters(self, part: slice) -> list[Tensor]:
        """Of some of the networks."""
        return [parameter for network in self.networks[part] for parameter in network.parameters()]

    def gradients(
        self, inputs: Float[Tensor, "s b *sample"], targets: Shaped[Tensor, "s b *target"], losses: Sequence[str]
    ) -> Float[Tensor, " s"]:
        """The loss of every network on its own batch; the gradients go to its parameters."""
        values = []
        for network, x, goal, loss in zip(self.networks, inputs, targets, losses, strict=True):
            network.zero_grad()
            value = LOSSES[loss](network(x), goal)
            value.backward()
            values.append(value.detach())
        return torch.stack(values)

    @torch.no_grad()
    def outputs(self, x: Float[Tensor, "s b *sample"]) -> Float[Tensor, "s b c"]:
        """Every network's outputs on its own batch, in evaluation mode."""
        found = []
        for network, rows in zip(self.networks, x, strict=True):
            was_training = network.training
            found.append(network.eval()(rows))
            network.train(was_training)
        return torch.stack(found)

    def write(self) -> None:
        """Nothing to do: the networks are up to date."""


def train(
    networks: Sequence[nn.Module],
    loader: Loader,
    rows: int,
    steps: int,
    generators: Sequence[torch.Generator],
    *,
    batch: int = 100,
    optimiser: str = "adam",
    lr: float | Sequence[float] = 1e-3,
    weight_decay: float | Sequence[float] = 0.0,
    loss: str | Sequence[str] = "cross_entropy",
    cosine: bool = True,
    checkpoints: Collection[int] = (),
    observe: Callable[[int], None] | None = None,
    readable: bool = False,
) -> None:
    """Trains networks in place for a number of steps, each on its own batches.

    A network depends on its own seed, loader rows and generator alone, not on its company. Small networks of one
    architecture take their steps together (`Stacked`), others one after another, with the same results up to rounding.

    networks: in a list, also where it is one.
    loader: inputs and targets of a batch of every network, on the networks' device.
    rows: how many rows there are to draw from.
    generators: of the order of the rows, one for each network.
    batch: rows a step, as `row_batches` gives them.
    optimiser: "adam" or "sgd", see `Optimiser`.
    lr, weight_decay, loss ("cross_entropy" or "mse"): the same for all, or one for each network.
    cosine: the learning rate falls to zero by a cosine over the steps.
    checkpoints: steps after which `observe` is called, as it is after the last; the networks are then up to date.
    readable: one after another, whatever the networks.

    Raises `ValueError` for an unknown optimiser or loss, numbers out of range, counts or batches that do not fit the
    networks, `FloatingPointError` when a loss is no longer finite.

    >>> import torch
    >>> nets = [torch.nn.Linear(1, 2) for _ in range(3)]
    >>> x = torch.tensor([[-1.0], [1.0]]).repeat(50, 1)
    >>> y = (x[:, 0] > 0).long()
    >>> generators = [torch.Generator().manual_seed(seed) for seed in range(3)]
    >>> train(nets, lambda index: (x[index], y[index]), rows=100, steps=200, generators=generators, batch=20, lr=0.1)
    >>> (predict(nets, x.expand(3, -1, -1)) == y).float().mean().item()
    1.0
    """
    losses = [loss] * len(networks) if isinstance(loss, str) else loss
    rates, decays = ([v] * len(networks) if isinstance(v, float | int) else v for v in (lr, weight_decay))
    for name, each in (("generators", generators), ("loss", losses), ("lr", rates), ("weight_decay", decays)):
        if not isinstance(each, Sequence) or len(each) != len(networks) or not len(networks):
            raise ValueError(f"{name} is {each}: must be one for each of {len(networks)} networks, at least one")
    for name, number, least in (("rows", rows, 1), ("batch", batch, 1), ("steps", steps, 0)):
        if not hasattr(number, "__index__") or number < least:
            raise ValueError(f"{name} is {number}: must be an integer, {least} or more")
    for name in losses:
        if name not in LOSSES:
            raise ValueError(f"loss {name!r} is not known: one of {', '.join(LOSSES)}")
    batches = [row_batches(rows, batch, generator) for generator in generators]
    model: Stacked | OneByOne | None = None
    for network in networks:
        network.train()
    for step in range(1, steps + 1):
        index = torch.stack([next(part) for part in batches])
        inputs, targets = loader(index)
        if model is None:
            if inputs.shape[:2] != index.shape or targets.shape[:2] != index.shape:
                raise ValueError(
                    f"the loader gave inputs {tuple(inputs.shape)} and targets {tuple(targets.shape)} for row numbers "
                    f"{tuple(index.shape)}: the first two axes must be these, networks and batch"
                )
            fast = not readable and can_stack(networks, inputs[0])
            model = Stacked(networks) if fast else OneByOne(networks)
            opt = Optimiser(optimiser, _groups(model, rates, decays), 0.0)
        values = model.gradients(inputs, targets, losses)
        for group in opt.param_groups:
            group["lr"] = group["initial"] * ((1 + math.cos(math.pi * (step - 1) / steps)) / 2 if cosine else 1)
        opt.step()
        if step == steps or step % 100 == 0:
            _check(values, step, rates)
        if step == steps or (observe and step in checkpoints):
            model.write()
            if observe:
                observe(step)
                for network in networks:
                    network.train()


def _groups(model: Stacked | OneByOne, rates: Sequence[float], decays: Sequence[float]) -> list[dict[str, Any]]:
    """Groups for the optimiser: neighbours of one learning rate and weight decay together."""
    groups, begin = list[dict[str, Any]](), 0
    for (lr, decay), part in groupby(zip(rates, decays, strict=True)):
        end = begin + len(list(part))
        parameters = model.parameters(slice(begin, end))
        groups.append({"params": parameters, "lr": lr, "initial": lr, "weight_decay": decay})
        begin = end
    return groups


def _check(values: Float[Tensor, " s"], step: int, rates: Sequence[float]) -> None:
    for value, lr in zip(values.tolist(), rates, strict=True):
        if not math.isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} after {step} steps: lower lr (now {lr}), or look for nan in the data"
            )


@torch.no_grad()
def logits(
    networks: Sequence[nn.Module], x: Float[Tensor, "s n *sample"], batch: int = 100, readable: bool = False
) -> Float[Tensor, "s n c"]:
    """Every network's outputs on its own rows, in evaluation mode; stacked where `train` stacks the networks.

    >>> import torch
    >>> nets = [torch.nn.Linear(4, 2) for _ in range(3)]
    >>> tuple(logits(nets, torch.zeros(3, 5, 4)).shape)
    (3, 5, 2)
    """
    fast = not readable and can_stack(networks, x[0, :batch])
    model = Stacked(networks) if fast else OneByOne(networks)
    return torch.cat([model.outputs(part) for part in x.split(batch, dim=1)], dim=1)


def predict(networks: Sequence[nn.Module], x: Float[Tensor, "s n *sample"]) -> Int[Tensor, "s n"]:
    """Of every network the class with the largest output, in evaluation mode.

    >>> import torch
    >>> nets = [torch.nn.Linear(4, 2) for _ in range(3)]
    >>> tuple(predict(nets, torch.zeros(3, 5, 4)).shape)
    (3, 5)
    """
    return logits(networks, x).argmax(2)
