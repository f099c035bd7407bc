"""Each class listens to the members that know it: a choice, or weights, class by class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit, log_softmax, softmax

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.learners.logistic_regression import logits
from orchestrator.stacking.learners.means import FixedMean
from orchestrator.stacking.learners.simplex import least_loss
from orchestrator.stacking.learners.votes import votes
from systems.data.dataset import Event
from systems.errors import CannotFit
from systems.metrics.events import event_counts
from systems.metrics.tagging import f1_of_counts, tag_counts
from systems.postprocessing.pooling import SMALLEST


def _counts(members: Members, targets: Targets) -> np.ndarray:
    """Per member and class (true positive, false positive, false negative): [M, K, 3]."""
    decided = votes(members.scores, targets.exclusive)
    return np.stack([
        tag_counts(targets.values, decided[:, m]).sum(axis=0) for m in range(decided.shape[1])
    ])  # fmt: skip


class PerClass(Learner):
    """``sum_m w_mk p_mk``: weights of the members for each class."""

    pointwise = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.w = np.zeros((0, 0))

    def predict(self, members: Members) -> np.ndarray:
        fused: np.ndarray = np.einsum("nmk,mk->nk", members.scores, self.w)
        return fused

    def weights(self) -> dict[str, Any]:
        """Mean over classes, and each class's."""
        return {"members": self.w.mean(axis=1).tolist(), "classes": self.w.T.tolist()}

    def state(self) -> dict[str, Any]:
        return {"w": self.w.tolist()}

    def restore(self, state: dict[str, Any]) -> None:
        self.w = np.array(state["w"])


@dataclass(frozen=True)
class Choice:
    """``by``: the members' ``clip_f1`` or, with timed labels, their own events' ``event_f1``;
    ``given``: or else the place of each class's member, as a paper chose it by hand."""

    by: Literal["clip_f1", "event_f1"] = "clip_f1"
    given: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.by not in ("clip_f1", "event_f1"):
            raise ValueError("by is clip_f1 or event_f1")


class ClassChoice(PerClass):
    """Each class takes the member with its best F1; of equals the first.

    A class's scores, frames and, where members decide events themselves, its events are that
    member's. A class that no member knows gets the mean.
    """

    name = "class_choice"
    title = "the best member of each class"
    standard = True
    source = (
        "iterative_distillation_rcnn (by event F1); ten_thresholds_genetic (wgru_combined, given)"
    )
    uses = ("frame_scores", "events")
    Settings = Choice

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        count, classes = members.scores.shape[1:]
        if self.settings.given:
            self.w = np.eye(count)[:, self._given(count, classes)]
            return
        counts = self._event_counts if self.settings.by == "event_f1" else _counts
        f1 = f1_of_counts(counts(members, targets))
        self.w = np.eye(count)[:, f1.argmax(axis=0)]
        self.w[:, f1.max(axis=0) == 0] = 1 / count  # nobody knows it

    def _given(self, count: int, classes: int) -> list[int]:
        given = list(self.settings.given)
        if len(given) != classes or not all(0 <= m < count for m in given):
            raise CannotFit(
                f"given names a member's place, 0 .. {count - 1}, for each of {classes} classes; "
                f"it is {given}."
            )
        return given

    @staticmethod
    def _event_counts(members: Members, targets: Targets) -> np.ndarray:
        """Per member and class the counts of its events: [M, K, 3]."""
        told = members.with_events()
        if targets.events is None or not told:
            raise CannotFit("by event_f1 takes timed labels, and members that tell of time "
                            "(fusions as members do not).")  # fmt: skip
        reference = dict(zip(members.clip_ids, targets.events, strict=True))
        nothing = ((),) * len(members.clip_ids)
        said = [members.events_of(m) if m in told else nothing for m in range(len(members.names))]
        return np.stack([
            event_counts(
                reference, dict(zip(members.clip_ids, events, strict=True)), members.classes
            ).sum(axis=0)
            for events in said
        ])  # fmt: skip

    def events(self, members: Members) -> tuple[tuple[Event, ...], ...] | None:
        """Each class's events as its member decides them; of one that none knows, or whose member
        tells of no time, the mean's."""
        if members.events is None:
            return super().events(members)
        nothing = ((),) * len(members.clip_ids)
        chosen = {members.classes[k]: int(column.argmax())
                  for k, column in enumerate(self.w.T)
                  if column.max() == 1 and members.events[column.argmax()] is not None}  # fmt: skip
        own = zip(*(events or nothing for events in members.events), strict=True)
        mean = super().events(members) or ((),) * len(members.clip_ids)
        return tuple(
            tuple(sorted(
                [e for m, events in enumerate(said) for e in events if chosen.get(e.label) == m]
                + [e for e in rest if e.label not in chosen]
            ))
            for said, rest in zip(own, mean, strict=True)
        )  # fmt: skip


@dataclass(frozen=True)
class ClassWeighting:
    """``by``: ``fitted`` to the least cross-entropy, or each member's ``precision`` of it."""

    by: Literal["fitted", "precision"] = "fitted"

    def __post_init__(self) -> None:
        if self.by not in ("fitted", "precision"):
            raise ValueError("by is fitted or precision")


