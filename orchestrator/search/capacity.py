"""How much there is for trials: this machine's cores and GPUs, or a Ray cluster's nodes.

A cluster may grow: what its autoscaler may add stands in the file that the head was started with.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.plan.plan import IN_PROCESS, Resources
from systems.errors import UserError
from systems.machine import cores

HERE = "this machine"
HEAD = "node:__internal_head__"  # the resource by which Ray marks a head


@dataclass(frozen=True)
class Node:
    """CPUs and GPUs of a machine."""

    cpus: float
    gpus: float = 0
    is_head: bool = False

    def holds(self, asked: Resources) -> int:
        """How many workers of a trial fit on it; the only one of a trial without is itself."""
        by_cpu = int(self.cpus // asked.cpus)
        if asked.gpus == 0:
            return by_cpu
        if asked.gpus >= 1:
            return min(by_cpu, int(self.gpus // asked.gpus))
        return min(by_cpu, int(self.gpus) * int(1 / asked.gpus + 1e-9))  # none spans two GPUs

    def in_words(self) -> str:
        return f"{self.cpus:g} CPU" + (f" and {self.gpus:g} GPU" if self.gpus else "")


@dataclass(frozen=True)
class Capacity:
    """Machines that trials run on.

    ``place``: in words. ``nodes``: those there are. ``kinds``: of the nodes that an autoscaler
    starts, each with how many there may be; ``most`` of them in all. ``is_open``: an autoscaler
    starts nodes, and of which kinds is not known here.
    """

    place: str
    nodes: tuple[Node, ...]
    kinds: tuple[tuple[Node, int], ...] = ()
    most: int = 0
    is_open: bool = False

    @property
    def has_gpus(self) -> bool:
        return any(node.gpus >= 1 for node in (*self.nodes, *(node for node, _ in self.kinds)))

    def slots(self, asked: Resources) -> int:
        """How many such trials fit at once, on what there is or what it may become."""
        now = sum(node.holds(asked) for node in self.nodes)
        grown = sum(node.holds(asked) for node in self.nodes if node.is_head)
        left = self.most
        for node, count in sorted(self.kinds, key=lambda kind: -kind[0].holds(asked)):
            grown += node.holds(asked) * min(count, left)
            left -= min(count, left)
        return max(now, grown) // asked.workers

    def in_words(self) -> str:
        """What was found: ``the cluster at ADDRESS: 2 nodes of 2 CPU, 1 node of 0 CPU``."""
        if self.place == HERE:
            return f"{HERE}: {_counted(self.nodes)}"
        text = f"{self.place}: {_counted(self.nodes)}"
        if self.kinds:
            kinds = ", ".join(f"{count} of {node.in_words()}" for node, count in self.kinds)
            text += f"; it may start {kinds}, {self.most} in all"
        return text + ("; it may start others" if self.is_open else "")


def _counted(nodes: Sequence[Node]) -> str:
    alike = Counter(node.in_words() for node in nodes)
    words = [f"{count} node{'s' if count > 1 else ''} of {text}" for text, count in alike.items()]
    return ", ".join(words) or "no node"


def capacity(ray_address: str | None) -> Capacity:
    """What a run with this Ray address has for its trials.

    Raises:
        UserError: no cluster can be joined at the address.
    """
    if ray_address == IN_PROCESS:
        return _this_machine()
    from orchestrator.search.ray_session import cluster_at, joined

    address = cluster_at(ray_address)
    if address is None:
        return _this_machine()
    with joined(address):
        return of_cluster()


def check_fits(asked: Resources, there: Capacity) -> None:
    """Refuse a trial that would wait for ever.

    Raises:
        UserError: none fits what there is, or may be; says what there is.
    """
    if there.place == HERE and not asked.gpus:
        return  # a Ray of the run's own takes as many CPUs as it is told
    if there.is_open or there.slots(asked) > 0:
        return
    if there.place == HERE:
        gpus = sum(node.gpus for node in there.nodes)
        has = f"has {gpus:g}" if gpus else "has no CUDA device"
        raise UserError(f"--gpus-per-trial {asked.gpus:g}: this machine {has}.")
    one = there.slots(Resources(1, asked.cpus, asked.gpus))
    lacks = f"only {one} of them fit at once" if one else "no node has so much"
    raise UserError(
        f"no trial fits {there.in_words()}. A trial takes {asked.in_words()}, and {lacks}. Ask for "
        "less (--cpus-per-trial, --gpus-per-trial, --workers-per-trial), or add a node."
    )


def of_cluster() -> Capacity:
    """The nodes of the cluster that this process is connected to, and those it may start."""
    import ray

    nodes = tuple(
        Node(own.get("CPU", 0), own.get("GPU", 0), HEAD in own)
        for own in (node["Resources"] for node in ray.nodes() if node["Alive"])
    )
    address = ray.get_runtime_context().gcs_address
    place = f"the cluster at {address}"
    file = _autoscaler_file(address)
    if file is not None:
        kinds, most, unknown = _kinds(file)
        return Capacity(place, nodes, kinds, most, is_open=unknown and len(nodes) <= most)
    return Capacity(place, nodes, is_open=_starts_nodes(address))


def _this_machine() -> Capacity:
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return Capacity(HERE, (Node(cores(), gpus),))


def _autoscaler_file(address: str) -> Path | None:
    """What the autoscaler of a head on this machine was started with; ``ray`` tells it nowhere."""
    import psutil  # type: ignore[import-untyped]  # Ray brings it

    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or ()
        if f"--gcs-address={address}" not in words:
            continue
        named = (w.partition("=")[2] for w in words if w.startswith("--autoscaling-config="))
        path = next((Path(name).expanduser() for name in named if name), None)
        if path is not None and path.is_file():
            return path
    return None


def _kinds(file: Path) -> tuple[tuple[tuple[Node, int], ...], int, bool]:
    """The kinds of nodes that an autoscaler starts, how many it may start in all, and whether there
    are some of which the file does not say what they have, as machines of one's own.

    Raises:
        UserError: the file is none of an autoscaler.
    """
    import yaml

    try:
        config = yaml.safe_load(file.read_text(encoding="utf-8"))
        most = int(config.get("max_workers", 0))
        head = config.get("head_node_type")
        kinds = {
            name: (about["resources"], int(about.get("max_workers", 0 if name == head else most)))
            for name, about in config["available_node_types"].items()
        }
        known = tuple((_node(r), count) for r, count in kinds.values() if count > 0 and r)
    except (OSError, KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise UserError(f"{file} is no autoscaler's configuration: {error}.") from error
    return known, most, any(count > 0 and not r for r, count in kinds.values())


def _node(resources: Mapping[str, float]) -> Node:
    return Node(float(resources.get("CPU", 0)), float(resources.get("GPU", 0)))


def _starts_nodes(address: str) -> bool:
    """Whether an autoscaler that this machine cannot ask starts nodes, as KubeRay's.

    Without one Ray calls each node a kind of its own, ``node_ID``.
    """
    from ray.autoscaler.v2.sdk import get_cluster_status
    from ray.experimental import internal_kv

    kinds: list[str] = []
    try:  # neither is documented: another version may have neither
        status = internal_kv._internal_kv_get("__autoscaling_status") or b"{}"  # version 1's
        report: dict[str, Any] = json.loads(status).get("autoscaler_report") or {}
        kinds += (report.get("node_type_mapping") or {}).values()
        found = get_cluster_status(address)  # version 2's
        kinds += [n.ray_node_type_name for n in (*found.active_nodes, *found.idle_nodes)]
    except Exception:
        return False
    return any(kind and not kind.startswith("node_") for kind in kinds)
