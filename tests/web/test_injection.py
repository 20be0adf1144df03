"""Two hundred texts that would run, in every field that somebody else writes, on every page.

None runs, none becomes markup, and all are there to be read. What a browser would make of them
where they are not escaped, the first test shows.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from tests.api.conftest import Api, LiveServer
from tests.web.conftest import OpenTab, Tab
from tests.web.hostile import PAYLOADS, Hostile, grouped, is_for_terminals

from jobtasks.web.job import VIEWS

SCRIPT = Path(__file__).with_name("strange.js").read_text()
"""Says what on a page no template of ours has made."""
HIT = "window.hit = () => console.error('a payload ran');"
SILENCE = "retry: 100000000\n\n"


@pytest.fixture(scope="module")
def hostile(site: LiveServer) -> Iterator[Hostile]:
    api = Api(site)
    yield Hostile(api)
    api.close()


@pytest.fixture
def tab(open_tab: OpenTab) -> Tab:
    """A window that hears of no news, so that nothing but the test changes what it shows."""
    opened = open_tab()
    opened.context.add_init_script(HIT)
    opened.context.add_init_script(SCRIPT)
    opened.context.route(
        "**/live*",
        lambda route: route.fulfill(content_type="text/event-stream", body=SILENCE),
    )
    return opened


GAPS = re.compile("[\\s\\x00-\\x1f\\x7f-\\x9f\\xad\\u200b\\u202e\\u2028\\u2029\\ufeff\\ufffd]+")


def bare(text: str) -> str:
    """Return the letters of a text that are seen, without the gaps."""
    return GAPS.sub("", text)


def in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


def seen(tab: Tab) -> dict[str, Any]:
    """Return what a page shows, when nothing on it is strange."""
    found: dict[str, Any] = tab.page.evaluate("look()")
    return judged(found)


def judged(found: dict[str, Any]) -> dict[str, Any]:
    assert found.pop("strange") == [], found["at"]
    return {name: bare(text) for name, text in found.items()}


def parts(tab: Tab, addresses: list[str]) -> list[dict[str, Any]]:
    """Let the page's own part show one address after another; return what each shows."""
    found: list[dict[str, Any]] = tab.page.evaluate("(addresses) => inTurn(addresses)", addresses)
    return [judged(one) for one in found]


def expect(text: str, *wanted: str) -> None:
    for each in wanted:
        assert bare(each) in text, f"{each!r} is not shown"


def test_payloads_are_dangerous(tab: Tab) -> None:
    """Where they are not escaped most are markup at once, or in an attribute; the others are
    texts of templates, terminals and the like.
    """
    assert len(PAYLOADS) == 200
    tab.page.goto("about:blank")
    noticed = tab.page.evaluate("(payloads) => payloads.filter(isDangerous)", PAYLOADS)
    assert len(noticed) > 140
    tab.page.set_content("<p onclick='hit()'>x</p>")
    assert tab.page.evaluate("look().strange")
    tab.page.set_content("<img src=data: onerror=hit()>")
    tab.forgive("a payload ran")
    tab.forgive("Failed to load resource")


def test_pages_of_a_job(tab: Tab, hostile: Hostile) -> None:
    """Each view, of a job whose texts are all payloads, and of one that failed with them."""
    for view in VIEWS:
        for uuid in (hostile.theirs, hostile.failing, hostile.explained):
            tab.page.goto(f"/jobs/{uuid}/{view}".rstrip("/"))
            if view == "timeline":
                tab.page.locator("time-line[data-ready=yes]").wait_for()
            found = seen(tab)
            if uuid == hostile.theirs:
                expect(found["title"], hostile.everything[:60])
                expect(found["text"], hostile.everything[:200], hostile.everything)
            if uuid == hostile.explained:
                expect(found["text"], *map(in_json, PAYLOADS if view == "details" else ()))


def test_lists_of_jobs(tab: Tab, hostile: Hostile) -> None:
    """Descriptions and commands; the reason of a cancel stands on the job's own page."""
    tab.page.goto("/")
    addresses = [f"/parts/jobs?offset={offset}" for offset in range(0, 190, 50)]
    text = "".join(found["text"] for found in parts(tab, addresses))
    expect(text, *hostile.named)
    heads = [*hostile.described, *hostile.commanded, *hostile.cancelled]
    found = parts(tab, [f"/jobs/{uuid}/parts/head" for uuid in heads])
    for name, one in zip(hostile.named * 3, found, strict=True):
        expect(one["text"], name)
    for uuid, name in zip(hostile.described, hostile.named, strict=True):
        if "</title>" in name:
            tab.page.goto(f"/jobs/{uuid}")
            expect(seen(tab)["title"], name[:60])


