"""Real servers with their agents and keepers, jobs of real processes, and who watches them."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from tests.canary import leaks_in, secrets_of
from tests.databases import options_for

from .witness import Line, Record, Witness, contradictions

LIMIT_SECONDS = 40.0
SCRIPTS = Path(__file__).with_name("scripts")
COMMAND = [sys.executable, "-m", "jobtasks.cli.main"]
QUICK = {
    "lease_seconds": 6.0,
    "renew_seconds": 0.5,
    "grace_seconds": 0.5,
    "tick_seconds": 0.2,
    "clock_gap_seconds": 1.0,
    "delay_seconds": 0.02,
    "delay_seconds_max": 0.1,
}
"""Settings of every server here, unless a test asks for others."""

Found = TypeVar("Found")
Step = list[Any]
Play = list[Step]


def wait_until(
    what: str, look: Callable[[], Found | None], seconds: float = LIMIT_SECONDS
) -> Found:
    """Return the first true value that `look` gives, within a limit."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"{what}; last seen: {seen!r}"
        time.sleep(0.01)
    return seen


def process_identity(pid: int) -> str | None:
    """Return when a process started; None when it runs no more."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def keeper_of(state: Path) -> int | None:
    """Return the pid of the living keeper of a state directory's node."""
    try:
        pid, started = (state / "node" / "keeper.pid").read_text().split()
    except (OSError, ValueError):
        return None
    return int(pid) if process_identity(int(pid)) == started else None


def has_no_keeper(state: Path) -> bool:
    """Whether no keeper lives."""
    return keeper_of(state) is None


def agent_of(state: Path) -> int | None:
    """Return the pid of the living agent of a state directory's node."""
    keeper = keeper_of(state)
    if keeper is None:
        return None
    try:
        found = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    except OSError:
        return None
    return next((int(pid) for pid in found if is_agent(int(pid))), None)


