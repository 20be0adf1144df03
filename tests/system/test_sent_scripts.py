"""Scripts whose directory the nodes do not see: real servers, real agents."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobtasks.core.packs import YOUNG_SECONDS

from .conftest import Api, Served, Start, environment
from .nodes import AddNode, await_nodes, nodes_of

SWARM = """\
#!/usr/bin/env -S python3 -S
import os, sys
from jobtasks_sdk import current_job, current_task
import beside
task, count = current_task(), current_job().script_parameters["children"]
if task.sequence == 0:
    constraints = current_job().script_parameters.get("each", {})
    task.create_many([{"runtime_constraints": constraints} for _ in range(count)])
    task.complete()
else:
    print(len(os.environ["TASK_NODES"].split()))
    task.complete(f"{beside.WORD} {os.environ['TASK_QSEQUENCE']}")
"""


@pytest.fixture
def served(start: Start) -> Served:
    return start("--no-agent")


@pytest.fixture
def add_node(served: Served, tmp_path: Path) -> Iterator[AddNode]:
    with nodes_of(served, tmp_path) as add:
        yield add


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A script, and the module that it needs."""
    root = tmp_path / "scripts"
    root.mkdir()
    (root / "swarm.py").write_text(SWARM)
    (root / "swarm.py").chmod(0o755)
    (root / "beside.py").write_text("WORD = 'first'\n")
    return root


def body(scripts: Path, children: int, **each: int) -> dict[str, object]:
    """Return a job with children, each with these constraints."""
    return {
        "script": "swarm.py",
        "script_version": str(scripts),
        "script_parameters": {"children": children, "each": each},
    }


def fetches(api: Api) -> int:
    """How often a pack was asked for."""
    text = api.http.get(str(api.http.base_url).split("/arvados")[0] + "/metrics").text
    found = re.findall(r"requests_total\{.*scripts.*\} (\d+)", text)
    return sum(map(int, found))


def outputs(word: str, children: int) -> str:
    return "".join(f"{word} {n}\n" for n in range(1, children + 1))


def test_two_nodes_and_one_fetch_each(
    served: Served, add_node: AddNode, scripts: Path, tmp_path: Path
) -> None:
    """What was there at the submit runs, whatever becomes of the directory; a retry takes the new.

    The second job has a gang, whose first node fetches what that retry has packed.
    """
    with served.api() as api:
        made = api.post("/jobs", body(scripts, 50))
        assert re.fullmatch(r"[0-9a-f]{64}", made["script_hash"])
        (scripts / "beside.py").write_text("raise SystemExit('changed')\n")
        changed = api.post("/jobs", body(scripts, 1, min_nodes=2))
        assert changed["script_hash"] != made["script_hash"]
        api.post(f"/jobs/{changed['uuid']}/cancel")
        gone = scripts.rename(tmp_path / "gone")
        for name in ("a", "b"):
            add_node(name, slots=25)
        await_nodes(api, 2)
        job = api.final(made["uuid"])
        assert (job["state"], job["output"]) == ("Complete", outputs("first", 50)), job["log"]
        for name in ("a", "b"):
            assert (tmp_path / name / "node" / "scripts" / made["script_hash"]).is_dir()
        assert fetches(api) == 2
        gone.rename(scripts)
        (scripts / "beside.py").write_text("WORD = 'mended'\n")
        again = api.post(f"/jobs/{changed['uuid']}/retry")
        assert again["script_hash"] not in (made["script_hash"], changed["script_hash"])
        job = api.final(again["uuid"])
        assert (job["state"], job["output"]) == ("Complete", outputs("mended", 1)), job["log"]
        gang = api.tasks(job["uuid"], sequence=1)[0]
        assert api.http.get(f"/job_tasks/{gang['uuid']}/log").text == "2\n"
        assert fetches(api) in (3, 4), "the nodes of the seed and of the gang, which may be one"


def test_a_directory_that_is_too_large(served: Served, add_node: AddNode, scripts: Path) -> None:
    """The job runs where the directory is; elsewhere its attempts say what was in the way."""
    with served.api() as api:
        for number in range(2000):
            (scripts / f"file-{number}").touch()
        here, elsewhere = (api.post("/jobs", body(scripts, 1)) for _ in range(2))
        assert (here["script_hash"], elsewhere["script_hash"]) == (None, None)
        api.http.post(f"/jobs/{elsewhere['uuid']}/cancel")
        add_node("a")
        assert api.final(here["uuid"])["state"] == "Complete"
        (scripts / "swarm.py").rename(scripts / "other.py")
        api.http.post(f"/jobs/{elsewhere['uuid']}/retry")
        job = api.final(elsewhere["uuid"])
        assert job["state"] == "Failed"
        said = api.tasks(job["uuid"])[0]["failed_log"]
        assert f"no such file: {scripts}/swarm.py" in said
        assert "it is not on this node, and the server did not send its directory" in said
        assert "it has more than 2,000 files" in said


