"""A server that is told how long to keep things removes them by itself, files and all."""

from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import QUICK, Start, wait_until

OFTEN = {**QUICK, "housekeeping_seconds": 0.1}
NOBODY = "zzzzz-8i9sb-00000000000nobo"


@pytest.mark.rule("R24")
def test_old_jobs_go_and_left_over_files_too(start: Start, tmp_path: Path) -> None:
    """Half a second after its end a job is gone with its log, while one that runs stays; so is
    what a crash of an earlier server left, and nothing that is not ours.
    """
    logs = tmp_path / "state" / "logs"
    for name in (NOBODY, "notes"):
        (logs / name).mkdir(parents=True)
        (logs / name / "zzzzz-ot0gb-000000000000001.1.log").write_text("left")
    served = start("--slots", "2", "--retain-jobs", "0.5s", settings=OFTEN)
    with served.http() as http:

        def submit(*command: str) -> str:
            return str(http.post("/jobs", json={"command": list(command)}).json()["uuid"])

        long, short = submit("sh", "-c", "echo long; exec sleep 60"), submit("echo", "short")
        assert http.get(f"/jobs/{short}", params={"wait": 30}).status_code in (200, 404)
        wait_until("it is gone", lambda: http.get(f"/jobs/{short}").status_code == 404)
        wait_until("its log is gone", lambda: not (logs / short).exists())
        wait_until("what was left is gone", lambda: not (logs / NOBODY).exists())
        assert http.get(f"/jobs/{long}").json()["state"] in ("Queued", "Running")
        assert (logs / "notes").exists()
        http.post(f"/jobs/{long}/cancel", json={})
    code, _, errors = served.end()
    assert (code, "Traceback" in errors) == (0, False), errors