def is_agent(pid: int) -> bool:
    """Whether a process is an agent that lives, and not what a dead one has left to its keeper."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return b"jobtasks.agent.main" in words and process_identity(pid) is not None


def environment(**more: str) -> dict[str, str]:
    """Return what a server inherits: this Python first on the PATH, nobody else's server."""
    own = ("JOBTASKS_", "ARVADOS_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, **more}


class Served:
    """A server process on a state directory."""

    def __init__(
        self,
        state: Path,
        *options: str,
        stderr: Path,
        listen: str = "127.0.0.1:0",
        settings: Mapping[str, float] = QUICK,
        environ: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> None:
        command = [*before, sys.executable, "-m", "jobtasks.cli.main", "serve"]
        command += ["--state", str(state), *options_for(state, options)]
        for name, value in settings.items():
            options = (*options, "--setting", f"{name}={value}")
        self.state = state
        # A pipe that nobody reads would stop a server that has much to say.
        self.stderr = stderr
        with stderr.open("ab") as errors:
            self.process = subprocess.Popen(
                [*command, "--listen", listen, *options],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment(**(environ or {})),
            )
        assert self.process.stdout is not None
        self.first_line = self.process.stdout.readline()

    @property
    def url(self) -> str:
        assert self.first_line.startswith("ready http://127.0.0.1:"), self.rest()
        return self.first_line.split()[1]

    @property
    def address(self) -> str:
        """HOST:PORT, for the server that comes after."""
        return self.url.removeprefix("http://")

    def http(self) -> httpx.Client:
        """Return a client with the admin's token; to be closed."""
        token = (self.state / "admin.token").read_text().strip()
        headers = {"Authorization": f"Bearer {token}"}
        base = self.url + "/arvados/v1"
        # It is plain http; to read the system's authorities takes longer than most calls.
        return httpx.Client(base_url=base, headers=headers, timeout=60, verify=False)

    @contextlib.contextmanager
    def api(self) -> Iterator[Api]:
        """The interface with the admin's token."""
        with self.http() as http:
            yield Api(http)

    def errors(self) -> str:
        """Return what it wrote to stderr so far."""
        return self.stderr.read_text()

    def rest(self) -> tuple[str, str]:
        """Wait for its end; return what else it wrote."""
        out, _ = self.process.communicate(timeout=LIMIT_SECONDS)
        return out, self.errors()

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str, str]:
        self.process.send_signal(number)
        out, err = self.rest()
        return self.process.returncode, out, err

    def kill(self) -> None:
        """kill -9."""
        self.process.kill()
        self.rest()


class Api:
    """The HTTP interface, with an admin's token or another."""

    def __init__(self, http: httpx.Client) -> None:
        self.http = http

    def as_token(self, token: str) -> AsToken:
        """Return the interface as another caller has it."""
        return AsToken(self.http, token)

    def get(self, path: str, **query: Any) -> Any:
        answer = self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Any = None) -> Any:
        answer = self.http.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def status(self, method: str, path: str, body: Any = None) -> int:
        """Return the status of a call."""
        return self.http.request(method, path, json=body).status_code

    def tasks(self, job: str, **equal: Any) -> list[Record]:
        """Return all tasks of a job in order of arrival, those with these attributes."""
        filters = [["job_uuid", "=", job], *([name, "=", value] for name, value in equal.items())]
        found: list[Record] = []
        while True:
            last = found[-1]["qsequence"] if found else -1
            query = json.dumps([*filters, ["qsequence", ">", last]])
            page = self.get(
                "/job_tasks", filters=query, order="qsequence", limit=1000, count="none"
            )
            found += page["items"]
            if len(page["items"]) < 1000:
                return found

    def attempts(self, task: str) -> list[Record]:
        """Return the attempts of a task, first to last."""
        found: list[Record] = self.get(f"/job_tasks/{task}/attempts")["items"]
        return found

    def final(self, job: str, seconds: float = LIMIT_SECONDS) -> Record:
        """Wait for a job's end; return it."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            found: Record = self.get(f"/jobs/{job}", wait=min(left, LIMIT_SECONDS))
            if not found["running"] and found["state"] != "Queued":
                break
        assert found["state"] in ("Complete", "Failed", "Cancelled"), (found, self.tasks(job))
        return found

    def stop(self, job: str) -> None:
        """Cancel a job, unless it ends before that."""
        if self.status("POST", f"/jobs/{job}/cancel") != 200:
            self.final(job)

    def pass_by(self) -> None:
        """Let a job of its own come and go: the manager has seen all that was there before."""
        assert self.final(self.post("/jobs", {"command": ["true"]})["uuid"])["success"]


class AsToken:
    """The HTTP interface with another token."""

    def __init__(self, http: httpx.Client, token: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"}

    def status(self, method: str, path: str, body: Any = None) -> int:
        """Return the status of a call."""
        return self._http.request(method, path, json=body, headers=self._headers).status_code


WITNESSES = itertools.count()


class Acted:
    """A job whose tasks play: see scripts/actor.py. `folder` holds its files."""

    def __init__(
        self,
        api: Api,
        folder: Path,
        *plays: Play,
        script: Path = SCRIPTS / "actor.py",
        constraints: Record | None = None,
        parameters: Record | None = None,
    ) -> None:
        self.api = api
        self.witness = Witness(folder / f"witness-{next(WITNESSES)}")
        own = {"witness": str(self.witness.path), "seed": list(plays)}
        body = {
            "script": script.name,
            "script_version": str(script.parent),
            "script_parameters": {**own, **(parameters or {})},
            "runtime_constraints": constraints or {},
        }
        self.uuid: str = api.post("/jobs", body)["uuid"]

    @property
    def record(self) -> Record:
        found: Record = self.api.get(f"/jobs/{self.uuid}")
        return found

    def tasks(self, **equal: Any) -> list[Record]:
        return self.api.tasks(self.uuid, **equal)

    @property
    def seed(self) -> Record:
        """The first task; it is there as soon as the job has started."""
        found: list[Record] = wait_until("the seed", lambda: self.tasks(qsequence=0))
        assert len(found) == 1
        return found[0]

    def noted(self, what: str, times: int = 1) -> list[Line]:
        """Wait until the witness has so many lines of a kind; return them."""

        def look() -> list[Line]:
            found = self.witness.lines(what)
            return found if len(found) >= times else []

        try:
            return wait_until(f"{times} times {what!r}", look)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.told()}") from None

    def final(self, state: str = "Complete", seconds: float = LIMIT_SECONDS) -> Record:
        """Wait for the job's end in this state, the witness agreeing; return the job."""
        found = self.api.final(self.uuid, seconds)
        assert found["state"] == state, self.told()
        self.agree()
        return found

    def told(self) -> str:
        """Return the story so far, for people."""
        names = ("qsequence", "sequence", "state", "attempts", "failed_log")
        tasks = [str([task[name] for name in names]) for task in self.tasks()]
        lines = [f"{line.what} {line.task} {line.attempt}" for line in self.witness.lines()]
        return "\n".join([f"job {self.record['state']}", *tasks, *lines])

    def agree(self) -> None:
        """Check that witness and records tell the same story."""
        assert contradictions(self.witness.lines(), self.tasks(), self.api.attempts) == []


