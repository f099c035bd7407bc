"""Small networks on the members' scores, clip embeddings or frame embeddings (PyTorch, CPU)."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from orchestrator.stacking.base import Learner, Members, Targets


@dataclass(frozen=True)
class Net:
    """A fixed schedule: nothing is stopped by rows that are scored.

    ``hidden``: units of each hidden layer; ``epochs`` over batches of ``batch`` rows; Adam.
    """

    hidden: tuple[int, ...] = (32, 16)
    epochs: int = 60
    batch: int = 32
    learning_rate: float = 3e-3
    dropout: float = 0.1
    decay: float = 1e-4

    def __post_init__(self) -> None:
        if not self.hidden or min(*self.hidden, self.epochs, self.batch) < 1:
            raise ValueError("hidden, epochs and batch are at least 1")
        if not 0 <= self.dropout < 1 or self.learning_rate <= 0 or self.decay < 0:
            raise ValueError("dropout in [0, 1), learning_rate above 0, decay at least 0")


@dataclass(frozen=True)
class WideNet(Net):
    """One hidden layer of 512 units, dropout 0.5."""

    hidden: tuple[int, ...] = (512,)
    dropout: float = 0.5
    learning_rate: float = 1e-3


@dataclass(frozen=True)
class RecurrentNet(Net):
    """``hidden``: units of each LSTM layer."""

    hidden: tuple[int, ...] = (64, 64)
    epochs: int = 40


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
    """A network from standardised inputs to classes, tags or values, saved as safetensors."""

    labels = ("tags", "class", "events", "values")
    Settings = Net

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.kind, self.inputs, self.outputs = "tags", 0, 0
        self.mean, self.scale = np.zeros(0), np.ones(0)
        self.network: Any = None

    def _rows(self, members: Members) -> list[np.ndarray]:
        """The input of each clip: [F], or [T, F]."""
        raise NotImplementedError

    def _build(self) -> Any:
        raise NotImplementedError

    def fit(self, members: Members, targets: Targets, seed: int) -> None:
        rows = self._rows(members)
        flat = np.vstack([np.atleast_2d(row) for row in rows])
        self.kind, self.inputs = targets.kind, flat.shape[1]
        self.mean, self.scale = flat.mean(axis=0), np.maximum(flat.std(axis=0), 1e-6)
        truth: list[np.ndarray] = list(targets.values)
        if targets.series is not None:
            truth = list(targets.series)
        self.outputs = np.atleast_2d(truth[0]).shape[-1]
        with seeded(seed):
            self.network = self._build()
            _train(self.network, self._batch, rows, truth, targets, self.settings, seed)

    def _batch(self, rows: Sequence[np.ndarray]) -> Any:
        """Standardised inputs of some clips as a tensor."""
        import torch

        return torch.tensor(np.stack([(row - self.mean) / self.scale for row in rows]),
                            dtype=torch.float32)  # fmt: skip

    def _outputs(self, members: Members) -> list[np.ndarray]:
        """What the network says of each clip, [K] or [T, K], as probabilities or values."""
        import torch

        self.network.eval()
        found = []
        with seeded(0), torch.inference_mode():
            for row in self._rows(members):  # one by one: no clip may depend on another's length
                values = self.network(self._batch([row]))[0]
                if self.kind == "class":
                    values = torch.softmax(values, dim=-1)
                elif self.kind != "values":
                    values = torch.sigmoid(values)
                found.append(values.double().numpy())
        return found

    def predict(self, members: Members) -> np.ndarray:
        return np.stack([out if out.ndim == 1 else out.mean(axis=0)
                         for out in self._outputs(members)])  # fmt: skip

    def state(self) -> dict[str, Any]:
        return {
            "kind": self.kind, "inputs": self.inputs, "outputs": self.outputs,
            "mean": self.mean.tolist(), "scale": self.scale.tolist(),
        }  # fmt: skip

    def restore(self, state: dict[str, Any]) -> None:
        self.kind, self.inputs, self.outputs = state["kind"], state["inputs"], state["outputs"]
        self.mean, self.scale = np.array(state["mean"]), np.array(state["scale"])

    def save_parts(self, folder: Path) -> None:
        from safetensors.torch import save

        tensors = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        (folder / "network.safetensors").write_bytes(save(tensors))

    def load_parts(self, folder: Path) -> None:
        from safetensors.torch import load_file

        self.network = self._build()
        self.network.load_state_dict(load_file(folder / "network.safetensors"))


def _train(
    network: Any, batch_of: Callable[[Sequence[np.ndarray]], Any], rows: Sequence[np.ndarray],
    truth: Sequence[np.ndarray], targets: Targets, settings: Net, seed: int,
) -> None:  # fmt: skip
    import torch

    optimiser = torch.optim.Adam(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.decay
    )
    weights = torch.tensor(targets.weights, dtype=torch.float32)
    generator = np.random.default_rng(seed)
    network.train()
    for _ in range(settings.epochs):
        for some in _batches(rows, settings.batch, generator):
            values = network(batch_of([rows[i] for i in some]))
            wanted = torch.tensor(np.stack([truth[i] for i in some]), dtype=torch.float32)
            if values.ndim > wanted.ndim:  # frames, but a truth of clips
                values = values.mean(dim=1)
            loss = (_losses(values, wanted, targets.kind) * weights[some]).mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()


def _losses(values: Any, wanted: Any, kind: str) -> Any:
    """The loss of each row [B]."""
    from torch.nn import functional

    if kind == "class":
        return functional.cross_entropy(values, wanted, reduction="none")
    if kind == "values":
        return (values - wanted).square().flatten(1).mean(dim=1)
    return functional.binary_cross_entropy_with_logits(values, wanted, reduction="none").sum(dim=1)


def _batches(
    rows: Sequence[np.ndarray], size: int, generator: np.random.Generator
) -> Iterator[list[int]]:
    """Shuffled batches of clips of one length each."""
    order = generator.permutation(len(rows))
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i in order:
        by_shape.setdefault(rows[i].shape, []).append(int(i))
    for same in by_shape.values():
        yield from (same[start : start + size] for start in range(0, len(same), size))


def _perceptron(inputs: int, outputs: int, settings: Net) -> Any:
    from torch import nn

    layers: list[nn.Module] = []
    for units in settings.hidden:
        layers += [nn.Linear(inputs, units), nn.LeakyReLU(0.1), nn.Dropout(settings.dropout)]
        inputs = units
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class MlpOnScores(SmallNetwork):
    """Dense layers on all members' scores of all classes side by side: [N, M K]."""

    name = "mlp"
    title = "small network on scores"
    source = "bird_domain_tuning, Section 3.5 (dense 32, dense 16)"

    def _rows(self, members: Members) -> list[np.ndarray]:
        return list(members.scores.reshape(len(members.scores), -1))

    def _build(self) -> Any:
        return _perceptron(self.inputs, self.outputs, self.settings)


