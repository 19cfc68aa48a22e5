"""The command line as a person meets it: one line for bad input, status 2, nothing written."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from conftest import Command, write_chapter

from phenomena import __version__
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import chapters, git, locked, runs
from phenomena.runs.store.chapters import find_project

ROOT = Path(__file__).parents[2]

OPTIONS = "--edition, -p, --force, --limit, --memory"
ACCEPTED = "kind, rate, levels, title, limit, careful, seed, seeds"


def nothing_written(project):
    return {p.name for p in project.root.iterdir()} == {"notebooks", "requirements.lock"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "tyo"], "unknown chapter 'tyo'; did you mean 'toy'? accepted: toy"),
        (
            ["run", "toy", "--edition", "smok"],
            "toy: unknown edition 'smok'; did you mean 'smoke'? accepted: default, smoke",
        ),
        (["run", "toy", "-p", "sed=4"], f"toy: unknown parameter 'sed'; did you mean 'seed'? accepted: {ACCEPTED}"),
        (["run", "toy", "-p", "seeds=two"], "toy: seeds='two' is not accepted: int, 1 to 100"),
        (["run", "toy", "-p", "rate=7"], "toy: rate='7' is not accepted: float, 0 to 1"),
        (
            ["run", "toy", "-p", "kind=plane"],
            "toy: kind='plane' is not accepted: one of plain, fancy; did you mean 'plain'?",
        ),
        (["run", "toy", "-p", "seed=1", "-p", "seed=1"], "-p seed was given twice: '1' and '1'"),
        (["run", "toy", "-p", "seed"], "-p 'seed': must be NAME=VALUE, such as -p seeds=3"),
        (
            ["rnu", "toy"],
            "unknown command 'rnu'; did you mean 'run'? "
            "accepted: list, show, run, sweep, extend, compare, claims, verify, figure, page, new, publish, book",
        ),
        (["run"], "run: CHAPTER is missing: phenomena run CHAPTER"),
        (["figure"], "figure: RUN is missing: phenomena figure RUN [NAME]"),
        (
            ["run", "toy", "--forse"],
            f"run: unknown option '--forse'; did you mean '--force'? accepted: {OPTIONS}",
        ),
        (
            ["run", "toy", "--workers", "2"],
            f"run: unknown option '--workers'; accepted: {OPTIONS}",
        ),
        (["run", "toy", "-edition", "smoke"], "run: unknown option '-edition'; did you mean '--edition'?"),
        (
            ["--force", "run"],
            "unknown option '--force' before the command; accepted there: --version, --project, -h, --help",
        ),
        (["run", "toy", "--force=1"], "run: --force takes no value"),
        (["run", "toy", "more", "and"], "run: 'more and' is too much: phenomena run CHAPTER"),
        (["run", "toy", "-p"], "run: -p needs a value: -p NAME=VALUE"),
        (["sweep", "toy", "-g", "seed=1", "--scheduler"], "sweep: --scheduler needs a value: --scheduler ADDRESS"),
        (
            ["sweep", "toy", "-g", "seed=1", "--scheduler", "--dry-run"],
            "sweep: --scheduler needs a value: --scheduler ADDRESS",
        ),
        (["sweep", "toy", "-g", "seed=1", "--workers", "0"], "--workers '0': must be a whole number, 1 or more"),
        (["extend", "toy", "--seeds", "two"], "--seeds 'two': must be a whole number, 1 or more"),
        (["extend", "toy", "--budget"], "extend: --budget needs a value: --budget TIME"),
        (
            ["extend", "toy", "--until-decided", "--budget", "3x"],
            "--budget '3x': must be a time above 0 in s, min or h, such as 90s, 30min or 2h",
        ),
        (
            ["compare", "toy", "--against", "publishd"],
            "--against 'publishd' is not accepted; did you mean 'published'? accepted: published",
        ),
        (["figure", "toy", "line", "--png", "none/x.png"], "--png none/x.png: there is no folder none"),
        (["sweep", "toy", "-g", "seed=1", "--html", "notebooks"], "--html notebooks: is a folder: must be a file"),
        (
            ["run", "toy", "--limit", "30"],
            "--limit '30': must be a time above 0 in s, min or h, such as 90s, 30min or 2h, or none",
        ),
        (
            ["sweep", "toy", "-g", "rate=0,1", "--memory", "4"],
            "--memory '4': must be a size above 0 in MB or GB, such as 800MB or 4GB, or none",
        ),
        (["show", "tyo"], "unknown chapter 'tyo'; did you mean 'toy'? accepted: toy"),
        (["claims", "--edition", "x"], "toy: unknown edition 'x'; accepted: default, smoke"),
        (["book", "--edition", "x"], "toy: unknown edition 'x'; accepted: default, smoke"),
    ],
)
def test_bad_input_is_one_line_and_status_2(project, phenomena: Command, words, message):
    done = phenomena(project.root, *words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == f"phenomena: {message}\n"
    assert nothing_written(project)


def test_unreadable_files_are_one_line_and_status_2(project, phenomena: Command):
    (project.root / "notebooks" / "toy.yaml").write_text("claims: [")
    done = phenomena(project.root, "run", "toy")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("phenomena: toy.yaml: unreadable (")
    assert not (project.root / "runs").exists()


def test_outside_a_checkout_the_librarys_own_chapters_are_run_into_this_folder(tmp_path, phenomena: Command):
    assert phenomena(tmp_path, "list").stdout.startswith("  double_descent ")
    found = find_project(tmp_path)
    assert (found.root, found.home, found.runs) == (ROOT, tmp_path, tmp_path / "runs")
    for words in (["new", "grokking"], ["publish"], ["book"]):
        done = phenomena(tmp_path, *words)
        assert done.returncode == 2
        assert done.stderr == (
            f"phenomena: {words[0]}: must be run in a checkout of the book: go to one, or name it with --project PATH\n"
        )
    assert not any(tmp_path.iterdir())


def test_a_library_without_chapters_has_no_project(tmp_path, monkeypatch):
    monkeypatch.setattr(chapters, "PACKAGE", tmp_path / "lib" / "phenomena")
    with pytest.raises(BadInput, match=r"no project here: go to a folder that holds notebooks/ and requirements.lock"):
        find_project(tmp_path)


def test_a_checkout_is_named_from_anywhere(project, tmp_path_factory, phenomena: Command, run_toy):
    run, folder = run_toy(project), tmp_path_factory.mktemp("else where")
    done = phenomena(folder, "--project", str(project.root / "notebooks"), "run", "toy")
    assert done.stdout.startswith(f"{run.folder}: was there already, ")
    assert phenomena(project.root, "run", "toy").stdout.startswith(f"runs/toy/{run.record.key}: was there already, ")
    assert not any(folder.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--project", "nowhere", "list"], "--project nowhere: there is no such folder"),
        (["--project", ".", "list"], "--project .: must be a checkout, with notebooks/ and requirements.lock"),
        (["--project", "/", "lst"], "unknown command 'lst'; did you mean 'list'? accepted: list, show, run, "),
        (["--project"], "Option '--project' requires an argument."),
    ],
)
def test_no_checkout_of_that_name(tmp_path, phenomena: Command, words, message):
    done = phenomena(tmp_path, *words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert f"phenomena: {message}" in done.stderr


def test_version_and_commit(tmp_path, phenomena: Command):
    assert phenomena(tmp_path, "--version").stdout == f"phenomena {__version__}{commit_here()}\n"


def commit_here():
    """What the version says of a commit: none for a checkout without its history."""
    found = git.commit(ROOT)
    return f", commit {found}" if found else ""


def test_versions_other_than_the_locked_ones_are_told_where_a_run_is_made(project, phenomena: Command, run_toy):
    here = version("numpy")
    project.lock.write_text(
        f"numpy==0.1 ; python_full_version >= '3.11' \\\n    --hash=sha256:0\n"
        f"numpy=={here} ; python_full_version < '3.11'\n"
        f"pandas=={version('pandas')}\nnot-recorded==7\ntorch=={version('torch').partition('+')[0]}\n"
    )
    assert locked.differing(project.lock) == {"numpy": (here, "0.1")}
    run_toy(project)
    warned = f"phenomena: not the locked versions, which a run's key stands for: numpy {here} (locked: 0.1)\n"
    assert phenomena(project.root, "run", "toy").stderr == warned
    assert phenomena(project.root, "claims", "toy").stderr == ""


# --- what a shell completes -------------------------------------------------------------------------------------------


def completed(folder, *line, **environment):
    """What is offered for the last word of a command line."""
    asked = {"_PHENOMENA_COMPLETE": "bash_complete", "COMP_WORDS": shlex.join(["phenomena", *line]),
             "COMP_CWORD": str(len(line)), **environment}  # fmt: skip
    done = subprocess.run(PROGRAM, cwd=folder, capture_output=True, text=True, env=os.environ | asked)
    assert done.stderr == ""
    return [offer.partition(",")[2] for offer in done.stdout.splitlines() if offer]


PROGRAM = [sys.executable, "-c", "import sys; sys.argv[0] = 'phenomena'; from phenomena.runs.cli import main; main()"]


@pytest.mark.parametrize(
    ("line", "offers"),
    [
        (["sh"], ["show"]),
        (["run", ""], ["toy"]),
        (["claims", "t"], ["toy"]),
        (["publish", "t"], ["toy"]),
        (["run", "toy", "--edition", ""], ["default", "smoke"]),
        (["run", "toy", "-p", "se"], ["seed=", "seeds="]),
        (["sweep", "toy", "-g", "ra"], ["rate="]),
        (["extend", "toy", "--claim", ""], ["apart", "small"]),
        (["compare", "toy", "--value", "a"], ["apart"]),
        (["run", "unknown", "-p", ""], []),
        (["run", "--edition", ""], []),
    ],
)
def test_completion(project, line, offers):
    assert completed(project.root, *line) == offers


def test_completion_in_a_named_checkout_and_with_broken_files(project, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert completed(elsewhere, "--project", str(project.root), "run", "") == ["toy"]
    assert completed(elsewhere, "run", "", PHENOMENA_PROJECT=str(project.root)) == ["toy"]
    for path in (project.root / "notebooks").iterdir():
        path.write_text("[")
    for words in (["--edition", ""], ["-p", ""]):
        assert completed(project.root, "run", "toy", *words) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_what_a_shell_reads_once(tmp_path, shell):
    environment = os.environ | {"_PHENOMENA_COMPLETE": f"{shell}_source"}
    done = subprocess.run(PROGRAM, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert f"_PHENOMENA_COMPLETE={shell}_complete" in done.stdout


def test_a_project_without_chapters(tmp_path, phenomena: Command):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "requirements.lock").write_text("")
    for words in (["list"], ["claims"], []):
        assert phenomena(tmp_path, *words).returncode == 0


def test_list_show_and_help(project, phenomena: Command):
    said = phenomena(project.root, "list").stdout
    assert said == "  toy  3 s  not run  A chapter for tests.\nall at their defaults: about 3 s on one core\n"
    shown = phenomena(project.root / "notebooks", "show", "toy").stdout
    for piece in ("rate", "float, 0 to 1", "how fast", "smoke", "3 s, 200 MB on one core", "high - low > 0.5"):
        assert piece in shown
    assert "list" in phenomena(project.root, "--help").stdout


def test_list_and_show_tell_what_is_run(ran, phenomena: Command, run_toy, tmp_path):
    shutil.copytree(ran.root, tmp_path / "a")
    project = type(ran)(tmp_path / "a")
    assert phenomena(project.root, "list").stdout == (
        "  toy  3 s  run: default, smoke  A chapter for tests.\n"
        "all at their defaults: about 3 s on one core; 1 of 1 are run\n"
    )
    run_toy(project, rate=0.3)
    assert "  run: default, smoke, 1 own  " in phenomena(project.root, "list").stdout
    shown = phenomena(project.root, "show", "toy").stdout
    key = runs.current(project, project.chapter("toy"), "smoke").record.key
    assert f"  smoke    2 s, 200 MB on one core  run {key}  less\n" in shown
    assert "  1 with parameters of your own: phenomena compare toy\n" in shown
    (project.root / "requirements.lock").write_text("toy==2\n")  # what other sources made does not count
    assert "  toy  3 s  not run  " in phenomena(project.root, "list").stdout


def test_run_and_claims(project, phenomena: Command):
    assert "toy: not run: phenomena run toy" in phenomena(project.root, "claims").stderr
    done = phenomena(project.root, "run", "toy", "-p", "title=$(touch evil); __import__('os').mkdir('evil')")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # quiet in a log
    assert not (project.root / "evil").exists()
    record = json.loads((project.root / done.stdout.split(":")[0] / "record.json").read_text())
    assert record["parameters"]["title"] == "$(touch evil); __import__('os').mkdir('evil')"
    assert record["edition"] is None
    assert "reproduced" in done.stdout
    assert (
        "was there already"
        in phenomena(project.root, "run", "toy", "-p", f"title={record['parameters']['title']}").stdout
    )


def test_claims_as_json(ran, phenomena: Command):
    rows = json.loads(phenomena(ran.root, "claims", "toy", "--json").stdout)
    assert rows[0] == {
        "chapter": "toy", "claim": "apart", "origin": "paper", "kind": "mean", "threshold": "> 0.5",
        "paper_value": "1.0", "verdict": "reproduced", "measured": pytest.approx(1.0, abs=1e-3),
        "low": pytest.approx(1.0, abs=1e-3), "high": pytest.approx(1.0, abs=1e-3), "seeds": 3, "runs": 1, "looks": 1,
        "p": pytest.approx(0, abs=1e-6), "margin": pytest.approx(967.4, rel=1e-3), "close": False,
        "seeds_needed": None, "seeds_more": None, "seconds_more": None,
        "registration": "not known", "registered": None, "registered_in": None, "registered_order": None,
        "statement_changes": None, "expression_changes": None, "threshold_changes": None,
    }  # fmt: skip
    assert rows[1]["verdict"] == "contradicted"


def test_a_claim_on_a_value_that_is_not_recorded(project, phenomena: Command):
    path = project.root / "notebooks" / "toy.yaml"
    path.write_text(path.read_text().replace("high - low", "hihg - low"))
    done = phenomena(project.root, "run", "toy")
    assert done.returncode == 2
    assert "toy, claim apart: the run records no value 'hihg'; did you mean 'high'? recorded: high, low" in done.stderr


def test_a_failed_run_is_one_line_and_status_1(project, phenomena: Command):
    done = phenomena(project.root, "run", "toy", "-p", "title=broken")
    assert done.returncode == 1
    assert done.stderr.startswith("phenomena: toy: code cell")
    assert done.stderr.count("\n") == 1


def test_progress_with_time_left_on_a_terminal(project):
    """On a terminal there is a bar; the test above shows that the log of a short run stays quiet."""
    import os
    import pty
    import sys

    def read(descriptor):
        shown.append(os.read(descriptor, 4096))
        return shown[-1]

    shown: list[bytes] = []
    here = os.getcwd()
    os.chdir(project.root)
    try:
        status = pty.spawn([sys.executable, "-m", "phenomena", "run", "toy", "-p", "kind=fancy", "-p", "seeds=4"], read)
    finally:
        os.chdir(here)
    text = b"".join(shown).decode()
    assert status == 0
    assert "toy · measuring" in text
    assert re.search(r"measuring .*\d/4 \[00:0\d, about \d+ s left\]", text), text


@pytest.fixture
def figures(ran, phenomena: Command):
    """The command that saves a figure of the toy chapter's smoke run."""
    return lambda *words: phenomena(ran.root, "figure", "toy", *words, "--edition", "smoke")


