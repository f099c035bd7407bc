"""What each command of the command line does."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import textwrap
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from rich.console import Console

from orchestrator.members.rows import members_of_runs
from orchestrator.plan.options import Final, Options
from orchestrator.plan.plan import Plan, load_plan
from orchestrator.planning import gather, stacks
from orchestrator.planning.checks import check_stage
from orchestrator.planning.duration import parse_duration
from orchestrator.planning.learners import stack_names
from orchestrator.planning.resolve import make_plan, reload
from orchestrator.runs.files import disk_is_full, read_json, write_json
from orchestrator.runs.rundir import RunDir
from orchestrator.stacking.families import kind_of, load_learner
from orchestrator.stacking.stage import refused, remember
from systems import config as configs
from systems import data, registry
from systems.data.dataset import Dataset
from systems.data.splits import Splits
from systems.errors import UserError

console = Console(highlight=False, soft_wrap=True)
RESUMABLE = 3  # exit code of an interrupted run


def run(given: dict[str, Any], dry_run: bool) -> int:
    """Plan and run; returns the exit code."""
    entry = registry.find(given["system"])
    if registry.needs(entry):
        if given.get("purpose") == "train":
            registry.get(given["system"])  # a fusion is none
            raise UserError(
                f"{entry.address} learns from {', '.join(registry.needs(entry))}: `soundsweep run "
                f"--system {entry.address}` trains them first."
            )
        from orchestrator.pipeline.graph import run_graph

        return run_graph(given, dry_run)
    plan, dataset, splits = make_plan(options_of(given))
    if dry_run:
        print_plan(plan)
        _print_estimate(plan, dataset, splits)
        return 0
    folder = RunDir(root_of(given["storage"]) / plan.name)
    if folder.plan.exists():
        raise _exists(folder, plan)
    _check_ray(plan.ray_address)
    writable(folder.root)
    return run_planned(folder, plan, dataset, splits)


# What --resume may change; everything else is read back from the plan.
_CHANGEABLE = ("trials", "storage", "time_budget", "concurrency", "mlflow", "ray_address")


def resume(name: str, storage: str, changed: dict[str, Any], dry_run: bool = False) -> int:
    """Go on with a run, perhaps with more trials; returns the exit code.

    Raises:
        UserError: no such run, an option that a plan cannot change, or changed data.
    """
    folder = find(name, storage)
    plan = load_plan(folder)
    for option, value in changed.items():
        if option not in _CHANGEABLE and not _is_planned(plan, option, value):
            raise UserError(
                f"the run '{plan.name}' was planned with {_flag(option)} "
                f"{_short(_planned(plan, option))}, not {_short(value)}: start a new run for that. "
                f"Beside --resume go {', '.join(map(_flag, _CHANGEABLE))}."
            )
    plan = _with_changes(plan, changed)
    dataset, splits = reload(plan)
    print_plan(plan)
    if dry_run:
        return 0
    _check_ray(plan.ray_address)
    with _full_disk_is_told(folder), folder.drive():
        write_json(folder.plan, plan.to_json())
        return _go(folder, plan, dataset, splits)


def _flag(option: str) -> str:
    return "--" + option.replace("_", "-")


def _planned(plan: Plan, option: str) -> Any:
    r, caps = plan.resources, list(plan.budget.caps.values())
    asked = {"budget": plan.budget.text, "stack": ",".join(plan.stack) or "none",
             "cpus_per_trial": r.cpus, "gpus_per_trial": r.gpus, "workers_per_trial": r.workers,
             "max_epochs": caps[0] if caps else None}  # fmt: skip
    return asked.get(option, getattr(plan, option, "its own"))


def _is_planned(plan: Plan, option: str, value: Any) -> bool:
    if option == "system":
        return registry.get(value).address == plan.system
    if option == "data":
        return str(Path(value).expanduser().resolve()) == plan.data
    return bool(value == _planned(plan, option))


def _with_changes(plan: Plan, changed: dict[str, Any]) -> Plan:
    """The plan with what --resume may change."""
    trials = changed.get("trials")
    new: dict[str, Any] = {}
    if trials:
        more = trials[1:] if trials.startswith("+") else ""
        total = plan.trials + int(more) if more.isdigit() else _count(trials)
        if total < plan.trials:
            raise UserError(f"--trials {trials}: the run has {plan.trials} trials already.")
        new["trials"] = total
    if changed.get("time_budget"):
        new["time_budget"] = parse_duration(changed["time_budget"])
    if changed.get("concurrency") is not None:
        if changed["concurrency"] < 1:
            raise UserError(f"--concurrency takes 1 or more, not {changed['concurrency']}.")
        new["resources"] = dataclasses.replace(plan.resources, concurrency=changed["concurrency"])
    for key in ("mlflow", "ray_address"):
        if key in changed:
            new[key] = changed[key]
    return dataclasses.replace(plan, **new)


def stack(names: Sequence[str], systems: Sequence[str], given: dict[str, Any]) -> int:
    """Fit meta-learners over the best trials of one run, or of several; returns the exit code.

    One run keeps its stage two in itself, and what is fitted over the same members stays. Members
    of several make a run of their own, which ``run --resume`` goes on with.
    """
    root = root_of(given["storage"])
    check_stage(given["name"], given["protocol"], given["final"], given["stage_trials"])
    if len(names) == 1 and not systems and not gather.MLFLOW_ID.fullmatch(names[0]):
        return _stack_within(find(names[0], str(root)), given)
    if not names and not systems:
        raise UserError("name runs or MLflow run ids, or --system PAPER/SYSTEM.")
    chosen = gather.gather(names, systems, _top_k(given["top_k"]), root, given["mlflow"])
    plan, dataset, splits = stacks.make_stack_plan(
        chosen,
        stack=given["stack"] or "standard",
        final=cast(Final, given["final"] or "refit"),  # check_stage has seen it
        by_fold=bool(given["by_fold"]),
        name=given["name"],
        protocol=given["protocol"],
        mlflow=given["mlflow"],
        ray_address=given["ray_address"],
        stage_trials=given["stage_trials"] or 0,
    )
    folder = RunDir(root / plan.name)
    if folder.plan.exists():
        raise _exists(folder, plan)
    writable(root)
    return run_planned(folder, plan, dataset, splits)


def _stack_within(folder: RunDir, given: dict[str, Any]) -> int:
    plan = load_plan(folder)
    if not folder.members.exists():
        raise UserError(
            f"the search of '{plan.name}' has not ended: soundsweep run --resume {plan.name}."
        )
    _check_within(plan, given)
    _check_ray(given["ray_address"])
    dataset, splits = reload(plan)
    gives = plan.entry().gives
    new = dataclasses.replace(
        plan,
        stack=stack_names(given["stack"], dataset, gives) if given["stack"] else plan.stack,
        top_k=_top_k(given["top_k"]) or plan.top_k,
        mlflow=given["mlflow"] or plan.mlflow,
        ray_address=given["ray_address"] or plan.ray_address,
        final=cast(Final, given["final"] or plan.final),
        by_fold=plan.by_fold if given["by_fold"] is None else given["by_fold"],
        stage_trials=plan.stage_trials if given["stage_trials"] is None else given["stage_trials"],
    )
    with _full_disk_is_told(folder), folder.drive():
        for name in new.stack if given["stack"] else ():
            _renew(folder.stack(name))
        if new.final != plan.final or _unscored(folder, new):
            folder.scores.unlink(missing_ok=True)  # other models are to be scored
        if new.stage_trials != plan.stage_trials or _meets_otherwise(plan, new):
            remember(folder)
            folder.forget_scores()  # other learners are to be fitted
        write_json(folder.plan, new.to_json())
        return _go(folder, new, dataset, splits)


def _renew(learner: Path) -> None:
    """Let a learner that is asked for by name be fitted again where it was refused, or where no
    learner that this version reads is there."""
    (learner / "refused.json").unlink(missing_ok=True)
    if (learner / "learner.json").exists():
        try:
            load_learner(learner)
        except UserError:
            shutil.rmtree(learner)


def _meets_otherwise(plan: Plan, new: Plan) -> bool:
    """Whether fitted meta-learners met their members in another manner than is asked for."""
    names = {*plan.stack, *new.stack}
    by_fold = new.by_fold or any(kind_of(name).one_model for name in names)
    return plan.by_fold != new.by_fold or (by_fold and plan.manner() != new.manner())


def _check_within(plan: Plan, given: dict[str, Any]) -> None:
    """Refuse, before anything is changed, what a stack within a run cannot have."""
    if given["name"] is not None:
        raise UserError(
            f"--name {given['name']}: the stack of one run stays in it ('{plan.name}'); a name is "
            "for a stack over several."
        )
    if given["protocol"] not in ("honest", plan.protocol):
        raise UserError(
            f"--protocol {given['protocol']}: '{plan.name}' was planned with {plan.protocol}."
        )
    if plan.purpose == "stack":
        if given["top_k"] is not None:
            raise UserError(
                f"--top-k {given['top_k']}: '{plan.name}' is a stack over chosen members; stack "
                "their runs under another --name."
            )
        members_of_runs(plan)


def _unscored(folder: RunDir, plan: Plan) -> bool:
    """Whether the plan names a meta-learner without test scores."""
    if not folder.scores.exists():
        return False
    scored = {row["learner"] for row in read_json(folder.scores)["rows"]}
    left_out = {row["name"] for row in refused(folder, plan)}
    return not set(plan.stack) <= scored | left_out


def _top_k(top_k: int | None) -> int | None:
    if top_k is not None and top_k < 1:
        raise UserError(f"--top-k takes 1 or more, not {top_k}.")
    return top_k


def run_planned(folder: RunDir, plan: Plan, dataset: Dataset, splits: Splits) -> int:
    """Print a plan, write it, and run it; returns the exit code."""
    print_plan(plan)
    _check_ray(plan.ray_address)
    with _full_disk_is_told(folder), folder.drive():
        write_json(folder.plan, plan.to_json())
        return _go(folder, plan, dataset, splits)


def _exists(folder: RunDir, plan: Plan) -> UserError:
    return UserError(
        f"a run named '{plan.name}' exists in {folder.root}: give another --name, or go on "
        f"with --resume {plan.name}."
    )


def reproduce(paper: str, seeds: int, given: dict[str, Any], written: dict[str, Any]) -> int:
    """Train the paper's systems some times each, then print and write its table beside ours.

    ``written`` are the options that stand on the command line: a table that was begun is gone on
    with, so they must be those that it was begun with.
    """
    from orchestrator.report import reproduce as table

    trainings = table.to_run(paper, given["dataset"])
    stamp = time.strftime("%Y%m%d-%H%M%S")
    name = given.pop("name") or f"reproduce-{paper.replace('/', '-')}-{stamp}"
    root = root_of(given["storage"])
    writable(root)
    folders = []
    for one in trainings:
        folder = RunDir(root / f"{name}-{one.suffix}")
        options = {**given, "system": one.entry.address, "name": folder.path.name,
                   "set": [*one.set, *given["set"]],
                   "trials": str(seeds), "purpose": "train", "protocol": "paper"}  # fmt: skip
        again = {"system": one.entry.address, **written}
        begun = folder.plan.exists()
        code = resume(str(folder.path), given["storage"], again) if begun else run(options, False)
        if code != 0:
            console.print(f"go on with the same command and --name {name}", markup=False)
            return code
        folders.append(folder)
    plan, entry = load_plan(folders[0]), trainings[0].entry
    rows = table.table(entry.paper, folders)
    notes = _conditions(plan, entry)
    about = {"paper": entry.paper, "runs": [folder.path.name for folder in folders],
             "seeds": plan.trials, "dataset": plan.dataset, "budget": plan.budget.text,
             "notes": notes}  # fmt: skip
    page = table.write(root / name, about, rows)
    for line in (*notes, *table.in_words(rows), f"table: {page}"):
        console.print(line, markup=False)
    return 0


def _conditions(plan: Plan, entry: registry.Entry) -> list[str]:
    """In which points our figures are not the paper's conditions."""
    notes = [f"{plan.trials} training(s) of each system, one split: {plan.splits['protocol']}"]
    if plan.dataset != entry.dataset:
        notes.append(f"the data is {plan.dataset}, the paper's {entry.dataset}")
    sizes = ", ".join(f"{part} {about['clips']}" for part, about in plan.parts.items())
    notes.append(f"clips here: {sizes}")
    if plan.scaled:
        scaled = (f"{k} {_short(a)} -> {_short(b)}" for k, (a, b) in plan.scaled.items())
        notes.append(f"the budget {plan.budget.text} is not the paper's: {', '.join(scaled)}")
    return notes