class MlpOnEmbeddings(SmallNetwork):
    """A dense layer on the members' clip embeddings side by side: [N, ΣE]."""

    name = "mlp_embeddings"
    title = "small network on embeddings"
    source = "vgg_resnet_asc, Section 4; bird_domain_tuning, Section 3.5"
    takes = ("clip_embeddings",)
    Settings = WideNet

    def _rows(self, members: Members) -> list[np.ndarray]:
        assert members.embeddings is not None
        return list(np.hstack(members.embeddings))

    def _build(self) -> Any:
        return _perceptron(self.inputs, self.outputs, self.settings)


class LstmOnFrames(SmallNetwork):
    """An LSTM on the members' frame embeddings side by side: N arrays [T, ΣE].

    It says something of each frame: a series where the truth is one, else its mean over time.
    """

    name = "lstm"
    title = "LSTM on frame embeddings"
    source = "mask_breathing_resnet, Section 3.3 (breath_de_fusion_lstm)"
    takes = ("frame_embeddings",)
    Settings = RecurrentNet

    def _rows(self, members: Members) -> list[np.ndarray]:
        assert members.frame_embeddings is not None
        return [_side_by_side(clip) for clip in zip(*members.frame_embeddings, strict=True)]

    def _build(self) -> Any:
        return _recurrent(self.inputs, self.outputs, self.settings)

    def fused_frames(self, members: Members) -> tuple[np.ndarray, ...]:
        """What it says of each frame: N arrays [T, K]."""
        return tuple(self._outputs(members))

    def events(self, members: Members) -> None:
        """None: its frames are as many as the embeddings', whose hop nobody knows."""
        return None


def _side_by_side(clip: Sequence[np.ndarray]) -> np.ndarray:
    """Members' frame embeddings [T_m, E_m] of a clip as [T, ΣE], at the coarsest of their rates."""
    frames = min(len(one) for one in clip)
    taken = [one[(np.arange(frames) * len(one)) // frames] for one in clip]
    return np.hstack(taken)


def _recurrent(inputs: int, outputs: int, settings: Net) -> Any:
    from torch import Tensor, nn

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            sizes = [inputs, *settings.hidden]
            self.layers = nn.ModuleList(
                nn.LSTM(a, b, batch_first=True) for a, b in itertools.pairwise(sizes)
            )
            self.dropout = nn.Dropout(settings.dropout)
            self.head = nn.Linear(sizes[-1], outputs)

        def forward(self, x: Tensor) -> Tensor:
            """[B, T, F] -> [B, T, K]."""
            for layer in self.layers:
                x = self.dropout(layer(x)[0])
            out: Tensor = self.head(x)
            return out

    return Recurrent()


LEARNERS: tuple[type[Learner], ...] = (MlpOnScores, MlpOnEmbeddings, LstmOnFrames)
