"""Verdicts as readers meet them: a forest plot a claim, a block around it, and the headline claims in short."""

import math
import re
from collections.abc import Container, Iterable
from dataclasses import dataclass
from html import escape

from phenomena.runs import words
from phenomena.runs.book.pages import Page, asked, badge, checks, figure_link, plain, tally, told
from phenomena.runs.store import claims
from phenomena.runs.store.chapters import Claim

LEGEND = """\
<small>*firm*: the verdict stays after Holm's correction over all findings of the book. *close 1.2*: it was decided by a
hair, with the threshold 1.2 half-widths of the interval from the mean. Both are explained under
[how verdicts are reached](../book/verdicts.md).</small>"""
WHOSE = {"paper": "the paper's", "ours": "ours", "check": "a check of the code"}

# a plot's geometry, the same for every claim, in units of its view box
WIDTH, HEIGHT = 320, 66
LEFT, RIGHT = 14, 306  # of the axis
SEEDS, MEAN, AXIS, LABELS = 14, 34, 46, 60  # heights of the rows
DOT = 4.4  # diameter of a seed's dot
LANES = (0, -1, 1, -2, 2)  # dots that would overlap go above and below each other
LETTER = 6.5  # width of a letter of the labels, about
ROOM = 0.08  # of the span, left beyond a threshold so that both of its sides show
NARROWEST = 1e-4  # what a plot resolves, as a part of its largest value, with labels of six digits
PLAIN = re.compile(r"(?:about )?([−-]?\d*\.?\d+)")


# --- the plot ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plot:
    """What a claim's plot shows: its scale, and the value of every seed that has a finite one."""

    v: claims.Verdict
    values: list[float]
    low: float
    high: float

    def at(self, x: float) -> float:
        """Where a value lies across the plot, to a tenth of a unit."""
        return round(LEFT + (x - self.low) / (self.high - self.low) * (RIGHT - LEFT), 1)

    @property
    def thresholds(self) -> list[float]:
        """One or two."""
        return [end for end in self.v.claim.range if math.isfinite(end)]


def paper_number(claim: Claim) -> float | None:
    """The paper's value where it is a plain number, hence in the unit of the quantity."""
    found = PLAIN.fullmatch(claim.paper_value)
    return float(found[1].replace("−", "-")) if found else None


def plot_of(page: Page, v: claims.Verdict) -> Plot:
    """A claim's plot: thresholds, interval, seeds and the paper's value lie within its scale, which has round ends.

    A share, or what has bounds, has no scale beyond them.
    """
    values = claims.per_seed(page.chapter.name, v.claim, page.evidence)
    return made_plot(v, [float(x) for x in values if math.isfinite(x)])


def made_plot(v: claims.Verdict, values: list[float]) -> Plot:
    """The plot of these seeds' values."""
    claim = v.claim
    ends = [end for end in claim.range if math.isfinite(end)]
    shown = [x for x in (v.measured, v.low, v.high, paper_number(claim)) if x is not None] + values
    size = max(map(abs, shown + ends))
    span = max(shown + ends) - min(shown + ends)
    span = span if span > NARROWEST * size else size or 1.0
    low = min([*shown, *(end - ROOM * span for end in ends)])
    high = max([*shown, *(end + ROOM * span for end in ends)])
    step = _round_step((high - low) / 8)
    low, high = (float(f"{step * f(round(x / step, 6)):.12g}") for f, x in ((math.floor, low), (math.ceil, high)))
    bottom, top = (0.0, 1.0) if claim.kind == "share" else claim.bounds or (-math.inf, math.inf)
    if bottom <= min(shown, default=bottom) and bottom < min(ends):
        low = max(low, bottom)
    if top >= max(shown, default=top) and top > max(ends):
        high = min(high, top)
    return Plot(v, values, low, high)


def _round_step(x: float) -> float:
    """The least of 1, 2, 5, 10, 20 ... that is not below x."""
    power = 10.0 ** math.floor(math.log10(x))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= x * (1 - 1e-9))


