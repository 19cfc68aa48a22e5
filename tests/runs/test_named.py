"""A run by whatever a person calls it: chapter, key, folder, or a notebook that was executed elsewhere."""

import copy
import json
import shutil

import nbformat
import pytest
from nbformat.v4 import new_code_cell

from phenomena.runs.contract.errors import BadInput
from phenomena.runs.store import claims, named, runs


@pytest.fixture
def smoke(ran):
    run = runs.current(ran, ran.chapter("toy"), "smoke")
    assert run
    return run


@pytest.fixture
def out(tmp_path, smoke):
    """Writes an executed copy of the toy chapter's smoke run, as changed."""

    def write(change=lambda notebook: None, name="out.ipynb"):
        notebook = copy.deepcopy(smoke.notebook)
        change(notebook)
        nbformat.write(notebook, tmp_path / name)
        return str(tmp_path / name)

    return write


def test_a_run_has_many_names(ran, smoke, monkeypatch):
    monkeypatch.chdir(ran.root / "notebooks")
    by_parameters = named.find(ran, "toy", "default", {"seeds": "2", "rate": "0.1"})
    assert by_parameters.run.folder == smoke.folder
    for name in (
        smoke.record.key,
        smoke.record.key[:6],
        str(smoke.folder),
        f"../runs/toy/{smoke.record.key}",
        f"runs/toy/{smoke.record.key}",  # as commands print it, from the project's root
        str(smoke.folder / "record.json"),
        str(smoke.folder / "notebook.ipynb"),
    ):
        found = named.find(ran, name)
        assert (found.run.record, found.remarks, found.edition) == (smoke.record, [], "smoke"), name
        assert list(found.run.figures) == ["line"]


def test_a_copy_of_a_run_is_one_and_a_record_alone_has_no_figures(ran, smoke, tmp_path):
    shutil.copytree(smoke.folder, tmp_path / "mine")
    found = named.find(ran, str(tmp_path / "mine"))
    assert (found.run.record, list(found.run.figures), found.remarks) == (smoke.record, ["line"], [])
    (tmp_path / "mine" / "notebook.ipynb").unlink()
    record = named.find(ran, str(tmp_path / "mine" / "record.json"))
    assert record.run.record == smoke.record
    with pytest.raises(BadInput, match=r"record.json: is a record alone: its figures are in the run's notebook"):
        _ = record.run.figures


def test_a_notebook_executed_by_papermill_alone_is_a_run(ran, tmp_path):
    import papermill

    out = tmp_path / "out.ipynb"
    papermill.execute_notebook(ran.chapter("toy").notebook, out, {"seeds": 2, "rate": 0.3}, progress_bar=False)
    found = named.find(ran, str(out))
    record = found.run.record
    assert (found.chapter.name, record.edition, record.parameters["rate"], record.seeds) == ("toy", None, 0.3, [0, 1])
    assert record.values["high"] == [0.3, 0.31]
    assert record.seconds["total"] > 0
    assert record.started.startswith("20")
    assert [v.verdict for v in claims.check(found.chapter, record)] == ["reproduced", "contradicted"]
    assert list(found.run.figures) == ["line"]
    assert found.remarks == [f"{out}: made outside of this project: its library's code and lock are not recorded"]


def test_an_edition_is_known_by_its_values(ran, out, smoke):
    assert named.find(ran, out()).edition == "smoke"


def colab(notebook):
    """As a copy in Colab has it: an own first cell, no cell of parameters, no metadata of Papermill."""
    notebook.cells.insert(1, new_code_cell("!pip install phenomena", execution_count=1))
    del notebook.metadata["papermill"]
    for count, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        cell.metadata = nbformat.from_dict({})
        cell.execution_count = count


def older(notebook):
    for cell in notebook.cells:
        cell.source = cell.source.replace("(v - rate) ** 2", "(v - rate) ** 4")
        for output in cell.get("outputs", []):
            bundle = output.get("data", {}).get(runs.MIME, {})
            if "versions" in bundle:
                bundle["versions"]["torch"] = "1.0"
            if "parameters" in bundle:
                bundle["parameters"]["former"] = 1
                bundle["what came later"] = 1


def stopped(notebook):
    code = [c for c in notebook.cells if c.cell_type == "code"]
    code[-2].outputs = [nbformat.v4.new_output("error", ename="E", evalue="e", traceback=[])]
    code[-1].outputs, code[-1].execution_count = [], None


def backwards(notebook):
    code = [c for c in notebook.cells if c.cell_type == "code"]
    code[-1].execution_count = 1


