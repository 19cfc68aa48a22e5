"""Locally elastic stochastic differential equations (Zhang, Wang and Su 2021), and LeNets to hold them against.

A step of training on a sample of class l moves the features (here: logits) of class k by alpha(t) if k = l and by
beta(t) if not. With X_k the mean of class k, E = alpha on the diagonal and beta off it, and H one of two choices,

    dX_k / dt = (1/K) sum_l E_kl H_l X_l    (LE-ODE),    plus sigma dW for every sample (LE-SDE).

    I-model: H_l = 1.    L-model: H_l = d_l d_l' / |d_l|², d_l = e_l - 1/K: only what tells class l counts.

A and B are the integrals of alpha and beta. Letters: K classes, s trials or paths, n samples, t times, d features.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from scipy.integrate import solve_ivp
from scipy.signal import savgol_filter
from torch import Tensor

from phenomena.science import datasets, linalg

Model = Literal["I", "L"]

# --- the equation in closed form --------------------------------------------------------------------------------------


def integrated_power(t: Tensor, r: float | Tensor, scale: float | Tensor = 1.0) -> Tensor:
    """Integral of scale u^-r over u from 1 to t: scale (t^(1-r) - 1) / (1 - r), and scale log t at r = 1."""
    x = (1 - torch.as_tensor(r, dtype=t.dtype)) * t.log()
    growth = torch.where(x == 0, 1.0, torch.expm1(x) / torch.where(x == 0, 1.0, x))
    return scale * t.log() * growth


def targets(classes: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """The vectors d_l = e_l - 1/K of the L-model as rows, (K, K): corners of a simplex.

    Raises `ValueError` for K < 2.
    """
    if classes < 2:
        raise ValueError(f"{classes} classes: 2 or more are accepted")
    return torch.eye(classes, dtype=dtype) - 1 / classes


def i_model(x0: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Class means of the I-model: X_k = c_0 exp((A + (K-1) B) / K) + c_k exp((A - B) / K).

    c_0 is the mean over classes of x0 and c_k the rest. x0: float (..., K, d); a, b: A(t), B(t), float (t,).
    Returns (..., t, K, d). Raises `ValueError` for K < 2.
    """
    k = len(targets(x0.shape[-2]))
    x0 = x0.unsqueeze(-3)
    common = x0.mean(-2, keepdim=True)
    a, b = a[:, None, None], b[:, None, None]
    return common * ((a + (k - 1) * b) / k).exp() + (x0 - common) * ((a - b) / k).exp()


