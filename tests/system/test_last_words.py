"""How an attempt ended is on record (R13), also when its node can write nothing, or is gone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import (
    QUICK,
    Api,
    Served,
    Start,
    agent_of,
    environment,
    keeper_of,
    left_of,
    wait_until,
)
from .witness import Record

LAST = "these were its last words"


class Node:
    """A keeper and its agent on a directory that a test may take away."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.state = folder / "node-state"
        self.log = folder / "agent.log"
        words = [sys.executable, "-m", "jobtasks.cli.main", "agent", "--server", served.url]
        words += ["--token-file", str(served.state / "agent.token"), "--slots", "1"]
        words += ["--node-dir", str(self.state / "node")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(words, stderr=log, env=environment())

    def make_read_only(self) -> Callable[[], None]:
        """Let nothing be created below its directory any more; return how to undo it."""
        place = str(self.state / "node")
        for words in (["--bind", place, place], ["-o", "remount,ro,bind", place]):
            done = subprocess.run(["mount", *words], capture_output=True, text=True)
            if done.returncode:
                pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")

        def undo() -> None:
            subprocess.run(["umount", "--lazy", place], check=True)

        return undo

    def vanish(self) -> None:
        """Be gone without a word, processes and all."""
        keeper, agent = keeper_of(self.state), agent_of(self.state)
        assert keeper and agent
        tasks = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in (keeper, agent, *map(int, tasks)):
                os.kill(pid, number)
        self.process.wait()


@pytest.fixture
def served(start: Start) -> Served:
    return start("--no-agent", settings={**QUICK, "lease_seconds": 4.0, "attempts_lost_max": 1})


@pytest.fixture
def node(served: Served, tmp_path: Path) -> Iterator[Node]:
    found = Node(served, tmp_path)
    yield found
    if found.process.poll() is None:
        found.process.terminate()
        found.process.wait(30)
    assert left_of(found.state) == []


def running(api: Api, program: str) -> str:
    """Start a job of one command, of one attempt; return its uuid when it runs."""
    constraints = {"max_attempts": 1}
    body = {"command": ["sh", "-c", program], "runtime_constraints": constraints}
    job: str = api.post("/jobs", body)["uuid"]
    wait_until("it runs", lambda: api.tasks(job, state="running"))
    return job


def ended(api: Api, job: str) -> tuple[Record, Record]:
    """Return the only task of a job that failed, and its only attempt."""
    assert api.final(job)["state"] == "Failed"
    [task] = api.tasks(job)
    [attempt] = api.attempts(task["uuid"])
    return task, attempt


@pytest.mark.rule("R13")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_a_read_only_node_loses_no_last_words(served: Served, node: Node, tmp_path: Path) -> None:
    """End of stderr, signal, peak memory reach the record; work is taken when it can be again."""
    gate = tmp_path / "gate"
    with served.api() as api:
        program = f"until [ -e {gate} ]; do sleep 0.02; done; echo {LAST} >&2; kill -SEGV $$"
        job = running(api, program)
        undo = node.make_read_only()
        try:
            gate.touch()
            task, attempt = ended(api, job)
            assert f"{LAST}\n" in task["failed_log"]
            assert (attempt["cause"], attempt["signal"]) == ("exit", signal.SIGSEGV)
            assert attempt["peak_memory_kib"] > 500
            wait_until("the agent says so", lambda: "takes no work" in node.log.read_text())
            later = api.post("/jobs", {"command": ["true"]})["uuid"]
            wait_until("it waits for a slot", lambda: api.tasks(later))
            assert api.tasks(later)[0]["attempts"] == 0
        finally:
            undo()
        assert api.final(later)["state"] == "Complete"
    assert "Traceback" not in node.log.read_text()


@pytest.mark.rule("R13", "R33")
def test_what_a_lost_node_had_sent_is_kept(served: Served, node: Node, tmp_path: Path) -> None:
    """The end of stderr that went along with a renewal, and why there is no more."""
    with served.api() as api:
        job = running(api, f"echo {LAST} >&2; exec sleep 1000")
        [task] = api.tasks(job)
        log = f"/job_tasks/{task['uuid']}/log"
        wait_until("it was sent", lambda: LAST in api.http.get(log).text)
        node.vanish()
        task, attempt = ended(api, job)
        assert attempt["cause"] == "agent_lost"
        first, *_, last = task["failed_log"].splitlines()
        assert first == LAST
        assert last.startswith("[jobtasks] ") and "lost" in last
