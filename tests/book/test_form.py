"""The form "Run it with your values": its check is Python's, its commands arrive as they were meant."""

import json
import random
import shlex
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import papermill.cli
import pytest
from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen
from bs4 import BeautifulSoup
from click.testing import CliRunner
from conftest import CHAPTER, Visit, add_pages, served, without_browser, write_chapter

from phenomena.own_data import OwnData
from phenomena.runs.book import build as book
from phenomena.runs.book import form
from phenomena.runs.contract.errors import BadInput
from phenomena.runs.contract.parameters import Parameter, check, parse_assignments
from phenomena.runs.store.chapters import Project

ROOT = Path(__file__).parents[2]
VARY = {"rate": "High rises with it.", "levels": "Nothing else."}

# --- the check --------------------------------------------------------------------------------------------------------

ODD = {
    "whole": Annotated[int, Ge(1), Le(100)], "above": Annotated[int, Gt(0)], "part": Annotated[float, Gt(0), Lt(1)],
    "any": float, "text": str, "short": Annotated[str, MinLen(1), MaxLen(3)], "flag": bool,
    "word": Literal["plain", "fancy", "none"], "number": Literal[1, 2], "limit": int | None, "far": float | None,
    "maybe": str | None, "choice": Literal["a", "b"] | None, "several": list[int] | None,
    "wholes": Annotated[list[Annotated[int, Ge(1)]], MinLen(2), MaxLen(3)], "parts": list[Annotated[float, Le(1)]],
    "words": list[Literal["shift", "scale"]], "texts": list[str], "flags": list[bool], "numbers": list[Literal[1, 2]],
    "own": Literal["plain", "other"] | OwnData, "owns": list[Literal["plain", "other"] | OwnData],
}  # fmt: skip
SOURCES = {
    "whole": "Annotated[int, Ge(1), Le(100)]", "part": "Annotated[float, Gt(0), Lt(1)]", "any": "float", "flag": "bool",
    "word": "Literal['plain', 'fancy']", "wholes": "list[int]", "texts": "list[str]", "parts": "list[float]",
}  # fmt: skip
STARTS = {"whole": 1, "part": 0.5, "any": 0.0, "flag": True, "word": "plain", "wholes": [1], "texts": ["a"],
          "parts": [0.5]}  # fmt: skip
PLAIN = {**CHAPTER, "editions": {n: {**e, "parameters": {}} for n, e in CHAPTER["editions"].items()}, "claims": []}
TEXTS = [
    "5", "+5", "-5", "007", " 5 ", "5.0", "5.", ".5", "5.5", "1e3", "1E-3", "1e", "e3", "1_000", "_1", "1_", "1__0",
    "1.0_0", "1._5", "1_0e1_0", "1_e1", "0x10", "", " ", "\uff15", "\t5\n", "\xa05", "--5", "+ 5", "-0", "1e400",
    "nan", "inf", "-Infinity", "0", "1", "100", "101", "0.999", "12345678901234567890", "true", "True", "yes", "off",
    "y", " true", "2", "none", "null", "None", "plain", "plian", "fency", "nnoe", "a", "abc", "abcd", "abé",
    "\U0001f600\U0001f600\U0001f600", "it's", 'say "it\'s"', "back\\slash", "$(rm -rf /)", "a b", "[1, 2]",
    "[1,2,3,4]", "[]", "[1.0, 2]", "[1.5]", '["1", "2"]', '["1e1"]', "[true, false]", "[1, 0]", "[NaN]", "[Infinity]",
    "[1e400]", "[1e-7]", "[null]", "[[1]]", "[1,]", "(1, 2)", "1,2", "[01]", '"[1]"', '{"a": 1}', '["shift"]',
    '["shfit"]', "[shift]", '["shift", "scale"]', '["a", "b\'c"]', '[" 1"]', "[2, 1]", "[-0]", " [1, 2] ", "shift",
    "scael", "shift, scael", "shift,scale", '["shfit", "scale"]', "['shift']", "[1 2]", "1;2", "1,,2", "[1, 2", "1, 2]",
    "NONE", "none,none", "1e5", "1.5e3", " 2E+1 ", "1.55e1", "1_0e1", "12e19", "[1, 5, 1e1]", "9" * 200, "[" * 200,
    "é" * 200,
    "scael", "npz", "npz:", "images:", "NPZ:a.npz", "npz a.npz", '["npz:"]', '["plain", "other"]', '["otter"]',
]  # fmt: skip


