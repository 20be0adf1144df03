"""What Arvados' own tests ask of ``jobs``, by the numbers of tests/clients/cases.txt.

Most is asked of a job that its creator made as Running: theirs to run, as every job was at Arvados
(R7b). What a job of our own manager answers to the same is in tests/service/test_job_states.py.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.rule("R41", "R17", "R7b")
BASE = "/arvados/v1"
BARE = "d41d8cd98f00b204e9800998ecf8427e+0"
HINTED = BARE + "+K@zzzzz+A0123456789abcdef@54f5dd1a"
NEVER = {"runtime_constraints": {"min_ram_per_node": 2**40}}
"""No node is so large: such a job stays queued."""


class Person:
    """A user and their client."""

    def __init__(self, api: Any, *, is_admin: bool = False) -> None:
        user = {"username": "u" + secrets.token_hex(6), "is_admin": is_admin}
        self.uuid = answered(api.http.post(f"{BASE}/users", json=user))["uuid"]
        owner = {"owner_uuid": self.uuid}
        made = answered(api.http.post(f"{BASE}/api_client_authorizations", json=owner))
        self.http: httpx.Client = api.client(made["api_token"])

    def job(self, **attributes: Any) -> dict[str, Any]:
        """Create a job that runs under a manager of this person's own."""
        body = {"script": "x", "script_version": "v", "repository": "r", "script_parameters": {}}
        return answered(
            self.http.post(f"{BASE}/jobs", json={"job": {**body, "state": "Running", **attributes}})
        )

    def put(self, job: dict[str, Any], **body: Any) -> httpx.Response:
        return self.http.put(f"{BASE}/jobs/{job['uuid']}", json={"job": body})

    def post(self, job: dict[str, Any], method: str, **body: Any) -> httpx.Response:
        return self.http.post(f"{BASE}/jobs/{job['uuid']}/{method}", json=body)

    def get(self, path: str, **parameters: Any) -> Any:
        return answered(self.http.get(f"{BASE}/{path}", params=parameters))


