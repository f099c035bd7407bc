"""The command line: ``soundsweep run ...`` = ``python orchestrator/run.py ...``."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path
from typing import Annotated

import typer
from typer import Argument, Option

from orchestrator.cli.asked import asked_by, changes_of, count_of, options_of
from orchestrator.cli.nightly import nightly
from orchestrator.cli.outlet import outlets
from orchestrator.cli.searching import search
from orchestrator.cli.shared import Run, Storage
from orchestrator.cli.watching import attach, status, stop
from orchestrator.plan.options import StackOptions
from systems import DEFAULT_SYSTEM
from systems.errors import UserError, unknown
from systems.machine import settle

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Published audio systems: sweep, stack and compare them with the papers.",
)

# Options that several commands share.
System = Annotated[str, Option(help="PAPER or PAPER/SYSTEM.")]
DataSet = Annotated[
    str | None, Option(help="Data set. (default: an embedded one; with --data, the paper's)")
]
Data = Annotated[str | None, Option(help="Folder of the data set; of table, its CSV.")]
SkipBroken = Annotated[
    bool, Option("--skip-broken", help="Leave broken audio files out; the report lists them.")
]
Metric = Annotated[
    str | None,
    Option(help="What judges epochs and trials. (default: the search space's, or the data set's)"),
]
Sampler = Annotated[
    str | None,
    Option(help="What searches: tpe, or evolution by generations. (default: the search space's)"),
]
SkipShared = Annotated[
    bool, Option("--skip-shared", help="Leave labelled clips out that the test part has too.")
]
Budget = Annotated[
    str | None,
    Option(
        help="quick (a CPU finishes), paper, or a factor on its schedule. "
        "(default: quick without a GPU, paper with one)"
    ),
]
MaxEpochs = Annotated[int | None, Option(help="Upper bound of the epochs of one training.")]
Set = Annotated[list[str] | None, Option("--set", help="key=value: fix a configuration value.")]
Concurrency = Annotated[int | None, Option(help="Trainings at once. (default: as many as fit)")]
Cpus = Annotated[int, Option(help="CPU cores (and threads) of a trial, of each of its workers.")]
Gpus = Annotated[
    float | None,
    Option(help="GPUs of a trial, of each of its workers; also a fraction. (default: 1 if any)"),
]
Workers = Annotated[int, Option(help="Workers of a trial; two or more train data-parallel.")]
Seed = Annotated[int, Option(help="Everything random is drawn from it.")]
Name = Annotated[str | None, Option(help="Name of the run. (default: system, data set, time)")]
MlflowUri = Annotated[
    str | None,
    Option(
        envvar="MLFLOW_TRACKING_URI",
        help="MLflow tracking URI, without a password; none: no MLflow. "
        "(default: SQLite under --storage)",
    ),
]
RayAddress = Annotated[
    str | None,
    Option(
        help="HOST:PORT of a Ray cluster, auto (the one of this machine), local (its own), or "
        "none: one thing at a time in this process, to debug. "
        "(default: auto where there is one, else local)"
    ),
]
Transductive = Annotated[
    bool, Option("--transductive", help="Also adapt on the sound of the test clips.")
]
Protocol = Annotated[
    str, Option(help="honest, or paper: as the paper chose, marked in ledger and report.")
]
StageTrials = Annotated[
    int | None,
    Option(help="Trials of a search of each meta-learner's settings. (default: 0, its paper's)"),
]
FinalModels = Annotated[
    str | None,
    Option(
        "--final",
        help="What predicts: a refit on all labelled clips, or the folds' models, averaged: "
        "fold_mean, fold_geometric. (default: refit; of a quick run fold_mean)",
    ),
]
ByFold = Annotated[
    bool | None,
    Option(
        "--by-fold/--no-by-fold",
        help="A meta-learner for each fold, over its own rows and models. (default: one for all)",
    ),
]
DryRun = Annotated[bool, Option("--dry-run", help="Print the plan and its cost; start nothing.")]


@app.command()
def run(
    context: typer.Context,
    system: System = DEFAULT_SYSTEM,
    dataset: DataSet = None,
    data: Data = None,
    skip_broken: SkipBroken = False,
    skip_shared: SkipShared = False,
    trials: Annotated[
        str | None,
        Option(help="Trials in all; with --resume also +N more. (default: 8 (quick) or 50)"),
    ] = None,
    time_budget: Annotated[
        str | None,
        Option(help="Time of the whole run: 2h, 90m, 1h30m; the search ends at a share of it."),
    ] = None,
    metric: Metric = None,
    sampler: Sampler = None,
    budget: Budget = None,
    max_epochs: MaxEpochs = None,
    set_: Set = None,
    space: Annotated[
        list[str] | None,
        Option(help="key=log:1e-4:1e-2, float:0:1, int:1:8 or one-of:a,b: search a value so."),
    ] = None,
    concurrency: Concurrency = None,
    cpus_per_trial: Cpus = 1,
    gpus_per_trial: Gpus = None,
    workers_per_trial: Workers = 1,
    seed: Seed = 0,
    storage: Storage = "runs",
    name: Name = None,
    mlflow: MlflowUri = None,
    ray_address: RayAddress = None,
    stack: Annotated[
        str,
        Option(help="Meta-learners: standard (one of each kind), all, none, or logreg,genetic."),
    ] = "standard",
    top_k: Annotated[int, Option(help="Best trials that stage two works on.")] = 3,
    stage_trials: StageTrials = None,
    final: FinalModels = None,
    by_fold: ByFold = None,
    protocol: Protocol = "honest",
    transductive: Transductive = False,
    resume: Annotated[
        str | None, Option(help="Go on with a run: its folder, or its name under --storage.")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Sweep a system, stack its best trials, score them once, and report."""
    from orchestrator.cli import commands

    if resume:
        asked = asked_by(context)
        raise typer.Exit(commands.resume(resume, storage, changes_of(asked), asked, dry_run))
    raise typer.Exit(commands.run(options_of(context, trials=count_of(trials)), dry_run))


