"""The words of the book: no measured number is typed, every quotation names something, chapters are alike."""

import io
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.colors import to_rgb
from PIL import Image
from scipy.stats import norm

from phenomena.chapters.criticality.theory import critical_point
from phenomena.chapters.selective_backprop.training import MOMENTUM
from phenomena.runs.book import build as book
from phenomena.runs.book import images, markdown, quotes
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.contract.parameters import parse_assignments
from phenomena.runs.store import published as published_records
from phenomena.runs.store.chapters import Chapter, Front, Project
from phenomena.runs.store.runs import Record, Run
from phenomena.science import plots

ROOT = Path(__file__).parents[2]
PROJECT = Project(ROOT)
CHAPTERS = PROJECT.chapters()
PAGES = [ROOT / "index.md", ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "book").glob("*.md"))]
each = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda c: c.name)


def words(chapter: Chapter) -> list[str]:
    return [cell.source for cell in chapter.source.cells if cell.cell_type == "markdown"]


# --- typed numbers ----------------------------------------------------------------------------------------------------
#
# A decimal or a percentage in quotes is taken for a measured number, unless
# - its sentence or table row cites a source: then it is that source's number;
# - it is a parameter of the chapter in one of its editions, or a threshold of one of its claims;
# - it numbers something (Theorem 2.10, Python 3.11);
# - it is written below with its reason, or with the formula that it follows from, which is then computed.
# Whole numbers and numbers in words pass: they count more often than they measure, and no rule tells which.

NUMBER = re.compile(
    r"(?<![\w.,])\d+(?:\.\d+)?e-?\d+|(?<![\w.,/-])(?:\d[\d,]*)?\.\d+|\d+(?= ?\\?%| percent\b)"
)  # 3e-4; 0.93 and .93; 93 % and 93 percent
NUMBERED = re.compile(r"(?:Assumption|Chapter|Lemma|Proposition|Python|Section|Theorem) \d+\.\d+")
CODE = re.compile(r"^(`{3,})(?!\{)[^\n]*\n.*?^\1|`[^`\n]*`|\]\([^)]*\)|\{\{.*?\}\}", re.S | re.M)

REASONS = {"95": "the level of all intervals, in percent"}
GELU, SILU = map(critical_point, ("gelu", "silu"))


def time_of(signal):
    """When the noise of beta from 0.1 to 20 leaves this signal: t² 19.9 / 4 + t / 20 = -log(signal)."""
    return max(np.roots([19.9 / 4, 1 / 20, math.log(signal)]))


GAUSS = np.linspace(-9, 9, 9001)  # for a mean over a normal number
AGREE = 0.5 + 0.5 * (norm.pdf(GAUSS) * np.tanh(1 + GAUSS) ** 2).sum() * (GAUSS[1] - GAUSS[0])  # clones, rho = 1
FORMULAS = {
    "criticality": {  # a public implementation's, to all its digits; of the last the point stands one place off
        "0.17292239": GELU.c_b,
        "1.98305826": GELU.c_w,
        "1.98800468": SILU.c_w,
        "0.055514317": SILU.c_b / 10,
    },
    "diffusion_transitions": {
        "0.775": AGREE,
        "0.26": time_of(0.5**0.5),
        "0.259": time_of(0.5**0.5),
        "0.293": time_of((2**0.5 - 1) ** 0.5),
        "0.957": time_of(0.01),
        "0.82": 0.9**2 + 0.1**2,
        "0.123": 1 / (4 + 17**0.5),
    },
    "in_context_learning": {
        "0.9125": 0.9 + 0.1 / 8,
        "4.29": math.log(0.9125 * 7 / 0.0875),
        "4.14": math.log(0.9 * 7 / 0.1),
    },
    "multitask_selection": {
        "0.80": math.sqrt(2 / math.pi),
        "0.175": norm.pdf(norm.ppf(0.9)),
        "0.35": 2 * norm.pdf(norm.ppf(0.9)),
        "5.7": 1 / norm.pdf(norm.ppf(0.9)),
        "0.9": 1 - 0.1,  # the quantile of one row in ten
    },
    "selective_backprop": {"0.9": MOMENTUM},
}


