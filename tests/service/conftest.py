"""A service in memory with a manual clock; after each test its counters are counted again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from jobtasks.testing.agent import SimulatedAgent
from jobtasks.testing.counters import counter_problems
from jobtasks.testing.service import LocalService


@pytest.fixture
def service() -> Iterator[LocalService]:
    """The service without nodes; whatever a test did, counters must agree with rows."""
    service = LocalService()
    yield service
    problems = service.write(counter_problems)
    service.close()
    assert not problems


@pytest.fixture
def agent(service: LocalService) -> SimulatedAgent:
    """A node of 4 slots, 1,000,000 KiB, 8 cores."""
    return SimulatedAgent(service)
