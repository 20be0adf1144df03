"""Task scripts that know Arvados alone, run by a real agent."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.system.conftest import Served, end_keeper

SCRIPT = Path(__file__).with_name("scripts") / "crunch.py"


@pytest.mark.rule("R38")
def test_a_script_calls_arvados_from_its_environment_alone(tmp_path: Path) -> None:
    """``arvados.api('v1')`` without arguments: host, token and trust are there."""
    served = Served(
        tmp_path / "state",
        *("--slots", "2", "--listen-tls", "127.0.0.1:0"),
        stderr=tmp_path / "stderr",
        environ={"HOME": str(tmp_path)},
    )
    try:
        with served.api() as api:
            body = {
                "script": SCRIPT.name,
                "script_version": str(SCRIPT.parent),
                "script_parameters": {"count": 5},
                "runtime_constraints": {"output": "last", "max_attempts": 1},
            }
            job = api.final(api.post("/jobs", body)["uuid"])
            logs = [task["failed_log"] for task in api.tasks(job["uuid"])]
    finally:
        code, _, _ = served.end()
        end_keeper(served.state)
    assert (job["state"], job["output"]) == ("Complete", "30\n"), logs
    assert code == 0