def typed(text: str, accepted: frozenset[float] = frozenset(), formulas: dict[str, float] | None = None) -> list[str]:
    """Numbers that look measured and are not accounted for, each with its sentence."""
    cited = re.sub(r"\[[^\[\]]*\]\(\.\./book/references\.bib#\w+\)", "{cite}", text)
    shown = NUMBERED.sub("", CODE.sub("", cited))
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*|]|\d+\.) )", shown)
    sentences = [s for b in blocks for s in re.split(r"(?<=[.!?])\**\s+(?=\**[^a-z\d\s])", " ".join(b.split()))]
    found = []
    for sentence in sentences:
        for number in [] if "{cite" in sentence else NUMBER.findall(sentence):
            value = float(number.replace(",", ""))
            follows = number in (formulas or {}) and f"{formulas[number]:.{len(number.partition('.')[2])}f}" == number
            share = re.search(rf"{re.escape(number)} ?\\?(?:%|percent)", sentence)
            known = any(math.isclose(value / (100 if share else 1), x) for x in accepted)
            if number not in REASONS and not follows and not known:
                found.append(f"{number}: {sentence}")
    return found


def fixed_beforehand(chapter: Chapter) -> frozenset[float]:
    """Every number among the parameters of all editions and the thresholds of all claims."""
    values = [value for edition in chapter.file.editions for value in chapter.resolve(edition).values()]
    values += [x for claim in chapter.file.claims for x in claim.range]
    flat = [x for value in values for x in (value if isinstance(value, list) else [value])]
    return frozenset(float(x) for x in flat if isinstance(x, int | float) and math.isfinite(x))


