"""Run ``jobtasks run`` as a user does: another process, a state directory of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
RUN_SECONDS_MAX = 100


@pytest.fixture
def environment() -> dict[str, str]:
    """This Python first on the PATH, for ``env python3``; no server of the person who tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JOBTASKS_")}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


@pytest.fixture
def run(
    tmp_path: Path, environment: dict[str, str]
) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """``jobtasks run`` with these words."""

    def run_job(*words: object) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "jobtasks.cli.main", "run", "--state", tmp_path / "state"]
        ended = subprocess.run(
            [*map(str, command), *map(str, words)],
            env=environment,
            capture_output=True,
            timeout=RUN_SECONDS_MAX,
        )
        print(ended.stderr.decode())
        return ended

    return run_job
