"""Every chapter: its sources are in order and its smoke edition runs from end to end."""

import ast
import re
import shutil
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import nbformat
import pytest
from conftest import without_browser

from phenomena.runs.book import build as book
from phenomena.runs.execute import kernels, runner
from phenomena.runs.store import claims, published, runs
from phenomena.runs.store.chapters import Project

ROOT = Path(__file__).parents[2]
PROJECT = Project(ROOT)
CHAPTERS = PROJECT.chapters()
each = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)


@each
def test_source_is_clean(chapter):
    for cell in chapter.source.cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None
            assert max(map(len, cell.source.splitlines())) <= 100, "a page is no wider"
            if "parameters" not in cell.metadata.get("tags", []):
                assert len(cell.source.splitlines()) <= 20, cell.source


def bound(source):
    """Names that a cell's own statements bind, those in its functions and comprehensions left out."""
    inner = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
    apart = (*inner.__args__, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    names, pending = set(), list(ast.parse(source).body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        if not isinstance(node, apart):
            pending += ast.iter_child_nodes(node)
    return names


@each
def test_no_name_is_bound_in_two_cells(chapter):
    """So that any cell can be run again by hand, and a reader finds where a name comes from."""
    cells = [bound(cell.source) for cell in chapter.source.cells if cell.cell_type == "code"]
    counts = Counter(name for names in cells for name in names)
    assert [name for name, count in counts.items() if count > 1] == []


def test_names_are_found_where_they_are_bound():
    source = (
        "import a.b, c as d\nx, (y, *z) = [k for k in w]\nfor i in x:\n    with q as r:\n        s: int = 1\n"
        "def f(g):\n    h = 1"
    )
    assert bound(source) == {"a", "d", "x", "y", "z", "i", "r", "s", "f"}


@each
def test_skeleton_is_that_of_every_chapter(chapter):
    code = [c for c in chapter.source.cells if c.cell_type == "code"]
    tagged = [i for i, c in enumerate(code) if "parameters" in c.metadata.get("tags", [])]
    assert tagged == [1], "imports, then the parameters"
    assert code[2].source.endswith("check_parameters(globals())")
    for cell in code:
        assert re.match(r"# \S.{0,60}\n", cell.source), f"its first comment names it: {cell.source[:80]}"
    opened = [c for c in code if "open" in c.metadata.get("tags", [])]
    assert len(opened) <= 3 and all(len(c.source.splitlines()) <= 13 for c in opened)
    assert {tag for c in code for tag in c.metadata.get("tags", [])} <= {"parameters", "open"}
    headings = re.findall(
        r"^## (.+)$", "\n".join(c.source for c in chapter.source.cells if c.cell_type == "markdown"), re.M
    )
    wanted = [
        "Data",
        "Method",
        "Run",
        "What it means",
        "Verdicts",
        "Reproduction notes",
        "Exercises",
        "References",
    ]
    assert [h for h in headings if h in wanted] == wanted


@each
def test_editions_and_claims_are_in_order(chapter):
    for edition in chapter.file.editions:
        assert chapter.resolve(edition)["seeds"] >= (2 if edition != "paper" else 1)
    assert chapter.file.editions["default"].cost.seconds <= 240
    assert chapter.file.claims


@pytest.fixture(scope="module")
def server():
    """What kernels are forked from, None where every smoke run is there."""
    missing = [chapter for chapter in CHAPTERS if runs.current(PROJECT, chapter, "smoke") is None]
    with kernels.Server(kernels.needed(missing, shared=True)) if missing else nullcontext() as started:
        yield started


@pytest.fixture(scope="module", params=CHAPTERS, ids=lambda c: c.name)
def page(request, server):
    """A chapter's smoke run: that of the draft, where there is one, since runs are keyed and never changed."""
    chapter = request.param
    run, _ = runner.run(PROJECT, chapter, chapter.resolve("smoke"), "smoke", server=server)
    return book.Page(PROJECT, chapter, "smoke", run)


def test_smoke_edition_from_end_to_end(page):
    record = page.record
    assert record.peak_memory_mb < 2000
    claims.check(page.chapter, record)  # raises where a claim cannot be evaluated on what was recorded
    book.validate(page)
    for cell in book.staged_notebook(page).cells:
        for output in cell.get("outputs", []):
            assert output.output_type != "stream", f"a cell prints: {output.get('text')}"
    for figure in record.figures:
        assert len(figure.alt) > 40, f"{figure.name}: the alternative text tells the message"
        assert "nan" not in figure.caption
    assert len({f.name for f in record.figures}) == len(record.figures) > 0
    nbformat.validate(page.run.notebook)


def test_the_published_record_holds_what_a_run_records(page):
    """The same values and figures by name, and parameters that the notebook still has."""
    if not published.path(PROJECT, page.chapter, "default").exists():
        pytest.skip("a new chapter has no published record yet")
    kept = published.read(PROJECT, page.chapter)
    assert kept.values.keys() == page.record.values.keys()
    assert [figure.name for figure in kept.figures] == [figure.name for figure in page.record.figures]
    pooled = {name: kept.parameters[name] for name in ("seed", "seeds")} if kept.pool else {}
    assert kept.parameters == page.chapter.resolve("default") | pooled


MINUTES = {"a": 1, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5}


@each
def test_stated_times_are_those_of_the_published_record(chapter):
    """Within a factor of two: the seconds of the yaml, and the minutes of the preamble."""
    if not published.path(PROJECT, chapter, "default").exists():
        pytest.skip("a new chapter has no published record yet")
    seconds = published.read(PROJECT, chapter).counted[0].seconds
    (preamble,) = [c.source for c in chapter.source.cells if "preamble" in c.metadata.get("tags", [])]
    stated = re.search(r"\*\*Time\.\*\* \w+ (\w+)(?:( and a half) minutes| minutes?( and a half)?)", preamble)
    assert stated, "**Time.** About two minutes …"
    for about in (
        chapter.file.editions["default"].cost.seconds,
        60 * (MINUTES[stated[1]] + 0.5 * bool(stated[2] or stated[3])),
    ):
        assert about / 2 <= seconds <= about * 2


@pytest.fixture(scope="module")
def vega():
    return book.vega()


@without_browser
def test_interactive_figures_move_to_every_end_without_breaking(page, vega, browser, tmp_path):
    """Charts can break on the way to a state that they can start in, so a browser moves every control in turn."""
    figures = book.interactive_figures(page)
    assert figures, "every chapter has a figure that moves"
    (tmp_path / "notebooks").mkdir()
    shutil.copytree(ROOT / "book" / "_static", tmp_path / "_static")
    (tmp_path / "_static" / Path(book.VEGA).name).write_bytes(vega)
    parts = [f'<figure id="{name}"><img><figcaption></figcaption></figure>{html}' for name, html in figures.items()]
    (tmp_path / "notebooks" / "page.html").write_text("<!doctype html><meta charset=utf-8>" + "".join(parts))
    tab, errors = browser.new_page(viewport={"width": 800, "height": 800}), []
    tab.on("console", lambda message: errors.append(message.text))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto((tmp_path / "notebooks" / "page.html").as_uri())
    for name in figures:
        figure = tab.locator(f"#{name}")
        figure.locator(".reading").wait_for()
        height = figure.locator("svg").bounding_box()["height"]
        for control in figure.locator("input, select").all():
            for key in ("End", "Home", "End"):
                control.press(key)
                tab.wait_for_timeout(50)
                assert errors == [], f"{name} breaks where it is moved to"
                assert abs(figure.locator("svg").bounding_box()["height"] - height) < 60
                assert figure.locator(".reading").inner_text()
    tab.close()
