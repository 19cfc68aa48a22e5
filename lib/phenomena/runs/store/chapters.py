"""A project's chapters: a notebook and beside it a yaml file with its editions and claims."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import yaml
from annotated_types import Gt, MaxLen
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

try:
    from yaml import CSafeLoader as SafeLoader  # ten times as fast
except ImportError:  # PyYAML built without libyaml
    from yaml import SafeLoader  # type: ignore[assignment]

from phenomena import own_data
from phenomena.runs.contract.errors import BadInput, nearest
from phenomena.runs.contract.parameters import Parameter, check, read_declaration
from phenomena.runs.store import expressions

if TYPE_CHECKING:  # imported only where a notebook is read
    from nbformat import NotebookNode

PACKAGE = Path(__file__).parents[2]  # the folder of phenomena
Slug = Annotated[str, Field(pattern="^[a-z][a-z0-9_]*$")]
RULES: dict[str, Callable[..., Any]] = {  # what a rule between parameters may call; form.js knows the same
    "min": min, "max": max, "abs": abs, "len": len, "sum": sum, "set": set,
}  # fmt: skip


class Loader(SafeLoader):
    """Refuses a name that stands twice in one mapping, where yaml would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping. Raises `yaml.YAMLError` for a name that stands twice."""
        names = [key.value for key, _ in node.value]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise yaml.YAMLError(f"{name!r} stands twice, line {node.value[number][0].start_mark.line + 1}")
        return super().construct_mapping(node, deep)


class Strict(BaseModel):
    """A model of a file that a person writes: no unknown field, no infinite number."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Cost(Strict):
    """Expected cost of an edition."""

    seconds: Annotated[float, Gt(0)]
    memory_mb: Annotated[float, Gt(0)]
    machine: str


class Edition(Strict):
    """A named set of parameter values."""

    summary: str
    cost: Cost
    parameters: dict[str, Any] = {}


class Claim(Strict):
    """A statement with the measurement and the threshold that decide it.

    origin: whose statement it is, the paper's or ours; `check` is one that the code must satisfy, no finding.
    kind: of the quantity, which decides the interval (`statistics.interval`): a mean over seeds, a share of trials (how
    many, the chapter's `trials` say), a mean within `bounds`; or exact, the same for every seed up to rounding.
    """

    name: Slug
    statement: str
    origin: Literal["paper", "ours", "check"]
    source: str
    paper_value: str
    figure: str | None = None  # the figure of the chapter that shows it
    quantity: str  # what is measured, with its unit
    measured: str
    kind: Literal["mean", "share", "bounded", "exact"]
    bounds: tuple[float, float] | None = None
    above: float | None = None
    below: float | None = None
    between: tuple[float, float] | None = None
    rationale: str
    caveat: str
    undecidable: str | None = None  # why more seeds would not decide it at this scale

    @model_validator(mode="after")
    def _bounds_of_the_bounded(self) -> Self:
        if (self.kind == "bounded") != (self.bounds is not None) or (self.bounds and self.bounds[0] >= self.bounds[1]):
            raise ValueError("must have bounds: [a, b] with a < b, if it is of kind bounded, and only then")
        return self

    @model_validator(mode="after")
    def _one_threshold(self) -> Self:
        given = [t for t in (self.above, self.below, self.between) if t is not None]
        if len(given) != 1 or (self.between and self.between[0] >= self.between[1]):
            raise ValueError("must have exactly one of above: x, below: x, between: [x, y] with x < y")
        return self

    @property
    def range(self) -> tuple[float, float]:
        """The open interval in which the measured value confirms the claim."""
        if self.between:
            return self.between
        return (self.above, float("inf")) if self.above is not None else (float("-inf"), self.below or 0.0)

    @property
    def threshold(self) -> str:
        """The threshold in words."""
        if self.between:
            return f"{self.between[0]:g} to {self.between[1]:g}"
        return f"> {self.above:g}" if self.above is not None else f"< {self.below:g}"


class Front(Strict):
    """What a reader meets first: on the chapter's first screen, and of the figure on the book's cover too."""

    figure: str
    claims: Annotated[list[Slug], MaxLen(3)]  # shown with their verdicts


