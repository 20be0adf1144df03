"""One suite for every engine; Slurm's and ssh's run it where their daemons are."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobtasks.core.errors import Invalid
from jobtasks.core.requests import Ask
from jobtasks.engines.base import Setting, Unclear, engine_names, make_engine
from jobtasks.engines.commands import Commands
from jobtasks.engines.local import PLACE, LocalEngine, find_keeper, start_time
from jobtasks.engines.slurm import SlurmEngine
from jobtasks.testing.engine import FakeEngine
from jobtasks.testing.engine_contract import EngineBench, EngineContract

from .cluster import wait_until


def setting_for(folder: Path, url: str = "http://127.0.0.1:9", **changes: object) -> Setting:
    """Return what an engine is made with; nobody need serve there."""
    token = folder / "agent.token"
    token.write_text("u" + "2" * 49)
    return Setting(url, token, folder / "engine", slots=1, cgroups="off", **changes)  # type: ignore[arg-type]


class TestFakeEngine(EngineContract):
    """The engine of tests."""

    @pytest.fixture
    def bench(self) -> EngineBench:
        return EngineBench(FakeEngine(), Ask(1, 2))


class TestLocalEngine(EngineContract):
    """This machine; its agent finds no server, and its keeper is there all the same."""

    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[EngineBench]:
        setting = setting_for(tmp_path)
        bench = EngineBench(
            LocalEngine(setting), Ask(place=PLACE), make=lambda: LocalEngine(setting)
        )
        yield bench
        pidfd = find_keeper(setting.state / "node")
        if pidfd is not None:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            os.close(pidfd)

    def test_a_machine_has_one_node(self, bench: EngineBench) -> None:
        """A second request is refused while the first is there."""
        engine_id = bench.granted()
        with pytest.raises(Exception, match="has its node already"):
            bench.engine.ask("jobtasks-other-2", Ask(place=PLACE))
        bench.end(engine_id)


def test_engines_are_found_by_name(tmp_path: Path) -> None:
    """Through entry points, so that other packages bring theirs; what is wrong is told."""
    assert {"local", "slurm", "ssh"} <= set(engine_names())
    setting = setting_for(tmp_path)
    assert isinstance(make_engine("slurm", setting), SlurmEngine)
    with pytest.raises(Invalid, match=r"There is no engine 'slurn'; there are .*slurm"):
        make_engine("slurn", setting)
    for options, words in (({"nodes": "1"}, "no option 'nodes'"), ({"cores": "x"}, "int")):
        with pytest.raises(Invalid, match=words):
            make_engine("slurm", setting_for(tmp_path, options=options))


def test_a_command_that_hangs_is_unclear(tmp_path: Path) -> None:
    """It and what it started are killed; one that is missing is no answer either."""
    note = tmp_path / "pid"
    script = f"sleep 1000 & echo $! > {note}; wait"
    with pytest.raises(Unclear, match=r"did not answer within 0\.5 s"):
        Commands(0.5).run(["sh", "-c", script])
    child = int(note.read_text())
    wait_until("its child is gone", lambda: start_time(child) is None)
    with pytest.raises(Unclear, match="No such file"):
        Commands(1.0).run(["no-such-program"])


def test_a_command_that_hangs_ends_with_its_engine(tmp_path: Path) -> None:
    """What it would have said is unclear, and no other is begun."""
    commands, note = Commands(600.0), tmp_path / "pid"
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(commands.run, ["sh", "-c", f"echo $$ > {note}; sleep 1000"])
        wait_until("it runs", lambda: note.exists() and bool(note.read_text()))
        commands.close()
        with pytest.raises(Unclear, match="sh: the server ends"):
            running.result(60)
    with pytest.raises(Unclear, match="true: the server ends"):
        commands.run(["true"])


def test_a_command_says_what_it_says() -> None:
    """Its exit code, both streams, what it was given."""
    code = "import sys; print(sys.stdin.read()); print('no', file=sys.stderr); sys.exit(3)"
    assert Commands(60.0).run([sys.executable, "-c", code], stdin="yes") == (3, "yes\n", "no\n")
