"""The cluster files: valid by Ray's, KubeRay's and Kubernetes' own schemas, safe as they stand, and
a Slurm job that is told before its limit and goes back into the queue."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml
from command import wait_until
from jsonschema import Draft7Validator

ROOT = Path(__file__).resolve().parents[1]
CLUSTER = ROOT / "cluster"
LAUNCHED = ("cluster.yaml", "onprem.yaml")  # by `ray up`
SCHEMAS = Path(os.environ.get("SOUNDSWEEP_SCHEMAS", ROOT.parent / "shared" / "schemas"))


def launched(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((CLUSTER / name).read_text()))


def objects() -> list[tuple[str, dict[str, Any]]]:
    """Every Kubernetes object with its file, those that a ConfigMap holds included."""
    found = []
    for path in sorted((CLUSTER / "kuberay").glob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            held = document.get("data", {}) if document["kind"] == "ConfigMap" else {}
            found += [(path.name, document)]
            found += [(path.name, yaml.safe_load(text)) for text in held.values()]
    return found


def commands(value: Any, key: str = "") -> Iterator[str]:
    """Every shell command of a `ray up` file."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from commands(item, name)
    elif key.endswith("_commands"):
        yield from value


def strict(schema: Any) -> Any:
    """A schema that refuses what it does not name, as `kubectl apply` does."""
    if isinstance(schema, list):
        return [strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if "properties" in made and not made.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_accepts_its_cluster_files(name: str) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    schema = json.loads((Path(ray.__file__).parent / "autoscaler/ray-schema.json").read_text())
    Draft7Validator(schema).validate(launched(name))
    validate_config(prepare_config(launched(name)))


def test_the_command_works_as_it_is_typed() -> None:
    assert (ROOT / "cluster.yaml").resolve() == CLUSTER / "cluster.yaml"


@pytest.mark.parametrize("name", LAUNCHED)
def test_nodes_get_all_that_their_environment_is_made_of(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = [item.rstrip("*") for item in project["tool"]["setuptools"]["packages"]["find"]
                ["include"]]  # fmt: skip
    mounts = launched(name)["file_mounts"]
    for needed in (*packages, "pyproject.toml", "constraints.txt", "Makefile", "cluster",
                   project["project"]["readme"], *project["project"]["license-files"]):  # fmt: skip
        assert mounts[f"~/soundsweep/{needed}"] == needed
        assert (ROOT / needed).exists()


@pytest.mark.parametrize("name", LAUNCHED)
def test_a_cluster_asks_for_a_token_and_tells_nobody(name: str) -> None:
    asked = launched(name)
    assert asked["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in asked["setup_commands"]
    environment = subprocess.run(
        ["bash", "-c", f". {CLUSTER / 'node.sh'}; env"], capture_output=True, text=True, check=True
    ).stdout
    assert "RAY_AUTH_MODE=token" in environment
    assert "MLFLOW_DISABLE_TELEMETRY=true" in environment
    for command in commands(asked):
        if "ray start" in command:  # `ray up` exports 1 before it
            assert "RAY_USAGE_STATS_ENABLED=0 " in command
        assert "0.0.0.0" not in command
    assert "--host 127.0.0.1" in (CLUSTER / "mlflow.sh").read_text()


def test_spot_comes_first_and_both_grow_from_zero() -> None:
    types = launched("cluster.yaml")["available_node_types"]
    spot, other = types["gpu_spot"], types["gpu_on_demand"]
    assert spot["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in other["node_config"]
    assert spot["priority"] > other["priority"]
    assert spot["resources"] == other["resources"]
    assert spot["min_workers"] == other["min_workers"] == 0


def test_every_command_is_one_that_bash_reads() -> None:
    scripts = [path.read_text() for path in (*CLUSTER.glob("*.sh"), *CLUSTER.glob("slurm/*"))]
    scripts += [command for name in LAUNCHED for command in commands(launched(name))]
    scripts += [item["spec"]["entrypoint"] for _, item in objects() if item["kind"] == "RayJob"]
    assert len(scripts) > 15
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
        assert done.returncode == 0, f"{script}: {done.stderr}"


@pytest.mark.parametrize("kind", ["RayCluster", "RayJob", "RayCronJob"])
def test_kuberay_accepts_its_objects(kind: str) -> None:
    path = SCHEMAS / f"{kind}.v1.json"
    if not path.exists():
        pytest.skip(f"KubeRay's schemas are not in {SCHEMAS} (SOUNDSWEEP_SCHEMAS)")
    validator = Draft7Validator(strict(json.loads(path.read_text())))
    mine = [item for _, item in objects() if item["kind"] == kind]
    assert mine
    for item in mine:
        assert item["apiVersion"] == "ray.io/v1"
        validator.validate(item)


def test_kubernetes_accepts_its_objects() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="soundsweep[judges] is not here")
    mine = [item for _, item in objects() if item["apiVersion"] != "ray.io/v1"]
    assert {item["kind"] for item in mine} >= {"CronJob", "PersistentVolumeClaim", "NetworkPolicy"}
    for item in mine:
        validate.validate(item, "1.34", strict=True)
    for _, item in objects():  # KubeRay's schema leaves a pod's own rules out
        if item["kind"] == "RayCluster":
            for group in (item["spec"]["headGroupSpec"], *item["spec"]["workerGroupSpecs"]):
                pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}}
                validate.validate({**pod, **group["template"]}, "1.34", strict=True)


def test_objects_name_each_other() -> None:
    """Jobs name the cluster that there is, and both kinds of nights do the same."""
    every = [item for _, item in objects()]
    names = {(item["kind"], item["metadata"].get("name")) for item in every}
    jobs = {item["metadata"]["generateName"]: item["spec"]
            for item in every if item["kind"] == "RayJob"}  # fmt: skip
    nightly = [item["spec"] for item in every if item["kind"] in ("RayCronJob", "CronJob")]
    jobs["cron"] = next(spec["jobTemplate"] for spec in nightly if "entrypoint" in
                        spec["jobTemplate"])  # fmt: skip
    for spec in jobs.values():
        assert ("RayCluster", spec["clusterSelector"]["ray.io/cluster"]) in names
    assert jobs["cron"] == jobs["nightly-"]
    assert len({(spec["schedule"], spec["timeZone"]) for spec in nightly}) == 1
    cluster = next(item for item in every if item["kind"] == "RayCluster")
    assert cluster["spec"]["authOptions"]["mode"] == "token"
    assert cluster["spec"]["rayVersion"] == ray.__version__
    claims = re.findall(r"'claimName': '(\w+)'", str(cluster))
    assert claims
    assert all(("PersistentVolumeClaim", claim) in names for claim in claims)


FAKES = {
    "srun": """
while [ "${1#-}" != "$1" ]; do shift; done
if [ "$1" = ray ]; then while [ "$1" != -- ]; do shift; done; shift; fi
exec "$@"
""",
    "soundsweep": """
mkdir -p "$SOUNDSWEEP_STORAGE/slurm-7"
echo "$@" >> "$SOUNDSWEEP_STORAGE/asked"
[ -n "$RAY_AUTH_TOKEN" ] || exit 9
touch "$SOUNDSWEEP_STORAGE/slurm-7/plan.json"
trap 'exit 3' USR1
echo "{\\"host\\": \\"here\\", \\"pid\\": $$}" > "$SOUNDSWEEP_STORAGE/slurm-7/driver"
while :; do sleep 0.1; done
""",
    "scontrol": """
if [ "$1" = show ]; then echo localhost; else echo "$@" >> "$SOUNDSWEEP_STORAGE/told"; fi
""",
}


@pytest.fixture
def slurm(tmp_path: Path) -> Mapping[str, str]:
    """The environment of a job on a Slurm that only does as if."""
    (tmp_path / "bin").mkdir()
    for name, text in FAKES.items():
        script = tmp_path / "bin" / name
        script.write_text("#!/bin/bash" + text)
        script.chmod(0o755)
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    return {
        **os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SOUNDSWEEP_STORAGE": str(tmp_path), "SLURM_SUBMIT_DIR": str(tmp_path),
        "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "here", "SLURM_JOB_NUM_NODES": "1",
    }  # fmt: skip


def begin(slurm: Mapping[str, str], *options: str) -> subprocess.Popen[bytes]:
    script = str(CLUSTER / "slurm" / "sweep.sbatch")
    return subprocess.Popen(["bash", script, *options], env=dict(slurm))


def test_a_slurm_job_is_told_before_its_limit_and_resumes(
    slurm: Mapping[str, str], tmp_path: Path
) -> None:
    job = begin(slurm, "--set", "a=b c")
    wait_until((tmp_path / "slurm-7" / "driver").exists)
    wait_until(lambda: (tmp_path / "slurm-7" / "driver").read_text())
    job.send_signal(signal.SIGUSR1)
    assert job.wait(60) == 3
    assert (tmp_path / "told").read_text().split() == ["requeue", "7"]
    (tmp_path / "slurm-7" / "driver").unlink()
    again = begin(slurm, "--set", "a=b c")
    wait_until((tmp_path / "slurm-7" / "driver").exists)
    again.send_signal(signal.SIGUSR1)
    assert again.wait(60) == 3
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert first == shlex.join(["run", "--name", "slurm-7", "--set"]) + " a=b c"
    assert second == f"run --resume {tmp_path / 'slurm-7'}"


def test_a_slurm_job_that_ends_by_itself_stays_ended(
    slurm: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "bin" / "soundsweep").write_text("#!/bin/bash\nexit 2\n")
    assert begin(slurm).wait(60) == 2
    assert not (tmp_path / "told").exists()
