"""Where and as whom people run it: odd paths, locales, pipes, homes and owners."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import write_chapter

from phenomena.runs.store import git
from phenomena.runs.store.chapters import Project

ANYONE = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups"]
READER = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]  # or it could not read this environment
as_root = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root becomes another user, with setpriv"
)


def command(root, *words, before=(), without=(), **environment):
    kept = {name: value for name, value in os.environ.items() if name not in without}
    call = [*before, sys.executable, "-m", "phenomena", *words]
    return subprocess.run(call, cwd=root, capture_output=True, env=kept | environment, check=False)


def test_a_path_with_spaces_and_letters_and_a_link_to_it_are_one_place(tmp_path):
    root = tmp_path / "a b é ü"
    root.mkdir()
    (root / "requirements.lock").write_text("toy==1\n")
    write_chapter(root)
    done = command(root, "run", "toy")
    assert done.returncode == 0, done.stderr.decode()
    (tmp_path / "link").symlink_to(root)
    again = command(tmp_path / "link", "run", "toy")
    assert b"was there already" in again.stdout
    assert not list(Project(root).runs.glob(".partial/*"))


@pytest.fixture(scope="module")
def shown(pytestconfig):
    return command(pytestconfig.rootpath, "show", "local_elasticity").stdout.decode()


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"COLUMNS": "10", "TERM": "dumb", "NO_COLOR": "1"},
    ],
)
def test_every_locale_and_terminal_gets_the_same_text(pytestconfig, shown, locale):
    done = command(pytestconfig.rootpath, "show", "local_elasticity", **locale)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode() == shown
    assert "t^−0.7" in shown  # a minus sign, not a hyphen


def test_a_reader_who_stops_reading_is_no_news(pytestconfig):
    words = f"{sys.executable} -m phenomena show local_elasticity | head -1"
    done = subprocess.run(words, shell=True, cwd=pytestconfig.rootpath, capture_output=True, check=False)
    assert done.stdout.count(b"\n") == 1 and not done.stderr


NAMELESS = """\
import os, pwd, sys
pwd.getpwuid = lambda number: {}[number]  # a user whom nobody has named
from phenomena.runs import cli
sys.argv = ["phenomena", "list"]
try:
    cli.main()
finally:
    print(os.environ["HOME"])
"""


def test_without_any_home_it_is_one_that_is_not_there(project):
    kept = {name: value for name, value in os.environ.items() if name != "HOME"}
    words = [sys.executable, "-c", NAMELESS]
    done = subprocess.run(words, cwd=project.root, capture_output=True, text=True, env=kept, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("  toy  ") and done.stdout.endswith("/nonexistent\n")


@as_root
def test_a_user_without_a_home_runs(project, tmp_path_factory):
    there = tmp_path_factory.mktemp("temporary")
    for folder in (project.root, *project.root.rglob("*"), there):
        os.chown(folder, 12345, 12345)
    done = command(project.root, "run", "toy", before=[*ANYONE, *READER], without=["HOME"], TMPDIR=str(there))
    assert done.returncode == 0, done.stderr.decode()
    assert len(list((project.runs / "toy").iterdir())) == 1


@as_root
def test_a_checkout_that_cannot_be_written_to_is_told_by_its_path(project):
    project.root.chmod(0o555)
    nothing = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]  # root, but bound by permissions
    listed = command(project.root, "list", before=nothing)
    assert listed.returncode == 0 and listed.stdout.startswith(b"  toy  ")
    done = command(project.root, "run", "toy", before=nothing)
    project.root.chmod(0o755)
    assert done.returncode == 1
    assert str(project.runs) in done.stderr.decode() and done.stderr.count(b"\n") == 1


@as_root
def test_a_checkout_of_another_user_has_its_commit(project):
    for words in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "one"]):
        subprocess.run(["git", *words], cwd=project.root, check=True)
    head = git.commit(project.root)
    for folder in (project.root, project.root / ".git"):
        os.chown(folder, 12345, 12345)
    assert subprocess.run(["git", "rev-parse"], cwd=project.root, capture_output=True, check=False).returncode != 0
    assert head and git.commit(project.root) == head


def test_a_persons_own_startup_files_do_not_reach_a_run(project, tmp_path):
    startup = tmp_path / "home" / ".ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "own.py").write_text("range = None\n")
    done = command(project.root, "run", "toy", without=["IPYTHONDIR"], HOME=str(tmp_path / "home"))
    assert done.returncode == 0, done.stderr.decode()
    assert [path.name for path in startup.rglob("*")] == ["own.py"]
    assert not list(startup.parent.glob("*.sqlite"))  # nor does a run write there
