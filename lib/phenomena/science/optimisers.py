"""AdamW and SGD by torch's fused kernels.

`torch.optim` computes the same, to the bit; but its first optimiser imports `torch._dynamo`, which takes four seconds,
longer than a short run.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


class Optimiser:
    """`adam` (decoupled weight decay, i.e. AdamW, betas 0.9 and 0.999) or `sgd` (momentum 0.9).

    param_groups: as in `torch.optim`, dictionaries with params, lr, weight_decay and maximize, which may be changed
        between steps.

    >>> import torch
    >>> w = torch.ones(1, requires_grad=True)
    >>> optimiser = Optimiser("sgd", [w], lr=0.5)
    >>> (w**2).sum().backward()
    >>> optimiser.step()
    >>> w.tolist()  # 1 - 0.5 * 2
    [0.0]
    """

    def __init__(
        self, name: str, parameters: Iterable[Tensor] | list[dict[str, Any]], lr: float, weight_decay: float = 0.0
    ) -> None:
        """parameters: tensors, or groups of them under "params" with an lr and a weight_decay of their own.

        Raises `ValueError` for another name, a group with another setting, an lr or weight_decay below 0 or not finite.
        """
        if name not in ("adam", "sgd"):
            raise ValueError(f"optimiser {name!r} is not known: adam or sgd")
        listed = list(parameters)
        groups = [part for part in listed if isinstance(part, dict)] or [{"params": listed}]
        usual: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "maximize": False}
        for group in groups:
            if unknown := set(group) - {"params", "initial", *usual}:
                raise ValueError(f"a group of parameters has {min(unknown)!r}: must be params, {', '.join(usual)}")
            for setting in ("lr", "weight_decay"):
                if not 0 <= (value := (usual | group)[setting]) < math.inf:
                    raise ValueError(f"{setting} is {value}: must be 0 or more and finite")
        self.name, self.param_groups = name, [usual | group for group in groups]
        self._state: list[tuple[list[Tensor], ...]] = []

    @torch.no_grad()
    def step(self) -> None:
        """Moves every parameter that has a gradient in its `grad`: the same ones at every step.

        Raises `ValueError` where there is none, or another number of them than in the first step.
        """
        first = not self._state
        for i, group in enumerate(self.param_groups):
            parameters = [p for p in group["params"] if p.grad is not None]
            slopes = [p.grad for p in parameters if p.grad is not None]
            if first:
                moments = [[torch.zeros_like(p) for p in parameters] for _ in range(2 if self.name == "adam" else 1)]
                self._state.append((*moments, [p.new_zeros((), dtype=torch.float32) for p in parameters]))
            count = len(self._state[i][0])
            if not parameters or len(parameters) != count:
                raise ValueError(f"{len(parameters)} parameters have a gradient, {count} had one in the first step")
            lr, decay, maximize = (group[name] for name in ("lr", "weight_decay", "maximize"))
            if self.name == "adam":
                mean, square, steps = self._state[i]
                torch._foreach_add_(steps, 1)
                torch._fused_adamw_(
                    parameters, slopes, mean, square, [], steps,
                    lr=lr, weight_decay=decay, maximize=maximize, beta1=0.9, beta2=0.999, eps=1e-8, amsgrad=False,
                )  # fmt: skip
            else:
                torch._fused_sgd_(
                    parameters, slopes, self._state[i][0],
                    lr=lr, weight_decay=decay, maximize=maximize, momentum=0.9, dampening=0.0, nesterov=False,
                    is_first_step=first,
                )  # fmt: skip
