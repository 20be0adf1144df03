"""What Arvados' own tests ask of filters, lists and parameters, asked by hand-made requests."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from .conftest import BASE, NOWHERE, Record, Site, names_in

JOBS = f"{BASE}/jobs"
MARK = "list cases"
NAMES = ("alpha one", "beta two", None)
"""Attribute `repository` of the three jobs."""


@pytest.fixture(scope="module")
def jobs(site: Site) -> Iterator[list[Record]]:
    """Three queued jobs, as they were made; no node runs them."""
    made = []
    with site.http(site.admin) as http:
        for number, name in enumerate(NAMES):
            body = {
                "command": ["true"],
                "runtime_constraints": NOWHERE,
                "description": MARK,
                "repository": name,
                "priority": number,
                "nondeterministic": (None, True, False)[number],
                "script_parameters": {"empty": [], "nulls": [None], "mixed": [None, 1, ""]},
            }
            made.append(http.post(JOBS, json=body).json())
        yield made
        for job in made:
            assert http.delete(f"{JOBS}/{job['uuid']}").status_code == 200


def answer(http: httpx.Client, *conditions: Any, **parameters: Any) -> httpx.Response:
    """Ask for those of the three jobs for which the conditions hold."""
    filters = json.dumps([["description", "=", MARK], *conditions])
    return http.get(JOBS, params={"filters": filters, "order": "created_at", **parameters})


def page(http: httpx.Client, *conditions: Any, **parameters: Any) -> Record:
    found = answer(http, *conditions, **parameters)
    assert found.status_code == 200, found.text
    content: Record = found.json()
    return content


def found(http: httpx.Client, *conditions: Any) -> list[int]:
    """Return the places, among the three, of the jobs for which the conditions hold."""
    listed: list[int] = names_in(page(http, *conditions), "priority")
    return listed


def refusal(given: httpx.Response, status: int = 422) -> str:
    """Return what a refused call was told."""
    assert given.status_code == status, given.text
    content = given.json()
    assert re.fullmatch(r"\d+\+[0-9a-f]{8}", content["error_token"])
    return "; ".join(content["errors"])


def test_case_9_75_uuids_are_compared_as_text(http: httpx.Client, jobs: list[Record]) -> None:
    """From one on, up to one, between two, below one."""
    first, second, third = sorted(job["uuid"] for job in jobs)
    uuids = {job["uuid"]: job["priority"] for job in jobs}
    for conditions, expected in (
        ([["uuid", ">=", second]], [second, third]),
        ([["uuid", "<=", second]], [first, second]),
        ([["uuid", ">=", second], ["uuid", "<=", second]], [second]),
        ([["uuid", "<", second]], [first]),
    ):
        assert set(found(http, *conditions)) == {uuids[uuid] for uuid in expected}


def test_case_9_76_uuids_like_a_pattern(http: httpx.Client, jobs: list[Record]) -> None:
    """A piece of one finds it alone."""
    assert found(http, ["uuid", "like", f"%{jobs[1]['uuid'][10:]}"]) == [1]


def test_case_9_77_uuids_in_a_list_and_not(http: httpx.Client, jobs: list[Record]) -> None:
    """What is listed and is nobody's is not missed."""
    listed = [jobs[0]["uuid"], jobs[2]["uuid"], "zzzzz-8i9sb-000000000000000"]
    assert found(http, ["uuid", "in", listed]) == [0, 2]
    assert found(http, ["uuid", "not in", listed]) == [1]


def test_case_9_78_null_is_equal_to_null_alone(http: httpx.Client, jobs: list[Record]) -> None:
    """And no uuid is null."""
    for condition, expected in (
        (["uuid", "=", None], []),
        (["uuid", "!=", None], [0, 1, 2]),
        (["repository", "=", None], [2]),
        (["repository", "!=", None], [0, 1]),
    ):
        assert found(http, condition) == expected, condition


def test_case_9_79_times_are_read_leniently(http: httpx.Client, jobs: list[Record]) -> None:
    """A day, a day and a time; what never began is neither before nor after."""
    for operand in ("2013-01-01", "2013-01-01 12:34:56", "2013-01-01T12:34:56Z"):
        assert found(http, ["created_at", ">", operand]) == [0, 1, 2]
        assert found(http, ["created_at", "<", operand]) == []
        assert found(http, ["started_at", ">=", operand]) == []


