"""When claims were registered, on small repositories of which the history is known."""

import copy
import os
import random
import re
import shutil
import subprocess
from pathlib import Path
from textwrap import indent

import pytest
import yaml
from conftest import CHAPTER, write_chapter

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import git, history, registration
from phenomena.runs.store.chapters import Project
from phenomena.runs.store.registration import Changes, Registration
from phenomena.runs.store.runs import Part, Record

ROOT = Path(__file__).parents[2]
NEVER = Changes(0, 0, 0)
OWN = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture(autouse=True)
def settings_of_nobody(monkeypatch):
    for name, value in OWN.items():
        monkeypatch.setenv(name, value)


def claim(name="high", statement="High is high.", measured="high", **fields):
    bound = {} if fields.keys() & {"above", "below", "between"} else {"above": 0.5}
    about = {"origin": "ours", "source": "here", "paper_value": "none", "quantity": "high", "kind": "mean",
             "rationale": "half", "caveat": "toy"}  # fmt: skip
    return {"name": name, "statement": statement, "measured": measured, **about, **bound, **fields}


class Repository:
    """A toy project in a repository of its own; commit number n is made on 2026-01-n."""

    def __init__(self, root, chapter="toy", top=None):
        self.root, self.chapter, self.top = root, chapter, top or root
        self.commits = 0
        root.mkdir(parents=True, exist_ok=True)
        (root / "requirements.lock").write_text("toy==1\n")
        write_chapter(root, chapter)
        self.git("init", "--quiet", "--initial-branch=main", str(self.top))

    @property
    def yaml(self):
        return self.root / "notebooks" / f"{self.chapter}.yaml"

    @property
    def record(self):
        return self.root / "book" / "published" / self.chapter / "default.json"

    def git(self, *words):
        day = f"2026-01-{self.commits:02d}T12:00:00+02:00"
        who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER")
               for what, value in (("NAME", "t"), ("EMAIL", "t@localhost"), ("DATE", day))}  # fmt: skip
        path = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        done = subprocess.run(["git", *words], cwd=self.top if self.top.is_dir() else None, check=True,
                              capture_output=True, text=True, env=path | OWN | who)  # fmt: skip
        return done.stdout.strip()

    def write(self, *claims, **others):
        """Writes the chapter's file with these claims."""
        content = {**copy.deepcopy(CHAPTER), **others, "claims": list(claims)}
        self.yaml.write_text(yaml.safe_dump(content, sort_keys=False))

    def commit(self, *claims):
        """Commits everything, with these claims if any are given; returns the commit."""
        if claims:
            self.write(*claims)
        self.commits += 1
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", f"commit {self.commits}")
        return self.git("rev-parse", "HEAD")

    def publish(self, text="{}"):
        """Puts a published record there, for the next commit."""
        self.record.parent.mkdir(parents=True, exist_ok=True)
        self.record.write_text(text)

    def find(self, run=None):
        """The registrations beside a run of that commit."""
        return found_in(self.root, run, self.chapter)


def record_of(commit, pool=()):
    rest = {"key": "k", "seeds": [0], "processor": "p", "started": "s", "seconds": {"total": 1.0}}
    return Record.model_construct(commit=commit, pool=list(pool), **rest)


def found_in(root, run=None, chapter="toy"):
    project = Project(root)
    return registration.registrations(project, project.chapter(chapter), record_of(run))


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path / "toy")


# --- the registering commit, and the run ------------------------------------------------------------------------------


def test_a_claim_is_registered_where_its_text_first_stood(repository):
    first = repository.commit(claim())
    repository.publish()
    run = repository.commit()
    found = repository.find(run)["high"]
    assert found == Registration("registered", first, "2026-01-01T12:00:00+02:00", "before", changed=NEVER)
    assert (
        found.text
        == f"Registered 2026-01-01 in `{first[:7]}`, before this run; unchanged since the chapter's first run"
    )
    assert found.short == f"2026-01-01 `{first[:7]}`, before"
    assert found.row() == {
        "registration": "registered", "registered": "2026-01-01T12:00:00+02:00", "registered_in": first,
        "registered_order": "before", "statement_changes": 0, "expression_changes": 0, "threshold_changes": 0,
    }  # fmt: skip


