"""What came out, in sentences: best trial, test part, meta-learners, and what is still missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.tables import (
    Row,
    best_trial,
    direction,
    is_same,
    is_stack,
    is_training,
    over_seeds,
    scored_rows,
    shown_row,
)
from orchestrator.report.words import (
    count,
    interval,
    lower_is_better,
    metric_name,
    number,
    ranked_by,
    signed_interval,
)


def outcome(results: Mapping[str, Any]) -> str:
    """One short paragraph: best trial, its refit on the test part, the meta-learners."""
    if is_stack(results):
        return f"{_members_outcome(results)} {_stack_outcome(results)}"
    best = best_trial(results)
    if best is None:
        return "No trial has completed yet, so there is no result to report."
    if is_training(results):
        return f"{_training_outcome(results, best)} {_test_outcome(results)}"
    done = sum(trial["state"] == "complete" for trial in results["trials"])
    first = (
        f"Trial {best['number']} has the best validation {ranked_by(results)} of "
        f"{count(done, 'completed trial')}: {_worth(results, best)}"
        f"{' (the published point)' if best['published'] else ''}."
    )
    return f"{first} {_test_outcome(results)} {_stack_outcome(results)}"


def _members_outcome(results: Mapping[str, Any]) -> str:
    """A stack over several runs: its members, and how the first did on the test part."""
    members, metric = results["members"], metric_name(results, results["run"]["metric"])
    if not members:
        return "The members are not complete yet."
    best = max(members, key=lambda m: direction(results) * m["selected_value"])
    runs = {str(member["trial"]).split("/")[0] for member in members}
    fusion = results["run"]["fusion"]
    return (
        f"{f'The fusion {fusion}' if fusion else 'Stage two'} over {count(len(members), 'trial')} "
        f"of {count(len(runs), 'run')}. The best single one, {best['system']} {best['trial']}, has "
        f"{metric} {interval(best['out_of_fold'])} out of fold. {_test_outcome(results)}"
    )


def _value(trial: Row) -> str:
    low, high = trial["interval"] or (None, None)
    return interval({"value": trial["value"], "low": low, "high": high})


def _worth(results: Mapping[str, Any], trial: Row) -> str:
    if not results["run"].get("objective"):
        return _value(trial)
    metric = metric_name(results, results["run"]["metric"])
    return f"{number(trial['score'])}, with {metric} {_value(trial)}"


def _training_outcome(results: Mapping[str, Any], best: Row) -> str:
    metric = metric_name(results, results["run"]["metric"])
    values = [_value(t) for t in results["trials"] if t["state"] == "complete"]
    if len(values) == 1:
        return f"One training of one configuration: validation {metric} {_value(best)}."
    return (
        f"{len(values)} trainings of one configuration, each with a seed of its own: "
        f"validation {metric} {'; '.join(values)}."
    )


def _test_outcome(results: Mapping[str, Any]) -> str:
    row, test = shown_row(results), results["test"]
    if row is None:
        return _out_of_fold(results) if test else "The test part has not been scored."
    part = f"On the {test['part']} part ({count(test['clips'], 'clip')})"
    means = [m for m in over_seeds(results) if m["variant"] == row["variant"]]
    variant = f" ({row['variant']})" if row["variant"] else ""
    if means and means[0]["trainings"] > 1:
        texts = [f"{metric_name(results, m['metric'])} {mean_and_sd(m)}" for m in means]
        who = f"mean ± standard deviation over {means[0]['trainings']} seeds{variant}"
        return f"{part}, {who}: {', '.join(texts)}."
    return f"{part}, {row['who']}{variant}: {_scores(results, row)}."


def _out_of_fold(results: Mapping[str, Any]) -> str:
    """The result of a run that has no test labels: what was predicted out of fold."""
    metric = metric_name(results, results["run"]["metric"])
    best = results["members"][0] if results["members"] else None
    value = "" if best is None else f" of trial {best['trial']}: {interval(best['out_of_fold'])}"
    test = results["test"]
    if test["part"] is None:
        rows = "fitted" if is_same(results) else "out-of-fold"
        return f"The data has no test part: the result is the {rows} {metric}{value}."
    files = [row["file"] for row in test["submissions"] if row["file"]]
    where = f"submission files are {', '.join(files)}" if files else "no submission file is written"
    return (
        f"The labels of the {test['part']} part are withheld: {where}. The result is the "
        f"out-of-fold {metric}{value}."
    )


def mean_and_sd(row: Row) -> str:
    """``0.712 ± 0.013``, or the mean alone of one training."""
    return number(row["mean"]) + (f" ± {number(row['sd'])}" if row["sd"] is not None else "")


def _scores(results: Mapping[str, Any], row: Row) -> str:
    metrics = row["metrics"].items()
    return ", ".join(f"{metric_name(results, name)} {interval(score)}" for name, score in metrics)


def _stack_outcome(results: Mapping[str, Any]) -> str:
    learners = results["stack"]
    if not learners:
        return "No meta-learner has been fitted."
    better = [x for x in learners if x["verdict"] == "beats"]
    if better:
        text = "; ".join(_margin(x, results) for x in better)
        return f"Stage two beats the best single trial out of fold: {text}."
    if all(x["verdict"] == "no_estimate" for x in learners):
        return "The fusion was fitted where the paper fitted it: its figures are no estimates."
    what = (
        "the meta-learner is not" if len(learners) == 1 else f"none of {len(learners)} fusions is"
    )
    return (
        f"No fusion beats the best single trial: out of fold, {what} significantly better"
        f"{' (Holm-corrected)' if len(learners) > 1 else ''}.{_what_is_no_fusing(learners)}"
    )


def _what_is_no_fusing(learners: Sequence[Mapping[str, Any]]) -> str:
    """Gains that are no fusion's, and learners that hear nothing for sure."""
    alone = [f"{x['title']} by {signed_interval(x['versus_best'])}" for x in learners
             if x["verdict"] == "alone"]  # fmt: skip
    text = f" Better without fusing, which one member alone gives too: {'; '.join(alone)}." * bool(
        alone
    )
    none = [x for x in learners if x["verdict"] == "trivial"]
    if none and len(none) == len(learners):
        text += f" None is surely better than {none[0]['trivial']}, which hears nothing."
    return text


