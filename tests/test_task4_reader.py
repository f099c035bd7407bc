"""The reader of DCASE 2018 task 4: what its published tables look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from systems import data


@pytest.mark.parametrize("separator", [",", ";", "; "])
def test_tags_are_separated_by_commas_or_semicolons(separator: str, task4_copy: Path) -> None:
    table = task4_copy / "dataset/metadata/train/weak.csv"
    before = data.load("dcase2018_task4", str(task4_copy)).labels["weak"]
    table.write_text(table.read_text().replace(",", separator))
    after = data.load("dcase2018_task4", str(task4_copy)).labels["weak"]
    assert after.values == before.values
    assert {len(tags) for tags in after.values.values()} == {1, 2}
