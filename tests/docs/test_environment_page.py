"""docs/reference/environment.md names each variable of a task, and no other."""

from __future__ import annotations

import re

import pytest
from tests.docs.pages import ROOT

from jobtasks.agent import environment
from jobtasks.protocol.messages import Assignment, JobBrief

PAGE = (ROOT / "docs" / "reference" / "environment.md").read_text()


def given() -> set[str]:
    """Every variable that an agent may give, those of parameters by their beginning."""
    node = environment.node_variables("n1", 2, "/sdk", {})
    server = environment.server_variables("http://127.0.0.1:1", "n1:2", "/bundle.pem")
    brief = JobBrief("J", script="s", script_version="/", script_parameters='{"a": 1}')
    task = Assignment(1, "t", "J", "T", 1, 0, 0, 1, 5.0, '{"b": 2}', nodes=["n1", "n2"])
    found = environment.JobEnvironment(node, brief, "/job").of(task, "/task", server)
    return {re.sub(r"(_PARAMETER_)\w+", r"\1…", name) for name in found}


@pytest.mark.rule("R38")
def test_every_variable_of_a_task_is_on_the_page() -> None:
    """In italics what it has of the agent's own."""
    cells = [line.split("|")[1] for line in PAGE.splitlines() if line.startswith("| ")]
    names = " ".join(cells)
    inherited = set(re.findall(r"\*`(\w+…?)`\*", names))
    assert inherited == {*environment.INHERITED, "LC_…"}
    assert set(re.findall(r"`(\w+…?)`", names)) - inherited == given()


def test_the_numbers_are_those_of_the_program() -> None:
    """What is left out."""
    assert f"more than {environment.VALUE_BYTES_MAX // 1024} KiB" in PAGE
    assert f"{environment.PARAMETERS_BYTES_MAX // 1024} KiB together" in PAGE
