"""What git knows of a project; nothing outside a repository."""

import subprocess
from pathlib import Path


def git(root: Path, *words: str) -> str | None:
    """What git prints, without the white space around it; None where it fails or is not installed."""
    try:
        done = subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def commit(root: Path) -> str | None:
    """HEAD, with -dirty when notebooks, library or lock differ from it; None outside git."""
    head = git(root, "rev-parse", "HEAD")
    return head and head + (
        "-dirty" if git(root, "status", "--porcelain", "notebooks", "lib", "requirements.lock") else ""
    )
