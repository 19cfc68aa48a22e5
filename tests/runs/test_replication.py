"""Another run beside a published record: which values are the same, which differ by chance, which do not."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Command, write_chapter
from scipy import stats

from phenomena.runs.book import build as book
from phenomena.runs.book import pages, results
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.execute import runner
from phenomena.runs.execute.verify import parameters, verify
from phenomena.runs.store import keys, pools, published, replication, runs
from phenomena.runs.store.chapters import Chapter, ChapterFile, Claim, Project
from phenomena.runs.store.runs import Record
from phenomena.statistics import interval

RECORD = {
    "chapter": "toy", "edition": "default", "key": "own", "study": "one", "figures": [], "versions": {},
    "processor": "A", "gpu": None, "threads": 1, "commit": "c" * 40, "lock_sha256": "l", "modules": {},
    "seconds": {"total": 1.0}, "peak_memory_mb": 1.0,
}  # fmt: skip
ABOUT = {"statement": "s", "origin": "ours", "source": "p", "paper_value": "f", "quantity": "q", "rationale": "r",
         "caveat": "l"}  # fmt: skip


def record(started="2020-01-01", first=0, seeds=None, **values):
    count = seeds or max(map(len, values.values()))
    numbers = {"seed": first, "seeds": count}
    return Record(**{**RECORD, "parameters": numbers, "seeds": list(range(first, first + count)), "values": values,
                     "started": started})  # fmt: skip


def chapter(*claims, **trials):
    found = Chapter(Path("toy.ipynb"))
    found.__dict__["file"] = ChapterFile.model_construct(claims=list(claims), trials=trials)
    return found


def compared(old, new, of=None):
    (value,) = replication.compare(of or chapter(), record(x=old), record("2021", x=new)).values
    return value


# --- one value --------------------------------------------------------------------------------------------------------

OLD = [1.0, 2.0, 3.0, 4.0]  # Student's interval: 2.5 with 2.05 on both sides


@pytest.mark.parametrize(
    ("old", "new", "kind"),
    [
        (OLD, OLD, "bits"),
        ([1.0, None], [1.0, None], "bits"),
        ([None, None], [None, None], "bits"),
        ([1.0, None], [1.0], "bits"),  # a side study has the first seeds only
        (OLD, [1.0, 2.0, 3.0, 4.0 + 1e-15], "inside"),
        (OLD, [4.5, 4.5, 4.5, 4.5], "inside"),
        (OLD, [0.0, None, 2.0, 3.0], "inside"),
        (OLD, [3.0, 4.0, 5.0, 6.5], "chance"),
        (OLD, [1e3, 1e3 + 1, 1e3, 1e3], "disagreement"),
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.0 + 1e-12], "inside"),  # rounding: no interval is needed
        ([2.0, 2.0, 2.0], [2.0, 2.0, 2.1], "chance"),  # one seed in three, where the other record has no interval
        ([2.0, 2.0, 2.0], [2.0 + 1e-8] * 3, "disagreement"),  # no spread: nothing that chance could explain
        ([2.0], [2.0 + 1e-8], "disagreement"),
        ([1e-13], [0.0], "inside"),
        ([1.0, 2.0], [None, None], "disagreement"),
        ([None, None], [1.0, 2.0], "disagreement"),
    ],
)
def test_kinds_of_values(old, new, kind):
    assert compared(old, new).kind == kind


def test_a_value_is_told_with_its_numbers():
    found = compared(OLD, [3.0, 4.0, 5.0, 6.5])
    _, low, high = interval(OLD)
    assert (found.again, found.published, found.low, found.high, found.seeds) == (4.625, 2.5, low, high, 4)
    assert found.p == pytest.approx(stats.ttest_ind(OLD, [3.0, 4.0, 5.0, 6.5], equal_var=False).pvalue)
    assert (compared(OLD, OLD).p, compared([2.0], [3.0]).p) == (None, 0)
    assert (compared([2.0], [3.0]).low, compared([1.0, None], [None, None]).again) == (None, None)


def test_a_value_of_one_record_alone_is_in_disagreement():
    found = replication.compare(chapter(), record(x=[1.0, 2.0]), record("2021", y=[1.0, 2.0]))
    assert {value.name: value.kind for value in found.values} == {"x": "disagreement", "y": "disagreement"}


def test_a_share_has_the_interval_of_a_share():
    """Three seeds of 20 trials without a failure leave room for 5 failures in a hundred; as a mean they leave none."""
    old, new = [1.0, 1.0, 1.0], [1.0, 1.0, 0.95]
    assert compared(old, new, chapter(x="20")).kind == "inside"
    assert compared(old, new).kind == "chance"
    assert compared(old, [0.8, 0.8, 0.8], chapter(x="20")).kind == "disagreement"
    with pytest.raises(BadInput, match=r"toy, x, a share by trials: values from 1 to 2: must lie"):
        compared([1.0, 2.0], new, chapter(x="20"))


def test_only_the_seeds_of_both_are_compared():
    pooled = pools.pool([record(x=[1.0, 2.0, 3.0]), record(first=3, x=[50.0, 60.0]).model_copy(update={"key": "o"})])
    same, other = (record("2021", x=x) for x in ([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]))
    assert replication.compare(chapter(), pooled, same).values[0].kind == "bits"
    value = replication.compare(chapter(), pooled, other).values[0]
    assert (value.published, value.low, value.high, value.seeds) == (*interval([1.0, 2.0, 3.0]), 3)


# --- many values ------------------------------------------------------------------------------------------------------


def test_many_values_of_one_distribution_rarely_disagree():
    """Two independent samples for each of 1,000 values: at most one repeat in twenty has any disagreement.

    Of 60 repeats, more than 8 would be one chance in a hundred at that rate.
    """
    rng = np.random.default_rng(0)
    disagreeing, outside = 0, 0
    for _ in range(60):
        old, new = (rng.normal(size=(1000, 10)) for _ in range(2))
        found = replication.compare(chapter(), record(**{f"x{i}": list(row) for i, row in enumerate(old)}),
                                    record("2021", **{f"x{i}": list(row) for i, row in enumerate(new)}))  # fmt: skip
        disagreeing += found.counts["disagreement"] > 0
        outside += found.counts["chance"]
    assert disagreeing <= 8
    assert outside > 60 * 1000 * 0.05  # an interval covers its own mean, not another sample's: correction is needed


def test_a_real_shift_is_found_among_many():
    rng = np.random.default_rng(1)
    old, new = (rng.normal(size=(1000, 10)) for _ in range(2))
    new[7] += 6
    found = replication.compare(chapter(), record(**{f"x{i}": list(row) for i, row in enumerate(old)}),
                                record("2021", **{f"x{i}": list(row) for i, row in enumerate(new)}))  # fmt: skip
    assert [value.name for value in found.values if value.kind == "disagreement"] == ["x7"]
    assert not found.agrees


def test_the_correction_counts_all_values():
    """One p of 0.01 is a disagreement alone, and chance beside nine values that are equal."""
    old, rest = [0.0, 1.0, 2.0, 3.0], {f"x{i}": [1.0, 2.0, 3.0, 4.0] for i in range(9)}
    new = [x + 3.4 for x in old]
    assert 0.005 < compared(old, new).p < 0.05
    assert compared(old, new).kind == "disagreement"
    found = replication.compare(chapter(), record(x=old, **rest), record("2021", x=new, **rest))
    assert found.counts == {"bits": 9, "inside": 0, "chance": 1, "disagreement": 0}


# --- verdicts ---------------------------------------------------------------------------------------------------------


def claim(**threshold):
    return Claim(**ABOUT, name="c", measured="x", kind="mean", **threshold)


def test_verdicts_are_told_side_by_side():
    of = chapter(claim(above=0.0))
    found = replication.compare(of, record(x=[1.0, 1.1, 1.2]), record("2021", x=[-1.0, 1.1, 1.2]))
    (answer,) = found.claims
    assert (answer.published.verdict, answer.again.verdict, answer.same) == ("reproduced", "inconclusive", False)
    assert found.same == 0 and found.counts["disagreement"] == 0 and not found.agrees
    assert replication.compare(of, record(x=[1.0, 1.1, 1.2]), record("2021", x=[1.0, 1.1, 1.3])).agrees


def test_a_rerun_takes_the_place_of_its_seeds_in_a_pool():
    rest = record(first=3, x=[1.0, 1.1, 1.2]).model_copy(update={"key": "other"})
    pooled, of = pools.pool([record(x=[1.0, 1.1, 1.2]), rest], looks=4), chapter(claim(above=0.0))
    (answer,) = replication.compare(of, pooled, record("2021", x=[2.0, 2.1, 2.2])).claims
    assert answer.again.measured == pytest.approx(np.mean([2.0, 2.1, 2.2, 1.0, 1.1, 1.2]))
    assert (answer.again.seeds, answer.again.runs) == (6, 2)
    (equal,) = replication.compare(of, pooled, record("2021", x=[1.0, 1.1, 1.2])).claims
    assert replace(equal.again, claim=equal.published.claim) == equal.published  # as many looks, too


def test_looks_stay_those_of_the_published_record():
    looked = record(x=[1.0, 1.4, 1.2]).model_copy(update={"looks": 5})
    (answer,) = replication.compare(chapter(claim(above=0.9)), looked, record("2021", x=[1.0, 1.4, 1.2])).claims
    assert (answer.published.low, answer.published.high) == (answer.again.low, answer.again.high)


def test_records_of_different_studies_are_refused():
    other = record(x=[1.0, 2.0]).model_copy(update={"lock_sha256": "m"})
    with pytest.raises(BadInput, match=r"another requirements\.lock"):
        replication.compare(chapter(), record(x=[1.0, 2.0]), other)


# --- end to end -------------------------------------------------------------------------------------------------------


@pytest.fixture
def shelf(ran, tmp_path):
    """A toy project with a run, published, as a person finds it who clones it: without the run."""
    shutil.copytree(ran.root, tmp_path / "shelf")
    project = Project(tmp_path / "shelf")
    published.publish(project)
    shutil.rmtree(project.runs)
    return project


def tampered(project, **changes):
    """Changes the published record."""
    path = published.path(project, project.chapter("toy"), "default")
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, **changes}))


def test_verify_runs_apart_and_takes_what_is_there(ran, tmp_path, phenomena: Command):
    shutil.copytree(ran.root, tmp_path / "shelf")
    project = Project(tmp_path / "shelf")
    phenomena(project.root, "publish")
    mine = runs.current(project, project.chapter("toy"))
    first = phenomena(project.root, "verify", "toy")
    assert first.returncode == 0, first.stderr
    processor = mine.record.processor
    assert first.stdout == (
        "toy, default: values: 2 equal to the bit, 0 inside, 0 by chance, 0 in disagreement; "
        f"verdicts: 2 of 2 agree; {processor}, published on {processor}\n"
    )
    assert runs.read(mine.folder).record == mine.record  # it stays where it was
    (made,) = (project.runs / ".verified" / "toy").iterdir()
    assert made.name == mine.record.key and runs.read(made).record.edition == "default"
    again = phenomena(project.root, "verify")
    assert (again.returncode, again.stdout, again.stderr) == (0, first.stdout, "")
    started = runs.read(made).record.started
    assert started > mine.record.started
    assert phenomena(project.root, "verify", "toy", "--force").returncode == 0
    assert runs.read(made).record.started > started


def test_all_chapters_are_verified_by_runs_side_by_side(shelf, server, phenomena: Command):
    write_chapter(shelf.root, "second")
    second = shelf.chapter("second")
    runner.run(shelf, second, second.resolve(), "default", server=server)
    published.publish(shelf)
    shutil.rmtree(shelf.runs)
    done = phenomena(shelf.root, "verify")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.partition(", default: values: 2 equal to the bit")[0] for line in lines] == ["second", "toy"]
    assert {path.name for path in shelf.runs.iterdir()} == {".verified", ".partial", ".locks"}


def test_what_is_there_is_compared_without_heavy_imports(shelf, run_toy):
    run_toy(shelf)
    asked = """
