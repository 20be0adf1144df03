"""The Slurm engine: one allocation for each request, by Slurm's own commands (slurm_text.py)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from jobtasks.core.growth import Offer
from jobtasks.core.requests import KIB_PER_MIB, USABLE_SHARE, Ask, Limits, Sighting
from jobtasks.engines import slurm_text as text
from jobtasks.engines.base import Refused, Setting, Unclear, read_options
from jobtasks.engines.commands import Answer, Commands
from jobtasks.engines.local import keeper_words


class SlurmEngine:
    """Asks Slurm for allocations, in each of which an agent runs on every node."""

    name = "slurm"
    hosts: Sequence[str] = ()

    def __init__(self, setting: Setting, environ: Mapping[str, str] | None = None) -> None:
        self._setting = setting
        self._commands = Commands(setting.command_seconds)
        self._options = read_options(self.name, text.SlurmOptions, setting.options)
        kept = os.environ if environ is None else environ
        self._env = text.environment_for(kept, setting.pass_env)
        self._limits: Limits | None = None
        self._places: dict[str, tuple[str, ...]] = {}
        """What the allocations that were seen last have."""

    def offer(self) -> Offer:
        """Return what a node is for a job that asks for nothing."""
        options = self._options
        memory_kib = int(options.memory_mb * KIB_PER_MIB * USABLE_SHARE)
        return Offer(options.cores, memory_kib, options.nodes_max, self._limits)

    def limits(self) -> Limits:
        """Return what the partition has at most."""
        partition = self._options.partition
        found = text.parse_limits(self._said(text.limits_words(partition)), partition)
        if not found.kinds:
            raise Unclear("sinfo names no node")
        self._limits = found
        return found

    def ask(self, name: str, ask: Ask) -> str:
        """Submit an allocation."""
        words = text.sbatch_words(name, ask, self._options)
        answer = self._run(words, self._script(name, ask))
        if answer.code:
            self._raise(answer)
        submitted = text.parse_submitted(answer.out)
        if submitted is None:
            raise Unclear(f"sbatch printed no id: {answer.out!r}")
        return submitted

    def _script(self, name: str, ask: Ask) -> str:
        setting = self._setting
        slots = setting.slots or ask.cores
        words = keeper_words(
            setting.url, slots, setting.pass_env, setting.cgroups, in_place=setting.in_place
        )
        words[0] = self._options.python or sys.executable
        words += ["--request", name, "--cores", str(ask.cores)]
        if ask.memory_kib:
            words += ["--memory-kib", str(ask.memory_kib)]
        token = setting.token_file.read_text(encoding="ascii").strip()
        node_dir = self._options.node_dir
        return text.batch_script(name, ask, words, token, setting.authorities, node_dir)

    def look(self, names: Sequence[str]) -> list[Sighting]:
        """Return all allocations of ours, those that ended a few minutes ago too."""
        said = self._said(text.queue_words(), text.QUEUE_VARIABLES)
        sightings = text.parse_queue(said)
        if sightings is None:
            raise Unclear("squeue gave no whole answer")
        self._places = {one.engine_id: one.places for one in sightings}
        return sightings

    def is_gone(self, engine_id: str) -> bool:
        """Return whether the controller does not know an allocation any more."""
        answer = self._run(["scontrol", "show", "job", engine_id])
        if answer.code == 0:
            return False
        if text.UNKNOWN_JOB in answer.err:
            return True
        raise Unclear(text.refusal_of(answer.err))

    def give_back(self, engine_id: str, places: Sequence[str]) -> None:
        """Make an allocation smaller; its first node carries the script and cannot go."""
        had = self._places.get(engine_id, ())
        left = [place for place in had if place not in places]
        if not left or left == list(had) or had[0] != left[0]:
            return
        words = ["scontrol", "update", f"JobId={engine_id}", f"NodeList={','.join(left)}"]
        answer = self._run(words)
        if answer.code:
            self._raise(answer)
        self._places[engine_id] = tuple(left)

    def cancel(self, engine_id: str) -> None:
        """End an allocation."""
        answer = self._run(["scancel", engine_id])
        if answer.code and text.UNKNOWN_JOB not in answer.err:
            self._raise(answer)

    def close(self) -> None:
        """Leave the allocations to the next server, and wait for no command."""
        self._commands.close()

    def _said(self, words: Sequence[str], variables: Mapping[str, str] | None = None) -> str:
        """Return what a command that only looks has printed."""
        answer = self._run(words, variables=variables)
        if answer.code:
            raise Unclear(text.refusal_of(answer.err))
        return answer.out

    def _run(
        self, words: Sequence[str], stdin: str = "", variables: Mapping[str, str] | None = None
    ) -> Answer:
        env = {**self._env, **(variables or {})}
        return self._commands.run(words, env=env, stdin=stdin)

    def _raise(self, answer: Answer) -> None:
        reason = text.refusal_of(answer.err)
        raise Unclear(reason) if text.is_unclear(answer.err) else Refused(reason)
