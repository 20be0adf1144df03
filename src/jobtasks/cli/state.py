"""The state directory of a server, as the command line uses it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Address:
    """Where a server is and what to show it."""

    url: str
    """``http://HOST:PORT`` or https, without a path."""
    token: str
    ca_file: Path | None = None
    """PEM of an authority to trust beside the system's, for https."""


def default_state_path() -> Path:
    """``$XDG_DATA_HOME/jobtasks``, by default ``~/.local/share/jobtasks``."""
    base = os.environ.get("XDG_DATA_HOME", "")
    home = Path(base) if base.startswith("/") else Path.home() / ".local" / "share"
    return home / "jobtasks"


@dataclass(frozen=True)
class StateDirectory:
    """Names and contents of the files that server and command line share."""

    path: Path
    is_chosen: bool
    """Whether the user named it; then it goes before ``JOBTASKS_URL``."""

    @property
    def has_database(self) -> bool:
        """Whether a server has ever used it."""
        return (self.path / "jobtasks.db").exists()

    @property
    def server_log(self) -> Path:
        """What a server that a command started wrote to its stderr."""
        return self.path / "server.log"

    @property
    def ca_file(self) -> Path | None:
        """The authority that a server made here; None when it made none, or is not ours to read."""
        path = self.path / "tls" / "ca.pem"
        return path if os.access(path, os.R_OK) else None

    @property
    def option(self) -> str:
        """The option that names this directory in a command to copy; empty for the default."""
        return f" --state {self.path}" if self.is_chosen else ""

    def make(self) -> None:
        """Make the directory, for this user only."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def address(self) -> Address | None:
        """The address that a server left here; it may be gone. None when there is none."""
        url, token = self._line("url"), self._line("admin.token")
        return Address(url, token) if url and token else None

    @property
    def last_run(self) -> str:
        """The job that an interrupted ``run`` left; empty when there is none."""
        return self.last_of("run")

    def last_of(self, command: str) -> str:
        """The job that an interrupted `command` left; empty when there is none."""
        return self._line(f"last-{command}")

    def remember_run(self, job_uuid: str, command: str = "run") -> None:
        """``--resume`` of `command` shall find this job."""
        self.make()
        (self.path / f"last-{command}").write_text(f"{job_uuid}\n")

    def forget_run(self, command: str = "run") -> None:
        """The run has ended; nothing is left to resume."""
        (self.path / f"last-{command}").unlink(missing_ok=True)

    def _line(self, name: str) -> str:
        try:
            return (self.path / name).read_text().strip()
        except FileNotFoundError:
            return ""
