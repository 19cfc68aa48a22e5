"""Neural collapse (Papyan, Han and Donoho 2020): four measures that vanish in the terminal phase of training.

Letters: n samples, d features, K classes.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


class Collapse(NamedTuple):
    """NC1 within-class variability, NC2 unequal lengths and unequal angles, NC3 duality, NC4 disagreement with NCC."""

    nc1: float
    nc2_norms: float
    nc2_angles: float
    nc3: float
    nc4: float


def class_means(features: Float[Tensor, "n d"], labels: Int[Tensor, " n"], classes: int) -> Float[Tensor, "K d"]:
    """Means of the classes. Raises `ValueError` for K < 2 or a class without a sample."""
    counts = torch.bincount(labels, minlength=classes)
    if classes < 2 or len(counts) > classes or not bool((counts > 0).all()):
        raise ValueError(f"{classes} classes with {counts.tolist()} samples: 2 or more classes, none empty, expected")
    return F.one_hot(labels, classes).to(features).T @ features / counts.to(features).unsqueeze(1)


def simplex(means: Float[Tensor, "*batch K d"]) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """How far class means are from a simplex: spread of their lengths, and of their angles.

    Of mu_k, the means less the mean over classes: std_k |mu_k| / mean_k |mu_k|, and the mean over pairs of
    |cos(mu_k, mu_l) + 1 / (K-1)|. Both are 0 for a simplex.
    """
    k = means.shape[-2]
    centred = means - means.mean(-2, keepdim=True)
    lengths = centred.norm(dim=-1)
    unit = F.normalize(centred, dim=-1)
    off = ~torch.eye(k, dtype=torch.bool, device=means.device)
    angles = (unit @ unit.transpose(-1, -2) + 1 / (k - 1)).abs()[..., off].mean(-1)
    return lengths.std(-1, correction=0) / lengths.mean(-1), angles


def duality(weight: Float[Tensor, "K d"], means: Float[Tensor, "*batch K d"]) -> Float[Tensor, "*batch"]:
    """NC3: || W / ||W|| - M / ||M|| ||² (Frobenius) with M the means less their mean, as rows; 0 to 4."""
    centred = means - means.mean(-2, keepdim=True)
    unit = centred / centred.norm(dim=(-2, -1), keepdim=True)
    return (weight / weight.norm() - unit).square().sum((-2, -1))


def collapse(
    features: Float[Tensor, "n d"],
    labels: Int[Tensor, " n"],
    weight: Float[Tensor, "K d"],
    bias: Float[Tensor, " K"],
) -> Collapse:
    """The four measures of Papyan et al. (2020, figures 2 to 7) for a last layer: logits = weight features + bias.

    NC1: trace(S_W S_B^+) / K with S_W, S_B the covariance within classes and of the class means. NC2: `simplex`.
    NC3: `duality`. NC4: fraction of the samples that the last layer puts into another class than the nearest class mean
    does. The overall mean is taken over classes; where classes are balanced, that is the mean over samples.

    Computed in double precision. Raises `ValueError` as `class_means` does.
    """
    features, weight, bias = features.double(), weight.double(), bias.double()
    k = len(weight)
    means = class_means(features, labels, k)
    centred = means - means.mean(0)
    within = features - means[labels]
    inverse = torch.linalg.pinv(centred.T @ centred / k, hermitian=True)
    nc1 = torch.einsum("nd,de,ne->", within, inverse, within) / len(within) / k
    nearest = torch.cdist(features, means).argmin(1)
    nc4 = (nearest != (features @ weight.T + bias).argmax(1)).double().mean()
    norms, angles = simplex(means)
    return Collapse(*(float(v) for v in (nc1, norms, angles, duality(weight, means), nc4)))