@app.command()
def train(
    context: typer.Context,
    system: Annotated[str, Argument(metavar="PAPER/SYSTEM", help="What to train.")],
    dataset: DataSet = None,
    data: Data = None,
    skip_broken: SkipBroken = False,
    skip_shared: SkipShared = False,
    seeds: Annotated[int, Option(help="Trainings, each with a seed of its own.")] = 1,
    metric: Metric = None,
    protocol: Protocol = "honest",
    budget: Budget = None,
    max_epochs: MaxEpochs = None,
    set_: Set = None,
    concurrency: Concurrency = None,
    cpus_per_trial: Cpus = 1,
    gpus_per_trial: Gpus = None,
    workers_per_trial: Workers = 1,
    seed: Seed = 0,
    storage: Storage = "runs",
    name: Name = None,
    mlflow: MlflowUri = None,
    ray_address: RayAddress = None,
    transductive: Transductive = False,
    dry_run: DryRun = False,
) -> None:
    """Train the published point (or --set) once, without a search; score and report it."""
    from orchestrator.cli import commands

    raise typer.Exit(commands.run(options_of(context, purpose="train", trials=seeds), dry_run))


@app.command()
def reproduce(
    context: typer.Context,
    paper: Annotated[str, Argument(metavar="PAPER", help="PAPER, or one PAPER/SYSTEM of it.")],
    dataset: DataSet = None,
    data: Data = None,
    skip_broken: SkipBroken = False,
    skip_shared: SkipShared = False,
    seeds: Annotated[int, Option(help="Trainings of each system.")] = 1,
    budget: Budget = None,
    max_epochs: MaxEpochs = None,
    set_: Set = None,
    concurrency: Concurrency = None,
    cpus_per_trial: Cpus = 1,
    gpus_per_trial: Gpus = None,
    workers_per_trial: Workers = 1,
    seed: Seed = 0,
    storage: Storage = "runs",
    name: Annotated[
        str | None, Option(help="Name of the table; one that was begun is gone on with.")
    ] = None,
    mlflow: MlflowUri = None,
    ray_address: RayAddress = None,
) -> None:
    """Set a paper's own table (its systems and decision variants) beside ours."""
    from orchestrator.cli import commands

    asked = asked_by(context)
    for option in ("paper", "name"):
        asked.pop(option, None)
    if "seeds" in asked:
        asked["trials"] = asked.pop("seeds")
    raise typer.Exit(commands.reproduce(paper, options_of(context, trials=seeds), asked))


