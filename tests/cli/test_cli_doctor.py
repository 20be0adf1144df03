"""``jobtasks doctor``: every check with what it is to find, and what it says to do."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from jobtasks.api.authority import certificate_pem, make_authority, new_key
from jobtasks.cli import machine_checks, server_checks, state_checks
from jobtasks.cli.findings import Level
from jobtasks.cli.state import Address
from jobtasks.store.inspection import inspect
from jobtasks.store.sqlite import SqliteStore

from .conftest import Ended, WrittenServer

JobTasks = Callable[..., Ended]
OK, WARN, FAIL = Level.OK, Level.WARN, Level.FAIL


def test_python_must_be_new_enough() -> None:
    """3.11 is."""
    assert machine_checks.python((3, 11, 0)).level is OK
    assert machine_checks.python((3, 10, 9)).level is FAIL


@pytest.mark.parametrize(
    ("limits", "level"), [((1024, 4096), WARN), ((4096, 4096), OK), ((-1, -1), OK)]
)
def test_open_files(limits: tuple[int, int], level: Level) -> None:
    """The usual 1024 are few; how to get more is said."""
    found = machine_checks.open_files(limits)
    assert (found.level, "ulimit -n" in found.advice) == (level, level is WARN)


def test_processes_are_tried() -> None:
    """For real, in a process of its own; what goes wrong there is said."""
    assert machine_checks.processes().level is OK
    found = machine_checks.processes("assert False, 'no pidfd here'")
    assert (found.level, "no pidfd here" in found.text) == (FAIL, True)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A state directory as a server makes it."""
    path = tmp_path / "place"
    path.mkdir(mode=0o700)
    return path


def test_the_directory_is_ours_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's, not open to others, and a directory."""
    assert state_checks.directory(place).level is OK
    place.chmod(0o750)
    assert state_checks.directory(place).level is WARN
    (place / "file").write_text("")
    assert state_checks.directory(place / "file").level is FAIL
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    assert "you are 4711" in state_checks.directory(place).text


def test_secrets_that_others_can_read(place: Path) -> None:
    """Where they can get at them at all."""
    secret = place / "admin.token"
    secret.write_text("x")
    secret.chmod(0o644)
    assert list(state_checks.secrets(place)) == []
    place.chmod(0o755)
    (found,) = state_checks.secrets(place)
    assert (found.level, str(secret) in found.text) == (FAIL, True)
    secret.chmod(0o600)
    assert list(state_checks.secrets(place)) == []


def test_directories_of_scripts(place: Path) -> None:
    """How many there are for nodes; nothing is said where there are none."""
    assert list(state_checks.scripts(place / "scripts")) == []
    (place / "scripts").mkdir()
    (place / "scripts" / ("0" * 64 + ".tar")).write_bytes(b"x" * 2048)
    (found,) = state_checks.scripts(place / "scripts")
    assert (found.level, found.text) == (Level.OK, "1 directories, 2.0 KiB")


