"""Staging, validation and a strict build, on the toy chapter."""

import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from urllib.parse import unquote, urlsplit

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import Command, add_pages, write_chapter

from phenomena.runs.book import build as book
from phenomena.runs.book.results import data_files, results_page
from phenomena.runs.book.verdicts import verdict_blocks
from phenomena.runs.contract.errors import BadInput, RunFailed
from phenomena.runs.contract.notebook import MIME
from phenomena.runs.store import runs
from phenomena.runs.store.chapters import Chapter, Project


@pytest.fixture
def shelf(ran, tmp_path, pytestconfig):
    """The toy project, already run, with the pages around the chapters of this book."""
    root = tmp_path / "shelf"
    shutil.copytree(ran.root, root)
    add_pages(root, pytestconfig.rootpath)
    return type(ran)(root)


def page(project, edition="default"):
    return next(p for p in book.find_pages(project, edition))


def test_staged_page_is_source_prose_with_the_runs_outputs(shelf):
    chapter = shelf.chapter("toy")
    notebook = nbformat.read(chapter.notebook, 4)
    notebook.cells[0].source = "# Toy\n\nNew prose."
    nbformat.write(notebook, chapter.notebook)
    staged = book.staged_notebook(page(shelf))  # the run is still current
    nbformat.validate(staged)
    text = "\n".join(cell.source for cell in staged.cells)
    assert "New prose." in text
    assert "**This page** is the edition `default`: all. Seeds 0 to 2" in text
    assert "```sh\nphenomena run toy\n```" in text
    assert "| `rate` | float, 0 to 1 | 0.5 | 0.5 | how fast |" in text
    assert "In the book, the verdicts stand here." not in text
    assert '<span class="verdict contradicted">contradicted</span>' in text
    outputs = [o for c in staged.cells for o in c.get("outputs", [])]
    assert len(outputs) == 1  # the figure; what was meant for the record is gone
    assert MIME not in outputs[0].data
    (figure,) = [c.metadata["mystnb"] for c in staged.cells if "figure" in c.metadata.get("mystnb", {})]
    assert figure["image"]["alt"] == "A line that rises."
    assert figure["figure"] == {"caption": "Values from 0.5.", "name": "toy-line"}


def source_with(shelf, *cells):
    """The toy chapter with other cells around its figure; returns its page, run anew."""
    chapter = shelf.chapter("toy")
    notebook = nbformat.read(chapter.notebook, 4)
    at = next(i for i, cell in enumerate(notebook.cells) if cell.source == "## Figure")
    notebook.cells[at:at] = cells
    nbformat.write(notebook, chapter.notebook)


def test_code_that_stands_together_is_one_fold_up_to_what_it_shows(shelf, run_toy):
    code, text = nbformat.v4.new_code_cell, nbformat.v4.new_markdown_cell
    source_with(
        shelf,
        text("Two and a table."),
        code("# Two numbers\na = 1"),
        code("b = 2"),
        code("# A table\nimport pandas as pd\n\npd.DataFrame({'a': [a, b]})"),
        code("# The recipe\nc = a + b", metadata={"tags": ["open"]}),
        code("# Kept\nrecord(c=[c, c, c])"),
        text("After."),
    )
    run_toy(shelf)
    staged = book.staged_notebook(page(shelf))
    cells = [c for c in staged.cells if c.cell_type == "code"]
    prompts = [c.metadata["mystnb"]["code_prompt_show"] for c in cells]
    assert "Code: imports and parameters" in prompts
    assert prompts[-4:] == ["Code: Two numbers", "Code: The recipe", "Code: Kept", "Code"]
    together, recipe, kept, figure = cells[-4:]
    assert together.source.startswith("# Two numbers\na = 1\n\nb = 2\n\n# A table") and len(together.outputs) == 1
    assert [c.metadata["tags"] for c in (together, recipe, kept)] == [["hide-input"], [], ["hide-input", "plumbing"]]
    assert "figure" in figure.metadata["mystnb"] and "plumbing" not in figure.metadata["tags"]
    of_source = [c.source for c in shelf.chapter("toy").source.cells if c.cell_type == "code"]
    assert "\n\n".join(c.source for c in cells) == "\n\n".join(of_source)  # nothing is lost or moved


