"""Links between the pages lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
FOLDERS = ("docs", "examples", "bench")


def test_every_link_leads_somewhere() -> None:
    """A link names a file that is there."""
    pages = [
        *ROOT.glob("*.md"),
        *(page for name in FOLDERS for page in (ROOT / name).rglob("*.md")),
    ]
    links = [(page, target) for page in pages for target in LINK.findall(page.read_text())]
    inside = [(page, target) for page, target in links if "://" not in target]
    assert len(inside) > 20
    broken = [
        f"{p.relative_to(ROOT)}: {target}"
        for p, target in inside
        if not (p.parent / target).exists()
    ]
    assert not broken