def compare(first: str, second: str, storage: str, output: str | None) -> None:
    """Print what differs between two runs, and by how much."""
    from orchestrator.scoring.compare import compare

    found = compare(find(first, storage), find(second, storage))
    names = found["runs"]
    for key, (a, b) in found["settings"].items():
        console.print(f"{key:<28} {_short(a)} | {_short(b)}", markup=False)
    console.print(f"{'part':<11} {'who':<34} {'metric':<14} {names[0]} | {names[1]} | difference",
                  markup=False)  # fmt: skip
    for row in found["rows"]:
        d = row["difference"]
        console.print(
            f"{row['part']:<11} {row['who']:<34} {row['metric']:<14} {row['first']:.3f} | "
            f"{row['second']:.3f} | {d['value']:+.3f} [{d['low']:+.3f}, {d['high']:+.3f}]",
            markup=False,
        )
    if output:
        write_json(Path(output), found)


def predict(
    name: str, storage: str, files: list[str], model: str, format_: str, output: str | None,
    device: str,
) -> None:  # fmt: skip
    """Tags and events of audio files."""
    from orchestrator.models.files import predict_command

    text = predict_command(
        find(name, storage), files, model=model, format=format_, output=output, device=device
    )
    print(text, end="" if text.endswith("\n") or not text else "\n")


