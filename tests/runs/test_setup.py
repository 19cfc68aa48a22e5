"""The one lock behind make, conda and Binder, and files that must not drift from it."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

import phenomena
from phenomena.runs.contract.parameters import parse_assignments
from phenomena.runs.store import published
from phenomena.runs.store.chapters import Project


@pytest.fixture(scope="module")
def root(pytestconfig):
    return pytestconfig.rootpath


@pytest.fixture(scope="module")
def locked(root):
    """Package -> versions in the lock."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(
        r"^([a-z0-9-]+)==([^ ;\\]+)", (root / "requirements.lock").read_text(), re.MULTILINE
    ):
        found.setdefault(name, set()).add(version)
    return found


def test_every_package_is_locked_with_hashes_and_no_address(root, locked):
    text = (root / "requirements.lock").read_text()
    assert "://" not in text
    entries = re.split(r"^(?=[a-z0-9-]+==)", text, flags=re.MULTILINE)[1:]
    assert all("--hash=sha256:" in entry for entry in entries)
    assert len(locked) > 50


def test_every_declared_package_is_in_the_lock(root, locked):
    project = tomllib.loads((root / "pyproject.toml").read_text())
    declared = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    for requirement in declared:
        name = re.match(r"[A-Za-z0-9-]+", requirement)[0].lower()
        assert name in locked, f"{name} is not in requirements.lock: make lock"
    for named in ("jupyter-book", "torch", "torchvision", "matplotlib", "seaborn", "papermill"):
        assert named in locked


def test_conda_and_binder_install_that_lock(root):
    environment = yaml.safe_load((root / "environment.yml").read_text())
    python, pip, section = environment["dependencies"]
    assert (pip, section) == ("pip", {"pip": ["--requirement requirements.lock"]})  # nothing beside the lock
    lowest = re.search(
        r">=(3\.\d+)", tomllib.loads((root / "pyproject.toml").read_text())["project"]["requires-python"]
    )
    assert python == f"python={lowest[1]}"
    assert "--no-deps" in (root / "postBuild").read_text()


def test_make_brings_the_locked_uv(root, locked):
    version = re.search(r"UV_VERSION := (\S+)", (root / "Makefile").read_text())[1]
    assert locked["uv"] == {version}


def test_what_is_installed_is_what_is_locked(locked):
    from importlib.metadata import version

    for name in ("torch", "papermill", "jupyter-book", "pydantic"):
        assert version(name).split("+")[0] in locked[name]


def test_one_version_is_told_everywhere(root):
    version = tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((root / "CITATION.cff").read_text())["version"] == version == phenomena.__version__


def test_what_the_first_screen_says_can_be_done(root):
    """Its commands name targets, chapters, parameters, figures and claims that are there."""
    screen = (root / "README.md").read_text().partition("```sh\n")[2].partition("```")[0]
    assert "\nsetup: $(READY)" in (root / "Makefile").read_text() and screen.startswith("make setup ")
    commands = [shlex.split(line, comments=True)[1:] for line in screen.splitlines() if line.startswith("phenomena ")]
    assert [command[0] for command in commands] == ["run", "figure", "compare"]
    chapter = Project(root).chapter(commands[0][1])
    assert {command[1] for command in commands} == {chapter.name}
    values = [[command[i + 1] for i, word in enumerate(command) if word == "-p"] for command in commands]
    assert chapter.resolve(overrides=parse_assignments(values[0]))["seeds"] == 3
    assert values[1] == values[0], "the figure is of that run"
    assert commands[1][2] in [figure.name for figure in published.read(Project(root), chapter).figures]
    shown = [commands[2][i + 1] for i, word in enumerate(commands[2]) if word == "--value"]
    assert len(shown) == 3 and not set(shown) - {claim.name for claim in chapter.file.claims}


# --- publishing -------------------------------------------------------------------------------------------------------

WORKFLOWS = sorted((Path(__file__).parents[2] / ".github" / "workflows").glob("*.yml"))
each = pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)


@each
def test_actions_are_pinned_to_a_commit_with_its_version(path):
    used = re.findall(r"uses: (\S+)(.*)", path.read_text())
    assert used
    for action, rest in used:
        assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", action), action
        assert re.match(r" # v\d+\.\d+\.\d+", rest), action


@each
def test_jobs_have_an_end_and_no_right_that_is_not_named(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {}
    assert "concurrency" in workflow
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120, name
        assert job["permissions"], name
    writing = {n: j["permissions"] for n, j in workflow["jobs"].items() if "write" in j["permissions"].values()}
    assert writing == (
        {"release": {"contents": "write"}, "deploy": {"pages": "write", "id-token": "write"}}
        if path.stem == "book"
        else {}
    )


@each
def test_workflows_run_what_contributors_run(path, root):
    text = path.read_text()
    assert "run: .ci/run" in text
    for word in re.findall(r"run: make (\w+)", text):
        assert re.search(rf"^{word}:", (root / "Makefile").read_text(), re.M), word


def test_the_pictures_of_the_readme_are_there_and_small(root):
    for name in re.findall(r"!\[[^]]*\]\((\S+)\)", (root / "README.md").read_text()):
        assert 10_000 < (root / name).stat().st_size <= 150_000
