"""Pages over all runs: how every claim fared and how sure that is, what the runs cost; the same as data."""

import json
from collections.abc import Collection
from html import escape
from typing import Any

import pandas as pd

from phenomena.runs.book.pages import Page, asked, checks, download, first_pages, folded, ranges, table, tally, told
from phenomena.runs.book.verdicts import KEY, LEGEND, WHOSE, address, drawn, marked, plot_of
from phenomena.runs.store import claims, registration, replication

WHOSE_CLAIMS = (("paper", "claims of the papers"), ("ours", "claims of our own"))
Firm = Collection[tuple[str, str]]  # chapter and claim


def all_verdicts(pages: list[Page]) -> list[claims.Verdict]:
    """Those of every chapter's first page."""
    return [v for page in first_pages(pages) for v in page.verdicts]


def firm(pages: list[Page]) -> Firm:
    """Which findings of the chapters' first pages stay decided after Holm's correction over all of them."""
    return {(v.chapter, v.claim.name) for v in claims.after_holm(claims.findings(all_verdicts(pages)))}


def results_page(pages: list[Page]) -> str:
    """How claims fared, how sure that is, and all of them in one table, which a script filters where there is one."""
    first, verdicts = first_pages(pages), all_verdicts(pages)
    registered = [page.registrations[v.claim.name] for page in first for v in page.verdicts]
    more = "" if len(first) == len(pages) else " Further editions stand in the last table and are not counted."
    text = [
        "# Results",
        f"Every claim of every chapter, checked on the evidence that this book shows: {tally(verdicts)}. "
        + (f"{checks(verdicts)}. " if checks(verdicts) else "")
        + f"Perhaps first: what is {_filtered('contradicted')}, what is {_filtered('inconclusive')}, "
        + f"and what holds on other data and at other scales, [the scale ladder](ladder.md).{more}",
        "Claims of the papers + claims of our own:",
        _totals(first),
        "## How sure is that?",
        how_sure(verdicts),
        f"{registration.summary(registered)} Compiled from the records; the same as data: "
        f"{download('results.csv', 'results.csv')}, {download('results.json', 'results.json')}.",
        "## Every claim",
        KEY,
        LEGEND,
        every_claim(pages),
    ]
    return "\n\n".join(text) + "\n"


def how_sure(verdicts: list[claims.Verdict]) -> str:
    """The error of all verdicts together, in words: how many may be wrong by chance, how many hold all at once."""
    found = claims.findings(verdicts)
    tested = [v for v in found if v.p is not None]
    exact = sum(v.claim.kind == "exact" for v in found)
    left_out = f" {exact} exact findings have no interval and are left out." if exact else ""
    wrong, stay = claims.wrong_by_chance(found), claims.after_holm(found)
    number = {origin: sum(v.claim.origin == origin for v in stay) for origin in ("paper", "ours")}
    return "\n".join(
        (
            *(_decided([v for v in found if v.claim.origin == origin], whose) for origin, whose in WHOSE_CLAIMS),
            f"- At most {wrong:.1f} of the decided verdicts are wrong by chance, in expectation: "
            f"the sum of what each of {len(tested)} intervals may err.{left_out}",
            f"- {number['paper']} of the papers' and {number['ours']} of our own stay after Holm's correction: "
            "with probability 95 % not one of those is wrong by chance.",
            "- Claims measured on the same runs depend on each other. Both statements hold all the same. "
            "[How verdicts are reached](verdicts.md).",
        )
    )


def _decided(found: list[claims.Verdict], whose: str) -> str:
    decided = [v for v in found if v.verdict != "inconclusive"]
    settled = len(decided) + sum(v.verdict == "inconclusive" and v.claim.undecidable is not None for v in found)
    share = f" ({100 * settled / len(found):.0f} %)" if found else ""
    return (
        f"- Of {len(found)} {whose} {len(decided)} are decided, {sum(v.close for v in decided)} of them by a hair. "
        f"{settled}{share} are decided or marked as not decidable at this scale, with the reason."
    )


def _totals(first: list[Page]) -> str:
    """Numbers of claims by chapter and verdict, the paper's and ours."""

    def row(verdicts: list[claims.Verdict]) -> list[str]:
        by = [claims.count(v for v in verdicts if v.claim.origin == origin) for origin in ("paper", "ours")]
        cells = [f"{by[0][name]} + {by[1][name]}" for name in claims.VERDICTS]
        number = len(verdicts) - len(claims.findings(verdicts))
        return [*cells, f"{sum(by[0].values())} + {sum(by[1].values())}", str(number)]

    rows = [*([link(page), *row(page.verdicts)] for page in first),
            [f"**{cell}**" for cell in ("all", *row(all_verdicts(first)))]]  # fmt: skip
    return table(("chapter", *claims.VERDICTS, "findings", "checks"), rows)


# --- the table of all claims ------------------------------------------------------------------------------------------


