"""Losses and gradients of many small networks of one architecture at once, in closed form.

`training.train` is the loop around them. A convolution is one matrix product a network over its unfolded patches, batch
norm's sums over rows are products with a row of ones, and activations lie as (networks, rows, channels) throughout, so
that a step takes few passes over memory. Products are computed network by network: the bits of a network depend on its
own weights and batches alone, not on its company.

Letters: s networks, of which g take a step together; b samples of a batch; h, w height and width; c channels;
n = b h w rows; p parameters of a network.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from phenomena.science.linalg import matmul

GROUP_BYTES = 3 * 2**20  # of the largest activation of the networks of a group: a larger one leaves the cache
SMALL_BYTES = 2**20  # of the largest activation of one network: beyond, autograd is as fast
ALIGN = 64  # a network's parameters begin at a multiple, so that none shares a vector register with another network's
Take = Callable[..., tuple[Tensor, Tensor]]  # shape -> the next parameters (s, *shape), and their gradients


class Stacked:
    """Networks of one architecture, with all parameters in one buffer and their gradients in another.

    Layers: convolutions, batch norm, ReLU, the mean over positions, linear layers; see `can_stack`.

    >>> import torch
    >>> from phenomena.science.networks import encoder_projector
    >>> nets = [encoder_projector("cnn", (1, 8, 8), 10, width=4, depth=2, hidden=16, seed=s) for s in range(3)]
    >>> tuple(Stacked(nets).outputs(torch.zeros(3, 5, 1, 8, 8)).shape)
    (3, 5, 10)
    """

    flat: Float[Tensor, "s p"]
    slope: Float[Tensor, "s p"]

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        """Copies parameters and running statistics; `write` puts them back into the networks."""
        first = next(networks[0].parameters()).detach()
        count = sum(parameter.numel() for parameter in networks[0].parameters())
        self.flat = first.new_zeros(len(networks), -(-count // ALIGN) * ALIGN)
        self.slope = torch.zeros_like(self.flat)
        self._largest = 0  # bytes of one network's activations, known after its first step
        self._layers: list[Any] = []  # of `LAYERS`
        shared, begin = _Memory(first), 0

        def take(*shape: int) -> tuple[Tensor, Tensor]:
            nonlocal begin
            at = slice(begin, begin + math.prod(shape))
            begin = at.stop
            return self.flat[:, at].unflatten(1, shape), self.slope[:, at].unflatten(1, shape)

        with torch.no_grad():
            for modules in zip(*(_chain(network) for network in networks), strict=True):
                if kind := LAYERS[type(modules[0])]:
                    self._layers.append(kind(modules, take, shared, first=not self._layers))

    def parameters(self, part: slice) -> list[Tensor]:
        """Of some of the networks, as one tensor with its gradient."""
        parameters = self.flat[part]
        parameters.grad = self.slope[part]
        return [parameters]

    @torch.no_grad()
    def gradients(
        self,
        inputs: Float[Tensor, "s b *sample"],
        targets: Int[Tensor, "s b"] | Float[Tensor, "s b c"],
        losses: Sequence[str],
    ) -> Float[Tensor, " s"]:
        """The loss of every network on its own batch, in training mode; the gradients go to `slope`.

        targets: labels, or distributions over the classes. losses: "cross_entropy" or "mse", one for each network.
        """
        images = inputs.unsqueeze(3) if inputs.dim() == 4 else inputs  # a signal is an image one pixel high
        maps = images.movedim(2, -1)
        group, values = max(1, GROUP_BYTES // self._largest) if self._largest else 1, []
        for start in range(0, len(maps), group):
            part = slice(start, start + group)
            x = maps[part]
            for layer in self._layers:
                x = layer.forward(x, part)
                self._largest = max(self._largest, x[0].numel() * x.element_size())
            value, slope = loss_and_slope(x, targets[part], losses[part])
            values.append(value)
            for layer in reversed(self._layers):
                slope = layer.backward(slope, part)
        return torch.cat(values)

    @torch.no_grad()
    def outputs(self, x: Float[Tensor, "s b *sample"]) -> Float[Tensor, "s b c"]:
        """Every network's outputs on its own batch, in evaluation mode."""
        images = x.unsqueeze(3) if x.dim() == 4 else x
        found = images.movedim(2, -1)
        for layer in self._layers:
            layer.training = False
            found = layer.forward(found, slice(None))
            layer.training = True
        return found.clone()

    @torch.no_grad()
    def write(self) -> None:
        """Puts parameters and running statistics into the networks."""
        for layer in self._layers:
            layer.write()


