"""One loop that trains a network on whole tensors."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

# row numbers -> inputs, and targets as the loss takes them: labels or distributions over the classes
Loader = Callable[[Int[Tensor, " b"]], tuple[Float[Tensor, "b *sample"], Shaped[Tensor, "b *target"]]]


def cross_entropy(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"] | Float[Tensor, "b c"]) -> Float[Tensor, ""]:
    """Mean cross-entropy to labels, or to distributions over the classes."""
    return F.cross_entropy(logits, labels)


def square_loss(logits: Float[Tensor, "b c"], labels: Int[Tensor, " b"]) -> Float[Tensor, ""]:
    """Mean square distance to the one-hot labels, over rows and classes."""
    return F.mse_loss(logits, F.one_hot(labels, logits.shape[1]).to(logits.dtype))


LOSSES = {"cross_entropy": cross_entropy, "mse": square_loss}


def row_batches(rows: int, batch: int, generator: torch.Generator) -> Iterator[Int[Tensor, " b"]]:
    """Row numbers of one batch after another, without end: each epoch a fresh permutation, its remainder dropped.

    A batch larger than the data is cut to the data.
    """
    batch = min(batch, rows)
    while True:
        order = torch.randperm(rows, generator=generator)
        yield from order[: rows - rows % batch].view(-1, batch)


def make_optimiser(name: str, network: nn.Module, lr: float, weight_decay: float = 0.0) -> torch.optim.Optimizer:
    """`adam` (decoupled weight decay, i.e. AdamW) or `sgd` (momentum 0.9). Raises `ValueError` for another name."""
    if name == "adam":
        return torch.optim.AdamW(network.parameters(), lr, weight_decay=weight_decay, fused=True)
    if name == "sgd":
        return torch.optim.SGD(network.parameters(), lr, momentum=0.9, weight_decay=weight_decay, fused=True)
    raise ValueError(f"optimiser {name!r} is not known: adam or sgd")


def train(
    network: nn.Module,
    loader: Loader,
    rows: int,
    steps: int,
    generator: torch.Generator,
    *,
    batch: int = 100,
    optimiser: str = "adam",
    lr: float = 1e-3,
    weight_decay: float = 0.0,
    loss: str = "cross_entropy",
    cosine: bool = True,
    every: int = 0,
    observe: Callable[[nn.Module, int], None] | None = None,
) -> None:
    """Trains in place for a number of steps.

    loader: inputs and targets of a batch, on the network's device.
    rows: how many rows there are to draw from.
    batch: rows a step, as `row_batches` gives them.
    optimiser: as in `make_optimiser`.
    loss: "cross_entropy" or "mse".
    cosine: the learning rate falls to zero by a cosine over the steps.
    observe: called with the network and the step after every `every` steps (0: never between) and after the last.

    Raises `ValueError` for an unknown optimiser or loss, `FloatingPointError` when the loss is no longer finite.
    """
    if loss not in LOSSES:
        raise ValueError(f"loss {loss!r} is not known: one of {', '.join(LOSSES)}")
    criterion = LOSSES[loss]
    opt = make_optimiser(optimiser, network, lr, weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps) if cosine else None
    network.train()
    for step, index in zip(range(1, steps + 1), row_batches(rows, batch, generator), strict=False):
        inputs, targets = loader(index)
        value = criterion(network(inputs), targets)
        opt.zero_grad()
        value.backward()
        opt.step()
        if schedule:
            schedule.step()
        if (step == steps or step % 100 == 0) and not torch.isfinite(value):
            raise FloatingPointError(f"the loss is {value.item()} after {step} steps: lower lr (now {lr})")
        if observe and (step == steps or (every and step % every == 0)):
            observe(network, step)
            network.train()


@torch.no_grad()
def predict(network: nn.Module, x: Float[Tensor, "n *sample"], batch: int = 1000) -> Int[Tensor, " n"]:
    """Class with the largest logit, in evaluation mode."""
    was_training = network.training
    network.eval()
    classes = torch.cat([network(part).argmax(1) for part in x.split(batch)])
    network.train(was_training)
    return classes
