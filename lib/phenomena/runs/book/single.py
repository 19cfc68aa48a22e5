"""One run as one file of HTML, whoever ran it: no request to anywhere, no build."""

import base64
import re
from collections.abc import Iterator
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from markdown_it import MarkdownIt
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from phenomena.runs import words
from phenomena.runs.book import images, markdown, quotes, staged
from phenomena.runs.book.pages import Page, tally
from phenomena.runs.book.verdicts import KEY, WHOSE, anchor, drawn, facts, groups, how_measured, marked, plot_of
from phenomena.runs.contract.notebook import MIME
from phenomena.runs.store import claims
from phenomena.runs.store.chapters import Project
from phenomena.runs.store.named import Named
from phenomena.runs.store.runs import Record

STYLE = """
:root { --pst-color-border: #ddd; --pst-color-background: #fff; --pst-color-primary: #0173b2;
  --pst-color-text-muted: #5c5c5c; --pst-color-text-base: #222; color-scheme: light; }
body { font: 17px/1.55 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { line-height: 1.2; margin-bottom: .3em; } h2 { margin-top: 2em; border-bottom: 1px solid #ddd; }
a { color: #0173b2; } .muted { color: #5c5c5c; font-size: .9em; } code { font-size: .9em; }
table { border-collapse: collapse; font-size: .9em; } th, td { text-align: left; padding: .25em .9em .25em 0; }
td, th { border-top: 1px solid #ddd; vertical-align: top; } .wide, .math.block { overflow-x: auto; }
pre { background: #f6f6f6; padding: .7em 1em; overflow-x: auto; font-size: .82em; line-height: 1.4; }
details { margin: .6em 0; } summary { cursor: pointer; color: #5c5c5c; font-size: .9em; }
figure { margin: 1.5em 0; } figure img { max-width: 100%; height: auto; }
figcaption { color: #444; font-size: .9em; margin-top: .5em; }
.remarks { border-left: 4px solid #b34700; padding: .3em 1em; background: #fdf3ec; }
.verdict { font-weight: 600; } .verdict.reproduced { color: #1b6e3c; } .verdict.inconclusive { color: #5c5c5c; }
.verdict.contradicted { color: #a5341a; }
div.interactive { width: 100%; } .vega-bind { margin: .4em 0; } .vega-bind label { display: flex; gap: .8em; }
.track { display: inline-flex; flex-direction: column; width: min(22rem, 60vw); } .ticks { position: relative;
  height: 1.3em; font-size: .75em; margin: 0 8px; } .ticks > span { position: absolute; transform: translateX(-50%); }
.reading { font-size: .95em; }
@media print { summary { display: none; } }
"""
TAGS = "details|summary|sub|sup|br|b|i|em|strong|small|p|ul|ol|li"  # what prose may hold, without attributes
OTHER_TAG = re.compile(rf"<(?!/?(?:{TAGS})\s*/?>)")
BEYOND_TABLES = re.compile(r"<(?!/?(?:table|t[rhd]|thead|tbody|div|style|p|b|span|caption)\b)|://|\bon\w+=")
FIGURE_LINK = re.compile(r"\[([^\[\]]+)\]\(#([\w-]+)\)")


class Own(Page):
    """A run as a page of its own: the verdicts on what it measured, alone."""

    @cached_property
    def evidence(self) -> Record:
        """The run's own record."""
        return self.record

    @cached_property
    def judged(self) -> tuple[list[claims.Verdict], list[str]]:
        """The verdicts that the record allows, and why it does not allow others."""
        return claims.possible(self.chapter, self.record)

    @cached_property
    def verdicts(self) -> list[claims.Verdict]:
        """The verdicts that the record allows."""
        return self.judged[0]


def single(project: Project, named: Named) -> str:
    """The run as one page: what differs from the defaults, verdicts, and its notebook with its quotations filled in."""
    page = Own(project, named.chapter, named.edition, named.run)
    title = escape(page.chapter.file.title)
    body = [f"<h1>{title}</h1>", _about(page, named), *_cells(page), *_scripts(page)]
    colours = HtmlFormatter(style="default").get_style_defs(".highlight")
    style = "\n".join([STYLE, (_static(project) / "verdicts.css").read_text(encoding="utf-8"), colours])
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>'
        f"<style>{style}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>\n' + "\n".join(body) + "\n</body></html>\n"


def _static(project: Project) -> Path:
    return project.root / "book" / "_static"


# --- above the notebook -----------------------------------------------------------------------------------------------


