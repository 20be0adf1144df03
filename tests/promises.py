"""The table of promises: what each row says, which rig tries it, and the page made of that.

What a rig is and how far it goes is read from its source (`rounds(row, small, large)`); what was
reached is written by tests/torture.py. Both stand in docs/explanation/promises.json, and
docs/explanation/promises.md is made of that file and of this table:

    .venv/bin/python -m tests.torture --page
"""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
RECORDS = ROOT / "docs" / "explanation" / "promises.json"
PAGE = ROOT / "docs" / "explanation" / "promises.md"
DAYS_MAX = 180
"""A figure that is older proves nothing any more."""


@dataclass(frozen=True)
class Row:
    """A promise to users."""

    name: str
    promise: str
    rules: tuple[str, ...]
    unit: str = "rounds"
    """What a round is."""
    processes: int = 1
    """How many processes share its rounds in torture."""


ROWS = (
    Row(
        "kills of the server",
        "The server may be killed at any moment: no task is lost, none is accepted twice, and "
        "what was answered is there when the next server starts.",
        ("R33", "R37"),
        "kills",
    ),
    Row(
        "kills of everything",
        "Server, agent and keeper may be killed one by one or all at once: a tree of tasks "
        "completes with exactly its tasks and outputs.",
        ("R1", "R2", "R3", "R4", "R5", "R6", "R12", "R36", "R37"),
        "kills",
    ),
    Row(
        "kills of agents and keepers",
        "Agents and keepers may be killed at any moment: their tasks' processes are ended before "
        "the same tasks start again.",
        ("R36", "R37"),
        "kills",
    ),
    Row(
        "late attempts",
        "An attempt that is over writes, creates and deletes nothing, however late its calls come.",
        ("R32",),
        "late calls",
    ),
    Row(
        "exclusive moves",
        "An exclusive task that moves to another node takes no step on the old one after the "
        "first on the new one.",
        ("R34",),
        "moves",
    ),
    Row(
        "creators killed",
        "A task that is killed while it creates children leaves none behind; the children that "
        "run are those of the attempt that completed.",
        ("R2", "R4"),
        "creators",
    ),
    Row(
        "outages of the server",
        "While the server is away, nothing ends: tasks go on, and what they had to say is taken "
        "afterwards.",
        ("R33", "R35"),
        "outages",
    ),
    Row(
        "two managers",
        "Two servers that both believe to decide do no harm: the older one changes nothing.",
        ("R37",),
        "pauses of a manager",
    ),
    Row(
        "kills of one of two servers",
        "Of two servers on one PostgreSQL database either may be killed, the manager or not: every "
        "task is accepted once, none is lost, and the other manages.",
        ("R1", "R37"),
        "kills",
    ),
    Row(
        "managers that stand still",
        "A manager that stands still is succeeded within 20 seconds, and writes nothing with its "
        "old term when it goes on.",
        ("R33", "R37"),
        "managers",
    ),
    Row(
        "crashes of PostgreSQL",
        "A PostgreSQL that crashes and comes back is a pause: calls are answered 503, never 500, "
        "no attempt ends by it, and every job that was answered for runs once.",
        ("R33", "R35", "R37"),
        "crashes",
    ),
    Row(
        "state machine of the service",
        "Whatever happens in whatever order, counters agree with records, and what was accepted "
        "stays.",
        ("R4", "R5", "R10", "R14", "R21", "R23", "R24", "R32", "R33", "R35"),
        "runs of 5,000 events",
        processes=2,
    ),
    Row(
        "simulated worlds",
        "With a network that loses, doubles and reorders, machines that fail and disks that fill, "
        "levels stay in order, limits are kept, each task is accepted once, and everything ends.",
        ("R1", "R3", "R4", "R5", "R10", "R13", "R17", "R19", "R21", "R22", "R26", "R27", "R28",
         "R32", "R35", "R37"),
        "worlds",
        processes=2,
    ),
    Row(
        "clocks",
        "Clocks that are set, of servers or nodes, and servers that are stopped and go on, end "
        "no attempt.",
        ("R33",),
        "worlds",
        processes=2,
    ),
    Row(
        "claims",
        "Which tasks start where is what the rules say when they are read plainly over all tasks: "
        "in order of sequence, of priority and of age, and within every limit.",
        ("R5", "R12", "R18", "R26", "R27", "R28", "R29"),
        "runs of 120 stories",
        processes=2,
    ),
    Row(
        "orphan zoo",
        "When an attempt is over, its processes are gone, however well they hide: twelve nasty "
        "programs, each ended in five ways, and ten seconds later nobody is left.",
        ("R36",),
        "× 12 programs and 5 endings",
    ),
    Row(
        "endless output",
        "A task may write without end: its log keeps the beginning and the end, and counts what "
        "it drops; nobody else notices.",
        ("R38", "R40"),
    ),
    Row(
        "agents over HTTP",
        "Many agents at once are served in time, and none of their attempts is lost.",
        ("R33",),
    ),
    Row(
        "slow connections",
        "Clients that send slowly, or nothing, keep nobody else waiting.",
        ("R40",),
    ),
    Row(
        "spoiled requests",
        "A request that is spoiled in any byte is answered or cut off in time, never with an error "
        "of the server, and the server goes on.",
        ("R8", "R40"),
        "runs of thousands",
    ),
    Row(
        "gangs and singles",
        "Tasks that need several nodes at once and tasks that need one share them: all of them "
        "run, and no limit is exceeded.",
        ("R25", "R26", "R27", "R28"),
        "mixes of tasks",
    ),
    Row(
        "disk full",
        "A full disk is a pause: nothing moves, nothing is lost, no attempt ends by it, and it "
        "all goes on when there is room.",
        ("R33", "R35", "R37"),
        "pauses",
    ),
    Row(
        "pages of a large job",
        "Pages of a job of a million tasks come as quickly as those of a small one: no page takes "
        "the server 50 ms, the first paint a second, a change the browser 100 ms.",
        (),
        "jobs",
    ),
)  # fmt: skip
"""In the order of the page: what is killed, what is late, what is played, what is too much."""


