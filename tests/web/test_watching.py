"""Pages as people use them, in Chromium: they change by themselves, and do what is asked."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from tests.api.conftest import ADMIN, Api, Node

from jobtasks.protocol.frames import STDOUT, frame
from jobtasks.protocol.messages import Assignment

from .conftest import OpenTab, Tab

expect.set_options(timeout=30_000)


@pytest.fixture
def node(api: Api) -> Node:
    return api.node(slots=2)


def with_children(api: Api, node: Node, count: int, **job: Any) -> tuple[str, list[Assignment]]:
    """A job whose seed has created so many tasks: its uuid, and what the node runs of them."""
    uuid = api.job(**job)["uuid"]
    seed = node.next_assignment()
    items = [{"sequence": 1, "parameters": {"sample": f"S{n}"}} for n in range(count)]
    answer = api.as_attempt(seed).post("/arvados/v1/job_tasks", json={"job_tasks": items})
    assert answer.status_code == 200, answer.text
    node.end(seed.attempt)
    return uuid, [node.next_assignment() for _ in range(min(count, node.slots))]


def shown(page: Page, number: str) -> Callable[[str], None]:
    """Return what waits until a number of a job's head is so."""
    place = page.locator("#head .numbers div").filter(has_text=number).locator("dd").first
    return lambda value: expect(place).to_contain_text(value)


def test_a_token_signs_in(open_tab: OpenTab) -> None:
    """Whoever is a stranger is asked in, and then gets to where he wanted to go."""
    page = open_tab(None).page
    page.goto("/nodes?state=live")
    expect(page).to_have_title(re.compile("Sign in"))
    page.get_by_label("Token").fill(ADMIN)
    page.get_by_role("button", name="Sign in").click()
    expect(page).to_have_url(re.compile(r"/nodes\?state=live$"))
    page.get_by_role("button", name="Sign out").click()
    page.goto("/")
    expect(page).to_have_title(re.compile("Sign in"))


def test_a_running_job_changes_by_itself(api: Api, node: Node, page: Page) -> None:
    """Counts, bars and tasks, without loading the page anew; so does its end."""
    uuid, running = with_children(api, node, 4)
    page.goto(f"/jobs/{uuid}")
    page.evaluate("window.known = true")
    shown(page, "Running")("2")
    expect(page.locator("#level-1")).to_contain_text("0 / 4")
    for task in running:
        node.end(task.attempt)
    expect(page.locator("#level-1")).to_contain_text("2 / 4")
    for _ in range(2):
        node.end(node.next_assignment().attempt)
    expect(page.locator("#head .badge")).to_have_text(re.compile("Complete"))
    expect(page.locator("#tasks table .badge.complete")).to_have_count(5)
    assert page.evaluate("window.known"), "it was loaded anew"


def test_what_a_reader_does_stays(api: Api, node: Node, page: Page) -> None:
    """An open menu, typed text and focus outlast news."""
    uuid, running = with_children(api, node, 4)
    page.goto(f"/jobs/{uuid}")
    page.get_by_text("Cancel…").click()
    page.get_by_label("Reason").fill("because")
    node.end(running[0].attempt)
    expect(page.locator("#level-1")).to_contain_text("1 / 4")
    expect(page.get_by_label("Reason")).to_be_focused()
    expect(page.get_by_label("Reason")).to_have_value("because")


def test_a_log_is_followed(api: Api, node: Node, page: Page) -> None:
    """While it is written; with colours, and what is looked for is found."""
    uuid, (task, _) = with_children(api, node, 2)
    first = frames(b"\x1b[31mred\x1b[0m and <b>plain</b>\n")
    node.push_log(task.attempt, first)
    page.goto(f"/jobs/{uuid}")
    page.locator("#tasks tbody tr").nth(1).get_by_role("link").click()
    log = page.locator("#panel log-view pre")
    expect(log).to_contain_text("red and <b>plain</b>")
    expect(log.locator("span.f1")).to_have_text("red")
    node.push_log(task.attempt, frames(b"second line\n"), offset=len(first))
    expect(log).to_contain_text("second line")
    page.get_by_label("Find in this log").fill("line")
    expect(page.locator("log-view .tools [role=status]")).to_have_text("1 of 1")
    with page.expect_download() as kept:
        page.get_by_role("link", name="Download").click()
    assert kept.value.path().read_text() == "\x1b[31mred\x1b[0m and <b>plain</b>\nsecond line\n"


