"""What starts the nights: a line of the crontab, a timer of systemd, a CronJob of Kubernetes."""

from __future__ import annotations

import base64
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import time
from pathlib import Path

import yaml

from orchestrator.nightly.settings import Settings
from systems.errors import UserError

MARK = "# soundsweep nightly"
TEMPLATE = Path(__file__).parents[2] / "cluster" / "kuberay" / "cronjob.yaml"
OTHERWISE = time(1, 0)  # when nights begin that have no window


def install(way: str, settings: Settings, file: Path) -> list[str]:
    """Write or print what starts the nights of a file; returns what there is to say.

    Args:
        way: ``print``, ``cron``, ``systemd`` or ``kuberay``.
        settings: of the file.
        file: its absolute path.

    Raises:
        UserError: the way is not there on this machine.
    """
    ways: dict[str, Callable[[time, Path], list[str]]] = {
        "print": _print, "cron": _cron, "systemd": _systemd,
        "kuberay": lambda start, file: kuberay(start, file).splitlines(),
    }  # fmt: skip
    return ways[way](settings.window.start if settings.window else OTHERWISE, file)


def command(file: Path) -> list[str]:
    """The command of a night, by the interpreter that runs now."""
    return [sys.executable, "-m", "orchestrator.run", "nightly", str(file)]


def cron_line(start: time, file: Path) -> str:
    """The line of a crontab. Its ``%`` would be the end of the command."""
    told = " ".join(map(shlex.quote, command(file))).replace("%", r"\%")
    folder = shlex.quote(str(Path.cwd())).replace("%", r"\%")
    return f"{start.minute} {start.hour} * * * cd {folder} && {told} {MARK} {file}"


def units(start: time, file: Path) -> dict[str, str]:
    """The service and its timer, by file name. A night that is killed (out of memory, say) is gone
    on with after a minute; one that ends with an exit code is not begun again."""
    told = " ".join(_quoted(word) for word in command(file))
    service = f"""[Unit]
Description=soundsweep nightly: {_escaped(str(file))}

[Service]
Type=exec
WorkingDirectory={_escaped(str(Path.cwd()))}
ExecStart={told}
KillMode=mixed
TimeoutStopSec=10min
Restart=on-abnormal
RestartSec=1min
"""
    timer = f"""[Unit]
Description=soundsweep nightly, each night

[Timer]
OnCalendar=*-*-* {start:%H:%M}:00

[Install]
WantedBy=timers.target
"""
    return {"soundsweep-nightly.service": service, "soundsweep-nightly.timer": timer}


def _escaped(text: str) -> str:
    return text.replace("%", "%%")


def _quoted(word: str) -> str:
    """A word of ExecStart."""
    return '"' + _escaped(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$") + '"'


def kuberay(start: time, file: Path) -> str:
    """The repository's CronJob that creates a RayJob, at the file's hour and with the file in it.

    Raises:
        UserError: the template is not there.
    """
    try:
        made = list(yaml.safe_load_all(TEMPLATE.read_text(encoding="utf-8")))
    except OSError as error:
        raise UserError(
            f"the template {TEMPLATE} cannot be read ({error.strerror}): it lies in the "
            "repository, not in the installed package."
        ) from error
    text = base64.b64encode(file.read_bytes()).decode()  # the pod does not see our files
    entry = (
        f"sh -c 'echo {text} | base64 -d > /tmp/nightly.yaml; soundsweep nightly /tmp/nightly.yaml'"
    )
    for one in made:
        if one["kind"] == "CronJob":
            one["spec"]["schedule"] = f"{start.minute} {start.hour} * * *"
        if one["kind"] == "ConfigMap":
            job = yaml.safe_load(one["data"]["rayjob.yaml"])
            job["spec"]["entrypoint"] = entry
            one["data"]["rayjob.yaml"] = yaml.safe_dump(job, sort_keys=False, width=10**6)
    return yaml.safe_dump_all(made, sort_keys=False)


def _print(start: time, file: Path) -> list[str]:
    lines = ["# crontab -e", cron_line(start, file)]
    for name, text in units(start, file).items():
        lines += ["", f"# ~/.config/systemd/user/{name}", *text.splitlines()]
    return lines


def _cron(start: time, file: Path) -> list[str]:
    if shutil.which("crontab") is None:
        raise UserError("there is no crontab here: use --systemd, or --print and your own.")
    listed = subprocess.run(["crontab", "-l"], capture_output=True, text=True, check=False)
    mine = f"{MARK} {file}"
    kept = [line for line in listed.stdout.splitlines() if not line.endswith(mine)]
    new = "\n".join([*kept, cron_line(start, file)]) + "\n"
    done = subprocess.run(["crontab", "-"], input=new, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"the crontab cannot be changed: {done.stderr.strip()}")
    return [f"in your crontab: {cron_line(start, file)}"]


def _systemd(start: time, file: Path) -> list[str]:
    folder = Path.home() / ".config" / "systemd" / "user"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in units(start, file).items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"no unit can be written in {folder}: {error.strerror}.") from error
    return [
        *(f"wrote {folder / name}" for name in units(start, file)),
        "start it with: systemctl --user daemon-reload && "
        "systemctl --user enable --now soundsweep-nightly.timer",
        "and, to run while nobody is logged in: loginctl enable-linger",
    ]
