"""An extension of Sphinx that mends what pages get from their tools and no option changes."""

import re
from pathlib import Path

from sphinx.application import Sphinx

MENDED = {
    # a corner of a pandas table heads nothing, and an empty heading is read out as one
    r"<th></th>": "<td></td>",
    # the sidebar's arrows, by which a chapter's further editions unfold, have no name
    r'<summary><span class="toctree-toggle"': '<summary aria-label="further pages"><span class="toctree-toggle"',
    # what folds has a name of its own, which this label would hide from those who listen
    r'<summary aria-label="Toggle hidden content">': "<summary>",
    # an entry of the bibliography has a role that is no more, and that a list does not take
    r'role="doc-biblioentry"': 'role="listitem"',
    # fonts are asked for ahead in a manner that is refused to pages on disk; the styles ask for them all the same
    r'<link rel="preload" as="font"[^>]*/>\s*': "",
}


def mend(app: Sphinx, failure: Exception | None) -> None:
    """Mends the built pages in their place; does nothing to pages that have been mended."""
    for path in Path(app.outdir).rglob("*.html"):
        built = path.read_text(encoding="utf-8")
        mended = built
        for old, new in MENDED.items():
            mended = re.sub(old, new, mended)
        if mended != built:
            path.write_text(mended, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("build-finished", mend)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