def acting(*steps: Step, **fields: Any) -> Record:
    """Return a new task that plays these steps in each attempt."""
    return {"parameters": {"attempts": [list(steps)]}, **fields}


Start = Callable[..., Served]


def done(*words: object, served: Served | None = None) -> str:
    """Run ``jobtasks`` as an administrator does; it must succeed; return what it printed."""
    given = {}
    if served is not None:
        token = (served.state / "admin.token").read_text().strip()
        given = {"JOBTASKS_URL": served.url, "JOBTASKS_TOKEN": token}
    ended = subprocess.run(
        [*COMMAND, *map(str, words)],
        capture_output=True, text=True, check=False, env=environment(**given), timeout=100,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start servers; whatever they leave is ended."""
    started: list[Served] = []
    states = {tmp_path / "state"}

    def make(*options: str, **more: Any) -> Served:
        state = more.pop("state", tmp_path / "state")
        states.add(state)
        stderr = tmp_path / f"server-{len(started)}.stderr"
        started.append(Served(state, *options, stderr=stderr, **more))
        return started[-1]

    yield make
    for served in started:
        if served.process.poll() is None:
            served.process.send_signal(signal.SIGCONT)
            served.end()
    for state in states:
        end_keeper(state)
        no_secret_is_told(state, *(served.stderr for served in started))


def end_keeper(state: Path) -> None:
    """End what a killed server has left; check that nothing is left after that (R36)."""
    if (pid := keeper_of(state)) is not None:
        os.kill(pid, signal.SIGTERM)
        wait_until("the keeper ends", functools.partial(has_no_keeper, state))
    with contextlib.suppress(AssertionError):
        wait_until("nothing is left", lambda: not left_of(state))
    assert left_of(state) == []


def no_secret_is_told(state: Path, *logs: Path) -> None:
    """Check that nothing a server has written has a secret of its own where none may be."""
    assert leaks_in(state, secrets_of(state), logs) == []


def left_of(state: Path) -> list[str]:
    """Return the command lines of agents and tasks of a state directory that still run."""
    marks = (f"TASK_WORK={state}/node/".encode(), f"--node-dir\0{state}/node\0".encode())
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            text = (path / "cmdline").read_bytes() + (path / "environ").read_bytes()
        except OSError:
            continue
        if any(mark in text for mark in marks) and process_identity(int(path.name)):
            found.append(text.partition(b"\0\0")[0].decode(errors="replace")[:200])
    return found


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server with four slots for all tests that only run jobs on it."""
    environ = {"JOBTASKS_SECRET": "operators", "OWN_NAME": "passed", "OTHER_NAME": "kept"}
    folder = tmp_path_factory.mktemp("shared")
    served = Served(
        folder / "state",
        *("--slots", "4", "--pass-env", "OWN_NAME", "--pass-env", "JOBTASKS_SECRET"),
        stderr=folder / "stderr",
        # What notes its TERM must have been able to before it is killed.
        settings={**QUICK, "grace_seconds": 2.0},
        environ=environ,
    )
    yield served
    code, _, err = served.end()
    end_keeper(served.state)
    no_secret_is_told(served.state, served.stderr)
    assert code == 0
    assert "Traceback" not in err, err


@pytest.fixture
def api(shared_server: Served) -> Iterator[Api]:
    """The shared server's interface; it is left without running jobs."""
    with shared_server.api() as found:
        yield found
        running = json.dumps([["state", "in", ["Queued", "Running"]]])
        for job in found.get("/jobs", filters=running)["items"]:
            found.stop(job["uuid"])
        wait_until("no process left", lambda: not has_live_attempts(found))


def has_live_attempts(api: Api) -> list[Record]:
    """Return tasks that still run."""
    running = json.dumps([["state", "=", "running"]])
    found: list[Record] = api.get("/job_tasks", filters=running)["items"]
    return found


Act = Callable[..., Acted]


@pytest.fixture
def act(api: Api, tmp_path: Path) -> Act:
    """Submit a job of actors to the shared server."""
    return functools.partial(Acted, api, tmp_path)
