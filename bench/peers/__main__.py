"""``python -m bench.peers``: set peers up, or say which are."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.peers.seat import ENVIRONMENTS, NAMES, REQUIREMENTS, WITHOUT, PeerFailed, seated

PACKAGES = {
    "celery": ["redis-server"],
    "dramatiq": ["redis-server"],
    "huey": ["redis-server"],
    "procrastinate": ["postgresql"],
    "parallel": ["parallel"],
    "slurm": ["slurm-wlm", "slurm-wlm-basic-plugins", "munge"],
}
"""Of Debian."""
POLICY = Path("/usr/sbin/policy-rc.d")
"""What packages ask whether they may start a service."""


def main() -> None:
    """Set up, or look."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("--setup", action="store_true", help="make environments, install packages")
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(NAMES)}")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(NAMES):
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    names = arguments.names or list(NAMES)
    if arguments.setup:
        install_packages(sorted({name for peer in names for name in PACKAGES.get(peer, [])}))
        for name in names:
            if name not in WITHOUT:
                make_environment(name)
    for name in names:
        print(f"{name}: {state_of(name)}", flush=True)


def make_environment(name: str) -> None:
    """Make a virtual environment with what the peer's requirements pin, unless there is one."""
    folder = ENVIRONMENTS / name
    wanted = REQUIREMENTS / f"{name}.txt"
    installed = folder / wanted.name
    if installed.exists() and installed.read_text() == wanted.read_text():
        return
    print(f"setting up {name}", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    options = ["--disable-pip-version-check", "--requirement", str(wanted)]
    subprocess.run([*pip, *options], check=True)
    shutil.copy(wanted, installed)


def install_packages(names: list[str]) -> None:
    """Install what is missing as root; else say what is."""
    asked = ["dpkg-query", "-W", "-f", "${Status}"]
    missing = [
        name
        for name in names
        if "ok installed"
        not in subprocess.run([*asked, name], capture_output=True, text=True, check=False).stdout
    ]
    if not missing:
        return
    if os.getuid() or not shutil.which("apt-get"):
        print("Debian packages that are missing:", *missing, file=sys.stderr)
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with no_services_started():
        subprocess.run(["apt-get", "update", "-qq"], check=True, env=quiet)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        subprocess.run(install, check=True, env=quiet, stdout=subprocess.DEVNULL)


@contextmanager
def no_services_started() -> Iterator[None]:
    """Let packages start no services meanwhile: adapters start servers of their own."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink()


def state_of(name: str) -> str:
    """Start a peer, run a task, and return its version; or why it does not run."""
    try:
        with seated(name, 2) as peer:
            took = peer.seconds("run_commands", 1, ["/bin/true"])
            version = str(peer.call("version"))
    except PeerFailed as error:
        return f"left out: {error}"
    return f"{version} runs ({took * 1000:.0f} ms for one task)"


if __name__ == "__main__":
    main()
