"""The book as one PDF, printed from the pages that BOOK names: see test_browser."""

import re
import shutil
import subprocess
import sys

import pytest
from bs4 import BeautifulSoup
from conftest import without_browser
from test_browser import BOOK

from phenomena.runs.book import pdf
from phenomena.runs.contract.errors import BadInput


def read(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def whole():
    return BeautifulSoup(pdf.one_page(BOOK, {}), "html.parser")


@pytest.fixture(scope="module")
def printed():
    path = BOOK.with_suffix(".pdf")
    done = subprocess.run(
        [sys.executable, "-m", "phenomena.runs.book.pdf", str(BOOK), str(path)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr  # something is wider than the paper
    assert pdf.pages(path) > 50
    return path


def test_every_link_of_the_whole_leads_somewhere(whole):
    anchors = [tag["id"] for tag in whole.select("main [id]")]
    assert len(anchors) == len(set(anchors))
    links = {tag["href"] for tag in whole.select("a[href]")}
    assert {link for link in links if not link.startswith(("#", "http"))} == set()
    assert {link[1:] for link in links if link.startswith("#")} - set(anchors) == set()


def test_every_page_of_the_book_is_in_it_and_what_is_folded_is_open(whole):
    pages = {
        path.relative_to(BOOK).as_posix() for folder in ("book", "notebooks") for path in BOOK.glob(f"{folder}/*.html")
    }
    assert whole.select("section.part")[0]["id"] == "index"
    assert {part["id"] for part in whole.select("section.part")} == {
        pdf.part_id(page) for page in pages | {"index.html", "genindex.html"}
    }
    assert whole.select("details") and not whole.select("details:not([open])")


@without_browser
def test_every_figure_title_and_number_is_on_paper(whole, printed):
    images = [line.split()[2] for line in read("pdfimages", "-list", printed).splitlines()[2:]]
    assert images.count("image") == len(whole.select("main img")) > 10
    pages = read("pdftotext", "-layout", printed, "-").split("\f")
    starts = pdf.destinations(printed)
    contents = " ".join(pages[1:3])
    for part in whole.select("section.part"):
        title = pdf.words(part.select_one("h1"))
        number = starts[part["id"]]
        assert title in " ".join(pages[number - 1].split()), f"{title} begins on page {number}"
        assert re.search(rf"\n\s*{number}\s*$", pages[number - 1].rstrip()), "the page's own number"
        entry = pdf.words(whole.select_one(f"nav a[href='#{part['id']}']"))
        assert re.search(rf"{re.escape(entry)}\s+{number}\n", contents), f"{entry} stands in the contents with {number}"
    captions = [tag.get_text(" ", strip=True) for tag in whole.select("main .caption-number")]
    text = re.sub(r"\s+", " ", " ".join(pages))
    assert captions and [caption for caption in captions if caption not in text] == []
    for verdict in ("reproduced", "inconclusive", "contradicted"):
        assert text.count(verdict) >= len(whole.select(f"main .verdict.{verdict}")) > 0
    assert "file:" not in read("pdfinfo", "-url", printed)


@without_browser
def test_a_folder_without_a_book_is_refused(tmp_path, monkeypatch):
    with pytest.raises(BadInput, match=r"no book in .*: build one first") as caught:
        pdf.pdf(tmp_path, tmp_path / "x.pdf")
    assert "\n" not in str(caught.value)
    (tmp_path / "index.html").touch()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(BadInput, match="Debian's packages chromium and poppler-utils"):
        pdf.pdf(tmp_path, tmp_path / "x.pdf")
