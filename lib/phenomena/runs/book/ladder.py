"""The scale ladder: every finding at every edition of its chapter, from published records; what was not run says so."""

from dataclasses import dataclass
from typing import Any

from phenomena.runs.book.pages import DRAFT, Page, asked, badge, download, first_pages, ranges, table, tally, told
from phenomena.runs.book.results import as_json, csv, link
from phenomena.runs.book.verdicts import address
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import claims, keys, published
from phenomena.runs.store.chapters import Claim, Edition
from phenomena.runs.store.runs import Record

LAST = "paper"  # the edition at the paper's own scale
NOT_RUN, OTHER_CODE, NO_VALUE = "not run", "not measured by that code", "not measured"
BASE = "default"  # what other editions are compared to


@dataclass(frozen=True)
class Rung:
    """An edition of a chapter with what there is of it.

    record: None where it was not run. today: whether it is by today's code, lock and settings. verdicts: by claim; None
        where the record's code did not measure it.
    """

    page: Page  # the chapter's first
    name: str
    edition: Edition
    record: Record | None
    today: bool
    verdicts: dict[str, claims.Verdict | None]

    def state(self, claim: Claim) -> str:
        """A verdict, or why there is none."""
        if self.record is None:
            return NOT_RUN
        v = self.verdicts[claim.name]
        return OTHER_CODE if v is None else v.verdict if v.seeds else NO_VALUE

    def verdict(self, claim: Claim) -> claims.Verdict | None:
        """The verdict on a claim that it measured; None for others."""
        v = self.verdicts.get(claim.name)
        return v if v is not None and v.seeds else None


Ladder = list[Rung]  # of one chapter, from the cheapest edition to that of the paper's scale


def rungs(pages: list[Page]) -> list[Ladder]:
    """A ladder a chapter: of pages in the book their evidence, of other editions the published record, if it is there.

    A record that cannot be read counts as none: an old one never stops the book.
    """
    return [_ladder(page, {p.edition: p for p in pages if p.chapter.name == page.chapter.name})
            for page in first_pages(pages)]  # fmt: skip


def _ladder(page: Page, shown: dict[str, Page]) -> Ladder:
    project, chapter = page.project, page.chapter
    sources = keys.sources(chapter, keys.sha256(project.lock.read_bytes()))
    order = sorted(chapter.file.editions.items(), key=lambda e: (e[0] == LAST, e[1].cost.seconds))
    found = []
    for name, edition in order:
        if name == DRAFT:
            continue
        record = shown[name].evidence if name in shown else None
        if record is None and published.path(project, chapter, name).is_file():
            try:
                record = published.read(project, chapter, name)
            except BadInput:
                record = None
        parameters = chapter.resolve(name)
        today = record is not None and sources.key(parameters) == record.key
        if record is not None and record.study is not None:
            today = sources.study(parameters) == record.study
        verdicts: dict[str, claims.Verdict | None] = {}
        if name in shown:
            verdicts |= {v.claim.name: v for v in shown[name].verdicts}
        for claim in chapter.file.claims if record and not verdicts else []:
            try:
                verdicts[claim.name] = claims.judge(chapter, claim, record)  # type: ignore[arg-type]  # there is one
            except BadInput:  # values have other names in that code
                verdicts[claim.name] = None
        found.append(Rung(page, name, edition, record, today, verdicts))
    return found


def change(v: claims.Verdict, base: claims.Verdict) -> tuple[str, bool]:
    """Where a measured value lies against another one of its claim, and whether that is more than chance may do.

    stronger: farther on the claimed side of the nearest threshold, or less far on the other; weaker: the reverse.
    It is clear where the two intervals do not overlap, or where the claim is exact and has none.
    """
    bottom, top = v.claim.range
    if v.measured is None or base.measured is None:
        return "", False
    rooms = [min(x - bottom, top - x) for x in (v.measured, base.measured)]
    if rooms[0] == rooms[1]:
        return "same", False
    ends = (v.low, v.high, base.low, base.high)
    apart = None not in ends and (v.low > base.high or v.high < base.low)  # type: ignore[operator]  # none is None
    return "stronger" if rooms[0] > rooms[1] else "weaker", apart or v.claim.kind == "exact"


# --- the page ---------------------------------------------------------------------------------------------------------