def frames(text: bytes) -> bytes:
    return frame(STDOUT, text)


def test_a_click_on_a_count_filters(api: Api, node: Node, page: Page) -> None:
    """Tasks by state and sequence, jobs by state; it stands in the address."""
    uuid, running = with_children(api, node, 4)
    node.end(running[0].attempt)
    page.goto(f"/jobs/{uuid}")
    page.locator("#tasks-running").click()
    expect(page).to_have_url(re.compile("state=running"))
    expect(page.locator("#tasks tbody tr")).to_have_count(2)
    page.goto(f"/jobs/{uuid}?state=waiting")
    expect(page.locator("#tasks tbody tr")).to_have_count(1)
    page.locator("#level-1").click()
    expect(page.locator("#tasks tbody tr")).to_have_count(4)
    page.goto("/")
    page.locator("#chip-Running").click()
    expect(page).to_have_url(re.compile("state=Running"))
    expect(page.locator(f"[id='{uuid}']")).to_be_visible()
    page.locator("#chip-Cancelled").click()
    expect(page.locator(f"[id='{uuid}']")).to_have_count(0)


def test_a_job_is_cancelled_with_a_reason(api: Api, node: Node, page: Page) -> None:
    uuid, _ = with_children(api, node, 2)
    page.goto(f"/jobs/{uuid}")
    page.get_by_text("Cancel…").click()
    page.get_by_label("Reason").fill("the input was wrong")
    page.get_by_role("button", name="Cancel the job").click()
    expect(page.locator(".said.good")).to_contain_text("cancelled")
    expect(page.locator("#head .badge")).to_have_text(re.compile("Cancelled"))
    expect(page.locator("#head .job-log")).to_contain_text("the input was wrong")
    assert api.get(f"jobs/{uuid}")["state"] == "Cancelled"


def test_a_family_is_tried_again_with_more_memory(api: Api, node: Node, page: Page) -> None:
    """Its tasks and no others; how many is said."""
    constraints = {"max_attempts": 1, "on_failure": "continue", "min_ram_per_task": 100_352}
    uuid, running = with_children(api, node, 3, runtime_constraints=constraints)
    for number, task in enumerate([*running, None]):
        attempt = task or node.next_assignment()
        stderr = b"ValueError: bad 'x%d'\n" % number if number < 2 else b"no space left\n"
        node.end(attempt.attempt, 1, stderr_tail=stderr)
    page.goto(f"/jobs/{uuid}/failures")
    expect(page.locator("#head .badge")).to_have_text(re.compile("Failed"))
    family = page.locator(".family").filter(has_text="ValueError")
    expect(family.locator(".many")).to_have_text("2")
    expect(page.locator(".family")).to_have_count(2)
    family.get_by_label("Memory").select_option("2")
    family.get_by_role("button", name="Retry these 2 tasks").click()
    expect(page.locator(".said.good")).to_contain_text("2 tasks are to be run")
    again = [node.next_assignment() for _ in range(2)]
    assert [attempt.memory_kib for attempt in again] == [200_704] * 2
    tasks = api.get("job_tasks", filters=f'[["job_uuid","=","{uuid}"]]', order="qsequence")
    assert [task["state"] for task in tasks["items"]][1:] == ["running", "running", "failed"]


def test_what_waits_is_explained(api: Api, node: Node, page: Page) -> None:
    """A job that no node can take, and a task behind a lower sequence."""
    large = api.job(runtime_constraints={"min_ram_per_task": 10**9})["uuid"]
    page.goto(f"/jobs/{large}")
    expect(page.locator("#head .explain")).to_contain_text(re.compile("too_large|min_ram"))
    uuid, running = with_children(api, node, 2)
    api.as_attempt(running[0]).post("/arvados/v1/job_tasks", json={"sequence": 5})
    page.goto(f"/jobs/{uuid}?state=waiting")
    page.locator("#tasks tbody tr a").first.click()
    expect(page.locator("#panel .explain")).to_contain_text("creator")