def _filtered(verdict: str) -> str:
    """A link to the claims with a verdict."""
    return f'<a href="results.html?verdict={verdict}#every-claim">{verdict}</a>'


def every_claim(pages: list[Page]) -> str:
    """The table in HTML, what did not reproduce first, and the form that filters it, hidden until a script works it."""
    stay, first = firm(pages), first_pages(pages)
    found = [(page, v) for page in pages for v in page.verdicts]
    order = {"contradicted": 0, "inconclusive": 1, "reproduced": 2}
    found.sort(key=lambda row: (order[row[1].verdict], row[0] not in first))  # else as the book has them
    most = max((v.seeds for _, v in found), default=0)
    choices = {
        "chapter": {page.chapter.name: page.chapter.file.title for page in pages},
        "verdict": {name: name for name in order if any(v.verdict == name for _, v in found)},
        "whose": {origin: WHOSE[origin] for origin in WHOSE if any(v.claim.origin == origin for _, v in found)},
        "edition": {page.edition: page.edition for page in pages},
        "n": {str(n): f"{n} seeds or more" for n in (5, 10, 20, 50) if n <= most},
    }
    rows = [_row(page, v, stay if page in first else ()) for page, v in found]
    return "\n".join(
        (
            '<form class="filter" aria-label="Filter the claims" hidden>',
            *(_choice(name, options) for name, options in choices.items() if len(options) > 1 or name == "n"),
            '<button type="reset">Show all</button>',
            "</form>",
            f'<p class="shown" role="status">{len(rows)} verdicts</p>',
            '<table class="table claims">',
            "<thead><tr><th>claim, what is measured</th><th>verdict</th></tr></thead>",
            "<tbody>",
            *rows,
            "</tbody>",
            "</table>",
            '<script defer src="../_static/results.js"></script>',
        )
    )


def _choice(name: str, options: dict[str, str]) -> str:
    texts = "".join(f'<option value="{value}">{escape(text)}</option>' for value, text in options.items())
    said = {"whose": "whose claim", "n": "number of seeds"}.get(name, name)
    return f'<label>{said} <select name="{name}"><option value="">all</option>{texts}</select></label>'


def _row(page: Page, v: claims.Verdict, stay: Firm) -> str:
    claim, registered = v.claim, page.registrations[v.claim.name]
    about = [page.title, WHOSE[claim.origin]]
    about += [f"registered {registered.order} the run"] if registered.order else []
    told_and_asked = escape(f"{told(v)}; claimed: {asked(claim)}")
    return (
        f'<tr data-chapter="{page.chapter.name}" data-verdict="{v.verdict}" data-whose="{claim.origin}" '
        f'data-edition="{page.edition}" data-n="{v.seeds}">'
        f'<td><a href="{address(page, claim)}">{escape(claim.statement)}</a>'
        f"<p>{escape(claim.quantity)}</p><p>{escape('; '.join(about))}</p></td>"
        f"<td>{marked(v, stay)}{drawn(plot_of(page, v))}<p>{told_and_asked}</p></td></tr>"
    )


# --- runs -------------------------------------------------------------------------------------------------------------


def runs_page(pages: list[Page]) -> str:
    """Cost and origin of every run shown, and what its seconds went into."""
    head = ["page", "seconds", "memory", "processor", "threads", "seeds", "commit", "run", "started"]
    rows = [
        (link(p), f"{r.seconds['total']:.0f}", f"{r.peak_memory_mb:.0f} MB",
         " + ".join(filter(None, [r.processor, r.gpu])), r.threads, len(r.seeds), f"`{(r.commit or 'none')[:12]}`",
         f"`{r.key}`", r.started[:16].replace("T", " "))
        for p in pages for r in [p.record]
    ]  # fmt: skip
    files = ", ".join(download(name, name) for name in ("runs.csv", "seconds.csv", "runs.json"))
    text = [
        "# Runs",
        f"What it took to make the pages of this book: {sum(p.record.seconds['total'] for p in pages):.0f} s in all. "
        f"The same as data: {files}.",
        table(head, rows),
        *_pools(pages),
        "## Seconds by part",
        "A part is a section of the notebook; overhead is all that is not a cell: kernel, writing.",
    ]
    for page in pages:
        parts = [(name, f"{s:.1f}") for name, s in page.record.seconds.items() if name != "total"]
        text.append(folded(page.title, table(("part", "seconds"), parts)))
    text += _replications(pages)
    text += ["## Versions", _by_value(pages, "version", lambda r: r.versions)]
    text += [
        "## Arithmetic",
        "What the processors offer, and the instructions that libraries were held to or chose; "
        "[when bits agree](how_to_rerun.md#the-same-bits).",
        _by_value(pages, "instructions", lambda r: r.arithmetic),
        "## Lock",
        "`requirements.lock` fixes version and hash of every package; its sha256 is part of a run's key.",
        _by_value(pages, "sha256", lambda r: {"requirements.lock": r.lock_sha256}),
    ]
    return "\n\n".join(text) + "\n"


