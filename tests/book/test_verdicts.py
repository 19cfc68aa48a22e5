"""How verdicts look: the geometry of their plots, the block of every claim, the table of all and its filter."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import CHAPTER, Visit, served, without_browser, write_chapter
from hypothesis import example, given
from hypothesis import strategies as st
from test_results import made, record_of, verdict

from phenomena.runs.book import verdicts
from phenomena.runs.book.pages import Page
from phenomena.runs.book.results import every_claim
from phenomena.runs.store.chapters import Project
from phenomena.runs.store.claims import FUNCTIONS
from phenomena.runs.store.registration import Registration
from phenomena.runs.store.runs import Run

ROOT = Path(__file__).parents[2]
NUMBER = r"-?[\d.]+"


@pytest.fixture
def toy(tmp_path):
    """A project whose chapter has a claim of ours as its headline."""
    (tmp_path / "requirements.lock").write_text("toy==1\n")
    write_chapter(tmp_path, chapter={**CHAPTER, "front": {"figure": "line", "claims": ["small"]}})
    return Project(tmp_path)


def svg_of(v, values=()):
    """The parts of a claim's plot."""
    svg = BeautifulSoup(verdicts.drawn(verdicts.made_plot(v, list(values))), "html.parser").svg
    assert svg["role"] == "img"
    return svg


def numbers(svg, name):
    """The coordinates in a path's or another shape's attributes."""
    return [[float(x) for x in re.findall(NUMBER, tag.get("d") or tag.get("cx") or "")] for tag in svg.select(name)]


def place_of(svg):
    """Where a value must lie, by the labels at the ends of the axis and the line that it is."""
    labels = {tag["text-anchor"]: float(tag.get_text().replace("−", "-")) for tag in svg.select("text")}
    ((left, _, right),) = numbers(svg, ".axis")
    return lambda x: left + (x - labels["start"]) / (labels["end"] - labels["start"]) * (right - left)


# --- geometry ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("v", "values"),
    [
        (verdict(measured=0.52, low=0.41, high=0.63, above=0.3), [0.4, 0.5, 0.66]),
        (verdict(measured=-0.2, low=-0.31, high=-0.09, below=-0.15), [-0.4, -0.1]),
        (verdict(measured=0.02, low=-0.01, high=0.05, between=(-0.15, 0.15)), [0.0, 0.04]),
        (verdict(measured=412.0, low=390.0, high=433.0, above=0.0), [380.0, 420.0]),
        (verdict(measured=0.98, low=0.97, high=0.99, above=0.95, kind="share", paper_value="0.96"), [0.97, 1.0]),
        (verdict(measured=19.0, low=18.0, high=20.0, between=(14.6, 24.4), paper_value="about 19.5"), [17.5, 20.5]),
    ],
)
def test_everything_in_a_plot_stands_where_its_value_is(v, values):
    svg = svg_of(v, values)
    place = place_of(svg)
    (start, _, end, *_) = numbers(svg, ".interval")[0]
    assert (start, end) == (pytest.approx(place(v.low), abs=0.1), pytest.approx(place(v.high), abs=0.1))
    assert numbers(svg, ".mean") == [[pytest.approx(place(v.measured), abs=0.1)]]
    dots = sorted(numbers(svg, ".seeds")[0][::3])
    assert dots == pytest.approx([place(x) for x in sorted(values)], abs=0.1)
    thresholds = [x for x in v.claim.range if math.isfinite(x)]
    assert [x for x, *_ in numbers(svg, ".threshold")] == pytest.approx([place(x) for x in thresholds], abs=0.1)
    (paper,) = numbers(svg, ".paper") or [[None]]
    assert paper[0] == (
        pytest.approx(place(float(v.claim.paper_value.split()[-1])), abs=0.1) if v.claim.paper_value != "f" else None
    )


@pytest.mark.parametrize(
    ("claim", "sides"),
    [({"above": 0.3}, (None, 1)), ({"below": 0.3}, (0, None)), ({"between": (0.3, 0.5)}, (None,) * 2)],
)
def test_the_claimed_side_is_shaded_from_the_threshold_on(claim, sides):
    svg = svg_of(verdict(measured=0.4, low=0.1, high=0.7, **claim))
    (rect,) = svg.select("rect.claimed")
    axis = numbers(svg, ".axis")[0]
    lines = [x for x, *_ in numbers(svg, ".threshold")]
    left, right = float(rect["x"]), float(rect["x"]) + float(rect["width"])
    assert left == pytest.approx(lines[0] if sides[0] is None else axis[0], abs=0.1)
    assert right == pytest.approx(lines[-1] if sides[1] is None else axis[2], abs=0.1)


