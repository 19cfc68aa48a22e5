"""Mixup (Zhang et al. 2018) and what it does to a data set (Chidambaram et al. 2022): rows are trained on as

    lambda x_i + (1 - lambda) x_j    with label    lambda y_i + (1 - lambda) y_j,    lambda ~ F symmetric on [0, 1].

Letters: n rows, d features, c classes, m queries, b rows of a batch; targets are distributions over classes.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize
from scipy.special import betainc, betaincinv
from torch import Tensor

from phenomena.science.checks import check_labels, check_tensors
from phenomena.science.training import Loader, own_rows

Array = Float[np.ndarray, "*shape"]


class MixingLaw(NamedTuple):
    """A law F of lambda on [0, 1], symmetric about 1/2.

    mass(a, b): for a <= b, P[a <= lambda <= b] and E[lambda; a <= lambda <= b], entry by entry.
    quantile(u): lambda for numbers u uniform on [0, 1).
    """

    mass: Callable[[Array, Array], tuple[Array, Array]]
    quantile: Callable[[Float[Tensor, "*shape"]], Float[Tensor, "*shape"]]


def beta_law(alpha: float) -> MixingLaw:
    """Beta(alpha, alpha): near 0 lambda is 0 or 1, at 1 it is uniform, far above 1 it is 1/2.

    Drawn by the inverse of its distribution function, right to the last digit from alpha = 1e-4 to 1e4. The usual
    ratio of two gamma variables is not: below 0.01 both underflow, and the ratio collapses to 1/2.
    Raises `ValueError` unless alpha is positive and finite.

    >>> import torch
    >>> beta_law(0.4).quantile(torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)).round(decimals=3).tolist()
    [0.012, 0.5, 0.988]
    """
    alpha = float(alpha)
    if not 0 < alpha < np.inf:
        raise ValueError(f"alpha is {alpha}: it must be positive and finite")

    def mass(low: Array, high: Array) -> tuple[Array, Array]:
        probability = betainc(alpha, alpha, high) - betainc(alpha, alpha, low)
        first = (betainc(alpha + 1, alpha, high) - betainc(alpha + 1, alpha, low)) / 2  # E lambda = 1/2
        return np.asarray(probability), np.asarray(first)  # scipy makes numbers of arrays without axes

    return MixingLaw(mass, lambda u: torch.from_numpy(np.asarray(betaincinv(alpha, alpha, u.numpy()))))


def atoms_law(values: Sequence[float], weights: Sequence[float]) -> MixingLaw:
    """lambda takes one of the values with these probabilities; [0.5], [1.0] is the limit alpha -> infinity.

    Raises `ValueError` for values outside [0, 1], weights that are not a distribution, or a law that is not symmetric.

    >>> import torch
    >>> atoms_law([0.2, 0.8], [0.5, 0.5]).quantile(torch.tensor([0.1, 0.9])).tolist()
    [0.2, 0.8]
    """
    v, w = np.array(values, float), np.array(weights, float)
    order = np.argsort(v)
    v, w = v[order], w[order]
    if len(v) != len(w) or not len(v) or (v < 0).any() or (v > 1).any() or (w <= 0).any() or abs(w.sum() - 1) > 1e-9:
        raise ValueError(
            f"values {values} with weights {weights}: must be values in [0, 1] and positive weights of sum 1"
        )
    if not (np.allclose(v, 1 - v[::-1]) and np.allclose(w, w[::-1])):
        raise ValueError(f"values {values} with weights {weights} are not symmetric about 1/2")

    def mass(low: Array, high: Array) -> tuple[Array, Array]:
        inside = w * ((low[..., None] <= v) & (v <= high[..., None]))
        return np.asarray(inside.sum(-1)), np.asarray(inside @ v)

    def quantile(u: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        return torch.from_numpy(v[np.searchsorted(w.cumsum()[:-1], u.numpy(), side="right")])

    return MixingLaw(mass, quantile)


def optimum(
    x: Float[Tensor, "n d"],
    targets: Float[Tensor, "n c"],
    queries: Float[Tensor, "m d"],
    law: MixingLaw,
    epsilon: float,
) -> Float[Tensor, "m c"]:
    """What a network without limits learns from Mixup, seen within a ball (Chidambaram et al. 2022, Lemma 2.3).

        h_eps(q) = E[lambda y_i + (1 - lambda) y_j ; |lambda x_i + (1 - lambda) x_j - q| <= eps] / P[the same event]

    over pairs (i, j) uniform among all n^2, a row with itself included. Each pair passes the ball for lambda within one
    interval, whose mass is exact. The lemma's xi_ij and xi^lambda_ij, summed over classes, are what is summed here over
    rows; labels may be any distributions. The result is float64.

    x: the rows, of any numeric type; images are flattened, x.flatten(1).
    targets: their distributions over the classes, one-hot or soft.
    queries: points in the same space at which the optimum is wanted.
    law: that of lambda, `beta_law(alpha)` or `atoms_law(values, weights)`.
    epsilon: radius of the ball, in the units of x.

    Raises `TypeError` for what is no tensor or no law, `ValueError` for shapes that do not fit, fewer than two classes,
    coincident rows of different label (there the optimum over classifiers of finite loss is not defined), an epsilon
    that is not positive and finite, numbers that are not finite or whose squares are not, or a query whose ball no
    segment meets.

    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> flowers = load_iris()
    >>> x = torch.tensor(flowers.data)
    >>> targets = torch.nn.functional.one_hot(torch.tensor(flowers.target)).double()
    >>> found = optimum(x, targets, x[[0, 75, 120]], beta_law(1.0), epsilon=0.3)  # in centimetres
    >>> found.round(decimals=2).tolist()
    [[0.99, 0.0, 0.0], [0.05, 0.87, 0.08], [0.0, 0.03, 0.97]]
    """
    check_tensors(x=(x, "n d"), targets=(targets, "n c"), queries=(queries, "m d"))
    check_law(law)
    if not 0 < epsilon < math.inf:
        raise ValueError(f"epsilon is {epsilon}: the radius must be positive and finite")
    size = max(x.abs().max().item(), queries.abs().max().item(), epsilon)
    if size > 1e70 or epsilon < 1e-70:
        raise ValueError(f"numbers up to {size:g} and epsilon {epsilon:g}: rescale them to between 1e-70 and 1e70")
    x, targets, queries = x.double(), targets.double(), queries.double()
    check_rows(x, targets)
    n = len(x)
    step = x[:, None] - x[None]  # (n, n, d): lambda x_i + (1 - lambda) x_j = x_j + lambda step_ij
    length = step.square().sum(2)
    result = []
    chunk = max(1, 2**22 // n**2)  # queries at a time, for some ten arrays of 32 MB
    for start in range(0, len(queries), chunk):
        offset = x - queries[start : start + chunk, None]  # (m, n, d), of x_j
        # |offset_j + lambda step_ij|^2 <= eps^2: length lambda^2 + 2 along lambda + beyond <= 0
        along = torch.einsum("mjd,ijd->mij", offset, step)
        beyond = (offset.square().sum(2) - epsilon**2)[:, None]  # (m, 1, n)
        root = (along.square() - length * beyond).sqrt()  # nan: the line of i and j passes by
        still = (length == 0).expand_as(along)  # the row with itself or a copy: inside for every lambda, or for none
        low = torch.where(still, 0.0, (-along - root) / length)
        high = torch.where(still, 1.0, (-along + root) / length)
        inside = torch.where(still, beyond <= 0, (low <= 1) & (high >= 0))
        low, high = (torch.where(inside, end, 0.0).clamp(0, 1) for end in (low, high))
        mass, first = (torch.from_numpy(part) * inside for part in law.mass(low.numpy(), high.numpy()))
        total = mass.sum((1, 2))
        if (total == 0).any():
            lost = queries[start + int((total == 0).nonzero()[0])]
            raise ValueError(
                f"epsilon {epsilon} leaves no mass at {[round(v, 4) for v in lost.tolist()]}: "
                "no mixed point of this law comes that near"
            )
        mixed = first.sum(2) @ targets + (mass - first).sum(1) @ targets
        result.append(mixed / total[:, None])
    return torch.cat(result)


def check_law(law: Any) -> None:
    """Raises `TypeError` for what is no law of lambda, such as the number alpha."""
    if not isinstance(law, MixingLaw):
        raise TypeError(f"law is {law!r}: must be a law of lambda, such as beta_law(alpha)")


def check_rows(x: Float[Tensor, "n d"], targets: Float[Tensor, "n c"]) -> None:
    """Raises `ValueError` for targets that are not distributions, a single class, or equal rows of different label."""
    if (targets < 0).any() or not (targets.sum(1) - 1).abs().max() <= 1e-5:
        raise ValueError("targets must be distributions: entries of 0 or more that sum to 1 in every row")
    if ((targets > 0).sum(0) > 0).sum() < 2:
        raise ValueError("all rows are of one class: Mixup between classes needs two")
    _, group = torch.unique(x, dim=0, return_inverse=True)
    for rows in (group == group[:, None])[torch.bincount(group)[group] > 1]:
        if (targets[rows] - targets[rows][0]).abs().max() > 1e-6:
            raise ValueError(
                f"rows {rows.nonzero().flatten().tolist()} coincide but differ in label: "
                "the closed form is not defined there"
            )


def alternating_line(points: int, classes: int) -> tuple[Float[Tensor, "n 1"], Float[Tensor, "n c"]]:
    """The points 0, 1, ..., points - 1 on a line with one-hot labels 0, 1, ..., classes - 1, 0, ... (X_points^classes).

    Raises `ValueError` below 2 classes or a point for each.
    """
    if classes < 2 or points < classes:
        raise ValueError(f"{points} points and {classes} classes: must be 2 classes or more, and a point for each")
    position = torch.arange(points)
    return position[:, None].float(), F.one_hot(position % classes, classes).float()


def crossing_segments() -> tuple[Float[Tensor, "4 2"], Float[Tensor, "4 2"]]:
    """Class 1 at (0, 1) and (0, -1), class 2 at (1, 0) and (-1, 0), one-hot (Proposition 2.5)."""
    return torch.tensor([[0.0, 1.0], [0.0, -1.0], [1.0, 0.0], [-1.0, 0.0]]), torch.eye(2)[[0, 0, 1, 1]]


def middle_of_three(alpha: float, epsilon: float) -> float:
    """Probability of the outer points' class at the middle of X_3^2, from the lemma by hand.

        p = (2 P + 4 e) / (2 P + 4 c + 1),  P = Pr[|lambda - 1/2| <= eps/2],  c = Pr[lambda <= eps],  e = E[lambda; c]

    for epsilon < 1/2; the limit alpha -> infinity is 2/3. Raises `ValueError` for another epsilon.
    """
    if not 0 < epsilon < 0.5:
        raise ValueError(f"epsilon is {epsilon}: it must be between 0 and 1/2")
    mass = beta_law(alpha).mass
    near, _ = mass(np.array(0.5 - epsilon / 2), np.array(0.5 + epsilon / 2))
    end, first = mass(np.array(0.0), np.array(epsilon))
    return float((2 * near + 4 * first) / (2 * near + 4 * end + 1))


def mix(
    x: Float[Tensor, "*shape"], partner: Float[Tensor, "*shape"], lam: Float[Tensor, "..."]
) -> Float[Tensor, "*shape"]:
    """lambda x + (1 - lambda) partner.

    lam: for the first axes of x, one by one or of length 1: (b) or (1) for a batch (b, ...), (s, b) or (s, 1) for one
        of each of s networks.
    Raises `TypeError` for a lambda that is no tensor of the type of x, `ValueError` for shapes that do not fit.

    >>> import torch
    >>> mix(torch.tensor([[1.0], [2.0]]), torch.tensor([[0.0], [0.0]]), torch.tensor([0.25, 0.5])).tolist()
    [[0.25], [1.0]]
    """
    if not isinstance(lam, Tensor) or lam.dtype != x.dtype or not x.is_floating_point():
        kind = lam.dtype if isinstance(lam, Tensor) else type(lam).__name__
        raise TypeError(f"lam is of {kind}, x of {x.dtype}: both must be tensors of one floating-point type")
    if partner.shape != x.shape or any(a not in (1, b) for a, b in zip(lam.shape, x.shape, strict=False)):
        raise ValueError(f"x {tuple(x.shape)}, partner {tuple(partner.shape)} and lam {tuple(lam.shape)} do not fit")
    return torch.lerp(partner, x, lam.view(*lam.shape, *[1] * (x.dim() - lam.dim())))


def cut_mix(
    x: Float[Tensor, "b channels *sides"],
    partner: Float[Tensor, "b channels *sides"],
    lam: float,
    centre: Sequence[int],
) -> tuple[Float[Tensor, "b channels *sides"], float]:
    """A box of the partner set into x (CutMix, Yun et al. 2019), and the fraction of x that is left.

    The box takes the fraction 1 - lam of the sample and is cut off at its border; its half sides are rounded down.
    centre: of the box, one number for each side.
    Raises `ValueError` for samples without sides, unequal shapes, lam outside [0, 1], or another number of centres.
    """
    if x.dim() < 3 or x.shape != partner.shape or len(centre) != x.dim() - 2 or not 0 <= lam <= 1:
        raise ValueError(
            f"x {tuple(x.shape)}, partner {tuple(partner.shape)}, lam {lam} and centre {list(centre)}: must be batches "
            "of one shape (b, channels, sides), a fraction, and a number for each side"
        )
    sides, half = x.shape[2:], ((1 - lam) ** (1 / len(x.shape[2:]))) / 2
    box = [
        slice(max(middle - int(half * side), 0), min(middle + int(half * side), side))
        for middle, side in zip(centre, sides, strict=True)
    ]
    mixed = x.clone()
    mixed[:, :, *box] = partner[:, :, *box]
    cut = np.prod([part.stop - part.start for part in box]) / np.prod(sides)
    return mixed, float(1 - cut)


def mixup_loader(
    x: Float[Tensor, "s n *shape"],
    labels: Int[Tensor, "s n"],
    classes: int,
    law: MixingLaw,
    generators: Sequence[torch.Generator],
    *,
    partner: str = "any",
    lambdas: str = "batch",
    method: str = "mixup",
    mixed_labels: bool = True,
) -> Loader:
    """Batches of mixed rows with mixed labels for `training.train`.

    x: the data of each network.
    labels: their classes, 0 to classes - 1.
    classes: their number.
    law: that of lambda.
    generators: of partners, lambdas and boxes, one for each network.
    partner: "any" row of the data, itself included; any "other" row; or a row of the same "batch" (a permutation of it,
        which may leave rows in their place).
    lambdas: one a "batch" or one a "row".
    method: "mixup", or "cutmix" with one box a batch.
    mixed_labels: off, inputs are mixed and the label is that of the part with the larger weight.
    Raises `TypeError` for what is no tensor of float32, no labels or no law, `ValueError` for another word, shapes or
    numbers that do not fit, or data of one class.

    >>> import torch
    >>> from phenomena.science.datasets import digits
    >>> data, generators = digits(), [torch.Generator().manual_seed(0)]
    >>> loader = mixup_loader(data.x_train[None], data.y_train[None], 10, beta_law(0.4), generators)
    >>> x, targets = loader(torch.arange(100)[None])  # for one network, a batch of 100 rows
    >>> tuple(x.shape), tuple(targets.shape)
    ((1, 100, 1, 8, 8), (1, 100, 10))
    """
    check_tensors(x=(x, "s n ..."), labels=(labels, "s n"))
    check_labels(labels, classes)
    check_law(law)
    if x.dtype != torch.float32:
        raise TypeError(f"x is of {x.dtype}: must be torch.float32")
    if len(generators) != len(x):
        raise ValueError(f"{len(generators)} generators for {len(x)} networks: there must be one for each")
    words = (
        ("partner", partner, ("any", "other", "batch")),
        ("lambdas", lambdas, ("batch", "row")),
        ("method", method, ("mixup", "cutmix")),
    )
    for name, word, known in words:
        if word not in known:
            raise ValueError(f"{name} is {word!r}: must be one of {', '.join(known)}")
    if method == "cutmix" and lambdas == "row":
        raise ValueError("cutmix cuts one box a batch: lambdas must be 'batch'")
    if min(own.unique().numel() for own in labels) < 2:
        raise ValueError("all rows are of one class: Mixup between classes needs two")
    n, one_hot = x.shape[1], F.one_hot(labels, classes).float()

    def draw(index: Int[Tensor, " b"], generator: torch.Generator) -> tuple[Int[Tensor, " b"], Tensor]:
        b = len(index)
        if partner == "batch":
            other = index[torch.randperm(b, generator=generator)]
        elif partner == "other":
            other = (index + torch.randint(1, n, (b,), generator=generator)) % n
        else:
            other = torch.randint(n, (b,), generator=generator)
        return other, torch.rand(b if lambdas == "row" else 1, generator=generator, dtype=torch.float64)

    def mixed(index: Int[Tensor, "s b"]) -> tuple[Float[Tensor, "s b *shape"], Float[Tensor, "s b c"]]:
        drawn = [draw(own, generator) for own, generator in zip(index, generators, strict=True)]
        other, u = (torch.stack(part) for part in zip(*drawn, strict=True))
        lam = law.quantile(u).float()
        at, partners = own_rows(index, x), own_rows(other, x)
        if method == "cutmix":
            cut = []
            for one, two, weight, generator in zip(x[at], x[partners], lam[:, 0].tolist(), generators, strict=True):
                centre = [int(torch.randint(side, (), generator=generator)) for side in x.shape[3:]]
                cut.append(cut_mix(one, two, weight, centre))
            inputs, lam = torch.stack([one for one, _ in cut]), torch.tensor([[left] for _, left in cut])
        else:
            inputs = mix(x[at], x[partners], lam.to(x.device))
        weight = lam if mixed_labels else (lam >= 0.5).float()
        return inputs, mix(one_hot[at], one_hot[partners], weight.to(x.device))

    return mixed


def segment_distances(x: Float[Tensor, "n d"], labels: Int[Tensor, " n"], block: int = 64) -> Float[Tensor, " n"]:
    """Distance of every row to the nearest mixing segment of two rows that are both of other classes.

    Assumption 2.9 of Chidambaram et al. (2022) asks that it be positive. Exact, over all n^3 / 2 pairs of a point and a
    segment, from squared distances alone: for point q and segment (s, t), with a = |q - t|^2, b = |q - s|^2,
    l = |s - t|^2, g = a + l - b and w = clamp(g / 2 l, 0, 1), the squared distance is a - w (g - w l).
    block: number of rows s taken at a time. Returns float64, inf where there is no row of another class.
    Raises `TypeError` for what is no tensor, `ValueError` for shapes that do not fit or numbers that are not finite.

    >>> import torch
    >>> segment_distances(torch.tensor([[0.0], [1.0], [2.0]]), torch.tensor([0, 1, 0])).tolist()
    [1.0, 0.0, 1.0]
    """
    check_tensors(x=(x, "n d"), labels=(labels, "n"))
    x = x.double()
    square = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").square_()
    nearest = torch.full((len(x),), torch.inf, dtype=torch.float64)
    for label in labels.unique():
        others = (labels != label).nonzero().flatten()
        length = square[others][:, others]
        inverse = torch.where(length > 0, 0.5 / length, 0.0)  # a row with itself, or its copy: w = 0
        for row in (labels == label).nonzero().flatten():
            a = square[row, others]
            for first in range(0, len(others), block):  # rows s of one block, rows t from its start on: each pair once
                part = slice(first, first + block)
                g = (a[first:] + length[part, first:]).sub_(a[part, None])
                w = (g * inverse[part, first:]).clamp_(0, 1)
                closer = torch.addcmul(g, w, length[part, first:], value=-1).mul_(w)
                nearest[row] = torch.minimum(nearest[row], torch.sub(a[first:], closer, out=closer).min())
    return nearest.clamp(min=0).sqrt()


def recover_points(midpoints: Float[Tensor, "pairs d"], tolerance: float = 1e-9) -> Float[Tensor, "m d"]:
    """The m points, m >= 5, of which all m (m - 1) / 2 pairwise midpoints are given in any order.

    Chidambaram et al. (2022), Theorem 2.11, states it for m >= 6 in general position. In the order of a random linear
    function f, the two smallest midpoints are those of points 1, 2 and 1, 3; one of the next m - 2 is that of 2, 3. For
    each guess three points follow; every further point follows from the smallest midpoint not yet explained.
    Returns the points in the order of f. tolerance: relative, up to which midpoints are the same.
    Raises `TypeError` for what is no tensor, `ValueError` when no set of points has these midpoints, or the number is
    not m (m - 1) / 2 with m >= 5.
    """
    check_tensors(midpoints=(midpoints, "pairs d"))
    if not midpoints.is_floating_point():
        raise TypeError(f"midpoints are of {midpoints.dtype}: must be of a floating-point type")
    m = round((1 + (1 + 8 * len(midpoints)) ** 0.5) / 2)
    if m * (m - 1) // 2 != len(midpoints) or m < 5:
        raise ValueError(f"{len(midpoints)} midpoints: must be m (m - 1) / 2 with m of 5 or more")
    direction = torch.randn(midpoints.shape[1], generator=torch.Generator().manual_seed(0), dtype=midpoints.dtype)
    ordered = midpoints[(midpoints @ direction).argsort()]
    near = tolerance * (1 + ordered.abs().max())

    def explain(points: list[Tensor], left: Tensor, new: Tensor) -> Tensor | None:
        """The midpoints left when those of the new point with all others are removed; None if one is missing."""
        for point in points:
            nearest = (left - (point + new) / 2).abs().amax(1).argmin() if len(left) else None
            if nearest is None or (left[nearest] - (point + new) / 2).abs().max() > near:
                return None
            left = torch.cat([left[:nearest], left[nearest + 1 :]])
        return left

    for guess in range(2, m):
        first = ordered[0] + ordered[1] - ordered[guess]
        points: list[Tensor] = [first]
        left: Tensor | None = ordered
        while left is not None and len(points) < m:
            new = 2 * left[0] - first  # the smallest midpoint left belongs to the first point and the next one
            left = explain(points, left, new)
            points.append(new)
        if left is not None and not len(left):
            return torch.stack(points)
    raise ValueError(f"no set of {m} points has these midpoints, to a tolerance of {tolerance}")


def two_moons(
    rows: int, separation: float, seed: int, noise_std: float = 0.1
) -> tuple[Float[Tensor, "n 2"], Float[Tensor, "n 2"]]:
    """Two moons that a vertical line at 0 divides (the set of Chidambaram et al. 2022, section 3).

    scikit-learn's moons, drawn apart until they lie on both sides of a line: each moon is moved towards its own side by
    0.3, rows beyond the line are reflected at it, and both sides are moved away from it by `separation`.
    Returns points and one-hot labels; the line is x_1 = 0, and class 1 lies on the left. noise_std: of the moons.
    """
    from sklearn.datasets import make_moons  # half a second of import that few runs need

    points, label = make_moons(rows, noise=noise_std, random_state=seed)
    side = 1.0 - 2.0 * label  # moon 0 above the line
    height = points[:, 1] + 0.3 * side
    height = side * (np.abs(height - height.mean()) + separation)
    x = torch.tensor(np.stack([height, points[:, 0] - 0.5], axis=1), dtype=torch.float32)
    return x, F.one_hot(torch.tensor(label), 2).float()


class Boundary(NamedTuple):
    """Shape of a decision boundary in the plane.

    bent: fraction of the square that a straight line x_1 = 0 would classify otherwise.
    margin: smallest distance of a training point to the boundary, negative if one is on the wrong side.
    """

    bent: float
    margin: float


def boundary(
    score: Float[Tensor, "g g"], half: float, x: Float[Tensor, "n 2"], correct: Bool[Tensor, " n"]
) -> Boundary:
    """Measures of the boundary {score = 0} on the square [-half, half]^2, taken as linear between grid points.

    score: first axis x_1, positive where the class of the right side is predicted.
    half: half the side of the square.
    x: the training points.
    correct: those on their own side.
    margin is nan when the square holds no boundary.
    """
    from contourpy import contour_generator  # comes with matplotlib

    grid = np.linspace(-half, half, len(score))
    bent = ((score > 0) != (torch.from_numpy(grid) > 0)[:, None]).float().mean().item()
    lines = contour_generator(grid, grid, score.T.numpy()).lines(0.0)
    ends = [(line[:-1], line[1:]) for line in lines if len(line) > 1]
    if not ends:
        return Boundary(bent, float("nan"))
    start, stop = (torch.from_numpy(np.concatenate(part)) for part in zip(*ends, strict=True))
    step, offset = stop - start, x.double()[:, None] - start  # (k, 2), (n, k, 2)
    w = ((offset * step).sum(2) / step.square().sum(1).clamp(min=1e-300)).clamp(0, 1)
    distance = (offset - w[..., None] * step).norm(dim=2).amin(1)
    return Boundary(bent, torch.where(correct, distance, -distance).min().item())


def linear_optimum(
    x: Float[Tensor, "n d"], signs: Float[Tensor, " n"], law: MixingLaw, nodes: int = 64
) -> Float[Tensor, " d"]:
    """Minimiser w of the expected Mixup loss of a linear model without bias (Chidambaram et al. 2022, section 3).

    L(w) = mean_ij E_lambda BCE(sigmoid(w . z), target), z = lambda x_i + (1 - lambda) x_j and its mixed target,
    over all n^2 pairs and `nodes` midpoint quantiles of lambda; L-BFGS from 0, so that w stays in the span of the rows.
    All in float64. signs: -1 or 1, both present.
    Raises `TypeError` for what is no tensor of float64 or no law, `ValueError` for shapes that do not fit, numbers that
    are not finite, or other signs.
    """
    check_tensors(x=(x, "n d"), signs=(signs, "n"))
    check_law(law)
    if {x.dtype, signs.dtype} != {torch.float64}:
        raise TypeError(f"x is of {x.dtype}, signs of {signs.dtype}: both must be torch.float64")
    if signs.unique().tolist() != [-1, 1]:
        raise ValueError(f"signs are {signs.unique().tolist()}: must be -1 and 1, one class is not enough")
    lam = law.quantile((torch.arange(nodes, dtype=torch.float64) + 0.5) / nodes)[:, None, None]
    target = (1 + lam * signs[:, None] + (1 - lam) * signs) / 2  # (k, n, n): probability of sign 1

    def objective(w: np.ndarray) -> tuple[float, np.ndarray]:
        score = x @ torch.from_numpy(w)
        mixed = lam * score[:, None] + (1 - lam) * score
        loss = F.binary_cross_entropy_with_logits(mixed, target)
        error = (torch.sigmoid(mixed) - target) / mixed.numel()
        slope = (lam * error).sum((0, 2)) + ((1 - lam) * error).sum((0, 1))
        return loss.item(), (slope @ x).numpy()

    options = {"maxiter": 2000, "ftol": 1e-15, "gtol": 1e-10}
    return torch.from_numpy(minimize(objective, np.zeros(x.shape[1]), jac=True, method="L-BFGS-B", options=options).x)


def max_margin_bound(points: int) -> float:
    """10 n ln n + n - 1: the dimension above which Theorem 3.5 holds."""
    return 10 * points * math.log(points) + points - 1


def angle(first: Float[Tensor, " d"], second: Float[Tensor, " d"]) -> float:
    """Angle between two vectors, in degrees. Raises `ValueError` for a vector of length zero, which has none."""
    check_tensors(first=(first, "d"), second=(second, "d"))
    if not (first.any() and second.any()):
        raise ValueError("a vector of length zero has no direction")
    first, second = F.normalize(first, dim=0), F.normalize(second, dim=0)
    return float(torch.rad2deg(2 * torch.atan2((first - second).norm(), (first + second).norm())))  # right near 0, too
