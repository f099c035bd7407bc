"""Second stage: one module per family of meta-learners, all on stored predictions."""

from orchestrator.stacking.base import Learner, fit_learner

__all__ = ["Learner", "fit_learner"]
