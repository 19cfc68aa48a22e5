"""Vector fields, residual blocks and their training, many seeds at once: every parameter has a leading axis of seeds.

A field f(z, t) of two hidden layers moves points by dz/dt = f(z, t) from t = 0 to t = 1. The solvers and the adjoint
are those of torchdiffeq. Letters: s seeds, n points, d dimensions, w hidden units, c classes.

References:
    Chen, Rubanova, Bettencourt, Duvenaud, "Neural Ordinary Differential Equations", NeurIPS 2018.
    Dupont, Doucet, Teh, "Augmented Neural ODEs", NeurIPS 2019.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torchdiffeq import odeint

from phenomena.science.checks import check_tensors
from phenomena.science.optimisers import Optimiser

Activation = Literal["tanh", "softplus", "relu"]
FixedSolver = Literal["euler", "midpoint", "rk4"]
# name -> the function, and its slope as a function of (input, output)
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]] = {
    "tanh": (torch.tanh, lambda _, h: 1 - h * h),
    "softplus": (F.softplus, lambda x, _: torch.sigmoid(x)),
    "relu": (torch.relu, lambda x, _: (x > 0).to(x.dtype)),
}


def _uniform(shape: Sequence[int], fan_in: int, generators: Sequence[torch.Generator]) -> nn.Parameter:
    """Uniform in ±1/√fan_in for every seed, as torch's linear layers start."""
    draws = [torch.rand(*shape, generator=generator) for generator in generators]
    return nn.Parameter((2 * torch.stack(draws) - 1) / math.sqrt(fan_in))


class Field(nn.Module):
    """f(z, t) = W3 a(W2 a(W1 z + u t + b1) + b2) + b3 for every seed; counts how often it is evaluated.

    >>> generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    >>> field = Field(2, 8, generators)
    >>> tuple(field(torch.tensor(0.5), torch.zeros(2, 5, 2)).shape), field.evaluations
    ((2, 5, 2), 1)
    """

    def __init__(
        self, d: int, width: int, generators: Sequence[torch.Generator], activation: Activation = "tanh"
    ) -> None:
        """d: of the state, 1 or more. width: hidden units of both layers, 1 or more.

        Raises `ValueError` for others, or an unknown activation.
        """
        super().__init__()
        if d < 1 or width < 1 or not generators:
            raise ValueError(f"{d} dimensions, width {width}, {len(generators)} seeds: must each be 1 or more")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation is {activation!r}: must be one of {', '.join(ACTIVATIONS)}")
        self.activation, self.evaluations = activation, 0
        self.w1 = _uniform((d, width), d + 1, generators)
        self.u = _uniform((1, width), d + 1, generators)
        self.b1 = _uniform((1, width), d + 1, generators)
        self.w2, self.b2 = (_uniform(shape, width, generators) for shape in ((width, width), (1, width)))
        self.w3, self.b3 = (_uniform(shape, width, generators) for shape in ((width, d), (1, d)))

    def forward(self, t: Float[Tensor, ""] | float, z: Float[Tensor, "s n d"]) -> Float[Tensor, "s n d"]:
        """The velocity of every point at time t."""
        self.evaluations += 1
        act, _ = ACTIVATIONS[self.activation]
        h = act(torch.baddbmm(self.b1 + t * self.u, z, self.w1))
        h = act(torch.baddbmm(self.b2, h, self.w2))
        return torch.baddbmm(self.b3, h, self.w3)

    def with_divergence(
        self, t: Float[Tensor, ""] | float, z: Float[Tensor, "s n d"]
    ) -> tuple[Float[Tensor, "s n d"], Float[Tensor, "s n"]]:
        """f and its exact divergence, tr df/dz = a'(x2)ᵀ (W2ᵀ ∘ W3 W1) a'(x1), at the cost of about one more layer."""
        self.evaluations += 1
        act, slope = ACTIVATIONS[self.activation]
        x1 = torch.baddbmm(self.b1 + t * self.u, z, self.w1)
        h1 = act(x1)
        x2 = torch.baddbmm(self.b2, h1, self.w2)
        h2 = act(x2)
        ring = self.w2 * (self.w3 @ self.w1).mT  # W2_ij (W3 W1)_ji
        trace = (torch.bmm(slope(x1, h1), ring) * slope(x2, h2)).sum(2)
        return torch.baddbmm(self.b3, h2, self.w3), trace

    def of(self, place: int) -> "Field":
        """The field of one seed, in float64 and with a count of its own."""
        one = Field(self.w1.shape[1], self.w1.shape[2], [torch.Generator()], self.activation).double()
        one.load_state_dict({name: value[place : place + 1] for name, value in self.state_dict().items()})
        return one


