"""Pages are done as a reader does them: typed into a terminal, in order, on a clean directory."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, blocks, pages
from tests.docs.terminal import Terminal
from tests.docs.test_state_directory_page import unknown_files
from tests.docs.walkthrough import Walkthrough, is_console

BIN = Path(sys.executable).parent
FIRST = ROOT / "README.md"
TUTORIAL = ROOT / "docs" / "tutorial" / "first-job.md"


def environment_of(home: Path) -> dict[str, str]:
    """What somebody has who has just logged in, and has installed nothing yet."""
    parts = os.environ["PATH"].split(os.pathsep)
    path = os.pathsep.join(part for part in parts if Path(part).parent.name != ".venv")
    return {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8", "USER": "reader"}


@pytest.fixture(scope="module")
def served_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with a server, as the pages for people who have one expect it."""
    home = tmp_path_factory.mktemp("home")
    with Terminal(home, environment_of(home)) as terminal:
        terminal.type(f"{BIN}/jobtasks serve --listen 127.0.0.1:0 --slots 2 2> server.log &")
        limit = time.monotonic() + 60
        while "ready http" not in terminal.screen.text:
            assert time.monotonic() < limit, terminal.screen.text
            terminal.read(1)
        yield home


def pages_to_walk() -> list[Path]:
    found = [page for page in pages() if page not in (FIRST, TUTORIAL)]
    return [page for page in found if any(map(is_console, blocks(page)))]


@pytest.mark.timeout(600)
@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_the_tutorial(tmp_path: Path) -> None:
    """Each line prints what the page shows; the state directory holds what its page names."""
    with Terminal(ROOT, environment_of(tmp_path)) as terminal:
        assert Walkthrough(terminal, ROOT).walk(TUTORIAL) > 30
    state = tmp_path / ".local" / "share" / "jobtasks"
    assert (state / "jobtasks.db").exists()
    assert not unknown_files(state)


@pytest.mark.timeout(300)
def test_the_first_page(tmp_path: Path) -> None:
    """The same without a server; `jobtasks` is installed already."""
    walk(FIRST, tmp_path, tmp_path)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", pages_to_walk(), ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_with_console_blocks(page: Path, served_home: Path, tmp_path: Path) -> None:
    """The same beside a server, in an empty folder."""
    walk(page, served_home, tmp_path)


def walk(page: Path, home: Path, folder: Path) -> None:
    """Do what a page says, `jobtasks` being installed."""
    with Terminal(folder, environment_of(home)) as terminal:
        terminal.type(f'export PATH="{BIN}:$PATH"')
        assert terminal.read_until_prompt(30)
        assert Walkthrough(terminal, folder).walk(page)
