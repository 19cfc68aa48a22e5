"""Arithmetic on weights: task vectors over state dicts, their merging, and the network's tangent space.

A *state* is a network's `state_dict()`: name -> tensor of any shape. A *task vector* is a difference of two states
(Ilharco et al. 2023, section 2) and holds the floating-point entries alone. Integer and boolean entries (step counters,
position numbers) have no direction: they are left out of vectors and come from the pre-trained state. Floating-point
buffers, such as the running means of batch norm, are entries like any other, as in the paper's code.

Vectors of half-precision states are float32, and sums are cast back when a state is made: the difference of two nearby
bfloat16 numbers has few digits left, and a sum of eight of them fewer. Tied weights, one tensor under several names,
stay one tensor in vectors, merges and states. Letters: k vectors, o outputs and d inputs of a linear layer.
"""

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from numbers import Real
from typing import Any, Literal, SupportsFloat

import numpy as np
import torch
from jaxtyping import Float, Float64, Shaped
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

State = Mapping[str, Tensor]
Vector = dict[str, Tensor]
PIECE = 1 << 16  # numbers


def check_alike(expected: State, found: State, what: str = "state") -> None:
    """Raises `ValueError` naming entries that are missing, unexpected or of another shape: another architecture.

    Also for an entry that is complex or on the device meta, which holds no numbers.
    """
    missing, unexpected = expected.keys() - found.keys(), found.keys() - expected.keys()
    if missing or unexpected:
        parts = [f"{word} {_few(names)}" for word, names in (("lacks", missing), ("also has", unexpected)) if names]
        raise ValueError(f"{what} is of another architecture: it {' and '.join(parts)}")
    for name, entry in expected.items():
        if entry.shape != found[name].shape:
            shapes = f"{tuple(found[name].shape)}, expected {tuple(entry.shape)}"
            raise ValueError(f"{what} is of another architecture: {name} has shape {shapes}")
        for part in (entry, found[name]):
            if part.is_meta:
                raise ValueError(f"{name} is on the device meta, which holds no numbers: load the weights first")
            if part.is_complex():
                raise ValueError(f"{name} is complex ({part.dtype}): real numbers are accepted")


def _alike(vectors: Sequence[State]) -> None:
    """Raises `ValueError` for no vectors, and as `check_alike`."""
    if not vectors:
        raise ValueError("no vectors: at least one is needed")
    for vector in vectors:
        check_alike(vectors[0], vector, "a vector")


def _is_number(given: Any) -> bool:
    """A real number of Python, NumPy or torch."""
    return isinstance(given, Real) or (isinstance(given, Tensor | np.ndarray) and given.ndim == 0)


def _numbers(given: Iterable[SupportsFloat], count: int, what: str = "coefficients") -> list[float]:
    """The numbers as floats. Raises `ValueError` unless they are finite and as many as the vectors."""
    several = list(given) if isinstance(given, Iterable) and not _is_number(given) else [given]
    if len(several) != count:
        raise ValueError(f"{count} vectors with {len(several)} {what}: one each, or one coefficient for all")
    for number in several:
        if not _is_number(number) or not math.isfinite(number):  # type: ignore[arg-type]
            raise ValueError(f"{what} hold {number!r}: finite numbers are accepted")
    return [float(number) for number in several]  # type: ignore[arg-type]


def _few(names: Iterable[str]) -> str:
    first, *rest = sorted(names)
    return f"{first} and {len(rest)} more" if rest else first


def _float(entry: Tensor) -> Tensor:
    return entry.float() if _narrow(entry) else entry


def _narrow(entry: Tensor) -> bool:
    return entry.is_floating_point() and entry.element_size() < 4


def _place(entry: Tensor) -> tuple:
    """Equal for one tensor under two names."""
    return entry.data_ptr(), entry.dtype, entry.shape, entry.stride()


