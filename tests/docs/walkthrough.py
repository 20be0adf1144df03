"""Go through a page as its reader does: save the files that it shows, type what it says to type.

A block of ```console holds commands, each after ``$ ``, further lines of the same command after
``> ``, and what they print. A block after the words *save this as* `NAME` is that file. Nothing
else is done: what a page leaves out is not there.

What differs each time stands in a page as an example: uuids (the same one again is the same one),
times of the day and durations; and `…`: some words, or alone on its line, some lines. `^C` alone
is typed while the command runs.
"""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.docs.pages import ROOT, Block, blocks
from tests.docs.terminal import Terminal

SECONDS_MAX = 90.0
"""For one command."""

SAVE = re.compile(r"[Ss]ave (?:this|it) as `([^`]+)`")
UUID = re.compile(r"zzzzz-\w{5}-\w{15}")
VARYING = re.compile(
    r"(?P<uuid>zzzzz-\w{5}-\w{15})|(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)"
    r"|(?P<clock>\d+:\d\d:\d\d)"
    r"|(?P<seconds>\b\d+(?:\.\d+)? m?s\b)|(?P<bar>[━╸╺]+)|(?P<words>…)|(?P<space> +)"
)
PATTERNS = {
    "time": r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d",
    "clock": r"\d+:\d\d:\d\d",
    "seconds": r"\d+(?:\.\d+)? m?s",
    "bar": r"[━╸╺ ]+",
    "words": r".*",
    "space": r" +",
}


class Step(NamedTuple):
    """One command of a page, and what it prints."""

    block: Block
    command: str
    printed: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.block.page.relative_to(ROOT)}, the block at line {self.block.line}"


def steps(block: Block) -> Iterator[Step]:
    """The commands of a console block."""
    command: list[str] = []
    printed: list[str] = []
    for line in block.lines:
        if line.startswith("$ "):
            if command:
                yield Step(block, "\n".join(command), tuple(printed))
            command, printed = [line[2:]], []
        elif line.startswith("> ") and not printed:
            command.append(line[2:])
        else:
            assert command, f"{block.page}:{block.line}: this is printed before any command"
            printed.append(line)
    if command:
        yield Step(block, "\n".join(command), tuple(printed))


def is_console(block: Block) -> bool:
    """Whether its commands are run by a test."""
    return block.language == "console"


class Walkthrough:
    """What was learned on the way: the uuids that stand for those of the page."""

    def __init__(self, terminal: Terminal, folder: Path) -> None:
        self._terminal = terminal
        self._uuids: dict[str, str] = {}
        self.folder = folder
        """Where the reader is."""

    def walk(self, page: Path) -> int:
        """Do everything that the page says; return how many commands that were."""
        count = 0
        for block in blocks(page):
            if is_console(block):
                todo = [*steps(block), None]
                for step, following in itertools.pairwise(todo):
                    assert step is not None
                    self._do(step)
                    self._check_exit_code(step, following)
                    count += 1
            elif name := SAVE.search(block.before):
                self._where_it_is()
                (self.folder / name[1]).write_text("\n".join(block.lines) + "\n")
        return count

    def _check_exit_code(self, step: Step, following: Step | None) -> None:
        """A command that fails is followed by a look at its exit code."""
        is_looked_at = following is not None and following.command == "echo $?"
        if self._terminal.exit_code and not is_looked_at:
            raise AssertionError(self._difference(step, step.command, "exit code 0"))

    def _where_it_is(self) -> None:
        self._terminal.type("pwd")
        assert self._terminal.read_until_prompt(SECONDS_MAX)
        self.folder = Path(self._terminal.screen.text)

    def _do(self, step: Step) -> None:
        command = UUID.sub(lambda found: self._uuids.get(found[0], found[0]), step.command)
        printed = [line for line in step.printed if line != "^C"]
        self._terminal.type(command)
        if "^C" in step.printed:
            self._interrupt(step, step.printed.index("^C"))
        expected = "\n".join(printed).rstrip()
        limit = time.monotonic() + SECONDS_MAX
        # What runs in the background may print after the prompt has come.
        is_background = command.rstrip().endswith("&")
        while not self._is_shown(expected):
            ended = self._terminal.exit_code is not None
            if time.monotonic() > limit or (ended and not is_background):
                raise AssertionError(self._difference(step, command, expected))
            self._terminal.read(min(1.0, limit - time.monotonic()))
        assert self._terminal.exit_code is not None

    def _interrupt(self, step: Step, place: int) -> None:
        """Press Ctrl-C when what stands before it is on the screen."""
        expected = "\n".join(step.printed[:place])
        limit = time.monotonic() + SECONDS_MAX
        while not self._matches(expected):
            if time.monotonic() > limit:
                raise AssertionError(self._difference(step, step.command, expected))
            self._terminal.read(1.0)
        self._terminal.interrupt()

    def _is_shown(self, expected: str) -> bool:
        return self._terminal.exit_code is not None and self._matches(expected)

    def _matches(self, expected: str) -> bool:
        names: dict[str, str] = {}
        found = re.fullmatch(self._pattern(expected, names), self._terminal.screen.text)
        if found:
            self._uuids |= {shown: found[name] for shown, name in names.items()}
        return found is not None

    def _pattern(self, expected: str, names: dict[str, str]) -> str:
        """The expression for what a page shows; `names` gets the group of each new uuid."""
        lines = []
        for line in expected.split("\n"):
            if line.strip() == "…":
                lines.append(r"(?:.*\n)*?")
            else:
                lines.append(self._line_pattern(line, names) + r"\n")
        whole = "".join(lines)
        # The screen has no newline at its end.
        return whole.removesuffix(r"\n") if whole.endswith(r"\n") else whole + r".*"

    def _line_pattern(self, line: str, names: dict[str, str]) -> str:
        pattern, place = "", 0
        for part in VARYING.finditer(line):
            pattern += re.escape(line[place : part.start()])
            place = part.end()
            kind = part.lastgroup or ""
            pattern += self._uuid(part[0], names) if kind == "uuid" else PATTERNS[kind]
        return pattern + re.escape(line[place:])

    def _uuid(self, shown: str, names: dict[str, str]) -> str:
        if shown in self._uuids:
            return re.escape(self._uuids[shown])
        if shown in names:
            return f"(?P={names[shown]})"
        names[shown] = f"uuid{len(names)}"
        return f"(?P<{names[shown]}>{shown[:11]}-\\w{{15}})"

    def _difference(self, step: Step, command: str, expected: str) -> str:
        ended = self._terminal.exit_code
        how = "does not end" if ended is None else f"ends with exit code {ended}"
        shown = self._terminal.screen.text
        return f"{step}:\n$ {command}\n{how}. The page:\n{expected}\n--- The screen:\n{shown}\n---"
