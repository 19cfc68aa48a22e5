"""What machines and other sites take: the map, the cards, the results as data."""

import io
import json
import re
import shutil
from contextlib import redirect_stdout
from pathlib import Path

import pytest
import yaml
from bs4 import BeautifulSoup
from conftest import CHAPTER, add_pages
from PIL import Image

from phenomena.runs.book import build as book
from phenomena.runs.book import images, sharing
from phenomena.runs.book.results import data_files
from phenomena.runs.store.chapters import Project

ROOT = Path(__file__).parents[2]
URL = "https://github.com/someone/phenomena"


@pytest.fixture(scope="module")
def shelf(ran, tmp_path_factory, pytestconfig):
    """The toy project, already run, with a front figure, and its built draft."""
    root = tmp_path_factory.mktemp("sharing") / "shelf"
    shutil.copytree(ran.root, root)
    chapter = {**CHAPTER, "front": {"figure": "line", "claims": ["apart"]}}
    (root / "notebooks" / "toy.yaml").write_text(yaml.safe_dump(chapter, sort_keys=False))
    add_pages(root, pytestconfig.rootpath)
    book.book(Project(root), "smoke")
    return Project(root)


def configured(project, **keys):
    path = project.root / "_config.yml"
    path.write_text(yaml.safe_dump({**yaml.safe_load((ROOT / "_config.yml").read_text()), **keys}))


def built(project):
    return project.root / "_build" / "draft"


def test_the_map_has_a_line_for_every_page_and_for_the_data(shelf):
    text = (built(shelf) / "llms.txt").read_text()
    assert text.startswith("# Toys\n\n> Claims: ")
    assert "\n## Chapters\n\n- [Toy](notebooks/toy.html): A chapter for tests.\n" in text
    linked = re.findall(r"^- \[[^\]]+\]\(([^)]+)\)", text, re.M)
    assert all((built(shelf) / path).is_file() for path in linked)
    toc = yaml.safe_load((shelf.root / "book" / "_toc.yml").read_text())
    listed = {f"{entry['file']}.html" for part in toc["parts"] for entry in part["chapters"]}
    assert set(linked) == listed | {"downloads/results.json", "downloads/runs.json"}


def tags(path):
    soup = BeautifulSoup(path.read_text(), "html.parser")
    return {tag.get("property") or tag.get("name"): tag["content"] for tag in soup.select("head meta[content]")}


def test_every_page_has_a_card_with_a_picture_that_is_there(shelf):
    pages = [path for path in built(shelf).rglob("*.html") if "_static" not in path.parts]
    pages = [path for path in pages if path.stem not in ("search", "genindex")]
    assert len(pages) > 5
    for path in pages:
        found = tags(path)
        assert found["og:title"] and found["og:site_name"] == "Toys"
        assert found["twitter:card"] == "summary_large_image"
        assert "og:url" not in found  # the address of the site is not known
        with Image.open((path.parent / found["og:image"]).resolve()) as picture:
            assert picture.size == images.CARD == (1200, 630)
        assert (int(found["og:image:width"]), int(found["og:image:height"])) == images.CARD
    own = tags(built(shelf) / "notebooks" / "toy.html")
    assert own["og:title"] == "Toy"
    assert own["og:description"] == own["description"] == "A chapter for tests."
    assert own["og:image"] == "../cards/toy.png"
    assert own["og:image:alt"] == "A line that rises."


