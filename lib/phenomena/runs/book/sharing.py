"""What machines and other sites take of the book: a map of it in llms.txt, and a card for every page.

The same module is an extension of Sphinx: it puts each page's card into its head.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import yaml
from sphinx.application import Sphinx

from phenomena.runs.book import downloads, images
from phenomena.runs.book.pages import DOWNLOADS, Page, first_pages
from phenomena.runs.store.chapters import Project

CARDS = "cards"  # folder of the pictures in the built site
FILE = "cards.json"  # in the book's source: what the pages' heads say
DATA = {
    "results.json": "every claim of every page with what was measured, interval, threshold and verdict; its fields are "
    "described on the page How to re-run",
    "runs.json": "every run: parameters, seeds, versions, processor, seconds, memory",
}


def site(project: Project) -> str:
    """The address of the published book with a slash at its end; nothing where `_config.yml` does not tell.

    It is `html: baseurl`, or else where the workflow of the stated repository publishes.
    """
    config = yaml.safe_load((project.root / "_config.yml").read_text(encoding="utf-8"))
    url = str((config.get("html") or {}).get("baseurl") or "")
    if not url and (repository := downloads.repository(project)):
        owner, name = repository.rsplit("/", 2)[1:]
        url = f"https://{owner}.github.io/{name}"
    return f"{url.rstrip('/')}/" if url else ""


def llms_txt(project: Project, files: Mapping[str, bytes], pages: Sequence[Page]) -> bytes:
    """A map of the site with a line a page, as llmstxt.org has it."""
    base, toc = site(project), yaml.safe_load(files["book/_toc.yml"])
    title, summary = about(files["index.md"].decode())
    lines = [f"# {title}", "", f"> {summary}"]
    for part in toc.get("parts", [toc]):
        lines += ["", f"## {part.get('caption', 'Pages')}", ""]
        for name in _names(part.get("chapters", [])):
            heading, says = _described(name, files, pages)
            lines.append(f"- [{heading}]({base}{name}.html){f': {says}' if says else ''}")
    lines += ["", "## Data", "", *(f"- [{name}]({base}{DOWNLOADS}/{name}): {says}" for name, says in DATA.items())]
    return ("\n".join(lines) + "\n").encode()


def cards(project: Project, files: Mapping[str, bytes], pages: Sequence[Page]) -> tuple[bytes, dict[str, bytes]]:
    """What the heads of all pages say, as JSON, and the cards' pictures by their path in the built site.

    A chapter's card shows its front figure, any other page's the first chapter's.
    """
    heading = about(files["index.md"].decode())[0]
    pictures, alts = dict[str, bytes](), dict[str, str]()
    for page in pages:
        front = page.chapter.file.front
        if front and front.figure in page.run.figures:
            figure = page.run.figures[front.figure]
            pictures[f"{CARDS}/{page.name}.png"] = images.card(figure.picture, page.title)
            alts[f"{CARDS}/{page.name}.png"] = figure.alt
            if page in first_pages(pages) and f"{CARDS}/index.png" not in pictures:
                pictures[f"{CARDS}/index.png"] = images.card(figure.picture, heading)
                alts[f"{CARDS}/index.png"] = figure.alt
    shown = {}
    for name in [*_names(yaml.safe_load(files["book/_toc.yml"]))]:
        title, says = _described(name, files, pages)
        own = f"{CARDS}/{Path(name).name}.png"
        picture = own if own in pictures else f"{CARDS}/index.png" if not name.startswith("notebooks/") else ""
        shown[name] = {"title": title, "description": says}
        if picture in pictures:
            shown[name] |= {"image": picture, "alt": alts[picture]}
    told = {"site": site(project), "book": heading, "pages": shown}
    return json.dumps(told, ensure_ascii=False, indent=1).encode(), pictures


def _names(entries: Any) -> Iterator[str]:
    """The pages that a table of contents, or a part of one, names."""
    if isinstance(entries, list):
        for entry in entries:
            yield from _names(entry)
    elif isinstance(entries, dict):
        yield from (entries[key] for key in ("root", "file") if key in entries)
        for key in ("parts", "chapters", "sections"):
            yield from _names(entries.get(key, []))


def _described(name: str, files: Mapping[str, bytes], pages: Sequence[Page]) -> tuple[str, str]:
    """Title of a page and a sentence on it: of a chapter from its yaml, of any other its first."""
    for page in pages:
        if name == f"notebooks/{page.name}":
            return page.title, page.chapter.file.summary
    return about(files[f"{name}.md"].decode())


def about(text: str) -> tuple[str, str]:
    """Title and first sentence of a Markdown page, without marks; no sentence where it begins with something else."""
    title, _, rest = text.partition("# ")[2].partition("\n")
    paragraphs = (block for block in re.split(r"\n\s*\n", rest) if block.strip())
    first = next((p for p in paragraphs if re.match(r"[A-Z\"“]", p.strip())), "")
    plain = re.sub(r"<[^>]+>", "", first)
    plain = re.sub(r"\{[\w:]+\}`([^`<]+?)(?: *<[^`]*)?`", r"\1", plain)  # roles
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", plain)  # links
    plain = " ".join(re.sub(r"[*`$]", "", plain).split())
    return title.strip(), re.split(r"(?<=[.!?]) (?=[A-Z])", plain)[0].rstrip(":,")


# --- in Sphinx --------------------------------------------------------------------------------------------------------


def head(told: Mapping[str, Any], name: str) -> str:
    """The tags that a page's head gains: title, description and picture, as Open Graph and Twitter name them."""
    card, base = told["pages"][name], told["site"]
    tags = {"og:type": "article", "og:site_name": told["book"], "og:title": card["title"]}
    tags |= {"og:description": card["description"]} if card["description"] else {}
    tags |= {"og:url": f"{base}{name}.html"} if base else {}
    if "image" in card:
        address = f"{base or '../' * name.count('/')}{card['image']}"
        width, height = images.CARD
        tags |= {"og:image": address, "og:image:width": width, "og:image:height": height, "og:image:alt": card["alt"]}
    lines = [f'<meta property="{key}" content="{escape(str(value))}" />' for key, value in tags.items()]
    lines.append(f'<meta name="twitter:card" content="summary{"_large_image" if "image" in card else ""}" />')
    if card["description"]:
        lines.append(f'<meta name="description" content="{escape(card["description"])}" />')
    return "\n".join(lines) + "\n"


def _add(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: object) -> None:
    path = Path(app.srcdir) / FILE
    told = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"pages": {}}
    if pagename in told["pages"]:
        context["metatags"] = context.get("metatags", "") + head(told, pagename)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("html-page-context", _add)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
