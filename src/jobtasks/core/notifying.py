"""Telling others that a job is over: whom, which addresses may be called, when to try again."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

from jobtasks.core.addresses import PORTS
from jobtasks.core.settings import Settings

ADDRESS_CHARACTERS_MAX = 2000
COMMAND = "command"
"""The target of a notice that is a command of the server's."""
SERVER = "server"
"""The target that is the server's one address, whichever it is when the notice is delivered."""


@dataclass(frozen=True, slots=True)
class Notifying:
    """Whom a server tells of the ends of jobs, as its administrator said."""

    command: tuple[str, ...] = ()
    """Program and arguments; (): none."""
    url: str = ""
    """Called for every job; "": none."""
    allowed: tuple[str, ...] = ()
    """Beginnings of addresses that jobs may name in ``notify_url``; (): none."""

    def targets(self, job_url: str | None) -> tuple[str, ...]:
        """Return the targets of a job's notices; an address of the job's own is one itself."""
        known = ((COMMAND, self.command), (SERVER, self.url), (job_url or "", job_url))
        return tuple(target for target, is_wanted in known if is_wanted)

    def address_of(self, target: str) -> str:
        """Return the address that a target stands for.

        Errors: ValueError with a sentence, when it is not to be called (any more).
        """
        if target == SERVER:
            if not self.url:
                raise ValueError("the server is not told an address any more")
            return self.url
        if not self.allows(target):
            raise ValueError("the address is not one that this server may call")
        return target

    def allows(self, url: str) -> bool:
        """Return whether a job may name this address: it lies at or below one that is allowed."""
        return any(lies_below(url, allowed) for allowed in self.allowed)


NOBODY = Notifying()
"""Nobody is told."""


def check_address(text: str) -> str:
    """Return an address as it stands; ValueError says what it must be."""
    parts = _parts(text)
    if parts is None:
        raise ValueError("must be an address such as https://HOST/PATH, without a user's name")
    return text


def _parts(text: str) -> SplitResult | None:
    """Return the parts of an address that can be called; None for any other text.

    Backslashes, control characters and the like are refused: programs differ in what they read.
    """
    if len(text) > ADDRESS_CHARACTERS_MAX or not text.isascii() or not text.isprintable():
        return None
    if any(character in text for character in ' \\"<>^`{|}'):
        return None
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in PORTS and parts.hostname and parts.port != 0
    except ValueError:
        return None
    is_plain = "@" not in parts.netloc and not parts.fragment
    return parts if is_address and is_plain else None


def lies_below(url: str, allowed: str) -> bool:
    """Return whether an address has the scheme, host and port of another and a path below its path.

    A path with ``.`` or ``..`` in it, spelled in whatever way, lies nowhere.
    """
    mine, others = _parts(url), _parts(allowed)
    if mine is None or others is None or _place(mine) != _place(others):
        return False
    segments = unquote(mine.path).replace("\\", "/").split("/")
    if "%" in unquote(mine.path) or "." in segments or ".." in segments:
        return False
    base = others.path.rstrip("/")
    return mine.path == base or mine.path.startswith(base + "/")


def _place(parts: SplitResult) -> tuple[str, str, int]:
    host = (parts.hostname or "").rstrip(".")
    return parts.scheme, host, parts.port or PORTS[parts.scheme]


def shown(url: str) -> str:
    """Return what may be said of an address: its path is often a secret."""
    parts = _parts(url)
    return f"{parts.scheme}://{parts.netloc}" if parts else "(no address)"


def signature(secret: bytes, body: bytes) -> str:
    """Return the value of the header that proves who sent a body."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def delay_seconds(tries: int, settings: Settings, random: float) -> float:
    """Return how long to wait after so many tries that failed; `random` is from [0, 1)."""
    doubled = settings.notify_delay_seconds * 2.0 ** min(tries - 1, 30)
    jitter = 1.0 + settings.delay_jitter * (2.0 * random - 1.0)
    return min(doubled, settings.notify_delay_seconds_max) * jitter


def is_given_up(age_seconds: float, next_delay_seconds: float, settings: Settings) -> bool:
    """Return whether a notice so old is not tried again."""
    return age_seconds + next_delay_seconds > settings.notify_give_up_seconds
