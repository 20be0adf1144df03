"""TLS on the agent's connections; loaded only when the server is called by https."""

from __future__ import annotations

import select
import socket
import ssl
from pathlib import Path


class Client:
    """Wraps sockets for one kind of trust: what `ca_file` holds, else what the system trusts."""

    blocked = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
    """What a socket raises that can neither be read nor written now."""

    def __init__(self, ca_file: Path | None) -> None:
        self._ca_file = ca_file
        self._stamp: tuple[int, int] | None = None
        self._context = self._made()

    def wrap(self, connected: socket.socket, host: str) -> ssl.SSLSocket:
        """Return the connection with TLS, still to be agreed on; errors: OSError.

        `connected` cannot be used any more. A changed CA file is read again.
        """
        if self._ca_file and self._stamp_now() != self._stamp:
            self._context = self._made()
        return self._context.wrap_socket(
            connected, server_hostname=host, do_handshake_on_connect=False
        )

    @staticmethod
    def shake(connection: ssl.SSLSocket) -> int:
        """Go on with agreeing; return for which epoll event to wait, 0 when agreed.

        Errors: OSError that says in words why not.
        """
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            return select.EPOLLIN
        except ssl.SSLWantWriteError:
            return select.EPOLLOUT
        except ssl.SSLCertVerificationError as error:
            reason = error.verify_message.rstrip(".")
            raise OSError(f"the server's certificate is not accepted: {reason}") from None
        except ssl.SSLEOFError:
            raise OSError("the server ended the connection before TLS was agreed on") from None
        except ssl.SSLError as error:
            reason = (error.reason or str(error)).lower().replace("_", " ")
            raise OSError(f"the server does not agree on TLS: {reason}") from None
        return 0

    def _made(self) -> ssl.SSLContext:
        self._stamp = self._stamp_now()
        try:
            context = ssl.create_default_context(cafile=self._ca_file)
        except ssl.SSLError as error:
            raise OSError(f"no certificates in {self._ca_file}") from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION
        return context

    def _stamp_now(self) -> tuple[int, int] | None:
        if self._ca_file is None:
            return None
        seen = self._ca_file.stat()
        return seen.st_ino, seen.st_mtime_ns
