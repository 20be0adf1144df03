"""Directories of scripts on this node, fetched from the server by their hashes (ADR 0025).

Below the node's directory: ``scripts/HASH/``, read-only, whole since it has that name. A node that
sees the server's directories (`in_place`) starts scripts where they are.
"""

# Names and modes as the system calls take them:
# ruff: noqa: PTH101, PTH104, PTH108

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any

import msgspec

from jobtasks.agent.channel import OK, Connection, Server
from jobtasks.agent.cleaner import Cleaner
from jobtasks.agent.launcher import StartError, script_path
from jobtasks.agent.loop import Loop
from jobtasks.agent.room import Room
from jobtasks.agent.unpacking import BadPackError, unpack
from jobtasks.protocol.messages import Assignment, JobBrief
from jobtasks.protocol.packs import ADDRESS, is_hash

logger = logging.getLogger(__name__)

SILENCE_SECONDS = 60.0
"""A fetch in which nothing came for so long is begun anew."""

RETRY_SECONDS = 1.0
"""Before a server is asked again that was away or had trouble."""

TROUBLE_SECONDS = 1.0
"""How long the reason why a pack cannot be had is told to all that wait for it."""

TURN_SECONDS = 0.002
"""How long one turn of the loop unpacks before it looks for anything else."""

PACKS_MAX = 16
"""Packs on a node; beyond these the one that was used longest ago goes, if nothing runs in it."""

PASSING = frozenset({401, 403, 408, 429})
"""Refusals that may be over soon: a token that was changed, a server that is busy."""

BOOT = Path("/proc/sys/kernel/random/boot_id")