def told(kind: object, text: str) -> str:
    """Python's refusal of a text; nothing where it is accepted."""
    try:
        check([Parameter("x", kind, None, "")], {"x": text}, "toy")
    except BadInput as error:
        return str(error)
    return ""


@pytest.fixture(scope="module")
def script(browser):
    """form.js in an empty tab: called with a JavaScript expression and what it takes."""
    tab = browser.new_page()
    tab.add_script_tag(path=ROOT / "book" / "_static" / "form.js")
    yield tab.evaluate
    tab.close()


def in_script(script, kinds, texts):
    """form.js's refusals: for every type, of every text."""
    forms = [
        {
            "chapter": "toy",
            "rules": [],
            "parameters": [
                {"name": "x", "type": form.schema(kind), "accepted": Parameter("x", kind, None, "").accepted}
            ],
        }
        for kind in kinds
    ]
    refusals = "([forms, texts]) => forms.map(form => texts.map(text => runForm.refusal(form, {x: text})))"
    return script(refusals, [forms, texts])


def kinds_of_chapters():
    return [p.type for chapter in Project(ROOT).chapters() for p in chapter.declaration.values()]


@without_browser
def test_the_page_refuses_what_the_command_line_refuses_in_the_same_words(script):
    kinds = [*ODD.values(), *kinds_of_chapters()]
    for kind, row in zip(kinds, in_script(script, kinds, TEXTS), strict=True):
        assert dict(zip(TEXTS, row, strict=True)) == {text: told(kind, text) for text in TEXTS}
    verdicts = [bool(said) for row in in_script(script, ODD.values(), TEXTS) for said in row]
    assert 200 < sum(verdicts) < len(verdicts) - 200  # both sides are tried


@without_browser
def test_the_page_takes_own_data_which_only_the_command_line_can_look_at(script, tmp_path, monkeypatch):
    monkeypatch.setenv("PHENOMENA_DATA", str(tmp_path))
    np.savez(tmp_path / "my.npz", x=np.zeros((6, 4)), y=np.arange(6) % 2)
    texts = [f"npz:{tmp_path}/my.npz", "npz:absent.npz", "images:some photos"]
    one, many = ODD["own"], ODD["owns"]
    assert in_script(script, [one], texts) == [["", "", ""]]
    assert in_script(script, [many], [json.dumps(["plain", text]) for text in texts]) == [["", "", ""]]
    assert [bool(told(one, text)) for text in texts] == [False, True, True]


@without_browser
def test_so_it_does_with_texts_that_nobody_thought_of(script):
    draw = random.Random(0)
    letters = ["".join(draw.choices("0123456789+-._eE", k=draw.randint(1, 7))) for _ in range(1500)]
    entries = ["1", "2.0", "-3", ".5", "1e2", '"1"', "true", '"shift"']
    lists = [f"[{', '.join(draw.choices(entries, k=draw.randint(0, 3)))}]" for _ in range(200)]
    typos = ["".join(draw.choices("plainfcyo", k=draw.randint(1, 9))) for _ in range(300)]
    texts = letters + lists + typos
    for kind, row in zip(ODD.values(), in_script(script, ODD.values(), texts), strict=True):
        assert dict(zip(texts, row, strict=True)) == {text: told(kind, text) for text in texts}


@without_browser
def test_several_faults_are_counted_as_the_command_line_counts_them(script, project):
    chapter = project.chapter("toy")
    texts = {p.name: form.as_text(p.default) for p in chapter.declaration.values()} | {"seeds": "0", "kind": "plian"}
    data = {"chapter": "toy", "rules": [], "parameters": [
        {"name": p.name, "type": form.schema(p.type), "accepted": p.accepted} for p in chapter.declaration.values()
    ]}  # fmt: skip
    with pytest.raises(BadInput) as refused:
        chapter.resolve(overrides=texts)
    assert script("([form, texts]) => runForm.refusal(form, texts)", [data, texts]) == str(refused.value)
    assert "did you mean 'plain'? (and 1 more)" in str(refused.value)


