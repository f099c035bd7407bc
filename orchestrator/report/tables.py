"""The report's tables, at full precision, as its CSV files hold them."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from orchestrator.report.words import is_finite, why_not

Row = dict[str, Any]
Table = tuple[list[str], list[Row]]


def tables(results: Mapping[str, Any]) -> dict[str, Table]:
    """The CSV tables by name: columns and rows."""
    return {
        "leaderboard": _with_trivial(leaderboard(results), results),
        "correlations": _correlation_table(results),
        "lineage": _lineage_table(results),
        "stack": _stack_table(results),
        "test": _test_table(results),
        "seeds": _seed_table(results),
        "subsets": _subset_table(results),
        "classes": _class_table(results),
        "class_comparison": _comparison_table(results),
        "paper": _paper_table(results),
        "importance": _importance_table(results),
        "frequency_relevance": _relevance_table(results),
    }


def leaderboard(results: Mapping[str, Any]) -> Table:
    """All trials by value; those without one last. Only completed trials have a rank."""
    trials = ranked(results)
    keys = parameter_keys(results)
    columns = ["rank", "trial", "state", "published", "value", "low", "high", "best_step", "steps",
               "seconds", "attempts", "cause"]  # fmt: skip
    own = ["score"] if results["run"].get("objective") else []
    rank, rows = 0, []
    for trial in trials:
        rank += trial["state"] == "complete"
        low, high = trial["interval"] or (None, None)
        rows.append(
            {key: trial[key] for key in columns[2:5] + columns[7:]}
            | {"rank": rank if trial["state"] == "complete" else None, "trial": trial["number"],
               "low": low, "high": high}
            | {key: trial[key] for key in own}
            | {f"params.{key}": trial["params"].get(key) for key in keys}
        )  # fmt: skip
    return columns + own + [f"params.{key}" for key in keys], rows


def _with_trivial(table: Table, results: Mapping[str, Any]) -> Table:
    """The leaderboard with what one reaches who hears nothing at its top."""
    columns, rows = table
    trivial = results.get("trivial")
    if not trivial:
        return table
    return columns, [{"trial": "trivial", "state": trivial["words"], **trivial["searched"]}, *rows]


def ranked(results: Mapping[str, Any]) -> list[Row]:
    """The trials, best first."""
    sign = direction(results)
    return sorted(
        results["trials"],
        key=lambda t: (not is_finite(worth(t)), -sign * (worth(t) or 0.0), t["number"]),
    )


def worth(trial: Row) -> Any:
    """What a trial is ranked by: its score where the system has an objective of its own."""
    score = trial.get("score")
    return trial["value"] if score is None else score


def _lineage_table(results: Mapping[str, Any]) -> Table:
    """Of an evolution each genome: its generation, parents, own chances, and score."""
    columns = ["trial", "generation", "by", "parents", "score", "state", "crossover", "mutation"]
    rows = [
        {**told, "parents": " ".join(map(str, told["parents"])), "trial": trial["number"],
         "score": worth(trial) if is_completed(trial) else 0.0, "state": trial["state"]}
        for trial in results["trials"] if (told := trial.get("lineage"))
    ]  # fmt: skip
    return columns, rows


def generations(results: Mapping[str, Any]) -> list[Row]:
    """Of an evolution each generation: how many were born, their best and mean score, and the best
    so far; trials that still run are left out."""
    rows = [row for row in _lineage_table(results)[1] if row["state"] != "running"]
    found: list[Row] = []
    for number in sorted({row["generation"] for row in rows}):
        scores = [row["score"] for row in rows if row["generation"] == number]
        best = max(scores, default=0.0)
        so_far = max(best, found[-1]["so_far"]) if found else best
        found.append({"generation": number, "born": len(scores), "best": best,
                      "mean": statistics.fmean(scores), "so_far": so_far})  # fmt: skip
    return found


def is_completed(trial: Row) -> bool:
    """Whether a trial ran to its end and has a value."""
    return trial["state"] == "complete" and is_finite(trial["value"])


def completed(results: Mapping[str, Any]) -> list[Row]:
    """The completed trials, by number."""
    return sorted(filter(is_completed, results["trials"]), key=lambda trial: trial["number"])


def parameter_keys(results: Mapping[str, Any]) -> list[str]:
    """Searched parameters: those of the space in its order, then any other that a trial has."""
    keys = dict.fromkeys(results["run"]["space"])
    for trial in results["trials"]:
        keys |= dict.fromkeys(trial["params"])
    return list(keys)


def _correlation_table(results: Mapping[str, Any]) -> Table:
    rows = [
        {"trial": member["trial"], **one}
        for member in results["members"]
        for one in member.get("correlations", ())
    ]
    return ["trial", "output", "value", "n", "r", "p"], rows


def correlations(results: Mapping[str, Any]) -> tuple[list[str], dict[str, dict[str, Row]]]:
    """Of the first member: what its outputs are set beside, and each one's correlations by it."""
    found: dict[str, dict[str, Row]] = {}
    values: dict[str, None] = {}
    for one in results["members"][0].get("correlations", ()) if results["members"] else ():
        found.setdefault(one["output"], {})[one["value"]] = one
        values[one["value"]] = None
    return list(values), found


