"""Runs side by side: what was changed in each, and what it measured, as a table and as a figure to move."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from phenomena.runs.contract.errors import BadInput, nearest
from phenomena.runs.store import claims, replication, runs
from phenomena.runs.store.chapters import Chapter, Project
from phenomena.runs.store.runs import Record

if TYPE_CHECKING:  # imported only where there are runs to show
    import pandas as pd

WIDTH = 5  # measured columns that a terminal's table shows unless others are named
AGREES = {"bits": "equal to the bit", "inside": "inside", "chance": "by chance", "disagreement": "in disagreement"}
SHORT = {"bits": "same", "inside": "inside", "chance": "chance", "disagreement": "differs"}  # in a cell
COLOURS = {"reproduced": "#1b6e3c", "inconclusive": "#767676", "contradicted": "#a5341a", "no claim": "#0173b2"}
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>body{{font-family:sans-serif;margin:2em;color:#222}}
td,th{{padding:.3em .8em;text-align:left;white-space:nowrap}}
tr{{border-top:1px solid #ddd}} .vega-bind{{display:block;margin:.5em 0}} li{{margin:.3em 0}}</style></head>
<body><h1>{title}</h1>
<p>Mean over seeds with its 95 % interval, and the number of seeds. The dashed line is the claim's threshold.</p>
{chart}{failed}<div style="overflow-x:auto">{table}</div></body></html>
"""


@dataclass(frozen=True)
class Comparison:
    """Runs as rows in long form: one row for each run and each claim or recorded value.

    frame: columns run, the changed parameters, quantity, mean, low, high, n, verdict, and where there is a published
    run, published: how a quantity agrees with it. changed: names of those parameters. claims, values: names of the
    quantities that are claims, or recorded values.
    """

    chapter: Chapter
    frame: "pd.DataFrame"
    changed: list[str]
    claims: list[str]
    values: list[str]

    def chosen(self, names: Sequence[str] = ()) -> list[str]:
        """These quantities. Raises `BadInput` for one that there is not."""
        for name in names:
            if name not in self.claims + self.values:
                hint = nearest(name, self.claims + self.values) or ";"
                raise BadInput(f"no value {name!r}{hint} there are: {', '.join(self.claims + self.values)}")
        return list(names)

    def rows(self, names: Sequence[str] = ()) -> list[tuple[str, ...]]:
        """A table of texts, its heading first: a run a row, a quantity a column; the first claims unless named."""
        chosen = self.chosen(names) or self.claims[:WIDTH]
        lines = [("run", *self.changed, *chosen)]
        for run, part in self.frame.groupby("run", sort=False):
            by = part.set_index("quantity")
            cells = [_cell(by.loc[q]) if q in by.index else "-" for q in chosen]
            lines.append((str(run), *(str(part[name].iloc[0]) for name in self.changed), *cells))
        return lines

    def agreement(self) -> list[str]:
        """How each run's quantities agree with those of the published one, a line a run; none where there is none."""
        if "published" not in self.frame:
            return []
        lines = []
        for run, part in self.frame[self.frame["published"] != ""].groupby("run", sort=False):
            of = {kind: list(part["quantity"][part["published"] == kind]) for kind in AGREES}
            counts = ", ".join(f"{len(of[kind])} {word}" for kind, word in AGREES.items())
            which, more = of["disagreement"][:WIDTH], "…" if len(of["disagreement"]) > WIDTH else ""
            named = f": {', '.join([*which, *filter(None, [more])])}" if which else ""
            lines.append(f"{run} against published, {len(part)} quantities: {counts}{named}")
        return lines

    def csv(self) -> str:
        """The long table: every claim and every recorded value."""
        return self.frame.to_csv(index=False, float_format="%.6g")

    def html(self, names: Sequence[str] = (), failed: Mapping[str, str] | None = None) -> str:
        """A page of its own, without any request: the figure with menus, what failed, and the table.

        names: the quantities to show; all claims unless named. failed: points of a sweep that have no run, and why.
        """
        import pandas as pd

        chosen = self.chosen(names) or self.claims or self.values
        heading, *lines = self.rows(chosen)
        table = pd.DataFrame(lines, columns=heading).to_html(index=False, border=0)
        chart = self._chart(chosen).to_html(inline=True, fullhtml=False, embed_options={"actions": False})
        items = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in (failed or {}).items())
        told = "".join(f"<p>{escape(line)}</p>" for line in self.agreement())
        return PAGE.format(
            title=escape(self.chapter.file.title),
            chart=chart,
            failed=told + (f"<h2>Failed points</h2><ul>{items}</ul>" if items else ""),
            table=table,
        )

    def most_varied(self, names: Sequence[str]) -> str:
        """The quantity whose mean varies most over the runs, in halves of its typical interval."""
        import numpy as np

        def varies(part: "pd.DataFrame") -> float:
            spread, half = float(np.ptp(part["mean"].dropna())) if part["mean"].notna().any() else 0.0, 0.0
            if (widths := (part["high"] - part["low"]).dropna() / 2).size:
                half = float(widths.median())
            # one without an interval is compared to its own size
            return spread / (half or float(part["mean"].abs().max()) or 1.0)

        return max(names, key=lambda name: varies(self.frame[self.frame["quantity"] == name]))

    def _chart(self, names: Sequence[str]) -> Any:
        """Measured value against the first changed parameter, a shape for each value of the second, and thresholds."""
        import altair as alt
        import pandas as pd

        frame = self.frame.assign(**{name: self.frame[name].map(_plain) for name in self.changed})
        frame = frame[frame["quantity"].isin(names)].assign(verdict=lambda f: f["verdict"].replace("", "no claim"))
        known = {claim.name: claim for claim in self.chapter.file.claims if claim.name in self.claims}
        menu = alt.binding_select(options=list(names), name="measured: ")
        chosen = alt.param(name="quantity_shown", value=self.most_varied(names), bind=menu)
        across = self.changed[0] if self.changed else "run"
        numbers = pd.api.types.is_numeric_dtype(frame[across]) and not pd.api.types.is_bool_dtype(frame[across])
        kind = "Q" if numbers else "N"
        x = alt.X(f"{across}:{kind}", title=across, scale=alt.Scale(zero=False) if kind == "Q" else alt.Undefined)
        said = [verdict for verdict in COLOURS if verdict in set(frame["verdict"])]
        scale = alt.Scale(domain=said, range=[COLOURS[verdict] for verdict in said])
        base = alt.Chart(frame).encode(x=x, color=alt.Color("verdict:N", scale=scale, title="verdict"))
        base = base.transform_filter("datum.quantity == quantity_shown")
        y = alt.Y("mean:Q", title="measured", scale=alt.Scale(zero=False))
        shown = [
            "run",
            *self.changed,
            "mean",
            "low",
            "high",
            "n",
            "verdict",
            *frame.columns.intersection(["published"]),
        ]
        shape = alt.Shape(f"{self.changed[1]}:N") if len(self.changed) > 1 else alt.Undefined
        points = base.mark_point(filled=True, opacity=1, size=90).encode(y=y, tooltip=shown, shape=shape)
        bars = base.mark_rule().encode(y=alt.Y("low:Q", title="measured"), y2="high:Q")
        ends = [(n, end) for n, claim in known.items() if n in names for end in claim.range if math.isfinite(end)]
        asked = alt.Chart(pd.DataFrame(ends, columns=["quantity", "threshold"]).astype({"threshold": float}))
        asked = asked.transform_filter("datum.quantity == quantity_shown")
        rule = asked.mark_rule(strokeDash=[6, 4], color="#222").encode(y="threshold:Q", tooltip=["threshold:Q"])
        about = {n: f"{known[n].quantity}; claimed: {known[n].threshold}" if n in known else "" for n in names}
        title = alt.TitleParams(
            text=alt.ExprRef(f"[quantity_shown, ({json.dumps(about)})[quantity_shown]]"), anchor="start", offset=12
        )
        return (rule + bars + points).add_params(chosen).properties(width=600, height=320, title=title)


