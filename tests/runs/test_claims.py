"""Verdicts by known values, and claims that cannot be checked."""

import numpy as np
import pytest
import torch
from conftest import CHAPTER, write_chapter
from scipy import stats

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import claims
from phenomena.runs.store.chapters import Claim, Project
from phenomena.runs.store.runs import Record
from phenomena.statistics import interval


def record_with(**values):
    return Record.model_construct(values=values)


def claim_with(measured="x", **threshold):
    about = {"name": "c", "statement": "s", "source": "p", "paper_value": "f", "rationale": "r", "caveat": "l"}
    return Claim(**about, measured=measured, **threshold)


def verdict(claim, **values):
    return claims._verdict("toy", claim, record_with(**values))


def test_interval_is_students():
    x = [0.1, 0.4, 0.35, 0.8]
    mean, low, high = interval(x)
    expected = stats.t.interval(0.95, 3, np.mean(x), stats.sem(x))
    assert (low, high) == pytest.approx(expected)
    assert mean == pytest.approx(np.mean(x))
    assert interval(torch.tensor(x)) == pytest.approx((mean, low, high))
    assert interval([*x, float("nan")]) == pytest.approx((mean, low, high))
    assert np.isnan(interval([1.0])[1:]).all()
    assert np.isnan(interval([])).all()


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    inside = [low < 0 < high for _, low, high in (interval(rng.normal(size=5)) for _ in range(2000))]
    assert abs(np.mean(inside) - 0.95) < 0.02


@pytest.mark.parametrize(
    ("threshold", "values", "expected"),
    [
        ({"above": 0.5}, [0.9, 1.0, 1.1], "reproduced"),
        ({"above": 0.5}, [0.0, 0.1, -0.1], "contradicted"),
        ({"above": 0.5}, [0.0, 0.6, 1.0], "inconclusive"),
        ({"above": 0.5}, [0.9], "inconclusive"),
        ({"above": 0.5}, [0.9, None], "inconclusive"),
        ({"above": 0.5}, [0.9, None, 1.0], "inconclusive"),
        ({"below": 0.5}, [0.0, 0.1, -0.1], "reproduced"),
        ({"below": 0.5}, [0.9, 1.0, 1.1], "contradicted"),
        ({"below": 0.0}, [-1.0, -1.1, -0.9], "reproduced"),
        ({"between": (0.0, 1.0)}, [0.4, 0.5, 0.6], "reproduced"),
        ({"between": (0.0, 1.0)}, [1.4, 1.5, 1.6], "contradicted"),
        ({"between": (0.0, 1.0)}, [0.9, 1.0, 1.1], "inconclusive"),
        ({"above": 0.5}, [1.0, 1.0, 1.0], "reproduced"),
        ({"above": 1.0}, [1.0, 1.0, 1.0], "inconclusive"),
    ],
)
def test_verdicts(threshold, values, expected):
    found = verdict(claim_with(**threshold), x=values)
    assert found.verdict == expected
    assert found.seeds == sum(v is not None for v in values)


def test_an_infinite_value_gives_no_verdict_and_stays_json():
    row = verdict(claim_with("a / b", above=0), a=[1.0, 2.0, 3.0], b=[0.0, 1.0, 1.0]).row()
    assert row["verdict"] == "inconclusive"
    assert (row["measured"], row["low"], row["high"]) == (None, None, None)


def test_expressions_are_taken_seed_by_seed():
    found = verdict(claim_with("(a - b) / abs(b)", above=0), a=[2.0, 4.0], b=[-1.0, -2.0])
    assert found.measured == pytest.approx(3.0)
    paired = verdict(claim_with("a - b", above=0), a=[1.1, 5.1, 9.1], b=[1.0, 5.0, 9.0])
    assert paired.verdict == "reproduced"  # the spread between seeds cancels


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ("hihg - low", r"toy, claim c: the run records no value 'hihg'; did you mean 'high'\? recorded: high, low"),
        ("zzz", r"records no value 'zzz'; recorded: high, low"),
        ("high -", "is not an expression"),
        ("high.sum()", "does not give one number a seed|cannot be evaluated"),
        ("3", "does not give one number a seed|cannot be evaluated"),
        ("__import__('os')", "records no value '__import__'"),
        ("high - few", "values of different numbers of seeds: few 1, high 2"),
    ],
)
def test_claims_that_cannot_be_checked(measured, message):
    values = {"high": [1.0, 2.0], "low": [0.0, 0.0]} | ({"few": [1.0]} if "few" in measured else {})
    with pytest.raises(BadInput, match=message):
        verdict(claim_with(measured, above=0), **values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["claims"][0].pop("above"), "exactly one of above: x, below: x, between"),
        (lambda c: c["claims"][0].update(below=1), "exactly one of above: x, below: x, between"),
        (lambda c: c["claims"].append(c["claims"][0]), "claims: 'apart' stands twice"),
        (
            lambda c: c["claims"][0].update(abvoe=1),
            r"toy.yaml: claims.0.abvoe: Extra inputs are not permitted, got '1'",
        ),
        (lambda c: c["editions"].pop("smoke"), "editions: 'smoke' is missing"),
        (lambda c: c["editions"]["default"].update(parameters={"seeds": 1}), "default takes the notebook's own values"),
        (
            lambda c: c["editions"]["smoke"]["parameters"].update(sed=1),
            "toy.yaml, edition smoke: unknown parameter 'sed'",
        ),
        (lambda c: c["editions"]["smoke"]["cost"].update(seconds=-1), "cost.seconds: Input should be greater than 0"),
    ],
)
def test_chapter_files_that_are_refused(tmp_path, change, message):
    import copy

    broken = copy.deepcopy(CHAPTER)
    change(broken)
    write_chapter(tmp_path, chapter=broken)
    with pytest.raises(BadInput, match=message):
        _ = Project(tmp_path).chapter("toy").file


def test_a_name_twice_in_yaml(tmp_path):
    write_chapter(tmp_path)
    path = tmp_path / "notebooks" / "toy.yaml"
    path.write_text(path.read_text().replace("seeds: 2", "seeds: 2\n      seeds: 3"))
    with pytest.raises(BadInput, match=r"toy.yaml: unreadable \('seeds' stands twice, line \d+\)"):
        _ = Project(tmp_path).chapter("toy").file


@pytest.mark.parametrize("text", ["a: [", "\tx", "- just\n- a list", ""])
def test_unreadable_yaml(tmp_path, text):
    write_chapter(tmp_path)
    (tmp_path / "notebooks" / "toy.yaml").write_text(text)
    with pytest.raises(BadInput, match=r"toy.yaml: "):
        _ = Project(tmp_path).chapter("toy").file
