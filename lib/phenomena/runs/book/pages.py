"""What stands on the book's pages beside prose and outputs: text compiled from records, nothing typed by hand."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from phenomena.runs.store import claims
from phenomena.runs.store.chapters import Chapter, Project
from phenomena.runs.store.runs import Record, Run

DRAFT = "smoke"  # the edition that makes a draft
DOWNLOADS = "downloads"  # folder of the built site


@dataclass(frozen=True)
class Page:
    """One run that the book shows: a chapter in one edition."""

    project: Project
    chapter: Chapter
    edition: str
    run: Run

    @property
    def record(self) -> Record:
        """The run's record."""
        return self.run.record

    @property
    def name(self) -> str:
        """Name of the page's file, without suffix."""
        suffix = "" if self.edition in ("default", DRAFT) else f"-{self.edition}"
        return f"{self.chapter.name}{suffix}"

    @property
    def title(self) -> str:
        """Title in lists of pages."""
        suffix = "" if self.edition in ("default", DRAFT) else f" ({self.edition})"
        return f"{self.chapter.file.title}{suffix}"

    @property
    def command(self) -> str:
        """The command that makes the run of this page."""
        return f"phenomena run {self.chapter.name}{'' if self.edition == 'default' else f' --edition {self.edition}'}"

    @cached_property
    def verdicts(self) -> list[claims.Verdict]:
        """The chapter's claims, checked on this run."""
        return claims.check(self.chapter, self.record)

    def label(self, figure: str) -> str:
        """What the book calls one of the page's figures in references and addresses."""
        return f"{self.name}-{figure}".replace("_", "-")


# --- one page ---------------------------------------------------------------------------------------------------------


def run_note(page: Page, colab: str | None = None) -> str:
    """What made this page, in a box, with a button to Colab where there is something to open."""
    r = page.record
    button = f"\n\n```{{button-link}} {colab}\n:color: primary\n:outline:\nOpen in Colab\n```" if colab else ""
    aside = "" if page.edition == "default" else "The words around the numbers were written for the default edition. "
    return (
        f"````{{admonition}} This page\n:class: run\n```sh\n{page.command}\n```\n"
        f"Edition `{page.edition}`: {page.chapter.file.editions[page.edition].summary}. "
        f"Seeds {r.seeds[0]} to {r.seeds[-1]}; {r.seconds['total']:.0f} s, {r.peak_memory_mb:.0f} MB, "
        f"{r.processor}, {r.threads} thread{'s' if r.threads != 1 else ''}{f', {r.gpu}' if r.gpu else ''}; "
        f"commit `{(r.commit or 'none')[:12]}`, run `{r.key}`. "
        f"Intervals are 95 % over seeds. {aside}See [how to re-run](../book/how_to_rerun.md).{button}\n````"
    )


def parameter_table(page: Page) -> str:
    """The resolved parameters with type, default and meaning, folded."""
    rows = []
    for p in page.chapter.declaration.values():
        value = page.record.parameters[p.name]
        shown = f"**{value}**" if value != p.default else f"{value}"
        rows.append((f"`{p.name}`", p.accepted, shown, p.default, p.meaning))
    return _folded("All parameters of this page", table(("name", "accepted", "this page", "default", "meaning"), rows))


def download_list(page: Page, paths: Iterable[str]) -> str:
    """Links to what can be downloaded of a page, folded; paths: below the folder of downloads."""
    descriptions = {
        f"{page.name}.ipynb": "the notebook as it is in the repository, without outputs",
        f"{page.name}-executed.ipynb": "the same as it was run for this page, with all outputs",
        f"{page.name}-record.json": "what determined the run, what it measured for every seed, what it cost",
        f"{page.name}.yaml": "editions and claims with their thresholds",
    }
    captions = {f"{f.name}.csv": f"data of {figure_link(page, f.name)}" for f in page.record.figures}
    names = {Path(path).name: path for path in paths}
    lines = [f"- {download(names[n], n)}: {about}" for n, about in (descriptions | captions).items() if n in names]
    return _folded("Downloads", "\n".join(lines))