class Scripts:
    """What there is of packs, and at most one that is on its way."""

    def __init__(
        self,
        directory: str,
        loop: Loop,
        server: Server,
        room: Room,
        cleaner: Cleaner,
        in_place: bool = False,
    ) -> None:
        self._directory = directory
        self._loop = loop
        self._server = server
        self._room = room
        self._cleaner = cleaner
        self._in_place = in_place
        self._connection = Connection(loop, server)
        self._troubles: dict[str, tuple[str, float]] = {}
        """Why a pack cannot be had, and until when that is said."""
        self._wanted: dict[str, None] = {}
        """In order of arrival; the first is on its way."""
        self._is_fetching = False
        self._file: IO[bytes] | None = None
        self._digest = hashlib.sha256()
        self._away = ""
        self.in_use: Callable[[], Collection[str]] = tuple
        """What returns the packs that something runs in, or waits for."""
        self.changes = 0
        """Grows with all that those who wait should hear of."""
        self._here: dict[str, None] = dict.fromkeys(self._find())
        """The packs on this node; what was used last is last."""

    def _find(self) -> list[str]:
        """Return the packs of earlier agents, the oldest first; remove what is none.

        After a new start of the machine all go: files may have their names and not their content.
        """
        boot = BOOT.read_text().strip()
        mark = Path(self._directory, "boot")
        is_same = mark.exists() and mark.read_text().strip() == boot
        found: list[tuple[float, str]] = []
        for entry in list(os.scandir(self._directory)):
            if is_same and is_hash(entry.name):
                found.append((entry.stat(follow_symlinks=False).st_mtime, entry.name))
            elif entry.name != mark.name:
                self._discard(entry.path)
        if not is_same:
            mark.write_text(boot + "\n")
        return [name for _, name in sorted(found)]

    def _discard(self, path: str) -> None:
        try:
            if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
                # Moving a directory writes to it.
                os.chmod(path, 0o700)
            self._cleaner.take(path)
        except OSError as error:
            logger.warning("cannot remove %s: %s", path, error)

    def directory_of(self, assignment: Assignment, brief: JobBrief) -> str | None:
        """Return the directory in which a job's script is to be started here; None: not yet.

        Errors: `StartError` when it cannot be had.
        """
        pack = assignment.script_hash
        if not pack or self._is_in_place(brief):
            return brief.script_version or ""
        if pack in self._here:
            self._here[pack] = self._here.pop(pack)
            return f"{self._directory}/{pack}"
        reason, until = self._troubles.get(pack, ("", 0.0))
        if reason and self._loop.now() < until:
            raise StartError(reason)
        if not is_hash(pack):
            raise StartError(f"not the hash of a directory: {pack!r}")
        self._wanted.setdefault(pack)
        self._go_on()
        return None

    def _is_in_place(self, brief: JobBrief) -> bool:
        path = script_path(brief.script or "", brief.script_version)
        return self._in_place and os.path.lexists(path)

    # Fetching

    def _go_on(self) -> None:
        """Begin to fetch what is wanted, unless something is on its way."""
        if self._is_fetching or not self._wanted:
            return
        self._is_fetching = True
        try:
            self._file = open(self._new_file(), "w+b")  # noqa: PTH123, SIM115
        except OSError as error:
            self._lack(error)
            return
        self._digest = hashlib.sha256()
        address = ADDRESS + next(iter(self._wanted))
        self._connection.get(address, SILENCE_SECONDS, self._take, self._answered, self._failed)

    def _new_file(self) -> str:
        return f"{self._directory}/new.tar"

    def _new_directory(self) -> str:
        return f"{self._directory}/new"

    def _take(self, piece: memoryview) -> None:
        assert self._file is not None
        try:
            self._file.write(piece)
        except OSError as error:
            self._connection.close()
            self._lack(error)
            return
        self._digest.update(piece)

    def _answered(self, status: int, body: bytes) -> None:
        if status != OK:
            said = f"the server says {status}: {_said(body)}"
            if status < 500 and status not in PASSING:
                self._give_up(f"the directory of the script cannot be fetched: {said}")
            else:
                self._failed(said)
            return
        self._away = ""
        pack = next(iter(self._wanted))
        if self._digest.hexdigest() != pack:
            self._give_up(
                "the directory of the script that the server sent is not the job's:"
                f" its SHA-256 is {self._digest.hexdigest()}, not {pack}"
            )
            return
        assert self._file is not None
        self._file.seek(0)
        self._discard(self._new_directory())
        self._unpack(unpack(self._file, self._new_directory()))

    def _failed(self, reason: str) -> None:
        """The server is away, or has trouble: ask again, as long as anybody may want it."""
        if self._away != reason:
            self._away = reason
            logger.warning("cannot fetch the directory of a script: %s", reason)
        self._server.look_again()
        self._end_fetch()
        wanted = self.in_use()
        self._wanted = {pack: None for pack in self._wanted if pack in wanted}
        self._loop.after(RETRY_SECONDS, self._go_on)

    def _end_fetch(self) -> None:
        self._is_fetching = False
        if self._file is not None:
            self._file.close()
            self._file = None

    def _unpack(self, steps: Iterator[None]) -> None:
        """Unpack for a turn of the loop; then go on in the next."""
        until = self._loop.now() + TURN_SECONDS
        try:
            for _ in steps:
                if self._loop.now() > until:
                    self._loop.after(0.0, lambda: self._unpack(steps))
                    return
            pack = next(iter(self._wanted))
            os.rename(self._new_directory(), f"{self._directory}/{pack}")
            os.unlink(self._new_file())
        except BadPackError as bad:
            self._discard(self._new_directory())
            self._give_up(f"the directory of the script cannot be unpacked: {bad}")
        except OSError as error:
            self._discard(self._new_directory())
            self._lack(error)
        else:
            logger.info("fetched the directory of a script: %s", pack)
            self._here[pack] = None
            self._over()
            self._prune()

    def _over(self) -> None:
        """What was on its way is so no longer."""
        self._end_fetch()
        del self._wanted[next(iter(self._wanted))]
        self.changes += 1
        self._go_on()

    def _give_up(self, reason: str) -> None:
        logger.warning("%s", reason)
        pack = next(iter(self._wanted))
        self._troubles = {pack: (reason, self._loop.now() + TROUBLE_SECONDS)}
        self._over()

    def _lack(self, error: OSError) -> None:
        """This node's disk refuses: it takes no work until that has room."""
        self._room.lack(f"no directory can be made for a script: {error.strerror}")
        self._failed(f"this node's disk: {error.strerror}")

    def _prune(self) -> None:
        in_use = self.in_use() if len(self._here) > PACKS_MAX else ()
        for pack in list(self._here):
            if len(self._here) <= PACKS_MAX:
                return
            if pack not in in_use:
                del self._here[pack]
                self._discard(f"{self._directory}/{pack}")


def _said(body: bytes) -> str:
    """Return what a refusal says."""
    try:
        answer: Any = msgspec.json.decode(body)
        return "; ".join(map(str, answer["errors"]))
    except (msgspec.DecodeError, KeyError, TypeError, UnicodeError):
        return body[:300].decode(errors="replace")
