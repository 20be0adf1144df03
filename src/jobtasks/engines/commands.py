"""Running an engine's commands: each with a time limit, none through a shell of ours."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from jobtasks.engines.base import Unclear


class Answer(NamedTuple):
    """What a command said."""

    code: int
    out: str
    err: str


def run(
    words: Sequence[str], seconds: float, *, env: Mapping[str, str] | None = None, stdin: str = ""
) -> Answer:
    """Run a command to its end.

    Raises:
        Unclear: it did not end in time, and was killed with all it had started; or there is no such
            program.
    """
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=None if env is None else dict(env),
            start_new_session=True,
        )
    except OSError as error:
        raise Unclear(f"{words[0]}: {error.strerror}") from None
    with process:
        try:
            out, err = process.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise Unclear(f"{words[0]} did not answer within {seconds:g} s") from None
    return Answer(process.returncode, out, err)
