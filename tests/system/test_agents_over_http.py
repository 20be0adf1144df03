"""Very many agents and clients on one server: no lease is lost by load, nothing fails by it (R33,
R40).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import httpx
import pytest
from tests.rounds import IS_TORTURE, note, seconds

from .conftest import SCRIPTS, Served, Start, environment

ROW = "agents over HTTP"
SETTINGS = {"lease_seconds": 12.0, "renew_seconds": 1.0, "tick_seconds": 0.2}
FULL_SIZE = {"renew_seconds": 5.0}
"""As by default: a thousand agents are heard two hundred times a second."""
AFTER_SECONDS = 240.0
"""How long what was created may take to be over when the load has ended."""


def swarm(served: Served, load_seconds: float, **counts: int) -> dict[str, Any]:
    """Let so many agents, clients and flooders loose; return what they met."""
    words = [f"--{name}={count}" for name, count in counts.items()]
    words += [f"--seconds={load_seconds}", served.url, str(served.state)]
    ended = subprocess.run(
        [sys.executable, str(SCRIPTS / "swarm.py"), *words],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=load_seconds + AFTER_SECONDS,
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    print(found)
    return found


def causes_of(served: Served) -> dict[str, float]:
    """Return how many attempts ended by what."""
    token = (served.state / "admin.token").read_text().strip()
    text = httpx.get(f"{served.url}/metrics", headers={"Authorization": f"Bearer {token}"}).text
    found = re.findall(r'^jobtasks_attempts_ended_total\{cause="(\w+)"\} (\S+)$', text, re.M)
    return {cause: float(count) for cause, count in found}


def check(served: Served, found: dict[str, Any], lease_seconds: float) -> None:
    """No lease was lost, nothing was refused for load but by 429, all that was created is done."""
    assert set(found["agent_statuses"]) == {"200"}, found
    assert set(found["client_statuses"]) <= {"200", "429"}, found
    assert (found["rejoins"], found["discarded"]) == (0, 0), found
    assert found["renewal_gap_seconds"] < lease_seconds, found
    assert found["complete"] == found["jobs"], found
    assert set(causes_of(served)) <= {"exit"}, causes_of(served)
    assert "Traceback" not in served.errors()


@pytest.mark.timeout(seconds(4, 600) + 2 * AFTER_SECONDS)
@pytest.mark.rule("R33", "R40")
def test_many_agents_and_clients(start: Start) -> None:
    """All work is done, no agent loses its lease; how long a sync takes is noted."""
    served = start("--no-agent", settings=FULL_SIZE if IS_TORTURE else SETTINGS)
    agents = 1000 if IS_TORTURE else 100
    found = swarm(served, seconds(4, 600), agents=agents, clients=50, flooders=0)
    check(served, found, 30.0 if IS_TORTURE else SETTINGS["lease_seconds"])
    assert found["ended"] > found["jobs"] > 0
    note(
        ROW,
        agents=agents,
        reports=found["reports"],
        sync_p50_ms=found["sync_p50"] * 1000,
        sync_p99_ms=found["sync_p99"] * 1000,
        client_p99_ms=found["client_p99"] * 1000,
        renewal_gap_seconds=found["renewal_gap_seconds"],
        tasks=found["ended"],
        lost_leases=found["rejoins"],
    )


@pytest.mark.timeout(seconds(3, 60) + 2 * AFTER_SECONDS)
@pytest.mark.rule("R33", "R40")
def test_a_flood_of_clients_takes_no_lease(start: Start) -> None:
    """Bulk creates and long lists beyond what the server can do are put off or wait, whole each;
    agents are heard all the same.
    """
    served = start("--no-agent", settings=SETTINGS)
    flooders = 500 if IS_TORTURE else 15
    found = swarm(served, seconds(3, 60), agents=20, clients=2, flooders=flooders)
    check(served, found, SETTINGS["lease_seconds"])
    assert found["half_done"] == 0
    note(
        ROW,
        flooders=flooders,
        flooded_sync_p99_ms=found["sync_p99"] * 1000,
        flooded_renewal_gap_seconds=found["renewal_gap_seconds"],
        put_off=found["client_statuses"].get("429", 0),
    )
