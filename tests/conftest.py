"""What holds for every test: with CI set, nothing may be skipped; no server tells its secrets."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tests.canary import leaks_in, secrets_of, states_in
from tests.databases import Cluster, cluster
from tests.rounds import IS_TORTURE

settings.register_profile("house", deadline=None)
settings.load_profile("house")  # how long an example takes says more about the machine

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a shell's background; what is started here inherits it, and Ctrl-C would do nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = (
    *("test_slurm_real", "test_ssh_real", "test_postgres_outages", "test_injection"),
    *("test_accessible", "test_doors"),
    *("test_outages", "test_kills_parallel_hash", "test_agent_exclusive", "test_agent_trees"),
    *("test_upgrade_in_the_middle", "test_walkthroughs", "test_agent_life", "test_agent_warm"),
    *("test_cli_map", "test_kills_fleet", "test_agent_contact", "test_agents_over_http"),
    *("test_api_openapi", "test_cli_real_server", "test_state_directory", "test_node_budgets"),
    *("test_service_machine", "test_exclusive_nodes", "test_disk_full", "test_canary"),
    *("test_example_map_and_grid", "test_backups", "test_kills_tree", "test_serve_process"),
    *("test_store", "test_endless_output", "test_token_matrix", "test_example_scripts"),
    *("test_example_parallel_hash", "test_several_nodes", "test_slow_connections", "test_torture"),
    *("test_late_attempts", "test_warm_starts", "test_https", "test_claim_oracle"),
    *("test_simulated_worlds", "test_flat_costs", "test_explain_for_real", "test_bad_nodes"),
)
"""Modules of which each takes ten seconds and more: they begin first, so that at the end of all
tests no core waits for another.
"""


def pytest_configure(config: pytest.Config) -> None:
    """Let each worker begin to collect with other folders than the others: whoever comes to a
    module first translates it for all, which takes longer than all else in collecting.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and config.args == config.getini("testpaths"):
        folders = sorted({str(path.parent) for path in Path(__file__).parent.glob("*/test_*.py")})
        first = int(worker.removeprefix("gw")) * len(folders)
        first //= int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        config.args[:] = folders[first:] + folders[:first]


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage neither while thousands of tests are made, which are none, nor among them
    again and again while they run.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long modules begin first; else it goes by name, for every worker alike. Under torture a
    test takes as long as it is given; who tortures ends what hangs.
    """
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: (rank.get(item.path.stem, len(LONG)), item.path))
    if IS_TORTURE:
        for item in items:
            item.add_marker(pytest.mark.timeout(0), append=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):  # type: ignore[no-untyped-def]
    """Turn a skip into a failure where every service must be there."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and os.environ.get("CI") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped where nothing may be skipped: {report.longrepr}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL for all tests of this process that use one and leave it running."""
    with cluster() as found:
        yield found


@pytest.fixture(scope="session", autouse=True)
def no_secret_is_told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look, after all tests, through what their servers have left on disk."""
    yield
    for state in states_in(tmp_path_factory.getbasetemp()):
        logs = [path for name in ("*stderr*", "*.log") for path in state.parent.glob(name)]
        assert leaks_in(state, secrets_of(state), logs) == []