def answered(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.fixture
def ada(api: Any) -> Iterator[Person]:
    """A user without rights beyond their own jobs."""
    person = Person(api)
    yield person
    for state in ("Queued", "Running"):
        filters = json.dumps([["state", "=", state]])
        for job in person.get("jobs", filters=filters)["items"]:
            person.post(job, "cancel")
    person.http.close()


def test_case_9_13_submit_a_job(ada: Person) -> None:
    """A name, the version as it was given, priority 0."""
    job = ada.job(state="Queued", **NEVER, script_version="/srv/nowhere")
    assert (job["priority"], job["state"], job["script_version"]) == (0, "Queued", "/srv/nowhere")
    assert (job["supplied_script_version"], job["queue_position"]) == ("/srv/nowhere", 0)
    assert job["uuid"][5:12] == "-8i9sb-"


def test_case_9_14_15_locators_lose_their_hints(ada: Person) -> None:
    """At create and at update; what was submitted as version is kept."""
    job = ada.job(output=HINTED, log=HINTED, supplied_script_version="master")
    assert (job["output"], job["log"]) == (BARE, BARE)
    assert (job["script_version"], job["supplied_script_version"]) == ("v", "master")
    assert ada.get(f"jobs/{job['uuid']}")["output"] == BARE
    other = ada.job()
    changed = answered(ada.put(other, output=HINTED, log=HINTED))
    assert (changed["output"], changed["log"]) == (BARE, BARE)


def test_case_9_16_36_cancel_a_running_job(ada: Person) -> None:
    """The server says when and by whom, whatever time the client gives; by the method as well."""
    job = ada.job()
    now = answered(ada.put(job, cancelled_at="2001-01-01T00:00:00Z"))
    assert (now["state"], now["running"], now["success"]) == ("Cancelled", False, False)
    assert now["cancelled_at"] >= job["created_at"]
    assert now["cancelled_by_user_uuid"] == ada.uuid
    by_method = answered(ada.post(ada.job(), "cancel"))
    assert (by_method["kind"], by_method["state"]) == ("arvados#job", "Cancelled")
    assert by_method["cancelled_at"]


def test_case_9_17_18_19_20_21_a_cancelled_job_stays_so(ada: Person) -> None:
    """Said again is 200, with the time of the first; any other change of state 422."""
    job = ada.job()
    cancelled = answered(ada.post(job, "cancel"))
    again = answered(ada.put(job, cancelled_at="2031-01-01T00:00:00Z"))
    assert again["cancelled_at"] == cancelled["cancelled_at"]
    assert answered(ada.post(job, "cancel"))["state"] == "Cancelled"
    refused: list[dict[str, Any]] = [
        {"cancelled_at": None},
        *({"state": state} for state in ("Queued", "Running", "Failed", "Complete")),
    ]
    for body in refused:
        assert ada.put(job, **body).status_code == 422, body
    now = answered(ada.put(job, success=True, running=True))
    assert (now["state"], now["success"]) == ("Cancelled", False)
    assert now["cancelled_at"] == cancelled["cancelled_at"]


def test_case_9_22_a_bad_version_is_not_looked_at_again(ada: Person) -> None:
    """Another attribute changes."""
    job = ada.job(script_version="no-such-version")
    assert answered(ada.put(job, script="other"))["script"] == "other"


def test_case_9_23_finish_a_job(ada: Person) -> None:
    """Output, log, summary, success, running and finished_at in one PUT."""
    summary = {"running": 0, "done": 2, "failed": 0, "todo": 0}
    body = {"output": HINTED, "log": HINTED, "tasks_summary": summary, "success": True}
    ended = {"running": False, "finished_at": "Wed Nov  9 17:56:12 2016"}
    job = answered(ada.put(ada.job(), **body, **ended))
    assert (job["state"], job["running"], job["success"]) == ("Complete", False, True)
    assert job["finished_at"] == "2016-11-09T17:56:12.000000000Z"
    assert (job["output"], job["log"], job["tasks_summary"]) == (BARE, BARE, summary)


def test_case_9_24_25_26_27_the_queue(api: Any, ada: Person) -> None:
    """Their own for each, filtered as any list, by priority; its size for everybody."""
    queued = [
        ada.job(state="Queued", **NEVER, script_version="/srv/nowhere", priority=priority)
        for priority in (0, 5, 0)
    ]
    ada.job()
    listed = ada.get("jobs/queue")
    assert listed["kind"] == "arvados#jobList"
    order = [queued[1]["uuid"], queued[0]["uuid"], queued[2]["uuid"]]
    assert [job["uuid"] for job in listed["items"]] == order
    assert {job["queue_position"] for job in listed["items"]} == {0}
    spectator = Person(api)
    assert spectator.get("jobs/queue")["items"] == []
    assert len(api.get("jobs/queue")["items"]) >= 3
    for operator, expected in (("=", order[:1]), ("!=", order[1:])):
        filters = json.dumps([["uuid", operator, order[0]]])
        found = ada.get("jobs/queue", filters=filters, limit=5)
        assert [job["uuid"] for job in found["items"]] == expected
    assert ada.get("jobs/queue", order="created_at desc", limit=1)["items"][0] == queued[2]
    sizes = {person.get("jobs/queue_size")["queue_size"] for person in (spectator, ada)}
    assert sizes == {api.get("jobs/queue_size")["queue_size"]}
    assert min(sizes) >= 3
    spectator.http.close()


def test_case_9_28_a_job_names_its_nodes(api: Any) -> None:
    """Those on which it has a process, in a list as well."""
    node = api.node()
    job = api.job()["uuid"]
    assert api.get(f"jobs/{job}")["node_uuids"] == []
    while node.next_assignment().job != job:
        pass
    (uuid,) = api.get(f"jobs/{job}")["node_uuids"]
    assert uuid[5:12] == "-7ekkf-"
    filters = json.dumps([["uuid", "=", job]])
    assert api.get("jobs", filters=filters)["items"][0]["node_uuids"] == [uuid]


def test_case_9_29_30_41_the_lock(api: Any, ada: Person) -> None:
    """It sets the job running; it is refused a second time; others do not see such a job."""
    job = ada.job(state="Queued", **NEVER, script_version="/srv/nowhere")
    locked = answered(ada.post(job, "lock"))
    assert (locked["state"], locked["is_locked_by_uuid"]) == ("Running", ada.uuid)
    assert ada.post(job, "lock").status_code == 422
    admin = Person(api, is_admin=True)
    assert admin.post(job, "lock").status_code == 422
    assert admin.put(job, success=True).status_code == 403
    other = Person(api)
    assert other.post(job, "lock").status_code == 404
    assert answered(ada.put(job, success=True))["state"] == "Complete"
    for person in (admin, other):
        person.http.close()


def test_case_9_33_34_components_of_a_locked_job(api: Any, ada: Person) -> None:
    """Its holder and the root user change them, another administrator does not."""
    job = ada.job(is_locked_by_uuid=ada.uuid)
    admin = Person(api, is_admin=True)
    components = {"one": job["uuid"]}
    assert answered(ada.put(job, components=components))["components"] == components
    root = answered(api.http.get(f"{BASE}/users/current"))
    assert root["uuid"].endswith("-tpzed-000000000000000")
    answer = api.http.put(f"{BASE}/jobs/{job['uuid']}", json={"components": {"two": "x"}})
    assert answered(answer)["components"] == {"two": "x"}
    assert admin.put(job, components=components).status_code == 403
    assert answered(ada.put(job, components={}))["components"] == {}
    assert ada.get(f"jobs/{job['uuid']}")["components"] == {}
    admin.http.close()


def test_case_9_38_cancel_someone_elses_job(api: Any, ada: Person) -> None:
    """It does not exist for them."""
    other = Person(api)
    job = ada.job()
    assert other.post(job, "cancel").status_code == 404
    assert ada.get(f"jobs/{job['uuid']}")["state"] == "Running"
    other.http.close()


FLAGS: list[tuple[dict[str, Any], str, bool, bool | None]] = [
    ({"state": "Queued"}, "Queued", False, None),
    ({"running": False, "success": None}, "Queued", False, None),
    ({"state": "Running"}, "Running", True, None),
    ({"running": True}, "Running", True, None),
    ({"success": None, "running": True}, "Running", True, None),
    ({"state": "Cancelled"}, "Cancelled", False, False),
    ({"cancelled_at": "2014-01-01T00:00:00Z"}, "Cancelled", False, False),
    ({"cancelled_at": "2014-01-01T00:00:00Z", "success": True}, "Cancelled", False, False),
    ({"cancelled_at": "2014-01-01T00:00:00Z", "running": True}, "Cancelled", False, False),
    ({"state": "Failed"}, "Failed", False, False),
    ({"success": False}, "Failed", False, False),
    ({"success": False, "running": True}, "Failed", False, False),
    ({"state": "Complete"}, "Complete", False, True),
    ({"success": True}, "Complete", False, True),
    ({"success": True, "running": True}, "Complete", False, True),
]
STATES = ("Queued", "Running", "Complete", "Failed", "Cancelled")
FOLLOWERS = {"Queued": STATES, "Running": ("Complete", "Failed", "Cancelled")}
TIMES = {
    "Queued": (False, False, False),
    "Running": (True, False, False),
    "Complete": (False, True, False),
    "Failed": (False, True, False),
    "Cancelled": (False, False, True),
}
"""Whether started_at, finished_at and cancelled_at are set, of a job that began so."""
EXTERNAL = {"runtime_constraints": {"manager": "external"}}


def test_case_9_39_old_flags_and_state_say_the_same(ada: Person) -> None:
    """At create and in a change of a queued job."""
    for body, state, running, success in FLAGS:
        given = {name: body[name] for name in body}
        given.setdefault("state", None)
        changed = ada.job(state="Queued", **EXTERNAL)
        for job in (ada.job(**EXTERNAL, **given), answered(ada.put(changed, **body))):
            assert (job["state"], job["running"], job["success"]) == (state, running, success), body
            times = [job[name] for name in ("started_at", "finished_at", "cancelled_at")]
            assert tuple(map(bool, times)) == TIMES[state], body


def test_case_9_40_53_every_change_of_state(ada: Person) -> None:
    """Allowed as the table has it; cancelling what is over by itself is refused, too."""
    for old in STATES:
        for new in STATES:
            job = ada.job(**EXTERNAL, state=old)
            allowed = new == old or new in FOLLOWERS.get(old, ())
            answer = ada.put(job, state=new)
            assert answer.status_code == (200 if allowed else 422), (old, new)
            assert ada.get(f"jobs/{job['uuid']}")["state"] == (new if allowed else old)
    for state, expected in (("Complete", 422), ("Failed", 422), ("Cancelled", 200)):
        assert ada.post(ada.job(state=state), "cancel").status_code == expected


def test_case_9_42_wrong_types_are_refused(ada: Person) -> None:
    """422 with a sentence that names the attribute, at create and at update."""
    job = ada.job()
    for name, value in {
        "script_parameters": [1],
        "runtime_constraints": "x",
        "tasks_summary": ["x"],
        "components": 5,
        "priority": "high",
        "state": "Nowhere",
        "success": "maybe",
        "started_at": "yesterday",
        "script": 5,
    }.items():
        for answer in (
            ada.http.post(f"{BASE}/jobs", json={"job": {"state": "Running", name: value}}),
            ada.put(job, **{name: value}),
        ):
            assert answer.status_code == 422, (name, answer.text)
            assert name.partition("_")[0] in answer.text.lower()


def test_case_9_44_parameters_are_kept_as_given(ada: Person) -> None:
    """Nested lists, nulls and empty ones included."""
    parameters = {"a": [], "b": [None, {"c": {}}], "d": BARE, "e": 1.5}
    assert ada.job(script_parameters=parameters)["script_parameters"] == parameters


def test_case_9_51_an_admin_cancels_a_locked_job(api: Any, ada: Person) -> None:
    """An unrelated user does not."""
    job = ada.job(is_locked_by_uuid=ada.uuid)
    other, admin = Person(api), Person(api, is_admin=True)
    assert other.put(job, state="Cancelled").status_code == 404
    assert answered(admin.put(job, state="Cancelled"))["state"] == "Cancelled"
    for person in (admin, other):
        person.http.close()


def test_case_9_52_cancel_with_cascade(ada: Person) -> None:
    """What components name is cancelled when asked for, and then alone."""
    child = ada.job()
    first, second = (ada.job(components={"child": child["uuid"]}) for _ in range(2))
    assert answered(ada.post(first, "cancel", cascade=False))["state"] == "Cancelled"
    assert ada.get(f"jobs/{child['uuid']}")["state"] == "Running"
    assert answered(ada.post(second, "cancel", cascade=True))["state"] == "Cancelled"
    assert ada.get(f"jobs/{child['uuid']}")["state"] == "Cancelled"
    assert ada.post(ada.job(), "cancel", cascade="perhaps").status_code == 422


def test_following_a_log_is_not_served(ada: Person) -> None:
    """404, as at Arvados since 2014."""
    job = ada.job()
    answer = ada.http.get(f"{BASE}/jobs/{job['uuid']}/log_tail_follow")
    assert answer.status_code == 404
