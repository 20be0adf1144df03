"""The commands that pages offer to copy are commands of the command line."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from jobtasks.cli.main import cli
from jobtasks.web import site

TEMPLATES = sorted((Path(site.__file__).parent / "templates").glob("*.html"))
COMMAND = re.compile(r'command\("(jobtasks [^"]*)"((?:[^(){}]|\([^(){}]*\))*)\)')
OPTION = re.compile(r"--[a-z][a-z-]*")


def shown() -> list[tuple[str, str]]:
    """Return each command's fixed words, and all that its template says."""
    found = [
        (match[1], match[0]) for path in TEMPLATES for match in COMMAND.finditer(path.read_text())
    ]
    assert len(found) > 10
    return found


@pytest.mark.parametrize(("words", "whole"), shown())
def test_a_shown_command_exists(words: str, whole: str) -> None:
    """With the options that stand beside it."""
    context = click.Context(cli)
    command: click.Command = cli
    for word in words.split()[1:]:
        if not isinstance(command, click.Group):
            break
        found = command.get_command(context, word)
        assert found is not None, words
        command = found
    known = {name for option in command.params for name in option.opts}
    assert set(OPTION.findall(whole)) <= known, whole