def test_a_figure_is_saved_with_its_data(figures, tmp_path):
    done = figures("line", "--png", str(tmp_path / "a.png"), "--csv", str(tmp_path / "a.csv"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(tmp_path / "a.png"), str(tmp_path / "a.csv")]
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "a.csv").read_text().splitlines()[1:] == ["0.1", "0.11"]


def test_a_figure_that_is_not_there_is_refused(figures):
    for words, message in (
        (["lime", "--png", "a.png"], "toy: unknown figure 'lime'; did you mean 'line'? shown: line"),
        (["line"], "toy, figure line: nothing to write: give --png PATH, --csv PATH or both"),
    ):
        done = figures(*words)
        assert (done.returncode, done.stderr) == (2, f"phenomena: {message}\n")


def test_figures_and_claims_of_ones_own_run(ran, phenomena: Command, tmp_path):
    run = runs.current(ran, ran.chapter("toy"), "smoke")
    out = tmp_path / "out.ipynb"
    shutil.copy(run.folder / "notebook.ipynb", out)
    for words in (["toy", "--edition", "smoke"], ["toy", "-p", "seeds=2", "-p", "rate=0.1"], [run.record.key[:8]]):
        listed = phenomena(ran.root, "figure", *words)
        assert (listed.returncode, listed.stdout, listed.stderr) == (0, "  line  Values from 0.1.\n", "")
        said = phenomena(ran.root, "claims", *words)
        assert (said.returncode, said.stderr) == (0, "")
        assert said.stdout.startswith("toy: seeds 0 to 1, n = 2 in 1 run\n")
    said = phenomena(ran.root, "claims", str(out))
    assert said.stderr == f"{out}: made outside of this project: its library's code and lock are not recorded\n"
    assert said.stdout.startswith("toy: seeds 0 to 1, n = 2 in 1 run\n")
    assert len(json.loads(phenomena(ran.root, "claims", str(out), "--json").stdout)) == 2
    done = phenomena(ran.root, "figure", str(out), "line", "--csv", str(tmp_path / "a.csv"))
    assert done.returncode == 0
    assert (tmp_path / "a.csv").read_text().splitlines() == ["v", "0.1", "0.11"]


