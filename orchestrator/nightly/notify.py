"""Sending the page of the morning: to a webhook, or to a command such as ``mail``."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from orchestrator.nightly.record import Night
from orchestrator.nightly.settings import Notify

PATIENCE = 30  # seconds that whoever gets the page may take


def notify(asked: Notify, night: Night, page: Path) -> str | None:
    """Send the page; returns what went wrong, without any secret."""
    if asked.when == "problems" and night.exit_code() == 0:
        return None
    text = page.with_suffix(".md").read_text(encoding="utf-8")
    problems = []
    if asked.webhook:
        problems.append(_post(asked, night, text, page))
    if asked.command:
        problems.append(_call(asked.command, night, text, page))
    return "; ".join(filter(None, problems)) or None


def _post(asked: Notify, night: Night, text: str, page: Path) -> str | None:
    assert asked.webhook is not None
    url = asked.webhook
    if url.startswith("$"):
        url = os.environ.get(url[1:], "")
    headers = {"Content-Type": "application/json"}
    if asked.token:
        headers["Authorization"] = f"Bearer {os.environ.get(asked.token, '')}"
    missing = [name for name in (asked.webhook if asked.webhook.startswith("$") else "",
                                 asked.token or "")
               if name and not os.environ.get(name.removeprefix("$"))]  # fmt: skip
    if missing:
        return f"the page was not sent: the environment has no {' and no '.join(missing)}"
    if not url.startswith(("https://", "http://")):
        return f"the page was not sent: {asked.webhook} holds no http(s) address"
    about = {"text": text, "night": night.night, "exit_code": night.exit_code(),
             "regressions": night.regressions(), "failures": night.failures(),
             "page": str(page)}  # fmt: skip
    request = urllib.request.Request(url, json.dumps(about).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE):
            return None
    except (OSError, ValueError) as error:  # its text may hold the address, and that a secret
        why = f"{error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        return f"the page was not sent to the webhook: {why}"


def _call(command: tuple[str, ...], night: Night, text: str, page: Path) -> str | None:
    about = {"SOUNDSWEEP_NIGHT": night.night, "SOUNDSWEEP_PAGE": str(page),
             "SOUNDSWEEP_EXIT_CODE": str(night.exit_code())}  # fmt: skip
    try:
        done = subprocess.run(
            command, input=text, text=True, timeout=PATIENCE, check=False,
            env={**os.environ, **about}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the page was not handed to {command[0]}: {error}"
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return f"{command[0]} ended with code {done.returncode}" + (f": {said[-1]}" if said else "")
    return None
