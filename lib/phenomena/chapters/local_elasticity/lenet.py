"""LeNets trained one image a step: many at once with every gradient written out, beside a readable twin in autograd.

Letters: s networks, n images, c channels, K classes, t steps, m observed images.
"""

import math
from collections.abc import Collection
from functools import cache
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from phenomena.chapters.local_elasticity.theory import targets
from phenomena.science.linalg import matmul

# name -> parameter of every network; for images of c channels, 32 x 32, and K classes
Net = dict[str, Float[Tensor, "s ..."]]


def initialise(networks: int, channels: int, classes: int, generator: torch.Generator) -> Net:
    """Random LeNets: conv 6@5, pool, conv 16@5, pool, 400-120-84-K, uniform in ±1/sqrt(fan-in) (PyTorch's law).

    In single precision. Raises `ValueError` for counts out of range.
    """
    if min(networks, channels) < 1 or classes < 2:
        raise ValueError(f"networks {networks} and channels {channels} must be 1 or more, classes {classes} 2 or more")
    shapes = {"conv1": (6, channels, 5, 5), "conv2": (16, 6, 5, 5), "fc1": (120, 400), "fc2": (84, 120)}
    net = {}
    for name, shape in (shapes | {"fc3": (classes, 84)}).items():
        bound = math.prod(shape[1:]) ** -0.5
        for part, size in ((name, shape), (f"{name}_bias", shape[:1])):
            net[part] = bound * (2 * torch.rand(networks, *size, generator=generator) - 1)
    return net


@torch.no_grad()
def logits(net: Net, x: Float[Tensor, "n c 32 32"]) -> Float[Tensor, "s n K"]:
    """Outputs of every network on the same images, without gradients."""
    n, outputs = len(x), []
    windows = _windows(x).movedim(0, 3).reshape(-1, n * 196)
    for kernels, row in zip(_placed(net["conv1"]), zip(*net.values(), strict=True), strict=True):
        one = dict(zip(net, row, strict=True))
        z = (kernels @ windows).view(6, 2, 2, n * 196).amax((1, 2)).add_(one["conv1_bias"].unsqueeze(1)).relu_()
        z = F.conv2d(z.view(6, n, 14, 14).transpose(0, 1), one["conv2"], one["conv2_bias"])
        z = torch.maximum(z[:, :, 0::2], z[:, :, 1::2])  # max_pool2d takes three times as long as the convolution
        z = torch.maximum(z[:, :, :, 0::2], z[:, :, :, 1::2]).relu_().flatten(1)
        outputs.append(_linear(one, z))
    return torch.stack(outputs)


def _logits(one: dict[str, Tensor], x: Tensor) -> Tensor:
    for name in ("conv1", "conv2"):
        x = F.max_pool2d(F.conv2d(x, one[name], one[f"{name}_bias"]), 2).relu()
    return _linear(one, x.flatten(1))


def _linear(one: dict[str, Tensor], x: Tensor) -> Tensor:
    for name in ("fc1", "fc2"):
        x = F.linear(x, one[name], one[f"{name}_bias"]).relu()
    return F.linear(x, one["fc3"], one["fc3_bias"])


class History(NamedTuple):
    """What training leaves."""

    net: Net
    """The networks at the end."""
    seen: Float[Tensor, "s t K"]
    """Logits of each step's image, before the step."""
    times: Int[Tensor, " checkpoints"]
    """Checkpoints, in steps."""
    observed: Float[Tensor, "s checkpoints m K"]
    """Logits of the observed images at each of them."""
    kept: dict[int, Net]
    """The networks before the steps of `keep`."""