def _stack_table(results: Mapping[str, Any]) -> Table:
    columns = ["learner", "title", "members", "value", "low", "high", "difference",
               "difference_low", "difference_high", "p_not_better", "p_holm", "z_p", "claims",
               "by_fusing", "by_fusing_low", "by_fusing_high", "betters_one", "trivial",
               "trivial_low", "trivial_high", "verdict", "seconds"]  # fmt: skip
    trivial = results.get("trivial")
    rows: list[Row] = []
    if trivial and results["stack"]:
        rows = [{"learner": "trivial", "title": trivial["words"], **trivial["out_of_fold"]}]
    for learner in results["stack"]:
        difference, compared = learner["versus_best"], learner["compared"] or {}
        by_fusing, clear = (learner.get(of) or {} for of in ("by_fusing", "versus_trivial"))
        rows.append(
            {"learner": learner["name"], "title": learner["title"], "seconds": learner["seconds"],
             "members": " ".join(map(str, learner["members"])), **learner["out_of_fold"],
             "difference": difference["value"], "difference_low": difference["low"],
             "difference_high": difference["high"], "p_not_better": difference["p_not_better"],
             "by_fusing": by_fusing.get("value"), "by_fusing_low": by_fusing.get("low"),
             "by_fusing_high": by_fusing.get("high"), "betters_one": learner.get("betters_one"),
             "trivial": clear.get("value"), "trivial_low": clear.get("low"),
             "trivial_high": clear.get("high"), "verdict": learner["verdict"],
             **{key: compared.get(key) for key in ("p_holm", "z_p", "claims")}}
        )  # fmt: skip
    return columns, rows


def _test_table(results: Mapping[str, Any]) -> Table:
    scored = [
        {"trivial": False, **row, "part": part["part"]}
        for part in scored_parts(results)
        for row in trivial_first(part["rows"])
    ]
    metrics = names(row["metrics"] for row in scored)
    about = ["part", "who", "trial", "learner", "variant", "best", "trivial", "transductive"]
    columns = about + [name + end for name in metrics for end in ("", "_low", "_high")]
    rows = []
    for row in scored:
        flat = {key: row[key] for key in about}
        for name, score in row["metrics"].items():
            flat |= {name: score["value"], f"{name}_low": score.get("low"),
                     f"{name}_high": score.get("high")}  # fmt: skip
        rows.append(flat)
    return columns, rows


def _class_table(results: Mapping[str, Any]) -> Table:
    scored = scored_rows(results)
    metrics = names(scores for row in scored for scores in row["classes"].values())
    about = ["who", "trial", "learner", "variant", "transductive"]
    columns = [*about, "class", *metrics, "threshold", "median"]
    rows = []
    for row in scored:
        chosen = decoders(row, results["run"]["classes"])
        for name, scores in row["classes"].items():
            threshold, median = chosen.get(name, (None, None))
            rows.append(
                {key: row[key] for key in about}
                | {"class": name, **scores, "threshold": threshold, "median": median}
            )
    return columns, rows


def decoders(row: Row, classes: Sequence[str]) -> dict[str, tuple[float, int]]:
    """Class -> threshold and median width, where the row's decoders were refined."""
    chosen = row["refinement"] or {}
    if "thresholds" not in chosen:  # how windows vote
        return {}
    pairs = zip(chosen["thresholds"], chosen["medians"], strict=True)
    return dict(zip(classes, pairs, strict=True))


def is_stack(results: Mapping[str, Any]) -> bool:
    """Whether the run combines trials of other runs and has none of its own."""
    return bool(results["run"]["purpose"] == "stack")


def is_same(results: Mapping[str, Any]) -> bool:
    """Whether the rows that judge are those that models were fitted on, as the paper did."""
    return bool((results["run"].get("split_by") or {}).get("same"))


def is_training(results: Mapping[str, Any]) -> bool:
    """Whether the run trained one configuration, with several seeds perhaps, and searched none."""
    return bool(results["run"]["purpose"] == "train")


def _seed_table(results: Mapping[str, Any]) -> Table:
    return ["variant", "metric", "trainings", "mean", "sd", "low", "high"], over_seeds(results)


