"""One page of the book: prose and metadata of the source notebook, outputs of a run, the front figure first.

Code is folded under the name that its first comment gives: cells that follow each other in one fold, up to a figure.
Cells tagged `open` stay open, and what is for the machine alone is hidden.
"""

import ast
import base64
import copy
import json
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

import nbformat
import vl_convert
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

from phenomena.runs.book import images, markdown, quotes
from phenomena.runs.book.form import run_form
from phenomena.runs.book.pages import (
    DRAFT,
    Page,
    download_list,
    first_pages,
    folded,
    run_note,
)
from phenomena.runs.book.results import Firm
from phenomena.runs.book.verdicts import headlines, verdict_blocks
from phenomena.runs.contract.notebook import MIME
from phenomena.runs.store import runs

VEGA = f"book/_static/vega-{version('vl-convert-python')}.js"  # draws interactive figures
VEGA_END = b"})();\n"
PLUMBING = {"check_parameters", "record"}  # what a notebook calls for the machine


def staged_notebook(page: Page, paths: Iterable[str] = (), colab: str | None = None, stay: Firm = ()) -> NotebookNode:
    """The page's notebook as Sphinx reads it.

    paths: of the files that its list of downloads names. colab: where a copy opens in Colab. stay: the book's verdicts
    that stay after Holm's correction, which is over the chapters' first pages alone.
    """
    charts, quotable, front = interactive_figures(page), quotes.quotable(page), page.chapter.file.front
    first = page.label(front.figure) if front else None
    top, numbers, preamble, rest = list[NotebookNode](), list[NotebookNode](), list[str](), list[NotebookNode]()
    for cell in _grouped(_with_outputs(page)):
        tags, figure = cell.metadata.get("tags", []), _figure(cell)
        if cell.cell_type == "code":
            if figure and figure == first:
                top = [_taken_out(cell), *_chart(figure, charts)]
                rest += [cell, new_markdown_cell(f"This makes {{numref}}`Fig. %s <{figure}>` at the top of the page.")]
            else:
                rest += [cell, *_chart(figure, charts)]
            continue
        if "verdicts" in tags:
            cell.source = verdict_blocks(page, stay if first_pages([page]) else ())
        else:
            cell.source = quotes.fill(markdown.for_book(cell.source, page), quotable, page.chapter.notebook.name)
        if "preamble" in tags:
            preamble.append(cell.source)
        else:
            (numbers if "numbers" in tags else rest).append(cell)
    title = rest.pop(0)
    if page.edition not in ("default", DRAFT):
        title.source = title.source.replace("\n", f" ({page.edition})\n", 1)
    about = "\n\n".join([*preamble, run_note(page), f"**Downloads.**\n\n{download_list(page, paths)}"])
    boxes = [
        headlines(page),
        folded("The paper, what would refute it, how this page was made", about),
        folded("Run it with your values", run_form(page, colab)),
    ]
    cells = [title, *top, *numbers, *(new_markdown_cell(text) for text in boxes if text), *rest]
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number:03d}"  # the same at every staging
    return nbformat.from_dict({**page.chapter.source, "cells": cells})


# --- cells ------------------------------------------------------------------------------------------------------------


def _with_outputs(page: Page) -> Iterator[NotebookNode]:
    """The source's cells with the run's outputs; after the parameters those that the edition changes."""
    executed = [cell for cell in page.run.notebook.cells if cell.cell_type == "code"]
    for cell in copy.deepcopy(page.chapter.source.cells):
        if cell.cell_type == "code":
            _give_outputs(cell, executed.pop(0), page)
        yield cell
        if executed and "injected-parameters" in executed[0].metadata.get("tags", []):
            changed = executed.pop(0)
            yield new_code_cell(f"# The values of this edition\n{changed.source.removeprefix('# Parameters').lstrip()}")


def _give_outputs(cell: NotebookNode, executed: NotebookNode, page: Page) -> None:
    """Gives the cell what its run shows to readers; a figure's caption and alternative text become metadata."""
    cell.outputs, cell.execution_count = [], executed.execution_count
    for output in map(copy.deepcopy, executed.outputs):
        bundle = output.get("data", {}).pop(MIME, None)
        if output.get("name") == "stderr" or (bundle is not None and "figure" not in bundle):
            continue
        if bundle is not None:
            figure = page.run.figures[bundle["figure"]["name"]]
            output.data["image/png"] = base64.b64encode(images.light(figure.picture)).decode()
            cell.metadata["mystnb"] = {
                "image": {"alt": figure.alt},
                "figure": {"caption": figure.caption, "name": page.label(figure.name)},
            }
        cell.outputs.append(output)


