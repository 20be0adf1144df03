"""Warm starts: a task whose Python has imported what it named, and is else like any other."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fork_servers import fork_servers

from jobtasks.agent import births
from jobtasks.protocol.frames import NOTE
from jobtasks.protocol.messages import Ended, EndKind

from .conftest import (
    AgentProcess,
    FakeServer,
    Launch,
    is_alive,
    launching,
    serving,
    wait_for,
    wait_joined,
)

CGROUPS = ("off", "all")
MARK = "colorsys"
"""A module that nothing else imports."""
ASK = f"import sys; print('{MARK}' in sys.modules)"
PYTHON = sys.executable


class Tasks:
    """Runs programs one after the other."""

    def __init__(self, server: FakeServer) -> None:
        self.server = server
        self.last = 0

    def start(self, *command: str, **fields: Any) -> int:
        self.last += 1
        self.server.start(self.last, *command, **fields)
        return self.last

    def run(self, *command: str, preload: tuple[str, ...] = (MARK,), **fields: Any) -> Ended:
        return self.server.end_of(self.start(*command, preload=list(preload), **fields))

    def text(self) -> str:
        return self.server.text_of(self.last)

    def notes(self) -> str:
        frames = self.server.frames_of(self.last)
        return "".join(data.decode() for stream, data in frames if stream == NOTE)

    def is_warm(self, python: str = PYTHON, module: str = MARK, **fields: Any) -> bool:
        """Does a task find a module imported?"""
        ask = ASK.replace(MARK, module)
        assert self.run(python, "-c", ask, preload=(module,), **fields).exit_code == 0
        return self.text().splitlines()[-1] == "True"

    def warm_up(self, python: str = PYTHON, module: str = MARK) -> None:
        wait_for(lambda: self.is_warm(python, module), f"{python} has {module}")


@pytest.fixture
def tasks(server: FakeServer, agent: AgentProcess) -> Tasks:
    return Tasks(server)


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, cgroups_mode: str) -> Iterator[Tasks]:
    """An agent of many tests."""
    folder = tmp_path_factory.mktemp("warm")
    path = f"{Path(PYTHON).parent}:{os.environ['PATH']}"
    with (
        pytest.MonkeyPatch.context() as patch,
        serving() as server,
        launching(server, folder, cgroups_mode) as launch,
    ):
        patch.setenv("PATH", path)
        wait_joined(server, launch("--slots", "2"))
        yield Tasks(server)


@pytest.fixture
def warmed(lasting: Tasks) -> Tasks:
    """That agent, with a fork server of this interpreter: one that is idle for long ends."""
    lasting.warm_up()
    return lasting


def both(tasks: Tasks, *command: str) -> list[Any]:
    """Return how a program ends, and what it writes to which stream: cold, then warm."""
    found = []
    for preload in ((), (MARK,)):
        ended = tasks.run(*command, preload=preload)
        streams: dict[bytes, bytes] = {}
        if ended.log_bytes:
            for stream, data in tasks.server.frames_of(tasks.last):
                data = re.sub(rb"0x[0-9a-f]{6,}", b"0x", data)
                streams[stream] = streams.get(stream, b"") + data
        found.append((ended.exit_code, ended.signal, ended.kind, streams))
    return found


def forms(folder: Path) -> dict[str, list[str]]:
    """Write the probe in every form that starts warm."""
    text = Path(__file__).with_name("warm_probe.py").read_text()
    (folder / "deep").mkdir()
    scripts = {"named": f"#!{PYTHON}\n", "found": "#!/usr/bin/env python3\n", "plain": ""}
    for name, line in scripts.items():
        (folder / "deep" / f"{name}.py").write_text(line + text)
        (folder / "deep" / f"{name}.py").chmod(0o755)
    (folder / "a link").symlink_to("deep/named.py")
    return {
        "a script that names its interpreter": [f"{folder}/deep/named.py"],
        "a script that has it looked for": [f"{folder}/deep/found.py", "an argument", ""],
        "a script by a link": [f"{folder}/a link", "ä"],
        "an interpreter and a script": [PYTHON, f"{folder}/deep/plain.py", "-c", "x"],
        "an interpreter on PATH": ["python3", f"{folder}/deep/plain.py"],
        "an interpreter and code": [PYTHON, "-c", text, "-x", "y"],
    }


FORMS = [
    "a script that names its interpreter",
    "a script that has it looked for",
    "a script by a link",
    "an interpreter and a script",
    "an interpreter on PATH",
    "an interpreter and code",
]


@pytest.mark.rule("R38")
@pytest.mark.parametrize("form", FORMS)
def test_a_program_sees_no_difference(warmed: Tasks, tmp_path: Path, form: str) -> None:
    """Arguments, path, environment, descriptors, signals, session, limits, its own module."""
    command = forms(tmp_path)[form]
    by_name = "python3" in command[0] or "found" in command[0]
    warmed.warm_up(str(Path(PYTHON).with_name("python3")) if by_name else PYTHON)
    seen = []
    for preload in ((), (MARK,)):
        ended = warmed.run(*command, preload=preload)
        assert ended.exit_code == 0, warmed.text()
        text = re.sub(rf"token-{warmed.last}\b", "the token", warmed.text())
        text = re.sub(rf"(0gb-|QSEQUENCE\W+)0*{warmed.last}\b", r"\1N", text)
        seen.append(json.loads(text))
    cold, warm = seen
    assert (cold.pop("warm"), warm.pop("warm")) == (False, True)
    assert warm == cold


@pytest.mark.rule("R38")
def test_a_script_that_comes_again_sees_no_difference(warmed: Tasks) -> None:
    """From the third time on it is not compiled any more (agent/codes.py)."""
    command = [PYTHON, str(Path(__file__).with_name("warm_probe.py"))]
    seen = []
    for _ in range(4):
        assert warmed.run(*command).exit_code == 0, warmed.text()
        text = re.sub(rf"token-{warmed.last}\b", "the token", warmed.text())
        seen.append(json.loads(re.sub(rf"(0gb-|QSEQUENCE\W+)0*{warmed.last}\b", r"\1N", text)))
    assert all(one == seen[0] for one in seen)
    assert seen[0]["warm"]


ENDS = {
    "code": "import sys; print('out'); sys.exit(3)",
    "no code": "raise SystemExit",
    "large": "raise SystemExit(256 + 5)",
    "negative": "raise SystemExit(-1)",
    "true": "raise SystemExit(True)",
    "text": "import sys; sys.exit('gone wrong')",
    "tuple": "import sys; sys.exit((1, 'x'))",
    "exception": "def f():\n    1 / 0\nf()",
    "chain": "try:\n    1 / 0\nexcept ZeroDivisionError as e:\n    raise KeyError('x') from e",
    "syntax": "x = (\n",
    "interrupt": "raise KeyboardInterrupt",
    "interrupted": "import os, signal; os.kill(os.getpid(), signal.SIGINT)",
    "terminated": "import os, signal; os.kill(os.getpid(), signal.SIGTERM)",
    "aborted": "import os; os.abort()",
    "at once": "import os; print('lost'); os._exit(7)",
    "pipe": "import os, signal; print(signal.getsignal(signal.SIGPIPE))",
    "handlers": "import atexit; atexit.register(print, 'first'); atexit.register(print, 'last')",
    "handler raises": "import atexit; atexit.register(lambda: 1 / 0); print('before')",
    "handler of failure": "import atexit; atexit.register(print, 'end'); raise ValueError(1)",
    "destructor": "class A:\n    def __del__(self): print('gone')\na = A()",
    "cycle": "class A:\n    def __del__(self): print('gone', print)\na = A()\na.a = a",
    "weak": "import weakref\nclass A: pass\na = A()\nweakref.finalize(a, print, 'finalized')",
    "thread": "import threading; threading.Timer(0.2, print, ['later']).start(); print('now')",
    "daemon": (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\nprint('x')"
    ),
    "hook": "import sys; sys.excepthook = lambda *a: print('mine', a[0]); 1 / 0",
    "hook exits": "import sys; sys.excepthook = lambda *a: sys.exit(9); 1 / 0",
    "hook fails": "import sys; sys.excepthook = lambda: 0\n1 / 0",
    "closed": "import sys, os; print('x'); os.close(1)",
    "closed file": "import sys; print('x', flush=True); sys.stdout.close()",
    "buffers": "import sys; sys.stderr.write('e'); sys.stdout.write('o'); sys.stdin.read()",
    "left open": (
        "f = open('kept', 'w'); f.write('text')\nimport os\n"
        "if os.fork(): os.wait()\nelse: f.flush()\nprint(open('kept').read())"
    ),
    "warning": "import warnings; warnings.warn('careful')",
    "process": (
        "import multiprocessing as m\n"
        "if __name__ == '__main__':\n"
        "    c = m.get_context('fork')\n    q = c.Queue()\n"
        "    p = c.Process(target=q.put, args=('child',))\n    p.start()\n"
        "    print(q.get()); p.join(); print(p.exitcode)"
    ),
    "subprocess": "import subprocess; print(subprocess.run(['sh', '-c', 'exit 4']).returncode)",
    "own names": "print(sorted(n for n in globals() if n != '__annotations__'))",
    "last": "import sys\nsys.excepthook = lambda *a: print(sys.last_type, sys.last_value)\n1 / 0",
    "death signal": (
        "import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n))\nprint(n)"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ENDS)
def test_a_program_ends_the_same(
    warmed: Tasks, tmp_path: Path, cgroups_mode: str, name: str
) -> None:
    """Exit code or signal, both streams to the last byte; as a script in one way of starting
    tasks, as code on the command line in the other.
    """
    path = tmp_path / "task.py"
    path.write_text(ENDS[name])
    is_script = cgroups_mode == "off"
    cold, warm = both(warmed, *([PYTHON, str(path)] if is_script else [PYTHON, "-c", ENDS[name]]))
    assert warm == cold


@pytest.mark.parametrize(
    "module", ["this", "no_such_module", "json.tool", "json", "unittest"], ids=str
)
def test_a_module_runs_the_same(warmed: Tasks, module: str) -> None:
    """With ``-m``, one that cannot be found or run included."""
    cold, warm = both(warmed, PYTHON, "-m", module, "--no-such-option")
    assert warm == cold


def test_what_is_not_plainly_python_starts_cold(warmed: Tasks, tmp_path: Path) -> None:
    """Options, shells, what cannot be executed: as ever, with the errors that these give."""
    path = tmp_path / "task.py"
    path.write_text(f"#!{PYTHON}\n{ASK}")
    for command in ([PYTHON, "-S", "-c", ASK], ["sh", "-c", f'{PYTHON} -c "{ASK}"']):
        warmed.run(*command)
        assert warmed.text() == "False\n"
    assert "not executable" in warmed.run(str(path)).reason
    path.chmod(0o755)
    assert warmed.run(str(path)).exit_code == 0
    assert warmed.text() == "True\n"
    path.write_text(f"#!{PYTHON} -E\n{ASK}")
    assert warmed.run(str(path)).exit_code == 0
    assert warmed.text() == "False\n"
    assert warmed.run(PYTHON, "/no/such/script.py").exit_code == 2
    assert "not a command line" in warmed.run(PYTHON, "-c", "a\0b").reason


def test_tasks_do_not_share_chance(warmed: Tasks) -> None:
    """Each has random numbers of its own, from `random` and from the system."""
    code = "import random, uuid, tempfile; print(random.random(), uuid.uuid4(), tempfile.mktemp())"
    warmed.warm_up(module="random")
    seen = {
        word
        for _ in range(3)
        if warmed.run(PYTHON, "-c", code, preload=("random",)).exit_code == 0
        for word in warmed.text().split()
    }
    assert len(seen) == 9


@pytest.mark.rule("R32", "R38")
def test_nothing_of_a_task_is_in_the_next(warmed: Tasks) -> None:
    """Neither in memory nor in the environment that /proc shows: all forks are of the server."""
    secret = "sesame" * 20
    parameters = {"long": "x" * 5000, "secret": secret}
    warmed.run(PYTHON, "-c", f"import {MARK}; {MARK}.left = 1", parameters=parameters)
    look = (
        f"import sys, os; m = sys.modules['{MARK}']; print(hasattr(m, 'left'))\n"
        "print(sorted(n for n in os.environ if n.startswith('TASK_PARAMETER')))\n"
        "print(b'sesame' in open('/proc/self/environ', 'rb').read())"
    )
    warmed.run(PYTHON, "-c", look)
    assert warmed.text().splitlines() == ["False", "[]", "False"]


@pytest.mark.rule("R36")
def test_what_it_leaves_is_found(warmed: Tasks) -> None:
    """A grandchild in a session of its own, and one that was never executed anew."""
    code = (
        "import os, subprocess, sys, time\n"
        "print(subprocess.Popen(['setsid', 'sleep', '1000']).pid)\n"
        "sys.stdout.flush()\n"
        "if os.fork() == 0:\n"
        "    os.setsid(); os.chdir('/'); os.closerange(0, 3); time.sleep(1000)"
    )
    assert warmed.run(PYTHON, "-c", code).exit_code == 0
    assert not is_alive(int(warmed.text()))


def test_an_environment_without_room(warmed: Tasks) -> None:
    """The program has it whole; /proc shows what there is room for, the attempt's marks first."""
    parameters = {f"n{number}": "x" * 3000 for number in range(20)}
    code = (
        "import os; print(len([n for n in os.environ if 'PARAMETER_N' in n]))\n"
        "text = open('/proc/self/environ', 'rb').read().split(b'\\0')\n"
        "print([v for v in text[:2]], 2 < sum(map(bool, text)) < len(os.environ))"
    )
    warmed.run(PYTHON, "-c", code, parameters=parameters)
    task = f"zzzzz-ot0gb-{warmed.last:015d}"
    assert warmed.text().splitlines() == [
        "20", f"[b'TASK_UUID={task}', b'TASK_ATTEMPT=1'] True"
    ]  # fmt: skip