RULES = [
    "1 < whole <= 50", "whole % 7 == 0 or not flag", "len(set(wholes)) == len(wholes)", "min(wholes) + 2 * whole > 9",
    "max(wholes) - part >= abs(any)", "2 in wholes", "word != 'plain' and word not in texts", "-any < whole ** 2 / 10",
    "sum(parts) <= 1", "max(whole, 3) > min(any, 2)",
]  # fmt: skip


@without_browser
@pytest.mark.parametrize("rule", RULES)
def test_the_page_knows_the_rules_between_parameters(script, tmp_path, rule):
    names = ["whole", "part", "any", "flag", "word", "wholes", "texts", "parts"]
    lines = [f"{name}: {SOURCES[name]} = {STARTS[name]!r}" for name in names]
    write_chapter(tmp_path, parameters="\n".join([*lines, "seed: int = 0", "seeds: int = 2"]), chapter=PLAIN)
    chapter = Project(tmp_path).chapter("toy")
    rules = {rule: "so it is"}
    data = {"chapter": "toy", "rules": [{"rule": rule, "why": "so it is", **form.in_script(rule)}], "parameters": [
        {"name": p.name, "type": form.schema(p.type), "accepted": p.accepted} for p in chapter.declaration.values()
    ]}  # fmt: skip
    draw = random.Random(0)
    texts = [
        {"whole": str(draw.choice([1, 2, 7, 49, 50, 51])), "part": draw.choice(["0.5", "1e-7"]),
         "any": draw.choice(["-3", "0.25", "4", "1e2"]), "flag": draw.choice(["true", "false"]),
         "word": draw.choice(["plain", "fancy"]), "wholes": draw.choice(["[1, 2]", "3,3", "[2, 5, 2]", "[7, 9]"]),
         "texts": draw.choice(["fancy", "[it's, a]", "[]"]), "parts": draw.choice(["[0.5, 0.5]", "1,0.25"]),
         "seed": "0", "seeds": "2"}
        for _ in range(60)
    ]  # fmt: skip
    told = []
    for given in texts:
        try:
            chapter._checked(given, rules, "toy")
            told.append("")
        except BadInput as error:
            told.append(str(error))
    assert script("([form, texts]) => texts.map(given => runForm.refusal(form, given))", [data, texts]) == told
    assert 0 < told.count("") < len(told)  # both sides are tried


def test_a_rule_that_the_page_cannot_check_stops_the_build():
    with pytest.raises(NotImplementedError, match="rule 'a // 2 > 1': no JavaScript for a FloorDiv"):
        form.in_script("a // 2 > 1")


# --- the commands -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shelf(tmp_path_factory, pytestconfig):
    """A built draft whose chapter says what to change first."""
    root = tmp_path_factory.mktemp("form")
    (root / "requirements.lock").write_text("toy==1\n")
    write_chapter(root, chapter={**CHAPTER, "vary": VARY})
    add_pages(root, pytestconfig.rootpath)
    book.book(Project(root), "smoke")
    return Project(root)


def shown(project):
    (page,) = book.find_pages(project, "smoke")
    return page


GIVEN = [
    {},
    {"seeds": "4", "rate": "1e-3"},
    {"rate": "1e-1"},  # the edition's own, written otherwise
    {"levels": "[3, 4]", "careful": "true", "limit": "7", "kind": "fancy"},
    {"title": "007"},
    {"title": "1e-3"},
    {"title": "None"},
    {"title": 'it\'s $HOME; `true` "x" \\ *'},
    {"limit": "1_000", "rate": " .5 "},
    {"levels": "[30000000000000000000000]"},
    {"levels": "[1e1, 3.0,2.0E+0, 1.5e1]"},
]