def test_room_on_the_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little is a warning, next to nothing a failure."""
    assert state_checks.disk(place).level in (OK, WARN, FAIL)
    monkeypatch.setattr(state_checks, "FREE_BYTES_FEW", 1 << 60)
    assert state_checks.disk(place).level is WARN
    monkeypatch.setattr(state_checks, "FREE_BYTES_MIN", 1 << 60)
    found = state_checks.disk(place)
    assert (found.level, "admin gc" in found.advice) == (FAIL, True)


MOUNTS = """\
21 1 0:1 / / rw - ext4 /dev/vda rw
22 21 0:2 / /srv rw,relatime shared:1 - nfs4 server:/srv rw
23 22 0:3 / /srv/with\\040blank rw - tmpfs none rw
24 21 0:4 / /over rw - ext4 /dev/vdb rw
25 21 0:5 / /over rw - cifs //server/x rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "level"),
    [
        ("/home/x", "ext4", OK),
        ("/srv/jobs", "nfs4", WARN),
        ("/srv/with blank/x", "tmpfs", WARN),
        ("/over/x", "cifs", WARN),
        ("/srvx", "ext4", OK),
    ],
)
def test_kinds_of_file_systems(tmp_path: Path, path: str, kind: str, level: Level) -> None:
    """What several machines share, and what is gone after a restart, is no place for a database."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert state_checks.kind_of(Path(path), mounts) == kind
    assert state_checks.file_system(Path(path), kind).level is level
    assert state_checks.kind_of(Path(path), tmp_path / "nothing") == ""


def test_the_database_is_looked_at(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, a good one, one in use, one of a newer version, a damaged one, none at all."""
    path = place / "jobtasks.db"
    assert "none yet" in state_checks.database(path).text
    store = SqliteStore(path)
    assert state_checks.database(path).level is OK
    store.close()
    assert "no damage" in state_checks.database(path).text
    monkeypatch.setattr(state_checks, "CHECK_SECONDS", -1.0)
    monkeypatch.setattr("jobtasks.store.inspection.STEPS", 1)
    assert state_checks.database(path).level is WARN
    monkeypatch.undo()
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()
    assert "this program knows" in state_checks.database(path).text
    content = bytearray(path.read_bytes())
    content[8192:40960] = b"damage!!" * 4096
    path.write_bytes(content)
    assert state_checks.database(path).level is FAIL
    path.write_text("this is no database, however long it is" * 100)
    found = state_checks.database(path)
    assert (found.level, "admin restore" in found.advice) == (FAIL, True)


def test_a_look_changes_nothing(place: Path) -> None:
    """Neither the version nor a byte of the file."""
    path = place / "old.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE t (a)")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    found = inspect(path, 5.0)
    assert (found.version, found.problems, found.is_finished) == (0, [], True)
    assert path.read_bytes() == before
    assert f"brings it to {found.newest_version}" in state_checks.database(path).text


def test_the_end_of_a_certificate(tmp_path: Path) -> None:
    """Soon, past, or far; none is no matter."""
    path = tmp_path / "server.pem"
    now = datetime(2030, 1, 1, tzinfo=UTC)
    assert list(state_checks.certificate(path, now)) == []
    made = make_authority(new_key(), "x", now)
    path.write_text(certificate_pem([made.certificate]))
    ends = made.certificate.not_valid_after_utc
    for moment, level in (
        (now, OK),
        (ends - timedelta(days=3), WARN),
        (ends + timedelta(days=3), FAIL),
    ):
        (found,) = state_checks.certificate(path, moment)
        assert found.level is level
    path.write_text("none")
    assert next(state_checks.certificate(path, now)).level is FAIL


@pytest.mark.parametrize(
    ("ahead", "level", "side"),
    [(0, OK, ""), (3, OK, ""), (60, WARN, "60 s ahead of"), (-60, WARN, "behind ours")],
)
def test_clocks(ahead: int, level: Level, side: str) -> None:
    """The server's says its time to the second."""
    now = 1_900_000_000.5
    date = format_datetime(datetime.fromtimestamp(int(now) + ahead, UTC), usegmt=True)
    found = server_checks.clock(date, now)
    assert (found.level, side in found.text) == (level, True)
    assert server_checks.clock(None, now).level is WARN


def answer(status: int, body: Any = None) -> httpx.Response:
    return httpx.Response(status, json=body)


def test_tokens() -> None:
    """Whose it is; unknown ones fail, narrow ones are no failure."""
    user = {"username": "ada", "is_admin": False}
    assert server_checks.token(answer(200, user)).text == "of ada, a user"
    assert server_checks.token(answer(401, {"errors": []})).level is FAIL
    assert server_checks.token(answer(403, {"errors": []})).level is WARN


def test_nodes() -> None:
    """What is heard counts; nothing heard means that nothing runs."""
    node = {"hostname": "n1", "state": "live", "slots": 2, "cores": 4, "memory_kib": 2**21}
    assert server_checks.nodes([node]).text == "n1 live, 2 slots, 4 cores, 2.0 GiB"
    assert server_checks.nodes([node | {"state": "gone"}]).level is WARN
    assert server_checks.nodes([node] * 12).text.endswith(" and 2 more")
    assert server_checks.nodes([], gives_nodes=True).level is OK


