"""The command line: ``soundsweep run ...`` = ``python orchestrator/run.py ...``.

``ray submit`` copies this one file to the cluster: it imports the installed package.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__" and Path(sys.path[0]).resolve() == Path(__file__).resolve().parent:
    sys.path.pop(0)  # run as a file, its folder must not shadow other packages

from typing import Annotated

import typer

from systems import DEFAULT_SYSTEM
from systems.errors import UserError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Published audio systems: sweep, stack and compare them with the papers.",
)
COMMANDS = ("run", "report", "sync", "systems", "datasets")

Storage = Annotated[str, typer.Option(help="Root folder of runs, waveform stores and MLflow.")]


@app.command()
def run(
    system: Annotated[str, typer.Option(help="PAPER or PAPER/SYSTEM.")] = DEFAULT_SYSTEM,
    dataset: Annotated[
        str | None,
        typer.Option(help="Data set. (default: synthetic; with --data, the paper's own)"),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of the data set.")] = None,
    trials: Annotated[
        str | None,
        typer.Option(help="Trials in all; with --resume also +N more. (default: 8 (quick) or 50)"),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(
            help="quick (a CPU finishes), paper, or a factor on its schedule. "
            "(default: quick without a GPU, paper with one)"
        ),
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(help="Upper bound of the epochs of one training.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value: fix a configuration value.")
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            help="key=log:1e-4:1e-2, float:0:1, int:1:8 or one-of:a,b: search a value so."
        ),
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option(help="Trials at once. (default: as many as fit)")
    ] = None,
    cpus_per_trial: Annotated[int, typer.Option(help="CPU cores (and threads) of a trial.")] = 1,
    gpus_per_trial: Annotated[
        float | None, typer.Option(help="GPUs of a trial, also a fraction. (default: 1 if any)")
    ] = None,
    seed: Annotated[int, typer.Option(help="Everything random is drawn from it.")] = 0,
    storage: Storage = "runs",
    name: Annotated[
        str | None, typer.Option(help="Name of the run. (default: system, data set, time)")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(help="MLflow tracking URI. (default: SQLite under --storage)")
    ] = None,
    stack: Annotated[
        str, typer.Option(help="Meta-learners: all, none, or logreg,genetic.")
    ] = "all",
    top_k: Annotated[int, typer.Option(help="Best trials that stage two works on.")] = 3,
    transductive: Annotated[
        bool, typer.Option("--transductive", help="Also adapt on the sound of the test clips.")
    ] = False,
    resume: Annotated[
        str | None, typer.Option(help="Go on with a run: its folder, or its name under --storage.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved plan; start nothing.")
    ] = False,
) -> None:
    """Sweep a system, stack its best trials, score them once, and report."""
    from orchestrator import commands

    given = {
        "system": system, "dataset": dataset, "data": data, "budget": budget,
        "max_epochs": max_epochs, "set": set_ or [], "space": space or [],
        "concurrency": concurrency, "cpus_per_trial": cpus_per_trial,
        "gpus_per_trial": gpus_per_trial, "seed": seed, "storage": storage, "name": name,
        "mlflow": mlflow, "stack": stack, "top_k": top_k, "transductive": transductive,
    }  # fmt: skip
    if resume:
        raise typer.Exit(commands.resume(resume, storage, trials))
    raise typer.Exit(commands.run(given, trials, dry_run))


@app.command()
def report(
    run: Annotated[str, typer.Argument(help="Folder of a run, or its name under --storage.")],
    storage: Storage = "runs",
) -> None:
    """Write the report of a run again: results.json, HTML, CSV, PNG."""
    from orchestrator import commands

    commands.report(run, storage)


@app.command()
def sync(
    run: Annotated[str, typer.Argument(help="Folder of a run, or its name under --storage.")],
    storage: Storage = "runs",
) -> None:
    """Bring a run's records in MLflow up to date; nothing is doubled."""
    from orchestrator import commands

    commands.sync(run, storage)


@app.command()
def systems() -> None:
    """List the systems."""
    from orchestrator import commands

    commands.systems()


@app.command()
def datasets() -> None:
    """List the data sets and what each expects on disk."""
    from orchestrator import commands

    commands.datasets()


def main() -> None:
    """Entry point: a user's mistake ends in one message and exit code 2."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] not in (*COMMANDS, "--help"):
        arguments = ["run", *arguments]
    elif not arguments and Path(sys.argv[0]).name == "run.py":
        arguments = ["run"]
    try:
        app(args=arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
