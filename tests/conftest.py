"""What holds for every test: with CI set, nothing may be skipped; no server tells its secrets."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings
from tests.canary import leaks_in, secrets_of, states_in
from tests.rounds import IS_TORTURE

settings.register_profile("house", deadline=None)
settings.load_profile("house")  # how long an example takes says more about the machine

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As in a shell's background; what is started here inherits it, and Ctrl-C would do nothing.
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONG = (
    *("test_api_openapi", "test_cli_map", "test_outages", "test_agent_exclusive"),
    *("test_kills_parallel_hash", "test_upgrade_in_the_middle", "test_agent_trees"),
    *("test_walkthroughs", "test_cli_real_server", "test_claim_oracle", "test_kills_fleet"),
    *("test_service_machine", "test_agent_contact", "test_agent_life", "test_simulated_worlds"),
    *("test_flat_costs", "test_api_raw_fuzz", "test_torture", "test_serve_process"),
    *("test_disk_full", "test_example_scripts", "test_https", "test_kills_tree"),
    *("test_exclusive_nodes", "test_explain_for_real", "test_token_matrix"),
)
"""Modules of which each takes twenty seconds and more: they begin first, so that at the end of all
tests no core waits for another.
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let long modules begin first. Under torture a test takes as long as it is given; who tortures
    ends what hangs.
    """
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path.stem, len(LONG)))
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


@pytest.fixture(scope="session", autouse=True)
def no_secret_is_told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Look, after all tests, through what their servers have left on disk."""
    yield
    for state in states_in(tmp_path_factory.getbasetemp()):
        logs = [path for name in ("*stderr*", "*.log") for path in state.parent.glob(name)]
        assert leaks_in(state, secrets_of(state), logs) == []
