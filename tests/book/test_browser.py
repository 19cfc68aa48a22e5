"""The built book as readers meet it, in a browser: the draft, or the book in the folder that BOOK names.

`make browser` builds the draft first and runs this; nothing here is about one chapter.
"""

import itertools
import os
import re
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, unquote, urldefrag, urlsplit

import pytest
from bs4 import BeautifulSoup
from conftest import Visit, served, without_browser

from phenomena.runs.store.chapters import Project

ROOT = Path(__file__).parents[2]
BOOK = ROOT / os.environ.get("BOOK", "_build/draft")
AXE = ROOT / ".tests" / "axe_playwright_python" / "axe.min.js"
FILES = [path.relative_to(BOOK) for path in BOOK.rglob("*.html")]
PAGES = sorted(path.as_posix() for path in FILES if not path.parts[0].startswith("_"))  # not those of the tools
GLOSSARY = BOOK / "book" / "glossary.html"
BUDGET = 1_500_000  # bytes of a page beside shared scripts and styles
SIZE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
CLIPBOARD = {"permissions": ["clipboard-read", "clipboard-write"]}
TYPESET = "[...document.querySelectorAll('.math')].every(m => m.querySelector('mjx-container:not(:empty)'))"

CHAPTERS = [page for page in PAGES if page.startswith("notebooks/")]

each = pytest.mark.parametrize("page", PAGES)
each_opened = pytest.mark.parametrize("opened", PAGES, indirect=True, scope="module")
each_fresh = pytest.mark.parametrize("fresh", CHAPTERS, indirect=True, scope="module")
pytestmark = without_browser


@pytest.fixture(scope="module")
def places():
    """Where a reader finds the book: on a web server of this machine and in a folder."""
    assert PAGES, f"no pages in {BOOK}: make draft"
    with served(BOOK) as site:
        yield {"http": site, "file": BOOK.as_uri()}


@contextmanager
def opening(browser, places):
    """Opens pages, each in a tab of its own, and sees at the end that none sent a request out or complained."""
    visits = []

    def go(page, place="http", **options):
        seen = Visit(browser, places[place], **{"viewport": SIZE, **options})
        visits.append(seen)
        seen.page.goto(f"{places[place]}/{page}")
        seen.page.wait_for_function(TYPESET)
        for source in seen.page.locator("script.interactive").all():
            seen.page.locator(f"#{source.get_attribute('data-figure')} .reading").wait_for()
        return seen

    yield go
    for seen in visits:
        strays, errors = seen.strays, seen.errors
        seen.context.close()
        assert strays == [] and errors == []


@pytest.fixture
def visit(browser, places):
    with opening(browser, places) as go:
        yield go


@pytest.fixture(scope="module")
def opened(request, browser, places):
    """A page on a wide screen, unfolded, for all the tests that only look at it: loading is most of their time."""
    with opening(browser, places) as go:
        seen = go(request.param, **CLIPBOARD)
        unfold(seen.page)
        seen.page.wait_for_timeout(300)  # some buttons come with a script that is waited for
        yield seen


@pytest.fixture(scope="module")
def fresh(request, browser, places):
    """A chapter's page as it opens, for tests that use it one after the other, in the order in which they stand."""
    with opening(browser, places) as go:
        yield go(request.param, **CLIPBOARD)


def unfold(tab):
    tab.evaluate("document.querySelectorAll('details').forEach(folded => folded.open = true)")


def test_there_are_pages_of_every_kind():
    assert {"index.html", "search.html", "genindex.html", "book/results.html", "book/runs.html"} <= set(PAGES)
    assert {f"notebooks/{path.stem}.html" for path in (ROOT / "notebooks").glob("*.ipynb")} <= set(PAGES)


def test_no_link_or_image_is_broken_inside_the_book():
    soups = {page: BeautifulSoup((BOOK / page).read_text(encoding="utf-8"), "html.parser") for page in PAGES}
    anchors = {page: {tag["id"] for tag in soup.find_all(id=True)} for page, soup in soups.items()}
    broken, seen = [], 0
    for page, soup in soups.items():
        for tag in soup.find_all(["a", "img", "script", "link", "source"]):
            url = tag.get("href") or tag.get("src")
            if not url or ":" in url.split("/")[0]:
                continue
            path, anchor = urldefrag(url)
            target = (BOOK / page).parent / unquote(path.split("?")[0]) if path else BOOK / page
            seen += 1
            name = target.resolve().relative_to(BOOK).as_posix() if target.is_file() else None
            if name is None or (anchor and name in anchors and unquote(anchor) not in anchors[name]):
                broken.append(f"{page}: {url}")
    assert broken == []
    assert seen > 20 * len(PAGES)


