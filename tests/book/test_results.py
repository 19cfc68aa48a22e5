"""Verdicts as readers see them: alone, pooled, over the whole book, and on the ladder of scales; from known records."""

import io
import json
import math
from dataclasses import replace

import pandas as pd
import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import CHAPTER, write_chapter

from phenomena.runs import words
from phenomena.runs.book import build as book
from phenomena.runs.book import ladder, pages, quotes, results, verdicts
from phenomena.runs.compare import table
from phenomena.runs.store import claims, keys, pools
from phenomena.runs.store import published as published_records
from phenomena.runs.store.chapters import Claim, Project
from phenomena.runs.store.registration import Registration
from phenomena.runs.store.runs import Record, Run

N = "n\u00a0=\u00a0"
ABOUT = {"name": "c", "statement": "It is so.", "origin": "paper", "source": "p", "paper_value": "f", "quantity": "q",
         "measured": "high", "rationale": "r", "caveat": "l"}  # fmt: skip
EDITIONS = {"other": {"summary": "other data", "cost": {"seconds": 600, "memory_mb": 200, "machine": "one core"},
                      "parameters": {"kind": "fancy"}},
            "paper": {"summary": "its own scale", "cost": {"seconds": 36000, "memory_mb": 200, "machine": "a GPU"},
                      "parameters": {"title": "large"}},
            "quick": {"summary": "a little", "cost": {"seconds": 2.5, "memory_mb": 200, "machine": "one core"},
                      "parameters": {"title": "quick"}}}  # fmt: skip


@pytest.fixture
def toy(tmp_path):
    """A project with a chapter of five editions, none of them run."""
    (tmp_path / "requirements.lock").write_text("toy==1\n")
    write_chapter(tmp_path, chapter={**CHAPTER, "editions": CHAPTER["editions"] | EDITIONS})
    return Project(tmp_path)


def record_of(project, edition="default", seeds=(0, 1, 2), key=None, **values):
    """A record as today's code would write it, of made-up values."""
    chapter = project.chapter("toy")
    sources = keys.sources(chapter, keys.sha256(project.lock.read_bytes()))
    parameters = chapter.resolve(edition) | {"seed": seeds[0], "seeds": len(seeds)}
    high = [0.5 + s / 100 for s in seeds]
    return Record(
        chapter="toy", edition=edition, key=key or sources.key(parameters), study=sources.study(parameters),
        parameters=parameters, seeds=list(seeds), values=values or {"high": high, "low": [h - 1 - h / 9 for h in high]},
        figures=[], versions={}, processor="a processor", gpu=None, threads=1, commit="c" * 40,
        lock_sha256=sources.lock_sha256, modules=sources.modules, started="2026-01-01T00:00:00",
        seconds={"total": 1.0}, peak_memory_mb=1.0,
    )  # fmt: skip


def page_of(project, record, edition="default"):
    return book.Page(project, project.chapter("toy"), edition, Run(project.root, record))


def publish(project, record, edition="default"):
    path = published_records.path(project, project.chapter("toy"), edition)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json())


def verdict(said="reproduced", measured=1.0, low=0.5, high=1.5, seeds=5, runs=1, p=0.01, margin=2.0, **claim):
    claim = {"kind": "mean", **({} if {"below", "between"} & claim.keys() else {"above": 0.0})} | claim
    return claims.Verdict("toy", Claim(**(ABOUT | claim)), said, measured, low, high, seeds, runs, p, margin)


# --- one verdict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "text"),
    [
        ((0.105, 0.041, 0.169, 2), f"0.105 [0.041, 0.169], {N}2"),
        ((1.0, math.nan, math.nan, 10), "1.00, the same in all 10 seeds"),
        ((0.0, None, None, 2), "0.00, the same in both seeds"),
        ((-12345.6, math.nan, math.nan, 3), "−12346, the same in all 3 seeds"),
        ((2.0, math.nan, math.nan, 1), f"2.00, {N}1"),
        ((5e-13, None, None, 1), f"5.0e−13, {N}1"),
        ((math.nan, math.nan, math.nan, 0), f"not measured, {N}0"),
        ((None, None, None, 4), f"not finite, {N}4"),
        ((math.inf, math.nan, math.nan, 4), f"not finite, {N}4"),
    ],
)
def test_an_interval_is_told_only_where_there_is_one(found, text):
    assert pages.measured(*found) == text


