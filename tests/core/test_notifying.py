"""Which addresses may be called, how a POST is signed, when it is tried again."""

from __future__ import annotations

import hashlib
import hmac

import pytest

from jobtasks.core import notifying
from jobtasks.core.constraints import parse_job, parse_task
from jobtasks.core.errors import Invalid
from jobtasks.core.notifying import COMMAND, SERVER, Notifying, lies_below, shown
from jobtasks.core.settings import Settings

ALLOWED = "https://hooks.example.com/team"


@pytest.mark.parametrize(
    "url",
    [
        "https://hooks.example.com/team",
        "https://hooks.example.com/team/",
        "https://hooks.example.com/team/one?x=1",
        "https://HOOKS.example.com:443/team/a%20b",
        "https://hooks.example.com./team/x",
    ],
)
def test_what_lies_below_an_allowed_address_may_be_called(url: str) -> None:
    """The same scheme, host and port, and a path below: however that is spelled."""
    assert lies_below(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/team/x",
        "https://hooks.example.com:444/team/x",
        "https://hooks.example.com/teams",
        "https://hooks.example.com/",
        "https://hooks.example.com/team/../admin",
        "https://hooks.example.com/team/%2e%2e/admin",
        "https://hooks.example.com/team/%252e%252e/admin",
        "https://hooks.example.com/team/..%2fadmin",
        "https://hooks.example.com/team/./x",
        "https://hooks.example.com/team\\..\\x",
        "https://user@hooks.example.com/team/x",
        "https://hooks.example.com@evil.example/team/x",
        "https://evil.example/team/x",
        "https://hooks.example.com.evil.example/team/x",
        "https://evil.example#https://hooks.example.com/team/x",
        "//hooks.example.com/team/x",
        "file:///etc/passwd",
        "http://169.254.169.254/latest",
        "https://[::1/team",
        "https://hooks.example.com/team/\nHost: x",
        "https://hooks.example.com/team/x#fragment",
        "https://hooks.example.com:99999/team/x",
        "https://hooks.exämple.com/team/x",
        "",
    ],
)
def test_what_does_not_lie_below_may_not(url: str) -> None:
    """Other places, and every way to make one look like this one."""
    assert not lies_below(url, ALLOWED)
    assert not Notifying(allowed=(ALLOWED,)).allows(url)


def test_a_whole_host_may_be_allowed() -> None:
    """And nothing is, unless it was said."""
    assert lies_below("http://127.0.0.1:8000/any/thing", "http://127.0.0.1:8000")
    assert lies_below("http://127.0.0.1:8000", "http://127.0.0.1:8000/")
    assert not Notifying().allows("http://127.0.0.1:8000/")


def test_targets() -> None:
    """The command, the server's address, the job's own: what there is of them."""
    everybody = Notifying(("mail",), "https://a/b", (ALLOWED,))
    assert everybody.targets(ALLOWED) == (COMMAND, SERVER, ALLOWED)
    assert everybody.targets(None) == (COMMAND, SERVER)
    assert Notifying().targets(None) == ()
    assert everybody.address_of(SERVER) == "https://a/b"
    assert everybody.address_of(ALLOWED) == ALLOWED
    for plan, target in ((Notifying(), SERVER), (everybody, "https://other.example/")):
        with pytest.raises(ValueError, match=r"any more|may call"):
            plan.address_of(target)


@pytest.mark.rule("R30")
@pytest.mark.parametrize(
    "value", [5, True, ["https://a/"], "not an address", "ftp://a/", "https://"]
)
def test_the_constraint_is_an_address(value: object) -> None:
    """Of a job; anything else, and any of a task, is refused. Empty values count as absent."""
    assert parse_job({"notify_url": ALLOWED}).notify_url == ALLOWED
    assert parse_job({"notify_url": ""}).notify_url is None
    with pytest.raises(Invalid, match="notify_url must be an address"):
        parse_job({"notify_url": value})
    with pytest.raises(Invalid, match="belongs to the job"):
        parse_task({"notify_url": ALLOWED})


def test_no_path_is_shown() -> None:
    """It is what keeps others out of many chat rooms."""
    assert shown("https://hooks.example.com:8443/secret/T0?k=1") == "https://hooks.example.com:8443"


def test_the_signature_is_that_of_the_body() -> None:
    """HMAC with SHA-256, as receivers compute it with any library."""
    expected = hmac.new(b"key", b"body", hashlib.sha256).hexdigest()
    assert notifying.signature(b"key", b"body") == f"sha256={expected}"


def test_delays_double_up_to_a_limit_and_end() -> None:
    """5 s, 10 s, 20 s … an hour, a quarter more or less; for a day."""
    settings = Settings()
    delays = [notifying.delay_seconds(tries, settings, 0.5) for tries in (1, 2, 3, 11, 1000)]
    assert delays == [5, 10, 20, 3600, 3600]
    assert notifying.delay_seconds(1, settings, 0.0) == 3.75
    assert not notifying.is_given_up(80_000, 3600, settings)
    assert notifying.is_given_up(86_000, 3600, settings)