# What the rigs' sources say


@dataclass
class Rig:
    """Where a row is tried, and how far."""

    targets: list[str] = field(default_factory=list)
    small: int | None = 0
    large: int | None = 0
    """None when the source does not say it in a number."""

    def facts(self) -> dict[str, Any]:
        """As the records keep them."""
        return {"targets": sorted(self.targets), "small": self.small, "large": self.large}


def rigs(folder: Path = ROOT / "tests") -> dict[str, Rig]:
    """Return the rig of each row that a test module names."""
    found: dict[str, Rig] = {}
    for path in sorted(folder.rglob("*.py")):
        for row, target, sizes in _calls(path):
            rig = found.setdefault(row, Rig())
            if target not in rig.targets:
                rig.targets.append(target)
            if sizes is not None:
                rig.small = _sum(rig.small, sizes[0])
                rig.large = _sum(rig.large, sizes[1])
    return found


def _sum(one: int | None, other: int | None) -> int | None:
    return None if one is None or other is None else one + other


def _calls(path: Path) -> Iterator[tuple[str, str, tuple[int | None, int | None] | None]]:
    """Yield (row, pytest target, sizes of its rounds) of each call in a module."""
    text = path.read_text()
    if "rounds" not in text:
        return
    tree = ast.parse(text)
    if not any(_is_import_of_rounds(node) for node in tree.body):
        return
    constants = _constants(tree)
    found = []
    for top in tree.body:
        for node in ast.walk(top):
            if isinstance(node, ast.Call) and (name := _called(node)):
                sizes = _sizes(node, constants) if name == "rounds" else None
                found.append((_value(node.args[0], constants), _place(top, path), sizes))
    named = {row for row, _, _ in found}
    # What is given its row serves the tests that name one which is named nowhere else.
    others = {row: place for row, place in _names(tree, path) if row not in named}
    for row, place, sizes in found:
        if isinstance(row, str):
            yield row, place, sizes
        else:
            yield from ((one, test, sizes) for one, test in others.items())