def test_tasks(tab: Tab, hostile: Hostile) -> None:
    """Parameters and outputs in the list; all of it in the panel."""
    base = f"/jobs/{hostile.theirs}"
    tab.page.goto(base)
    addresses = [f"{base}/parts/tasks?after={after}" for after in (-1, 49, 99, 149)]
    text = "".join(found["text"] for found in parts(tab, addresses))
    for payload in PAYLOADS:
        expect(text, payload[:50], payload[:80])
    found = parts(tab, [f"/tasks/{uuid}/panel" for uuid in hostile.shown])
    for payload, one in zip(PAYLOADS, found, strict=True):
        expect(one["text"], f"Output{payload}", f"Command{payload}", in_json(payload))


def test_attempts_and_their_logs(tab: Tab, hostile: Hostile) -> None:
    """Reasons and the ends of stderr; logs without what terminals do."""
    tab.page.goto(f"/jobs/{hostile.failing}")
    found = parts(tab, [f"/tasks/{uuid}/panel" for uuid in hostile.failed])
    for words, one in zip(hostile.said, found, strict=True):
        expect(one["text"], hostile.hostnames[0], words)
        if not is_for_terminals(words):
            expect(one["log"], words)
    for uuid in hostile.failed[:2]:
        tab.page.goto(f"/tasks/{uuid}")
        seen(tab)


def test_nodes(tab: Tab, hostile: Hostile) -> None:
    """Hostnames and the reasons of holds."""
    tab.page.goto("/nodes")
    expect(seen(tab)["text"], *hostile.hostnames)
    found = parts(tab, [f"/nodes/{uuid}/part" for uuid in hostile.nodes])
    for name, one in zip(hostile.hostnames, found, strict=True):
        assert one["text"].count(bare(name)) >= 2
    for uuid in hostile.nodes[:3]:
        tab.page.goto(f"/nodes/{uuid}")
        seen(tab)


NAMES = ("q", "state", "order", "offset", "sequence", "after", "attempt", "next", "back", "said")


def test_addresses(tab: Tab, hostile: Hostile) -> None:
    """Whatever an address asks for, in a page and in its parts; a search is shown as it is."""
    groups = grouped(190)
    asked = ["?" + urlencode(dict.fromkeys(NAMES, group)) for group in groups]
    base = f"/jobs/{hostile.theirs}"
    tab.page.goto("/")
    for path in ("/parts/jobs", base + "/parts/tasks", "/parts/nodes", base + "/parts/head"):
        for group, one in zip(groups, parts(tab, [path + query for query in asked]), strict=True):
            if path == "/parts/jobs":
                expect(one["values"], group)
                assert bare(f"matches “{group}”") in one["text"] or "No job" not in one["text"]
    pages = ["/", "/jobs", "/nodes", *(f"{base}/{view}".rstrip("/") for view in VIEWS)]
    pages += [f"/tasks/{hostile.shown[0]}", f"/nodes/{hostile.nodes[0]}"]
    for path, query in zip(pages, asked[::3], strict=False):
        tab.page.goto(path + query)
        seen(tab)


def test_a_door_and_a_hash(tab: Tab, hostile: Hostile) -> None:
    """Links to sign in, and to a task of a list."""
    for group in grouped(1000):
        tab.page.goto("/sign-in?" + urlencode({"key": group, "next": group}))
        tab.page.get_by_role("alert").wait_for()
        seen(tab)
        tab.forgive("403")
    for payload in PAYLOADS[::25]:
        tab.page.goto("about:blank")
        tab.page.goto(f"/jobs/{hostile.explained}#task={quote(payload)}")
        tab.forgive("404")
        seen(tab)


def test_answers_to_forms(tab: Tab, hostile: Hostile) -> None:
    """What is said after a form, and what an error cites."""
    for group in grouped(600):
        content = quote(json.dumps([group, True]))
        cookie = {"name": "jobtasks_said", "value": content, "url": tab.url}
        tab.context.add_cookies([cookie])  # type: ignore[list-item]
        tab.page.goto("/nodes?state=gone")
        expect(seen(tab)["text"], group)
    for payload in PAYLOADS[::20]:
        tab.page.goto(f"/jobs/{hostile.described[0]}/details")
        tab.page.evaluate("(text) => sendPriority(text)", payload)
        tab.page.get_by_role("alert").wait_for()
        seen(tab)
        tab.forgive("422")
