"""Every attribute with every wrong type, and values that systems trip over (R8, R40)."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from tests.api.conftest import Api

from jobtasks.core.resources import RESOURCES, Kind

JOBS = "/arvados/v1/jobs"
TASKS = "/arvados/v1/job_tasks"
NO_TEXT: list[Any] = [1, 1.5, True, [], ["a"], {"a": 1}, "\0"]
WRONG: dict[Kind, list[Any]] = {
    Kind.STRING: [*NO_TEXT, "x" * 256],
    Kind.TEXT: NO_TEXT,
    Kind.INTEGER: [1.5, True, "x", "1x", [], {}, 2**63, -(2**63) - 1, 10**400],
    Kind.FLOAT: ["x", True, [], {}, 1.5, -0.5],
    Kind.BOOLEAN: ["yes", 2, 0.5, [], {}],
    Kind.OBJECT: [1, True, [], ["a"], "x", "[]", "1"],
    Kind.LIST: [1, True, "ls", {}, [1], [None], [""], ["a\0b"]],
}
CASES = [
    (name, attribute.name, value)
    for name in ("jobs", "job_tasks")
    for attribute in RESOURCES[name].attributes.values()
    if attribute.create or attribute.update
    for value in WRONG[attribute.kind]
]


@pytest.fixture(scope="module")
def attempt(lasting: Api) -> httpx.Client:
    """A running attempt's own client, for the whole module."""
    lasting.job()
    return lasting.as_attempt(lasting.node().next_assignment())


def send(client: httpx.Client, method: str, path: str, body: Any) -> httpx.Response:
    """Send JSON in plain ASCII: all else as escapes, so that half a surrogate pair can be sent."""
    return client.request(method, path, content=json.dumps(body).encode())


def is_ignored_by_create(name: str, attribute: str) -> bool:
    """Return whether a create takes such an attribute without effect, whatever it holds (R2)."""
    return name == "job_tasks" and attribute in ("progress", "success", "output")


@pytest.mark.rule("R8")
@pytest.mark.parametrize(("name", "attribute", "value"), CASES)
def test_a_value_of_the_wrong_type(
    lasting: Api, attempt: httpx.Client, name: str, attribute: str, value: Any
) -> None:
    """422 with a sentence that names the attribute, and nothing is stored."""
    client = lasting.http if name == "jobs" else attempt
    path = JOBS if name == "jobs" else TASKS
    method, body = "POST", {"command": ["true"], attribute: value}
    if is_ignored_by_create(name, attribute):
        method, body = "PATCH", {attribute: value}
        path += "/" + attempt.get(TASKS, params={"filters": RUNNING}).json()["items"][0]["uuid"]
    before = client.get(path).json()
    answer = send(client, method, path, body)
    assert answer.status_code == 422, answer.text
    assert attribute.split("_")[0] in answer.json()["errors"][0]
    assert client.get(path).json() == before


RUNNING = '[["state","=","running"]]'
STRANGE = {
    "newlines": "a\nb\r\nc",
    "emoji": "😀 👩‍👩‍👧",
    "nul": "a\0b",
    "long": "x" * 100_000,
    "number": 2**63,
    "small": 5e-324,
    "deep": json.loads("[" * 50 + "]" * 50),
    "": {"": None},
    "__proto__": ["' OR 1=1 --", "<script>", "{{7*7}}", "$(id)"],
}


@pytest.mark.rule("R8")
def test_strange_values_come_back_as_they_were(attempt: httpx.Client) -> None:
    """Parameters are the user's own."""
    task = send(attempt, "POST", TASKS, {"parameters": STRANGE}).json()
    assert task["parameters"] == STRANGE
    assert attempt.get(f"{TASKS}/{task['uuid']}").json()["parameters"] == STRANGE


@pytest.mark.rule("R40")
@pytest.mark.parametrize("attribute", ["parameters", "command", "runtime_constraints"])
def test_a_value_of_ten_megabytes(attempt: httpx.Client, attribute: str) -> None:
    """422 or 413, and the connection goes on."""
    large = "x" * 10_000_000
    value = [large] if attribute == "command" else {"a": large}
    before = attempt.get(TASKS, params={"limit": 0}).json()["items_available"]
    for body in ({attribute: value}, {"job_tasks": [{}, {attribute: value}]}):
        answer = send(attempt, "POST", TASKS, body)
        assert answer.status_code in (413, 422)
        assert answer.json()["errors"][0]
    assert attempt.get(TASKS, params={"limit": 0}).json()["items_available"] == before


@pytest.mark.rule("R8")
@pytest.mark.parametrize("spoiled", [{"sequence": -1}, {"nothing": 1}, {"parameters": []}])
def test_one_bad_task_of_many_spoils_all(attempt: httpx.Client, spoiled: dict[str, Any]) -> None:
    """The sentence says which one; none is stored."""
    before = attempt.get(TASKS, params={"limit": 0}).json()["items_available"]
    answer = send(attempt, "POST", TASKS, {"job_tasks": [{}, {}, spoiled]})
    assert (answer.status_code, "task 2:" in answer.json()["errors"][0]) == (422, True)
    assert attempt.get(TASKS, params={"limit": 0}).json()["items_available"] == before


@pytest.mark.rule("R41")
@pytest.mark.parametrize(
    ("script", "directory"),
    [
        ("x" * 5000, "/etc"),
        ("x", "/" + "y" * 5000),
        ("a/" * 3000 + "x", "/etc"),
        ("passwd", "/etc"),
        ("missing", "/etc"),
        ("../bin/true", "/etc"),
        ("/bin/true", "/etc"),
        ("a\0b", "/etc"),
    ],
)
def test_a_script_that_cannot_be_run(lasting: Api, script: str, directory: str) -> None:
    """422 when the job is created, not a failure when it starts."""
    answer = send(lasting.http, "POST", JOBS, {"script": script, "script_version": directory})
    assert answer.status_code == 422, answer.text
    assert "script" in answer.json()["errors"][0]


@pytest.mark.rule("R8")
@pytest.mark.parametrize("half", ["\ud800", "\udc00\ud800", "a\udfffb"])
def test_half_a_surrogate_pair_is_no_text(lasting: Api, half: str) -> None:
    """It is not JSON, wherever it stands: 400."""
    before = lasting.get("jobs", limit=0)["items_available"]
    for more in ({"description": half}, {"script_parameters": {"a": [half]}}, {half: 1}):
        assert send(lasting.http, "POST", JOBS, {"command": ["true"], **more}).status_code == 400
    assert lasting.get("jobs", limit=0)["items_available"] == before
