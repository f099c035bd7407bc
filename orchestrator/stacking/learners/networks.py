"""Small networks on the members' scores, clip embeddings or frame embeddings (PyTorch, CPU)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from orchestrator.members.seen import Members, Targets
from orchestrator.stacking.learner import Learner
from orchestrator.stacking.learners.embeddings import at_length, frames_side_by_side, side_by_side
from systems.data.dataset import LabelKind
from systems.kinds import kind
from systems.kinds.series import by_lengths


@dataclass(frozen=True)
class Net:
    """Layers, Adam and batches are the paper's; the schedule is fixed.

    Nothing is stopped by rows that are scored. The paper's 15 epochs see far more rows; its batch
    norm is left out, since a last batch may be a single row.
    """

    hidden: tuple[int, ...] = (32, 16)
    epochs: int = 60
    batch: int = 16
    learning_rate: float = 1e-3
    dropout: float = 0.0
    decay: float = 1e-4

    def __post_init__(self) -> None:
        if not self.hidden or min(*self.hidden, self.epochs, self.batch) < 1:
            raise ValueError("hidden, epochs and batch are at least 1")
        if not (0 <= self.dropout < 1 and self.learning_rate > 0 and self.decay >= 0):
            raise ValueError("dropout in [0, 1), learning_rate above 0, decay at least 0")


@dataclass(frozen=True)
class WideNet(Net):
    """One hidden layer of 512 units, dropout 0.5: the paper names no size."""

    hidden: tuple[int, ...] = (512,)
    dropout: float = 0.5


@dataclass(frozen=True)
class RecurrentNet(Net):
    """Units of each LSTM layer. The paper's 512 and 256 over 100 epochs take hours on a CPU."""

    hidden: tuple[int, ...] = (64, 32)
    epochs: int = 40
    batch: int = 15
    dropout: float = 0.4


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generator begins at this seed and is put back; one thread, for equal sums."""
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


class SmallNetwork(Learner):
    """A network from standardised inputs to classes, tags or values, saved as safetensors.

    It says something of each frame; of a clip it says what the mean of that before softmax or
    sigmoid does. Values are fitted on a standard scale. A tag without rows (or without others)
    keeps its members' mean.
    """

    labels: ClassVar[tuple[LabelKind, ...]] = ("tags", "class", "events", "values")
    betters_one = "a network"
    turns = True
    Settings = Net

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.kind, self.inputs, self.outputs = "tags", 0, 0
        self.mean, self.scale = np.zeros(0), np.ones(0)  # of the inputs
        self.centre, self.spread = np.zeros(0), np.ones(0)  # of values
        self.constant: list[int] = []  # tags that nothing could be learnt of
        self.network: Any = None

    def _rows(self, members: Members) -> list[np.ndarray]:
        """The input [T, F] of each clip; T is 1 where it is not over time."""
        raise NotImplementedError

    def _truth(self, targets: Targets, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        """What is to be said of each clip: [1, K], or [T, K] of every frame."""
        return [row[None] for row in targets.values]

    def _build(self) -> Any:
        """A fresh network from [B, T, F] to [B, T, K]."""
        return _perceptron(self.inputs, self.outputs, self.settings)

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        rows = self._rows(members)
        truth = self._truth(targets, rows)
        self.kind = targets.kind
        self.mean, self.scale = _standard(rows)
        self.inputs, self.outputs = len(self.mean), truth[0].shape[1]
        self.centre, self.spread = np.zeros(self.outputs), np.ones(self.outputs)
        self.constant = []
        if not targets.says_tags:
            self.centre, self.spread = _standard(truth)
        elif not targets.exclusive:
            self.constant = sorted({*range(self.outputs)} - {*targets.learnable()})
        inputs = [(row - self.mean) / self.scale for row in rows]
        wanted = [(one - self.centre) / self.spread for one in truth]
        with seeded(seed):
            self.network = self._build()
            _train(self.network, inputs, wanted, targets.weights, _loss(self.kind),
                   self.settings, seed)  # fmt: skip

    def _raw(self, members: Members) -> Iterator[np.ndarray]:
        """What the network says of each clip [T, K], before softmax or sigmoid."""
        import torch

        self.network.eval()
        with seeded(0), torch.inference_mode():
            for row in self._rows(members):  # one by one: no clip may depend on others
                inputs = torch.tensor((row - self.mean) / self.scale, dtype=torch.float32)
                yield self.network(inputs[None])[0].double().numpy()

    def _said(self, raw: np.ndarray) -> np.ndarray:
        """Network outputs [..., K] as probabilities or values."""
        from scipy.special import expit, softmax

        about = kind(self.kind)
        if not about.says_tags:
            values: np.ndarray = self.centre + self.spread * raw
            return values
        return softmax(raw, axis=-1) if about.exclusive else expit(raw)

    def predict(self, members: Members) -> np.ndarray:
        said = self._said(np.stack([raw.mean(axis=0) for raw in self._raw(members)]))
        if self.constant:
            said[:, self.constant] = members.scores[:, :, self.constant].mean(axis=1)
        return said

    def state(self) -> dict[str, Any]:
        return {
            "labels": self.kind, "inputs": self.inputs, "outputs": self.outputs,
            "mean": self.mean.tolist(), "scale": self.scale.tolist(),
            "centre": self.centre.tolist(), "spread": self.spread.tolist(),
            "constant": self.constant,
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.kind, self.inputs, self.outputs = state["labels"], state["inputs"], state["outputs"]
        self.mean, self.scale = np.array(state["mean"]), np.array(state["scale"])
        self.centre, self.spread = np.array(state["centre"]), np.array(state["spread"])
        self.constant = list(state["constant"])

    def save_parts(self, folder: Path) -> None:
        from safetensors.torch import save

        tensors = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        (folder / "network.safetensors").write_bytes(save(tensors))

    def load_parts(self, folder: Path) -> None:
        from safetensors.torch import load_file

        with seeded(0):
            self.network = self._build()
        self.network.load_state_dict(load_file(folder / "network.safetensors"))


def _standard(rows: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of columns; 1 of one that never changes, as in scikit-learn."""
    every = np.concatenate(rows).astype(float)
    spread = every.std(axis=0)
    return every.mean(axis=0), np.where(spread > 1e-8, spread, 1.0)