def test_equal_commits_are_before_and_a_dirty_run_counts_by_its_commit(repository):
    commit = repository.commit(claim())
    assert [repository.find(run)["high"].order for run in (commit, f"{commit}-dirty")] == ["before", "before"]


def test_after_is_said_plainly(repository):
    run = repository.commit(claim())
    later = repository.commit(claim(above=0.4))
    found = repository.find(f"{run}-dirty")["high"]
    assert (found.commit, found.order) == (later, "after")
    assert f"in `{later[:7]}`, **after** this run; the chapter has no published run yet" in found.text
    assert found.short.endswith(", **after**")


def test_changes_are_counted_by_part_since_the_first_run(repository):
    repository.commit(claim("a"), claim("b"))
    repository.commit(claim("a", above=0.1), claim("b"))  # before the first run
    repository.publish()
    repository.commit(claim("a", above=0.2), claim("b"))  # with it
    repository.commit(claim("a", "A.", above=0.2), claim("b"))
    repository.publish('{"again": 1}')
    repository.commit(claim("a", "B.", "low", above=0.2), claim("b"))
    last = repository.commit(claim("a", "B.", "low", below=0.2), claim("b"))
    found = repository.find(last)
    assert found["a"].commit == last
    assert found["a"].changed == (2, 1, 1)
    assert found["b"].changed == NEVER
    assert found["a"].text.endswith(
        "since the chapter's first run the threshold changed once, the expression once, the wording twice"
    )
    repository.write(claim("a", "C.", "low", below=0.2), claim("b"))
    assert repository.find(last)["a"].text == (
        "Not committed; since the chapter's first run the threshold changed once, the expression once, "
        "the wording 3 times"
    )


def test_a_text_that_returns_is_registered_when_it_returned(repository):
    repository.publish()
    repository.commit(claim())
    repository.commit(claim(above=0.4))
    back = repository.commit(claim())
    found = repository.find(back)["high"]
    assert (found.commit, found.changed) == (back, (0, 0, 2))
    assert "the threshold changed twice, the expression never, the wording never" in found.text


@pytest.mark.parametrize(
    "rewrite",
    [
        lambda text: text.replace("statement: High is very high.", "statement:   High  is\n      very\n      high."),
        lambda text: text.replace("statement: High is very high.", "statement: >-\n      High is very\n      high."),
        lambda text: text.replace("High is very high.", "'High is very high.' # so it is"),
        lambda text: text.replace("high - low", "'high-low '"),
        lambda text: text.replace("0.5\n", "5.0e-1\n"),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: re.sub(r"(?s)(?<=claims:\n).*", lambda claims: indent(f"# next\n{claims[0]}", "   "), text),
        lambda text: text.replace("caveat: toy", "caveat: more").replace("rationale: half", "rationale: a half"),
        lambda text: text.replace("claims:", "tags: [x]\nclaims:").replace("caveat: toy", "caveat: toy\n  more: less"),
        lambda text: "# a comment\n" + text,
    ],
)
def test_layout_and_other_fields_do_not_count(repository, rewrite):
    only = claim("high", "High is very high.", "high - low", between=[0.5, 0.75])
    first = repository.commit(only)
    text = yaml.safe_dump({**CHAPTER, "claims": [only]}, sort_keys=False)
    changed = rewrite(text)
    assert changed != text and registration._claims(changed.encode())
    repository.yaml.write_bytes(changed.encode())
    repository.publish()
    repository.commit()
    last = repository.commit(only)
    found = repository.find(last)["high"]
    assert (found.commit, found.changed) == (first, NEVER)


