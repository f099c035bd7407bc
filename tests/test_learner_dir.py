"""A learner that is asked for again: kept, set aside or told, never deleted."""

from __future__ import annotations

from pathlib import Path

import pytest
import stacked

from orchestrator.console.progress import Progress
from orchestrator.pipeline.stack import _renew
from orchestrator.runs.files import write_json
from orchestrator.runs.learner_dir import LearnerDir
from orchestrator.runs.rundir import RunDir
from orchestrator.stacking.families import learner
from systems.errors import UserError


class Heard(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def fitted(tmp_path: Path) -> LearnerDir:
    """A fitted learner, with its scores."""
    folder = RunDir(tmp_path / "run").learner("logreg")
    made = learner("logreg")
    made.fit(*stacked.noisy(0, clips=100), 0)
    made.save(folder.path)
    write_json(folder.scores, {"name": "logreg"})
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_one_that_is_read_stays(fitted: LearnerDir) -> None:
    before, heard = content(fitted.path), Heard()
    assert not _renew(fitted, heard)
    assert content(fitted.path) == before
    assert heard.lines == []


@pytest.mark.parametrize("text", ['{"name": "logreg", "settings": {}, "state": {}}', "{", None])
def test_one_that_is_not_read_is_set_aside_whole(fitted: LearnerDir, text: str | None) -> None:
    if text is None:
        fitted.learner.unlink()
    else:
        fitted.learner.write_text(text)
    before, heard = content(fitted.path), Heard()
    assert _renew(fitted, heard)
    assert not fitted.path.exists()
    (aside,) = (fitted.path.parent.parent / "stack.aside").iterdir()
    assert content(aside) == before
    (line,) = heard.lines
    assert str(aside) in line


def test_a_disk_that_cannot_be_read_is_told_and_nothing_moves(fitted: LearnerDir) -> None:
    fitted.learner.unlink()
    fitted.learner.mkdir()  # read() of it is an OSError, for root too
    with pytest.raises(UserError, match="logreg cannot be read: Is a directory"):
        _renew(fitted, Progress())
    assert fitted.scores.exists()


def test_two_that_are_set_aside_do_not_meet(fitted: LearnerDir) -> None:
    first = fitted.set_aside()
    write_json(fitted.scores, {"name": "logreg"})
    second = fitted.set_aside()
    assert first != second
    assert LearnerDir(first).scores.exists()
    assert LearnerDir(second).scores.exists()
