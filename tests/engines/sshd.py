"""An sshd of a test's own on loopback: port, keys and directory of its own, as whoever tests."""

from __future__ import annotations

import getpass
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from .cluster import free_ports, program, wait_until

CONFIGURATION = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile {folder}/sshd.pid
AuthorizedKeysFile {folder}/key.pub
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin yes
MaxStartups 100
"""
CLIENT = """\
Host host-*
  HostName 127.0.0.1
  Port {port}
  User {user}
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  StrictHostKeyChecking no
  LogLevel ERROR
"""


def missing() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in ("sshd", "ssh", "ssh-keygen") if program(name) is None]


class Sshd:
    """A daemon that answers for any host whose name begins with ``host-``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("key", "host_key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(words, check=True)
        values = {"port": free_ports(1)[0], "folder": folder, "user": getpass.getuser()}
        (folder / "sshd_config").write_text(CONFIGURATION.format(**values))
        (folder / "ssh_config").write_text(CLIENT.format(**values))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def words(self) -> Sequence[str]:
        """What ``ssh`` is told so that it finds this daemon."""
        return ["-F", str(self.folder / "ssh_config")]

    @property
    def option(self) -> str:
        """The same as one text."""
        return shlex.join(self.words)

    def start(self) -> None:
        """Start it; return when it lets us in."""
        # Where it separates what it need not do as root.
        if not os.getuid():
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        where = program("sshd")
        assert where is not None
        command = [where, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until("sshd lets us in", self._lets_in)

    def _lets_in(self) -> bool:
        words = [shutil.which("ssh") or "ssh", *self.words, "-o", "BatchMode=yes", "host-x", "true"]
        return subprocess.run(words, capture_output=True, check=False).returncode == 0

    def stop(self) -> None:
        """End it; what was started through it goes on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(30)
            self._process = None
