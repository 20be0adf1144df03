"""Links between the pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
ANCHOR = re.compile(r"\]\(([^)#\s]*)#([^)\s]+)\)")
FOLDERS = ("docs", "examples", "bench")


def all_pages() -> list[Path]:
    """Those at the top, and those of the folders."""
    inside = (page for name in FOLDERS for page in (ROOT / name).rglob("*.md"))
    return [*ROOT.glob("*.md"), *inside]


def test_every_link_leads_somewhere() -> None:
    """A link names a file that is there."""
    links = [(page, target) for page in all_pages() for target in LINK.findall(page.read_text())]
    inside = [(page, target) for page, target in links if "://" not in target]
    assert len(inside) > 20
    broken = [
        f"{p.relative_to(ROOT)}: {target}"
        for p, target in inside
        if not (p.parent / target).exists()
    ]
    assert not broken


def anchors(page: Path) -> set[str]:
    """What may be linked of a page: its headings, spelled as their addresses are."""
    inside_block = re.compile(r"^ *```.*?^ *```$", re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", inside_block.sub("", page.read_text()), re.MULTILINE)
    plain = (re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles)
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


def test_every_anchor_is_a_heading() -> None:
    """A link into a page names one of its headings."""
    links = [(page, *link) for page in all_pages() for link in ANCHOR.findall(page.read_text())]
    inside = [link for link in links if "://" not in link[1]]
    assert len(inside) > 20
    broken = [
        f"{page.relative_to(ROOT)}: {target}#{anchor}"
        for page, target, anchor in inside
        if anchor not in anchors(page.parent / target if target else page)
    ]
    assert not broken
