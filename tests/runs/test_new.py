"""`phenomena new`: everything that a chapter touches, whole and in order, or nothing."""

import shutil
import subprocess
import sys

import pytest

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.new import new
from phenomena.runs.store.chapters import Project

MADE = {
    "lib/phenomena/chapters/grokking/__init__.py", "lib/phenomena/chapters/grokking/study.py",
    "lib/phenomena/chapters/grokking/theory.py", "notebooks/grokking.ipynb", "notebooks/grokking.yaml",
    "tests/chapters/test_grokking.py",
}  # fmt: skip
GROWN = {"book/_toc.yml", "book/glossary.md", "book/notation.md", "book/references.bib"}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, pytestconfig):
    """A copy of this project without its runs, with a new chapter."""
    root, source = tmp_path_factory.mktemp("checkout") / "book", pytestconfig.rootpath
    passing = shutil.ignore_patterns("__pycache__", ".git", ".venv", "_build", "runs", ".bench", ".tests", ".*_cache")
    shutil.copytree(source, root, ignore=lambda folder, names: passing(folder, names) - kept(folder, names, source))
    before = files(root)
    told = {path.as_posix() for path in new(Project(root), "grokking")}
    after = files(root)
    assert told == {name for name in after if after[name] != before.get(name)}
    return root


def kept(folder, names, source):
    """The library's own folder `runs`, which has the name of that of all runs."""
    return {"runs"} & set(names) if str(folder) != str(source) else set()


def files(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def call(root, *words):
    """Python with these words in the checkout, with the checkout's own library."""
    environment = {"PYTHONPATH": str(root / "lib"), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "HOME": str(root)}
    done = subprocess.run([sys.executable, *words], cwd=root, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_it_makes(checkout):
    for name in MADE | GROWN:
        assert "grokking" in (checkout / name).read_text().lower(), name
    assert not [p for p in checkout.rglob("*.new")]
    assert [chapter.name for chapter in Project(checkout).chapters()][-1] == "grokking"
    text = "".join((checkout / name).read_text() for name in MADE)
    assert not any(word in text for word in ("CHAPTER", "TITLE", "SLUG", "KEY", "YEAR"))


def test_style_and_tests_are_green_at_once(checkout):
    call(checkout, "-m", "ruff", "check", ".")
    call(checkout, "-m", "ruff", "format", "--check", ".")
    call(checkout, "-m", "pytest", "tests/chapters/test_grokking.py", "tests/runs/test_house.py",
         "tests/chapters/test_chapters.py", "tests/book/test_pages.py",
         "-k", "grokking or house or every_page or bibliography")  # fmt: skip


def test_its_runs_have_verdicts_and_a_page(checkout):
    said = call(checkout, "-m", "phenomena", "run", "grokking").split("\n")
    assert [line.split()[:2] for line in said[1:3]] == [["reproduced", "falls"], ["reproduced", "control"]]
    call(checkout, "-m", "phenomena", "run", "grokking", "--edition", "smoke")
    call(checkout, "-c", PAGE)


PAGE = """
from phenomena.runs.book import build
from phenomena.runs.store.chapters import Project
from pathlib import Path

(page,) = build.find_pages(Project(Path.cwd()), "smoke")  # the only chapter that has been run
build.validate(page)
build.staged_notebook(page)  # every quotation names something recorded
assert list(build.interactive_figures(page)) == ["grokking-errors"]
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Grokking", "new 'Grokking': must be a name in lower case"),
        ("two words", "new 'two words': must be a name in lower case"),
        ("class", "new 'class': must be a name in lower case"),
        ("published", "new 'published': must be a name in lower case"),
        ("label_noise", "new label_noise: tests/science/test_label_noise.py is there already"),
        ("mixup", "new mixup: lib/phenomena/chapters/mixup is there already"),
    ],
)
def test_refused_before_anything_is_written(checkout, name, message):
    before = files(checkout)
    with pytest.raises(BadInput, match=message):
        new(Project(checkout), name)
    assert files(checkout) == before


def test_outside_a_checkout_nothing_is_written(project):
    before = files(project.root)
    with pytest.raises(BadInput, match=r"new: book/_toc.yml cannot be read: must be run in a checkout"):
        new(project, "grokking")
    assert files(project.root) == before
