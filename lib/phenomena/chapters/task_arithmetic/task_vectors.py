"""Arithmetic on weights: task vectors over state dicts, their merging, and the network's tangent space.

A *state* is a network's `state_dict()`: name -> tensor of any shape. A *task vector* is a difference of two states
(Ilharco et al. 2023, section 2) and holds the floating-point entries alone. Integer and boolean entries (step counters,
position numbers) have no direction: they are left out of vectors and come from the pre-trained state. Floating-point
buffers, such as the running means of batch norm, are entries like any other, as in the paper's code.

Vectors of half-precision states are float32, and sums are cast back when a state is made: the difference of two nearby
bfloat16 numbers has few digits left, and a sum of eight of them fewer. Letters: k vectors.
"""

import copy
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

State = Mapping[str, Tensor]
Vector = dict[str, Tensor]
PIECE = 1 << 16  # numbers


def check_alike(expected: State, found: State, what: str = "state") -> None:
    """Raises `ValueError` naming entries that are missing, unexpected or of another shape: another architecture."""
    missing, unexpected = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or unexpected:
        parts = [f"{word} {_few(names)}" for word, names in (("lacks", missing), ("also has", unexpected)) if names]
        raise ValueError(f"{what} is of another architecture: it {' and '.join(parts)}")
    for name, entry in expected.items():
        if entry.shape != found[name].shape:
            shapes = f"{tuple(found[name].shape)}, expected {tuple(entry.shape)}"
            raise ValueError(f"{what} is of another architecture: {name} has shape {shapes}")


def _few(names: Iterable[str]) -> str:
    first, *rest = sorted(names)
    return f"{first} and {len(rest)} more" if rest else first


def _float(entry: Tensor) -> Tensor:
    return entry.float() if entry.dtype in (torch.float16, torch.bfloat16) else entry


# --- vectors ----------------------------------------------------------------------------------------------------------


def floating(state: State) -> Vector:
    """The floating-point entries of a state, those a task vector has."""
    return {name: entry for name, entry in state.items() if entry.is_floating_point()}


@torch.no_grad()
def difference(finetuned: State, pretrained: State) -> Vector:
    """tau = theta_ft - theta_pre (Ilharco et al. 2023, section 2), on floating-point entries.

    Raises `ValueError` for states of different architectures.
    """
    check_alike(pretrained, finetuned, "the fine-tuned state")
    return {name: _float(finetuned[name]) - _float(entry) for name, entry in floating(pretrained).items()}


@torch.no_grad()
def combine(vectors: Sequence[State], coefficients: Sequence[float]) -> Vector:
    """sum_i c_i tau_i. Raises `ValueError` for none, for unequal counts and for vectors that do not fit together."""
    if not vectors or len(vectors) != len(coefficients):
        raise ValueError(f"{len(vectors)} vectors with {len(coefficients)} coefficients: one each, at least one")
    for vector in vectors[1:]:
        check_alike(vectors[0], vector, "a vector")
    total = {name: entry * coefficients[0] for name, entry in vectors[0].items()}
    for vector, c in zip(vectors[1:], coefficients[1:], strict=True):
        for name, entry in total.items():
            entry.add_(vector[name], alpha=c)
    return total


def scale(vector: State, coefficient: float) -> Vector:
    """c tau."""
    return combine([vector], [coefficient])


def negate(vector: State) -> Vector:
    """-tau: applied, it forgets the task (section 3)."""
    return scale(vector, -1.0)


def add(*vectors: State) -> Vector:
    """tau_1 + tau_2 + ... (section 4)."""
    return combine(vectors, [1.0] * len(vectors))


def analogy(a: State, b: State, c: State) -> Vector:
    """tau_D = tau_C + (tau_B - tau_A): "a is to b as c is to d" (section 5)."""
    return combine([c, b, a], [1.0, 1.0, -1.0])