def _margin(learner: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """By how much a learner beats the best member, and what it has on the test part."""
    text = f"{learner['title']} by {signed_interval(learner['versus_best'])}"
    if learner["by_fusing"]:
        text += (
            f", and by {signed_interval(learner['by_fusing'])} over the same on the best member "
            "alone"
        )
    rows = [row for row in scored_rows(results) if row["learner"] == learner["name"]]
    return text + (f" (on the test part: {_scores(results, rows[0])})" if rows else "")


def ranked_learners(results: Mapping[str, Any]) -> list[Row]:
    """The meta-learners, by their metric and in it best first."""

    def place(learner: Row) -> tuple[str, float]:
        sign = 1 if lower_is_better(results, learner["metric"]) else -1
        return learner["metric"], sign * (learner["out_of_fold"]["value"] or 0.0)

    return sorted(results["stack"], key=place)


def comparison_in_words(results: Mapping[str, Any]) -> str:
    """How the gains were judged."""
    compared = [x["compared"] for x in results["stack"] if x["compared"]]
    if not compared:
        return ""
    judging = results["judging"]
    level, draws, rows = judging["level"], judging["draws"], judging["rows"]
    among = max(one["among"] for one in compared)
    unseen = among - len(compared)
    hopeless = (
        f" {draws} draws over {count(rows['groups'], 'group')} cannot tell so much from chance: no "
        "p can stand the correction."
        if rows and among * judging["least_p"] >= level
        else ""
    )
    earlier = f" ({unseen} of them of learners that are not in this table)" if unseen > 0 else ""
    second = (
        " The one-tailed z-test of two proportions is a second opinion that knows nothing of the "
        "pairing."
        if any(one["z_p"] is not None for one in compared)
        else ""
    )
    return (
        "p is the share of bootstrap draws over groups of clips in which a meta-learner is not "
        "better, made larger for few groups (the larger of two where one is by fusing); "
        f"{count(among, 'comparison')}{earlier} corrected by Holm's method. A gain is claimed "
        f"where the corrected p is below {level}.{hopeless}{second}"
    )


def progress(results: Mapping[str, Any]) -> str | None:
    """What is still to come in an unfinished run, or nothing."""
    run, trials = results["run"], results["trials"]
    open_ones = [str(t["number"]) for t in trials if t["state"] == "running"]
    missing = []
    if len(trials) < run["trials"] and not results["members"]:
        missing.append(f"{len(trials)} of {count(run['trials'], 'planned trial')} started")
    if open_ones:
        missing.append(f"not ended: trial {', '.join(open_ones)}")
    if not results["members"]:
        missing.append("no members chosen")
    if not results["test"]:
        missing.append("test part not scored")
    return "; ".join(missing) or None
