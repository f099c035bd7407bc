"""The main job: sweep a paper's system over its space, stack its best trials, read the results.

    python examples/main_job.py

is `soundsweep run --system gcrnn_vat --trials 4` in Python.
"""

from __future__ import annotations

from typing import Any

from orchestrator import Options, Run, launch


def main(**options: Any) -> Run:
    """Sweep with these options (see ``orchestrator.Options``), and print what came out."""
    run = launch(Options(**{"system": "gcrnn_vat", "trials": 4, **options}))
    results = run.results
    print(f"{run.path}: {run.plan.trials} trials, searched by {run.plan.metric}")
    print(results.trials.sort_values("value", ascending=False).to_string(index=False))
    print(results.stack[["name", "value", "gain", "low", "high", "claimed"]].to_string(index=False))
    print(results.test.to_string(index=False))

    model = run.model("best")  # predicts any audio file: model.predict_files(["street.wav"])
    scores = run.predictions("best", part="test")
    print(f"{len(model.classes)} classes, {len(scores.clip_ids)} test clips predicted")
    return run


if __name__ == "__main__":
    main()
