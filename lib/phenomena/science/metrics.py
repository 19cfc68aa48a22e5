"""Accuracy, calibration, and the margin of linear classifiers."""

import numpy as np
import torch
from scipy.optimize import nnls
from torch import Tensor


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of equal entries, 0 to 1."""
    return (predicted == labels).float().mean().item()


def calibration(probabilities: Tensor, labels: Tensor, bins: int = 15) -> tuple[float, Tensor]:
    """Expected calibration error, and the reliability diagram (Guo et al. 2017): ECE = sum_k n_k / n |acc_k - conf_k|.

    Rows are put into equal-width bins by the probability of their predicted class.
    probabilities: float (n, c); labels: int64 (n,). Returns ECE and float (bins, 3): confidence, accuracy, share of the
    rows; nan, nan, 0 for an empty bin. Raises `ValueError` for rows that are no distributions.
    """
    if (probabilities < 0).any() or (probabilities.sum(1) - 1).abs().max() > 1e-4:
        raise ValueError("probabilities are no distributions: entries of 0 or more that sum to 1 in every row expected")
    confidence, predicted = probabilities.double().max(1)
    at = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)
    count = torch.bincount(at, minlength=bins).double()
    sums = [
        torch.zeros(bins, dtype=torch.float64).index_add(0, at, v) for v in (confidence, (predicted == labels).double())
    ]
    mean_confidence, accuracy = (total / count for total in sums)
    share = count / len(labels)
    error = (share * (accuracy - mean_confidence).abs()).nansum().item()
    return error, torch.stack([mean_confidence, accuracy, share], dim=1)


def max_margin(x: Tensor, signs: Tensor) -> Tensor | None:
    """argmin |w|^2 with signs_i w . x_i >= 1, as Lawson and Hanson's least-distance programme; None if there is none.

    x: float64 (n, d); signs: -1 or 1 (n,). Returns float64 (d,).
    """
    rows = (x * signs[:, None]).numpy()
    e = np.vstack([rows.T, np.ones(len(rows))])
    goal = np.zeros(len(e))
    goal[-1] = 1.0
    u, norm = nnls(e, goal)
    if norm < 1e-8:
        return None
    residual = e @ u - goal
    return torch.from_numpy(-residual[:-1] / residual[-1])