def test_sets_have_servers_of_their_own(tasks: Tasks, agent: AgentProcess) -> None:
    """Of two jobs with different modules each finds its own, and not the other's."""
    tasks.warm_up()
    tasks.warm_up(module="wave")
    assert len(fork_servers(agent.process.pid)) == 2
    tasks.run(PYTHON, "-c", ASK, preload=("wave",))
    assert tasks.text() == "False\n"


def test_a_server_that_is_killed_is_replaced(tasks: Tasks, agent: AgentProcess) -> None:
    """Its tasks go on; the next one starts cold, those after it from another server."""
    tasks.warm_up()
    running = tasks.start(PYTHON, "-c", "import time; time.sleep(1000)", slot=2, preload=[MARK])
    leader = tasks.server.pid_of(running)
    (killed,) = fork_servers(agent.process.pid)
    os.kill(killed, signal.SIGKILL)
    wait_for(lambda: not Path(f"/proc/{killed}").exists(), "it is gone")
    tasks.warm_up()
    assert fork_servers(agent.process.pid) not in ([killed], [])
    assert is_alive(leader)
    tasks.server.stop(running)
    assert tasks.server.end_of(running).kind is EndKind.STOPPED


def test_a_module_that_is_not_there(tasks: Tasks, agent: AgentProcess) -> None:
    """Tasks run, cold; each one's log says why, and the agent's says it once."""
    why = "cannot import no_such_module: ModuleNotFoundError: No module named 'no_such_module'"

    def told() -> bool:
        tasks.run(PYTHON, "-c", "print('ran')", preload=("no_such_module",))
        assert tasks.text() == "ran\n"
        return tasks.notes() == f"[started without preload: {why}]\n"

    wait_for(told, "the reason")
    assert told()
    assert agent.said().count(why) == 1
    assert fork_servers(agent.process.pid) == []


