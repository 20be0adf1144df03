"""``jobtasks doctor`` and a real server: well, left by a crash, and left open to others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from .conftest import Start, environment, wait_until


def doctor(state: Path) -> tuple[int, dict[str, tuple[str, str]]]:
    """Return the exit code, and level and text by check."""
    command = [sys.executable, "-m", "jobtasks.cli.main", "doctor", "--state", str(state)]
    ended = subprocess.run(
        [*command, "-o", "json"], env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.stderr == ""
    found = {one["check"]: (one["level"], one["text"]) for one in json.loads(ended.stdout)}
    return ended.returncode, found


def test_a_server_is_looked_at(start: Start) -> None:
    """All is well while it serves; after kill -9 the keeper that it left is named."""
    served = start("--slots", "2")

    def nodes() -> str:
        return doctor(served.state)[1]["nodes"][1]

    wait_until("a node is heard", lambda: "2 slots" in nodes())
    code, found = doctor(served.state)
    assert code == 0
    wanted = ("processes", "state directory", "database", "keeper", "server", "clock", "token")
    assert {name: found[name][0] for name in wanted} == dict.fromkeys(wanted, "ok")
    assert "administrator" in found["token"][1]
    assert "0 jobs" in found["sizes"][1]
    served.kill()
    code, found = doctor(served.state)
    assert code == 1
    assert (found["keeper"][0], found["server"][0]) == ("warn", "fail")
    assert "without a server" in found["keeper"][1]
