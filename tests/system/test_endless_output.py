"""Output without end and without sense, and parameters that systems trip over (R38, R40)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from tests.rounds import IS_TORTURE, note, seconds

from .conftest import QUICK, Api, Start, agent_of, wait_until

CAP_BYTES = 2_000_000
LAST_WORDS_MAX = 256 * 1024
GROWTH_KIB_MAX = 24 * 1024
"""What an agent may grow by while two streams pour into it: not what they bring."""
ROW = "endless output"
POURING = 16
POURED_KIB_MAX = 50 * 1024
"""What an agent may have of memory more than before while so many tasks pour."""
NEIGHBOURS = 4
RATE_MIN = 0.5
"""Of their rate by themselves."""


def memory_kib(pid: int) -> int:
    """Return what a process had of memory at most, so far."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0])


@pytest.mark.rule("R38", "R40")
def test_output_without_end_is_capped_and_counted(start: Start, tmp_path: Path) -> None:
    """`yes` on both streams: the log keeps its first and last half, the agent its size; the tasks
    beside it run as ever.
    """
    served = start("--slots", "2", settings={**QUICK, "log_bytes_max": CAP_BYTES})
    gate, enough = tmp_path / "gate", 60_000_000
    pour = f"yes out | head -c {enough} & yes err | head -c {enough} >&2; wait"
    await_gate = f"until [ -e {gate} ]; do sleep 0.02; done"
    program = f"echo first; {pour}; {await_gate}; echo last"
    with served.api() as api:
        api.pass_by()
        agent = wait_until("an agent", lambda: agent_of(served.state))
        before = memory_kib(agent)
        job = api.post("/jobs", {"command": ["sh", "-c", program]})["uuid"]
        for _ in range(3):
            api.pass_by()
        gate.touch()
        assert api.final(job)["state"] == "Complete"
        assert memory_kib(agent) - before < GROWTH_KIB_MAX
        [task] = api.tasks(job)
        [attempt] = api.attempts(task["uuid"])
        assert attempt["log_bytes"] <= CAP_BYTES
        assert attempt["log_bytes"] + attempt["log_dropped_bytes"] == 2 * enough + 11
        path = f"/job_tasks/{task['uuid']}/log"
        wait_until("the log", lambda: api.http.get(path).text.endswith("last\n"))
        text = api.http.get(path).text
        assert text.startswith("first\n")
        [dropped] = re.findall(r"\[(\d+) bytes were dropped here", text)
        assert int(dropped) == attempt["log_dropped_bytes"]
        assert CAP_BYTES * 0.9 < len(text) < CAP_BYTES + 200


def rate_of_neighbours(api: Api, for_seconds: float) -> float:
    """Return how many short jobs a second come and go, a few at a time."""
    began = time.monotonic()
    count = 0
    while count == 0 or time.monotonic() - began < for_seconds:
        jobs = [api.post("/jobs", {"command": ["true"]})["uuid"] for _ in range(NEIGHBOURS)]
        assert {api.final(job)["state"] for job in jobs} == {"Complete"}
        count += len(jobs)
    return count / (time.monotonic() - began)


def are_over(api: Api, jobs: list[str], gate: Path) -> bool:
    """Let whoever waits at the gate through; return whether all jobs are over."""
    with contextlib.suppress(OSError):
        os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
    return all(api.get(f"/jobs/{job}")["state"] == "Complete" for job in jobs)


