"""The papers that are there: those of this package, and those that others add."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import pkgutil
import sys


def papers() -> dict[str, str]:
    """Names of all papers and the modules that register their systems."""
    return _papers(tuple(sys.path))


@functools.cache
def _papers(path: tuple[str, ...]) -> dict[str, str]:
    """Looked up once for a path: the metadata of all installed packages are read."""
    import systems.papers

    found = {
        m.name: f"systems.papers.{m.name}" for m in pkgutil.iter_modules(systems.papers.__path__)
    }
    for point in importlib.metadata.entry_points(group="soundsweep.papers"):
        found[point.name] = point.value
    return found


def bibtex(paper: str) -> str:
    """The BibTeX entry of a paper: its module's ``BIBTEX``."""
    module = importlib.import_module(papers()[paper])
    return str(module.BIBTEX).strip()
