"""``soundsweep sync``, apart from the other commands: nothing here imports torch."""

from __future__ import annotations

from orchestrator.runs.find import find
from orchestrator.tracking import sync as tracking


def sync(name: str, storage: str, models: list[str]) -> None:
    """Bring MLflow up to date, and say where it is seen."""
    done = tracking.sync(find(name, storage), models=models)
    print(f"MLflow: {done.uri}, experiment '{done.experiment}'")
    if not done.uri.startswith("http"):
        print(f"  served by: mlflow ui --backend-store-uri {done.uri}")
    print(f"  table: {done.page}")
