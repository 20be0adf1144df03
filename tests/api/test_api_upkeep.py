"""Old jobs and logs over HTTP: removed by the server, or at once; how much room things take."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobtasks.api import upkeep
from jobtasks.api.housekeeping import keep_house

from .conftest import FAST, LIMIT_SECONDS, Api, LiveServer

NOBODY = "zzzzz-8i9sb-00000000000nobo"


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Api]:
    """A server of the test's own, as all of its jobs are looked at."""
    live = LiveServer(tmp_path, dataclasses.replace(FAST, lease_seconds=600.0))
    client = Api(live)
    yield client
    client.close()
    live.close()


def over(api: Api, node: Any, log: bytes = b"o\0\0\0\5hello") -> tuple[str, str]:
    """Return job and task of a job that has completed and left a log."""
    job = api.job()["uuid"]
    given = node.next_assignment()
    node.push_log(given.attempt, log, final=True)
    node.end(given.attempt, log_bytes=5)
    assert api.get(f"jobs/{job}", wait=10)["state"] == "Complete"
    return job, given.task


def collect(api: Api, **body: Any) -> dict[str, Any]:
    answer = api.http.post("/arvados/v1/sys/gc", json=body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def log_of(api: Api, task: str) -> httpx.Response:
    return api.http.get(f"/arvados/v1/job_tasks/{task}/log")


@pytest.mark.rule("R13")
def test_logs_are_removed_and_say_so(own: Api) -> None:
    """At the log's address, in the attempt, in the job; the records stay."""
    node = own.node()
    job, task = over(own, node)
    assert log_of(own, task).text == "hello"
    size = own.get(f"jobs/{job}/sizes")
    assert (size["tasks"], size["log_files"], size["log_bytes"]) == (1, 1, 10)
    assert collect(own)["removed"]["logs"] == 0, "kept for ever, unless told otherwise"
    looked = collect(own, dry_run=True, logs_older_than_seconds=0)
    assert log_of(own, task).text == "hello"
    done = collect(own, logs_older_than_seconds=0)
    for found in (looked, done):
        assert found["removed"] == {
            "jobs": 0,
            "logs": 1,
            "log_files": 1,
            "packs": 0,
            "log_bytes": 10,
            "tokens": 0,
        }
    assert (done["before"]["log_bytes"], done["after"]["log_bytes"]) == (10, 0)
    gone = log_of(own, task)
    assert (gone.status_code, "was removed at" in gone.json()["errors"][0]) == (404, True)
    (attempt,) = own.get(f"job_tasks/{task}/attempts")["items"]
    assert attempt["log_removed_at"] == own.get(f"jobs/{job}")["logs_removed_at"]
    assert attempt["log_bytes"] == 5
    assert collect(own, logs_older_than_seconds=0)["removed"]["logs"] == 0


@pytest.mark.rule("R24")
def test_jobs_are_removed_with_rows_and_files(own: Api) -> None:
    """When the call is answered; a job that runs stays with its log."""
    node = own.node()
    job, task = over(own, node)
    running = own.job()["uuid"]
    given = node.next_assignment()
    node.push_log(given.attempt, b"o\0\0\0\1x")
    looked = collect(own, dry_run=True, jobs_older_than_seconds=0, logs_older_than_seconds=0)
    done = collect(own, jobs_older_than_seconds=0, logs_older_than_seconds=0, shrink=True)
    assert looked["removed"] == done["removed"]
    assert (done["removed"]["jobs"], done["removed"]["logs"], done["more"]) == (1, 0, False)
    assert done["after"]["database_free_bytes"] == 0
    assert own.http.get(f"/arvados/v1/jobs/{job}").status_code == 404
    assert log_of(own, task).status_code == 404
    folders = [path.name for path in own.server.log_dir.iterdir()]
    assert folders == [running]
    rows = own.server.store.read(lambda tx: tx.text("SELECT count(*) FROM attempt", {}))
    assert rows == [(1,)]


@pytest.mark.rule("R24")
def test_a_deleted_job_leaves_no_file(own: Api) -> None:
    """DELETE removes the logs from disk; what a crash left is found by the next look."""
    job, _ = over(own, own.node())
    kept, _ = over(own, own.node())
    assert own.http.delete(f"/arvados/v1/jobs/{job}").status_code == 200
    assert [path.name for path in own.server.log_dir.iterdir()] == [kept]
    left = own.server.log_dir / NOBODY
    left.mkdir()
    (left / "zzzzz-ot0gb-000000000000000.1.log").write_text("left")
    (own.server.log_dir / "notes").mkdir()
    assert collect(own)["removed"]["log_bytes"] == 4
    assert sorted(path.name for path in own.server.log_dir.iterdir()) == sorted([kept, "notes"])


def test_a_call_that_takes_long_says_that_there_is_more(
    own: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And does not keep its caller waiting: repeated, it goes on."""
    over(own, own.node())
    monkeypatch.setattr(upkeep, "SECONDS_MAX", 0.0)
    assert collect(own, jobs_older_than_seconds=0)["more"]
    monkeypatch.setattr(upkeep, "SECONDS_MAX", 60.0)
    done = collect(own, jobs_older_than_seconds=0)
    assert (done["removed"]["jobs"], done["more"]) == (1, False)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"jobs_older_than_seconds": "30d"}, "jobs_older_than_seconds must be a number"),
        ({"logs_older_than_seconds": -1}, "logs_older_than_seconds must be a number"),
        ({"logs_older_than_seconds": True}, "logs_older_than_seconds must be a number"),
        ({"dry_run": "yes"}, "dry_run must be true or false"),
        ({"jobs_older_than": 1}, "unknown attribute: jobs_older_than"),
    ],
)
def test_what_makes_no_sense_is_refused(api: Api, body: dict[str, Any], problem: str) -> None:
    """422 and a sentence; nothing is removed."""
    answer = api.http.post("/arvados/v1/sys/gc", json=body)
    assert answer.status_code == 422
    assert problem in answer.json()["errors"][0]


def test_sizes_of_everything(own: Api) -> None:
    """Records, database, logs, free space; the metrics show the same."""
    over(own, own.node())
    sizes = own.get("sys/sizes")
    assert (sizes["jobs"], sizes["tasks"], sizes["log_bytes"]) == (1, 1, 10)
    assert sizes["database_bytes"] > 4096
    assert sizes["free_bytes"] > 0
    metrics = own.http.get("/metrics").text
    assert "jobtasks_logs_disk_bytes 10\n" in metrics
    assert "jobtasks_database_bytes " in metrics
    assert "jobtasks_disk_free_bytes " in metrics


def test_the_server_keeps_house_by_itself(tmp_path: Path) -> None:
    """What the settings say goes, without a call; so does what an earlier server left behind."""
    settings = dataclasses.replace(
        FAST, lease_seconds=600.0, retain_jobs_seconds=0.001, housekeeping_seconds=0.05
    )
    left = tmp_path / "logs" / NOBODY
    live = LiveServer(tmp_path, settings)
    left.mkdir()
    api = Api(live)
    job, _ = over(api, api.node())

    async def look_until_gone() -> list[str]:
        house = asyncio.create_task(keep_house(live.edge))
        async with asyncio.timeout(LIMIT_SECONDS - 5):
            while any(live.log_dir.iterdir()) or _is_there(api, job):
                await asyncio.sleep(0.01)
        house.cancel()
        return [path.name for path in live.log_dir.iterdir()]

    assert live.run(look_until_gone()) == []
    api.close()
    live.close()


def _is_there(api: Api, job: str) -> bool:
    found = api.server.store.read(
        lambda tx: tx.text("SELECT count(*) FROM job WHERE uuid = :uuid", {"uuid": job})
    )
    return found != [(0,)]
