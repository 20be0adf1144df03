"""Several servers on one PostgreSQL database: they share jobs and logs, and outlive each other."""

from __future__ import annotations

import contextlib
import hashlib
import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.databases import Cluster, Pooler
from tests.rounds import IS_TORTURE, LIMIT_SECONDS, note, rounds

from .conftest import QUICK, Acted, Play, Served, Start, acting, done, wait_until

TIMEOUT_SECONDS = 240 + 2 * LIMIT_SECONDS
SOON_SECONDS = 20.0
"""What may be waited for when the manager is gone."""
LIVELY = {**QUICK, "manager_seconds": 3.0}
"""A manager that is silent for three seconds has a successor."""
AUDIT = """
CREATE TABLE audit (id BIGINT GENERATED ALWAYS AS IDENTITY, term BIGINT, holder TEXT);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN INSERT INTO audit (term, holder) VALUES (NEW.term, NEW.holder); RETURN NULL; END $$;
CREATE TRIGGER audit AFTER INSERT OR UPDATE ON manager FOR EACH ROW EXECUTE FUNCTION audit()
"""
"""Notes each write of a manager, with its term, in the transaction that it is part of."""


class Servers:
    """Servers of one new database, in directories of their own."""

    def __init__(self, start: Start, folder: Path, cluster: Cluster) -> None:
        self._start = start
        self._folder = folder
        self.cluster = cluster
        self.address = cluster.new_database()

    def options(self, address: str = "") -> list[str]:
        """Return what makes a server one of them."""
        return ["--database", address or self.address, "--shared", str(self._folder / "shared")]

    def start(self, name: str, *options: str, **more: Any) -> Served:
        """Start one of them; a name is a state directory."""
        more = {"settings": LIVELY, **more}
        state = self._folder / name
        return self._start(*self.options(more.pop("address", "")), *options, state=state, **more)

    def restart(self, served: Served, *options: str) -> Served:
        """Start one that has died, at its address."""
        return self.start(served.state.name, *options, listen=served.address)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self.cluster.execute(statement, self.address)

    def manager(self) -> str:
        """Return which server manages, by the name of its state directory."""
        ((holder,),) = self.rows("SELECT holder FROM manager")
        for state in self._folder.glob("*/server.id"):
            if state.read_text().strip() == holder:
                return state.parent.name
        raise AssertionError(f"{holder} is none of the servers")

    def succeeded(self, old: str, began: float) -> float:
        """Wait until another server than `old` manages; return the seconds since `began`."""
        wait_until("another manager", lambda: self.manager() != old, SOON_SECONDS)
        return time.monotonic() - began


@pytest.fixture
def servers(start: Start, tmp_path: Path, postgres: Cluster) -> Servers:
    return Servers(start, tmp_path, postgres)


@pytest.mark.rule("R37")
def test_two_servers_are_one(servers: Servers) -> None:
    """What one is asked the other does: it is woken by hints, and has the logs."""
    first, second = servers.start("first", "--no-agent"), servers.start("second", "--slots", "2")
    with first.api() as api, second.api() as other:
        other.pass_by()
        began = time.monotonic()
        for _ in range(5):
            job = api.post("/jobs", {"command": ["echo", "heard"]})["uuid"]
            assert api.final(job)["success"]
        print(f"a job at another server took {(time.monotonic() - began) / 5:.3f} s")
        task = api.tasks(job)[0]["uuid"]
        logs = [one.http.get(f"/job_tasks/{task}/log").text for one in (api, other)]
        assert logs[0] == logs[1]
        assert "heard" in logs[0]
        assert {one.get("/users/current")["username"] for one in (api, other)} == {"root"}


