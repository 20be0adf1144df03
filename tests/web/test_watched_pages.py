"""The window of these tests notices what pages must not do; so that its silence says something."""

from __future__ import annotations

from tests.web.conftest import OpenTab, Tab

BREACHES = {
    "a script in the page": (
        "document.body.append(Object.assign(document.createElement('script'), {text: '1'}))",
        "TrustedScript",
    ),
    "markup from text": ("document.body.innerHTML = '<b>1</b>'", "TrustedHTML"),
    "a handler in an attribute": (
        "document.body.setAttribute('onclick', '1'); document.body.click()",
        "policy: ",
    ),
    "a picture of another host": ("new Image().src = 'http://127.0.0.2:9/'", "policy: img-src"),
    "a call of another host": ("fetch('http://127.0.0.2:9/').catch(() => 0)", "policy: connect"),
    "an error of a script": ("setTimeout(() => nothing.here)", "nothing is not defined"),
    "an error on the console": ("console.error('trouble')", "trouble"),
}


def test_each_breach_is_noticed(open_tab: OpenTab) -> None:
    tab = open_tab(None)
    tab.page.goto("/sign-in")
    assert tab.troubles == []
    for script, said in BREACHES.values():
        # An error in what a test evaluates is the test's; in a timer it is the page's.
        tab.page.evaluate(f"setTimeout(() => {{ {script} }})")
        tab.forgive(said)
    tab.troubles.clear()


def test_pages_are_shown_without_any(tab: Tab) -> None:
    for path, heading in (("/", "Jobs"), ("/nodes", "Nodes")):
        tab.page.goto(path)
        assert tab.page.get_by_role("heading", level=1).inner_text() == heading
        tab.page.locator("#live-mark", has_text="live").wait_for()
