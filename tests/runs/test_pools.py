"""Runs joined by seed: which seed counts where, what is refused, and what was declared of a study."""

import itertools

import pytest
from conftest import PARAMETERS, write_chapter
from test_claims import chapter_with, claim_with

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import claims, pools, published
from phenomena.runs.store.runs import Record


def record(first, n, study="s", looks=1, started=None, key=None, **changes):
    """A run that measured x = seed, and y = 10 seed for its first two seeds."""
    seeds = list(range(first, first + n))
    whole = {
        "chapter": "toy", "edition": None, "key": key or f"{first}+{n}", "study": study, "looks": looks,
        "parameters": {"rate": 0.5, "seed": first, "seeds": n}, "seeds": seeds, "figures": [], "versions": {},
        "values": {"x": [float(s) for s in seeds], "y": [10.0 * s for s in seeds[:2]]}, "processor": "p", "gpu": None,
        "threads": 1, "commit": "c", "lock_sha256": "l", "modules": {"a.py": "1"},
        "started": started or f"2026-01-01T00:00:{first:02}", "seconds": {"total": 60.0}, "peak_memory_mb": 1.0,
    }  # fmt: skip
    return Record(**(whole | changes))


def test_runs_are_joined_by_seed():
    found = pools.pool([record(10, 3), record(0, 3)])
    assert found.seeds == [0, 1, 2, 10, 11, 12] and found.values["x"] == [0, 1, 2, 10, 11, 12]
    assert found.values["y"] == [0, 10, None, 100, 110, None]  # a side study's values stay with their seeds
    assert [(p.key, p.seeds, p.left_out) for p in found.pool] == [
        ("10+3", [10, 11, 12], []), ("0+3", [0, 1, 2], []),
    ]  # fmt: skip
    assert found.parameters == {"rate": 0.5, "seed": 0, "seeds": 6} and found.looks == 2
    assert (found.key, found.study) == ("10+3", "s")
    assert Record.model_validate_json(found.model_dump_json()) == found


def test_a_seed_counts_once_and_the_first_wins():
    late = record(2, 4, values={"x": [-1.0, -1.0, 4.0, 5.0], "y": [7.0, 7.0]})
    found = pools.pool([record(0, 4), late])
    assert found.values["x"] == [0, 1, 2, 3, 4, 5]
    assert found.values["y"] == [0, 10, None, None, None, None]  # nor does another run fill a gap of the first
    assert [(p.seeds, p.left_out) for p in found.pool] == [([0, 1, 2, 3], []), ([4, 5], [2, 3])]
    assert pools.pool([late, record(0, 4)]).values["x"] == [0, 1, -1, -1, 4, 5]


def test_a_run_again_on_another_machine_is_told_and_not_counted():
    again = record(0, 3, key="0+3", started="2026-02-02", processor="q")
    found = pools.pool([record(0, 3), again])
    assert found.seeds == [0, 1, 2] and found.looks == 1
    assert [(p.processor, p.seeds, p.left_out) for p in found.pool] == [("p", [0, 1, 2], []), ("q", [], [0, 1, 2])]


def test_values_beyond_a_run_s_seeds_are_not_those_of_the_next():
    longer = record(0, 2, values={"x": [0.0, 1.0, 99.0, 99.0], "y": [0.0]})
    assert pools.pool([longer, record(2, 2)]).values["x"] == [0, 1, 2, 3]


def test_one_run_is_itself_but_for_its_looks():
    one = record(0, 3)
    assert pools.pool([one]) == pools.pool([one, one]) == one
    assert pools.pool([one], looks=5) == one.model_copy(update={"looks": 5})


def test_the_order_of_runs_decides_only_who_counts():
    apart = [record(0, 2), record(5, 3), record(20, 2)]
    seen = [pools.pool(list(order)) for order in itertools.permutations(apart)]
    for found in seen:
        assert (found.seeds, found.values, found.parameters, found.looks) == (
            seen[0].seeds, seen[0].values, seen[0].parameters, 3,
        )  # fmt: skip
        assert {p.key: p.seeds for p in found.pool} == {p.key: p.seeds for p in seen[0].pool}


def test_pools_are_pooled_as_their_runs_are():
    a, b, c = record(0, 4), record(2, 4), record(10, 2)
    at_once = pools.pool([a, b, c])
    assert pools.pool([pools.pool([a, b]), c]) == at_once
    assert pools.pool([at_once, a, c]) == pools.pool([a, at_once]) == at_once
    assert pools.pool([pools.pool([a, b], looks=7), c]).looks == 7


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"chapter": "other"}, "5.3 does not belong to the study of 0.3: it is of other, not toy"),
        ({"parameters": {"rate": 0.7, "seed": 5, "seeds": 3}}, "rate is 0.7, not 0.5"),
        ({"modules": {"a.py": "2"}}, "its code differs in a.py"),
        ({"modules": {n: "2" for n in "abcd"}}, "its code differs in a, a.py, b and others"),
        ({"lock_sha256": "m"}, "another requirements.lock"),
        ({"study": "t"}, "its notebook's code differs"),
        ({"study": None}, "before records named their study"),
    ],
)
def test_other_studies_are_refused_with_what_differs(changes, match):
    with pytest.raises(BadInput, match=match):
        pools.pool([record(0, 3), record(5, 3, **changes)])


