"""Times five ways to train ten small convolutional networks, interleaved, on one core.

    python benchmarks/stacked.py [--rounds 9] [--steps 30] [--core 0]

Networks of the chapters on benign memorization and Mixup, Adam on cross-entropy. Contenders: `training.train`
(`science.stacked`), its readable twin (autograd, one network after another), `torch.func.vmap` over the networks'
gradients, and where JAX is installed the better of two JAX programs (jit, scan over the steps, vmap over the networks;
convolutions as XLA has them or as products with unfolded patches). All must reach the same losses first. "floor" is the
time of the same matrix products alone, by the faster of torch and NumPy. Rows: median milliseconds a step of one
network, quartiles, and the medians over rounds of the ratios to the loop, to JAX and to the floor.
"""

import argparse
import os
import random
import statistics
import time
import warnings
from collections.abc import Callable

os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1")

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from phenomena.science import networks, stacked, training

try:
    import jax
    import jax.numpy as jnp
except ImportError:
    jax = None

#         name, networks, sample, batch, width, hidden
SIZES = [
    ("benign memorization, signals", 10, (1, 40), 100, 16, 512),
    ("Mixup, images of digits", 10, (1, 8, 8), 100, 16, 128),
    ("neural collapse, images", 10, (1, 14, 14), 60, 8, 1),
    ("images beyond the limit, stacked all the same", 3, (1, 28, 28), 100, 16, 128),
]
CLASSES, LR, DECAY = 10, 4e-3, 1e-2
EQUAL_STEPS = 3  # after which losses are compared; later, rounding parts the paths


def make(s: int, shape: tuple[int, ...], width: int, hidden: int) -> list[nn.Sequential]:
    size = {"width": width, "depth": 4, "hidden": hidden}
    return [networks.encoder_projector("cnn", shape, CLASSES, **size, seed=seed) for seed in range(s)]


def ours(made: list, x: Tensor, y: Tensor, steps: int, readable: bool = False) -> np.ndarray:
    s, b = y.shape
    rows = [torch.Generator().manual_seed(seed) for seed in range(s)]
    training.train(
        made, lambda _: (x, y), b, steps, rows, batch=b, lr=LR, weight_decay=DECAY, cosine=False, readable=readable
    )
    with torch.no_grad():
        return np.array([F.cross_entropy(net(x[i]), y[i]).item() for i, net in enumerate(made)])


