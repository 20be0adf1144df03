"""``python -m bench``: run every workload, print a table, keep the figures in results/."""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path

from bench import workloads
from bench.service import running

HERE = Path(__file__).parent


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as folder:
        floor = workloads.build_floor(Path(folder))
        figures: dict[str, object] = {
            "commands": against_floor(floor, arguments),
            "one_task": latency(arguments),
            "bulk_create": bulk(arguments),
            "pages": pages(arguments),
            "arvados_client": arvados_client(arguments),
        }
    keep(figures)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--tasks", type=int, default=6000, help="tasks of /bin/true in a run")
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--singles", type=int, default=100, help="jobs of one task")
    parser.add_argument("--bulk", type=int, default=100_000, help="tasks created in one call")
    parser.add_argument(
        "--paged", type=int, default=1_000_000, help="tasks of the job that is listed"
    )
    return parser.parse_args()


def against_floor(floor: Path, arguments: argparse.Namespace) -> dict[str, object]:
    """Alternate floor and service; a ratio is taken within each round."""
    rounds = []
    with running(arguments.in_flight) as service:
        workloads.commands(service, min(500, arguments.tasks))
        for number in range(arguments.rounds):
            bare = workloads.floor_seconds(floor, arguments.tasks, arguments.in_flight)
            ours = workloads.commands(service, arguments.tasks)["seconds"]
            rounds.append({"floor_seconds": bare, "seconds": ours, "ratio": bare / ours})
            print(
                f"round {number + 1}: floor {arguments.tasks / bare:,.0f}/s,"
                f" through everything {arguments.tasks / ours:,.0f}/s, ratio {bare / ours:.2f}"
            )
    ratio = statistics.median(entry["ratio"] for entry in rounds)
    print(f"/bin/true, {arguments.in_flight} in flight: {ratio:.2f} of the floor (median)")
    return {"ratio": ratio, "in_flight": arguments.in_flight, "rounds": rounds}


def latency(arguments: argparse.Namespace) -> dict[str, object]:
    """One task on an idle service, submit to Complete as the client sees it."""
    with running(2) as service:
        for _ in range(5):
            workloads.one_task(service)
        times = [workloads.one_task(service)["milliseconds"] for _ in range(arguments.singles)]
    median = statistics.median(times)
    print(f"one task, submit to Complete: {median:.1f} ms (median of {len(times)})")
    return {"median_milliseconds": median, "milliseconds": times}


def bulk(arguments: argparse.Namespace) -> dict[str, object]:
    """Many tasks in one call, as the seed that creates them sees it."""
    with running(2) as service:
        times = [workloads.bulk_create(service, arguments.bulk)["seconds"] for _ in range(3)]
    median = statistics.median(times)
    print(f"{arguments.bulk:,} tasks in one call: {median:.2f} s (median of {len(times)})")
    return {"median_seconds": median, "seconds": times}


def arvados_client(arguments: argparse.Namespace) -> dict[str, object]:
    """One task's calls through the Python client of Arvados, over https, on an idle service."""
    with running(2, "--listen-tls", "127.0.0.1:0") as service:
        times = workloads.round_trips(service, arguments.singles)
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(
        f"create, report and read a task by the client of Arvados: {medians['together']:.1f} ms"
        f" (median of {arguments.singles}; longest {max(times['together']):.1f} ms)"
    )
    return {"median_milliseconds": medians, "milliseconds": times}


def pages(arguments: argparse.Namespace) -> dict[str, object]:
    """Pages of 100 of a large job's tasks over HTTP."""
    with running(2) as service:
        times = workloads.pages(service, arguments.paged, 30)
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"pages of 100 from {arguments.paged:,} tasks, medians in ms:")
    print(", ".join(f"{name} {median:.1f}" for name, median in medians.items()))
    return {"median_milliseconds": medians, "milliseconds": times}


def keep(figures: dict[str, object]) -> None:
    """Write the figures with the machine that they are from."""
    folder = HERE / "results"
    folder.mkdir(exist_ok=True)
    figures["machine"] = {"python": platform.python_version(), "kernel": platform.release()}
    path = folder / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(figures, indent=2) + "\n")
    print(f"kept in {path.relative_to(Path.cwd())}")


main()
