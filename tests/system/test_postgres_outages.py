"""A PostgreSQL that crashes and comes back: a pause, in which nothing is lost and nothing ends."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from tests.databases import Cluster, cluster
from tests.rounds import IS_TORTURE, LIMIT_SECONDS, note, rounds

from .conftest import Acted, Api, Served, Start, acting, wait_until
from .test_postgres_servers import Servers

TIMEOUT_SECONDS = 240 + 2 * LIMIT_SECONDS
PAUSE_SECONDS = 0.05


class Customers:
    """Who submits jobs again and again, each until it is answered for."""

    def __init__(self, served: Served, count: int = 2) -> None:
        self.statuses: Counter[int] = Counter()
        self.strange: list[str] = []
        """Answers that no pause explains."""
        self.jobs: dict[str, str] = {}
        """UUIDs of jobs by the names under which they were submitted."""
        self._served = served
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(count)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Let each end with the job that he is at."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, customer: int) -> None:
        number = 0
        with self._served.http() as http:
            while not self._over.is_set():
                number += 1
                name = f"{customer}-{number}"
                self.jobs[name] = self._submit(http, name)
                self._look(http, self.jobs[name])
                self._over.wait(PAUSE_SECONDS)

    def _submit(self, http: httpx.Client, name: str) -> str:
        body = {"command": ["true"], "submit_id": name}
        while True:
            answer = http.post("/jobs", json=body)
            self._note(answer)
            if answer.status_code == 200:
                return str(answer.json()["uuid"])
            self._over.wait(PAUSE_SECONDS)

    def _look(self, http: httpx.Client, uuid: str) -> None:
        self._note(http.get(f"/jobs/{uuid}"))
        self._note(http.get("/job_tasks", params={"limit": 3}))

    def _note(self, answer: httpx.Response) -> None:
        self.statuses[answer.status_code] += 1
        is_pause = answer.status_code == 503 and "retry-after" in answer.headers
        if answer.status_code != 200 and not is_pause:
            self.strange.append(f"{answer.status_code} {answer.text}")


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.rule("R33", "R35", "R37")
def test_a_database_that_crashes_is_a_pause(start: Start, tmp_path: Path) -> None:
    """It is stopped as by a crash while jobs come and run: 503 and never 500; every job that was
    answered for runs once, and no attempt ends for an outage.
    """
    chance = random.Random(1)
    with cluster() as own:
        served = Servers(start, tmp_path, own).start("only", "--slots", "3")
        with served.api() as api:
            release = tmp_path / "release"
            waits = acting(["await_file", str(release), TIMEOUT_SECONDS], ["complete"])
            lasting = Acted(api, tmp_path, [["create", waits], ["complete"]])
            lasting.noted("start", 2)
            customers = Customers(served)
            for _ in rounds("crashes of PostgreSQL", 20, 200):
                done = len(customers.jobs) + chance.randrange(2, 12 if IS_TORTURE else 4)
                wait_for(customers, done)
                refused = customers.statuses[503]
                own.stop("immediate")
                refusals(customers, refused)
                own.start()
                wait_for(customers, len(customers.jobs) + 1)
            customers.end()
            assert customers.strange == []
            release.touch()
            lasting.final()
            ran_once(api, customers, lasting.uuid)
        note("crashes of PostgreSQL", jobs=len(customers.jobs), refused=customers.statuses[503])
        code, _, err = served.end()
        assert code == 0
        assert "Traceback" not in err, err


def wait_for(customers: Customers, jobs: int) -> None:
    wait_until("more jobs", lambda: len(customers.jobs) >= jobs)


def refusals(customers: Customers, more_than: int) -> None:
    wait_until("a refusal", lambda: customers.statuses[503] > more_than)


def ran_once(api: Api, customers: Customers, *others: str) -> None:
    """Check that each job was made once and is complete, by one attempt that ran, and none failed.

    One that its agent gave back, as its order came too late for it to start, never ran.
    """
    for name, uuid in customers.jobs.items():
        query = json.dumps([["submit_id", "=", name]])
        found = api.get("/jobs", filters=query)["items"]
        assert [job["uuid"] for job in found] == [uuid]
        assert api.final(uuid)["state"] == "Complete"
    for job in (*customers.jobs.values(), *others):
        for task in api.tasks(job):
            before = api.attempts(task["uuid"])[:-1] if task["attempts"] > 1 else []
            assert task["failed_count"] == 0, (task, before)
            assert not [each for each in before if each["counted"] or each["run_seconds"]], before


@pytest.mark.timeout(TIMEOUT_SECONDS)
@pytest.mark.rule("R33", "R37")
def test_a_standby_takes_over(start: Start, tmp_path: Path) -> None:
    """With a synchronous standby: the first server crashes for good, the other is promoted, and
    every job that was answered for runs once; the address names both.
    """
    with cluster() as first:
        servers = Servers(start, tmp_path, first)
        second = Cluster(follows=first)
        try:
            first.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            first.execute("SELECT pg_reload_conf()")
            in_step = "SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"
            wait_until("the standby is in step", lambda: first.execute(in_step))
            address = f"{servers.address},{second.directory}"
            served = servers.start("only", "--slots", "3", address=address)
            customers = Customers(served)
            wait_for(customers, 6)
            first.stop("immediate")
            second.promote()
            wait_for(customers, len(customers.jobs) + 6)
            customers.end()
            assert customers.strange == []
            with served.api() as api:
                ran_once(api, customers)
            assert served.end()[0] == 0
        finally:
            second.close()


def test_a_database_that_is_not_there(start: Start, tmp_path: Path) -> None:
    """At the start it is one line and exit code 125, without the password; soon."""
    address = "postgresql://someone:hidden@127.0.0.1:1/none"
    began = time.monotonic()
    refused = start("--database", address, state=tmp_path / "state")
    out, err = refused.rest()
    assert (out, refused.process.returncode) == ("", 125)
    assert err.startswith("jobtasks serve: cannot use the database: ")
    assert len(err.splitlines()) == 1
    assert "hidden" not in err
    assert time.monotonic() - began < 30
