"""The cut: imports go one way, folder by folder; the orchestrator names no paper; short files."""

from __future__ import annotations

import ast
from pathlib import Path

import orchestrator
from systems import registry

ROOT = Path(orchestrator.__file__).parent.parent
FORBIDDEN = {
    "systems": {"search_spaces", "orchestrator", "ray", "mlflow", "optuna"},
    "search_spaces": {"orchestrator", "ray", "mlflow", "optuna"},
}


def modules(package: str) -> dict[str, ast.Module]:
    paths = (ROOT / package).rglob("*.py")
    return {str(path): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def imported(tree: ast.Module) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_imports_go_one_way() -> None:
    for package, forbidden in FORBIDDEN.items():
        for path, tree in modules(package).items():
            assert not imported(tree) & forbidden, path


def test_the_orchestrator_names_no_paper() -> None:
    papers = set(registry.papers())
    for path, tree in modules("orchestrator").items():
        for node in ast.walk(tree):
            # A literal, a name, an attribute, an imported module, an argument.
            named = {getattr(node, field, None) for field in ("value", "id", "attr", "name", "arg")
                     if not isinstance(getattr(node, field, None), ast.AST)}  # fmt: skip
            words = {part for word in named if isinstance(word, str) for part in word.split(".")}
            assert not words & papers, path


# The folders of orchestrator/, each with what it is for: a file may import from folders above its
# own line, and from its own. What is imported inside functions counts.
LAYERS = (
    "plan",  # what is asked for, as data
    "runs",  # the run directory: its plan, names, locks, the ledger's file
    "console",  # what a run tells, and the signals that end it
    "training",  # one training of one trial
    "search",  # study, journal, pruner, Tune, cluster
    "members",  # the best trials, and the rows that judge
    "stacking",  # meta-learners: learners, wrappers, the stage, judging
    "scoring",  # the test part, once
    "models",  # a model away from its run
    "report",  # results.json and its page
    "tracking",  # MLflow as a view
    "watching",  # a run from another terminal: status, stop, attach
    "planning",  # options -> plan: all that can be wrong
    "pipeline",  # the way of a run; the Python interface
    "nightly",  # what is due each night, and whether something got worse
    "cli",  # options in, lines out
    "run",  # the one file that `ray submit` copies
)
LONGEST = 400  # lines of a file


def graph() -> dict[str, set[str]]:
    """Every module of the orchestrator, and the modules of it that it imports."""
    named = {
        ".".join(Path(path).relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): tree
        for path, tree in modules("orchestrator").items()
    }
    found: dict[str, set[str]] = {name: set() for name in named}
    for name, tree in named.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    found[name].add(whole if whole in named else node.module)
    return {name: {one for one in imports if one in named} for name, imports in found.items()}


def layer(module: str) -> int:
    return LAYERS.index(module.split(".")[1])


def test_folders_import_one_way() -> None:
    imports = graph()
    inside = [name for name in imports if name != "orchestrator"]  # whose __init__ is a table
    assert {name.split(".")[1] for name in inside} == set(LAYERS)
    for name in inside:
        upward = [
            one for one in imports[name] if one != "orchestrator" and layer(one) > layer(name)
        ]
        assert not upward, (name, upward)


def test_no_circle() -> None:
    imports = graph()
    imports.pop("orchestrator")
    left = dict(imports)
    while free := [n for n, needs in left.items() if not any(one in left for one in needs)]:
        for name in free:
            del left[name]
    assert not left


def test_files_are_short() -> None:
    for package in ("orchestrator", "systems", "search_spaces"):
        for path in (ROOT / package).rglob("*.py"):
            assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST, path
