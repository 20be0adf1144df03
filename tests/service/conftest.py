"""A service in memory with a manual clock; after each test its counters are counted again."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.databases import Cluster, empty

from jobtasks.store.base import Store
from jobtasks.store.postgres import PostgresStore
from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.service import LocalService

ON_POSTGRES = frozenset(
    {
        "test_claims",
        "test_ends",
        "test_leases",
        "test_job_retry",
        "test_explain",
        "test_foreign_tasks",
        "test_engine_requests",
        "test_failure_families_of_jobs",
        "test_tree",
        "test_timelines",
        "test_node_history",
        "test_overview",
    }
)
"""Modules whose tests run on PostgreSQL as well; JOBTASKS_TEST_DATABASES=all: every one."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Let the tests of some modules run on each database; on SQLite alone the others."""
    if "on_database" in metafunc.fixturenames:
        is_chosen = metafunc.module.__name__.rpartition(".")[2] in ON_POSTGRES
        both = is_chosen or os.environ.get("JOBTASKS_TEST_DATABASES") == "all"
        only = metafunc.definition.get_closest_marker("sqlite_only")
        names = ["sqlite", "postgres"] if both and only is None else ["sqlite"]
        metafunc.parametrize("on_database", names, indirect=True)


@pytest.fixture(scope="session")
def shared_address(postgres: Cluster) -> str:
    """A database that tests use one after the other."""
    return postgres.new_database()


@pytest.fixture
def on_database(request: pytest.FixtureRequest) -> Store | None:
    """A store to be used instead of one in memory; None: none."""
    if request.param == "sqlite":
        return None
    address = request.getfixturevalue("shared_address")
    empty(address)
    return PostgresStore(address)


@pytest.fixture
def service(on_database: Store | None) -> Iterator[LocalService]:
    """The service without nodes; whatever a test did, counters must agree with rows."""
    service = LocalService(store=on_database)
    yield service
    problems = service.write(counter_problems)
    service.close()
    assert not problems


@pytest.fixture
def agent(service: LocalService) -> SimulatedAgent:
    """A node of 4 slots, 1,000,000 KiB, 8 cores."""
    return SimulatedAgent(service)