def test_scripts_are_had_at_another_server(servers: Servers, tmp_path: Path) -> None:
    """Made at one, sent by the other; made again by it as long as the directory is as it was."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    (scripts / "run").write_text("#!/bin/sh\n")
    (scripts / "run").chmod(0o755)
    first, second = (servers.start(name, "--no-agent") for name in ("first", "second"))
    with first.api() as api, httpx.Client(base_url=second.url) as node:
        given = {"script": "run", "script_version": str(scripts)}
        pack = api.post("/jobs", given)["script_hash"]
        token = (tmp_path / "shared" / "agent.token").read_text().strip()
        file = tmp_path / "shared" / "scripts" / f"{pack}.tar"

        def fetched() -> httpx.Response:
            headers = {"Authorization": f"Bearer {token}"}
            return node.get(f"/agent/v1/scripts/{pack}", headers=headers)

        assert hashlib.sha256(fetched().content).hexdigest() == pack
        file.unlink()
        assert hashlib.sha256(fetched().content).hexdigest() == pack
        assert file.exists()
        file.unlink()
        (scripts / "run").write_text("#!/bin/sh\nexit 1\n")
        assert fetched().status_code == 404


def test_a_log_is_followed_at_another_server(servers: Servers) -> None:
    """Its agent is told by the hint of whom the reader asked."""
    first, second = servers.start("first", "--no-agent"), servers.start("second", "--slots", "1")
    with first.api() as api:
        command = ["sh", "-c", "echo begun; while [ ! -e $0 ]; do sleep 0.05; done"]
        release = second.state / "release"
        job = api.post("/jobs", {"command": [*command, str(release)]})["uuid"]
        task = wait_until("it runs", lambda: api.tasks(job, state="running"))[0]["uuid"]
        path = f"/job_tasks/{task}/log"
        wait_until("its log", lambda: "begun" in api.http.get(path).text)
        release.touch()
        assert api.final(job)["success"]


@pytest.mark.parametrize("shared", [False, True])
def test_servers_without_a_shared_directory_are_refused(servers: Servers, shared: bool) -> None:
    """Each would have a key of its own; and none serves records that are not where it is told."""
    servers.start("first", "--no-agent")
    if shared:
        refused = servers._start("--no-agent", state=servers._folder / "first")
    else:
        refused = servers._start("--database", servers.address, "--no-agent")
    out, err = refused.rest()
    assert (out, refused.process.returncode) == ("", 125)
    assert ("another server serves" if shared else "--shared") in err
    assert "postgres@" not in err


def test_records_elsewhere_are_not_begun_anew(servers: Servers) -> None:
    """A directory whose records are in PostgreSQL gets no SQLite file, and the other way round."""
    assert servers.start("first", "--no-agent").end()[0] == 0
    forgotten = servers._start("--no-agent", state=servers._folder / "first")
    assert "--database" in forgotten.rest()[1]
    assert servers._start("--no-agent", state=servers._folder / "own").end()[0] == 0
    assert "records of its own" in servers.start("own", "--no-agent").rest()[1]


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.rule("R1", "R37")
def test_servers_are_killed_in_turn(servers: Servers, tmp_path: Path) -> None:
    """kill -9 of one of two, the manager or not: every task is accepted once, none is lost."""
    both = {name: servers.start(name, "--slots", "2") for name in ("first", "second")}
    chance = random.Random(1)
    for number in rounds("kills of one of two servers", 2, 60):
        victim = servers.manager() if number % 2 == 0 else chance.choice(sorted(both))
        (other,) = both.keys() - {victim}
        with both[other].api() as api:
            last = acting(["complete"], sequence=2)
            children = [acting(["complete"]) for _ in range(20)]
            plays: Play = [["create", *children, last], ["complete"]]
            job = Acted(api, tmp_path, plays)
            job.noted("start", chance.randrange(2, 15))
            began = time.monotonic()
            both[victim].kill()
            took = servers.succeeded(victim, began)
            both[victim] = servers.restart(both[victim], "--slots", "2")
            job.final(seconds=90)
            assert len(job.tasks()) == 22
            note("kills of one of two servers", longest_take_over_seconds=took)
    state = ["--state", str(both["first"].state), *servers.options()]
    assert "is sound" in done("admin", "check", *state)


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.rule("R33", "R37")
def test_a_manager_that_stands_still_is_succeeded(servers: Servers) -> None:
    """SIGSTOP, with the times of every day: another manages within 20 s; the old one, when it goes
    on, writes nothing with its term, and stands by.
    """
    servers.rows(AUDIT)
    settings = {**QUICK, "manager_seconds": 10.0}
    names = ("first", "second", "third", "fourth", "fifth")[: 5 if IS_TORTURE else 3]
    more = {name: servers.start(name, "--no-agent", settings=settings) for name in names}
    stood_by: Counter[str] = Counter()
    for _ in rounds("managers that stand still", 1, 20):
        old = servers.manager()
        ((term,),) = servers.rows("SELECT term FROM manager")
        more[old].process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        took = servers.succeeded(old, began)
        note("managers that stand still", longest_take_over_seconds=took)
        more[old].process.send_signal(signal.SIGCONT)
        stood_by[old] += 1
        stands_by(more[old], stood_by[old])
        with more[old].api() as api:
            assert api.get("/jobs")["items_available"] == 0
        ((newest,),) = servers.rows("SELECT term FROM manager")
        assert newest > term
    terms = [row[0] for row in servers.rows("SELECT term FROM audit ORDER BY id")]
    assert terms == sorted(terms), "something was written with an old term"


def stands_by(served: Served, times: int) -> None:
    """Wait until a server has said that it is the manager no longer."""
    words = "another server is the manager now"
    wait_until("it stands by", lambda: served.errors().count(words) >= times)


def test_a_manager_that_ends_gives_way(servers: Servers) -> None:
    """In good order: the other is the manager at once."""
    first = servers.start("first", "--no-agent", settings={**QUICK, "manager_seconds": 60.0})
    servers.start("second", "--slots", "1", settings={**QUICK, "manager_seconds": 60.0})
    assert servers.manager() == "first"
    assert first.end()[0] == 0
    wait_until("the other manages", lambda: servers.manager() == "second", SOON_SECONDS)


@contextlib.contextmanager
def pooled(cluster: Cluster) -> Iterator[Pooler]:
    found = Pooler(cluster)
    try:
        yield found
    finally:
        found.close()


@pytest.mark.rule("R37")
def test_servers_work_through_a_pooler(servers: Servers) -> None:
    """PgBouncer that hands out connections by transactions: no hints, and nothing is missing."""
    with pooled(servers.cluster) as pooler:
        address = pooler.address(servers.address)
        first = servers.start("first", "--database-pooled", "--no-agent", address=address)
        second = servers.start("second", "--database-pooled", "--slots", "2", address=address)
        with first.api() as api:
            body = {"command": ["true"]}
            jobs = [api.post("/jobs", body)["uuid"] for _ in range(4)]
            assert all(api.final(job)["success"] for job in jobs)
        assert (first.end()[0], second.end()[0]) == (0, 0)
