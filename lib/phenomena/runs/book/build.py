"""The book: runs what is missing, stages pages from runs, refuses bad ones, builds strictly.

Staged pages take prose and metadata from the source notebooks and outputs from the runs, so that a change of prose
needs no new run. Everything happens in `_build/`; nothing is written back into a source.
"""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import nbformat
import yaml

from phenomena.runs.book import api, downloads, ladder, quotes, sharing
from phenomena.runs.book.pages import DOWNLOADS, DRAFT, Page, checks, first_pages, tally
from phenomena.runs.book.results import all_verdicts, data_files, firm, results_page, runs_page
from phenomena.runs.book.staged import VEGA, interactive_figures, staged_notebook, vega
from phenomena.runs.contract.errors import RunFailed, nearest
from phenomena.runs.execute import runner
from phenomena.runs.store import keys, runs
from phenomena.runs.store.chapters import Project

STAMP = "built"  # in the work folder: that what is staged there was built, and by what code
EXTRA = "extra"  # what goes into the built site as it is


def book(project: Project, edition: str = "default") -> str:
    """Builds the book from the runs of an edition; returns the line that says where it is.

    `default` builds `_build/html`, with further pages for other editions that have been run. `smoke` builds a draft in
    `_build/draft`, which says so on every page. Raises `RunFailed` when a run fails, is not whole, or the build is not
    clean; what was built before then stays. Where nothing has changed since the last build, nothing is built.
    """
    chapters, draft = project.chapters(), edition == DRAFT
    for chapter in chapters:
        chapter.resolve(edition)
    jobs = [(c.name, edition) for c in chapters if runs.current(project, c, edition) is None]
    failed = runner.run_many(project, jobs) if jobs else []
    if failed:
        raise RunFailed(*failed)
    pages = find_pages(project, edition)
    for page in pages:
        validate(page)
    work = project.root / "_build" / ("draft-work" if draft else "work")
    target = project.root / "_build" / ("draft" if draft else "html")
    stamp, builder = work / STAMP, _builder()
    built_by = stamp.read_text() if stamp.is_file() and (target / "index.html").is_file() else None
    stamp.unlink(missing_ok=True)  # until the pages are in place: whatever interrupts this, the next call builds
    if built_by != builder:
        shutil.rmtree(work / "_build", ignore_errors=True)  # pages that other code has made
    if stage(project, pages, work / "source", draft) or built_by != builder:
        publish(build(work), target)
    stamp.write_text(builder)
    verdicts = all_verdicts(pages)
    said = "; ".join(filter(None, [tally(verdicts, mark=False), checks(verdicts)]))
    return f"{target.relative_to(project.root)}/index.html: {len(pages)} pages of runs; {said}"


def _builder() -> str:
    """A digest of what builds: this folder's code and the versions of what it calls."""
    texts = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    versions = [version(name) for name in ("sphinx", "jupyter-book", "myst-nb", "sphinx-book-theme")]
    return keys.sha256(b"".join(texts) + " ".join(versions).encode())


def find_pages(project: Project, edition: str) -> list[Page]:
    """The runs to show: each chapter's in that edition, then its other editions that have been run (not in a draft)."""
    pages = []
    lock = keys.sha256(project.lock.read_bytes())
    for chapter in project.chapters():
        others = [] if edition == DRAFT else [e for e in chapter.file.editions if e not in (edition, DRAFT)]
        today = keys.sources(chapter, lock)  # once for all editions
        for name in [edition, *others]:
            if run := runs.read(project.runs / chapter.name / today.key(chapter.resolve(name))):
                pages.append(Page(project, chapter, name, run))
    return pages


def validate(page: Page) -> None:
    """Raises `RunFailed` unless every code cell of the page's source was executed, in this order and without error.

    So it does when a claim names a figure that the run does not show, though it measured what the claim is about.
    """
    notebook = page.run.notebook
    if keys.code(notebook) != keys.code(page.chapter.source):
        raise RunFailed(f"{page.name}: its run is of another source: phenomena run {page.chapter.name} --force")
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        broken = any(output.output_type == "error" for output in cell.outputs)
        if broken or (cell.source.strip() and cell.execution_count is None):
            what = "raised an error" if broken else "was not executed"
            raise RunFailed(f"{page.name}: code cell {number} {what}: phenomena run {page.chapter.name} --force")
    shown = [figure.name for figure in page.record.figures]
    for claim in (verdict.claim for verdict in page.verdicts if verdict.seeds):
        if claim.figure and claim.figure not in shown:
            hint = nearest(claim.figure, shown) or ";"
            raise RunFailed(
                f"{page.name}: claim {claim.name}: no figure {claim.figure!r}{hint} shown: {', '.join(shown)}"
            )


