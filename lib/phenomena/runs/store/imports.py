"""What a source's import statements name. The one place that walks them."""

import ast
from functools import lru_cache


@lru_cache(maxsize=256)  # a worker of a sweep asks again and again
def imported(source: str, package: str = "", top_level: bool = False, members: bool = True) -> frozenset[str]:
    """Dotted names that a source imports, relative ones made absolute; of `from a import b` both a and a.b.

    package: that the source lies in, for relative imports, which are left out without it.
    top_level: without imports inside functions. members: whether a.b is named, which may be a module or anything else.
    """
    names: set[str] = set()
    tree = ast.parse(source)
    for node in tree.body if top_level else ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (package or not node.level):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, node.module or ""]).strip(".")
            names |= {base, *(f"{base}.{alias.name}" for alias in node.names if members)}
    return frozenset(names)


def packages(source: str) -> set[str]:
    """The packages, by the first part of their names, that a source imports from outside its own."""
    return {name.partition(".")[0] for name in imported(source, members=False) if name}
