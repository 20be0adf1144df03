"""The forms of -o, filters and order of lists, errors for programs, colours and widths."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import click
import pytest

from jobtasks.cli import output
from jobtasks.cli.main import wants_json
from jobtasks.cli.options import color_of_environment

from .conftest import JOB

Run = Callable[..., Any]
RECORDS = [{"uuid": f"{JOB[:-1]}{end}", "state": "Queued", "script": "é\n"} for end in "ab"]


def test_forms_of_a_list(jobtasks: Run, written: Any) -> None:
    """json: one list; jsonl: one record a line; id: one uuid a line, and nothing else."""
    written.says("GET", "/jobs", (200, {"items": RECORDS, "items_available": 9}))
    assert json.loads(jobtasks("job", "list", "-o", "json").out) == RECORDS
    lines = jobtasks("job", "list", "-o", "jsonl")
    assert [json.loads(line) for line in lines.out.splitlines()] == RECORDS
    assert jobtasks("job", "list", "-o", "id").out.split() == [each["uuid"] for each in RECORDS]
    assert (lines.err, jobtasks("job", "list").err) == ("", "(7 more: --offset 2)\n")


def test_forms_of_a_record(jobtasks: Run, written: Any) -> None:
    """The same words for one record."""
    written.says("GET", f"/jobs/{JOB}", (200, {**RECORDS[0], "state": "Running"}))
    assert len(jobtasks("job", "show", JOB, "-o", "jsonl").out.splitlines()) == 1
    assert jobtasks("job", "show", JOB, "-o", "id").out == f"{RECORDS[0]['uuid']}\n"
    assert jobtasks("job", "show", JOB).out.splitlines()[2] == r"script  é\n"


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        ("state=failed", ["state", "=", "Failed"]),
        ("state!=failed", ["state", "!=", "Failed"]),
        ("state=failed,CANCELLED", ["state", "in", ["Failed", "Cancelled"]]),
        ("state!=failed,queued", ["state", "not in", ["Failed", "Queued"]]),
        ("priority>=5", ["priority", ">=", "5"]),
        ("priority < 5", ["priority", "<", "5"]),
        ("finished_at=null", ["finished_at", "=", None]),
        ("script~%grid%", ["script", "ilike", "%grid%"]),
        ("description=a=b", ["description", "=", "a=b"]),
        ("description=", ["description", "=", ""]),
        ("script_parameters.n=1", ["script_parameters.n", "in", ["1", 1]]),
        ("script_parameters.n!=true", ["script_parameters.n", "not in", ["true", True]]),
        ("script_parameters.n=null", ["script_parameters.n", "in", ["null", None]]),
        ("script_parameters.in file = a.fa", ["script_parameters.in file", "in", ["a.fa"]]),
        ("script_parameters.n >= 2", ["script_parameters.n", ">=", 2]),
        ("script_parameters.n<b", ["script_parameters.n", "<", "b"]),
        ("script_parameters.n~1%", ["script_parameters.n", "ilike", "1%"]),
    ],
)
def test_filters(jobtasks: Run, written: Any, given: str, sent: Any) -> None:
    """NAME, an operator, a value, as people write them."""
    written.says("GET", "/jobs", (200, {"items": []}))
    assert jobtasks("job", "list", "--filter", given).code == 0
    assert json.loads(written.calls[-1].query["filters"]) == [sent]


def test_lists_are_read_page_by_page(jobtasks: Run, written: Any) -> None:
    """A limit past what one call lists is served by several calls, in the order asked for."""
    pages = [{"items": [RECORDS[0]] * 1000}, {"items": [RECORDS[1]] * 500}]
    written.says("GET", f"/jobs/{JOB}", (200, RECORDS[0]))
    written.says("GET", "/job_tasks", *[(200, page) for page in pages])
    assert jobtasks("job", "tasks", JOB, "--order", "progress_at desc").code == 2
    words = ("--order", "failed_count desc", "--order", "uuid", "--limit", "1500", "--offset", "7")
    ended = jobtasks("job", "tasks", JOB, *words, "-o", "id")
    assert ended.out.split()[999:1001] == [each["uuid"] for each in RECORDS]
    asked = [call.query for call in written.calls[-2:]]
    assert [(each["limit"], each["offset"]) for each in asked] == [("1000", "7"), ("500", "1007")]
    assert json.loads(asked[0]["order"]) == ["failed_count desc", "uuid"]


@pytest.mark.parametrize("word", ["state", "=5", "a b=3", "--"])
def test_what_is_no_filter(jobtasks: Run, written: Any, word: str) -> None:
    """A usage error, and nothing is asked."""
    assert jobtasks("job", "list", "--filter", word).code == 2
    assert not written.calls


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["job", "show", JOB], {"code": "not_found", "status": 404, "message": "Path not found"}),
        (["job", "cancel", JOB], {"code": "stale_attempt", "status": 403, "message": "over; and"}),
        (["job", "nothing"], {"code": "usage", "status": None}),
        (["job", "list", "--limit", "x"], {"code": "usage", "status": None}),
        (["task", "show", JOB], {"code": "usage", "status": None}),
        (["job", "show", "@last"], {"code": "not_found", "status": None}),
    ],
)
@pytest.mark.parametrize("form", ["json", "jsonl"])
def test_errors_for_programs(
    jobtasks: Run, written: Any, words: list[str], expected: dict[str, Any], form: str
) -> None:
    """One JSON object on stderr with a stable code; the exit code is the same as in text."""
    refusal = {"errors": ["over", "and"], "code": "stale_attempt"}
    written.says("POST", f"/jobs/{JOB}/cancel", (403, refusal))
    written.says("GET", "/jobs", (200, {"items": []}))
    text, ended = jobtasks(*words), jobtasks(*words, "-o", form)
    assert ended.out == ""
    said = json.loads(ended.err)
    assert said.keys() == {"error"}
    assert said["error"].keys() == {"code", "message", "hint", "status"}
    assert said["error"].items() >= expected.items()
    assert ended.code == text.code != 0


def test_no_server_for_programs(jobtasks: Run, tmp_path: Any) -> None:
    """Also what never came to a server."""
    ended = jobtasks("job", "list", "--state", tmp_path, "-ojson")
    said = json.loads(ended.err)["error"]
    assert (ended.code, said["code"], said["status"]) == (125, "infrastructure", None)
    assert "jobtasks serve" in said["hint"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("job list -o json", True),
        ("job list -ojsonl", True),
        ("job list --format=json", True),
        ("job list --format jsonl", True),
        ("job list -fo json", True),
        ("job list -o table", False),
        ("job list", False),
        ("job list -o", False),
        ("submit -- tool -o json", False),
        ("job list --only json", False),
    ],
)
def test_who_wants_json(words: str, expected: bool) -> None:
    """Found in the words themselves: a command line may be wrong before its options are read."""
    assert wants_json(words.split()) is expected


@pytest.mark.parametrize(
    ("environment", "color"),
    [
        ({}, None),
        ({"NO_COLOR": "1", "CLICOLOR_FORCE": "1"}, False),
        ({"NO_COLOR": ""}, None),
        ({"CLICOLOR_FORCE": "1"}, True),
        ({"CLICOLOR_FORCE": "0"}, None),
        ({"CLICOLOR": "0"}, False),
        ({"CLICOLOR": "1"}, None),
    ],
)
def test_colours_that_the_environment_asks_for(
    environment: dict[str, str], color: bool | None
) -> None:
    """None: on terminals."""
    assert color_of_environment(environment) is color


def test_colours_that_are_asked_for(
    jobtasks: Run, written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--color goes before the environment; a pipe gets none by itself."""
    written.says("GET", "/jobs", (200, {"items": RECORDS}))
    assert "\x1b" not in jobtasks("job", "list").out
    assert "\x1b[1m" in jobtasks("job", "list", "--color", "always").out
    assert "\x1b[1m" in jobtasks("--color", "always", "job", "list").out
    monkeypatch.setenv("CLICOLOR_FORCE", "1")
    assert "\x1b[1m" in jobtasks("job", "list").out
    assert "\x1b" not in jobtasks("job", "list", "--color", "never").out


class Narrow(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_table_fits_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first column stays whole, so that it can be copied; the widest others are cut."""
    monkeypatch.setenv("COLUMNS", "60")
    stream = Narrow()
    monkeypatch.setattr("sys.stdout", stream)
    items = [{"uuid": JOB, "a": "x" * 50, "b": "日本語" * 9, "c": 5}]
    columns = [("job", output.key("uuid")), *((name, output.key(name)) for name in "abc")]
    output.print_list(items, columns, "table")
    output.print_record({"uuid": JOB, "text": "one\ntwo " + "y" * 100}, "table")
    lines = click.unstyle(stream.getvalue()).splitlines()
    assert lines[1].startswith(JOB) and lines[1].endswith("  5") and "…" in lines[1]
    assert max(map(output.width_of, lines)) == 60
    assert lines[3:5] == ["text  one", "      two " + "y" * 50]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.9, "0s"), (59, "59s"), (61, "1m"), (3600, "1h"), (90000, "1d")],
)
def test_spans(seconds: float, text: str) -> None:
    """The largest unit, rounded down."""
    assert output.span(seconds) == text