finite = st.floats(-1e9, 1e9).filter(lambda x: x == 0 or abs(x) > 1e-9)


@example(threshold=715827882.9789984, values=[715827882.9804688])  # closer than a scale's labels can tell
@example(threshold=715827882.9785156, values=[715827882.9765625])
@example(threshold=715827501.0, values=[715827500.0])
@example(threshold=1e-9, values=[1e-9])
@given(threshold=finite, values=st.lists(finite, min_size=1, max_size=60))
def test_every_scale_shows_both_sides_of_its_threshold_and_all_values(threshold, values):
    mean, low, high = sum(values) / len(values), min(values), max(values)
    plot = verdicts.made_plot(verdict(measured=mean, low=low, high=high, above=threshold), values)
    assert plot.low < threshold < plot.high
    assert all(verdicts.LEFT <= plot.at(x) <= verdicts.RIGHT for x in values)
    svg = svg_of(plot.v, values)
    assert len({tag.get_text() for tag in svg.select("text")}) == len(svg.select("text")) >= 2
    assert all(2 <= y <= verdicts.MEAN - 5 for y in numbers(svg, ".seeds")[0][1::3])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_a_share_is_drawn_within_its_bounds(values):
    plot = verdicts.made_plot(verdict(measured=values[0], low=0.0, high=1.0, kind="share", above=0.5), values)
    assert 0 <= plot.low < plot.high <= 1


def test_dots_of_a_few_seeds_do_not_overlap():
    found = numbers(svg_of(verdict(above=0.0), [0.5] * 4 + [1.0] * 5), ".seeds")[0]
    places = list(zip(found[::3], found[1::3], strict=True))
    assert len(places) == 9
    assert min(math.dist(a, b) for i, a in enumerate(places) for b in places[:i]) >= verdicts.DOT - 0.01


# --- in words, and where something is missing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("v", "values", "label"),
    [
        (
            verdict(measured=0.52, low=0.41, high=0.63, above=0.3, paper_value="0.7"), [0.4, 0.5, 0.66, 0.5, 0.5],
            "Reproduced: 0.52, interval 0.41 to 0.63, n = 5; claimed: above 0.3; the paper's value: 0.7; "
            "seeds from 0.4 to 0.66. Scale from 0.2 to 0.7.",
        ),
        (
            verdict("inconclusive", measured=None, low=None, high=None, seeds=0, p=None, margin=None, below=-0.15), [],
            "Inconclusive: not measured, n = 0; claimed: below −0.15. Scale from −0.165 to −0.135.",
        ),
        (
            verdict("inconclusive", measured=2.0, low=None, high=None, seeds=1, p=None, margin=None, above=1.0), [2.0],
            "Inconclusive: 2.00, n = 1; claimed: above 1. Scale from 0.8 to 2.",
        ),
        (
            verdict("inconclusive", measured=None, low=None, high=None, seeds=3, p=None, margin=None), [1.0, 2.0],
            "Inconclusive: not finite, n = 3; claimed: above 0; seeds from 1 to 2; "
            "1 of 3 seeds without a finite value. Scale from −0.5 to 2.",
        ),
        (
            verdict(measured=5e-13, low=None, high=None, seeds=16, kind="exact", p=None, margin=None, below=1e-6),
            [0.0, 5e-13] * 8,
            "Reproduced: at most 5.0e−13 in 16 seeds; claimed: below 1e−6; "
            "seeds from 0 to 5e−13. Scale from 0 to 1.2e−6.",
        ),
    ],
)  # fmt: skip
def test_a_plot_says_everything_and_draws_what_there_is(v, values, label):
    svg = svg_of(v, values)
    assert svg["aria-label"] == label
    assert len(svg.select(".interval")) == (v.low is not None)
    assert len(svg.select(".mean")) == (v.measured is not None)
    assert len(svg.select(".seeds")) == (len(values) > 0)
    assert len(svg.select(".threshold")) == 1 and "nan" not in str(svg) and "inf" not in str(svg)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.68", 0.68), (".5", 0.5), ("about −1", -1), ("19.5", 19.5), ("none", None), ("0.1 at n = 2", None), ("", None),
     ("accuracy 0.58", None), ("1.01 and 0.68", None), (".", None)],
)  # fmt: skip
def test_the_papers_value_is_drawn_where_it_is_a_plain_number(text, value):
    assert verdicts.paper_number(verdict(paper_value=text).claim) == value