def l_model(x0: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Class means of the L-model, exact where beta / alpha is constant within each interval of the grid.

    The scores z_k = d_k . X_k obey an equation of their own: their mean grows as exp((A - B) / K), what is left as
    exp((A + B / (K-1)) / K). Then X_k = x0_k + 1/(K-1) sum_l integral of E_kl z_l, times d_l.

    x0: float (..., K, K); a, b: A(t), B(t), float (t,), starting at 0. Returns (..., t, K, K).
    Raises `ValueError` for K < 2 or x0 without K features.
    """
    d = targets(x0.shape[-2], x0.dtype)
    k = len(d)
    if x0.shape[-1] != k:
        raise ValueError(f"x0 has {x0.shape[-1]} features, the L-model needs as many as classes: {k}")
    z = (x0 * d).sum(-1).unsqueeze(-2)  # (..., 1, K)
    mean = z.mean(-1, keepdim=True)
    along, across = ((a - b) / k).unsqueeze(1), ((a + b / (k - 1)) / k).unsqueeze(1)  # (t, 1)
    # integral of z over an interval, a step of length 1 in each: z at its start times (e^x - 1) / x
    z = mean * along[:-1].exp() * _slope(along.diff(dim=0)) + (z - mean) * across[:-1].exp() * _slope(
        across.diff(dim=0)
    )
    own, total = (a - b).diff().unsqueeze(1) * z, b.diff().unsqueeze(1) * z  # (..., t - 1, K)
    moves = (own.unsqueeze(-1) * d + (total @ d).unsqueeze(-2)) / (k - 1)
    return x0.unsqueeze(-3) + F.pad(moves.cumsum(-3), (0, 0, 0, 0, 1, 0))


def _slope(x: Tensor) -> Tensor:
    return torch.where(x == 0, 1.0, torch.expm1(x) / torch.where(x == 0, 1.0, x))


def drift(x: Tensor, alpha: float | Tensor, beta: float | Tensor, model: Model) -> Tensor:
    """(1/K) sum_l E_kl H_l X_l, the right-hand side. x: float (..., K, d). Returns the shape of x."""
    k = x.shape[-2]
    if model == "L":
        d = targets(k, x.dtype)
        x = (x * d).sum(-1, keepdim=True) * d * (k / (k - 1))  # H_l X_l
    return ((alpha - beta) * x + beta * x.sum(-2, keepdim=True)) / k


def integrate(
    x0: Tensor, alpha: Callable[[float], float], beta: Callable[[float], float], t: Tensor, model: Model
) -> Tensor:
    """The LE-ODE by SciPy's DOP853: what `i_model` and `l_model` say in closed form, for any impacts.

    x0: float64 (K, d) at t[0]; t: float64 (t,). Returns (t, K, d). Raises `FloatingPointError` when it fails.
    """

    def right(u: float, x: np.ndarray) -> np.ndarray:
        return drift(torch.from_numpy(x).view_as(x0), alpha(u), beta(u), model).flatten().numpy()

    span = float(t[0]), float(t[-1])
    found = solve_ivp(right, span, x0.flatten().numpy(), "DOP853", t.numpy(), rtol=1e-10, atol=1e-12)
    if not found.success:
        raise FloatingPointError(f"the integration of the LE-ODE stopped: {found.message}")
    return torch.from_numpy(found.y.T.copy()).view(len(t), *x0.shape)


# --- the stochastic equation ------------------------------------------------------------------------------------------


def simulate(
    x0: Tensor, a: Tensor, b: Tensor, t: Tensor, sigma: float, samples: int, generator: torch.Generator, model: Model
) -> Tensor:
    """Class means along paths of the LE-SDE, all paths at once (Euler and Maruyama, with integrated impacts).

    Every sample has noise of its own; the mean of n of them has sigma / sqrt(n), and the samples' distances from
    their mean are Brownian, independent of the means: `separated` adds them at the end.

    x0: float64 (s, K, d); a, b: A(t), B(t) on the grid t, float64 (t,). Returns (s, t, K, d).
    Raises `ValueError` when a step is so long that a mode would more than double or change its sign.
    """
    k = len(targets(x0.shape[-2]))
    da, db = a.diff(), b.diff()
    second = da + (k - 1) * db if model == "I" else da + db / (k - 1)
    largest = float(torch.stack([da - db, second]).abs().max()) / k
    if largest > 1:
        raise ValueError(
            f"a step of the SDE multiplies a mode by 1 ± {largest:.3g}, at most 1 ± 1 is accepted: "
            f"take {math.ceil(2 * largest)} times as many steps"
        )
    noise = sigma * (t.diff() / samples).sqrt()
    path = [x0]
    for alpha, beta, size in zip(da, db, noise, strict=True):
        x = path[-1]
        path.append(x + drift(x, alpha, beta, model) + size * torch.randn(x.shape, generator=generator, dtype=x.dtype))
    return torch.stack(path, 1)


def separated(means: Tensor, spread: float | Tensor, samples: int, generator: torch.Generator) -> Tensor:
    """Whether all samples are nearest to the mean of their own class.

    means: float (..., K, d); spread: standard deviation of a sample about its class mean, broadcast to (...);
    the cloud of n = `samples` is centred, for its mean is in `means`. Returns bool (...).
    """
    *batch, k, d = means.shape
    cloud = torch.randn(*batch, k, samples, d, generator=generator, dtype=means.dtype)
    cloud -= cloud.mean(-2, keepdim=True)
    spread = torch.as_tensor(spread, dtype=means.dtype)[..., None, None, None]
    points = (means.unsqueeze(-2) + spread * cloud).flatten(-3, -2)  # (..., K n, d)
    nearest = torch.cdist(points, means).argmin(-1).unflatten(-1, (k, samples))
    return (nearest == torch.arange(k)[:, None]).all(-1).all(-1)


def exact_separation(
    gap: Tensor, t: Tensor, x0: Tensor, sigma: float, samples: int, generator: torch.Generator
) -> Tensor:
    """Draws from the exact law of the I-model at the last time: separated or not, without steps and overflow.

    The class means' distance from their common mean is Gaussian: with G = (A - B) / K, its mean is x0 exp(G(T)) and
    its variance (sigma²/n) integral of exp(2 G(T) - 2 G(u)) du; a sample's variance about its class mean is
    sigma² (T - t_0). All three are divided by the largest, which changes no comparison.

    gap: A - B on the grid t, float64 (cells, t); x0: float64 (s, K, d). Returns bool (cells, s).
    """
    g = gap / x0.shape[1]
    g = g[:, -1:] - g
    middle, width = (g[:, 1:] + g[:, :-1]), t.diff().log()  # 2 G at the middle of each interval
    log_noise = 0.5 * torch.logsumexp(middle + width, 1) + math.log(sigma / samples**0.5)
    log_cloud = 0.5 * (t[-1] - t[0]).log() + math.log(sigma)
    logs = torch.stack([g[:, 0], log_noise, log_cloud.expand(len(g))])
    signal, noise, cloud = (logs - logs.max(0).values).exp()[:, :, None]  # (cells, 1) each
    x0 = x0 - x0.mean(1, keepdim=True)
    shock = torch.randn(len(gap), *x0.shape, generator=generator, dtype=x0.dtype)
    shock -= shock.mean(2, keepdim=True)
    means = signal[..., None, None] * x0 + noise[..., None, None] * shock
    return separated(means, cloud.expand(-1, len(x0)), samples, generator)


# --- impacts estimated from a record of class means -------------------------------------------------------------------


def estimate(means: Tensor, model: Model) -> tuple[Tensor, Tensor]:
    """A(t) and B(t) of the model that explains recorded class means; both 0 at the first time.

    I-model: with m the mean over classes and, averaged over classes and features, M = log |m / m(0)| and
    D = log |(X_k - m) / (X_k - m)(0)|: A = M + (K-1) D, B = M - D. L-model: with P = K log of the growth of the mean
    score and Q = K times the average log growth of the scores' distances from it: A = (P + (K-1) Q) / K,
    B = (K-1) (Q - P) / K. Both invert the closed forms above and equal the official code's at K = 3.

    means: float (..., t, K, K). Returns two (..., t). Raises `ValueError` for K < 2 or other than K features.
    """
    d = targets(means.shape[-2], means.dtype)
    k = len(d)
    if means.shape[-1] != k:
        raise ValueError(f"the means have {means.shape[-1]} features, expected as many as classes: {k}")
    if model == "I":
        common = means.mean(-2, keepdim=True)
        m, rest = _growth(common), _growth(means - common)
        return m + (k - 1) * rest, m - rest
    z = (means * d).sum(-1)
    mean = z.mean(-1, keepdim=True)
    p, q = k * _growth(mean.unsqueeze(-1)), k * _growth((z - mean).unsqueeze(-1))
    return (p + (k - 1) * q) / k, (k - 1) * (q - p) / k


def _growth(x: Tensor) -> Tensor:
    """Mean over the last two axes of log |x(t) / x(0)|. A zero is kept finite: it is a change of sign between looks."""
    logs = x.abs().clamp(min=torch.finfo(x.dtype).tiny).log()
    return (logs - logs[..., :1, :, :]).mean((-2, -1))


def derivative(a: Tensor, window: int, every: int) -> Tensor:
    """alpha(t) from A(t): Savitzky and Golay's derivative of order 2, as in the official code.

    a: float (..., t), one value every `every` steps; window: in steps, cut to an odd number of values.
    Raises `ValueError` for a window longer than the record or shorter than three values.
    """
    count = window // every
    count -= 1 - count % 2
    if not 3 <= count <= a.shape[-1]:
        raise ValueError(
            f"a window of {window} steps is {count} values, one every {every}: 3 to {a.shape[-1]} are accepted"
        )
    return torch.from_numpy(savgol_filter(a.numpy(), count, 2, deriv=1, delta=every))


class TailIndex(NamedTuple):
    """r (...), its standard deviation within the window (...), and where it must not be read as a rate: bool (...)."""

    r: Tensor
    spread: Tensor
    marked: Tensor


def tail_index(a: Tensor, t: Tensor, last: float) -> TailIndex:
    """r = 1 - mean of log |A(t)| / log t over the last `last` steps: A(t) then grows like t^(1-r).

    Near A = 0 the logarithm says nothing, and below 1 it is negative and makes r > 1 by itself: r is marked where |A|
    is below 1 or A changes its sign within the window. |A| also hides a sign that stays: see A itself.
    a: float (..., t); t: float (t,). Raises `ValueError` when the window is longer than the record.
    """
    inside = t > t[-1] - last
    if last > t[-1] - t[0] or t[inside].min() <= 1:
        raise ValueError(f"a window of {last} steps is longer than the record of {float(t[-1] - t[0]):g} after step 1")
    a = a[..., inside]
    r = 1 - a.abs().clamp(min=torch.finfo(a.dtype).tiny).log() / t[inside].log()
    near = (a.abs() < 1) | (a.sign() != a[..., -1:].sign())
    return TailIndex(r.mean(-1), r.std(-1, correction=0), near.any(-1))


def choose(data: datasets.Dataset, classes: int, train: int, test: int, generator: torch.Generator) -> datasets.Dataset:
    """`train` and `test` images of each of the first `classes` classes, drawn without replacement, padded to 32 x 32.

    Raises `ValueError` for more classes or images than there are, or images larger than 32 x 32.
    """
    if not 2 <= classes <= data.classes:
        raise ValueError(f"{classes} classes: 2 to {data.classes} are accepted")
    h, w = data.x_train.shape[-2:]
    if data.x_train.dim() != 4 or max(h, w) > 32:
        raise ValueError(f"images of shape {tuple(data.x_train.shape[1:])}: (c, h, w) up to 32 x 32 is accepted")
    parts = []
    for x, y, wanted in ((data.x_train, data.y_train, train), (data.x_test, data.y_test, test)):
        rows = []
        for k in range(classes):
            there = (y == k).nonzero().squeeze(1)
            if not 0 < wanted <= len(there):
                raise ValueError(f"{wanted} images of class {k} asked for, 1 to {len(there)} are there")
            rows.append(there[torch.randperm(len(there), generator=generator)[:wanted]])
        chosen = torch.cat(rows)
        left, top = (32 - w) // 2, (32 - h) // 2
        parts.append((F.pad(x[chosen], (left, 32 - w - left, top, 32 - h - top)), y[chosen]))
    return datasets.Dataset(*parts[0], *parts[1], classes)


# --- many LeNets, one sample a step -----------------------------------------------------------------------------------

# name -> shape of one network's parameter, for c channels of 32 x 32 and K classes
Net = dict[str, Tensor]


def lenet(seeds: int, channels: int, classes: int, generator: torch.Generator) -> Net:
    """Random LeNets: conv 6@5, pool, conv 16@5, pool, 400-120-84-K, uniform in ±1/sqrt(fan-in) (PyTorch's law).

    Returns float32 tensors with a leading axis of networks (s, ...). Raises `ValueError` for counts out of range.
    """
    if min(seeds, channels) < 1 or classes < 2:
        raise ValueError(f"seeds {seeds} and channels {channels} must be 1 or more, classes {classes} 2 or more")
    shapes = {"conv1": (6, channels, 5, 5), "conv2": (16, 6, 5, 5), "fc1": (120, 400), "fc2": (84, 120)}
    net = {}
    for name, shape in (shapes | {"fc3": (classes, 84)}).items():
        bound = math.prod(shape[1:]) ** -0.5
        for part, size in ((name, shape), (f"{name}_bias", shape[:1])):
            net[part] = bound * (2 * torch.rand(seeds, *size, generator=generator) - 1)
    return net


def logits(net: Net, x: Tensor) -> Tensor:
    """Outputs of every network on the same images. x: float (n, c, 32, 32). Returns (s, n, K)."""
    return torch.stack([_logits(dict(zip(net, row, strict=True)), x) for row in zip(*net.values(), strict=True)])


def _logits(one: Net, x: Tensor) -> Tensor:
    for name in ("conv1", "conv2"):
        x = F.max_pool2d(F.conv2d(x, one[name], one[f"{name}_bias"]), 2).relu()
    x = x.flatten(1)
    for name in ("fc1", "fc2"):
        x = F.linear(x, one[name], one[f"{name}_bias"]).relu()
    return F.linear(x, one["fc3"], one["fc3_bias"])


class Record(NamedTuple):
    """What training leaves: the networks, the logits (s, t, K) of each step's sample before the step, and, at the
    `times` int64 (looks,) counted in steps, what the networks say of the observed images, (s, looks, m, K).
    """

    net: Net
    seen: Tensor
    times: Tensor
    looks: Tensor


def train_readable(
    net: Net, x: Tensor, labels: Tensor, order: Tensor, *, lr: float, every: int, observed: Tensor
) -> Record:
    """What `train` computes, one network after another, by autograd."""
    _check(net, x, labels, order, lr, every)
    ends, seen, looks = [], [], []
    times = _times(order.shape[1], every)
    for i in range(len(order)):
        one = {name: p[i].clone().requires_grad_() for name, p in net.items()}
        for step, row in enumerate([*order[i].tolist(), None]):
            if step in times:
                looks.append(_logits(one, observed).detach())
            if row is not None:
                output = _logits(one, x[row : row + 1])
                seen.append(output.detach()[0])
                loss = F.cross_entropy(output, labels[i, row : row + 1])
                slopes = torch.autograd.grad(loss, list(one.values()))
                with torch.no_grad():
                    for p, slope in zip(one.values(), slopes, strict=True):
                        p.sub_(slope, alpha=lr)
        ends.append([p.detach() for p in one.values()])
    stacked = {name: torch.stack(p) for name, p in zip(net, zip(*ends, strict=True), strict=True)}
    s, t = order.shape
    return Record(stacked, torch.stack(seen).view(s, t, -1), times, torch.stack(looks).unflatten(0, (s, len(times))))


def _times(steps: int, every: int) -> Tensor:
    return torch.tensor([*range(0, steps, every), steps])


def _check(net: Net, x: Tensor, labels: Tensor, order: Tensor, lr: float, every: int) -> None:
    channels = net["conv1"].shape[2]
    if x.shape[1:] != (channels, 32, 32):
        raise ValueError(f"images of shape {tuple(x.shape[1:])}: {(channels, 32, 32)} is accepted")
    if labels.shape != (len(order), len(x)) or len(order) != len(net["conv1"]):
        raise ValueError(
            f"{len(net['conv1'])} networks need labels {(len(order), len(x))} and order with as many rows; "
            f"they have {tuple(labels.shape)} and {tuple(order.shape)}"
        )
    if not lr > 0 or every < 1:
        raise ValueError(f"lr {lr} must be positive and every {every} 1 or more")


@np.errstate(over="ignore", invalid="ignore")  # networks that diverge are told by their logits
@torch.no_grad()
def train(net: Net, x: Tensor, labels: Tensor, order: Tensor, *, lr: float, every: int, observed: Tensor) -> Record:
    """Stochastic gradient descent with one sample a step on the cross-entropy, all networks at once.

    net: s networks, left as they are; x: float (n, c, 32, 32), shared; labels: int64 (s, n); order: int64 (s, t),
    which row each network sees at each step; observed: float (m, c, 32, 32), looked at every `every` steps.

    Every gradient is written out. A 5x5 convolution and the 2x2 pooling after it are one 6x6 window with stride 2
    and four shifted kernels: the four are rows of one product, and the maximum runs over them. Ties go to the first,
    as in PyTorch (the black ground is full of them).

    Raises `ValueError` for shapes that do not fit, `FloatingPointError` when training diverges.
    """
    _check(net, x, labels, order, lr, every)
    s, steps = order.shape
    channels, classes = net["conv1"].shape[2], net["fc3"].shape[1]
    net = {name: p.clone() for name, p in net.items()}
    fc = [(net[name], net[f"{name}_bias"].unsqueeze(2)) for name in ("fc1", "fc2", "fc3")]
    w1, w2 = net["conv1"].view(s * 6 * channels, 25), net["conv2"].view(s, 16, 150)
    windows = x.unfold(2, 6, 2).unfold(3, 6, 2).permute(0, 1, 4, 5, 2, 3).reshape(len(x), channels * 36, 196)
    shifts = _shifted_kernels().to(x)  # (25, 4 * 36)
    wanted = F.one_hot(labels.gather(1, order), classes).to(x)  # (s, t, K)
    new = x.new_empty
    patch, z1, g1 = new(s, channels * 36, 196), new(s, 24, 196), new(s, 24, 196)
    z2, g2 = new(s, 16, 4, 25), new(s, 16, 4, 25)
    patch2, inner2, sums2, back2 = new(s, 150, 136), new(s, 150, 136), new(s, 16, 136), x.new_zeros(s, 16, 136)
    slope2 = new(s, 150, 16)
    sums, parts = new(s, 6, 196), inner2.view(s, 6, 25, 136)
    starts = [14 * i + j for i in range(5) for j in range(5)]
    runs = [(sums[:, :, o : o + 136], parts[:, :, i]) for i, o in enumerate(starts)]
    seen, times, looks = new(s, steps, classes), _times(steps, every), []
    for step in range(steps):
        if step % every == 0:
            looks.append(logits(net, observed))
        rows = order[:, step]
        # forward
        torch.index_select(windows, 0, rows, out=patch)
        kernels = (w1 @ shifts).view(s, 6, channels, 4, 36).transpose(2, 3).reshape(s, 24, channels * 36)
        maps, first = _pool(linalg.matmul(kernels, patch, z1).view(s, 6, 4, 196))
        maps.add_(net["conv1_bias"].unsqueeze(2)).relu_()  # (s, 6, 14 * 14)
        # rows of 14 stay whole, so that each of 25 shifts is one run of 136; four columns in 14 are not used
        patch2.view(s, 6, 5, 5, 136).copy_(maps.as_strided((s, 6, 5, 5, 136), (1176, 196, 14, 1, 1)))
        z2.view(s, 16, 2, 2, 5, 5).copy_(_quarters(linalg.matmul(w2, patch2, sums2)))
        small, second = _pool(z2)
        hidden = [small.add_(net["conv2_bias"].unsqueeze(2)).relu_().view(s, 400, 1)]
        for w, bias in fc:
            hidden.append(linalg.matmul(w, hidden[-1], None).add_(bias))
            if w is not fc[-1][0]:
                hidden[-1].relu_()
        output = hidden.pop().squeeze(2)
        seen[:, step] = output
        # backward; the step length is in here, once for all
        g = (torch.softmax(output, 1) - wanted[:, step]).mul_(-lr).unsqueeze(2)
        for (w, bias), h in zip(reversed(fc), reversed(hidden), strict=True):
            before = linalg.matmul(w.transpose(1, 2), g, None).mul_(h.sign())
            w.addcmul_(g, h.transpose(1, 2))
            bias.add_(g)
            g = before
        g = g.view(s, 16, 25)
        net["conv2_bias"].add_(g.sum(2))
        _quarters(back2).copy_(_unpool(g, second, g2).view(s, 16, 2, 2, 5, 5))
        linalg.matmul(w2.transpose(1, 2), back2, inner2)
        w2.add_(linalg.matmul(patch2, back2.transpose(1, 2), slope2).transpose(1, 2))
        sums.zero_()
        for run, part in runs:
            run.add_(part)
        g = sums.mul_(maps.sign_())
        net["conv1_bias"].add_(g.sum(2))
        _unpool(g, first, g1.view(s, 6, 4, 196))
        inner = linalg.matmul(g1, patch.transpose(1, 2), None).view(s, 6, 4, channels, 36)
        w1.add_(inner.transpose(2, 3).reshape(s * 6 * channels, 144) @ shifts.T)
    looks.append(logits(net, observed))
    lost = int((~looks[-1].isfinite()).flatten(1).any(1).sum())
    if lost:
        raise FloatingPointError(f"{lost} of {s} networks diverged within {steps} steps: lower lr (now {lr})")
    return Record(net, seen, times, torch.stack(looks, 1))


def _shifted_kernels() -> Tensor:
    """(25, 4 * 36): puts a 5x5 kernel into a 6x6 window at each of the four places that are pooled."""
    places = torch.zeros(5, 5, 2, 2, 6, 6)
    for i in range(5):
        for j in range(5):
            for p in range(2):
                for q in range(2):
                    places[i, j, p, q, i + p, j + q] = 1
    return places.view(25, 144)


def _quarters(rows: Tensor) -> Tensor:
    """The four pooled places apart: (s, 16, 136), rows of 14, seen as (s, 16, 2, 2, 5, 5)."""
    return rows.as_strided((len(rows), 16, 2, 2, 5, 5), (16 * 136, 136, 14, 1, 28, 2))


def _pool(z: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Maximum over axis 2 of (s, maps, 4, places), and which it was: three comparisons as 0 or 1."""
    upper, lower = torch.maximum(z[:, :, 0], z[:, :, 1]), torch.maximum(z[:, :, 2], z[:, :, 3])
    pairs = (z[:, :, 0], z[:, :, 1]), (z[:, :, 2], z[:, :, 3]), (upper, lower)
    which = [torch.ge(a, b, out=torch.empty_like(upper)) for a, b in pairs]
    return torch.maximum(upper, lower), which


def _unpool(g: Tensor, which: list[Tensor], out: Tensor) -> Tensor:
    """The gradient (s, maps, places) of the maximum goes to the place that held it: (s, maps, 4, places)."""
    upper = g * which[2]
    for start, part, left in ((0, upper, which[0]), (2, g - upper, which[1])):
        torch.mul(part, left, out=out[:, :, start])
        torch.sub(part, out[:, :, start], out=out[:, :, start + 1])
    return out


def class_means(looks: Tensor, labels: Tensor) -> Tensor:
    """Mean logits of each class: looks (s, t, m, K), labels int64 (m,) of the images. Returns (s, t, K, K).

    Raises `ValueError` when a class has no image.
    """
    groups = F.one_hot(labels, looks.shape[-1]).to(looks)
    if not bool(groups.any(0).all()):
        raise ValueError(f"classes without an observed image: {(~groups.bool().any(0)).nonzero().flatten().tolist()}")
    return torch.einsum("stmk,mc->stck", looks, groups / groups.sum(0))


def grouped(seen: Tensor, labels: Tensor, classes: int, window: int) -> Tensor:
    """Mean logits of the training samples by their label, within windows of steps.

    seen: (s, t, K), each step's logits; labels: int64 (s, t), each step's label, true or corrupted.
    Returns (s, t // window, K, K); nan where a class was not seen. Raises `ValueError` for a window out of range.
    """
    if not 1 <= window <= seen.shape[1]:
        raise ValueError(f"a window of {window} steps: 1 to {seen.shape[1]}, the length of the record, are accepted")
    count = seen.shape[1] // window
    seen, labels = (v[:, : count * window].unflatten(1, (count, window)) for v in (seen, labels))
    groups = F.one_hot(labels, classes).to(seen)  # (s, count, window, K)
    return groups.transpose(2, 3) @ seen / groups.sum(2).unsqueeze(3)


def direct(net: Net, x: Tensor, labels: Tensor, lr: float) -> Tensor:
    """How far one step on a sample of class l moves samples of class k, relative to how far it moves its own sample.

    As the relative similarity of He and Su (2020), but signed: the change of the logits is projected on d_l, the
    direction in which the step is meant to move, at x' and at x. 1: every image moves as the one that was seen; 0: no
    other does. Computed in double precision, for steps on images that are already known are tiny.
    x: float (m, c, 32, 32), two or more a class; labels: int64 (m,). Returns the mean over pairs of different images,
    float64 (s, K, K), row k, column l. Raises `ValueError` for fewer than two images a class.
    """
    m, classes = len(x), net["fc3"].shape[1]
    x = x.double()
    groups = F.one_hot(labels, classes).to(x)
    if bool((groups.sum(0) < 2).any()):
        raise ValueError(f"images a class {groups.sum(0).int().tolist()}: 2 or more are accepted")
    pairs = groups.T @ (1 - torch.eye(m).to(x)) @ groups  # how many, without a sample and itself
    tables = []
    for i in range(len(net["conv1"])):
        copies = {name: p[i : i + 1].double().repeat(m, *[1] * (p.dim() - 1)) for name, p in net.items()}
        order = torch.arange(m).unsqueeze(1)  # copy j takes one step on image j
        looks = train(copies, x, labels.expand(m, m), order, lr=lr, every=1, observed=x).looks
        change = torch.einsum("jmk,jk->mj", looks[:, 1] - looks[:, 0], targets(classes)[labels])
        relative = (change / change.diagonal()).fill_diagonal_(0)
        tables.append(groups.T @ relative @ groups / pairs)
    return torch.stack(tables)
