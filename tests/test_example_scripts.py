"""Every script of examples/ runs."""

from __future__ import annotations

import csv
import importlib.util
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from inprocess import run_in_process

from orchestrator.plan.options import Options
from orchestrator.planning.resolve import make_plan
from orchestrator.runs.files import read_json

EXAMPLES = Path(__file__).parents[1] / "examples"
TINY: dict[str, Any] = {
    "budget": "quick", "max_epochs": 2, "concurrency": 1, "gpus_per_trial": 0.0,
    "ray_address": "none", "mlflow": "none",
    "set": {"training.steps_per_epoch": 2, "network.width": 4, "network.recurrent_units": 8},
}  # fmt: skip


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def on_task4(folder: Path, storage: Path) -> dict[str, Any]:
    about = {"dataset": "dcase2018_task4", "data": str(folder), "storage": str(storage)}
    return {**TINY, **about}


def test_the_main_job(
    task4_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"trials": 2, "top_k": 2, "stack": "mean"}
    run = script("main_job").main(**on_task4(task4_folder, tmp_path), **options)
    printed = capsys.readouterr().out
    assert "10 classes, 8 test clips predicted" in printed
    assert set(run.models()) >= {"best", "mean"}
    assert list(run.results.stack["name"]) == ["mean"]
    assert set(run.results.trials["number"]) == {0, 1}
    assert len(run.predictions("mean", part="out_of_fold").clip_ids) == 24
    assert len(run.predictions("best", part="out_of_fold").clip_ids) == 24


def test_own_table(task4_folder: Path, tmp_path: Path) -> None:
    audio = task4_folder / "dataset" / "audio" / "train" / "weak"
    rows = (task4_folder / "dataset/metadata/train/weak.csv").read_text().splitlines()[1:]
    table = tmp_path / "labels.csv"
    with open(table, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "labels", "part"])
        for place, row in enumerate(rows):
            name, tags = row.split("\t")
            part = "test" if place >= 18 else "train"
            writer.writerow([str(audio / name), tags.replace(",", "|"), part])
    run = script("own_table").main(str(table), **TINY, storage=str(tmp_path / "runs"))
    assert run.plan.dataset == "table"
    assert not run.interrupted


def test_a_comparison_of_two_runs(task4_folder: Path, tmp_path: Path) -> None:
    found = script("compare_runs").main(**on_task4(task4_folder, tmp_path))
    assert "system" in found.settings
    assert set(found.rows["part"]) == {"validation", "test"}
    assert (found.rows["low"] <= found.rows["difference"]).all()
    assert (found.rows["difference"] <= found.rows["high"]).all()


@pytest.mark.all
def test_whether_a_loss_follows_the_rank(tmp_path: Path) -> None:
    tiny = {
        "training.epochs": 3, "training.steps_per_epoch": 1, "training.labelled": 4,
        "query.hop": 532, "query.window": 532, "network.query": 2, "network.gallery": 2,
    }  # fmt: skip
    found = script("loss_and_rank").main(
        2, set=tiny, storage=str(tmp_path), ray_address="none", mlflow="none", gpus_per_trial=0.0
    )
    assert list(found) == ["tliminet_triplet", "tliminet_pairwise"]
    assert found.shape == (2, 2)
    plans = [read_json(tmp_path / f"{name}-{seed}" / "plan.json")
             for seed in (0, 1) for name in found]  # fmt: skip
    digests = [plan["splits"]["digest"] for plan in plans]
    assert digests[0] == digests[1] != digests[2] == digests[3]  # both systems, each seed its own


def test_adding_a_paper(
    task4_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Installed as a package, its system is found, planned on the embedded set, and trains."""
    folder = EXAMPLES / "adding_a_paper"
    about = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    installed = tmp_path / "site" / "clip_cnn-1.0.dist-info"  # as pip leaves it, without building
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: clip-cnn\nVersion: 1.0\n")
    groups = (
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items())
        for group, points in about["entry-points"].items()
    )
    (installed / "entry_points.txt").write_text("\n".join(groups))
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.syspath_prepend(str(installed.parent))
    assert make_plan(Options(system="clip_cnn"))[0].dataset == "synthetic_classes"
    rows = ["path,labels,part"]
    audio = task4_folder / "dataset" / "audio" / "train" / "weak"
    for place, sound in enumerate(sorted(audio.glob("*.wav"))):
        part = ("train", "validation", "test")[min(2, place // 8)]
        rows.append(f"{sound},{'even' if place % 2 else 'odd'},{part}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    run = run_in_process(
        Options(
            system="clip_cnn", dataset="table", data=str(tmp_path / "labels.csv"), trials=2,
            top_k=2, stack="mean", max_epochs=2, budget="quick", storage=str(tmp_path / "runs"),
            gpus_per_trial=0.0, name="it", set={"training.labelled": 4, "network.width": 8},
        )
    )  # fmt: skip
    row = read_json(run.results)["test"]["rows"][0]
    assert next(iter(row["metrics"])) == "accuracy"
    assert set(row["classes"]) == {"even", "odd"}