# --- on a chapter's page ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chapter", Project(ROOT).chapters(), ids=lambda chapter: chapter.name)
def test_every_claim_of_every_chapter_has_a_block_of_its_own_even_if_it_was_not_measured(toy, chapter):
    texts = [claim.measured for claim in chapter.file.claims] + list(chapter.file.trials.values())
    names = {name for text in texts for name in re.findall(r"[A-Za-z_]\w*", text)} - FUNCTIONS.keys()
    record = record_of(toy, **dict.fromkeys(names, [None] * 3))
    record = record.model_copy(update={"parameters": chapter.resolve()})
    page = Page(Project(ROOT), chapter, "default", Run(ROOT, record))
    page.__dict__["registrations"] = {c.name: Registration("not known") for c in chapter.file.claims}
    page.__dict__["evidence"] = record
    text = verdicts.verdict_blocks(page)
    soup = BeautifulSoup(text, "html.parser")
    blocks = [tag["id"] for tag in soup.select(".claim")]
    assert sorted(blocks) == sorted(f"claim-{claim.name}" for claim in chapter.file.claims)
    assert all(len(tag.select("svg[role=img][aria-label]")) == 1 for tag in soup.select(".claim"))
    assert all(claim.statement in text and claim.quantity in text for claim in chapter.file.claims)
    assert "nan" not in re.findall(r'(?:d|x)="[^"]*"', text)
    front = chapter.file.front.claims if chapter.file.front else []
    assert blocks[: len(front)] == [f"claim-{name}" for name in front]
    links = [tag["href"] for tag in BeautifulSoup(verdicts.headlines(page), "html.parser").select("li a")]
    assert links == [f"#claim-{name}" for name in front]


def test_headline_claims_stand_first_then_the_papers_then_ours_then_checks(toy):
    found = [verdict(name="code", origin="check"), verdict(name="mine", origin="ours"), verdict(name="theirs"),
             verdict("contradicted", name="small", origin="ours"), verdict("contradicted", name="more")]  # fmt: skip
    text = verdicts.verdict_blocks(made(toy, found), {("toy", "mine")})
    assert re.findall(r'^### .*|^\d claims?: .*|id="[^"]*"', text, re.MULTILINE) == [
        "### Headline claims", "1 claim: 1 contradicted.", 'id="claim-small"',
        "### Further claims of the paper", "2 claims: 1 reproduced, 1 contradicted.", 'id="claim-theirs"',
        'id="claim-more"', "### Further claims of our own", "1 claim: 1 reproduced.", 'id="claim-mine"',
        "### Checks of the code", "1 claim: 1 reproduced.", 'id="claim-code"']  # fmt: skip
    assert text.count("<em>firm</em>") == 1
    assert "It is so. <small>(ours)</small>" in text and "It is so. <small>(a check of the code)</small>" in text


def test_headline_claims_keep_the_papers_apart_from_ours(toy):
    path = toy.root / "notebooks" / "toy.yaml"
    content = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**content, "front": {"figure": "line", "claims": ["small", "apart"]}}))
    page = made(toy, [verdict(name="apart"), verdict(name="small", origin="ours")])
    assert "2 claims: of the paper's claims 1 reproduced; of our own 1 reproduced." in verdicts.verdict_blocks(page)


def test_headlines_are_short_and_nothing_without_a_front(toy):
    page = made(toy, [verdict(name="apart"), verdict("contradicted", name="small", statement="It's < 1.")])
    soup = BeautifulSoup(verdicts.headlines(page), "html.parser")
    assert soup.get_text().strip() == "contradicted It's < 1. 1.00 [0.50, 1.50], n\u00a0=\u00a05"
    (toy.root / "notebooks" / "toy.yaml").write_text(yaml.safe_dump(CHAPTER))
    assert verdicts.headlines(made(toy, [verdict()])) == ""


