"""Jobs, tasks, attempts, logs and nodes in every state, in whatever words."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import httpx
from tests.api.conftest import Api, Node

from jobtasks.protocol.frames import STDOUT, frame
from jobtasks.protocol.messages import Assignment

BASE = "/arvados/v1"
Words = Callable[[str], str]
"""What stands in a field of that name."""


class Person:
    """A plain user with a token."""

    def __init__(self, api: Api, **token: Any) -> None:
        self.name = "p" + secrets.token_hex(6)
        self.uuid: str = sent(api.http, "users", {"username": self.name})["uuid"]
        self.token = new_token(api, self.uuid, **token)


class Scene:
    """What one person has, and the nodes on which it runs; several of one server do not meet."""

    def __init__(self, api: Api, words: Words = str, owner: Person | None = None) -> None:
        self.api = api
        self.words = words
        self.owner = owner or Person(api)
        self.http = api.client(self.owner.token)
        self.live = api.node(3, hostname=words("host"))
        self.jobs: dict[str, str] = {}
        self.tasks: dict[str, str] = {}
        self.nodes: dict[str, str] = {"live": self._uuid_of(self.live)}
        try:
            self._play()
        finally:
            self.http.close()

    def _play(self) -> None:
        self._complete()
        self._failed()
        self._running()
        self.jobs["cancelled"] = self._job("cancelled")
        sent(self.http, f"jobs/{self.jobs['cancelled']}/cancel", {"reason": self.words("reason")})
        too_large = {self.words("constraint"): self.words("wish"), "min_cores_per_node": 4000}
        self.jobs["queued"] = self._job("queued", runtime_constraints=too_large)
        self._stood_by("held", "hold")
        self._stood_by("draining", "drain")

    def _job(self, name: str, **attributes: Any) -> str:
        given = {
            "description": self.words("description"),
            "command": [self.words("command")],
            "submit_id": self.words("submit") + self.owner.name + name,
            "script_parameters": {self.words("key"): self.words("parameter")},
            **attributes,
        }
        uuid: str = sent(self.http, "jobs", given)["uuid"]
        return uuid

    def _seeded(self, name: str, *children: dict[str, Any], **attributes: Any) -> None:
        """Make a job whose first task is complete and has made others."""
        self.jobs[name] = self._job(name, **attributes)
        given = self.started()
        self.tasks[name + " seed"] = given.task
        with self.as_attempt(given) as http:
            for child in children:
                parameters = {self.words("key"): self.words("parameter")}
                sent(http, "job_tasks", {"parameters": parameters, **child})
        self.ended(given, success=True, output=self.words("output"))

    def _complete(self) -> None:
        self._seeded("complete")

    def _failed(self) -> None:
        words = self.words
        self._seeded("failed", {"command": [words("own command")]}, {"sequence": 5})
        given = self.started()
        self.tasks["failed"] = given.task
        log = frame(STDOUT, words("log").encode())
        self.live.push_log(given.attempt, log, final=True)
        end: dict[str, Any] = {
            "stderr_tail": words("stderr").encode(),
            "reason": words("end"),
            "exit_code": 3,
        }
        self.ended(given, success=False, log_bytes=len(log), **end)

    def _running(self) -> None:
        self._seeded("running", {}, {}, {"sequence": 7})
        again = self.started()
        self.tasks["again"] = again.task
        self.live.end(again.attempt, 111, stderr_tail=self.words("stderr").encode())
        given = self.started()
        self.tasks["running"] = given.task
        with self.as_attempt(given) as http:
            changes = {"progress": 0.5, "output": self.words("output")}
            sent(http, f"job_tasks/{given.task}", changes, "PATCH")
        self.live.push_log(given.attempt, frame(STDOUT, self.words("log").encode()))

    def _stood_by(self, name: str, verb: str) -> None:
        node = self.api.node(1, hostname=self.words("host"))
        self.nodes[name] = uuid = self._uuid_of(node)
        sent(self.api.http, f"nodes/{uuid}/{verb}", {"reason": self.words("reason")})

    def started(self) -> Assignment:
        """Return what the node starts next."""
        return self.live.next_assignment()

    def as_attempt(self, given: Assignment) -> httpx.Client:
        return self.api.client(given.token)

    def ended(self, given: Assignment, success: bool, output: str = "", **end: Any) -> None:
        """Give a verdict and end."""
        verdict = {"success": success, "output": output, "progress": 1.0}
        with self.as_attempt(given) as http:
            sent(http, f"job_tasks/{given.task}", verdict, "PATCH")
        self.live.end(given.attempt, **end)

    def _uuid_of(self, node: Node) -> str:
        """Return the UUID of the node that joined last."""
        found = self.api.get("nodes", order='["created_at desc"]', limit=1)["items"]
        uuid: str = found[0]["uuid"]
        return uuid


def new_token(api: Api, user: str, **more: Any) -> str:
    """Return the secret of a new token."""
    made = sent(api.http, "api_client_authorizations", {"owner_uuid": user, **more})
    secret: str = made["api_token"]
    return secret


def sent(http: httpx.Client, path: str, body: Any, method: str = "POST") -> dict[str, Any]:
    """Return what a call that must be granted is answered with."""
    answer = http.request(method, f"{BASE}/{path}", json=body)
    assert answer.status_code == 200, answer.text
    record: dict[str, Any] = answer.json()
    return record
