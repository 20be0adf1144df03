"""What the node keeps of jobs: their briefs, and the directory their tasks share (JOB_WORK)."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from jobtasks.agent.attempt import Job
from jobtasks.agent.cleaner import Cleaner
from jobtasks.agent.environment import JobEnvironment
from jobtasks.protocol.messages import JobBrief

logger = logging.getLogger(__name__)

_UUID = re.compile(r"[0-9a-z][0-9a-z-]{0,99}")


class Jobs:
    """The jobs that this node has heard of, by uuid.

    A brief is sent once; it is kept beside JOB_WORK, so that a new agent on the node still has it
    and the directory is not forgotten. Below `directory`: ``UUID/`` and ``UUID.brief``.
    """

    def __init__(self, directory: str, base: Mapping[str, str], cleaner: Cleaner) -> None:
        self._directory = directory
        self._base = base
        self._cleaner = cleaner
        self.known: dict[str, Job] = {}
        for path in sorted(Path(directory).glob("*.brief")):
            self._read(path)
        for path in Path(directory).iterdir():
            if path.suffix != ".brief" and path.name not in self.known:
                cleaner.take(str(path))

    def _read(self, path: Path) -> None:
        try:
            self._add(msgspec.msgpack.decode(path.read_bytes(), type=JobBrief))
        except (OSError, msgspec.DecodeError) as error:
            logger.warning("forgetting %s: %s", path, error)
            path.unlink(missing_ok=True)

    def _add(self, brief: JobBrief) -> None:
        work = f"{self._directory}/{brief.uuid}"
        self.known[brief.uuid] = Job(brief, JobEnvironment(self._base, brief, work))

    def take(self, brief: JobBrief) -> None:
        """Learn of a job and make its JOB_WORK; errors: OSError when the disk refuses."""
        if brief.uuid in self.known or not _UUID.fullmatch(brief.uuid):
            return
        path = f"{self._directory}/{brief.uuid}"
        # Written under its last name only when whole: a new agent trusts what it finds.
        Path(path + ".new").write_bytes(msgspec.msgpack.encode(brief))
        Path(path + ".new").rename(path + ".brief")
        Path(path).mkdir(mode=0o700, exist_ok=True)
        self._add(brief)

    def over(self, uuid: str) -> None:
        """A job is final: forget it and remove JOB_WORK, unless one of its attempts runs here.

        Then the server says so again: it is named in the syncs until it is forgotten. What a
        read-only disk does not let go is removed after the agent's next start.
        """
        job = self.known.get(uuid)
        if job is None or job.live:
            return
        del self.known[uuid]
        try:
            self._cleaner.take(f"{self._directory}/{uuid}")
            Path(f"{self._directory}/{uuid}.brief").unlink()
        except OSError as error:
            logger.warning("cannot remove what job %s has left: %s", uuid, error)