def test_case_9_80_a_text_in_any_attribute(http: httpx.Client, jobs: list[Record]) -> None:
    """In the old form, of any case; beside filters, which hold as well."""
    for wanted, expected in (("LPHA O", [0]), ("no such thing", []), ("%", [])):
        where = json.dumps({"any": ["contains", wanted]})
        assert names_in(page(http, where=where), "priority") == expected
    by_uuid = {"uuid": [jobs[0]["uuid"], jobs[1]["uuid"]], "description": ["contains", "t c"]}
    assert names_in(page(http, where=json.dumps(by_uuid)), "priority") == [0, 1]
    assert names_in(page(http, where='{"repository":null}'), "priority") == [2]


def test_case_9_81_a_column_that_does_not_exist(http: httpx.Client) -> None:
    """It is named."""
    message = refusal(answer(http, ["no_such_column", "<", "2013-01-01"]))
    assert message == "Invalid attribute 'no_such_column' in filter"


def test_case_9_82_not_in_lets_null_pass(http: httpx.Client, jobs: list[Record]) -> None:
    """Unless null is in the list: then nothing is known to differ."""
    assert found(http, ["repository", "not in", ["alpha one"]]) == [1, 2]
    assert found(http, ["repository", "not in", ["alpha one", None]]) == []
    assert found(http, ["repository", "not in", []]) == [0, 1, 2]


def test_case_9_83_a_filter_that_is_no_array(http: httpx.Client) -> None:
    """The element is shown."""
    message = refusal(http.get(JOBS, params={"filters": '[{"owner_uuid":"x"}]'}))
    assert message == 'Invalid element in filters array: {"owner_uuid":"x"} is not an array'


def test_case_9_84_words_are_searched_everywhere_or_not_at_all(
    http: httpx.Client, jobs: list[Record]
) -> None:
    """Not in one column, not for a list of words."""
    assert "not supported" in refusal(answer(http, ["uuid", "@@", "abcdef"]))
    assert "not supported" in refusal(answer(http, ["any", "@@", ["abc", "def"]]))
    assert found(http, ["any", "@@", "CASES beta"]) == [1]
    assert found(http, ["any", "@@", "cases nothing"]) == []