@pytest.mark.parametrize("change", [{"statement": "Low."}, {"measured": "low"}, {"above": 0.4}, {"below": 0.5}])
def test_a_text_that_is_not_committed(repository, change):
    commit = repository.commit(claim(), claim("other"))
    repository.write(claim(**change), claim("other"), claim("new"))
    found = repository.find(commit)
    assert [found[name].standing for name in ("high", "new")] == ["not committed"] * 2
    assert found["high"].text == "Not committed; the chapter has no published run yet"
    assert (found["new"].commit, found["new"].order, found["new"].short) == (None, None, "not committed")
    assert found["other"].commit == commit
    repository.git("add", "--all")  # staged is not committed
    assert repository.find(commit)["high"].standing == "not committed"


def test_an_edit_of_other_fields_that_is_not_committed(repository):
    commit = repository.commit(claim())
    repository.write(claim(caveat="more"), summary="Other words.")
    assert repository.find(commit)["high"].commit == commit


# --- names and files that change --------------------------------------------------------------------------------------


def test_a_renamed_claim_is_followed(repository):
    repository.publish()
    first = repository.commit(
        claim("a", "A.", "a"), claim("b", "B.", "b"), claim("c", "C.", "c"), claim("d", "D.", "d")
    )
    second = repository.commit(
        claim("a2", "A.", "a"), claim("b2", "B.", "b + 0"), claim("c2", "C!", "c"), claim("d2", "D!", "d + 0")
    )
    found = repository.find(first)
    assert [(found[n].commit, found[n].order) for n in ("a2", "b2", "c2", "d2")] == [
        (first, "before"), (second, "after"), (second, "after"), (second, "after"),
    ]  # fmt: skip
    assert [found[n].changed for n in ("a2", "b2", "c2", "d2")] == [NEVER, (0, 1, 0), (1, 0, 0), NEVER]
    assert [found[n].late for n in ("a2", "b2", "c2", "d2")] == [False, False, False, True]
    assert found["d2"].text.endswith("new in name, wording and expression since the chapter's first run")


def test_of_several_gone_claims_the_most_alike_is_followed(repository):
    first = repository.commit(claim("a", "A.", "x", above=0.1), claim("b", "B.", "x", above=0.2))
    repository.commit(claim("c", "B.", "x", above=0.2))
    assert repository.find(first)["c"].commit == first


def test_a_name_says_more_than_a_text(repository):
    first = repository.commit(claim("a", "A.", "a"), claim("b", "B.", "b"))
    second = repository.commit(claim("a", "B.", "b"), claim("b", "B.", "b"))
    found = repository.find(first)
    assert (found["a"].commit, found["b"].commit) == (second, first)


def test_a_claim_that_came_back(repository):
    repository.publish()
    run = repository.commit(claim(), claim("other"))
    repository.commit(claim("other"))
    repository.commit(claim("other", above=0.3))
    back = repository.commit(claim(), claim("other", above=0.3))
    found = repository.find(run)["high"]
    assert (found.commit, found.order, found.changed, found.late) == (back, "after", NEVER, False)
    repository.commit(claim("other", above=0.3))
    back = repository.commit(claim(above=0.1), claim("other", above=0.3))
    assert repository.find(run)["high"].changed == (0, 0, 1)  # what changed while it was away is not hidden


def test_a_file_that_came_back(repository):
    run = repository.commit(claim())
    text = repository.yaml.read_text()
    repository.yaml.unlink()
    repository.commit()
    repository.yaml.write_text(text)
    back = repository.commit()
    assert (repository.find(run)["high"].commit, repository.find(run)["high"].order) == (back, "after")


