"""Failed attempts gathered into families: alike in cause, exit code or signal, and message.

Thousands of failures have few reasons. What differs between two failures of one reason is a number,
a name, an address: these are replaced, so that what is left is the same for all of them.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import NamedTuple

from jobtasks.core.constraints import KIB_PER_MIB
from jobtasks.core.errors import Invalid
from jobtasks.core.retry import Cause

MESSAGE_CHARACTERS_MAX = 300
"""Length of a family's message."""
SAMPLE_CHARACTERS_MAX = 1000
"""Length of a message as it was."""
TAIL_CHARACTERS_MAX = 16 * 1024
"""So much of the end of stderr is looked at."""
KEY_DIGITS = 12
OTHERS = "others"
"""Key of the family that takes what has no room in one of its own."""
RAM_FACTOR_MAX = 64
"""How many times the memory may be that tasks of a family get when they are tried again."""
OTHERS_MESSAGE = "other failures: there were too many kinds to tell apart"

IMPOSED = frozenset(
    {Cause.TIME_LIMIT, Cause.OUT_OF_MEMORY, Cause.UNABLE_TO_START, Cause.AGENT_LOST}
)
"""Ends that were done to the process: what it wrote last says nothing about them."""


class Family(NamedTuple):
    """What the failures of one family have in common."""

    cause: str
    exit_code: int | None
    signal: int | None
    message: str
    """With placeholders, such as ``<n>``, for what differs."""

    @property
    def key(self) -> str:
        """Return what names the family within its job, the same on every server."""
        text = "\0".join(str(part) for part in self)
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:KEY_DIGITS]


class Failure(NamedTuple):
    """What is known of a failed attempt at its end."""

    cause: Cause
    exit_code: int | None
    signal: int | None
    reason: str
    """What the agent or we say of it; may be empty."""
    stderr: str
    """The end of stderr, without a line of ours."""


def message_of(failure: Failure) -> str:
    """Return the one line that tells best why an attempt failed, as it was.

    The last line of stderr that means something, else the reason, else the cause.
    """
    said = "" if failure.cause in IMPOSED else last_words(failure.stderr)
    words = said or " ".join(failure.reason.split()) or failure.cause.value.replace("_", " ")
    return words[:SAMPLE_CHARACTERS_MAX]


def family_of(failure: Failure, said: str) -> Family:
    """Return the family that a failure belongs to, of which `said` tells (`message_of`).

    Of an end that was imposed, the exit code or signal is that of how it was done, and left out.
    """
    message = normalised(said)
    if failure.cause in IMPOSED:
        return Family(failure.cause.value, None, None, message)
    return Family(failure.cause.value, failure.exit_code, failure.signal, message)


ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
"""What moves a terminal's cursor or colours it."""
TRACEBACK = "Traceback (most recent call last):"
FATAL = re.compile(r"^(?:panic: |fatal error: |thread '.*' panicked at )", re.MULTILINE)
"""Begins what Go and Rust say first; stacks follow."""
NOISE = re.compile(
    r"""^(?:
        \s+at\s.*                                   # a frame: Java, JavaScript
        | \s*\.\.\.\s\d+\s(?:more|common.*)         # frames left out: Java
        | \s+File\s".*",\sline\s\d+.*               # a frame: Python
        | note:\s.*                                 # advice: Rust
        | Node\.js\sv.*
        | Execution\shalted | Calls:\s.*            # R
        | exit\sstatus\s\d+                         # go run
        | \[Previous\sline\srepeated\s.*
        | Aborted(?:\s\(core\sdumped\))?            # the shell's, after the program's own words
    )$""",
    re.VERBOSE,
)
WORD = re.compile(r"[^\W\d_]{2,}")


def last_words(stderr: str) -> str:
    """Return the line in the end of stderr that says what went wrong; "" when none does."""
    text = stderr[-TAIL_CHARACTERS_MAX:].replace("\r\n", "\n")
    if "\x1b" in text:
        text = ESCAPES.sub("", text)
    found = _after_traceback(text) or _first_fatal(text) or _last_telling(text)
    return " ".join(found.split())[:SAMPLE_CHARACTERS_MAX]


def _after_traceback(text: str) -> str:
    """Return the line of the exception that the last traceback of Python ends with.

    Each line may have something before it: the name of a process, the box of a group.
    """
    at = text.rfind(TRACEBACK)
    if at < 0:
        return ""
    prefix = text[text.rfind("\n", 0, at) + 1 : at]
    rest = text[at:].split("\n")[1:]
    start = len(prefix) if rest and rest[0].startswith(prefix) else 0
    ends = (line[start:] for line in rest if line[start:].strip())
    return next((line for line in ends if not line.startswith((" ", "\t"))), "")