def clean(storage: str, stores: bool, dry_run: bool) -> None:
    """List and remove what can go."""
    from orchestrator.pipeline.clean import removable, remove

    root = root_of(storage)
    if not root.is_dir():
        raise UserError(f"there is no storage root {root}.")
    items = removable(root, stores=stores)
    for item in items:
        console.print(f"{size(item.size):>9}  {item.path}  ({item.why})", markup=False)
    total = size(sum(item.size for item in items))
    if not dry_run:
        remove(items)
    console.print(f"{total} {'could be' if dry_run else 'were'} freed", markup=False)


def report(name: str, storage: str) -> None:
    """Write results.json and the report of a run again."""
    from orchestrator.report.report import write_report

    console.print(f"report: {write_report(find(name, storage))}", markup=False)


def sync(name: str, storage: str) -> None:
    """Bring MLflow up to date."""
    from orchestrator.tracking import projection as tracking

    done = tracking.sync(find(name, storage))
    console.print(f"MLflow: {done.uri}, experiment '{done.experiment}'", markup=False)


def systems(cite: str | None) -> None:
    """List all systems, or print the BibTeX of one paper or all."""
    if cite:
        for paper in registry.papers() if cite == "all" else [registry.get(cite).paper]:
            print(registry.bibtex(paper))
        return
    for entry in registry.entries():
        name = f"{entry.paper} (= {entry.address})" if entry.is_main else entry.address
        console.print(f"{name}", style="bold", markup=False)
        console.print(f"  {entry.task}, {entry.dataset}. {entry.summary}", markup=False)
    for fusion in registry.fusions():
        name = f"{fusion.paper} (= {fusion.address})" if fusion.is_main else fusion.address
        console.print(f"{name}", style="bold", markup=False)
        about = f"fusion ({fusion.learner}) of {', '.join(fusion.members)}"
        console.print(f"  {about}. {fusion.summary}".rstrip(". ") + ".", markup=False)