def _train(
    network: Any, inputs: Sequence[np.ndarray], wanted: Sequence[np.ndarray], weights: np.ndarray,
    loss: Callable[[Any, Any], Any], settings: Net, seed: int,
) -> None:  # fmt: skip
    """Minimise the weighted mean loss of clips; of a series the mean over its own frames."""
    import torch

    optimiser = torch.optim.Adam(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.decay
    )
    of_clip = torch.tensor(weights, dtype=torch.float32)
    shuffled = np.random.default_rng(seed)
    rows, truth = (
        [torch.tensor(one, dtype=torch.float32) for one in every] for every in (inputs, wanted)
    )
    network.train()
    for _ in range(settings.epochs):
        order = shuffled.permutation(len(inputs))
        for start in range(0, len(order), settings.batch):
            some = order[start : start + settings.batch]
            each = _losses(network, [rows[i] for i in some], [truth[i] for i in some], loss)
            optimiser.zero_grad(set_to_none=True)
            (each * of_clip[some]).mean().backward()
            optimiser.step()


def _losses(
    network: Any, rows: list[Any], truth: list[Any], loss: Callable[[Any, Any], Any]
) -> Any:
    """The loss of each clip [B]: of its mean output, or the mean of its frames' own."""
    x, there = _padded(rows)
    y, _ = _padded(truth)
    said, frames = network(x), there.sum(dim=1)
    if y.shape[1] == 1:
        return loss((said * there[..., None]).sum(dim=1) / frames[:, None], y[:, 0])
    return (loss(said, y) * there).sum(dim=1) / frames


def _padded(clips: list[Any]) -> tuple[Any, Any]:
    """Tensors [T, F] as one [B, longest T, F], and where there is something: [B, longest T]."""
    import torch

    lengths = torch.tensor([len(clip) for clip in clips])
    padded = torch.nn.utils.rnn.pad_sequence(clips, batch_first=True)
    return padded, (torch.arange(padded.shape[1]) < lengths[:, None]).float()