def drawn(plot: Plot) -> str:
    """The plot as SVG, whose colours are those of the page's style; its label says everything that it shows."""
    v, at, claim = plot.v, plot.at, plot.v.claim
    bottom, top = (at(min(max(end, plot.low), plot.high)) for end in claim.range)
    parts = [f'<rect class="claimed" x="{bottom}" y="2" width="{round(top - bottom, 1)}" height="{AXIS - 2}"/>']
    parts += [f'<path class="threshold" d="M{at(end)} 2V{AXIS}"/>' for end in plot.thresholds]
    if plot.values:
        parts.append(f'<path class="seeds" d="{_dots(sorted(map(at, plot.values)))}"/>')
    if v.low is not None and v.high is not None:
        ends = (at(v.low), at(v.high))
        caps = "".join(f"M{x} {MEAN - 5}v10" for x in ends)
        parts.append(f'<path class="interval" d="M{ends[0]} {MEAN}H{ends[1]}{caps}"/>')
    if v.measured is not None:
        parts.append(f'<circle class="mean" cx="{at(v.measured)}" cy="{MEAN}" r="4"/>')
    number = paper_number(claim)
    if number is not None:
        parts.append(f'<path class="paper" d="M{at(number)} {MEAN - 7.5}l7 7.5-7 7.5-7-7.5z"/>')
    parts.append(f'<path class="axis" d="M{LEFT} {AXIS}H{RIGHT}"/>')
    parts += _labels(plot)
    label = escape(in_words(plot))
    return (
        f'<svg class="forest {v.verdict}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>"
    )


def _labels(plot: Plot) -> list[str]:
    """The ends of the scale and, where they do not collide with those, the thresholds."""
    places = [("start", LEFT - 12.0, plot.low), ("end", RIGHT + 12.0, plot.high)]
    places += [("middle", plot.at(end), end) for end in plot.thresholds]
    found, taken = [], list[tuple[float, float]]()
    for side, x, value in places:
        text = plain(value)
        width = LETTER * len(text)
        left = x - {"start": 0, "middle": width / 2, "end": width}[side]
        if all(left > end + LETTER or left + width < start - LETTER for start, end in taken):
            taken.append((left, left + width))
            found.append(f'<text x="{x:g}" y="{LABELS}" text-anchor="{side}">{text}</text>')
    return found


def _dots(places: Iterable[float]) -> str:
    """A path whose round ends are dots, each in the first lane that has room for it."""
    last = [-math.inf] * len(LANES)
    path = ""
    for x in places:
        lane = next((i for i, other in enumerate(last) if x - other >= DOT), last.index(min(last)))
        last[lane] = x
        path += f"M{x:g} {SEEDS + LANES[lane] * DOT:g}h.01"
    return path


def in_words(plot: Plot) -> str:
    """All that a plot shows, as one sentence or two."""
    v = plot.v
    claim = v.claim
    measured = re.sub(r" \[(\S+), (\S+)\]", r", interval \1 to \2", told(v)).replace("\u00a0", " ")
    text = [f"{v.verdict.capitalize()}: {measured}"]
    side = asked(claim).replace(">\u00a0", "above ").replace("<\u00a0", "below ")
    text.append(f"claimed: {side}")
    number = paper_number(claim)
    if number is not None:
        text.append(f"the paper's value: {plain(number)}")
    if len(plot.values) > 1:
        text.append(f"seeds from {_short(min(plot.values))} to {_short(max(plot.values))}")
    infinite = v.seeds - len(plot.values)
    if infinite:
        text.append(f"{infinite} of {v.seeds} seeds without a finite value")
    return f"{'; '.join(text)}. Scale from {plain(plot.low)} to {plain(plot.high)}."


def _short(x: float) -> str:
    return plain(float(f"{x:.3g}"))


# --- a claim in words -------------------------------------------------------------------------------------------------


def anchor(claim: Claim) -> str:
    """A claim's address within a page of its chapter."""
    return f"claim-{claim.name}"


def address(page: Page, claim: Claim) -> str:
    """A claim's address from a page of another folder of the book."""
    return f"../notebooks/{page.name}.html#{anchor(claim)}"


def marked(v: claims.Verdict, firm: Container[tuple[str, str]] = ()) -> str:
    """A verdict with its marks: firm or close."""
    marks = ["firm"] if (v.chapter, v.claim.name) in firm else []
    marks += [f"close {v.margin:.1f}"] if v.close else []
    return badge(v.verdict) + "".join(f" <small><em>{mark}</em></small>" for mark in marks)


def still_open(page: Page, v: claims.Verdict) -> str:
    """What would decide an open verdict, or why nothing would, as a sentence without its full stop."""
    text = words.still_open(v, page.evidence)
    return text[:1].upper() + text[1:]


def facts(page: Page, v: claims.Verdict) -> list[tuple[str, str]]:
    """What was measured, claimed and said by the paper, and what is left open: names and texts."""
    found = [("Measured", f"**{told(v)}**: {v.claim.quantity}"), ("Claimed", asked(v.claim))]
    if v.claim.paper_value != "none":
        found.append(("Paper", v.claim.paper_value))
    if text := still_open(page, v):
        found.append(("Open", text))
    return found


def how_measured(claim: Claim) -> list[str]:
    """The expression, the place in the paper, the reasons for threshold and scale: a line of Markdown each."""
    return [
        f"Expression ({claim.kind}): `{claim.measured}`, {asked(claim)}",
        f"Place: {claim.source}",
        f"Why this threshold: {claim.rationale}",
        f"Scale: {claim.caveat}",
    ]


