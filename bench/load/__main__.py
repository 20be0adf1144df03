"""``python -m bench.load``: play agents until stdin ends.

Prints a line of JSON when all have joined, and one for each line on stdin: what they did so far.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from urllib.parse import urlsplit

import uvloop

from bench.load.agents import Agent, Given, Watched
from bench.load.line import Line

CALL_MAX = 100_000
"""Tasks that one call may create."""
JOIN_AT_ONCE = 50


class Planter:
    """Creates the tasks of a job for its seed, in calls of at most `CALL_MAX`."""

    def __init__(self, address: tuple[str, int], children: int) -> None:
        self._address = address
        self._children = children
        self.seconds = 0.0
        """That the calls of all seeds took."""
        self._tasks: set[asyncio.Task[None]] = set()

    def __call__(self, seed: Given, done: Callable[[], None]) -> None:
        task = asyncio.get_running_loop().create_task(self._plant(seed, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _plant(self, seed: Given, done: Callable[[], None]) -> None:
        line = Line(self._address, "/arvados/v1/job_tasks", seed.token, "application/json")
        for made in range(0, self._children, CALL_MAX):
            numbers = range(made, min(self._children, made + CALL_MAX))
            items = ",".join([f'{{"parameters":{{"n":{n}}}}}' for n in numbers])
            begin = time.monotonic()
            status, body = await line.ask(b'{"job_tasks":[%b]}' % items.encode())
            self.seconds += time.monotonic() - begin
            if status != 200:
                raise RuntimeError(f"create: {status} {body[:200]!r}")
        line.close()
        done()


async def play(options: argparse.Namespace, token: str) -> None:
    """Let agents join, then answer every line on stdin."""
    parts = urlsplit(options.url)
    assert parts.hostname and parts.port
    address = parts.hostname, parts.port
    watched = Watched()
    planter = Planter(address, options.children)
    agents = [
        Agent(address, token, options.slots, options.task_seconds, watched, planter)
        for _ in range(options.agents)
    ]
    for start in range(0, len(agents), JOIN_AT_ONCE):
        await asyncio.gather(*(agent.join() for agent in agents[start : start + JOIN_AT_ONCE]))
    print(json.dumps({"joined": len(agents)}), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        now = time.monotonic()
        seen = dict(vars(watched))
        seen["busy_seconds"] += sum(agent.busy_seconds(now) for agent in agents)
        figures = {"at": now, "cpu_seconds": time.process_time(), "plant_seconds": planter.seconds}
        print(json.dumps({**seen, **figures}), flush=True)
    for agent in agents:
        agent.leave()


def main() -> None:
    """Read the command line; the agents' token is the first line on stdin."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--agents", type=int, required=True)
    parser.add_argument("--slots", type=int, required=True)
    parser.add_argument("--task-seconds", type=float, default=0.0)
    parser.add_argument("--children", type=int, required=True, help="that a job's seed creates")
    options = parser.parse_args()
    token = sys.stdin.readline().strip()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(play(options, token))


if __name__ == "__main__":
    main()