def train_readable(
    net: Net,
    x: Float[Tensor, "n c h w"],
    labels: Int[Tensor, "networks n"],
    order: Int[Tensor, "runs t"],
    *,
    lr: float,
    every: int,
    observed: Float[Tensor, "m c 32 32"],
    keep: Collection[int] = (),
) -> History:
    """What `train` computes, one network after another, by autograd."""
    _check(net, x, labels, order, lr, every)
    ends, seen, checkpoints = [], [], []
    kept: dict[int, list[list[Tensor]]] = {step: [] for step in keep}
    times = _times(order.shape[1], every)
    for i in range(len(order)):
        one = {name: p[i].clone().requires_grad_() for name, p in net.items()}
        for step, row in enumerate([*order[i].tolist(), None]):
            if step in times:
                checkpoints.append(_logits(one, observed).detach())
            if step in kept:
                kept[step].append([p.detach().clone() for p in one.values()])
            if row is not None:
                output = _logits(one, x[row : row + 1])
                seen.append(output.detach()[0])
                loss = F.cross_entropy(output, labels[i, row : row + 1])
                slopes = torch.autograd.grad(loss, list(one.values()))
                with torch.no_grad():
                    for p, slope in zip(one.values(), slopes, strict=True):
                        p.sub_(slope, alpha=lr)
        ends.append([p.detach() for p in one.values()])

    def stacked(rows: list[list[Tensor]]) -> Net:
        return {name: torch.stack(p) for name, p in zip(net, zip(*rows, strict=True), strict=True)}

    s, t = order.shape
    followed = torch.stack(checkpoints).unflatten(0, (s, len(times)))
    looks = {step: stacked(rows) for step, rows in kept.items()}
    return History(stacked(ends), torch.stack(seen).view(s, t, -1), times, followed, looks)


def _times(steps: int, every: int) -> Tensor:
    return torch.tensor([*range(0, steps, every), steps])


def _check(net: Net, x: Tensor, labels: Tensor, order: Tensor, lr: float, every: int) -> None:
    channels = net["conv1"].shape[2]
    if x.shape[1:] != (channels, 32, 32):
        raise ValueError(f"images of shape {tuple(x.shape[1:])}: must be {(channels, 32, 32)}")
    if labels.shape != (len(order), len(x)) or len(order) != len(net["conv1"]):
        raise ValueError(
            f"{len(net['conv1'])} networks need labels {(len(order), len(x))} and order with as many rows; "
            f"they have {tuple(labels.shape)} and {tuple(order.shape)}"
        )
    if not lr > 0 or every < 1:
        raise ValueError(f"lr {lr} must be positive and every {every} 1 or more")