def test_moved_files_are_followed(repository):
    repository.publish('{"values": "' + "x" * 200 + '"}')
    first = repository.commit(claim("a"), claim("b", "B."))
    for suffix in ("yaml", "ipynb"):
        (repository.root / "notebooks" / f"toy.{suffix}").rename(repository.root / "notebooks" / f"doll.{suffix}")
    repository.record.parent.rename(repository.record.parent.with_name("doll"))
    repository.chapter = "doll"
    second = repository.commit(claim("a"), claim("b", "B!"))  # moved and edited in one commit
    repository.commit(claim("a"), claim("b", "B!", caveat="more"))
    found = repository.find(first)
    assert [(found[n].commit, found[n].changed) for n in "ab"] == [(first, NEVER), (second, (1, 0, 0))]


def test_a_file_that_lay_elsewhere_under_another_suffix(repository):
    old = repository.root / "experiments" / "toy.yml"
    old.parent.mkdir()
    repository.write(claim())
    repository.yaml.rename(old)
    first = repository.commit()
    old.rename(repository.yaml)
    repository.commit()
    assert repository.find(first)["high"].commit == first


# --- merges -----------------------------------------------------------------------------------------------------------


def test_a_merge_passes_a_claim_on_to_the_branch_that_brought_it(repository):
    base = repository.commit(claim("a"), claim("b"))
    repository.git("checkout", "--quiet", "-b", "side")
    repository.publish()
    side = repository.commit(claim("a", "A!"), claim("b"))
    repository.git("checkout", "--quiet", "main")
    (repository.root / "other.txt").write_text("main went on")
    main = repository.commit()
    repository.commits += 1
    repository.git("merge", "--quiet", "--no-edit", "side")
    merge = repository.git("rev-parse", "HEAD")
    assert [repository.find(merge)[n].commit for n in "ab"] == [side, base]
    assert [repository.find(run)["a"].order for run in (merge, side, base, main)] == ["before", "before", "after", None]
    assert repository.find(main)["a"].text.startswith(
        f"Registered 2026-01-02 in `{side[:7]}`, before or after this run is not known "
        "(its commit is on another line of history)"
    )
    assert repository.find(merge)["a"].changed == NEVER  # it came with the first run


def test_texts_that_two_branches_brought_stand_together_from_the_merge(repository):
    repository.publish()
    one = repository.commit(claim("x", "X."), *(claim(f"c{i}", f"C{i}.") for i in range(4)), claim("y", "Y."))
    repository.git("checkout", "--quiet", "-b", "side")
    side = repository.commit(claim("x", "X!"), *(claim(f"c{i}", f"C{i}.") for i in range(4)), claim("y", "Y."))
    repository.git("checkout", "--quiet", "main")
    repository.commit(claim("x", "X.", above=0.1), *(claim(f"c{i}", f"C{i}.") for i in range(4)), claim("y", "Y."))
    repository.commits += 1
    repository.git("merge", "--quiet", "--no-edit", "side")
    merge = repository.git("rev-parse", "HEAD")
    found = repository.find(merge)
    assert yaml.safe_load(repository.yaml.read_text())["claims"][0] == claim("x", "X!", above=0.1)
    assert (found["x"].commit, found["x"].changed) == (merge, (1, 0, 1))
    assert (found["y"].commit, found["y"].changed) == (one, NEVER)
    assert repository.find(side)["x"].order == "after"


def test_a_text_brought_twice_counts_by_what_the_run_came_from(repository):
    repository.commit(claim())
    repository.git("checkout", "--quiet", "-b", "side")
    side = repository.commit(claim(above=0.1))
    repository.git("checkout", "--quiet", "main")
    picked = repository.commit(claim(above=0.1))
    repository.commits += 1
    repository.git("merge", "--quiet", "--no-edit", "side")
    assert repository.find(picked)["high"].commit == picked
    assert repository.find(side)["high"].commit == side
    assert repository.find(repository.git("rev-parse", "HEAD"))["high"].commit == side  # the earliest


