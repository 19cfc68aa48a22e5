"""Feature learning: the two matrices that are to be alike, how alike they are, and how alike they are by chance.

Letters: W a layer's weights (j x i, or many of them), V = W - W_0 their change, K the tangent kernel of its
pre-activations (j x j), F = W^T W the neural feature matrix, G = W^T K W the average gradient outer product.
"""

import itertools

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

POWERS = np.geomspace(1 / 16, 4, 193)  # between which the best one is sought, 2.2 % apart


def cosine(a: Float[Tensor, "*s i k"], b: Float[Tensor, "*s i k"]) -> Float[Tensor, " *s"]:
    """<a, b> / (|a| |b|), entries taken as one vector; nan where one of them is zero.

    >>> import torch
    >>> cosine(torch.eye(2), torch.diag(torch.tensor([1.0, 0.0]))).item() ** 2  # 1 / 2
    0.5000000...
    """
    norms = a.square().sum((-2, -1)).sqrt() * b.square().sum((-2, -1)).sqrt()
    return (a * b).sum((-2, -1)) / norms.where(norms > 0, torch.nan)


def feature_matrix(w: Float[Tensor, "*s j i"]) -> Float[Tensor, "*s i i"]:
    """F = W^T W, the neural feature matrix (Radhakrishnan et al. 2022)."""
    return w.transpose(-2, -1) @ w


def gradient_product(w: Float[Tensor, "*s j i"], kernel: Float[Tensor, "*s j j"]) -> Float[Tensor, "*s i i"]:
    """G = W^T K W: the mean outer product of the gradients of f by the layer's input, as df/da = W^T df/dh."""
    return w.transpose(-2, -1) @ kernel @ w


def right_alignment(w: Float[Tensor, "*s j i"], kernel: Float[Tensor, "*s j j"]) -> Float[Tensor, " *s"]:
    """cos(W^T W, W^T K W): the ansatz for W (uncentered), or for V in its place (centered; Beaglehole et al. 2024)."""
    return cosine(feature_matrix(w), gradient_product(w, kernel))


def left_alignment(w: Float[Tensor, "*s j i"], kernel: Float[Tensor, "*s j j"]) -> Float[Tensor, " *s"]:
    """cos(V V^T, K): whether the left singular structure of the weights, or of their change, is that of the kernel."""
    return cosine(w @ w.transpose(-2, -1), kernel)


def effective_rank(a: Float[Tensor, "*s j j"]) -> Float[Tensor, " *s"]:
    """(tr A)^2 / tr A^2 of a positive matrix: its rank where all eigenvalues that are not zero are alike.

    >>> import torch
    >>> effective_rank(torch.diag(torch.tensor([1.0, 1.0, 0.0]))).item()
    2.0
    """
    return a.diagonal(dim1=-2, dim2=-1).sum(-1).square() / a.square().sum((-2, -1))


def left_chance(w: Float[Tensor, "*s j i"], kernel: Float[Tensor, "*s j j"]) -> Float[Tensor, " *s"]:
    """Mean of `left_alignment` over kernels Q K Q^T with Q a random rotation: sqrt(r_A r_K) / j, exactly. Derived here.

    r are effective ranks, of A = W W^T and of K: two matrices of low rank are alike by chance only if rank fills j.
    """
    outer = w @ w.transpose(-2, -1)
    return (effective_rank(outer) * effective_rank(kernel)).sqrt() / w.shape[-2]


def overlap(f: Float[Tensor, "*s i i"], g: Float[Tensor, "*s i i"], count: int) -> Float[Tensor, " *s"]:
    """Mean squared cosine between the spaces of the `count` leading eigenvectors of F and of G: 1 where they agree,
    count / i by chance. Raises `ValueError` for a count outside 1 to i.

    >>> import torch
    >>> overlap(torch.diag(torch.tensor([3.0, 2.0, 1.0])), torch.diag(torch.tensor([3.0, 1.0, 2.0])), 2).item()
    0.5
    """
    if not 1 <= count <= f.shape[-1]:
        raise ValueError(f"count is {count}: must be 1 to {f.shape[-1]}, the eigenvectors there are")
    u, v = (torch.linalg.eigh(m.double())[1][..., -count:] for m in (f, g))
    return (u.transpose(-2, -1) @ v).square().sum((-2, -1)) / count


