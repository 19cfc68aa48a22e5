"""Moving figures: what `show` refuses, what stands in the page, and how it moves in a browser."""

import re
from contextlib import ExitStack

import altair as alt
import nbformat
import pandas as pd
import pytest
from conftest import Visit, add_pages, served, without_browser, write_chapter
from matplotlib.figure import Figure

from phenomena.runs.book import build as book
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.contract.notebook import MIME, show
from phenomena.runs.store.chapters import Project

# --- what an author may give ------------------------------------------------------------------------------------------

TALE = alt.param(name="reading", expr="'so it is'")
FEW = pd.DataFrame({"x": [0.123456789, 1.0], "y": [1.0, None], "url": ["https://example.org", ""]})


@pytest.fixture
def shown(monkeypatch):
    """The bundles that `show` displays."""
    bundles = []
    monkeypatch.setattr(
        "phenomena.runs.contract.notebook.display", lambda data, **_: bundles.append(data[MIME]["figure"])
    )
    return bundles


def line(data):
    return alt.Chart(data).mark_line().encode(x="x:Q", y="y:Q")


def test_the_chart_travels_in_the_figures_bundle_at_six_digits(shown):
    show(Figure(), "line", "A caption.", "Alt.", interactive=line(FEW).add_params(TALE))
    (rows,) = shown[0]["interactive"]["datasets"].values()
    assert rows[0] == {"x": 0.123457, "y": 1.0, "url": "https://example.org"}  # a column may be called so
    assert rows[1]["y"] is None
    show(Figure(), "still", "A caption.", "Alt.")
    assert "interactive" not in shown[1]


def test_a_column_may_hold_the_pictures_themselves(shown):
    rows = pd.DataFrame({"x": [1.0], "url": ["data:image/png;base64,AAAA"]})
    pictures = alt.Chart(rows).mark_image().encode(x="x:Q", url="url:N")
    show(Figure(), "pictures", "A caption.", "Alt.", interactive=(pictures + line(FEW[["x", "y"]])).add_params(TALE))
    assert "interactive" in shown[0]


@pytest.mark.parametrize(
    ("chart", "message"),
    [
        (
            line(pd.DataFrame({"x": [i / 7 for i in range(20_000)], "y": 0.1})),
            "show: the interactive chart of line has [0-9]+ kB: must be at most 300 kB",
        ),
        (line("data.csv").add_params(TALE), "show: the interactive chart of line takes something from a URL"),
        (line(FEW).add_params(TALE) + alt.Chart(FEW).mark_image(url="a.png"), "from a URL"),
        (line(FEW).add_params(TALE) + alt.Chart(FEW).mark_image().encode(url="url:N"), "from a URL"),
        (line(FEW).add_params(TALE) + alt.Chart(FEW).mark_image().encode(url=alt.value("data:,")), "from a URL"),
        (line(FEW), 'show: the interactive chart of line has no parameter "reading"'),
    ],
)
def test_refused(shown, chart, message):
    with pytest.raises(BadInput, match=message) as caught:
        show(Figure(), "line", "A caption.", "Alt.", interactive=chart)
    assert "\n" not in str(caught.value)
    assert shown == []


# --- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, pytestconfig):
    """A built draft whose one chapter has two interactive figures."""
    root = tmp_path_factory.mktemp("interactive")
    (root / "requirements.lock").write_text("toy==1\n")
    write_chapter(root, interactive=True)
    add_pages(root, pytestconfig.rootpath)
    book.book(Project(root), "smoke")
    return root


def test_the_page_has_static_figures_and_the_charts_as_data(shelf):
    html = (shelf / "_build" / "draft" / "notebooks" / "toy.html").read_text()
    for name, alt_text, caption in (
        ("point", "A &lt;/script&gt; &lt;b&gt; &amp; B.", "A point."),
        ("again", "The same again.", "Once more."),
    ):
        figure = re.search(rf'<figure [^>]*id="toy-{name}">(.*?)</figure>', html, re.S)[1]
        assert f'alt="{alt_text}"' in figure  # the picture that stays without JavaScript
        assert caption in figure and 'class="caption-number"' in figure
        assert html.count(f'<script type="application/json" class="interactive" data-figure="toy-{name}">') == 1
    assert html.count('src="../_static/vega-') == html.count('src="../_static/interactive.js') == 1


def test_the_bundle_is_there_once_and_only_where_it_is_needed(shelf):
    built = shelf / "_build" / "draft"
    (bundle,) = built.rglob("vega*.js")
    assert bundle.stat().st_size < 1_000_000
    using = [path.relative_to(built).as_posix() for path in built.rglob("*.html") if bundle.name in path.read_text()]
    assert using == ["notebooks/toy.html"]


def test_nothing_is_loaded_from_elsewhere(shelf):
    for path in (shelf / "_build" / "draft").rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(.*?)"|<link\b[^>]*\bhref="(.*?)"', path.read_text()
        )
        assert [url for pair in loaded for url in pair if re.match(r"(?:https?:)?//", url)] == [], path.name
    chart = re.search(r'class="interactive".*', (shelf / "_build" / "draft" / "notebooks" / "toy.html").read_text())[0]
    assert "://" not in chart