def test_the_front_figure_and_claims_come_first(shelf):
    path = shelf.root / "notebooks" / "toy.yaml"
    path.write_text(path.read_text() + "front: {figure: line, claims: [apart]}\n")
    shown = page(shelf)
    before = book.staged_notebook(replace(shown, chapter=Chapter(shown.chapter.notebook)))
    title, figure, claims = before.cells[:3]
    assert title.source.startswith("# Toy")
    assert figure.metadata["mystnb"]["figure"]["name"] == "toy-line" and figure.metadata["tags"] == ["remove-input"]
    assert claims.source.startswith('<ul class="headlines">') and 'href="#claim-apart"' in claims.source
    shows = [c for c in before.cells if any("image/png" in o.get("data", {}) for o in c.get("outputs", []))]
    assert shows == [figure]  # and not once more where it is made
    (made,) = [c for c in before.cells if c.source.startswith("This makes {numref}`Fig. %s <toy-line>`")]
    assert "at the top of the page" in made.source


def test_a_changed_parameter_is_shown(shelf):
    staged = book.staged_notebook(page(shelf, "smoke"))
    (setup,) = [c for c in staged.cells if "# The values of this edition\n" in c.source]
    assert "seeds = 2" in setup.source.partition("# The values of this edition")[2]
    assert "| `seeds` | int, 1 to 100 | **2** | 3 | how many seeds |" in "\n".join(c.source for c in staged.cells)


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda nb: nb.cells[-3].update(execution_count=None), "code cell 5 was not executed"),
        (
            lambda nb: nb.cells[6].outputs.append(nbformat.v4.new_output("error", ename="E", evalue="x", traceback=[])),
            "code cell 4 raised an error",
        ),
        (lambda nb: nb.cells[6].update(source="values = [1]"), "its run is of another source"),
    ],
)
def test_a_page_refuses_what_is_not_whole(shelf, harm, message):
    shown = page(shelf)
    path = shown.run.folder / runs.NOTEBOOK
    notebook = nbformat.read(path, 4)
    harm(notebook)
    nbformat.write(notebook, path)
    with pytest.raises(RunFailed, match=message):
        book.validate(shown)


def test_a_claim_names_a_figure_that_its_run_shows(shelf):
    path = shelf.root / "notebooks" / "toy.yaml"
    path.write_text(path.read_text().replace("figure: line", "figure: lines"))
    with pytest.raises(RunFailed, match=r"toy: claim apart: no figure 'lines'; did you mean 'line'\? shown: line"):
        book.validate(page(shelf))
    shown = page(shelf)
    nothing = {name: [None] * len(values) for name, values in shown.record.values.items()}
    unmeasured = replace(shown, run=replace(shown.run, record=shown.record.model_copy(update={"values": nothing})))
    book.validate(unmeasured)  # a suite without analogies draws none
    assert "Seen in" not in verdict_blocks(unmeasured) and "not measured" in verdict_blocks(unmeasured)


def test_staging_leaves_unchanged_files_alone_and_removes_old_ones(shelf, tmp_path):
    target = tmp_path / "stage"
    pages = book.find_pages(shelf, "default")
    book.stage(shelf, pages, target, draft=False)
    times = {p: p.stat().st_mtime_ns for p in target.rglob("*") if p.is_file()}
    (target / "book" / "old.md").write_text("x")
    book.stage(shelf, pages, target, draft=False)
    assert {p: p.stat().st_mtime_ns for p in target.rglob("*") if p.is_file()} == times


def test_where_nothing_has_changed_nothing_is_built(shelf, monkeypatch):
    first = book.book(shelf)
    monkeypatch.setattr(book, "build", lambda work: pytest.fail("built again"))
    assert book.book(shelf) == first
    monkeypatch.undo()
    for harm in (
        lambda: (shelf.root / "index.md").write_text("# Other toys\n\n{{ book.gallery }}\n"),  # another source
        lambda: (shelf.root / "_build" / "html" / "index.html").unlink(),  # a page that was taken away
        lambda: (shelf.root / "_build" / "work" / book.STAMP).write_text("older"),  # other code of the build
    ):
        harm()
        builds = []
        monkeypatch.setattr(book, "build", lambda work, builds=builds: builds.append(work) or work)
        monkeypatch.setattr(book, "publish", lambda built, target: (target / "index.html").touch())
        book.book(shelf)
        assert len(builds) == 1
        monkeypatch.undo()