def _by_entry(make: Callable[..., Tensor], *states: State) -> Vector:
    """`make` of each entry, of all states side by side; what is tied in every one of them is made once and stays tied.

    Otherwise chance would part tied weights, and `torch.func.functional_call` refuses two tensors for one weight.
    """
    made: dict[tuple, Tensor] = {}
    result = {}
    for name, place in _places(states).items():
        if place not in made:
            made[place] = make(*(state[name] for state in states))
        result[name] = made[place]
    return result


def _distinct(states: Sequence[State]) -> list[tuple[Tensor, ...]]:
    """The entries of all states side by side, tied ones once."""
    names = {place: name for name, place in reversed(_places(states).items())}
    return [tuple(state[name] for state in states) for name in reversed(names.values())]


def _places(states: Sequence[State]) -> dict[str, tuple]:
    """For each name something that only names share that are one tensor in every state."""
    first = {name: _place(entry) for name, entry in states[0].items()}
    if len(set(first.values())) == len(first):  # no need to look at the others
        return first
    return {name: tuple(_place(state[name]) for state in states) for name in first}


# --- vectors ----------------------------------------------------------------------------------------------------------


def floating(state: State) -> Vector:
    """The floating-point entries of a state, those a task vector has."""
    return {name: entry for name, entry in state.items() if entry.is_floating_point()}


@torch.no_grad()
def difference(finetuned: State, pretrained: State) -> Vector:
    """tau = theta_ft - theta_pre (Ilharco et al. 2023, section 2), on floating-point entries.

    Where both are the same infinity, as in masks, it is 0.
    Raises `ValueError` for states of different architectures, and for a difference that is not finite elsewhere: a
    state with NaN, from which no merge recovers.

    >>> import torch
    >>> before, after = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    >>> sorted(difference(after.state_dict(), before.state_dict()))
    ['bias', 'weight']
    """
    check_alike(pretrained, finetuned, "the fine-tuned state")
    start = floating(pretrained)
    vector = _by_entry(_subtract, start, finetuned)
    for name, entry in vector.items():
        if not entry.sum().isfinite() and not entry.isfinite().all():
            count = int((~entry.isfinite()).sum())
            raise ValueError(f"{name} differs by {count} numbers that are NaN or infinite: finite weights are accepted")
    return vector


def _subtract(start: Tensor, tuned: Tensor) -> Tensor:
    start, tuned = _float(start), _float(tuned)
    step = tuned - start
    return step if step.sum().isfinite() else step.where(tuned != start, 0.0)


@torch.no_grad()
def combine(vectors: Sequence[State], coefficients: Iterable[SupportsFloat]) -> Vector:
    """sum_i c_i tau_i. Raises `ValueError` for none, for unequal counts and for vectors that do not fit together.

    >>> import torch
    >>> combine([{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}], [0.5, 2.0])
    {'w': tensor([0.5000, 2.0000])}
    """
    _alike(vectors)
    first, *rest = _numbers(coefficients, len(vectors))

    def total(entry: Tensor, *others: Tensor) -> Tensor:
        found = _float(entry) * first
        for other, c in zip(others, rest, strict=True):
            found.add_(_float(other), alpha=c)
        return found

    return _by_entry(total, *vectors)


def scale(vector: State, coefficient: SupportsFloat) -> Vector:
    """c tau."""
    return combine([vector], [coefficient])


def negate(vector: State) -> Vector:
    """-tau: applied, it forgets the task (section 3).

    >>> import torch
    >>> negate({"w": torch.tensor([1.0, -2.0])})
    {'w': tensor([-1.,  2.])}
    """
    return scale(vector, -1.0)


def add(*vectors: State) -> Vector:
    """tau_1 + tau_2 + ... (section 4).

    >>> import torch
    >>> add({"w": torch.tensor([1.0, -2.0])}, {"w": torch.tensor([1.0, 1.0])})
    {'w': tensor([ 2., -1.])}
    """
    return combine(vectors, [1.0] * len(vectors))


def analogy(a: State, b: State, c: State) -> Vector:
    """tau_D = tau_C + (tau_B - tau_A): "a is to b as c is to d" (section 5).

    >>> import torch
    >>> a, b, c = ({"w": torch.tensor(w)} for w in ([1.0, 0.0], [1.0, 1.0], [2.0, 0.0]))
    >>> analogy(a, b, c)
    {'w': tensor([2., 1.])}
    """
    return combine([c, b, a], [1.0, 1.0, -1.0])


