"""Times on the wire: text in UTC with nine digits; inside, Unix microseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAIVE_EPOCH = datetime(1970, 1, 1)
MICROSECOND = timedelta(microseconds=1)
ASCTIME = "%a %b %d %H:%M:%S %Y"
"""How old job managers write a time."""
TOO_FINE = re.compile(r"(\.\d{6})\d+")


def render_time(microseconds: int) -> str:
    """Return Unix `microseconds` as ``YYYY-MM-DDTHH:MM:SS.NNNNNNNNNZ``."""
    moment = NAIVE_EPOCH + timedelta(microseconds=microseconds)
    return moment.isoformat(timespec="microseconds") + "000Z"


def parse_time(text: str) -> int:
    """Return the Unix microseconds of an ISO date or time; UTC unless `text` names an offset.

    ``Wed Nov  9 17:56:12 2016``, which old job managers send, is one as well.

    Digits past the microsecond are dropped, so that our own output parses to what was stored.

    Raises:
        ValueError: `text` is no such time.
    """
    moment = _moment(text.strip())
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // MICROSECOND


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(TOO_FINE.sub(r"\1", text))
    except ValueError:
        return datetime.strptime(text, ASCTIME)
