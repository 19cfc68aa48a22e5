"""Verdicts by known values, and claims that cannot be checked."""

from pathlib import Path

import numpy as np
import pytest
from conftest import CHAPTER, write_chapter
from scipy import stats

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import claims
from phenomena.runs.store.chapters import Chapter, ChapterFile, Claim, Project
from phenomena.runs.store.runs import Record

ABOUT = {"name": "c", "statement": "s", "origin": "paper", "source": "p", "paper_value": "f", "quantity": "q",
         "rationale": "r", "caveat": "l"}  # fmt: skip


def record_with(parameters=None, looks=1, **values):
    return Record.model_construct(key="0", seeds=[], values=values, parameters=parameters or {}, looks=looks, pool=[],
                                  processor="A", commit=None, started="", seconds={"total": 1.0})  # fmt: skip


def claim_with(measured="x", kind="mean", **threshold):
    return Claim(**ABOUT, measured=measured, kind=kind, **threshold)


def chapter_with(*found, **trials):
    chapter = Chapter(Path("toy.ipynb"))
    chapter.__dict__["file"] = ChapterFile.model_construct(claims=list(found), trials=trials)
    return chapter


def verdict(claim, trials=None, **record):
    return claims.check(chapter_with(claim, **(trials or {})), record_with(**record))[0]


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
        ({"above": 0.5}, [1.0, 1.0, 1.0], "inconclusive"),  # no spread, no interval: of another kind?
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
    paired = verdict(claim_with("a - b", above=0), a=[1.1, 5.12, 9.09], b=[1.0, 5.0, 9.0])
    assert paired.verdict == "reproduced"  # the spread between seeds cancels


@pytest.mark.parametrize(
    ("measured", "message"),
    [
        ("hihg - low", r"toy, claim c: the run records no value 'hihg'; did you mean 'high'\? recorded: high, low"),
        ("zzz", r"records no value 'zzz'; recorded: high, low"),
        ("high -", "is not an expression"),
        ("high.sum()", "does not give one number a seed|cannot be evaluated"),
        ("3", "does not give one number a seed|cannot be evaluated"),
        ("__import__('os')", "unknown function '__import__'; accepted: min, max, abs, sqrt, log, exp"),
        ("log10(high)", r"toy, claim c: unknown function 'log10'; did you mean 'log'\? accepted: min, max, abs, sqrt"),
        ("high - few", "values of different numbers of seeds: few 1, high 2"),
    ],
)
def test_claims_that_cannot_be_checked(measured, message):
    values = {"high": [1.0, 2.0], "low": [0.0, 0.0]} | ({"few": [1.0]} if "few" in measured else {})
    with pytest.raises(BadInput, match=message):
        verdict(claim_with(measured, above=0), **values)


@pytest.mark.parametrize(
    ("threshold", "values", "expected", "worst"),
    [
        ({"below": 1e-6}, [1e-9, 3e-7, 0.0], "reproduced", 3e-7),
        ({"below": 1e-6}, [1e-9, 3e-6, 0.0], "contradicted", 3e-6),
        ({"above": 0.5}, [1.0, None, 0.7], "reproduced", 0.7),
        ({"between": (0.0, 1.0)}, [0.5, 0.9, 0.2], "reproduced", 0.9),
        ({"between": (0.0, 1.0)}, [0.5, -0.1, 0.2], "contradicted", -0.1),
        ({"below": 1e-6}, [None, None], "inconclusive", None),
    ],
)
def test_an_exact_claim_holds_for_every_seed_or_not_at_all(threshold, values, expected, worst):
    found = verdict(claim_with(kind="exact", **threshold), x=values)
    assert (found.verdict, found.measured, found.low, found.p) == (expected, worst, None, None)


def test_a_share_that_is_one_in_every_seed_has_an_interval():
    found = verdict(claim_with("x", "share", above=0.9), {"x": "50"}, x=[1.0, 1.0, 1.0])
    assert found.verdict == "reproduced"
    assert (found.low, found.high) == pytest.approx((0.025 ** (1 / 150), 1.0))  # Clopper and Pearson, 150 of 150
    assert verdict(claim_with("x", "share", above=0.99), {"x": "50"}, x=[1.0, 1.0, 1.0]).verdict == "inconclusive"


def test_trials_are_found_by_pattern_from_parameters_and_values():
    claim = claim_with("1 - hits_b", "share", below=0.9)
    few = verdict(claim, {"hits_*": "min(n, m)"}, hits_b=[0.5, 0.5], parameters={"n": 10, "m": 40, "title": "t"})
    same = verdict(claim, {"hits_*": "counted"}, hits_b=[0.5, 0.5], counted=[10.0, 10.0])
    assert (few.low, few.high) == (same.low, same.high)
    assert few.low < verdict(claim, {"hits_*": "m"}, hits_b=[0.5, 0.5], parameters={"m": 40}).low


