"""What ``run`` and ``submit`` make of their words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobtasks.cli.options import text_or_json


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("0.5", 0.5),
        ("true", True),
        ("null", None),
        ('["a", 1]', ["a", 1]),
        ('"5"', "5"),
        ("word", "word"),
        ("", ""),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("{broken", "{broken"),
        ("a=b", "a=b"),
    ],
)
def test_values_are_json_where_they_parse(text: str, value: Any) -> None:
    """A JSON value is taken as such, anything else, NaN and Infinity too, as text."""
    assert text_or_json(text) == value
    assert type(text_or_json(text)) is type(value)


def submitted(written: Any) -> dict[str, Any]:
    return next(call.body["job"] for call in written.calls if call.method == "POST")


def test_submit_sends_what_it_is_given(
    jobtasks: Callable[..., Any], written: Any, script: Path
) -> None:
    """Script and its directory, parameters, constraints, an absolute input; prints the uuid."""
    written.says("POST", "/jobs", (200, {"uuid": "J", "state": "Queued"}))
    words = ["-p", "n=5", "-p", "name=x=y", "-c", "max_attempts=2", "--input", script.parent]
    ended = jobtasks("submit", script, *words, "--priority", "3", "--description", "mine")
    assert ended == (0, "J\n", "")
    assert submitted(written) == {
        "script": script.name,
        "script_version": str(script.parent),
        "script_parameters": {"n": 5, "name": "x=y", "input": str(script.parent)},
        "runtime_constraints": {"max_attempts": 2},
        "priority": 3,
        "description": "mine",
    }
    assert written.calls[0].token == "Bearer a-token"


def test_relative_paths_become_absolute(
    jobtasks: Callable[..., Any],
    written: Any,
    script: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server does not share the caller's current directory."""
    monkeypatch.chdir(script.parent)
    written.says("POST", "/jobs", (200, {"uuid": "J"}))
    jobtasks("submit", script.name, "--input", ".")
    assert submitted(written)["script_version"] == str(script.parent)
    assert submitted(written)["script_parameters"]["input"] == str(script.parent)


def test_a_command_is_taken_word_by_word(jobtasks: Callable[..., Any], written: Any) -> None:
    """After -- nothing is an option of ours."""
    written.says("POST", "/jobs", (200, {"uuid": "J"}))
    jobtasks("submit", "-c", "max_attempts=1", "--", "grep", "-c", "--", "a b")
    assert submitted(written)["command"] == ["grep", "-c", "--", "a b"]
    assert "script" not in submitted(written)


def test_run_asks_for_the_last_level_unless_told_otherwise(
    jobtasks: Callable[..., Any], written: Any, script: Path
) -> None:
    """run sends output=last, -c output=all wins."""
    done = {"uuid": "J", "state": "Complete"}
    written.says("POST", "/jobs", (200, done))
    written.says("GET", "/jobs/J", (200, done))
    written.says("GET", "/jobs/J/levels", (200, {"items": []}))
    written.says("GET", "/jobs/J/output", (200, b"the output\n"))
    ended = jobtasks("run", script)
    assert (ended.code, ended.out) == (0, "the output\n")
    assert submitted(written)["runtime_constraints"] == {"output": "last"}
    written.calls.clear()
    jobtasks("run", script, "-c", "output=all", "-c", "min_nodes=1")
    assert submitted(written)["runtime_constraints"] == {"output": "all", "min_nodes": 1}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run"], "Give either SCRIPT or -- and a command"),
        (["run", "/nowhere/script"], "There is no script /nowhere/script"),
        (["run", "/"], "is not a file"),
        (["run", __file__], "is not executable: chmod +x"),
        (["run", "--"], "There is no command after --"),
        (["run", "-p", "novalue", "--", "true"], "'novalue' is not NAME=VALUE"),
        (["run", "-p", "=1", "--", "true"], "is not NAME=VALUE"),
        (["run", "--input", "/nowhere", "--", "true"], "There is no input /nowhere"),
        (["run", "--resume", "-p", "a=1"], "--resume takes up a job as it is"),
        (["serve", "--listen", "here"], "'here' is not HOST:PORT"),
        (["serve", "--listen", "host:99999"], "is not HOST:PORT"),
        (["serve", "--slots", "0"], "0 is not in the range"),
        (["wait", "J", "--timeout", "-1"], "-1"),
        (["job", "destroy"], "No such command 'destroy'"),
        (["work"], "No such command 'work'"),
        (["agent"], "Missing option"),
    ],
)
def test_usage_errors(jobtasks: Callable[..., Any], words: list[str], message: str) -> None:
    """A wrong command line says what is wrong, and ends with 2, before anything is started."""
    ended = jobtasks(*words)
    assert ended.code == 2
    assert message in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
