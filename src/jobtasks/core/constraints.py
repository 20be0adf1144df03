"""Runtime constraints: what may be written, and what holds for a task in the end (R25–R30)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from jobtasks.core.errors import Invalid
from jobtasks.core.notifying import check_address

KIB_PER_MIB = 1024


class Constraints(msgspec.Struct, frozen=True, omit_defaults=True):
    """One level's constraints (a job's or a task's), of the right types; None: absent."""

    min_nodes: int | None = None
    max_nodes: int | None = None
    max_tasks_per_node: int | None = None
    min_ram_per_task: int | None = None
    """KiB"""
    min_ram_per_node: int | None = None
    """KiB"""
    min_ram_mb_per_node: int | None = None
    """MiB"""
    min_scratch_mb_per_node: int | None = None
    """MiB"""
    min_cores_per_node: int | None = None
    min_cores_per_task: int | None = None
    max_attempts: int | None = None
    max_run_seconds: float | None = None
    exclusive: bool | None = None
    preload: tuple[str, ...] | None = None
    """Modules that tasks in Python find imported when they start."""
    on_failure: str | None = None
    output: str | None = None
    manager: str | None = None
    notify_url: str | None = None
    """Called when the job is over (core/notifying.py)."""


class Needs(msgspec.Struct, frozen=True, omit_defaults=True):
    """The effective constraints of a task: its *shape*. 0, False and () mean none."""

    nodes: int = 1
    """Nodes at the same time (a gang when more than one, R25)."""
    max_nodes: int = 0
    max_tasks_per_node: int = 0
    memory_kib: int = 0
    """Reserved for each running task (R28)."""
    cores: int = 0
    node_memory_kib: int = 0
    node_cores: int = 0
    node_scratch_mb: int = 0
    max_attempts: int = 0
    max_run_seconds: float = 0.0
    exclusive: bool = False
    preload: tuple[str, ...] = ()


def needs_of(job: Constraints, task: Constraints) -> Needs:
    """Return what holds for a task: of two limits the stricter (R30)."""
    return Needs(
        nodes=task.min_nodes or 1,
        max_nodes=_least(job.max_nodes, task.max_nodes),
        max_tasks_per_node=_least(job.max_tasks_per_node, task.max_tasks_per_node),
        memory_kib=_most(job.min_ram_per_task, task.min_ram_per_task),
        cores=_most(job.min_cores_per_task, task.min_cores_per_task),
        node_memory_kib=max(_node_memory_kib(job), _node_memory_kib(task)),
        node_cores=_most(job.min_cores_per_node, task.min_cores_per_node),
        node_scratch_mb=_most(job.min_scratch_mb_per_node, task.min_scratch_mb_per_node),
        max_attempts=_least(job.max_attempts, task.max_attempts),
        max_run_seconds=float(_least(job.max_run_seconds, task.max_run_seconds)),
        exclusive=bool(job.exclusive or task.exclusive),
        preload=tuple(sorted({*(job.preload or ()), *(task.preload or ())})),
    )


def parse_job(given: dict[str, Any]) -> Constraints:
    """Return a job's constraints; raise `Invalid` with one sentence per problem (R30)."""
    return _parse(given, JOB_RULES)


def parse_task(given: dict[str, Any]) -> Constraints:
    """Return a task's constraints; the job's own names are refused here (R30)."""
    return _parse(given, TASK_RULES)


def check_foreign(given: dict[str, Any], *, is_job: bool) -> None:
    """Raise `Invalid` as `parse_job` or `parse_task` do; what is reserved here is kept (R30).

    For a foreign job or its tasks: it is their own manager that reads them.
    """
    rules = JOB_RULES if is_job else TASK_RULES
    _parse(given, {name: rule for name, rule in rules.items() if name not in RESERVED_RULES})


def unknown_names(given: dict[str, Any]) -> list[str]:
    """Return the names that are kept but mean nothing to us."""
    return sorted(set(given) - set(JOB_RULES))


