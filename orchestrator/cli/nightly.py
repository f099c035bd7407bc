"""``soundsweep nightly`` on the command line."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from orchestrator.cli.commands import console, say
from systems.errors import UserError

FILE = "cluster/nightly.yaml"


def nightly(
    what: Annotated[
        list[str] | None,
        Argument(metavar="[install] [FILE]", help=f"The nightly file. (default: {FILE})"),
    ] = None,
    night: Annotated[
        datetime | None,
        Option(
            formats=["%Y-%m-%d"], metavar="DATE",
            help="The night to work on, at any time of day. (default: the one that it is)",
        ),
    ] = None,
    print_: Annotated[
        bool, Option("--print", help="install: print the units; write nothing.")
    ] = False,
    cron: Annotated[bool, Option("--cron", help="install: add a line to your crontab.")] = False,
    systemd: Annotated[
        bool, Option("--systemd", help="install: write a user service and its timer.")
    ] = False,
    kuberay: Annotated[
        bool, Option("--kuberay", help="install: print a CronJob that submits a RayJob.")
    ] = False,
) -> None:  # fmt: skip
    """Run what is due tonight, compare it with the last nights, write the page of the morning."""
    given = list(what or ())
    installs = given[:1] == ["install"]
    files = given[installs:]
    if len(files) > 1:
        raise UserError(f"nightly takes one file, not {', '.join(files)}.")
    file = Path(files[0] if files else FILE).absolute()
    ways = [name for name, on in {"print": print_, "cron": cron, "systemd": systemd,
                                  "kuberay": kuberay}.items() if on]  # fmt: skip
    if not installs:
        if ways:
            raise UserError(f"--{ways[0]} goes with `soundsweep nightly install`.")
        raise typer.Exit(_work(file, None if night is None else night.date()))
    if len(ways) != 1:
        raise UserError("nightly install takes one of --print, --cron, --systemd, --kuberay.")
    from orchestrator.nightly.install import install
    from orchestrator.nightly.settings import read_settings

    say(*install(ways[0], read_settings(file), file))


def _work(file: Path, night: date | None) -> int:
    from orchestrator.nightly.settings import read_settings

    settings = read_settings(file)
    from orchestrator.cli.terminal import Terminal
    from orchestrator.nightly.page import headline
    from orchestrator.nightly.tonight import work_tonight

    done = work_tonight(settings, file, Terminal(console), night=night)
    say(headline(done))
    return done.exit_code()
