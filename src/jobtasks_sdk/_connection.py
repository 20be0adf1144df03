"""Calls to the API that outlast a server that is away."""

from __future__ import annotations

import json
import os
import time
from _thread import allocate_lock

from jobtasks_sdk._errors import Forbidden, NotFound, NotInATask, Refused, ServerAway, StaleAttempt
from jobtasks_sdk._http import Address, Answer, Connection, parse_address

TYPE_CHECKING = False  # as in typing, which takes longer to import than this package
if TYPE_CHECKING:
    from typing import Any

PATIENCE_SECONDS = 900.0
"""How long a call is repeated while the server is away, unless `set_patience` says otherwise."""

DELAY_SECONDS = 0.1
"""Before the first repeat; doubled each time."""

DELAY_SECONDS_MAX = 10.0
"""The longest delay between two repeats."""

TRUST_SECONDS = 60.0
"""How long a server whose certificate is not trusted is called again: it may be a change of
authority under way, but hardly is for longer."""

NOT_TRUSTED = "CERTIFICATE_VERIFY_FAILED"

REPEATED = frozenset((429, 500, 502, 503, 504))
"""Statuses that mean: later perhaps."""


class Server:
    """The API as this process reaches it: one connection, one token, shared by its threads."""

    def __init__(self, address: Address, token: str) -> None:
        self.patience_seconds = PATIENCE_SECONDS
        self._address = address
        self._token = token
        self._renew()

    def _renew(self) -> None:
        self._process = os.getpid()
        self._lock = allocate_lock()
        self._connection = Connection(self._address)

    def call(self, method: str, target: str, body: Any = None) -> Any:
        """One request, repeated while the server is away; the answer's JSON value.

        `body` is a JSON value, or bytes that already are JSON. Raises `Refused` (or one of its
        kinds) when the server says no, `ServerAway` when the patience is over.
        """
        answer = self.exchange(method, target, body)
        return json.loads(answer) if answer else None

    def exchange(self, method: str, target: str, body: Any = None) -> bytes:
        """Do the same; the answer's bytes."""
        content = body if isinstance(body, bytes) else _encoded(body)
        fields = self._fields(method)
        started_at = time.monotonic()
        delay = DELAY_SECONDS
        while True:
            outcome, wanted = self._try(method, target, fields, content)
            if isinstance(outcome, Answer):
                return _content(outcome)
            patience = self.patience_seconds
            if NOT_TRUSTED in outcome:
                patience = min(patience, TRUST_SECONDS)
            left = patience - (time.monotonic() - started_at)
            if left <= 0:
                raise ServerAway(f"{method} {target}: {outcome} (repeated for {patience:g} s)")
            time.sleep(min(left, max(wanted, delay * _jitter())))
            delay = min(delay * 2, DELAY_SECONDS_MAX)

    def _try(
        self, method: str, target: str, fields: dict[str, str], content: bytes
    ) -> tuple[Answer | str, float]:
        """One attempt: the answer, or why to repeat, with the seconds that the server asked for."""
        if os.getpid() != self._process:
            # A forked child must not speak on its parent's connection, nor wait for its lock.
            self._renew()
        try:
            with self._lock:
                answer = self._connection.exchange(method, target, fields, content)
        except OSError as error:
            return str(error) or type(error).__name__, 0.0
        if answer.status not in REPEATED:
            return answer, 0.0
        return f"HTTP {answer.status}", _retry_after(answer)

    def _fields(self, method: str) -> dict[str, str]:
        fields = {
            "Authorization": f"Bearer {self._token}",
            "Accept": "application/json",
            "Content-Type": "application/json",
        }
        if method == "POST":
            # The same for every repeat: a create whose answer was lost is not done twice (R22).
            fields["Idempotency-Key"] = os.urandom(16).hex()
        return fields


def _encoded(body: Any) -> bytes:
    return b"" if body is None else json.dumps(body, allow_nan=False).encode("ascii")


def _jitter() -> float:
    """Between 0.75 and 1.25, so that a thousand tasks do not come back in the same moment."""
    return 0.75 + os.urandom(1)[0] / 510


def _retry_after(answer: Answer) -> float:
    text = answer.fields.get("retry-after", "")
    return min(float(text), 60.0) if text.isdigit() else 0.0


def _content(answer: Answer) -> bytes:
    if 200 <= answer.status < 300:
        return answer.body
    raise _refusal(answer)


def _refusal(answer: Answer) -> Refused:
    code, messages = "", [answer.body[:200].decode("utf-8", "replace")]
    try:
        content = json.loads(answer.body)
        messages = [str(message) for message in content["errors"]]
        code = str(content.get("code", ""))
    except (ValueError, KeyError, TypeError, AttributeError):
        pass
    if answer.status == 403:
        return (StaleAttempt if _is_stale(code, messages) else Forbidden)(403, messages, code)
    return (NotFound if answer.status == 404 else Refused)(answer.status, messages, code)


def _is_stale(code: str, messages: list[str]) -> bool:
    """Whether the attempt is over; an old server says so in a sentence only."""
    if code:
        return code == "stale_attempt"
    return any("attempt is over" in message for message in messages)


_server: Server | None = None


def server() -> Server:
    """The server of this process's environment; raises `NotInATask` when none is named."""
    global _server
    if _server is None:
        try:
            address = parse_address(environment("JOBTASKS_URL"))
        except ValueError as error:
            raise NotInATask(f"JOBTASKS_URL: {error}") from error
        _server = Server(address, environment("ARVADOS_API_TOKEN"))
    return _server


def set_patience(seconds: float) -> None:
    """From now on repeat a call for at most so many seconds while the server is away."""
    server().patience_seconds = seconds


def environment(name: str) -> str:
    """The value of a variable that every task has; raises `NotInATask` without it."""
    value = os.environ.get(name)
    if not value:
        raise NotInATask(f"{name} is not set: this process was not started as a task")
    return value
