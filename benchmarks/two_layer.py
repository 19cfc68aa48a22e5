"""Times five ways to train many two-layer ReLU networks by full-batch gradient descent, interleaved, on one
core.

    python benchmarks/two_layer.py [--rounds 15] [--core 1]

Candidates: a plain torch loop over the networks, `torch.func.vmap`, `bmm` with autograd,
`two_layer.train` of the chapter, and, where JAX is installed (it is no dependency of the project), the
best of four JAX programs (jit and scan over the steps; vmap or map over the networks; the output layer as a
product or as a sum). Every candidate must first reach the same losses; then each round times all of them in
turn, in changing order. A table row gives the median microseconds a step, and the median and the quartiles over
rounds of the ratios to the plain loop and to JAX; "first" is the first call in seconds, compilation included.
"products" are x w and x^T M alone, with the constant feature of the bias, by `linalg.matmul`. With more features than
rows `train` has one smaller product instead; the JAX programs are not written that way.
"""

import argparse
import os
import random
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from phenomena.chapters.tempered_overfitting.two_layer import Networks, initial, train
from phenomena.science import linalg

try:
    import jax
    import jax.numpy as jnp
except ImportError:
    jax = None

#         seeds, d, width, n, steps a call
SIZES = [
    (20, 50, 100, 100, 100),
    (100, 20, 32, 64, 100),
    (20, 50, 1000, 500, 10),
    (20, 50, 200, 500, 20),  # between: 0.4 MB of activations a network
    (1, 50, 100, 100, 400),  # one network: nothing to batch
    (1000, 5, 16, 32, 10),  # tiny networks: only calls and passes
    (4, 500, 400, 100, 40),  # more features than rows
]
LR = 0.1


def plain_loop(net: Networks, x: Tensor, y: Tensor, steps: int) -> Tensor:
    losses = []
    for w, b, v, xs, ys in zip(*net, x, y, strict=True):
        parameters = [p.clone().requires_grad_() for p in (w, b, v)]
        w, b, v = parameters
        for _ in range(steps):
            F.softplus(-ys * (torch.addmm(b, xs, w).relu() @ v)).mean().backward()
            with torch.no_grad():
                for p in parameters:
                    p.sub_(p.grad, alpha=LR)  # type: ignore[arg-type]
                    p.grad = None
        with torch.no_grad():
            losses.append(F.softplus(-ys * (torch.addmm(b, xs, w).relu() @ v)).mean())
    return torch.stack(losses)


def func_vmap(net: Networks, x: Tensor, y: Tensor, steps: int) -> Tensor:
    def loss(p: tuple[Tensor, ...], x: Tensor, y: Tensor) -> Tensor:
        return F.softplus(-y * ((x @ p[0] + p[1]).relu() * p[2]).sum(-1)).mean()

    gradient = torch.func.vmap(torch.func.grad(loss))
    p = tuple(net)
    for _ in range(steps):
        p = tuple(a - LR * g for a, g in zip(p, gradient(p, x, y), strict=True))
    return torch.func.vmap(loss)(p, x, y)


def bmm_autograd(net: Networks, x: Tensor, y: Tensor, steps: int) -> Tensor:
    w, b, v = parameters = [p.clone().requires_grad_() for p in net]

    def losses() -> Tensor:
        hidden = torch.baddbmm(b.unsqueeze(1), x, w).relu()
        return F.softplus(-y * (hidden * v.unsqueeze(1)).sum(-1)).mean(1)

    for _ in range(steps):
        losses().sum().backward()
        with torch.no_grad():
            for p in parameters:
                p.sub_(p.grad, alpha=LR)  # type: ignore[arg-type]
                p.grad = None
    return losses().detach()


def ours(net: Networks, x: Tensor, y: Tensor, steps: int) -> Tensor:
    return train(net, x, y, steps, lr=LR, every=steps).loss


def products(net: Networks, x: Tensor, y: Tensor, steps: int) -> None:
    x, w = torch.cat([x, torch.ones_like(x[:, :, :1])], 2), torch.cat([net.w, net.b.unsqueeze(1)], 1)
    for one, weights in zip(x.split(1), w.split(1), strict=True):
        hidden, sums = x.new_empty(1, x.shape[1], w.shape[2]), torch.empty_like(weights)
        for _ in range(steps):
            linalg.matmul(one, weights, hidden)
            linalg.matmul(one.transpose(1, 2), hidden, sums)