BAD = {
    "thread": (
        "import threading, time\n"
        "threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n",
        "starts threads",
    ),
    "socket": ("import socket\nkept = socket.socket()\n", "opens socket:"),
    "exit": ("raise SystemExit(0)\n", "SystemExit: 0"),
    "crash": ("import os\nos.abort()\n", "it has died"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_forked_is_not(
    server: FakeServer, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Modules that start threads, open connections or end the process when they are imported."""
    text, why = BAD[name]
    (tmp_path / "bad_module.py").write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    agent = launch("--pass-env", "PYTHONPATH")
    wait_joined(server, agent)
    tasks = Tasks(server)
    tasks.run(PYTHON, "-c", "pass", preload=("bad_module",))
    wait_for(lambda: "no warm starts of bad_module" in agent.said(), "the reason")
    tasks.run(PYTHON, "-c", "pass", preload=("bad_module",))
    assert why in tasks.notes()


def test_libraries_that_know_of_forks(
    server: FakeServer, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Threads that end before a fork, as OpenBLAS sees to it, are no obstacle; nor is one that is
    seen for a moment longer, as joined threads may be on a busy machine.
    """
    (tmp_path / "pool.py").write_text(
        "import os, threading, time\n"
        "end = threading.Event()\n"
        "def linger():\n    end.wait(); time.sleep(0.1)\n"
        "thread = threading.Thread(target=linger)\nthread.start()\n"
        "os.register_at_fork(before=end.set)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    wait_joined(server, launch("--pass-env", "PYTHONPATH"))
    Tasks(server).warm_up(module="pool")


def test_a_module_that_hangs_at_forks(
    server: FakeServer, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its server is given up after seconds, and the task runs, once, cold."""
    ran = tmp_path / "ran"
    (tmp_path / "slow_fork.py").write_text(
        "import os, time\nos.register_at_fork(before=lambda: time.sleep(1000))\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    agent = launch("--pass-env", "PYTHONPATH")
    wait_joined(server, agent)
    tasks = Tasks(server)
    code = f"open({str(ran)!r}, 'a').write('x')"

    def given_up() -> bool:
        assert tasks.run(PYTHON, "-c", code, preload=("slow_fork",)).exit_code == 0
        return "no warm starts of slow_fork" in agent.said()

    wait_for(given_up, "it is given up")
    assert ran.read_text() == "x" * tasks.last


def test_an_answer_that_comes_too_late(tmp_path: Path) -> None:
    """Who was started by a helper that is given up is ended with it."""
    pid = tmp_path / "pid"
    text = (
        "import os, socket, struct, subprocess, time\n"
        "asked = socket.socket(fileno=3)\nasked.recv(1 << 16)\n"
        "child = subprocess.Popen(['sleep', '1000']).pid\ntime.sleep(1.2)\n"
        f"asked.sendall(struct.pack('=ii', child, 0)); open({str(pid)!r}, 'w').write(str(child))\n"
        "time.sleep(1000)"
    )
    leaders: dict[int, int] = {}
    helper = births.Helper(leaders, 3, 1)
    helper.launch([PYTHON, "-S", "-c", text], dict(os.environ), [])
    with pytest.raises(OSError):
        helper.ask((), ())
    wait_for(lambda: pid.exists() and pid.read_text(), "the answer")
    helper.close()
    assert leaders == {}
    wait_for(lambda: not is_alive(int(pid.read_text())), "the end of who was started")


@pytest.mark.rule("R34")
def test_exclusive_tasks_start_warm_too(warmed: Tasks) -> None:
    """As any other."""
    assert warmed.is_warm(exclusive=True)


@pytest.mark.rule("R28", "R14")
def test_memory_is_limited_as_ever(warmed: Tasks) -> None:
    """By the kernel where it limits, else by the agent: out of memory, with a reason."""
    hold = "import time; x = b'x' * 200_000_000; time.sleep(1000)"
    ended = warmed.run(PYTHON, "-c", hold, memory_kib=100_000)
    assert (ended.kind, ended.signal) == (EndKind.OUT_OF_MEMORY, signal.SIGKILL)
    assert "100000 KiB are reserved" in ended.reason


def test_the_agents_end_is_the_servers(
    server: FakeServer, launch: Launch, agent: AgentProcess
) -> None:
    """Also when it is killed: a fork server does not outlive its agent."""
    Tasks(server).warm_up()
    (pid,) = fork_servers(agent.process.pid)
    agent.process.kill()
    wait_for(lambda: not is_alive(pid), "the fork server's end")