def test_a_run_of_a_branch_that_was_never_merged(repository):
    first = repository.commit(claim())
    repository.git("checkout", "--quiet", "-b", "side")
    (repository.root / "other.txt").write_text("side")
    side = repository.commit()
    repository.git("checkout", "--quiet", "main")
    assert (repository.find(side)["high"].commit, repository.find(side)["high"].order) == (first, "before")
    repository.commit(claim(above=0.1))
    assert repository.find(side)["high"].order is None


# --- what is not known ------------------------------------------------------------------------------------------------


def clone(repository, target, *options):
    repository.git("clone", "--quiet", "--no-local", *options, repository.root.as_uri(), str(target))
    return target


def test_a_shallow_clone_says_where_its_history_begins(repository, tmp_path):
    repository.publish()
    repository.commit(claim("a"), claim("b"))
    old = repository.commit(claim("a", above=0.1), claim("b"))
    third = repository.commit(claim("a", above=0.1), claim("b", "B!"))
    last = repository.commit(claim("a", above=0.1), claim("b", "B!", caveat="more"))
    shallow = clone(repository, tmp_path / "shallow", "--depth", "3")
    found = found_in(shallow, last)
    assert found["a"] == Registration(
        "at or before", old, "2026-01-02T12:00:00+02:00", "before", changed=NEVER, since="2026-01-02"
    )
    assert found["a"].text == (
        f"Registered at or before 2026-01-02 in `{old[:7]}` (where this clone's history begins), before this run; "
        "unchanged since 2026-01-02 (where this clone's history begins)"
    )
    assert (found["b"].standing, found["b"].commit, found["b"].changed) == ("registered", third, (1, 0, 0))
    assert found["b"].text.endswith(
        "since 2026-01-02 (where this clone's history begins) the threshold never changed, the expression never, "
        "the wording once"
    )
    single = found_in(clone(repository, tmp_path / "single", "--depth", "1"), third)
    assert {r.standing for r in single.values()} == {"at or before"}
    assert {r.order for r in single.values()} == {None}
    assert f"not known (this clone does not hold its commit `{third[:7]}`)" in single["a"].text
    assert single["a"].short.startswith("at or before 2026-01-04 `")


def test_a_clone_that_was_shallow_tells_more_once_it_is_deepened(repository, tmp_path):
    first = repository.commit(claim())
    last = repository.commit(claim(caveat="more"))
    root = clone(repository, tmp_path / "shallow", "--depth", "1")
    assert found_in(root, last)["high"].commit == last
    subprocess.run(["git", "fetch", "--quiet", "--unshallow"], cwd=root, check=True)
    assert found_in(root, last)["high"].commit == first


def test_a_clone_without_old_contents_says_so_and_fetches_none(repository, tmp_path):
    repository.git("config", "uploadpack.allowFilter", "true")
    repository.commit(claim())
    last = repository.commit(claim(above=0.1))
    root = clone(repository, tmp_path / "partial", "--filter=blob:none")
    before = state_of(root / ".git")
    assert found_in(root, last)["high"].standing == "not known"
    assert state_of(root / ".git") == before


def test_outside_a_repository(tmp_path):
    write_chapter(tmp_path)
    (found, _) = found_in(tmp_path, "0" * 40).values()
    assert (found.standing, found.commit, found.date, found.order, found.changed) == ("not known", *[None] * 4)
    assert found.text == "Registration not known: no git history can be read here"
    assert found.short == "not known"


def test_without_git(repository, monkeypatch, tmp_path):
    run = repository.commit(claim())
    monkeypatch.setenv("PATH", str(tmp_path))
    assert repository.find(run)["high"].standing == "not known"


def test_a_repository_without_commits(repository):
    assert {r.standing for r in repository.find().values()} == {"not committed"}


