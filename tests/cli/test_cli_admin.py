"""``jobtasks admin gc``: what it asks for, how often, what it says; lengths of time and sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click
import pytest
from click.testing import CliRunner

from jobtasks.cli.durations import Duration, readable_bytes
from jobtasks.cli.serve import retaining
from jobtasks.core.settings import Settings

from .conftest import Ended, WrittenServer

JobTasks = Callable[..., Ended]


def answer(more: bool = False, dry_run: bool = False, **removed: int) -> tuple[int, Any]:
    zeros = {"jobs": 0, "logs": 0, "log_files": 0, "log_bytes": 0, "packs": 0, "tokens": 0}
    sizes = {
        "jobs": 1,
        "tasks": 1,
        "log_files": 1,
        "pack_bytes": 0,
        "free_bytes": 2**40,
        "database_bytes": 5 * 2**20,
        "database_free_bytes": 0,
    }
    return 200, {
        "dry_run": dry_run,
        "removed": zeros | removed,
        "more": more,
        "before": {**sizes, "log_bytes": 3000},
        "after": {**sizes, "log_bytes": 1000},
    }


def test_it_asks_until_nothing_is_left(jobtasks: JobTasks, written: WrittenServer) -> None:
    """The answers are one for who reads: sums, the first sizes and the last."""
    written.says(
        "POST", "/sys/gc", answer(more=True, jobs=100, log_bytes=2000), answer(jobs=1, tokens=2)
    )
    ended = jobtasks("admin", "gc", "--jobs-older-than", "30d", "--logs-older-than", "12h")
    assert ended.code == 0
    assert [call.body for call in written.calls] == [
        {
            "dry_run": False,
            "jobs_older_than_seconds": 30 * 86400.0,
            "logs_older_than_seconds": 43200.0,
            "shrink": False,
        }
    ] * 2
    assert ended.out.splitlines() == [
        "removed 101 jobs, the logs of 0 more, 0 log files with 2.0 KiB,"
        " 0 directories of scripts, 2 dead tokens",
        "database: 5.0 MiB before, 5.0 MiB after",
        "of these unused: 0 bytes before, 0 bytes after",
        "logs: 2.9 KiB before, 1000 bytes after",
        "scripts for nodes: 0 bytes before, 0 bytes after",
        "free on the disk: 1.0 TiB before, 1.0 TiB after",
    ]


def test_a_look_is_taken_once(jobtasks: JobTasks, written: WrittenServer) -> None:
    """It changes nothing, so that asking again would not lead further."""
    written.says("POST", "/sys/gc", answer(more=True, dry_run=True, jobs=7))
    ended = jobtasks("admin", "gc", "--dry-run")
    assert ended.out.startswith("would remove at least 7 jobs")
    assert "after" not in ended.out
    assert len(written.calls) == 1


def test_programs_get_the_answer(jobtasks: JobTasks, written: WrittenServer) -> None:
    """As JSON, the numbers in bytes."""
    written.says("POST", "/sys/gc", answer(jobs=7))
    found = json.loads(jobtasks("admin", "gc", "-o", "json").out)
    assert found["removed"]["jobs"] == 7
    assert found["after"]["log_bytes"] == 1000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30d", 2592000),
        ("12h", 43200),
        ("1.5m", 90),
        ("45s", 45),
        ("2w", 1209600),
        ("7", 7),
        ("0", 0),
    ],
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    """A number with its unit; seconds without one."""
    assert duration(text) == (0, f"{float(seconds)}\n")


@pytest.mark.parametrize("text", ["", "d", "-1d", "3y", "1d12h", "soon", "1e3"])
def test_what_is_no_length_of_time_is_a_usage_error(text: str) -> None:
    """And the error says what would be one."""
    code, said = duration(text)
    assert (code, "with s, m, h, d or w" in said or "No such option" in said) == (2, True), said


def duration(text: str) -> tuple[int, str]:
    @click.command()
    @click.argument("time", type=Duration())
    def command(time: float) -> None:
        click.echo(str(time))

    ended = CliRunner().invoke(command, [text])
    return ended.exit_code, ended.output


def test_sizes_are_readable() -> None:
    """At most four digits and the unit."""
    counts = (0, 999, 1024, 10 * 2**20, 150 * 2**20, 2**30, 3 * 2**50)
    assert [readable_bytes(count) for count in counts] == [
        *("0 bytes", "999 bytes", "1.0 KiB", "10.0 MiB", "150 MiB", "1.0 GiB", "3.0 PiB"),
    ]


def test_options_of_serve_go_before_settings() -> None:
    """Either may be given; what is not given stays."""
    settings = Settings(retain_jobs_seconds=5.0)
    assert retaining(settings, None, None) == settings
    chosen = retaining(settings, 7.0, 3.0)
    assert (chosen.retain_jobs_seconds, chosen.retain_logs_seconds) == (7.0, 3.0)


def test_a_job_is_shown_with_its_size(jobtasks: JobTasks, written: WrittenServer) -> None:
    """In text; programs ask for it themselves. A server that does not know it says nothing."""
    job = "zzzzz-8i9sb-000000000000001"
    written.says("GET", f"/jobs/{job}", (200, {"uuid": job, "state": "Complete"}))
    assert "size" not in jobtasks("job", "show", job).out
    size = {"tasks": 3, "record_bytes": 2048, "log_files": 3, "log_bytes": 5 * 2**20}
    written.says("GET", f"/jobs/{job}/sizes", (200, size))
    assert "3 tasks, 5.0 MiB of logs, 2.0 KiB of records" in jobtasks("job", "show", job).out
    written.says("GET", f"/jobs/{job}/sizes", (200, {**size, "record_bytes": None}))
    assert "5.0 MiB of logs\n" in jobtasks("job", "show", job).out
    assert "size" not in json.loads(jobtasks("job", "show", job, "-o", "json").out)
