"""Directories, slots and the command of attempts on a real agent; renewals while they run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from jobtasks.protocol.messages import JobBrief

from .conftest import JOB, AgentProcess, FakeServer, script, wait_for


@pytest.mark.rule("R38")
def test_sdk_alone_is_importable(server: FakeServer, agent: AgentProcess) -> None:
    """PYTHONPATH gives a script the SDK and nothing else of ours."""
    program = (
        "import jobtasks_sdk\ntry:\n import jobtasks.agent\nexcept ImportError: print('alone')"
    )
    # -S: without the packages that are installed here, ours among them.
    server.start(1, sys.executable, "-S", "-c", program)
    assert server.text_of(1) == "alone\n"


@pytest.mark.rule("R38")
def test_work_directory_is_current_and_empty(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """TASK_WORK is the current directory, mode 0700, and empty whatever the attempt before left."""
    deep = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')"
    nasty = (
        "mkdir -p a/b/c; touch a/b/f .hidden 'new\nline'; ln -s /etc link; mkfifo p;"
        f'chmod 000 a/b; chmod 500 a; mkdir deep; cd deep; exec {sys.executable} -S -c "$1"'
    )
    look = 'test "$PWD" = "$TASK_WORK" || exit 9; stat -c %a .; ls -A; exit 0'
    server.start(1, "sh", "-c", nasty, "sh", deep)
    assert server.end_of(1).exit_code == 0
    server.start(2, "sh", "-c", look)
    assert server.text_of(2) == "700\n"
    assert server.end_of(2).exit_code == 0
    wait_for(
        lambda: (
            os.listdir(tmp_path / "node/work") == [f"slot-{n}" for n in range(1, 5)]
            or len(os.listdir(tmp_path / "node/work")) == 4
        ),
        "what was set aside is removed",
    )


@pytest.mark.rule("R38")
@pytest.mark.parametrize(
    "spoil", ['rmdir "$TASK_WORK"', 'mv "$TASK_WORK" "$TASK_WORK.x"', 'chmod 000 "$TASK_WORK"']
)
def test_spoilt_work_directory_is_made_anew(
    server: FakeServer, agent: AgentProcess, spoil: str
) -> None:
    """Also when an attempt removes, moves or closes its TASK_WORK, the next one finds its own."""
    server.start(1, "sh", "-c", spoil)
    server.end_of(1)
    server.start(2, "sh", "-c", 'cd "$TASK_WORK" && stat -c %a . && touch x && ls')
    assert server.text_of(2) == "700\nx\n"


@pytest.mark.rule("R38")
def test_job_work_is_shared_and_removed_with_the_job(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """JOB_WORK is shared by a job's attempts on the node and goes when the job is over."""
    server.start(1, "sh", "-c", 'echo kept > "$JOB_WORK/file"')
    server.end_of(1)
    server.start(2, "sh", "-c", 'cat "$JOB_WORK/file"', slot=2)
    assert server.text_of(2) == "kept\n"
    server.jobs_over.append(JOB)
    server.tell()
    wait_for(lambda: os.listdir(tmp_path / "node/jobs") == [], "JOB_WORK is gone")
    server.wait(lambda: server.syncs[-1].jobs_known == [], "the job is forgotten")


@pytest.mark.rule("R39")
def test_command_wins_over_script_and_script_over_the_jobs_command(
    server: FakeServer, agent: AgentProcess, tmp_path: Path
) -> None:
    """The task's own command, else the job's script, else the job's command."""
    name = script(tmp_path, "#!/bin/sh\necho script $JOB_SCRIPT\n")
    with_script = "zzzzz-8i9sb-00000000000000s"
    with_command = "zzzzz-8i9sb-00000000000000c"
    server.briefs[with_script] = JobBrief(with_script, name, str(tmp_path), ["echo", "never"])
    server.briefs[with_command] = JobBrief(with_command, command=["echo", "the job's"])
    server.start(1, "echo", "the task's", job=with_script)
    server.start(2, job=with_script, slot=2)
    server.start(3, job=with_command, slot=3)
    texts = [server.text_of(attempt) for attempt in (1, 2, 3)]
    assert texts == ["the task's\n", "script task\n", "the job's\n"]


def test_slot_is_free_again_with_the_end(server: FakeServer, agent: AgentProcess) -> None:
    """The sync that reports an end offers the slot again; while it ran it was not offered."""
    server.start(1, "sh", "-c", "read x < /dev/zero", slot=3)
    server.pid_of(1)
    assert server.syncs[-1].free_slots == [1, 2, 4]
    server.stop(1)
    server.end_of(1)
    server.wait(lambda: server.syncs[-1].free_slots == [1, 2, 3, 4], "the slot is free")


@pytest.mark.rule("R33")
def test_renewals_go_on_without_news(server: FakeServer, agent: AgentProcess) -> None:
    """The agent is heard at least every renew_seconds, naming what runs."""
    server.start(1, "sleep", "1000")
    server.pid_of(1)
    count = len(server.syncs)
    server.wait(lambda: len(server.syncs) >= count + 4, "four more renewals")
    assert all(sync.running[0].attempt == 1 for sync in server.syncs[count:])
    assert server.syncs[-1].wait_seconds == server.joined.renew_seconds
