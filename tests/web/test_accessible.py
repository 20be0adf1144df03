"""Pages for people who do not see them, see little, or use no mouse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from tests.api.conftest import ADMIN, Api, LiveServer
from tests.web.conftest import WAIT_MS, OpenTab, Tab
from tests.web.scene import Scene

from jobtasks.web.job import VIEWS

AXE = Path(__file__).with_name("node_modules") / "axe-core" / "axe.min.js"
GRAVE = ("serious", "critical")
COLOURS = ["color-contrast", "link-in-text-block"]
"""The rules to which it matters whether a page is light or dark."""
FIND = """([grave, rules]) => axe.run(document, rules ? {runOnly: rules} : {}).then((found) =>
  found.violations.filter(({impact}) => grave.includes(impact)).flatMap(({id, nodes}) =>
    nodes.map(({html, any}) => `${id}: ${any[0]?.message ?? ""}: ${html.slice(0, 150)}`)))"""
STOPS_MAX = 200
"""More presses of Tab than any of these pages has stops."""


@pytest.fixture(scope="module")
def scene(site: LiveServer) -> Iterator[Scene]:
    api = Api(site)
    yield Scene(api, lambda field: f"a {field}")
    api.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The script that looks for what some people would trip over."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci --prefix tests/web")
    return AXE.read_text()


def address(scene: Scene, page: str) -> str:
    """Return where a page is: ``jobs/failed/tree``, ``nodes/held``; or as it is said."""
    kind, _, rest = page.lstrip("/").partition("/")
    name, _, view = rest.partition("/")
    uuids = {"jobs": scene.jobs, "tasks": scene.tasks, "nodes": scene.nodes}.get(kind, {})
    return f"/{kind}/{uuids[name]}/{view}".rstrip("/") if name in uuids else page


def settled(page: Page) -> None:
    """Wait until what loads itself is there."""
    for log in page.locator("log-view pre").all():
        expect(log).not_to_be_empty(timeout=WAIT_MS)


def findings(page: Page, axe: str) -> list[str]:
    """Return what is wrong with a page; in the dark only with its colours, the rest is the same."""
    settled(page)
    page.evaluate(f"() => {{ if (!window.axe) {{ {axe} }} }}")
    is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    found: list[str] = page.evaluate(FIND, [GRAVE, COLOURS if is_dark else None])
    return found


PAGES = [
    "/",
    "/?q=nothing+like+that",
    "/jobs/running",
    "/jobs/queued",
    "/jobs/cancelled",
    *(f"/jobs/failed/{view}".rstrip("/") for view in VIEWS),
    "/tasks/failed",
    "/tasks/again",
    "/nodes",
    "/nodes?state=gone",
    "/nodes/live",
    "/nodes/held",
]


SCHEMES = ("light", "dark")


def in_both(page: Page, axe: str) -> list[str]:
    """Return what is wrong with a page in light, and in the dark."""
    found = []
    for scheme in SCHEMES:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        found += [f"{scheme}: {finding}" for finding in findings(page, axe)]
    return found


def test_nobody_trips_over_a_page(tab: Tab, scene: Scene, axe: str) -> None:
    """Names, contrasts, roles, order: nothing serious, in light and in dark."""
    found = []
    for each in PAGES:
        tab.page.goto(address(scene, each))
        found += [f"{each}: {finding}" for finding in in_both(tab.page, axe)]
    assert not found, "\n".join(found)


def test_nobody_trips_over_what_opens(tab: Tab, scene: Scene, axe: str) -> None:
    """The panel beside a list, menus, what is said after a form, errors, the door."""
    page = tab.page
    page.goto(address(scene, "/jobs/failed") + f"#task={scene.tasks['failed']}")
    page.locator("aside#panel log-view pre", has_text="a log").wait_for()
    found = in_both(page, axe)
    page.goto(address(scene, "/nodes/live"))
    page.locator("#hold-menu summary").click()
    found += in_both(page, axe)
    page.goto(address(scene, "/jobs/queued/details"))
    page.locator("form[action$=priority] button").click()
    page.get_by_role("status").filter(has_text="has priority").wait_for()
    found += in_both(page, axe)
    page.goto("/jobs/zzzzz-8i9sb-000000000000000")
    page.get_by_role("alert").wait_for()
    found += in_both(page, axe)
    tab.forgive("404")
    tab.context.clear_cookies()
    page.goto("/sign-in")
    found += in_both(page, axe)
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    page.get_by_role("alert").wait_for()
    found += in_both(page, axe)
    tab.forgive("403")
    assert not found, "\n".join(found)


def test_findings_are_found(tab: Tab, axe: str) -> None:
    """Else that there are none would say nothing: colours in each scheme, the rest once."""
    tab.page.goto("/nodes")
    tab.page.evaluate(
        "document.querySelector('main').append(document.createElement('input'),"
        " Object.assign(document.createElement('p'), {textContent: 'light', id: 'light'}),"
        " Object.assign(document.createElement('p'), {textContent: 'dark', id: 'dark'}))"
    )
    tab.page.evaluate(
        """const sheet = new CSSStyleSheet();
        sheet.replaceSync(`@media (prefers-color-scheme: light) { #light { color: #eee } }
          @media (prefers-color-scheme: dark) { #dark { color: #222 } }`);
        document.adoptedStyleSheets = [sheet];"""
    )
    found = {(each.split(": ")[0], each.split(": ")[1]) for each in in_both(tab.page, axe)}
    assert found == {("light", "label"), ("light", "color-contrast"), ("dark", "color-contrast")}


# -- by keyboard -----------------------------------------------------------------------------------


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until something has the focus."""
    for _ in range(STOPS_MAX):
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {selector}")


