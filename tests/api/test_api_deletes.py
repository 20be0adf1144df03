"""What is deleted leaves nothing behind outside the database."""

from __future__ import annotations

from typing import Any

import pytest
from tests.api.conftest import Api

from jobtasks.protocol import frames


def cancelled_job_with_logs(api: Api) -> tuple[dict[str, Any], str]:
    """Return a job that is over, and the uuid of its one task, which has a log."""
    job, node = api.job(), api.node()
    assignment = node.next_assignment()
    node.push_log(assignment.attempt, frames.frame(frames.STDOUT, b"hello\n"), final=True)
    api.http.post(f"/arvados/v1/jobs/{job['uuid']}/cancel")
    node.end(assignment.attempt)
    return job, assignment.task


@pytest.mark.rule("R24")
def test_a_deleted_job_leaves_no_logs(api: Api) -> None:
    """The directory of its logs goes with it."""
    job, _ = cancelled_job_with_logs(api)
    folder = api.server.log_dir / job["uuid"]
    assert len(list(folder.iterdir())) == 1
    assert api.http.delete(f"/arvados/v1/jobs/{job['uuid']}").status_code == 200
    assert not folder.exists()


@pytest.mark.rule("R24")
def test_a_deleted_task_leaves_no_logs(api: Api) -> None:
    """The logs of its attempts go with it, those of others stay."""
    job, task = cancelled_job_with_logs(api)
    folder = api.server.log_dir / job["uuid"]
    other = folder / "zzzzz-ot0gb-000000000000000.1.log"
    other.touch()
    assert api.http.delete(f"/arvados/v1/job_tasks/{task}").status_code == 200
    assert list(folder.iterdir()) == [other]