@without_browser
@pytest.mark.parametrize("given", GIVEN, ids=str)
def test_a_command_arrives_at_the_command_line_as_it_was_meant(script, shelf, given):
    page = shown(shelf)
    chapter, data = page.chapter, form.declared(page)
    texts = {p.name: form.as_text(chapter.resolve("smoke")[p.name]) for p in chapter.declaration.values()} | given
    line = script("([f, texts]) => runForm.command(f, 'smoke', texts)", [data, texts])
    words = shlex.split(line)
    assert words[:5] == ["phenomena", "run", "toy", "--edition", "smoke"]
    assert words[5::2] == ["-p"] * len(words[6::2])
    assigned = parse_assignments(words[6::2])
    assert chapter.resolve("smoke", assigned) == chapter.resolve("smoke", given)
    values = chapter.resolve("smoke")
    assert all(chapter.resolve("smoke", {n: v})[n] != values[n] for n, v in assigned.items())  # no more than differs


@without_browser
@pytest.mark.parametrize("given", GIVEN, ids=str)
def test_papermill_hands_on_what_was_meant(script, shelf, given, monkeypatch):
    page = shown(shelf)
    chapter, data, taken = page.chapter, form.declared(page), {}
    texts = {p.name: form.as_text(chapter.resolve("smoke")[p.name]) for p in chapter.declaration.values()} | given
    line = script("([f, texts]) => runForm.papermill(f, texts)", [data, texts])
    monkeypatch.setattr(papermill.cli, "execute_notebook", lambda **asked: taken.update(asked))
    done = CliRunner().invoke(papermill.cli.papermill, shlex.split(line)[1:])
    assert done.exit_code == 0, done.output
    assert taken["input_path"] == "notebooks/toy.ipynb"
    wanted = chapter.resolve("smoke", given)
    assert chapter.resolve(overrides=taken["parameters"]) == wanted
    for name, value in taken["parameters"].items():  # right without the notebook's own check, too
        assert value == wanted[name] and isinstance(value, str) == isinstance(wanted[name], str)
    if not given:
        assert line == form._papermill(page)


def test_papermills_line_of_a_page_gives_what_yaml_and_papermill_would_mistake(shelf):
    page = shown(shelf)
    values = page.record.parameters | {"levels": [1, 2.0, 1e-7, "a"], "title": "007", "limit": 5}
    changed = replace(page, run=replace(page.run, record=page.record.model_copy(update={"parameters": values})))
    assert form._papermill(changed) == (
        "papermill notebooks/toy.ipynb out.ipynb -p rate 0.1 -y 'levels: [1, 2.0, 1.0e-07, \"a\"]' -r title 007 "
        "-p limit 5 -p seeds 2"
    )


def test_a_page_knows_where_to_clone_from_if_the_book_does(shelf, monkeypatch):
    page = shown(shelf)
    assert form.set_up(page).startswith("cd phenomena  # a checkout of this book's repository\nmake setup")
    monkeypatch.setattr(form.downloads, "repository", lambda project: "https://github.com/someone/phenomena")
    assert form.set_up(page).startswith("git clone https://github.com/someone/phenomena phenomena\ncd phenomena\nmake")
    assert "\nsetup: $(READY)" in (ROOT / "Makefile").read_text()


def test_times_are_measured_or_the_chapters_own(shelf):
    page = shown(shelf)
    seconds = page.record.seconds["total"]
    assert form.time(page, "smoke") == f"About {seconds:.0f} s for seeds 0 to 1, measured on {page.record.processor}."
    assert form.time(page, "default") == "About 3 s on one core, as the chapter states."


def test_a_declaration_survives_the_page(shelf):
    page = shown(shelf)
    html = (shelf.root / "_build" / "draft" / "notebooks" / "toy.html").read_text()
    (data,) = BeautifulSoup(html, "html.parser").select("script.run-form")
    assert json.loads(data.string) == json.loads(json.dumps(form.declared(page)))


def test_what_to_change_first_are_parameters(tmp_path):
    (tmp_path / "requirements.lock").write_text("toy==1\n")
    write_chapter(tmp_path, chapter={**CHAPTER, "vary": {"rat": "more"}})
    with pytest.raises(BadInput, match=r"^toy.yaml: vary: no parameter 'rat'; did you mean 'rate'\? accepted: kind"):
        Project(tmp_path).chapter("toy").resolve()


# --- in a browser -----------------------------------------------------------------------------------------------------


