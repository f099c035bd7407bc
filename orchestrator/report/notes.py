"""What a reader must know before comparing any figure, in sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.tables import (
    Row,
    direction,
    is_same,
    is_stack,
    is_training,
    over_seeds,
    scored_parts,
    scored_rows,
)
from orchestrator.report.words import count, duration, interval, is_finite, setting

FEW_GROUPS = 20


def notes(results: Mapping[str, Any]) -> list[str]:
    """What a reader must know before comparing any figure."""
    found = [_skipped_note, _budget_note, _set_note, _moved_note, _time_note, _trivial_note,
             _selection_note, _interval_note, _few_note, _rare_note, _opening_note, _protocol_note,
             _transductive_note]  # fmt: skip
    texts = [_data_note(results), *results["run"]["notes"]]
    texts += [note(results) for note in found]
    return [text for text in texts if text]


def _skipped_note(results: Mapping[str, Any]) -> str:
    skipped = results["run"]["skipped"]
    if not skipped:
        return ""
    return (
        f"{count(len(skipped), 'broken clip')} of the data left out, as --skip-broken asks, and in "
        "no figure; the list is below."
    )


def _time_note(results: Mapping[str, Any]) -> str:
    run, trials = results["run"], results["trials"]
    budget = run["time_budget"]
    if budget is None:
        return ""
    text = f"The run had a time budget of {duration(budget)}"
    ended = results["cost"]["out_of_time"]
    if not ended and (len(trials) >= run["trials"] or not results["members"]):
        return f"{text}; the search has not been cut by it."
    return (
        f"{text}, and the search ended by it: {len(trials)} of {run['trials']} planned trials were "
        f"started, {ended} of them stopped before their end."
    )


def _protocol_note(results: Mapping[str, Any]) -> str:
    if results["run"]["protocol"] != "paper":
        return ""
    did = []
    if results["run"].get("split_by"):
        did.append(f"the data was split as the paper did ({results['run']['splits']['protocol']})")
    if any(row["transductive"] for row in scored_rows(results)):
        did.append("decision variants that adapt on the sound of the very clips that they are "
                   "scored on were run as the paper runs them")  # fmt: skip
    where = results["run"]["fitted_on"]
    if where != "out_of_fold":
        rows = {"validation": "rows that they are scored on", "test": "labels of the test part"}
        did.append(f"meta-learners were fitted on the {rows[where]}, as the paper did")
    told = f": {'; '.join(did)}" if did else ", which differs in nothing here"
    if is_same(results):
        told += (
            ". Its figures are of clips that its models were fitted on: they say how well a model "
            "fits these, not how well it would answer others, and no meta-learner is fitted"
        )
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
    parts = run["parts"]
    pairs = {
        part: (parts.get(part, {}).get("clips", 0), theirs)
        for part, theirs in run["published_clips"].items()
    }
    return ", ".join(
        f"{part} {ours:,} (paper: {theirs:,})"
        for part, (ours, theirs) in pairs.items()
        if ours != theirs
    )


def several_runs(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of a stack over several runs what each of them changed; else nothing."""
    runs: list[Mapping[str, Any]] = results["run"]["member_runs"]
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
    fixed = results["run"]["set"]
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


def _trivial_note(results: Mapping[str, Any]) -> str:
    """Whether the best single trial is better than what hears nothing."""
    trivial, members = results.get("trivial"), results["members"]
    if not trivial or not members:
        return ""
    sign = direction(results)
    ends = ("low", "high") if sign > 0 else ("high", "low")
    best = max((one["out_of_fold"] for one in members), key=lambda one: sign * one["value"])
    text = (
        f"Who hears nothing ({trivial['words']}, from the training labels) reaches "
        f"{interval(trivial['out_of_fold'])} on the out-of-fold rows, the best member "
        f"{interval(best)}."
    )
    if sign * best["value"] <= sign * trivial["out_of_fold"]["value"]:
        return f"{text} No member is better: these figures say nothing of what was learnt."
    worst, most = best[ends[0]], trivial["out_of_fold"][ends[1]]
    if not (is_finite(worst) and is_finite(most) and sign * worst > sign * most):
        return f"{text} The two are not surely apart: the members may have learnt nothing."
    return text


def _selection_note(results: Mapping[str, Any]) -> str:
    if is_training(results):
        return (
            "Each clip of the validation part is scored at an epoch that other clips chose. "
            "Figures by epoch, such as the learning curves, are of the clips that choose."
        )
    whose = "members' values used for selection" if is_stack(results) else "leaderboard's figures"
    return (
        f"The {whose} are selection-biased: the best trial is the best of many on the same rows. "
        "Expect lower values on new data. Of a completed trial each row is scored at an epoch that "
        "other rows chose; the values of other trials, and the learning curves, are of the rows "
        "that choose. Only the test part is free of the choice of trial."
    )


def _interval_note(results: Mapping[str, Any]) -> str:
    grouped = any(rows["groups"] < rows["clips"] for _, rows in _scored(results))
    over = "groups of clips (speaker, place, recording: drawn whole)" if grouped else "clips"
    if any(row["trainings"] > 1 for row in over_seeds(results)):
        return (
            f"Intervals in brackets are 95 % bootstrap intervals over {over} and hold for one "
            "trained model; figures with ± are the standard deviation over seeds."
        )
    return (
        f"Intervals are 95 % bootstrap intervals over {over}. They hold for the trained model as "
        "it is; how much another training with another seed would differ is not in them."
    )


def _few_note(results: Mapping[str, Any]) -> str:
    few = [f"{whose}: {count(rows['groups'], what)}" for whose, rows in _scored(results)
           for what in ["group" if rows["groups"] < rows["clips"] else "clip"]
           if rows["groups"] < FEW_GROUPS]  # fmt: skip
    if not few:
        return ""
    return (
        f"Few independent groups of clips are behind the figures ({'; '.join(few)}). The intervals "
        f"are widened for so few, but below {FEW_GROUPS} they remain rough, and of one group there "
        "is none."
    )


def _rare_note(results: Mapping[str, Any]) -> str:
    rare = [f"{whose}: {', '.join(f'{name} ({n})' for name, n in rows['rare'].items())}"
            for whose, rows in _scored(results) if rows["rare"]]  # fmt: skip
    if not rare:
        return ""
    return (
        f"Classes that fewer than ten scored clips have ({'; '.join(rare)}): their values, and "
        "what they add to a mean over classes, are chance to a large part. A class that no clip "
        "has is in no mean."
    )


def _scored(results: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The clips that figures are of: whose they are, and how many, in how many groups."""
    found = [("validation", results["judging"]["rows"])] if results["judging"]["rows"] else []
    return found + [(part["part"], part) for part in scored_parts(results)]


def _opening_note(results: Mapping[str, Any]) -> str:
    test = results["test"]
    if not test:
        return "The labels of the test part have not been opened by this run."
    if not test["openings"]:
        return "This run has no labels of a test part, so none have been opened."
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
    if len(papers) < 2 or results["run"]["fusion"]:
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
        if run["set"]:
            differs.append("values fixed by hand (listed under Notes)")
    whose = _whose_figures(results)
    if not differs:
        return f"{whose}Data set and budget are the paper's."
    none = not any(row["ours"] for row in results["paper"])
    therefore = (
        "No figure of this run stands beside the paper's: the table says why."
        if none
        else "A difference here is no evidence for or against the paper's figures."
    )
    return (
        f"{whose}Not the paper's conditions: {' and '.join(differs)} "
        f"differ{'s' * (len(differs) == 1)}. {therefore}"
    )