@pytest.mark.timeout(seconds(3, 60) * 2 + 180)
@pytest.mark.rule("R38", "R40")
def test_a_node_full_of_endless_output(start: Start, tmp_path: Path) -> None:
    """16 times `yes`, on either stream: the agent keeps its size, caps hold, what is dropped is
    counted, and short tasks of other jobs go on beside them.
    """
    is_idle = os.getloadavg()[0] < 1
    slots = str(POURING + NEIGHBOURS)
    served = start("--slots", slots, settings={**QUICK, "log_bytes_max": CAP_BYTES})
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    programs = [
        f"echo first; {pour} & pid=$!; cat {gate}; kill $pid; wait; echo last"
        for pour in ("yes out", "yes err >&2")
    ]
    with served.api() as api:
        api.pass_by()
        agent = wait_until("an agent", lambda: agent_of(served.state))
        alone = rate_of_neighbours(api, seconds(3, 60) / 2)
        before = memory_kib(agent)
        jobs = [
            api.post("/jobs", {"command": ["sh", "-c", programs[number % 2]]})["uuid"]
            for number in range(POURING)
        ]
        wait_until("all pour", lambda: all(api.tasks(job, state="running") for job in jobs))
        beside = rate_of_neighbours(api, seconds(3, 60))
        grown = memory_kib(agent) - before
        wait_until("all are over", lambda: are_over(api, jobs, gate))
        attempts = [check_capped(api, job) for job in jobs]
    assert grown < POURED_KIB_MAX
    ratio = beside / alone
    note(
        ROW,
        agent_grown_mib=round(grown / 1024, 1),
        dropped_mib=round(sum(attempts) / 1024**2),
        neighbours_alone_a_second=round(alone, 1),
        neighbours_beside_a_second=round(beside, 1),
        ratio=round(ratio, 2),
        idle_machine=is_idle,
    )
    # Only a machine that did nothing else at the time can tell.
    assert ratio >= RATE_MIN or not (IS_TORTURE and is_idle)


def check_capped(api: Api, job: str) -> int:
    """Check the log of a task that poured; return how many bytes were dropped."""
    [task] = api.tasks(job)
    [attempt] = api.attempts(task["uuid"])
    assert attempt["log_bytes"] <= CAP_BYTES
    path = f"/job_tasks/{task['uuid']}/log"
    # What was in the other stream's pipe may come after it.
    wait_until("the log's end", lambda: "last\n" in api.http.get(path).text[-LAST_WORDS_MAX:])
    text = api.http.get(path).text
    assert text.startswith("first\n")
    [dropped] = re.findall(r"\[(\d+) bytes were dropped here", text)
    assert int(dropped) == attempt["log_dropped_bytes"]
    return int(dropped)


@pytest.mark.rule("R40")
def test_a_job_that_has_written_its_share_keeps_last_words_only(start: Start) -> None:
    """An attempt that starts then keeps the first and the last half of 64 KiB."""
    served = start("--slots", "1", settings={**QUICK, "job_log_bytes_max": 200_000})
    program = "echo first; head -c 300000 /dev/zero; echo last; test $TASK_ATTEMPT = 2 || exit 75"
    with served.api() as api:
        job = api.final(api.post("/jobs", {"command": ["sh", "-c", program]})["uuid"])
        assert job["state"] == "Complete"
        [task] = api.tasks(job["uuid"])
        one, two = api.attempts(task["uuid"])
    assert 150_000 < one["log_bytes"] <= 200_000
    assert 20_000 < two["log_bytes"] <= 65_536
    for attempt in (one, two):
        assert attempt["log_bytes"] + attempt["log_dropped_bytes"] == 300_011


@pytest.mark.rule("R13", "R38")
def test_binary_output_is_kept_as_it_is(api: Api) -> None:
    """Every byte in the log; what of it stands in the record is text."""
    program = "import os,sys; d=bytes(range(256))*500; os.write(2,d); sys.exit(1)"
    job = api.final(api.post("/jobs", {"command": ["python3", "-c", program]})["uuid"])
    assert job["state"] == "Failed"
    [task] = api.tasks(job["uuid"])
    written = bytes(range(256)) * 500
    path = f"/job_tasks/{task['uuid']}/log"
    wait_until("the log", lambda: len(api.http.get(path).content) == len(written))
    found = api.http.get(path).content
    assert hashlib.sha256(found).digest() == hashlib.sha256(written).digest()
    assert len(task["failed_log"].encode()) <= 65536
    assert task["failed_log"].splitlines()[-1].startswith("[jobtasks] ")


