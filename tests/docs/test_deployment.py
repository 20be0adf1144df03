"""The files in deploy/ start commands that exist, with options that they have."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from jobtasks.cli.main import cli

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
OPTION = re.compile(r"--[a-z][a-z-]*")


def lines_of(unit: Path, name: str) -> list[str]:
    return [
        line.removeprefix(name + "=")
        for line in unit.read_text().splitlines()
        if line.startswith(name + "=")
    ]


def assert_known(words: list[str]) -> None:
    """Fail unless the words are a command of ours with options that it takes."""
    command = cli.get_command(click.Context(cli), words[0])
    assert command is not None, words
    known = {name for option in command.params for name in option.opts}
    assert {word.partition("=")[0] for word in words if OPTION.match(word)} <= known


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_starts_a_command(unit: Path) -> None:
    """Also with the options that its comments show."""
    (start,) = lines_of(unit, "ExecStart")
    words = shlex.split(start)
    assert words[0] == "/opt/jobtasks/bin/jobtasks"
    shown = re.findall(r"^# .*_OPTIONS=(.*)$", unit.read_text(), re.MULTILINE)
    assert shown, "a comment shows where options go"
    assert_known([*words[1:], *(word for text in shown for word in text.split())])


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_unit_comes_back(unit: Path) -> None:
    """After a crash, after a boot, and with a private state directory."""
    for name, value in (
        ("Restart", "always"),
        ("WantedBy", "multi-user.target"),
        ("StateDirectoryMode", "0700"),
        ("Delegate", "yes"),
    ):
        assert lines_of(unit, name) == [value]


def test_the_image_serves() -> None:
    """Its command is one of ours; what it is made of is in the repository."""
    text = (DEPLOY / "Containerfile").read_text()
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    assert_known(re.findall(r'"([^"]*)"', command))
    for line in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (DEPLOY.parent / name).exists(), name
