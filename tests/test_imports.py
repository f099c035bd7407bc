"""The cut: imports go one way, and the orchestrator names no paper."""

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
