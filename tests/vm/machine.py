"""Runs tests in a virtual machine whose kernel has what this one may lack: `make vm`.

A kernel of Debian with control groups of version 2 and the memory controller, this machine's
Python, the project and some tools make a machine that lives in memory; its first process
(`first.py`) runs pytest and ends it. Arguments are pytest's; by default the tests of `INSIDE`.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INSIDE = (
    "tests/vm/inside_memory.py",
    "tests/agent/test_agent_groups.py",
    "tests/agent/test_agent_memory.py",
)
RESULT = re.compile(rb"the tests ended with (\d+)")
MINUTES_MAX = 40
MEMORY_MIB = 2048
PACKAGES = (
    "pytest", "_pytest", "py.py", "pluggy", "iniconfig", "packaging", "pygments",
    "pytest_timeout.py", "pytest_timeout*.dist-info", "hypothesis", "_hypothesis*",
    "hypothesis*.dist-info",
    "sortedcontainers", "msgspec", "pytest-*.dist-info", "pluggy-*.dist-info",
)  # fmt: skip
"""What the tests import, of the virtual environment."""
TOOLS = (
    "sh", "env", "setsid", "sleep", "cat", "true", "false", "touch", "wc", "seq", "grep", "cut",
    "mkdir", "ls", "ps", "head", "dd",
)  # fmt: skip
NOT_NEEDED = {"test", "idlelib", "tkinter", "ensurepip", "lib2to3", "site-packages"}


class Archive:
    """An initramfs (cpio, "newc"): files and links at the paths that they have here."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._there: set[str] = set()

    def add(
        self, name: str, mode: int, data: bytes = b"", changed: float = 0, major: int = 0
    ) -> None:
        """Add an entry and the directories above it; one that is there is left as it is."""
        if name in self._there or name in ("", "/"):
            return
        self.add(os.path.dirname(name), stat.S_IFDIR | 0o755)
        self._there.add(name)
        self._write(name.lstrip("/").encode(), mode, data, int(changed), major)

    def _write(self, name: bytes, mode: int, data: bytes, changed: int = 0, major: int = 0) -> None:
        number, minor = len(self._there) + 1, 1
        sizes = (len(data), 0, 0, major, minor, len(name) + 1, 0)
        fields = (number, mode, 0, 0, 1, changed, *sizes)
        head = b"070701" + b"".join(b"%08X" % value for value in fields) + name + b"\0"
        self._file.write(head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4))

    def copy(self, path: Path) -> None:
        """Add a file, link or directory, with all that is in it, and what links lead to."""
        status = path.lstat()
        if stat.S_ISLNK(status.st_mode):
            self.add(str(path), status.st_mode, os.fsencode(os.readlink(path)))
            target = path.parent / os.readlink(path)
            if str(target) not in self._there and target.exists():
                self.copy(target)
        elif stat.S_ISDIR(status.st_mode):
            self.add(str(path), status.st_mode)
            for entry in sorted(path.iterdir()):
                if entry.name not in NOT_NEEDED:
                    self.copy(entry)
        elif stat.S_ISREG(status.st_mode):
            # By the time Python tells whether what it has compiled is still true.
            self.add(str(path), status.st_mode, path.read_bytes(), status.st_mtime)

    def modules(self) -> list[str]:
        """Return the names of modules in machine code."""
        return [name for name in self._there if name.endswith(".so")]

    def close(self) -> None:
        """Write the end."""
        self._write(b"TRAILER!!!", 0, b"")
        self._file.close()


def libraries(program: Path) -> Iterator[Path]:
    """Yield what a program is linked to."""
    found = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
    yield from map(Path, re.findall(r"(/\S+) \(0x", found.stdout))


def add_program(archive: Archive, program: Path) -> None:
    for path in (program, *libraries(program.resolve())):
        # What leads to it may itself be a link: /lib is /usr/lib.
        archive.add(str(path), stat.S_IFREG | 0o755, path.read_bytes())


def build(path: Path, arguments: list[str]) -> None:
    """Write the initramfs."""
    archive = Archive(path)
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None, f"{name} is not installed"
        add_program(archive, Path(found).resolve())
        archive.add(f"/bin/{name}", stat.S_IFREG | 0o755, Path(found).resolve().read_bytes())
    python = Path(sys.executable)
    library = Path(os.__file__).parent
    add_program(archive, python.resolve())
    archive.copy(python)
    archive.copy(library)
    archive.copy(Path(sys.prefix) / "pyvenv.cfg")
    site = next(Path(each) for each in sys.path if each.endswith("site-packages"))
    for pattern in PACKAGES:
        for each in site.glob(pattern):
            archive.copy(each)
    for name in archive.modules():
        for needed in libraries(Path(name)):
            archive.add(str(needed), stat.S_IFREG | 0o755, needed.read_bytes())
    for part in ("src", "tests", "pyproject.toml"):
        archive.copy(ROOT / part)
    archive.add("/dev/console", stat.S_IFCHR | 0o600, major=5)
    first = f"#!{python}\n".encode() + (ROOT / "tests/vm/first.py").read_bytes()
    archive.add("/init", stat.S_IFREG | 0o755, first)
    archive.add("/etc/arguments", stat.S_IFREG | 0o644, "\n".join([str(ROOT), *arguments]).encode())
    archive.add("/etc/passwd", stat.S_IFREG | 0o644, b"root:x:0:0::/root:/bin/sh\n")
    archive.close()


def kernel() -> Path:
    """Return the newest that is installed."""
    found = sorted(
        Path("/boot").glob("vmlinuz-*-cloud-amd64"), key=lambda path: path.stat().st_mtime
    )
    assert found, "no kernel: apt-get install $(cat tests/vm/debian-packages.txt)"
    return found[-1]


def command(initramfs: Path, accelerator: str) -> list[str]:
    """Return the command line of the machine."""
    return [
        *("qemu-system-x86_64", "-machine", f"accel={accelerator}", "-cpu", "max"),
        *("-smp", "2", "-m", str(MEMORY_MIB), "-nographic", "-no-reboot", "-nic", "none"),
        *("-kernel", str(kernel()), "-initrd", str(initramfs)),
        *("-append", "console=ttyS0 panic=-1 quiet cgroup_no_v1=all"),
    ]


def run(line: list[str]) -> int:
    """Run the machine, show what it says; return the exit code of its tests."""
    result = 125
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as machine:
        assert machine.stdout is not None
        limit = threading.Timer(60 * MINUTES_MAX, machine.kill)
        limit.start()
        for said in machine.stdout:
            sys.stdout.buffer.write(said.replace(b"\r", b""))
            sys.stdout.flush()
            if found := RESULT.search(said):
                result = int(found[1])
        limit.cancel()
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accelerator", default="tcg", help="kvm is quicker, where it works")
    options, arguments = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        initramfs = Path(folder) / "initramfs"
        build(initramfs, arguments or list(INSIDE))
        return run(command(initramfs, options.accelerator))


if __name__ == "__main__":
    sys.exit(main())
