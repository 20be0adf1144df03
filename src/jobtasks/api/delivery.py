"""One try to tell somebody of a job's end: a POST, or a command. Each has a limit of time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import ssl
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

from jobtasks.core import notifying
from jobtasks.core.notifying import Notifying
from jobtasks.service.notices import Notice

if TYPE_CHECKING:
    import httpx

WORDS_BYTES_MAX = 2000
"""What is kept of a command's stderr, its end."""
PIECE_BYTES = 64 * 1024
LEAVE_SECONDS = 1.0
"""How long what a command wrote is read after its end: a child of its own may hold the pipe."""
PASSED_ON = {
    "JOBTASKS_DELIVERY": "delivery",
    "JOBTASKS_JOB_UUID": "uuid",
    "JOBTASKS_JOB_STATE": "state",
    "JOBTASKS_JOB_OWNER_UUID": "owner_uuid",
    "JOBTASKS_JOB_DESCRIPTION": "description",
    "JOBTASKS_JOB_HREF": "href",
}
"""Variables of a command, and what of the job they hold."""
OWN = ("JOBTASKS_", "ARVADOS_")
"""Variables of the server's that begin so are not handed on."""


class Courier:
    """Delivers notices, each in one try."""

    def __init__(self, plan: Notifying, secret: bytes, seconds: float) -> None:
        self._plan = plan
        self._secret = secret
        self._seconds = seconds
        self._http: httpx.AsyncClient | None = None
        self._making = asyncio.Lock()

    async def deliver(self, notice: Notice) -> str | None:
        """Return None when it was delivered, else what went wrong, without secrets."""
        try:
            async with asyncio.timeout(self._seconds):
                if notice.target == notifying.COMMAND:
                    return await self._run(notice)
                return await self._post(notice, self._plan.address_of(notice.target))
        except TimeoutError:
            return f"not done within {self._seconds:g} s"
        except (OSError, ValueError) as error:
            return str(error)

    async def close(self) -> None:
        """Close what connections are kept."""
        if self._http is not None:
            await self._http.aclose()

    async def _post(self, notice: Notice, url: str) -> str | None:
        client = await self._client()
        import httpx

        body = notice.body.encode()
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "jobtasks",
            "X-JobTasks-Delivery": notice.uuid,
            "X-JobTasks-Signature": notifying.signature(self._secret, body),
        }
        try:
            # Only the head of the answer matters; whatever else is sent is not read.
            async with client.stream("POST", url, content=body, headers=headers) as answer:
                status = answer.status_code
        except httpx.HTTPError as error:
            return f"{type(error).__name__}: {error}".rstrip(": ")
        except httpx.InvalidURL:
            return "the address cannot be called"
        return None if 200 <= status < 300 else f"answered {status}"

    async def _client(self) -> httpx.AsyncClient:
        """Return the client; made in a thread, as loading it would hold up every other call."""
        async with self._making:
            if self._http is None:
                self._http = await asyncio.to_thread(make_client, self._seconds)
        return self._http

    async def _run(self, notice: Notice) -> str | None:
        words = self._plan.command
        if not words:
            return "the server is not told to run a command any more"
        with _file_of(notice.body) as given:
            async with _pipe() as (source, sink):
                try:
                    process = await _started(
                        asyncio.create_subprocess_exec(
                            *words,
                            env=environment(json.loads(notice.body)),
                            stdin=given,
                            stdout=asyncio.subprocess.DEVNULL,
                            stderr=sink,
                            start_new_session=True,
                        )
                    )
                finally:
                    os.close(sink)
                return await _ended(process, source)


def make_client(seconds: float) -> httpx.AsyncClient:
    """Return an HTTP client: no redirects, no proxies and no passwords of the environment."""
    import httpx

    return httpx.AsyncClient(
        trust_env=False,
        follow_redirects=False,
        timeout=seconds,
        verify=ssl.create_default_context(),
    )


def environment(facts: dict[str, Any]) -> dict[str, str]:
    """Return what a command finds in its environment: the server's, and what the job is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN)}
    return kept | {name: facts[key] or "" for name, key in PASSED_ON.items()}


@contextlib.contextmanager
def _file_of(text: str) -> Iterator[int]:
    """Have a file in memory with this text: unlike a pipe it asks nobody to read it."""
    file = os.memfd_create("jobtasks-notice", os.MFD_CLOEXEC)
    try:
        view = memoryview(text.encode())
        while view:
            view = view[os.write(file, view) :]
        os.lseek(file, 0, os.SEEK_SET)
        yield file
    finally:
        os.close(file)


@contextlib.asynccontextmanager
async def _pipe() -> AsyncIterator[tuple[asyncio.StreamReader, int]]:
    """Have a pipe: what is read from it, and the end to write to, which the block closes.

    Ours rather than the process's own: a child that outlives the command may hold it open.
    """
    source, sink = os.pipe()
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(source, "rb")
    )
    try:
        yield reader, sink
    finally:
        transport.close()


async def _started(
    begin: Coroutine[Any, Any, asyncio.subprocess.Process],
) -> asyncio.subprocess.Process:
    """Return a command that has begun; one whose time is over by then is not left to itself."""
    beginning = asyncio.ensure_future(begin)
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        process = await beginning
        _kill_group(process.pid)
        await process.wait()
        raise


async def _ended(process: asyncio.subprocess.Process, source: asyncio.StreamReader) -> str | None:
    """Return None when a command ended with 0, else how it ended and what it said."""
    said = _Said()
    listening = asyncio.create_task(said.take(source))
    try:
        code = await process.wait()
        await asyncio.wait([listening], timeout=LEAVE_SECONDS)
    finally:
        if process.returncode is None:
            _kill_group(process.pid)
            await process.wait()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
    if code == 0:
        return None
    how = f"signal {-code}" if code < 0 else f"exit code {code}"
    return f"{how}: {said}" if str(said) else how


class _Said:
    """The end of what a command says, however much that is."""

    def __init__(self) -> None:
        self._kept = b""

    async def take(self, source: asyncio.StreamReader) -> None:
        """Read until nobody holds the other end."""
        while piece := await source.read(PIECE_BYTES):
            self._kept = (self._kept + piece)[-WORDS_BYTES_MAX:]

    def __str__(self) -> str:
        return self._kept.decode(errors="replace").strip()


def _kill_group(pid: int) -> None:
    """End a command whose time is over, with its children."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
