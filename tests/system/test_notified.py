"""A server that is killed between a job's end and its news tells of it when it serves again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from .conftest import QUICK, Start, wait_until

DELIVERED = 'jobtasks_notifications_total{outcome="delivered"} 1'
SOON = {**QUICK, "notify_delay_seconds": 0.05, "notify_give_up_seconds": 0.3}


def submit(http: httpx.Client, **more: Any) -> str:
    answer = http.post("/jobs", json={"command": ["true"], **more})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["uuid"])


def told(folder: Path) -> list[dict[str, Any]]:
    """Return what the command was given so far, in order of the tries."""
    lines = folder / "lines"
    return [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []


@pytest.fixture
def teller(tmp_path: Path) -> Path:
    """A command that keeps what it is told in a folder, and hangs while a file is there."""
    script = tmp_path / "teller"
    script.write_text(
        '#!/bin/sh\nline=$(cat)\necho "$line" >> "$1/lines"\n'
        'while test -e "$1/hang"; do sleep 0.01; done\n'
    )
    script.chmod(0o755)
    (tmp_path / "told").mkdir()
    return script


@pytest.mark.rule("R37")
def test_news_survive_the_server(start: Start, tmp_path: Path, teller: Path) -> None:
    """kill -9 after the end was recorded and before the news was delivered: the next server
    delivers it, at least once, under the same name; then it is forgotten.
    """
    folder = tmp_path / "told"
    (folder / "hang").touch()
    option = ("--notify-command", f"{teller} {folder}")
    served = start(*option)
    with served.http() as http:
        uuid = submit(http)
        assert http.get(f"/jobs/{uuid}", params={"wait": 30}).json()["state"] == "Complete"
    wait_until("a first try", lambda: told(folder))
    served.kill()
    (folder / "hang").unlink()
    again = start(*option)
    found = wait_until("a second try", lambda: told(folder)[1:])
    first, second = told(folder)[0], found[0]
    assert first == second
    assert (second["uuid"], second["state"]) == (uuid, "Complete")
    with httpx.Client(headers={"Authorization": f"Bearer {token(again.state)}"}) as http:

        def metrics() -> str:
            return http.get(again.url + "/metrics").text

        wait_until("it is settled", lambda: DELIVERED in metrics())
        assert "jobtasks_notifications_waiting 0\n" in metrics()
    assert again.end()[0] == 0
    assert len(told(folder)) == 2


def token(state: Path) -> str:
    return (state / "admin.token").read_text().strip()


def test_news_that_nobody_takes_are_given_up(start: Start, tmp_path: Path) -> None:
    """The record says so; the server's log does, and no secret of an address is in it."""
    address = tmp_path / "address"
    address.write_text("http://127.0.0.1:1/a-secret-path\n")
    served = start("--no-agent", "--notify-url", f"@{address}", settings=SOON)
    with served.http() as http:
        uuid = submit(http)
        http.post(f"/jobs/{uuid}/cancel", json={})

        def problem() -> str | None:
            log: str = http.get(f"/jobs/{uuid}").json()["log"]
            return log if "not told" in log else None

        log = wait_until("it is given up", problem)
    assert "was not told of the end: Connect" in log
    code, _, errors = served.end()
    assert code == 0
    assert '"message":"a job\'s end could not be told: given_up"' in errors
    assert "a-secret-path" not in errors + log
    assert (served.state / "notify.secret").stat().st_mode & 0o777 == 0o600


def test_jobs_name_addresses_that_are_listed(start: Start, tmp_path: Path) -> None:
    """An option of the server; a job that names another is refused when it is submitted."""
    served = start("--no-agent", "--notify-allow", "https://hooks.example.com/team")
    with served.http() as http:
        submit(http, runtime_constraints={"notify_url": "https://hooks.example.com/team/x"})
        evil = {"notify_url": "https://evil.example/team/x"}
        answer = http.post("/jobs", json={"command": ["true"], "runtime_constraints": evil})
    assert answer.status_code == 422
    assert "--notify-allow" in answer.json()["errors"][0]


def test_a_secret_that_cannot_be_read_is_refused_at_start(start: Start, tmp_path: Path) -> None:
    """One line, 125."""
    (tmp_path / "secret").write_text("\n")
    served = start("--no-agent", "--notify-secret-file", str(tmp_path / "secret"))
    out, err = served.rest()
    assert served.process.returncode == 125
    assert (out, len(err.splitlines()), "is empty" in err) == ("", 1, True)
