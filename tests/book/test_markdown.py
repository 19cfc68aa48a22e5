"""Plain Markdown of source notebooks: what the book makes of it, and what readers' copies say."""

import copy
import re
from pathlib import Path

import pytest

from phenomena.runs.book import build as book
from phenomena.runs.book import downloads, markdown, quotes
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store.chapters import Project

ROOT = Path(__file__).parents[2]
CHAPTERS = Project(ROOT).chapters()
each = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)

GLOSSARY = "# Words\n\n```{glossary}\nk-NN probe\n    A classifier.\n\nrandom label\n    Drawn.\n```\n"
BIBLIOGRAPHY = """
@misc{one, title = {A}, author = {van der Berg, Ann}, year = {2020}, eprint = {2001.00001}, archiveprefix = {arXiv}}
@misc{two, title = {B}, author = {Poe, Al and {M\\"u}ller, Bo}, year = {2021}, doi = {10.1/x}}
@misc{three, title = {C}, author = {Roe, Al and Doe, Bo and Foe, Cy}, year = {2022}, url = {https://example.org}}
"""


@pytest.fixture
def page(ran, tmp_path):
    """The toy chapter's page in a project with a glossary and a bibliography."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "glossary.md").write_text(GLOSSARY)
    (tmp_path / "book" / "references.bib").write_text(BIBLIOGRAPHY)
    (shown,) = book.find_pages(ran, "default")
    return book.Page(Project(tmp_path), shown.chapter, shown.edition, shown.run)


@pytest.mark.parametrize(
    ("source", "staged", "copied"),
    [
        ("[a probe](../book/glossary.md#k-nn-probe)", "{term}`a probe <k-NN probe>`", "a probe"),
        (
            "By [Roe et al. (2022)](../book/references.bib#three).",
            "By {cite:t}`three`.",
            "By [Roe et al. (2022)](https://example.org).",
        ),
        (
            "([van der Berg, 2020](../book/references.bib#one); [Roe et al., 2022](../book/references.bib#three))",
            "{cite}`one,three`",
            "([van der Berg, 2020](https://arxiv.org/abs/2001.00001); [Roe et al., 2022](https://example.org))",
        ),
        ("It is [`high`](../book/published/toy/default.json).", "It is {{ toy.high }}.", "It is HIGH."),
        ("It is [`high`](../book/published/toy/full.json).", "It is {{ published.toy.full.high }}.", "It is `high`."),
        ("So [`apart.verdict`](toy.yaml).", "So {{ toy.apart.verdict }}.", "So reproduced."),
        ("See the [figure](#toy-line).", "See the {numref}`Fig. %s <toy-line>`.", "See the figure."),
        ("See [the file](toy.yaml).", "See [the file](toy.yaml).", "See the file."),
        ("See [that](https://example.org/a).", "See [that](https://example.org/a).", "See [that](https://example.org/a)."),
        ("Between [0, 1] and [f](x)", "Between [0, 1] and [f](x)", "Between [0, 1] and f"),
    ],
)  # fmt: skip
def test_what_a_link_stands_for(page, source, staged, copied):
    texts = {
        "toy.high": "HIGH",
        "toy.apart.verdict": '[<span class="v">reproduced</span>](/notebooks/toy.ipynb#verdicts)',
    }
    assert markdown.for_book(source, page) == staged
    assert markdown.for_readers(source, page, texts) == copied


def test_details_become_a_box_that_holds_others():
    box = "Before.\n\n<details><summary>Solution</summary>\n\nA half:\n\n```sh\nx\n```\n\n</details>\n\nAfter."
    assert (
        markdown.for_book(box, None) == "Before.\n\n````{dropdown} Solution\nA half:\n\n```sh\nx\n```\n````\n\nAfter."
    )


@pytest.mark.parametrize("address", ["../book/glossary.md#k-nn-prob", "../book/references.bib#tree"])
def test_what_the_book_does_not_have_is_named_with_the_nearest(page, address):
    near = {"g": "k-nn-probe", "r": "three"}[address[8]]
    with pytest.raises(BadInput, match=rf"^toy.ipynb: no entry #{address.split('#')[1]}; did you mean '{near}'\?"):
        markdown.for_book(f"[x]({address})", page)


def names_and_year(entry):
    """How a text cites an entry: "Zhang et al. (2018)"."""
    people = [" ".join(person.prelast_names + person.last_names) for person in entry.persons["author"]]
    names = people[0] if len(people) == 1 else " and ".join(people) if len(people) == 2 else f"{people[0]} et al."
    return re.sub(r"[{}]", "", f"{names} ({entry.fields['year']})")


def test_names_of_one_two_and_many(page):
    found = {key: names_and_year(entry) for key, entry in markdown.bibliography(page.project.root).items()}
    assert found["one"] == "van der Berg (2020)" and found["three"] == "Roe et al. (2022)"
    assert found["two"].startswith("Poe and ") and found["two"].endswith(" (2021)")


@each
def test_a_source_reads_well_in_any_viewer(chapter):
    """No braces, roles or directives; links lead to files; citations name whom the bibliography names."""
    entries = markdown.bibliography(ROOT)
    for cell in chapter.source.cells:
        if cell.cell_type != "markdown":
            continue
        assert not re.search(r"\{\{|\{[a-z:]+\}`|^`{3,}\{", cell.source, re.MULTILINE), cell.source[:200]
        assert cell.source.count("<details>") == cell.source.count("</details>")
        for words, target in markdown.LINK.findall(cell.source):
            path, _, anchor = target.partition("#")
            if ":" not in target:
                assert not path or (chapter.notebook.parent / path).resolve().is_file(), target
            if path == markdown.BIBLIOGRAPHY:
                cited = names_and_year(entries[anchor])
                assert words in (cited, f"{cited[:-7]}, {cited[-5:-1]}")


def test_copies_carry_plain_text_and_the_code_as_it_is(ran):
    (page,) = book.find_pages(ran, "default")
    for original in (page.chapter.source, page.run.notebook):
        notebook = copy.deepcopy(original)
        notebook.cells[0].source = "# Toy\n\nIt is [`high`](../book/published/toy/default.json)."
        made = downloads.legible(page, notebook)
        assert made.cells[0].source == f"# Toy\n\nIt is {quotes.quotable(page)['toy.high']}."
        assert made.cells[1:] == original.cells[1:]
