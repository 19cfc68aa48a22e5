"""A toy project with one chapter that runs in two seconds, for everything that knows no science."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import nbformat
import pytest
import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from phenomena.runs.store import runs
from phenomena.runs.store.chapters import Project

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in runs: small tensors are several times slower with two threads


CHROMIUM = Path("/usr/bin/chromium")
without_browser = pytest.mark.skipif(
    not CHROMIUM.exists() and os.environ.get("CI_BROWSER") != "1",
    reason=f"needs {CHROMIUM} (Debian's package chromium); with CI_BROWSER=1 its absence is a failure",
)


def pytest_configure(config: pytest.Config) -> None:
    """What tests and the programs they start write beside pytest's own folders is gone when the session ends."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # these have what the session that started them has set
        return
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # it keeps the folders of tests that fail
    folder = tempfile.mkdtemp(prefix="pt-")  # short, for the sake of sockets
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    for name in ("DASK_CONFIG", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR"):
        os.environ[name] = f"{folder}/{name.lower()}"


IMPORTS = """\
import time
from typing import Annotated, Literal

from annotated_types import Ge, Le, MinLen
from phenomena.runs.contract.notebook import check_parameters, record, show, track"""

PARAMETERS = """\
kind: Literal["plain", "fancy"] = "plain"  # which kind
rate: Annotated[float, Ge(0), Le(1)] = 0.5  # how fast
levels: Annotated[list[int], MinLen(1)] = [1, 2]  # where to look
title: str = "toy"  # any text
limit: int | None = None  # none for no limit
careful: bool = False  # take care
seed: Annotated[int, Ge(0)] = 0  # the first seed
seeds: Annotated[int, Ge(1), Le(100)] = 3  # how many seeds"""

BODY = """\
values = []
for s in track(range(seed, seed + seeds), "measuring"):
    if kind == "fancy":
        time.sleep(0.5)
    if title == "broken":
        raise RuntimeError("the toy broke")
    values.append(rate + s / 100)
record(high=values, low=[v - 1 - (v - rate) ** 2 for v in values])"""

FIGURE = """\
from matplotlib.figure import Figure
import pandas as pd

figure = Figure()
figure.subplots().plot(values)
show(figure, name="line", caption=f"Values from {values[0]}.", alt="A line that rises.",
     data=pd.DataFrame({"v": values}))"""

INTERACTIVE = """\
import altair as alt
import json

texts = [f"Stop {i}: value {v:g}." for i, v in enumerate(values)]
at = alt.param(name="at", value=0, bind=alt.binding_range(min=0, max=len(values) - 1, step=1, name="stop"))
kind_of = alt.param(name="kind", value="tall", bind=alt.binding_select(options=["tall", "flat"], name="kind"))
reading = alt.param(name="reading", expr=f"{json.dumps(texts)}[at] + ' ' + kind")
points = alt.Chart(pd.DataFrame({"i": range(len(values)), "v": values})).transform_filter("datum.i == at")
chart = points.mark_point(size=200).encode(x="i:Q", y="v:Q").add_params(at, kind_of, reading)
show(Figure(), name="point", caption="A point.", alt="A </script> <b> & B.", interactive=chart)"""

AGAIN = 'show(Figure(), name="again", caption="Once more.", alt="The same again.", interactive=chart)'

CHAPTER = {
    "title": "Toy",
    "summary": "A chapter for tests.",
    "editions": {
        "default": {"summary": "all", "cost": {"seconds": 3, "memory_mb": 200, "machine": "one core"}},
        "smoke": {
            "summary": "less",
            "cost": {"seconds": 2, "memory_mb": 200, "machine": "one core"},
            "parameters": {"seeds": 2, "rate": "1e-1"},
        },
    },
    "claims": [
        {"name": "apart", "statement": "High is above low.", "origin": "paper", "source": "Section 1",
         "paper_value": "1.0", "figure": "line", "quantity": "high less low", "measured": "high - low", "kind": "mean",
         "above": 0.5, "rationale": "half of it", "caveat": "toy"},
        {"name": "small", "statement": "High is small.", "origin": "ours", "source": "Section 2",
         "paper_value": "none", "quantity": "high", "measured": "high", "kind": "mean", "below": 0.1,
         "rationale": "a tenth", "caveat": "toy"},
    ],
}  # fmt: skip


def write_chapter(
    root: Path,
    name: str = "toy",
    parameters: str = PARAMETERS,
    chapter: object = CHAPTER,
    interactive: bool = False,
    imports: str = IMPORTS,
    body: str = BODY,
) -> None:
    cells = [
        new_markdown_cell("# Toy\n\nA toy."),
        new_code_cell(imports),
        new_markdown_cell("## Parameters"),
        new_code_cell(parameters, metadata={"tags": ["parameters"]}),
        new_code_cell("check_parameters(globals())"),
        new_markdown_cell("## Run\n\nMeasure."),
        new_code_cell(body),
        new_markdown_cell("## Figure"),
        new_code_cell(FIGURE),
        *[new_code_cell(source) for source in (INTERACTIVE, AGAIN) if interactive],
        new_markdown_cell("## Verdicts"),
        new_markdown_cell("In the book, the verdicts stand here.", metadata={"tags": ["verdicts"]}),
    ]
    for i, cell in enumerate(cells):
        cell["id"] = f"cell-{i}"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    (root / "notebooks").mkdir(exist_ok=True)
    nbformat.write(new_notebook(cells=cells, metadata=kernel), root / "notebooks" / f"{name}.ipynb")
    (root / "notebooks" / f"{name}.yaml").write_text(yaml.safe_dump(chapter, sort_keys=False))


def add_pages(root: Path, repository: Path) -> None:
    """Puts pages of this book that quote no chapter beside a toy chapter, and a small cover."""
    (root / "book").mkdir()
    for name in ("_config.yml", "book/_static", "book/references.bib", "book/how_to_rerun.md", "book/verdicts.md",
                 "book/bibliography.md"):  # fmt: skip
        source = repository / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, root / name)
    (root / "index.md").write_text("# Toys\n\nClaims: {{ book.totals }}.\n\n{{ book.gallery }}\n")
    toc = {"format": "jb-book", "root": "index", "parts": [
        {"caption": "Chapters", "chapters": [{"file": "notebooks/toy"}]},
        {"caption": "Rest", "chapters": [{"file": f"book/{n}"}
         for n in ("how_to_rerun", "verdicts", "results", "ladder", "runs", "bibliography")]},
    ]}  # fmt: skip
    (root / "book" / "_toc.yml").write_text(yaml.safe_dump(toc))