import sys
from phenomena.runs.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""
    words = [sys.executable, "-c", asked, "verify", "toy"]
    done = subprocess.run(words, cwd=shelf.root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    heavy = {"torch", "pandas", "papermill", "matplotlib", "jupyter_client", "scipy.stats"}
    assert heavy.isdisjoint(done.stderr.split())


def test_a_run_that_is_there_serves_unless_it_is_the_published_one(shelf, run_toy):
    mine = run_toy(shelf)
    reference = published.read(shelf, shelf.chapter("toy"))
    assert replication.at_hand(shelf, reference).record == mine.record
    assert replication.at_hand(shelf, mine.record) is None
    outcome = verify(shelf, [reference])
    assert [c.again for c in outcome.compared] == [mine.record]
    assert not (shelf.runs / ".verified").exists()


def test_a_tampered_value_is_named_with_status_1(shelf, run_toy, phenomena: Command):
    run_toy(shelf)
    values = published.read(shelf, shelf.chapter("toy")).values
    tampered(shelf, values=values | {"high": [x - 0.46 for x in values["high"]]})
    done = phenomena(shelf.root, "verify", "toy")
    assert done.returncode == 1
    line, value, verdict = done.stdout.splitlines()
    assert "1 equal to the bit, 0 inside, 0 by chance, 1 in disagreement; verdicts: 1 of 2 agree" in line
    assert value.startswith("  high disagrees: 0.51, published 0.05 [0.0251586, 0.0748414], n = 3, p = ")
    assert verdict == ("  claim small differs: contradicted 0.51 [0.485159, 0.534841], "
                       "published reproduced 0.05 [0.0251586, 0.0748414], asked: < 0.1")  # fmt: skip
    assert done.stderr == "phenomena: 1 values in disagreement, 1 verdicts differ\n"
    told = phenomena(shelf.root, "verify", "toy", "--json")
    (row,) = json.loads(told.stdout)
    assert told.returncode == 1
    assert (row["chapter"], row["edition"], row["agrees"]) == ("toy", "default", False)
    assert row["values"] == {"bits": 1, "inside": 0, "chance": 0, "disagreement": 1}
    assert [value["kind"] for value in row["each_value"]] == ["disagreement", "bits"]
    assert [c["same"] for c in row["each_claim"]] == [True, False]
    assert row["each_claim"][1]["published"]["verdict"] == "reproduced"


def test_a_record_of_other_code_is_refused_with_its_commit(shelf, phenomena: Command):
    path, commit = published.path(shelf, shelf.chapter("toy"), "default"), "0123456789abcdef" * 2 + "01234567"
    honest = path.read_text()
    for changes, why in (
        ({"modules": {"statistics.py": "other"}}, "its code differs in __init__.py, own_data.py, "),
        ({"lock_sha256": "other"}, "it ran with another requirements.lock"),
        ({"study": "other"}, "its notebook's code differs"),
        ({"study": None}, "its notebook's code differs"),
    ):
        path.write_text(honest)
        tampered(shelf, key="0" * 16, commit=f"{commit}-dirty", **changes)
        done = phenomena(shelf.root, "verify", "toy")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith(f"phenomena: toy, run {'0' * 16}: this checkout cannot make it: {why}")
        assert done.stderr.endswith("; commit 0123456789ab made it, with changes: git checkout 0123456789ab\n")
        assert not shelf.runs.exists()


def test_what_cannot_be_verified_does_not_stop_the_rest(shelf, run_toy, phenomena: Command):
    run_toy(shelf)
    other = shelf.root / "book" / "published" / "second" / "default.json"
    other.parent.mkdir()
    content = json.loads(published.path(shelf, shelf.chapter("toy"), "default").read_text())
    other.write_text(json.dumps(content | {"chapter": "second", "commit": None, "key": "0" * 16}))
    write_chapter(shelf.root, "second")
    done = phenomena(shelf.root, "verify")
    assert done.returncode == 1
    assert done.stdout.startswith("toy, default: values: 2 equal to the bit")
    assert done.stderr.startswith(f"cannot be verified here: second, run {'0' * 16}: this checkout cannot make it: ")
    assert done.stderr.endswith("; it names no commit that made it\nphenomena: 1 not verified\n")
    assert phenomena(shelf.root, "verify", "second").returncode == 2


def test_other_parameters_are_told(shelf):
    toy = shelf.chapter("toy")
    reference = published.read(shelf, toy)
    rest = {name: value for name, value in reference.parameters.items() if name != "rate"}
    for changed, why in (
        (reference.parameters | {"old": 1}, "parameter 'old' is unknown here"),
        (rest, "parameter 'rate' is new here"),
        (reference.parameters | {"seeds": 4}, "its seeds do not fit its key"),
    ):
        with pytest.raises(BadInput, match=f"toy, run {reference.key}: this checkout cannot make it: {why}"):
            parameters(shelf, toy, reference.model_copy(update={"parameters": changed}))


def test_a_pool_is_verified_by_its_first_run(shelf, server):
    toy = shelf.chapter("toy")
    reference = published.read(shelf, toy)
    more = runner.run(shelf, toy, toy.resolve(overrides={"seed": 3, "seeds": 2}), server=server)[0].record
    pooled = pools.pool([reference, more])
    assert pooled.parameters["seeds"] == 5
    assert parameters(shelf, toy, pooled) == reference.parameters
    (found,) = verify(shelf, [pooled]).compared
    assert found.again.key == reference.key and found.agrees and found.counts["bits"] == 2
    assert found.claims[0].again.seeds == 5


def test_against_a_file(shelf, run_toy, phenomena: Command, tmp_path):
    run = run_toy(shelf, rate=0.2)  # parameters of a person's own
    shutil.copy(run.folder / runs.RECORD, tmp_path / "mine.json")
    shutil.rmtree(shelf.runs)
    done = phenomena(shelf.root, "verify", "--against", str(tmp_path / "mine.json"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("toy, own parameters: values: 2 equal to the bit")
    for words, message in (
        (["second"], "unknown chapter 'second'; accepted: toy"),
        (["--edition", "smoke"], f"{tmp_path}/mine.json: is of edition None, not smoke"),
    ):
        done = phenomena(shelf.root, "verify", *words, "--against", str(tmp_path / "mine.json"))
        assert (done.returncode, done.stderr) == (2, f"phenomena: {message}\n")


def test_against_a_notebook_executed_elsewhere(shelf, run_toy, phenomena: Command, tmp_path):
    run = run_toy(shelf, rate=0.2)
    out = tmp_path / "out.ipynb"
    shutil.copy(run.folder / runs.NOTEBOOK, out)
    shutil.rmtree(shelf.runs)
    done = phenomena(shelf.root, "verify", "--against", str(out))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("toy, own parameters: values: 2 equal to the bit")
    out.write_text(out.read_text().replace("(v - rate) ** 2", "(v - rate) ** 4"))
    done = phenomena(shelf.root, "verify", "--against", str(out))
    message = f"{out}: cannot be made again: its code is not that of today's toy"
    assert (done.returncode, done.stderr) == (2, f"phenomena: {message}\n")


def test_bad_input_is_one_line_and_status_2(shelf, phenomena: Command, tmp_path):
    (tmp_path / "half.json").write_text("{")
    for words, message in (
        (["toy", "--edition", "smok"], "toy: unknown edition 'smok'; did you mean 'smoke'? accepted: default, smoke"),
        (["--edition", "smok"], "toy: unknown edition 'smok'; did you mean 'smoke'? accepted: default, smoke"),
        (["toy", "--edition", "smoke"],
         "book/published/toy/smoke.json: no published record of this run can be read"),
        (["--edition", "smoke"], "book/published: holds no record of edition smoke"),
        (["--against", "gone.json"], "gone.json: there is no such file or folder"),
        (["--against", str(tmp_path / "half.json")],
         f"{tmp_path}/half.json: must be the record of a run, such as book/published/CHAPTER/default.json"),
    ):  # fmt: skip
        done = phenomena(shelf.root, "verify", *words)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"phenomena: {message}\n")
    done = phenomena(shelf.root, "publish", "--pooled", "--replication")
    assert (done.returncode, done.stderr) == (2, "phenomena: --pooled and --replication: must be one of the two\n")
    assert not shelf.runs.exists()


def test_a_run_that_fails_is_status_1_and_the_others_are_told(shelf, run_toy):
    """What it says of the one that is there does not depend on the one that fails."""
    run_toy(shelf)
    toy = shelf.chapter("toy")
    broken = toy.resolve(overrides={"title": "broken"})
    reference = published.read(shelf, toy)
    write_chapter(shelf.root, "second")
    second = shelf.chapter("second")
    changed = {"chapter": "second", "parameters": broken, "key": keys.run_key(shelf, second, broken)}
    outcome = verify(shelf, [reference, reference.model_copy(update=changed)])
    assert [c.agrees for c in outcome.compared] == [True]
    (line,) = outcome.failed
    assert line.startswith("second: code cell") and "the toy broke" in line
    assert not (shelf.runs / ".verified" / "second").exists()


# --- what is kept -----------------------------------------------------------------------------------------------------


def test_replications_are_kept_once_and_told_on_the_page(shelf, run_toy, phenomena: Command):
    toy = shelf.chapter("toy")
    reference = published.read(shelf, toy)
    assert phenomena(shelf.root, "publish", "--replication").stdout == ""
    assert published.replications(shelf, toy) == []
    mine = run_toy(shelf)
    done = phenomena(shelf.root, "publish", "--replication", "toy")
    digest = keys.sha256((mine.folder / runs.RECORD).read_bytes())[:8]
    assert done.stdout == f"book/published/toy/replications/default-{digest}.json\n"
    assert phenomena(shelf.root, "publish", "--replication").stdout == ""
    assert published.replications(shelf, toy) == [mine.record]
    assert published.replications(shelf, toy, "smoke") == []

    elsewhere = mine.record.model_copy(update={
        "processor": "B", "started": "2999", "values": mine.record.values | {"high": [0.5, 0.51, 0.521]}
    })  # fmt: skip
    place = published.beside(shelf, toy)
    (place / "default-00000000.json").write_text(elsewhere.model_dump_json())
    (place / "default-11111111.json").write_text(elsewhere.model_copy(update={"key": "another"}).model_dump_json())
    (place / "default-22222222.json").write_text(reference.model_dump_json())  # the published run itself
    assert published.replications(shelf, toy) == [mine.record, elsewhere]

    (page,) = book.find_pages(shelf, "default")
    assert (f"Run again 2 times, on 2 kinds of processor ({', '.join(sorted({mine.record.processor, 'B'}))}): "
            "4 of 4 verdicts the same, 75 % of values equal to the bit.") in pages.run_note(page)  # fmt: skip
    shown = results.runs_page([page])
    assert "## Run again" in shown and shown.count("| 2 of 2 |") == 2
    assert "| B | – |" in shown and "| 1 | 1 | 0 | 0 | 2 of 2 |" in shown
    (row,) = json.loads(results.data_files([page])["runs.json"])
    assert [r["values"]["bits"] for r in row["replications"]] == [2, 1]
    assert b"replications" not in results.data_files([page])["runs.csv"]


def test_a_page_without_replications_says_nothing_of_them(ran):
    (page,) = book.find_pages(ran, "smoke")
    assert "Run again" not in pages.run_note(page) + results.runs_page([page])


def test_the_book_compares_only_with_records_of_its_own_run(shelf, run_toy):
    """A published record of another key says nothing of the page's run."""
    mine = run_toy(shelf)
    replication.keep(shelf, [shelf.chapter("toy")])
    (page,) = book.find_pages(shelf, "default")
    assert len(page.replications) == 1
    tampered(shelf, key="another")
    (page,) = book.find_pages(shelf, "default")
    assert page.record == mine.record and page.replications == []