def can_stack(networks: Sequence[nn.Module], sample: Float[Tensor, "b *sample"]) -> bool:
    """Whether networks can be stacked, and are so small that this is faster than autograd on one after another.

    Convolutions (no groups, dilation or bias; strides within the kernel; padding of three or less), batch norm and ReLU
    come first, then a mean over all positions, then linear layers and ReLU. Measured on one Zen 4 core with batches of
    100 and width 16, a step of ten networks takes 0.7 of the time on signals, 0.5 on images of 8 x 8, and 1.1 on
    images of 28 x 28, whose first activation has 1.2 MB (`benchmarks/stacked.py`). On a GPU, size does not matter.

    sample: a batch of one network.

    >>> import torch
    >>> from phenomena.science.networks import encoder_projector
    >>> nets = [encoder_projector("cnn", (1, 8, 8), 10, width=4, depth=2, hidden=16, seed=s) for s in range(3)]
    >>> can_stack(nets, torch.zeros(5, 1, 8, 8))
    True
    >>> can_stack([torch.nn.Linear(4, 2)], torch.zeros(5, 4))
    False
    """
    chains = [_chain(network) for network in networks]
    kinds = [type(module) for module in chains[0]]
    same = all([repr(module) for module in chain] == [repr(module) for module in chains[0]] for chain in chains)
    if not same or not all(kind in LAYERS and _simple(module) for kind, module in zip(kinds, chains[0], strict=True)):
        return False
    pool = kinds.index(nn.AdaptiveAvgPool2d) if nn.AdaptiveAvgPool2d in kinds else -1
    maps, rows = {nn.Conv2d, nn.BatchNorm2d}, {nn.Linear, nn.Flatten}
    if pool < 1 or kinds[0] in rows or rows & set(kinds[:pool]) or maps & set(kinds[pool:]) or kinds[-1] != nn.Linear:
        return False
    if not sample.is_cpu:
        return True
    x, largest = sample[:1], 0
    with torch.no_grad():
        for module in chains[0]:
            x = module(x) if not isinstance(module, nn.BatchNorm2d) else x
            largest = max(largest, x.numel() * x.element_size() * len(sample))
    return largest <= SMALL_BYTES


def loss_and_slope(
    logits: Float[Tensor, "g b c"], targets: Int[Tensor, "g b"] | Float[Tensor, "g b c"], losses: Sequence[str]
) -> tuple[Float[Tensor, " g"], Float[Tensor, "g b c"]]:
    """Mean cross-entropy or mean square distance of every network, and its gradient by the logits.

    >>> import torch
    >>> value, slope = loss_and_slope(torch.zeros(1, 1, 2), torch.tensor([[1]]), ["cross_entropy"])
    >>> value.round(decimals=3).tolist(), slope.tolist()
    ([0.6930000185966492], [[[0.5, -0.5]]])
    """
    goal = targets.to(logits) if targets.dim() == 3 else F.one_hot(targets, logits.shape[2]).to(logits)
    b, c = goal.shape[1:]
    log_p = logits.log_softmax(2)
    value = (goal * log_p).sum((1, 2)) / -b
    slope = (log_p.exp() * goal.sum(2, keepdim=True) - goal) / b
    if "mse" in losses:
        square, gap = torch.tensor([loss == "mse" for loss in losses], device=logits.device), logits - goal
        value = torch.where(square, gap.square().mean((1, 2)), value)
        slope = torch.where(square[:, None, None], gap * (2 / (b * c)), slope)
    return value, slope


def _chain(network: nn.Module) -> list[nn.Module]:
    """The layers of nested `nn.Sequential`s in order."""
    nested = [_chain(child) if isinstance(child, nn.Sequential) else [child] for child in network.children()]
    return [module for part in nested for module in part]


