"""What a training is told of clips, by hand: weights by a column, labels under a teacher."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from systems import data, registry
from systems.context import Context
from systems.data.dataset import ClipSet
from systems.data.splits import TrainingData, make_splits, training_data
from systems.errors import UserError
from systems.predictions import Predictions
from systems.training.labelling import Confirmed, Share, WeightedBy

# clip: given class, verified, the teacher's probabilities
TABLE = {
    "verified":  (0, 1, (0.1, 0.8, 0.1)),  # whatever is said of it
    "confirmed": (1, 0, (0.1, 0.8, 0.1)),
    "likely":    (1, 0, (0.2, 0.7, 0.1)),  # not above 0.7
    "denied":    (2, 0, (0.9, 0.1, 0.0)),
    "doubted":   (0, 0, (0.3, 0.3, 0.4)),
}  # fmt: skip
IDS = tuple(TABLE)
DATA = TrainingData(
    ("a", "b", "c"),
    ClipSet(
        IDS, np.eye(3, dtype=np.float32)[[given for given, _, _ in TABLE.values()]],
        columns=tuple({"flag": flag} for _, flag, _ in TABLE.values()),
    ),
    None,
)  # fmt: skip


def context() -> Context:
    """One whose teacher speaks of more clips, in another order."""
    scores = np.array([(1.0, 0.0, 0.0), *(said for _, _, said in reversed(TABLE.values()))])
    said = Predictions.of(("other", *reversed(IDS)), DATA.classes, clip_scores=scores)
    return Context(required={"stack": lambda: said})


def labels_and_flags(**settings: Any) -> tuple[list[int], list[str]]:
    labelled = Confirmed("stack", "flag", **settings)(DATA, context()).labelled
    assert labelled.targets is not None
    assert (labelled.targets.sum(axis=1) == 1).all()
    flags = [str(columns["flag"]) for columns in labelled.columns]
    return labelled.targets.argmax(axis=1).tolist(), flags


@pytest.mark.parametrize(
    ("settings", "labels", "flags"),
    [
        ({}, [0, 1, 1, 0, 2], "11000"),
        ({"relabel": False}, [0, 1, 1, 2, 0], "11000"),
        ({"promote": False}, [0, 1, 1, 0, 2], "10000"),
        ({"above": 0.65}, [0, 1, 1, 0, 2], "11100"),
        ({"promote": False, "relabel": False}, [0, 1, 1, 2, 0], "10000"),
    ],
)
def test_labels_are_promoted_and_replaced(
    settings: dict[str, Any], labels: list[int], flags: str
) -> None:
    assert labels_and_flags(**settings) == (labels, list(flags))
    assert DATA.labelled.columns[1]["flag"] == 0  # what was given is not changed


def test_weights_follow_the_flags_in_use() -> None:
    weighted = WeightedBy("flag", {"0": 0.9})
    plain = weighted(DATA, Context()).labelled.weights
    taught = weighted(Confirmed("stack", "flag")(DATA, context()), Context()).labelled.weights
    np.testing.assert_allclose(plain, [1, 0.9, 0.9, 0.9, 0.9])  # type: ignore[arg-type]
    np.testing.assert_allclose(taught, [1, 1, 0.9, 0.9, 0.9])  # type: ignore[arg-type]


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="'cleaned'"):
        WeightedBy("cleaned", {})(DATA, Context())


def test_the_original_flags_judge_whatever_was_promoted() -> None:
    """gcnn_gcrnn_stacking: clips that the first pass confirms never enter validation scores."""
    entry = registry.get("gcnn_gcrnn_stacking/gcrnn")
    dataset = data.load(entry.embedded(), None)
    flags = {clip.clip_id: str(clip.columns["manually_verified"]) for clip in dataset.clips}
    splits = make_splits(dataset, 0, entry.protocol)
    assert len(splits.folds) == 5
    for fold in range(5):
        of = training_data(dataset, splits, fold)
        said = Predictions.of(of.labelled.clip_ids, of.classes, clip_scores=of.labelled.targets)
        about = Context(required={"stack": lambda said=said: said})
        taught = Confirmed("stack", "manually_verified")(of, about)
        promoted = taught.labelled.columns
        assert {str(one["manually_verified"]) for one in promoted} == {"1"}
        clips = taught.validation
        assert clips is not None
        judged = [clips.clip_ids[place] for place in clips.counting()]
        assert judged == [i for i in clips.clip_ids if flags[i] == "1"]
        assert 0 < len(judged) < len(clips)
    whole = replace(of, validation=None)
    assert Confirmed("stack", "manually_verified")(whole, about).validation is None


def test_a_share_is_of_the_order_of_the_data_set() -> None:
    first = Share(0.6)(DATA, Context()).labelled
    last = Share(0.6, "last")(DATA, Context()).labelled
    assert first.clip_ids == IDS[:3]
    assert last.clip_ids == IDS[2:]
    assert np.array_equal(last.targets, DATA.labelled.targets[2:])  # type: ignore[index,arg-type]
    assert Share(1.0)(DATA, Context()).labelled.clip_ids == IDS
    with pytest.raises(ValueError, match="share"):
        Share(0.0)
