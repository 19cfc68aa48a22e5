"""What git knows of a project; nothing outside a repository.

Git is asked of the repository that the folder lies in, whatever else the environment names, and asks no other machine.
"""

import os
import subprocess
from pathlib import Path

KEPT = ("GIT_CONFIG", "GIT_CEILING_DIRECTORIES")  # a person's settings; other variables name other repositories
SAFE = {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": "none"}  # nothing written or fetched


def output(root: Path, *words: str, given: bytes = b"") -> bytes | None:
    """What git prints when it is given some input; None where it fails or is not installed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith(KEPT)}
    # a checkout of another user, as in a container: who runs its notebooks trusts it
    command = ["git", "-c", "core.fsmonitor=false", "-c", f"safe.directory={root.resolve()}", *words]
    try:
        return subprocess.run(command, cwd=root, input=given, capture_output=True, check=True, env=kept | SAFE).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def git(root: Path, *words: str) -> str | None:
    """What git prints as text, without the white space around it; None where it fails or is not installed."""
    printed = output(root, *words)
    return None if printed is None else os.fsdecode(printed).strip()


def holds(root: Path) -> bool:
    """Whether a repository holds the project's lock: the one that it lies in may be another's, as around a .venv."""
    return bool(git(root, "ls-files", "requirements.lock"))


def commit(root: Path) -> str | None:
    """HEAD, with -dirty when notebooks, library or lock differ from it; None outside a repository of the project."""
    head = git(root, "rev-parse", "HEAD") if holds(root) else None
    return head and head + (
        "-dirty" if git(root, "status", "--porcelain", "notebooks", "lib", "requirements.lock") else ""
    )