# --- the table of all claims, in a browser ----------------------------------------------------------------------------


@pytest.fixture
def table(toy, tmp_path):
    """A page with the table of five verdicts, one of them of a further edition."""
    page = made(toy, [verdict(name="a"), verdict("contradicted", name="b", seeds=20), verdict(name="c", origin="ours"),
                      verdict("inconclusive", name="d", origin="check", seeds=60)])  # fmt: skip
    further = replace(page, edition="other")
    further.__dict__.update(verdicts=[verdict(name="a", seeds=12)], registrations=page.registrations)
    static = (ROOT / "book" / "_static").as_uri()
    html = every_claim([page, further]).replace("../_static", static)
    style = f'<link rel="stylesheet" href="{static}/verdicts.css">'
    (tmp_path / "book").mkdir()
    (tmp_path / "_static").mkdir()
    for name in ("results.js", "verdicts.css"):
        (tmp_path / "_static" / name).write_bytes((ROOT / "book" / "_static" / name).read_bytes())
    html = f"<!doctype html><html lang=en><title>x</title>{style}<main>{html}</main>".replace(static, "../_static")
    (tmp_path / "book" / "results.html").write_text(html)
    return tmp_path


@pytest.fixture
def visit(browser, table):
    """Opens the table at an address; sees at the end that nothing complained."""
    with served(table) as site:
        visits = []

        def go(query="", **options):
            visits.append(Visit(browser, site, **options))
            visits[-1].page.goto(f"{site}/book/results.html{query}")
            return visits[-1].page

        yield go
        for seen in visits:
            errors = [error for error in seen.errors if "favicon" not in error]
            seen.context.close()
            assert errors == []


def rows(tab):
    """The names of the claims that show."""
    return [a.get_attribute("href").partition("#claim-")[2] for a in tab.locator("tr:visible td a").all()]


@without_browser
def test_the_filter_narrows_the_table_says_so_and_stands_in_the_address(visit):
    tab = visit()
    status = tab.locator("[role=status]")
    assert rows(tab)[0] == "b" and len(rows(tab)) == 5  # what did not reproduce first
    assert status.inner_text() == "All 5 verdicts"
    tab.get_by_role("combobox", name="verdict").select_option("reproduced")
    assert (len(rows(tab)), status.inner_text()) == (3, "3 of 5 verdicts")
    tab.get_by_role("combobox", name="whose claim").select_option("paper")
    tab.get_by_role("combobox", name="number of seeds").select_option("10")
    assert tab.url.partition("?")[2] == "verdict=reproduced&whose=paper&n=10"
    assert status.inner_text() == "1 of 5 verdicts"
    assert tab.locator("tr:visible td a").first.get_attribute("href") == "../notebooks/toy-other.html#claim-a"
    tab.reload()
    assert status.inner_text() == "1 of 5 verdicts"
    tab.get_by_role("button", name="Show all").click()
    tab.get_by_text("All 5 verdicts").wait_for()
    assert "?" not in tab.url and len(rows(tab)) == 5


@without_browser
@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("?verdict=contradicted", ["b"]),
        ("?whose=check&chapter=toy", ["d"]),
        ("?edition=other#every-claim", ["a"]),
        ("?n=20", ["b", "d"]),
        ("?n=20&verdict=reproduced", []),
        ("?verdict=contradicted&verdict=reproduced", ["b"]),  # the first counts
        ("?verdict=nonsense&colour=red", ["b", "d", "a", "c", "a"]),
    ],
)
def test_a_filter_comes_from_the_address(visit, query, names):
    assert rows(visit(query)) == names


@without_browser
def test_without_a_script_every_row_shows_and_no_form(visit):
    tab = visit("?verdict=contradicted", java_script_enabled=False)
    assert len(rows(tab)) == 5 and not tab.locator("form").is_visible()


@without_browser
def test_on_a_phone_no_verdict_is_cut_and_a_plot_fills_the_width(visit):
    tab = visit(viewport={"width": 390, "height": 844})
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    for badge in tab.locator(".verdict").all():
        box = badge.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        assert badge.evaluate("tag => tag.scrollWidth <= tag.clientWidth || getComputedStyle(tag).display === 'inline'")
    assert tab.locator("svg.forest").first.bounding_box()["width"] > 280
