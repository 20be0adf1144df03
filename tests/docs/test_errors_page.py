"""docs/reference/errors.md names each error and message that a user can meet."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from tests.docs.pages import ROOT

from jobtasks.api.openapi import REFUSALS
from jobtasks.core.errors import error_codes

PAGE = (ROOT / "docs" / "reference" / "errors.md").read_text()
SPEAKERS = {"Problem", "StartRefused", "AgentError"}
"""What is raised with a message that ends a command, a server or an agent."""

LEFT_OUT = "…"


def first_cells() -> list[str]:
    """What stands in the first cell of each row."""
    return [line.split(" | ")[0] for line in PAGE.splitlines() if line.startswith("| ")]


def template(node: ast.expr) -> str:
    """The text of a message, `…` where something is put in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(map(template, node.values))
    return LEFT_OUT


def spoken() -> Iterator[str]:
    """The messages of `SPEAKERS` in the source; those that another error brings are not ours."""
    for path in sorted((ROOT / "src" / "jobtasks").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                text = template(node.args[0])
                if node.func.id in SPEAKERS and text != LEFT_OUT:
                    yield text


def test_every_code_of_an_error_is_on_the_page() -> None:
    """Each with its status, and no other; every status of a refusal."""
    section = PAGE.split("## On the command line")[0]
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", section, re.MULTILINE)
    assert {code: int(status) for status, code in rows} == error_codes()
    statuses = set(re.findall(r"^\| (\d{3}) \| ", section, re.MULTILINE))
    assert statuses >= set(map(str, REFUSALS))


def test_every_message_is_on_the_page() -> None:
    """Each that ends a command, a server or an agent, and no other."""
    told = {text for cell in first_cells() for text in re.findall(r"`([^`]+)`", cell)}
    messages = {text for text in told if LEFT_OUT in text or " " in text}
    written = set(spoken())
    assert len(written) > 25
    assert messages == written