def test_from_the_door_to_a_task_and_back(open_tab: OpenTab, scene: Scene) -> None:
    """Sign in, find a job, read a task of it, be where one was: without a mouse."""
    page = open_tab(None).page
    page.goto("/sign-in")
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type(ADMIN)
    press(page, "Enter")
    page.wait_for_url(f"{scene.api.server.url}/")
    press(page, "/")
    expect(page.get_by_role("searchbox")).to_be_focused()
    page.keyboard.type("/a description")
    expect(page.get_by_role("searchbox")).to_have_value("/a description")
    page.get_by_role("searchbox").fill("a description")
    press(page, "Enter")
    page.wait_for_url("**/?q=a+description**")
    tab_to(page, f"a[href='/jobs/{scene.jobs['failed']}']")
    press(page, "Enter")
    page.wait_for_url(f"**{scene.jobs['failed']}")
    link = f"#open-{scene.tasks['failed']}"
    tab_to(page, link)
    press(page, "Enter")
    panel = page.get_by_role("complementary", name="Chosen task")
    expect(panel).to_be_focused()
    expect(panel.get_by_role("heading", level=2)).to_contain_text("Task 1")
    press(page, "Escape")
    expect(panel).to_be_hidden()
    expect(page.locator(link)).to_be_focused()
    press(page, "Enter")
    expect(panel).to_be_focused()
    tab_to(page, "[data-close-panel]")
    press(page, "Enter")
    expect(panel).to_be_hidden()
    expect(page.locator(link)).to_be_focused()


def test_arrows_go_through_a_list(page: Page, scene: Scene) -> None:
    page.goto(address(scene, "/jobs/running"))
    rows = page.locator("table.tasks tbody tr")
    links = [rows.nth(number).locator("a").first for number in range(rows.count())]
    assert len(links) == 4
    links[0].focus()
    for at, key in ((1, "ArrowDown"), (2, "ArrowDown"), (1, "ArrowUp"), (0, "ArrowUp")):
        press(page, key)
        expect(links[at]).to_be_focused()
    press(page, "ArrowUp")
    expect(links[0]).to_be_focused()


def test_a_cancel_with_its_reason(page: Page, scene: Scene, api: Api) -> None:
    job = api.job(runtime_constraints={"min_cores_per_node": 4000})["uuid"]
    page.goto(f"/jobs/{job}")
    menu = page.locator("#cancel-menu")
    tab_to(page, "#cancel-menu summary")
    press(page, "Enter")
    expect(menu.get_by_role("button", name="Cancel the job")).to_be_visible()
    press(page, "Escape")
    expect(menu.get_by_role("button", name="Cancel the job")).to_be_hidden()
    expect(menu.locator("summary")).to_be_focused()
    press(page, "Space", "Tab")
    expect(page.get_by_label("Reason, for those who look at it later")).to_be_focused()
    page.keyboard.type("not needed any more")
    press(page, "Tab", "Enter")
    expect(page.get_by_role("status").filter(has_text="The job is cancelled")).to_be_visible()
    expect(page.locator(".job-log")).to_contain_text("not needed any more")
    assert api.get(f"jobs/{job}")["state"] == "Cancelled"


