"""A newcomer finds every page from docs/README.md, and that from the first page."""

from __future__ import annotations

from tests.docs.pages import ROOT
from tests.docs.test_links import LINK

MAP = ROOT / "docs" / "README.md"


def test_every_page_is_on_the_map() -> None:
    """All but the single decisions, which have a list of their own."""
    linked = {(MAP.parent / target).resolve() for target in LINK.findall(MAP.read_text())}
    there = {
        page
        for page in MAP.parent.rglob("*.md")
        if page.parent.name != "adr" or page.name == "README.md"
    }
    assert there - {MAP} <= linked
    assert "docs/README.md" in LINK.findall((ROOT / "README.md").read_text())


def test_every_example_has_a_page_that_the_first_one_links() -> None:
    """Folders of examples, and their README."""
    links = LINK.findall((ROOT / "README.md").read_text())
    folders = [path for path in (ROOT / "examples").iterdir() if path.is_dir()]
    for folder in folders:
        if not folder.name.startswith(("_", ".")):
            assert f"examples/{folder.name}/README.md" in links


def test_every_decision_is_on_its_list() -> None:
    """The list of decisions is whole."""
    folder = MAP.parent / "adr"
    linked = set(LINK.findall((folder / "README.md").read_text()))
    assert {page.name for page in folder.glob("0*.md")} == linked & {
        p.name for p in folder.iterdir()
    }
