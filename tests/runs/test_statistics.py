"""Intervals against SciPy's, at their edges, and how often they cover: the numbers that the guide states."""

import numpy as np
import pytest
import torch
from scipy import stats

from phenomena.statistics import interval

SEEDS = (3, 5, 10, 20)
REPEATS = 1500


def test_of_a_mean_it_is_students():
    x = [0.1, 0.4, 0.35, 0.8]
    mean, low, high = interval(x)
    expected = stats.t.interval(0.95, 3, np.mean(x), stats.sem(x))
    assert (low, high) == pytest.approx(expected)
    assert mean == pytest.approx(np.mean(x))
    assert interval(torch.tensor(x)) == pytest.approx((mean, low, high))
    assert interval([*x, float("nan")]) == pytest.approx((mean, low, high))


@pytest.mark.parametrize("how", [{}, {"trials": 10}, {"bounds": (0, 1)}])
def test_one_seed_or_none_has_no_interval(how):
    mean, low, high = interval([1.0], **how)
    assert mean == 1 and np.isnan([low, high]).all()
    assert np.isnan(interval([np.nan], **how)).all()


def test_a_mean_without_spread_has_no_interval():
    mean, low, high = interval([2.0, 2.0, 2.0])
    assert mean == 2 and np.isnan([low, high]).all()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_alike_in_all_seeds_has_that_of_clopper_and_pearson(share):
    expected = stats.binomtest(int(share * 80), 80).proportion_ci(0.95, "exact")
    assert interval([share] * 4, trials=20) == pytest.approx((share, *expected))


def test_a_share_counts_trials_as_often_as_they_are():
    assert interval([0.5, 0.8], trials=[10, 40])[0] == pytest.approx(37 / 50)


def test_a_share_is_as_wide_as_the_spread_between_seeds_warrants():
    x = [0.5, 0.7, 0.6, 0.65, 0.4]
    many, infinite = interval(x, trials=10_000), interval(x, bounds=(0, 1))
    assert many == pytest.approx(infinite, abs=2e-3)  # more trials a seed add nothing
    assert many == pytest.approx(interval(x), abs=0.03)  # far from the ends Student says the same
    few = interval(x, trials=20)
    pooled = stats.binomtest(57, 100).proportion_ci(0.95, "exact")
    assert few[1] <= pooled[0] + 1e-12 and few[2] >= pooled[1] - 1e-12  # never narrower than the trials allow


def test_bounds_only_scale():
    x = np.array([0.2, 0.4, 0.35])
    assert 6 * np.array(interval(x, bounds=(0, 1))) - 2 == pytest.approx(interval(6 * x - 2, bounds=(-2, 4)))


def test_where_all_seeds_agree_each_counts_as_one_trial():
    assert interval([1.0] * 6, bounds=(0, 1)) == pytest.approx((1, 0.025 ** (1 / 6), 1))


def test_it_stays_within_the_bounds_and_has_a_width():
    rng = np.random.default_rng(0)
    for _ in range(300):
        n, p, trials = rng.integers(2, 12), rng.choice([0.0, 0.01, 0.5, 0.99, 1.0]), rng.integers(1, 300)
        x = rng.binomial(trials, p, n) / trials
        for how in ({"trials": trials}, {"bounds": (0, 1)}):
            mean, low, high = interval(x, **how)
            assert 0 <= low <= mean <= high <= 1 and low < high


@pytest.mark.parametrize("how", [{"trials": 10}, {"bounds": (0, 1)}])
def test_a_value_outside_is_refused(how):
    with pytest.raises(ValueError, match=r"values from 0.5 to 1.2: must lie within the bounds"):
        interval([0.5, 1.2], **how)


def covered(draw, true, **how):
    """How often the interval of n seeds covers, for every n."""
    found = []
    for n in SEEDS:
        rng = np.random.default_rng(n)
        ends = np.array([interval(draw(rng, n), **how)[1:] for _ in range(REPEATS)])
        found.append(float(np.mean((ends[:, 0] <= true) & (true <= ends[:, 1]))))
    return np.array(found)


def of_trials(p, trials, correlation):
    """Shares of trials whose chance differs between seeds so that two trials of one seed have that correlation."""

    def draw(rng, n):
        chance = p if correlation == 0 else rng.beta(p * (1 / correlation - 1), (1 - p) * (1 / correlation - 1), n)
        return rng.binomial(trials, chance, n) / trials

    return draw


def of_beta(mean, concentration):
    return lambda rng, n: rng.beta(mean * concentration, (1 - mean) * concentration, n)


# Coverage is 0.95 within simulation's error of 0.015, unless it says otherwise: (draw, true value, how, at least)
SHAPES = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0, {}, 0.935),
    "uniform": (lambda rng, n: rng.uniform(size=n), 0.5, {}, 0.90),
    "skewed (log-normal, 0.5)": (lambda rng, n: rng.lognormal(0, 0.5, n), np.exp(0.125), {}, 0.89),
    **{
        f"share {p} of {trials}, correlation {r}": (of_trials(p, trials, r), p, {"trials": trials}, 0.935)
        for p in (0.5, 0.9, 0.99, 0.999)
        for trials, r in ((50, 0), (50, 0.02), (200, 0.002), (1000, 0))
    },
    "share 0.9 of 1000, correlation 0.02": (of_trials(0.9, 1000, 0.02), 0.9, {"trials": 1000}, 0.935),
    "share 0.99 of 200, correlation 0.02": (of_trials(0.99, 200, 0.02), 0.99, {"trials": 200}, 0.88),
    **{
        f"bounded, mean {p}, beta of {c}": (of_beta(p, c), p, {"bounds": (0, 1)}, 0.92)
        for p, c in ((0.5, 10), (0.9, 20), (0.99, 200))
    },
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage(shape):
    draw, true, how, least = SHAPES[shape]
    assert covered(draw, true, **how).min() > least, shape


def test_a_seed_that_rarely_fails_altogether_is_not_seen_by_any_interval_of_few_seeds():
    # one trial in a thousand fails, nearly all of them in one seed of fifty
    assert covered(of_trials(0.999, 1000, 0.02), 0.999, trials=1000)[1:].max() < 0.8