def test_staging_again_leaves_the_bundle_alone_and_drops_it_when_unused(shelf, ran, tmp_path, pytestconfig):
    pages = book.find_pages(Project(shelf), "smoke")
    staged = nbformat.reads(nbformat.writes(book.staged_notebook(pages[0])), 4)
    assert [c.source for c in staged.cells if c.source.startswith("```{raw}")] == [
        f"```{{raw}} html\n:file: toy-{name}.html\n```" for name in ("point", "again")
    ]
    assert "vega" not in nbformat.writes(staged)  # the notebook stays small
    target = shelf / "_build" / "draft-work" / "source"
    before = (target / book.VEGA).stat().st_mtime_ns
    book.stage(Project(shelf), pages, target, draft=True)
    assert (target / book.VEGA).stat().st_mtime_ns == before
    whole = (target / book.VEGA).read_bytes()
    (target / book.VEGA).write_bytes(whole[:5000])  # as a build that was killed may leave it
    book.stage(Project(shelf), pages, target, draft=True)
    assert (target / book.VEGA).read_bytes() == whole
    add_pages(tmp_path, pytestconfig.rootpath)  # and now with a run that moves nothing
    book.stage(Project(tmp_path), book.find_pages(ran, "smoke"), target, draft=True)
    assert not list(target.rglob("vega*")) and not list(target.rglob("toy-*.html"))


# --- in a browser -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(shelf):
    """Address of the built pages on a local web server."""
    with served(shelf / "_build" / "draft") as address:
        yield address


class Toy(Visit):
    """The toy chapter's page, open in a tab."""

    def __init__(self, browser, site, **options):
        super().__init__(browser, site, **options)
        self.page.goto(f"{site}/notebooks/toy.html")
        self.figure = self.page.locator("#toy-point")
        self.slider, self.menu = self.figure.get_by_label("stop"), self.figure.get_by_label("kind")

    def drawing(self):
        return self.figure.locator("svg .mark-symbol path").get_attribute("transform")

    def wait_for(self, text):
        self.page.locator("#toy-point .reading", has_text=text).wait_for()


@pytest.fixture
def visit(browser, site):
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Toy(browser, site, **options))


@without_browser
def test_a_reader_moves_it_by_keyboard_and_by_mouse(visit):
    seen = visit()
    seen.wait_for("Stop 0: value 0.1. tall")
    first = seen.drawing()
    seen.slider.focus()
    seen.page.keyboard.press("ArrowRight")
    seen.wait_for("Stop 1: value 0.11. tall")
    assert seen.slider.get_attribute("aria-valuetext") == "Stop 1: value 0.11. tall"
    assert seen.slider.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"  # the focus is visible
    assert seen.drawing() != first
    seen.slider.scroll_into_view_if_needed()
    box = seen.slider.bounding_box()
    seen.page.mouse.click(box["x"] + 3, box["y"] + box["height"] / 2)
    seen.wait_for("Stop 0: value 0.1. tall")
    assert seen.drawing() == first
    seen.page.keyboard.press("Tab")
    seen.page.keyboard.press("ArrowDown")
    assert seen.menu.input_value() == "flat"
    seen.wait_for("Stop 0: value 0.1. flat")
    assert seen.page.locator("#toy-again .reading").inner_text() == "Stop 0: value 0.1. tall"  # each moves for itself
    assert seen.strays == [] and seen.errors == []


@without_browser
def test_caption_and_description_stay_and_the_picture_is_folded(visit):
    seen = visit()
    seen.wait_for("Stop 0")
    assert seen.figure.locator("figcaption").inner_text().startswith("Fig. 2 A point.")
    assert seen.figure.get_by_label("A </script> <b> & B.").count() == 1  # the drawing's name for screen readers
    picture = seen.figure.locator("img")
    assert not picture.is_visible()
    seen.figure.locator("summary").click()
    assert picture.is_visible()


@without_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(visit, scheme):
    seen = visit(viewport={"width": 390, "height": 844}, color_scheme=scheme)
    seen.wait_for("Stop 0")
    assert seen.page.evaluate("document.documentElement.scrollWidth") <= 390
    box = seen.figure.locator("svg").bounding_box()
    assert box["x"] >= 0 and 250 < box["width"] <= 390
    ground, ink = seen.figure.locator(".interactive").evaluate(
        "e => [getComputedStyle(e).backgroundColor, getComputedStyle(e).color]"
    )
    assert (ground, ink) == ("rgb(255, 255, 255)", "rgb(34, 34, 34)")


@without_browser
def test_without_javascript_the_static_figure_stands(visit):
    seen = visit(java_script_enabled=False)
    assert seen.figure.locator("img").is_visible()
    assert seen.figure.locator("figcaption").inner_text().startswith("Fig. 2 A point.")
    assert seen.page.locator(".reading").count() == 0