def test_no_anchor_stands_twice_on_a_page():
    for page in PAGES:
        soup = BeautifulSoup((BOOK / page).read_text(encoding="utf-8"), "html.parser")
        ids = [tag["id"] for tag in soup.select("article [id]")]
        assert len(ids) == len(set(ids)), f"{page}: {sorted({i for i in ids if ids.count(i) > 1})}"


def test_every_claim_of_every_chapter_has_an_address_and_the_results_lead_there():
    results = BeautifulSoup((BOOK / "book" / "results.html").read_text(encoding="utf-8"), "html.parser")
    links = {tag["href"] for tag in results.select("table.claims a")}
    for chapter in Project(ROOT).chapters():
        page = f"notebooks/{chapter.name}.html"
        soup = BeautifulSoup((BOOK / page).read_text(encoding="utf-8"), "html.parser")
        wanted = {f"claim-{claim.name}" for claim in chapter.file.claims}
        assert {tag["id"] for tag in soup.select("article .claim")} == wanted, page
        assert {f"../{page}#{name}" for name in wanted} <= links, page
        assert len(soup.select("article .claim svg[role=img][aria-label]")) == len(wanted), page


@pytest.mark.parametrize("place", ["http", "file"])
def test_the_results_are_filtered_by_a_link_and_by_hand(visit, place):
    tab = visit("book/results.html?verdict=contradicted", place).page
    badges, status = tab.locator("table.claims tr:visible .verdict"), tab.locator("p.shown[role=status]")
    assert set(badges.all_inner_texts()) <= {"contradicted"}
    assert status.inner_text().startswith(f"{badges.count()} of ")
    tab.get_by_role("combobox", name="verdict").select_option("reproduced")
    assert set(badges.all_inner_texts()) == {"reproduced"}
    assert tab.url.endswith("?verdict=reproduced")


@each_opened
def test_a_page_is_whole_and_not_heavy(opened):
    check_whole(opened)
    sizes = {r.url: len(r.body()) for r in opened.responses if r.ok and "/_static/" not in r.url}
    assert 0 < sum(sizes.values()) <= BUDGET


@each
def test_a_page_is_whole_and_moves_in_a_folder(visit, page):
    seen = visit(page, "file")
    if page in CHAPTERS:
        check_moves(seen.page)
    unfold(seen.page)
    check_whole(seen)


def check_whole(seen):
    """Formulas, letters and pictures are there; pictures that were folded are loaded once they are unfolded."""
    tab = seen.page
    tab.wait_for_function("[...document.images].every(image => image.complete)")
    assert tab.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)") == []
    assert tab.locator("mjx-merror").count() == 0
    fonts = dict(tab.evaluate("document.fonts.ready.then(() => [...document.fonts].map(f => [f.family, f.status]))"))
    assert "error" not in fonts.values()
    assert fonts.get("MJXTEX") == "loaded" or tab.locator(".math").count() == 0
    assert tab.locator("html").get_attribute("lang") == "en"
    assert tab.locator("main").count() == 1
    assert tab.locator("h1:visible").count() == 1


@each
def test_a_phone_does_not_scroll_sideways(visit, page):
    tab = visit(page, viewport=PHONE).page
    unfold(tab)
    tab.wait_for_timeout(300)
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    cut = """texts => texts.filter(text => {
        const end = (box) => box.getBoundingClientRect().right;
        return end(text) > end(text.closest("svg")) + 1;
    }).map(text => text.textContent)"""
    assert tab.locator(".interactive svg text").evaluate_all(cut) == []


@each_opened
def test_axe_finds_nothing_serious_in_the_light(opened):
    check_accessible(opened.page, "light")
    opened.page.set_viewport_size(SIZE)


@each
def test_axe_finds_nothing_serious_in_the_dark(visit, page):
    tab = visit(page, color_scheme="dark").page
    unfold(tab)
    tab.wait_for_timeout(300)
    check_accessible(tab, "dark")


def check_accessible(tab, scheme):
    """Contrast, names, roles, keyboard: what is folded is opened, so that it is checked as well."""
    assert tab.locator("html").get_attribute("data-theme") == scheme
    assert violations(tab) == []
    tab.set_viewport_size(PHONE)
    tab.wait_for_timeout(500)
    assert violations(tab, runOnly=["scrollable-region-focusable", "aria-hidden-focus", "nested-interactive"]) == []


