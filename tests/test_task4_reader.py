"""The reader of DCASE 2018 task 4: what its published tables look like."""

from __future__ import annotations

from pathlib import Path

import pytest

from systems import data
from systems.errors import UserError


@pytest.mark.parametrize("separator", [",", ";", "; "])
def test_tags_are_separated_by_commas_or_semicolons(separator: str, task4_copy: Path) -> None:
    table = task4_copy / "dataset/metadata/train/weak.csv"
    before = data.load("dcase2018_task4", str(task4_copy)).labels["weak"]
    table.write_text(table.read_text().replace(",", separator))
    after = data.load("dcase2018_task4", str(task4_copy)).labels["weak"]
    assert after.values == before.values
    assert {len(tags) for tags in after.values.values()} == {1, 2}


def test_faults_of_tables_labels_and_files_are_told_at_once(task4_copy: Path) -> None:
    metadata = task4_copy / "dataset/metadata"
    (metadata / "train/unlabel_in_domain.csv").unlink()
    for table, old, new in (("train/weak", "Dishes", "Dishs"), ("test/test", "onset", "start")):
        path = metadata / f"{table}.csv"
        path.write_text(path.read_text().replace(old, new))
    broken = next((task4_copy / "dataset/audio/train/weak").iterdir())
    broken.write_bytes(b"")
    with pytest.raises(UserError) as error:
        data.load("dcase2018_task4", str(task4_copy))
    text = str(error.value)
    assert "metadata/train/unlabel_in_domain.csv is missing" in text
    assert "'Dishs' is no class (did you mean 'Dishes'?)" in text
    assert "metadata/test/test.csv has no column onset" in text
    assert f"{broken.name}  is empty (0 bytes)" in text