def _about(page: Page, named: Named) -> str:
    """What was run, what does not match today's sources, what differs from the defaults, how the claims fared."""
    r, default = page.record, {name: p.default for name, p in page.chapter.declaration.items()}
    took = f"{words.duration(r.seconds['total'])}, " if r.seconds["total"] else ""
    told = [
        f"edition {r.edition}" if r.edition else "own parameters",
        f"run {r.key}",
        f"seeds {words.ranges(r.seeds)}",
        f"{took}{r.peak_memory_mb:.0f} MB",
        r.processor,
        r.gpu or "",
        f"commit {r.commit[:12]}" if r.commit else "",
        f"begun {r.started[:16]}" if r.started else "",
    ]
    parts = [
        f"<p>{escape(page.chapter.file.summary)}</p>",
        f'<p class="muted">{escape(" · ".join(filter(None, told)))}</p>',
    ]
    if named.remarks:
        lines = "".join(f"<li>{escape(line)}</li>" for line in named.remarks)
        parts.append(f'<div class="remarks"><ul>{lines}</ul></div>')
    rows = [(name, value, default.get(name, "-"), page.chapter.declaration[name].meaning if name in default else "")
            for name, value in r.parameters.items()]  # fmt: skip
    changed = [row for row in rows if row[1] != row[2]]
    parts.append("<h2>Parameters</h2>")
    parts.append(_table(changed) if changed else "<p>All parameters have their defaults.</p>")
    parts.append(f"<details><summary>All parameters</summary>{_table(rows)}</details>")
    verdicts = tally(page.verdicts, "the paper's")
    parts.append(f'<p><a href="#verdicts">Verdicts</a> on this run alone: {verdicts}.</p>')
    return "\n".join(parts)


def _table(rows: list[tuple[Any, ...]]) -> str:
    head = "<tr><th>name</th><th>this run</th><th>default</th><th>meaning</th></tr>"
    lines = ["<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows]
    return f'<div class="wide"><table>{head}{"".join(lines)}</table></div>'


# --- the notebook -----------------------------------------------------------------------------------------------------


def _cells(page: Own) -> Iterator[str]:
    """The cells of the executed notebook, code folded; the verdicts where it has a place for them, or else last."""
    texts, told, first = quotes.quotable(page), False, True
    for cell in page.run.notebook.cells:
        if cell.cell_type == "code":
            yield from _code(page, cell)
        elif "verdicts" in cell.metadata.get("tags", []):
            told = True
            yield _verdicts(page)
        elif cell.cell_type == "markdown":
            source = re.sub(r"\A# .*\n?", "", cell.source) if first else cell.source
            first = False
            yield _prose(page, source, texts)
    if not told:
        yield "<h2>Verdicts</h2>" + _verdicts(page)


def _prose(page: Page, text: str, texts: dict[str, str]) -> str:
    shown = [page.label(figure.name) for figure in page.record.figures]

    def figure(match: re.Match[str]) -> str:
        return f"[Fig. {shown.index(match[2]) + 1}](#{match[2]})" if match[2] in shown else match[1]

    links = dict[str, str]()

    def kept(match: re.Match[str]) -> str:
        name = f"FIGURE{len(links)}LINK"  # what is not of a page's own is made plain words below
        links[name] = figure(match)
        return name

    readable = markdown.for_readers(FIGURE_LINK.sub(kept, text), page, texts)
    for name, link in links.items():
        readable = readable.replace(name, link)
    return str(_markdown().render(readable))


def _markdown() -> MarkdownIt:
    md = MarkdownIt("commonmark", {"html": True}).enable("table").use(dollarmath_plugin, renderer=_formula)
    md.core.ruler.push("own", _within)
    md.add_render_rule("table_open", lambda *_: '<div class="wide"><table>')  # scrolled alone on narrow screens
    md.add_render_rule("table_close", lambda *_: "</table></div>")
    return md


# what TeX has and docutils has not: sizes of brackets, \dots, arguments of one sign without braces
KNOWN = [
    (r"\\[bB]ig+[lr]?(?![a-zA-Z])", ""),
    (r"\\dots(?![a-zA-Z])", r"\\ldots"),
    (r"\\[td]frac(?![a-zA-Z])", r"\\frac"),
    (r"\\frac\s*(\w)", r"\\frac{\1}"),
    (r"(\\frac\{[^{}]*\})\s*(\w)", r"\1{\2}"),
]


def _formula(tex: str, options: dict[str, Any]) -> str:
    """A formula as MathML, which browsers draw themselves; its source where that is not understood."""
    for pattern, known in KNOWN:
        tex = re.sub(pattern, known, tex)
    try:
        return str(tex2mathml(tex, as_block=options.get("display_mode", False)))
    except (MathError, SyntaxError):
        return f"<code>{escape(tex)}</code>"


def _within(state: Any) -> None:
    """Takes out links and pictures that lead elsewhere, and HTML beyond what prose needs."""
    for token in state.tokens:
        if token.type == "html_block":
            token.content = OTHER_TAG.sub("&lt;", token.content)
        kept, opened = list[Token](), list[bool]()
        for child in token.children or []:
            if child.type == "link_open":
                opened.append(str(child.attrs.get("href", "")).startswith("#"))
                if not opened[-1]:
                    continue
            elif child.type == "link_close" and not opened.pop():
                continue
            elif child.type == "image":
                child = Token("text", "", 0, content=child.content)
            elif child.type == "html_inline":
                child.content = OTHER_TAG.sub("&lt;", child.content)
            kept.append(child)
        if token.children is not None:
            token.children = kept


def _code(page: Page, cell: NotebookNode) -> Iterator[str]:
    """The cell's source, folded under the name that its first comment gives, and what it shows."""
    first = cell.source.partition("\n")[0]
    name = f"Code: {first.lstrip('# ')}" if first.startswith("#") else "Code"
    shown = highlight(cell.source, PythonLexer(), HtmlFormatter())
    yield f"<details><summary>{escape(name)}</summary>{shown}</details>"
    for output in cell.outputs:
        data = output.get("data", {})
        bundle = data.get(MIME)
        if bundle is not None:
            if "figure" in bundle:
                yield _figure(page, bundle["figure"]["name"])
        elif output.output_type == "error":
            text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output.traceback) or f"{output.ename}: {output.evalue}")
            yield f"<pre>{escape(text)}</pre>"
        elif "image/png" in data:
            yield f'<p><img alt="" src="data:image/png;base64,{data["image/png"].strip()}"></p>'
        elif "<table" in (table := data.get("text/html", "")) and not BEYOND_TABLES.search(table):
            yield f'<div class="wide">{table}</div>'
        elif (text := output.get("text") or data.get("text/plain")) and output.get("name") != "stderr":
            yield f"<pre>{escape(text)}</pre>"


