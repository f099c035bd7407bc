"""Scenes without networks: attributes of a clip, the best by boosting, eight classifiers, a vote.

Source: Maka, DCASE 2018 workshop. What the paper leaves open is settled in
docs/papers/feature_analysis_ensemble.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from systems.clip_features import Stored
from systems.estimator_system import EstimatorSystem
from systems.figures import Figure
from systems.frontend.descriptors import SUBSETS, Descriptors, of_subsets
from systems.registry import register

PAPER = "feature_analysis_ensemble"
BIBTEX = """
@inproceedings{maka2018audio,
  author    = {M\\k{a}ka, Tomasz},
  title     = {Audio Feature Space Analysis for Acoustic Scene Classification},
  booktitle = {Detection and Classification of Acoustic Scenes and Events (DCASE) Workshop},
  year      = {2018},
}
"""


@dataclass(frozen=True)
class Attributes:
    """What classifiers see: attributes of some ``subsets`` (or parts, ``F8.mel``), and of these the
    ``kept`` that boosting in ``rounds`` gains most by."""

    front_end: Descriptors = Descriptors()
    subsets: tuple[str, ...] = SUBSETS
    kept: int = 223
    rounds: int = 200

    def __post_init__(self) -> None:
        if min(self.kept, self.rounds) < 1 or not self.subsets:
            raise ValueError("kept and rounds are at least 1, and a subset is named")


@dataclass(frozen=True)
class Lda:
    attributes: Attributes = Attributes()


@dataclass(frozen=True)
class Qda:
    attributes: Attributes = Attributes()
    regularisation: float = 0.1


@dataclass(frozen=True)
class Forest:
    attributes: Attributes = Attributes()
    trees: int = 100
    criterion: Literal["gini", "entropy"] = "gini"


@dataclass(frozen=True)
class Mlp:
    attributes: Attributes = Attributes()
    layers: int = 3
    units: int = 30


@dataclass(frozen=True)
class Neighbours:
    attributes: Attributes = Attributes()
    k: int = 20


@dataclass(frozen=True)
class BaggedSvc:
    attributes: Attributes = Attributes()
    machines: int = 500
    c: float = 1.0


SUBSET_ROWS = {  # of the tables: what each is of
    "F8": "feature subset F8 only (classifier not stated; assumed the voting ensemble)",
    "F8.cochleagram": "F8 part: cochleagram 50-8000 Hz 128 bands (classifier not stated; assumed "
    "the voting ensemble)",
    "F8.mel": "F8 part: melspectrogram 0-12000 Hz 128 bands (classifier not stated; assumed the "
    "voting ensemble)",
    "F8.spectrogram": "F8 part: spectrogram 0-24000 Hz 1024 bands (classifier not stated; assumed "
    "the voting ensemble)",
}
ALONE = tuple(
    Figure(row, {"attributes.subsets": (name,)}, node=f"{name} only")
    for name, row in SUBSET_ROWS.items()
)
QUICK = {"attributes.rounds": 50}
TINY = {
    "attributes.front_end.rate": 8000, "attributes.front_end.channels": 16,
    "attributes.front_end.groups": 2, "attributes.front_end.components": 2,
    "attributes.front_end.window": 512, "attributes.front_end.hop": 256,
    "attributes.rounds": 5, "attributes.kept": 30,
}  # fmt: skip
COMMON: dict[str, Any] = {
    "task": "scene_classification", "dataset": "tut2018", "example": "synthetic_scenes",
    "labels": ("class",), "gives": ("clip_scores",), "quick": QUICK, "tiny": TINY,
    "figures": (Figure("223 features"), *ALONE),
}  # fmt: skip


def of_attributes(a: Attributes, classifier: Callable[[int], Any]) -> EstimatorSystem:
    """A classifier over standardised attributes that were chosen on the clips that train."""

    def estimator(seed: int) -> Any:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        from systems.selection import TopByImportance

        chosen = TopByImportance(a.kept, a.rounds, seed=seed)
        return make_pipeline(StandardScaler(), chosen, classifier(seed))

    return EstimatorSystem(
        features=Stored(a.front_end, lambda: of_subsets(a.front_end, a.subsets)),
        estimator=estimator,
    )


@register(f"{PAPER}/c1_lda", config=Lda(), **COMMON)
def c1(config: Lda) -> EstimatorSystem:
    """Linear discriminant analysis."""

    def classifier(seed: int) -> Any:
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        return LinearDiscriminantAnalysis()

    return of_attributes(config.attributes, classifier)


@register(f"{PAPER}/c2_qda", config=Qda(), **COMMON)
def c2(config: Qda) -> EstimatorSystem:
    """Quadratic discriminant analysis."""

    def classifier(seed: int) -> Any:
        from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

        # By eigenvalues: by singular values it refuses classes of fewer clips than attributes.
        return QuadraticDiscriminantAnalysis(solver="eigen", shrinkage=config.regularisation)

    return of_attributes(config.attributes, classifier)


@register(f"{PAPER}/c4_rf100_gini", config=Forest(), **COMMON)
def c4(config: Forest) -> EstimatorSystem:
    """A random forest of 100 trees by Gini impurity: the best single classifier."""

    def classifier(seed: int) -> Any:
        from sklearn.ensemble import RandomForestClassifier

        return RandomForestClassifier(config.trees, criterion=config.criterion, random_state=seed)

    return of_attributes(config.attributes, classifier)


for name, overrides, summary in (
    ("c3_rf10_gini", {"trees": 10}, "A random forest of 10 trees by Gini impurity."),
    ("c5_rf100_entropy", {"criterion": "entropy"}, "A random forest of 100 trees by entropy."),
):
    register.variant(
        f"{PAPER}/{name}", of=f"{PAPER}/c4_rf100_gini", overrides=overrides, summary=summary
    )


@register(f"{PAPER}/c6_mlp", config=Mlp(), **COMMON)
def c6(config: Mlp) -> EstimatorSystem:
    """A perceptron with three hidden layers of 30 units."""

    def classifier(seed: int) -> Any:
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier((config.units,) * config.layers, max_iter=500, random_state=seed)

    return of_attributes(config.attributes, classifier)


@register(f"{PAPER}/c7_knn20", config=Neighbours(), **COMMON)
def c7(config: Neighbours) -> EstimatorSystem:
    """The 20 nearest neighbours."""

    def classifier(seed: int) -> Any:
        from systems.selection import Nearest

        return Nearest(config.k)

    return of_attributes(config.attributes, classifier)


BAGS: dict[str, Any] = {
    **COMMON, "quick": {**QUICK, "machines": 50}, "tiny": {**TINY, "machines": 5}
}  # fmt: skip


@register(f"{PAPER}/c8_bag_linsvc", config=BaggedSvc(), **BAGS)
def c8(config: BaggedSvc) -> EstimatorSystem:
    """A bag of 500 linear support vector machines."""

    def classifier(seed: int) -> Any:
        from sklearn.ensemble import BaggingClassifier
        from sklearn.svm import LinearSVC

        machine = LinearSVC(C=config.c, random_state=seed)
        return BaggingClassifier(machine, config.machines, random_state=seed)

    return of_attributes(config.attributes, classifier)


SYSTEMS = ("c1_lda", "c2_qda", "c3_rf10_gini", "c4_rf100_gini", "c5_rf100_entropy", "c6_mlp",
           "c7_knn20", "c8_bag_linsvc")  # fmt: skip
MEMBERS = tuple(f"{PAPER}/{name}" for name in SYSTEMS)
register.fusion(
    f"{PAPER}/vote8", members=MEMBERS, learner="vote",
    summary="The majority vote of the eight.",
    figures=(
        Figure("223 features"),
        Figure("223 features; shopping_mall as given in the text (table says 89.6)"),
        *(
            Figure(row, {"members": tuple(f"{one}#{name} only" for one in MEMBERS)})
            for name, row in SUBSET_ROWS.items()
        ),
    ),
)  # fmt: skip