def _first_fatal(text: str) -> str:
    """Return what Go or Rust said before its stacks; of Rust, the message after the place."""
    # Most texts are told apart by this, which costs a hundredth of the pattern.
    is_possible = "panic" in text or "fatal error: " in text
    found = FATAL.search(text) if is_possible else None
    if found is None:
        return ""
    line, _, rest = text[found.start() :].partition("\n")
    follows = rest.partition("\n")[0]
    return follows if line.endswith(":") and follows.strip() else line


def _last_telling(text: str) -> str:
    # Of what a program wrote over itself the last is left.
    lines = (line.rsplit("\r", 1)[-1].rstrip() for line in reversed(text.split("\n")))
    return next((line for line in lines if _is_telling(line)), "")


def _is_telling(line: str) -> bool:
    """Return whether a line has words, and is no part of a stack or other decoration."""
    return WORD.search(line) is not None and NOISE.match(line) is None


REPLACEMENTS = [
    (re.compile(pattern, re.IGNORECASE), placeholder)
    for pattern, placeholder in (
        (r"\b[a-z][a-z0-9+.-]{1,15}://[^\s'\"<>]+", "<url>"),
        (r"\b[\w.+-]++@[\w-]+(?:\.[\w-]+)+\b", "<mail>"),
        (r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", "<uuid>"),
        (r"\b[a-z0-9]{5}-[a-z0-9]{5}-[a-z0-9]{15}\b", "<uuid>"),
        (
            r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?",
            "<time>",
        ),
        (r"\b\d{1,2}:\d\d:\d\d(?:[.,]\d+)?\b", "<time>"),
        (r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b", "<address>"),
        (
            r"(?<![\w:.])(?=[0-9a-f:]*::|(?:[0-9a-f]{1,4}:){7})(?=:*[0-9a-f])[0-9a-f:]{3,}(?!\w)",
            "<address>",
        ),
        (r"\b0x[0-9a-f]+\b", "<hex>"),
        (r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,}\b", "<hex>"),
        (r"\"(?:[^\"\\]|\\.){0,300}\"", "<text>"),
        (r"`[^`']{0,300}[`']", "<text>"),
        (r"(?<![\w])'(?:[^'\\]|\\.){0,300}'(?!\w)", "<text>"),
        (
            r"[\N{LEFT SINGLE QUOTATION MARK}\N{LEFT DOUBLE QUOTATION MARK}]"
            r"[^\N{RIGHT SINGLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}]{0,300}"
            r"[\N{RIGHT SINGLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}]",
            "<text>",
        ),
        (r"(?<![\w<>/.])(?:\.{0,2}|~|[a-z]:)(?:[/\\][\w.@%+=,~{}-]+)+[/\\]?(?=$|[^\w])", "<path>"),
        (r"(?<![\w/])(?:[\w.@%+=~-]++/)+[\w.@%+=~-]*\.\w+\b", "<path>"),
        (r"(?<![\w.])[+-]?\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", "<n>"),
        (r"\d+", "<n>"),
    )
]
"""In this order: what is longer and surer first."""
REPEATED = re.compile(r"(<\w+>)(?:,? \1){2,}")


def normalised(message: str) -> str:
    """Return a message with placeholders for what differs between failures of one kind.

    ``<n>`` numbers, ``<hex>``, ``<uuid>``, ``<time>``, ``<address>``, ``<url>``, ``<mail>``,
    ``<path>``, ``<text>`` what stood in quotes. Long runs of one of them are cut to one and ``…``.
    """
    text = " ".join(message[:SAMPLE_CHARACTERS_MAX].split())
    for pattern, placeholder in REPLACEMENTS:
        text = pattern.sub(placeholder, text)
    text = REPEATED.sub(r"\1 …", text)
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"


def ram_of(had_kib: int, factor: float) -> int:
    """Return `factor` times the memory that an attempt had, in whole MiB, as KiB.

    Raises:
        Invalid: nothing was reserved for it, and nothing measured.
    """
    if not had_kib:
        raise Invalid(
            "It is not known how much memory these tasks had, so it cannot be multiplied: give"
            " runtime_constraints with min_ram_per_task"
        )
    return math.ceil(had_kib * factor / KIB_PER_MIB) * KIB_PER_MIB