def _loss(labels: str) -> Callable[[Any, Any], Any]:
    """The loss [...] of outputs and truth [..., K]."""
    import torch
    from torch.nn import functional

    about = kind(labels)
    if about.exclusive:
        return lambda said, truth: -(truth * torch.log_softmax(said, dim=-1)).sum(dim=-1)
    if not about.says_tags:
        return lambda said, truth: (said - truth).square().mean(dim=-1)
    return lambda said, truth: functional.binary_cross_entropy_with_logits(
        said, truth, reduction="none"
    ).sum(dim=-1)


def _perceptron(inputs: int, outputs: int, settings: Net) -> Any:
    from torch import nn

    layers: list[nn.Module] = []
    for units in settings.hidden:
        layers += [nn.Linear(inputs, units), nn.LeakyReLU(0.1), nn.Dropout(settings.dropout)]
        inputs = units
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def _recurrent(inputs: int, outputs: int, settings: Net) -> Any:
    from torch import Tensor, nn

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = itertools.pairwise([inputs, *settings.hidden])
            self.layers = nn.ModuleList(nn.LSTM(a, b, batch_first=True) for a, b in sizes)
            self.dropout = nn.Dropout(settings.dropout)
            self.head = nn.Linear(settings.hidden[-1], outputs)

        def forward(self, x: Tensor) -> Tensor:
            """[B, T, F] -> [B, T, K]."""
            for layer in self.layers:
                x = self.dropout(layer(x)[0])
            out: Tensor = self.head(x)
            return out

    return Recurrent()


class MlpOnScores(SmallNetwork):
    """Dense layers on all members' scores of all classes side by side: [N, M K]."""

    name = "mlp"
    title = "small network on scores"
    source = (
        "the product's own; dense 32 and 16 as in bird_domain_tuning, Section 4.4, there on the "
        "networks' last dense layers"
    )

    def _rows(self, members: Members) -> list[np.ndarray]:
        return list(members.scores.reshape(len(members.scores), 1, -1))


class MlpOnEmbeddings(SmallNetwork):
    """A dense layer on the members' clip embeddings side by side: [N, ΣE]."""

    name = "mlp_embeddings"
    one_model = True
    title = "small network on embeddings"
    source = (
        "vgg_resnet_asc, Section 4 (size not stated; there on the networks' own training clips)"
    )
    takes = ("clip_scores", "clip_embeddings")
    Settings = WideNet

    def _rows(self, members: Members) -> list[np.ndarray]:
        return list(side_by_side(members)[:, None])


class LstmOnFrames(SmallNetwork):
    """An LSTM on the members' standardised frame embeddings side by side: N arrays [T, ΣE].

    Fitted on a series where the truth is one, which it says at the labels' steps; else on what the
    clip as a whole is.
    """

    name = "lstm"
    one_model = True
    title = "LSTM on frame embeddings"
    source = "after mask_breathing_resnet, Section 3.2.3 (deep embeddings; there larger and longer)"
    takes = ("clip_scores", "frame_embeddings")
    labels = (*SmallNetwork.labels, "series")
    Settings = RecurrentNet

    def _rows(self, members: Members) -> list[np.ndarray]:
        return frames_side_by_side(members)

    def _truth(self, targets: Targets, rows: Sequence[np.ndarray]) -> list[np.ndarray]:
        if targets.lengths is None:
            return super()._truth(targets, rows)
        pairs = zip(by_lengths(targets.values, targets.lengths), rows, strict=True)
        return [at_length(series, len(row)) for series, row in pairs]

    def predict(self, members: Members) -> np.ndarray:
        if members.lengths is None:
            return super().predict(members)
        pairs = zip(self.fused_frames(members), members.lengths, strict=True)
        return np.concatenate([at_length(frames, steps) for frames, steps in pairs])

    def _build(self) -> Any:
        return _recurrent(self.inputs, self.outputs, self.settings)

    def fused_frames(self, members: Members) -> tuple[np.ndarray, ...]:
        """What it says of each frame of the embeddings: N arrays [T, K]."""
        return tuple(self._said(raw) for raw in self._raw(members))

    def events(self, members: Members) -> None:
        """None: its frames are as many as the embeddings', whose hop nobody knows."""
        return None


LEARNERS: tuple[type[Learner], ...] = (MlpOnScores, MlpOnEmbeddings, LstmOnFrames)