def ladder_page(ladders: list[Ladder]) -> str:
    """A table a chapter: findings down, editions across."""
    text = [
        "# The scale ladder",
        "Does a finding hold on other data and at other scales? This page shows each of them at every edition of its "
        f"chapter, from the cheapest to the paper's own scale. {_summary(ladders)} Checks of the code are left out. "
        f"The same as data: {download('ladder.csv', 'ladder.csv')}, {download('ladder.json', 'ladder.json')}.",
        f"{_arrow('stronger', True)}: the value lies farther on the claimed side of the threshold than at the default. "
        f"{_arrow('weaker', True)}: less far, or farther on the other side. {_arrow('stronger', False)} "
        f"{_arrow('weaker', False)}: the two intervals overlap, so that chance may do as much. "
        "Thresholds were chosen for the default. Records lie in `book/published`.",
    ]
    for ladder in ladders:
        head = ("claim", *(f"`{rung.name}`" for rung in ladder))
        rows = [
            (f"{claim.statement} <br><small>{_name(ladder[0].page, claim)}, {asked(claim)}</small>",
             *(_cell(rung, claim, _base(ladder)) for rung in ladder))
            for claim in _findings(ladder)
        ]  # fmt: skip
        lines = "\n".join(f"- {_told(rung)}" for rung in ladder)
        text += [f"## {link(ladder[0].page)}", lines, table(head, rows) if rows else "No finding."]
    return "\n\n".join(text) + "\n"


def _name(page: Page, claim: Claim) -> str:
    """A claim's name, which leads to its block on the chapter's page."""
    return f'<a href="{address(page, claim)}"><code>{claim.name}</code></a>'


def _findings(ladder: Ladder) -> list[Claim]:
    return [claim for claim in ladder[0].page.chapter.file.claims if claim.origin != "check"]


def _base(ladder: Ladder) -> Rung:
    return next(rung for rung in ladder if rung.name == BASE)


def _summary(ladders: list[Ladder]) -> str:
    """How many findings were measured at another edition, and how many of those verdicts differ."""
    pairs = [
        (rung.verdict(claim), _base(ladder).verdict(claim))
        for ladder in ladders
        for rung in ladder
        for claim in _findings(ladder)
        if rung.name != BASE
    ]
    both = [{a.verdict, b.verdict} for a, b in pairs if a and b]
    flipped = sum(pair == {"reproduced", "contradicted"} for pair in both)
    same = sum(len(pair) == 1 for pair in both)
    if not both:
        return "No edition but the default has a record yet."
    return (
        f"{len(both)} times a finding was measured at another edition as well: {same} of these verdicts are those "
        f"of the default, {len(both) - same - flipped} are open at one of the two, {flipped} turn from reproduced to "
        "contradicted or back."
    )


def _told(rung: Rung) -> str:
    """An edition in a sentence: what it is, what it costs, whether it was run."""
    cost = rung.edition.cost
    text = f"`{rung.name}`: {rung.edition.summary} ({_time(cost.seconds)} on {cost.machine}). "
    r = rung.record
    if r is None:
        return f"{text}**Not run.**"
    of = "" if rung.today else f" by older code or settings, commit `{(r.commit or 'none')[:12]}`,"
    pooled = f" in {len(r.counted)} runs" if r.pool else ""
    fared = tally([v for v in rung.verdicts.values() if v is not None and v.seeds], "the paper's")
    return f"{text}Run{of} with seeds {ranges(r.seeds)}{pooled}: {fared}."


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _cell(rung: Rung, claim: Claim, base: Rung) -> str:
    v, other = rung.verdict(claim), base.verdict(claim)
    if v is None:
        said = rung.state(claim).replace(NOT_RUN, "not\u00a0run")  # no line ends within these two words
        return f'<span class="none">{said}</span>'
    arrow = f" {_arrow(*change(v, other))}" if other and rung is not base else ""
    return f"{badge(v.verdict)} <br>{told(v)}{arrow}"


def _arrow(direction: str, clear: bool) -> str:
    """A sign that a screen reader says in words; nothing where values are alike."""
    signs = {"stronger": "▲", "weaker": "▼"}
    if direction not in signs:
        return ""
    said = direction if clear else f"{direction}, within the intervals"
    sign = signs[direction] if clear else f"({signs[direction]})"
    return f'<span role="img" aria-label="{said}" title="{said}">{sign}</span>'


# --- the same as data -------------------------------------------------------------------------------------------------


def data_files(ladders: list[Ladder]) -> dict[str, bytes]:
    """The ladder as CSV and JSON, by name of file: a row for each finding and edition."""
    rows = [_row(rung, claim, _base(ladder)) for ladder in ladders for claim in _findings(ladder) for rung in ladder]
    return {"ladder.csv": csv(rows), "ladder.json": as_json(rows)}


def _row(rung: Rung, claim: Claim, base: Rung) -> dict[str, Any]:
    v, other, record = rung.verdict(claim), base.verdict(claim), rung.record
    direction, clear = change(v, other) if v and other and rung is not base else (None, None)
    return {
        "chapter": rung.page.chapter.name, "claim": claim.name, "origin": claim.origin, "kind": claim.kind,
        "threshold": claim.threshold, "edition": rung.name, "state": rung.state(claim),
        "measured": v and v.measured, "low": v and v.low, "high": v and v.high, "seeds": v and v.seeds,
        "runs": v and v.runs, "change": direction, "clear": clear, "cost_seconds": rung.edition.cost.seconds,
        "machine": rung.edition.cost.machine, "commit": record and record.commit, "today": rung.today,
    }  # fmt: skip
