"""One kept HTTP/1.1 connection, over a socket.

Not `http.client`: importing it (the e-mail parser and TLS come along) takes longer than starting
Python, and every task would pay that. What a JSON API needs of HTTP is small: one request at a
time, an answer with a length or in chunks.
"""

from __future__ import annotations

import select
import socket

TYPE_CHECKING = False  # as in typing, which takes longer to import than this package
if TYPE_CHECKING:
    from typing import BinaryIO

CONNECT_SECONDS = 10.0
"""The longest wait for a connection."""

ANSWER_SECONDS = 120.0
"""The longest silence while an answer is awaited; a bulk create may take its time."""

LINE_BYTES_MAX = 64 * 1024
"""A longer line in the head of an answer is not HTTP."""


class Answer:
    """Status, header fields (names in lower case) and body of one answer."""

    __slots__ = ("body", "fields", "status")

    def __init__(self, status: int, fields: dict[str, str], body: bytes) -> None:
        self.status = status
        self.fields = fields
        self.body = body


class Address:
    """Where the API is, taken apart."""

    __slots__ = ("host", "path", "port", "scheme")

    def __init__(self, scheme: str, host: str, port: int, path: str) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.path = path


def parse_address(url: str) -> Address:
    """Take ``http://HOST[:PORT][/PATH]`` apart; without a path it is ``/arvados/v1``.

    Raises ValueError for anything else.
    """
    scheme, separator, rest = url.strip().partition("://")
    if not separator or scheme not in ("http", "https"):
        raise ValueError(f"not an http address: {url!r}")
    place, _, path = rest.partition("/")
    host, colon, port = place.rpartition(":")
    if not colon or port.endswith("]"):
        host, port = place, ""
    default_port = 443 if scheme == "https" else 80
    path = path.strip("/")
    return Address(
        scheme, host.strip("[]"), int(port or default_port), f"/{path}" if path else "/arvados/v1"
    )


class Connection:
    """A connection to one server, opened when needed and kept; any failure is an OSError."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._socket: socket.socket | None = None
        self._reader: BinaryIO | None = None

    def exchange(self, method: str, target: str, fields: dict[str, str], body: bytes) -> Answer:
        """Send one request and read its answer; OSError leaves the connection closed."""
        if self._was_closed_by_peer():
            self.close()
        try:
            if self._socket is None:
                self._open()
            assert self._socket is not None
            self._socket.sendall(self._head(method, target, fields, len(body)) + body)
            return self._read_answer()
        except ValueError as error:
            self.close()
            raise OSError(f"the answer is not HTTP: {error}") from error
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close; the next exchange opens again."""
        for thing in (self._reader, self._socket):
            if thing is not None:
                thing.close()
        self._reader = self._socket = None

    def _open(self) -> None:
        address = self._address
        plain = _connect(address.host, address.port)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = _with_tls(plain, address.host) if address.scheme == "https" else plain
        self._socket.settimeout(ANSWER_SECONDS)
        self._reader = self._socket.makefile("rb")

    def _was_closed_by_peer(self) -> bool:
        """Whether an idle connection has become readable: nothing but its end can be there.

        Servers close idle connections; noticing it before sending keeps a create from being
        repeated although it may have been done.
        """
        if self._socket is None:
            return False
        idle = select.poll()
        idle.register(self._socket, select.POLLIN)
        return bool(idle.poll(0))

    def _head(self, method: str, target: str, fields: dict[str, str], length: int) -> bytes:
        address = self._address
        host = f"[{address.host}]" if ":" in address.host else address.host
        lines = [f"{method} {address.path}{target} HTTP/1.1", f"Host: {host}:{address.port}"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        lines += [f"Content-Length: {length}", "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def _read_answer(self) -> Answer:
        version, status = self._read_status()
        while status < 200:
            self._read_fields()
            version, status = self._read_status()
        fields = self._read_fields()
        body = self._read_body(fields)
        kept = version != "HTTP/1.0" and fields.get("connection", "").lower() != "close"
        if not kept:
            self.close()
        return Answer(status, fields, body)

    def _read_status(self) -> tuple[str, int]:
        words = self._line().split(None, 2)
        if len(words) < 2 or not words[0].startswith("HTTP/1."):
            raise ValueError("bad status line")
        return words[0], int(words[1])

    def _read_fields(self) -> dict[str, str]:
        fields: dict[str, str] = {}
        while True:
            line = self._line()
            if not line:
                return fields
            name, _, value = line.partition(":")
            fields[name.strip().lower()] = value.strip()

    def _read_body(self, fields: dict[str, str]) -> bytes:
        if fields.get("transfer-encoding", "").lower() == "chunked":
            return self._read_chunks()
        if "content-length" in fields:
            return self._exactly(int(fields["content-length"]))
        assert self._reader is not None
        body = self._reader.read()
        self.close()
        return body

    def _read_chunks(self) -> bytes:
        parts = []
        while True:
            size = int(self._line().partition(";")[0], 16)
            parts.append(self._exactly(size))
            if size == 0:
                self._read_fields()
                return b"".join(parts)
            self._line()

    def _line(self) -> str:
        assert self._reader is not None
        line = self._reader.readline(LINE_BYTES_MAX + 1)
        if not line.endswith(b"\n"):
            if len(line) > LINE_BYTES_MAX:
                raise ValueError("line too long")
            raise ConnectionResetError("the server closed the connection")
        return line.rstrip(b"\r\n").decode("latin-1")

    def _exactly(self, size: int) -> bytes:
        assert self._reader is not None
        body = self._reader.read(size)
        if len(body) != size:
            raise ConnectionResetError("the server closed the connection within an answer")
        return body


def _connect(host: str, port: int) -> socket.socket:
    """Connect to a name or an address; errors: OSError."""
    if not host.replace(".", "").isdigit():
        # As bytes: a text would be looked up by tables that take longer to load than this package.
        place = host.encode("ascii") if host.isascii() else host
        return socket.create_connection((place, port), CONNECT_SECONDS)  # type: ignore[arg-type]
    plain = socket.socket()
    try:
        plain.settimeout(CONNECT_SECONDS)
        plain.connect((host, port))
    except OSError:
        plain.close()
        raise
    return plain


def _with_tls(plain: socket.socket, host: str) -> socket.socket:
    import ssl

    return ssl.create_default_context().wrap_socket(plain, server_hostname=host)