def datasets() -> None:
    """List all data sets."""
    for name in data.readers():
        module = data.reader(name)
        console.print(name, style="bold", markup=False)
        layout = getattr(module, "LAYOUT", "embedded: made on first use")
        console.print(textwrap.indent(f"{module.TASK}\n{layout}", "  "), markup=False)


def find(name: str, storage: str) -> RunDir:
    """The run of this folder or name. Raises UserError where there is none."""
    candidates = [Path(name).expanduser(), Path(storage).expanduser() / name]
    for path in candidates:
        if (path / "plan.json").exists():
            return RunDir(path.resolve())
    raise UserError(
        f"no run '{name}': neither {candidates[0]} nor {candidates[1]} has a plan.json."
    )


def print_plan(plan: Plan) -> None:
    """The resolved plan in words."""
    r = plan.resources
    workers = f" in {r.workers} workers, each" if r.workers > 1 else ""
    lines = [
        ("run", plan.name),
        ("system", plan.system),
        ("data", f"{plan.dataset} {plan.data or '(embedded)'}  fingerprint {plan.fingerprint}"),
        *((f"  {part}", f"{about['clips']} clips, labels: {about['labels']}")
          for part, about in plan.parts.items()),
        *(("  note", note) for note in plan.notes),
        *(("  left out", f"{path} {why}") for path, why in plan.skipped),
        ("splits", f"{plan.splits['protocol']}: {len(plan.splits['folds'])} fold(s)"
                   f" {plan.splits['folds']}, the search scores {plan.splits['searched']}"),
        ("protocol", plan.protocol),
        ("metric", f"{plan.metric} ({plan.mode})"),
        ("budget", f"{plan.budget.text}; scaled: " + (
            ", ".join(f"{k} {_short(a)} -> {_short(b)}" for k, (a, b) in plan.scaled.items())
            or "nothing")),
        ("trials" if plan.purpose == "search" else "trainings",
         f"{plan.trials}, {r.concurrency} at once, each{workers} {r.cpus} CPU core(s) and "
         f"{r.gpus:g} GPU{', mixed precision (bfloat16)' if plan.mixed_precision else ''}"),
        ("stopping", "none" if plan.halving is None else
            f"halving from epoch {plan.halving.min_step}, factor {plan.halving.reduction_factor}"),
        ("seed", str(plan.seed)),
        *_search_lines(plan),
    ]  # fmt: skip
    for name, value in lines:
        console.print(f"{name:<28} {value}".rstrip(), markup=False)


