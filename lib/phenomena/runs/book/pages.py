"""What stands on a page beside prose and outputs: text compiled from records, nothing typed by hand."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from phenomena.runs.store import claims, published, registration, replication
from phenomena.runs.store.chapters import Chapter, Claim, Project
from phenomena.runs.store.runs import Record, Run
from phenomena.runs.words import decimals, ranges

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
    def evidence(self) -> Record:
        """What the verdicts rest on: the run alone, or the published pool of its study with this run in it."""
        return published.evidence(self.project, self.chapter, self.edition, self.record)

    @cached_property
    def verdicts(self) -> list[claims.Verdict]:
        """The chapter's claims, checked on the evidence."""
        return claims.check(self.chapter, self.evidence)

    @cached_property
    def replications(self) -> list[replication.Comparison]:
        """Other runs of this one that are kept beside the published record."""
        return replication.kept(self.project, self.chapter, self.edition, self.record.key)

    @cached_property
    def registrations(self) -> dict[str, registration.Registration]:
        """When each of the chapter's claims was registered, beside the evidence."""
        return registration.registrations(self.project, self.chapter, self.evidence)

    def label(self, figure: str) -> str:
        """What the book calls one of the page's figures in references and addresses."""
        return f"{self.name}-{figure}".replace("_", "-")


def first_pages(pages: Sequence[Page]) -> list[Page]:
    """Each chapter's own page, without those of its further editions."""
    return [page for page in pages if page.name == page.chapter.name]


# --- one page ---------------------------------------------------------------------------------------------------------


def run_note(page: Page) -> str:
    """What made this page."""
    r = page.record
    aside = "" if page.edition == "default" else " The words around the numbers were written for the default edition."
    return (
        f"**This page** is the edition `{page.edition}`: {page.chapter.file.editions[page.edition].summary}. "
        f"Seeds {r.seeds[0]} to {r.seeds[-1]}; {r.seconds['total']:.0f} s, {r.peak_memory_mb:.0f} MB, "
        f"{r.processor}, {r.threads} thread{'s' if r.threads != 1 else ''}{f', {r.gpu}' if r.gpu else ''}; "
        f"commit `{(r.commit or 'none')[:12]}`, run `{r.key}`. "
        f"Intervals are 95 % over seeds. {pool_note(page.evidence)}{replication_note(page.replications)}".rstrip()
        + aside
    )


def replication_note(found: Sequence[replication.Comparison]) -> str:
    """How often the run was repeated, where, and what agreed; nothing where it was not."""
    if not found:
        return ""
    kinds = {(replication.machine(c.again), replication.instructions(c.again)) for c in found}
    names = ", ".join(sorted({name for name, _ in kinds}))
    same, verdicts = sum(c.same for c in found), sum(len(c.claims) for c in found)
    bits = sum(c.counts["bits"] for c in found)
    share = math.floor(100 * bits / max(sum(len(c.values) for c in found), 1))  # 100 % are all of them
    return (
        f"Run again {'once' if len(found) == 1 else f'{len(found)} times'}, on {len(kinds)} "
        f"kind{'s' if len(kinds) > 1 else ''} of processor ({names}): {same} of {verdicts} verdicts the same, "
        f"{share} % of values equal to the bit. "
    )


def pool_note(record: Record) -> str:
    """What the verdicts rest on, if that is a pool, and their error, if it may be looked at again; else nothing."""
    error = f"so each interval errs with probability {claims.ERROR:g} / {record.looks} at most (Bonferroni). "
    if not record.pool:
        return f"Up to {record.looks} looks at a growing pool were declared, {error}" if record.looks > 1 else ""
    twice = {seed for part in record.pool for seed in part.left_out}
    counted = {part.key: sorted(twice.intersection(part.seeds)) for part in record.pool}
    chosen = [f"run `{key}` for seeds {ranges(seeds)}" for key, seeds in counted.items() if seeds]
    choice = f"Of seeds that came more than once, one run counts: {'; '.join(chosen)}. " if chosen else ""
    return (
        f"Verdicts rest on a pool of {len(record.seeds)} seeds from {len(record.counted)} [runs](../book/runs.md). "
        f"It is looked at up to {record.looks} times as it grows, {error}{choice}"
        "Figures, and recorded values quoted in the text, are those of the run above. "
    )


def parameter_table(page: Page) -> str:
    """The resolved parameters with type, default and meaning, and the rules between them, folded."""
    rows = []
    for p in page.chapter.declaration.values():
        value = page.record.parameters[p.name]
        shown = f"**{value}**" if value != p.default else f"{value}"
        rows.append((f"`{p.name}`", p.accepted, shown, p.default, p.meaning))
    whole = table(("name", "accepted", "this page", "default", "meaning"), rows)
    rules = "\n".join(f"- `{rule}`: {why}" for rule, why in page.chapter.file.rules.items())
    return folded("All parameters of this page", f"{whole}\n\nTogether they satisfy:\n\n{rules}" if rules else whole)