def _simple(module: nn.Module) -> bool:
    match module:
        case nn.Conv2d():
            plain = module.groups == 1 and module.dilation == (1, 1) and module.bias is None
            numbers = isinstance(module.padding, tuple) and max(module.padding) <= 3
            inside = all(s <= k for s, k in zip(module.stride, module.kernel_size, strict=True))
            return plain and numbers and inside and module.padding_mode == "zeros"
        case nn.BatchNorm2d():
            return module.affine and module.track_running_stats and module.momentum is not None
        case nn.AdaptiveAvgPool2d():
            return module.output_size in (1, (1, 1))
    return True


# --- layers -----------------------------------------------------------------------------------------------------------
# forward takes the activations of a group, (g, b, h, w, c) or (g, b, c), and where the group lies in the stack.
# backward takes the gradient by the result, writes those by the parameters and returns that by the activations.
# Both may overwrite what they are given: nothing is needed twice.


class _Memory:
    """Tensors that are used again at every step, by name and shape."""

    def __init__(self, like: Tensor) -> None:
        self.like, self._held = like, dict[tuple[str | int, ...], Tensor]()

    def get(self, name: str, *shape: int, margin: int = 0) -> Tensor:
        """Contiguous memory between margins of further entries; it holds what was left there."""
        if (name, *shape) not in self._held:
            count = math.prod(shape)
            memory = self.like.new_zeros(count + 2 * margin)
            self._held[name, *shape] = memory[margin : margin + count].view(shape)
        return self._held[name, *shape]

    def maps(self, name: str, *shape: int) -> Tensor:
        """Memory for activations with margins for the patches of a convolution with padding."""
        return self.get(name, *shape, margin=4 * (shape[-2] + 4) * shape[-1])


class _Convolution:
    def __init__(self, modules: Sequence[nn.Conv2d], take: Take, shared: _Memory, first: bool) -> None:
        self.modules, self.shared, self.own, self.first = modules, shared, _Memory(shared.like), first
        conv = modules[0]
        self.weight, self.slope = take(math.prod(conv.kernel_size) * conv.in_channels, conv.out_channels)
        self._as_torch(self.weight).copy_(torch.stack([module.weight for module in modules]))

    def _as_torch(self, weight: Tensor) -> Tensor:
        conv = self.modules[0]
        return weight.unflatten(1, (*conv.kernel_size, conv.in_channels)).permute(0, 4, 3, 1, 2)

    def write(self) -> None:
        for module, weight in zip(self.modules, self._as_torch(self.weight), strict=True):
            module.weight.copy_(weight)

    def forward(self, x: Tensor, part: slice) -> Tensor:
        g, b, h, w, c = self.shape = x.shape
        conv = self.modules[0]
        (kh, kw), (down, right) = conv.kernel_size, conv.stride
        top, left = (int(p) for p in conv.padding)
        self.axes = _axis(h, kh, down, top), _axis(w, kw, right, left)
        ho, wo = (axis.outputs for axis in self.axes)
        if self.first:  # few channels make short runs in memory: patches are then laid out along positions
            x = self.own.maps("data", *x.shape).copy_(x)
            matrix = self.own.get("patches", g, kh * kw * c, b * ho * wo)
            self.patches = matrix.view(g, kh, kw, c, b, ho, wo).permute(0, 4, 5, 6, 1, 2, 3)
            self.matrix = matrix.mT
        else:
            self.matrix = self.own.get("patches", g, b * ho * wo, kh * kw * c)
            self.patches = self.matrix.view(g, b, ho, wo, kh, kw, c)
        network, image, row, column, _ = x.stride()
        strides = (network, image, down * row, right * column, row, column, 1)
        self.patches.copy_(x.as_strided(self.patches.shape, strides, x.storage_offset() - top * row - left * column))
        for tap, outputs in self.axes[0].beyond:
            self.patches[:, :, outputs, :, tap] = 0
        for tap, outputs in self.axes[1].beyond:
            self.patches[:, :, :, outputs, :, tap] = 0
        result = self.own.maps("result", g, b, ho, wo, conv.out_channels)
        matmul(self.matrix, self.weight[part], out=result.view(g, b * ho * wo, -1))
        return result

    def backward(self, slope: Tensor, part: slice) -> Tensor:
        rows = slope.view(len(slope), -1, slope.shape[-1])
        matmul(self.matrix.mT, rows, out=self.slope[part])
        if self.first:  # nothing asks for the gradient by the data
            return slope
        matmul(rows, self.weight[part].mT, out=self.matrix)
        return _fold(self.patches, self.axes, self.shared.get("slope", *self.shape))