def func_vmap(made: list, x: Tensor, y: Tensor, steps: int) -> np.ndarray:
    parameters, _ = torch.func.stack_module_state(made)
    layers = [m for m in made[0].modules() if not isinstance(m, nn.Sequential)]
    names = {id(module): name for name, module in made[0].named_modules()}

    def loss(p: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        for layer in layers:
            name = names[id(layer)]
            if isinstance(layer, nn.Conv2d):
                x = F.conv2d(x, p[f"{name}.weight"], None, layer.stride, layer.padding)
            elif isinstance(layer, nn.BatchNorm2d):
                x = F.batch_norm(x, None, None, p[f"{name}.weight"], p[f"{name}.bias"], training=True)
            elif isinstance(layer, nn.Linear):
                x = F.linear(x, p[f"{name}.weight"])
            else:
                x = layer(x)
        return F.cross_entropy(x, y)

    gradient = torch.func.vmap(torch.func.grad(loss))
    optimiser = torch.optim.AdamW(parameters.values(), LR, weight_decay=DECAY, fused=True)
    for _ in range(steps):
        with torch.no_grad():
            for name, slope in gradient(parameters, x, y).items():
                parameters[name].grad = slope
        optimiser.step()
    with torch.no_grad():
        return torch.func.vmap(loss)(parameters, x, y).numpy()


def jax_programs(made: list, x: Tensor, y: Tensor, steps: int) -> dict[str, Callable[[], np.ndarray]]:
    """Name -> a call without arguments, data and weights on JAX's side already, that returns the losses."""
    convolutions = [m for m in made[0].modules() if isinstance(m, nn.Conv2d)]
    images = x.unsqueeze(3) if x.dim() == 4 else x
    data = jnp.asarray(images.movedim(2, -1).contiguous().numpy()), jax.nn.one_hot(jnp.asarray(y.numpy()), CLASSES)

    def leaf(get: Callable) -> object:
        return jnp.asarray(np.stack([get(net).detach().contiguous().numpy() for net in made]))

    start = (
        [
            (
                leaf(
                    lambda net, i=i: [m for m in net.modules() if isinstance(m, nn.Conv2d)][i].weight.permute(
                        2, 3, 1, 0
                    )
                ),
                leaf(lambda net, i=i: [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)][i].weight),
                leaf(lambda net, i=i: [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)][i].bias),
            )
            for i in range(len(convolutions))
        ],
        [leaf(lambda net, i=i: [m for m in net.modules() if isinstance(m, nn.Linear)][i].weight.T) for i in range(2)],
    )

    def build(unfolded: bool) -> Callable[[], np.ndarray]:
        def convolve(x, weight, conv):  # type: ignore[no-untyped-def]
            padding = [(p, p) for p in conv.padding]
            if not unfolded:
                numbers = ("NHWC", "HWIO", "NHWC")
                return jax.lax.conv_general_dilated(x, weight, conv.stride, padding, dimension_numbers=numbers)
            x = jnp.pad(x, [(0, 0), *padding, (0, 0)])
            sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[1:3], conv.kernel_size, conv.stride, strict=True)]
            taps = [
                x[
                    :,
                    i : i + conv.stride[0] * sizes[0] : conv.stride[0],
                    j : j + conv.stride[1] * sizes[1] : conv.stride[1],
                ]
                for i in range(conv.kernel_size[0])
                for j in range(conv.kernel_size[1])
            ]
            taps = [tap[:, : sizes[0], : sizes[1]] for tap in taps]
            return jnp.concatenate(taps, -1) @ weight.reshape(-1, weight.shape[-1])

        def loss(p, x, goal):  # type: ignore[no-untyped-def]
            for (weight, scale, shift), conv in zip(p[0], convolutions, strict=True):
                x = convolve(x, weight, conv)
                mean = x.mean((0, 1, 2))
                var = jnp.square(x).mean((0, 1, 2)) - jnp.square(mean)
                x = jax.nn.relu((x - mean) * jax.lax.rsqrt(var + 1e-5) * scale + shift)
            x = jax.nn.relu(x.mean((1, 2)) @ p[1][0]) @ p[1][1]
            return -(goal * jax.nn.log_softmax(x)).sum(-1).mean()

        def one(p, x, goal):  # type: ignore[no-untyped-def]
            def step(state, t):  # type: ignore[no-untyped-def]
                p, m, v = state
                slope = jax.grad(loss)(p, x, goal)
                m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, slope)
                v = jax.tree.map(lambda a, g: 0.999 * a + 0.001 * g * g, v, slope)
                fix, size = 1 - 0.999**t, LR / (1 - 0.9**t)
                p = jax.tree.map(lambda a, m, v: a * (1 - LR * DECAY) - size * m / (jnp.sqrt(v / fix) + 1e-8), p, m, v)
                return (p, m, v), None

            zero = jax.tree.map(jnp.zeros_like, p)
            (p, _, _), _ = jax.lax.scan(step, (p, zero, zero), jnp.arange(1.0, steps + 1))
            return loss(p, x, goal)

        program = jax.jit(jax.vmap(one))
        return lambda: np.asarray(program(start, *data))

    return {"JAX, convolutions": build(False), "JAX, patches": build(True)}


