"""Lists through the Python client of Arvados: filters, order, pages, and all of a long list."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from arvados.errors import ApiError
from arvados.util import keyset_list_all

from .conftest import NOWHERE, Client, Connect, Playing, Record, names_in, text_of

TASKS = 25_000
MARK = "client lists"
Sent = list[tuple[str, str, Record]]


@pytest.fixture
def three(admin: Client) -> Iterator[list[Record]]:
    """Three queued jobs, which nothing runs; a filter on their description finds them alone."""
    made = [
        admin.jobs()
        .create(
            body={
                "command": ["true"],
                "runtime_constraints": NOWHERE,
                "description": MARK,
                "priority": priority,
                "repository": f"Lists-{priority}" if priority else None,
                "nondeterministic": flag,
                "script_parameters": {"number": priority, "parts": ["all", str(priority)]},
            }
        )
        .execute()
        for priority, flag in ((0, None), (1, True), (2, False))
    ]
    yield made
    for job in made:
        admin.jobs().delete(uuid=job["uuid"]).execute()


FILTERS = [
    (["priority", "=", 1], [1]),
    (["priority", "=", "1"], [1]),
    (["priority", "!=", 1], [0, 2]),
    (["priority", "<", 1], [0]),
    (["priority", "<=", 1], [0, 1]),
    (["priority", ">", 1], [2]),
    (["priority", ">=", 1], [1, 2]),
    (["priority", "in", [0, 2]], [0, 2]),
    (["priority", "not in", [0, 2]], [1]),
    (["repository", "=", None], [0]),
    (["repository", "!=", None], [1, 2]),
    (["repository", "!=", "Lists-1"], [0, 2]),
    (["repository", "like", "Lists-%"], [1, 2]),
    (["repository", "like", "lists-%"], []),
    (["repository", "ilike", "lists-_"], [1, 2]),
    (["repository", "in", ["Lists-2", "other"]], [2]),
    (["repository", "not in", ["Lists-2"]], [0, 1]),
    (["repository", "<", "Lists-2"], [1]),
    (["nondeterministic", "=", True], [1]),
    (["nondeterministic", "=", "f"], [2]),
    (["nondeterministic", "!=", True], [2]),
    (["nondeterministic", "!=", "true"], [0, 2]),
    (["nondeterministic", "=", None], [0]),
    (["created_at", ">", "2014-01-01"], [0, 1, 2]),
    (["created_at", "<", "2014-01-01 01:23:45"], []),
    (["uuid", "is_a", "arvados#job"], [0, 1, 2]),
    (["uuid", "is_a", ["arvados#jobTask", "arvados#group"]], []),
    ([["repository", "script_version"], "=", "Lists-1"], [1]),
    (["any", "ilike", "%lists-2%"], [2]),
    (["any", "@@", "LISTS-2 client"], [2]),
    (["script_parameters.number", "=", 1], [1]),
    (["script_parameters.number", "<", 2], [0, 1]),
    (["script_parameters.number", "in", [0, "1", 2]], [0, 2]),
    (["script_parameters.parts", "contains", "1"], [1]),
    (["script_parameters.absent", "exists", False], [0, 1, 2]),
    (["script_parameters", "exists", "parts"], [0, 1, 2]),
    (["runtime_constraints.min_ram_per_node", ">", 10**11], [0, 1, 2]),
    (["command", "contains", "true"], [0, 1, 2]),
    (["PRIORITY", "=", 1], 422),
    (["repository.key", "=", 1], 422),
    (["script_parameters.number", "<", None], 422),
    (["priority", "=", "first"], 422),
    (["priority", "like", "1%"], 422),
    (["nondeterministic", "<", True], 422),
    (["nondeterministic", "=", "perhaps"], 422),
    (["repository", "=", 1], 422),
    (["repository", "<", None], 422),
    (["repository", "in", "Lists-1"], 422),
    (["repository", "resembles", "Lists-1"], 422),
    (["created_at", ">", "soon"], 422),
    (["tasks_summary", "=", "{}"], 422),
    ("priority = 1", 422),
]


@pytest.mark.rule("R41")
def test_each_operator_finds_what_it_says(admin: Client, three: list[Record]) -> None:
    """Over texts, numbers, times, booleans and nulls; what cannot be compared is refused."""
    for condition, expected in FILTERS:
        call = admin.jobs().list(filters=[["description", "=", MARK], condition])
        if expected == 422:
            with pytest.raises(ApiError) as caught:
                call.execute()
            assert caught.value.resp.status == 422, condition
            assert text_of(caught.value)
        else:
            found = call.execute()
            assert sorted(names_in(found, "priority")) == expected, condition
            assert found["items_available"] == len(expected)


def test_where_is_taken_beside_filters(admin: Client, three: list[Record]) -> None:
    """The old form, which the client encodes as an object; both must hold."""
    mine = [["description", "=", MARK]]
    found = admin.jobs().list(filters=mine, where={"priority": [0, 2], "repository": "Lists-2"})
    assert names_in(found.execute(), "priority") == [2]


def test_times_go_out_and_come_back(admin: Client, three: list[Record]) -> None:
    """What the server printed finds the same record again, to the last digit."""
    for job in three:
        same = [["created_at", "=", job["created_at"]], ["uuid", "=", job["uuid"]]]
        assert names_in(admin.jobs().list(filters=same).execute()) == [job["uuid"]]


def test_order_select_count_and_distinct(admin: Client, three: list[Record]) -> None:
    """As lists, which the client encodes, and as text, which it passes on."""
    jobs, mine = admin.jobs(), [["description", "=", MARK]]
    for order in (["priority desc"], "priority desc", ["description", "priority desc"]):
        assert names_in(jobs.list(filters=mine, order=order).execute(), "priority") == [2, 1, 0]
    chosen = jobs.list(filters=mine, select=["uuid", "state"], count="none").execute()
    assert "items_available" not in chosen
    assert {tuple(sorted(item)) for item in chosen["items"]} == {("kind", "state", "uuid")}
    states = jobs.list(filters=mine, select=["state"], distinct=True).execute()
    assert (names_in(states, "state"), states["items_available"]) == (["Queued"], 1)
    shown = jobs.get(uuid=three[0]["uuid"], select=["priority"]).execute()
    assert shown == {"kind": "arvados#job", "priority": 0}


def test_case_9_12_pages_by_offset_until_one_is_empty(playing: Playing) -> None:
    """As crunch-job lists the children of its tasks; a page past the end is no error."""
    playing.tasks().create(body={"job_tasks": [{} for _ in range(25)]}).execute()
    children = [["created_by_job_task_uuid", "in", [playing.uuid]]]
    found: list[int] = []
    while True:
        page = playing.tasks().list(
            filters=children, order="qsequence", limit=10, offset=len(found)
        )
        answer = page.execute()
        assert answer["items_available"] == 25
        if not answer["items"]:
            break
        found += names_in(answer, "qsequence")
    assert found == list(range(1, 26))


def test_long_filters_go_as_a_post_that_stands_for_a_get(
    admin: Client, three: list[Record], sent: Sent
) -> None:
    """The client does so from 2,048 characters on; the answer is the same."""
    uuids = [job["uuid"] for job in three]
    others = [f"zzzzz-8i9sb-{number:015d}" for number in range(150)]
    answer = admin.jobs().list(filters=[["uuid", "in", [*uuids, *others]]], limit=2).execute()
    assert (answer["items_available"], len(answer["items"])) == (3, 2)
    [(method, address, headers)] = sent
    assert (method, headers["x-http-method-override"]) == ("POST", "GET")
    assert "?" not in address


def test_a_list_longer_than_a_page_is_silently_a_thousand(playing: Playing) -> None:
    """A limit past the largest is lowered, and the answer says so."""
    playing.tasks().create(body={"job_tasks": [{} for _ in range(1100)]}).execute()
    mine = [["job_uuid", "=", playing.job["uuid"]]]
    answer = playing.tasks().list(filters=mine, limit=5000, select=["uuid"]).execute()
    assert (answer["limit"], len(answer["items"])) == (1000, 1000)


class Writers:
    """Other clients that create and change tasks of a job, until told to stop."""

    def __init__(self, playing: Playing, connect: Connect, changed: list[str]) -> None:
        self._playing = playing
        self._stop = threading.Event()
        self.created: list[str] = []
        self._threads = [
            threading.Thread(target=self._create, args=(connect(playing.token),)),
            threading.Thread(target=self._change, args=(connect(playing.token), changed)),
        ]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _create(self, api: Client) -> None:
        while not self._stop.is_set() and len(self.created) < 2000:
            made = api.job_tasks().create(body={"parameters": {"late": True}}).execute()
            self.created.append(made["uuid"])
        api.close_connections()

    def _change(self, api: Client, uuids: list[str]) -> None:
        for number, uuid in enumerate(itertools.cycle(uuids)):
            if self._stop.is_set():
                break
            body = {"progress": number % 10 / 10}
            api.job_tasks().update(uuid=uuid, body=body).execute()
        api.close_connections()


@pytest.mark.rule("R41")
def test_all_of_a_long_list_while_others_write(playing: Playing, connect: Connect) -> None:
    """Each of 25,000 tasks exactly once, although one call made them, at one time."""
    body = {"job_tasks": [{"parameters": {"n": number}} for number in range(TASKS)]}
    uuids = playing.tasks().create(body=body).execute()["uuids"]
    mine = [["job_uuid", "=", playing.job["uuid"]]]
    with (writers := Writers(playing, connect, [playing.uuid])):
        fields = ["uuid", "created_at"]
        found = list(keyset_list_all(playing.tasks().list, filters=mine, select=fields))
    seen = names_in({"items": found})
    assert len(seen) == len(set(seen)), "nothing twice"
    assert {playing.uuid, *uuids} <= set(seen), "nothing left out"
    assert set(seen) <= {playing.uuid, *uuids, *writers.created}
    assert writers.created, "others wrote"


def test_a_list_by_another_key_goes_down_as_well(playing: Playing) -> None:
    """The client pages by any attribute, in either direction."""
    playing.tasks().create(body={"job_tasks": [{} for _ in range(2500)]}).execute()
    mine = [["job_uuid", "=", playing.job["uuid"]]]
    pages: Any = keyset_list_all(
        playing.tasks().list, order_key="qsequence", ascending=False, filters=mine
    )
    assert [task["qsequence"] for task in pages] == list(range(2500, -1, -1))


def test_what_the_client_encodes_is_what_the_server_reads(admin: Client, sent: Sent) -> None:
    """Lists arrive as JSON, text as it is."""
    admin.jobs().list(filters=[["priority", "=", 1]], order="uuid", select=["uuid"]).execute()
    [(_, address, _)] = sent
    query = dict(parse_qsl(urlsplit(address).query))
    assert query == {
        "filters": '[["priority", "=", 1]]',
        "order": "uuid",
        "select": '["uuid"]',
        "alt": "json",
    }
