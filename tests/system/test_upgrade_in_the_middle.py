"""Servers and agents are replaced in the middle of a job; backups are made of one under load."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.store.test_upgrades import JOB, KEY, TASKS, make_old_database

from jobtasks.core.identifiers import attempt_token
from jobtasks.protocol.messages import Alive, Ended, EndKind, Orders, Sync
from jobtasks.store.statements import load_migrations

from .conftest import (
    COMMAND,
    QUICK,
    Acted,
    Api,
    Served,
    Start,
    acting,
    agent_of,
    done,
    end_keeper,
    environment,
    keeper_of,
    process_identity,
    wait_until,
)

PATIENT = {**QUICK, "lease_seconds": 60.0}
"""Nothing here waits for a lease to run out, and a slow machine must not lose one."""
VERSIONS = [number for number, _ in load_migrations()][::4]
"""The first and some later ones; that each keeps what there is: tests/store/test_upgrades.py."""
BACKUPS = 2
TASKS_OF_JOB = 2 + 30 * 3
SCRIPT = """#!/usr/bin/env python3
from jobtasks_sdk import current_task
task = current_task()
task.complete(str(task.qsequence))
"""


# A server of another version


def old_state(folder: Path, version: int) -> Path:
    """Return a state directory as a server of that version left it, in the middle of a job."""
    state = folder / "state"
    state.mkdir(mode=0o700)
    (state / "secret.key").write_text(KEY.hex())
    (state / "secret.key").chmod(0o600)
    make_old_database(state / "jobtasks.db", version)
    scripts = folder / "scripts"
    scripts.mkdir()
    (scripts / "run").write_text(SCRIPT)
    (scripts / "run").chmod(0o755)
    database = sqlite3.connect(state / "jobtasks.db")
    database.execute("UPDATE job SET script_version = ?", (str(scripts),))
    database.commit()
    database.close()
    return state


class OldAgent:
    """The agent whose attempt runs in that database; it did not notice that the server is new."""

    def __init__(self, api: Api, state: Path) -> None:
        self._http = api.http
        self._token = (state / "agent.token").read_text().strip()
        self._number = 7

    def sync(self, **said: Any) -> Orders:
        self._number += 1
        answer = self._http.post(
            self._http.base_url.copy_with(path="/agent/v1/sync"),
            content=msgspec.msgpack.encode(Sync(1, self._number, **said)),
            headers={"Authorization": f"Bearer {self._token}"},
        )
        assert answer.status_code == 200, answer.text
        return msgspec.msgpack.decode(answer.content, type=Orders)


@pytest.mark.rule("R10", "R32", "R33", "R35", "R37")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_job_goes_on_under_a_newer_server(start: Start, tmp_path: Path, version: int) -> None:
    """What was complete stays, what ran ends as that attempt, what waited runs on a new node."""
    served = start("--slots", "2", settings=PATIENT, state=old_state(tmp_path, version))
    with served.api() as api:
        agent = OldAgent(api, served.state)
        orders = agent.sync(running=[Alive(2)], jobs_known=[JOB])
        assert (orders.rejoin, orders.renewed, orders.ask, orders.stop) == (False, True, [], [])
        verdict = {"success": True, "output": "same attempt"}
        token = api.as_token(attempt_token(KEY, 2))
        assert token.status("PUT", f"/job_tasks/{TASKS[1]}", verdict) == 200
        assert agent.sync(ended=[Ended(2, EndKind.EXIT, exit_code=0)]).acknowledged == [2]
        assert api.final(JOB)["output"] == "first\nsame attempt\n2\n3\n"
        assert [task["uuid"] for task in api.tasks(JOB)] == TASKS
        assert [task["attempts"] for task in api.tasks(JOB)] == [1, 1, 1, 1]
        assert token.status("PUT", f"/job_tasks/{TASKS[1]}", verdict) in (401, 403)
    assert served.end()[0] == 0
    assert "is sound (schema " in done("admin", "check", "--state", served.state)


# Another server of the same directory


@pytest.mark.rule("R10", "R33", "R35", "R37")
def test_a_handover_ends_no_task(start: Start, tmp_path: Path) -> None:
    """The old server leaves in good order; one task ends while there is none, one says afterwards
    that it succeeded, one creates a child: each in the attempt and the process that it had.
    """
    first, later = tmp_path / "first", tmp_path / "later"
    served = start("--handover", "--slots", "4", settings=PATIENT)
    with served.api() as api:
        said = acting(["await_file", str(later)], ["complete"])
        creates = acting(["await_file", str(later)], ["create", acting(["complete"])], ["complete"])
        silent = {"command": ["sh", "-c", f"until [ -e {first} ]; do sleep 0.02; done"]}
        job = Acted(api, tmp_path, [["create", said, creates, silent], ["complete"]])
        lines = job.noted("start", 3)
        wait_until("all three run", lambda: len(job.tasks(state="running")) == 3)
        pids = {line.task: line.pid for line in lines if line.task != job.seed["uuid"]}
    keeper, agent = keeper_of(served.state), agent_of(served.state)
    assert served.end()[0] == 0
    assert (keeper_of(served.state), agent_of(served.state)) == (keeper, agent)
    assert all(process_identity(pid) for pid in pids.values())
    first.touch()
    journal = served.state / "node" / "ends.journal"
    wait_until("its end is written down", lambda: journal.read_bytes().strip(b"\0"))
    again = start("--slots", "4", settings=PATIENT, listen=served.address)
    with again.api() as api:
        job.api = api
        later.touch()
        assert api.final(job.uuid)["state"] == "Complete", job.told()
        assert [task["attempts"] for task in job.tasks()] == [1] * 5
        causes = [[one["cause"] for one in api.attempts(task["uuid"])] for task in job.tasks()]
        assert causes == [["exit"]] * 5
        assert {line.task: line.pid for line in job.witness.lines("said")}.items() >= pids.items()
    assert (keeper_of(served.state), agent_of(served.state)) == (keeper, agent)
    assert again.end()[0] == 0


# Another agent on the same node


class Agents:
    """The agents that one node has one after the other."""

    def __init__(self, served: Served, folder: Path) -> None:
        self.state = folder / "machine"
        self._served = served
        self._stderr = folder / "agent.stderr"
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start the next one."""
        words = ["agent", "--server", self._served.url, "--slots", "2"]
        words += ["--token-file", str(self._served.state / "agent.token")]
        words += ["--node-dir", str(self.state / "node")]
        with self._stderr.open("ab") as stderr:
            self.process = subprocess.Popen([*COMMAND, *words], stderr=stderr, env=environment())
        return self.process

    def end(self) -> int:
        """End it in good order."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


@pytest.fixture
def agents(start: Start, tmp_path: Path) -> Iterator[tuple[Served, Agents]]:
    """A server without a node, and a node."""
    served = start("--no-agent", settings=PATIENT)
    found = Agents(served, tmp_path)
    yield served, found
    if found.process.poll() is None:
        found.end()
    end_keeper(found.state)


def node_is(api: Api, state: str) -> Any:
    """Return the only node when it is in this state."""
    nodes = api.get("/nodes")["items"]
    assert len(nodes) <= 1
    return next((node for node in nodes if node["state"] == state), None)


@pytest.mark.rule("R14", "R36")
def test_an_agent_is_replaced_after_a_drain(agents: tuple[Served, Agents], tmp_path: Path) -> None:
    """``drain --wait`` ends when what ran has ended; the new agent is the same node, and takes
    what waited when it is released: no attempt was stopped, none was lost.
    """
    served, node = agents
    gate = tmp_path / "gate"
    with served.api() as api:
        before = wait_until("a node", partial(node_is, api, "live"))
        child = acting(["await_file", str(gate)], ["complete"])
        job = Acted(api, tmp_path, [["create", *[child] * 4], ["complete"]])
        job.noted("start", 3)
        words = ["node", "drain", before["hostname"], "--reason", "a new version", "--wait"]
        token = (served.state / "admin.token").read_text().strip()
        with subprocess.Popen(
            [*COMMAND, *words], stdout=subprocess.PIPE, text=True,
            env=environment(JOBTASKS_URL=served.url, JOBTASKS_TOKEN=token),
        ) as drain:  # fmt: skip
            wait_until("it drains", partial(node_is, api, "draining"))
            assert drain.poll() is None
            gate.touch()
            said, _ = drain.communicate(timeout=60)
        assert (drain.returncode, said) == (0, f"{before['hostname']} drained (a new version)\n")
        assert node.end() == 0
        assert [task["state"] for task in job.tasks()][3:] == ["waiting"] * 2
        first = node.process.pid
        assert node.start().pid != first
        wait_until("the node is back", lambda: agent_of(node.state))
        wait_until("it has joined", partial(node_is, api, "drained"))
        done("node", "release", before["hostname"], served=served)
        job.final()
        assert [task["attempts"] for task in job.tasks()] == [1] * 5
        assert {one["cause"] for task in job.tasks() for one in api.attempts(task["uuid"])} == {
            "exit"
        }
        after = wait_until("the node is live", partial(node_is, api, "live"))
        assert after["uuid"] == before["uuid"]


# Backups of a server under load


@pytest.mark.timeout(300)
@pytest.mark.rule("R12", "R37")
def test_backups_are_made_while_the_server_works(start: Start, tmp_path: Path) -> None:
    """Tasks create, complete and fail once all the time: each backup and the directory itself are
    sound, the job notices nothing, and it completes from the last backup as well.
    """
    served = start("--slots", "4")
    go = tmp_path / "go"
    grandchild = {"parameters": {"attempts": [[["end", 1]], [["complete"]]]}}
    child = acting(["create", acting(["complete"]), grandchild], ["complete"])
    last = acting(["await_file", str(go)], ["complete"], sequence=3)
    with served.api() as api:
        job = Acted(api, tmp_path, [["create", last, *[child] * 30], ["complete"]])
        for number in range(BACKUPS):
            job.noted("start", 10 + 20 * number)
            backup, new = tmp_path / f"{number}.backup", tmp_path / f"restored-{number}"
            done("admin", "backup", backup, "--state", served.state)
            assert "is sound" in done("admin", "check", "--state", served.state)
            done("admin", "restore", backup, "--state", new)
            assert "is sound" in done("admin", "check", "--state", new)
        go.touch()
        job.final()
        assert len(job.tasks()) == TASKS_OF_JOB
    served.end()
    again = start("--slots", "4", state=new)
    with again.api() as api:
        ended = api.final(job.uuid)
        assert ended["state"] == "Complete", ended
        assert len(api.tasks(job.uuid)) == TASKS_OF_JOB
