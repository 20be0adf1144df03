"""The main job, checked: hash a tree of Python sources and compare with ``md5sum``.

python examples/parallel_hash/demo.py DIRECTORY [--state DIR]
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
BIN = Path(sys.executable).parent
SKIPPED = ("site-packages", "__pycache__")

NEXT = """
What to try next:
  {jobtasks} run examples/flaky/flaky.py
      failures, and what becomes of them
  {jobtasks} run examples/shell/squares.sh -c output=all
      tasks in sh and curl
  {jobtasks} job list
      jobs that you have run; then `job tasks JOB`, `task log TASK`
  docs/tutorial/first-job.md
      a job of your own, in ten minutes"""


def main() -> int:
    arguments = parse_arguments()
    top = arguments.directory.absolute()
    state = arguments.state or Path(tempfile.mkdtemp(prefix="jobtasks-demo-"))
    print(f"hashing the Python sources below {top}, one task per file", flush=True)
    started_at = time.monotonic()
    exit_code, output = run_job(top, state)
    seconds = time.monotonic() - started_at
    if exit_code:
        print(f"the job did not succeed (exit code {exit_code}); its state is in {state}")
        return exit_code
    files = sources(top)
    if output != expected(files):
        print("WRONG: the output differs from that of md5sum", file=sys.stderr)
        return 1
    show(output, len(files), seconds)
    if arguments.state is None:
        shutil.rmtree(state)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Hash Python sources as a job; check the result.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--state", type=Path, help="default: a temporary directory")
    return parser.parse_args()


def run_job(top: Path, state: Path) -> tuple[int, bytes]:
    """Exit code and output of ``jobtasks run``, which shows its progress itself."""
    command = [str(BIN / "jobtasks"), "run", str(HERE / "parallel_hash.py"), "--input", str(top)]
    command += ["-p", "match=*.py", "-p", 'skip=["site-packages", "__pycache__"]']
    command += ["--state", str(state)]
    # The script's `env python3` shall be the Python that runs this, not one that is slow to start.
    path = f"{BIN}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PATH": path})
    # Ctrl-C reaches `jobtasks run` too, which says how to go on; it shall have the time for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    output, _ = process.communicate()
    return process.returncode, output


def sources(top: Path) -> list[bytes]:
    """What the job should have found, looked for in another way."""
    found = (
        path
        for path in top.rglob("*.py")
        if path.is_file()
        and not path.is_symlink()
        and not set(SKIPPED) & set(path.relative_to(top).parts)
    )
    return sorted(os.fsencode(path) for path in found)


def expected(files: list[bytes]) -> bytes:
    """What md5sum prints, or what it would print where there is none."""
    if shutil.which("md5sum") is None:
        lines = (hashlib.md5(Path(os.fsdecode(p)).read_bytes()).hexdigest().encode() for p in files)
        return b"".join(b"%b  %b\n" % pair for pair in zip(lines, files, strict=True))
    return subprocess.run(
        ["xargs", "-0", "md5sum"], input=b"\0".join(files), stdout=subprocess.PIPE, check=True
    ).stdout


def show(output: bytes, count: int, seconds: float) -> None:
    for line in output.splitlines()[:3]:
        print(os.fsdecode(line))
    print("…")
    print(f"checked: {count} files, identical to md5sum")
    print(f"{count + 2} tasks in {seconds:.0f} seconds")
    print(NEXT.format(jobtasks=os.path.relpath(BIN / "jobtasks")))


if __name__ == "__main__":
    sys.exit(main())
