"""The ssh engine against an sshd on loopback: sshd.py."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.system.conftest import end_keeper, keeper_of, wait_until

from jobtasks.core.errors import Invalid
from jobtasks.core.requests import Ask
from jobtasks.engines.base import Unclear
from jobtasks.engines.ssh import SshEngine
from jobtasks.testing.engine_contract import EngineBench, EngineContract

from .conftest import SCRIPTS, Farm, farm_on
from .sshd import Sshd, missing
from .test_engine_contract import setting_for


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A daemon of our own."""
    if absent := missing():
        pytest.skip(f"not installed: {', '.join(absent)} (tests/debian-packages.txt)")
    daemon = Sshd(tmp_path_factory.mktemp("sshd"))
    daemon.start()
    yield daemon
    daemon.stop()


def end_at_once(state: Path) -> None:
    """End a node that has nothing to tell; check that nothing is left of it (R36)."""
    if (keeper := keeper_of(state)) is not None:
        os.kill(keeper, signal.SIGKILL)
        wait_until("the keeper ends", lambda: keeper_of(state) is None)
    end_keeper(state)


def options_for(sshd: Sshd, hosts: str, node_dir: str) -> dict[str, str]:
    return {"hosts": hosts, "ssh": sshd.option, "python": sys.executable, "node-dir": node_dir}


@pytest.fixture
def farm(sshd: Sshd, tmp_path: Path) -> Iterator[Farm]:
    """A server with one host; its node is ended at the end."""
    given = options_for(sshd, "host-a", str(tmp_path / "host" / "node"))
    words = [f"--engine-option={name}={value}" for name, value in given.items()]
    with farm_on(tmp_path / "farm", "--engine", "ssh", "--slots", "2", *words) as farm:
        yield farm
    end_at_once(tmp_path / "host")


class TestSshEngine(EngineContract):
    """What every engine keeps to; the agents find no server."""

    @pytest.fixture
    def bench(self, sshd: Sshd, tmp_path: Path) -> Iterator[EngineBench]:
        def make() -> SshEngine:
            options = options_for(sshd, "host-a,host-b", str(tmp_path / "host" / "node"))
            return SshEngine(setting_for(tmp_path, options=options))

        yield EngineBench(make(), Ask(place="host-a"), make=make)
        end_at_once(tmp_path / "host")

    def test_a_request_is_placed_once(self, bench: EngineBench) -> None:
        """To ask again is to find what is there; another request finds the host taken."""
        engine_id = bench.granted()
        assert bench.engine.ask(bench.name, bench.ask) == engine_id
        with pytest.raises(Exception, match="has the node of another request"):
            bench.engine.ask("jobtasks-host-a-2", bench.ask)
        bench.end(engine_id)


def test_a_host_that_cannot_be_reached_is_unclear(sshd: Sshd, tmp_path: Path) -> None:
    """Nothing is said of it, which ends nothing."""
    options = options_for(sshd, "nowhere.invalid", str(tmp_path / "node"))
    engine = SshEngine(setting_for(tmp_path, options=options, command_seconds=20.0))
    ask = Ask(place="nowhere.invalid")
    for call in (
        functools.partial(engine.ask, "jobtasks-nowhere.invalid-1", ask),
        functools.partial(engine.look, ["jobtasks-nowhere.invalid-1"]),
        functools.partial(engine.cancel, "nowhere.invalid/jobtasks-nowhere.invalid-1"),
    ):
        with pytest.raises(Unclear, match=r"nowhere\.invalid"):
            call()


def test_a_host_without_jobtasks_is_refused(sshd: Sshd, tmp_path: Path) -> None:
    """With what its Python says."""
    options = {**options_for(sshd, "host-a", str(tmp_path / "node")), "python": "no-such-python"}
    engine = SshEngine(setting_for(tmp_path, options=options))
    with pytest.raises(Exception, match="no-such-python"):
        engine.ask("jobtasks-host-a-1", Ask(place="host-a"))
    with pytest.raises(Invalid, match="no option"):
        SshEngine(setting_for(tmp_path, options={"host": "a"}))


@pytest.mark.rule("R18")
def test_hosts_serve_all_jobs(farm: Farm, tmp_path: Path) -> None:
    """One node, shared; it does not see the directory of their script."""
    farm.scripts = tmp_path / "scripts"
    shutil.copytree(SCRIPTS, farm.scripts)
    made = [farm.start(children=2) for _ in range(2)]
    shutil.rmtree(farm.scripts)
    for job in made:
        job.complete()
        assert len(job.lines()) == 3
    (node,) = farm.nodes()
    assert (node["engine"], node["slots"], node["job_uuid"]) == ("ssh", 2, None)


@pytest.mark.rule("R12", "R35", "R36")
def test_a_keeper_that_died_is_replaced(farm: Farm, tmp_path: Path) -> None:
    """The host is asked again; what ran there is tried again, and is not left over."""
    job = farm.start(children=2)
    before = job.until_runs(2)
    wait_until("they have begun", lambda: len(job.lines()) == 3, 60)
    keeper = keeper_of(tmp_path / "host")
    assert keeper is not None
    os.kill(keeper, signal.SIGKILL)
    wait_until("another keeper", lambda: keeper_of(tmp_path / "host") not in (None, keeper), 60)
    wait_until("its tasks run again", lambda: len(job.lines()) == 5, 60)
    assert job.until_runs(2) == before
    job.complete()
    assert len(farm.nodes()) == 1


@pytest.mark.rule("R35")
def test_an_sshd_that_is_away_ends_nothing(farm: Farm, sshd: Sshd) -> None:
    """The agents keep their leases themselves."""
    job = farm.start(children=2)
    job.until_runs(2)
    sshd.stop()
    wait_until("the server notices", lambda: "gives no answer" in farm.served.errors(), 60)
    sshd.start()
    wait_until("the server notices", lambda: "answers again" in farm.served.errors(), 60)
    job.complete()
    assert {task["attempts"] for task in farm.api.tasks(job.uuid)} == {1}
