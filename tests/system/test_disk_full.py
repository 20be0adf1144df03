"""A full disk is a pause, not a wound: nothing moves, nothing is lost, and it ends by itself."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.rounds import rounds

from .conftest import QUICK, Acted, Api, Served, Start, agent_of, environment, wait_until
from .small_disk import Disk, disk

__all__ = ["disk"]

SHORT = {**QUICK, "lease_seconds": 4.0, "renew_seconds": 0.1, "clock_gap_seconds": 30.0}
"""Leases that run out within a pause, and no gap of the clocks that would spare them. Agents try
again every second at the latest, so that a shorter lease would run out after the pause."""
RESUME_SECONDS = 30.0
"""How long after there is space again work may take to resume."""


def command(gate: Path, program: str) -> dict[str, Any]:
    """Return a job that waits for a file and then runs a shell program."""
    return {"command": ["sh", "-c", f"until [ -e {gate} ]; do sleep 0.02; done; {program}"]}


def is_running(api: Api, job: str) -> bool:
    return bool(api.tasks(job, state="running"))


def refused(api: Api) -> httpx.Response | None:
    """Return the answer to a create when it is a refusal."""
    answer = api.http.post("/jobs", json={"command": ["true"], "priority": -999})
    return None if answer.status_code == 200 else answer


def snapshot(api: Api, *jobs: str) -> list[Any]:
    """Return all that the records say of these jobs."""
    return [
        [api.get(f"/jobs/{job}"), [(task, api.attempts(task["uuid"])) for task in api.tasks(job)]]
        for job in jobs
    ]


def paused(served: Served, what: str) -> str:
    """Return how /metrics shows a pause."""
    with served.http() as http:
        text = http.get(served.url + "/metrics").text
    [value] = [
        line.split()[1] for line in text.splitlines() if f'jobtasks_paused{{what="{what}"}}' in line
    ]
    return value


def let_leases_pass(times: float) -> None:
    """Wait until leases that were given before would have run out."""
    until = time.monotonic() + times * SHORT["lease_seconds"]
    wait_until("leases pass", lambda: time.monotonic() > until)


def lines_with(text: str, part: str) -> int:
    return sum(part in line for line in text.splitlines())


@pytest.mark.rule("R33", "R35", "R37")
def test_a_full_state_directory_is_a_pause(disk: Disk, start: Start, tmp_path: Path) -> None:
    """Three times: no record moves, reads answer, writes are refused with 503, leases do not run
    out; with space again all goes on, each attempt is the first, and the database is sound.
    """
    state = disk.path / "state"
    served = start("--slots", "2", settings=SHORT, state=state)
    pauses = 0
    with served.api() as api:
        for number in rounds("disk full", 3, 30):
            gate = tmp_path / f"gate-{number}"
            told = Acted(api, tmp_path, [["await_file", str(gate)], ["complete", "told"]])
            ended = api.post("/jobs", command(gate, "echo ended"))["uuid"]
            told.noted("start")
            wait_until("both run", partial(is_running, api, ended))
            disk.fill()
            answer = wait_until("a refusal", partial(refused, api))
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
            assert "database" in answer.json()["errors"][0]
            before = snapshot(api, told.uuid, ended)
            gate.touch()
            let_leases_pass(1.25)
            assert snapshot(api, told.uuid, ended) == before
            health = httpx.get(served.url + "/healthz")
            assert (health.status_code, paused(served, "database")) == (503, "1")
            disk.free()
            free_at = time.monotonic()
            assert told.final()["output"] == "told\n"
            assert api.final(ended)["state"] == "Complete"
            assert time.monotonic() - free_at < RESUME_SECONDS
            for job in (told.uuid, ended):
                assert [task["attempts"] for task in api.tasks(job)] == [1]
            assert httpx.get(served.url + "/healthz").json() == {"health": "OK"}
            assert paused(served, "database") == "0"
            pauses += 1
    code, _, errors = served.end()
    assert (code, lines_with(errors, "Traceback")) == (0, 0), errors
    assert lines_with(errors, "a pause begins") == pauses, errors
    assert lines_with(errors, "the pause is over") == pauses
    assert "Traceback" not in (state / "node" / "agent.log").read_text()
    database = sqlite3.connect(state / "jobtasks.db")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    database.close()


@pytest.mark.rule("R10", "R37")
def test_an_end_outlasts_a_full_disk_and_its_agent(
    disk: Disk, start: Start, tmp_path: Path
) -> None:
    """It came while nothing could be written, and the agent was killed then: it is accepted."""
    state, gate, witness = disk.path / "state", tmp_path / "gate", tmp_path / "witness"
    served = start("--slots", "1", state=state)
    with served.api() as api:
        job = api.post("/jobs", command(gate, f"echo run >> {witness}"))["uuid"]
        wait_until("it runs", lambda: is_running(api, job))
        disk.fill()
        wait_until("a refusal", lambda: refused(api))
        first = agent_of(state)
        gate.touch()
        wait_until("it ends", witness.exists)
        journal = state / "node" / "ends.journal"
        wait_until("the end is written down", lambda: journal.read_bytes().strip(b"\0"))
        assert first is not None
        os.kill(first, signal.SIGKILL)
        second = wait_until("another agent", lambda: (now := agent_of(state)) != first and now)
        disk.free()
        assert api.final(job)["state"] == "Complete"
        [task] = api.tasks(job)
        assert (task["attempts"], task["failed_count"]) == (1, 0)
        assert witness.read_text() == "run\n"
        assert agent_of(state) == second


@pytest.fixture
def node(disk: Disk, start: Start, tmp_path: Path) -> Iterator[Served]:
    """A server whose only node has its directory on the small disk."""
    served = start("--no-agent")
    words = [sys.executable, "-m", "jobtasks.cli.main", "agent", "--server", served.url]
    words += ["--token-file", str(served.state / "agent.token"), "--slots", "1"]
    words += ["--node-dir", str(disk.path / "node")]
    with (tmp_path / "agent.log").open("wb") as log:
        agent = subprocess.Popen(words, stderr=log, env=environment())
    yield served
    agent.terminate()
    assert agent.wait(30) == 0


@pytest.mark.rule("R13", "R38")
def test_a_full_node_takes_no_work_and_loses_no_last_words(
    disk: Disk, node: Served, tmp_path: Path
) -> None:
    """Its log cannot be written: the end of stderr reaches the record, the rest is counted."""
    gate, log = tmp_path / "gate", tmp_path / "agent.log"
    with node.api() as api:
        job = api.post("/jobs", command(gate, "echo much; echo last words >&2; exit 3"))["uuid"]
        wait_until("it runs", lambda: is_running(api, job))
        disk.fill()
        gate.touch()
        assert api.final(job)["state"] == "Failed"
        [task] = api.tasks(job)
        assert "last words\n" in task["failed_log"]
        [attempt] = api.attempts(task["uuid"])
        assert (attempt["log_bytes"], attempt["log_dropped_bytes"]) == (
            0,
            len("much\nlast words\n"),
        )
        wait_until("the agent says so", lambda: "takes no work" in log.read_text())
        later = api.post("/jobs", {"command": ["true"]})["uuid"]
        wait_until("it is queued for a slot", lambda: api.tasks(later))
        assert api.tasks(later)[0]["attempts"] == 0
        disk.free()
        assert api.final(later)["state"] == "Complete"
        assert api.tasks(later)[0]["attempts"] == 1
    text = log.read_text()
    assert (lines_with(text, "takes no work"), lines_with(text, "it takes work")) == (1, 1), text
    assert "Traceback" not in text


@pytest.mark.rule("R13", "R37")
def test_logs_wait_for_their_directory(disk: Disk, start: Start, tmp_path: Path) -> None:
    """The server's logs have a disk of their own, and it is full: jobs go on, no log is lost."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "logs").symlink_to(disk.path)
    served = start("--slots", "1")
    disk.fill()
    with served.api() as api:
        job = api.post("/jobs", {"command": ["sh", "-c", "seq 20000"]})["uuid"]
        assert api.final(job)["state"] == "Complete"
        wait_until("the pause", lambda: paused(served, "logs") == "1")
        assert httpx.get(served.url + "/healthz").status_code == 503
        api.pass_by()
        disk.free()
        path = f"/job_tasks/{api.tasks(job)[0]['uuid']}/log"
        expected = "".join(f"{number}\n" for number in range(1, 20001))
        wait_until("the log", lambda: api.http.get(path).text == expected)
        wait_until("the health", lambda: httpx.get(served.url + "/healthz").status_code == 200)
    code, _, errors = served.end()
    assert (code, lines_with(errors, "Traceback")) == (0, 0), errors
    assert lines_with(errors, "the logs cannot be written, a pause begins") == 1
    assert lines_with(errors, "the logs can be written again") == 1
