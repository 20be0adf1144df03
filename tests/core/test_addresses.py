"""Addresses of the server, as values."""

from __future__ import annotations

import pytest

from jobtasks.core.addresses import base_url, host_of, is_every, is_loopback, url_of


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://jobs.example.org", "https://jobs.example.org"),
        ("https://jobs.example.org/", "https://jobs.example.org"),
        ("http://127.0.0.1:7070", "http://127.0.0.1:7070"),
        ("https://[::1]:7443/", "https://[::1]:7443"),
    ],
)
def test_an_address_is_kept_without_its_slash(given: str, kept: str) -> None:
    """Scheme, host and port stay as they are."""
    assert base_url(given) == kept


@pytest.mark.parametrize(
    "given",
    [
        "jobs.example.org",
        "ftp://jobs.example.org",
        "https://",
        "https://:7443",
        "https://jobs.example.org/jobtasks",
        "https://jobs.example.org?a=1",
        "https://me@jobs.example.org",
        "https://jobs.example.org:0",
        "https://jobs.example.org:99999",
    ],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    """A path would be lost on clients that are told a host and a port only."""
    with pytest.raises(ValueError):
        base_url(given)


def test_an_address_is_put_together_and_taken_apart() -> None:
    """IPv6 hosts wear brackets in an address and nowhere else."""
    assert url_of("https", "::1", 7443) == "https://[::1]:7443"
    assert url_of("http", "node1", 80) == "http://node1:80"
    assert host_of("https://[::1]:7443") == "::1"


def test_who_reaches_a_host() -> None:
    """Loopback addresses stay on the machine; two stand for all of its addresses."""
    assert all(map(is_loopback, ("127.0.0.1", "127.3.2.1", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "node1", "")))
    assert all(map(is_every, ("0.0.0.0", "::")))
    assert not any(map(is_every, ("127.0.0.1", "node1", "")))