class ChapterFile(Strict):
    """The whole yaml file of a chapter."""

    title: str
    summary: str
    front: Front | None = None
    vary: dict[str, str] = {}  # parameters to change first -> what one should then see
    # what values must satisfy together, as expressions of parameters -> why; see `RULES`
    rules: dict[str, str] = {}
    editions: dict[Slug, Edition]
    # recorded values that are shares, as patterns -> of how many trials a seed: an expression of parameters and values
    trials: dict[str, str] = {}
    claims: list[Claim]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [name for name in ("default", "smoke") if name not in self.editions]
        if missing:
            raise ValueError(f"editions: {missing[0]!r} is missing")
        if self.editions["default"].parameters:
            raise ValueError("editions: default takes the notebook's own values and sets no parameters")
        names = [claim.name for claim in self.claims]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"claims: {twice.pop()!r} stands twice")
        unknown = [name for name in (self.front.claims if self.front else []) if name not in names]
        if unknown:
            raise ValueError(
                f"front: no claim {unknown[0]!r}{nearest(unknown[0], names) or ';'} known: {', '.join(names)}"
            )
        return self


def plain(notebook: "NotebookNode") -> "NotebookNode":
    """The notebook in nbformat 4.5: line ends as on Unix, each cell with an id, no cell that Papermill injected.

    Raises `UnicodeEncodeError` for text that is none.
    """
    known = set[str]()
    for number, cell in enumerate(notebook.cells):
        if not cell.get("id") or cell.id in known:  # nbformat would draw one at random
            cell.id = f"cell-{number}"
        known.add(cell.id)
        cell.source = cell.source.replace("\r\n", "\n").replace("\r", "\n")
        cell.source.encode()  # JSON can hold what no file can
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in (c.metadata.get("tags") or [])]
    notebook.nbformat_minor = 5
    return notebook


