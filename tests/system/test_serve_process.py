"""The server as a process: how it starts, refuses, ends, and finds its node again."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
from pathlib import Path

import httpx
import pytest

from jobtasks.engines.local import start_time

from .conftest import LIMIT_SECONDS, QUICK, Served, Start, keeper_of, wait_until


def run_job(http: httpx.Client, *command: str) -> str:
    answer = http.post("/jobs", json={"command": list(command)})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["uuid"])


def state_of(http: httpx.Client, uuid: str, wait: float = 0) -> str:
    return str(http.get(f"/jobs/{uuid}", params={"wait": wait}).json()["state"])


def is_running(http: httpx.Client, uuid: str) -> bool:
    return bool(http.get(f"/jobs/{uuid}").json()["tasks_summary"]["running"])


def test_a_server_runs_a_job_and_ends_in_good_order(start: Start) -> None:
    """One line on stdout, files with modes, a job; TERM: exit 0, no process and no address left."""
    served = start("--slots", "1")
    with served.http() as http:
        assert httpx.get(served.url + "/healthz").json() == {"health": "OK"}
        uuid = run_job(http, "sh", "-c", "echo hello; echo problem >&2")
        assert state_of(http, uuid, LIMIT_SECONDS) == "Complete"
        filters = f'[["job_uuid","=","{uuid}"]]'
        task = http.get("/job_tasks", params={"filters": filters}).json()["items"][0]
        log = wait_until("a log", lambda: http.get(f"/job_tasks/{task['uuid']}/log").text)
        assert sorted(log.splitlines()) == ["hello", "problem"]
    assert (served.state / "url").read_text().strip() == served.url
    assert keeper_of(served.state)
    code, out, err = served.end()
    assert (code, out) == (0, ""), err
    assert "Traceback" not in err
    assert keeper_of(served.state) is None
    assert not (served.state / "url").exists()


@pytest.mark.rule("R14")
def test_a_running_task_is_stopped_and_goes_on_under_the_next_server(start: Start) -> None:
    """TERM stops it without counting a failure; it starts again with the next server."""
    served = start()
    with served.http() as http:
        uuid = run_job(http, "sh", "-c", "test $TASK_ATTEMPT -gt 1 || exec sleep 60")
        wait_until("it runs", lambda: is_running(http, uuid))
    assert served.end()[0] == 0
    with start().http() as http:
        assert state_of(http, uuid, LIMIT_SECONDS) == "Complete"
        task = http.get("/job_tasks").json()["items"][0]
        assert (task["attempts"], task["failed_count"]) == (2, 0)


@pytest.mark.rule("R33", "R37")
@pytest.mark.parametrize("how", ["kill", "handover"])
def test_a_task_outlives_its_server(start: Start, tmp_path: Path, how: str) -> None:
    """Killed, or told to hand over: the next server finds the keeper, nothing is started twice."""
    served = start("--handover")
    gate, witness = tmp_path / "gate", tmp_path / "witness"
    script = f"echo x >> {witness}; while test ! -e {gate}; do sleep 0.05; done"
    with served.http() as http:
        uuid = run_job(http, "sh", "-c", script)
        wait_until("it runs", witness.exists)
    keeper = keeper_of(served.state)
    if how == "kill":
        served.process.kill()
        served.rest()
    else:
        assert served.end()[0] == 0
    assert keeper_of(served.state) == keeper
    again = start()
    with again.http() as http:
        gate.touch()
        assert state_of(http, uuid, LIMIT_SECONDS) == "Complete"
    assert witness.read_text() == "x\n"
    assert keeper_of(served.state) == keeper
    assert again.end()[0] == 0
    assert keeper_of(served.state) is None


@pytest.mark.rule("R36")
def test_a_keeper_that_dies_is_replaced(start: Start) -> None:
    """Tasks run again after a while."""
    served = start()
    first = wait_until("a keeper", lambda: keeper_of(served.state))
    os.kill(first, signal.SIGKILL)
    second = wait_until(
        "another keeper", lambda: (now := keeper_of(served.state)) and now != first and now
    )
    assert second != first
    with served.http() as http:
        assert state_of(http, run_job(http, "true"), LIMIT_SECONDS) == "Complete"


def test_an_engine_that_hangs_does_not_keep_a_server_from_ending(
    start: Start, tmp_path: Path
) -> None:
    """Its command, which might take an hour, is ended with the server."""
    programs, note = tmp_path / "bin", tmp_path / "called"
    programs.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(f"#!/bin/sh\necho $$ > {note}.new; mv {note}.new {note}; exec sleep 3600\n")
    ssh.chmod(0o755)
    slow = {**QUICK, "engine_command_seconds": 3600.0}
    path = {"PATH": f"{programs}:{os.environ['PATH']}"}
    hosts = ("--no-agent", "--engine", "ssh", "--engine-option", "hosts=far")
    served = start(*hosts, settings=slow, environ=path)
    wait_until("it is asked", note.exists)
    assert served.end()[0] == 0
    assert start_time(int(note.read_text())) is None


def refused(served: Served) -> str:
    """Check that it did not start, and return its one line."""
    out, err = served.rest()
    assert served.process.returncode == 125, err
    assert (served.first_line, out) == ("", "")
    assert len(err.splitlines()) == 1, err
    return err


def test_a_second_server_on_a_directory_is_refused(start: Start) -> None:
    """125 and one line; the first goes on."""
    served = start("--no-agent")
    assert "another server" in refused(start("--no-agent"))
    assert httpx.get(served.url + "/healthz").status_code == 200
    assert served.end(signal.SIGINT)[0] == 0
    assert start("--no-agent").end()[0] == 0


def test_a_busy_port_is_refused(start: Start, tmp_path: Path) -> None:
    """125 and one line; the directory is free again."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "cannot listen" in refused(start("--no-agent", listen=listen))
    assert start("--no-agent").end()[0] == 0


def test_an_open_network_is_refused(start: Start) -> None:
    """Without TLS only loopback addresses."""
    assert "TLS" in refused(start("--no-agent", listen="0.0.0.0:0"))


def test_directories_that_cannot_be_used_are_refused(start: Start, tmp_path: Path) -> None:
    """A file in its place; a file that is no database; a database from the future."""
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", Path("/proc/jobtasks")):
        assert "cannot use" in refused(start("--no-agent", state=place))
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "jobtasks.db").write_text("this is no database, however long" * 100)
    assert "jobtasks.db" in refused(start("--no-agent", state=tmp_path / "damaged"))
    (tmp_path / "future").mkdir()
    connection = sqlite3.connect(tmp_path / "future" / "jobtasks.db")
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert "newer version" in refused(start("--no-agent", state=tmp_path / "future"))


def test_an_unreadable_directory_is_refused(start: Start, tmp_path: Path) -> None:
    """125 and one line; root is made to ask for permission like anyone else."""
    (tmp_path / "state").mkdir(mode=0)
    asking = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    before = asking if os.geteuid() == 0 else []
    assert "cannot use" in refused(start("--no-agent", before=before))


def test_no_secret_is_in_the_servers_log(start: Start) -> None:
    """Tokens are in no line, whatever fails."""
    served = start("--no-agent")
    token = (served.state / "admin.token").read_text().strip()
    with served.http() as http:
        http.post("/jobs", content=b"{")
        http.get("/nothing")
        run_job(http, "true")
    code, _, err = served.end()
    assert code == 0
    assert token not in err