@each
def test_no_measured_number_is_typed_in_a_chapter(chapter):
    accepted, formulas = fixed_beforehand(chapter), FORMULAS.get(chapter.name, {})
    assert [found for text in words(chapter) for found in typed(text, accepted, formulas)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_no_measured_number_is_typed_on_a_page(path):
    assert typed(path.read_text()) == []


@pytest.mark.parametrize(
    "planted",
    [
        "Its accuracy is 0.93.",
        "Its accuracy is .93, against .35 before.",
        "It fits 93 % of the labels.",
        "It fits 93\\% of the labels.",
        "It fits 93 percent of the labels.",
        "The distance is 3e-7.",
        "| augmentation | 0.93 |",
        "- In the paper it is 0.9 {cite}`a`.\n- Here it is 0.93.",
        "The paper has 0.9 {cite}`a`. Here it is 0.93.",
        "With $\\alpha = 1$ it is $p = 0.93$.",
        "<details><summary>Solution</summary>\n\nIt falls to 0.93.\n\n</details>",
        "Weights leave 0.36 of it.",
        "See [0.93](toy.yaml) of it.",
    ],
)
def test_a_planted_number_is_found(planted):
    found = typed(planted, frozenset({0.05}), {"0.36": 0.35})
    assert found and all("0.9 " not in f for f in found)


@pytest.mark.parametrize(
    "honest",
    [
        "Its accuracy is {{ toy.accuracy }}.",
        "In the paper it is 0.93 {cite}`a`.",
        "[Poe (2020)](../book/references.bib#a) has 0.93.",
        "| paper {cite}`a` | 0.93 |",
        "Run `phenomena run toy -p rate=0.93`.",
        "```\nphenomena run toy -p rate=0.93\n```",
        "Training stops at a loss of 0.05, which is 5 %.",
        "By Theorem 2.10 and with Python 3.11.",
        "The 95 % interval of three seeds.",
        "By the formula 0.35 of it is left.",
    ],
)
def test_what_is_accounted_for_passes(honest):
    assert typed(honest, frozenset({0.05}), {"0.35": 0.3509}) == []


# --- quotations -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def published():
    """Every chapter's published record as a page of the book."""
    paths = {c: ROOT / "book" / "published" / c.name / "default.json" for c in CHAPTERS}
    records = {c: path.read_text() for c, path in paths.items() if path.exists()}  # a new chapter has none yet
    return [
        book.Page(PROJECT, c, "default", Run(ROOT, Record.model_validate_json(text))) for c, text in records.items()
    ]


def test_every_quotation_names_something_recorded(published):
    everywhere = {"book.totals": "", "book.gallery": ""}
    assert published
    for page in published:
        own = quotes.quotable(page)
        everywhere |= own
        for text in words(page.chapter):
            assert "{{" not in quotes.fill(markdown.for_book(text, page), own, page.name)
    for path in [ROOT / "index.md", *(ROOT / "book").glob("*.md")]:
        assert "{{" not in quotes.fill(path.read_text(), everywhere, path.name)


def test_a_quotation_is_mean_interval_and_number_of_seeds(ran):
    (page,) = book.find_pages(ran, "smoke")
    texts = quotes.quotable(page)
    two = "0.105 [0.041, 0.169], n\u00a0=\u00a02"  # 0.1 and 0.11 with Student's quantile for one degree of freedom, 13
    assert quotes.fill("High is {{ toy.high }}.", texts, "page") == f"High is {two}."
    assert quotes.fill("{{toy.small.measured}}", texts, "page") == two
    badge = '<span class="verdict inconclusive">inconclusive</span>'
    assert quotes.fill("{{ toy.small.verdict }}", texts, "page") == f"[{badge}](/notebooks/toy.ipynb#verdicts)"
    for values, shown in (([None, None], "not measured, n\u00a0=\u00a00"), ([None, 2.0], "2.00, n\u00a0=\u00a01")):
        record = page.record.model_copy(update={"values": page.record.values | {"odd": values}})
        some = replace(page, run=Run(page.run.folder, record))
        assert quotes.quotable(some)["toy.odd"] == shown


def test_a_published_record_can_be_quoted_without_its_run(ran, tmp_path):
    shutil.copytree(ran.root, tmp_path / "shelf")
    project = type(ran)(tmp_path / "shelf")
    chapter = project.chapter("toy")
    (page,) = book.find_pages(project, "smoke")
    assert not any(name.startswith("published.") for name in quotes.quotable(page))
    path = published_records.path(project, chapter, "smoke")
    path.parent.mkdir(parents=True)
    path.write_text(page.record.model_copy(update={"values": {"high": [3.0, 5.0, None]}}).model_dump_json())
    text = quotes.fill("{{ published.toy.smoke.high }}", quotes.quotable(page), "page")
    assert text == "4 [−9, 17], n\u00a0=\u00a02"


def test_an_unknown_name_is_refused_with_the_nearest(ran):
    texts = quotes.quotable(*book.find_pages(ran, "smoke"))
    with pytest.raises(
        BadInput, match=r"^index.md: \{\{ toy.hihg \}\} names nothing recorded; did you mean 'toy.high'\?$"
    ):
        quotes.fill("It is {{ toy.hihg }}.", texts, "index.md")
    with pytest.raises(BadInput, match=r"accepted: chapter.value, chapter.claim.measured"):
        quotes.fill("{{ zzzz }}", texts, "index.md")


# --- the cover --------------------------------------------------------------------------------------------------------


@each
def test_the_cover_names_a_figure_of_the_chapter(chapter):
    code = "\n".join(cell.source for cell in chapter.source.cells if cell.cell_type == "code")
    assert chapter.file.front.figure in re.findall(r'\bname="([\w-]+)"', code)


def with_cover(page: book.Page, name: str) -> book.Page:
    chapter = Chapter(page.chapter.notebook)
    chapter.__dict__["file"] = page.chapter.file.model_copy(
        update={"front": Front(figure=name, claims=[])}
    )  # where the property keeps it
    return replace(page, chapter=chapter)


def test_a_cover_is_small_and_leads_to_its_chapter(ran):
    (page,) = book.find_pages(ran, "smoke")
    assert quotes.cover(page) is None
    shown = with_cover(page, "line")
    alt, png = quotes.cover(shown)
    assert alt == "A line that rises."
    assert png.startswith(b"\x89PNG") and len(png) < 60_000
    assert f"[![{alt}](/book/covers/toy.png)](/notebooks/toy.ipynb)" in quotes.gallery_entry(shown)
    with pytest.raises(BadInput, match=r"toy.yaml: front: no figure 'lime'; did you mean 'line'\? accepted: line$"):
        quotes.cover(with_cover(page, "lime"))


def test_the_cover_names_the_parts_of_the_book_that_have_chapters(ran, tmp_path):
    (page,) = book.find_pages(ran, "smoke")
    first = replace(page, project=Project(tmp_path))
    second = replace(first, chapter=Chapter(page.chapter.notebook.with_name("other.ipynb")))
    second.chapter.__dict__["file"] = page.chapter.file
    (tmp_path / "book").mkdir()

    def headings(*parts):
        toc = {"parts": [{"caption": c, "chapters": [{"file": name} for name in names]} for c, names in parts]}
        (tmp_path / "book" / "_toc.yml").write_text(yaml.safe_dump(toc))
        return [line for line in quotes.gallery([first, second]).splitlines() if line.startswith(("###", "**["))]

    entries = ["**[Toy](/notebooks/toy.ipynb)**", "**[Toy](/notebooks/other.ipynb)**"]
    two = headings(("One", ["notebooks/toy"]), ("Two", ["notebooks/other"]), ("Rest", ["book/results"]))
    assert two == ["### One", entries[0], "### Two", entries[1]]
    assert headings(("All", ["notebooks/toy", "notebooks/other"]), ("Rest", ["book/results"])) == entries


def test_a_cover_keeps_the_colours_of_its_lines_apart():
    plots.start()
    figure, (ax,) = plots.panels(1, height=4)
    colours = [ax.plot([0, 1], [i, i + 1])[0].get_color() for i in range(4)]
    large = io.BytesIO()
    figure.savefig(large, dpi=144)
    small = Image.open(io.BytesIO(images.small(large.getvalue()))).convert("RGB")
    assert small.width == images.COVER_WIDTH
    seen = np.array(small).reshape(-1, 3).astype(int)
    for colour in colours:
        assert np.abs(seen - np.multiply(to_rgb(colour), 255)).max(1).min() < 12, colour


# --- chapters alike ---------------------------------------------------------------------------------------------------


@each
def test_three_exercises_or_more_with_a_command_in_every_solution(chapter):
    (text,) = [text for text in words(chapter) if "## Exercises" in text]
    exercises = text.partition("## Exercises")[2].partition("## References")[0]
    solutions = re.findall(r"<details><summary>Solution</summary>\n(.*?)</details>", exercises, re.S)
    assert len(solutions) == len(re.findall(r"^\d+\. ", exercises, re.M)) >= 3
    commands = [re.findall(rf"phenomena run {chapter.name}\b([^`\n]*)", solution) for solution in solutions]
    assert sum(bool(c) for c in commands) >= 3
    for options in [o for c in commands for o in c]:
        edition = re.search(r"--edition (\w+)", options)
        assigned = [a or b or c for a, b, c in re.findall(r"""-p (?:"([^"]+)"|'([^']+)'|(\S+))""", options)]
        chapter.resolve(edition[1] if edition else "default", parse_assignments(assigned))  # raises what a run would


def test_every_page_stands_in_the_table_of_contents():
    toc = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text())
    listed = {entry["file"] for part in toc["parts"] for entry in part["chapters"]}
    written = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")} | {f"notebooks/{c.name}" for c in CHAPTERS}
    assert listed - written == {"book/results", "book/ladder", "book/runs", "genindex"}  # compiled
    assert written <= listed


