"""The package as it is installed: built from the source distribution, in an environment and a folder of its own."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from phenomena.runs.store import keys
from phenomena.runs.store.chapters import Project
from phenomena.runs.store.runs import Record

ROOT = Path(__file__).parents[2]


def call(*words, cwd, **environment):
    """What a program does in a folder; it finds no library by PYTHONPATH."""
    passed = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PHENOMENA_PROJECT")}
    return subprocess.run([*map(str, words)], cwd=cwd, env=passed | environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel, built from the source distribution."""
    folder = tmp_path_factory.mktemp("dist")
    uv = Path(sys.executable).with_name("uv")
    done = call(
        uv, "build", "--offline", "--no-build-isolation", "--python", sys.executable, "--out-dir", folder, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def elsewhere(built, tmp_path_factory):
    """An empty folder beside an environment with the package, both in a repository that is not this project's."""
    top = tmp_path_factory.mktemp("other")
    (top / "work").mkdir()
    (top / "mine.txt").write_text("not the book\n")
    who = ("-c", "user.name=t", "-c", "user.email=t@localhost")
    for words in (("init", "-q"), ("add", "."), (*who, "commit", "-q", "-m", "mine")):
        assert call("git", *words, cwd=top).returncode == 0
    uv, python = Path(sys.executable).with_name("uv"), top / "env" / "bin" / "python"
    assert call(uv, "venv", "--offline", "--python", sys.executable, top / "env", cwd=top).returncode == 0
    (site,) = (top / "env" / "lib").glob("python*/site-packages")
    locked = sysconfig.get_path("purelib")  # a .pth file there, such as this project's own, is not followed
    (site / "locked.pth").write_text(f"{locked}\n")
    done = call(uv, "pip", "install", "--offline", "--no-deps", "--python", python, built, cwd=top)
    assert done.returncode == 0, done.stderr
    return top / "work"


def phenomena(folder, *words, **environment):
    return call(folder.parent / "env" / "bin" / "phenomena", *words, cwd=folder, **environment)


def test_the_wheel_carries_what_the_commands_need(built):
    with zipfile.ZipFile(built) as wheel:
        inside = {name: wheel.read(name) for name in wheel.namelist()}
    sources = [*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/*.yaml"), *ROOT.glob("book/published/*/*.json")]
    assert len(sources) > 18
    sources += [ROOT / "requirements.lock", ROOT / "book" / "_toc.yml", ROOT / "book" / "references.bib"]
    for path in sources:
        assert inside[f"phenomena/project/{path.relative_to(ROOT).as_posix()}"] == path.read_bytes()
    assert "phenomena/py.typed" in inside
    assert {name.split("/")[0] for name in inside if ".dist-info" not in name} == {"phenomena"}


def test_in_an_empty_folder_it_lists_shows_and_refuses_to_write_sources(elsewhere):
    assert phenomena(elsewhere, "list").stdout.startswith("  double_descent ")  # in the order of the book
    assert "fails_32" in phenomena(elsewhere, "show", "mixup").stdout
    assert phenomena(elsewhere, "--version").stdout == "phenomena 0.1.0\n"  # and no commit of somebody else's
    for words in (["new", "grokking"], ["publish"], ["book"]):
        done = phenomena(elsewhere, *words)
        assert (done.returncode, done.stderr) == (2, f"phenomena: {words[0]}: must be run in a checkout of the book: "
                                                     "go to one, or name it with --project PATH\n")  # fmt: skip
    assert not any(elsewhere.iterdir())


def test_it_runs_there_under_the_same_key_as_in_a_checkout(elsewhere):
    chapter = Project(ROOT).chapter("mixup")
    key = keys.run_key(Project(ROOT), chapter, chapter.resolve("smoke"))
    done = phenomena(elsewhere, "run", "mixup", "--edition", "smoke")
    assert done.stdout.startswith(f"runs/mixup/{key}: "), done.stderr
    record = Record.model_validate_json((elsewhere / "runs" / "mixup" / key / "record.json").read_text())
    assert (record.key, record.edition, record.commit) == (key, "smoke", None)
    again = phenomena(elsewhere, "sweep", "mixup", "--edition", "smoke", "-g", f"seed={record.seeds[0]}")
    assert again.stdout.startswith("1 points, 1 there already, 0 to run")
    (claim, *_) = json.loads(phenomena(elsewhere, "claims", "mixup", "--edition", "smoke", "--json").stdout)
    assert claim["registration"] == "not known"  # git knows another project here
    beside = phenomena(elsewhere, "compare", "mixup", "--against", "published", "--value", "fails_32")
    assert beside.returncode == 0
    assert [line.split()[0] for line in beside.stdout.splitlines()[:3]] == ["run", "published", key]
    drawn = phenomena(elsewhere, "figure", "mixup", "line-curves", "--edition", "smoke", "--png", "curves.png")
    assert (drawn.returncode, (elsewhere / "curves.png").read_bytes()[:4]) == (0, b"\x89PNG")
    told = phenomena(elsewhere, "page", "mixup", "--edition", "smoke", "--html", "mixup.html")
    assert (told.returncode, "data:image/png" in (elsewhere / "mixup.html").read_text()) == (0, True), told.stderr
    assert {path.name for path in elsewhere.iterdir()} == {"runs", "curves.png", "mixup.html"}


def test_a_checkout_wins(elsewhere, project):
    line = "  toy  3 s  not run  A chapter for tests.\n"
    assert phenomena(elsewhere, "--project", project.root, "list").stdout.startswith(line)
    assert phenomena(elsewhere, "list", PHENOMENA_PROJECT=str(project.root)).stdout.startswith(line)
    there = call(elsewhere.parent / "env" / "bin" / "phenomena", "list", cwd=project.root / "notebooks")
    assert there.stdout.startswith(line)


def test_a_checkout_with_a_library_that_is_not_the_one_at_work_is_told(elsewhere):
    done = phenomena(elsewhere, "--project", ROOT, "list")
    assert done.stdout.startswith("  double_descent ")
    assert done.stderr.endswith("site-packages/phenomena, not of this checkout\n")
