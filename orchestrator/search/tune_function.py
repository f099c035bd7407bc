"""What Tune's actors import: the function that it runs there, and nothing of the driver's."""

from __future__ import annotations

from typing import Any

from ray import tune


def run(config: dict[str, Any], trial: Any, shared: Any) -> None:
    """Run a trial in an actor that is reused from trial to trial."""
    # An outcome is a report of its own: Tune's last result of a function repeats the one before.
    tune.report(trial(shared, config["number"], config["params"], tune.report))