@pytest.mark.parametrize(
    ("change", "remarks"),
    [
        (colab, ["other code: 0 of the 5 cells of today's toy missing, 2 new"]),  # its first, and the injected
        (
            older,
            [
                "other code: 1 of the 5 cells of today's toy missing, 1 new",
                "parameters that only one of the two has: former",
                "other versions: torch 1.0 (here ",
            ],
        ),
        (stopped, ["code cell 5 raised an error", "not executed: 1 of its 6 code cells"]),
        (backwards, ["its cells were not executed from top to bottom"]),
    ],
)
def test_what_does_not_match_is_said_and_read_all_the_same(ran, out, change, remarks):
    found = named.find(ran, out(change))
    assert found.chapter.name == "toy"
    assert len(found.remarks) == 1 + len(remarks)
    for said, remark in zip(found.remarks[1:], remarks, strict=True):
        assert said.startswith(remark)
    measured, refused = claims.possible(found.chapter, found.run.record)
    assert (len(measured), len(refused)) == ((0, 2) if change is stopped else (2, 0))


def test_a_run_of_other_sources_is_told_and_read(project, run_toy):
    key = run_toy(project).record.key
    (project.root / "requirements.lock").write_text("toy==2\n")
    found = named.find(project, key)
    assert found.run.record.key == key
    assert found.remarks == [f"run {key} does not match today's sources: it ran with another requirements.lock"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("tyo", "no run 'tyo'; did you mean 'toy'? must be a chapter, a run's key or its folder, or the path of an "
                "executed notebook or of a record; chapters: toy"),
        ("abcdef", "abcdef: none of the 2 runs here has such a key"),
        ("runs", "runs: is no run: must hold record.json and notebook.ipynb of one"),
        ("runs/toy/none", "runs/toy/none: there is no such file or folder"),
        ("requirement.json", "requirement.json: there is no such file or folder; did you mean 'requirements.lock'?"),
        ("requirements.lock", "requirements.lock: not a notebook (Notebook does not appear to be JSON: 'toy==1\\n')"),
        ("notebooks/toy.ipynb", "notebooks/toy.ipynb: holds no record: run all cells of a chapter's notebook and save "
                                "it with its outputs"),
        ("empty.ipynb", "empty.ipynb: not a notebook (Notebook does not appear to be JSON: '')"),
        ("list.ipynb", "list.ipynb: not a notebook ('list' object has no attribute 'get')"),
        ("other.ipynb", "other.ipynb: no chapter has code like this; chapters: toy"),
        ("few.ipynb", "few.ipynb: its parameters have no seed and seeds: it is older than chapters of today's form"),
        ("odd.ipynb", "odd.ipynb: its record cannot be read: values.high.0: Input should be a valid number, unable to "
                      "parse string as a number"),
        ("odd.json", "odd.json: must be the record of a run, such as book/published/CHAPTER/default.json"),
    ],
)  # fmt: skip
def test_what_is_no_run_is_one_line(ran, smoke, tmp_path, monkeypatch, name, message):
    shutil.copytree(ran.root, tmp_path / "a", dirs_exist_ok=True)
    project = type(ran)(tmp_path / "a")
    monkeypatch.chdir(project.root)

    def write(name, change):
        notebook = copy.deepcopy(smoke.notebook)
        for cell in notebook.cells:
            if cell.cell_type == "code":
                change(cell)
        nbformat.write(notebook, project.root / name)

    def bundles(cell):
        return [o.data[runs.MIME] for o in cell.outputs if runs.MIME in o.get("data", {})]

    def few(cell):
        for bundle in bundles(cell):
            if "parameters" in bundle:
                bundle["parameters"] = {"rate": 1}

    def odd(cell):
        for bundle in bundles(cell):
            if "values" in bundle:
                bundle["values"]["high"] = ["x"]

    (project.root / "empty.ipynb").write_text("")
    (project.root / "list.ipynb").write_text("[]")
    (project.root / "odd.json").write_text(json.dumps({"chapter": "toy"}))
    write("other.ipynb", lambda cell: cell.update(source="x = 1"))
    write("few.ipynb", few)
    write("odd.ipynb", odd)
    with pytest.raises(BadInput) as error:
        named.find(project, name)
    assert str(error.value) == message


def test_a_key_that_several_have_names_them(project, smoke):
    for digit in "ab":
        folder = project.runs / "toy" / f"{smoke.record.key[:-1]}{digit}"
        shutil.copytree(smoke.folder, folder)
        record = smoke.record.model_copy(update={"key": folder.name})
        (folder / "record.json").write_text(record.model_dump_json())
    start = smoke.record.key[:-1]
    with pytest.raises(BadInput, match=f"{start}: 2 runs have keys that start so: {start}a .toy., {start}b .toy."):
        named.find(project, start)
    with pytest.raises(BadInput, match="-p goes with a chapter's name, not with a run's"):
        named.find(project, f"{start}a", overrides={"rate": 1})


def test_what_is_not_run_says_what_runs_it(ran):
    with pytest.raises(named.NotRun) as error:
        named.find(ran, "toy", "smoke", {"title": "two words"})
    assert str(error.value) == "toy: not run: phenomena run toy --edition smoke -p 'title=two words'"
