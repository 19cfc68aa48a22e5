"""`phenomena new`: the skeleton of a chapter, with everything that a chapter touches."""

import datetime
import keyword
import re
from importlib.resources import files
from pathlib import Path

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import runs
from phenomena.runs.store.chapters import Project

SKELETON = files("phenomena.runs") / "skeleton"
RESERVED = ("book", "published")  # what quotations begin with beside the names of chapters


def new(project: Project, name: str) -> list[Path]:
    """Writes the skeleton of a chapter into a checkout; returns the paths of what is new, then of what has grown.

    New: notebook, yaml, the chapter's folder in the library, its test. Grown: table of contents, glossary, notation and
    bibliography. Raises `BadInput`, before anything is written, for a name that is taken or no lower-case identifier,
    and outside a checkout.
    """
    if not re.fullmatch("[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in RESERVED:
        raise BadInput(f"new {name!r}: must be a name in lower case, such as double_descent")
    folder = Path("lib/phenomena/chapters") / name
    made = {
        Path("notebooks") / f"{name}.ipynb": "chapter.ipynb",
        Path("notebooks") / f"{name}.yaml": "chapter.yaml",
        folder / "theory.py": "theory.py",
        folder / "study.py": "study.py",
        Path("tests/chapters") / f"test_{name}.py": "test.py",
    }
    there = [path for path in (folder, *made) if (project.root / path).exists()]
    there += [path.relative_to(project.root) for path in (project.root / "tests").glob(f"*/test_{name}.py")]
    if there:  # pytest knows its files by their names alone
        raise BadInput(f"new {name}: {there[0]} is there already")
    year = str(datetime.date.today().year)
    title = name.replace("_", " ").capitalize()
    slug, key = f"{name.replace('_', '-')}-term", f"{name.replace('_', '')}{year}"
    words = {"CHAPTER": name, "TITLE": title, "TERM": f"{title.lower()} (term)", "SLUG": slug, "KEY": key, "YEAR": year}
    texts = {path: _filled(source, words) for path, source in made.items()}
    texts[folder / "__init__.py"] = f'"""{title}."""\n'
    grown = {Path("book/_toc.yml"): _listed(_read(project, "book/_toc.yml"), name)}
    for part in _filled("entries", words).split("@@ ")[1:]:
        path, _, entry = part.partition("\n")
        grown[Path(path)] = _read(project, path).rstrip("\n") + "\n" + entry.rstrip("\n") + "\n"
    for target, text in (texts | grown).items():
        runs.write(project.root / target, text.encode())
    return [*sorted(texts), *grown]


def _filled(source: str, words: dict[str, str]) -> str:
    text = (SKELETON / f"{source}.txt").read_text(encoding="utf-8")
    return re.sub(r"\b(CHAPTER|TITLE|TERM|SLUG|KEY|YEAR)\b", lambda found: words[found[0]], text)


def _read(project: Project, path: str) -> str:
    try:
        return (project.root / path).read_text(encoding="utf-8")
    except OSError as error:
        raise BadInput(f"new: {path} cannot be read: must be run in a checkout of the book") from error


def _listed(toc: str, name: str) -> str:
    """The table of contents with a line for the chapter after the last one."""
    lines = [f"{line}\n" for line in toc.splitlines()]
    last = [i for i, line in enumerate(lines) if re.match(r"\s*- file: notebooks/", line)]
    if not last:
        raise BadInput("new: book/_toc.yml lists no chapter after which this one could stand")
    lines.insert(last[-1] + 1, re.sub(r"notebooks/\S+", f"notebooks/{name}", lines[last[-1]]))
    return "".join(lines)
