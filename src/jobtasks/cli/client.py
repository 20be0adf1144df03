"""The HTTP client of the command line."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar

import httpx

from jobtasks.cli.problems import Problem
from jobtasks.cli.state import Address
from jobtasks.cli.trust import NOT_TRUSTED, context_of, distrust
from jobtasks.core.errors import JobTasksError, RequestError, Unavailable
from jobtasks.core.identifiers import base36

Result = TypeVar("Result")

API_PATH = "/arvados/v1"

ANSWER_SECONDS = 60.0
"""The longest silence while an answer is awaited, beside the time a request waits by itself."""

PAGE_ITEMS = 1000
"""What one call lists at most: more are read page by page."""

DELAY_SECONDS_MAX = 5.0
"""The longest delay between two tries."""

NOTICE_DELAY_SECONDS = 1.0
"""Once the delays are longer than this, the user is told what is waited for."""

REPEATED = frozenset((429, 502, 503, 504))
"""Statuses that mean: later perhaps."""

_KINDS: list[type[JobTasksError]] = [RequestError, *RequestError.__subclasses__()]

_BY_STATUS = {kind.status: kind for kind in _KINDS}

_BY_CODE = {kind.code: kind for parent in _KINDS for kind in (parent, *parent.__subclasses__())}


class Client:
    """Calls to one server; `find` says where it is, again after each failure to reach it."""

    def __init__(
        self,
        find: Callable[[], Address],
        patience_seconds: float = 0.0,
        notice: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._find = find
        self._patience_seconds = patience_seconds
        self._notice = notice
        self._address = find()
        self._http = httpx.Client(
            trust_env=False, timeout=ANSWER_SECONDS, verify=context_of(self._address)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    @property
    def server(self) -> str:
        """What the server is called, ``http(s)://HOST:PORT``."""
        return self._address.url.removesuffix(API_PATH)

    def get(self, path: str, **query: Any) -> Any:
        """GET; the answer's JSON value. Lists and objects in the query travel as JSON."""
        return self._repeated(lambda: self._json("GET", path, query, None))

    def pages(self, path: str, limit: int, offset: int = 0, **query: Any) -> dict[str, Any]:
        """GET a list of at most `limit` items, in as many calls as it takes; the last answer."""
        items: list[Any] = []
        while True:
            wanted = min(limit - len(items), PAGE_ITEMS)
            place = offset + len(items)
            answer: dict[str, Any] = self.get(path, limit=wanted, offset=place, **query)
            items += answer["items"]
            # A server may have a smaller limit of its own, and says so.
            is_last = len(answer["items"]) < answer.get("limit", wanted)
            if is_last or not answer["items"] or len(items) >= limit:
                return {**answer, "items": items}

    def post(self, path: str, body: Any = None, **query: Any) -> Any:
        """POST; the answer's JSON value. Repeated under one name: it is done once (R22)."""
        named = {"X-Request-Id": "req-" + base36(random.SystemRandom().getrandbits(100), 20)}
        return self._repeated(lambda: self._json("POST", path, query, body, named))

    def patch(self, path: str, body: Any, **query: Any) -> Any:
        """PATCH; the answer's JSON value. Repeated: the second time it changes nothing more."""
        return self._repeated(lambda: self._json("PATCH", path, query, body))

    def delete(self, path: str, **query: Any) -> Any:
        """DELETE; the answer's JSON value. Repeated only while it surely was not received."""
        return self._repeated(lambda: self._json("DELETE", path, query, None), httpx.ConnectError)

    def copy(self, path: str, target: BinaryIO, **query: Any) -> None:
        """GET a text as it comes and write it to `target`; a broken answer is taken up again."""
        written = 0

        def copy_rest() -> None:
            nonlocal written
            skip = written
            with self._http.stream("GET", self._url(path), **self._arguments(query, None)) as got:
                _check(got)
                for chunk in got.iter_bytes():
                    rest = chunk[skip:]
                    skip -= len(chunk) - len(rest)
                    target.write(rest)
                    written += len(rest)

        self._repeated(copy_rest)
        target.flush()

    def stream(self, path: str, take: Callable[[Iterator[bytes]], None], **query: Any) -> None:
        """GET bytes and give them to `take` as they come; anew when they break off."""

        def take_all() -> None:
            with self._http.stream("GET", self._url(path), **self._arguments(query, None)) as got:
                _check(got)
                take(got.iter_bytes())

        self._repeated(take_all)

    def put(self, path: str, source: BinaryIO) -> Any:
        """PUT what is in a file, from its begin; the answer's JSON value. Repeated if need be."""

        def send() -> Any:
            source.seek(0)
            arguments = {**self._arguments({}, None), "content": source}
            del arguments["json"]
            answer = self._http.put(self._url(path), **arguments)
            _check(answer)
            return answer.json()

        return self._repeated(send)

    def send(self, path: str, pieces: Iterator[bytes], **query: Any) -> Any:
        """POST bytes as they come; the answer's JSON value. They come once: nothing is repeated."""
        arguments = self._arguments(query, None)
        del arguments["json"]
        try:
            answer = self._http.post(self._url(path), **arguments, content=pieces)
        except httpx.TransportError as error:
            if NOT_TRUSTED in str(error):
                raise distrust(self._address.url) from error
            raise _away(self._address, error) from error
        _check(answer)
        return answer.json()

    def _json(
        self,
        method: str,
        path: str,
        query: dict[str, Any],
        body: Any,
        headers: dict[str, str] | None = None,
    ) -> Any:
        arguments = self._arguments(query, body)
        arguments["headers"].update(headers or {})
        answer = self._http.request(method, self._url(path), **arguments)
        _check(answer)
        return answer.json()

    def _url(self, path: str) -> str:
        return self._address.url.removesuffix(API_PATH) + API_PATH + path

    def _arguments(self, query: dict[str, Any], body: Any) -> dict[str, Any]:
        return {
            "headers": {"Authorization": f"Bearer {self._address.token}"},
            "params": {
                name: _in_query(value) for name, value in query.items() if value is not None
            },
            "json": body,
        }

    def _repeated(
        self,
        call: Callable[[], Result],
        repeatable: type[httpx.TransportError] = httpx.TransportError,
    ) -> Result:
        deadline = time.monotonic() + self._patience_seconds
        delay = 0.05
        while True:
            try:
                return call()
            except (httpx.TransportError, Unavailable) as error:
                if NOT_TRUSTED in str(error):
                    raise distrust(self._address.url) from error
                is_repeatable = isinstance(error, (repeatable, Unavailable))
                if not is_repeatable or time.monotonic() >= deadline:
                    raise _away(self._address, error) from error
                if delay > NOTICE_DELAY_SECONDS:
                    self._notice(f"the server is away ({error}); waiting for it")
            time.sleep(delay * random.uniform(0.75, 1.25))
            delay = min(delay * 2, DELAY_SECONDS_MAX)
            self._address = self._find()


def _in_query(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _away(address: Address, error: Exception) -> JobTasksError:
    if isinstance(error, Unavailable):
        return error
    return Problem(
        f"the server at {address.url} cannot be reached: {error or type(error).__name__}",
        "start it with `jobtasks serve`, or check JOBTASKS_URL",
    )


def _check(answer: httpx.Response) -> None:
    """Raise what a refusal means."""
    if answer.is_success:
        return
    answer.read()
    if answer.status_code in REPEATED:
        raise Unavailable(*_messages(answer))
    kind = _BY_CODE.get(_code(answer)) or _BY_STATUS.get(answer.status_code)
    if kind is None:
        raise Problem(f"the server answered {answer.status_code}: {'; '.join(_messages(answer))}")
    raise kind(*_messages(answer))


def _code(answer: httpx.Response) -> str:
    try:
        return str(answer.json().get("code"))
    except (ValueError, AttributeError):
        return ""


def _messages(answer: httpx.Response) -> list[str]:
    try:
        return [str(message) for message in answer.json()["errors"]]
    except (ValueError, KeyError, TypeError):
        return [answer.text[:200] or answer.reason_phrase]
