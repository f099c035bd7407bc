"""A machine within this one, to bring up a cluster on: own processes, own loopback, own home, sshd.

What `ray up`, `ray stop` and `ray down` start and end there is nobody else's, and all of it is gone
with its first process.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from command import PATIENCE, wait_until

ROOT = Path(__file__).resolve().parents[1]
CLONED = ("pyproject.toml", "constraints.txt", "Makefile", "README.md", "LICENSE", "cluster",
          "cluster.yaml", "orchestrator", "search_spaces", "systems")  # fmt: skip
NEEDED = ("ssh", "sshd", "ssh-keygen", "rsync", "unshare", "nsenter", "make", "curl", "ip", "mount")
# All addresses of a network of its own, which nobody else is in.
SSHD = """
ListenAddress 0.0.0.0
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
"""
FIRST = """
set -e
echo {folder.name} > /proc/sys/kernel/hostname
mount --bind {folder}/passwd /etc/passwd
mount --bind {folder}/ray /tmp/ray
mount -t tmpfs tmpfs /run && mkdir /run/sshd
ip link set lo up
{sshd} -f {folder}/sshd_config -E {folder}/sshd.log
touch {folder}/is_up
while :; do sleep 3600 & wait $!; done
"""
# An environment of its own would import the code that `ray up` has copied; the memory that Ray
# watches is that of other tests too.
BASHRC = """
export PYTHONPATH=$HOME/soundsweep
export RAY_memory_monitor_refresh_ms=0
"""
ALONE = ("unshare", "--uts", "--mount", "--pid", "--net", "--fork", "--mount-proc", "--kill-child")


def missing() -> str | None:
    """Why there can be no such machine here; ``None`` where there can."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    lacking = [name for name in NEEDED if shutil.which(name, path=path) is None]
    if lacking:
        return f"{', '.join(lacking)} not installed"
    if not (Path(sys.prefix) / "pyvenv.cfg").exists():
        return "this Python is of no virtual environment"
    if os.getuid() != 0 or subprocess.run([*ALONE, "true"], capture_output=True).returncode:
        return "only root may make a machine within this one"
    return None


class Machine:
    """One that is up, with a clone of this repository in its user's home, until :meth:`close`."""

    def __init__(self, folder: Path) -> None:
        """Args:
        folder: an empty one, whose path is short enough for sockets.
        """
        self.folder, self.home, self.clone = folder, folder / "home", folder / "clone"
        self.shared = folder / "shared"
        for made in (self.home / ".ssh", self.home / ".ray", folder / "ray", self.shared):
            made.mkdir(parents=True)
        Path("/tmp/ray").mkdir(exist_ok=True)  # a place for its own
        self._lend_environment()
        self._clone()
        self._let_in()
        script = FIRST.format(folder=folder, sshd=shutil.which("sshd") or "/usr/sbin/sshd")
        self._first = subprocess.Popen([*ALONE, "bash", "-c", script])
        wait_until(lambda: (folder / "is_up").exists() or self._first.poll() is not None)
        assert self._first.poll() is None, (folder / "sshd.log").read_text()
        children = Path(f"/proc/{self._first.pid}/task/{self._first.pid}/children")
        self._pid = children.read_text().split()[0]

    def _lend_environment(self) -> None:
        """The environment of these tests, as if `make .venv/ready` had made it there."""
        venv = self.home / "soundsweep" / ".venv"
        venv.mkdir(parents=True)
        for name in ("bin", "lib", "lib64", "pyvenv.cfg"):
            if (Path(sys.prefix) / name).exists():
                (venv / name).symlink_to(Path(sys.prefix) / name)
        (venv / "ready").touch()
        os.utime(venv / "ready", (time.time() + 86_400,) * 2)  # newer than what it is made of
        (self.home / ".bashrc").write_text(BASHRC)

    def _clone(self) -> None:
        self.clone.mkdir()
        for name in CLONED:
            source, target = ROOT / name, self.clone / name
            if source.is_symlink():
                target.symlink_to(os.readlink(source))
            elif source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)

    def _let_in(self) -> None:
        key = self.home / ".ssh" / "id_ed25519"
        for path in (key, self.folder / "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
        shutil.copy(key.with_suffix(".pub"), self.folder / "authorized_keys")
        (self.folder / "sshd_config").write_text(SSHD.format(folder=self.folder))
        users = Path("/etc/passwd").read_text().splitlines()
        others = [line for line in users if not line.startswith("root:")]
        mine = f"root:*:0:0:root:{self.home}:/bin/bash"
        (self.folder / "passwd").write_text("\n".join([mine, *others]) + "\n")

    def wire(self, other: Machine) -> tuple[str, str]:
        """Join the two by a network of their own, and let this one's user in there; returns the
        addresses of both."""
        mine, theirs = "10.99.0.1", "10.99.0.2"
        self._in_network("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth0",
                         "netns", other._pid)  # fmt: skip
        for machine, own, next_ in ((self, mine, theirs), (other, theirs, mine)):
            machine._in_network("ip", "address", "add", f"{own}/24", "dev", "eth0")
            machine._in_network("ip", "link", "set", "eth0", "up")
            machine._in_network("ip", "route", "add", "default", "via", next_)
        shutil.copy(self.folder / "authorized_keys", other.folder)
        return mine, theirs

    def _in_network(self, *command: str) -> None:
        subprocess.run(["nsenter", "-t", self._pid, "-n", *command], check=True)

    def typed(self, *command: str, **environment: str) -> tuple[list[str], Mapping[str, str]]:
        """A command as its user types it in the clone, and its environment."""
        enter = ["nsenter", "-t", self._pid, "-m", "-p", "-n", f"--wd={self.clone}"]
        path = [str(Path(sys.prefix) / "bin"), "/usr/local/bin", "/usr/sbin", "/usr/bin", "/bin"]
        mine = {"HOME": str(self.home), "USER": "root", "LANG": "C.UTF-8", "TERM": "xterm",
                "PATH": os.pathsep.join(path), **environment}  # fmt: skip
        return [*enter, *command], mine

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as cron does: nobody is at its terminal."""
        arguments, mine = self.typed(*command, **environment)
        return subprocess.run(
            arguments, env=mine, text=True, timeout=PATIENCE, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def close(self) -> None:
        """End every process of it."""
        self._first.kill()  # and with it its first child, and all others with that
        self._first.wait()


class Typist:
    """A command in a terminal, and what is typed there."""

    def __init__(self, machine: Machine, *command: str) -> None:
        arguments, mine = machine.typed(*command)
        self._main, other = pty.openpty()
        termios.tcsetwinsize(other, (40, 120))
        self.process = subprocess.Popen(
            arguments, env=mine, stdin=other, stdout=other, stderr=other, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )  # fmt: skip
        os.close(other)
        self.seen = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # it has ended
            while data := os.read(self._main, 65_536):
                self.seen += data.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        wait_until(lambda: text in self.seen or self.has_ended())
        assert text in self.seen, self.seen[-3000:]

    def press(self, keys: str) -> None:
        os.write(self._main, keys.encode())

    def has_ended(self) -> bool:
        return self.process.poll() is not None

    def wait(self) -> int:
        return self.process.wait(PATIENCE)

    def hang_up(self) -> None:
        """Close the terminal, as a lost connection or a closed window does."""
        os.close(self._main)
