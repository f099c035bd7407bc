"""What is registered, as data: to list systems without importing their networks.

Importing all papers imports torch, which takes seconds; what they register changes only with their
modules. So it is kept in the user's cache folder, under a digest of these modules.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from systems import registry
from systems.files import whole


@dataclass(frozen=True)
class Row:
    """A registered system or fusion. ``is_main``: ``PAPER`` alone means it."""

    address: str
    paper: str
    is_main: bool
    kind: str  # system, fusion
    task: str
    dataset: str
    learner: str
    members: tuple[str, ...]
    summary: str


@dataclass(frozen=True)
class Catalogue:
    """All systems and fusions, papers in alphabetical order, and the BibTeX entry of each paper."""

    rows: tuple[Row, ...]
    bibtex: dict[str, str]

    def names(self) -> tuple[str, ...]:
        """What systems are called: ``PAPER/SYSTEM``, and ``PAPER`` for the main ones."""
        systems = [row for row in self.rows if row.kind == "system"]
        return (*(r.address for r in systems), *(r.paper for r in systems if r.is_main))


def catalogue() -> Catalogue:
    """What is registered now; papers are imported only where one has changed since the last call.

    A cache that cannot be written or read is done without.
    """
    path = Path(platformdirs.user_cache_dir("soundsweep")) / f"catalogue-{_digest()}.json"
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        rows = [Row(**{**row, "members": tuple(row["members"])}) for row in kept["rows"]]
        return Catalogue(tuple(rows), kept["bibtex"])
    except (OSError, ValueError, KeyError, TypeError):
        found = _imported()
    try:
        for old in path.parent.glob("catalogue-*.json"):
            old.unlink(missing_ok=True)
        with whole(path, f".{os.getpid()}") as temporary:
            temporary.write_text(json.dumps(asdict(found)), encoding="utf-8")
    except OSError:
        pass
    return found


def _imported() -> Catalogue:
    systems = [
        Row(e.address, e.paper, e.is_main, "system", e.task, e.dataset, "", (), e.summary)
        for e in registry.entries()
    ]
    fusions = [
        Row(f.address, f.paper, f.is_main, "fusion", "", "", f.learner, f.members, f.summary)
        for f in registry.fusions()
    ]
    bibtex = {paper: registry.bibtex(paper) for paper in sorted(registry.papers())}
    return Catalogue((*systems, *fusions), bibtex)


def _digest() -> str:
    lines = [importlib.metadata.version("soundsweep"), *_modules()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _modules() -> Iterator[str]:
    """A line for each module that registers something: where it is, its size, when it changed."""
    for paper, module in (*sorted(registry.papers().items()), ("", registry.__name__)):
        found = importlib.util.find_spec(module)
        if found is None or found.origin is None:
            yield f"{paper} {module}"
            continue
        about = os.stat(found.origin)
        yield f"{paper} {found.origin} {about.st_size} {about.st_mtime_ns}"