@pytest.mark.parametrize(
    ("claim", "seeds", "text"),
    [
        ({"below": 1e-6}, 16, "at most 5.0e−13 in 16 seeds"),
        ({"above": 0.0}, 16, "at least 5.0e−13 in 16 seeds"),
        ({"between": (0.0, 1.0)}, 16, "5.0e−13, nearest to a bound in 16 seeds"),
        ({"below": 1e-6}, 1, f"5.0e−13, {N}1"),
    ],
)
def test_an_exact_claim_tells_the_value_that_decides_it(claim, seeds, text):
    assert pages.told(verdict(measured=5e-13, low=None, high=None, seeds=seeds, kind="exact", **claim)) == text


def test_a_pooled_verdict_names_its_runs():
    assert pages.told(verdict(seeds=40, runs=4)) == f"1.00 [0.50, 1.50], {N}40, 4 runs"


@pytest.mark.parametrize(
    ("about", "text"),
    [
        ({"said": "reproduced", "margin": 2.0}, ""),
        ({"margin": 0.5}, "about 12 more seeds (15 in all, 1 min) would decide it"),
        ({"margin": 0.01}, "no number of seeds up to 1,000 would decide it: the mean is too near the threshold"),
        ({"margin": None, "p": None, "seeds": 1}, "no interval: one seed"),
        ({"margin": 0.5, "undecidable": "it needs images"}, "not decidable at this scale: it needs images"),
        ({"said": "reproduced", "undecidable": "it needs images"}, ""),
    ],
)
def test_what_would_decide_an_open_verdict_in_the_same_words_on_a_page_and_at_the_command_line(toy, about, text):
    found = verdict(**({"said": "inconclusive"} | about))
    page = made(toy, [found])
    assert words.remark(found, page.evidence) == text
    assert verdicts.still_open(page, found) == text[:1].upper() + text[1:]
    assert ("Open" in dict(verdicts.facts(page, found))) == bool(text)


def test_marks_say_in_words_what_is_firm_and_what_is_close():
    firm = {("toy", "c")}
    assert verdicts.marked(verdict(), firm).endswith("</span> <small><em>firm</em></small>")
    assert verdicts.marked(verdict(margin=1.21)).endswith("</span> <small><em>close 1.2</em></small>")
    assert verdicts.marked(verdict("inconclusive", margin=0.9)) == pages.badge("inconclusive")


@pytest.mark.parametrize(
    ("claim", "text"),
    [
        ({"above": 0.3}, ">\u00a00.3"),
        ({"below": -0.15}, "<\u00a0−0.15"),
        ({"below": 1e-6}, "<\u00a01e−6"),
        ({"below": 0.0}, "<\u00a00"),
        ({"between": (-0.15, 0.15)}, "between −0.15 and 0.15"),
    ],
)
def test_a_threshold_is_told_with_a_true_minus(claim, text):
    assert pages.asked(verdict(**claim).claim) == text


def test_what_rounds_to_zero_has_no_sign():
    assert pages.measured(-0.03, -0.06, -0.0003, 5) == f"−0.030 [−0.060, 0.000], {N}5"
    assert pages.measured(-0.0, None, None, 2) == "0.00, the same in both seeds"
    near = verdict("contradicted", -0.03, -0.06, -0.0003)
    assert words.measured(near)[2] == "-0.030 [-0.060, 0.000]"


def test_totals_keep_the_papers_claims_ours_and_checks_apart():
    found = [verdict(), verdict("contradicted"), verdict(), verdict("inconclusive", origin="ours")]
    text = "of the papers' claims 2 reproduced, 1 contradicted; of our own 1 inconclusive"
    assert pages.tally(found, mark=False) == text
    odd = [verdict(origin="check"), verdict("contradicted", origin="check", name="broken")]
    assert pages.tally(found + odd, mark=False) == text
    assert pages.checks(found) == "" and pages.tally([]) == "no claim"
    assert pages.checks(odd[:1]) == "1 check of the code, which holds"
    assert pages.checks(odd[:1] * 3) == "3 checks of the code, all hold"
    assert pages.checks(odd) == "2 checks of the code, of which do not hold: broken (contradicted)"


