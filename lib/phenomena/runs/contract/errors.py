"""The two ways a command ends badly."""

import difflib
from collections.abc import Iterable


class BadInput(ValueError):
    """Input that is refused before anything starts: one line, exit status 2."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in a notebook: the line says all."""
        return [f"BadInput: {self}"]


class RunFailed(RuntimeError):
    """A notebook that raised, a book that did not build, a record that does not hold: one line, exit status 1."""


def nearest(given: str, accepted: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the accepted word nearest to the one given, or nothing."""
    match = difflib.get_close_matches(given, list(accepted), 1)
    return f"; did you mean {match[0]!r}?" if match else ""
