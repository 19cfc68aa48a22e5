"""Influence: formulas and closed forms.

TODO: this example is the law of large numbers; put the chapter's mathematics in its place.
"""


def standard_error(sigma: float, draws: int) -> float:
    """Root mean square error of the mean of independent draws: sigma / sqrt(draws).

    Raises `ValueError` unless sigma is 0 or more and draws 1 or more.
    """
    if sigma < 0 or draws < 1:
        raise ValueError(f"sigma {sigma} and {draws} draws: sigma must be 0 or more, draws 1 or more")
    return sigma / draws**0.5
