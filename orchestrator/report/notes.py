"""Sentences: the outcome, what is missing, and what a reader must know before comparing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.tables import (
    Row,
    best_trial,
    direction,
    is_stack,
    is_training,
    over_seeds,
    scored_rows,
    shown_row,
)
from orchestrator.report.words import (
    count,
    duration,
    interval,
    metric_name,
    number,
    setting,
    signed_interval,
)
from orchestrator.stacking.judging import LEVEL
from systems.metrics.intervals import DRAWS

BEATS = "beats the best member"
OUT_OF_TIME = "time budget"  # the cause of a trial that the end of the time budget stopped


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
        f"Trial {best['number']} has the best validation "
        f"{metric_name(results['run']['metric'])} of {count(done, 'completed trial')}: "
        f"{_value(best)}{' (the published point)' if best['published'] else ''}."
    )
    return f"{first} {_test_outcome(results)} {_stack_outcome(results)}"


def _members_outcome(results: Mapping[str, Any]) -> str:
    """A stack over several runs: its members, and how the first did on the test part."""
    members, metric = results["members"], metric_name(results["run"]["metric"])
    if not members:
        return "The members are not complete yet."
    best = max(members, key=lambda m: direction(results) * m["selected_value"])
    runs = {str(member["trial"]).split("/")[0] for member in members}
    fusion = results["run"].get("fusion")
    return (
        f"{f'The fusion {fusion}' if fusion else 'Stage two'} over {count(len(members), 'trial')} "
        f"of {count(len(runs), 'run')}. The best single one, {best['system']} {best['trial']}, has "
        f"{metric} {interval(best['out_of_fold'])} out of fold. {_test_outcome(results)}"
    )


def _value(trial: Row) -> str:
    low, high = trial["interval"] or (None, None)
    return interval({"value": trial["value"], "low": low, "high": high})


def _training_outcome(results: Mapping[str, Any], best: Row) -> str:
    metric = metric_name(results["run"]["metric"])
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
        return "The test part has not been scored."
    part = f"On the {test['part']} part ({count(test['clips'], 'clip')})"
    means = [m for m in over_seeds(results) if m["variant"] == row["variant"]]
    variant = f" ({row['variant']})" if row["variant"] else ""
    if means and means[0]["trainings"] > 1:
        texts = [f"{metric_name(m['metric'])} {mean_and_sd(m)}" for m in means]
        who = f"mean ± standard deviation over {means[0]['trainings']} seeds{variant}"
        return f"{part}, {who}: {', '.join(texts)}."
    return f"{part}, {row['who']}{variant}: {_scores(row)}."


def mean_and_sd(row: Row) -> str:
    """``0.712 ± 0.013``, or the mean alone of one training."""
    return number(row["mean"]) + (f" ± {number(row['sd'])}" if row["sd"] is not None else "")


def _scores(row: Row) -> str:
    return ", ".join(f"{metric_name(n)} {interval(score)}" for n, score in row["metrics"].items())


def _stack_outcome(results: Mapping[str, Any]) -> str:
    learners = results["stack"]
    if not learners:
        return "No meta-learner has been fitted."
    better = [x for x in learners if verdict(x, results) == BEATS]
    if better:
        text = "; ".join(_margin(x, results) for x in better)
        return f"Stage two beats the best single trial out of fold: {text}."
    if all(x.get("fitted_on", "out_of_fold") != "out_of_fold" for x in learners):
        return "The fusion was fitted where the paper fitted it: its figures are no estimates."
    what = (
        "the meta-learner is not" if len(learners) == 1 else f"none of {len(learners)} fusions is"
    )
    return (
        f"No fusion beats the best single trial: out of fold, {what} significantly better"
        f"{' (Holm-corrected)' if len(learners) > 1 else ''}."
    )


def _margin(learner: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """By how much a learner beats the best member, and what it has on the test part."""
    text = f"{learner['title']} by {signed_interval(learner['versus_best'])}"
    if learner.get("by_fusing"):
        text += (
            f", and by {signed_interval(learner['by_fusing'])} over the same on the best member "
            "alone"
        )
    rows = [row for row in scored_rows(results) if row["learner"] == learner["name"]]
    return text + (f" (on the test part: {_scores(rows[0])})" if rows else "")


def verdict(learner: Mapping[str, Any], results: Mapping[str, Any]) -> str:
    """Whether a learner's gain is claimed: its p, corrected for all that were compared, is small.

    Results without that (of earlier versions) are judged by the interval of the difference.
    """
    if learner.get("fitted_on", "out_of_fold") != "out_of_fold":
        return f"no estimate: fitted on the {learner['fitted_on']} rows, as the paper did"
    difference, sign = learner["versus_best"], direction(results)
    worst, best = sorted((sign * difference["low"], sign * difference["high"]))
    compared = learner.get("compared")
    if compared["claims"] if compared else worst > 0:
        return BEATS
    if best < 0:
        return "does not beat the best member; it is worse"
    return "does not beat the best member"


def ranked_learners(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The meta-learners, by their metric and in it best first."""
    sign = -direction(results)
    return sorted(
        results["stack"],
        key=lambda x: (str(x.get("metric")), sign * (x["out_of_fold"]["value"] or 0.0)),
    )


