"""The page on the library: made without importing it, every function with an example, every example runs."""

import ast
import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from phenomena.runs.book import api
from phenomena.runs.contract.errors import BadInput

PAGE = (Path(__file__).parents[2] / "book" / "api.md").read_text()
LISTED = {module: names.split() for module, names in api.MARK.findall(PAGE)}
MODULES = list(LISTED)
FETCHED = {"fashion_mnist", "cifar10"}  # an example would download


def test_the_page_names_what_authors_use():
    assert {"phenomena.statistics", "phenomena.runs.contract.notebook", "phenomena.science.frames"} <= set(MODULES)
    assert ":::{api}" not in api.fill(PAGE)


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_has_an_example(module):
    found = api.public(ast.parse(api.source(module).read_text()).body)
    listed = LISTED[module] or [n.name for n in found if not n.name.endswith("Error")]
    named = [n for n in found if n.name in listed and n.name not in FETCHED]
    assert named and set(listed) <= {n.name for n in found}
    assert [n.name for n in named if ">>> " not in (ast.get_docstring(n) or "")] == []


SUBJECTS = re.findall(r"^## ([^\n]+)\n\n(?:[^\n]+\n)+?\n```pycon\n(.+?)```$", PAGE, re.M | re.S)


@pytest.mark.parametrize("subject", [title for title, _ in SUBJECTS])
def test_a_subject_has_one_complete_example_that_runs(subject):
    assert [title for title, _ in SUBJECTS] == [
        "Merge fine-tuned models", "Select features for several tasks", "What Mixup converges to"
    ]  # fmt: skip
    example = doctest.DocTestParser().get_doctest(dict(SUBJECTS)[subject], {}, subject, None, 0)
    assert 5 < len(example.examples) < 16 and any(e.want for e in example.examples)
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.parametrize("module", MODULES)
def test_every_example_gives_what_stands_there(module, monkeypatch):
    there = importlib.import_module(module)
    if hasattr(there, "display"):  # what a notebook shows of an output
        monkeypatch.setattr(there, "display", lambda data, **_: print(data["text/plain"]))
    result = doctest.testmod(there, optionflags=doctest.FAIL_FAST)
    assert result.attempted > 0 and result.failed == 0


def test_the_page_is_made_without_importing_the_library():
    code = "import sys; from phenomena.runs.book import api; api.section('phenomena.science.training'); "
    code += "sys.exit('torch' in sys.modules or 'phenomena.science' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_an_unknown_module_is_refused():
    with pytest.raises(BadInput, match=r"^book/api.md: no module 'phenomena.science.nothing' in the library$"):
        api.fill(":::{api} phenomena.science.nothing\n:::")
    with pytest.raises(BadInput, match=r"no 'optimun' in phenomena.chapters.mixup.theory; did you mean 'optimum'\?"):
        api.fill(":::{api} phenomena.chapters.mixup.theory optimun\n:::")


def test_a_docstring_becomes_markdown():
    text = "A |w|^2 of `x_*`.\n\n    code(1)\n\nlow, high: bounds\n    of it.\nRaises [x].\n\n>>> 1 + 1\n2"
    assert api.described(text) == (
        "A \\|w\\|^2 of `x_*`.\n\n```python\ncode(1)\n```\n\n- **low, high**: bounds\n    of it.\nRaises \\[x\\].\n\n"
        "```pycon\n>>> 1 + 1\n2\n```"
    )
