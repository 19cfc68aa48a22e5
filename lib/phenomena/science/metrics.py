"""Accuracy, calibration, and the margin of linear classifiers."""

import numpy as np
import torch
from jaxtyping import Float, Float64, Int
from scipy.optimize import nnls
from torch import Tensor

from phenomena.science.checks import check_labels, check_tensors


def accuracy(predicted: Int[Tensor, "*rows"], labels: Int[Tensor, "*rows"]) -> float:
    """Fraction of the entries that are equal; nan for none. Raises `ValueError` for unequal shapes.

    >>> import torch
    >>> accuracy(torch.tensor([0, 1, 1, 2]), torch.tensor([0, 1, 2, 2]))
    0.75
    """
    if predicted.shape != labels.shape:
        raise ValueError(f"predicted classes {tuple(predicted.shape)} and labels {tuple(labels.shape)} must be alike")
    return (predicted == labels).float().mean().item()


def calibration(
    probabilities: Float[Tensor, "n c"], labels: Int[Tensor, " n"], bins: int = 15
) -> tuple[float, Float[Tensor, "{bins} 3"]]:
    """Expected calibration error, and the reliability diagram (Guo et al. 2017): ECE = sum_k n_k / n |acc_k - conf_k|.

    Rows are put into equal-width bins by the probability of their predicted class.

    Returns the ECE and, for each bin, mean confidence, accuracy and fraction of the rows, in float64; nan, nan, 0 for
    an empty bin. Raises `ValueError` for rows of `probabilities` that are not distributions, shapes that do not fit,
    labels beyond the classes or fewer bins than 1, `TypeError` for other labels or what is no tensor.

    >>> import torch
    >>> sure = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    >>> error, diagram = calibration(sure, torch.tensor([1, 0]))
    >>> error, diagram[-1].tolist()  # confidence 1, accuracy a half, all rows
    (0.5, [1.0, 0.5, 1.0])
    """
    check_tensors(probabilities=(probabilities, "n c"), labels=(labels, "n"))
    check_labels(labels, probabilities.shape[1])
    if bins < 1:
        raise ValueError(f"{bins} bins: must be 1 or more")
    if (probabilities < 0).any() or (probabilities.sum(1) - 1).abs().max() > 1e-4:
        raise ValueError("probabilities must be distributions: entries of 0 or more that sum to 1 in every row")
    confidence, predicted = probabilities.double().max(1)
    at = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    count = torch.bincount(at, minlength=bins).double()
    sums = [
        torch.zeros(bins, dtype=torch.float64).index_add(0, at, v) for v in (confidence, (predicted == labels).double())
    ]
    mean_confidence, accuracy = (total / count for total in sums)
    fraction = count / len(labels)
    error = (fraction * (accuracy - mean_confidence).abs()).nansum().item()
    return error, torch.stack([mean_confidence, accuracy, fraction], dim=1)


def max_margin(x: Float64[Tensor, "n d"], signs: Float64[Tensor, " n"]) -> Float64[Tensor, " d"] | None:
    """argmin |w|^2 with signs_i w . x_i >= 1, as Lawson and Hanson's least-distance programme.

    signs: -1 or 1. Returns `None` where no hyperplane through the origin separates the signs. Raises `ValueError` for
    other signs, shapes that do not fit or numbers that are not finite, `TypeError` for what is no tensor.

    References: Lawson and Hanson, Solving Least Squares Problems (1974), chapter 23, problem LDP.

    >>> import torch
    >>> x = torch.tensor([[2.0, 0.0], [-2.0, 0.0]], dtype=torch.float64)
    >>> max_margin(x, torch.tensor([1.0, -1.0], dtype=torch.float64)).round(decimals=6).abs().tolist()
    [0.5, 0.0]
    """
    check_tensors(x=(x, "n d"), signs=(signs, "n"))  # of no rows, scipy's nnls ends the interpreter
    if not (signs.abs() == 1).all():
        raise ValueError(f"signs are {signs.unique().tolist()[:5]}: must be -1 and 1")
    if 0 < (size := x.abs().max().item()) < 1e-3:  # the residual below is told from none for rows of about one
        found = max_margin(x / size, signs)
        return None if found is None else found / size
    rows = (x * signs[:, None]).numpy()
    e = np.vstack([rows.T, np.ones(len(rows))])
    goal = np.zeros(len(e))
    goal[-1] = 1.0
    u, norm = nnls(e, goal)
    if norm < 1e-8:
        return None
    residual = e @ u - goal
    return torch.from_numpy(-residual[:-1] / residual[-1])
