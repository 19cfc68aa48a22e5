"""Feature learning: closed form, limits, bad input. The notebook from end to end is tested by test_chapters.py."""

import pytest

from phenomena.chapters.feature_learning import study, theory


@pytest.mark.parametrize("draws", [1, 4, 100])
def test_errors_are_those_of_the_closed_form(draws):
    frame = study.errors_of_means(range(20), [draws], sigma=2.0)
    assert frame["error"].mean() == pytest.approx(theory.standard_error(2.0, draws), rel=0.05)
    assert len(frame) == 20


def test_without_noise_there_is_no_error():
    assert (study.errors_of_means(range(2), [3], sigma=0.0)["error"] == 0).all()
    assert theory.standard_error(0.0, 3) == 0


@pytest.mark.parametrize(("sigma", "draws"), [(-1.0, 3), (1.0, 0)])
def test_bad_input_is_refused(sigma, draws):
    with pytest.raises(ValueError, match="sigma must be 0 or more"):
        theory.standard_error(sigma, draws)
