"""Clips that do not fit what may be trained (too short, without a column): told in the plan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from orchestrator.plan.options import Options
from orchestrator.planning.resolve import make_plan
from systems.errors import UserError

FIXED = {"front_end.hop": "320", "front_end.bands": "40", "front_end.window": "512"}


def clips(folder: Path, seconds: float, least: float | None = None) -> str:
    """Clips of two classes, all of a length; one of the test part is shorter."""
    lines = ["path,labels,part"]
    for number in range(12):
        part = ("train", "validation", "test")[number // 4]
        lines.append(f"{number}.wav,{'dog' if number % 2 else 'cat'},{part}")
        length = least if least is not None and number == 11 else seconds
        samples = np.random.default_rng(number).normal(0, 0.1, round(length * 16_000))
        soundfile.write(folder / f"{number}.wav", samples, 16_000)
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


def planned(folder: str, system: str = "gcrnn_vat", **asked: Any) -> Any:
    options = {"system": system, "dataset": "table", "data": folder, "gpus_per_trial": 0.0}
    return make_plan(Options(**{**options, **asked}))[0]


def test_windows_that_no_clip_can_take_are_named_before_a_trial_starts(tmp_path: Path) -> None:
    folder = clips(tmp_path, 0.1)
    with pytest.raises(UserError, match=r"0\.1 s.*a window takes 0\.128 s"):
        planned(folder, set={**FIXED, "front_end.window": "2048"})
    fixed = {key: value for key, value in FIXED.items() if key != "front_end.window"}
    space = {"front_end.window": "one-of:512,1024,2048"}
    with pytest.raises(UserError) as error:
        planned(folder, set=fixed, space=space, budget="paper")
    assert re.findall(r"window=(\d+)", str(error.value)) == ["2048"]
    assert planned(folder, set=fixed, space={"front_end.window": "one-of:512,1024"}, budget="paper")


def test_values_that_only_together_take_more_than_a_clip_are_named(tmp_path: Path) -> None:
    space = {"front_end.window": "one-of:512,1024", "front_end.rate": "one-of:16000,8000"}
    fixed = {"front_end.bands": "40", "front_end.hop": "320"}
    with pytest.raises(UserError) as error:
        planned(clips(tmp_path, 0.1), set=fixed, space=space, budget="paper")
    wrong = [line for line in str(error.value).splitlines() if "takes" in line]
    assert len(wrong) == 1
    assert "front_end.window=1024" in wrong[0]
    assert "front_end.rate=8000" in wrong[0]


def test_a_clip_shorter_than_a_window_is_filled_where_excerpts_are_of_sound(tmp_path: Path) -> None:
    assert planned(clips(tmp_path, 1.0, least=0.001), set=FIXED)


def test_a_clip_without_a_sample_at_the_systems_rate_is_named(tmp_path: Path) -> None:
    folder = clips(tmp_path, 1.0)
    soundfile.write(tmp_path / "11.wav", np.array([0.1, -0.1]), 96_000)
    with pytest.raises(UserError, match=r"shorter than a sample at 16000 Hz.*11\.wav"):
        planned(folder, set=FIXED)


def test_features_of_whole_clips_need_a_window_of_each(tmp_path: Path) -> None:
    """And a network that pools over time needs more than a frame."""
    with pytest.raises(UserError, match=r"shortest clip has 0\.001 s.*11\.wav"):
        planned(clips(tmp_path, 1.0, least=0.001), "nnf_cnn_ensemble")
    assert planned(clips(tmp_path, 1.0, least=0.03), "nnf_cnn_ensemble")
    with pytest.raises(UserError, match="the network takes no excerpt as short"):
        planned(clips(tmp_path, 0.05), "asc_baseline_dcase2018")


def test_a_column_that_training_takes_clips_by_and_the_data_lacks_is_told(tmp_path: Path) -> None:
    folder, system = clips(tmp_path, 2.0), "gcnn_gcrnn_stacking/vgg13"
    with pytest.raises(UserError, match=r"'manually_verified', which table lacks for 4"):
        planned(folder, system)
    table = tmp_path / "table.csv"
    first, *rows = table.read_text().splitlines()
    table.write_text("\n".join([f"{first},manually_verified", *(f"{row},1" for row in rows)]))
    assert planned(folder, system).system == system