@torch.no_grad()
def apply(
    pretrained: State,
    vectors: State | Sequence[State],
    coefficients: SupportsFloat | Iterable[SupportsFloat] = 1.0,
) -> Vector:
    """theta_pre + sum_i c_i tau_i as a new state, in the dtypes of the pre-trained one.

    One vector with one coefficient, or a sequence of vectors with one coefficient for all or one each; any real
    numbers, of NumPy and torch, too. Sums in place, entry by entry, so that no sum of vectors is ever held beside the
    new state. Entries that are not floating-point are copied.
    Raises `ValueError` for vectors of another architecture, unequal counts, coefficients that are not finite, and a sum
    beyond the range of a pre-trained entry of half precision.

    >>> import torch
    >>> start = {"w": torch.zeros(2, dtype=torch.bfloat16), "steps": torch.tensor(7)}
    >>> apply(start, [{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([0.0, 1.0])}], [0.5, 0.25])
    {'w': tensor([0.5000, 0.2500], dtype=torch.bfloat16), 'steps': tensor(7)}
    """
    several = [vectors] if isinstance(vectors, Mapping) else list(vectors)
    given = [coefficients] * len(several) if _is_number(coefficients) else coefficients
    each = _numbers(given, len(several))  # type: ignore[arg-type]
    start = floating(pretrained)
    for vector in several:
        check_alike(start, vector, "a vector")

    def total(entry: Tensor, *steps: Tensor) -> Tensor:
        found = entry.float() if _narrow(entry) else entry.clone()
        for step, c in zip(steps, each, strict=True):
            if c:
                found.add_(step.to(found), alpha=c)
        state = found.to(entry.dtype)
        if _narrow(entry) and not (state.isfinite() | ~entry.isfinite()).all():
            raise ValueError(f"a sum leaves the range of {entry.dtype}: smaller coefficients, or a state of float32")
        return state

    state = _by_entry(total, start, *several)
    return {name: state[name] if name in state else entry.clone() for name, entry in pretrained.items()}


@torch.no_grad()
def flatten(vector: State) -> Float[Tensor, " entries"]:
    """All entries end to end, tied ones once."""
    return torch.cat([_float(entry).flatten() for (entry,) in _distinct([vector])])


def _pieces(entries: Iterable[Tensor]) -> Iterator[Float[Tensor, "k piece"]]:
    """One entry of all vectors, flat and side by side, a piece of at most PIECE numbers after another.

    Pieces fit into a processor's cache, and nothing as large as all vectors together is ever made.
    """
    for parts in zip(*(entry.flatten().split(PIECE) for entry in entries), strict=True):
        yield torch.stack([_float(part) for part in parts])


