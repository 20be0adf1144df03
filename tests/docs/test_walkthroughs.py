"""Pages are done as a reader does them: typed into a terminal, in order, on a clean directory."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.pages import ROOT, blocks, pages
from tests.docs.terminal import Terminal
from tests.docs.test_state_directory_page import unknown_files
from tests.docs.walkthrough import Walkthrough, is_console

TUTORIAL = ROOT / "docs" / "tutorial" / "first-job.md"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Where the reader is at home; nothing of the program was ever there."""
    return tmp_path


@pytest.fixture
def terminal(home: Path) -> Iterator[Terminal]:
    """A terminal in the project's folder, as somebody has it who has just logged in."""
    path = os.pathsep.join(
        part for part in os.environ["PATH"].split(os.pathsep) if Path(part).parent.name != ".venv"
    )
    environment = {"HOME": str(home), "PATH": path, "LANG": "C.UTF-8", "USER": "reader"}
    with Terminal(ROOT, environment) as opened:
        yield opened


def walked(page: Path) -> bool:
    return page != TUTORIAL and any(map(is_console, blocks(page)))


@pytest.mark.timeout(600)
@pytest.mark.skipif(not shutil.which("make"), reason="needs make")
def test_the_tutorial(terminal: Terminal, home: Path) -> None:
    """Each line prints what the page shows; the state directory holds what its page names."""
    assert Walkthrough(terminal, ROOT).walk(TUTORIAL) > 30
    state = home / ".local" / "share" / "jobtasks"
    assert (state / "jobtasks.db").exists()
    assert not unknown_files(state)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "page", [page for page in pages() if walked(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_pages_with_console_blocks(page: Path, terminal: Terminal, home: Path) -> None:
    """The same for every other page that shows a console; `jobtasks` is installed already."""
    terminal.type(f'export PATH="{Path(sys.executable).parent}:$PATH"; cd')
    assert terminal.read_until_prompt(30)
    assert Walkthrough(terminal, home).walk(page)