class _Tap(NamedTuple):
    """One entry of a kernel along an axis: the outputs that it serves, and the places that it reads for them.

    whole: these are all places that outputs `stride` apart reach from here.
    """

    number: int
    outputs: slice
    places: slice
    whole: bool


class _Axis(NamedTuple):
    """A convolution along an axis; beyond: taps with the outputs for which they lie in the padding."""

    outputs: int
    stride: int
    taps: list[_Tap]
    beyond: list[tuple[int, slice]]


@lru_cache
def _axis(size: int, kernel: int, stride: int, padding: int) -> _Axis:
    outputs = (size + 2 * padding - kernel) // stride + 1
    taps, beyond = [], []
    for tap in range(kernel):
        inside = [o for o in range(outputs) if 0 <= stride * o - padding + tap < size]
        begin, end = (inside[0], inside[-1] + 1) if inside else (outputs, outputs)
        beyond += [(tap, part) for part in (slice(0, begin), slice(end, outputs)) if part.start < part.stop]
        if inside:
            places = slice(stride * begin - padding + tap, stride * (end - 1) - padding + tap + 1, stride)
            whole = places.start < stride and places.stop + stride > size
            taps.append(_Tap(tap, slice(begin, end), places, whole))
    return _Axis(outputs, stride, taps, beyond)


def _fold(patches: Tensor, axes: tuple[_Axis, _Axis], result: Tensor) -> Tensor:
    """Adds up what patches (g, b, ho, wo, kh, kw, c) hold of each place of the result (g, b, h, w, c)."""
    pairs = [(down, right) for down in axes[0].taps for right in axes[1].taps]
    writers = {(d.places.start, r.places.start): (d, r) for d, r in pairs if d.whole and r.whole}
    reached = min(axes[0].stride, result.shape[2]) * min(axes[1].stride, result.shape[3])
    if len(writers) < reached:  # some places have no tap that reads all of their kind
        writers = {}
        result.zero_()
    for down, right in sorted(pairs, key=lambda pair: pair not in writers.values()):
        target = result[:, :, down.places, right.places]
        found = patches[:, :, down.outputs, right.outputs, down.number, right.number]
        if (down, right) in writers.values():
            target.copy_(found)
        else:
            target.add_(found)
    return result


class _BatchNorm:
    def __init__(self, modules: Sequence[nn.BatchNorm2d], take: Take, shared: _Memory, first: bool) -> None:
        self.modules, self.shared, self.own = modules, shared, _Memory(shared.like)
        (self.weight, self.weight_slope), (self.bias, self.bias_slope) = (
            take(1, modules[0].num_features) for _ in range(2)
        )
        self.mean, self.var = (torch.zeros_like(self.weight) for _ in range(2))
        self.steps, self.training = 0, True
        for name, stacked in self._named().items():
            stacked.copy_(torch.stack([getattr(module, name) for module in modules])[:, None])

    def _named(self) -> dict[str, Tensor]:
        return {"weight": self.weight, "bias": self.bias, "running_mean": self.mean, "running_var": self.var}

    def write(self) -> None:
        for name, stacked in self._named().items():
            for module, value in zip(self.modules, stacked[:, 0], strict=True):
                getattr(module, name).copy_(value)
        for module in self.modules:
            if module.num_batches_tracked is not None:
                module.num_batches_tracked.add_(self.steps)
        self.steps = 0

    def forward(self, x: Tensor, part: slice) -> Tensor:
        self.x = x.view(len(x), -1, x.shape[-1])
        n, module = self.x.shape[1], self.modules[0]
        momentum = module.momentum or 0.0
        self.mean_row = self.own.get("ones", 1, n).fill_(1 / n).expand(len(x), 1, n)
        result = self.own.maps("result", *x.shape)
        if not self.training:
            scale = self.weight[part] * (self.var[part] + module.eps).rsqrt_()
            torch.addcmul(self.bias[part] - self.mean[part] * scale, self.x, scale, out=result.view(self.x.shape))
            return result
        product = self.shared.get("product", *self.x.shape)
        mean = matmul(self.mean_row, self.x)
        var = (matmul(self.mean_row, torch.mul(self.x, self.x, out=product)) - mean.square()).clamp_(min=0)
        self.mean[part].lerp_(mean, momentum)
        self.var[part].lerp_(var * (n / (n - 1)), momentum)
        self.steps += part.start == 0
        self.centre, self.inverse = mean, (var + module.eps).rsqrt_()
        self.scale = self.weight[part] * self.inverse
        torch.addcmul(self.bias[part] - mean * self.scale, self.x, self.scale, out=result.view(self.x.shape))
        return result

    def backward(self, slope: Tensor, part: slice) -> Tensor:
        rows = slope.view(self.x.shape)
        n = rows.shape[1]
        product = self.shared.get("product", *rows.shape)
        mean = matmul(self.mean_row, rows)
        along = matmul(self.mean_row, torch.mul(rows, self.x, out=product)) - self.centre * mean
        along *= self.inverse  # mean of the gradient times the normalised data
        torch.mul(mean, n, out=self.bias_slope[part])
        torch.mul(along, n, out=self.weight_slope[part])
        # scale (rows - mean - normalised along), with the normalised data written as inverse (x - centre)
        factor = -self.scale * self.inverse * along
        torch.addcmul(-self.scale * mean - factor * self.centre, self.x, factor, out=self.x)
        return torch.addcmul(self.x, rows, self.scale, out=rows).view(slope.shape)


