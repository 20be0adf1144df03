"""No page shows a command or an option of ``jobtasks`` that does not exist."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from tests.docs.pages import ROOT, blocks, pages, spans

from jobtasks.cli.main import cli

SHELL = {"", "console", "sh", "bash", "text"}
PREFIXES = {"xargs", "time", "sudo", "exec", "nohup"}


def lines_of_blocks(page: Path) -> Iterator[tuple[int, str]]:
    """Every line of the page's blocks that a shell may read; continued ones are one."""
    for block in blocks(page):
        if block.language not in SHELL:
            continue
        text = "\n".join(block.lines).replace("\\\n> ", " ").replace("\\\n", " ")
        yield from ((block.line, line) for line in text.splitlines())


def command_lines(text: str) -> Iterator[list[str]]:
    """The words after each ``jobtasks`` that stands where a command stands."""
    try:
        text = text.removeprefix("$ ").replace(" 2>", " >")
        lexer = shlex.shlex(text, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:  # prose with an apostrophe, or a here-document
        return
    begins = True
    for place, word in enumerate(words):
        if begins and re.fullmatch(r"(\S*/)?jobtasks", word):
            rest = words[place + 1 :]
            ends = (n for n, other in enumerate(rest) if set(other) <= set("|&;()<>"))
            yield rest[: next(ends, len(rest))]
        is_variable = re.fullmatch(r"\w+=\S*", word) is not None
        begins = set(word) <= set("|&;()<>") or word in PREFIXES or (begins and is_variable)


def said() -> list[tuple[str, list[str]]]:
    """Every command line of every page, and where it stands."""
    found = []
    for page in pages():
        for number, line in [*lines_of_blocks(page), *spans(page)]:
            place = f"{page.relative_to(ROOT)}:{number}: {line.strip()}"
            found += [(place, words) for words in command_lines(line.strip())]
    return found


def check(words: list[str], command: click.Command = cli, name: str = "jobtasks") -> None:
    """Read the words as the command does, down to its options and their choices; run nothing.

    Raises click.UsageError for what does not exist. `…` stands for what the page leaves out.
    """
    context = click.Context(command, info_name=name)
    if isinstance(command, click.Group):
        rest = list(words)
        while rest and rest[0].startswith("-"):
            command.make_parser(context).parse_args([rest.pop(0)])
        if not rest or rest[0] == "…":
            return
        for one in rest[0].split("|"):
            found = command.get_command(context, one)
            if found is None:
                raise click.UsageError(f"no command {one!r} in {name}")
            check(rest[1:], found, f"{name} {one}")
        return
    if "--" in words:
        words = words[: words.index("--")]
    given, left, _ = command.make_parser(context).parse_args([w for w in words if w != "…"])
    for parameter in command.params:
        value = given.get(parameter.name or "")
        if isinstance(parameter.type, click.Choice) and isinstance(value, str):
            parameter.type.convert(value, parameter, context)
    if [word for word in left if not re.fullmatch(r"\[?[A-Z…]+\]?…?", word)]:
        raise click.UsageError(f"too many words: {left}")


def test_every_command_in_a_page_exists() -> None:
    """Each ``jobtasks …`` in a block or in the text: commands, options, choices, words."""
    found = said()
    assert len(found) > 100
    wrong = []
    for place, words in found:
        try:
            check(words)
        except click.UsageError as error:
            wrong.append(f"{place}\n    {error.format_message()}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line",
    [
        "jobtasks jobs list",
        "x=1 jobtasks job list --colour never",
        "jobtasks job list -o yaml",
        "echo | jobtasks wait @last --timeout",
        "jobtasks wait one two",
        "jobtasks task log @last --streams stdout",
    ],
)
def test_what_does_not_exist_is_found(line: str) -> None:
    """The test above would see it."""
    (words,) = command_lines(line)
    with pytest.raises(click.UsageError):
        check(words)
