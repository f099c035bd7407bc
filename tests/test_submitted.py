"""What `ray submit` and `ray job submit` make different: a copied run.py, a terminal that is none,
a folder that does not last; and signals that are answered at once."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from command import in_process, wait_until
from rich.console import Console

from orchestrator import run as run_file
from orchestrator.cli.terminal import Terminal
from orchestrator.console.interrupts import Stop

ROOT = Path(__file__).resolve().parents[1]


def submitted(folder: Path, change: Sequence[str]) -> tuple[int, str]:
    """The code and the output of a run.py that was copied there, from a version that differs."""
    text = (ROOT / "orchestrator" / "run.py").read_text()
    assert change[0] in text
    (folder / "run.py").write_text(text.replace(*change))
    done = subprocess.run(
        [sys.executable, "run.py", "--help"], cwd=folder,
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def test_a_copied_run_file_is_the_command(tmp_path: Path) -> None:
    code, said = submitted(tmp_path, ("import sys", "import sys"))
    assert code == 0
    assert "reproduce" in said


@pytest.mark.parametrize(
    "change",
    [
        ('VERSION = "', 'VERSION = "9'),
        ("orchestrator.cli.app import", "orchestrator.cli.gone import"),
        ("app import main", "app import mein"),
    ],
)
def test_a_run_file_of_another_version_is_one_message(
    tmp_path: Path, change: tuple[str, str]
) -> None:
    code, said = submitted(tmp_path, change)
    assert code == 2
    assert len(said.splitlines()) == 1
    assert "ray up" in said


def test_the_package_has_the_version_of_its_run_file() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {
        "attr": "orchestrator.run.VERSION"
    }
    assert f"version: {run_file.VERSION}" in (ROOT / "CITATION.cff").read_text()


def shown(columns: int, **environment: str) -> str:
    """What a terminal of so many columns is sent for the beginning of a run."""
    main, other = pty.openpty()
    try:
        fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with open(other, "w", closefd=False) as file:
            environ = {"TERM": "xterm", **environment}
            with Terminal(Console(file=file, highlight=False, _environ=environ)) as terminal:
                terminal.started(0, True)
            file.flush()
        return os.read(main, 100_000).decode()
    finally:
        os.close(main)
        os.close(other)


def test_a_file_behind_a_terminal_gets_lines() -> None:
    """`ray submit > log`: the other end has a terminal, without a size or of the kind dumb."""
    assert "\x1b[" in shown(80)
    for text in (shown(0), shown(80, TERM="dumb")):
        assert "trial 0 started" in text
        assert "\x1b" not in text


def test_a_job_keeps_nothing_in_the_folder_of_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = tmp_path / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    session.mkdir(parents=True)
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    refused = in_process("run", "--dry-run", cwd=session)
    assert refused.returncode == 2
    assert "SOUNDSWEEP_STORAGE" in refused.stderr
    assert not list(session.iterdir())
    monkeypatch.setenv("SOUNDSWEEP_STORAGE", str(tmp_path / "shared"))
    asked = in_process("run", "--set", "nonsense", cwd=session)
    assert "key=value" in asked.stderr  # it comes as far as that


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_is_answered_at_once_and_once(number: signal.Signals) -> None:
    """While the main thread is busy: it may be printing, and hold what printing takes."""
    said: list[tuple[str, str]] = []
    with Stop(lambda text: said.append((threading.current_thread().name, text))) as stop:
        signal.raise_signal(number)
        assert stop.requested
        wait_until(lambda: said)
        if number != signal.SIGINT:
            signal.raise_signal(number)
    assert len(said) == 1
    thread, text = said[0]
    assert thread != threading.main_thread().name
    assert "\n" not in text
    assert ("second Ctrl-C" in text) == (number == signal.SIGINT)


def test_a_second_interrupt_ends_it_now() -> None:
    with Stop(lambda text: None):
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