@dataclass(frozen=True)
class Chapter:
    """One chapter of a project, by its notebook's path."""

    notebook: Path

    @property
    def name(self) -> str:
        """The notebook's name without its suffix."""
        return self.notebook.stem

    @cached_property
    def source(self) -> "NotebookNode":
        """The source notebook, without what an editor leaves in it. Raises `BadInput` when it cannot be read."""
        return read_notebook(self.notebook, self.notebook.name, plain)

    @cached_property
    def declaration(self) -> dict[str, Parameter]:
        """The parameters that the notebook declares."""
        cells = [c for c in self.source.cells if "parameters" in c.metadata.get("tags", [])]
        if len(cells) != 1:
            raise BadInput(f"{self.notebook.name}: must have one cell tagged 'parameters', {len(cells)} found")
        return read_declaration(cells[0].source, f"{self.notebook.name}, parameters cell")

    @cached_property
    def file(self) -> ChapterFile:
        """Editions and claims. Raises `BadInput` naming file and place when something is wrong in them."""
        path = self.notebook.with_suffix(".yaml")
        try:
            content = ChapterFile.model_validate(yaml.load(path.read_text(encoding="utf-8"), Loader))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise BadInput(f"{path.name}: unreadable ({_first_line(error)})") from error
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"])) or "the file"
            raise BadInput(f"{path.name}: {place}: {fault['msg']}, got {str(fault['input'])[:80]!r}") from error
        for name in content.vary:
            if name not in self.declaration:
                known = self.declaration
                hint = nearest(name, known) or ";"
                raise BadInput(f"{path.name}: vary: no parameter {name!r}{hint} accepted: {', '.join(known)}")
        for name, edition in content.editions.items():
            for parameter, value in edition.parameters.items():
                if any(map(own_data.named, value if isinstance(value, list) else [value])):
                    place = f"{path.name}, edition {name}: {parameter}={value!r}"
                    raise BadInput(f"{place}: an edition is the same for everyone; give own data with -p")
            self._checked(edition.parameters, content.rules, f"{path.name}, edition {name}")
        return content

    def resolve(self, edition: str = "default", overrides: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Every parameter's value: the notebook's, over them the edition's, over them the overrides.

        Raises `BadInput` for an unknown edition or parameter, or a value that is not accepted.
        """
        if edition not in self.file.editions:
            known = self.file.editions
            raise BadInput(
                f"{self.name}: unknown edition {edition!r}{nearest(edition, known) or ';'} accepted: {', '.join(known)}"
            )
        return self._checked(
            {**self.file.editions[edition].parameters, **(overrides or {})}, self.file.rules, self.name
        )

    def edition_of(self, parameters: Mapping[str, Any], first: str = "default") -> str | None:
        """The edition that has exactly these values, `first` if it does; None for other values."""
        names = [first, *self.file.editions]
        return next((name for name in names if self.resolve(name) == parameters), None)

    def _checked(self, values: Mapping[str, Any], rules: Mapping[str, str], place: str) -> dict[str, Any]:
        defaults = {name: p.default for name, p in self.declaration.items()}
        checked = check(self.declaration.values(), {**defaults, **values}, place)
        for rule, why in rules.items():
            if not expressions.evaluate(rule, checked, RULES, f"{place}, rule", "no parameter", "accepted"):
                named = expressions.names(expressions.parsed(rule, place))
                given = [f"{name}={value!r}" for name, value in checked.items() if name in named]
                said = "is not accepted" if len(given) == 1 else "do not go together"
                raise BadInput(f"{place}: {', '.join(given)} {said}: must satisfy {rule} ({why})")
        return checked


@dataclass(frozen=True)
class Project:
    """Notebooks, their lock and published records, and the runs made of them.

    root: a checkout, or the folder in which an installed package carries the same. outside: the folder that runs are
    kept in by who works outside a checkout; None in one.
    """

    root: Path
    outside: Path | None = None

    @property
    def home(self) -> Path:
        """The folder that runs are kept in, and paths are told from."""
        return self.outside or self.root

    @property
    def runs(self) -> Path:
        """The folder of all runs."""
        return self.home / "runs"

    @property
    def lock(self) -> Path:
        """The file that fixes the versions of all packages."""
        return self.root / "requirements.lock"

    def chapters(self) -> list[Chapter]:
        """All chapters, every notebook in the folder notebooks/: in the order of the book, then what it does not name.

        Raises `BadInput` for a table of contents that cannot be read.
        """
        there = [Chapter(path) for path in sorted((self.root / "notebooks").glob("*.ipynb"))]
        place = {name: i for i, name in enumerate(name for names in self.parts().values() for name in names)}
        return sorted(there, key=lambda chapter: place.get(chapter.name, len(place)))

    def parts(self) -> dict[str, list[str]]:
        """The parts of the table of contents that hold chapters: caption -> names of chapters, in the book's order.

        Raises `BadInput` for a table of contents that cannot be read.
        """
        path = self.root / "book" / "_toc.yml"
        if not path.is_file():
            return {}
        try:
            toc = yaml.load(path.read_text(encoding="utf-8"), SafeLoader)
            parts = dict[str, list[str]]()
            for part in toc.get("parts", [toc]):
                listed = [Path(entry["file"]) for entry in part.get("chapters", [])]
                if names := [path.name for path in listed if path.parts[0] == "notebooks"]:
                    parts.setdefault(part.get("caption", ""), []).extend(names)
            return parts
        except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
            raise BadInput(f"book/_toc.yml: not a table of contents ({_first_line(error)})") from error

    def chapter(self, name: str) -> Chapter:
        """The chapter of that name. Raises `BadInput` when there is none."""
        chapters = {chapter.name: chapter for chapter in self.chapters()}
        if name not in chapters:
            raise BadInput(f"unknown chapter {name!r}{nearest(name, chapters) or ';'} accepted: {', '.join(chapters)}")
        return chapters[name]


def find_project(start: Path) -> Project:
    """The project that a folder lies in: the nearest checkout upwards, a folder with notebooks/ and requirements.lock.

    Outside a checkout, what the package carries, with runs kept in the folder itself. Raises `BadInput` for a package
    that was neither installed nor lies in a checkout.
    """
    for folder in (start, *start.parents):
        if _is_project(folder):
            return Project(folder)
    for folder in (PACKAGE / "project", *PACKAGE.parents[1:2]):  # installed; or from a checkout that can be edited
        if _is_project(folder):
            return Project(folder, outside=start)
    raise BadInput("no project here: go to a folder that holds notebooks/ and requirements.lock")


def read_notebook(
    path: Path, name: str = "", tidy: Callable[["NotebookNode"], "NotebookNode"] = lambda notebook: notebook
) -> "NotebookNode":
    """A notebook file; name: what a message calls it, else its path. Raises `BadInput` when it cannot be read.

    tidy: what is done to it before it is validated.
    """
    import nbformat

    try:
        text = path.read_text(encoding="utf-8-sig")
        notebook = tidy(nbformat.convert(nbformat.reader.reads(text), 4))
        nbformat.validate(notebook)
    except (OSError, ValueError, LookupError, AttributeError, TypeError, nbformat.ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else _first_line(error)
        raise BadInput(f"{name or path}: not a notebook ({why})") from error
    return notebook


def _is_project(folder: Path) -> bool:
    return (folder / "notebooks").is_dir() and (folder / "requirements.lock").is_file()


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
