"""Ray clusters of several nodes on this machine, with a token and a folder of their own."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from command import free_port, wait_until
from faulted import FAULTS

RAY = (sys.executable, "-c", "from ray.scripts.scripts import main; main()", "start", "--block")


class Nodes:
    """A head without CPUs, and nodes; each is a process of ``ray start`` and what that has begun.

    Args:
        patch: of the environment, which all processes of the cluster and its drivers inherit.
        folder: where commands run; ``faults0.json`` there holds the faults of all processes.
        faults: as ``faults/sitecustomize.py`` takes them.
        cpus: of each node beside the head.
        grows: how many nodes of one CPU Ray's autoscaler may start, when they are asked for.
        environment: more of it.
    """

    def __init__(
        self, patch: pytest.MonkeyPatch, folder: Path, faults: Sequence[Mapping[str, Any]] = (),
        cpus: Sequence[int] = (1, 1), grows: int = 0, **environment: str,
    ) -> None:  # fmt: skip
        self.scratch = Path(tempfile.mkdtemp(prefix="rt-", dir="/tmp"))  # sockets take short paths
        (self.scratch / "ray").mkdir()
        (folder / "faults0.json").write_text(json.dumps(list(faults)))
        paths = [str(FAULTS), *filter(None, [os.environ.get("PYTHONPATH")])]
        for name, value in {
            "PYTHONPATH": os.pathsep.join(paths), "SOUNDSWEEP_FAULTS": str(folder / "faults0.json"),
            "RAY_TMPDIR": str(self.scratch), "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0",
            **environment,
        }.items():  # fmt: skip
            patch.setenv(name, value)
        self._folder = self.scratch / "ray"
        about = ["--head", "--port", "0", "--num-cpus", "0", "--include-dashboard", "false",
                 "--temp-dir", str(self._folder)]  # fmt: skip
        if grows:
            about[2] = str(free_port())
            about.append(f"--autoscaling-config={self._autoscaler(about[2], grows)}")
            patch.setenv("RAY_FAKE_CLUSTER", "1")
            patch.setenv("AUTOSCALER_UPDATE_INTERVAL_S", "1")
        self.head = self._start(*about)
        noted = self._folder / "ray_current_cluster"
        wait_until(lambda: noted.exists() and noted.read_text())
        self.address = noted.read_text()
        self.nodes = [self.add(count) for count in cpus]
        wait_until(self._stands)

    def _stands(self) -> bool:
        """Whether each node has joined, as its command says then. Ray gives a raylet half a minute
        to start, which a busy machine may not: such a node is started again."""
        told = (self.scratch / "started.txt").read_text()
        assert self.head.poll() is None, told[-3000:]
        for place, node in enumerate(self.nodes):
            if node.poll() is not None:
                self.nodes[place] = self._start(*node.args[len(RAY) + 3 :])  # type: ignore[index]
        return told.count("will now block forever") == 1 + len(self.nodes)

    def _autoscaler(self, port: str, most: int) -> Path:
        """The file of an autoscaler whose nodes are raylets of this machine (Ray's own, for
        tests)."""
        from ray.util import get_node_ip_address

        none: dict[str, Any] = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
        path = self.scratch / "autoscaler.yaml"
        config = {
            "cluster_name": "grows", "max_workers": most, "idle_timeout_minutes": 5, "auth": {},
            "provider": {"type": "fake_multinode", "launch_multiple": True,
                         "gcs_address": f"{get_node_ip_address()}:{port}"},
            "available_node_types": {
                "ray.head.default": none,
                "one": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0,
                        "max_workers": most},
            },
            "head_node_type": "ray.head.default", "upscaling_speed": 10.0, "docker": {},
            "initialization_commands": [], "setup_commands": [], "head_setup_commands": [],
            "worker_setup_commands": [], "head_start_ray_commands": [],
            "worker_start_ray_commands": [], "file_mounts": {}, "cluster_synced_files": [],
            "file_mounts_sync_continuously": False, "rsync_exclude": [], "rsync_filter": [],
        }  # fmt: skip
        path.write_text(json.dumps(config))
        return path

    @property
    def named(self) -> tuple[str, str]:
        """The option that names it."""
        return ("--ray-address", self.address)

    def add(self, cpus: int = 1) -> subprocess.Popen[bytes]:
        """Let another node join."""
        return self._start("--address", self.address, "--num-cpus", str(cpus))

    def kill(self, node: subprocess.Popen[bytes]) -> None:
        """A node whose power is cut."""
        import ray  # noqa: F401  # it brings psutil
        import psutil  # isort: skip

        with _gone():
            processes = psutil.Process(node.pid).children(recursive=True)
            for process in (psutil.Process(node.pid), *processes):
                with _gone():
                    process.kill()
        node.wait()

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with open(self.scratch / "started.txt", "ab") as file:
            return subprocess.Popen(
                [*RAY, "--num-gpus", "0", "--disable-usage-stats", *arguments], stdout=file,
                stderr=file, start_new_session=True,
            )  # fmt: skip

    def _raylets(self) -> Iterator[Any]:
        import ray  # noqa: F401  # it brings psutil
        import psutil  # isort: skip

        mine = f"--session_dir={self._folder}", f"--session-dir={self._folder}"
        for process in psutil.process_iter(["name", "cmdline"]):
            words = process.info["cmdline"] or ()
            if process.info["name"] == "raylet" and any(w.startswith(mine) for w in words):
                yield process

    def close(self) -> None:
        """End all of its processes."""
        for node in (*self.nodes, self.head):
            self.kill(node)
        for process in self._raylets():
            with _gone():
                process.kill()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def __enter__(self) -> Nodes:
        return self

    def __exit__(self, *about: object) -> None:
        self.close()


def _gone() -> Any:
    """What may have ended by itself."""
    import contextlib

    import ray  # noqa: F401  # it brings psutil
    import psutil  # isort: skip

    return contextlib.suppress(psutil.NoSuchProcess)