def test_any_runs_side_by_side(ran, phenomena: Command, tmp_path):
    run = runs.current(ran, ran.chapter("toy"), "smoke")
    out = tmp_path / "out.ipynb"
    shutil.copy(run.folder / "notebook.ipynb", out)
    done = phenomena(ran.root, "compare", "toy", run.record.key[:8], str(out), "--value", "high")
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]][1:] == [run.record.key, str(out)]
    assert len(done.stdout.splitlines()) == 4
    done = phenomena(ran.root, "compare", str(out), "-p", "rate=1")
    assert (done.returncode, done.stderr) == (2, f"phenomena: {out}: -p goes with a chapter's name, not with a run's\n")


def test_what_has_not_been_run_is_no_success(project, phenomena: Command):
    for words, message in (
        (["claims", "toy"], "phenomena: toy: not run: phenomena run toy"),
        (["claims", "toy", "-p", "rate=1"], "phenomena: toy: not run: phenomena run toy -p rate=1"),
        (["claims", "toy", "--pooled"], "phenomena: toy: not run: phenomena run toy"),
        (["claims", "-p", "rate=1"], "phenomena: -p rate=1: of which chapter? give one"),
        (["figure", "toy"], "phenomena: toy: not run: phenomena run toy"),
        (
            ["claims"],
            "toy: not run: phenomena run toy\nphenomena: nothing to check: of edition default no chapter has been run",
        ),
    ):
        done = phenomena(project.root, *words)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"{message}\n"), words