@torch.no_grad()
def apply(pretrained: State, vectors: State | Sequence[State], coefficients: float | Sequence[float] = 1.0) -> Vector:
    """theta_pre + sum_i c_i tau_i as a new state, in the dtypes of the pre-trained one.

    One vector with one coefficient, or a sequence of vectors with one coefficient for all or one each. Sums in place,
    entry by entry, so that no sum of vectors is ever held beside the new state. Entries that are not floating-point
    are copied. Raises `ValueError` for vectors of another architecture or unequal counts.
    """
    several = [vectors] if isinstance(vectors, Mapping) else list(vectors)
    each = [float(coefficients)] * len(several) if isinstance(coefficients, int | float) else list(coefficients)
    if len(several) != len(each):
        raise ValueError(f"{len(several)} vectors with {len(each)} coefficients: one each, or one for all")
    for vector in several:
        check_alike(floating(pretrained), vector, "a vector")
    state = {}
    for name, entry in pretrained.items():
        if not entry.is_floating_point():
            state[name] = entry.clone()
            continue
        total = entry.float() if entry.dtype in (torch.float16, torch.bfloat16) else entry.clone()
        for vector, c in zip(several, each, strict=True):
            if c:
                total.add_(vector[name].to(total.dtype), alpha=c)
        state[name] = total.to(entry.dtype)
    return state


@torch.no_grad()
def flatten(vector: State) -> Float[Tensor, " entries"]:
    """All entries end to end."""
    return torch.cat([entry.flatten() for entry in vector.values()])


def _pieces(vectors: Sequence[State], name: str) -> Iterator[Float[Tensor, "k piece"]]:
    """One entry of all vectors, flat and side by side, a piece of at most PIECE numbers after another.

    Pieces fit into a processor's cache, and nothing as large as all vectors together is ever made.
    """
    for parts in zip(*(vector[name].flatten().split(PIECE) for vector in vectors), strict=True):
        yield torch.stack(parts)


@torch.no_grad()
def cosines(vectors: Sequence[State]) -> Float64[Tensor, "k k"]:
    """Cosine of every pair of vectors, all entries as one long vector. A zero vector gives 0."""
    for vector in vectors[1:]:
        check_alike(vectors[0], vector, "a vector")
    products = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for name in vectors[0]:
        for rows in _pieces(vectors, name):
            products += (rows.double() @ rows.double().T).cpu()
    norms = products.diagonal().sqrt().clamp(min=1e-300)
    return products / norms.outer(norms)


@torch.no_grad()
def random_like(vector: State, generator: torch.Generator) -> Vector:
    """A Gaussian vector whose every entry has the norm of that entry in `vector`: the control of section 3."""
    out = {}
    for name, entry in vector.items():
        noise = torch.randn(entry.shape, generator=generator, dtype=entry.dtype).to(entry.device)
        out[name] = noise * (entry.norm() / noise.norm().clamp(min=1e-30))
    return out


# --- merging ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def threshold(vector: State, density: float) -> Float[Tensor, ""]:
    """The magnitude that a fraction `density` of all the vector's entries reaches.

    Raises `ValueError` for a density outside (0, 1].
    """
    if not 0 < density <= 1:
        raise ValueError(f"density is {density}: it must be a fraction above 0 and up to 1")
    flat = flatten(vector).abs_()
    least = len(flat) - max(1, round(density * len(flat)))
    if flat.is_cuda:
        return flat.kthvalue(least + 1).values
    values = flat.numpy()
    values.partition(least)  # in place, where kthvalue would hold a copy and all its indices
    return flat[least].clone()  # not a view, which would keep all of them


@torch.no_grad()
def ties(vectors: Sequence[State], density: float = 0.2) -> Vector:
    """TIES merging: trim, elect a sign, average what agrees (Yadav et al. 2023, section 4).

    Each vector keeps the fraction `density` of largest magnitudes, over all entries together, and those equal to the
    least of them. The sign of an entry is that of the sum over vectors; the merged entry is the mean of the kept values
    of that sign, 0 where the sum is 0. The scaling coefficient is that of `apply`. Raises `ValueError` for no vectors,
    vectors of different architectures, and as `threshold`.
    """
    if not vectors:
        raise ValueError("no vectors: at least one is needed")
    for vector in vectors:
        check_alike(vectors[0], vector, "a vector")
    least = torch.stack([threshold(vector, density) for vector in vectors])
    merged = {}
    for name, entry in vectors[0].items():
        parts = []
        for rows in _pieces(vectors, name):
            rows = rows.where(rows.abs() >= least.unsqueeze(1), 0.0)
            agrees = rows * rows.sum(0).sign() > 0
            parts.append((rows * agrees).sum(0) / agrees.sum(0).clamp(min=1))
        merged[name] = torch.cat(parts).view(entry.shape)
    return merged


