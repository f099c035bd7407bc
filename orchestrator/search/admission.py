"""Who may enter a Ray: of a run's own only its processes; of a cluster who has the token."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from collections.abc import Iterator

from ray._private import ray_constants
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.services import get_ray_address_from_environment
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined]
from ray.exceptions import AuthenticationError

from systems.errors import UserError


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """A Ray that is started within listens on the loopback only, and asks for a token that nobody
    but its processes has, in their environment.

    By itself Ray listens on all interfaces; and it writes a token into the home, for all users to
    read, which from then on each ``ray start`` of this user asks for.
    """
    keyring, name = AuthenticationTokenLoader.instance(), ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR
    several = ray_constants.ENABLE_RAY_CLUSTER
    keyring.reset_cache()
    changed = {name: "0"}  # as on Windows and macOS: no cluster of several machines
    if not keyring.has_token(ignore_auth_mode=True):
        changed["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    before = {key: os.environ.get(key) for key in changed}
    os.environ.update(changed)
    ray_constants.ENABLE_RAY_CLUSTER = False  # it was read when Ray was imported
    keyring.reset_cache()
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = several
        for key in changed:
            del os.environ[key]
        os.environ.update({key: value for key, value in before.items() if value is not None})


@contextlib.contextmanager
def admitted(address: str) -> Iterator[None]:
    """A cluster that is joined within is shown the token of this machine, where it has one.

    Raises:
        UserError: nothing answers there, it does not let us in, or it cannot be joined for another
            reason.
    """
    AuthenticationTokenLoader.instance().reset_cache()
    # Only where Ray looks for the cluster by itself does it look for a token too.
    has_token = maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    try:
        _call(get_ray_address_from_environment(address, None))
        yield
    except AuthenticationError as error:
        raise UserError(_refused(address, has_token=False)) from error
    except (OSError, RuntimeError, ValueError) as error:
        if str(error).startswith("Failed to connect to Ray cluster"):  # though it answered
            raise UserError(_refused(address, has_token)) from error
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"--ray-address {address}: no Ray cluster can be joined there ({reason})."
        ) from error


def _call(address: str) -> None:
    """Raises OSError where nothing listens: with a token Ray would try for ever."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise ConnectionError(f"nothing answers at {address}: {error.strerror or error}") from error


def _refused(address: str, has_token: bool) -> str:
    why = "it does not take this machine's" if has_token else "there is none here"
    return (
        f"--ray-address {address}: the head answers and asks for its token, and {why}. Copy its "
        "~/.ray/auth_token here, for you alone (chmod 600), or set RAY_AUTH_TOKEN."
    )
