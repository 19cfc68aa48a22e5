"""Perceptrons of the small suite with their gradient in closed form, in one flat vector of weights.

The readable twin is autograd on `suites.mlp`, and on `task_vectors.Tangent` of it. Measured in
`benchmarks/fine_tuning.py`. Letters: n rows, d inputs, e embedding, c classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from phenomena.science.linalg import matmul

aten = torch.ops.aten


def fits(encoder: nn.Module) -> bool:
    """Whether an encoder is built as `suites.mlp`: Flatten, Linear, GELU, (LayerNorm, Linear, GELU)..., Linear."""
    kinds = [type(layer) for layer in encoder] if isinstance(encoder, nn.Sequential) else []
    block = [nn.LayerNorm, nn.Linear, nn.GELU]
    built = [nn.Flatten, nn.Linear, nn.GELU, *block * ((len(kinds) - 4) // 3), nn.Linear]
    return kinds == built and next(encoder.parameters()).is_cpu


class Layer(NamedTuple):
    """A linear layer's weights and bias, and scale and shift of the layer norm before it, where there is one."""

    weight: Tensor
    bias: Tensor
    scale: Tensor | None
    shift: Tensor | None


class Seen(NamedTuple):
    """What a layer saw on the way forward: its inputs before and after its norm, the norm's statistics, its outputs."""

    before: Tensor
    inputs: Tensor
    mean: Tensor | None
    rstd: Tensor | None
    outputs: Tensor


class Perceptron(nn.Module):
    """A network like an encoder, or its linearisation in the weights, to train by `gradient`.

    weights: all entries end to end, in the order of the encoder's; of the linearisation theta - theta_0.
    """

    def __init__(self, encoder: nn.Module, tangent: bool = False) -> None:
        """encoder: one that `fits`; its weights are copied."""
        super().__init__()
        parameters = dict(encoder.named_parameters())
        self.shapes = {name: p.shape for name, p in parameters.items()}
        self.eps = [layer.eps for layer in encoder.modules() if isinstance(layer, nn.LayerNorm)]
        self.start = torch.cat([p.detach().flatten() for p in parameters.values()])
        self.weights = nn.Parameter(torch.zeros_like(self.start) if tangent else self.start.clone())
        self.weights.grad = torch.zeros_like(self.start)
        self.change = self._layers(self.weights.detach()) if tangent else None
        self.layers = self._layers(self.start if tangent else self.weights.detach())
        self.slopes = self._layers(self.weights.grad)

    def entries(self, flat: Float[Tensor, " entries"]) -> dict[str, Tensor]:
        """Views of a flat vector, by the encoder's names."""
        parts = flat.split([shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def _layers(self, flat: Tensor) -> list[Layer]:
        entries = list(self.entries(flat).values())
        rest = [entries[i : i + 4] for i in range(2, len(entries) - 2, 4)]
        hidden = [Layer(weight, bias, scale, shift) for scale, shift, weight, bias in rest]
        return [Layer(entries[0], entries[1], None, None), *hidden, Layer(entries[-2], entries[-1], None, None)]

    def state(self) -> dict[str, Tensor]:
        """The weights under the encoder's names; theta itself, of the linearisation, too."""
        flat = self.weights.detach()
        return self.entries(flat + self.start if self.change else flat.clone())

    @torch.no_grad()
    def gradient(self, x: Float[Tensor, "n *d"], labels: Int[Tensor, " n"], head: Float[Tensor, "c e"]) -> None:
        """Sets the weights' `grad` to that of the mean cross-entropy of `finetuning.logits`.

        The gradient of the linearisation in theta is that of the network at theta_0 to the same slope of the outputs.
        """
        seen = self._forward(x.flatten(1))
        outputs = seen[-1].outputs
        self._backward(seen, _slope(outputs + self._change(seen) if self.change else outputs, labels, head))

    def _forward(self, x: Tensor) -> list[Seen]:
        seen: list[Seen] = []
        for i, (weight, bias, scale, shift) in enumerate(self.layers):
            before = F.gelu(seen[-1].outputs) if i else x
            inputs, mean, rstd = before, None, None
            if scale is not None:
                inputs, mean, rstd = torch.native_layer_norm(before, scale.shape, scale, shift, self.eps[i - 1])
            seen.append(Seen(before, inputs, mean, rstd, matmul(inputs, weight.T).add_(bias)))
        return seen

    def _change(self, seen: Sequence[Seen]) -> Tensor:
        """J_theta f(x; theta_0) (theta - theta_0), layer by layer."""
        assert self.change is not None
        change = torch.zeros(())
        for i, (layer, step, at) in enumerate(zip(self.layers, self.change, seen, strict=True)):
            moved = matmul(at.inputs, step.weight.T).add_(step.bias)
            if i:
                change = aten.gelu_backward(change, seen[i - 1].outputs)
                if layer.scale is not None:
                    unit = (at.before - at.mean) * at.rstd  # type: ignore[operator]  # both norms are there, or none
                    change = change - change.mean(1, keepdim=True) - unit * (unit * change).mean(1, keepdim=True)
                    change = change * at.rstd * layer.scale + unit * step.scale + step.shift  # type: ignore[operator]
                moved.add_(matmul(change, layer.weight.T))
            change = moved
        return change

    def _backward(self, seen: Sequence[Seen], slope: Float[Tensor, "n e"]) -> None:
        for i in reversed(range(len(seen))):
            (weight, _, scale, shift), at, out = self.layers[i], seen[i], self.slopes[i]
            matmul(slope.T, at.inputs, out=out.weight)
            torch.sum(slope, 0, out=out.bias)
            if not i:
                return
            slope = matmul(slope, weight)
            if scale is not None:
                assert out.scale is not None and out.shift is not None
                given = (slope, at.before, scale.shape, at.mean, at.rstd, scale, shift, [True] * 3)
                slope, scales, shifts = aten.native_layer_norm_backward(*given)
                out.scale.copy_(scales)
                out.shift.copy_(shifts)
            slope = aten.gelu_backward(slope, seen[i - 1].outputs)


def _slope(
    embedding: Float[Tensor, "n e"], labels: Int[Tensor, " n"], head: Float[Tensor, "c e"]
) -> Float[Tensor, "n e"]:
    """Derivative of the mean cross-entropy of cosines with the head in the embedding."""
    length = embedding.norm(dim=1, keepdim=True).clamp_min(1e-12)  # as F.normalize
    unit = embedding / length
    miss = torch.softmax(unit @ head.T, 1)
    miss[torch.arange(len(labels)), labels] -= 1
    pull = (miss / len(labels)) @ head
    return (pull - unit * (unit * pull).sum(1, keepdim=True)) / length