@pytest.mark.parametrize(
    ("measured", "trials", "message"),
    [
        ("x", {}, r"toy, claim c: is a share, but no pattern under trials: of toy.yaml fits 'x'"),
        ("1 - y", {"x": "10"}, "no pattern under trials: of toy.yaml fits 'y'"),
        ("x - y", {"x": "10", "y": "20"}, r"'x - y' is no share of trials: must be NAME or 1 - NAME"),
        ("x * x", {"x": "10"}, r"is no share of trials"),
        ("1 - z", {"z": "10"}, r"claim c, kind share: values from -1 to 0.5: must lie within .* \[0, 1\]"),
        ("x", {"x": "n"}, "toy, trials of x: the run records no value 'n'"),
        ("x", {"x": "0"}, "toy, trials of x: '0' must give one number of at least 1, or one a seed"),
    ],
)
def test_shares_that_cannot_be_checked(measured, trials, message):
    with pytest.raises(BadInput, match=message):
        verdict(claim_with(measured, "share", above=0), trials, x=[0.5, 1.0], y=[0.5, 0.5], z=[0.5, 2.0])


def test_a_bounded_claim_stays_within_its_bounds():
    found = verdict(claim_with(kind="bounded", bounds=(-1, 1), above=0.9), x=[0.99, 1.0, 0.98, 1.0])
    assert -1 < found.low < found.measured < found.high < 1
    with pytest.raises(BadInput, match="claim c, kind bounded: values from"):
        verdict(claim_with(kind="bounded", bounds=(-1, 1), above=0.9), x=[0.99, 1.1])


def test_rounding_is_no_spread():
    """One last bit decides nothing, whatever the kind; nor does it put a value beyond its bounds."""
    bit = 1 + 1e-9
    for kind, about in (("mean", {}), ("bounded", {"bounds": (-1, 1)})):
        claim = claim_with(kind=kind, above=0.29, **about)
        for last in (0.3, 0.3 * bit):
            assert verdict(claim, x=[0.3] * 9 + [last]).verdict == "inconclusive"
    assert verdict(claim_with(kind="bounded", bounds=(-1, 1), above=0.5), x=[1 + 1e-7, 0.9]).high <= 1
    near = verdict(claim_with(kind="bounded", bounds=(0, 1), above=0), x=[0.3, 0.3, 0.3, 0.3 + 1e-5])
    assert near.low <= near.measured <= near.high


def test_a_seed_whose_expression_breaks_is_not_left_out():
    assert verdict(claim_with("sqrt(x)", "exact", above=-1), x=[1.0, -1.0]).verdict == "contradicted"
    assert verdict(claim_with("x / y", above=0), x=[1.0, 2.0, 0.0], y=[1.0, 1.1, 0.0]).verdict == "inconclusive"


def test_functions_take_what_their_names_say():
    assert verdict(claim_with("min(x, y, 0 * x)", above=-1), x=[1.0, 2.0], y=[3.0, 4.0]).measured == 0
    with pytest.raises(BadInput, match="cannot be evaluated"):
        verdict(claim_with("abs(x, y)", above=0), x=[1.0, 2.0], y=[3.0, 4.0])
    with pytest.raises(BadInput, match="cannot be evaluated"):
        verdict(claim_with("x * (1 / 0)", above=0), x=[1.0, 2.0])


def test_looks_widen_the_interval_by_bonferroni():
    x = [0.1, 0.4, 0.35, 0.8]
    found = verdict(claim_with(above=0), x=x, looks=5)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.99, 3, np.mean(x), stats.sem(x)))


def test_p_is_that_of_students_test():
    x = [0.1, 0.4, 0.35, 0.8]
    assert verdict(claim_with(above=0.1), x=x).p == pytest.approx(stats.ttest_1samp(x, 0.1).pvalue, rel=1e-6)
    assert verdict(claim_with(below=0.1), x=x).p == pytest.approx(stats.ttest_1samp(x, 0.1).pvalue, rel=1e-6)


def test_p_counts_looks():
    x = [0.1, 0.4, 0.35, 0.8]
    assert verdict(claim_with(above=0.1), x=x, looks=4).p == pytest.approx(
        4 * stats.ttest_1samp(x, 0.1).pvalue, rel=1e-6
    )
    assert verdict(claim_with(above=0.3), x=x, looks=4).p == pytest.approx(1)


def test_recorded_shares_have_the_interval_of_shares_and_an_untold_one_is_left_out():
    chapter = chapter_with(hits="n", lost="unknown")
    found = claims.of_values(chapter, record_with({"n": 20}, hits=[1.0, 1.0, None], lost=[1.0], x=[1.0, 2.0]))
    assert found["hits"] == pytest.approx((1.0, 0.025 ** (1 / 40), 1.0, 2))
    assert found["x"][:3] == pytest.approx((1.5, *stats.t.interval(0.95, 1, 1.5, 0.5))) and found.keys() == {
        "hits",
        "x",
    }


