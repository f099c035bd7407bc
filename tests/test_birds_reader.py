"""The reader of DCASE 2018 task 3: sets and their domains, faults, evaluation sets, submissions."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from made_sets import birds

from systems import data
from systems.data import dcase2018_task3
from systems.errors import UserError
from systems.predictions import Predictions


@pytest.mark.parametrize("published", [False, True])
def test_clips_have_a_set_and_maybe_a_bird(published: bool, tmp_path: Path) -> None:
    dataset = data.load("dcase2018_task3", str(birds(tmp_path, published, tested=False)))
    assert dataset.classes == ("bird",)
    assert len(dataset.clips) == 7
    of_set = {clip.clip_id: clip.columns["datasetid"] for clip in dataset.clips}
    assert of_set["train/10.wav"] == "ff1010bird"
    assert of_set["train/aa-1.wav"] == "warblrb10k"
    values = dataset.labels["train"].values
    assert values["train/11.wav"] == ("bird",)
    assert values["train/10.wav"] == ()
    assert dataset.test_part is None
    assert data.card("dcase2018_task3").metrics == ("clip_auc",)


def test_evaluation_sets_are_a_test_part_without_labels(tmp_path: Path) -> None:
    birds(tmp_path)
    dataset = data.load("dcase2018_task3", str(tmp_path))
    assert dataset.test_part == "test"
    assert dataset.sealed_kind == {"test": "withheld"}
    tested = dataset.part("test")
    assert [clip.columns["datasetid"] for clip in tested] == ["Chernobyl"] * 2 + ["PolandNFC"] * 2
    ids = tuple(clip.clip_id for clip in tested)
    said = Predictions.of(ids, ("bird",), clip_scores=np.array([[0.25], [0.5], [0.75], [1.0]]))
    path = dcase2018_task3.write_submission(dataset, said, tmp_path)
    assert path.read_text().splitlines()[:2] == ["itemid,score", "C0,0.250000"]
    with pytest.raises(UserError, match="needs one answer"):
        dcase2018_task3.write_submission(dataset, said.rows([0]), tmp_path)


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    birds(tmp_path, tested=False)
    table = tmp_path / "labels" / "ff1010bird.csv"
    table.write_text(
        "itemid,datasetid,hasbird\n10,ff1010bird,2\n11,warblrb10k,1\n99,ff1010bird,0\n"
    )
    (tmp_path / "labels" / "warblrb10k.csv").unlink()
    os.replace(tmp_path / "audio/BirdVox-DCASE-20k/ff-3.wav",
               tmp_path / "audio/BirdVox-DCASE-20k/ff-9.wav")  # fmt: skip
    with pytest.raises(UserError) as told:
        data.load("dcase2018_task3", str(tmp_path))
    for part in ("'2' is no hasbird", "'warblrb10k' is no clip of ff1010bird", "99.wav",
                 "audio/warblrb10k: has no table", "ff-9.wav: no row", "ff-3.wav"):  # fmt: skip
        assert part in str(told.value), part


def test_one_set_will_do_and_none_will_not(tmp_path: Path) -> None:
    birds(tmp_path, tested=False)
    for name in ("warblrb10k", "BirdVox-DCASE-20k"):
        (tmp_path / "labels" / f"{name}.csv").unlink()
        for path in (tmp_path / "audio" / name).iterdir():
            path.unlink()
        (tmp_path / "audio" / name).rmdir()
    assert len(data.load("dcase2018_task3", str(tmp_path)).clips) == 3
    (tmp_path / "labels" / "ff1010bird.csv").unlink()
    with pytest.raises(UserError, match="no table"):
        data.load("dcase2018_task3", str(tmp_path))
    with pytest.raises(UserError, match="--data"):
        data.load("dcase2018_task3", None)


@pytest.mark.skipif(
    not (Path(os.environ.get("SOUNDSWEEP_MINI_SETS", "")) / "birds_mini").is_dir(),
    reason="the mini sets are not at hand",
)
def test_the_mini_set_is_read() -> None:
    dataset = data.load(
        "dcase2018_task3", str(Path(os.environ["SOUNDSWEEP_MINI_SETS"]) / "birds_mini")
    )
    assert len(dataset.clips) == 60
    assert sum(bool(v) for v in dataset.labels["train"].values.values()) == 30