def stage(project: Project, pages: list[Page], target: Path, draft: bool) -> bool:
    """Writes the whole source of the book into the target folder; returns whether anything in it has changed.

    Files whose bytes stay the same keep their times.
    """
    sources = [project.root / "index.md", project.root / "CONTRIBUTING.md", *sorted((project.root / "book").rglob("*"))]
    files: dict[str, bytes] = {"genindex.md": b"# Index\n"}  # Sphinx puts the index in its place
    for path in sources:
        if path.is_file():
            files[path.relative_to(project.root).as_posix()] = path.read_bytes()
    if "book/api.md" in files:
        files["book/api.md"] = api.fill(files["book/api.md"].decode()).encode()
    rungs, stay = ladder.rungs(pages), firm(pages)
    data = data_files(pages) | ladder.data_files(rungs)
    extra = {f"{DOWNLOADS}/{name}": content for name, content in data.items()}
    for page in pages:
        colab, taken = downloads.colab_link(project, page), downloads.files(page)
        files[f"notebooks/{page.name}.ipynb"] = nbformat.writes(staged_notebook(page, taken, colab, stay)).encode()
        files |= {f"notebooks/{name}.html": html.encode() for name, html in interactive_figures(page).items()}
        extra |= {f"{DOWNLOADS}/{path}": content for path, content in taken.items()}
        if colab:
            source = f"git+{downloads.repository(project)}@{downloads.release()}"
            extra[f"colab/{page.name}.ipynb"] = nbformat.writes(downloads.colab_copy(page, source)).encode()
    files["_config.yml"] = _config((project.root / "_config.yml").read_text(encoding="utf-8"), draft)
    files["book/_toc.yml"] = _toc(files["book/_toc.yml"].decode(), pages)
    files |= _prose(files, pages)
    files["book/results.md"] = results_page(pages).encode()
    files["book/ladder.md"] = ladder.ladder_page(rungs).encode()
    files["book/runs.md"] = runs_page(pages).encode()
    files[sharing.FILE], pictures = sharing.cards(project, files, pages)
    extra |= pictures | {"llms.txt": sharing.llms_txt(project, files, pages)}
    if any(name.startswith("notebooks/") and name.endswith(".html") for name in files):
        files[VEGA] = vega(project.root / "_build", (target / VEGA).parent)
    files |= {f"{EXTRA}/{path}": content for path, content in extra.items()}
    return _write(files, target)


def _write(files: Mapping[str, bytes], target: Path) -> bool:
    """Makes the target folder hold these files and no others; returns whether that changed anything."""
    paths = {target / name: content for name, content in files.items()}
    changed = [path for path, content in paths.items() if not path.is_file() or path.read_bytes() != content]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(paths[path])
    gone = [path for path in target.rglob("*") if path.is_file() and path not in paths]
    for path in gone:
        path.unlink()
    # Sphinx would leave a page that is gone, and does not look at styles and scripts where no page has changed
    if any(path.suffix in (".md", ".ipynb") for path in gone) or any(path.parent.name == "_static" for path in changed):
        shutil.rmtree(target.parent / "_build", ignore_errors=True)
    return bool(changed or gone)


def _config(text: str, draft: bool) -> bytes:
    config = yaml.safe_load(text)
    config["sphinx"]["config"]["html_extra_path"] = [EXTRA]
    if draft:
        config["title"] += " (draft)"
        options = config["sphinx"]["config"].setdefault("html_theme_options", {})
        options["announcement"] = "Draft from smoke runs, seconds long, to check the machinery: no number here counts."
    return yaml.safe_dump(config, sort_keys=True, allow_unicode=True).encode()


def _toc(text: str, pages: list[Page]) -> bytes:
    """The table of contents with each chapter's further editions below it."""
    toc = yaml.safe_load(text)
    for entry in [e for part in toc.get("parts", [toc]) for e in part.get("chapters", [])]:
        first = Path(entry["file"]).name
        further = [p.name for p in pages if p.chapter.name == first and p.name != first]
        if further:
            entry["sections"] = [{"file": f"notebooks/{name}"} for name in further]
    return yaml.safe_dump(toc, sort_keys=False).encode()


def _prose(files: Mapping[str, bytes], pages: list[Page]) -> dict[str, bytes]:
    """The cover's pictures, and the pages outside the chapters with their quotations filled in."""
    covers = {quotes.cover_name(page): quotes.cover(page) for page in first_pages(pages)}
    texts = quotes.quotable_anywhere(pages)
    filled = {name: quotes.fill(content.decode(), texts, name).encode() for name, content in files.items()
              if name == "index.md" or Path(name).match("book/*.md")}  # fmt: skip
    return filled | {name: shown[1] for name, shown in covers.items() if shown}


# --- building ---------------------------------------------------------------------------------------------------------


def build(work: Path) -> Path:
    """The built pages of a staged source. Raises `RunFailed` with the warnings when there is any."""
    source = work / "source"
    command = [
        str(Path(sys.executable).with_name("jupyter-book")), "build", str(source), "--path-output", str(work), "-q",
        "--config", str(source / "_config.yml"), "--toc", str(source / "book" / "_toc.yml"), "-W", "-n", "--keep-going",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=work)
    if done.returncode:
        log = work / "build.log"
        log.write_text(done.stdout + done.stderr, encoding="utf-8")
        warnings = [line for line in (done.stdout + done.stderr).splitlines() if "WARNING" in line or "ERROR" in line]
        raise RunFailed(f"the book is not clean: {' | '.join(warnings[:3]) or done.stderr[-300:]}; whole log: {log}")
    return work / "_build" / "html"


def publish(built: Path, target: Path) -> None:
    """Puts a copy of the built pages in the place of the old ones."""
    fresh, old = target.with_name(f"{target.name}.new"), target.with_name(f"{target.name}.old")
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(built, fresh)
    if target.exists():
        target.replace(old)
    fresh.replace(target)
    shutil.rmtree(old, ignore_errors=True)