def test_a_project_that_a_repository_does_not_hold(repository):
    (repository.root / ".gitignore").write_text("scratch\n")
    repository.commit(claim())
    (repository.root / "scratch").mkdir()
    write_chapter(repository.root / "scratch")
    found = found_in(repository.root / "scratch").values()
    assert {(r.standing, r.why) for r in found} == {("not known", "no git history can be read here")}
    assert (git.commit(repository.root / "scratch"), git.commit(repository.root)) == (
        None,
        repository.git("rev-parse", "HEAD"),
    )


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (None, "it names no commit"),
        ("", "it names no commit"),
        ("--all", "it names no commit"),
        ("main", "it names no commit"),
        ("0123456789abcdef0123456789abcdef01234567", "this clone does not hold its commit `0123456`"),
        ("0123456789abcdef0123456789abcdef01234567-dirty", "this clone does not hold its commit `0123456`"),
    ],
)
def test_a_run_whose_commit_is_not_known(repository, run, why):
    commit = repository.commit(claim())
    found = repository.find(run)["high"]
    assert (found.commit, found.order) == (commit, None)
    assert f"before or after this run is not known ({why})" in found.text
    assert found.short.endswith(", not known")


def test_a_pool_counts_by_all_its_runs(repository):
    def part(commit, seeds=(1, 2)):
        rest = {"key": "k", "left_out": [], "processor": "p", "started": "s", "seconds": 1.0}
        return Part(commit=commit, seeds=list(seeds), **rest)

    def found(*parts):
        project = Project(repository.root)
        record = record_of(None, parts)
        return registration.registrations(project, project.chapter("toy"), record)["high"]

    old = repository.commit(claim())
    new = repository.commit(claim(above=0.1))
    last = repository.commit()
    assert found(part(new), part(last)).order == "before"
    assert f"in `{new[:7]}`, before these 2 runs;" in found(part(new), part(last)).text
    assert f"in `{new[:7]}`, **after** one of these 2 runs;" in found(part(last), part(old)).text
    assert found(part(last), part(old, seeds=())).order == "before"  # none of its seeds count
    assert "before or after these 2 runs is not known (it names no commit)" in found(part(last), part(None)).text
    assert found(part(new), part(None)).order is None
    assert found(part(old), part(None)).order == "after"  # whatever the other's commit is


def test_a_run_whose_commit_names_a_file(repository):
    repository.commit(claim())
    assert repository.find(repository.git("rev-parse", "HEAD:notebooks/toy.yaml"))["high"].order is None


# --- files of any age -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"claims: [",
        b"\tx",
        b"",
        b"- just\n- a list",
        b"claims: none",
        b"claims: 3",
        b"\xff\xfe\xfa",
        b"when: 2026-99-99\nclaims: []",
        b"<<<<<<< ours\nclaims: []\n",
        b"claims: *gone",
        b"[" * 5000,
    ],
)
def test_a_version_that_cannot_be_read_counts_as_the_one_before(repository, content):
    repository.publish()
    first = repository.commit(claim("a"), claim("b"))
    repository.yaml.write_bytes(content)
    repository.commit()
    last = repository.commit(claim("a"), claim("b", "B!"))
    found = repository.find(last)
    assert [(found[n].commit, found[n].changed) for n in "ab"] == [(first, NEVER), (last, (1, 0, 0))]


def test_a_first_version_that_cannot_be_read(repository):
    repository.yaml.write_text("claims: [")
    repository.commit()
    second = repository.commit(claim())
    assert repository.find(second)["high"].commit == second


def test_older_shapes_are_read_plainly(repository):
    now = claim("a", "A.", "x", above=1)
    old = {"name": "a", "statement": "A.", "measured": "x", "above": "1.0", "place": "there", "scale": "small"}
    odd = [3, {"statement": "no name"}, {"name": "a2", "measured": 3, "between": "0 to 1"}, {"name": ["a"]}]
    repository.yaml.write_text(yaml.safe_dump({"claims": [old, *odd], "unknown": {"x": 1}}))
    first = repository.commit()
    repository.publish()
    repository.commit()
    run = repository.commit(now, claim("a2", "A2.", "3", between=[0, 1]))
    found = repository.find(run)
    assert (found["a"].commit, found["a"].changed) == (first, NEVER)
    assert (found["a2"].commit, found["a2"].changed) == (run, (1, 0, 1))


