"""Nights in a row: what goes on, what is compared, what is flagged, and what the morning says."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import in_process, wait_until
from fakedata import registered
from reported import Page

from orchestrator.nightly import tonight
from orchestrator.nightly.install import TEMPLATE
from orchestrator.nightly.record import Night, Nights
from orchestrator.nightly.settings import Settings, read_settings
from orchestrator.nightly.tonight import work_tonight
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems.errors import UserError

SYSTEM, DATA = "fakepaper/classes", "nightly_tones"
DEAF = "FAKEPAPER_DEAF"  # in the environment: the paper's code has become worse
STUDY: dict[str, Any] = {
    "system": SYSTEM, "dataset": DATA, "trials": 2, "budget": "paper", "stack": "mean",
    "space": {"training.learning_rate": "log:0.03:0.08"},
}  # fmt: skip


def add_paper(patch: pytest.MonkeyPatch) -> None:
    """Make the fake paper and its data known."""
    patch.syspath_prepend(str(Path(__file__).parent / "fakepaper"))
    parts = {"train": (12, "class"), "devel": (24, "class"), "test": (4, "class")}
    registered(patch).add(DATA, parts, ("test",), about={"official_validation": "devel"})


@pytest.fixture(autouse=True)
def paper(monkeypatch: pytest.MonkeyPatch) -> None:
    add_paper(monkeypatch)


def settings(root: Path, **changes: Any) -> Settings:
    about = {"storage": str(root / "runs"), "ray_address": "none", "mlflow": "none",
             "studies": {"tones": STUDY}, **changes}  # fmt: skip
    return Settings.model_validate(about)


def work(root: Path, day: int, **changes: Any) -> Night:
    return work_tonight(settings(root, **changes), root / "n.yaml", night=date(2026, 11, day))


def page(root: Path, day: int) -> str:
    folder = root / "runs" / "nights" / f"2026-11-{day:02d}"
    text = Page((folder / "index.html").read_text()).text
    for line in (folder / "index.md").read_text().splitlines():
        if line.startswith("#"):  # the same in both
            assert line.strip("# ") in text
    return text


@pytest.fixture(scope="module")
def two_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root after two nights on which nothing has changed."""
    root = tmp_path_factory.mktemp("nights")
    with pytest.MonkeyPatch.context() as patch:
        add_paper(patch)
        for day in (1, 2):
            assert work(root, day).exit_code() == 0
    return root