class Blocks(nn.Module):
    """Residual blocks with weights of their own, z <- z + f_k(z): what an ODE replaces by one field.

    >>> blocks = Blocks(3, 2, 8, [torch.Generator().manual_seed(0)])
    >>> tuple(blocks(torch.zeros(1, 5, 2)).shape)
    (1, 5, 2)
    """

    def __init__(
        self, count: int, d: int, width: int, generators: Sequence[torch.Generator], activation: Activation = "tanh"
    ) -> None:
        """count: of blocks, one after another; the rest as for a field."""
        super().__init__()
        self.blocks = nn.ModuleList(Field(d, width, generators, activation) for _ in range(count))

    def forward(self, z: Float[Tensor, "s n d"]) -> Float[Tensor, "s n d"]:
        """The points after the last block."""
        for block in self.blocks:
            z = z + block(0.0, z)
        return z


class Flow(nn.Module):
    """The field's flow from t = 0 to t = 1 by a solver of fixed steps, through which gradients are propagated."""

    def __init__(self, field: Field, solver: FixedSolver = "rk4", steps: int = 6) -> None:
        """Raises `ValueError` for fewer than one step."""
        super().__init__()
        if steps < 1:
            raise ValueError(f"solver_steps is {steps}: must be 1 or more")
        self.field, self.solver, self.steps = field, solver, steps

    def forward(self, z: Float[Tensor, "s n d"]) -> Float[Tensor, "s n d"]:
        """The points at t = 1."""
        return fixed(self.field, z, self.solver, self.steps)


def fixed(
    field: Callable[..., Tensor], z: Float[Tensor, "..."], solver: FixedSolver = "rk4", steps: int = 6
) -> Float[Tensor, "..."]:
    """The state at t = 1 after equal steps of a solver of torchdiffeq."""
    ends = torch.tensor([0.0, 1.0], dtype=z.dtype, device=z.device)
    return odeint(field, z, ends, method=solver, options={"step_size": 1 / steps})[-1]


class Classifier(nn.Module):
    """Points that a flow or blocks move, then a linear head; dimensions beyond the data's start at zero.

    >>> generators = [torch.Generator().manual_seed(0)]
    >>> model = Classifier(Blocks(1, 3, 8, generators), 3, 2, generators)
    >>> tuple(model(torch.zeros(1, 5, 2)).shape)  # one dimension is added
    (1, 5, 2)
    """

    def __init__(self, body: nn.Module, d: int, classes: int, generators: Sequence[torch.Generator]) -> None:
        """d: of the state, the added dimensions included."""
        super().__init__()
        self.body, self.d = body, d
        self.weight, self.bias = (_uniform(shape, d, generators) for shape in ((d, classes), (1, classes)))

    def pad(self, x: Float[Tensor, "s n k"]) -> Float[Tensor, "s n d"]:
        """The state at t = 0."""
        return F.pad(x, (0, self.d - x.shape[-1]))

    def head(self, z: Float[Tensor, "s n d"]) -> Float[Tensor, "s n c"]:
        """Logits of a state."""
        return torch.baddbmm(self.bias.to(z.dtype), z, self.weight.to(z.dtype))

    def forward(self, x: Float[Tensor, "s n k"]) -> Float[Tensor, "s n c"]:
        """Logits of points."""
        return self.head(self.body(self.pad(x)))


def losses(logits: Float[Tensor, "s n c"], labels: Int[Tensor, "s n"]) -> Float[Tensor, " s"]:
    """Mean cross-entropy of every seed."""
    return F.cross_entropy(logits.mT, labels, reduction="none").mean(1)


def fit(
    parameters: Iterable[nn.Parameter],
    loss: Callable[[], Float[Tensor, " s"]],
    iterations: int,
    rate: float,
    checkpoints: Collection[int] = (),
    observe: Callable[[int], None] | None = None,
) -> None:
    """Adam on all data at once, every seed for itself, the rate falling to zero by a cosine.

    loss: of every seed. checkpoints: iterations before which `observe` is called; the last may be `iterations`.

    Raises `FloatingPointError` when a loss is no longer finite.
    """
    parameters = list(parameters)
    check_tensors(**{f"parameter {i}": (p, "...") for i, p in enumerate(parameters)})
    adam = Optimiser("adam", parameters, rate)
    for step in range(iterations + 1):
        if observe and step in checkpoints:
            observe(step)
        if step == iterations:
            break
        for parameter in parameters:
            parameter.grad = None
        values = loss()
        if not values.isfinite().all():
            raise FloatingPointError(f"the loss is {values.max().item()} after {step} steps: lower rate (now {rate})")
        values.sum().backward()
        adam.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / iterations)) / 2
        adam.step()
