"""docs/reference/cli.md names every command, option, exit code and variable, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from jobtasks.cli import options
from jobtasks.cli.main import cli
from jobtasks.cli.problems import ExitCode

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reference" / "cli.md").read_text()
COMMANDS = PAGE.split("\n## Commands\n")[1]
SHORT_LETTERS_MAX = 68
"""What a list of commands has room for in 80 columns."""
READS = re.compile(r"""environ\w*(?:\.get\(|\[)["'](\w+)["']""")


def tree(
    command: click.Command, name: str, context: click.Context
) -> Iterator[tuple[str, click.Command]]:
    """Yield every command below one, with the words that call it."""
    yield name, command
    if isinstance(command, click.Group):
        for word in command.list_commands(context):
            inner = command.get_command(context, word)
            assert inner is not None, word
            yield from tree(inner, f"{name} {word}", click.Context(inner, parent=context))


PROGRAM = dict(tree(cli, "jobtasks", click.Context(cli, info_name="jobtasks")))


def sections() -> dict[str, str]:
    """Return the text about each command, by the words that call it."""
    found = {}
    for part in COMMANDS.split("\n### `")[1:]:
        heading, _, text = part.partition("`\n")
        words = heading.split()
        name = next(
            " ".join(words[:size])
            for size in range(len(words), 0, -1)
            if " ".join(words[:size]) in PROGRAM or size == 1
        )
        found[name] = text
    return found


SECTIONS = sections()


def shared() -> set[str]:
    """Return the options that are explained once for all commands."""
    text = PAGE.split("## Options that many commands have")[1].split("\n## ")[0]
    return set(re.findall(r"`(--?[a-zA-Z-]+)", text))


def options_of(command: click.Command) -> Iterator[click.Option]:
    """Yield what a command's help would list."""
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not parameter.hidden:
            yield parameter


def test_every_command_is_on_the_page() -> None:
    """And no other: each has its section."""
    assert len(PROGRAM) > 30
    assert SECTIONS.keys() == PROGRAM.keys() - {"jobtasks"}


@pytest.mark.parametrize("name", sorted(PROGRAM.keys() - {"jobtasks"}))
def test_every_option_is_on_the_page(name: str) -> None:
    """In its command's table with every spelling, or among those that many have, and named."""
    text = SECTIONS[name]
    table = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(--?[a-zA-Z0-9-]+)", " ".join(table)))
    also = set(re.findall(r"`(--[a-z-]+)`", text.partition("\nAlso ")[2]))
    own, of_many = set(), set()
    for option in options_of(PROGRAM[name]):
        spellings = {*option.opts, *option.secondary_opts}
        if max(option.opts, key=len) in shared():
            of_many.add(max(option.opts, key=len))
        else:
            own |= spellings
    assert named == own
    assert also == of_many


def test_options_of_many_commands_exist() -> None:
    """Each belongs to some command; --help to all."""
    there = {
        name for command in PROGRAM.values() for each in options_of(command) for name in each.opts
    }
    assert shared() - there == {"-h", "--help"}


def test_every_command_explains_itself() -> None:
    """--help of each says what it does, and what each option is for."""
    for name, command in PROGRAM.items():
        assert command.help, name
        short = command.get_short_help_str(limit=SHORT_LETTERS_MAX)
        # The commands at the top are listed with a text of their own.
        is_listed_so = name.count(" ") > 1
        assert not (is_listed_so and short.endswith("...")), (
            f"{name}: its first sentence is cut in lists: {short}"
        )
        for option in options_of(command):
            assert option.help, f"{name} {option.opts}"


def test_every_exit_code_is_on_the_page() -> None:
    """With its name."""
    text = PAGE.split("## Exit codes")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", text, re.MULTILINE)
    assert {name: int(code) for code, name in rows} == {
        each.name.lower(): each.value for each in ExitCode
    }


def test_every_form_is_on_the_page() -> None:
    """Of output."""
    text = PAGE.split("## Forms of output")[1].split("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == list(options.FORMATS)


def test_every_variable_is_on_the_page() -> None:
    """That the command line reads."""
    text = PAGE.split("## Environment")[1].split("\n## ")[0]
    named = set(re.findall(r"`([A-Z_]{4,})`", text))
    read = {
        name
        for path in (ROOT / "src" / "jobtasks" / "cli").glob("*.py")
        for name in READS.findall(path.read_text())
    }
    assert len(read) > 5
    assert read - named == set()