def test_claims_of_all_chapters_name_those_that_are_not_run(ran, phenomena: Command, tmp_path):
    shutil.copytree(ran.root, tmp_path / "two")
    write_chapter(tmp_path / "two", "toys")
    done = phenomena(tmp_path / "two", "claims")
    assert (done.returncode, done.stderr) == (0, "toys: not run: phenomena run toys\n")
    assert done.stdout.startswith("toy: seeds")


HEAVY = {
    "torch", "pandas", "papermill", "dask", "distributed", "matplotlib", "altair", "nbclient", "jupyter_client", "lark",
}  # fmt: skip
ASKED = """
import sys
from phenomena.runs.cli import main
try:
    main()
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["list"], 0),
        (["show", "toy"], 0),
        (["claims", "toy"], 0),
        (["claims"], 0),
        (["run", "toy"], 0),
        (["run", "toy", "-p", "sed=1"], 2),
        (["figure", "toy", "lime"], 2),
        (["figure", "toy", "-p", "seeds=3"], 0),
        (["sweep", "toy", "-g", "seed=1,2", "--dry-run"], 0),
        (["sweep", "toy", "-g", "sed=1,2"], 2),
        (["compare", "toy", "-p", "sed=1"], 2),
        (["claims", "toy", "--pooled"], 0),
        (["extend", "toy", "--seeds", "3"], 0),
        (["extend", "toy", "--seeds", "9", "-p", "seed=1"], 2),
    ],
)
def test_what_is_there_is_told_without_heavy_imports(ran, words, status):
    """Most of the time until an answer goes into imports; what they are is the same on a busy machine."""
    done = subprocess.run([sys.executable, "-c", ASKED, *words], cwd=ran.root, capture_output=True, text=True)
    assert done.returncode == status, done.stderr
    assert HEAVY.isdisjoint(done.stderr.split()[-2000:])
    if words == ["run", "toy"]:
        assert "was there already" in done.stdout
