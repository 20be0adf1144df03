"""docs/reference/settings.md names each setting with its default; ``serve`` takes them."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from jobtasks.cli.serve import chosen_settings
from jobtasks.core.settings import Settings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "settings.md"


def chosen(*words: str) -> tuple[int, str]:
    """Return how a command that takes settings ends, and what it says."""
    from jobtasks.cli.options import Assignment

    @click.command()
    @click.option("--setting", type=Assignment(), multiple=True, callback=chosen_settings)
    def command(setting: Settings) -> None:
        click.echo(f"{setting.lease_seconds} {setting.attempts_own_max} {setting.renew_seconds}")

    given = [part for word in words for part in ("--setting", word)]
    ended = CliRunner().invoke(command, given)
    return ended.exit_code, ended.output


def test_every_setting_is_on_the_page() -> None:
    """Name and default of each field, and no other."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \|", PAGE.read_text(), re.MULTILINE)
    fields = {field.name: field.default for field in dataclasses.fields(Settings)}
    assert {name: float(default) for name, default in rows} == fields


def test_units_are_those_of_the_names() -> None:
    """A time is in seconds, a size in bytes, as the name says."""
    rows = re.findall(r"^\| `(\w+)` \| [\d.]+ \| (\w+) \|", PAGE.read_text(), re.MULTILINE)
    for name, unit in rows:
        for word in ("seconds", "bytes"):
            assert (word in name.split("_")) == (unit == word), (name, unit)


def test_given_settings_replace_the_defaults() -> None:
    """The others stay as they are."""
    assert chosen("lease_seconds=0.3", "attempts_own_max=7") == (0, "0.3 7 5.0\n")
    assert chosen("lease_seconds=3") == (0, "3.0 3 5.0\n")


@pytest.mark.parametrize(
    "word", ["no_such=1", "lease_seconds=soon", "attempts_own_max=1.5", "lease_seconds=-1"]
)
def test_settings_that_make_no_sense_are_refused(word: str) -> None:
    """A usage error that names the setting."""
    code, said = chosen(word)
    assert code == 2
    assert word.partition("=")[0] in said