class ClassWeights(PerClass):
    """Weights of each class: on the simplex with the least cross-entropy, or the precisions.

    The precisions of tags are normalised, so that 0.5 decides; those of classes that exclude each
    other are not: a class that its members often take wrongly stays behind.
    """

    name = "class_weights"
    title = "weights of each class"
    source = "the product's own; by precision: multi_input_ensemble_asc"
    Settings = ClassWeighting

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if self.settings.by == "precision":  # it weighs a member's classes against each other
            self.betters_one = "weights of classes"

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        count, classes = members.scores.shape[1:]
        if self.settings.by == "precision":
            tp, fp, _ = np.moveaxis(_counts(members, targets).astype(float), -1, 0)
            precision = tp / np.maximum(tp + fp, 1)
            total = precision.sum(axis=0)
            if targets.exclusive and total.max() > 0:
                self.w = precision / total.max()
            else:
                self.w = np.where(total > 0, precision / np.maximum(total, 1e-12), 1 / count)
            return
        self.w = np.stack([self._column(members, targets, k) for k in range(classes)], axis=1)

    def _column(self, members: Members, targets: Targets, k: int) -> np.ndarray:
        if k not in targets.learnable():
            return np.full(members.scores.shape[1], 1 / members.scores.shape[1])
        scores, truth = members.scores[:, :, k : k + 1], targets.values[:, k : k + 1]
        return least_loss(scores, truth, targets.weights, "tags")


@dataclass(frozen=True)
class Layer:
    """``decay``: of the squared weights, beside the mean cross-entropy."""

    decay: float = 0.0005

    def __post_init__(self) -> None:
        if not 0 <= self.decay < np.inf:
            raise ValueError("decay is at least 0")


class FusionLayer(FixedMean):
    """One weight for each member on standardised log-probabilities, then a softmax.

    Tags take log odds and a bias for each class instead, and a sigmoid. Fitted to the optimum by
    L-BFGS (the paper: 1000 full-batch steps of Adam towards the same one).
    """

    name = "fusion_layer"
    title = "learned fusion layer"
    source = "multi_feature_cnn_ensemble"
    betters_one = "calibration"
    turns = True
    Settings = Layer

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.mean, self.scale = np.zeros((0, 0)), np.ones((0, 0))
        self.w, self.biases = np.zeros(0), np.zeros(0)

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        from scipy.optimize import minimize

        super().fit(members, targets, seed)
        raw = self._raw(members)
        # The batch normalisation's own epsilon: a column that is constant here may move later.
        self.mean, self.scale = raw.mean(axis=0), np.sqrt(raw.var(axis=0) + 1e-3)
        x, truth = (raw - self.mean) / self.scale, targets.values
        row = targets.weights / targets.weights.sum()
        m, k = x.shape[1:]

        def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            w, biases = parameters[:m], parameters[m:]
            values = np.einsum("nmk,m->nk", x, w) + biases
            if self.exclusive:
                off = softmax(values, axis=1) - truth
                each = -(truth * log_softmax(values, axis=1)).sum(axis=1)
            else:
                off = expit(values) - truth
                each = (np.logaddexp(0, values) - truth * values).sum(axis=1)
            slope = row[:, None] * off
            gradient_w = np.einsum("nk,nmk->m", slope, x) + 2 * self.settings.decay * w
            gradient_b = slope.sum(axis=0) + 2e-6 * biases  # finite also for a class without rows
            worth = row @ each + self.settings.decay * w @ w + 1e-6 * biases @ biases
            return float(worth), np.concatenate([gradient_w, gradient_b * (not self.exclusive)])

        start = np.concatenate([np.full(m, 1 / m), np.zeros(k)])
        found = minimize(loss, start, jac=True, method="L-BFGS-B",
                         options={"maxiter": 2000, "ftol": 1e-12, "gtol": 1e-8})  # fmt: skip
        self.w, self.biases = found.x[:m], found.x[m:]

    def _raw(self, members: Members) -> np.ndarray:
        if self.exclusive:
            return np.log(np.clip(members.scores, SMALLEST, None))
        return logits(members.scores)

    def predict(self, members: Members) -> np.ndarray:
        x = (self._raw(members) - self.mean) / self.scale
        values = np.einsum("nmk,m->nk", x, self.w) + self.biases
        fused: np.ndarray = softmax(values, axis=1) if self.exclusive else expit(values)
        return fused

    def weights(self) -> dict[str, Any]:
        """The weight of each member's standardised log-probabilities."""
        return {"members": self.w.tolist()}

    def state(self) -> dict[str, Any]:
        arrays = {"mean": self.mean, "scale": self.scale, "w": self.w, "biases": self.biases}
        return {**super().state(), **{name: value.tolist() for name, value in arrays.items()}}

    def restore(self, state: dict[str, Any]) -> None:
        super().restore(state)
        for name in ("mean", "scale", "w", "biases"):
            setattr(self, name, np.array(state[name]))


LEARNERS: tuple[type[Learner], ...] = (ClassChoice, ClassWeights, FusionLayer)