def test_a_share_is_quoted_within_its_bounds(toy):
    content = yaml.safe_load((toy.root / "notebooks" / "toy.yaml").read_text()) | {"trials": {"hits_*": "20"}}
    (toy.root / "notebooks" / "toy.yaml").write_text(yaml.safe_dump(content))
    values = {"high": [1.0, 1.0, 0.9], "low": [0.0] * 3, "hits_a": [1.0, 1.0, 0.9], "hits_b": [1.0] * 3}
    page = page_of(toy, record_of(toy, **values))
    texts = quotes.quotable(page)
    assert texts["toy.high"] == f"0.97 [0.82, 1.11], {N}3"  # Student's knows no bounds
    assert texts["toy.hits_a"] == f"0.97 [0.51, 1.00], {N}3"  # as few trials as these three seeds warrant
    assert texts["toy.hits_b"] == f"1.000 [0.940, 1.000], {N}3"  # Clopper and Pearson, 60 of 60
    rows = table(page.chapter, [page.record]).rows(["hits_a", "hits_b", "low"])
    assert rows[1][-3:] == ("0.967 [0.513, 1.000] 3", "1.000 [0.940, 1.000] 3", "0.000 3")


# --- evidence of several runs -----------------------------------------------------------------------------------------


@pytest.fixture
def pooled(toy):
    """A page whose published record is a pool of three runs; one seed came twice, with another value."""
    first = record_of(toy, seeds=(0, 1, 2))
    second = record_of(toy, seeds=(2, 3, 4), key="b" * 16)
    second.values["high"][0] = 99.0
    publish(toy, pools.pool([second, record_of(toy, seeds=(7, 8), key="d" * 16)], looks=4))
    return page_of(toy, first)


def test_verdicts_rest_on_the_published_pool_and_values_on_the_run(pooled):
    assert pooled.evidence.seeds == [0, 1, 2, 3, 4, 7, 8]
    assert {(v.seeds, v.runs) for v in pooled.verdicts} == {(7, 3)}
    assert pooled.verdicts[1].measured == pytest.approx(0.5 + sum(pooled.evidence.seeds) / 700)  # not the 99
    texts = quotes.quotable(pooled)
    assert texts["toy.small.measured"].endswith(f", {N}7, 3 runs")
    assert texts["toy.high"] == f"0.510 [0.485, 0.535], {N}3"


def test_a_pool_says_what_it_is_made_of(pooled):
    note = pages.run_note(pooled)
    assert "a pool of 7 seeds from 3 [runs]" in note
    assert "It is looked at up to 4 times as it grows, so each interval errs with probability 0.05 / 4 at most" in note
    assert f"Of seeds that came more than once, one run counts: run `{pooled.record.key}` for seeds 2." in note
    parts = results.runs_page([pooled]).partition("## Pools")[2]
    assert f"| `{'b' * 16}` | 3 to 4 | 2 | a processor | `cccccccccccc` | 2026-01-01 00:00 | 1 |" in parts
    assert "7 seeds, 3 runs, 4 looks" in parts
    assert "a pool" not in pages.run_note(replace(pooled, edition="other"))


def test_looks_declared_for_a_single_run_hold_for_it(toy):
    run = record_of(toy)
    publish(toy, run.model_copy(update={"looks": 5}))
    page = page_of(toy, run)
    assert (page.evidence.looks, page.evidence.pool) == (5, [])
    assert page.verdicts[0].looks == 5
    assert "Up to 5 looks at a growing pool were declared, so each interval errs with probability 0.05 / 5 at most" in (
        pages.run_note(page)
    )


def test_pools_are_data_too(pooled):
    files = results.data_files([pooled])
    rows = json.loads(files["results.json"])
    assert [(r["seeds"], r["runs"], r["looks"], r["quantity"]) for r in rows] == [
        (7, 3, 4, "high less low"), (7, 3, 4, "high")]  # fmt: skip
    assert {"p", "margin", "close", "holm", "kind", "origin", "seeds_needed", "undecidable"} <= rows[0].keys()
    (run,) = json.loads(files["runs.json"])
    assert [part["key"] for part in run["pool"]] == [pooled.record.key, "b" * 16, "d" * 16]
    assert pd.read_csv(io.BytesIO(files["runs.csv"]))["looks"].tolist() == [4]


def test_a_published_run_or_the_pool_of_another_study_is_no_evidence(toy):
    record = record_of(toy)
    publish(toy, record_of(toy, seeds=(5, 6), key="b" * 16))
    assert page_of(toy, record).evidence == record
    others = [record_of(toy, "other", seeds=(i,), key=f"{i}" * 16) for i in (1, 2)]
    publish(toy, pools.pool(others))
    assert page_of(toy, record).evidence == record