def over_seeds(results: Mapping[str, Any]) -> list[Row]:
    """Of each decision variant and metric: mean, standard deviation and range over trainings.

    Empty for a search: its trials differ in more than their seed.
    """
    values: dict[tuple[Any, str], list[float]] = {}
    for row in scored_rows(results) if is_training(results) else []:
        if row["trial"] is not None:
            for name, score in row["metrics"].items():
                values.setdefault((row["variant"], name), []).append(score["value"])
    return [
        {"variant": variant, "metric": name, "trainings": len(found),
         "mean": statistics.fmean(found), "sd": statistics.stdev(found) if found[1:] else None,
         "low": min(found), "high": max(found)}
        for (variant, name), found in values.items()
    ]  # fmt: skip


def _comparison_table(results: Mapping[str, Any]) -> Table:
    columns = ["class", "metric", "unit", "variant", "paper", "ours", "difference"]
    return columns, class_comparison(results)


def class_comparison(results: Mapping[str, Any]) -> list[Row]:
    """Per metric, class and variant: the paper's figure beside ours, where this run has one."""
    classes = {name.lower(): name for name in results["run"]["classes"]}
    rows = [paper_row(row) for row in results["paper"] if row["label"] and row["ours"]]
    kept = ("metric", "unit", "variant", "paper", "ours", "difference")
    return [
        {
            "class": classes.get(row["label"].lower(), row["label"]),
            **{key: row[key] for key in kept},
        }
        for row in rows
    ]


def _importance_table(results: Mapping[str, Any]) -> Table:
    return ["key", "importance"], results["importance"] or []


def _relevance_table(results: Mapping[str, Any]) -> Table:
    rows = [
        {"class": name, "clips": of_class["clips"], **band}
        for name, of_class in (results.get("relevance") or {"classes": {}})["classes"].items()
        for band in of_class["bands"]
    ]
    return ["class", "clips", "from", "to", "value", "low", "high"], rows


def _paper_table(results: Mapping[str, Any]) -> Table:
    columns = ["system", "variant", "dataset", "split", "metric", "label", "unit", "paper", "ours",
               "ours_low", "ours_high", "difference", "why", "source"]  # fmt: skip
    return columns, [paper_row(row) for row in paper_order(results)]


def paper_row(row: Row) -> Row:
    """A published figure as paper.csv has it."""
    ours = row["ours"] or {}
    value = ours.get("value")
    kept = ("system", "variant", "dataset", "split", "metric", "label", "unit", "source")
    return {key: row[key] for key in kept} | {
        "why": why_not(row),
        "paper": row["value"],
        "ours": value,
        "ours_low": ours.get("low"),
        "ours_high": ours.get("high"),
        "difference": None if value is None else value - row["value"],
    }


def paper_order(results: Mapping[str, Any]) -> list[Row]:
    """The paper's figures: macro ones first, in each group those of this run's system first."""
    own = own_system(results)
    return sorted(results["paper"], key=lambda row: (row["label"] != "", row["system"] != own))


def own_system(results: Mapping[str, Any]) -> str:
    """The run's system as the paper's figures name it."""
    return str(results["run"]["system"].rpartition("/")[2])


def names(mappings: Iterable[Mapping[str, Any]]) -> list[str]:
    """All keys, in order of first appearance."""
    return list(dict.fromkeys(key for mapping in mappings for key in mapping))


def scored_rows(results: Mapping[str, Any]) -> list[Row]:
    """What was scored on the test part."""
    return results["test"]["rows"] if results["test"] else []


def trivial_first(rows: Iterable[Row]) -> list[Row]:
    """Scored rows with what one reaches who hears nothing at their top, as people read them."""
    return sorted(rows, key=lambda row: not row.get("trivial", False))


def scored_parts(results: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The test parts that were scored, the main one first."""
    test = results["test"]
    parts = [test, *test.get("further", ())] if test else []
    return [part for part in parts if part["rows"]]


def _subset_table(results: Mapping[str, Any]) -> Table:
    rows = [
        {"part": part["part"], "who": row["who"], "variant": row["variant"],
         "learner": row["learner"], "subset": key, "clips": of["clips"], "metric": name, **score}
        for part in scored_parts(results)
        for row in part["rows"]
        for key, of in row.get("subsets", {}).items()
        for name, score in of["metrics"].items()
    ]  # fmt: skip
    columns = ["part", "who", "variant", "learner", "subset", "clips", "metric", "value", "low",
               "high"]  # fmt: skip
    return columns, rows


def shown_row(results: Mapping[str, Any]) -> Row | None:
    """The test row that stands for the run: the best trial's, under its own decision.

    It is the first row of the best trial that used no test audio: chosen by order, never by its
    test score.
    """
    rows = scored_rows(results)
    best = [row for row in rows if row["best"]] or rows
    return next((row for row in best if not row["transductive"]), best[0] if best else None)


def best_trial(results: Mapping[str, Any]) -> Row | None:
    """The completed trial with the best value."""
    return next((t for t in ranked(results) if t["state"] == "complete"), None)


def direction(results: Mapping[str, Any]) -> int:
    """1 where more of the run's metric is better, -1 where less is."""
    return 1 if results["run"]["mode"] == "max" else -1