def _figure(page: Page, name: str) -> str:
    figure = page.run.figures[name]
    number = list(page.run.figures).index(name) + 1
    png = base64.b64encode(images.light(figure.picture)).decode()
    return (
        f'<figure id="{page.label(name)}"><img alt="{escape(figure.alt)}" src="data:image/png;base64,{png}">'
        f"<figcaption><b>Fig. {number}.</b> {_markdown().renderInline(figure.caption)}</figcaption></figure>"
    )


def _scripts(page: Page) -> Iterator[str]:
    """The charts of figures that move, and what draws them; nothing where none does."""
    charts = staged.interactive_figures(page)
    if charts:
        yield from (html.partition("\n")[0] for html in charts.values())
        yield f"<script>{staged.vega(page.project.root / '_build').decode()}</script>"
        yield f"<script>{(_static(page.project) / 'interactive.js').read_text(encoding='utf-8')}</script>"


# --- verdicts ---------------------------------------------------------------------------------------------------------


def _verdicts(page: Own) -> str:
    """A block a claim with its plot, in the book's groups; at the end what could not be checked."""
    parts = ['<div id="verdicts">', KEY]
    for title, some in groups(page):
        parts += [f"<h3>{title}</h3>", *(_block(page, v) for v in some)]
    if refused := page.judged[1]:
        parts.append(f"<h3>Not checked</h3><ul>{''.join(f'<li>{escape(line)}</li>' for line in refused)}</ul>")
    return "\n".join([*parts, "</div>"])


def _block(page: Page, v: claims.Verdict) -> str:
    claim, inline = v.claim, _markdown().renderInline
    whose = "" if claim.origin == "paper" else f" <small>({WHOSE[claim.origin]})</small>"
    said = "<br>".join(f'<span class="fact">{name}</span> {inline(text)}' for name, text in facts(page, v))
    if claim.figure in page.run.figures:
        number = list(page.run.figures).index(claim.figure) + 1
        said += f'<br><span class="fact">Seen in</span> <a href="#{page.label(claim.figure)}">Fig. {number}</a>'
    return (
        f'<div class="claim" id="{anchor(claim)}"><div class="claim-said">{escape(claim.statement)}{whose}</div>'
        f'<div class="claim-plot">{marked(v)}{drawn(plot_of(page, v))}</div><div class="claim-facts">{said}</div>'
        f"<details><summary>How <code>{claim.name}</code> is measured</summary><ul>"
        f"{''.join(f'<li>{inline(line)}</li>' for line in how_measured(claim))}</ul></details></div>"
    )