def download_list(page: Page, paths: Iterable[str]) -> str:
    """Links to what can be downloaded of a page; paths: below the folder of downloads."""
    descriptions = {
        f"{page.name}.ipynb": "the notebook without outputs, its quotations filled in",
        f"{page.name}-executed.ipynb": "the same as it was run for this page, with all outputs",
        f"{page.name}-record.json": "what determined the run, what it measured for every seed, what it cost",
        f"{page.name}.yaml": "editions and claims with their thresholds",
    }
    captions = {f"{f.name}.csv": f"data of {figure_link(page, f.name)}" for f in page.record.figures}
    names = {Path(path).name: path for path in paths}
    lines = [f"- {download(names[n], n)}: {about}" for n, about in (descriptions | captions).items() if n in names]
    return "\n".join(lines)


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


def folded(title: str, text: str) -> str:
    """A box that opens at a click."""
    fence = "`" * max([4, *(len(ticks) + 1 for ticks in re.findall("^`+", text, re.MULTILINE))])
    return f"{fence}{{dropdown}} {title}\n{text}\n{fence}"


def measured(mean: float | None, low: float | None, high: float | None, seeds: int) -> str:
    """Mean, interval and number of seeds, as precise as the interval is wide; what there is of them."""
    n = f"n\u00a0=\u00a0{seeds}"  # no line ends before the number
    if mean is None or not math.isfinite(mean):
        return f"{'not finite' if seeds else 'not measured'}, {n}"
    if low is None or high is None or not math.isfinite(high - low):
        many = "both" if seeds == 2 else f"all {seeds}"
        return f"{number(mean)}, {n if seeds == 1 else f'the same in {many} seeds'}"
    form = ".3g"
    if high > low:
        digits = decimals(low, high)
        form = f".{max(digits, 0)}f" if digits < 9 else form
    shown = [_minus(f"{x:z{form}}") for x in (mean, low, high)]
    return f"{shown[0]} [{shown[1]}, {shown[2]}], {n}"


def number(x: float) -> str:
    """Three digits of a number that has no interval, two of one that needs an exponent."""
    if x and not 1e-3 <= abs(x) < 1e6:
        return _minus(f"{x:.1e}")
    return _minus(f"{x:z.{max(0, 2 - math.floor(math.log10(abs(x)))) if x else 2}f}")


def _minus(text: str) -> str:
    return text.replace("-", "−")


def asked(claim: Claim) -> str:
    """A claim's threshold on a page, `> 0.3` or `between −0.15 and 0.15`; no line ends after the sign."""
    if claim.between:
        return "between {} and {}".format(*map(plain, claim.between))
    return f">\u00a0{plain(claim.above)}" if claim.above is not None else f"<\u00a0{plain(claim.below or 0.0)}"


def plain(x: float) -> str:
    """A number that a person wrote, or that ends a scale: as short as it is."""
    return _minus(re.sub(r"e([+-])0*", lambda sign: f"e{sign[1].strip('+')}", f"{x:z.6g}"))


def told(v: claims.Verdict) -> str:
    """What a claim measures: mean, interval, n; of an exact one the value that decides it."""
    text = measured(v.measured, v.low, v.high, v.seeds)
    if v.claim.kind == "exact" and v.measured is not None and v.seeds > 1:
        side = "at least" if v.claim.above is not None else "at most"
        shown = number(v.measured)
        text = f"{shown}, nearest to a bound" if v.claim.between else f"{side} {shown}"
        text += f" in {v.seeds} seeds"
    return text + (f", {v.runs} runs" if v.runs > 1 else "")


# --- how claims fared -------------------------------------------------------------------------------------------------


def tally(verdicts: Sequence[claims.Verdict], whose: str = "the papers'", mark: bool = True) -> str:
    """How findings fared, the paper's apart from ours. mark: as badges, or in plain words."""
    parts = []
    for origin, of in (("paper", f"of {whose} claims"), ("ours", "of our own")):
        counts = claims.count(v for v in verdicts if v.claim.origin == origin)
        said = [f"{n} {badge(verdict) if mark else verdict}" for verdict, n in counts.items() if n]
        parts += [f"{of} {', '.join(said)}"] if said else []
    return "; ".join(parts) or "no claim"


def checks(verdicts: Sequence[claims.Verdict]) -> str:
    """How the checks of the code fared, in words; nothing where there are none."""
    found = [v for v in verdicts if v.claim.origin == "check"]
    fail = [f"{v.claim.name} ({v.verdict})" for v in found if v.verdict != "reproduced"]
    if not found:
        return ""
    many = "1 check" if len(found) == 1 else f"{len(found)} checks"
    rest = f"of which do not hold: {', '.join(fail)}" if fail else "which holds" if len(found) == 1 else "all hold"
    return f"{many} of the code, {rest}"
