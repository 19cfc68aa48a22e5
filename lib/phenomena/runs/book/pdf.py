"""The built book as one PDF: its pages one after the other, printed by Chromium.

    python -m phenomena.runs.book.pdf _build/html _build/phenomena.pdf

Takes the built pages and nothing else, so that both have the same words, numbers and figures. It is printed twice: the
first pass finds the page on which each part begins, and the second has the numbers in the table of contents.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path, PurePosixPath
from urllib.parse import urldefrag

from bs4 import BeautifulSoup, Tag

from phenomena.runs.contract.errors import BadInput, RunFailed

PRINTED = "_printed.html"  # beside the pages while it is printed, so that its figures are found
LEFT_OUT = "script, style, .headerlink, .toctree-wrapper, .tableofcontents-wrapper, button, .no-print"
WIDTH = 665  # pixels of CSS between the margins of a page
FIT = """for (const formula of document.querySelectorAll("mjx-container[display]")) {
    const share = formula.clientWidth / formula.scrollWidth;
    if (share < 1) formula.style.fontSize = `${Math.floor(share * parseFloat(getComputedStyle(formula).fontSize))}px`;
}"""  # a formula that is wider than the paper becomes smaller
WIDE = """[...document.querySelectorAll("section.part *")]
    .filter(box => box.getBoundingClientRect().right > innerWidth + 1 && !box.closest("mjx-assistive-mml"))
    .map(box => box.outerHTML.slice(0, 200))"""


def pdf(site: Path, target: Path) -> int:
    """Prints the built pages in a folder; returns the number of the PDF's pages.

    Raises `BadInput` where there are no pages or no tool, and `RunFailed` for what is wider than the paper.
    """
    from playwright.sync_api import sync_playwright  # only here: a reader of the book needs no browser of ours

    if not (site / "index.html").is_file():
        raise BadInput(f"pdf: no book in {site}: build one first, `make book` or `make draft`")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium or not shutil.which("pdfinfo"):
        raise BadInput("pdf: chromium and pdfinfo are needed: Debian's packages chromium and poppler-utils")
    printed = (site / PRINTED).resolve()
    try:
        with sync_playwright() as play:
            browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            numbers: dict[str, int] = {}
            for _ in range(2):
                printed.write_text(one_page(site, numbers), encoding="utf-8")
                tab = browser.new_page(viewport={"width": WIDTH, "height": 900}, color_scheme="light")
                tab.set_default_timeout(300_000)
                tab.emulate_media(media="print")
                tab.goto(printed.as_uri())
                tab.evaluate("MathJax.startup.promise.then(() => document.fonts.ready).then(() => true)")
                tab.evaluate(FIT)
                too_wide = tab.evaluate(WIDE)
                if too_wide:
                    raise RunFailed(f"pdf: {len(too_wide)} things are wider than the paper; the first: {too_wide[0]}")
                tab.pdf(path=target, prefer_css_page_size=True, print_background=True, outline=True, tagged=True)
                tab.close()
                numbers = destinations(target)
            browser.close()
    finally:
        printed.unlink(missing_ok=True)
    return pages(target)


def destinations(path: Path) -> dict[str, int]:
    """On which page of a PDF each of its destinations lies."""
    printed = subprocess.run(["pdfinfo", "-dests", str(path)], capture_output=True, text=True, check=True).stdout
    return {name: int(page) for page, name in re.findall(r'^ *(\d+) \[.*\] "(.*)"$', printed, re.MULTILINE)}


def pages(path: Path) -> int:
    """How many pages a PDF has."""
    printed = subprocess.run(["pdfinfo", str(path)], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"^Pages: +(\d+)", printed, re.MULTILINE)[0])


def one_page(site: Path, numbers: dict[str, int]) -> str:
    """All pages of the book as one: title, table of contents with the numbers as far as they are known, the parts."""
    index = BeautifulSoup((site / "index.html").read_text(encoding="utf-8"), "html.parser")
    contents, parts = [], []
    for entry in index.select("nav.bd-docs-nav p.caption, nav.bd-docs-nav a.reference.internal"):
        if entry.name == "p":
            contents.append(f"<p class='caption'>{words(entry)}</p>")
            continue
        href = str(entry["href"])
        page = "index.html" if href == "#" else href
        number = numbers.get(part_id(page), "")
        contents.append(f"<p><a href='#{part_id(page)}'>{words(entry)}</a><span></span><b>{number}</b></p>")
        parts.append(str(part(site, page)))
    title = index.select_one("title")
    name = title.get_text(strip=True).rpartition(" — ")[2] if title else ""
    head = [str(tag) for tag in index.select("head link[rel=stylesheet], head script") if _needed(tag)]
    notice = index.select_one(".bd-header-announcement")
    return "\n".join(
        ["<!doctype html><html lang='en' data-theme='light'><head><meta charset='utf-8'>", f"<title>{name}</title>",
         *head, "</head><body class='printed'><header>", f"<p class='title'>{name}</p>",
         f"<p>{notice.get_text(strip=True)}</p>" if notice else "", "</header>",
         "<nav aria-label='Contents'><h1>Contents</h1>", *contents, "</nav><main>", *parts, "</main></body></html>"]
    )  # fmt: skip


def _needed(tag: Tag) -> bool:
    """Whether a style or script of the pages is needed on paper: formulas are typeset by one, nothing moves."""
    return tag.name == "link" or "mathjax" in str(tag).lower()


def words(tag: Tag) -> str:
    """A tag's text, its number apart from its words."""
    return " ".join(tag.get_text().split())


def part_id(page: str) -> str:
    """The anchor at which a page begins."""
    return re.sub(r"\W+", "-", page.removesuffix(".html"))


def part(site: Path, page: str) -> Tag:
    """The article of a page with its folded parts open; its anchors, links and figures are those of the whole."""
    soup = BeautifulSoup((site / page).read_text(encoding="utf-8"), "html.parser")
    article = soup.select_one("article")
    if article is None:
        raise BadInput(f"pdf: {page} has no article")
    for tag in article.select(LEFT_OUT):
        tag.decompose()
    for tag in article.select("details"):
        tag["open"] = ""
    for tag in article.select("[id]"):
        tag["id"] = f"{part_id(page)}--{tag['id']}"
    for tag in article.select("[src]"):
        tag["src"] = _from_top(page, str(tag["src"]))
        del tag["loading"]
    for tag in article.select("a[href]"):
        target = _link(page, str(tag["href"]))
        if target:
            tag["href"] = target
        else:  # a file beside the pages
            tag.unwrap()
    article.name, article["class"], article["id"] = "section", "part bd-article", part_id(page)
    return article


def _from_top(page: str, path: str) -> str:
    """A path that is relative to a page, relative to the book's folder."""
    return path if ":" in path else os.path.normpath(PurePosixPath(page).parent / path)


def _link(page: str, href: str) -> str | None:
    """Where a page's link leads in the whole; none for what is not in it."""
    if ":" in href.split("/")[0]:
        return href
    path, anchor = urldefrag(href)
    name = _from_top(page, path) if path else page
    if not name.endswith(".html"):
        return None
    return f"#{part_id(name)}--{anchor}" if anchor else f"#{part_id(name)}"


if __name__ == "__main__":
    try:
        site, target = map(Path, sys.argv[1:])
        print(f"{target}: {pdf(site, target)} pages")
    except (BadInput, RunFailed) as error:
        sys.exit(f"phenomena: {error}")
