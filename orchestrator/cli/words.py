"""Plans, estimates and outcomes as lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.report.tables import is_same
from orchestrator.runs.files import read_json
from orchestrator.runs.rundir import RunDir
from systems import config as configs
from systems.config import short

if TYPE_CHECKING:  # a command that only lists loads neither
    from orchestrator.plan.plan import Plan
    from orchestrator.planning.estimate import Estimate

MOST, LONGEST = 50, 40  # classes that a plan names, and letters of each


def plan_lines(plan: Plan) -> list[str]:
    """The resolved plan in words."""
    r = plan.resources
    workers = f" in {r.workers} workers, each" if r.workers > 1 else ""
    lines = [
        ("run", plan.name),
        ("system", plan.system),
        ("data", f"{plan.dataset} {plan.data or '(embedded)'}  fingerprint {plan.fingerprint}"),
        *((f"  {part}", f"{about['clips']} clips, labels: {about['labels']}")
          for part, about in plan.parts.items()),
        ("  classes", _named(plan.classes)),
        *(("  note", note) for note in plan.notes),
        *(("  left out", f"{path} {why}") for path, why in plan.skipped),
        ("splits", f"{plan.splits['protocol']}: {len(plan.splits['folds'])} fold(s)"
                   f" {plan.splits['folds']}, the search scores {plan.splits['searched']}"),
        *(("  metrics of clips with", f"{column} {' or '.join(map(str, values))}")
          for column, values in plan.splits.get("judged", {}).items()),
        *(("  hidden labels of", f"{column} {' or '.join(map(str, values))}: they train without")
          for column, values in plan.splits.get("hides", {}).items()),
        ("protocol", plan.protocol),
        ("metric", f"{plan.metric} ({plan.mode})"),
        ("budget", f"{plan.budget.text}; scaled: " + (
            ", ".join(f"{k} {short(a)} -> {short(b)}" for k, (a, b) in plan.scaled.items())
            or "nothing")),
        ("trials" if plan.purpose == "search" else "trainings",
         f"{plan.trials}, {r.concurrency} at once, each{workers} {r.cpus} CPU core(s) and "
         f"{r.gpus:g} GPU{', mixed precision (bfloat16)' if plan.mixed_precision else ''}"),
        ("  on", plan.place),
        ("stopping", "none" if plan.halving is None else
            f"halving from epoch {plan.halving.min_step}, factor {plan.halving.reduction_factor}"),
        ("seed", str(plan.seed)),
        *_search_lines(plan),
    ]  # fmt: skip
    return [f"{name:<28} {value}".rstrip() for name, value in lines]


def _named(classes: Sequence[str]) -> str:
    """How many classes there are, and the names of the first."""
    names = [name if len(name) <= LONGEST else f"{name[:LONGEST]}..." for name in classes[:MOST]]
    more = f", and {len(classes) - MOST} more" if len(classes) > MOST else ""
    return f"{len(classes)}: {', '.join(names)}{more}"


def _search_lines(plan: Plan) -> list[tuple[str, str]]:
    if plan.purpose == "train":
        return []
    if plan.purpose == "stack":
        return _stack_lines(plan)
    stage = plan.stage
    share = f", the search at most {plan.search_share:.0%} of it"
    budget = "none" if plan.time_budget is None else f"{duration(plan.time_budget)}{share}"
    moved = f", moved into the space: {plan.moved}" if plan.moved else ""
    return [
        ("time budget", budget),
        (
            "stage two",
            f"{', '.join(stage.learners) or 'none'} over the best {stage.top_k}",
        ),
        *_manner_lines(plan),
        ("searched by", _sampler_words(plan)),
        ("space", ""),
        *((f"  {p.key}", p.text()) for p in plan.space),
        ("first trial", f"the published point{moved}"),
    ]


def _sampler_words(plan: Plan) -> str:
    if plan.sampler.kind == "tpe":
        return "tpe"
    return f"evolution, at most {plan.sampler.limit} genomes in its population"


def _manner_lines(plan: Plan) -> list[tuple[str, str]]:
    by_fold = ", a meta-learner for each fold" if plan.stage.by_fold else ""
    return [("  test part by", f"{plan.stage.final}{by_fold}")]


def _stack_lines(plan: Plan) -> list[tuple[str, str]]:
    return [
        ("stage two", ", ".join(plan.stage.learners) or "none"),
        *_manner_lines(plan),
        ("members", str(len(plan.members))),
        *((f"  {ref.system}", f"{Path(ref.run).name} trial {ref.trial}") for ref in plan.members),
    ]


def config_lines(plan: Plan) -> list[str]:
    """The first trial's configuration, a line a key."""
    first = configs.flatten(plan.trial_config(plan.first_trial))
    return [f"  {key:<26} {short(value)}" for key, value in first.items()]


def estimate_lines(found: Estimate) -> list[str]:
    """What a run would take."""
    lines = [
        ("estimated on", f"{found.device}: {found.step:.2f} s a step, one batch timed"),
        ("  one training", duration(found.training)),
        ("  waveform store", duration(found.store)),
        (
            "  search",
            f"about {duration(found.search[0])}, at most {duration(found.search[1])}",
        ),
        (
            "  whole run",
            f"about {duration(found.whole[0])}, at most {duration(found.whole[1])}",
        ),
        ("  memory of one trial", size(found.memory)),
        ("  disk", f"{size(found.store_bytes)} store, {size(found.run_bytes)} run"),
    ]
    return [f"{name:<28} {value}" for name, value in lines]


def outcome_lines(results: dict[str, Any]) -> list[str]:
    """The scores of the test parts, a line a model and part; of a run without test labels those out
    of fold (or, as a paper did it, on the clips that were fitted), and where the files for the
    organisers are."""
    test = results["test"]
    if not test:
        return []
    lines = [
        f"{'test' if part is test else part['part']}  {_who(row):<44} {_scores(row['metrics'])}"
        for part in (test, *test.get("further", ()))
        for row in part["rows"]
    ]
    if not test["rows"]:
        metric = results["run"]["metric"]
        rows = [(f"trial {m['trial']}", metric, m) for m in results["members"]]
        rows += [(one["title"], one["metric"], one) for one in results["stack"]]
        of = "fitted     " if is_same(results) else "out of fold"
        lines += [f"{of}  {who:<37} {_scores({name: one['out_of_fold']})}"
                  for who, name, one in rows]  # fmt: skip
    lines += [f"submission of {_who(row)}: {row['file'] or 'the data set writes none'}"
              for row in test.get("submissions", ())]  # fmt: skip
    return lines


def ending_lines(run: RunDir, finished: bool) -> list[str]:
    """Where results and report of a run lie, and its scores or how to go on."""
    lines = [f"results: {run.results}", f"report:  {run.report / 'index.html'}"]
    if finished:
        return lines + outcome_lines(read_json(run.results))
    return [*lines, f"go on with: soundsweep run --resume {run.address}"]


def _who(row: Mapping[str, Any]) -> str:
    return f"{row['who']}, {row['variant']}" if row["variant"] else str(row["who"])


def _scores(metrics: Mapping[str, Any]) -> str:
    return "  ".join(f"{name} {s['value']:z.3f}{_bounds(s)}" for name, s in metrics.items())


def _bounds(score: Mapping[str, Any]) -> str:
    """An interval; of a single group of clips there is none."""
    return "" if score["low"] is None else f" [{score['low']:z.3f}, {score['high']:z.3f}]"


def duration(seconds: float) -> str:
    """A duration in words."""
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
