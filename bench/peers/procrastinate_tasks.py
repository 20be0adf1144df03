"""What Procrastinate's worker runs; how to reach PostgreSQL is in the environment."""

from __future__ import annotations

import asyncio
import os

import procrastinate

app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=os.environ["BENCH_PG"]))


@app.task(name="run")
async def run(command: list[str]) -> None:
    """Run a command."""
    process = await asyncio.create_subprocess_exec(*command)
    await process.wait()


@app.task(name="seed")
async def seed(count: int) -> None:
    """Create the children."""
    await run.batch_defer_async(*[{"command": ["/bin/true"]} for _ in range(count)])