# --- on a chapter's page ----------------------------------------------------------------------------------------------


def groups(page: Page) -> list[tuple[str, list[claims.Verdict]]]:
    """The page's verdicts: the headline claims in their order, then the paper's, ours and the checks of the code."""
    front = page.chapter.file.front
    by_name = {v.claim.name: v for v in page.verdicts}
    first = [by_name[name] for name in (front.claims if front else []) if name in by_name]
    rest = [v for v in page.verdicts if v not in first]
    more = "Further claims" if first else "Claims"
    named = {"paper": f"{more} of the paper", "ours": f"{more} of our own", "check": "Checks of the code"}
    found = [("Headline claims", first)]
    found += [(title, [v for v in rest if v.claim.origin == origin]) for origin, title in named.items()]
    return [(title, some) for title, some in found if some]


def headlines(page: Page) -> str:
    """The headline claims in short, as a list in HTML: verdict, statement, what was measured; each leads to its block.

    Empty where the chapter's yaml names none.
    """
    if not page.chapter.file.front:
        return ""
    lines = [
        f'<li>{badge(v.verdict)} <a href="#{anchor(v.claim)}">{escape(v.claim.statement)}</a> '
        f'<span class="measured">{escape(told(v))}</span></li>'
        for v in groups(page)[0][1]
    ]
    return "\n".join(['<ul class="headlines">', *lines, "</ul>"])


def verdict_blocks(page: Page, firm: Container[tuple[str, str]] = ()) -> str:
    """A block a claim, each with an address, in groups that are counted.

    firm: chapter and claim of the verdicts that stay after Holm's correction.
    """
    text = [KEY, LEGEND]
    for title, some in groups(page):
        text += [f"### {title}", f"{_counted(some)}.", *(_block(page, v, firm) for v in some)]
    return "\n\n".join(text)


def _counted(some: list[claims.Verdict]) -> str:
    """How many claims there are and how they fared; the paper's apart from ours."""
    many = "1 claim" if len(some) == 1 else f"{len(some)} claims"
    if len({v.claim.origin for v in some}) > 1:
        said = filter(None, [tally(some, WHOSE["paper"], mark=False), checks(some)])
        return f"{many}: {'; '.join(said)}"
    return f"{many}: {', '.join(f'{n} {name}' for name, n in claims.count(some).items() if n)}"


def _block(page: Page, v: claims.Verdict, firm: Container[tuple[str, str]]) -> str:
    claim = v.claim
    named = f"<code>{claim.name}</code>"
    link = f'<a class="permalink headerlink" href="#{anchor(claim)}" aria-label="Link to claim {claim.name}">#</a>'
    whose = "" if claim.origin == "paper" else f" <small>({WHOSE[claim.origin]})</small>"
    lines = [f'<span class="fact">{name}</span> {text}  ' for name, text in facts(page, v)]
    shown = [figure.name for figure in page.record.figures]
    if claim.figure in shown:
        lines.append(f'<span class="fact">Seen in</span> {figure_link(page, claim.figure)}')
    how = [f"- {line}" for line in (*how_measured(claim), f"{page.registrations[claim.name].text}.")]
    return "\n".join(
        (
            f'<div class="claim" id="{anchor(claim)}">\n<div class="claim-said">\n',
            f"{claim.statement}{whose} {link}",
            f'\n</div>\n<div class="claim-plot">{marked(v, firm)}{drawn(plot_of(page, v))}</div>',
            '<div class="claim-facts">\n',
            *lines,
            f"\n</div>\n<details><summary>How {named} is measured</summary>\n",
            *how,
            "\n</details>\n</div>",
        )
    )


def _sign(picture: str, meaning: str) -> str:
    return f'<span><svg class="forest" viewBox="0 0 24 16" aria-hidden="true">{picture}</svg> {meaning}</span>'


KEY = (
    '<p class="forest-key">'
    + " ".join(
        (
            _sign('<path class="interval" d="M2 8H22M2 4v8M22 4v8"/><circle class="mean" cx="12" cy="8" r="4"/>',
                  "mean with its interval (what is exact has none)"),
            _sign('<path class="seeds" d="M5 10h.01M12 6h.01M19 10h.01"/>', "one seed each"),
            _sign('<path class="paper" d="M12 .5l7 7.5-7 7.5-7-7.5z"/>', "the paper's value, where it is a number"),
            _sign('<rect class="claimed" x="12" y="0" width="12" height="16"/><path class="threshold" d="M12 0V16"/>',
                  "threshold and claimed side"),
        )
    )
    + "</p>"
)  # fmt: skip