# --- the whole book ---------------------------------------------------------------------------------------------------


def made(project, verdicts):
    """A page with these verdicts."""
    page = page_of(project, record_of(project))
    registered = {v.claim.name: Registration("not known") for v in verdicts}
    page.__dict__.update(verdicts=verdicts, registrations=registered)  # where the properties keep them
    return page


def rows_of(text):
    return BeautifulSoup(text, "html.parser").select("table.claims tbody tr")


def test_the_results_say_how_sure_the_whole_book_is(toy):
    page = made(toy, [
        verdict(name="a", p=0.001), verdict(name="b", p=0.03, margin=1.1), verdict(name="c", p=0.01, between=(0, 9)),
        verdict("inconclusive", name="d", p=0.4, margin=0.5, undecidable="of its kind"),
        verdict("inconclusive", name="e", p=0.4, margin=0.5, origin="ours"),
        verdict(name="f", kind="exact", low=None, high=None, p=None, margin=None),
        verdict("contradicted", name="g", origin="check", p=1e-9),
    ])  # fmt: skip
    assert results.firm([page]) == {("toy", "a"), ("toy", "c")}  # 0.001 < .05/5, .01 < .05/4, .03 > .05/3
    text = results.results_page([page])
    assert "- Of 5 claims of the papers 4 are decided, 1 of them by a hair. 5 (100 %) are decided or marked" in text
    assert "- Of 1 claims of our own 0 are decided, 0 of them by a hair. 0 (0 %) are decided or marked" in text
    assert "At most 0.2 of the decided verdicts are wrong by chance" in text  # 5 * .05 = .25
    assert "the sum of what each of 5 intervals may err. 1 exact findings have no interval" in text
    assert "- 2 of the papers' and 0 of our own stay after Holm's correction" in text
    assert "1 check of the code, of which do not hold: g (contradicted)." in text
    assert "| [Toy](../notebooks/toy.ipynb) | 4 + 0 | 1 + 1 | 0 + 0 | 5 + 1 | 1 |" in text
    order = [row["data-verdict"] for row in rows_of(text)]
    assert order == ["contradicted"] + 2 * ["inconclusive"] + 4 * ["reproduced"]
    holm = [row["holm"] for row in json.loads(results.data_files([page])["results.json"])]
    assert holm == [True, False, True, False, False, False, False]


def test_further_editions_are_not_counted(toy):
    (toy.root / "_config.yml").write_text("title: Toys\n")
    page = made(toy, [verdict(p=0.04)])
    further = replace(made(toy, [verdict("contradicted", p=1e-9)]), edition="other")
    further.__dict__.update(verdicts=[verdict("contradicted", p=1e-9)], registrations=page.registrations)
    for shown in (page, further):
        shown.run.__dict__["notebook"] = shown.chapter.source  # as if it had been run
    both = [page, further]
    assert results.all_verdicts(both) == page.verdicts
    text = results.results_page(both)
    assert "Further editions stand in the last table and are not counted." in text
    assert "Of 1 claims of the papers 1 are decided" in text and "| **1 + 0** |" in text
    assert [(row["data-edition"], row.a["href"]) for row in rows_of(text)] == [
        ("other", "../notebooks/toy-other.html#claim-c"), ("default", "../notebooks/toy.html#claim-c")]  # fmt: skip
    assert [r["holm"] for r in json.loads(results.data_files(both)["results.json"])] == [True, None]
    for shown, firm in ((page, True), (further, False)):
        (of,) = [c for c in book.staged_notebook(shown, stay={("toy", "c")}).cells if 'id="claim-c"' in c.source]
        assert ("<em>firm</em></small>" in of.source) == firm


# --- the ladder -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("claim", "here", "there", "expected"),
    [
        ({"above": 0.5}, (1.0, 0.9, 1.1), (0.7, 0.6, 0.8), ("stronger", True)),
        ({"below": 0.5}, (1.0, 0.9, 1.1), (0.7, 0.6, 0.8), ("weaker", True)),
        ({"above": 0.5}, (1.0, 0.7, 1.3), (0.7, 0.6, 0.8), ("stronger", False)),
        ({"between": (0, 1)}, (0.9, 0.85, 0.95), (0.4, 0.3, 0.5), ("weaker", True)),
        ({"between": (0, 1)}, (1.2, 1.1, 1.3), (1.5, 1.4, 1.6), ("stronger", True)),
        ({"above": 0.5}, (0.7, 0.6, 0.8), (0.7, 0.6, 0.8), ("same", False)),
        ({"above": 0.5}, (0.9, None, None), (0.7, 0.6, 0.8), ("stronger", False)),
        ({"below": 1e-6, "kind": "exact"}, (1e-9, None, None), (1e-8, None, None), ("stronger", True)),
        ({"above": 0.5}, (None, None, None), (0.7, 0.6, 0.8), ("", False)),
    ],
)
def test_change_is_told_by_the_side_that_is_claimed(claim, here, there, expected):
    assert ladder.change(verdict("x", *here, **claim), verdict("x", *there, **claim)) == expected