def _search_lines(plan: Plan) -> list[tuple[str, str]]:
    if plan.purpose == "train":
        return []
    if plan.purpose == "stack":
        return _stack_lines(plan)
    share = f", the search at most {plan.search_share:.0%} of it"
    budget = "none" if plan.time_budget is None else f"{_time(plan.time_budget)}{share}"
    moved = f", moved into the space: {plan.moved}" if plan.moved else ""
    return [
        ("time budget", budget),
        ("stage two", f"{', '.join(plan.stack) or 'none'} over the best {plan.top_k}"),
        *_manner_lines(plan),
        ("space", ""),
        *((f"  {p.key}", p.text()) for p in plan.space),
        ("first trial", f"the published point{moved}"),
    ]


def _manner_lines(plan: Plan) -> list[tuple[str, str]]:
    by_fold = ", a meta-learner for each fold" if plan.by_fold else ""
    return [("  test part by", f"{plan.final}{by_fold}")]


def _stack_lines(plan: Plan) -> list[tuple[str, str]]:
    return [
        ("stage two", ", ".join(plan.stack) or "none"),
        *_manner_lines(plan),
        ("members", str(len(plan.members))),
        *((f"  {ref.system}", f"{Path(ref.run).name} trial {ref.trial}") for ref in plan.members),
    ]