def comparison_in_words(results: Mapping[str, Any]) -> str:
    """How the gains were judged."""
    compared = [x for x in results["stack"] if x.get("compared")]
    if not compared:
        return (
            "A meta-learner beats it where the 95 % interval of the difference lies on the better "
            "side of 0; there is no correction for trying several."
        )
    among = max(x["compared"].get("among", 0) for x in compared) or len(compared)
    unseen = among - len(compared)
    hopeless = (
        f" So many cannot be told from chance by {DRAWS} draws: no p can stand the correction."
        if among / (1 + DRAWS) >= LEVEL
        else ""
    )
    earlier = f" ({unseen} of them of learners that are not in this table)" if unseen > 0 else ""
    return (
        f"p is the share of bootstrap draws over clips in which a meta-learner is not better; "
        f"{count(among, 'comparison')}{earlier} corrected by Holm's method. A gain is claimed "
        f"where the corrected p is below {LEVEL}.{hopeless} The one-tailed z-test of two "
        f"proportions is a second opinion that knows nothing of the pairing."
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


def notes(results: Mapping[str, Any]) -> list[str]:
    """What a reader must know before comparing any figure."""
    found = [_skipped_note, _budget_note, _set_note, _moved_note, _time_note, _selection_note,
             _interval_note, _opening_note, _protocol_note, _transductive_note]  # fmt: skip
    texts = [_data_note(results), *results["run"].get("notes", [])]
    texts += [note(results) for note in found]
    return [text for text in texts if text]


def _skipped_note(results: Mapping[str, Any]) -> str:
    skipped = results["run"].get("skipped", [])
    if not skipped:
        return ""
    return (
        f"{count(len(skipped), 'broken clip')} of the data left out, as --skip-broken asks, and in "
        "no figure; the list is below."
    )


def _time_note(results: Mapping[str, Any]) -> str:
    run, trials = results["run"], results["trials"]
    budget = run.get("time_budget")
    if budget is None:
        return ""
    text = f"The run had a time budget of {duration(budget)}"
    ended = sum(trial["cause"] == OUT_OF_TIME for trial in trials)
    if not ended and (len(trials) >= run["trials"] or not results["members"]):
        return f"{text}; the search has not been cut by it."
    return (
        f"{text}, and the search ended by it: {len(trials)} of {run['trials']} planned trials were "
        f"started, {ended} of them stopped before their end."
    )


def _protocol_note(results: Mapping[str, Any]) -> str:
    if results["run"].get("protocol", "honest") != "paper":
        return ""
    did = []
    if any(row["transductive"] for row in scored_rows(results)):
        did.append("decision variants that adapt on the sound of the very clips that they are "
                   "scored on were run as the paper runs them")  # fmt: skip
    where = results["run"].get("fitted_on", "out_of_fold")
    if where != "out_of_fold":
        rows = {"validation": "rows that they are scored on", "test": "labels of the test part"}
        did.append(f"meta-learners were fitted on the {rows[where]}, as the paper did")
    told = f": {'; '.join(did)}" if did else ", which differs in nothing here"
    return (
        f"The run followed the paper's protocol, not the honest one{told}. The test ledger marks "
        "this opening of the labels with the protocol “paper”. The honest protocol uses nothing of "
        "the test part before it is scored."
    )


def _data_note(results: Mapping[str, Any]) -> str:
    run = results["run"]
    if run["dataset"] == run["published_dataset"]:
        other = other_clips(run)
        if not other:
            return f"The data set is the paper's, {run['dataset']}."
        return (
            f"The data set has the layout of the paper's, {run['dataset']}, but not its clips: "
            f"{other}. The more they differ, the less do the paper's figures say of this run's."
        )
    return (
        f"The data set is not the paper's. This run used {run['dataset']}; the paper's figures are "
        f"on {run['published_dataset']}. They cannot confirm or contradict each other."
    )


def other_clips(run: Mapping[str, Any]) -> str:
    """The parts whose number of clips is not the paper's, in words."""
    parts = run.get("parts", {})
    pairs = {
        part: (parts.get(part, {}).get("clips", 0), theirs)
        for part, theirs in run.get("published_clips", {}).items()
    }
    return ", ".join(
        f"{part} {ours:,} (paper: {theirs:,})"
        for part, (ours, theirs) in pairs.items()
        if ours != theirs
    )


def several_runs(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of a stack over several runs what each of them changed; else nothing."""
    runs: list[Mapping[str, Any]] = results["run"].get("member_runs", [])
    return runs if len(runs) > 1 else []


def _of_each_run(runs: Sequence[Mapping[str, Any]]) -> str:
    texts = []
    for one in runs:
        changed = [
            f"{count(len(one[key]), 'value')} {how}"
            for key, how in (("scaled", f"by its budget ({one['budget']})"),
                             ("set", "by hand"), ("moved", "into the searched range"))
            if one[key]
        ]  # fmt: skip
        what = f"changed {', '.join(changed)}" if changed else "has the published values"
        texts.append(f"{one['name']} ({one['system']}) {what}")
    return f"Of the members' runs {'; '.join(texts)}. Their own reports list them."


def _budget_note(results: Mapping[str, Any]) -> str:
    run = results["run"]
    if several := several_runs(results):
        return _of_each_run(several)
    if not run["scaled"]:
        return f"The budget ({run['budget']}) leaves the published schedule and sizes as they are."
    return (
        f"The budget ({run['budget']}) changed {count(len(run['scaled']), 'published value')}; "
        f"the table below lists them. They hold for {_every_trial(results)}."
    )


def _set_note(results: Mapping[str, Any]) -> str:
    fixed = results["run"].get("set", {})
    if not fixed or several_runs(results):
        return ""
    texts = [
        f"{key} = {setting(ours)} (paper: {setting(theirs)})"
        for key, (theirs, ours) in sorted(fixed.items())
    ]
    return f"Fixed by hand for {_every_trial(results)}: {', '.join(texts)}."


def _every_trial(results: Mapping[str, Any]) -> str:
    every = "every trial, the published point included"
    return "every training" if is_training(results) else every


def _moved_note(results: Mapping[str, Any]) -> str:
    moved = results["run"]["moved"]
    if not moved:
        return ""
    trials = results["trials"]
    published: Row = next((trial["params"] for trial in trials if trial["published"]), {})
    texts = [
        f"{key} = {setting(value)} in the paper"
        + (f", {setting(published[key])} here" if key in published else "")
        for key, value in moved.items()
    ]
    lies = "value lies" if len(moved) == 1 else "values lie"
    return (
        f"{len(moved)} published {lies} outside the searched range, so the trial that stands for "
        f"the published point uses the nearest value inside: {'; '.join(texts)}."
    )


def _selection_note(results: Mapping[str, Any]) -> str:
    if is_training(results):
        return (
            "Validation figures are selection-biased: each training is scored at its best epoch, "
            "chosen on the rows that it is scored on. The test part is free of that choice."
        )
    whose = "members' values used for selection" if is_stack(results) else "leaderboard's figures"
    return (
        f"The {whose} are selection-biased: each trial is scored at its best epoch, "
        "chosen on the rows that it is scored on, and the best trial is the best of many. Expect "
        "lower values on new data. The members' out-of-fold figures are free of the choice of "
        "epoch, not of the choice of trial; only the test part is free of both."
    )


def _interval_note(results: Mapping[str, Any]) -> str:
    if any(row["trainings"] > 1 for row in over_seeds(results)):
        return (
            "Intervals in brackets are 95 % bootstrap intervals over clips and hold for one "
            "trained model; figures with ± are the standard deviation over seeds."
        )
    return (
        "Intervals are 95 % bootstrap intervals over clips. They hold for the trained model as it "
        "is; how much another training with another seed would differ is not in them."
    )


def _opening_note(results: Mapping[str, Any]) -> str:
    test = results["test"]
    if not test:
        return "The labels of the test part have not been opened by this run."
    n = test["openings"]
    times = "once" if n == 1 else f"{n} times"
    text = f"The labels of the {test['part']} part have been opened {times}."
    if n > 1:
        text += " Decisions made after an earlier opening may have been fitted to these labels."
    return text


def _transductive_note(results: Mapping[str, Any]) -> str:
    if not any(row["transductive"] for row in scored_rows(results)):
        return ""
    return (
        "Rows marked transductive adapted on the sound of the test clips (without their labels). "
        "They are not comparable with rows that did not."
    )


def _whose_figures(results: Mapping[str, Any]) -> str:
    """Of a stack over systems of several papers: which paper the table is of."""
    papers = dict.fromkeys(one["system"].split("/")[0] for one in several_runs(results))
    if len(papers) < 2 or results["run"].get("fusion"):
        return ""
    shown = results["run"]["system"].split("/")[0]
    return f"The table is of {shown} alone; the members' own reports hold the others. "


def paper_conditions(results: Mapping[str, Any]) -> str:
    """Under what conditions the paper's figures and ours stand side by side."""
    run = results["run"]
    differs = []
    if run["dataset"] != run["published_dataset"]:
        differs.append(f"the data set ({run['dataset']}, not {run['published_dataset']})")
    elif other := other_clips(run):
        differs.append(f"the clips of the data set ({other})")
    if several := several_runs(results):
        if any(one["scaled"] or one["set"] for one in several):
            differs.append("what the members' runs changed (told under Notes)")
    else:
        if run["scaled"]:
            differs.append(f"the budget ({run['budget']}; scaled values are listed under Notes)")
        if run.get("set"):
            differs.append("values fixed by hand (listed under Notes)")
    whose = _whose_figures(results)
    if not differs:
        return f"{whose}Data set and budget are the paper's."
    return (
        f"{whose}Not the paper's conditions: {' and '.join(differs)} "
        f"differ{'s' * (len(differs) == 1)}. A difference here is no evidence for or against the "
        "paper's figures."
    )