def test_a_present_file_that_cannot_be_read_is_refused(repository):
    repository.commit(claim())
    repository.yaml.write_text("claims: [")
    with pytest.raises(BadInput, match=r"toy.yaml: "):
        repository.find()


# --- any settings, and safety -----------------------------------------------------------------------------------------


def state_of(folder):
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()}


ODD = {
    "log.showSignature": "true", "log.follow": "true", "log.date": "relative", "core.quotePath": "true",
    "diff.renames": "false", "diff.renameLimit": "1", "diff.relative": "true", "diff.external": "false",
    "diff.noprefix": "true", "diff.mnemonicPrefix": "true", "diff.algorithm": "patience", "color.ui": "always",
    "core.pager": "false", "core.abbrev": "5", "format.pretty": "raw", "i18n.logOutputEncoding": "utf-16",
    "core.autocrlf": "true", "diff.wsErrorHighlight": "all", "diff.orderFile": "/dev/null",
}  # fmt: skip


def test_settings_and_surroundings_change_nothing_and_nothing_is_written(tmp_path, monkeypatch):
    repository = Repository(tmp_path / "a home" / "sub", "toy_ä b", top=tmp_path / "a home")
    first = repository.commit(claim("a"), claim("b"))
    for suffix in ("yaml", "ipynb"):
        (repository.root / "notebooks" / f"toy_ä b.{suffix}").rename(repository.root / "notebooks" / f"t[*]ö.{suffix}")
    repository.chapter = "t[*]ö"
    for i in range(3):  # more moves than the configured limit lets git compare
        (repository.root / f"x{i}.json").write_text(f"{i}\n" * 9)
    second = repository.commit(claim("a"), claim("b", above=0.1))
    expected = repository.find(first)
    assert [(expected[n].commit, expected[n].order) for n in "ab"] == [(first, "before"), (second, "after")]

    for name, value in ODD.items():
        repository.git("config", name, value)
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ntouch '{tmp_path / 'called'}'\n")
    hook.chmod(0o755)
    repository.git("config", "core.fsmonitor", str(hook))
    repository.git("config", "diff.toy.textconv", str(hook))
    repository.git("config", "diff.external", str(hook))
    (repository.top / ".git" / "info" / "attributes").write_text("*.yaml diff=toy\n")
    other = Repository(tmp_path / "other")
    other.commit(claim("a", above=0.9))
    for name, value in {
        "GIT_DIR": str(other.root / ".git"), "GIT_WORK_TREE": str(other.root), "GIT_INDEX_FILE": "none",
        "GIT_OBJECT_DIRECTORY": str(tmp_path), "GIT_LITERAL_PATHSPECS": "1", "GIT_EXTERNAL_DIFF": str(hook),
        "GIT_TRACE": str(tmp_path / "trace"), "LC_ALL": "C", "LANGUAGE": "de", "TZ": "Asia/Tokyo",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    history._read.cache_clear()
    before = state_of(repository.top)
    assert repository.find(first) == expected
    assert state_of(repository.top) == before
    assert not (tmp_path / "called").exists() and not (tmp_path / "trace").exists()
    assert git.commit(repository.root) == f"{second}-dirty" or git.commit(repository.root) == second
    assert not (tmp_path / "called").exists()


def test_names_of_sha256(tmp_path):
    repository = Repository(tmp_path / "toy")
    shutil.rmtree(repository.root / ".git")
    repository.git("init", "--quiet", "--object-format=sha256")
    commit = repository.commit(claim())
    assert len(commit) == 64
    assert (repository.find(commit)["high"].commit, repository.find(commit)["high"].order) == (commit, "before")


def test_a_second_chapter_costs_three_processes_however_long_its_history(repository, monkeypatch):
    for i in range(12):
        run = repository.commit(claim(above=i))
    write_chapter(repository.root, "second")
    run = repository.commit()
    repository.find(run)
    asked = []
    inner = git.output

    def output(root, *words, **given):
        asked.append(words[0])
        return inner(root, *words, **given)

    for module in (git, history):
        monkeypatch.setattr(module, "output", output)
    found_in(repository.root, run, "second")
    assert asked == ["rev-parse", "rev-parse", "cat-file"]


# --- against a plain reading of the same history ----------------------------------------------------------------------


def plainly(versions, first):
    """The oracle: registering version and changes of each claim of the last version; versions: name -> its three parts.

    Names stay the same here, and the history is one line. first: the version with the first run.
    """
    found = {}
    for name, text in versions[-1].items():
        start = len(versions) - 1
        while start > 0 and versions[start - 1].get(name) == text:
            start -= 1
        counts, last = [0, 0, 0], None
        for number, version in enumerate(versions):
            if name in version:
                if last is not None and number > first:
                    counts = [n + (a != b) for n, a, b in zip(counts, last, version[name], strict=True)]
                last = version[name]
        found[name] = start, tuple(counts)
    return found


@pytest.mark.parametrize("seed", range(4))
def test_a_random_history_equals_a_plain_reading(repository, seed):
    rng = random.Random(seed)
    now, versions, commits, first = {}, [], [], rng.randrange(3, 12)
    for number in range(25):
        for name in rng.sample("abcde", 2):
            if name in now and rng.random() < 0.3:
                del now[name]
            else:  # texts of each name are its own, so that none is taken for another renamed
                now[name] = (f"{name} {rng.randrange(2)}.", f"{name}{rng.randrange(2)}", float(rng.randrange(2)))
        versions.append(dict(now))
        repository.write(*(claim(n, s, m, above=t) for n, (s, m, t) in now.items()), claim("z", str(number)))
        if number == first:
            repository.publish()
        commits.append(repository.commit())
    run = rng.randrange(25)
    found = repository.find(commits[run])
    expected = plainly(versions, first)
    assert {name: (found[name].commit, found[name].changed) for name in expected} == {
        name: (commits[start], counts) for name, (start, counts) in expected.items()
    }
    orders = {name: "before" if start <= run else "after" for name, (start, _) in expected.items()}
    assert {name: found[name].order for name in expected} == orders


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs this project's own history")
def test_registering_commits_of_this_project_have_the_text_and_their_parents_have_not():
    def texts(commit, path):
        shown = subprocess.run(["git", "show", f"{commit}:{path}"], cwd=ROOT, capture_output=True)
        return registration._claims(shown.stdout) or {}

    project = Project(ROOT)
    for chapter in project.chapters():
        path = f"notebooks/{chapter.name}.yaml"
        now = registration._claims((ROOT / path).read_bytes())
        by_commit = {}
        for name, found in registration.registrations(project, chapter, record_of(None)).items():
            if found.standing == "registered":
                by_commit.setdefault(found.commit, []).append(name)
        for commit, names in by_commit.items():
            parents = git.git(ROOT, "rev-parse", f"{commit}^@").split()
            there = texts(commit, path)
            assert [name for name in names if now[name] not in there.values()] == []
            assert [name for name in names for parent in parents if now[name] in texts(parent, path).values()] == []


# --- in words -------------------------------------------------------------------------------------------------------


def test_summary_counts():
    found = [
        Registration("registered", order="before", changed=Changes(2, 0, 0)),
        Registration("registered", order="before", changed=Changes(1, 1, 0)),
        Registration("registered", order="after", changed=Changes(0, 0, 1)),
        Registration("at or before"),
        Registration("not committed"),
    ]
    assert registration.summary(found) == (
        "Claims whose present wording, expression and threshold stood in git before the runs that decide them: 2; "
        "not before: 1; not known: 2 (1 not committed). "
        "Claims changed since the first run of their chapter: in threshold 1, in expression 1, in wording 2."
    )
