"""The pictures of the pages in docs/images: `make pictures` takes them anew.

They show the gallery (gallery.py), each page light and dark. A test compares the sources that they
were made from with those of today, so that no picture is older than the page it shows.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright
from tests.api.conftest import ADMIN, LiveServer

from jobtasks.core.settings import Settings
from jobtasks.web import site

from .conftest import ARGUMENTS, CHROMIUM, Tab, session
from .gallery import LONG_LEASE, Shown, hang

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
MADE_FROM = IMAGES / "made-from.txt"
WIDTH, HEIGHT = 1280, 960
Scheme = Literal["light", "dark"]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")


def nothing(page: Page) -> None:
    """Show the page as it comes."""


def open_first(page: Page) -> None:
    """Choose the first task of the list, and wait for its log."""
    page.locator("#tasks tbody tr a").first.click()
    page.locator("#panel log-view pre").wait_for()


def drawn(page: Page) -> None:
    """Wait for the timeline."""
    page.locator("time-line[data-ready=yes]").wait_for()


def unfolded(page: Page) -> None:
    """Open the tree's first branch."""
    page.locator(".tree summary").first.click()
    page.locator(".tree .leaf").first.wait_for()


PICTURES: dict[str, tuple[Callable[[Shown], str], Callable[[Page], None]]] = {
    "jobs": (lambda shown: "/", nothing),
    "job": (lambda shown: f"/jobs/{shown.running}", nothing),
    "task": (lambda shown: f"/jobs/{shown.failed}?state=failed", open_first),
    "timeline": (lambda shown: f"/jobs/{shown.failed}/timeline", drawn),
    "tree": (lambda shown: f"/jobs/{shown.running}/tree", unfolded),
    "failures": (lambda shown: f"/jobs/{shown.failed}/failures", nothing),
    "details": (lambda shown: f"/jobs/{shown.failed}/details", nothing),
    "nodes": (lambda shown: "/nodes", nothing),
    "node": (lambda shown: f"/nodes/{shown.node}", nothing),
    "sign-in": (lambda shown: "/sign-in", nothing),
}
"""By name: the address, and what is done there before the picture is taken."""


def sources() -> list[Path]:
    """Return the files of which the pictures are made."""
    web = Path(site.__file__).parent
    own = (Path(__file__), Path(__file__).with_name("gallery.py"))
    return sorted([*web.glob("templates/*"), *web.glob("static/*"), *own])


def made_from() -> str:
    """Return what changes with the sources of the pictures."""
    digest = hashlib.sha256()
    for path in sources():
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest() + "\n"


def take(
    browser: Browser,
    url: str,
    cookie: str,
    shown: Shown,
    folder: Path,
    schemes: Sequence[Scheme] = SCHEMES,
) -> Iterator[Path]:
    """Take a picture of each page into a folder; a page that has trouble fails."""
    for scheme in schemes:
        size = {"width": WIDTH, "height": HEIGHT}
        tab = Tab(browser, url, color_scheme=scheme, viewport=size, reduced_motion="reduce")
        tab.keep(cookie)
        for name, (address, prepare) in PICTURES.items():
            tab.page.goto(address(shown))
            prepare(tab.page)
            path = folder / f"{name}-{scheme}.png"
            tab.page.screenshot(path=path, animations="disabled")
            yield path
        tab.context.close()
        assert tab.troubles == []


def serve_gallery(folder: Path) -> tuple[LiveServer, Shown]:
    """Serve the gallery; return it and what is to be seen there."""
    shown = hang(folder, time.time())
    settings = Settings(lease_seconds=LONG_LEASE, tick_seconds=3600.0)
    return LiveServer(folder, settings, site.pages_of), shown


def main() -> int:
    """Take all pictures anew."""
    IMAGES.mkdir(exist_ok=True)
    for old in IMAGES.glob("*.png"):
        old.unlink()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        server, shown = serve_gallery(Path(folder))
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        for path in take(browser, server.url, session(server, ADMIN), shown, IMAGES):
            print(path.relative_to(ROOT))
        browser.close()
        server.close()
    MADE_FROM.write_text(made_from())
    return 0


if __name__ == "__main__":
    sys.exit(main())