def verdict_table(page: Page) -> str:
    """Each claim with the paper's figure, the measured interval and the verdict; the reasons below, folded."""
    head = ("claim", "paper", "measured", "threshold", "verdict")
    rows = [
        (v.claim.statement, v.claim.paper_value, _measured(v), v.claim.threshold, badge(v.verdict))
        for v in page.verdicts
    ]
    notes = [
        f"- **{v.claim.name}**: `{v.claim.measured}` {v.claim.threshold}{_seen(page, v)}. Place: {v.claim.source}. "
        f"Why this threshold: {v.claim.rationale}. Scale: {v.claim.caveat}."
        for v in page.verdicts
    ]
    return f"{table(head, rows)}\n\n{_folded('How each claim is measured', chr(10).join(notes))}"


def figure_link(page: Page, figure: str) -> str:
    """A reference to a figure of a page by its number."""
    return f"{{numref}}`Fig. %s <{page.label(figure)}>`"


def download(path: str, text: str) -> str:
    """A link from a page in a folder to a file below the folder of downloads, whose address is no page's."""
    return f'<a href="../{DOWNLOADS}/{path}" download>{text}</a>'


def badge(verdict: str) -> str:
    """A verdict as readers see it."""
    return f'<span class="verdict {verdict}">{verdict}</span>'


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A Markdown table; a bar inside a cell is no border."""
    lines = [list(map(str, head)), *[[str(cell).replace("|", "\\|") for cell in row] for row in rows]]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _folded(title: str, text: str) -> str:
    return f"````{{dropdown}} {title}\n{text}\n````"


def _seen(page: Page, v: claims.Verdict) -> str:
    shown = [figure.name for figure in page.record.figures]
    return f", seen in {figure_link(page, v.claim.figure)}" if v.claim.figure in shown else ""


def measured(mean: float | None, low: float | None, high: float | None, seeds: int) -> str:
    """Mean, interval and number of seeds, as precise as the interval is wide; what there is of them."""
    form = ".3g"
    if low is not None and high is not None and high > low:
        decimals = 1 - math.floor(math.log10((high - low) / 2))  # two digits of half the interval
        form = f".{max(decimals, 0)}f" if decimals < 6 else form
    shown = ["–" if x is None or math.isnan(x) else f"{x:{form}}".replace("-", "−") for x in (mean, low, high)]
    bounds = f" [{shown[1]}, {shown[2]}]" if seeds > 1 else ""
    return f"{shown[0] if seeds else 'not measured'}{bounds}, n\u00a0=\u00a0{seeds}"  # no line ends before the number


def _measured(v: claims.Verdict) -> str:
    return measured(v.measured, v.low, v.high, v.seeds)


# --- pages over all runs ----------------------------------------------------------------------------------------------


def count(pages: Sequence[Page]) -> dict[str, int]:
    """How many claims of all pages have each verdict."""
    verdicts = [v.verdict for page in pages for v in page.verdicts]
    return {name: verdicts.count(name) for name in claims.VERDICTS}


def results_page(pages: list[Page]) -> str:
    """Every claim of every page, with totals, first by verdict, then by chapter."""
    total = count(pages)
    totals = [
        *((_link(p), *count([p]).values(), len(p.verdicts)) for p in pages),
        ("**all**", *(f"**{n}**" for n in total.values()), f"**{sum(total.values())}**"),
    ]
    text = [
        "# Results",
        "Every claim of every chapter, checked on the runs that this book shows: "
        + ", ".join(f"{n} {badge(verdict)}" for verdict, n in total.items())
        + ". Compiled from the records; thresholds were written down before the runs. The same as data: "
        + f"{download('results.csv', 'results.csv')}, {download('results.json', 'results.json')}. "
        + "Perhaps first: what is [contradicted](#results-contradicted), what is [open](#results-inconclusive).",
        table(("chapter", *claims.VERDICTS, "claims"), totals),
    ]
    for verdict in ("contradicted", "inconclusive"):
        text += [f"(results-{verdict})=\n## {verdict.capitalize()}", _of_verdict(pages, verdict)]
    for page in pages:
        rows = [
            (f"{v.claim.statement} <br><small>`{v.claim.name}`; small scale: {v.claim.caveat}.</small>",
             v.claim.paper_value, f"{_measured(v)}; asked: {v.claim.threshold}",
             badge(v.verdict) + (f" {figure_link(page, v.claim.figure)}" if v.claim.figure else ""))
            for v in page.verdicts
        ]  # fmt: skip
        text += [f"## {_link(page)}", table(("claim", "paper", "measured", "verdict"), rows)]
    return "\n\n".join(text) + "\n"


def _of_verdict(pages: list[Page], verdict: str) -> str:
    lines = [
        f"- {v.claim.statement} Paper: {v.claim.paper_value}. Measured: {_measured(v)}; asked: {v.claim.threshold}"
        f"{_seen(page, v)}. {_link(page)}."
        for page in pages
        for v in page.verdicts
        if v.verdict == verdict
    ]
    return "\n".join(lines) or "None."


def runs_page(pages: list[Page]) -> str:
    """Cost and origin of every run shown, and what its seconds went into."""
    head = ["page", "seconds", "memory", "processor", "threads", "seeds", "commit", "run", "started"]
    rows = [
        (_link(p), f"{r.seconds['total']:.0f}", f"{r.peak_memory_mb:.0f} MB",
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
        "## Seconds by part",
        "A part is a section of the notebook; overhead is all that is not a cell: kernel, writing.",
    ]
    for page in pages:
        parts = [(name, f"{s:.1f}") for name, s in page.record.seconds.items() if name != "total"]
        text.append(_folded(page.title, table(("part", "seconds"), parts)))
    text += ["## Versions", _by_value(pages, "version", lambda r: r.versions)]
    text += [
        "## Lock",
        "`requirements.lock` fixes version and hash of every package; its sha256 is part of a run's key.",
        _by_value(pages, "sha256", lambda r: {"requirements.lock": r.lock_sha256}),
    ]
    return "\n\n".join(text) + "\n"


def _by_value(pages: list[Page], what: str, of: Any) -> str:
    """A table of names and values; where runs differ, a value names its runs."""
    found: dict[tuple[str, str], list[str]] = {}
    for page in pages:
        for name, value in of(page.record).items():
            found.setdefault((name, value), []).append(_link(page))
    rows = [(n, f"`{v}`", "all" if len(where) == len(pages) else ", ".join(where)) for (n, v), where in found.items()]
    return table(("what", what, "runs"), rows)


def _link(page: Page) -> str:
    return f"[{page.title}](../notebooks/{page.name}.ipynb)"


# --- the same as data -------------------------------------------------------------------------------------------------


def data_files(pages: list[Page]) -> dict[str, bytes]:
    """Results and runs as CSV and JSON, by name of file."""
    results = [
        {"page": p.name, "edition": p.edition, "run": p.record.key, **v.row(), **_of_claim(v)}
        for p in pages
        for v in p.verdicts
    ]
    kept = {"chapter", "edition", "key", "seeds", "processor", "gpu", "threads", "commit", "lock_sha256", "started",
            "peak_memory_mb", "seconds", "versions", "parameters"}  # fmt: skip
    runs = [{"page": p.name, **p.record.model_dump(include=kept), "edition": p.edition} for p in pages]
    flat = [
        {**{k: v for k, v in run.items() if k not in ("seconds", "versions", "parameters")},
         "seeds": len(run["seeds"]), "seconds": run["seconds"]["total"], **run["versions"]}
        for run in runs
    ]  # fmt: skip
    parts = [{"page": r["page"], "part": name, "seconds": s} for r in runs for name, s in r["seconds"].items()]
    return {
        "results.csv": _csv(results),
        "results.json": _json(results),
        "runs.csv": _csv(flat),
        "seconds.csv": _csv(parts),
        "runs.json": _json(runs),
    }


def _of_claim(v: claims.Verdict) -> dict[str, Any]:
    c = v.claim
    return {"statement": c.statement, "source": c.source, "expression": c.measured, "figure": c.figure,
            "rationale": c.rationale, "caveat": c.caveat}  # fmt: skip


def _csv(rows: list[Mapping[str, Any]] | list[dict[str, Any]]) -> bytes:
    return pd.DataFrame(rows).to_csv(index=False).encode()


def _json(rows: list[dict[str, Any]]) -> bytes:
    return (json.dumps(rows, indent=1, ensure_ascii=False) + "\n").encode()