def _pools(pages: list[Page]) -> list[str]:
    """The runs in the pool that a page's verdicts rest on, for every page that has one."""
    pooled = [(page, page.evidence) for page in pages if page.evidence.pool]
    if not pooled:
        return []
    text = ["## Pools", "Runs that differ in their seeds alone. A seed counts once, in the first run that has it here."]
    for page, e in pooled:
        rows = [
            (f"`{part.key}`", ranges(part.seeds) or "none", ranges(part.left_out) or "none", part.processor,
             f"`{(part.commit or 'none')[:12]}`", part.started[:16].replace("T", " "), f"{part.seconds:.0f}")
            for part in e.pool
        ]  # fmt: skip
        head = ("run", "seeds that count", "left out", "processor", "commit", "started", "seconds")
        text += [f"{link(page)}: {len(e.seeds)} seeds, {len(e.counted)} runs, {e.looks} looks.", table(head, rows)]
    return text


def _replications(pages: list[Page]) -> list[str]:
    """The runs that repeated those shown, and what agreed; nothing where there are none."""
    rows = [
        (link(page), c.again.processor, c.again.gpu or "–", replication.instructions(c.again) or "–",
         " / ".join(c.again.versions.get(name, "–") for name in ("python", "torch")), *c.counts.values(),
         f"{c.same} of {len(c.claims)}", c.again.started[:10])
        for page in pages for c in page.replications
    ]  # fmt: skip
    if not rows:
        return []
    head = ("page", "processor", "gpu", "instructions", "python / torch", "to the bit", "inside", "by chance",
            "in disagreement", "verdicts the same", "started")  # fmt: skip
    about = (
        "Other runs with the keys of those above, compared to the published records. A value is equal *to the bit* for "
        "every seed; or its mean lies *inside* the published interval; or outside *by chance*, as Welch's test with "
        "Holm's correction over the values of a run says; or it is *in disagreement*."
    )
    return ["(replications)=\n## Run again", about, table(head, rows)]


def _by_value(pages: list[Page], what: str, of: Any) -> str:
    """A table of names and values; where runs differ, a value names its runs."""
    found: dict[tuple[str, str], list[str]] = {}
    for page in pages:
        for name, value in of(page.record).items():
            found.setdefault((name, value), []).append(link(page))
    rows = [(n, f"`{v}`", "all" if len(where) == len(pages) else ", ".join(where)) for (n, v), where in found.items()]
    return table(("what", what, "runs"), rows)


def link(page: Page) -> str:
    """A link to a page from another one outside the chapters."""
    return f"[{page.title}](../notebooks/{page.name}.ipynb)"


# --- the same as data -------------------------------------------------------------------------------------------------


def data_files(pages: list[Page]) -> dict[str, bytes]:
    """Results and runs as CSV and JSON, by name of file."""
    stay, first = firm(pages), first_pages(pages)
    results = [
        {"page": p.name, "edition": p.edition, "run": p.record.key, **v.row(),
         "holm": (v.chapter, v.claim.name) in stay if p in first else None, **_of_claim(v),
         **p.registrations[v.claim.name].row()}
        for p in pages
        for v in p.verdicts
    ]  # fmt: skip
    kept = {"chapter", "edition", "key", "seeds", "processor", "arithmetic", "gpu", "threads", "commit", "lock_sha256",
            "started", "peak_memory_mb", "seconds", "versions", "parameters"}  # fmt: skip
    pools = [p.evidence.model_dump(include={"looks", "pool"}) for p in pages]
    runs = [{"page": p.name, **p.record.model_dump(include=kept), "edition": p.edition, **pool,
             "replications": [c.summary() for c in p.replications]}
            for p, pool in zip(pages, pools, strict=True)]  # fmt: skip
    nested = {"arithmetic", "seconds", "versions", "parameters", "pool", "replications"}
    flat = [
        {**{k: v for k, v in run.items() if k not in nested},
         "seeds": len(run["seeds"]), "seconds": run["seconds"]["total"], **run["versions"]}
        for run in runs
    ]  # fmt: skip
    parts = [{"page": r["page"], "part": name, "seconds": s} for r in runs for name, s in r["seconds"].items()]
    return {
        "results.csv": csv(results),
        "results.json": as_json(results),
        "runs.csv": csv(flat),
        "seconds.csv": csv(parts),
        "runs.json": as_json(runs),
    }


def _of_claim(v: claims.Verdict) -> dict[str, Any]:
    c = v.claim
    return {"statement": c.statement, "quantity": c.quantity, "source": c.source, "expression": c.measured,
            "figure": c.figure, "rationale": c.rationale, "caveat": c.caveat, "undecidable": c.undecidable}  # fmt: skip


def csv(rows: list[dict[str, Any]]) -> bytes:
    """Rows as a CSV file."""
    return pd.DataFrame(rows).to_csv(index=False).encode()


def as_json(rows: list[dict[str, Any]]) -> bytes:
    """Rows as a JSON file."""
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()
