"""``jobtasks completion``: the script works in the shell that it is for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Ended

JobTasks = Callable[..., Ended]
ASK_BASH = """
source "$1"
COMP_WORDS=("${@:2}")
COMP_CWORD=$(( $# - 2 ))
_jobtasks_completion jobtasks
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""What bash does at a Tab, with the words as they stand so far."""


def completed(tmp_path: Path, script: str, *words: str) -> list[str]:
    """Return what real bash offers for the last of `words`."""
    file = tmp_path / "completion.bash"
    file.write_text(script)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["bash", "-c", ASK_BASH, "bash", str(file), *words],
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes(jobtasks: JobTasks, tmp_path: Path) -> None:
    """A command, a command of a group, an option, the values of one."""
    script = jobtasks("completion", "bash").out
    assert completed(tmp_path, script, "jobtasks", "sub") == ["submit"]
    assert completed(tmp_path, script, "jobtasks", "job", "canc") == ["cancel"]
    assert completed(tmp_path, script, "jobtasks", "wait", "--time") == ["--timeout"]
    assert completed(tmp_path, script, "jobtasks", "completion", "f") == ["fish"]
    assert "serve" in completed(tmp_path, script, "jobtasks", "")


def test_a_tab_imports_no_command(tmp_path: Path) -> None:
    """The names come from the table of commands: no HTTP client, no server is loaded for them."""
    ask = (
        "import sys; from jobtasks.cli.main import main\n"
        "try: main()\n"
        "finally: print('httpx' in sys.modules, 'jobtasks.cli.job' in sys.modules)"
    )
    environ = {"COMP_WORDS": "jobtasks j", "COMP_CWORD": "1", "_JOBTASKS_COMPLETE": "bash_complete"}
    ended = subprocess.run(
        [sys.executable, "-c", ask], env={**os.environ, **environ}, capture_output=True, text=True
    )
    assert ended.stdout.splitlines() == ["plain,job", "False False"], ended.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells(jobtasks: JobTasks, shell: str) -> None:
    """They ask our program in that shell's own way; where the shell is there, it can read them."""
    ended = jobtasks("completion", shell)
    assert ended.code == 0
    assert f"_JOBTASKS_COMPLETE={shell}_complete" in ended.out
    if shutil.which(shell):
        checked = subprocess.run(
            [shell, "-n", "/dev/stdin"], input=ended.out, text=True, check=False
        )
        assert checked.returncode == 0


def test_an_unknown_shell_is_a_usage_error(jobtasks: JobTasks) -> None:
    """With the shells that there are."""
    ended = jobtasks("completion", "tcsh")
    assert ended.code == 2
    assert "fish" in ended.err