def test_no_run_is_no_pool():
    with pytest.raises(BadInput, match="no run to pool"):
        pools.pool([])


def test_a_record_of_before_pools_only_with_itself():
    old = record(0, 3, study=None)
    assert pools.pool([old, old]) == old


def test_studies_keep_their_order(project):
    a, b = record(0, 2), record(0, 2, study="t", key="t1", parameters={"rate": 1.0, "seed": 0, "seeds": 2})
    found = pools.studies(project, [a, b, record(2, 2)])
    assert [(r.study, r.seeds) for r in found] == [("s", [0, 1, 2, 3]), ("t", [0, 1])]
    pools.declare_looks(project, "toy", "s", 6)
    assert [r.looks for r in pools.studies(project, [a, b])] == [6, 1]


def test_looks_that_were_declared_stay(project):
    assert pools.declared_looks(project, "toy", "s") == 1
    assert pools.declare_looks(project, "toy", "s", 5) == 5
    assert pools.declare_looks(project, "toy", "s", 3) == 5  # those left over are used first
    assert pools.declare_looks(project, "toy", "s", 7) == pools.declared_looks(project, "toy", "s") == 7
    assert pools.declared_looks(project, "toy", "t") == pools.declared_looks(project, "other", "s") == 1
    (project.runs / ".looks" / "toy-s.json").write_text("[]")
    assert pools.declared_looks(project, "toy", "s") == 1


def test_what_is_at_hand_is_of_today_s_study(project, run_toy):
    own, other = run_toy(project, seed=3).record, run_toy(project, seed=6, seeds=2).record
    run_toy(project, rate=0.7)
    default = run_toy(project).record
    chapter = project.chapter("toy")
    assert [r.key for r in pools.at_hand(project, chapter)] == [default.key, own.key, other.key]
    assert [r.parameters["rate"] for r in pools.at_hand(project, chapter, overrides={"rate": 0.7})] == [0.7]
    whole = published.pooled(project, chapter)
    assert whole.seeds == list(range(8)) and whole.values["high"] == pytest.approx([0.5 + s / 100 for s in range(8)])
    write_chapter(project.root, parameters=PARAMETERS.replace("Le(100)", "Le(99)"))
    assert pools.at_hand(project, project.chapter("toy")) == []


def test_published_evidence_joins_runs_of_its_study_alone(project, run_toy):
    chapter, run = project.chapter("toy"), run_toy(project).record
    assert published.evidence(project, chapter, "default", run) == run  # nothing published
    published.publish(project)
    assert published.evidence(project, chapter, "default", run) == run  # a single run
    run_toy(project, seed=3)
    assert published.publish(project, pool=True) == published.publish(project)  # a pool is not lost to a run of it
    whole = published.read(project, chapter)
    assert len(whole.pool) == 2 and published.evidence(project, chapter, "default", run) == whole
    other = run_toy(project, rate=0.7).record
    assert published.evidence(project, chapter, "default", other) == other
    for folder in (project.runs / "toy").iterdir():
        folder.rename(project.root / folder.name)
    assert published.pooled(project, chapter) == whole  # a fresh checkout
    assert published.pooled(project, chapter, overrides={"rate": 0.7}) is None
    with pytest.raises(BadInput, match="does not belong to today's study"):
        published.pooled(project, chapter, overrides={"rate": 0.7}, others=[run])
    with pytest.raises(BadInput, match=r"rate is 0.7, not 0.5"):
        published.pooled(project, chapter, others=[other])


def test_seeds_needed_are_those_of_a_hand_calculation():
    """Two seeds at one standard error: Student's wide interval of two must not say that none will do."""
    x = record(0, 2, values={"x": [0.1, 0.11]})
    (found,) = claims.check(chapter_with(claim_with(below=0.1)), x)
    assert found.verdict == "inconclusive" and found.distance == pytest.approx(1.0)
    assert found.seeds_needed == 18  # (18 / 2)^(1/2) >= t_17 + 0.84 = 2.95, and (17 / 2)^(1/2) < t_16 + 0.84
    assert claims.more(found, x) == (16, 8 * 60)  # eight blocks of two seeds and a minute
    side = record(0, 4, values={"x": [0.1, 0.11]})  # four seeds a run, of which two have x
    assert claims.more(claims.check(chapter_with(claim_with(below=0.1)), side)[0], side) == (32, 8 * 60)