STRANGE: dict[str, Any] = {
    "lines": "a\nb\r\nc\n",
    "emoji": "😀 👩‍👩‍👧 ﷽",
    "control": "".join(map(chr, range(1, 32))) + "\x7f",
    "quotes": "'\"`$(id)\\ %s {} ; rm -rf /",
    "deep": json.loads('{"a":' * 40 + "1" + "}" * 40),
    "huge": 10**300,
    "tiny": 5e-324,
    "precise": 2**63,
    "minus": -0.0,
    "": "no name",
    "a b=c\n": "an odd name",
}


def environment_of(api: Api, path: Path, parameters: dict[str, Any]) -> dict[str, str]:
    """Run a job with these parameters; return what its task found, and check the record."""
    program = f"import json,os; json.dump(dict(os.environ), open({str(path)!r}, 'w'))"
    job = {"command": ["python3", "-c", program], "script_parameters": parameters}
    done = api.final(api.post("/jobs", job)["uuid"])
    assert (done["state"], done["script_parameters"]) == ("Complete", parameters)
    found: dict[str, str] = json.loads(path.read_text())
    return found


@pytest.mark.rule("R8", "R38")
def test_strange_parameters_reach_the_task(api: Api, tmp_path: Path) -> None:
    """By the environment as they are, objects and numbers as JSON; and by the API."""
    environ = environment_of(api, tmp_path / "found", STRANGE)
    for name in ("lines", "emoji", "control", "quotes"):
        assert environ[f"JOB_PARAMETER_{name.upper()}"] == STRANGE[name], name
    for name in ("deep", "huge", "tiny", "precise"):
        assert json.loads(environ[f"JOB_PARAMETER_{name.upper()}"]) == STRANGE[name], name
    assert environ["JOB_PARAMETER_A_B_C_"] == "an odd name"


@pytest.mark.rule("R38")
@pytest.mark.parametrize(
    ("value", "is_there"),
    [("x" * 32_768, True), ("x" * 32_769, False), ("é" * 16_385, False), ("a\0b", False)],
    ids=["32 KiB", "a byte more", "more in UTF-8", "NUL"],
)
def test_what_no_environment_takes_is_left_out(
    api: Api, tmp_path: Path, value: str, is_there: bool
) -> None:
    """Above 32 KiB or with NUL; the task starts all the same and can read it by the API."""
    environ = environment_of(api, tmp_path / "found", {"value": value, "other": "o"})
    assert ("JOB_PARAMETER_VALUE" in environ, environ["JOB_PARAMETER_OTHER"]) == (is_there, "o")


@pytest.mark.rule("R40")
@pytest.mark.parametrize(
    "field", ["parameters", "script_parameters", "command", "description", "output"]
)
def test_ten_megabytes_are_refused_by_name(api: Api, act: Any, tmp_path: Path, field: str) -> None:
    """413 or 422 with the limit in the sentence, and nothing of it is stored."""
    large = "x" * 10_000_000
    value: Any = {"command": ["echo", large], "description": large, "output": large}.get(
        field, {"a": large}
    )
    token = tmp_path / "token"
    job = act([["leave_file", str(token), "ARVADOS_API_TOKEN"], ["await_file", f"{token}.end"]])
    wait_until("the token", token.exists)
    headers = {"Authorization": f"Bearer {token.read_text()}"}
    before = (api.get("/jobs", limit=0)["items_available"], job.tasks())
    if field == "parameters":
        answer = api.http.post("/job_tasks", json={field: value}, headers=headers)
    elif field == "output":
        path = f"/job_tasks/{job.seed['uuid']}"
        answer = api.http.patch(path, json={field: value}, headers=headers)
    else:
        answer = api.http.post("/jobs", json={"command": ["true"], field: value})
    assert answer.status_code in (413, 422), answer.text
    [message] = answer.json()["errors"]
    assert re.search(r"\d", message), message
    assert field in message or "body" in message, message
    assert (api.get("/jobs", limit=0)["items_available"], job.tasks()) == before
    Path(f"{token}.end").touch()
    api.final(job.uuid)
