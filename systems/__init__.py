"""The papers' systems and what they are made of. Runs without Ray, Optuna and MLflow."""
