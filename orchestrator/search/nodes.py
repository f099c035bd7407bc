"""One look at each node of a cluster before anything starts there: storage, data, versions."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from orchestrator.plan.plan import IN_PROCESS, Plan
from orchestrator.runs.mirror import mirror_of
from systems.errors import UserError
from systems.files import write_whole

PACKAGES = ("orchestrator", "search_spaces", "systems")
Seen = dict[str, Any]


def check_nodes(plan: Plan, root: Path) -> None:
    """Refuse a cluster whose nodes do not see the storage root or the data, or run other code.

    Of a root in an object store neither need be seen there.

    A node that joins later is not looked at here: its trials see by themselves that the storage is
    not there (``run_trial``).

    Raises:
        UserError: names each node and what to do.
    """
    if plan.ray_address == IN_PROCESS:
        return
    from orchestrator.search.ray_session import cluster_at, joined

    address = cluster_at(plan.ray_address)
    if address is None:
        return
    # Nodes fetch what they need of a root in an object store: sound too, made of the data here.
    own = mirror_of(root) is not None
    with joined(address), _token(root) as token:
        look = looker(None, None) if own else looker(str(token), plan.data)
        here = look()
        everywhere = plan.resources.workers > 1  # their trials' own processes take no CPU
        told = _asked(look, _nodes(everywhere))
    faults = [f"{name}: {fault}" for name, seen in told.items() for fault in _faults(here, seen)]
    if faults:
        raise UserError(f"{address}: nothing was started. " + " ".join(faults))


@contextlib.contextmanager
def _token(root: Path) -> Iterator[Path]:
    """A file in the storage root that is there for the moment."""
    path = root / f".seen-{secrets.token_hex(8)}"
    write_whole(path, path.name)
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)


def looker(token: str | None, data: str | None) -> Callable[[], Seen]:
    """What a node is asked. It is sent as it is, since the node may have another version of us."""

    def look() -> Seen:
        import hashlib
        import platform
        from importlib import metadata, util
        from pathlib import Path

        versions = {"Python": ".".join(platform.python_version_tuple()[:2])}
        for package in ("torch", "ray"):
            try:
                versions[package] = metadata.version(package)
            except metadata.PackageNotFoundError:
                versions[package] = "none"
        code, found_code = hashlib.sha256(), False
        for package in PACKAGES:
            found = util.find_spec(package)
            folders = found.submodule_search_locations if found else None
            for folder in map(Path, folders or ()):
                found_code = True
                for path in sorted(folder.rglob("*.py")):
                    code.update(str(path.relative_to(folder)).encode() + path.read_bytes())
        versions["soundsweep"] = code.hexdigest()[:12] if found_code else "none"
        return {
            "storage": token is None or Path(token).is_file(),
            "data": data is None or Path(data).exists(),
            "paths": {"storage": token and str(Path(token).parent), "data": data},
            "versions": versions,
        }

    return look


def _nodes(everywhere: bool) -> dict[str, str]:
    """Names of the nodes that trials may come to, by their ids."""
    import ray

    return {
        node["NodeID"]: f"node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        for node in ray.nodes()
        if node["Alive"] and (everywhere or node["Resources"].get("CPU", 0) > 0)
    }


def _asked(look: Callable[[], Seen], nodes: Mapping[str, str]) -> dict[str, Seen]:
    """What each node tells, by its name; one that has gone meanwhile tells nothing."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy as On

    from orchestrator.search.last_words import last_words

    remote = ray.remote(look)
    waiting = {
        remote.options(
            num_cpus=0, max_retries=0, scheduling_strategy=On(node_id, soft=False)
        ).remote(): node_id
        for node_id in nodes
    }  # fmt: skip
    told: dict[str, Seen] = {}
    while waiting:
        done, _ = ray.wait(list(waiting), timeout=0.5)
        for reference in done:
            node_id = waiting.pop(reference)
            try:
                told[nodes[node_id]] = ray.get(reference)
            except ray.exceptions.RayError as error:
                if any(node["NodeID"] == node_id and node["Alive"] for node in ray.nodes()):
                    told[nodes[node_id]] = {"lost": last_words(str(error))}
    return told


def _faults(here: Seen, seen: Seen) -> Iterator[str]:
    """What is wrong with a node, each with what to do."""
    if "lost" in seen:
        yield f"its first process was lost ({seen['lost']})."
        return
    paths = here["paths"]
    if not seen["storage"]:
        yield (
            f"it does not see the storage root {paths['storage']}: mount it there under the same "
            "path, or name a folder that all nodes share (--storage)."
        )
    if not seen["data"]:
        yield f"the data {paths['data']} is not there: mount or copy it to the same path."
    other = {
        name: (version, seen["versions"].get(name, "none"))
        for name, version in here["versions"].items()
        if version != seen["versions"].get(name, "none")
    }
    if other:
        differ = ", ".join(
            f"{name} {theirs} (here {ours})" for name, (ours, theirs) in other.items()
        )
        yield f"it runs {differ}: install the same versions and code as here."