def rotated(kernel: Float[Tensor, "*s j j"], generator: torch.Generator) -> Float[Tensor, "*s j j"]:
    """Q K Q^T with Q drawn uniformly from the orthogonal matrices, one for each K: the control of every alignment."""
    drawn = torch.randn(kernel.shape, generator=generator, dtype=kernel.dtype)
    q, r = torch.linalg.qr(drawn)
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]  # without the signs it would not be uniform
    return q @ kernel @ q.transpose(-2, -1)


def power_cosines(
    f: Float[Tensor, "*s i i"], g: Float[Tensor, "*s i i"], powers: Float[np.ndarray, " p"] = POWERS
) -> Float[np.ndarray, "*s p"]:
    """cos(F, G^a) for every power a of a positive matrix G.

    With G = U diag(g) U^T, <F, G^a> = sum_k g_k^a u_k^T F u_k.
    """
    values, vectors = torch.linalg.eigh(g.double())
    values = values.clamp(min=0) / values[..., -1:]
    inner = (vectors * (f.double() @ vectors)).sum(-2)
    size = f.double().square().sum((-2, -1)).sqrt()
    raised = values[..., None, :] ** torch.as_tensor(powers)[:, None]
    found = (raised * inner[..., None, :]).sum(-1) / (size[..., None] * raised.square().sum(-1).sqrt())
    return found.numpy()


def best_power(f: Float[Tensor, "*s i i"], g: Float[Tensor, "*s i i"]) -> Float[np.ndarray, " *s"]:
    """The power a at which cos(F, G^a) is largest, between the ends of `POWERS`. In balanced linear networks it is 1/L.

    For L layers with W_{l+1}^T W_{l+1} = W_l W_l^T, G = (W_L ... W_1)^T (W_L ... W_1) = (W_1^T W_1)^L. Between the
    powers that are tried, the place of the maximum is that of a parabola in log a.
    """
    found = power_cosines(f, g)
    top = found.argmax(-1).clip(1, len(POWERS) - 2)
    below, at, above = (np.take_along_axis(found, (top + k)[..., None], -1)[..., 0] for k in (-1, 0, 1))
    bend = np.minimum(below - 2 * at + above, -1e-15)
    shift = ((below - above) / (2 * bend)).clip(-1, 1)
    return np.asarray(POWERS[top] * (POWERS[1] / POWERS[0]) ** shift)


def imbalance(weights: list[Float[Tensor, "s _ _"]]) -> Float[Tensor, " s"]:
    """sum_l |W_{l+1}^T W_{l+1} - W_l W_l^T| over neighboring layers: 0 where they are balanced.

    In linear networks gradient flow with decay lambda makes each difference shrink as exp(-2 lambda t), and without
    decay leaves it alone.
    """
    pairs = itertools.pairwise(weights)
    gaps = [feature_matrix(after) - before @ before.transpose(1, 2) for before, after in pairs]
    return torch.stack([gap.square().sum((1, 2)).sqrt() for gap in gaps]).sum(0)


def reduced(w: Float[Tensor, "*s j i"]) -> Float[Tensor, "*s j r"]:
    """The weights in a basis of their own rows, r = min(i, j): W^T W and W^T K W keep eigenvalues and cosines."""
    return torch.linalg.qr(w.transpose(-2, -1))[1].transpose(-2, -1) if w.shape[-1] > w.shape[-2] else w


def random_alignment(width: int, inputs: int, rank: float) -> float:
    """cos(W^T W, W^T K W) of W with independent normal entries, unrelated to K of this effective rank. Derived here.

    E<F, G> / sqrt(E|F|^2 E|G|^2) = sqrt((i + j + 1) r / (j (i + 1 + r))), by the first two moments of Wishart matrices:
    what the ansatz scores before anything is learned.

    width, inputs: j and i. Raises `ValueError` for a rank outside 1 to j.

    >>> random_alignment(50, 20, 50)  # K = I
    1.0
    """
    if not 1 <= rank <= width * (1 + 1e-6):
        raise ValueError(f"rank is {rank}: must be 1 to width = {width}")
    return ((inputs + width + 1) * rank / (width * (inputs + 1 + rank))) ** 0.5