def _names(tree: ast.Module, path: Path) -> Iterator[tuple[str, str]]:
    """Yield (row, pytest target) for each name of a row in a module."""
    rows = {row.name for row in ROWS}
    for top in tree.body:
        texts = {node.value for node in ast.walk(top) if isinstance(node, ast.Constant)}
        yield from ((row, _place(top, path)) for row in sorted(rows & texts))


def _place(top: ast.stmt, path: Path) -> str:
    """Return a test's pytest target, or its module's."""
    place = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
    is_test = isinstance(top, ast.FunctionDef) and top.name.startswith("test_")
    return f"{place}::{top.name}" if is_test and isinstance(top, ast.FunctionDef) else place


def _sizes(call: ast.Call, constants: dict[str, Any]) -> tuple[int | None, int | None]:
    """Return how many rounds are asked for, small and large; None for what is no number here."""
    named = {keyword.arg: keyword.value for keyword in call.keywords}
    given = dict(zip(("row", "small", "large"), call.args, strict=False)) | named
    small, large = (_value(given[name], constants) for name in ("small", "large"))
    return small if isinstance(small, int) else None, large if isinstance(large, int) else None


def _is_import_of_rounds(node: ast.stmt) -> bool:
    if not isinstance(node, ast.ImportFrom):
        return False
    return (node.module or "").rpartition(".")[2] == "rounds" or (
        node.module == "tests" and any(alias.name == "rounds" for alias in node.names)
    )


def _called(node: ast.Call) -> str | None:
    """Return ``rounds`` or ``note`` when that is what is called, by itself or of its module."""
    function = node.func
    if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
        name = function.attr if function.value.id == "rounds" else ""
    else:
        name = function.id if isinstance(function, ast.Name) else ""
    return name if name in ("rounds", "note") and node.args else None


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Return the module's names for plain values and rows of them."""
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign):
            with contextlib.suppress(ValueError):
                value = ast.literal_eval(node.value)
                found |= {one.id: value for one in node.targets if isinstance(one, ast.Name)}
    return found


def _value(node: ast.expr, constants: dict[str, Any]) -> Any:
    """Return a plain value, a named one, the length of one, a product; None for anything else."""
    match node:
        case ast.Constant():
            return node.value
        case ast.Name():
            return constants.get(node.id)
        case ast.Call(func=ast.Name(id="len"), args=[ast.Name(id=name)]) if name in constants:
            return len(constants[name])
        case ast.BinOp(op=ast.Mult()):
            both = (_value(node.left, constants), _value(node.right, constants))
            return both[0] * both[1] if all(isinstance(one, int) for one in both) else None
    return None


# What is on record


def read_records(path: Path = RECORDS) -> dict[str, Any]:
    """Return the records, those of no row as yet when there is no file."""
    if not path.exists():
        return {"made": "", "rows": {}}
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def write_records(records: dict[str, Any], path: Path = RECORDS) -> None:
    """Write the records so that a difference is a line."""
    path.write_text(json.dumps(records, indent=2, ensure_ascii=False) + "\n")


def with_facts(records: dict[str, Any], today: date) -> dict[str, Any]:
    """Return the records with what the rigs say now, in the order of the table."""
    now = rigs()
    rows = {}
    for row in ROWS:
        known = records["rows"].get(row.name, {})
        facts = now[row.name].facts() if row.name in now else Rig().facts()
        rows[row.name] = {**facts, "last": known.get("last")}
    return {"made": today.isoformat(), "rows": rows}


