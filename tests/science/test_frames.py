"""Tidy frames, by hand and against NumPy."""

import numpy as np
import pandas as pd
import pytest
import torch
from pandas.testing import assert_frame_equal

from phenomena import statistics
from phenomena.science import frames

ARRAY = np.arange(24.0).reshape(2, 3, 4)  # seed, arm, step
FRAME = frames.tidy(ARRAY, "loss", seed=(5, 6), arm=["a", "b", "c"], step=range(4))


def test_tidy_puts_every_number_beside_its_place():
    assert list(FRAME) == ["seed", "arm", "step", "loss"] and len(FRAME) == 24
    for row in FRAME.itertuples():
        assert row.loss == ARRAY[row.seed - 5, "abc".index(row.arm), row.step]
    assert FRAME["loss"].tolist() == list(range(24)), "the last axis varies fastest"


def test_tidy_takes_tensors_and_is_undone_by_per_seed():
    frame = frames.tidy(torch.tensor(ARRAY), seed=torch.arange(2), arm=np.array(["a", "b", "c"]), step=[0, 1, 2, 3])
    assert frame["value"].tolist() == ARRAY.flatten().tolist()
    for i, arm in enumerate("abc"):
        assert frames.per_seed(frame, "value", arm=arm, step=2).tolist() == ARRAY[:, i, 2].tolist()


def test_tidy_keeps_numbers_beside_texts():
    frame = frames.tidy([[1.0, 2.0, 3.0]], seed=[0], copies=(1, 4, "fresh"))
    assert frames.per_seed(frame, "value", copies=4).tolist() == [2.0]
    assert frames.per_seed(frame, "value", copies="fresh").tolist() == [3.0]


@pytest.mark.parametrize("axes", [{"seed": (0, 1)}, {"seed": (0, 1), "arm": "abcd", "step": range(3)}])
def test_tidy_refuses_axes_that_do_not_fit(axes):
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\) for axes seed.* of lengths \(2,"):
        frames.tidy(ARRAY, **axes)


def test_select_by_several_columns():
    kept = frames.select(FRAME, arm="b", step=3)
    assert kept["loss"].tolist() == [7.0, 19.0] and kept.index.tolist() == [7, 19]
    assert_frame_equal(frames.select(FRAME), FRAME)
    assert frames.select(FRAME, arm="d").empty


@pytest.mark.parametrize("kind", [float, np.float32, np.float64])
def test_numbers_are_the_same_within_rounding(kind):
    frame = pd.DataFrame({"rate": [0.1 + 0.2, 0.3001], "value": [1, 2]})
    assert frames.select(frame, rate=kind(0.3))["value"].tolist() == [1]
    assert frames.select(FRAME, step=kind(2.0))["step"].unique().tolist() == [2], "a column of whole numbers"


def test_select_names_a_column_that_is_not_there():
    with pytest.raises(KeyError, match="no column 'arms': seed, arm, step, loss are there"):
        frames.select(FRAME, arms="a")


def test_per_seed_averages_what_is_left_open():
    np.testing.assert_allclose(frames.per_seed(FRAME, "loss", arm="b"), ARRAY[:, 1].mean(1))
    shuffled = FRAME.sample(frac=1, random_state=0)
    np.testing.assert_allclose(frames.per_seed(shuffled, "loss"), ARRAY.mean((1, 2)))  # seeds rise


def test_per_seed_reports_missing_seeds_and_leaves_out_nan():
    frame = pd.DataFrame({"seed": [2, 2, 1, 4], "value": [1.0, np.nan, 3.0, np.nan]})
    np.testing.assert_equal(frames.per_seed(frame, "value"), [3.0, 1.0, np.nan])
    np.testing.assert_equal(frames.per_seed(frame, "value", seeds=[4, 3, 2, 1]), [np.nan, np.nan, 1.0, 3.0])
    assert frames.per_seed(frame, "value", seeds=range(2), seed=9).tolist() == pytest.approx([np.nan] * 2, nan_ok=True)


def test_columns_are_per_seed_under_names():
    wide = FRAME.assign(gain=-FRAME["loss"])
    found = frames.columns(wide, "{value}_{arm}", ["loss", "gain"], arm={"a": "plain", "c": "mixed"}, step=3)
    assert list(found) == ["loss_plain", "loss_mixed", "gain_plain", "gain_mixed"]
    for name, values in found.items():
        value, arm = name.split("_")
        expected = frames.per_seed(wide, value, arm={"plain": "a", "mixed": "c"}[arm], step=3)
        assert values.tolist() == expected.tolist()


def test_columns_of_one_value_and_with_words_for_values():
    assert list(frames.columns(FRAME, "loss_{arm}", "loss", arm={"a": 1})) == ["loss_1"]
    (short,) = frames.columns(FRAME, "{value}_end", {"loss": "l"}, arm="a", step=3).items()
    assert short[0] == "l_end" and short[1].tolist() == [3.0, 15.0]


def test_columns_pair_by_seed_where_arms_lack_different_seeds():
    frame = pd.DataFrame(
        {"seed": [0, 1, 1, 2, 3], "arm": ["a", "a", "b", "b", "c"], "value": [1.0, 2.0, 3.0, 4.0, 5.0]}
    )
    found = frames.columns(frame, "{arm}", arm={"a": "x", "b": "y"})
    np.testing.assert_equal(found["x"], [1.0, 2.0, np.nan])
    np.testing.assert_equal(found["y"], [np.nan, 3.0, 4.0])
    given = frames.columns(frame, "{arm}", seeds=[1], arm={"a": "x", "c": "z"})
    np.testing.assert_equal([given["x"], given["z"]], [[2.0], [np.nan]])


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("{value}_{method}", {"arm": {"a": "x"}}),  # a field without a mapping
        ("{value}", {"arm": {"a": "x"}}),  # a mapping without a field
        ("{value}_{arm}", {"arm": "a"}),  # a field with one fixed value
        ("{}", {}),
    ],
)
def test_columns_refuses_a_pattern_that_does_not_fit(name, where):
    with pytest.raises(ValueError, match=r"has the fields .*, mappings are given for"):
        frames.columns(FRAME, name, "loss", **where)


