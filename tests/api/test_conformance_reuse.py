"""When a job is used again in place of a new one, by the numbers of tests/clients/cases.txt."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.rule("R41")
BASE = "/arvados/v1"
Submit = Callable[..., Any]


@pytest.fixture
def submit(api: Any) -> Submit:
    """Submit a job of a repository of the test's own; `parameters` are those of the call."""
    repository = "user/" + secrets.token_hex(6)

    def send(parameters: dict[str, Any] | None = None, /, **attributes: Any) -> Any:
        job = {
            "repository": repository,
            "script": "hash",
            "script_version": "v2",
            "script_parameters": {"input": "a", "an_integer": "1"},
            "state": "Running",
            **attributes,
        }
        return api.http.post(f"{BASE}/jobs", json={"job": job, **(parameters or {})})

    return send


def uuid_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return str(answer.json()["uuid"])


def done(submit: Submit, output: str | None = "42", **attributes: Any) -> str:
    """Return a complete job."""
    return uuid_of(submit(state="Complete", output=output, log="x", **attributes))


FIND = {"find_or_create": True}
SAME = {"script_parameters": {"an_integer": "1", "input": "a"}}


def test_case_9_49_54_55_a_job_is_used_again(submit: Submit) -> None:
    """By find_or_create, or by no_reuse being false; the order of keys does not matter."""
    first = done(submit)
    assert uuid_of(submit(FIND, **SAME)) == first
    assert uuid_of(submit({"find_or_create": "true"}, **SAME)) == first
    assert uuid_of(submit(no_reuse=False, **SAME)) == first


def test_case_9_57_58_a_new_job_is_made_when_asked_for(submit: Submit) -> None:
    """no_reuse goes before find_or_create; both may be text."""
    first = done(submit)
    asked: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({}, {}),
        ({}, {"no_reuse": True}),
        (FIND, {"no_reuse": True}),
        ({"find_or_create": False}, {}),
        ({"find_or_create": "false"}, {}),
    ]
    for parameters, attributes in asked:
        assert uuid_of(submit(parameters, **attributes, state="Failed")) != first
    assert submit({"find_or_create": "perhaps"}).status_code == 422


def test_case_9_50_the_older_of_two_equal_jobs(submit: Submit) -> None:
    """And none when their outputs differ."""
    first, _ = done(submit), done(submit)
    assert uuid_of(submit(FIND)) == first
    other = done(submit, "43")
    assert uuid_of(submit(FIND)) not in (first, other)


def test_case_9_60_a_job_without_output_is_not_used_again(submit: Submit) -> None:
    """Null is no output."""
    first = done(submit, None)
    assert uuid_of(submit(FIND)) != first


def test_what_is_under_way_is_used_again(submit: Submit) -> None:
    """The running one before the queued one, both of the same user; a finished one before both."""
    queued = uuid_of(submit(state="Queued", runtime_constraints={"manager": "external"}))
    assert uuid_of(submit(FIND)) == queued
    running = uuid_of(submit())
    assert uuid_of(submit(FIND)) == running
    first = done(submit)
    assert uuid_of(submit(FIND)) == first


def test_case_9_61_62_a_range_of_versions(submit: Submit) -> None:
    """Its ends are compared as given; without a minimum only the version itself will do."""
    old = done(submit, script_version="v1")
    assert uuid_of(submit({**FIND, "minimum_script_version": "v1"})) == old
    assert uuid_of(submit(FIND, minimum_script_version="v1", script_version="v3")) == old
    assert uuid_of(submit(FIND, state="Failed")) != old


def test_case_9_63_another_input_or_version_makes_a_new_job(submit: Submit) -> None:
    """Also 1 in place of "1", another script or command."""
    first = done(submit)
    others: list[dict[str, Any]] = [
        {"script_parameters": {"input": "b", "an_integer": "1"}},
        {"script_parameters": {"input": "a", "an_integer": 1}},
        {"script_version": "v1"},
        {"script": "other"},
        {"repository": "other/" + secrets.token_hex(6)},
        {"command": ["hash"]},
    ]
    for other in others:
        assert uuid_of(submit(FIND, **other)) != first, other


def test_case_9_64_65_nondeterministic(submit: Submit) -> None:
    """Of the new job it says nothing, of an earlier one that it will not do."""
    first = done(submit)
    assert uuid_of(submit(FIND, nondeterministic=True)) == first
    other = {"script": "other"}
    random = done(submit, nondeterministic=True, **other)
    assert uuid_of(submit(FIND, **other)) != random