@app.command()
def stack(
    context: typer.Context,
    runs: Annotated[
        list[str] | None,
        Argument(metavar="[RUN]...", help="Runs (folders or names) or MLflow run ids."),
    ] = None,
    system: Annotated[
        list[str] | None,
        Option("--system", help="PAPER/SYSTEM: its best trials over all runs below --storage."),
    ] = None,
    stack: Annotated[
        str | None,
        Option(help="standard, all, none, or logreg,genetic. (default: as the run; standard)"),
    ] = None,
    top_k: Annotated[
        int | None, Option(help="Best trials of each run or system. (default: as the run; 3)")
    ] = None,
    stage_trials: StageTrials = None,
    final: FinalModels = None,
    by_fold: ByFold = None,
    protocol: Protocol = "honest",
    name: Name = None,
    mlflow: MlflowUri = None,
    ray_address: RayAddress = None,
    storage: Storage = "runs",
) -> None:
    """Fit meta-learners over the best trials of one run, or of several, and score again."""
    from orchestrator.cli import commands

    named = {f.name for f in fields(StackOptions)} & set(context.params) - {"runs"}
    given = {name: context.params[name] for name in named}
    raise typer.Exit(commands.stack(StackOptions(runs=runs or (), systems=system or (), **given)))


@app.command()
def report(run: Run, storage: Storage = "runs") -> None:
    """Write the report of a run again: results.json, HTML, CSV, PNG."""
    from orchestrator.cli import commands

    commands.report(run, storage)


@app.command()
def compare(
    first: Run,
    second: Run,
    output: Annotated[str | None, Option(help="Also write it as JSON to this file.")] = None,
    storage: Storage = "runs",
) -> None:
    """Paired differences of two runs on the same clips, with 95 % intervals."""
    from orchestrator.cli import commands

    commands.compare(first, second, storage, output)


@app.command()
def predict(
    run: Run,
    files: Annotated[list[str], Argument(metavar="FILE...", help="Audio files, or folders.")],
    model: Annotated[
        str, Option(help="best, trial:N, best:VARIANT, or a meta-learner's name.")
    ] = "best",
    format_: Annotated[str, Option("--format", help="table, json, csv or audacity.")] = "table",
    output: Annotated[
        str | None, Option(help="File (audacity with several FILEs: folder) instead of the screen.")
    ] = None,
    device: Annotated[str, Option(help="cpu or cuda.")] = "cpu",
    storage: Storage = "runs",
) -> None:
    """Tags and timed events, or values over time, of any audio file that libsndfile reads."""
    from orchestrator.cli import commands

    commands.predict(run, storage, files, model, format_, output, device)


for command in (search, status, stop, attach, nightly):
    app.command()(command)


@app.command()
def sync(
    run: Run,
    model: Annotated[
        list[str] | None,
        Option(metavar="NAME", help="A meta-learner whose model is logged too; may be repeated."),
    ] = None,
    storage: Storage = "runs",
) -> None:
    """Bring a run's records in MLflow up to date; nothing is doubled."""
    from orchestrator.cli import commands

    commands.sync(run, storage, model or [])


@app.command()
def systems(
    cite: Annotated[
        str | None, Option(metavar="PAPER", help="Print the BibTeX entry of a paper, or of all.")
    ] = None,
) -> None:
    """List the systems; --cite all prints the BibTeX of their papers."""
    from orchestrator.cli import commands

    commands.systems(cite)


@app.command()
def datasets() -> None:
    """List the data sets and what each expects on disk."""
    from orchestrator.cli import commands

    commands.datasets()


@app.command()
def clean(
    stores: Annotated[
        bool, Option("--stores", help="Every waveform store too: they are built anew.")
    ] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Only list what would go.")] = False,
    storage: Storage = "runs",
) -> None:
    """Remove checkpoints of ended trials and waveform stores that no run reads."""
    from orchestrator.cli import commands

    commands.clean(storage, stores, dry_run)


def main() -> None:
    """Entry point: a user's mistake ends in one message and exit code 2."""
    with outlets():
        try:
            settle()
            _run(sys.argv[1:])
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            raise SystemExit(2) from None


def _run(arguments: list[str]) -> None:
    commands = [c.callback.__name__ for c in app.registered_commands if c.callback]
    is_option = bool(arguments) and arguments[0].startswith("-") and arguments[0] != "--help"
    if is_option or (not arguments and Path(sys.argv[0]).name == "run.py"):
        arguments = ["run", *arguments]
    if arguments and arguments[0] not in (*commands, "--help"):
        raise unknown("command", arguments[0], commands)
    app(args=arguments)
