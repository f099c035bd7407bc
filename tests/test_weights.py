"""Weights that a network starts from: fetched from a server, checked, and loaded by name."""

from __future__ import annotations

import hashlib
import pickle
import re
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from systems.context import Context
from systems.errors import UserError
from systems.nets.backbone import Backbone
from systems.weights import IMAGENET, StartFrom, Weights, load_part

torchvision = pytest.importorskip("torchvision")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        """Nothing to standard error."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and where a server on this machine gives its files."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Network(nn.Module):
    """A network with a backbone below it."""

    def __init__(self, name: str = "resnet18") -> None:
        super().__init__()
        self.backbone = Backbone(name)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:8]


def test_a_file_is_fetched_once_and_kept(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, url = served
    file = folder / "net.pth"
    torch.save({"w": torch.ones(3)}, file)
    weights = Weights(f"{url}/net.pth", digest(file))
    found = weights.fetched(tmp_path / "cache")
    assert found.read_bytes() == file.read_bytes()
    file.unlink()
    assert weights.fetched(tmp_path / "cache") == found


def test_another_file_than_the_published_one_is_refused_and_not_kept(
    served: tuple[Path, str], tmp_path: Path
) -> None:
    folder, url = served
    (folder / "net.pth").write_bytes(b"something else")
    weights = Weights(f"{url}/net.pth", "01234567")
    with pytest.raises(UserError, match="01234567"):
        weights.fetched(tmp_path)
    assert not list(tmp_path.glob("net*"))
    (tmp_path / "net.pth").write_bytes(b"put there by hand")
    with pytest.raises(UserError, match=str(tmp_path / "net.pth")):
        weights.fetched(tmp_path)


@pytest.mark.parametrize("url", ["{served}/absent.pth", "http://127.0.0.1:1/net.pth"])
def test_what_cannot_be_fetched_says_what_to_do(
    url: str, served: tuple[Path, str], tmp_path: Path
) -> None:
    weights = Weights(url.format(served=served[1]), "01234567")
    with pytest.raises(UserError, match="--set weights=none"):
        weights.fetched(tmp_path)


@pytest.mark.parametrize("name", ["resnet18", "vgg16"])
def test_torchvisions_layout_loads_into_timms_network_and_says_the_same(
    name: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    torch.save(theirs.state_dict(), tmp_path / "net.pth")
    ours = Network(name).eval()
    StartFrom(str(tmp_path / "net.pth"), name, "backbone.trunk")(ours, Context())
    x = torch.randn(2, 3, 224, 224)
    last = theirs.fc if name == "resnet18" else theirs.classifier[6]
    with torch.inference_mode():
        torch.testing.assert_close(last(ours.backbone(x)), theirs(x), atol=1e-4, rtol=1e-4)


def test_an_older_torchvisions_names_of_a_densenet_load_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.densenet121(weights=None).eval()
    layer = re.compile(r"(denselayer\d+\.(?:norm|conv))(\d)")
    state = {layer.sub(r"\1.\2", name): value for name, value in theirs.state_dict().items()}
    assert set(state) != set(theirs.state_dict())
    torch.save(state, tmp_path / "net.pth")
    ours = Network("densenet121").eval()
    StartFrom(str(tmp_path / "net.pth"), "densenet121", "backbone.trunk")(ours, Context())
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(
            theirs.classifier(ours.backbone(x)), theirs(x), atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(
    "name",
    ["resnet18", "resnet34", "resnet50", "resnet101", "vgg16", "vgg16_bn", "vgg19_bn",
     "densenet121"],
)  # fmt: skip
def test_the_digests_are_those_of_torchvisions_file_names(name: str) -> None:
    published = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"].url
    assert published == IMAGENET[name].url
    assert published.endswith(f"-{IMAGENET[name].sha256}.pth")


def test_safetensors_are_read_too(tmp_path: Path) -> None:
    state = timm.create_model("resnet18").state_dict()
    save_file(state, tmp_path / "net.safetensors")
    network = Network()
    load_part(network, "backbone.trunk", tmp_path / "net.safetensors")
    loaded = network.backbone.trunk.state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in loaded)


def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path: Path) -> None:
    torch.save(timm.create_model("resnet18", in_chans=1).state_dict(), tmp_path / "mono.pth")
    torch.save({"w": torch.ones(3)}, tmp_path / "other.pth")
    network = Network()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for name, missing in (("mono", "conv1.weight"), ("other", "conv1.weight")):
        with pytest.raises(UserError, match=missing):
            load_part(network, "backbone.trunk", tmp_path / f"{name}.pth")
        assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trace = tmp_path / "it ran"
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Malicious(trace)))
    torch.save({"conv1.weight": Malicious(trace)}, tmp_path / "zipped.pth")
    for name in ("plain", "zipped"):
        with pytest.raises(UserError, match="cannot be read"):
            load_part(Network(), "backbone.trunk", tmp_path / f"{name}.pth")
    assert not trace.exists()


def test_a_backbone_without_known_weights_or_that_timm_lacks_is_told() -> None:
    with pytest.raises(UserError, match="weights=none"):
        StartFrom("imagenet", "test_resnet", "backbone.trunk")(Network("test_resnet"), Context())
    with pytest.raises(UserError, match="alexnet"):
        Backbone("alexnet")
