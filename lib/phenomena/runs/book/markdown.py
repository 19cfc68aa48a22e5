"""Notebooks are written in plain Markdown, legible in every viewer; the book and its readers' copies are made from it.

What a link in a source notebook stands for is told by where it leads:

- [`value`](../book/published/CHAPTER/default.json): the recorded value of the run shown; with another edition's file,
  the value of that published record;
- [`claim.verdict`](CHAPTER.yaml) and [`claim.measured`](CHAPTER.yaml): what has come of a claim;
- [word](../book/glossary.md#the-term): a term of the glossary, its address with hyphens for spaces;
- [Zhang et al. (2018)](../book/references.bib#key): a citation in the text; ([Zhang et al., 2018](…)): one in brackets,
  where several are parted by semicolons;
- [figure](#chapter-name): a figure of the page, by its number.

`<details><summary>Title</summary>`, the text, `</details>` is a box that opens at a click.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pybtex.database import Entry, parse_file

from phenomena.runs.book.pages import Page, folded
from phenomena.runs.book.quotes import QUOTE
from phenomena.runs.contract.errors import BadInput, nearest

LINK = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])+)\]\(([^()\s]+)\)")
CITED = r"\[[^\[\]]+\]\(\.\./book/references\.bib#(\w+)\)"
IN_BRACKETS = re.compile(rf"\({CITED}(?:; {CITED})*\)")
DETAILS = re.compile(r"<details>\s*<summary>(.*?)</summary>\n(.*?)\n</details>", re.DOTALL)
GLOSSARY, BIBLIOGRAPHY, PUBLISHED = "../book/glossary.md", "../book/references.bib", "../book/published/"


def for_book(text: str, page: Page) -> str:
    """A source cell's text in MyST, its quotations as `{{ chapter.value }}`.

    Raises `BadInput` for a term or a citation that the book does not have.
    """

    def link(match: re.Match[str]) -> str:
        words, (path, _, anchor) = match[1], match[2].partition("#")
        if path == GLOSSARY:
            return f"{{term}}`{words} <{_known(anchor, glossary(page.project.root), page)}>`"
        if path == BIBLIOGRAPHY:
            return f"{{cite:t}}`{_known(anchor, bibliography(page.project.root), page).key}`"
        if not path and anchor in [page.label(figure.name) for figure in page.record.figures]:
            return f"{{numref}}`Fig. %s <{anchor}>`"
        return f"{{{{ {name} }}}}" if (name := quoted(match, page)) else match[0]

    def brackets(match: re.Match[str]) -> str:
        cited = [_known(key, bibliography(page.project.root), page).key for key in re.findall(r"#(\w+)", match[0])]
        return f"{{cite}}`{','.join(cited)}`"

    text = LINK.sub(link, IN_BRACKETS.sub(brackets, text))
    return DETAILS.sub(lambda match: folded(match[1], match[2].strip()), text)


def for_readers(text: str, page: Page, texts: Mapping[str, str]) -> str:
    """A source cell's text for a copy outside the book: quotations filled in, citations linked to their papers.

    Other links to files of the repository become plain words. texts: what may be quoted, by name; what none has stays
    a name.
    """
    plain = {name: re.sub(r"<[^>]+>|\]\(/[^)]*\)|\[(?=<)", "", text) for name, text in texts.items()}

    def link(match: re.Match[str]) -> str:
        words, (path, _, anchor) = match[1], match[2].partition("#")
        if name := quoted(match, page):
            return plain.get(name, words)
        if path == BIBLIOGRAPHY and (entry := bibliography(page.project.root).get(anchor)) and (url := address(entry)):
            return f"[{words}]({url})"
        return match[0] if ":" in path else words

    return QUOTE.sub(lambda quote: plain.get(quote[1], quote[0]), LINK.sub(link, text))


def quoted(match: re.Match[str], page: Page) -> str | None:
    """The name under which a link's value may be quoted; None for a link that quotes nothing."""
    name, path, chapter = match[1].strip("`"), match[2], page.chapter.name
    if not match[1].startswith("`"):
        return None
    if path == f"{chapter}.yaml":
        return f"{chapter}.{name}"
    if path.startswith(PUBLISHED):
        of, edition = path.removeprefix(PUBLISHED).removesuffix(".json").split("/")
        return f"{of}.{name}" if edition == "default" else f"published.{of}.{edition}.{name}"
    return None


def _known(anchor: str, known: Mapping[str, Any], page: Page) -> Any:
    if anchor not in known:
        raise BadInput(f"{page.chapter.notebook.name}: no entry #{anchor}{nearest(anchor, known) or ''} in the book")
    return known[anchor]


@cache
def glossary(root: Path) -> dict[str, str]:
    """The glossary's terms by their addresses."""
    text = (root / "book" / "glossary.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```\{glossary\}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return {
        re.sub(r"\W+", "-", t).strip("-").lower(): t
        for block in blocks
        for t in re.findall(r"^(\S.*)$", block, re.MULTILINE)
    }


@cache
def bibliography(root: Path) -> dict[str, Entry]:
    """The bibliography's entries by their keys."""
    return dict(parse_file(str(root / "book" / "references.bib")).entries)


def address(entry: Entry) -> str | None:
    """Where the entry can be read, if it says so."""
    fields = entry.fields
    if "eprint" in fields:
        return f"https://arxiv.org/abs/{fields['eprint']}"
    return f"https://doi.org/{fields['doi']}" if "doi" in fields else fields.get("url")