def test_columns_refuses_one_name_for_two_combinations():
    with pytest.raises(ValueError, match="makes 'x' of two combinations"):
        frames.columns(FRAME, "{arm}", "loss", arm={"a": "x", "b": "x"})
    with pytest.raises(ValueError, match="makes 'a' of two combinations"):
        frames.columns(FRAME, "{arm}", ["loss", "step"], arm={"a": "a"})


def test_summary_is_the_interval_of_every_group():
    table = frames.summary(FRAME, ["step", "arm"], "loss")
    assert list(table) == ["step", "arm", "mean", "low", "high", "n"] and len(table) == 12
    for row in table.itertuples():
        expected = statistics.interval(ARRAY[:, "abc".index(row.arm), row.step])
        assert (row.mean, row.low, row.high) == pytest.approx(expected) and row.n == 2


def test_summary_keeps_the_order_of_appearance_and_leaves_out_nan():
    frame = pd.DataFrame({"arm": ["z", "a", "z", "z"], "value": [1.0, np.nan, 3.0, np.nan]})
    table = frames.summary(frame, "arm")
    assert table["arm"].tolist() == ["z", "a"] and table["n"].tolist() == [2, 0]
    assert table["mean"].tolist() == pytest.approx([2.0, np.nan], nan_ok=True)


def test_summary_has_a_row_for_a_group_named_by_none():
    frame = pd.DataFrame({"limit": [None, None, 3.0], "value": [1.0, 3.0, 5.0]})
    assert frames.summary(frame, "limit")["mean"].tolist() == [2.0, 5.0]


def test_summary_skips_categories_that_do_not_occur():
    frame = pd.DataFrame({"arm": pd.Categorical(["b", "b"], ["a", "b"]), "value": [1.0, 2.0]})
    assert frames.summary(frame, "arm")["arm"].tolist() == ["b"]