def violations(tab, within="html", **options):
    tab.evaluate(AXE.read_text(encoding="utf-8"))
    options |= {"resultTypes": ["violations"], "preload": False}  # style sheets are not asked for once more
    found = tab.evaluate("([within, options]) => axe.run(document.querySelector(within), options)", [within, options])
    return [
        f"{v['id']}: {v['nodes'][0]['html'][:200]} {v['nodes'][0]['failureSummary']} and {len(v['nodes']) - 1} others"
        for v in found["violations"]
        if v["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_would_find_something(browser, scheme):
    """The check above can fail: grey words on grey."""
    tab = browser.new_page(color_scheme=scheme)
    tab.set_content("<html lang=en><title>x</title><main><p style='color:#777;background:#888'>Words.</p><img src=x>")
    found = violations(tab)
    tab.close()
    assert [line.partition(":")[0] for line in found] == ["color-contrast", "image-alt"]


@pytest.mark.parametrize("place", ["http", "file"])
def test_search_finds_a_term(visit, place):
    """The first term of the glossary, or a word of the chapters in a book without one."""
    words = BeautifulSoup(GLOSSARY.read_text(), "html.parser").select("dl.glossary dt") if GLOSSARY.exists() else []
    word = words[0].find(string=True) if words else "mixup"
    tab = visit("index.html", place).page
    tab.keyboard.press("Control+k")
    tab.keyboard.type(word)
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/search.html?**")
    results = tab.locator("#search-results li a")
    results.first.wait_for()
    tab.get_by_text("Search finished, found").wait_for()
    (results if not words else tab.locator("#search-results li a[href*='glossary.html']")).first.click()
    tab.wait_for_load_state()
    assert word.lower() in tab.locator("article").inner_text().lower()


@each_opened
def test_every_command_can_be_copied(opened):
    """In blocks, and in lines of text, those of exercises included; of what a terminal shows, commands alone."""
    tab = opened.page
    inline = tab.locator("article code:not(pre code):not(a code):not(:is(h1, h2, h3, summary) code)")
    commands = [code for code in inline.all() if re.match(r"(phenomena|make|papermill|git) \w", code.inner_text())]
    for code in commands:
        button = code.locator("xpath=following-sibling::*[1]")
        assert button.get_attribute("class") == "copy", code.inner_text()
        assert button.get_attribute("aria-label") == f"copy {code.inner_text()}"
    for code in commands[:1]:
        code.locator("xpath=following-sibling::*[1]").click()
        tab.locator("button.copy", has_text="copied").wait_for()
        assert copied(tab) == code.inner_text()
    blocks = tab.locator(":is(.highlight-sh, .highlight-console, .highlight-bash, .highlight-shell) pre")
    for block in blocks.all():
        block.hover()
        button = block.locator("xpath=following-sibling::button[contains(@class, 'copybtn')]")
        button.click()
        shown = block.inner_text().rstrip("\n")
        prompted = [line.removeprefix("$ ") for line in shown.splitlines() if line.startswith("$ ")]
        assert copied(tab).rstrip("\n") == ("\n".join(prompted) or shown)


@each_opened
def test_every_figure_has_a_link_to_itself(opened):
    tab = opened.page
    for number, figure in enumerate(tab.locator("figure[id]:has(.caption-number)").all()):
        link = figure.locator("figcaption a.headerlink")
        assert link.inner_text() == "link"
        assert link.get_attribute("href") == f"#{figure.get_attribute('id')}"
        link.focus()
        tab.wait_for_function("link => getComputedStyle(link).opacity === '1'", arg=link.element_handle())
        if number == 0:
            address = f"{tab.url.partition('#')[0]}#{figure.get_attribute('id')}"
            tab.keyboard.press("Enter")
            tab.wait_for_url(address)
            assert copied(tab) == address


def copied(tab):
    return tab.evaluate("navigator.clipboard.readText()")


@each_fresh
def test_a_chapter_begins_with_its_figure_and_its_verdicts(fresh):
    tab = fresh.page
    place = "e => { const r = e.getBoundingClientRect(); return [r.top, r.bottom]; }"
    chart, headlines = (tab.locator(f"article {what}").first.evaluate(place) for what in ("figure", "ul.headlines"))
    assert chart[0] < 500, "half a screen of words at most"
    assert chart[1] <= headlines[0] < 1500, "the verdicts follow"
    assert tab.locator("article ul.headlines li").count() == 3
    assert tab.locator("article figure").first.locator(".interactive, img").count() > 0


@each_fresh
def test_a_control_moves_its_figure_and_has_ticks_and_a_place_in_the_address(fresh, visit):
    tab = fresh.page
    assert "?" not in tab.url
    page = urlsplit(tab.url).path.lstrip("/")
    figure = tab.locator("figure:has(.interactive)").first
    control, reading = figure.locator("input[type=range]").first, figure.locator(".reading")
    elsewhere = "End" if control.evaluate("c => c.value !== c.max") else "Home"  # its first place is not in the address
    check_moves(tab)
    label = figure.locator("label:has(input[type=range])").first
    assert label.locator(".ticks span").count() >= 2 and label.locator("output").inner_text()
    control.focus()
    tab.keyboard.press(elsewhere)
    tab.wait_for_timeout(150)
    name = control.get_attribute("name")
    assert name in parse_qs(urlsplit(tab.url).query) and reading.inner_text()
    said, value = reading.inner_text(), label.locator("output").inner_text()
    again = visit(f"{page}?{tab.url.partition('?')[2]}").page
    figure = again.locator("figure:has(.interactive)").first
    assert (figure.locator(".reading").inner_text(), figure.locator("output").first.inner_text()) == (said, value)
    strange = visit(f"{page}?{name}=nothing").page  # is left alone
    assert strange.locator("figure:has(.interactive) .reading").first.inner_text() != said


def check_moves(tab):
    """The first control of the first figure moves it by keyboard and by mouse."""
    figure = tab.locator("figure:has(.interactive)").first
    control, reading = figure.locator("input[type=range], select").first, figure.locator(".reading")
    drawing = figure.locator("svg").first
    states = [(reading.inner_text(), drawing.inner_html())]
    control.focus()
    for key in ("Home", "End"):
        tab.keyboard.press(key)
        tab.wait_for_timeout(100)
        states.append((reading.inner_text(), drawing.inner_html()))
    assert len({text for text, _ in states}) > 1 and len({svg for _, svg in states}) > 1
    if control.evaluate("control => control.type") == "range":
        control.click(position={"x": 3, "y": control.bounding_box()["height"] / 2})  # waits until it stands still
        tab.wait_for_timeout(100)
        assert reading.inner_text() == states[1][0]


@each_fresh
def test_code_is_folded_under_names_and_no_wider_than_the_page(fresh):
    tab = fresh.page
    folds = tab.locator("article div.cell:not(.tag_plumbing) details.hide")
    names = [name.strip() for name in folds.locator("summary").all_inner_texts()]
    assert len(names) > 5 and all(name.startswith("Code: ") for name in names)
    assert [a for a, b in itertools.pairwise(names) if a == b] == []
    assert tab.locator("article div.cell details.hide[open]").count() == 0
    tab.get_by_role("button", name="Show all code").click()
    assert tab.locator("article div.cell details.hide:not([open])").count() == 0
    wide = "blocks => blocks.filter(b => b.scrollWidth > b.clientWidth + 1).map(b => b.textContent.slice(0, 80))"
    assert tab.locator("article .cell_input pre").evaluate_all(wide) == []
    tab.reload()
    tab.wait_for_load_state()
    assert tab.locator("article div.cell details.hide:not([open])").count() == 0, "the choice is remembered"


@each_fresh
def test_the_form_gives_the_pages_own_command_and_takes_a_seed(fresh):
    tab = fresh.page
    unfold(tab)
    command, form = tab.locator(".run-command pre"), tab.locator("form.run-form")
    own = command.inner_text()
    assert own.startswith("phenomena run ")
    form.locator("details").evaluate("folded => folded.open = true")
    form.get_by_label("seed", exact=True).fill("7")
    assert command.inner_text() == f"{own} -p seed=7"
    assert tab.locator(".run-papermill pre").inner_text().startswith("papermill notebooks/")
    assert parse_qs(urlsplit(tab.url).query)["run.seed"] == ["7"]
    form.get_by_label("seed", exact=True).fill("-1")
    assert "seed='-1' is not accepted: int, at least 0" in form.get_by_role("status").inner_text()
    assert violations(tab, "form.run-form") == []


@each_opened
def test_no_markup_is_left_and_no_formula_is_cut(opened):
    tab = opened.page
    words = """e => { const copy = e.cloneNode(true);
        copy.querySelectorAll("pre, code, script, style, mjx-container").forEach(part => part.remove());
        return copy.innerText }"""
    text = tab.locator("main").evaluate(words)
    assert not re.search(r"^\s*\|.*\|\s*$|\|\s*:?-{3,}|\{\{|\{[a-z:]+\}`|\]\(\.\./", text, re.MULTILINE)
    cut = "sums => sums.filter(m => m.scrollWidth > m.clientWidth + 1).map(m => m.textContent.slice(0, 80))"
    assert tab.locator("article div.math").evaluate_all(cut) == []


def test_a_reader_changes_between_light_and_dark(visit):
    tab = visit("index.html").page
    html, ground = tab.locator("html"), "getComputedStyle(document.body).backgroundColor"
    seen = set()
    for _ in range(3):  # light, dark, as the system has it
        tab.get_by_role("button", name="light/dark").click()
        seen.add((html.get_attribute("data-theme"), tab.evaluate(ground)))
    assert len(seen) == 2
    assert len({colour for _, colour in seen}) == 2
