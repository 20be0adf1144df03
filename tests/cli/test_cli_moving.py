"""``jobtasks admin export`` and ``import``: files, pipes, and what goes wrong between them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import streams
from tests.api.conftest import ADMIN, FAST, Api, LiveServer
from tests.cli.conftest import JOB, Ended, WrittenServer

from jobtasks.core.job_stream import JobLine, Line, Owner, PackLine, ProblemLine, encoded

Run = Callable[..., Ended]
COMMAND = [sys.executable, "-m", "jobtasks.cli.main", "admin"]
STREAM: list[Line] = [
    JobLine(
        format=1,
        program="a test",
        uuid=JOB,
        owner=Owner(uuid="zzzzz-tpzed-000000000000000"),
        tasks=0,
        next_qsequence=0,
        attributes={},
    )
]
RECORD = {"uuid": JOB, "state": "Cancelled", "node_uuids": []}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, Api]]:
    """Two servers."""
    found = [LiveServer(tmp_path_factory.mktemp(name), FAST) for name in ("here", "there")]
    here, there = map(Api, found)
    yield here, there
    for each in (here, there):
        each.close()
        each.server.close()


def at(api: Api) -> dict[str, str]:
    """Return an environment that names a server."""
    return {**os.environ, "JOBTASKS_URL": api.server.url, "JOBTASKS_TOKEN": ADMIN}


def test_through_a_pipe(servers: tuple[Api, Api]) -> None:
    """From one server to another; said is what came, and whose it is."""
    here, there = servers
    uuid = here.job(description="piped")["uuid"]
    with subprocess.Popen(
        [*COMMAND, "export", uuid, "--cancel"],
        env=at(here),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as sender:
        taken = subprocess.run(
            [*COMMAND, "import", "--resume"],
            env=at(there),
            stdin=sender.stdout,
            capture_output=True,
            check=False,
        )
        assert sender.stderr is not None
        said = sender.stderr.read().decode()
    assert (taken.returncode, taken.stdout.decode()) == (0, f"{uuid}\n"), taken.stderr
    assert f"cancelled {uuid}" in said
    assert f"exported {uuid}: 0 tasks, 0 attempts, 0 logs" in said
    assert f"imported {uuid}, Queued: 0 tasks" in taken.stderr.decode()
    assert here.get(f"jobs/{uuid}")["log"] == "cancelled: moved"
    assert there.get(f"jobs/{uuid}")["description"] == "piped"


def test_a_reader_that_goes_away(servers: tuple[Api, Api]) -> None:
    """The export says that it is not whole."""
    here, _ = servers
    uuid = here.job()["uuid"]
    here.http.post(f"/arvados/v1/jobs/{uuid}/cancel")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, "export", uuid], env=at(here), stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert done.returncode == 125
    assert "ended before it was whole" in done.stderr.decode()


def test_to_a_file_and_back(
    servers: tuple[Api, Api], jobtasks: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refused while it is queued; JSON for programs; once more is refused with another stream."""
    here, there = servers
    uuid = here.job(priority=1)["uuid"]
    for name, value in at(here).items():
        monkeypatch.setenv(name, value)
    file = tmp_path / "job"
    refused = jobtasks("admin", "export", uuid, "-o", file)
    assert refused.code == 2
    assert "--cancel" in refused.err
    assert not list(tmp_path.iterdir())
    assert jobtasks("admin", "export", uuid, "-o", file, "--cancel").code == 0
    assert list(tmp_path.iterdir()) == [file]
    monkeypatch.setenv("JOBTASKS_URL", there.server.url)
    made = jobtasks("admin", "import", file, "-o", "json")
    assert json.loads(made.out).items() >= {"uuid": uuid, "state": "Cancelled"}.items()
    assert jobtasks("admin", "import", file, "-o", "id").out == f"{uuid}\n"
    other = tmp_path / "other"
    lines: list[Any] = list(streams.parts(file.read_bytes()))
    lines[0].attributes["priority"] = 2
    other.write_bytes(streams.whole(lines))
    again = jobtasks("admin", "import", other)
    assert again.code == 2
    assert "is here already" in again.err
    file.write_bytes(file.read_bytes()[:-5])
    there.http.delete(f"/arvados/v1/jobs/{uuid}")
    cut = jobtasks("admin", "import", file)
    assert cut.code == 2
    assert "was cut off" in cut.err


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (streams.whole(STREAM)[:-30], "was cut off"),
        (streams.whole(STREAM).replace(b"a test", b"a t3st"), "was damaged"),
        (encoded(STREAM[0]) + encoded(ProblemLine(message="it was changed")), "it was changed"),
    ],
)
def test_an_export_that_is_not_whole(
    jobtasks: Run, written: WrittenServer, tmp_path: Path, data: bytes, said: str
) -> None:
    """Leaves no file, and says why."""
    written.says("GET", f"/jobs/{JOB}", (200, RECORD))
    written.says("GET", f"/jobs/{JOB}/export", (200, data))
    ended = jobtasks("admin", "export", JOB, "-o", tmp_path / "job")
    assert ended.code == 125
    assert said in ended.err
    assert not list(tmp_path.glob("*job*"))


def test_a_cancelled_job_is_waited_for(
    jobtasks: Run, written: WrittenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until no node has a process of it."""
    monkeypatch.setattr("jobtasks.cli.moving.GONE_SECONDS", 0.001)
    running = {**RECORD, "state": "Running", "node_uuids": ["a"]}
    leaving = {**RECORD, "node_uuids": ["a"]}
    written.says(
        "GET", f"/jobs/{JOB}", (200, running), (200, running), (200, leaving), (200, RECORD)
    )
    written.says("POST", f"/jobs/{JOB}/cancel", (200, leaving))
    written.says("GET", f"/jobs/{JOB}/export", (200, streams.whole(STREAM)))
    assert jobtasks("admin", "export", JOB, "--cancel", "-o", tmp_path / "job").code == 0
    assert [call.body for call in written.calls if call.method == "POST"] == [{"reason": "moved"}]
    assert written.calls[-2].path == f"/jobs/{JOB}"
    assert written.answers["GET", f"/jobs/{JOB}"] == [(200, RECORD)]


def test_scripts_that_stay_behind_are_told(
    jobtasks: Run, written: WrittenServer, tmp_path: Path
) -> None:
    """By who sends the job, and by who takes it."""
    file = tmp_path / "job"
    written.says("GET", f"/jobs/{JOB}", (200, RECORD))
    written.says("GET", f"/jobs/{JOB}/export", (200, streams.whole([*STREAM, PackLine()])))
    sent = jobtasks("admin", "export", JOB, "-o", file)
    assert sent.code == 0
    assert "the directory of its script is not on this server any more" in sent.err
    counts = {"tasks": 0, "attempts": 0, "logs": 0, "logs_incomplete": 0}
    answer = {"uuid": JOB, "state": "Cancelled", "owner": "uuid", "left": [], **counts}
    written.says("POST", "/jobs/import", (200, {**answer, "scripts": "missing"}))
    taken = jobtasks("admin", "import", file)
    assert (taken.code, taken.out) == (0, f"{JOB}\n")
    assert "the directory of its script did not come" in taken.err


def test_nothing_to_import(
    jobtasks: Run, written: WrittenServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an export that said why it wrote nothing; the server is not asked."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    ended = jobtasks("admin", "import")
    assert ended.code == 125
    assert "nothing to import" in ended.err
    assert not written.calls
