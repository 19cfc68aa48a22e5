"""Numbers in prose: pages and markdown cells quote recorded values by name, so that no measured number is typed.

`{{ chapter.value }}` stands for a recorded value of the run that the page shows. `{{ chapter.claim.measured }}` stands
for what a claim measures and `{{ chapter.claim.verdict }}` for its verdict, both of the page's evidence: that run, or a
pool of its study.
`{{ published.chapter.edition.value }}` stands for a value of a published record of that edition, whose run need not be
there: it may take hours, or another machine. On pages outside the chapters, `{{ book.totals }}` counts all findings
and `{{ book.gallery }}` shows a figure of every chapter, part by part.
"""

import itertools
import re
from collections.abc import Mapping, Sequence

from phenomena.runs.book import images
from phenomena.runs.book.pages import Page, badge, first_pages, measured, tally, told
from phenomena.runs.book.results import all_verdicts
from phenomena.runs.contract.errors import BadInput, nearest
from phenomena.runs.store import claims, published
from phenomena.runs.store.chapters import Chapter
from phenomena.runs.store.runs import Record

QUOTE = re.compile(r"\{\{ *([\w.]+) *\}\}")


def quotable(page: Page) -> dict[str, str]:
    """What may be quoted of a run, by name."""
    chapter, project = page.chapter.name, page.project
    texts = {f"{chapter}.{name}": text for name, text in _values(page.chapter, page.record).items()}
    for edition in page.chapter.file.editions:
        if published.path(project, page.chapter, edition).exists():
            values = _values(page.chapter, published.read(project, page.chapter, edition))
            texts |= {f"published.{chapter}.{edition}.{name}": text for name, text in values.items()}
    for v in page.verdicts:
        texts[f"{chapter}.{v.claim.name}.measured"] = told(v)
        texts[f"{chapter}.{v.claim.name}.verdict"] = f"[{badge(v.verdict)}](/notebooks/{page.name}.ipynb#verdicts)"
    return texts


def _values(chapter: Chapter, record: Record) -> dict[str, str]:
    return {name: measured(*found) for name, found in claims.of_values(chapter, record).items()}


def quotable_anywhere(pages: Sequence[Page]) -> dict[str, str]:
    """What pages outside the chapters may quote: every chapter's first run, totals, and the gallery."""
    shown = first_pages(pages)
    texts = {
        "book.totals": tally(all_verdicts(shown)),
        "book.gallery": gallery(shown),
    }
    for page in shown:
        texts |= quotable(page)
    return texts


def fill(text: str, texts: Mapping[str, str], place: str) -> str:
    """A text with its quotations filled in. Raises `BadInput` for a name that nothing has, with the nearest."""

    def found(quote: re.Match[str]) -> str:
        if quote[1] not in texts:
            like = (
                nearest(quote[1], texts) or "; accepted: chapter.value, chapter.claim.measured, chapter.claim.verdict"
            )
            raise BadInput(f"{place}: {quote[0]} names nothing recorded{like}")
        return texts[quote[1]]

    return QUOTE.sub(found, text)


# --- the cover --------------------------------------------------------------------------------------------------------


def cover_name(page: Page) -> str:
    """Path of the page's cover picture in the book's source."""
    return f"book/covers/{page.name}.png"


def cover(page: Page) -> tuple[str, bytes] | None:
    """Alternative text and small picture of the chapter's front figure.

    None where its yaml names none. Raises `BadInput` when the run has no such figure.
    """
    if page.chapter.file.front is None:
        return None
    wanted, figures = page.chapter.file.front.figure, page.run.figures
    if wanted in figures:
        return figures[wanted].alt, images.small(figures[wanted].picture)
    like = nearest(wanted, figures) or ";"
    raise BadInput(f"{page.chapter.name}.yaml: front: no figure {wanted!r}{like} accepted: {', '.join(figures)}")


def gallery(shown: Sequence[Page]) -> str:
    """Every chapter, under the captions of the book's parts where several have chapters."""
    parts = shown[0].project.parts() if shown else {}
    caption = {name: part for part, names in parts.items() for name in names}
    texts = []
    for part, pages in itertools.groupby(shown, key=lambda page: caption.get(page.chapter.name)):
        if part and len(parts) > 1:
            texts.append(f"### {part}\n")
        texts += map(gallery_entry, pages)
    return "\n".join(texts)


def gallery_entry(page: Page) -> str:
    """A chapter on the cover: its picture, which leads to it, and beside it what it shows and its verdicts."""
    shown, link = cover(page), f"/notebooks/{page.name}.ipynb"
    verdicts = tally(page.verdicts, "the paper's", mark=False)
    text = f"**[{page.title}]({link})**\n\n{page.chapter.file.summary}\n\n{verdicts[0].upper()}{verdicts[1:]}."
    if shown is None:
        return text + "\n"
    alt = re.sub(r"([\[\]\\])", r"\\\1", shown[0])
    picture = f"[![{alt}](/{cover_name(page)})]({link})"
    columns = [f":::{{grid-item}}\n:columns: 12 12 {n} {n}\n\n{part}\n:::\n" for n, part in ((7, picture), (5, text))]
    return "::::{grid}\n:gutter: 3\n\n" + "\n".join(columns) + "::::\n"
