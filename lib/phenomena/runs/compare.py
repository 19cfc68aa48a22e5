"""Runs side by side: what was changed in each, and what it measured, as a table and as a figure to move."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from phenomena.runs.contract.errors import BadInput, nearest
from phenomena.runs.store import claims, keys, runs
from phenomena.runs.store.chapters import Chapter, Project
from phenomena.runs.store.runs import Record

if TYPE_CHECKING:  # imported only where there are runs to show
    import pandas as pd

WIDTH = 5  # measured columns that a terminal's table shows unless others are named
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font-family:sans-serif;margin:2em}} td,th{{padding:.3em .8em;text-align:left}}</style></head>
<body><h1>{title}</h1><p>Mean over seeds with its 95 % interval, and the number of seeds.</p>
{chart}<div style="overflow-x:auto">{table}</div></body></html>
"""


@dataclass(frozen=True)
class Comparison:
    """Runs as rows in long form: one row for each run and each claim or recorded value.

    frame: columns run, the changed parameters, quantity, mean, low, high, n. changed: names of those parameters.
    claims, values: names of the quantities that are claims, or recorded values.
    """

    title: str
    frame: "pd.DataFrame"
    changed: list[str]
    claims: list[str]
    values: list[str]

    def rows(self, names: list[str] | None = None) -> list[tuple[str, ...]]:
        """A table of texts, its heading first: a run a row, a quantity a column; the first claims unless named."""
        chosen = names if names else self.claims[:WIDTH]
        for name in chosen:
            if name not in self.claims + self.values:
                hint = nearest(name, self.claims + self.values) or ";"
                raise BadInput(f"no value {name!r}{hint} there are: {', '.join(self.claims + self.values)}")
        lines = [("run", *self.changed, *chosen)]
        for run, part in self.frame.groupby("run", sort=False):
            by = part.set_index("quantity")
            cells = [_cell(by.loc[q]) if q in by.index else "-" for q in chosen]
            lines.append((str(run), *(str(part[name].iloc[0]) for name in self.changed), *cells))
        return lines

    def csv(self) -> str:
        """The long table: every claim and every recorded value."""
        return self.frame.to_csv(index=False, float_format="%.6g")

    def html(self) -> str:
        """A page of its own, without any request: the figure with menus, and the table."""
        import pandas as pd

        heading, *lines = self.rows(self.claims or self.values)
        table = pd.DataFrame(lines, columns=heading).to_html(index=False, border=0)
        chart = self._chart().to_html(inline=True, fullhtml=False, embed_options={"actions": False})
        return PAGE.format(title=self.title, chart=chart, table=table)

    def _chart(self) -> Any:
        """Measured value against the first changed parameter, a colour for each value of the second."""
        import altair as alt
        import pandas as pd

        frame = self.frame.assign(**{name: self.frame[name].map(_plain) for name in self.changed})
        wanted = self.claims or self.values
        menu = alt.binding_select(options=wanted, name="measured: ")
        chosen = alt.param(name="quantity_shown", value=wanted[0], bind=menu)
        across = self.changed[0] if self.changed else "run"
        kind = "Q" if pd.api.types.is_numeric_dtype(frame[across]) else "N"
        x = alt.X(f"{across}:{kind}", title=across, scale=alt.Scale(zero=False) if kind == "Q" else alt.Undefined)
        colour = alt.Color(f"{self.changed[1]}:N") if len(self.changed) > 1 else alt.value("#0173b2")
        base = alt.Chart(frame[frame["quantity"].isin(wanted)]).encode(x=x, color=colour)
        base = base.transform_filter("datum.quantity == quantity_shown")
        y = alt.Y("mean:Q", title="measured", scale=alt.Scale(zero=False))
        shown = ["run", *self.changed, "mean", "low", "high", "n"]
        points = base.mark_point(filled=True, size=70).encode(y=y, tooltip=shown)
        bars = base.mark_rule().encode(y=alt.Y("low:Q", title="measured"), y2="high:Q")
        return (bars + points).add_params(chosen).properties(width=600, height=320, title=self.title)


def find(project: Project, chapter: Chapter, wanted: Mapping[str, Any]) -> list[Record]:
    """The whole runs of a chapter that match today's sources and the wanted parameter values, oldest first.

    Raises `BadInput` for an unknown parameter or value, or when there is no such run.
    """
    values = {name: chapter.resolve("default", {name: value})[name] for name, value in wanted.items()}
    sources = keys.sources(chapter, keys.sha256(project.lock.read_bytes()))
    everything = [runs.read(folder) for folder in sorted((project.runs / chapter.name).glob("*"))]
    records = [run.record for run in everything if run]
    current = [r for r in records if sources.key(r.parameters) == r.key]
    found = [r for r in current if all(r.parameters[name] == value for name, value in values.items())]
    if not found:
        raise BadInput(f"{chapter.name}: none of the {len(current)} runs that match today's sources is such a run")
    return sorted(found, key=lambda record: record.started)


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
        verdicts = _verdicts(chapter, record)
        for v in verdicts:
            figures = {"mean": v.measured, "low": v.low, "high": v.high, "n": v.seeds}
            rows.append(start | {"quantity": v.claim.name, **figures})
        values = claims.of_values(chapter, record)
        for name in sorted(values.keys() - {v.claim.name for v in verdicts}):
            mean, low, high, n = values[name]
            rows.append(start | {"quantity": name, "mean": mean, "low": low, "high": high, "n": n})
    frame = pd.DataFrame(rows).astype({"mean": float, "low": float, "high": float})
    names = list(dict.fromkeys(frame["quantity"]))
    of_claims = [claim.name for claim in chapter.file.claims if claim.name in names]
    return Comparison(chapter.file.title, frame, changed, of_claims, [n for n in names if n not in of_claims])


def _verdicts(chapter: Chapter, record: Record) -> list[claims.Verdict]:
    try:
        return claims.check(chapter, record)
    except BadInput:  # a published run of an older version, without today's values
        return []


def _cell(row: Any) -> str:
    """Mean, interval where there is one, number of seeds."""
    bounds = f" [{row['low']:z.3f}, {row['high']:z.3f}]" if row["low"] == row["low"] else ""  # nan is not itself
    return f"{row['mean']:z.3f}{bounds} {row['n']}"


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else str(value)
