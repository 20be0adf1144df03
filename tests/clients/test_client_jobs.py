"""What old programs do with jobs through the Python client: queue, lock, drive, use again."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from arvados.errors import ApiError

from .conftest import NOWHERE, Client, Record, names_in

Submit = Any


@pytest.fixture
def submit(admin: Client) -> Iterator[Submit]:
    """Create jobs that no node runs; they are cancelled afterwards."""
    made: list[str] = []

    def create(body: Record | None = None, **options: Any) -> Record:
        work = {"command": ["true"], "runtime_constraints": NOWHERE, **(body or {})}
        job: Record = admin.jobs().create(body=work, **options).execute()
        made.append(job["uuid"])
        return job

    yield create
    for uuid in set(made):
        if admin.jobs().get(uuid=uuid).execute()["state"] in ("Queued", "Running"):
            admin.jobs().cancel(uuid=uuid).execute()


def test_the_queue_is_seen(admin: Client, submit: Submit) -> None:
    """Queued jobs, the most urgent first, and how many there are."""
    before = admin.jobs().queue_size().execute()["queue_size"]
    low, high = submit({"priority": 1}), submit({"priority": 9})
    queued = admin.jobs().queue(filters=[["uuid", "in", [low["uuid"], high["uuid"]]]]).execute()
    assert names_in(queued) == [high["uuid"], low["uuid"]]
    assert admin.jobs().queue_size().execute()["queue_size"] == before + 2


@pytest.mark.rule("R7b")
def test_a_program_drives_a_job_from_lock_to_complete(admin: Client, submit: Submit) -> None:
    """As crunch-job did: the first task with its qsequence, its children, what all of them said."""
    job = submit()
    uuid = job["uuid"]
    locked = admin.jobs().lock(uuid=uuid).execute()
    me = admin.users().current().execute()["uuid"]
    assert (locked["state"], locked["is_locked_by_uuid"]) == ("Running", me)
    with pytest.raises(ApiError) as caught:
        admin.jobs().lock(uuid=uuid).execute()
    assert caught.value.resp.status == 422
    tasks = admin.job_tasks()
    first = tasks.create(
        body={"job_task": {"job_uuid": uuid, "sequence": 0, "qsequence": 0, "parameters": {}}}
    ).execute()
    assert first["qsequence"] == 0
    for number in range(2):
        child = {"job_uuid": uuid, "created_by_job_task_uuid": first["uuid"], "sequence": 1}
        made = tasks.create(body={**child, "parameters": {"number": number}}).execute()
        tasks.update(uuid=made["uuid"], body={"success": True, "output": str(number)}).execute()
    tasks.update(uuid=first["uuid"], body={"success": True, "progress": 1.0}).execute()
    children = tasks.list(
        filters=[["created_by_job_task_uuid", "in", [first["uuid"]]]], order="qsequence"
    ).execute()
    assert names_in(children, "output") == ["0", "1"]
    summary = {"todo": 0, "running": 0, "done": 3, "failed": 0}
    end = {"state": "Complete", "output": "01", "tasks_summary": summary}
    done = admin.jobs().update(uuid=uuid, body={"job": end}).execute()
    assert (done["state"], done["success"], done["output"]) == ("Complete", True, "01")


def test_a_job_is_used_again_when_asked(admin: Client, submit: Submit) -> None:
    """``find_or_create`` and ``filters`` arrive as what they are; ``no_reuse`` is in the job."""
    name = "again-" + secrets.token_hex(4)
    same: Record = {"script": name, "repository": name, "script_version": "v1", "command": None}
    foreign = {**same, "script_parameters": {"n": 1, "m": [2]}, "state": "Running"}
    first = submit(foreign)["uuid"]
    end = {"state": "Complete", "output": "abc", "log": "all went well"}
    admin.jobs().update(uuid=first, body=end).execute()
    same |= {"script_parameters": {"m": [2], "n": 1}}
    same |= {"runtime_constraints": {"manager": "external"}}
    assert submit(same, find_or_create=True)["uuid"] == first
    by_name = [["repository", "=", name], ["script", "=", name]]
    versions = [*by_name, ["script_version", "in", ["v0", "v1"]]]
    assert submit(same, find_or_create=True, filters=versions)["uuid"] == first
    others = [*by_name, ["script_version", "=", "v0"]]
    assert submit(same, find_or_create=True, filters=others)["uuid"] != first
    assert submit({**same, "no_reuse": True})["uuid"] != first


def test_cancel_takes_its_components_along(admin: Client, submit: Submit) -> None:
    """``cascade`` is an argument of the method."""
    inner = submit()
    outer = submit({"components": {"inner": inner["uuid"]}})
    admin.jobs().cancel(uuid=outer["uuid"], cascade=True).execute()
    assert admin.jobs().get(uuid=inner["uuid"]).execute()["state"] == "Cancelled"