@each
def test_a_chapter_says_what_was_expected_and_what_this_run_gave(chapter):
    title, numbers, preamble = chapter.source.cells[:3]
    assert re.fullmatch(r"# [^\n]+\n\n[^\n]+", title.source), "a title and one paragraph"
    assert (numbers.metadata.tags, preamble.metadata.tags) == (["numbers"], ["preamble"])
    assert numbers.source.count("](../book/published/") >= 2 and "\n" not in numbers.source
    expected = preamble.source.partition("**Expected.**")[2].partition("\n\n")[0]
    assert "references.bib#" in expected and "../book/published/" not in expected
    for word in ("**Source.**", "**Expected.**", "**Time.**", "**What would refute it.**"):
        assert word in preamble.source


@each
def test_what_a_reader_meets_first_and_what_to_vary_are_named(chapter):
    assert len(chapter.file.front.claims) == min(3, len(chapter.file.claims))
    assert 2 <= len(chapter.file.vary) <= 5
    assert not set(chapter.file.vary) - set(chapter.declaration), "each is a parameter"
    assert all(said.endswith(".") for said in chapter.file.vary.values())


@each
def test_terms_are_marked(chapter):
    assert "\n".join(words(chapter)).count("](../book/glossary.md#") >= 3, "terms are linked at their first use"


# --- bibliography -----------------------------------------------------------------------------------------------------


def test_every_entry_of_the_bibliography_has_a_link_and_is_cited():
    entries = re.split(r"^(?=@)", (ROOT / "book" / "references.bib").read_text(), flags=re.M)[1:]
    everything = "\n".join([path.read_text() for path in PAGES] + [text for c in CHAPTERS for text in words(c)])
    cited = {key for keys in re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", everything) for key in keys.split(",")}
    cited |= set(re.findall(r"references\.bib#(\w+)", everything))
    links = [
        r"doi = \{10\.\d{4,}/\S+\}",
        r"eprint = \{\d{4}\.\d{4,5}\},\n  archiveprefix = \{arXiv\}",
        r"url = \{https://\S+\}",
    ]
    for entry in entries:
        assert any(re.search(f"^  {link}", entry, re.M) for link in links), entry
        assert re.match(r"@\w+\{(\w+),", entry)[1] in cited
