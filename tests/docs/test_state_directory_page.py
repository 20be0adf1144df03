"""docs/reference/state-directory.md names files that the program knows (see also the tutorial)."""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "reference" / "state-directory.md").read_text()


def named(title: str = "") -> set[str]:
    """The files in the first column of the table under a heading."""
    text = PAGE.split(f"\n## {title}\n")[1] if title else PAGE.split("\n## ")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return {name.strip("/") for cell in cells for name in re.findall(r"`([^`]+)`", cell)}


def unknown_files(state: Path) -> set[str]:
    """What lies in a state directory, or in its node, and is not on the page."""
    beside_database = {"jobtasks.db-wal", "jobtasks.db-shm"}
    server = {path.name for path in state.iterdir()} - named() - beside_database
    node = {path.name for path in (state / "node").iterdir()} - named("The directory of a node")
    return server | {f"node/{name}" for name in node}


def test_every_file_on_the_page_is_known_to_the_program() -> None:
    """A name that the source does not have is out of date."""
    source = "".join(path.read_text() for path in (ROOT / "src" / "jobtasks").rglob("*.py"))
    files = named() | named("The directory of a node")
    assert len(files) > 20
    built = {
        "admin.token": "{role}.token",
        "last-run": "last-{command}",
        "last-map": "last-{command}",
    }
    unknown = {
        name
        for name in files
        if not re.search(rf"[\"/]{re.escape(built.get(name, name))}\"", source)
    }
    assert not unknown
