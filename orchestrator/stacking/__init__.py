"""Second stage: one module per family of meta-learners, all on stored predictions."""
