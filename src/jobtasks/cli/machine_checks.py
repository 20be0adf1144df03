"""Whether this machine can serve and run tasks."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from collections.abc import Iterator

from jobtasks.cli.findings import Finding, fail, ok, warn

PYTHON_MIN = (3, 11)
FILES_MIN = 4096
"""Descriptors: a server has one for each connection, of which 1,000 may be open at a time, an agent
five for each slot."""
PROBE_SECONDS = 20.0
PROBE = """
import ctypes, os, select
assert ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0) == 0, "cannot be a subreaper"
pid = os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 60 & exit 3"], os.environ)
poller = select.epoll()
poller.register(os.pidfd_open(pid), select.EPOLLIN)
assert poller.poll(10), "the end of a process was not told"
assert os.wait4(pid, 0)[1] == 3 << 8, "a process ended otherwise than it should"
children = open(f"/proc/self/task/{os.getpid()}/children").read().split()
assert len(children) == 1, "what a process left behind was not found"
os.kill(int(children[0]), 9)
os.waitpid(int(children[0]), 0)
"""
"""What keeper and agent do: inherit what a process leaves, hear of ends, find and end the rest."""


def checks() -> Iterator[Finding]:
    """Look at Python, the limit of open files, processes, and control groups."""
    yield python(sys.version_info[:3])
    yield open_files(resource.getrlimit(resource.RLIMIT_NOFILE))
    yield processes()
    yield control_groups()


def python(version: tuple[int, ...]) -> Finding:
    """Return whether this Python is new enough."""
    text = f"{'.'.join(map(str, version))} at {sys.executable}, {platform.platform()}"
    if version < PYTHON_MIN:
        return fail("python", text, "install Python 3.11 or newer")
    return ok("python", text)


def open_files(limits: tuple[int, int]) -> Finding:
    """Return whether enough files may be open at a time."""
    soft, hard = ("unlimited" if limit < 0 else str(limit) for limit in limits)
    text = f"{soft} at a time, at most {hard}"
    if 0 <= limits[0] < FILES_MIN:
        advice = f"`ulimit -n {FILES_MIN}` before `serve`, or LimitNOFILE={FILES_MIN} in its unit"
        return warn("open files", text, advice)
    return ok("open files", text)


def processes(command: str = PROBE) -> Finding:
    """Return whether tasks could be started, heard of and ended here, by doing so."""
    name = "processes"
    try:
        ended = _python("-c", command)
    except (OSError, subprocess.TimeoutExpired) as error:
        return fail(name, f"a process could not be tried: {error}", "tasks cannot run here")
    if ended.returncode == 0:
        return ok(name, "can be started, followed and ended")
    last = _last_words(ended) or f"exit code {ended.returncode}"
    advice = "tasks need Linux 5.3 or newer with /proc mounted as usual; serve with --no-agent here"
    return fail(name, last, advice)


def control_groups(where: str = "auto") -> Finding:
    """Return what a node started from here would use control groups for, and why not for the rest.

    By making one and removing it. Tasks run without them, too: so all of it is well.
    """
    name = "control groups"
    try:
        ended = _python("-m", "jobtasks.agent.cgroups", where)
    except (OSError, subprocess.TimeoutExpired) as error:
        return ok(name, f"not used: {error}")
    said = ended.stdout.strip() or _last_words(ended) or "no answer"
    return ok(name, f"not used: {said}" if ended.returncode else said)


def _python(*words: str) -> subprocess.CompletedProcess[str]:
    """Try something in a Python of its own; errors: OSError, `subprocess.TimeoutExpired`."""
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PROBE_SECONDS,
        check=False,
    )


def _last_words(ended: subprocess.CompletedProcess[str]) -> str:
    """Return the last line of its stderr, "" when it wrote none."""
    return (ended.stderr.strip().splitlines() or [""])[-1]
