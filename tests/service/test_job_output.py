"""A job's output collates the outputs of its tasks (R20)."""

from __future__ import annotations

from typing import Any

import pytest

from jobtasks.core.settings import Settings
from jobtasks.service import jobs
from jobtasks.store.records import JobRecord
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.service import LocalService


def finished(
    service: LocalService, outputs: list[tuple[int, str | None]], **constraints: Any
) -> JobRecord:
    """Run a job whose seed creates tasks of these sequences with these outputs."""
    agent = SimulatedAgent(service, slots=50)
    job = service.started_job(runtime_constraints=constraints)
    agent.grow(*[{"sequence": sequence} for sequence, _ in outputs])
    while started := agent.take():
        for assignment in reversed(started):
            agent.complete(assignment, outputs[assignment.qsequence - 1][1])
    job = service.job(job)
    assert job.state == "Complete"
    return job


def whole(service: LocalService, job: JobRecord) -> str:
    """Return the whole output, page by page."""
    pieces: list[str] = []
    cursor: tuple[int, int] | None = None
    for _ in range(100):
        page, cursor = service.call(jobs.output_page, job.uuid, cursor)
        pieces += page
        if cursor is None:
            return "".join(pieces)
    raise AssertionError("the pages have no end")


@pytest.mark.rule("R20")
def test_outputs_are_in_order_of_sequence_then_qsequence(service: LocalService) -> None:
    """Each ended by a newline, null left out, an empty one an empty line."""
    outputs = [(5, "f"), (2, "b"), (1, "a\n"), (2, None), (2, "c"), (2, ""), (5, "g\n\n")]
    job = finished(service, outputs)
    assert job.output == "a\nb\nc\n\nf\ng\n\n"
    assert not job.output_truncated
    assert whole(service, job) == job.output


@pytest.mark.rule("R20")
def test_output_last_is_the_highest_sequence_only(service: LocalService) -> None:
    """Also where its outputs are null."""
    outputs = [(2, "b"), (7, "x"), (1, "a"), (7, None), (7, "y")]
    job = finished(service, outputs, output="last")
    assert job.output == "x\ny\n" == whole(service, job)
    assert not finished(service, [(1, "a"), (2, None)], output="last").output


@pytest.mark.rule("R20")
@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        (["x" * 9], "x" * 9 + "\n"),
        (["x" * 10], "x" * 10),
        (["ä" * 6], "ä" * 5),
        (["äx" * 4], "äxäxäx"),
        (["12345", "6789", "0"], "12345\n6789"),
    ],
)
def test_a_long_output_is_cut(texts: list[str], kept: str) -> None:
    """At the limit in bytes, between characters; the whole is still there."""
    service = LocalService(settings=Settings(job_output_bytes_max=10))
    job = finished(service, [(1, text) for text in texts])
    assert job.output == kept
    assert bool(job.output_truncated) == (sum(len(t.encode()) + 1 for t in texts) > 10)
    assert whole(service, job) == "".join(text + "\n" for text in texts)
    service.close()


@pytest.mark.rule("R20")
def test_the_whole_output_is_paged(service: LocalService) -> None:
    """Many tasks: no page holds all, none is left out or repeated."""
    job = finished(service, [(1 + number % 3, str(number)) for number in range(1201)])
    expected = [str(n) for s in range(3) for n in range(1201) if n % 3 == s]
    assert whole(service, job).split("\n")[:-1] == expected
    assert job.output == whole(service, job)


@pytest.mark.rule("R20")
def test_only_complete_tasks_have_an_output(service: LocalService, agent: SimulatedAgent) -> None:
    """What a failed attempt wrote is in no job's output; a failed job has none of its own."""
    job = service.started_job()
    agent.grow({}, {})
    first, second = agent.take()
    agent.complete(first, "good")
    agent.write(second, output="half")
    agent.fail(second)
    failed = service.job(job)
    assert (failed.state, failed.output) == ("Failed", None)
    assert whole(service, failed) == "good\n"


@pytest.mark.rule("R20")
def test_a_job_is_complete_when_all_its_tasks_are(
    service: LocalService, agent: SimulatedAgent
) -> None:
    """Not before the last of the highest sequence, and at once then."""
    job = service.started_job()
    agent.grow({}, {"sequence": 2})
    agent.complete(agent.take_one())
    assert service.job(job).state == "Running"
    agent.complete(agent.take_one())
    now = service.job(job)
    assert (now.state, now.finished_at) == ("Complete", service.clock.now)
