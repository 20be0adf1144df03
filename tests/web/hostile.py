"""Texts that would run if a page took them for more than texts, and all that can carry them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.api.conftest import Api
from tests.web.scene import Person, sent

from jobtasks.protocol.frames import STDERR, frame
from jobtasks.protocol.messages import Assignment, Ended, EndKind

KINDS: dict[str, list[str]] = json.loads(Path(__file__).with_name("payloads.json").read_text())
PAYLOADS = [text for kind in KINDS.values() for text in kind]
LONGEST = max(map(len, PAYLOADS))


def kept(text: str) -> str:
    """Return a text as a record may hold it: the server refuses NUL there."""
    return text.replace("\0", "")


def grouped(letters: int, payloads: Iterable[str] = PAYLOADS) -> list[str]:
    """Return all payloads, several in one text of at most so many letters."""
    groups = [""]
    for payload in payloads:
        if groups[-1] and len(groups[-1]) + 1 + len(payload) > letters:
            groups.append("")
        groups[-1] += (" " if groups[-1] else "") + payload
    return groups


def is_for_terminals(text: str) -> bool:
    return "\x1b" in text or "\r" in text


def said_at_the_end() -> list[str]:
    """Return all payloads as some failures; what means something to a terminal is apart."""
    plain = [text for text in PAYLOADS if not is_for_terminals(text)]
    return grouped(250, plain) + grouped(250, filter(is_for_terminals, PAYLOADS))


class Hostile:
    """A server's records, with all payloads in every text that somebody else can write."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.owner = Person(api)
        self.everything = kept("\n".join(PAYLOADS))
        self.node = api.node(40, hostname=grouped(255)[0])
        with api.client(self.owner.token) as self.http:
            self.theirs, self.shown = self._job_of_another_manager()
            self.said = said_at_the_end()
            self.failing, self.failed = self._failing_job()
            self.named = [kept(group) for group in grouped(140)]
            self.described = [self._waiting(description=group) for group in self.named]
            self.commanded = [self._waiting(command=[group]) for group in self.named]
            self.cancelled = [self._cancelled(group) for group in self.named]
            self.explained = self._waiting(
                runtime_constraints={**TOO_MUCH, **{text: text for text in PAYLOADS}},
                submit_id=self.named[0],
            )
        self.hostnames = grouped(255)
        self.nodes = list(self._held_nodes())

    def _job(self, **attributes: Any) -> str:
        made = sent(self.http, "jobs", {"command": ["true"], **attributes})
        uuid: str = made["uuid"]
        return uuid

    def _waiting(self, **attributes: Any) -> str:
        """Return a job that no node can run."""
        return self._job(**{"runtime_constraints": TOO_MUCH, **attributes})

    def _cancelled(self, reason: str) -> str:
        uuid = self._waiting()
        sent(self.http, f"jobs/{uuid}/cancel", {"reason": reason})
        return uuid

    def _job_of_another_manager(self) -> tuple[str, list[str]]:
        """Return a job whose owner writes everything, and its tasks: one for each payload."""
        texts = dict.fromkeys(("description", "script", "script_version", "repository"))
        given: dict[str, Any] = dict.fromkeys(texts, self.everything)
        objects = {text: {text: [text]} for text in PAYLOADS}
        given |= {"script_parameters": objects, "components": objects}
        given |= {"command": [kept(text) for text in PAYLOADS]}
        constraints = {"manager": "external", **objects}
        uuid = self._job(state="Running", runtime_constraints=constraints, **given)
        rows = [
            {
                "job_uuid": uuid,
                "sequence": number // 50,
                "parameters": {text: text},
                "runtime_constraints": {text: text},
                "command": [kept(text)],
                "output": kept(text),
                "progress": 0.5,
            }
            for number, text in enumerate(PAYLOADS)
        ]
        uuids = [sent(self.http, "job_tasks", row)["uuid"] for row in rows]
        changes = {"output": self.everything, "log": self.everything}
        sent(self.http, f"jobs/{uuid}", changes, "PATCH")
        return uuid, uuids

    def _failing_job(self) -> tuple[str, list[str]]:
        """Return a job each of whose tasks failed once, in words of payloads."""
        uuid = self._job()
        seed = self.node.next_assignment()
        with self.api.client(seed.token) as http:
            sent(http, "job_tasks", {"job_tasks": [{} for _ in self.said]})
            sent(http, f"job_tasks/{seed.task}", {"success": True}, "PATCH")
        self.node.end(seed.attempt)
        given = [self.node.next_assignment() for _ in self.said]
        given.sort(key=lambda one: one.qsequence)
        self.node.sync(*map(self._end, given, self.said))
        return uuid, [one.task for one in given]

    def _end(self, given: Assignment, text: str) -> Ended:
        log = frame(STDERR, text.encode())
        self.node.push_log(given.attempt, log, final=True)
        return Ended(
            given.attempt,
            EndKind.EXIT,
            exit_code=111,
            stderr_tail=text.encode(),
            reason=text,
            log_bytes=len(log),
        )

    def _held_nodes(self) -> Iterator[str]:
        for group in self.hostnames:
            self.api.node(1, hostname=group)
            found = self.api.get("nodes", order='["created_at desc"]', limit=1)["items"]
            sent(self.api.http, f"nodes/{found[0]['uuid']}/hold", {"reason": kept(group)})
            yield found[0]["uuid"]


TOO_MUCH = {"min_cores_per_node": 4000}
