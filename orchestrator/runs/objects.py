"""Objects below ``s3://bucket/prefix``: the only code that calls boto3.

pyarrow and fsspec write to S3 too, but not on a condition, which a lease hangs on.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlparse

from orchestrator.runs.lease import Record
from systems.errors import UserError

T = TypeVar("T")
SCHEME = "s3://"
LARGE = 64 << 20  # bytes from which a file is sent in parts
TRIES = 5  # of each call, with pauses that grow; boto3's own
PATIENCE, PAUSE = 600.0, 5.0  # seconds that a store may stay away from a run; between two looks
CONNECT, ANSWER = 10, 30  # seconds that a call waits for a connection, and for an answer


class ObjectsError(UserError):
    """What an object store refused."""


class Unanswered(ObjectsError):
    """An object store does not answer, or not as it should: that may pass."""


def patiently(call: Callable[[], T]) -> T:
    """What a call gives; while the store does not answer it is made again, for ten minutes."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return call()
        except Unanswered:
            if time.monotonic() > deadline:
                raise
            time.sleep(PAUSE)


class Objects:
    """The objects of a storage root; each is known by its path below the root.

    An object's tag changes with its content. Every method raises :class:`ObjectsError` where the
    store cannot be reached or refuses, after some tries.
    """

    def __init__(self, address: str) -> None:
        """Args:
        address: ``s3://bucket/prefix``; credentials, region and endpoint as boto3 takes them.

        Raises:
            UserError: no such address, or boto3 is not installed.
        """
        parts = urlparse(address)
        self.bucket, prefix = parts.netloc, parts.path.strip("/")
        if not address.startswith(SCHEME) or not self.bucket:
            raise UserError(f"--storage {address}: write a folder, or s3://bucket/prefix.")
        self.prefix = f"{prefix}/" if prefix else ""
        self.address = f"{SCHEME}{self.bucket}/{prefix}".rstrip("/")
        try:
            import boto3
            from botocore.config import Config
        except ImportError as error:
            raise UserError(
                f"--storage {address} needs boto3: pip install 'soundsweep[s3]'."
            ) from error
        settings = Config(
            retries={"mode": "standard", "total_max_attempts": TRIES}, connect_timeout=CONNECT,
            read_timeout=ANSWER, max_pool_connections=16, user_agent_extra="soundsweep",
        )  # fmt: skip
        with self._told():
            self.client: Any = boto3.session.Session().client("s3", config=settings)

    def tags(self, below: str = "") -> dict[str, str]:
        """Path -> tag of each object whose path begins so."""
        return {one["Key"][len(self.prefix) :]: one["ETag"] for one in self._pages(below)}

    def folders(self, below: str = "") -> list[str]:
        """The names of what is like a folder directly below a path (``""`` or ``x/``)."""
        start = len(self.prefix) + len(below)
        with self._told():
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + below, Delimiter="/"
            )
            return [
                one["Prefix"][start:-1] for page in pages for one in page.get("CommonPrefixes", ())
            ]

    def size(self, below: str) -> int:
        """Bytes of all objects whose path begins so."""
        return sum(one["Size"] for one in self._pages(below))

    def read(self, path: str) -> tuple[bytes, str] | None:
        """Content and tag of an object; ``None`` where there is none."""
        with self._told():
            try:
                found = self.client.get_object(Bucket=self.bucket, Key=self.prefix + path)
                return found["Body"].read(), found["ETag"]
            except self.client.exceptions.NoSuchKey:
                return None

    def write_if(self, path: str, content: bytes, tag: str | None) -> str | None:
        """Write an object where its tag is this one still (``None``: where there is none).

        Returns:
            the new tag, or ``None`` where another has written it meanwhile.
        """
        from botocore.exceptions import ClientError

        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        with self._told():
            try:
                return str(
                    self.client.put_object(
                        Bucket=self.bucket, Key=self.prefix + path, Body=content, **condition
                    )["ETag"]
                )
            except ClientError as error:
                code = error.response["ResponseMetadata"].get("HTTPStatusCode")
                if code in (404, 409, 412):  # gone, written at this moment, or another's
                    return None
                raise

    def send(self, path: str, file: Path) -> str:
        """Write a file's content as an object, as it is now; returns its tag."""
        with self._told():
            if file.stat().st_size < LARGE:
                content = file.read_bytes()
                return str(
                    self.client.put_object(
                        Bucket=self.bucket, Key=self.prefix + path, Body=content
                    )["ETag"]
                )
            self.client.upload_file(str(file), self.bucket, self.prefix + path)
            found = self.client.head_object(Bucket=self.bucket, Key=self.prefix + path)
            return str(found["ETag"])

    def receive(self, path: str, file: Path) -> None:
        """Write an object's content to a file."""
        with self._told():
            self.client.download_file(self.bucket, self.prefix + path, str(file))

    def remove(self, paths: Iterable[str]) -> None:
        """Remove objects; one that is not there is left so."""
        with self._told():
            for path in paths:
                self.client.delete_object(Bucket=self.bucket, Key=self.prefix + path)

    def _pages(self, below: str) -> Iterator[dict[str, Any]]:
        with self._told():
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=self.prefix + below
            )
            for page in pages:
                yield from page.get("Contents", ())

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What boto3 raises, in one message."""
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except (BotoCoreError, ClientError, Boto3Error) as error:
            raise _in_words(error, self.bucket, self.address) from error


def _in_words(error: Exception, bucket: str, address: str) -> ObjectsError:
    """Why a call failed, and what to do."""
    name, text = type(error).__name__, str(error).strip().rstrip(".")
    answer = (getattr(error, "response", None) or {}).get("Error", {}).get("Code", "")
    if "Credentials" in name or "Token" in name:
        why = f"no credentials ({text}): set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, say"
    elif answer == "NoSuchBucket":
        why = f"there is no bucket '{bucket}': make it first"
    elif answer in ("AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch"):
        why = f"access is denied ({text})"
    else:
        return Unanswered(f"{address}: it does not answer as it should ({text}).")
    return ObjectsError(f"{address}: {why}.")


class LeaseObject:
    """A run's ``driver`` object, as what a lease is written on."""

    def __init__(self, objects: Objects, run: str) -> None:
        """``run``: the run's name."""
        self.objects, self.path = objects, f"{run}/driver"
        self._tag: str | None = None
        self._read: Record = {}

    def read(self) -> Record:
        """See :class:`orchestrator.runs.lease.Slate`."""
        found = self.objects.read(self.path)
        self._read, self._tag = (dict(json.loads(found[0])), found[1]) if found else ({}, None)
        return self._read

    def replace(self, old: Record, new: Record) -> bool:
        """See :class:`orchestrator.runs.lease.Slate`."""
        for _ in range(2):
            if self._read == old:
                tag = self.objects.write_if(self.path, json.dumps(new).encode(), self._tag)
                if tag is not None:
                    self._read, self._tag = new, tag
                    return True
            # It may have been written by a try of ours whose answer was lost.
            if self.read() == new:
                return True
            if self._read != old:
                return False
        return False
