"""Closed forms of the chapter."""

from scipy.stats import norm


def entry_ratio(minority: float = 0.5) -> float:
    """Lambda at which classification features enter, over that for regression features, with weights 2 and 1/2.

    Both losses then have the gradient -x_j.y / n at zero. Let s be a Gaussian score with standard deviation 1 and
    y = 1 where it is above the quantile c of 1 - minority, else -1. With Stein's lemma, E[x_j y] = E[x_j s] E[s y] and
    E[s y] = 2 phi(c): sqrt(2 / pi) = 0.80 for equal classes, less for unequal ones. For a standardised regression
    target it is E[s s] = 1 instead.
    """
    return float(2 * norm.pdf(norm.ppf(1 - minority)))