def generator(seed: int = 0) -> Any:
    """A generator of torch's with this seed."""
    import torch  # here, so that tests of the runs wing need not wait for it

    return torch.Generator().manual_seed(seed)


@pytest.fixture(autouse=True)
def same_random_numbers() -> None:
    """A test that draws from torch's own generator draws the same in every run and order."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A toy project of its own for every test."""
    (tmp_path / "requirements.lock").write_text("toy==1\n")
    write_chapter(tmp_path)
    return Project(tmp_path)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """What kernels of toy chapters are forked from, for tests of something else than how a run begins."""
    from phenomena.runs.execute import kernels

    root = tmp_path_factory.mktemp("toy")
    write_chapter(root)
    with kernels.Server(kernels.needed(Project(root).chapters())) as server:
        yield server


@pytest.fixture
def run_toy(server: Any) -> Callable[..., runs.Run]:
    """Runs the toy chapter of a project with some parameters."""
    from phenomena.runs.execute import runner

    def run(project: Project, **overrides: Any) -> runs.Run:
        chapter = project.chapter("toy")
        return runner.run(project, chapter, chapter.resolve(overrides=overrides), server=server)[0]

    return run


@pytest.fixture(scope="session")
def ran(tmp_path_factory: pytest.TempPathFactory, server: Any) -> Project:
    """A toy project whose default and smoke editions have been run once, for tests that only look."""
    from phenomena.runs.execute import runner

    root = tmp_path_factory.mktemp("ran")
    (root / "requirements.lock").write_text("toy==1\n")
    (root / "_config.yml").write_text("title: Toys\n")
    write_chapter(root)
    project = Project(root)
    chapter = project.chapter("toy")
    for edition in ("default", "smoke"):
        runner.run(project, chapter, chapter.resolve(edition), edition, server=server)
    return project


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address at which a local web server shows the folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Debian's Chromium, driven by playwright; it knows no host but this one."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        options = ["--no-sandbox", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
        chromium = play.chromium.launch(executable_path=str(CHROMIUM), args=options)
        yield chromium
        chromium.close()


class Visit:
    """A tab, what it was answered, requests that would leave the site's address, and complaints of its console."""

    def __init__(self, browser: Any, site: str, **options: Any) -> None:
        self.site = site
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.strays: list[str] = []
        self.errors: list[str] = []
        self.responses: list[Any] = []
        self.page.set_default_timeout(60_000)  # where much else runs, a page may take long
        self.page.on("request", self._see)
        self.page.on("response", lambda response: self.responses.append(response))
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _see(self, request: Any) -> None:
        if not request.url.startswith((self.site, "data:", "blob:")):  # the browser knows no other host anyway
            self.strays.append(request.url)

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.errors.append(f"{message.text} {message.location.get('url', '')}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def phenomena() -> Command:
    """Runs the command line in a folder as a process of its own."""

    def command(root: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "phenomena", *words], cwd=root, capture_output=True, text=True, env=dict(os.environ)
        )

    return command


def values_of(folder: Path) -> dict[str, list[float]]:
    values: dict[str, list[float]] = json.loads((folder / "record.json").read_text())["values"]
    return values
