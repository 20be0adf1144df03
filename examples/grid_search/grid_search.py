#!/usr/bin/env python3
"""Which parameters fit best: one task per combination, one that picks the winner.

    jobtasks run grid_search.py

Script parameters:

    grid   values to try, by name; default {"C": [0.1, 1, 10], "gamma": [0.001, 0.01, 0.1]}
    folds  of the cross-validation; default 5

Needs scikit-learn where the tasks run; the data set, 178 wines, comes with it. Level 0 makes the
grid, level 1 tries one combination per task, level 2 compares.
"""

from __future__ import annotations

import importlib.util
import itertools
import json
from collections.abc import Iterator
from typing import Any

from jobtasks_sdk import CurrentTask, Job, current_job, current_task

GRID = {"C": [0.1, 1, 10], "gamma": [0.001, 0.01, 0.1]}


def make_grid(job: Job, task: CurrentTask) -> None:
    """Level 0: a task per combination, and one that waits for all of them."""
    if importlib.util.find_spec("sklearn") is None:
        task.fail("this Python has no scikit-learn: pip install scikit-learn")
        return
    grid = job.script_parameters.get("grid", GRID)
    task.create_many({"parameters": {"chosen": chosen}} for chosen in combinations(grid))
    task.create(sequence=2)
    task.complete()


def combinations(grid: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Every way to choose one value for each name."""
    for values in itertools.product(*grid.values()):
        yield dict(zip(grid, values, strict=True))


def try_one(job: Job, task: CurrentTask) -> None:
    """Level 1: the mean accuracy of a support vector machine with these parameters."""
    # Imported here: the other levels need not wait for it.
    from sklearn.datasets import load_wine
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    chosen = task.parameters["chosen"]
    data = load_wine()
    folds = job.script_parameters.get("folds", 5)
    try:
        model = make_pipeline(StandardScaler(), SVC(**chosen))
        scores = cross_val_score(model, data.data, data.target, cv=folds, error_score="raise")
    except (TypeError, ValueError) as error:
        # The same parameters would be refused the next time, too.
        task.fail(f"{chosen}: {error}")
        return
    task.complete(json.dumps({"accuracy": round(float(scores.mean()), 4), **chosen}))


def pick(job: Job, task: CurrentTask) -> None:
    """Level 2: all results, the best first."""
    results = [json.loads(tried.output) for tried in job.tasks(sequence=1)]
    results.sort(key=lambda result: -result["accuracy"])
    task.complete("\n".join(json.dumps(result) for result in results))


LEVELS = (make_grid, try_one, pick)

if __name__ == "__main__":
    this_task = current_task()
    LEVELS[this_task.sequence](current_job(), this_task)
