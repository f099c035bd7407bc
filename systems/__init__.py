"""The papers' systems and what they are made of. Runs without Ray, Optuna and MLflow."""

DEFAULT_SYSTEM = "gcrnn_vat"  # what a run without --system sweeps
