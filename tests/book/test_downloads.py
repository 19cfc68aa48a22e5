"""What a reader takes along from the book, and the copy of a chapter that installs what it needs."""

import json
import shutil
import subprocess
import sys

import nbformat
import pandas as pd
import pytest
import yaml
from conftest import add_pages

from phenomena.runs.book import build as book
from phenomena.runs.book import downloads, pages
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import runs
from phenomena.runs.store.chapters import Project

URL = "https://github.com/someone/phenomena"


@pytest.fixture
def shelf(ran, tmp_path, pytestconfig):
    """The toy project, already run, with the pages of this book, as a git repository."""
    root = tmp_path / "shelf"
    shutil.copytree(ran.root, root)
    add_pages(root, pytestconfig.rootpath)
    git(root, "init", "--quiet")
    commit(root)
    return Project(root)


def git(root, *words):
    subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *words], cwd=root, check=True)


def commit(root):
    git(root, "add", ".")
    git(root, "commit", "--quiet", "--allow-empty", "--message", "x")


def publish_address(project, url=URL):
    path = project.root / "_config.yml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "repository": {"url": url}}))


def staged(project, edition="default"):
    """The staged files of a book by name."""
    target = project.root / "stage"
    book.stage(project, book.find_pages(project, edition), target, draft=False)
    return {p.relative_to(target).as_posix(): p for p in target.rglob("*") if p.is_file()}


def test_a_page_offers_all_that_its_run_is_made_of(shelf):
    files = staged(shelf)
    (page,) = book.find_pages(shelf, "default")
    there = {name.removeprefix("extra/downloads/toy/") for name in files if name.startswith("extra/downloads/toy/")}
    assert there == {"toy.ipynb", "toy-executed.ipynb", "toy-record.json", "toy.yaml", "line.csv"}
    folder = files["extra/downloads/toy/toy.ipynb"].parent
    assert nbformat.read(folder / "toy.ipynb", 4) == page.chapter.source
    taken, run = (nbformat.read(p, 4) for p in (folder / "toy-executed.ipynb", page.run.folder / runs.NOTEBOOK))
    assert [c for c in taken.cells if c.cell_type == "code"] == [c for c in run.cells if c.cell_type == "code"]
    data = pd.read_csv(folder / "line.csv")
    assert data["v"].tolist() == page.record.values["high"]
    text = files["notebooks/toy.ipynb"].read_text()
    assert all(f"../downloads/toy/{name}" in text for name in there)
    assert "data of {numref}`Fig. %s <toy-line>`" in text


def test_results_and_runs_are_data_too(shelf):
    files = staged(shelf)
    results = json.loads(files["extra/downloads/results.json"].read_text())
    assert [(r["claim"], r["figure"], r["verdict"], r["seeds"], r["caveat"]) for r in results] == [
        ("apart", "line", "reproduced", 3, "toy"),
        ("small", None, "inconclusive" if results[1]["low"] < 0.1 < results[1]["high"] else "contradicted", 3, "toy"),
    ]
    flat = pd.read_csv(files["extra/downloads/results.csv"])
    assert flat["measured"].tolist() == pytest.approx([r["measured"] for r in results])
    (run,) = json.loads(files["extra/downloads/runs.json"].read_text())
    (page,) = book.find_pages(shelf, "default")
    assert run["lock_sha256"] == page.record.lock_sha256
    assert run["versions"] == page.record.versions
    parts = pd.read_csv(files["extra/downloads/seconds.csv"])
    assert dict(zip(parts["part"], parts["seconds"], strict=True)) == pytest.approx(page.record.seconds)
    assert pd.read_csv(files["extra/downloads/runs.csv"])["peak_memory_mb"].tolist() == [page.record.peak_memory_mb]


def test_a_bar_in_a_cell_is_no_border():
    assert pages.table(("a", "b"), [("|A|", 1)]) == "| a | b |\n| --- | --- |\n| \\|A\\| | 1 |"


# --- Colab ------------------------------------------------------------------------------------------------------------


def in_colab(files):
    """Whether pages have a button and the site has copies: one without the other would be a fault."""
    buttons = ["Open in Colab" in path.read_text() for name, path in files.items() if name == "notebooks/toy.ipynb"]
    copies = [name for name in files if name.startswith("extra/colab/")]
    assert any(buttons) == bool(copies)
    return any(buttons)


