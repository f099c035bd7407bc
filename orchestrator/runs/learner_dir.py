"""The files of a meta-learner below a run directory."""

from __future__ import annotations

import shutil
from pathlib import Path


class LearnerDir:
    """The files of one meta-learner. ``scores`` comes last: where it is, all is."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.learner = path / "learner.json"
        self.scores = path / "scores.json"
        self.refused = path / "refused.json"
        self.out_of_fold = self.predictions("out_of_fold")
        self.test = self.predictions("test")
        self.folds = path / "folds"
        self.alone = path / "alone"
        self.searched = self.search("final") / "trials.json"

    def predictions(self, part: str) -> Path:
        """What it says of a part: ``test``, ``out_of_fold``."""
        return self.path / f"{part}.npz"

    def search(self, where: str) -> Path:
        """The search of its settings on all rows (``final``), or without those of a fold."""
        return self.path / "search" / where

    def clear_parts(self) -> None:
        """Remove what a killed fit would go on from."""
        for folder in (self.folds, self.alone):
            shutil.rmtree(folder, ignore_errors=True)

    def set_aside(self) -> Path:
        """Move the folder out of stage two's way, and keep it; returns where it is now."""
        aside = self.path.parent.with_name("stack.aside")
        aside.mkdir(exist_ok=True)
        to = aside / f"{self.name}.{1 + len(list(aside.glob(f'{self.name}.*')))}"
        self.path.rename(to)
        return to