def test_chapters_stand_in_the_order_of_the_table_of_contents(tmp_path):
    """Also where one name begins another, and what it does not name comes last."""
    (tmp_path / "requirements.lock").write_text("toy==1\n")
    (tmp_path / "book").mkdir()
    for name in ("toy", "toy_two", "a_toy", "b_toy"):
        write_chapter(tmp_path, name)
    listed = [{"file": f"notebooks/{name}"} for name in ("toy_two", "b_toy", "toy")]
    (tmp_path / "book" / "_toc.yml").write_text(yaml.safe_dump({"root": "index", "parts": [{"chapters": listed}]}))
    assert [chapter.name for chapter in Project(tmp_path).chapters()] == ["toy_two", "b_toy", "toy", "a_toy"]
    (tmp_path / "book" / "_toc.yml").write_text("parts: 3\n")
    with pytest.raises(BadInput, match=r"^book/_toc.yml: not a table of contents"):
        Project(tmp_path).chapters()


def test_a_page_that_is_gone_is_not_left_where_it_was_built(shelf, tmp_path):
    pages, target = book.find_pages(shelf, "default"), tmp_path / "work" / "source"
    built = tmp_path / "work" / "_build" / "html" / "notebooks" / "toy.html"
    book.stage(shelf, pages, target, draft=False)
    built.parent.mkdir(parents=True)
    built.touch()
    book.stage(shelf, pages, target, draft=False)
    assert built.exists()
    (target / "notebooks" / "gone.ipynb").touch()
    book.stage(shelf, pages, target, draft=False)
    assert not built.exists()