def test_no_button_without_a_repository_or_a_release(shelf):
    git(shelf.root, "tag", downloads.release())
    assert not in_colab(staged(shelf))  # released, but nowhere
    publish_address(shelf)
    commit(shelf.root)
    assert not in_colab(staged(shelf))  # somewhere, but after the release, which held no copies


def test_a_release_has_buttons_and_what_they_open(shelf):
    publish_address(shelf)
    commit(shelf.root)
    git(shelf.root, "tag", downloads.release())
    files = staged(shelf)
    assert in_colab(files)
    link = f"https://colab.research.google.com/github/someone/phenomena/blob/colab-{downloads.release()}/toy.ipynb"
    assert f"{{button-link}} {link}\\n" in files["notebooks/toy.ipynb"].read_text()
    source = f"git+{URL}@{downloads.release()}"
    assert source in files["extra/colab/toy.ipynb"].read_text()


def test_later_pages_open_what_the_release_held(shelf):
    publish_address(shelf)
    git(shelf.root, "checkout", "--quiet", "--orphan", "copies")
    git(shelf.root, "rm", "-rfq", "--cached", ".")
    (shelf.root / "toy.ipynb").write_text("{}")
    git(shelf.root, "add", "toy.ipynb")
    git(shelf.root, "commit", "--quiet", "--message", "copies")
    git(shelf.root, "tag", f"colab-{downloads.release()}")
    assert in_colab(staged(shelf))
    git(shelf.root, "rm", "-q", "--cached", "toy.ipynb")
    (shelf.root / "other.ipynb").write_text("{}")
    git(shelf.root, "add", "other.ipynb")
    git(shelf.root, "commit", "--quiet", "--message", "no toy")
    git(shelf.root, "tag", "--force", f"colab-{downloads.release()}")
    assert not in_colab(staged(shelf))


@pytest.mark.parametrize("url", ["https://gitlab.com/a/b", "github.com/a/b", "https://github.com/a"])
def test_an_address_that_colab_cannot_open_is_refused(shelf, url):
    publish_address(shelf, url)
    with pytest.raises(BadInput, match=r"_config.yml: repository url .*: must be https://github.com/OWNER/NAME"):
        staged(shelf)


def test_a_copy_installs_what_its_chapter_imports_and_keeps_the_edition(shelf):
    (page,) = book.find_pages(shelf, "smoke")
    copy = downloads.colab_copy(page, "git+https://example.org/x@v1")
    nbformat.validate(copy)
    code = [cell.source for cell in copy.cells if cell.cell_type == "code"]
    assert "phenomena @ git+https://example.org/x@v1" in code[0]
    assert code[1].startswith("import time")
    assert "seeds = 2" in code[3]  # after the parameters, before they are checked
    assert code[4] == "check_parameters(globals())"
    needed = downloads.needed(page)
    assert {"annotated-types", "pandas", "matplotlib", "papermill>=2.7", "torch"} <= needed.keys()
    assert not {"distributed", "jupyter-book>=1.0.4,<2"} & needed.keys()  # what only runs and book need


def test_a_copy_runs_where_the_library_is_not_installed(shelf, tmp_path, pytestconfig):
    """In an environment that sees this one's packages, but neither the library nor two others, offline."""
    (page,) = book.find_pages(shelf, "smoke")
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir"]
    subprocess.run([*build, wheels, pytestconfig.rootpath], check=True)
    (wheel,) = wheels.iterdir()
    copy = downloads.colab_copy(page, wheel.as_uri())
    place = tmp_path / "place"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place], check=True)
    (site,) = place.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(str(next(p for p in sys.path if p.endswith("site-packages"))))
    cells = [cell.source for cell in copy.cells if cell.cell_type == "code"]
    cells[0] = cells[0].replace('"--quiet",', '"--quiet", "--target", sys.argv[1], "--no-index",')
    script = tmp_path / "toy_in_colab.py"
    script.write_text("\n\n".join(cells))
    done = subprocess.run(
        [place / "bin" / "python", script, site], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "high: 0.105" in done.stdout
    assert (site / "phenomena" / "statistics.py").is_file()