@np.errstate(over="ignore", invalid="ignore")  # logits show which networks diverge
@torch.no_grad()
def train(
    net: Net,
    x: Float[Tensor, "n c h w"],
    labels: Int[Tensor, "networks n"],
    order: Int[Tensor, "runs t"],
    *,
    lr: float,
    every: int,
    observed: Float[Tensor, "m c 32 32"],
    keep: Collection[int] = (),
) -> History:
    """Stochastic gradient descent with one image a step on the cross-entropy, all networks at once.

    net: the start, left as it is.
    x: images, shared by all networks.
    labels: those that each network is given, one row a network.
    order: the row of x that each network sees at each step.
    observed: images whose logits are noted every `every` steps and at the end.
    keep: steps before which copies of the networks are kept; the number of all steps for the end.

    Every gradient is written out. A 5x5 convolution and the 2x2 pooling after it are one 6x6 window with stride 2
    and four shifted kernels: the four are rows of one product, and the maximum runs over them, first by rows, then by
    columns. Where places tie (the black ground is full of it) their patches are equal, so that it does not matter
    which of them takes the gradient.

    Raises `ValueError` for shapes that do not fit, `FloatingPointError` when training diverges.
    """
    _check(net, x, labels, order, lr, every)
    s, steps = order.shape
    channels, classes = net["conv1"].shape[2], net["fc3"].shape[1]
    net = {name: p.clone() for name, p in net.items()}
    fc = [(net[name], net[f"{name}_bias"].unsqueeze(2)) for name in ("fc1", "fc2", "fc3")]
    w1, w2 = net["conv1"], net["conv2"].view(s, 16, 150)
    bias1, bias2 = net["conv1_bias"].unsqueeze(2), net["conv2_bias"].view(s, 16, 1, 1)
    unplace = _shifts().to(x).T.expand(s, 144, 25)
    wanted = F.one_hot(labels.gather(1, order), classes).to(x)  # (s, t, K)
    new = x.new_empty
    images, patch, z1, maps = new(s, *x.shape[1:]), new(s, channels * 36, 196), new(s, 24, 196), new(s, 6, 196)
    patch2, z2, back2, slope2 = new(s, 150, 136), new(s, 16, 136), x.new_zeros(s, 16, 136), new(s, 150, 16)
    windows, cells1 = _windows(images), z1.view(s, 6, 2, 2, 196)
    windowed = patch.view(windows.shape)
    # rows of 14 stay whole, so that each of 25 shifts is one run of 136; four columns in 14 are not used
    cells2, back_cells2 = (v.as_strided((s, 16, 5, 2, 5, 2), (2176, 136, 28, 14, 2, 1)) for v in (z2, back2))
    shifted = maps.as_strided((s, 6, 5, 5, 136), (1176, 196, 14, 1, 1))
    parts = patch2.view(s, 6, 5, 5, 136)
    runs = [(maps[:, :, 14 * i + j :][:, :, :136], parts[:, :, i, j]) for i in range(5) for j in range(5)]
    seen, times, checkpoints, kept = new(s, steps, classes), _times(steps, every), [], {}
    for step in range(steps):
        if step % every == 0:
            checkpoints.append(logits(net, observed))
        if step in keep:
            kept[step] = {name: p.clone() for name, p in net.items()}
        # forward
        torch.index_select(x, 0, order[:, step], out=images)
        windowed.copy_(windows)
        matmul(_placed(w1), patch, z1)
        first = _pool(cells1, (2, 2), maps)
        active = maps.add_(bias1).relu_().sign()
        parts.copy_(shifted)
        matmul(w2, patch2, z2)
        small = new(s, 16, 5, 5)
        second = _pool(cells2, (3, 4), small)
        hidden = [small.add_(bias2).relu_().view(s, 400, 1)]
        for w, bias in fc:
            hidden.append(matmul(w, hidden[-1]).add_(bias))
            if w is not fc[-1][0]:
                hidden[-1].relu_()
        output = hidden.pop().squeeze(2)
        seen[:, step] = output
        # backward; the step length is in here, once for all
        g = (torch.softmax(output, 1) - wanted[:, step]).mul_(-lr).unsqueeze(2)
        for (w, bias), h in zip(reversed(fc), reversed(hidden), strict=True):
            before = torch.ops.aten.threshold_backward(matmul(w.mT, g), h, 0)
            w.addcmul_(g, h.mT)
            bias.add_(g)
            g = before
        g = g.view(s, 16, 5, 5)
        bias2.add_(g.sum((2, 3), keepdim=True))
        _unpool(g, second, (3, 4), back_cells2)
        matmul(patch2, back2.mT, slope2)
        matmul(w2.mT, back2, patch2)  # patches have done their work: their gradient takes their place
        w2.add_(slope2.mT)
        g = maps.zero_()
        for run, part in runs:
            run.add_(part)
        g.mul_(active)
        bias1.add_(g.sum(2, keepdim=True))
        _unpool(g, first, (2, 2), cells1)
        inner = matmul(z1, patch.mT).view(s, 6, 4, channels, 36).transpose(2, 3).reshape(s, 6 * channels, 144)
        w1.add_(matmul(inner, unplace).view_as(w1))
    checkpoints.append(logits(net, observed))
    lost = int((~checkpoints[-1].isfinite()).flatten(1).any(1).sum())
    if lost:
        raise FloatingPointError(f"{lost} of {s} networks diverged within {steps} steps: lower lr (now {lr})")
    if steps in keep:
        kept[steps] = net
    return History(net, seen, times, torch.stack(checkpoints, 1), kept)


def _windows(x: Float[Tensor, "n c 32 32"]) -> Float[Tensor, "n c 6 6 14 14"]:
    """All 6x6 windows of the images with stride 2, as a view."""
    return x.unfold(2, 6, 2).unfold(3, 6, 2).permute(0, 1, 4, 5, 2, 3)


@cache
def _shifts() -> Tensor:
    """(25, 4 * 36): puts a 5x5 kernel into a 6x6 window at each of the four places that are pooled."""
    places = torch.zeros(5, 5, 2, 2, 6, 6)
    for i, j, p, q in product(range(5), range(5), range(2), range(2)):
        places[i, j, p, q, i + p, j + q] = 1
    return places.view(25, 144)


def _placed(conv1: Float[Tensor, "s 6 c 5 5"]) -> Float[Tensor, "s 24 c*36"]:
    """Each kernel at its four places, as rows."""
    s, maps, channels = conv1.shape[:3]
    shifts = (
        _shifts().to(conv1).expand(s, 25, 144)
    )  # one product a network: its bits do not depend on how many there are
    placed = matmul(conv1.view(s, maps * channels, 25), shifts).view(s, maps, channels, 4, 36)
    return placed.transpose(2, 3).reshape(s, maps * 4, channels * 36)