def test_several_jobs_at_once(api: Api, page: Page) -> None:
    """It is said how many were hit, and why others were not."""
    name = "several at once"
    uuids = [
        api.job(description=name, runtime_constraints={"min_nodes": 999})["uuid"] for _ in range(3)
    ]
    api.http.post(f"/arvados/v1/jobs/{uuids[0]}/cancel")
    page.goto(f"/?q={name.replace(' ', '+')}")
    expect(page.locator(".jobs tbody tr")).to_have_count(3)
    page.get_by_label("Choose all jobs of this page").check()
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("button", name="Cancel chosen").click()
    expect(page.locator(".said")).to_contain_text("2 of 3 jobs cancelled.")
    expect(page.locator(".said")).to_contain_text("Did not cancel 1: It had ended.")
    assert {api.get(f"jobs/{uuid}")["state"] for uuid in uuids} == {"Cancelled"}


def test_who_may_only_look_sees_no_buttons(api: Api, node: Node, open_tab: OpenTab) -> None:
    """And what he sees changes as for others."""
    token = api.http.post(
        "/arvados/v1/api_client_authorizations", json={"scopes": ["GET /"]}
    ).json()["api_token"]
    uuid, running = with_children(api, node, 2)
    page = open_tab(token).page
    page.goto(f"/jobs/{uuid}")
    expect(page.locator(".who")).to_contain_text("read only")
    expect(page.get_by_text("Cancel…")).to_have_count(0)
    node.end(running[0].attempt)
    expect(page.locator("#level-1")).to_contain_text("1 / 2")


def test_a_node_is_held_and_released(api: Api, node: Node, page: Page) -> None:
    """What it runs is shown; the reason is, too."""
    _, running = with_children(api, node, 2)
    uuid = next(
        each["uuid"] for each in api.get("nodes", limit=1000)["items"] if each["attempts_live"] == 2
    )
    page.goto("/nodes")
    page.locator(f"[id='{uuid}'] .name a").click()
    expect(page.locator("#node tbody tr")).to_have_count(len(running))
    page.get_by_text("Hold…").click()
    page.get_by_label("Minutes").fill("5")
    page.get_by_label("Reason").first.fill("a new disk")
    page.get_by_role("button", name="Hold", exact=True).click()
    expect(page.locator(".said.good")).to_contain_text("is held")
    expect(page.locator("#node .said.bad")).to_have_text("a new disk")
    page.get_by_role("button", name="Release").click()
    expect(page.locator("#node .badge").first).to_have_text(re.compile("busy|live"))


def test_a_hold_of_no_number_is_refused(api: Api, node: Node, tab: Tab) -> None:
    """And the node is not held for ever in its place."""
    page = tab.page
    with_children(api, node, 2)
    uuid = next(
        each["uuid"] for each in api.get("nodes", limit=1000)["items"] if each["attempts_live"] == 2
    )
    for minutes in ("soon", "\u00b2", "-5", "nan"):
        page.goto(f"/nodes/{uuid}")
        page.get_by_text("Hold…").click()
        page.get_by_label("Minutes").fill(minutes)
        page.get_by_role("button", name="Hold", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("seconds must be a number")
    assert not api.get(f"nodes/{uuid}")["held"]
    tab.forgive("422")


def test_a_priority_is_changed(api: Api, page: Page) -> None:
    uuid = api.job(runtime_constraints={"min_nodes": 999})["uuid"]
    page.goto(f"/jobs/{uuid}/details")
    page.get_by_label("Priority").fill("7")
    page.get_by_role("button", name="Change").click()
    expect(page.locator(".said.good")).to_have_text("The job has priority 7.")
    assert api.get(f"jobs/{uuid}")["priority"] == 7
