"""More seeds: blocks on a local cluster, when to stop, and how often a verdict may err."""

import json
import math

import numpy as np
import pytest
from conftest import PARAMETERS, write_chapter
from test_claims import chapter_with, claim_with
from test_pools import record

from phenomena.runs import words
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.execute import extend, sweep
from phenomena.runs.store import claims, pools, published
from phenomena.runs.store.chapters import Cost, Edition, Project

# From end to end


def test_seeds_are_added_until_there_are_enough(project, phenomena):
    first = phenomena(project.root, "extend", "toy", "--seeds", "5")
    assert first.returncode == 0, first.stderr
    assert "toy: not run yet; 2 blocks of 2 to 3 seeds from 0, about 3 s each; 2 looks" in first.stdout
    assert "toy: 5 seeds, 2 claims decided, 0 open" in first.stdout
    found = pools.at_hand(project, project.chapter("toy"))
    assert [(r.edition, r.seeds) for r in found] == [("default", [0, 1, 2]), (None, [3, 4])]
    again = phenomena(project.root, "extend", "toy", "--seeds", "5")
    assert (again.returncode, again.stdout) == (0, "toy: nothing to do: 5 seeds are there\n")
    more = phenomena(project.root, "extend", "toy", "--seeds", "6")
    assert "toy: 5 seeds there, 0 claims open; 1 block of 1 seeds from 5" in more.stdout
    pooled = json.loads(phenomena(project.root, "claims", "toy", "--pooled", "--json").stdout)
    assert [(row["seeds"], row["runs"]) for row in pooled] == [(6, 3), (6, 3)]
    assert pooled[0]["measured"] == pytest.approx(np.mean([1 + (s / 100) ** 2 for s in range(6)]))
    table = phenomena(project.root, "compare", "toy", "--pooled").stdout.splitlines()
    assert len(table) == 2 and " 6  " in table[1]
    one = json.loads(phenomena(project.root, "claims", "toy", "--json").stdout)
    assert [row["seeds"] for row in one] == [3, 3]
    assert phenomena(project.root, "publish", "toy", "--pooled").stdout == "book/published/toy/default.json\n"
    assert published.read(project, project.chapter("toy")).looks == 3
    shown = phenomena(project.root, "claims", "toy")  # the published pool is of the same study
    assert shown.stdout.splitlines()[0] == (
        "toy: seeds 0 to 5, n = 6 in 3 runs, 3 looks: intervals of error 0.05 / 3"
    )  # fmt: skip


def test_a_claim_is_decided_and_told(project, phenomena):
    """Of the smoke edition, high is 0.1 + s / 100: not below 0.1, as soon as there are enough seeds to say so."""
    phenomena(project.root, "run", "toy", "--edition", "smoke")
    open_ = phenomena(project.root, "claims", "toy", "--edition", "smoke").stdout.splitlines()
    assert open_[0] == "toy: seeds 0 to 1, n = 2 in 1 run"
    assert "inconclusive" in open_[3] and open_[3].endswith("about 16 more seeds (18 in all, 1 min) would decide it")
    words = ["extend", "--edition", "smoke", "--until-decided"]
    done = phenomena(project.root, *words, "--budget", "2h")
    assert done.returncode == 0, done.stderr
    assert "2 seeds there, 1 claims open; at most 4 blocks of 2 seeds from 2" in done.stdout
    assert "5 looks, so intervals of error 0.05 / 5" in done.stdout
    assert "toy: 6 seeds, 1 claims decided, 1 open" in done.stdout
    assert "toy: 10 seeds, 2 claims decided, 0 open" in done.stdout
    assert "toy: every claim is decided\n" in done.stdout and "was inconclusive" in done.stdout
    assert "spent " in done.stdout
    assert phenomena(project.root, *words).stdout == "toy: nothing to do: every claim is decided\n"


