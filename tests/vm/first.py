"""The first process of the virtual machine: mounts, runs the tests, ends the machine."""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import traceback
from pathlib import Path

MOUNTS = (
    ("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/dev/shm"),
    ("cgroup2", "/sys/fs/cgroup"),
)  # fmt: skip
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
LIMIT = ("-o", "timeout=900")
"""An emulated machine is slow."""
POWER_OFF = 0x4321FEDC


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for kind, where in MOUNTS:
        Path(where).mkdir(parents=True, exist_ok=True)
        assert libc.mount(kind.encode(), where.encode(), kind.encode(), 0, None) == 0, where
    # Not mounted: the project may be below it.
    Path("/tmp").mkdir(mode=0o777, exist_ok=True)
    bring_up(b"lo")
    root, *arguments = Path("/etc/arguments").read_text().split("\n")
    os.environ.update(PATH="/bin:/usr/bin", HOME="/tmp", LANG="C.UTF-8", CI="1")
    os.environ.update(PYTHONPATH=f"{root}/src", TEST_SLOWNESS="10")
    os.chdir(root)
    print(f"Linux {os.uname().release}, {Path('/sys/fs/cgroup/cgroup.controllers').read_text()}")
    sys.stdout.flush()
    tests = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-v", "-s", "-p", "no:cacheprovider", *LIMIT, *arguments]
    )
    while True:
        # Orphans end here, too.
        pid, status = os.waitpid(-1, 0)
        if pid == tests.pid:
            break
    print(f"\nthe tests ended with {os.waitstatus_to_exitcode(status)}", flush=True)
    os.sync()
    libc.reboot(POWER_OFF)


def bring_up(name: bytes) -> None:
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", name, 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", name, flags | IFF_UP))


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        # Before the machine is off.
        traceback.print_exc()
    finally:
        ctypes.CDLL(None).reboot(POWER_OFF)