def test_case_9_66_a_job_of_others_is_not_used_again(api: Any, submit: Submit) -> None:
    """One that the caller may not see; an administrator sees all."""
    first = done(submit)
    job = api.get(f"jobs/{first}")
    names = ("repository", "script", "script_version", "script_parameters")
    user = api.http.post(f"{BASE}/users", json={"username": "u" + secrets.token_hex(6)}).json()
    owner = {"owner_uuid": user["uuid"]}
    token = api.http.post(f"{BASE}/api_client_authorizations", json=owner).json()["api_token"]
    with api.client(token) as client:
        body: dict[str, Any] = {
            "job": {**{name: job[name] for name in names}, "state": "Failed"},
            **FIND,
        }
        theirs = uuid_of(client.post(f"{BASE}/jobs", json=body))
        assert theirs != first
        done_too = {"job": {**body["job"], "state": "Complete", "output": "42"}}
        theirs = uuid_of(client.post(f"{BASE}/jobs", json=done_too))
    assert uuid_of(submit(FIND)) == first


def test_case_9_67_excluded_versions(submit: Submit) -> None:
    """Beside the job or in it."""
    first = done(submit)
    for excluded in (["v2"], ["v1", "v2"], "v2", '["v2"]'):
        asked = {"exclude_script_versions": excluded}
        assert uuid_of(submit({**FIND, **asked}, state="Failed")) != first
        assert uuid_of(submit(FIND, **asked, state="Failed")) != first
    assert uuid_of(submit({**FIND, "exclude_script_versions": ["v1"]})) == first


def conditions(api: Any, uuid: str, *more: list[Any]) -> list[list[Any]]:
    repository = api.get(f"jobs/{uuid}")["repository"]
    return [["repository", "=", repository], ["script", "=", "hash"], *more]


def test_case_9_68_69_filters_decide(api: Any, submit: Submit) -> None:
    """As a list or its JSON; without repository or script they are refused, as are git's."""
    old = done(submit, script_version="v1")
    wide = conditions(api, old)
    for filters in (wide, json.dumps(wide)):
        assert uuid_of(submit({**FIND, "filters": filters})) == old
    narrow = conditions(api, old, ["script_version", "in", ["v2", "v3"]])
    assert uuid_of(submit({**FIND, "filters": narrow}, state="Failed")) != old
    lacking: list[Any] = [wide[:1], wide[1:], [["script_version", "=", "v1"]], ["x"], "x"]
    for given in lacking:
        assert submit({**FIND, "filters": given}).status_code == 422, given
    assert submit({"filters": "x"}, state="Failed").status_code == 200, "nobody reads them"


def test_case_9_72_git_is_refused_with_a_sentence(api: Any, submit: Submit) -> None:
    """Not as an error of the server's own; the same for images."""
    old = done(submit)
    for operator, attribute in (
        ("in git", "script_version"),
        ("not in git", "script_version"),
        ("in docker", "docker_image_locator"),
    ):
        filters = conditions(api, old, [attribute, operator, "v0"])
        answer = submit({**FIND, "filters": filters})
        assert (answer.status_code, operator in answer.text) == (422, True)
        assert "#<" not in answer.text


def test_case_9_73_a_minimum_that_cannot_be_met(submit: Submit) -> None:
    """A new job, in all three places where it may stand."""
    first = done(submit, script_version="v0")
    asked = {"minimum_script_version": "beforehand"}
    assert uuid_of(submit({**FIND, **asked}, state="Failed")) != first
    assert uuid_of(submit(FIND, **asked, state="Failed")) != first
    assert uuid_of(submit(no_reuse=False, **asked, state="Failed")) != first


def test_a_job_that_our_manager_ran_is_used_again(api: Any) -> None:
    """By its command and parameters; the answer to a form tells no less."""
    node = api.node()
    body = {"command": ["true", secrets.token_hex(6)], "script_parameters": {"a": 1}}
    job = api.job(**body)["uuid"]
    while (assignment := node.next_assignment()).job != job:
        node.end(assignment.attempt)
    assert uuid_of(api.http.post(f"{BASE}/jobs?find_or_create=true", json=body)) == job
    node.end(assignment.attempt)
    assert api.get(f"jobs/{job}")["state"] == "Complete"
    form = {"job": json.dumps(body), "find_or_create": "1"}
    assert uuid_of(api.http.post(f"{BASE}/jobs", data=form)) == job
    other = {**body, "command": [*body["command"], "more"]}
    assert uuid_of(api.http.post(f"{BASE}/jobs?find_or_create=true", json=other)) != job


@pytest.mark.rule("R22")
def test_a_submit_id_remembers_what_was_found(submit: Submit) -> None:
    """A repeat answers with the same job, also when another would be found by now."""
    first = done(submit)
    name = {"submit_id": secrets.token_hex(8), "no_reuse": False}
    assert uuid_of(submit(**name)) == first
    done(submit, "43")
    assert uuid_of(submit(**name)) == first
