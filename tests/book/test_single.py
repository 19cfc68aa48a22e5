"""A run as one file of HTML: everything in it, nothing from elsewhere."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from bs4 import BeautifulSoup
from conftest import Visit, without_browser, write_chapter
from nbformat.v4 import new_markdown_cell

from phenomena.runs.book import single
from phenomena.runs.store import named
from phenomena.runs.store.chapters import Project

CHAPTERS = Project(Path(__file__).parents[2]).chapters()

PROSE = """\
With $x^2$ and a rate of [`high`](../book/published/toy/default.json), [see](#toy-line), as the claim
[`apart.verdict`](toy.yaml) says; [a page](https://example.org/a) and ![a picture](https://example.org/b.png).

<details><summary>Solution</summary>

Text <sub>low</sub> <img src="https://example.org/c.png" onerror="alert(1)">

</details>

<script src="https://example.org/d.js"></script>"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory, server, pytestconfig):
    """A toy project, its run with two moving figures, and the run's page."""
    from phenomena.runs.execute import runner

    root = tmp_path_factory.mktemp("single")
    (root / "requirements.lock").write_text("toy==1\n")
    write_chapter(root, interactive=True)
    source = nbformat.read(root / "notebooks" / "toy.ipynb", as_version=4)
    source.cells.insert(1, new_markdown_cell(PROSE, id="prose"))
    nbformat.write(source, root / "notebooks" / "toy.ipynb")
    shutil.copytree(pytestconfig.rootpath / "book" / "_static", root / "book" / "_static")
    project = Project(root)
    chapter = project.chapter("toy")
    run, _ = runner.run(project, chapter, chapter.resolve(overrides={"rate": 0.7}), server=server)
    (root / "page.html").write_text(single.single(project, named.find(project, run.record.key)), encoding="utf-8")
    return project


def soup(project):
    return BeautifulSoup((project.root / "page.html").read_text(encoding="utf-8"), "html.parser")


def test_the_page_tells_the_run(whole):
    page = soup(whole)
    text = page.get_text()
    assert page.h1.get_text() == "Toy"
    assert "own parameters" in text and "seeds 0 to 2" in text
    rows = [[cell.get_text() for cell in row("td")] for row in page.table("tr")[1:]]
    assert rows == [["rate", "0.7", "0.5", "how fast"]]
    assert "a rate of 0.710 [0.685, 0.735], n\u00a0=\u00a03" in text and "as the claim\nreproduced says" in text
    assert [f["id"] for f in page("figure")] == ["toy-line", "toy-point", "toy-again"]
    assert page.figure.img["alt"] == "A line that rises."
    assert page.find("a", href="#toy-line").get_text() == "Fig. 1"
    claims = page.select(".claim")
    assert [claim["id"] for claim in claims] == ["claim-apart", "claim-small"]
    assert [claim.select_one(".verdict").get_text() for claim in claims] == ["reproduced", "contradicted"]
    assert page.math and page.details.summary


def test_nothing_on_it_comes_from_or_leads_elsewhere(whole):
    page = soup(whole)
    for tag in page.find_all(True):
        for name in ("src", "href"):
            assert tag.get(name, "#").startswith(("#", "data:image/png")), tag
        assert not [name for name in tag.attrs if name.startswith("on")], tag
    assert "a page" in page.get_text() and "a picture" in page.get_text()
    assert not re.search(r"url\(|@import", page.style.get_text())
    assert len(page("script")) == 4  # two charts, what draws them, what puts them into place


def test_a_run_without_moving_figures_brings_no_scripts(ran, tmp_path, pytestconfig):
    shutil.copytree(ran.root, tmp_path / "a")
    shutil.copytree(pytestconfig.rootpath / "book" / "_static", tmp_path / "a" / "book" / "_static")
    project = type(ran)(tmp_path / "a")
    html = single.single(project, named.find(project, "toy", "smoke"))
    assert "<script" not in html and len(html) < 100_000


def test_what_does_not_match_stands_on_the_page(ran, tmp_path, pytestconfig):
    shutil.copytree(ran.root, tmp_path / "a")
    shutil.copytree(pytestconfig.rootpath / "book" / "_static", tmp_path / "a" / "book" / "_static")
    project = type(ran)(tmp_path / "a")
    path = project.root / "notebooks" / "toy.yaml"
    path.write_text(path.read_text().replace("measured: high\n", "measured: higher\n"))
    (project.root / "requirements.lock").write_text("toy==2\n")
    key = next((project.runs / "toy").glob("*")).name
    page = BeautifulSoup(single.single(project, named.find(project, key)), "html.parser")
    assert "it ran with another requirements.lock" in page.select_one(".remarks").get_text()
    assert [claim["id"] for claim in page.select(".claim")] == ["claim-apart"]
    assert "the run records no value 'higher'" in page.get_text()


def test_the_command_writes_the_page_and_says_where(ran, phenomena, tmp_path, pytestconfig):
    shutil.copytree(ran.root, tmp_path / "a")
    shutil.copytree(pytestconfig.rootpath / "book" / "_static", tmp_path / "a" / "book" / "_static")
    done = phenomena(tmp_path / "a", "page", "toy", "--edition", "smoke")
    assert done.returncode == 0, done.stderr
    name = done.stdout.strip()
    assert re.fullmatch(r"toy-[0-9a-f]{16}\.html", name) and (tmp_path / "a" / name).is_file()
    done = phenomena(tmp_path / "a", "page", "toy", "--html", "none/x.html")
    assert (done.returncode, done.stderr) == (2, "phenomena: --html none/x.html: there is no folder none\n")


@without_browser
def test_its_figures_move_from_disk_without_a_request(whole, browser):
    with Visit(browser, f"file://{whole.root}") as visit:
        visit.page.goto(f"{visit.site}/page.html")
        slider = visit.page.locator("#toy-point input[type=range]")
        slider.wait_for()
        reading = visit.page.locator("#toy-point .reading")
        before = reading.text_content()
        slider.press("ArrowRight")
        assert reading.text_content() != before
        assert (visit.strays, visit.errors) == ([], [])


@pytest.mark.parametrize(
    ("tex", "same"),
    [
        (r"\frac12", r"\frac{1}{2}"), (r"\tfrac1n", r"\frac{1}{n}"), (r"\frac ln", r"\frac{l}{n}"),
        (r"\dfrac{a}b", r"\frac{a}{b}"), (r"\big(x\Big)^2", "(x)^2"), (r"1, \dots, n", r"1, \ldots, n"),
        (r"\bigl[x\bigr]", "[x]"),
    ],
)  # fmt: skip
def test_formulas_that_docutils_does_not_read_as_they_are(tex, same):
    assert single._formula(tex, {}) == single._formula(same, {}) and "<math" in single._formula(tex, {})


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)
def test_every_formula_of_a_chapter_is_drawn(chapter):
    texts = [c.source for c in chapter.source.cells if c.cell_type == "markdown"]
    html = "".join(single._markdown().render(text) for text in texts)
    page = BeautifulSoup(html, "html.parser")
    left = [code.text for code in page.find_all("code", class_=False) if re.search(r"\\[a-z]+|\^|_\{", code.text)]
    assert "<math" in html and left == []