def _parse(given: dict[str, Any], rules: dict[str, Rule]) -> Constraints:
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in given.items():
        rule = rules.get(name)
        if rule is None or _is_absent(value):
            continue
        try:
            values[name] = rule(value)
        except ValueError as problem:
            problems.append(f"Runtime constraints: {name} {problem}")
    if problems:
        raise Invalid(*problems)
    constraints = Constraints(**values)
    if (constraints.max_nodes or 1) < (constraints.min_nodes or 1) and constraints.max_nodes:
        raise Invalid("Runtime constraints: max_nodes is below min_nodes")
    return constraints


def _is_absent(value: Any) -> bool:
    return value is None or value == "" or (value == 0 and not isinstance(value, bool))


Rule = Callable[[Any], Any]


def _count(value: Any) -> int:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"must be an integer, not {_shown(value)}")
    if not 1 <= value < 2**53:
        raise ValueError(f"must be from 1 to 2^53 - 1, not {_shown(value)}")
    return value


def _optional(rule: Rule) -> Rule:
    """Return `rule` for values that may also be "0", which counts as absent."""

    def optional(value: Any) -> Any:
        return None if isinstance(value, str) and value.strip("0") == "" else rule(value)

    return optional


def _duration(value: Any) -> float:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value)
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"must be a number of seconds, not {_shown(value)}")
    if not 0 < value <= 10**9:
        raise ValueError(f"must be above 0 and at most 10^9 seconds, not {_shown(value)}")
    return float(value)


def _switch(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError(f"must be true or false, not {_shown(value)}")


def _modules(value: Any) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        wrong = [name for name in value if not all(map(str.isidentifier, name.split(".")))]
        if not wrong:
            return tuple(value)
        raise ValueError(f"must be a list of modules of Python, not {_shown(wrong[0])}")
    raise ValueError(f"must be a list of names, not {_shown(value)}")


def _one_of(*words: str) -> Rule:
    def rule(value: Any) -> str:
        if value not in words:
            raise ValueError(f"must be one of {', '.join(words)}, not {_shown(value)}")
        return str(value)

    return rule


def _address(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be an address, not {_shown(value)}")
    return check_address(value)


def _refuse(reason: str) -> Rule:
    def rule(value: Any) -> None:
        raise ValueError(reason)

    return rule


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


LIMIT_RULES: dict[str, Rule] = {
    "min_nodes": _optional(_count),
    "max_nodes": _optional(_count),
    "max_tasks_per_node": _optional(_count),
    "min_ram_per_task": _optional(_count),
    "min_ram_per_node": _optional(_count),
    "min_ram_mb_per_node": _optional(_count),
    "min_scratch_mb_per_node": _optional(_count),
    "min_cores_per_node": _optional(_count),
    "min_cores_per_task": _optional(_count),
    "max_attempts": _optional(_count),
    "max_run_seconds": _optional(_duration),
    "exclusive": _switch,
    "preload": _modules,
}
RESERVED_RULES: dict[str, Rule] = {
    "docker_image": _refuse("is not supported yet"),
    "min_gpus_per_task": _refuse("is not supported yet"),
}
JOB_RULES: dict[str, Rule] = {
    **LIMIT_RULES,
    **RESERVED_RULES,
    "on_failure": _one_of("finish", "cancel", "continue"),
    "output": _one_of("all", "last"),
    "manager": _one_of("jobtasks", "external"),
    "notify_url": _address,
}
TASK_RULES: dict[str, Rule] = {
    **LIMIT_RULES,
    **RESERVED_RULES,
    "on_failure": _refuse("belongs to the job"),
    "output": _refuse("belongs to the job"),
    "manager": _refuse("belongs to the job"),
    "notify_url": _refuse("belongs to the job"),
}


def _least(job: Any, task: Any) -> Any:
    return min((value for value in (job, task) if value), default=0)


def _most(job: int | None, task: int | None) -> int:
    return max(job or 0, task or 0)


def _node_memory_kib(constraints: Constraints) -> int:
    return max(
        constraints.min_ram_per_node or 0, (constraints.min_ram_mb_per_node or 0) * KIB_PER_MIB
    )