ENGINE: dict[str, Any] = {
    "engine": "slurm",
    "heard_at": "2026-01-01T00:00:00.000000000Z",
    "silence": None,
    "silent_since": None,
    "requests": {"wanted": 1, "unknown": 0, "asked": 0, "granted": 3},
    "failures": [],
}
FAILURE = {"reason": "Invalid partition", "requests": 2, "last_at": "2026-01-01T00:00:00Z"}
SILENT = {"silence": "squeue: no controller", "silent_since": "2026-01-01T00:00:00Z"}


@pytest.mark.parametrize(
    ("told", "level", "text"),
    [
        ({}, OK, "slurm answers; requests for nodes: 1 wanted, 3 granted"),
        ({"requests": {"wanted": 0}}, OK, "slurm answers; requests for nodes: none"),
        ({"failures": [FAILURE]}, WARN, "2 brought no node within the hour, the last: Invalid"),
        (SILENT, FAIL, "no answer since 2026-01-01T00:00:00Z: squeue: no controller"),
        ({"engine": "local", "heard_at": None}, OK, "local: no nodes are asked for"),
        ({"heard_at": None, **SILENT}, FAIL, "slurm gives no answer"),
    ],
)
def test_engines(told: dict[str, Any], level: Level, text: str) -> None:
    """Silence fails, whatever it said before; requests that brought nothing are told."""
    found = server_checks.engine(ENGINE | told)
    assert (found.level, text in found.text) == (level, True), found


@pytest.mark.parametrize(
    ("told", "idle"),
    [
        ({"requests": {"wanted": 0, "asked": 0}}, True),
        ({"requests": {"wanted": 0, "asked": 1}}, False),
        ({"requests": {}, **SILENT}, False),
        ({"requests": {}, "heard_at": None}, False),
    ],
)
def test_engines_that_would_give_nodes(told: dict[str, Any], idle: bool) -> None:
    """Only of one that answers and has nothing to do no node need be there."""
    assert server_checks.is_idle(ENGINE | told) is idle


def test_what_answers_must_be_a_server_of_ours() -> None:
    """A web server on the same port is not."""
    address = Address("http://127.0.0.1:1", "x")
    stranger = httpx.Response(404, text="nothing here")
    assert server_checks.reached(address, stranger, 0.01, "a").level is FAIL
    ours = httpx.Response(200, json={"health": "OK"})
    assert server_checks.reached(address, ours, 0.01, "a").level is OK


def test_a_server_elsewhere(jobtasks: JobTasks, written: WrittenServer) -> None:
    """No state directory is looked at; the answers decide the exit code, JSON is the same."""
    written.says("GET", "/healthz", (200, {"health": "OK"}))
    written.says("GET", "/users/current", (200, {"username": "ada", "is_admin": False}))
    written.says("GET", "/nodes", (200, {"items": []}))
    ended = jobtasks("doctor", "-o", "json")
    found = {finding["check"]: finding for finding in json.loads(ended.out)}
    assert (ended.code, found["server"]["level"], found["nodes"]["level"]) == (0, "ok", "warn")
    assert "state directory" not in found
    written.says("GET", "/users/current", (401, {"errors": ["Not logged in"]}))
    ended = jobtasks("doctor")
    assert ended.code == 1
    assert "fail  token: the server does not know it\n      check JOBTASKS_TOKEN" in ended.out


def test_nobody_there(jobtasks: JobTasks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An address that nobody serves fails; a directory that nobody has used yet does not."""
    ended = jobtasks("doctor", "--state", tmp_path / "new")
    assert (ended.code, "does not exist yet" in ended.out) == (0, True)
    assert "none serves" in ended.out
    assert not (tmp_path / "new").exists()
    monkeypatch.setenv("JOBTASKS_URL", "http://127.0.0.1:1")
    ended = jobtasks("doctor")
    assert (ended.code, "JOBTASKS_TOKEN is not" in ended.out) == (1, True)
    monkeypatch.setenv("JOBTASKS_TOKEN", "x")
    ended = jobtasks("doctor")
    assert (ended.code, "cannot be reached" in ended.out) == (1, True)