def floor(made: list, x: Tensor) -> dict[str, Callable[[], None]]:
    """The matrix products of a step of all networks, with nothing between them."""
    recorded, plain = list[tuple[Tensor, Tensor]](), stacked.matmul
    s, b = x.shape[:2]

    def record(one: Tensor, two: Tensor, out: Tensor | None = None) -> Tensor:
        if out is not None:  # else a sum of batch norm
            recorded.append((one, two))
        return plain(one, two, out=out)

    stacked.matmul = record
    stacked.Stacked(made).gradients(x, torch.zeros(s, b, dtype=torch.int64), ["cross_entropy"] * s)
    stacked.matmul = plain

    def alike(t: Tensor) -> Tensor:
        shape = (s, *t.shape[1:])
        return torch.randn(shape) if t.is_contiguous() else torch.randn(shape).mT.contiguous().mT

    products = []
    for one, two in recorded[: len(recorded) // s]:  # the first step takes one network at a time
        a, c = (alike(t) for t in (one, two))
        products.append((a, c, torch.empty(s, one.shape[1], two.shape[2])))

    def run(by_numpy: bool) -> None:
        for a, c, out in products:
            if by_numpy:
                np.matmul(a.numpy(), c.numpy(), out=out.numpy())
            else:
                torch.bmm(a, c, out=out)

    return {"floor, NumPy": lambda: run(True), "floor, torch": lambda: run(False)}


def compare(name: str, s: int, shape: tuple, batch: int, width: int, hidden: int, steps: int, rounds: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(s, batch, *shape, generator=generator), torch.randint(CLASSES, (s, batch), generator=generator)

    def contenders(steps: int) -> dict[str, Callable[[list], object]]:
        """Each takes untrained networks, made beforehand, and returns their losses."""
        found: dict[str, Callable[[list], object]] = {
            "loop": lambda made: ours(made, x, y, steps, readable=True),
            "vmap": lambda made: func_vmap(made, x, y, steps),
            "ours": lambda made: ours(made, x, y, steps),
        }
        programs = jax_programs(make(s, shape, width, hidden), x, y, steps) if jax else {}
        return found | {name: lambda _, program=program: program() for name, program in programs.items()}

    candidates = contenders(steps)
    for call in candidates.values():
        call(make(s, shape, width, hidden))
    losses = {
        contender: np.asarray(call(make(s, shape, width, hidden)))
        for contender, call in contenders(EQUAL_STEPS).items()
    }
    for contender, loss in losses.items():
        np.testing.assert_allclose(loss, losses["loop"], rtol=1e-3, err_msg=f"{contender} trains to another loss")
    floors = floor(make(s, shape, width, hidden), x)
    times: dict[str, list[float]] = {contender: [] for contender in [*candidates, *floors]}
    for _ in range(rounds):
        for contender in random.sample(list(times), len(times)):
            made = make(s, shape, width, hidden)
            start = time.perf_counter()
            if contender in floors:
                for _ in range(steps):
                    floors[contender]()
            else:
                candidates[contender](made)
            times[contender].append((time.perf_counter() - start) / steps / s * 1e3)
    best = {kind: min((c for c in times if c.startswith(kind)), key=lambda c: statistics.median(times[c]), default="")
            for kind in ("JAX", "floor")}  # fmt: skip
    spread = max(float(np.ptp([loss[i] for loss in losses.values()])) for i in range(s))
    print(
        f"\n{name}: {s} networks, batch {batch} of {shape}, width {width}, hidden {hidden}; losses within {spread:.0e}"
    )
    for contender, found in times.items():
        low, middle, high = statistics.quantiles(found, n=4)
        ratios = [
            statistics.median(a / b for a, b in zip(times[base], found, strict=True)) if base else float("nan")
            for base in ("loop", best["JAX"], best["floor"])
        ]
        numbers = f"{ratios[0]:6.2f} x loop {ratios[1]:6.2f} x JAX {1 / ratios[2]:6.2f} floors"
        print(f"  {contender:18} {middle:7.2f} ms [{low:.2f}, {high:.2f}] {numbers}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=30, help="of every call")
    parser.add_argument("--core", type=int, help="pin to this core")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    torch.set_num_threads(1)
    stacked.SMALL_BYTES = 2**40  # the last size shows where stacking ceases to pay
    random.seed(0)
    warnings.filterwarnings("ignore", message="There is a performance drop")  # of vmap, which is what is measured
    versions = f"torch {torch.__version__}" + (f", jax {jax.__version__}" if jax else "; JAX is not installed")
    print(f"{versions}, one thread, {options.rounds} rounds of {options.steps} steps")
    for size in SIZES:
        compare(*size, options.steps, options.rounds)


if __name__ == "__main__":
    main()
