"""The trained model of a task; trained now where it is not there, here or in workers."""

from __future__ import annotations

from orchestrator.training.fold import train
from orchestrator.training.job import Job, Report, Task, tell_nobody
from systems.system import Fitted


def trained(job: Job, task: Task, report: Report = tell_nobody) -> Fitted:
    """The trained model of a task; trained now where it is not there, from its checkpoint on."""
    trial = job.trial(task.number)
    if not (task.model(trial) / "model.json").exists():
        if job.plan.resources.workers > 1:
            from orchestrator.training.workers import train_in_workers  # loads Ray Train

            train_in_workers(job, task, report)
        else:
            train(job, task, report)
    return job.plan.entry().build(job.config(trial)).load(task.model(trial))
