"""`make torture`: every promise is tried for minutes, and what was reached is written down.

    .venv/bin/python -m tests.torture                       # every row, two minutes each
    .venv/bin/python -m tests.torture --minutes 60 --row "simulated worlds"
    .venv/bin/python -m tests.torture --page                # the page alone, as of today

Each row runs in processes of its own. One that fails is recorded as failed and the others go on;
then the exit code is 1. Ctrl-C ends what runs in good order and keeps the rows that were finished.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from types import FrameType
from typing import Any

from tests.promises import (
    PAGE,
    RECORDS,
    ROOT,
    ROWS,
    Row,
    collect,
    page,
    read_records,
    rigs,
    with_facts,
    write_records,
)

HANGS_SECONDS = 900.0
"""So much longer than it was given may a row take before it is ended, and counts as failed."""
END_SECONDS = 120.0
"""How long tests may take to end what they started when they are interrupted."""
KILL_SECONDS = 30.0
"""The same, when that was too long or they hang."""
LINES_SHOWN = 60
"""Of a row that failed, so much of what it said at the end."""
INTERRUPTED = 130
ENDING = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Ctrl-C: noted, and handed on to the tests that run; nothing is cut off in its middle."""

    def __init__(self) -> None:
        self.asked_at: float | None = None
        self.tried: Tried | None = None

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        self.asked_at = self.asked_at or time.monotonic()
        if self.tried is not None:
            self.tried.interrupt()


class Tried:
    """A row's tests as processes that run now; each has a session, so that Ctrl-C is ours."""

    def __init__(self, row: Row, targets: Sequence[str], seconds: float, folder: Path) -> None:
        self.results = folder / "results"
        self.results.touch()
        self.outputs = [folder / f"output-{part}" for part in range(row.processes)]
        self._folder = folder
        self.limit = time.monotonic() + seconds + HANGS_SECONDS
        self._command = [sys.executable, "-m", "pytest", "-q", "-rP", "-o", "timeout=0"]
        for plugin in ("xdist", "cacheprovider", "schemathesis", "anyio"):
            self._command += ["-p", f"no:{plugin}"]
        self._command += ["-c", str(ROOT / "pyproject.toml"), *targets]
        # Tests of one row share its time, as they run one after the other.
        self._environ = {**os.environ, "TORTURE_SECONDS": f"{seconds / len(targets)}"}
        self._environ["TORTURE_RESULTS"] = str(self.results)
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        """Start the processes."""
        for part, output in enumerate(self.outputs):
            # Not among those of other runs, which remove each other's.
            base = ["--basetemp", str(self._folder / f"files-{part}")]
            with output.open("wb") as told:
                process = subprocess.Popen(
                    [*self._command, *base],
                    cwd=ROOT,
                    env={**self._environ, "TORTURE_PART": f"{part}/{len(self.outputs)}"},
                    stdout=told,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self.processes.append(process)

    def interrupt(self) -> None:
        """Ask them to end, as Ctrl-C does."""
        for process in self.processes:
            process.send_signal(signal.SIGINT)

    def wait(self, interrupt: Interrupt) -> bool:
        """Wait for their end; return whether all have passed."""
        interrupt.tried = self
        if interrupt.asked_at:  # before they were known
            self.interrupt()
        while any(process.poll() is None for process in self.processes):
            limit = self.limit
            if interrupt.asked_at:
                limit = min(limit, interrupt.asked_at + END_SECONDS)
            if time.monotonic() > limit:
                self.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                for process in self.processes:
                    process.wait(1.0)
        interrupt.tried = None
        return not any(process.returncode for process in self.processes)

    def kill(self) -> None:
        """Ask them once more, then end them with all that they have started in their sessions."""
        self.interrupt()
        limit = time.monotonic() + KILL_SECONDS
        for process in self.processes:
            try:
                process.wait(max(0.0, limit - time.monotonic()))
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def told(self) -> str:
        """Return the end of what those said that did not pass."""
        pairs = zip(self.processes, self.outputs, strict=True)
        texts = [output.read_text(errors="replace") for one, output in pairs if one.returncode]
        return "\n".join("\n".join(text.splitlines()[-LINES_SHOWN:]) for text in texts)


def try_row(
    row: Row, targets: Sequence[str], seconds: float, interrupt: Interrupt
) -> dict[str, Any]:
    """Run a row's tests; return what is to be recorded of it."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-", ignore_cleanup_errors=True) as folder:
        tried = Tried(row, targets, seconds, Path(folder))
        tried.start()
        passed = tried.wait(interrupt)
        figures = collect(tried.results.read_text().splitlines(), row.name)
        if not passed:
            print(tried.told(), flush=True)
        elif not figures:
            print("nothing was noted: its tests were skipped", flush=True)
    return {
        "date": today().isoformat(),
        "passed": passed and bool(figures),
        "seconds": round(time.monotonic() - began, 1),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "figures": figures,
    }


def today() -> date:
    """Return the day, the same everywhere."""
    return datetime.now(UTC).date()


def torture(
    rows: Sequence[Row], seconds: float, records: Path, page_file: Path, interrupt: Interrupt
) -> int:
    """Try these rows one after the other; keep each result at once; return the exit code."""
    found = rigs()
    failed = []
    for row in rows:
        if row.name not in found:
            print(f"{row.name}: there is no test of it", flush=True)
            continue
        print(f"{row.name}: {row.promise}", flush=True)
        last = try_row(row, found[row.name].targets, seconds, interrupt)
        if interrupt.asked_at:
            print("interrupted; the rows before this one are kept", flush=True)
            return INTERRUPTED
        print(f"  {'passed' if last['passed'] else 'FAILED'}: {last['figures']}", flush=True)
        keep(row, last, records, page_file)
        if not last["passed"]:
            failed.append(row.name)
    if failed:
        print(f"failed: {', '.join(failed)}", flush=True)
    return int(bool(failed))


def keep(row: Row, last: dict[str, Any], records: Path, page_file: Path) -> None:
    """Write a result down, and the page anew."""
    known = with_facts(read_records(records), today())
    known["rows"][row.name]["last"] = last
    write_records(known, records)
    page_file.write_text(page(known))


def main(words: Sequence[str]) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(prog="tests.torture", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=2.0, help="for each row (2)")
    parser.add_argument("--row", action="append", choices=[row.name for row in ROWS])
    parser.add_argument("--page", action="store_true", help="make the page anew, run nothing")
    parser.add_argument("--records", type=Path, default=RECORDS, help="another file of figures")
    given = parser.parse_args(words)
    page_file = PAGE if given.records == RECORDS else given.records.with_suffix(".md")
    if given.page:
        known = with_facts(read_records(given.records), today())
        write_records(known, given.records)
        page_file.write_text(page(known))
        return 0
    rows = [row for row in ROWS if not given.row or row.name in given.row]
    interrupt = Interrupt()
    before = {number: signal.signal(number, interrupt.take) for number in ENDING}
    try:
        return torture(rows, given.minutes * 60, given.records, page_file, interrupt)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
