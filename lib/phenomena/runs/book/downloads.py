"""What a reader takes along from a page: notebooks, record, claims, data of figures, and a copy that opens in Colab."""

import copy
import json
import re
from importlib.metadata import packages_distributions, requires, version

import nbformat
import yaml
from nbformat.v4 import new_code_cell
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from phenomena.runs.book import markdown, quotes
from phenomena.runs.book.pages import Page
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.contract.notebook import REPORTED
from phenomena.runs.store import keys
from phenomena.runs.store.chapters import Project
from phenomena.runs.store.git import git
from phenomena.runs.store.imports import packages
from phenomena.runs.store.runs import RECORD

COLAB = "https://colab.research.google.com/github"
INSTALL = """\
# On Colab or another clean machine: this book's library at its release, and the packages that are missing or too old.
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version

from packaging.requirements import Requirement

locked = {pins}


def met(needed):
    try:
        return needed.specifier.contains(version(needed.name), prereleases=True)
    except PackageNotFoundError:
        return False


missing = [f"{{r.name}}=={{locked[str(r)]}}" for r in map(Requirement, locked) if not met(r)]
for packages in (missing, ["--no-deps", "phenomena @ {source}"]):
    if packages:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages], check=True)"""


def files(page: Page) -> dict[str, bytes]:
    """The files of a page by their path below the folder of downloads."""
    name = page.name
    found = {
        f"{name}.ipynb": nbformat.writes(legible(page, page.chapter.source)).encode(),
        f"{name}-executed.ipynb": nbformat.writes(legible(page, page.run.notebook)).encode(),
        f"{name}-record.json": (page.run.folder / RECORD).read_bytes(),
        f"{name}.yaml": page.chapter.notebook.with_suffix(".yaml").read_bytes(),
    }
    found |= {f"{figure.name}.csv": figure.data for figure in page.run.figures.values() if figure.data}
    return {f"{name}/{path}": content for path, content in found.items()}


def legible(page: Page, notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A copy of the page's source or executed notebook whose prose reads well outside the book."""
    made, texts = copy.deepcopy(notebook), quotes.quotable(page)
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = markdown.for_readers(cell.source, page, texts)
    return made


def release() -> str:
    """The tag of this version of the book."""
    return f"v{version('phenomena')}"


def repository(project: Project) -> str | None:
    """Address of the public repository as `_config.yml` states it; None while it states none.

    Raises `BadInput` for an address that Colab cannot open.
    """
    config = yaml.safe_load((project.root / "_config.yml").read_text(encoding="utf-8"))
    url = str((config.get("repository") or {}).get("url") or "")
    if url and not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", url):
        raise BadInput(f"_config.yml: repository url {url!r}: must be https://github.com/OWNER/NAME or empty")
    return url or None


def colab_link(project: Project, page: Page) -> str | None:
    """Where Colab opens the page's copy; None unless it is, or is about to be, in the public repository.

    The release puts the copies under a tag of their own, beside the release's. So there is something to open while
    the release itself is built, and later for every page that it held.
    """
    url, tag = repository(project), release()
    if url is None:
        return None
    copies, name = f"colab-{tag}", f"{page.name}.ipynb"
    here = git(project.root, "tag", "--points-at", "HEAD") or ""
    if tag in here.splitlines() or git(project.root, "ls-tree", "--name-only", copies, name):
        return f"{COLAB}/{url.removeprefix('https://github.com/')}/blob/{copies}/{name}"
    return None


def colab_copy(page: Page, source: str) -> nbformat.NotebookNode:
    """The source notebook with the page's parameters and, before its imports, a cell that installs what they need.

    source: what pip installs the library from, such as git+https://github.com/OWNER/NAME@v1.0.
    """
    made = legible(page, page.chapter.source)
    injected = [cell for cell in page.run.notebook.cells if "injected-parameters" in cell.metadata.get("tags", [])]
    pins = json.dumps(needed(page), indent=4).replace("\n}", ",\n}")
    first = next(i for i, cell in enumerate(made.cells) if cell.cell_type == "code")
    made.cells.insert(first, new_code_cell(INSTALL.format(pins=pins, source=source), id="install"))
    if injected:
        after = next(i for i, cell in enumerate(made.cells) if "parameters" in cell.metadata.get("tags", []))
        made.cells.insert(after + 1, new_code_cell(injected[0].source, id="edition"))
    return made


def needed(page: Page) -> dict[str, str]:
    """Those of this project's packages that a chapter imports, itself or through the library, with locked versions.

    A name comes with the bounds that the project states.
    """
    source = "\n".join(keys.cell_sources(page.chapter.source))
    texts = [source, *((keys.PACKAGE / path).read_text(encoding="utf-8") for path in keys.modules(source))]
    names = {name for text in texts for name in packages(text)}
    providing = packages_distributions()
    imported = {canonicalize_name(d) for name in names for d in providing.get(name, [])} | set(REPORTED)
    own = [r for r in map(Requirement, requires("phenomena") or []) if r.marker is None]  # extras have a marker
    return {str(r): Version(version(r.name)).public for r in own if canonicalize_name(r.name) in imported}