def test_the_node_of_the_server_starts_scripts_where_they_are(start: Start, scripts: Path) -> None:
    """So that a script may write beside itself; when it is not there any more it is fetched."""
    served = start("--slots", "1")
    writes = scripts / "writes"
    writes.write_text('#!/bin/sh\necho "$0"; date > "$(dirname "$0")/result"\n')
    writes.chmod(0o755)
    with served.api() as api:
        given = {
            "script": "writes",
            "script_version": str(scripts),
            "runtime_constraints": {"max_attempts": 1},
        }
        api.final(api.post("/jobs", given)["uuid"])
        assert (scripts / "result").exists()
        assert fetches(api) == 0
        held = api.post("/jobs", {"command": ["sleep", "100"]})
        job = api.post("/jobs", body(scripts, 2))
        scripts.rename(scripts.with_name("gone"))
        api.post(f"/jobs/{held['uuid']}/cancel")
        assert api.final(job["uuid"])["output"] == outputs("first", 2)
        assert fetches(api) == 1


def test_a_queued_job_is_given_another_script(
    served: Served, scripts: Path, tmp_path: Path
) -> None:
    """Then another pack goes with it; other changes leave it alone, and a rehearsal makes none."""
    other = tmp_path / "other"
    other.mkdir()
    (other / "swarm.py").write_text(SWARM)
    (other / "swarm.py").chmod(0o755)
    with served.api() as api:
        rehearsed = api.http.post("/jobs", params={"dry_run": "true"}, json=body(scripts, 1)).json()
        assert rehearsed["script_hash"] is None
        assert list((served.state / "scripts").iterdir()) == []
        made = api.post("/jobs", body(scripts, 1))
        first = made["script_hash"]

        def change(**given: str) -> str:
            answer = api.http.patch(f"/jobs/{made['uuid']}", json=given)
            assert answer.status_code == 200, answer.text
            found: str = answer.json()["script_hash"]
            return found

        assert change(description="x", script_version=str(scripts)) == first
        assert change(script_version=str(other)) not in (None, first)
        assert change(script_version=str(tmp_path / "none")) is None
        assert change(script_version=str(scripts)) == first


def test_packs_are_kept_removed_saved_and_checked(
    start: Start, served: Served, scripts: Path, tmp_path: Path
) -> None:
    """A pack goes when no job has it; a backup has it, and a check tells when it is damaged."""

    def admin(*words: str, state: Path = served.state) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "jobtasks.cli.main", "admin", *words]
        return subprocess.run(
            [*command, "--state", str(state)],
            capture_output=True,
            text=True,
            env=environment(),
            check=False,
        )

    with served.api() as api:
        jobs = [api.post("/jobs", body(scripts, 1)) for _ in range(3)]
        (pack,) = {job["script_hash"] for job in jobs}
        path = served.state / "scripts" / f"{pack}.tar"
        long_ago = time.time() - 2 * YOUNG_SECONDS
        os.utime(path, (long_ago, long_ago))
        assert api.post("/sys/gc", {"dry_run": True})["removed"]["packs"] == 0
        assert "wrote" in admin("backup", str(tmp_path / "saved")).stdout
        for job in jobs[:2]:
            assert api.status("DELETE", f"/jobs/{job['uuid']}") == 200
        assert api.post("/sys/gc", {})["removed"]["packs"] == 0
        assert api.status("DELETE", f"/jobs/{jobs[2]['uuid']}") == 200
        found = api.post("/sys/gc", {})
        assert (found["removed"]["packs"], found["before"]["packs"], found["after"]["packs"]) == (
            1,
            1,
            0,
        )
        assert list((served.state / "scripts").iterdir()) == []
    restored = tmp_path / "restored"
    assert admin("restore", str(tmp_path / "saved"), state=restored).returncode == 0
    assert admin("check", state=restored).returncode == 0
    again = restored / "scripts" / f"{pack}.tar"
    again.write_bytes(again.read_bytes()[:-1])
    checked = admin("check", state=restored)
    assert checked.returncode == 1 and f"{again} is damaged" in checked.stdout
    again.unlink()
    other = start("--no-agent", state=restored)
    with other.api() as api, nodes_of(other, tmp_path) as add:
        add("a")
        assert api.final(jobs[0]["uuid"])["state"] == "Complete", "it was made again"
        assert again.exists()