def find(project: Project, chapter: Chapter, wanted: Mapping[str, Any]) -> list[Record]:
    """The whole runs of a chapter that match today's sources and the wanted parameter values, oldest first.

    Raises `BadInput` for an unknown parameter or value, or when there is no such run.
    """
    values = {name: chapter.resolve("default", {name: value})[name] for name, value in wanted.items()}
    current = [run.record for run in runs.of_today(project, chapter)]
    found = [r for r in current if all(r.parameters[name] == value for name, value in values.items())]
    if not found:
        raise BadInput(f"{chapter.name}: none of the {len(current)} runs that match today's sources is such a run")
    return found


def table(chapter: Chapter, records: list[Record], beside: Record | None = None) -> Comparison:
    """Runs of one chapter side by side, a published one first; what differs among them, or else from the defaults."""
    import pandas as pd

    if not records:
        raise BadInput(f"{chapter.name}: no run to show")
    every = [*([beside] if beside else []), *records]
    default = {name: p.default for name, p in chapter.declaration.items()}
    changed = [name for name in default if any(r.parameters.get(name) != every[0].parameters.get(name) for r in every)]
    if not changed:
        changed = [name for name, value in default.items() if any(r.parameters.get(name) != value for r in every)]
    rows = []
    for number, record in enumerate(every):
        label = "published" if beside and number == 0 else record.key
        start = {"run": label, **{name: record.parameters.get(name) for name in changed}}
        against = replication.of_quantities(chapter, beside, record) if beside and number else []
        agrees = {value.name: value.kind for value in against if value.seeds}
        found = {v.claim.name: (v.measured, v.low, v.high, v.seeds, v.verdict)
                 for v in claims.possible(chapter, record)[0]}  # fmt: skip
        values = claims.of_values(chapter, record)
        found |= {name: (*values[name], "") for name in sorted(values.keys() - found.keys())}
        for name, (mean, low, high, n, verdict) in found.items():
            row = start | {"quantity": name, "mean": mean, "low": low, "high": high, "n": n, "verdict": verdict}
            rows.append(row | ({"published": agrees.get(name, "")} if beside else {}))
    frame = pd.DataFrame(rows).astype({"mean": float, "low": float, "high": float})
    names = list(dict.fromkeys(frame["quantity"]))
    of_claims = [claim.name for claim in chapter.file.claims if claim.name in names]
    return Comparison(chapter, frame, changed, of_claims, [n for n in names if n not in of_claims])


def _cell(row: Any) -> str:
    """Mean, interval where there is one, number of seeds."""
    bounds = f" [{row['low']:z.3f}, {row['high']:z.3f}]" if row["low"] == row["low"] else ""  # nan is not itself
    agrees = f" {SHORT[row['published']]}" if row.get("published") else ""
    return f"{row['mean']:z.3f}{bounds} {row['n']}{agrees}"


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else str(value)