@torch.no_grad()
def dare(vector: State, drop: float, generator: torch.Generator) -> Vector:
    """Drops entries with probability `drop` and divides the rest by 1 - drop (Yu et al. 2023): equal in expectation.

    Raises `ValueError` for drop outside [0, 1).
    """
    if not 0 <= drop < 1:
        raise ValueError(f"drop is {drop}: it must be a probability from 0 to below 1")
    out = {}
    for name, entry in vector.items():
        stays = torch.rand(entry.shape, generator=generator) >= drop
        out[name] = entry * stays.to(entry) / (1 - drop)
    return out


METHODS = ("sum", "ties", "dare")


def merge(
    vectors: Sequence[State], method: str, *, density: float = 0.2, drop: float = 0.9, generator: torch.Generator
) -> Vector:
    """One vector out of several, by plain sum, TIES (`density`) or the sum of DARE vectors (rate `drop`).

    Raises `ValueError` for another method.
    """
    if method == "sum":
        return add(*vectors)
    if method == "ties":
        return ties(vectors, density)
    if method == "dare":
        total = dare(vectors[0], drop, generator)
        for vector in vectors[1:]:  # one dropped vector at a time: eight may not fit beside the eight given
            for name, entry in dare(vector, drop, generator).items():
                total[name] += entry
        return total
    raise ValueError(f"merging method {method!r} is not known: one of {', '.join(METHODS)}")


# --- tangent space ----------------------------------------------------------------------------------------------------


@contextmanager
def _plain_attention() -> Iterator[None]:
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def expansion(
    network: nn.Module, vector: State, x: Shaped[Tensor, "n ..."]
) -> tuple[Float[Tensor, "n ..."], Float[Tensor, "n ..."]]:
    """f(x; theta_0) and J_theta f(x; theta_0) tau, in one forward pass with `torch.func.jvp`; buffers stay."""
    start = {name: p.detach() for name, p in network.named_parameters()}
    call: Callable[[dict[str, Tensor]], Tensor] = lambda weights: torch.func.functional_call(  # noqa: E731
        network, weights, (x,)
    )
    # forward derivatives exist for the plain form of attention alone; torch scripts some of them as it loads them,
    # and warns of its own scripting
    with _plain_attention(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit", FutureWarning)
        warnings.filterwarnings("ignore", "`torch.jit", DeprecationWarning)
        value, slope = torch.func.jvp(call, (start,), ({name: vector[name] for name in start},))  # type: ignore[misc]
    return value, slope


class Tangent(nn.Module):
    """A network's first-order Taylor expansion in its weights, itself a network to train.

    f_lin(x; theta) = f(x; theta_0) + J_theta f(x; theta_0) (theta - theta_0) (Ortiz-Jimenez et al. 2023, equation 3).
    Parameters are theta - theta_0, in the order of the network's, and start at zero; the network stays as it is, in
    evaluation mode, buffers included. Task vectors of this model add up exactly in its outputs.
    """

    def __init__(self, network: nn.Module) -> None:
        """network: evaluated at its present weights, which are copied."""
        super().__init__()
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.names = [name for name, _ in self.network.named_parameters()]
        self.delta = nn.ParameterList([torch.zeros_like(p) for p in self.network.parameters()])

    def forward(self, x: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """x: whatever the network takes. Returns what it gives."""
        value, slope = expansion(self.network, dict(zip(self.names, self.delta, strict=True)), x)
        return value + slope

    @torch.no_grad()
    def state(self) -> Vector:
        """theta = theta_0 + delta under the network's own names, so that vectors are built and applied as usual."""
        state = {name: entry.clone() for name, entry in self.network.state_dict().items()}
        for name, delta in zip(self.names, self.delta, strict=True):
            state[name] += delta
        return state

    @torch.no_grad()
    def load(self, state: State) -> "Tangent":
        """Sets delta so that theta is `state`, buffers apart. Raises `ValueError` for another architecture."""
        start = self.network.state_dict()
        check_alike(start, state, "the state")
        for name, delta in zip(self.names, self.delta, strict=True):
            delta.copy_(state[name] - start[name])
        return self
