"""A run from another terminal: how it stands, what it tells, and its end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import in_process, wait_until

from orchestrator.pipeline import begin
from orchestrator.pipeline.launch import resume
from orchestrator.plan.options import Changes
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError


@pytest.fixture
def run(whole: RunDir, tmp_path: Path) -> RunDir:
    """A copy of the whole run that a test may change."""
    shutil.copytree(whole.path, tmp_path / "runs" / "it")
    return RunDir(tmp_path / "runs" / "it")


@pytest.fixture
def driven(run: RunDir) -> Iterator[RunDir]:
    """The run with more trials than it could do while the test lasts, driven by a thread."""
    before = run.about_driver()["generation"]

    def drive() -> None:
        resume(run.path, Changes(more_trials=500))

    thread = threading.Thread(target=drive)
    thread.start()
    wait_until(
        lambda: run.about_driver()["generation"] > before and "search" in run.phase.read_text()
    )
    yield run
    run.stop_request.touch()
    thread.join()


def said(*arguments: str, root: Path, code: int = 0) -> str:
    done = in_process(*arguments, cwd=root.parent)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_status_of_an_ended_run(run: RunDir) -> None:
    results = read_json(run.results)
    text = said("status", "it", root=run.root)
    assert "state          done" in text
    best = max((t for t in results["trials"] if t["state"] == "complete"), key=lambda t: t["value"])
    assert f"trial {best['number']}, clip_macro_f1 {best['value']:.4f}" in text
    assert f"of {len(results['trials'])}" in text
    assert str(run.report / "index.html") in text
    listed = said("status", root=run.root).splitlines()
    assert [line.split()[0] for line in listed] == ["run", "it"]
    assert "done" in listed[1]


def test_status_loads_neither_torch_nor_ray_nor_mlflow(run: RunDir) -> None:
    code = (
        "import sys; from orchestrator.cli import app; sys.argv = ['soundsweep', 'status', 'it']\n"
        "try: app.main()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "assert not {'torch', 'ray', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=run.root.parent, check=True)


def test_a_run_is_stopped_from_another_terminal(driven: RunDir) -> None:
    text = said("status", "it", root=driven.root)
    assert "state          running" in text
    assert "driven by" in text
    assert "phase          search: 505 trials" in text
    text = said("stop", "it", root=driven.root)
    assert "is interrupted" in text
    assert f"soundsweep run --resume {driven.path}" in text
    assert not driven.is_driven()
    assert not driven.stop_request.exists()
    assert "nothing drives" in said("stop", "it", root=driven.root)
    states = [trial["state"] for trial in read_json(driven.results)["trials"]]
    assert states.count("running") == 1  # the trial under way, for --resume
    assert "interrupted" in said("status", "it", root=driven.root)


def test_attach_follows_until_the_run_ends_with_its_code(driven: RunDir) -> None:
    threading.Timer(2, driven.stop_request.touch).start()
    text = said("attach", "it", root=driven.root, code=3)
    assert "search: 505 trials" in text
    assert "trial 5 started" in text
    assert "trial 0 started" not in text  # an earlier driver's
    assert "interrupted: what is done is kept" in text
    assert text.rstrip().endswith(f"go on with: soundsweep run --resume {driven.path}")


def test_attach_to_a_run_that_has_ended_says_what_it_told(run: RunDir) -> None:
    text = said("attach", "it", root=run.root)
    assert "trial 0 started (the published point)" in text
    assert "clip_macro_f1" in text.rstrip().splitlines()[-1]


def test_a_driver_that_was_killed_leaves_an_interrupted_run(run: RunDir) -> None:
    about = read_json(run.phase)
    run.phase.write_text(json.dumps({**about, "code": None, "phase": "search"}))
    assert "state          interrupted" in said("status", "it", root=run.root)
    assert "go on with" in said("attach", "it", root=run.root, code=3)


def test_why_a_run_failed_is_told(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*about: object) -> bool:
        raise UserError("no trial completed.")

    monkeypatch.setattr(begin, "run_job", fails)
    said("run", "--resume", "it", "--storage", "runs", root=run.root, code=2)
    assert "failed: no trial completed." in said("status", "it", root=run.root)
    assert "failed: no trial completed." in said("attach", "it", root=run.root, code=2)


def test_the_root_that_the_environment_names_is_every_commands(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOUNDSWEEP_STORAGE", str(run.root))
    (tmp_path / "elsewhere").mkdir()
    for command in ("status", "attach", "stop", "report"):
        done = in_process(command, "it", cwd=tmp_path / "elsewhere")
        assert done.returncode == 0, done.stderr
