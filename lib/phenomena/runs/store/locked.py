"""What is installed, held against the lock that a run's key names."""

import re
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.markers import InvalidMarker, Marker

from phenomena.runs.contract.notebook import REPORTED

PIN = re.compile(r"^([a-z0-9-]+)==([^ ;\\\n]+)(?: *; *([^\\\n]+))?", re.MULTILINE)


def differing(lock: Path, names: Sequence[str] = REPORTED) -> dict[str, tuple[str, str]]:
    """Packages whose installed version is not the locked one, by name: both. names: those whose versions are recorded.

    The same version built for other hardware, such as 2.13.0+cpu, does not differ. What the lock does not name, or what
    is not installed, is left out.
    """
    pins = PIN.findall(lock.read_text(encoding="utf-8"))
    wanted = {name: locked for name, locked, marker in pins if name in names and _holds(marker)}
    found = {}
    for name, locked in wanted.items():
        try:
            there = version(name)
        except PackageNotFoundError:  # the notebook that needs it will say so
            continue
        if locked not in (there, there.partition("+")[0]):
            found[name] = there, locked
    return found


def _holds(marker: str) -> bool:
    try:
        return not marker or Marker(marker.strip()).evaluate()
    except InvalidMarker:
        return False