def test_where_the_address_is_known_cards_and_map_name_it(shelf):
    files = {p.relative_to(shelf.root).as_posix(): p.read_bytes() for p in shelf.root.glob("**/*.md")}
    files |= {f"book/{name}.md": b"# Compiled\n" for name in ("results", "ladder", "runs")}
    files["book/_toc.yml"] = (shelf.root / "book" / "_toc.yml").read_bytes()
    pages = book.find_pages(shelf, "smoke")
    try:
        for keys, address in (
            ({}, ""),
            ({"repository": {"url": URL}}, "https://someone.github.io/phenomena/"),
            ({"repository": {"url": URL}, "html": {"baseurl": "https://toys.example"}}, "https://toys.example/"),
        ):
            configured(shelf, **keys)
            assert sharing.site(shelf) == address
            told = json.loads(sharing.cards(shelf, files, pages)[0])
            head = sharing.head(told, "notebooks/toy")
            assert f'property="og:image" content="{address or "../"}cards/toy.png"' in head
            assert (f'property="og:url" content="{address}notebooks/toy.html"' in head) == bool(address)
            assert f"- [Toy]({address}notebooks/toy.html): " in sharing.llms_txt(shelf, files, pages).decode()
    finally:
        configured(shelf)


def test_what_stands_in_a_card_cannot_end_its_tag():
    card = {"title": 'A "b" <c>', "description": ""}
    head = sharing.head({"site": "", "book": "B", "pages": {"x": card}}, "x")
    assert 'content="A &quot;b&quot; &lt;c&gt;"' in head and "summary_large_image" not in head


@pytest.mark.parametrize(
    ("text", "title", "sentence"),
    [
        ("# A\n\nThe {term}`mean <mean of all>` of **all** [runs](runs.md). More.\n", "A", "The mean of all runs."),
        ("(x)=\n# A\n\n```{include} b\n```\n", "A", ""),
        ("# A\n\n:::{index} b\n:::\n\nIn a checkout,\n\n```sh\nmake\n```\n", "A", "In a checkout"),
    ],
)
def test_a_page_is_described_by_its_first_sentence(text, title, sentence):
    assert sharing.about(text) == (title, sentence)


def test_a_card_shrinks_a_title_that_is_too_long():
    png = io.BytesIO()
    Image.new("RGB", (300, 900), "navy").save(png, "PNG")
    for title in ("Short", "A title that goes on and on " * 4):
        drawn = Image.open(io.BytesIO(images.card(png.getvalue(), title))).convert("RGB")
        assert drawn.size == images.CARD
        assert {drawn.getpixel((x, y)) for x in (0, 1199) for y in range(630)} == {
            (255, 255, 255)
        }  # within the margins


# --- results.json -----------------------------------------------------------------------------------------------------

GUIDE = (ROOT / "book" / "how_to_rerun.md").read_text().partition("## The results as data")[2].partition("\n## ")[0]
JSON_TYPES = {"string": str, "number": (int, float), "integer": int, "boolean": bool, "null": type(None)}


def test_every_field_of_the_results_is_described_with_its_type(shelf):
    rows = re.findall(r"^\| (`[^|]+`) \| ([^|]+) \| ", GUIDE, re.M)
    types = {name: kinds.strip().split(" or ") for names, kinds in rows for name in re.findall(r"`(\w+)`", names)}
    data = json.loads(data_files(book.find_pages(shelf, "default"))["results.json"])
    assert data
    for row in data:
        assert set(row) == set(types)
        for name, value in row.items():
            fits = [isinstance(value, JSON_TYPES[k]) and (k == "boolean" or value is not True) for k in types[name]]
            assert any(fits), f"{name}: {value!r} is not {types[name]}"


def test_the_guides_example_reads_the_results(shelf, tmp_path, monkeypatch):
    (tmp_path / "results.json").write_bytes(data_files(book.find_pages(shelf, "default"))["results.json"])
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", GUIDE, re.S)
    said = io.StringIO()
    with redirect_stdout(said):
        exec(code.replace('"paper"', '"ours"'), {})
    assert said.getvalue().startswith("toy: High is small. Paper: none. Measured: 0.51 (n = 3)")


def test_results_name_the_anchor_of_their_figure(shelf):
    data = json.loads((built(shelf) / "downloads" / "results.json").read_text())
    shown = [row for row in data if row["figure"]]
    html = (built(shelf) / "notebooks" / "toy.html").read_text()
    assert shown and all(f'id="{row["page"]}-{row["figure"]}"' in html for row in shown)