def test_the_ladder_shows_every_edition_from_the_cheapest_to_the_papers(toy):
    page = page_of(toy, record_of(toy))
    publish(toy, record_of(toy, "other", seeds=(0, 1), high=[0.05, 0.06], low=[-1.0, -0.991]), "other")
    (found,) = ladder.rungs([page])
    assert [rung.name for rung in found] == ["quick", "default", "other", "paper"]  # the draft's is left out
    text = ladder.ladder_page([found])
    assert "| claim | `quick` | `default` | `other` | `paper` |" in text
    row = next(line for line in text.splitlines() if line.startswith("| High is small."))
    cells = row.split(" | ")
    assert "not\u00a0run" in cells[1] and "not\u00a0run" in cells[4]
    assert pages.badge("contradicted") in cells[2] and f"0.510 [0.485, 0.535], {N}3" in cells[2]
    assert f"0.055 [−0.009, 0.119], {N}2" in cells[3] and '<span role="img" aria-label="stronger"' in cells[3]
    assert "- `paper`: its own scale (10 h on a GPU). **Not run.**" in text
    assert "- `other`: other data (10 min on one core). Run with seeds 0 to 1: of the paper's claims 1" in text
    assert "2 times a finding was measured at another edition as well: 1 of these verdicts are those" in text


def test_an_old_or_odd_record_is_told_and_stops_nothing(toy):
    page = page_of(toy, record_of(toy))
    publish(toy, record_of(toy, "other", high=[0.01, None, 0.02]).model_copy(update={"study": None, "key": "0" * 16}),
            "other")  # fmt: skip
    publish(toy, record_of(toy, "quick", high=[None] * 3, low=[None] * 3), "quick")
    published_records.path(toy, page.chapter, "paper").write_text("{}")
    (found,) = ladder.rungs([page])
    quick, _, other, paper = found
    apart, small = page.chapter.file.claims
    assert (quick.state(apart), paper.state(apart)) == ("not measured", "not run")
    assert (other.state(apart), other.state(small)) == ("not measured by that code", "reproduced")
    assert (other.today, quick.today) == (False, True)
    text = ladder.ladder_page([found])
    assert f"Run by older code or settings, commit `{'c' * 12}`, with seeds 0 to 2" in text
    assert '<span class="none">not measured by that code</span>' in text


def test_in_a_draft_the_default_comes_from_the_published_record(toy):
    draft = page_of(toy, record_of(toy, "smoke", seeds=(0, 1)), "smoke")
    (found,) = ladder.rungs([draft])
    assert {rung.state(claim) for rung in found for claim in draft.chapter.file.claims} == {"not run"}
    publish(toy, record_of(toy))
    (found,) = ladder.rungs([draft])
    assert [rung.name for rung in found if rung.record] == ["default"]


def test_the_ladder_leaves_out_checks_and_is_data_too(toy):
    path = toy.root / "notebooks" / "toy.yaml"
    path.write_text(path.read_text().replace("origin: ours", "origin: check"))
    page = page_of(toy, record_of(toy))
    publish(toy, record_of(toy, "other", high=[0.5, 0.6, 0.7], low=[0.0, 0.0, 0.1]), "other")
    files = ladder.data_files(ladder.rungs([page]))
    rows = json.loads(files["ladder.json"])
    assert [(r["claim"], r["edition"], r["state"], r["seeds"], r["change"]) for r in rows] == [
        ("apart", "quick", "not run", None, None), ("apart", "default", "reproduced", 3, None),
        ("apart", "other", "inconclusive", 3, "weaker"), ("apart", "paper", "not run", None, None)]  # fmt: skip
    assert pd.read_csv(io.BytesIO(files["ladder.csv"]))["commit"].tolist()[1:3] == ["c" * 40] * 2