def _pool(z: Tensor, axes: tuple[int, int], out: Tensor) -> list[Tensor]:
    """Maximum over one axis of two and then another, into `out`; whether the first of two won, as 0 or 1."""
    which = []
    for axis, into in zip(axes, (None, out), strict=True):
        a, b = z.unbind(axis)
        z = torch.maximum(a, b, out=into)
        which.append(torch.ge(a, b, out=torch.empty_like(z)))
    return which


def _unpool(g: Tensor, which: list[Tensor], axes: tuple[int, int], out: Tensor) -> None:
    """The gradient of the maximum goes to the place that held it, into `out`."""
    for axis, first, into in ((axes[1], which[1], torch.empty_like(which[0])), (axes[0], which[0], out)):
        a, b = into.unbind(axis)
        torch.sub(g, torch.mul(g, first, out=a), out=b)
        g = into


def class_means(
    observed: Float[Tensor, "s checkpoints m K"], labels: Int[Tensor, " m"]
) -> Float[Tensor, "s checkpoints K K"]:
    """Mean logits of each class. Raises `ValueError` when a class has no image."""
    groups = F.one_hot(labels, observed.shape[-1]).to(observed)
    if not bool(groups.any(0).all()):
        raise ValueError(f"classes without an observed image: {(~groups.bool().any(0)).nonzero().flatten().tolist()}")
    return torch.einsum("stmk,mc->stck", observed, groups / groups.sum(0))


def grouped(
    seen: Float[Tensor, "s t K"], labels: Int[Tensor, "s t"], classes: int, window: int
) -> Float[Tensor, "s windows K K"]:
    """Mean logits of the training images by their label, true or given, within t // window windows of steps.

    nan where a class was not seen. Raises `ValueError` for a window out of range.
    """
    if not 1 <= window <= seen.shape[1]:
        raise ValueError(f"a window of {window} steps: must be 1 to {seen.shape[1]}, the length of the record")
    count = seen.shape[1] // window
    seen, labels = (v[:, : count * window].unflatten(1, (count, window)) for v in (seen, labels))
    groups = F.one_hot(labels, classes).to(seen)  # (s, count, window, K)
    return groups.transpose(2, 3) @ seen / groups.sum(2).unsqueeze(3)


def direct_elasticity(
    net: Net, x: Float[Tensor, "m c 32 32"], labels: Int[Tensor, " m"], lr: float
) -> Float[Tensor, "s K K"]:
    """How far one step on an image of class l moves images of class k, relative to how far it moves its own image.

    As the relative similarity of He and Su (2020), but signed: the change of the logits is projected on d_l, the
    direction in which the step is meant to move, at x' and at x. 1: every image moves as the one that was seen; 0: no
    other does. Computed in double precision, since steps on images that are already learned are tiny.

    labels: two or more images a class. Returns the mean over pairs of different images, row k, column l.
    Raises `ValueError` for fewer than two images a class.
    """
    m, classes = len(x), net["fc3"].shape[1]
    x = x.double()
    groups = F.one_hot(labels, classes).to(x)
    if bool((groups.sum(0) < 2).any()):
        raise ValueError(f"images a class {groups.sum(0).int().tolist()}: must be 2 or more")
    pairs = groups.T @ (1 - torch.eye(m).to(x)) @ groups  # how many, without a sample and itself
    tables = []
    for i in range(len(net["conv1"])):
        one = {name: p[i : i + 1].double() for name, p in net.items()}
        copies = {name: p.repeat(m, *[1] * (p.dim() - 1)) for name, p in one.items()}
        order = torch.arange(m).unsqueeze(1)  # copy j takes one step on image j
        moved = train(copies, x, labels.expand(m, m), order, lr=lr, every=1, observed=x[:1]).net
        change = torch.einsum("jmk,jk->mj", logits(moved, x) - logits(one, x), targets(classes)[labels])
        relative = (change / change.diagonal()).fill_diagonal_(0)
        tables.append(groups.T @ relative @ groups / pairs)
    return torch.stack(tables)