class Form(Visit):
    """The toy chapter's page, open in a tab."""

    def __init__(self, browser, site, query="", **options):
        super().__init__(browser, site, **options)
        self.page.goto(f"{site}/notebooks/toy.html{query}")
        self.form = self.page.locator("form.run-form")
        fold = self.page.locator("details:has(.run-command)").first
        if fold.get_attribute("open") is None:  # an address that says values opens it
            assert "?run" not in query and "&run" not in query
            fold.locator("summary").first.click()

    def command(self):
        return self.page.locator(".run-command pre").inner_text()

    def status(self):
        return self.form.get_by_role("status").inner_text()


@pytest.fixture(scope="module")
def site(shelf):
    with served(shelf.root / "_build" / "draft") as address:
        yield address


@pytest.fixture
def visit(browser, site):
    with ExitStack() as stack:
        yield lambda *words, **options: stack.enter_context(Form(browser, site, *words, **options))


@without_browser
def test_a_reader_makes_a_command_by_keyboard_and_is_told_what_to_see(visit):
    seen = visit()
    assert seen.command() == "phenomena run toy --edition smoke"
    assert seen.status() == "No value differs from the edition smoke."
    rate = seen.form.get_by_label("rate")
    assert rate.input_value() == "0.1"
    about = rate.evaluate(
        "e => e.getAttribute('aria-describedby').split(' ').map(i => document.getElementById(i).innerText)"
    )
    assert about == ["how fast (float, 0 to 1)\nYou should then see: High rises with it.", ""]
    seen.form.get_by_label("Edition").focus()
    seen.page.keyboard.press("Tab")
    assert rate.evaluate("e => e === document.activeElement")
    seen.page.keyboard.type("2")
    assert seen.status() == "toy: rate='2' is not accepted: float, 0 to 1"
    assert rate.get_attribute("aria-invalid") == "true"
    assert seen.page.locator("#run-rate-fault").inner_text() == "rate='2' is not accepted: float, 0 to 1"
    assert seen.command() == "# toy: rate='2' is not accepted: float, 0 to 1"
    rate.fill("0.7")
    assert seen.command() == "phenomena run toy --edition smoke -p rate=0.7"
    assert seen.status() == "1 value differs from the edition smoke."
    assert rate.get_attribute("aria-invalid") is None
    assert "rate: High rises with it." in seen.page.locator(".see").inner_text()
    assert not seen.form.get_by_label("careful").is_visible()  # folded
    assert seen.page.url.endswith("/notebooks/toy.html?run.rate=0.7")
    seen.form.get_by_label("Edition").select_option("default")
    assert (rate.input_value(), seen.command()) == ("0.5", "phenomena run toy")
    rate.fill("0.7")
    seen.page.get_by_role("button", name="Back to the edition's values").click()
    assert seen.command() == "phenomena run toy"
    assert seen.strays == [] and seen.errors == []


@without_browser
def test_the_address_says_the_values(visit):
    seen = visit("?stop=1&run=default&run.title=it%27s&run.kind=plian#verdicts")
    assert seen.form.get_by_label("Edition").input_value() == "default"
    assert seen.form.get_by_label("title").input_value() == "it's"
    assert seen.form.get_by_label("title").is_visible()  # what is changed is not folded
    assert seen.status() == "toy: kind='plian' is not accepted: one of plain, fancy; did you mean 'plain'?"
    seen.form.get_by_label("kind").select_option("fancy")
    assert seen.command() == """phenomena run toy -p kind=fancy -p 'title=it'"'"'s'"""
    assert seen.page.url.endswith("?stop=1&run=default&run.kind=fancy&run.title=it%27s#verdicts")
    again = visit(f"?{seen.page.url.partition('?')[2]}")
    assert again.command() == seen.command()
    assert visit("?run=nothing&run.nobody=1").command() == "phenomena run toy --edition smoke"


@without_browser
def test_without_javascript_commands_and_the_table_stand_there(visit):
    seen = visit(java_script_enabled=False)
    assert seen.form.count() == 0
    assert seen.command().strip() == "phenomena run toy --edition smoke"
    assert "High rises with it." in seen.page.locator(".run-plain").inner_text()
    assert "measured on" in seen.page.locator(".run-command").inner_text()
    assert seen.page.locator("table", has_text="how fast").count() == 1
