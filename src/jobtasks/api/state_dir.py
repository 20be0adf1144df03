"""The server's state directory: its lock, keys, tokens and address, all private (0700, 0600)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Callable
from pathlib import Path

from jobtasks.core.errors import Unavailable
from jobtasks.core.identifiers import make_token
from jobtasks.store.file_systems import network_kind

KEY_BYTES = 32
ELSEWHERE = "postgresql"
"""A file of this name says that the records are not in this directory."""


class StartRefused(Unavailable):
    """The server cannot start here."""


class SharedDir:
    """What servers of one database share: the secret key, tokens, attempts' logs, packs of scripts.

    Of a server that has a database of its own it is the state directory.

    Raises:
        StartRefused: it cannot be made, read or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StartRefused(f"cannot use {self.path}: {error.strerror}") from None

    @property
    def logs(self) -> Path:
        """Where attempts' logs are kept."""
        return self._directory("logs")

    @property
    def packs(self) -> Path:
        """Where scripts' directories are kept that are sent to nodes."""
        return self._directory("scripts")

    def secret_key(self) -> bytes:
        """Return the secret that attempts' tokens are derived from; made once."""
        text = self._kept("secret.key", lambda: secrets.token_hex(KEY_BYTES))
        try:
            return bytes.fromhex(text)
        except ValueError:
            raise StartRefused(f"{self.path / 'secret.key'} is damaged") from None

    def token(self, role: str) -> str:
        """Return the token of the admin or of agents; made once."""
        return self._kept(f"{role}.token", lambda: make_token(secrets.randbelow))

    def notify_secret(self) -> bytes:
        """Return what notifications are signed with; made once."""
        return self._kept("notify.secret", lambda: secrets.token_hex(KEY_BYTES)).encode()

    def _directory(self, name: str) -> Path:
        path = self.path / name
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StartRefused(f"cannot use {path}: {error.strerror}") from None
        return path

    def _kept(self, name: str, make: Callable[[], str]) -> str:
        path = self.path / name
        try:
            if not path.exists():
                keep_first(path, make() + "\n")
            text = path.read_text(encoding="ascii").strip()
        except (OSError, UnicodeError) as error:
            raise StartRefused(f"cannot use {path}: {error}") from None
        if not text:
            raise StartRefused(f"{path} is empty")
        return text


class StateDir(SharedDir):
    """A state directory that this process alone holds.

    Raises:
        StartRefused: another server holds it, or it cannot be made, read or written, or it lies on
            a network file system and `anywhere` is false.
    """

    def __init__(self, path: Path, *, anywhere: bool = False) -> None:
        if not anywhere:
            refuse_network(path.absolute())
        super().__init__(path)
        try:
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StartRefused(f"cannot use {self.path}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StartRefused(f"another server serves {self.path}") from None

    @property
    def database(self) -> Path:
        """The store's file.

        Raises:
            StartRefused: it is empty, but the directory has served before.
        """
        if (self.path / ELSEWHERE).exists():
            raise StartRefused(
                f"the records of {self.path} are in PostgreSQL: name it with --database"
            )
        path = self.path / "jobtasks.db"
        # The key is made after the first commit: an empty file was cut off, and is not begun anew.
        is_known = (self.path / "secret.key").exists()
        if is_known and path.exists() and not path.stat().st_size:
            raise StartRefused(f"cannot use {path}: it is empty, all that it held is lost")
        return path

    @property
    def node(self) -> Path:
        """The directory of the embedded node."""
        return self._directory("node")

    @property
    def tls(self) -> Path:
        """Where the server keeps an authority and certificates of its own."""
        return self._directory("tls")

    @property
    def agent_token_file(self) -> Path:
        """Where an agent finds its token."""
        return self.path / "agent.token"

    def use_elsewhere(self) -> None:
        """Note that the records are in PostgreSQL.

        Raises:
            StartRefused: some are here.
        """
        if (self.path / "jobtasks.db").exists():
            raise StartRefused(
                f"{self.path} has records of its own, in jobtasks.db: name another directory with"
                " --state"
            )
        try:
            write_private(self.path / ELSEWHERE, "")
        except OSError as error:
            raise StartRefused(f"cannot use {self.path}: {error.strerror}") from None

    def name(self) -> str:
        """Return what tells this directory from all others; made once."""
        return self._kept("server.id", lambda: secrets.token_hex(8))

    def take_tokens(self, shared: SharedDir) -> None:
        """Have the tokens of a shared directory here, too, where commands look for them."""
        for role in ("admin", "agent"):
            write_private(self.path / f"{role}.token", shared.token(role) + "\n")

    def write_url(self, url: str, secure_url: str | None = None) -> None:
        """Say where the server serves: to clients, and to the embedded node."""
        self.forget_url()
        if secure_url:
            write_private(self.path / "url.https", secure_url + "\n")
        write_private(self.path / "url", url + "\n")
        write_private(self.node / "server.url", url + "\n")

    def forget_url(self) -> None:
        """Say that nobody serves here now; the node keeps the address it knows."""
        for name in ("url", "url.https"):
            with contextlib.suppress(OSError):
                (self.path / name).unlink()

    def close(self) -> None:
        """Let another server have the directory."""
        os.close(self._lock)


def refuse_network(path: Path) -> None:
    """Raise `StartRefused` when a path lies on a network file system."""
    kind = network_kind(path)
    if kind:
        raise StartRefused(
            f"{path} lies on a network file system ({kind}), where a database can be damaged"
            " without a word: name a directory on a disk of this machine with --state, or use"
            " --allow-network-file-system"
        )


def write_private(path: Path, text: str) -> None:
    """Write a file that its owner alone reads; readers find the old text or the new, never half."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(new, "w", encoding="utf-8", opener=_open_private) as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
    except OSError:
        # A full disk: nothing is left of the attempt.
        new.unlink(missing_ok=True)
        raise


def keep_first(path: Path, text: str) -> None:
    """Write a private file unless there is one: of several who do so at once one has its way."""
    new = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        write_private(new, text)
        with contextlib.suppress(FileExistsError):
            os.link(new, path)
    finally:
        new.unlink(missing_ok=True)


def _open_private(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_CLOEXEC, 0o600)
