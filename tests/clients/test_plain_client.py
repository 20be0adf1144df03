"""The library below the Arvados client, by itself: the document is enough for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from tests.system.conftest import environment

from .conftest import Playing, Site

SCRIPT = Path(__file__).with_name("scripts") / "plain_client.py"


@pytest.mark.rule("R41")
def test_the_plain_client_does_what_the_document_says(site: Site, playing: Playing) -> None:
    """In a process of its own: the client of Arvados changes the library for a whole process."""
    address = site.url + "/discovery/v1/apis/{api}/{apiVersion}/rest"
    arguments = [address, str(site.ca), site.admin, playing.token, playing.uuid]
    said = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", SCRIPT, *arguments],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
        timeout=60,
    )
    assert (said.stdout, said.returncode) == ("done\n", 0), said.stderr