class _ReLU:
    def __init__(self, modules: Sequence[nn.ReLU], take: Take, shared: _Memory, first: bool) -> None:
        pass

    def write(self) -> None:
        pass

    def forward(self, x: Tensor, part: slice) -> Tensor:
        self.result = x.relu_()
        return self.result

    def backward(self, slope: Tensor, part: slice) -> Tensor:
        return torch.ops.aten.threshold_backward.grad_input(slope, self.result, 0, grad_input=self.result)


class _Mean:
    def __init__(self, modules: Sequence[nn.Module], take: Take, shared: _Memory, first: bool) -> None:
        pass

    def write(self) -> None:
        pass

    def forward(self, x: Tensor, part: slice) -> Tensor:
        self.shape = x.shape
        return x.mean((2, 3))

    def backward(self, slope: Tensor, part: slice) -> Tensor:
        return (slope / self.shape[2:4].numel())[:, :, None, None].expand(self.shape)


class _Linear:
    def __init__(self, modules: Sequence[nn.Linear], take: Take, shared: _Memory, first: bool) -> None:
        self.modules, self.own = modules, _Memory(shared.like)
        self.weight, self.slope = take(modules[0].in_features, modules[0].out_features)
        self.bias: Tensor | None = None
        self.weight.copy_(torch.stack([module.weight.T for module in modules]))
        if modules[0].bias is not None:
            bias, self.bias_slope = take(1, modules[0].out_features)
            self.bias = bias.copy_(torch.stack([module.bias for module in modules])[:, None])

    def write(self) -> None:
        for i, module in enumerate(self.modules):
            module.weight.copy_(self.weight[i].T)
            if self.bias is not None:
                module.bias.copy_(self.bias[i, 0])

    def forward(self, x: Tensor, part: slice) -> Tensor:
        self.x = x
        result = matmul(x, self.weight[part], out=self.own.get("result", *x.shape[:2], self.weight.shape[2]))
        return result if self.bias is None else result.add_(self.bias[part])

    def backward(self, slope: Tensor, part: slice) -> Tensor:
        matmul(self.x.mT, slope, out=self.slope[part])
        if self.bias is not None:
            self.bias_slope[part] = slope.sum(1, keepdim=True)
        return matmul(slope, self.weight[part].mT, out=self.own.get("slope", *self.x.shape))


LAYERS: dict[type[nn.Module], Callable[..., Any] | None] = {
    nn.Unflatten: None,
    nn.Flatten: None,
    nn.Conv2d: _Convolution,
    nn.BatchNorm2d: _BatchNorm,
    nn.ReLU: _ReLU,
    nn.AdaptiveAvgPool2d: _Mean,
    nn.Linear: _Linear,
}  # None: only shapes change
