"""The server's own log: one JSON object per line on stderr. No tokens are ever given to it."""

from __future__ import annotations

import logging
import sys
from typing import Any

import msgspec

from jobtasks.core.timestamps import render_time

MICROSECONDS = 1_000_000
ORDINARY = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""Fields that every record has; others were given as `extra`."""


class JsonFormatter(logging.Formatter):
    """Renders a record: time, level, logger, message, what was given as `extra`, and the error."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        line: dict[str, Any] = {
            "time": render_time(int(record.created * MICROSECONDS)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in ORDINARY}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line, enc_hook=str).decode()


def log_to_stderr() -> None:
    """Send everything from INFO on to stderr; of HTTP server and client only warnings."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in ("uvicorn", "httpx"):
        # httpx names whole addresses, whose paths may be secrets of receivers.
        logging.getLogger(name).setLevel(logging.WARNING)