def test_case_9_85_86_times_go_out_and_come_back(http: httpx.Client, jobs: list[Record]) -> None:
    """Nine digits, and each comparison is as fine as they are."""
    for number, job in enumerate(jobs):
        time = job["created_at"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z", time)
        for operator, expected in (
            ("=", [number]),
            ("<", list(range(number))),
            (">", list(range(number + 1, 3))),
            ("<=", list(range(number + 1))),
            (">=", list(range(number, 3))),
        ):
            assert found(http, ["created_at", operator, time]) == expected


def test_case_9_87_88_89_operands_have_the_attributes_type(
    http: httpx.Client, jobs: list[Record]
) -> None:
    """Integers as numbers and text; past 64 bits, and booleans that are none, are named."""
    assert found(http, ["priority", "=", 2]) == found(http, ["priority", "=", "2"]) == [2]
    for operand in (2**63, str(2**63), -(2**63) - 1):
        message = refusal(answer(http, ["priority", "=", operand]))
        assert message == f"Invalid operand '{operand}' for integer attribute 'priority'"
    wrong: list[Any] = ["maybe", 1, [], {}]
    for value in wrong:
        message = refusal(answer(http, ["nondeterministic", "=", value]))
        assert "for boolean attribute 'nondeterministic'" in message


def test_case_9_95_96_97_counting_is_asked_for_or_not(
    http: httpx.Client, jobs: list[Record]
) -> None:
    """It is, unless it is said not to be."""
    assert "items_available" not in page(http, count="none")
    for parameters in ({}, {"count": ""}, {"count": "exact"}):
        assert page(http, **parameters, limit=1)["items_available"] == 3
    assert refusal(answer(http, count="bogus")) == "count parameter must be 'exact' or 'none'"


def test_case_9_98_99_100_select_distinct_order(http: httpx.Client, jobs: list[Record]) -> None:
    """Two columns and the kind; equal ones once; an order in the old spelling, comma and all."""
    chosen = page(http, select='["uuid","repository"]')["items"]
    assert [set(item) for item in chosen] == [{"kind", "uuid", "repository"}] * 3
    states = page(http, select='["state"]', distinct="true")
    assert (len(states["items"]), states["items_available"]) == (1, 1)
    for order in ("repository desc", '["repository desc"]', "jobs.repository DESC, priority"):
        ordered = page(http, select='["repository","priority"]', order=order)
        assert names_in(ordered, "repository") == [None, "beta two", "alpha one"]


@pytest.mark.parametrize("value", ["foo", "", "1234five", "0x10", "-8"])
@pytest.mark.parametrize("name", ["limit", "offset"])
def test_case_9_101_a_limit_that_is_no_number(http: httpx.Client, name: str, value: str) -> None:
    """422, by the name of the parameter."""
    message = refusal(http.get(JOBS, params={name: value}))
    assert message == f"Invalid value for {name} parameter"


def test_case_9_102_103_what_is_not_there_and_what_is_not_yours(
    http: httpx.Client, site: Site, jobs: list[Record]
) -> None:
    """404 alike; each answer has a token of its own."""
    user = http.post(f"{BASE}/users", json={"user": {"username": "casual"}}).json()
    tokens = f"{BASE}/api_client_authorizations"
    secret = http.post(tokens, json={"owner_uuid": user["uuid"]}).json()["api_token"]
    nowhere = http.get(f"{JOBS}/zzzzz-8i9sb-000000000000000")
    with site.http(secret) as another:
        hidden = another.get(f"{JOBS}/{jobs[0]['uuid']}")
    assert refusal(nowhere, 404) == refusal(hidden, 404) == "Path not found"
    assert nowhere.json()["error_token"] != hidden.json()["error_token"]


def test_case_9_104_a_bad_object(http: httpx.Client) -> None:
    """A sentence that names what is wrong."""
    assert "badattr" in refusal(http.post(JOBS, json={"job": {"badattr": "badvalue"}}))


@pytest.mark.parametrize("value", ["", "TRUE", "yes", "2", "null", "nil", "[]", "[true]"])
def test_case_9_105_a_boolean_parameter_that_is_none(http: httpx.Client, value: str) -> None:
    """422, by the name of the parameter."""
    message = "parameter must be a boolean, true or false"
    assert refusal(http.get(JOBS, params={"distinct": value})) == f"distinct {message}"
    made = http.post(JOBS, params={"find_or_create": value}, json={"command": ["true"]})
    assert refusal(made) == f"find_or_create {message}"


@pytest.mark.parametrize("value", [True, "true", 1, "1", False, "false", 0, "0"])
def test_case_9_106_spellings_of_a_boolean(
    http: httpx.Client, jobs: list[Record], value: Any
) -> None:
    """In the address, and in a body as JSON has it."""
    states = page(http, select='["state"]', distinct=json.dumps(value).strip('"'))
    assert len(states["items"]) == (1 if value in (True, "true", "1") else 3)
    body = {"command": ["true"], "runtime_constraints": NOWHERE, "find_or_create": value}
    job = http.post(JOBS, json=body)
    assert job.status_code == 200, job.text
    assert http.delete(f"{JOBS}/{job.json()['uuid']}").status_code == 200


def test_case_9_107_the_name_of_a_request(http: httpx.Client) -> None:
    """The client's own comes back; without one, or with one too long, it gets one."""
    for given in ("x", "req-0123456789abcdefghij", "a b", "y" * 1024):
        head = http.get(JOBS, params={"limit": 0}, headers={"X-Request-Id": given})
        assert head.headers["x-request-id"] == given
    for headers in ({}, {"X-Request-Id": "y" * 1025}, {"X-Request-Id": ""}):
        head = http.get(JOBS, params={"limit": 0}, headers=headers)
        assert re.fullmatch(r"req-[0-9a-z]{20}", head.headers["x-request-id"])


def test_case_9_109_empty_lists_and_nulls_are_kept(http: httpx.Client, jobs: list[Record]) -> None:
    """Nothing tidies up what a client gives."""
    kept = http.get(f"{JOBS}/{jobs[0]['uuid']}").json()["script_parameters"]
    assert kept == {"empty": [], "nulls": [None], "mixed": [None, 1, ""]}


def test_case_9_111_kinds_of_uuids(http: httpx.Client, jobs: list[Record]) -> None:
    """One kind or several; one that is unknown is nobody's."""
    for kinds, expected in (
        ("arvados#user", [0, 1, 2]),
        (["arvados#group", "arvados#user"], [0, 1, 2]),
        ("arvados#group", []),
        ("bogus", []),
        (["arvados#job", "arvados#jobTask"], []),
    ):
        assert found(http, ["owner_uuid", "is_a", kinds]) == expected


def test_case_9_112_users_by_whether_they_are_active(http: httpx.Client) -> None:
    """The boolean itself and as text, in filters and in the old form."""
    body = {"user": {"username": "resting", "is_active": False}}
    uuid = http.post(f"{BASE}/users", json=body).json()["uuid"]
    for value, is_there in ((False, True), ("false", True), (True, False), ("true", False)):
        asked: list[Record] = [
            {"filters": json.dumps([["is_active", "=", value]])},
            {"where": json.dumps({"is_active": value})},
        ]
        for parameters in asked:
            listed = http.get(f"{BASE}/users", params={**parameters, "limit": 1000}).json()
            assert (uuid in names_in(listed)) == is_there, parameters