def test_pages_tell_when_claims_were_registered(shelf, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)

    def git(*words):
        own = ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *words]
        return subprocess.run(own, cwd=shelf.root, check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    git("add", "notebooks", "requirements.lock")
    git("commit", "--quiet", "--message", "first")
    first = git("rev-parse", "HEAD").strip()
    path = shelf.root / "notebooks" / "toy.yaml"
    path.write_text(path.read_text().replace("below: 0.1", "below: 0.2"))
    git("commit", "--quiet", "--all", "--message", "second")
    second = git("rev-parse", "HEAD").strip()
    ran = page(shelf)
    shown = replace(ran, run=replace(ran.run, record=ran.record.model_copy(update={"commit": first})))
    blocks = verdict_blocks(shown)
    assert f"- Scale: toy\n- {shown.registrations['apart'].text}.\n" in blocks
    assert f" in `{second[:7]}`, **after** this run; the chapter has no published run yet.\n" in blocks
    results = results_page([shown])
    assert results.count("<p>Toy; the paper&#x27;s; registered before the run</p>") == 1
    assert results.count("<p>Toy; ours; registered after the run</p>") == 1
    assert "stood in git before the runs that decide them: 1; not before: 1; not known: 0." in results
    rows = json.loads(data_files([shown])["results.json"])
    assert [(r["registered_in"], r["registered_order"]) for r in rows] == [(first, "before"), (second, "after")]
    assert "not known: 2." in results_page([ran])  # made outside a repository


def test_further_editions_stand_below_their_chapter(shelf):
    path = shelf.root / "notebooks" / "toy.yaml"
    content = yaml.safe_load(path.read_text())
    content["editions"]["other"] = content["editions"]["smoke"]  # has the same key as smoke, so it has been run
    path.write_text(yaml.safe_dump(content))
    pages = book.find_pages(shelf, "default")
    assert [p.name for p in pages] == ["toy", "toy-other"]
    toc = yaml.safe_load(book._toc((shelf.root / "book" / "_toc.yml").read_text(), pages))
    assert toc["parts"][0]["chapters"] == [{"file": "notebooks/toy", "sections": [{"file": "notebooks/toy-other"}]}]
    assert [p.name for p in book.find_pages(shelf, "smoke")] == ["toy"]  # a draft shows nothing else


def test_results_and_runs_pages_are_compiled_from_records(shelf):
    pages = book.find_pages(shelf, "default")
    results = book.results_page(pages)
    assert '1 <span class="verdict reproduced">' in results
    assert "| [Toy](../notebooks/toy.ipynb) | 1 + 0 | 0 + 0 | 0 + 1 | 1 + 1 | 0 |" in results
    first, second = BeautifulSoup(results, "html.parser").select(
        "table.claims tbody tr"
    )  # what did not reproduce first
    assert (first["data-verdict"], second["data-verdict"]) == ("contradicted", "reproduced")
    assert [tag["href"] for tag in second.select("a")] == ["../notebooks/toy.html#claim-apart"]
    assert second.select_one("td").get_text(" ") == "High is above low. high less low Toy; the paper's"
    words = second.select("td")[1].find_all(["span", "em", "p"])
    told = "1.00017 [0.99965, 1.00068], n\u00a0=\u00a03; claimed: >\u00a00.5"
    assert [tag.get_text() for tag in words] == ["reproduced", "firm", told]
    record = pages[0].record
    runs = book.runs_page(pages)
    assert f"| {record.seconds['total']:.0f} | {record.peak_memory_mb:.0f} MB |" in runs
    assert all(f"| {part} | {s:.1f} |" in runs for part, s in record.seconds.items() if part != "total")
    assert all(f"| {name} | `{v}` | all |" in runs for name, v in record.versions.items())
    assert record.arithmetic["offers"]
    assert all(f"| {name} | `{v}` | all |" in runs for name, v in record.arithmetic.items())
    assert f"| requirements.lock | `{record.lock_sha256}` | all |" in runs


def test_runs_that_differ_in_a_version_say_so(shelf):
    (shown,) = book.find_pages(shelf, "default")
    record = shown.record.model_copy(update={"versions": {"python": "2.7", "new": "1"}, "arithmetic": {}})
    other = replace(shown, edition="other", run=replace(shown.run, record=record))
    runs = book.runs_page([shown, other])
    assert f"| python | `{shown.record.versions['python']}` | [Toy](../notebooks/toy.ipynb) |" in runs
    assert "| python | `2.7` | [Toy (other)](../notebooks/toy-other.ipynb) |" in runs
    offers = shown.record.arithmetic["offers"]  # the other is of a time when records did not say it
    assert f"| offers | `{offers}` | [Toy](../notebooks/toy.ipynb) |" in runs


def test_a_draft_is_built_strictly_and_says_so_on_every_page(shelf, phenomena: Command):
    done = phenomena(shelf.root, "book", "--edition", "smoke")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(
        "_build/draft/index.html: 1 pages of runs; of the papers' claims 1 reproduced; of our own 1 inconclusive"
    )
    built = [p for p in (shelf.root / "_build" / "draft").rglob("*.html") if "_static" not in p.parts]
    content = [p for p in built if p.stem not in ("search", "genindex")]
    assert len(content) == 8
    for path in built:  # links from disk
        for link in re.findall(r'href="([^"#][^"]*)"', path.read_text()):
            if not re.match(r"[a-z]+:|//", link):
                assert (path.parent / unquote(urlsplit(link).path)).exists(), f"{path.name}: {link}"
    assert 'href="../downloads/toy/line.csv" download' in (shelf.root / "_build/draft/notebooks/toy.html").read_text()
    assert not (shelf.root / "_build" / "draft" / "_sources").exists()  # else everything would be there twice
    assert all("Draft from smoke runs" in p.read_text() for p in content)
    assert not (shelf.root / "_build" / "html").exists()  # what is published is elsewhere
    html = (shelf.root / "_build" / "draft" / "notebooks" / "toy.html").read_text()
    assert 'alt="A line that rises."' in html


def test_a_failed_run_gives_no_book(shelf, phenomena: Command):
    notebook = shelf.root / "notebooks" / "toy.ipynb"
    notebook.write_text(notebook.read_text().replace('title: str = \\"toy\\"', 'title: str = \\"broken\\"'))
    done = phenomena(shelf.root, "book")
    assert done.returncode == 1
    assert "RuntimeError: the toy broke; report: runs/.failed/toy-" in done.stderr
    assert not (shelf.root / "_build").exists()


def test_a_warning_fails_the_build_and_leaves_the_old_book(shelf, phenomena: Command):
    old = shelf.root / "_build" / "html" / "index.html"
    old.parent.mkdir(parents=True)
    old.write_text("old")
    with (shelf.root / "book" / "how_to_rerun.md").open("a") as page_file:
        page_file.write("\n[nowhere](nowhere.md)\n")
    done = phenomena(shelf.root, "book")
    assert done.returncode == 1
    assert "the book is not clean" in done.stderr
    assert "nowhere.md" in done.stderr
    assert old.read_text() == "old"