def _figure(cell: NotebookNode) -> str | None:
    """What the book calls the figure that the cell shows, if it shows one."""
    name: str | None = cell.metadata.get("mystnb", {}).get("figure", {}).get("name")
    return name


def _grouped(cells: Iterable[NotebookNode]) -> Iterator[NotebookNode]:
    """The cells, code that stands together in one: up to what it shows, and open cells apart."""
    group = list[NotebookNode]()
    for cell in cells:
        code, opened = cell.cell_type == "code", "open" in cell.metadata.get("tags", [])
        if group and (not code or opened or group[-1].outputs or "open" in group[-1].metadata.get("tags", [])):
            yield _folded(group)
            group = []
        if code:
            group.append(cell)
        else:
            yield cell
    if group:
        yield _folded(group)


def _folded(group: list[NotebookNode]) -> NotebookNode:
    """One cell of several, folded under a name unless it is open."""
    merged, tags = group[-1], [tag for cell in group for tag in cell.metadata.get("tags", [])]
    first = group[0].source.partition("\n")[0]
    name = "imports and parameters" if "parameters" in tags else first.lstrip("# ") if first.startswith("#") else ""
    hidden = not any(cell.outputs for cell in group) and all(map(_plumbing, group))
    merged.source = "\n\n".join(cell.source for cell in group)
    merged.outputs = [output for cell in group for output in cell.outputs]
    merged.metadata["tags"] = [] if "open" in tags else ["hide-input", *["plumbing"] * hidden]
    prompt = f"Code: {name}" if name else "Code"
    merged.metadata["mystnb"] = merged.metadata.get("mystnb", {}) | {
        "code_prompt_show": prompt, "code_prompt_hide": prompt
    }  # fmt: skip
    return merged


def _plumbing(cell: NotebookNode) -> bool:
    """Whether the cell ends in a call for the machine's sake."""
    statements = ast.parse(cell.source).body
    last = statements[-1] if statements else None
    call = last.value if isinstance(last, ast.Expr) else None
    return isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in PLUMBING


def _taken_out(cell: NotebookNode) -> NotebookNode:
    """The cell's figure in a cell of its own without code; the cell keeps the rest."""
    # Sphinx would drop a cell that is empty
    figure = new_code_cell(
        "# made below", outputs=[output for output in cell.outputs if "image/png" in output.get("data", {})]
    )
    cell.outputs = [output for output in cell.outputs if output not in figure.outputs]
    figure.metadata = nbformat.from_dict({"tags": ["remove-input"], "mystnb": dict(cell.metadata["mystnb"])})
    for part in ("image", "figure"):
        del cell.metadata["mystnb"][part]
    return figure


# --- moving figures ---------------------------------------------------------------------------------------------------


def _chart(figure: str | None, charts: dict[str, str]) -> list[NotebookNode]:
    """What brings a figure's chart to the page, where it has one."""
    return [new_markdown_cell(f"```{{raw}} html\n:file: {figure}.html\n```")] if figure in charts else []


def interactive_figures(page: Page) -> dict[str, str]:
    """HTML of the page's interactive figures, by the figure's label in the book.

    The chart stands in the page as data, and `interactive.js` puts it into the figure; the first brings the scripts.
    Without JavaScript nothing happens and the static picture stays.
    """
    found: dict[str, str] = {}
    for figure in page.run.figures.values():
        if figure.interactive is not None:
            spec = {**figure.interactive, "description": figure.alt}
            del spec["$schema"]
            # a less-than sign could end the script
            data = json.dumps(spec, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
            label = page.label(figure.name)
            html = f'<script type="application/json" class="interactive" data-figure="{label}">{data}</script>\n'
            scripts = [] if found else [f"../_static/{Path(VEGA).name}", "../_static/interactive.js"]
            found[label] = html + "".join(f'<script defer src="{path}"></script>\n' for path in scripts)
    return found


def vega(*folders: Path) -> bytes:
    """Vega, Vega-Lite and Vega-Embed in a scope of their own, since their short names would clash with others.

    folders: where a bundle may lie already; it is kept in the first. What a killed build has left half is made again.
    """
    name = Path(VEGA).name
    for path in (folder / name for folder in folders):
        if path.is_file() and (there := path.read_bytes()).endswith(VEGA_END):
            return there
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")  # takes four seconds
    made = b"(() => {" + bundle.encode() + VEGA_END
    if folders:
        runs.write(folders[0] / name, made)
    return made