def jax_programs(net: Networks, x: Tensor, y: Tensor, steps: int) -> dict[str, Callable[[], np.ndarray]]:
    """Name -> a call without arguments (data already on JAX's side) that returns the losses."""

    def build(over: str, output: str) -> Callable[[], np.ndarray]:
        def loss(p, x, y):  # type: ignore[no-untyped-def]
            hidden = jax.nn.relu(x @ p[0] + p[1])
            return jax.nn.softplus(-y * (hidden @ p[2] if output == "product" else (hidden * p[2]).sum(-1))).mean()

        def one(p, x, y):  # type: ignore[no-untyped-def]
            def step(p, _):  # type: ignore[no-untyped-def]
                return jax.tree.map(lambda a, g: a - LR * g, p, jax.grad(loss)(p, x, y)), None

            p, _ = jax.lax.scan(step, p, None, length=steps)
            return loss(p, x, y)

        program = jax.jit(jax.vmap(one) if over == "vmap" else lambda *a: jax.lax.map(lambda t: one(*t), a))
        arguments = tuple(jnp.asarray(p.numpy()) for p in net), jnp.asarray(x.numpy()), jnp.asarray(y.numpy())
        return lambda: np.asarray(program(*arguments))

    return {f"JAX {over}, {o}": build(over, o) for over in ("vmap", "map") for o in ("product", "sum")}


def compare(s: int, d: int, width: int, n: int, steps: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(s, n, d, generator=generator) / d**0.5
    y = torch.where(torch.rand(s, n, generator=generator) < 0.5, -1.0, 1.0)
    net = initial(s, d, width, generator)
    candidates: dict[str, Callable[[], object]] = {
        f.__name__: lambda f=f: f(net, x, y, steps) for f in (plain_loop, func_vmap, bmm_autograd, ours)
    }
    if jax is not None:
        candidates |= jax_programs(net, x, y, steps)
    first, losses = {}, {}
    for name, call in candidates.items():
        start = time.perf_counter()
        losses[name] = np.asarray(call())
        first[name] = time.perf_counter() - start
    for name, loss in losses.items():
        np.testing.assert_allclose(loss, losses["plain_loop"], rtol=1e-4, err_msg=f"{name} trains to another loss")
    candidates["products"] = lambda: products(net, x, y, steps)
    start = time.perf_counter()
    candidates["products"]()
    first["products"] = time.perf_counter() - start
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for _ in range(rounds):
        random.shuffle(order)
        for name in order:
            start = time.perf_counter()
            candidates[name]()
            seconds[name].append(time.perf_counter() - start)
    jaxes = [name for name in candidates if name.startswith("JAX")]
    best = min(jaxes, key=lambda name: statistics.median(seconds[name]), default=None)
    print(f"\n{s} networks, d {d}, width {width}, n {n}: {4 * n * width / 2**10:.0f} KB of activations each")
    for name in [name for name in candidates if name not in jaxes or name == best]:
        micro = statistics.median(seconds[name]) / steps * 1e6
        ratios = "  ".join(
            f"{ratio(seconds[base], seconds[name])} x {what}"
            for base, what in (("plain_loop", "loop"), (best, "JAX"))
            if base is not None
        )
        print(f"  {name:18} {micro:9.0f} us/step  {ratios}  first {first[name]:.2f} s")


def ratio(base: list[float], seconds: list[float]) -> str:
    """Median over rounds and quartiles."""
    low, median, high = statistics.quantiles((a / b for a, b in zip(base, seconds, strict=True)), n=4)
    return f"{median:6.2f} ({low:.2f} to {high:.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--core", type=int, help="pin to this core")
    parser.add_argument("--sizes", type=int, default=len(SIZES), help="only the first so many sizes")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    random.seed(0)
    if jax is None:
        print("JAX is not installed here (pip install jax): its columns are left out.")
    else:
        print(f"torch {torch.__version__}, jax {jax.__version__}, one thread, {options.rounds} rounds")
    for size in SIZES[: options.sizes]:
        compare(*size, rounds=options.rounds)


if __name__ == "__main__":
    main()
