"""What README and guide show after `$ phenomena …` is what these commands say.

`WRITE_GUIDE=1 .venv/bin/python -m pytest tests/runs/test_guide.py` puts today's output into the pages.
"""

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
from conftest import add_pages

from phenomena.runs.book import build as book
from phenomena.runs.store.chapters import Project

PAGES = ("README.md", "book/how_to_rerun.md")
BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.M | re.S)
KEPT = 6  # lines of a paragraph of output


def shortened(output):
    paragraphs = [paragraph.splitlines() for paragraph in output.rstrip("\n").split("\n\n")]
    return "\n\n".join("\n".join(p if len(p) <= KEPT + 1 else [*p[:KEPT], "  …"]) for p in paragraphs)


def masked(output):
    """What another machine says as well: no measured number, no verdict, no key, no width of columns."""
    output = re.sub(r"\b[0-9a-f]{16}\b", "KEY", output)
    output = re.sub(r"\b(reproduced|inconclusive|contradicted)\b", "VERDICT", output)
    output = re.sub(r"(?<![\w-])[-−]?(nan|\d+([,.:]\d+)*)|(?<=[\s\[])-(?=[\s,\]])", "N", output)
    return re.sub(r" +", " ", output)


def commands(block):
    """Pairs of command and output."""
    parts = re.split(r"^\$ (.*)\n", block, flags=re.M)
    return list(zip(parts[1::2], (output.rstrip("\n") for output in parts[2::2]), strict=True))


@pytest.fixture(scope="module")
def project(tmp_path_factory, pytestconfig):
    """This project without its runs, in a folder of its own."""
    root, source = tmp_path_factory.mktemp("guide"), pytestconfig.rootpath
    for name in ("notebooks", "requirements.lock"):
        (root / name).symlink_to(source / name)
    shutil.copytree(source / "book" / "published", root / "book" / "published")
    shutil.copy(source / "book" / "_toc.yml", root / "book")
    return root


def test_commands_say_what_the_pages_show(project, phenomena, pytestconfig):
    said: dict[str, str] = {}
    for name in PAGES:
        path = pytestconfig.rootpath / name
        text = path.read_text(encoding="utf-8")
        for block in BLOCK.findall(text):
            fresh = ""
            for command, output in commands(block):
                program, *words = shlex.split(command, comments=True)
                if program != "phenomena" or words[0] == "book":  # what makes the whole book is tested elsewhere
                    fresh += f"$ {command}\n{output}\n".replace("\n\n", "\n")
                    continue
                if command not in said:
                    done = phenomena(project, *words)
                    assert done.returncode in (0, 2), done.stderr
                    said[command] = shortened(done.stdout or done.stderr)
                fresh += f"$ {command}\n{said[command]}\n" if said[command] else f"$ {command}\n"
                if os.environ.get("WRITE_GUIDE") != "1":
                    assert masked(output) == masked(said[command]), f"{name}: $ {command}"
            text = text.replace(block, fresh)
        if os.environ.get("WRITE_GUIDE") == "1":
            path.write_text(text, encoding="utf-8")
    assert {shlex.split(c)[1] for c in said} >= {
        "list",
        "show",
        "run",
        "claims",
        "sweep",
        "extend",
        "compare",
        "publish",
    }


def test_the_book_ends_with_the_line_that_is_shown(ran, tmp_path, pytestconfig):
    shown = dict(pair for name in PAGES for block in BLOCK.findall((pytestconfig.rootpath / name).read_text())
                 for pair in commands(block))["phenomena book --edition smoke"]  # fmt: skip
    shutil.copytree(ran.root, tmp_path / "shelf")
    add_pages(tmp_path / "shelf", pytestconfig.rootpath)
    said = masked(book.book(Project(tmp_path / "shelf"), "smoke"))
    listed = re.sub(r"(N VERDICT)(, N VERDICT)+", r"\1", masked(shown))  # there are more chapters, and checks
    assert said == re.sub(r"; N checks of the code.*", "", listed)


def test_a_mask_hides_measurements_alone():
    assert masked("reproduced x 0.25 [-0.1, nan] n = 3") == masked("contradicted  x 1.5 [0.3, 2] n = 5")
    assert masked("runs/toy/0123456789abcdef: 3 s") == masked("runs/toy/fedcba9876543210: 12 s")
    assert masked("x 1 above") != masked("x 1 below")


def test_every_command_that_is_shown_exists():
    from phenomena.runs.cli import commands as known

    root = Path(__file__).parents[2]
    for name in PAGES:
        for word in re.findall(r"^(?:\$ )?phenomena (\w+)", (root / name).read_text(encoding="utf-8"), re.M):
            assert word in known.commands, f"{name}: phenomena {word}"
    targets = set(re.findall(r"^([a-z]+):", (root / "Makefile").read_text(), re.M))
    for name in PAGES:
        for word in re.findall(r"(?:^|`|\$ )make ([a-z]+)", (root / name).read_text(encoding="utf-8"), re.M):
            assert word in targets, f"{name}: make {word}"