def test_margin_counts_halves_of_the_interval():
    found = verdict(claim_with(above=0.1), x=[0.1, 0.4, 0.35, 0.8])
    assert found.margin == pytest.approx((found.measured - 0.1) / (found.measured - found.low))
    assert verdict(claim_with(above=0.0), x=[1.0, 1.1, 0.9]).close is False
    near = verdict(claim_with(above=0.74), x=[1.0, 1.1, 0.9])
    assert (near.verdict, near.close) == ("reproduced", True)


def test_the_seeds_needed_decide_in_four_cases_of_five():
    rng = np.random.default_rng(0)
    first = verdict(claim_with(above=0), x=(0.25 + rng.normal(size=40)).tolist())
    assert first.verdict == "inconclusive"
    true, n = first.measured, first.seeds_needed
    spread = (first.high - first.measured) / stats.t.ppf(0.975, 39) * 40**0.5
    said = [verdict(claim_with(above=0), x=rng.normal(true, spread, n).tolist()).verdict for _ in range(300)]
    assert 0.7 < said.count("reproduced") / 300 < 0.92
    assert verdict(claim_with(above=0), x=[1.0, -1.0, 1.0, -0.99999]).seeds_needed is None  # it lies on the threshold


def test_holm_keeps_what_a_hand_calculation_keeps():
    def at(p):
        return claims.Verdict("toy", claim_with(above=0), "reproduced", 1.0, 0.5, 1.5, 5, 1, p, 2.0)

    stay = claims.after_holm([at(0.03), at(0.001), at(0.02), at(0.013), at(None)])  # .0125, .0167, .025, .05
    assert [v.p for v in stay] == [0.001, 0.013, 0.02, 0.03]
    assert [v.p for v in claims.after_holm([at(0.03), at(0.001), at(0.026)])] == [0.001]  # .0167, .025, .05


def test_how_many_are_wrong_by_chance_counts_intervals():
    one, two = claim_with(above=0), claim_with(between=(0.0, 1.0))
    found = [claims.Verdict("toy", c, "reproduced", 1.0, 0.5, 1.5, 5, 1, p, 2.0) for c, p in
             ((one, 0.01), (two, 0.2), (one, None))]  # fmt: skip
    assert claims.wrong_by_chance(found) == pytest.approx(0.05 + 0.05)


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
        (lambda c: c["claims"][0].update(kind="bounded"), "must have bounds: .a, b. with a < b, if it is of kind"),
        (lambda c: c["claims"][0].update(kind="shaer"), "claims.0.kind: Input should be 'mean', 'share'"),
        (lambda c: c["editions"].pop("smoke"), "editions: 'smoke' is missing"),
        (lambda c: c["editions"]["default"].update(parameters={"seeds": 1}), "default takes the notebook's own values"),
        (
            lambda c: c["editions"]["smoke"]["parameters"].update(sed=1),
            "toy.yaml, edition smoke: unknown parameter 'sed'",
        ),
        (lambda c: c["editions"]["smoke"]["cost"].update(seconds=-1), "cost.seconds: Input should be greater than 0"),
        (
            lambda c: c.update(rules={"seeds < 3": "why"}),
            r"toy.yaml, edition default: seeds=3 is not accepted: must satisfy seeds < 3 \(why\)",
        ),
        (lambda c: c.update(rules={"sed < 3": "why"}), "rule: no parameter 'sed'; did you mean 'seed'. accepted: kind"),
        (lambda c: c.update(rules={"seeds <": "why"}), "rule: 'seeds <' is not an expression"),
        (lambda c: c.update(rules={"open('x')": "why"}), "rule: unknown function 'open'; accepted: min, max"),
        (lambda c: c.update(rules={"[s for s in levels]": "why"}), "rule: no parameter 's'"),
        (lambda c: c.update(rules={"levels[0] > 0": "why"}), r"'levels\[0\] > 0' cannot be evaluated"),
        (lambda c: c.update(rules={"title > 0": "why"}), "'title > 0' cannot be evaluated"),
    ],
)
def test_chapter_files_that_are_refused(tmp_path, change, message):
    import copy

    broken = copy.deepcopy(CHAPTER)
    change(broken)
    write_chapter(tmp_path, chapter=broken)
    with pytest.raises(BadInput, match=message):
        _ = Project(tmp_path).chapter("toy").file


def test_a_rule_between_parameters_is_checked_of_every_value(tmp_path):
    rules = {"min(levels) <= seeds": "a level each", "rate > 0.1 or seed % 2 == 0": "or it stands still"}
    write_chapter(tmp_path, chapter={**CHAPTER, "rules": rules})
    toy = Project(tmp_path).chapter("toy")
    assert toy.resolve("smoke", {"levels": "[2, 9]", "seed": 4})["levels"] == [2, 9]
    with pytest.raises(BadInput) as refused:
        toy.resolve("smoke", {"levels": "[3, 9]"})
    assert str(refused.value) == (
        "toy: levels=[3, 9], seeds=2 do not go together: must satisfy min(levels) <= seeds (a level each)"
    )
    with pytest.raises(BadInput, match=r"toy: rate=0.1, seed=1 do not go together: must satisfy rate > 0.1 or seed"):
        toy.resolve("smoke", {"seed": 1})


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