@pytest.fixture
def root(two_nights: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may change."""
    return Path(shutil.copytree(two_nights, tmp_path / "copy"))


def test_a_study_goes_on_where_it_stood(two_nights: Path) -> None:
    run = RunDir(two_nights / "runs" / "tones")
    trials = read_json(run.results)["trials"]
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
    assert {trial["state"] for trial in trials} <= {"complete", "stopped"}
    assert [trial["published"] for trial in trials] == [True, False, False, False]
    draws = [json.dumps(trial["params"], sort_keys=True) for trial in trials]
    assert len(set(draws)) == 4
    assert [(run.night_of(n) or {})["night"] for n in range(4)] == ["2026-11-01"] * 2 + [
        "2026-11-02"
    ] * 2
    assert [stack["name"] for stack in read_json(run.results)["stack"]] == ["mean"]
    assert not run.ledger.exists()  # nobody looked at test labels


def test_what_was_best_is_compared_with_itself(two_nights: Path) -> None:
    first, second = (Nights(two_nights / "runs").read(f"2026-11-0{day}") for day in (1, 2))
    assert first is not None
    assert second is not None
    assert first.studies["tones"].check == {}
    assert second.studies["tones"].guard == first.studies["tones"].next_guard
    found = second.studies["tones"].check
    assert len(found["references"]) == 3
    assert found["first"][1] > 0.5
    assert not found["regression"]
    assert "no worse: trained again" in page(two_nights, 2)
    assert "All well: tones." in page(two_nights, 2)


def test_a_regression_is_flagged_until_it_is_mended_or_accepted(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEAF, "1")
    for day in (3, 4):
        night = work(root, day)
        assert night.exit_code() == 1
        assert night.regressions() == ["tones"]
        found = night.studies["tones"].check
        assert len(found["confirming"]) == 3
        assert max(found["confirming"].values()) < min(found["references"].values())
        assert night.studies["tones"].next_guard == night.studies["tones"].guard
    assert "Regression of tones." in page(root, 4)
    assert "each worse than every reference" in page(root, 4)
    accepted = {"tones": {**STUDY, "since": "2026-11-05"}}
    assert work(root, 5, studies=accepted).exit_code() == 0
    assert "no reference trainings since 2026-11-05" in page(root, 5)
    monkeypatch.delenv(DEAF)
    assert work(root, 6).exit_code() == 0


def test_a_night_is_done_once(root: Path) -> None:
    before = read_json(RunDir(root / "runs" / "tones").results)["trials"]
    assert work(root, 2).exit_code() == 0
    assert read_json(RunDir(root / "runs" / "tones").results)["trials"] == before


def test_other_data_or_another_space_begin_a_new_study(root: Path) -> None:
    changed = {**STUDY, "space": {"training.learning_rate": "log:0.03:0.07"}}
    night = work(root, 3, studies={"tones": changed})
    assert night.studies["tones"].run == "tones-2"
    assert night.studies["tones"].check["references"]  # of the same clips: compared all the same
    assert "a new study: space" in " ".join(night.studies["tones"].notes)
    night = work(root, 4, studies={"tones": changed})
    assert night.studies["tones"].run == "tones-2"
    assert night.studies["tones"].trials == (2, 4)


def test_a_failing_study_does_not_hide_the_others(root: Path) -> None:
    studies = {"broken": {**STUDY, "dataset": "table", "data": "/nowhere.csv"}, "tones": STUDY}
    night = work(root, 3, studies=studies)
    assert night.exit_code() == 1
    assert night.failures() == ["broken"]
    assert night.studies["tones"].state == "done"
    text = page(root, 3)
    assert "Failure of broken." in text
    assert "/nowhere.csv" in text


def test_a_configuration_that_trains_no_more_is_a_failure(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fakepaper

    def breaks(*about: object) -> None:
        raise RuntimeError("a layer is gone")

    monkeypatch.setattr(fakepaper.Tags, "forward", breaks)
    night = work(root, 3)
    assert night.exit_code() == 1
    assert night.failures() == ["tones"]
    assert "a layer is gone" in page(root, 3)
    assert night.studies["tones"].next_guard == night.studies["tones"].guard


def test_a_night_that_is_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    endless = {"training.epochs": 100_000, "training.patience": 100_000}
    study = {"tones": {**STUDY, "set": endless}}
    run, epochs = RunDir(tmp_path / "runs" / "tones"), [0]
    for day in (1, 2):
        night = work(tmp_path, day, studies=study, budget="4s")
        assert night.studies["tones"].state == "cut off"
        assert night.exit_code() == 0
        assert "Tones cut off by the end of the night" in page(tmp_path, day)
        assert [trial.number for trial in run.trials()] == [0]
        epochs.append(len(run.trial(0).read_metrics()))
    assert 0 < epochs[1] < epochs[2]  # the same training, from where it was


@pytest.mark.all
def test_studies_share_the_time_of_a_night(tmp_path: Path) -> None:
    study = {**STUDY, "trials": 4000}
    night = work(tmp_path, 1, studies={"one": study, "two": study}, budget="20s")
    began = []
    for name in ("one", "two"):
        assert night.studies[name].state in ("done", "cut off")
        began.append(len(list(RunDir(tmp_path / "runs" / name).trials())))
        assert "the time was up" in " ".join(night.studies[name].notes)
    assert min(began) > 0
    assert max(began) < 4000
    night = work(tmp_path, 2, studies={"one": {**STUDY, "trials": 1}})
    assert night.studies["one"].trials == (began[0], began[0] + 1)  # the old aim binds no more


def test_a_signal_ends_the_night_and_the_next_call_goes_on(root: Path) -> None:
    run, studies = RunDir(root / "runs" / "tones"), {"tones": {**STUDY, "trials": 30}}
    found: list[Night] = []
    thread = threading.Thread(target=lambda: found.append(work(root, 3, studies=studies)))
    thread.start()
    wait_until(lambda: len(list(run.trials())) > 6)
    assert "interrupted" in in_process("stop", str(run.path), cwd=root, check=True).stdout
    thread.join()
    assert found[0].exit_code() == 3
    assert "Interrupted." in page(root, 3)
    again = work(root, 3, studies={"tones": {**STUDY, "trials": 5}})
    assert again.exit_code() == 0
    assert again.studies["tones"].guard == found[0].studies["tones"].guard


def test_nights_exclude_each_other_and_a_dead_one_does_not(root: Path) -> None:
    nights = RunDir(root / "runs" / "nights")
    with nights.drive(), pytest.raises(UserError, match="driven by another process"):
        work(root, 3)
    about = read_json(nights.path / "driver")
    dead = {**about, "host": "another-node", "heartbeat": 1}  # killed long ago
    (nights.path / "driver").write_text(json.dumps(dead))
    assert work(root, 2).exit_code() == 0


@pytest.mark.parametrize(
    ("now", "night"),
    [("2026-11-28 22:00", "2026-11-28"), ("2026-11-29 03:00", "2026-11-28"),
     ("2026-11-29 06:00", None), ("2026-11-29 21:59", None)],
)  # fmt: skip
def test_the_window_says_which_night_it_is(tmp_path: Path, now: str, night: str | None) -> None:
    asked, moment = settings(tmp_path, window="22:00-6:00"), datetime.fromisoformat(now)
    if night is None:
        with pytest.raises(UserError, match=r"outside the window 22:00-06:00: nothing was started"):
            work_tonight(asked, tmp_path / "n.yaml", now=lambda: moment)
        assert not (tmp_path / "runs").exists()
    else:
        assert asked.night(moment).isoformat() == night
        assert asked.seconds(moment, anytime=False) == (8 if "22:00" in now else 3) * 3600


def test_a_night_without_a_window_lasts_from_noon_to_noon(tmp_path: Path) -> None:
    asked = settings(tmp_path)
    moments = ["2026-11-28 12:00", "2026-11-29 11:59"]
    assert {asked.night(datetime.fromisoformat(m)) for m in moments} == {date(2026, 11, 28)}


def test_days_on_which_a_study_is_not_due(tmp_path: Path) -> None:
    night = work(tmp_path, 1, studies={"tones": {**STUDY, "days": ["mon", "tue"]}})  # a Sunday
    assert night.studies == {}
    assert "No study was due." in page(tmp_path, 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"windw": "22:00-06:00"}, "unknown key 'windw' (did you mean 'window'?)"),
        ({"window": "late"}, "window: write it as 22:00-06:00, not 'late'"),
        ({"window": "25:00-06:00"}, "window: write it as 22:00-06:00"),
        ({"budget": "much"}, "budget: it takes a time such as 2h"),
        ({"studies": {}}, "studies: "),
        ({"studies": {"a": {**STUDY, "trails": 3}}}, "unknown key 'studies.a.trails'"),
        ({"studies": {"a": {**STUDY, "trials": 0}}}, "studies.a.trials: "),
        ({"studies": {"a": {"system": "gcrn_vat"}}}, "did you mean 'gcrnn_vat'"),
        ({"studies": {"a": {"system": "fakepaper/both"}}}, "is a fusion: name its members"),
        ({"studies": {"a": {}}}, "studies.a.system: is missing"),
        ({"studies": {"../a": STUDY}}, "'../a' cannot be a folder's name"),
        ({"studies": {"a": STUDY, "a-2": STUDY}}, "'a-2' is what a later run of 'a' is called"),
        ({"notify": {"webhook": "https://me:secret@example.org"}}, "notify.webhook: "),
    ],
)
def test_mistakes_in_the_file_are_one_message(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    file = tmp_path / "n.yaml"
    file.write_text(yaml.safe_dump({"studies": {"tones": STUDY}, **change}))
    done = in_process("nightly", str(file), cwd=tmp_path)
    assert done.returncode == 2
    assert words in done.stderr
    assert "secret" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_page_is_handed_to_a_command_and_its_failure_is_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to = root / "mail.txt"
    hook = {"command": ["sh", "-c", f"cat > {to}; echo $SOUNDSWEEP_EXIT_CODE >> {to}"]}
    assert work(root, 2, notify=hook).exit_code() == 0
    assert to.read_text().startswith("# Night of 2026-11-02")
    assert to.read_text().endswith("0\n")
    assert work(root, 2, notify={"command": ["false"]}).exit_code() == 1
    monkeypatch.delenv("NO_SUCH_HOOK", raising=False)
    night = work(root, 2, notify={"webhook": "$NO_SUCH_HOOK"})
    assert night.problems == ["the page was not sent: the environment has no $NO_SUCH_HOOK"]


def test_the_embedded_example_is_read() -> None:
    example = Path(tonight.__file__).parents[2] / "cluster" / "nightly.yaml"
    assert read_settings(example).studies.keys() == {"gcrnn_vat", "gcrnn"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A nightly file in a folder that needs quoting."""
    folder = tmp_path / "with a % and 'quotes'"
    folder.mkdir()
    (folder / "n.yaml").write_text(
        yaml.safe_dump({"window": "22:30-06:00", "studies": {"tones": STUDY}})
    )
    return folder / "n.yaml"


def test_units_are_printed_and_nothing_is_written(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    text = in_process(
        "nightly", "install", "--print", str(file), cwd=file.parent, check=True
    ).stdout
    (line,) = [line for line in text.splitlines() if line.startswith("30 22 * * * ")]
    ran = line.split(" * * * ")[1].replace(r"\%", "%").replace(sys.executable, "echo")
    done = subprocess.run(["sh", "-c", ran], capture_output=True, text=True, check=True)
    assert done.stdout.split(" ", 3)[3].rstrip("\n") == str(file)
    assert "OnCalendar=*-*-* 22:30:00" in text
    assert not (file.parent / ".config").exists()


def test_units_of_systemd_are_valid(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(file.parent))
    said = in_process("nightly", "install", "--systemd", str(file), cwd=file.parent, check=True)
    folder = file.parent / ".config" / "systemd" / "user"
    units = sorted(folder.iterdir())
    assert [unit.name for unit in units] == [
        "soundsweep-nightly.service",
        "soundsweep-nightly.timer",
    ]
    assert "systemctl --user enable --now soundsweep-nightly.timer" in said.stdout
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here")
    done = subprocess.run(["systemd-analyze", "verify", "--user", *map(str, units)],
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert "nightly" not in done.stderr, done.stderr


def test_the_line_of_a_crontab_is_there_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = file.parent / "crontab.txt"
    kept.write_text("0 1 * * * other\n")
    fake = file.parent / "crontab"
    fake.write_text(f'#!/bin/sh\n[ "$1" = -l ] && cat "{kept}" || cat > "{kept}"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    for _ in range(2):
        in_process("nightly", "install", "--cron", str(file), cwd=file.parent, check=True)
    first, second = kept.read_text().splitlines()
    assert first == "0 1 * * * other"
    assert second.startswith("30 22 * * * cd ")


def test_the_cronjob_of_kubernetes_holds_the_file(file: Path) -> None:
    if not TEMPLATE.exists():
        pytest.skip("the template lies in the repository's cluster/kuberay")
    text = in_process(
        "nightly", "install", "--kuberay", str(file), cwd=file.parent, check=True
    ).stdout
    made = {one["kind"]: one for one in yaml.safe_load_all(text)}
    assert made["CronJob"]["spec"]["schedule"] == "30 22 * * *"
    job = yaml.safe_load(made["ConfigMap"]["data"]["rayjob.yaml"])
    found = re.search(r"echo (\S+) ", job["spec"]["entrypoint"])
    assert found is not None
    assert base64.b64decode(found[1]) == file.read_bytes()


def test_install_takes_one_way(file: Path) -> None:
    done = in_process("nightly", "install", str(file), cwd=file.parent)
    assert done.returncode == 2
    assert "takes one of --print, --cron, --systemd, --kuberay" in done.stderr
    done = in_process("nightly", "--cron", str(file), cwd=file.parent)
    assert "goes with `soundsweep nightly install`" in done.stderr