def collect(lines: Iterable[str], row: str) -> dict[str, float]:
    """Put the figures together that a row's processes noted, each several times perhaps."""
    found: dict[str, float] = {}
    for line in lines:
        noted = json.loads(line)
        if noted["row"] != row:
            continue
        for name, value in noted["figures"].items():
            if name not in found:
                found[name] = value
            elif name.endswith("_max") or name.startswith("longest_"):
                found[name] = max(found[name], value)
            else:
                found[name] += value
    return found


# The page

INTRODUCTION = """\
# Promises, and how they are tried

What a user may rely on, each promise with the test that tries to break it. A sentence that no test
tries is not on this page.

Each test goes a little way every time the tests run (`make test`), so that a change that breaks a
promise is seen at once. `make torture` runs the same tests for as long as they are given, two
minutes each by default: some faults show once in a thousand tries. What was reached last, and when,
is in the last column, together with what was counted on the way. A promise whose last long run is
missing, has failed, or is more than {days} days old reads *unproven*: it may hold, but nobody has
looked for long.

To repeat it:

```
make torture                                          # every row, two minutes each
MINUTES=60 make torture                               # an hour each
ROW="{example}" MINUTES=10 make torture
```

A row that fails is recorded as failed, the others go on, and the exit code is 1. The figures are
kept in [promises.json](promises.json), from which this page is made. What the numbers of the rules
stand for is on the page of [the rules](../reference/rules.md).

This page was made on {made}.

| promise | rules | in `make test` | last long run |
|---|---|---|---|
"""


def page(records: dict[str, Any]) -> str:
    """Return docs/explanation/promises.md."""
    made = date.fromisoformat(records["made"])
    text = INTRODUCTION.format(days=DAYS_MAX, example=ROWS[9].name, made=made)
    for row in ROWS:
        known = records["rows"][row.name]
        # A rig that asks for seconds has no rounds; others hand on what is no number there.
        other = "some seconds" if known["small"] == 0 else "see its test"
        small = f"{known['small']:,} {row.unit}" if known["small"] else other
        cells = (f"**{row.name}**: {row.promise}", ", ".join(row.rules))
        small = _linked(small, known["targets"]) if known["targets"] else "not yet"
        text += f"| {' | '.join(cells)} | {small} | {last_run(row, known['last'], made)} |\n"
    return text


def _linked(text: str, targets: list[str]) -> str:
    """Link what is said of a rig to its source."""
    paths = sorted({target.partition("::")[0] for target in targets})
    first, *others = [f"../../{path}" for path in paths]
    more = "".join(f", [and]({path})" for path in others)
    return f"[{text}]({first}){more}"


def last_run(row: Row, last: dict[str, Any] | None, made: date) -> str:
    """Say what was reached, or why the promise is unproven."""
    if last is None:
        return "*unproven*: no long run yet"
    if not last["passed"]:
        return f"*unproven*: failed on {last['date']}"
    reached = f"{last['date']}: {_figures(row, last['figures'])}, in {_plain(last['seconds'])} s"
    reached += f" on {last['cores']} cores, Python {last['python']}"
    if (made - date.fromisoformat(last["date"])).days > DAYS_MAX:
        return f"*unproven*: last on {reached}"
    return reached


def _figures(row: Row, figures: dict[str, float]) -> str:
    said = []
    if "rounds" in figures:
        wanted = figures.get("wanted", figures["rounds"])
        of = f" of {_plain(wanted)}" if wanted != figures["rounds"] else ""
        said.append(f"{_plain(figures['rounds'])}{of} {row.unit}")
    others = {name: value for name, value in figures.items() if name not in ("rounds", "wanted")}
    said += [f"{name.replace('_', ' ')} {_plain(value)}" for name, value in others.items()]
    return "; ".join(said)


def _plain(number: float) -> str:
    """Return a number for people: whole when it is large."""
    return f"{round(number):,}" if number == round(number) or number >= 100 else f"{number:.3g}"
