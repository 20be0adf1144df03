"""``python -m bench.page``: put the newest figures and plots into docs/explanation/performance.md.

Only runs of full size count; ``--all`` takes every run, for a trial.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.conductor import OURS
from bench.goals import Goal, number
from bench.machine import TURNS
from bench.plots import Bar, Panel, bars, lines
from bench.registry import WORKLOADS
from bench.results import newest

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
BEGIN = "<!-- figures: made by python -m bench.page -->"
END = "<!-- end of figures -->"
PLOTS = "figures"
MARKS = {True: "reached", False: "**missed**", None: ""}

Outcomes = dict[str, dict[str, Any]]


def main() -> None:
    """Write the page and its plots."""
    parser = argparse.ArgumentParser(prog="python -m bench.page", description=__doc__)
    parser.add_argument("--all", action="store_true", help="take short runs too")
    outcomes = newest(short=parser.parse_args().all)
    if not outcomes:
        raise SystemExit("nothing has been measured in full size: make bench")
    folder = PAGE.parent / PLOTS
    folder.mkdir(exist_ok=True)
    for name, drawn in plots(outcomes).items():
        (folder / name).write_text(drawn)
    PAGE.write_text(with_figures(PAGE.read_text(), section(outcomes)))


def with_figures(page: str, figures: str) -> str:
    """Return the page with what is between its marks replaced."""
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise LookupError("the page has lost its marks")
    return f"{before}{BEGIN}\n\n{figures}\n\n{END}{after}"


def section(outcomes: Outcomes) -> str:
    """Return everything that is measured, as Markdown."""
    parts = [machines(outcomes), table(outcomes)]
    drawn = plots(outcomes)
    if "P2" in outcomes:
        parts.append(peers_table(outcomes["P2"]["figures"]))
    if "peers.svg" in drawn:
        parts.append(image("tasks of /bin/true a second, as a share of the floor", "peers.svg"))
    if "million.svg" in drawn:
        parts.append(image("tasks done and the server's memory over time", "million.svg"))
    return "\n\n".join(parts)


def image(what: str, name: str) -> str:
    """Return a plot as Markdown."""
    return f"![{what}]({PLOTS}/{name})"


def machines(outcomes: Outcomes) -> str:
    """Return what the figures are from; usually one machine, perhaps over several runs."""
    found: dict[str, list[dict[str, Any]]] = {}
    for outcome in outcomes.values():
        found.setdefault(describe(outcome["machine"]), []).append(outcome["machine"])
    return "\n\n".join(
        f"Measured on {days(runs)}: {machine}, where 4 KiB are on disk (`fdatasync`) after"
        f" {usual(runs, 'fdatasync_ms')} ms and this Python takes {usual(runs, 'python_ms')} ms"
        f" for {TURNS:,} turns of a loop."
        for machine, runs in found.items()
    )


def usual(runs: list[dict[str, Any]], name: str) -> str:
    """Return the median of a figure of the machine."""
    return number(statistics.median(run[name] for run in runs))


def describe(machine: dict[str, Any]) -> str:
    """Return a machine in a sentence."""
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory_gib']:g} GiB,"
        f" {machine['system']}, Linux {machine['kernel']}, Python {machine['python']};"
        f" the state directory on {machine['file_system']}"
    )


def days(runs: list[dict[str, Any]]) -> str:
    """Return the days of runs."""
    return ", ".join(sorted({run["at"][:10] for run in runs}))


def table(outcomes: Outcomes) -> str:
    """Return a row for every figure that something is wanted of, or that is told."""
    rows = ["| | what | measured | wanted | |", "|---|---|---|---|---|"]
    for workload in WORKLOADS:
        goals = [Goal(**kept) for kept in outcomes.get(workload.name, {}).get("goals", [])]
        if workload.name == "P2":
            # The others are in a table of their own.
            goals = [goal for goal in goals if goal.wanted is not None]
        for place, goal in enumerate(goals):
            name = f"**{workload.name}**" if place == 0 else ""
            what = f"{workload.title}:<br>{goal.what}" if place == 0 else goal.what
            rows.append(f"| {name} | {what} | {shown(goal)} | {wanted(goal)} | {verdict(goal)} |")
    return "\n".join(rows)


def shown(goal: Goal) -> str:
    """Return a value with its unit."""
    return f"{number(goal.value)} {goal.unit}".strip()


def wanted(goal: Goal) -> str:
    """Return what is wanted of a value."""
    if goal.wanted is None:
        return ""
    return f"{'≤' if goal.most else '≥'} {goal.wanted:,g} {goal.unit}".strip()


def verdict(goal: Goal) -> str:
    """Return whether that is reached."""
    return MARKS[goal.is_met]


def peers_table(figures: dict[str, Any]) -> str:
    """Return a row for every peer, in the order of its share of the floor."""
    rows = [
        "| beside | version | share of the floor | ours, then | ours is | tree | one task, ms"
        " | ours, then | how it runs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for found in ordered(figures):
        commands, tree, one = found["commands"], found["tree"], found["one_task_ms"]
        cells = [
            found["title"],
            found["version"],
            number(commands["peer"]["ratio"]),
            number(commands["ours"]["ratio"]),
            f"{number(commands['times'])} ×",
            f"{number(tree['times'])} ×" if "times" in tree else "",
            number(one["peer"]["median"]),
            number(one["ours"]["median"]),
            found["setting"],
        ]
        rows.append(f"| {' | '.join(cells)} |")
    left_out = [
        f"{found['title']} is left out: {found['left_out']}."
        for found in figures.values()
        if "left_out" in found
    ]
    return "\n".join(rows) + "".join(f"\n\n{line}" for line in left_out)


def ordered(figures: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the peers that ran, the fastest first."""
    ran = [found for found in figures.values() if "times" in found.get("commands", {})]
    return sorted(ran, key=lambda found: -float(found["commands"]["peer"]["ratio"]))


def plots(outcomes: Outcomes) -> dict[str, str]:
    """Return the drawings that the figures allow, by file name."""
    found = {}
    if "P2" in outcomes and (ran := ordered(outcomes["P2"]["figures"])):
        found["peers.svg"] = bars(
            "/bin/true through everything",
            "tasks a second as a share of a C loop that only spawns; longer is better",
            sorted(peer_bars(ran), key=lambda bar: -bar.value),
        )
    if "P8" in outcomes:
        found["million.svg"] = million_plot(outcomes["P8"]["figures"])
    return found


def peer_bars(ran: list[dict[str, Any]]) -> Iterator[Bar]:
    """Yield one bar for each peer, and one for ours: the median beside all of them."""
    for found in ran:
        ratio = found["commands"]["peer"]["ratio"]
        yield Bar(found["title"], ratio, f"{ratio:.3f}")
    ours = statistics.median(found["commands"]["ours"]["ratio"] for found in ran)
    yield Bar(OURS, ours, f"{ours:.3f}", is_ours=True)


def million_plot(figures: dict[str, Any]) -> str:
    """Return tasks done and memory over time."""
    samples = figures["samples"]
    return lines(
        f"{figures['tasks']:,} tasks in one job",
        f"{figures['per_second']:,.0f} tasks a second while they run",
        [
            Panel("tasks done", [(one["at"], one["done"]) for one in samples]),
            Panel("server's memory, MB", [(one["at"], one["memory_mb"]) for one in samples]),
        ],
    )


if __name__ == "__main__":
    main()
