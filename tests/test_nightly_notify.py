"""The page of the morning is posted to a webhook."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from command import free_port

from orchestrator.nightly.notify import notify
from orchestrator.nightly.record import Night
from orchestrator.nightly.settings import Notify

SECRET = "not-to-be-told"


class Hook:
    """A server that notes what is posted to it, and answers with a code."""

    def __init__(self) -> None:
        self.code = 204
        self.posted: list[tuple[dict[str, str], dict[str, Any]]] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hook.posted.append((dict(self.headers), json.loads(body)))
                self.send_response(hook.code)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/{SECRET}"


@pytest.fixture
def hook() -> Iterator[Hook]:
    made = Hook()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


@pytest.fixture
def page(tmp_path: Path) -> Path:
    (tmp_path / "index.md").write_text("# Night of 2026-11-28\n")
    return tmp_path / "index.html"


def test_the_page_reaches_a_webhook(
    hook: Hook, page: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK", hook.url)
    monkeypatch.setenv("TOKEN", SECRET)
    night = Night("2026-11-28", problems=["something"])
    assert notify(Notify(webhook="$HOOK", token="TOKEN"), night, page) is None
    ((headers, about),) = hook.posted
    assert headers["Authorization"] == f"Bearer {SECRET}"
    assert headers["Content-Type"] == "application/json"
    assert about == {
        "text": "# Night of 2026-11-28\n", "night": "2026-11-28", "exit_code": night.exit_code(),
        "regressions": [], "failures": [], "page": str(page),
    }  # fmt: skip


def test_a_webhook_that_refuses_is_told_without_its_address(hook: Hook, page: Path) -> None:
    hook.code = 500
    told = notify(Notify(webhook=hook.url), Night("2026-11-28"), page)
    assert told is not None
    assert "500" in told
    assert SECRET not in told
    nobody = f"http://127.0.0.1:{free_port()}/{SECRET}"
    told = notify(Notify(webhook=nobody), Night("2026-11-28"), page)
    assert told is not None
    assert SECRET not in told


def test_only_problems_are_sent_where_only_they_are_asked_for(hook: Hook, page: Path) -> None:
    asked = Notify(webhook=hook.url, when="problems")
    quiet = Night("2026-11-28")
    assert quiet.exit_code() == 0
    assert notify(asked, quiet, page) is None
    assert not hook.posted
    assert notify(asked, Night("2026-11-28", problems=["a study failed"]), page) is None
    assert len(hook.posted) == 1
