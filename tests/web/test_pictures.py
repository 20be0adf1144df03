"""The pictures in docs/images show the pages of today."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from tests.api.conftest import ADMIN, LiveServer

from .conftest import session
from .gallery import Shown
from .pictures import (
    HEIGHT,
    IMAGES,
    MADE_FROM,
    PICTURES,
    SCHEMES,
    WIDTH,
    made_from,
    serve_gallery,
    take,
)

BYTES_MIN = 8_000
"""A page with nothing on it takes less."""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[LiveServer, Shown]]:
    server, shown = serve_gallery(tmp_path_factory.mktemp("gallery"))
    yield server, shown
    server.close()


def test_no_picture_is_older_than_its_page() -> None:
    """`make pictures` takes them anew."""
    assert MADE_FROM.read_text() == made_from(), "the pages have changed: make pictures"


def test_every_page_has_its_pictures() -> None:
    names = {f"{name}-{scheme}.png" for name in PICTURES for scheme in SCHEMES}
    assert {path.name for path in IMAGES.glob("*.png")} == names


def test_pictures_can_be_taken(
    gallery: tuple[LiveServer, Shown], browser: Browser, tmp_path: Path
) -> None:
    """Of every page, without trouble, and there is something on each; one scheme is like the other
    in that.
    """
    server, shown = gallery
    cookie = session(server, ADMIN)
    for path in take(browser, server.url, cookie, shown, tmp_path, SCHEMES[1:]):
        head = path.read_bytes()
        assert head.startswith(b"\x89PNG")
        size = (int.from_bytes(head[16:20]), int.from_bytes(head[20:24]))
        assert size == (WIDTH, HEIGHT)
        assert len(head) > BYTES_MIN, path.name