def test_a_failed_block_is_told_and_the_same_command_goes_on(project, phenomena):
    path = project.root / "notebooks" / "toy.ipynb"
    whole = path.read_text()
    path.write_text(whole.replace('title == \\"broken\\"', "s == 4 and not __import__('os').path.exists(title)"))
    assert path.read_text() != whole
    marker = project.root / "marker"
    chosen = ["extend", "toy", "--seeds", "6", "-p", f"title={marker}", "-p", "seeds=2", "--workers", "1"]
    done = phenomena(project.root, *chosen)
    assert done.returncode == 1
    first, last = done.stderr.splitlines()
    assert first.startswith("phenomena: toy seed=4 seeds=2: toy: code cell 5 failed")
    assert last == "phenomena: 1 block failed, the others are kept"
    assert "toy: a block failed" in done.stdout and "on 1 worker\n" in done.stdout
    assert list((project.runs / ".failed").iterdir())
    marker.touch()
    again = phenomena(project.root, *chosen)
    assert again.returncode == 0, again.stderr
    assert "toy: 4 seeds there" in again.stdout and "toy: 6 seeds," in again.stdout
    assert not (project.runs / ".failed").exists()  # a report of what has succeeded since


@pytest.mark.parametrize(
    ("chosen", "match"),
    [
        (["tyo", "--seeds", "9"], "unknown chapter 'tyo'; did you mean 'toy'?"),
        (["toy"], "how far to extend: give one of --seeds N and --until-decided"),
        (["toy", "--seeds", "9", "--until-decided"], "give one of --seeds N and --until-decided"),
        (["toy", "--seeds", "0"], "--seeds '0': must be a whole number, 1 or more"),
        (["toy", "--seeds", "9", "--blocks", "2"], "--blocks goes with --until-decided"),
        (["toy", "--seeds", "9", "--claim", "apart"], "--claim goes with --until-decided"),
        (
            ["toy", "--until-decided", "--claim", "aprt"],
            "unknown claim 'aprt'; did you mean 'apart'? accepted: apart, small",
        ),
        (["toy", "--seeds", "9", "--budget", "30"], "--budget '30': must be a time above 0 in s, min or h"),
        (["toy", "--seeds", "9", "--limit", "never"], "--limit 'never': must be a time above 0"),
        (["toy", "--seeds", "100000"], "toy: 33,333 blocks of 3 seeds, about "),
        (["toy", "--until-decided", "--blocks", "5000"], "toy: 5,000 blocks of 3 seeds, about "),
        (["toy", "--seeds", "9", "--budget", "-2h"], "--budget '-2h': must be"),
        (["toy", "--seeds", "9", "--budget", "0s"], "--budget '0s': must be"),
        (["--seeds", "9", "--edition", "smke"], "unknown edition 'smke'; did you mean 'smoke'?"),
        (["toy", "--seeds", "9", "-p", "sed=3"], "unknown parameter 'sed'; did you mean 'seed'?"),
        (["toy", "--seeds", "9", "-p", "seed=1"], "toy: seeds 1 to 6 overlap with those that are there, 0 to 2: "),
        (["toy", "--until-decided", "-p", "seeds=101"], "seeds='101' is not accepted: int, 1 to 100"),
        (["toy", "--seeds", "9", "-p", "seed=-4"], "seed='-4' is not accepted: int, at least 0"),
        (["toy", "--seeds", "9", "--scheduler", "nonsense://x"], "no Dask scheduler answers at 'nonsense://x'"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_declared(ran, phenomena, chosen, match):
    done = phenomena(ran.root, "extend", *chosen)
    assert done.returncode == 2 and match in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1 and done.stdout == ""
    assert not (ran.runs / ".looks").exists()


def test_a_claim_is_of_one_chapter(project, phenomena):
    write_chapter(project.root)
    write_chapter(project.root, "second")
    done = phenomena(project.root, "extend", "--until-decided", "--claim", "apart")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "phenomena: --claim apart: of which chapter? give one\n"


def test_a_chapter_given_twice_is_extended_once(ran, phenomena):
    done = phenomena(ran.root, "extend", "toy", "toy", "--seeds", "2")
    assert (done.returncode, done.stdout) == (0, "toy: nothing to do: 3 seeds are there\n")


def test_seeds_beyond_the_parameter_s_range(project):
    write_chapter(
        project.root, parameters=PARAMETERS.replace("seed: Annotated[int, Ge(0)]", "seed: Annotated[int, Le(8)]")
    )
    with pytest.raises(BadInput, match="seed=9 is not accepted: int, at most 8"):
        extend.prepare(project, [project.chapter("toy")], "default", {}, target=12)
    (study,) = extend.prepare(project, [project.chapter("toy")], "default", {}, target=9)
    assert [p.changed for p in study.points] == [{"seed": s, "seeds": 3} for s in (0, 3, 6)]


def test_records_from_elsewhere_are_joined_or_refused(project, run_toy, phenomena, tmp_path_factory):
    folder = tmp_path_factory.mktemp("elsewhere")
    for name, given in {"more": {"seed": 3}, "other": {"rate": 0.7}, "again": {}}.items():
        (folder / name).write_text(run_toy(project, **given).record.model_dump_json())
    for kept in (project.runs / "toy").iterdir():
        kept.rename(folder / kept.name)
    run_toy(project)
    joined = phenomena(project.root, "claims", "toy", "--with", str(folder / "more"), "--with", str(folder / "again"))
    assert joined.stdout.splitlines()[0].startswith("toy: seeds 0 to 5, n = 6 in 2 runs, 2 looks")
    assert any("left out of " in line and "seeds 0 to 2, which another run gave" in line
               for line in joined.stdout.splitlines())  # fmt: skip
    (folder / "broken").write_text("{")
    (folder / "stranger").write_text(json.dumps(json.loads((folder / "more").read_text()) | {"chapter": "toad"}))
    for name, match in (
        ("other", "does not belong to the study of"), ("broken", "must be the record of a run"),
        ("none", "cannot be read"),
        ("stranger", "is a run of toad; accepted: toy"),
    ):  # fmt: skip
        done = phenomena(project.root, "claims", "toy", "--with", str(folder / name))
        assert done.returncode == 2 and match in done.stderr and len(done.stderr.splitlines()) == 1


# What runs next


def study_with(*measured, chapter="toy", seconds=60.0, blocks=4, size=4, **threshold):
    """A study of one claim that was measured like this, with blocks to come."""
    found = chapter_with(claim_with(**(threshold or {"above": 0})))
    whole = record(0, len(measured), values={"x": list(measured)}, seconds={"total": seconds})
    points = [sweep.Point(found, "default", {}, {"seed": 100 + i * size, "seeds": size}, f"{i}") for i in range(blocks)]
    study = extend.Study(Project(None), found, "default", {}, None, None, points, pool=whole)
    study.verdicts = claims.check(found, whole)
    return study


NEAR, FAR = (1.0, -0.6, 0.9, -0.2), (0.02, -1.0, 1.0, 0.0)


def test_the_largest_promise_comes_first():
    near, far, slow = study_with(*NEAR), study_with(*FAR), study_with(*NEAR, seconds=600)
    assert extend._chosen([far, slow, near], 1, math.inf) == [near]
    assert near.promise(0) == pytest.approx(10 * slow.promise(0))
    assert extend._chosen([near, slow], 9, 100) == [near] * 4  # as many as were declared, within the time
    assert extend._chosen([near, slow], 9, 59) == []
    unseen = study_with(*FAR)
    cost = Cost(seconds=60, memory_mb=1, machine="m")
    unseen.pool, unseen.chapter.file.editions = None, {"default": Edition(summary="s", cost=cost)}
    assert extend._chosen([far, unseen], 1, math.inf) == [unseen]


def test_the_chance_of_a_decision_is_that_of_simulation():
    """Draw the true mean from what is known, then as many seeds again; how often is it decided?"""
    rng = np.random.default_rng(0)
    known = rng.normal(0.2, 1, 40)
    (now,) = claims.check(chapter_with(claim_with(above=0)), record(0, 40, values={"x": known.tolist()}))
    assert now.verdict == "inconclusive"
    mean, spread = known.mean(), known.std(ddof=1)
    said = []
    for true in rng.normal(mean, spread / 40**0.5, 2000):
        both = np.concatenate([known, rng.normal(true, spread, 80)])
        low, high = both.mean() + np.array([-1, 1]) * 1.98 * both.std(ddof=1) / 120**0.5
        said.append(low > 0 or high < 0)
    assert extend.chance(now, 40 / 120) == pytest.approx(np.mean(said), abs=0.04)
    assert extend.chance(now, 1.0) == 0.0
    assert extend.chance(now, 0.001) > 0.9  # hardly anything is known beside what will be


def test_what_cannot_be_decided_stops_a_study():
    study = study_with(*NEAR)
    study.settle()
    assert study.stopped == ""
    on = study_with(1.0, -1.0, 1.0, -0.99999)
    on.settle()
    assert on.stopped == "no open claim can be decided within what was declared"
    assert words.remark(on.open[0], on.pool) == (
        "no number of seeds up to 1,000 would decide it: the mean is too near the threshold"
    )
    never = study_with(*NEAR)
    claim = never.verdicts[0].claim.model_copy(update={"undecidable": "too few images"})
    never.verdicts = claims.check(chapter_with(claim), never.pool)
    never.settle()
    assert never.stopped == on.stopped
    assert words.remark(never.open[0], never.pool) == "not decidable at this scale: too few images"
    done = study_with(1.0, 1.1, 0.9)
    done.settle()
    assert done.stopped == "every claim is decided"


def test_many_blocks_are_taken_if_they_are_meant(ran):
    (study,) = extend.prepare(ran, [ran.chapter("toy")], "default", {}, target=3006, many=True)
    assert len(study.points) == 1001


def test_a_block_is_expected_to_take_as_long_as_its_seeds(project):
    (study,) = extend.prepare(project, [project.chapter("toy")], "default", {"seeds": 30}, target=60)
    assert study.seconds == 30  # the edition states 3 s for 3 seeds


# How often it errs


def ever_decided(rng, looks, blocks=4, size=5):
    """Whether any look at a growing pool decides a claim whose true value lies on its threshold."""
    chapter = chapter_with(claim_with(above=0))
    found = [record(i * size, size, values={"x": rng.normal(size=size).tolist()}) for i in range(blocks + 1)]
    grown = (pools.pool(found[: n + 1], looks) for n in range(blocks + 1))
    return any(claims.judge(chapter, chapter.file.claims[0], pool).verdict != "inconclusive" for pool in grown)


def test_looks_that_are_declared_err_in_one_case_of_twenty_at_most():
    """Were each look to count as the only one, it would be more than that: the test can tell."""
    rng, n = np.random.default_rng(1), 600
    honest = np.mean([ever_decided(rng, looks=5) for _ in range(n)])
    assert honest <= 0.05 + 2 * (0.05 * 0.95 / n) ** 0.5
    eager = 0
    for _ in range(n):
        x = rng.normal(size=25)
        t = [x[:m].mean() / (x[:m].std(ddof=1) / m**0.5) for m in (5, 10, 15, 20, 25)]
        eager += any(abs(v) > c for v, c in zip(t, (2.776, 2.262, 2.145, 2.093, 2.064), strict=True))
    assert eager / n > 0.08


# What is told


def test_totals_tell_whose_claims_they_are_and_what_chance_may_do():
    def at(verdict, p, **about):
        claim = claim_with(above=0).model_copy(update=about)
        return claims.Verdict("toy", claim, verdict, 1.0, 0.5, 1.5, 5, 1, p, 2.0)

    found = [at("reproduced", 0.001), at("contradicted", 0.04), at("inconclusive", 0.5, origin="ours"),
             at("reproduced", 0.001, origin="check"), at("reproduced", None)]  # fmt: skip
    assert words.totals(found) == [
        "claims, the paper's: 2 reproduced, 0 inconclusive, 1 contradicted",
        "claims, our own: 0 reproduced, 1 inconclusive, 0 contradicted",
        "claims, checks of the code: 1 reproduced, 0 inconclusive, 0 contradicted",
        "2 of them, checks aside, are decided by an interval: at most 0.2 wrong by chance, in expectation",
        "1 stay after Holm's correction over all 3; both hold however claims on the same runs depend on each other",
    ]
    assert words.totals(found[-1:]) == ["claims, the paper's: 1 reproduced, 0 inconclusive, 0 contradicted"]


def test_seeds_in_words():
    assert words.ranges([5, 1, 2, 3, 8, 9]) == "1 to 3, 5, 8 to 9" and words.ranges([]) == ""


@pytest.mark.parametrize("long", [False, True])
def test_a_claim_takes_two_lines_of_at_most_120_columns(long):
    name = "a" * (60 if long else 10)
    claim = claim_with(above=0).model_copy(update={"name": name, "statement": "It is."})
    whole = record(0, 4, values={"x": list(NEAR)})
    lines = words.verdicts(claims.check(chapter_with(claim), whole), whole)
    assert len(lines) == (3 if long else 2) and lines[1] == "    It is."
    assert all(len(line) <= 120 for line in lines) and "would decide it" in lines[-1 if long else 0]
