"""A server with its pages, and a browser that tells whatever a page should not have done."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from tests.api.conftest import ADMIN, FAST, LIMIT_SECONDS, Api, LiveServer

from jobtasks.core.identifiers import spelled_token
from jobtasks.service import sessions
from jobtasks.web.site import pages_of

CHROMIUM = shutil.which("chromium")
"""Debian's; Playwright's own is a download of its own."""
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
WAIT_MS = 30_000
"""How long a page may take to show what it must, on a busy machine."""
TELL_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) =>
  console.error(`policy: ${event.violatedDirective} by ${event.sourceFile}: ${event.sample}`));
"""


class Tab:
    """A browser's window of its own, with a memory of what went wrong in it."""

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self.url = url
        self.troubles: list[str] = []
        self.context: BrowserContext = browser.new_context(base_url=url, **options)
        self.context.set_default_timeout(WAIT_MS)
        self.context.add_init_script(TELL_VIOLATIONS)
        self.context.on("console", lambda said: self._hear(said.type, said.text))
        self.context.on("weberror", lambda error: self.troubles.append(str(error.error)))
        self.context.on("request", lambda request: self._see(request.url))
        self.page: Page = self.context.new_page()

    def _hear(self, kind: str, text: str) -> None:
        if kind == "error":
            self.troubles.append(text)

    def _see(self, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme not in ("data", "blob") and parts.netloc != urlsplit(self.url).netloc:
            self.troubles.append(f"asked another host: {address}")

    def keep(self, secret: str) -> None:
        """Give the browser a session."""
        name = f"jobtasks_{urlsplit(self.url).port}"
        self.context.add_cookies([{"name": name, "value": secret, "url": self.url}])

    def forgive(self, part: str) -> None:
        """Forget the troubles that hold a text; wait for the first."""
        end = time.monotonic() + LIMIT_SECONDS
        while not any(part in trouble for trouble in self.troubles):
            assert time.monotonic() < end, f"nothing like {part!r} among {self.troubles}"
            self.page.wait_for_timeout(10)
        self.troubles = [trouble for trouble in self.troubles if part not in trouble]


def session(server: LiveServer, token: str) -> str:
    """Return the secret of a session, as the browser keeps it."""
    given = spelled_token(token).secret
    return server.run(server.edge.commit(lambda ctx: sessions.sign_in(ctx, given)))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """A server with pages, of a module's own; nodes that say nothing for minutes stay."""
    settings = dataclasses.replace(FAST, lease_seconds=600.0)
    live = LiveServer(tmp_path_factory.mktemp("site"), settings, pages_of)
    yield live
    live.close()


@pytest.fixture
def api(site: LiveServer) -> Iterator[Api]:
    """The API of the server with pages; it plays nodes, too."""
    client = Api(site)
    yield client
    client.cancel_all()
    client.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. It ends with the module: while Playwright runs no other test may have a loop."""
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield chromium
        chromium.close()


OpenTab = Callable[..., Tab]


@pytest.fixture
def open_tab(browser: Browser, site: LiveServer) -> Iterator[OpenTab]:
    """What opens windows: of a token's owner, by default the administrator, or of a stranger.

    At the end none may have seen an error, a breach of the policy, or a call of another host.
    """
    tabs: list[Tab] = []

    def opened(token: str | None = ADMIN, **options: Any) -> Tab:
        tab = Tab(browser, site.url, **options)
        tabs.append(tab)
        if token is not None:
            tab.keep(session(site, token))
        return tab

    yield opened
    for tab in tabs:
        tab.context.close()
    assert [trouble for tab in tabs for trouble in tab.troubles] == []


@pytest.fixture
def tab(open_tab: OpenTab) -> Tab:
    """A window of the administrator."""
    return open_tab()


@pytest.fixture
def page(tab: Tab) -> Page:
    """The page of that window."""
    return tab.page