@torch.no_grad()
def cosines(vectors: Sequence[State]) -> Float64[Tensor, "k k"]:
    """Cosine of every pair of vectors, all entries as one long vector. A zero vector gives 0.

    >>> import torch
    >>> cosines([{"w": torch.tensor([1.0, 0.0])}, {"w": torch.tensor([-2.0, 0.0])}]).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    _alike(vectors)
    products = torch.zeros(len(vectors), len(vectors), dtype=torch.float64)
    for entries in _distinct(vectors):
        for rows in _pieces(entries):
            products += (rows.double() @ rows.double().T).cpu()
    norms = products.diagonal().sqrt().clamp(min=1e-300)
    return products / norms.outer(norms)


@torch.no_grad()
def random_like(vector: State, generator: torch.Generator) -> Vector:
    """A Gaussian vector whose every entry has the norm of that entry in `vector`: the control of section 3."""

    def noise(entry: Tensor) -> Tensor:
        entry = _float(entry)
        drawn = torch.randn(entry.shape, generator=generator, dtype=entry.dtype).to(entry.device)
        return drawn * (entry.norm() / drawn.norm().clamp(min=1e-30))

    return _by_entry(noise, vector)


# --- merging ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def threshold(vector: State, density: float) -> Float[Tensor, ""]:
    """The magnitude that a fraction `density` of all the vector's entries reaches.

    Raises `ValueError` for a density outside (0, 1] and for entries that are NaN or infinite.
    """
    if not 0 < density <= 1:
        raise ValueError(f"density is {density}: it must be a fraction above 0 and up to 1")
    flat = flatten(vector).abs_()
    if not flat.sum().isfinite() and not flat.isfinite().all():
        raise ValueError("a vector holds numbers that are NaN or infinite: finite ones are accepted")
    least = len(flat) - max(1, round(density * len(flat)))
    if flat.is_cuda:
        return flat.kthvalue(least + 1).values
    values = flat.numpy()
    values.partition(least)  # in place, where kthvalue would hold a copy and all its indices
    return flat[least].clone()  # not a view, which would keep all of them


@torch.no_grad()
def ties(
    vectors: Sequence[State],
    density: float = 0.2,
    *,
    weights: Iterable[SupportsFloat] | None = None,
    votes: Iterable[SupportsFloat] | None = None,
    elect: Literal["sum", "count"] = "sum",
) -> Vector:
    """TIES merging: trim, elect a sign, average what agrees (Yadav et al. 2023, section 4).

    Each vector keeps the fraction `density` of largest magnitudes, over all entries together, and those equal to the
    least of them. The sign of an entry is that of sum_i v_i t_i over the trimmed vectors t_i; the merged entry is the
    mean of the kept values of that sign, 0 where the sum is 0. The scaling coefficient is that of `apply`.

    weights: w_i in the mean, sum_A w_i t_i / sum_A |w_i| over what agrees; 1 each by default. They are not in the
    paper. A vector of weight 2 counts like two of weight 1, one of weight -1 like its negative, one of weight 0 not.
    votes: v_i in the election; by default the weights. [1, 1, ...] leaves the election as the paper has it.
    elect: "sum", the paper's, lets magnitudes vote; "count" gives every kept entry the same vote, v_i sign(t_i).
    Raises `ValueError` for no vectors, vectors of different architectures, unequal counts, weights that are all 0 or
    not finite, votes of another sign than their weights, and as `threshold`.

    >>> import torch
    >>> vectors = [{"w": torch.tensor(w)} for w in ([3.0, 0.1], [-2.0, 0.0], [-2.0, 0.0])]
    >>> ties(vectors, density=0.5), ties(vectors, density=0.5, weights=[2, 1, 1])  # a heavy vector wins its entry
    ({'w': tensor([-2.,  0.])}, {'w': tensor([3., 0.])})
    """
    _alike(vectors)
    if elect not in ("sum", "count"):
        raise ValueError(f"elect is {elect!r}: 'sum' and 'count' are accepted")
    share = _numbers([1.0] * len(vectors) if weights is None else weights, len(vectors), "weights")
    voice = share if votes is None else _numbers(votes, len(vectors), "votes")
    if not any(share) or not any(voice):
        raise ValueError("all weights or all votes are 0: at least one must count")
    if any(w * v < 0 for w, v in zip(share, voice, strict=True)):
        raise ValueError(f"votes {voice} and weights {share} differ in sign: a vector counts as itself or its negative")
    least = torch.stack([threshold(vector, density) for vector in vectors])

    def merged(*entries: Tensor) -> Tensor:
        parts = []
        for rows in _pieces(entries):
            rows = rows.where(rows.abs() >= least.unsqueeze(1), 0.0)
            w, v = (rows.new_tensor(numbers).unsqueeze(1) for numbers in (share, voice))
            elected = (v * (rows if elect == "sum" else rows.sign())).sum(0).sign()
            rows = rows * w
            agrees = rows * elected > 0
            total = (agrees * w.abs()).sum(0)
            parts.append((rows * agrees).sum(0) / total.where(total > 0, 1.0))
        return torch.cat(parts).view(entries[0].shape)

    return _by_entry(merged, *vectors)


@torch.no_grad()
def dare(vector: State, drop: float, generator: torch.Generator) -> Vector:
    """Drops entries with probability `drop` and divides the rest by 1 - drop (Yu et al. 2023): equal in expectation.

    Raises `ValueError` for drop outside [0, 1).

    >>> import torch
    >>> kept = dare({"w": torch.ones(1000)}, drop=0.9, generator=torch.Generator().manual_seed(0))["w"]
    >>> kept.unique()
    tensor([ 0., 10.])
    """
    if not 0 <= drop < 1:
        raise ValueError(f"drop is {drop}: it must be a probability from 0 to below 1")

    def thinned(entry: Tensor) -> Tensor:
        entry = _float(entry)
        stays = torch.rand(entry.shape, generator=generator) >= drop
        return entry * stays.to(entry) / (1 - drop)

    return _by_entry(thinned, vector)


@torch.no_grad()
def iso_c(vectors: Sequence[State]) -> Vector:
    """Isotropic merging in the common subspace, Iso-C (Marczak et al. 2025, section on Iso-C).

    A matrix is the sum of the vectors' matrices, U S V^T, with every singular value replaced by their mean:
    mean(S) U V^T. All other entries, convolutions and biases among them, are means over the vectors, as in the official
    code, which also leaves CLIP's text projection out. The scaling coefficient is that of `apply`.
    Deviation: singular values that are 0 up to rounding stay 0 and are not in the mean, since their directions are
    arbitrary. One vector is not returned as it is, unless all singular values of a matrix are equal.
    Raises `ValueError` for no vectors and for vectors that do not fit together.

    >>> import torch
    >>> iso_c([{"w": torch.tensor([[3.0, 0.0], [0.0, 0.0]])}, {"w": torch.tensor([[0.0, 0.0], [0.0, 1.0]])}])
    {'w': tensor([[2., 0.],
            [0., 2.]])}
    """

    def even(entry: Tensor) -> Tensor:
        if entry.dim() != 2 or not entry.numel():
            return entry / len(vectors)
        u, s, v = torch.linalg.svd(entry, full_matrices=False)
        held = s > s[0] * max(entry.shape) * torch.finfo(s.dtype).eps
        return (u * held) @ v * (s.sum() / held.sum().clamp(min=1))

    return _by_entry(even, add(*vectors))


@torch.no_grad()
def grams(network: nn.Module, state: State, x: Shaped[Tensor, "n ..."], rows: int = 500) -> dict[str, Tensor]:
    """X^T X / n of the inputs X of every linear layer, by the name of its weight: what `regmean` needs of a task.

    network: evaluated with the weights of `state`, in evaluation mode, in which it stays. x: rows that it takes, so
    many at a time. Returns float64 (d, d); all axes of a layer's input but the last are rows of X. Left out are layers
    other than `nn.Linear`, those whose weight has another name as well (tied) or is used without a call of the layer,
    as in `nn.MultiheadAttention`.

    >>> import torch
    >>> layer = torch.nn.Linear(2, 1)
    >>> grams(layer, layer.state_dict(), torch.tensor([[1.0, 1.0], [3.0, 0.0]]))
    {'weight': tensor([[5.0000, 0.5000],
            [0.5000, 0.5000]], dtype=torch.float64)}
    """
    uses = Counter(id(entry) for _, entry in network.named_parameters(remove_duplicate=False))
    totals: dict[str, Tensor] = {}
    seen: Counter[str] = Counter()

    def see(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        flat = inputs[0].flatten(0, -2).double()
        totals[name] = totals.get(name, 0.0) + flat.T @ flat
        seen[name] += len(flat)

    handles = [
        layer.register_forward_pre_hook(partial(see, f"{name}.weight" if name else "weight"))
        for name, layer in network.eval().named_modules()
        if isinstance(layer, nn.Linear) and uses[id(layer.weight)] == 1
    ]
    try:
        for part in x.split(rows):
            torch.func.functional_call(network, dict(state), (part,))
    finally:
        for handle in handles:
            handle.remove()
    return {name: total / seen[name] for name, total in totals.items()}


@torch.no_grad()
def regmean(vectors: Sequence[State], inputs: Iterable[State], keep: float = 0.9) -> Vector:
    """RegMean: each linear layer's outputs near to those of every task's network (Jin et al. 2023, section on RegMean).

    The weight W (o, d) that minimizes sum_i ||X_i (W - W_i)^T||^2 is sum_i W_i G_i (sum_i G_i)^-1 with G_i = X_i^T X_i.
    The off-diagonal of G_i is multiplied by `keep`, the paper's alpha. It is the same for task vectors as for weights.
    All other entries are means over the vectors, as in the paper; the coefficient of `apply` is 1 there.
    inputs: for each vector what `grams` returns, or (d, d) by the names of other matrices (o, d); a generator is read
    one by one, so that only two sets are ever held.
    Deviation: a pseudo-inverse, applied to the differences from the mean. Directions that no task's inputs have then
    keep the mean, and equal vectors are returned up to rounding.
    Raises `ValueError` for no vectors or ones that do not fit together, unequal counts, a set of other names or shapes,
    and keep outside [0, 1].

    >>> import torch
    >>> vectors = [{"weight": torch.tensor([[1.0, 0.0]])}, {"weight": torch.tensor([[0.0, 1.0]])}]
    >>> seen = [{"weight": torch.diag(torch.tensor(g))} for g in ([1.0, 0.0], [0.0, 1.0])]  # each task sees one input
    >>> regmean(vectors, seen)
    {'weight': tensor([[1., 1.]])}
    """
    if not 0 <= keep <= 1:
        raise ValueError(f"keep is {keep}: it must be a fraction from 0 to 1")
    mean = combine(vectors, [1 / len(vectors)] * len(vectors) if vectors else [])
    sets, count = iter(inputs), 0
    total: dict[str, Tensor] = {}
    pull: dict[str, Tensor] = {}
    for count, given in enumerate(sets, 1):
        if count > len(vectors):
            break
        if count > 1:
            check_alike(total, given, "a set of Gram matrices")
        for name, gram in given.items():
            if name not in mean or mean[name].dim() != 2 or gram.shape != 2 * mean[name].shape[1:]:
                found = f"has shape {tuple(mean[name].shape)}" if name in mean else "is no entry of the vectors"
                raise ValueError(f"Gram matrix {tuple(gram.shape)} of {name}, which {found}: (d, d) of a matrix (o, d)")
            shrunk = gram.double() * keep
            shrunk.diagonal().copy_(gram.diagonal())
            step = (vectors[count - 1][name].double() - mean[name].double()) @ shrunk
            total[name] = total.get(name, 0.0) + shrunk
            pull[name] = pull.get(name, 0.0) + step
    if count != len(vectors):
        raise ValueError(f"{count} sets of Gram matrices for {len(vectors)} vectors: one each")
    for name in total:
        step = pull[name] @ torch.linalg.pinv(total[name], hermitian=True)
        mean[name] = mean[name] + step.to(mean[name].dtype)
    return mean


METHODS = ("sum", "ties", "dare", "ties by count", "iso-c")


def merge(
    vectors: Sequence[State], method: str, *, density: float = 0.2, drop: float = 0.9, generator: torch.Generator
) -> Vector:
    """One vector out of several by the name of a method that needs no data.

    Plain sum, TIES (`density`) with signs by sum or by count, the sum of DARE vectors (rate `drop`), Iso-C.
    Raises `ValueError` for another method, for no vectors and for ones that do not fit together.
    """
    _alike(vectors)
    if method == "sum":
        return add(*vectors)
    if method in ("ties", "ties by count"):
        return ties(vectors, density, elect="sum" if method == "ties" else "count")
    if method == "iso-c":
        return iso_c(vectors)
    if method == "dare":
        total = dare(vectors[0], drop, generator)
        for vector in vectors[1:]:  # one dropped vector at a time: eight may not fit beside the eight given
            total = add(total, dare(vector, drop, generator))
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