def _print_estimate(plan: Plan, dataset: Dataset, splits: Splits) -> None:
    """The first configuration, and what the run would take."""
    from orchestrator.planning.estimate import estimate

    console.print("first configuration", markup=False)
    for key, value in configs.flatten(plan.trial_config(plan.first_trial)).items():
        console.print(f"  {key:<26} {_short(value)}", markup=False)
    found = estimate(plan, dataset, splits)
    if found is None:
        return
    lines = [
        ("estimated on", f"{found.device}: {found.step:.2f} s a step, one batch timed"),
        ("  one training", _time(found.training)),
        ("  waveform store", _time(found.store)),
        ("  search", f"about {_time(found.search[0])}, at most {_time(found.search[1])}"),
        ("  whole run", f"about {_time(found.whole[0])}, at most {_time(found.whole[1])}"),
        ("  memory of one trial", size(found.memory)),
        ("  disk", f"{size(found.store_bytes)} store, {size(found.run_bytes)} run"),
    ]
    for name, value in lines:
        console.print(f"{name:<28} {value}", markup=False)


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes in words."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if count >= 10 or unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def _short(value: Any) -> str:
    return f"{len(value)} values" if isinstance(value, list | tuple) else str(value)


@contextlib.contextmanager
def _full_disk_is_told(folder: RunDir) -> Iterator[None]:
    """Turn a full disk into one message, wherever in a run it is met."""
    try:
        yield
    except OSError as error:
        full = disk_is_full(error, folder.path)
        raise UserError(full) if full else error from error


def _go(folder: RunDir, plan: Plan, dataset: Dataset, splits: Splits) -> int:
    from orchestrator.console.interrupts import Stop
    from orchestrator.pipeline.way import run_job

    finished = run_job(folder, plan, dataset, splits, Stop().install())
    console.print(f"results: {folder.results}", markup=False)
    console.print(f"report:  {folder.report / 'index.html'}", markup=False)
    if not finished:
        console.print(f"go on with: soundsweep run --resume {folder.path}", markup=False)
        return RESUMABLE
    _print_outcome(read_json(folder.results))
    return 0


def _print_outcome(results: dict[str, Any]) -> None:
    for row in results["test"]["rows"]:
        values = "  ".join(
            f"{name} {s['value']:.3f} [{s['low']:.3f}, {s['high']:.3f}]"
            for name, s in row["metrics"].items()
        )
        who = row["who"] + (f", {row['variant']}" if row["variant"] else "")
        console.print(f"test  {who:<44} {values}", markup=False)


def options_of(given: dict[str, Any]) -> Options:
    """The plan's options from those of the command line."""
    trials = given.get("trials")
    return Options(**{**given, "trials": None if trials is None else _count(trials)})


def _count(trials: str) -> int:
    if not trials.isdigit():
        raise UserError(f"--trials takes a number (with --resume also +N), not '{trials}'.")
    return int(trials)


def root_of(storage: str) -> Path:
    """The storage root as an absolute path."""
    return Path(storage).expanduser().resolve()


def _check_ray(address: str | None) -> None:
    """Whether anything listens there: Ray itself tries for half a minute and then says little."""
    if address in (None, "auto", "local"):
        return
    host, _, port = str(address).removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--ray-address takes HOST:PORT, auto or local, not '{address}'.")
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except OSError as error:
        raise UserError(
            f"--ray-address {address}: nothing answers there ({error.strerror or error}). Is the "
            "head node up, and is this its GCS port (6379 unless told otherwise)?"
        ) from error


def writable(root: Path) -> None:
    """Make the storage root. Raises UserError where that cannot be, or nothing can be written."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the storage root {root} cannot be made: {error.strerror}.") from error
    if not os.access(root, os.W_OK):
        raise UserError(f"no permission to write in the storage root {root}.")
