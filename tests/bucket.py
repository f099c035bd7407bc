"""An S3 store on the loopback (moto), and what stands between it and a run: a proxy that breaks."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = "s3://sweeps/team"
ANSWER = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Bucket:
    """A store whose bucket ``sweeps`` is empty; the environment names it and the credentials."""

    def __init__(self, port: int, patch: pytest.MonkeyPatch, folder: Path) -> None:
        import boto3

        self.patch, self.folder, self.port = patch, folder, port
        self.reach(port)
        for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "secret"),
                            ("DEFAULT_REGION", "us-east-1")):  # fmt: skip
            patch.setenv(f"AWS_{name}", value)
        self.client: Any = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}")
        self.client.create_bucket(Bucket="sweeps")
        self.on_host("one")

    def reach(self, port: int) -> None:
        """Let all that starts from here reach the store at a port."""
        self.patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")

    def on_host(self, name: str) -> Path:
        """Be a host without a disk in common with others: returns where its copies lie."""
        folder = self.folder / name
        self.patch.setenv("SOUNDSWEEP_MIRROR", str(folder))
        return folder

    def run(self, name: str, host: str) -> Path:
        """The copy of a run on a host."""
        return next(path.parent for path in (self.folder / host).glob(f"*/{name}/plan.json"))

    def objects(self) -> list[str]:
        """The objects below the root."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="sweeps")
        return [o["Key"].removeprefix("team/") for p in pages for o in p.get("Contents", ())]


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Bucket]:
    """A store of its own, as long as it is entered."""
    moto_server = pytest.importorskip("moto.server", reason="needs moto[s3,server]")
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            bucket = Bucket(server.get_host_and_port()[1], patch, folder)
            yield bucket
            _empty(bucket)
    finally:
        server.stop()


def _empty(bucket: Bucket) -> None:
    pages = bucket.client.get_paginator("list_objects_v2").paginate(Bucket="sweeps")
    for page in pages:
        for one in page.get("Contents", ()):
            bucket.client.delete_object(Bucket="sweeps", Key=one["Key"])
    bucket.client.delete_bucket(Bucket="sweeps")


class Proxy:
    """Passes connections on to a store: as they are, late (``slow``), with an error in place of an
    answer (``error``), or not at all (``away``)."""

    def __init__(self, port: int) -> None:
        self.to, self.how, self.broken = port, "", 0
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listening.accept()
            except OSError:
                return
            threading.Thread(target=self._pass, args=(client,), daemon=True).start()

    def _pass(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError):
            how = self.how
            self.broken += bool(how)
            if how == "slow":
                time.sleep(2)
            if how == "error":
                client.recv(65536)
                client.sendall(ANSWER)
            if how in ("error", "away"):
                return
            with socket.create_connection(("127.0.0.1", self.to)) as server:
                back = threading.Thread(target=_copy, args=(server, client), daemon=True)
                back.start()
                _copy(client, server, self)
                back.join()

    def close(self) -> None:
        self.listening.close()


def _copy(source: socket.socket, target: socket.socket, proxy: Proxy | None = None) -> None:
    """Until one side ends it, or the proxy begins to break: connections are kept open for long."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if proxy is not None and proxy.how in ("error", "away"):
                break
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