def test_the_head_of_a_page_is_skipped(page: Page) -> None:
    page.goto("/")
    press(page, "Tab")
    skip = page.get_by_role("link", name="Skip to content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    press(page, "Enter")
    expect(page.get_by_role("main")).to_be_focused()
    press(page, "Tab")
    assert page.evaluate("document.querySelector('main').contains(document.activeElement)")


STOP = """() => {
  const at = document.activeElement, style = getComputedStyle(at), box = at.getBoundingClientRect();
  if (at === document.body) return null;
  if (!at.dataset.stop) at.dataset.stop = document.querySelectorAll("[data-stop]").length + 1;
  return {
    name: at.outerHTML.slice(0, 120), number: at.dataset.stop,
    ringed: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0,
    there: box.width > 0 && box.height > 0 && box.bottom > 0 && box.top < innerHeight,
  };
}"""


@pytest.mark.parametrize("name", ["/", "/jobs/running", "/tasks/failed", "/nodes/live"])
def test_one_sees_where_one_is(page: Page, scene: Scene, name: str) -> None:
    """Each stop of Tab has a ring around it and is in sight, and the last leads out."""
    page.goto(address(scene, name))
    settled(page)
    seen: set[str] = set()
    for _ in range(STOPS_MAX):
        press(page, "Tab")
        stop = page.evaluate(STOP)
        if stop is None or (seen and stop["number"] == "1"):
            break
        assert stop["ringed"], stop["name"]
        assert stop["there"], stop["name"]
        assert stop["number"] not in seen, f"a trap: {stop['name']}"
        seen.add(stop["number"])
    else:
        raise AssertionError("Tab does not lead out of the page")
    assert len(seen) > 10


# -- what is read aloud ----------------------------------------------------------------------------


NAMES = """() => [...document.querySelectorAll("nav, aside, section")].map(
  (part) => part.getAttribute("aria-label") || part.getAttribute("aria-labelledby"))"""


def test_each_page_says_where_one_is(page: Page, scene: Scene) -> None:
    """One heading of the first level, one main part, a title; the place in the navigation."""
    titles = set()
    for each in PAGES:
        page.goto(address(scene, each))
        expect(page.get_by_role("main")).to_have_count(1)
        expect(page.get_by_role("banner")).to_have_count(1)
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
        assert page.get_by_role("heading", level=1).inner_text().strip(), each
        current = page.get_by_role("navigation", name="Main").locator("[aria-current=page]")
        expect(current).to_have_text("Nodes" if "node" in each else "Jobs")
        assert page.title().endswith(" – JobTasks"), each
        names = page.evaluate(NAMES)
        assert all(names), f"{each}: {names}"
        assert len(set(names)) == len(names), f"{each}: {names}"
        titles.add(page.title())
    assert len(titles) >= 5


def test_states_are_words_and_bars_have_names(page: Page, scene: Scene) -> None:
    """No state is told by a colour or a sign alone."""
    page.goto(address(scene, "/jobs/failed"))
    expect(page.get_by_role("img", name="Sequence 1: 0 of 1 task done, 1 failed")).to_be_visible()
    rows = page.get_by_role("row")
    expect(rows.filter(has_text="failed")).to_have_count(1)
    expect(rows.filter(has_text="complete")).to_have_count(1)
    badges = page.locator(".badge").evaluate_all(
        "(found) => found.map((badge) => badge.lastChild.textContent.trim())"
    )
    assert {"Failed", "failed", "complete", "waiting"} == set(badges)


MOVING = """() => [...document.querySelectorAll("*")].filter((element) => {
  const { animationName, transitionDuration, scrollBehavior } = getComputedStyle(element);
  const takesTime = transitionDuration.split(",").some((time) => parseFloat(time) > 0);
  return animationName !== "none" || takesTime || scrollBehavior === "smooth";
}).length"""


def test_nothing_moves_for_those_who_ask(open_tab: OpenTab, scene: Scene) -> None:
    for motion, moves in (("reduce", False), ("no-preference", True)):
        page = open_tab(reduced_motion=motion).page
        page.goto(address(scene, "/jobs/running"))
        assert bool(page.evaluate(MOVING)) == moves, motion


BEYOND = """() => {
  const isCut = (element) =>
    element && (getComputedStyle(element).overflowX !== "visible" || isCut(element.parentElement));
  if (document.documentElement.scrollWidth <= innerWidth) return [];
  return [...document.querySelectorAll("body *")]
    .filter((element) => element.getBoundingClientRect().right > innerWidth)
    .filter((element) => !isCut(element.parentElement))
    .map((element) => element.outerHTML.slice(0, 100));
}"""


def test_pages_fit_when_they_are_enlarged(open_tab: OpenTab, scene: Scene) -> None:
    """Four times as large in a window of 1280: beyond its edge is only what scrolls by itself."""
    page = open_tab(viewport={"width": 320, "height": 640}).page
    beyond = {}
    for each in PAGES:
        page.goto(address(scene, each))
        beyond[each] = page.evaluate(BEYOND)
    assert {each: found for each, found in beyond.items() if found} == {}
